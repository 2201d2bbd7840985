//! One answer in the form that was asked for.

use serde::Serialize;

use super::command::Format;

/// The form that was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output(pub(super) Format);

impl Output {
    /// The value as data, or as what `table` makes of it; its argument: more columns are wanted.
    pub(super) fn of(self, value: &impl Serialize, table: impl FnOnce(bool) -> String) -> String {
        match self.0 {
            Format::Table => table(false),
            Format::Wide => table(true),
            // What was just read from JSON has a form in both.
            Format::Json => format!("{}\n", serde_json::to_string_pretty(value).unwrap_or_default()),
            Format::Yaml => serde_yaml_ng::to_string(value).unwrap_or_default(),
        }
    }

    /// One of many values that come one after the other: a line of JSON, a YAML document, or what `line` makes of it.
    pub(super) fn line(self, value: &impl Serialize, line: impl FnOnce() -> String) -> String {
        match self.0 {
            Format::Table | Format::Wide => format!("{}\n", line()),
            Format::Json => format!("{}\n", serde_json::to_string(value).unwrap_or_default()),
            Format::Yaml => format!("---\n{}", serde_yaml_ng::to_string(value).unwrap_or_default()),
        }
    }
}

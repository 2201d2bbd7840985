//! The effective configuration as a file that would give it again.

use serde_json::{Map, Value};

use super::{Config, Effective};

impl Config {
    /// As YAML with the origin of each setting beside it. Usable as a configuration file.
    pub fn to_yaml(&self) -> String {
        self.effective.iter().map(yaml_line).collect()
    }

    /// As one JSON object with the names of the file.
    pub fn to_json(&self) -> Value {
        let value = |setting: &Effective| match (setting.list, setting.values.as_slice()) {
            (false, [value]) => Value::from(value.as_str()),
            (_, values) => Value::from(values),
        };
        Value::Object(
            self.effective.iter().map(|setting| (setting.name.to_owned(), value(setting))).collect::<Map<_, _>>(),
        )
    }
}

fn yaml_line(setting: &Effective) -> String {
    // JSON strings are YAML; quoting always is what keeps 1e3 and "no" texts.
    let values: Vec<String> = setting.values.iter().map(|value| Value::from(value.as_str()).to_string()).collect();
    let value = if setting.list { format!("[{}]", values.join(", ")) } else { values.concat() };
    format!("{}: {value}  # {}\n", setting.name, setting.origin)
}

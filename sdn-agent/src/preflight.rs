//! Whether this machine can be a node, and what would be in the way.
//!
//! Each check is one function from what a [`Machine`] shows to one [`Finding`]. Nothing is changed, and nothing is loaded.

mod checks;
mod firewall;
mod machine;
mod report;

use std::process::ExitCode;

use serde::Serialize;

use crate::app::command::ReportFormat;
use crate::config::Config;
use crate::terminal::Terminal;

pub use machine::Machine;

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Name of the check.
    pub check: &'static str,
    /// Without it there is no node; else it is advice.
    pub required: bool,
    /// How it is.
    pub outcome: Outcome,
    /// What was found.
    pub found: String,
    /// What to do about it; empty unless it is not as it should be.
    pub advice: String,
}

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// Could not be found out.
    Unknown,
    /// Not as it should be.
    Bad,
}

/// This machine cannot be a node.
#[derive(Debug, thiserror::Error)]
#[error("{check}: {found}; {advice} (see `sdn-agent preflight`)")]
pub struct Unfit {
    check: &'static str,
    found: String,
    advice: String,
}

/// `sdn-agent preflight`: reports on standard output; code 1 if something required is not there.
pub fn run(config: &Config, format: ReportFormat) -> ExitCode {
    let findings = checks::all(config, &Machine::this(config));
    match format {
        ReportFormat::Table => print!("{}", report::table(&findings, Terminal::stdout())),
        ReportFormat::Json => println!("{}", report::json(&findings)),
    }
    if findings.iter().any(Finding::is_fatal) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Refuses to go on where programs could not even be loaded.
pub fn require(config: &Config) -> Result<(), Unfit> {
    let fatal = checks::vital(config, &Machine::files()).into_iter().find(Finding::is_fatal);
    match fatal {
        Some(Finding { check, found, advice, .. }) => Err(Unfit { check, found, advice }),
        None => Ok(()),
    }
}

// === impl Finding ===

impl Finding {
    fn new(check: &'static str, required: bool, outcome: Outcome, found: impl Into<String>) -> Self {
        Self { check, required, outcome, found: found.into(), advice: String::new() }
    }

    /// Something that there is no node without.
    fn required(check: &'static str, outcome: Outcome, found: impl Into<String>) -> Self {
        Self::new(check, true, outcome, found)
    }

    /// Something that is good to know.
    fn advised(check: &'static str, outcome: Outcome, found: impl Into<String>) -> Self {
        Self::new(check, false, outcome, found)
    }

    /// What to do when it is not as it should be.
    fn or(mut self, advice: impl Into<String>) -> Self {
        if self.outcome == Outcome::Bad {
            self.advice = advice.into();
        }
        self
    }

    /// Whether there can be no node.
    pub fn is_fatal(&self) -> bool {
        self.required && self.outcome == Outcome::Bad
    }
}

#[cfg(test)]
mod tests;

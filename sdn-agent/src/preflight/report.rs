//! Findings as a table for people, and as JSON.

use super::{Finding, Outcome};
use crate::terminal::{Terminal, Tone};

/// The table, and a last line that says what it comes to.
pub(super) fn table(findings: &[Finding], terminal: Terminal) -> String {
    let row = |finding: &Finding| {
        [finding.check.to_owned(), result(finding).to_owned(), finding.found.clone(), finding.advice.clone()]
    };
    let titles = ["CHECK", "RESULT", "FOUND", "WHAT TO DO"];
    let text = terminal.toned_table(titles, findings.iter().map(row), "RESULT", tone);
    let fatal = findings.iter().filter(|finding| finding.is_fatal()).count();
    let warnings = findings.iter().filter(|finding| finding.outcome == Outcome::Bad).count() - fatal;
    let verdict = match (fatal, warnings) {
        (0, 0) => terminal.paint("This machine can be a node.", Tone::Good),
        (0, _) => terminal.paint(&format!("This machine can be a node. Warnings: {warnings}."), Tone::Doubtful),
        _ => terminal.paint(&format!("This machine cannot be a node. Requirements not met: {fatal}."), Tone::Bad),
    };
    format!("{text}\n{verdict}\n")
}

fn result(finding: &Finding) -> &'static str {
    match (finding.outcome, finding.required) {
        (Outcome::Ok, _) => "ok",
        (Outcome::Unknown, _) => "unknown",
        (Outcome::Bad, false) => "warning",
        (Outcome::Bad, true) => "FAILED",
    }
}

fn tone(result: &str) -> Option<Tone> {
    match result {
        "ok" => Some(Tone::Good),
        "unknown" | "warning" => Some(Tone::Doubtful),
        "FAILED" => Some(Tone::Bad),
        _ => None,
    }
}

/// One array.
pub(super) fn json(findings: &[Finding]) -> String {
    // Plain data always has a JSON form.
    serde_json::to_string_pretty(findings).unwrap_or_default()
}

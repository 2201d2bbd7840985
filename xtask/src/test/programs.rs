//! The eBPF programs as this machine's verifier sees them: how much work each one gave it.
//!
//! A test that loads them prints a line a program, `program: {…}` with the agent's own report in it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::console::Table;

/// What stands before a report.
const MARK: &str = "program: ";
/// The size of an eBPF instruction.
const INSTRUCTION_BYTES: u64 = 8;

/// A loaded program: the fields that are shown of the agent's `ProgramReport`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Program {
    name: String,
    /// Instructions that the verifier walked through on all paths; it gives up at a million.
    verified_instructions: u64,
    /// The program itself, after the verifier's changes.
    translated_bytes: u64,
    /// Its machine code.
    jited_bytes: u64,
}

/// The reports in a suite's output.
pub fn read(lines: &[String]) -> Vec<Program> {
    lines.iter().filter_map(|line| serde_json::from_str(line.strip_prefix(MARK)?).ok()).collect()
}

/// A table of all programs, each once however many tests loaded it: its most laborious verification.
pub fn print<'a>(programs: impl Iterator<Item = &'a Program>) {
    let mut worst: BTreeMap<&str, &Program> = BTreeMap::new();
    for program in programs {
        let known = worst.entry(&program.name).or_insert(program);
        if program.verified_instructions > known.verified_instructions {
            *known = program;
        }
    }
    if worst.is_empty() {
        return;
    }
    println!();
    let mut table = Table::new(["eBPF program", "instructions", "verified", "machine code"]);
    for program in worst.values() {
        let instructions = program.translated_bytes / INSTRUCTION_BYTES;
        let code = format!("{} B", program.jited_bytes);
        table.row([program.name.clone(), instructions.to_string(), program.verified_instructions.to_string(), code]);
    }
    table.print(|_| None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_found_among_other_output() {
        let lines = [
            "test bpf::loads ... ok",
            r#"program: {"name":"pod_out","id":7,"verifiedInstructions":1200,"translatedBytes":800,"jitedBytes":500}"#,
            "program: what a test says about programs",
            r#"{"name":"other"}"#,
        ]
        .map(str::to_owned);
        let program =
            Program { name: "pod_out".into(), verified_instructions: 1200, translated_bytes: 800, jited_bytes: 500 };
        assert_eq!(read(&lines), [program]);
    }
}

//! The eBPF programs as this machine's verifier sees them: how much work each one gave it.

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::build::Binaries;
use crate::console::{self, Table, Tone};
use crate::privilege::Privilege;

/// A loaded program, as `sdn-agent programs -o json` lists it.
#[derive(Deserialize)]
struct Program {
    name: String,
    /// Instructions of the program itself.
    instructions: u64,
    /// Instructions that the verifier walked through on all paths; it gives up at a million.
    verified_instructions: u64,
}

/// A table of all programs; a line that says why, where there is none.
pub fn print(binaries: &Binaries, privilege: Privilege) {
    println!();
    match list(binaries, privilege) {
        Ok(programs) => {
            let mut table = Table::new(["eBPF program", "instructions", "verified"]);
            for program in programs {
                table.row([program.name, program.instructions.to_string(), program.verified_instructions.to_string()]);
            }
            table.print(|_| None);
            println!();
        }
        Err(error) => console::say(Tone::Careful, format!("no list of verified programs: {error:#}")),
    }
}

fn list(binaries: &Binaries, privilege: Privilege) -> Result<Vec<Program>> {
    let agent = binaries.path("sdn-agent");
    let mut command = privilege.command(&agent, &[]);
    let output = command.args(["programs", "-o", "json"]).output().context("cannot start sdn-agent")?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("{}", words.lines().next().unwrap_or("sdn-agent programs failed without a word"));
    }
    serde_json::from_slice(&output.stdout).context("cannot read what sdn-agent programs printed")
}

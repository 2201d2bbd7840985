//! `sdn-lab`: clusters of network namespaces on this machine.

use std::process::ExitCode;

use clap::Parser as _;
use sdn_lab::cli::Command;

fn main() -> ExitCode {
    match Command::parse().run() {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("sdn-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

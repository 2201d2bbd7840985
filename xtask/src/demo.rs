//! `cargo xtask demo`: builds, then lets the lab show a cluster at work.

use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use crate::build::{Profile, Workspace};
use crate::privilege::Privilege;
use crate::setup::{self, Purpose};

#[derive(Args)]
pub struct Arguments {
    /// Passed on to `sdn-lab demo`: -f PATH, --nodes N, --ipv6, --keep; after `--` also --help
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    lab: Vec<String>,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    setup::ensure(Purpose::Base)?;
    let binaries = Workspace::find()?.build(Profile::Dev)?;
    let privilege = Privilege::find("to make network namespaces and to load eBPF programs")?;
    let mut lab = privilege.command(binaries.path("sdn-lab"), &[]);
    lab.arg("demo").args(&arguments.lab);
    // The lab takes this process's place: Ctrl-C and the exit code are its own.
    Err(lab.exec()).with_context(|| format!("cannot start {}", binaries.path("sdn-lab").display()))
}

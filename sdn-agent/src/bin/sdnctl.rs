//! `sdnctl`: parses and calls; everything else is in the library.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use sdn_agent::sdnctl::{self, command::Command};

fn main() -> ExitCode {
    sdnctl::run(Command::parse())
}

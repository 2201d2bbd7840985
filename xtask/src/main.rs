//! Tasks of people who work on Culvert, run as `cargo xtask TASK`.
#![forbid(unsafe_code)]

mod bench;
mod build;
mod console;
mod demo;
mod lint;
mod privilege;
mod setup;
mod test;
mod toolchain;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks of people who work on Culvert
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Command {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing to build, test and try Culvert; says what and why
    Setup,
    /// A cluster of three nodes on this machine, an application in it, and who reached whom
    Demo(demo::Arguments),
    /// Build and run all tests; the last line counts them
    Test(test::Arguments),
    /// Measure against what the kernel does without Culvert
    Bench(bench::Arguments),
    /// Format, clippy, documentation, licences and file sizes
    Lint(lint::Arguments),
}

fn main() -> ExitCode {
    let result = match Command::parse().task {
        Task::Setup => setup::run(),
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Lint(arguments) => lint::run(&arguments),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            console::error(&error);
            ExitCode::FAILURE
        }
    }
}

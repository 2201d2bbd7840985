//! `cargo xtask lint`: everything about the source that a machine can judge. All checks run; one failure fails the task.

mod size;

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, anyhow};
use clap::Args;

use crate::build::Workspace;
use crate::console::{self, Finished, Step, Table, Tone};
use crate::privilege::executable;
use crate::setup::{self, Purpose};
use crate::toolchain::{Compiler, Toolchain};

#[derive(Args)]
pub struct Arguments {
    /// Install cargo-deny first, if it is not there (some minutes)
    #[arg(long)]
    deny: bool,
}

/// A check that is one command.
struct Check {
    label: &'static str,
    command: Command,
    /// What the command says when this machine, not the source, is the reason that it fails.
    excuse: Option<&'static str>,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    setup::ensure(Purpose::Lint)?;
    let workspace = Workspace::find()?;
    let mut checks = vec![format(&workspace), clippy(&workspace), documentation(&workspace)];
    checks.extend(ebpf(&workspace)?);
    checks.extend(licences(&workspace, arguments.deny)?);

    let mut failed = Vec::new();
    for check in checks {
        let label = check.label;
        if !check.run()? {
            failed.push(label);
        }
    }
    report_sizes(&workspace)?;
    match failed.as_slice() {
        [] => Ok(ExitCode::SUCCESS),
        failed => {
            console::say(Tone::Bad, format!("failed: {}", failed.join(", ")));
            Ok(ExitCode::FAILURE)
        }
    }
}

impl Check {
    fn new(label: &'static str, command: Command) -> Self {
        Self { label, command, excuse: None }
    }

    /// Whether it finds nothing. What it finds is printed.
    fn run(mut self) -> Result<bool> {
        let mut step = Step::start(self.label);
        let Finished { status, lines, .. } =
            console::watch(&mut step, &mut self.command, |line| Some(line.trim().to_owned()))?;
        let excused = lines.iter().find(|line| self.excuse.is_some_and(|excuse| line.contains(excuse)));
        match (status.success(), excused) {
            (true, _) => step.done(""),
            (false, Some(reason)) => step.undecided(reason.trim()),
            (false, None) => {
                step.failed("");
                lines.iter().for_each(|line| println!("    {line}"));
            }
        }
        Ok(status.success() || excused.is_some())
    }
}

fn format(workspace: &Workspace) -> Check {
    let mut command = workspace.cargo("fmt");
    command.args(["--all", "--check"]);
    Check::new("formatting", command)
}

fn clippy(workspace: &Workspace) -> Check {
    let mut command = workspace.cargo("clippy");
    command.args(["--all-targets", "--keep-going", "--quiet", "--", "-Dwarnings"]);
    Check::new("clippy", command)
}

fn documentation(workspace: &Workspace) -> Check {
    let mut command = workspace.cargo("doc");
    command
        .args(["--no-deps", "--document-private-items", "--keep-going", "--quiet"])
        .env("RUSTDOCFLAGS", "-Dwarnings -Arustdoc::private_intra_doc_links");
    Check::new("documentation", command)
}

/// The kernel's side, by the clippy of the compiler that builds it, with and without its developers' features.
fn ebpf(workspace: &Workspace) -> Result<Vec<Check>> {
    let toolchain = Toolchain::find().map_err(|missing| anyhow!("{missing}"))?;
    let Some(clippy) = toolchain.compiler.clippy() else {
        console::say(
            Tone::Careful,
            format!("no clippy beside {}: eBPF goes unlinted", toolchain.compiler.rustc.display()),
        );
        return Ok(Vec::new());
    };
    let check = |label, features: &[&str]| {
        let mut command = toolchain.cargo(&clippy, "clippy", env::consts::ARCH);
        command
            .current_dir(&workspace.root)
            // Which cargo-clippy would otherwise look for on PATH, where another toolchain's may be first.
            .env("CARGO", &toolchain.compiler.cargo)
            .args(["--package", "sdn-ebpf", "--profile", "ebpf", "--locked", "--quiet", "--target-dir"])
            .arg(workspace.target().join("ebpf"))
            .args(features)
            .args(["--", "-Dwarnings"]);
        Check::new(label, command)
    };
    Ok(vec![check("clippy for eBPF", &[]), check("clippy for eBPF, all features", &["--all-features"])])
}

impl Compiler {
    /// Its own cargo-clippy: another compiler's has no `core` for the kernel's target.
    pub fn clippy(&self) -> Option<PathBuf> {
        Some(self.rustc.with_file_name("cargo-clippy")).filter(|path| path.is_file())
    }
}

fn licences(workspace: &Workspace, install: bool) -> Result<Vec<Check>> {
    if executable("cargo-deny").is_none() {
        if !install {
            console::say(
                Tone::Careful,
                "no cargo-deny, so licences and advisories go unchecked: lint --deny installs it",
            );
            return Ok(Vec::new());
        }
        let mut command = workspace.cargo("install");
        command.args(["cargo-deny", "--locked"]);
        console::quietly("cargo install cargo-deny (some minutes)", &mut command)?;
    }
    let deny = |checks: &[&str]| {
        let mut command = workspace.cargo("deny");
        command.args(["check", "--hide-inclusion-graph"]).args(checks);
        command
    };
    // The database of advisories is fetched anew each time, which a machine without a way to it cannot do.
    let advisories =
        Check { excuse: Some("failed to fetch advisory database"), ..Check::new("advisories", deny(&["advisories"])) };
    Ok(vec![Check::new("licences, bans, sources", deny(&["licenses", "bans", "sources"])), advisories])
}

/// Long files are not wrong, but they are where to look first for something that should be two things.
fn report_sizes(workspace: &Workspace) -> Result<()> {
    let step = Step::start("file sizes");
    let files = size::long_files(&workspace.root).context("cannot measure the source files")?;
    if files.is_empty() {
        step.done(&format!("no file has more than {} lines without its tests", size::LONG));
        return Ok(());
    }
    step.done(&format!("{} files are longer than {} lines without their tests", files.len(), size::LONG));
    let mut table = Table::new(["file", "lines"]);
    for (path, lines) in files {
        table.row([path.display().to_string(), lines.to_string()]);
    }
    table.print(|_| Some(Tone::Careful));
    Ok(())
}

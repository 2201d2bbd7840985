//! `cargo xtask setup`: finds out what is missing, says why it is needed, installs it.
//!
//! Finding out is a few processes; a machine where nothing is missing is left alone within a second.

mod install;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use crate::console::{self, Elapsed, Tone};
use crate::privilege::executable;
use crate::toolchain::{Compiler, Core, LLVM_MAJOR, Linker, Missing};

/// What the tools are wanted for: each purpose adds to what everyone needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Building and demo.
    Base,
    /// `cargo xtask test`, besides.
    Test,
    /// `cargo xtask bench`, besides.
    Bench,
    /// `cargo xtask lint`, besides.
    Lint,
}

/// A command that Debian has a package for.
struct Tool {
    /// The executable that shows that it is there: on machines without apt that is all that counts.
    command: &'static str,
    package: &'static str,
    reason: &'static str,
    purposes: &'static [Purpose],
}

/// The purposes of what everyone needs.
const EVERYONE: &[Purpose] = &[Purpose::Base, Purpose::Test, Purpose::Bench, Purpose::Lint];

const TOOLS: [Tool; 10] = [
    Tool {
        command: "ip",
        package: "iproute2",
        reason: "tests look at namespaces, links and routes with it",
        purposes: EVERYONE,
    },
    Tool { command: "ping", package: "iputils-ping", reason: "demo and tests ping pods", purposes: EVERYONE },
    Tool { command: "curl", package: "curl", reason: "tests ask the router with it", purposes: EVERYONE },
    Tool {
        command: "dig",
        package: "bind9-dnsutils",
        reason: "tests look names up with it",
        purposes: &[Purpose::Test],
    },
    Tool {
        command: "kdig",
        package: "knot-dnsutils",
        reason: "tests look names up with it",
        purposes: &[Purpose::Test],
    },
    Tool { command: "iperf3", package: "iperf3", reason: "measures throughput", purposes: &[Purpose::Bench] },
    Tool { command: "dnsperf", package: "dnsperf", reason: "asks resolvers", purposes: &[Purpose::Bench] },
    Tool {
        command: "knotd",
        package: "knot",
        reason: "a DNS server to compare with",
        purposes: &[Purpose::Test, Purpose::Bench],
    },
    Tool {
        command: "dnsmasq",
        package: "dnsmasq-base",
        reason: "a resolver to compare with",
        purposes: &[Purpose::Bench],
    },
    Tool { command: "unbound", package: "unbound", reason: "a resolver to compare with", purposes: &[Purpose::Bench] },
];

/// One thing to install.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Want {
    Package { name: String, reason: String },
    Linker { reason: String },
}

/// What was found on this machine: everything a decision needs, so that deciding is a pure function.
struct Findings {
    compiler: Result<Compiler, Missing>,
    linker: Result<Linker, Missing>,
    /// LLVM's development files, which only compiling bpf-linker needs.
    llvm: bool,
    /// The eBPF compiler's own clippy is wanted and not there. Only Debian's comes without.
    no_clippy: bool,
    /// Of the tools wanted for the purpose, those that are not there.
    absent: Vec<&'static Tool>,
}

/// The task: everything is listed.
pub fn run() -> Result<ExitCode> {
    console::heading("What building, testing and trying Culvert needs");
    let findings = Findings::gather(Purpose::Base);
    findings.print();
    provide(findings, Purpose::Base)?;
    Ok(ExitCode::SUCCESS)
}

/// The first step of another task: one line when nothing is missing.
pub fn ensure(purpose: Purpose) -> Result<()> {
    provide(Findings::gather(purpose), purpose)
}

fn provide(findings: Findings, purpose: Purpose) -> Result<()> {
    let started = Instant::now();
    let wants = findings.wants();
    if wants.is_empty() {
        console::say(Tone::Quiet, "setup: nothing is missing");
        return Ok(());
    }
    for want in &wants {
        console::say(Tone::Careful, format!("missing: {want}"));
    }
    install::install(&wants)?;
    let still_missing = Findings::gather(purpose).wants();
    install::explain_leftovers(&still_missing)?;
    console::say(Tone::Good, format!("setup: complete after {}", Elapsed(started.elapsed())));
    Ok(())
}

impl Findings {
    fn gather(purpose: Purpose) -> Self {
        let wanted = TOOLS.iter().filter(|tool| tool.purposes.contains(&purpose));
        let compiler = Compiler::find();
        let no_clippy =
            compiler.as_ref().is_ok_and(|found| found.core == Core::Precompiled && found.clippy().is_none());
        Self {
            compiler,
            no_clippy: no_clippy && purpose == Purpose::Lint,
            linker: Linker::find(),
            llvm: install::llvm_directory().join("llvm-config").is_file(),
            absent: wanted.filter(|tool| executable(tool.command).is_none()).collect(),
        }
    }

    fn print(&self) {
        let compiler = self.compiler.as_ref().map(|found| format!("{} ({})", found.version, found.rustc.display()));
        let linker = self.linker.as_ref().map(|found| format!("{} ({})", found.version, found.path.display()));
        let mut lines = vec![("compiler for eBPF", compiler), ("linker for eBPF", linker)];
        for tool in TOOLS.iter().filter(|tool| tool.purposes.contains(&Purpose::Base)) {
            let absent = self.absent.iter().any(|other| other.command == tool.command);
            if !absent {
                lines.push((tool.command, Ok(tool.reason.to_owned())));
            }
        }
        for (name, what) in lines {
            if let Ok(what) = what {
                console::say(Tone::Quiet, format!("found:   {name}: {what}"));
            }
        }
    }

    /// What to install, in the order in which it has to be.
    fn wants(&self) -> Vec<Want> {
        let package = |name: &str, reason: String| Want::Package { name: name.to_owned(), reason };
        let mut wants = Vec::new();
        for tool in &self.absent {
            wants.push(package(tool.package, tool.reason.to_owned()));
        }
        if let Err(missing) = &self.compiler {
            wants.push(package("rustc-web", format!("compiles the eBPF programs; {missing}")));
            wants.push(package("cargo-web", "the cargo that belongs to it".to_owned()));
            wants.push(package("libstd-rust-web-dev-bpf", "the core library of the kernel's target".to_owned()));
        }
        if self.no_clippy {
            wants.push(package(
                "rust-web-clippy",
                "lints the eBPF programs with the compiler that builds them".to_owned(),
            ));
        }
        if let Err(missing) = &self.linker {
            if !self.llvm {
                wants.push(package(&format!("llvm-{LLVM_MAJOR}-dev"), "bpf-linker is compiled with it".to_owned()));
            }
            wants.push(Want::Linker { reason: format!("links the eBPF programs; {missing}") });
        }
        wants
    }
}

impl std::fmt::Display for Want {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Package { name, reason } => write!(f, "package {name}: {reason}"),
            Self::Linker { reason } => write!(f, "bpf-linker: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests;

//! Runs cargo for the workspace: binaries, the static CNI plugin, test executables.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::console::{self, Elapsed, Tone};

/// What [`Workspace::static_plugin`] makes, in words.
const PLUGIN: &str = "the CNI plugin, linked statically";

/// How the binaries are compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Quick to build: tests and demo. The eBPF programs are optimized in every profile.
    Dev,
    /// What is shipped and measured.
    Release,
}

/// The binaries of one profile, and where they are.
pub struct Binaries {
    directory: PathBuf,
}

/// The workspace on this machine.
pub struct Workspace {
    pub root: PathBuf,
    target: PathBuf,
    /// The triple that rustc calls this machine.
    host: String,
}

// === impl Workspace ===

impl Workspace {
    pub fn find() -> Result<Self> {
        #[derive(Deserialize)]
        struct Metadata {
            workspace_root: PathBuf,
            target_directory: PathBuf,
        }
        // Set by `cargo run`; the value at compile time serves a binary started by itself.
        let here = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let metadata = output(cargo_command("metadata", here).args(["--no-deps", "--format-version=1"]))?;
        let metadata: Metadata = serde_json::from_str(&metadata).context("cannot read cargo metadata")?;
        let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let version = output(Command::new(rustc).arg("-vV"))?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
        Ok(Self { root: metadata.workspace_root, target: metadata.target_directory, host: host.to_owned() })
    }

    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Files that a task leaves for people: `target/NAME`.
    pub fn results(&self, name: &str) -> Result<PathBuf> {
        let directory = self.target.join(name);
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(directory)
    }

    /// `cargo SUBCOMMAND` at the root of the workspace.
    pub fn cargo(&self, subcommand: &str) -> Command {
        cargo_command(subcommand, &self.root)
    }

    /// Everything that runs on a node or starts nodes, with cargo's own progress.
    pub fn build(&self, profile: Profile) -> Result<Binaries> {
        announced("binaries and eBPF programs", || run(self.cargo("build").args(profile.flags()).arg("--bins")))?;
        announced(PLUGIN, || run(&mut self.static_plugin(profile)))?;
        Ok(Binaries { directory: self.target.join(profile.directory()) })
    }

    /// Binaries and tests in one go, and cargo's messages about what it made, a JSON object a line.
    pub fn build_with_tests(&self) -> Result<(Binaries, String)> {
        let profile = Profile::Dev;
        let mut command = self.cargo("build");
        command.args(["--bins", "--tests", "--message-format=json-render-diagnostics"]);
        let messages = announced("binaries, eBPF programs and tests", || output(&mut command))?;
        announced(PLUGIN, || run(&mut self.static_plugin(profile)))?;
        Ok((Binaries { directory: self.target.join(profile.directory()) }, messages))
    }

    /// An agent whose maps have the next layout, for tests that replace a running agent by it: `layout-next/sdn-agent`
    /// beside the ordinary binaries. To be built before those, for cargo puts both in the same place.
    pub fn build_layout_next(&self, profile: Profile) -> Result<()> {
        let directory = self.target.join(profile.directory());
        let mut command = self.cargo("build");
        command.args(profile.flags()).args(["--features", "sdn-agent/layout-next", "--bin", "sdn-agent"]);
        announced("an agent with the next layout of its maps", || run(&mut command))?;
        let copy = directory.join("layout-next");
        fs::create_dir_all(&copy).with_context(|| format!("cannot make {}", copy.display()))?;
        // Beside and renamed over: the old one may be running.
        let (new, old) = (copy.join("sdn-agent.new"), copy.join("sdn-agent"));
        let copied = fs::copy(directory.join("sdn-agent"), &new).and_then(|_| fs::rename(&new, &old));
        copied.with_context(|| format!("cannot copy the agent to {}", old.display()))
    }

    /// The plugin is copied to a host whose libc is unknown: it must bring its own.
    fn static_plugin(&self, profile: Profile) -> Command {
        let mut command = self.cargo("build");
        let flags = format!("CARGO_TARGET_{}_RUSTFLAGS", self.host.to_uppercase().replace('-', "_"));
        command
            .args(profile.flags())
            .args(["--package", "sdn-cni", "--bin", "sdn-cni", "--target", &self.host])
            .env(flags, "-Ctarget-feature=+crt-static")
            // They would win over the variable above.
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
        command
    }
}

// === impl Profile, Binaries ===

impl Profile {
    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Dev => &[],
            Self::Release => &["--release"],
        }
    }

    fn directory(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}

impl Binaries {
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// Says what is being built, and how long it took. What goes wrong has been said by cargo.
fn announced<T>(what: &str, build: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    console::heading(&format!("building {what}"));
    let built = build().with_context(|| format!("cannot build {what}; the reason is above"))?;
    console::say(Tone::Quiet, format!("built {what} in {}", Elapsed(started.elapsed())));
    Ok(built)
}

/// Runs a command that speaks for itself.
fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot start {name}"))?;
    ensure!(status.success(), "{name}: {status}");
    Ok(())
}

/// What a command prints, its errors and progress shown as they come.
fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start {name}"))?;
    ensure!(output.status.success(), "{name}: {}", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("{name} did not print text"))
}

/// The cargo that runs us, in some directory.
pub fn cargo_command(subcommand: &str, directory: impl AsRef<Path>) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg(subcommand).current_dir(directory);
    command
}

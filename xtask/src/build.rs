//! Runs cargo for the workspace: binaries, the static CNI plugin, test executables.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::console::{self, Elapsed, Tone};

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
        run("binaries and eBPF programs", self.cargo("build").args(profile.flags()).arg("--bins"))?;
        run("the CNI plugin, linked statically", &mut self.static_plugin(profile))?;
        Ok(Binaries { directory: self.target.join(profile.directory()) })
    }

    /// An agent whose maps have the next layout, for tests that replace a running agent by it: `layout-next/sdn-agent`
    /// beside the ordinary binaries. To be built before those, for cargo puts both in the same place.
    pub fn build_layout_next(&self, profile: Profile) -> Result<()> {
        let directory = self.target.join(profile.directory());
        let mut command = self.cargo("build");
        command.args(profile.flags()).args(["--features", "sdn-agent/layout-next", "--bin", "sdn-agent"]);
        run("an agent with the next layout of its maps", &mut command)?;
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

/// Runs a command that speaks for itself, announced and timed.
pub fn run(label: &str, command: &mut Command) -> Result<()> {
    let started = std::time::Instant::now();
    console::heading(&format!("building {label}"));
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot start {name}"))?;
    if !status.success() {
        bail!("cannot build {label}: what is wrong is said above");
    }
    console::say(Tone::Quiet, format!("built {label} in {}", Elapsed(started.elapsed())));
    Ok(())
}

/// What a short command prints, its errors shown as they come.
pub fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        bail!("{name} failed ({})", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("{name} did not print text"))
}

/// The cargo that runs us, in some directory.
pub fn cargo_command(subcommand: &str, directory: impl AsRef<Path>) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg(subcommand).current_dir(directory);
    command
}

//! The command line of `sdn-lab`.

mod bench;
mod demo;
mod down;
mod exec;
mod interrupts;
mod status;
mod up;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::family::Family;
use crate::record::Record;
use crate::state::{self, LabDir};

/// The lab's name where none is said.
const DEFAULT_NAME: &str = "lab";

/// A cluster of namespaces on this machine: nodes with real agents, pods with real networks, stand-ins on their ports.
#[derive(Debug, Parser)]
#[command(name = "sdn-lab", version, max_term_width = 120, after_help = EXAMPLES)]
pub struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Bring a lab up and hold it until Ctrl-C
    #[command(after_help = UP_EXAMPLES)]
    Up(UpArgs),
    /// Run a command in a pod, on a node, or on the outside host; its exit code is passed on
    #[command(after_help = EXEC_EXAMPLES)]
    Exec(ExecArgs),
    /// Show what is up
    Status(StatusArgs),
    /// Take a lab down, also one whose owner has died
    Down(DownArgs),
    /// Bring the example application up, ask everything from everywhere, show what came of it, and take it down
    #[command(after_help = DEMO_EXAMPLES)]
    Demo(DemoArgs),
    /// Measure against what the kernel does without Culvert
    Bench(bench::BenchArgs),
    /// Print completions for a shell
    #[command(after_help = "Example: sdn-lab completions bash > /etc/bash_completion.d/sdn-lab")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Answer DNS for the benchmark that started this
    #[command(hide = true)]
    ServeDns(crate::bench::dns::serve::Serve),
    /// Remove a lab when standard input ends; started by every lab for itself
    #[command(hide = true)]
    Reap {
        /// The lab
        name: String,
        /// Process id of its owner
        owner: u32,
    },
}

/// What a lab is made of, as `up` and `demo` take it.
#[derive(Debug, Args)]
struct ClusterArgs {
    /// File or directory of manifests to run; may be said several times
    #[arg(short, long = "filename", value_name = "PATH")]
    filename: Vec<PathBuf>,
    /// Number of nodes [default: 3, or the Nodes in the manifests]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=200))]
    nodes: Option<u8>,
    #[command(flatten)]
    family: FamilyArgs,
    /// Give up after so many seconds if agents or pods are not ready
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
    /// What the agents log (error, warn, info, debug, trace, or TARGET=LEVEL, comma-separated), to a file for each node
    #[arg(long, value_name = "FILTER")]
    log_level: Option<String>,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct FamilyArgs {
    /// IPv4 only
    #[arg(long)]
    ipv4: bool,
    /// IPv6 only: pods and underlay have no IPv4 at all
    #[arg(long)]
    ipv6: bool,
    /// IPv4 and IPv6, the default
    #[arg(long)]
    dual_stack: bool,
}

#[derive(Debug, Args)]
struct UpArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The lab's name; labs of different names do not disturb each other
    #[arg(long, value_name = "NAME", default_value = DEFAULT_NAME)]
    name: String,
    /// Fail unless every pod gets ready; otherwise those that do not are only shown
    #[arg(long)]
    wait: bool,
    /// Return when the lab is up and leave it to a process in the background
    #[arg(short, long)]
    detach: bool,
    /// This is the process in the background.
    #[arg(long, hide = true, conflicts_with = "detach")]
    in_background: bool,
}

#[derive(Debug, Args)]
struct DemoArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The lab's name
    #[arg(long, value_name = "NAME", default_value = "demo")]
    name: String,
    /// Leave the lab up afterwards, until Ctrl-C, and say what can be tried
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, Args)]
struct ExecArgs {
    /// A pod (NAMESPACE/NAME, its name, or the unique beginning of one), node/NAME, outside, or underlay
    target: String,
    #[command(flatten)]
    lab: WhichLab,
    /// The pod's namespace
    #[arg(short, long)]
    namespace: Option<String>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<std::ffi::OsString>,
}

#[derive(Debug, Args)]
struct StatusArgs {
    #[command(flatten)]
    lab: WhichLab,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

#[derive(Debug, Args)]
struct DownArgs {
    #[command(flatten)]
    lab: WhichLab,
    /// All labs of this machine
    #[arg(long, conflicts_with = "name")]
    all: bool,
}

#[derive(Debug, Args)]
struct WhichLab {
    /// The lab's name; not needed while there is only one
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// Form of a command's output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

const EXAMPLES: &str = "\
Examples:
  sdn-lab up -f examples --nodes 3          a cluster with the example application; Ctrl-C ends it
  sdn-lab exec web -- curl -s http://10.128.2.3:8080/
  sdn-lab exec node/node-1 -- sdnctl drops
  sdn-lab down --all

Labs need root.";

const UP_EXAMPLES: &str = "\
Examples:
  sdn-lab up -f examples
  sdn-lab up -f app.yaml -f more/ --nodes 5 --ipv6 --name six
  sdn-lab up -f app.yaml --detach --wait && sdn-lab status

Each declared container port answers who it is: TCP ports with HTTP/1.1 and HTTP/2 (prior knowledge), UDP ports with a datagram.";

const DEMO_EXAMPLES: &str = "\
Examples:
  sdn-lab demo
  sdn-lab demo --ipv6
  sdn-lab demo -f kubernetes-manifests.yaml --nodes 3 --keep

Exit codes: 0 every path is as expected, 1 one is not.";

const EXEC_EXAMPLES: &str = "\
Examples:
  sdn-lab exec shop/web-1 -- ip address
  sdn-lab exec -n shop web -- curl -s http://10.128.2.3:8080/
  sdn-lab exec node/node-2 -- sdnctl status
  sdn-lab exec outside -- tcpdump -ni eth0

Programs and files are the machine's own; a node has an /etc, /opt, /run and /var/lib of its own.";

// === impl Command ===

impl Command {
    /// Does what was asked for; the exit code.
    pub fn run(self) -> Result<u8> {
        match self.action {
            Action::Up(arguments) => up::run(&arguments),
            Action::Exec(arguments) => exec::run(&arguments),
            Action::Status(arguments) => status::run(&arguments),
            Action::Down(arguments) => down::run(&arguments),
            Action::Demo(arguments) => demo::run(&arguments),
            Action::Bench(arguments) => bench::run(&arguments),
            Action::ServeDns(arguments) => crate::bench::dns::serve::run(&arguments).map(|()| 0),
            Action::Completions { shell } => {
                clap_complete::generate(shell, &mut Self::command(), "sdn-lab", &mut std::io::stdout());
                Ok(0)
            }
            Action::Reap { name, owner } => crate::reaper::run(&name, owner).map(|()| 0),
        }
    }
}

impl FamilyArgs {
    fn family(&self) -> Family {
        match self {
            Self { ipv4: true, .. } => Family::V4,
            Self { ipv6: true, .. } => Family::V6,
            _ => Family::Dual,
        }
    }
}

impl WhichLab {
    /// The lab meant, with its record.
    fn find(&self) -> Result<(LabDir, Record)> {
        let name = match (&self.name, &state::names()[..]) {
            (Some(name), _) => name.clone(),
            (None, [only]) => only.clone(),
            (None, []) => bail!("no lab is up: try `sdn-lab up -f examples`"),
            (None, several) => bail!("several labs are up, say which with --name: {}", several.join(", ")),
        };
        let lab = LabDir::new(&name)?;
        let record = lab.record()?;
        Ok((lab, record.with_context(|| format!("no lab '{name}' is up: see `sdn-lab status`"))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Command::command().debug_assert();
    }
}

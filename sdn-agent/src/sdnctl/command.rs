//! The command line of `sdnctl`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use sdn_cluster::model::Protocol;

use super::output::Output;
use crate::config::default_admin_socket;

/// See what Culvert's agent on this node knows and does.
#[derive(Debug, Parser)]
#[command(name = "sdnctl", version, max_term_width = 120, after_help = HELP)]
pub struct Command {
    /// The agent's admin socket
    #[arg(long, global = true, env = "CULVERT_SOCKET", value_name = "PATH", default_value_os_t = default_admin_socket())]
    pub socket: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What `sdnctl` can do.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// How the agent is: ready or what it waits for, uplink, tunnel, capabilities, programs, maps, problems
    #[command(
        after_help = "Examples:\n  sdnctl status\n  sdnctl status -o json | jq .waiting\n\nExit code 4: the agent is not ready."
    )]
    Status {
        /// Form of the output
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// List pods or nodes as the agent knows them
    #[command(after_help = GET_EXAMPLES)]
    Get(GetArgs),
    /// What was dropped, and why: exact counts, or examples as they happen
    #[command(after_help = DROPS_EXAMPLES)]
    Drops(DropArgs),
    /// NetworkPolicies: what there is, and what applies to a pod
    #[command(subcommand, after_help = POLICY_EXAMPLES)]
    Policy(PolicyAction),
    /// Check manifests without a cluster: every object is read as the agent reads it
    #[command(after_help = CHECK_EXAMPLES)]
    Check(CheckArgs),
    /// Who may talk to whom: all pairs of pods of some manifests, without a cluster
    #[command(after_help = MATRIX_EXAMPLES)]
    Matrix(MatrixArgs),
    /// Ask cluster DNS on this node, or see how it is
    #[command(subcommand, after_help = DNS_EXAMPLES)]
    Dns(DnsAction),
    /// Print a completion script for a shell
    #[command(
        after_help = "Examples:\n  sdnctl completions bash > /etc/bash_completion.d/sdnctl\n  sdnctl completions zsh > \"${fpath[1]}/_sdnctl\"\n  sdnctl completions fish > ~/.config/fish/completions/sdnctl.fish"
    )]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// What `sdnctl dns` can do.
#[derive(Debug, Subcommand)]
pub enum DnsAction {
    /// Ask for a name as a pod would, along its search path
    Query {
        /// The name; with a dot at its end it is asked for as it is
        name: String,
        /// Type of the records: A, AAAA, SRV, PTR, TXT, ANY …
        #[arg(short = 't', long = "type", value_name = "TYPE", default_value = "A")]
        kind: String,
        /// As this pod, NAMESPACE/NAME [default: as the node]
        #[arg(long, value_name = "POD")]
        from: Option<String>,
        /// Form of the output
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Readiness, sizes, upstreams and counters
    Stats {
        /// Form of the output
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Have the agent log every query, or no longer
    Log {
        /// Whether it is to
        #[arg(value_enum)]
        wanted: Switch,
    },
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// From now on.
    On,
    /// No longer.
    Off,
}

/// Flags of `sdnctl get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// What to list
    pub resource: Resource,
    /// Only these
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Only pods of this namespace [default: all]
    #[arg(short, long, conflicts_with = "all_namespaces")]
    pub namespace: Option<String>,
    /// Pods of all namespaces, as without -n
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// Flags of `sdnctl drops`.
#[derive(Debug, Args)]
pub struct DropArgs {
    /// Only drops for this reason
    #[arg(long, value_name = "REASON")]
    pub reason: Option<String>,
    /// Only drops of this pod, NAMESPACE/NAME
    #[arg(long, value_name = "POD")]
    pub pod: Option<String>,
    /// Show examples as they happen, until interrupted. They are rate-limited: for counts, leave this out
    #[arg(short, long)]
    pub watch: bool,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// What `sdnctl policy` can do.
#[derive(Debug, Subcommand)]
pub enum PolicyAction {
    /// List policies: what they select, what is wrong with them, and what found no room
    Get {
        /// Only policies of this namespace [default: all]
        #[arg(short, long)]
        namespace: Option<String>,
        /// Form of the output
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// What applies to a pod, and what each rule admits
    Explain {
        /// The pod, NAMESPACE/NAME
        #[arg(value_name = "POD")]
        pod: String,
        /// Form of the output
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
}

/// Flags of `sdnctl check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// A file or a directory of YAML or JSON; may be repeated
    #[arg(short = 'f', long = "file", value_name = "PATH", required = true)]
    pub files: Vec<PathBuf>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// Flags of `sdnctl matrix`.
#[derive(Debug, Args)]
pub struct MatrixArgs {
    /// A file or a directory of YAML or JSON: namespaces, pods or workloads, policies; may be repeated
    #[arg(short = 'f', long = "file", value_name = "PATH", required_unless_present = "steps")]
    pub files: Vec<PathBuf>,
    /// Ports to ask about, like 80/TCP,53/UDP [default: every container port that is declared]
    #[arg(long, value_name = "PORT/PROTOCOL", value_delimiter = ',')]
    pub ports: Vec<Port>,
    /// An address outside of the cluster, asked about in both directions; may be repeated
    #[arg(long, value_name = "IP")]
    pub external: Vec<IpAddr>,
    /// A directory whose subdirectories are states, in the order of their names: a line or a table each
    #[arg(long, value_name = "DIR")]
    pub steps: Option<PathBuf>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// A port with its protocol: `80/TCP`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// 1 to 65535.
    pub number: u16,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
}

/// What can be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Resource {
    /// Pods of the cluster, and what is attached to this node.
    #[value(alias = "pod", alias = "po")]
    Pods,
    /// Nodes of the cluster.
    #[value(alias = "node", alias = "no")]
    Nodes,
}

const DNS_EXAMPLES: &str = "\
Examples:
  sdnctl dns query web.shop.svc.cluster.local
  sdnctl dns query web --from shop/cart-0        as the pod would, along its search path
  sdnctl dns query _http._tcp.web.shop.svc.cluster.local -t SRV -o json
  sdnctl dns stats
  sdnctl dns log on

Exit code 1 of query: no records.";

/// Form of the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For people, with more columns.
    Wide,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
}

const HELP: &str = "\
Examples:
  sdnctl status                     is the agent ready, and what does it see?
  sdnctl get pods -n shop -o wide   which veth is whose?
  sdnctl drops --pod shop/cart      why do its packets not arrive?
  sdnctl drops --watch              what is being dropped right now?
  sdnctl policy explain shop/cart   which policies apply to it, and whom do they admit?
  sdnctl check -f manifests/        is anything wrong with them?
  sdnctl matrix -f manifests/       who could talk to whom?

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no agent answers at the socket, 4 status: the agent is not ready.
Colours only on a terminal, and not with NO_COLOR set.";

const GET_EXAMPLES: &str = "\
Examples:
  sdnctl get pods
  sdnctl get pods -n shop cart-0 -o yaml
  sdnctl get nodes -o wide";

const DROPS_EXAMPLES: &str = "\
Examples:
  sdnctl drops
  sdnctl drops --reason stale_peer -o json
  sdnctl drops --pod shop/cart-0 --watch";

const POLICY_EXAMPLES: &str = "\
Examples:
  sdnctl policy get -n shop
  sdnctl policy explain shop/cart-0
  sdnctl policy explain shop/cart-0 -o json | jq .ingress

Whatever policies say: a pod reaches itself and the cluster's DNS, and its own node reaches it.";

const CHECK_EXAMPLES: &str = "\
Examples:
  sdnctl check -f shop.yaml
  sdnctl check -f manifests/ -o json | jq .problems

Exit code 1: something is wrong.";

const MATRIX_EXAMPLES: &str = "\
Examples:
  sdnctl matrix -f shop.yaml
  sdnctl matrix -f shop.yaml -f policies/ --ports 80/TCP,53/UDP --external 203.0.113.7 -o json
  sdnctl matrix --steps states/ -o json

The answers are the yardstick's: the policies read literally, pair by pair, as the column or field `engine` says.";

// === impl Port ===

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || format!("{text:?} is not a port like 80/TCP (TCP, UDP or SCTP)");
        let (number, protocol) = text.split_once('/').ok_or_else(fault)?;
        let number = number.parse().ok().filter(|number| *number > 0).ok_or_else(fault)?;
        let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
        let protocol = protocols.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(protocol));
        Ok(Self { number, protocol: protocol.ok_or_else(fault)? })
    }
}

// === impl Command ===

impl Command {
    /// The form of what this command puts out.
    pub(super) fn output(&self) -> Output {
        match &self.action {
            Action::Status { output } => Output(*output),
            Action::Get(arguments) => Output(arguments.output),
            Action::Drops(arguments) => Output(arguments.output),
            Action::Policy(PolicyAction::Get { output, .. } | PolicyAction::Explain { output, .. }) => Output(*output),
            Action::Check(arguments) => Output(arguments.output),
            Action::Matrix(arguments) => Output(arguments.output),
            Action::Dns(DnsAction::Query { output, .. } | DnsAction::Stats { output }) => Output(*output),
            Action::Dns(DnsAction::Log { .. }) | Action::Completions { .. } => Output(Format::Table),
        }
    }
}

// === impl GetArgs ===

impl GetArgs {
    /// Whether a pod is asked for.
    pub(super) fn wants(&self, namespace: &str, name: &str) -> bool {
        let named = self.names.is_empty() || self.names.iter().any(|wanted| wanted == name);
        named && self.namespace.as_ref().is_none_or(|wanted| wanted == namespace)
    }

    /// The first name that was asked for and is not among those found.
    pub(super) fn missing<'a>(&self, found: impl Iterator<Item = &'a String>) -> Option<String> {
        let found: BTreeSet<&String> = found.collect();
        self.names.iter().find(|name| !found.contains(name)).cloned()
    }
}

// === impl DropArgs ===

impl DropArgs {
    /// Whether a drop is asked for.
    pub(super) fn wants(&self, reason: &str, endpoint: &str) -> bool {
        self.reason.as_ref().is_none_or(|wanted| wanted == reason)
            && self.pod.as_ref().is_none_or(|wanted| wanted == endpoint)
    }
}

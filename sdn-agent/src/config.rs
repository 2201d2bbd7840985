//! What the agent is told, parsed once: flags over environment over a file over defaults become one immutable [`Config`].
//!
//! Every later part receives a `Config` (or a piece of it) and checks nothing again. A setting that cannot be used is refused
//! here, by its name, where it came from, and what is wrong with it.

mod parse;
mod print;
mod settings;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use sdn_cluster::ClusterNetworks;

use crate::kernel::bpf::XdpMode;

pub use parse::{Effective, Host};
pub use settings::{Layers, Origin, Settings};

/// The agent's whole configuration, valid by construction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name of the Node object that this agent serves.
    pub node_name: String,
    /// File or directory of manifests that describe the cluster, watched for changes. A node role needs it.
    pub manifests: Option<PathBuf>,
    /// Networks that pod addresses come from. Never empty, disjoint from each other and from the service networks.
    pub cluster_networks: ClusterNetworks,
    /// Networks that service addresses come from.
    pub service_networks: Vec<IpNet>,
    /// Device that carries the tunnel and traffic to the outside; `None` follows the default route.
    pub uplink: Option<String>,
    /// How what comes in by the uplink is judged before the kernel makes a socket buffer of it; `None` leaves it to the hook behind.
    pub uplink_xdp: Option<XdpMode>,
    /// The overlay's tunnel.
    pub tunnel: Tunnel,
    /// Exceptions to what pods are kept away from.
    pub reach: Reach,
    /// Source ports for pod traffic to the outside; `None` turns masquerading off.
    pub masquerade: Option<PortRange>,
    /// Ports that NodePort services use, kept free by masquerading.
    pub node_ports: PortRange,
    /// How long the conntrack keeps flows.
    pub conntrack: ConntrackTimeouts,
    /// Cluster DNS.
    pub dns: Dns,
    /// Where the agent keeps what outlives it.
    pub paths: Paths,
    /// TCP address of /healthz, /readyz and /metrics.
    pub metrics_address: SocketAddr,
    /// Where the CNI plugin and its configuration go, and whether the agent puts them there.
    pub cni: CniInstall,
    /// What is logged, and how.
    pub log: Log,
    /// Every setting as it was read, with its origin, in the order of `--help`.
    pub effective: Vec<Effective>,
}

/// The VXLAN tunnel between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tunnel {
    /// UDP destination port, host byte order.
    pub port: u16,
    /// MTU inside the tunnel in bytes; `None` derives it from the uplink's.
    pub mtu: Option<u32>,
}

/// What pods may reach although they are kept away from it by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reach {
    /// The cloud's metadata service, 169.254.169.254 (its DNS is always reachable).
    pub metadata: bool,
    /// The machine configuration server, TCP 22623 and 22624 of nodes: it hands out secrets of new nodes.
    pub machine_config: bool,
}

/// An inclusive, non-empty range of ports, host byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// How long the conntrack keeps a flow after its last packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConntrackTimeouts {
    /// TCP without a reply yet.
    pub tcp_opening: Duration,
    /// Answered TCP.
    pub tcp_established: Duration,
    /// TCP after one FIN: the other end may go on sending for long.
    pub tcp_half_closed: Duration,
    /// TCP after both FINs or a RST.
    pub tcp_closed: Duration,
    /// UDP without a reply yet.
    pub udp_unanswered: Duration,
    /// Answered UDP.
    pub udp: Duration,
    /// ICMP and ICMPv6 echo.
    pub icmp: Duration,
    /// Every other protocol.
    pub other: Duration,
}

/// Cluster DNS on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// Where it is asked, the same on every node, at most one address a family. Empty: not on this node.
    pub addresses: Vec<IpAddr>,
    /// Domain of the cluster's names, without a dot at its end.
    pub domain: String,
    /// File whose name servers are asked for all other names.
    pub resolv_conf: PathBuf,
    /// Who is asked in their place, if not empty.
    pub upstreams: Vec<SocketAddr>,
}

/// Directories of the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Pin directory in a bpffs: maps, programs' links, and the writer lock.
    pub bpffs: PathBuf,
    /// Sockets: cni.sock, admin.sock, keeper.sock.
    pub run: PathBuf,
    /// Leases and the last snapshot.
    pub state: PathBuf,
}

/// Installation of the CNI plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniInstall {
    /// Whether the agent installs plugin and configuration at start.
    pub install: bool,
    /// The plugin to install; `None` is the one beside the agent's own program.
    pub plugin: Option<PathBuf>,
    /// Directory of CNI plugin binaries.
    pub bin_dir: PathBuf,
    /// Directory of CNI network configurations.
    pub conf_dir: PathBuf,
}

/// Logging to standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Shape of a line.
    pub format: LogFormat,
    /// `LEVEL` or `TARGET=LEVEL`, comma-separated, as `tracing_subscriber::filter::Targets` reads it.
    pub filter: String,
}

/// Shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// One setting, refused.
    #[error("setting {name} ({origin}): {problem}")]
    Setting {
        /// Name as in the file and, with dashes, on the command line.
        name: &'static str,
        /// Where the value came from.
        origin: Origin,
        /// What is wrong with it.
        problem: String,
    },
    /// The configuration file is absent or unreadable.
    #[error("read configuration file {}: {source}", path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The configuration file is not what it should be.
    #[error("configuration file {}: {problem}", path.display())]
    ParseFile {
        /// The file.
        path: PathBuf,
        /// Setting, line and column where known, and what is wrong.
        problem: String,
    },
}

// === impl Config ===

impl Config {
    /// Merges and checks the layers. `host` is what only the node itself can tell.
    pub fn from_layers(layers: &Layers, host: &Host) -> Result<Self, ConfigError> {
        parse::config(layers, host)
    }

    /// Where the cluster's objects come from; an error where nobody said it.
    pub fn source(&self) -> Result<&Path, ConfigError> {
        self.manifests.as_deref().ok_or_else(|| ConfigError::Setting {
            name: "manifests",
            origin: Origin::Default,
            problem: "is needed: a file or directory of manifests".to_owned(),
        })
    }
}

// === impl PortRange ===

impl PortRange {
    /// `None` if the range is empty or contains port 0, which means "any" to the kernel.
    pub fn new(first: u16, last: u16) -> Option<Self> {
        (first != 0 && first <= last).then_some(Self { first, last })
    }

    /// Lowest port of the range.
    pub fn first(self) -> u16 {
        self.first
    }

    /// Highest port of the range; it belongs to it.
    pub fn last(self) -> u16 {
        self.last
    }

    /// Whether a port is in both ranges.
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl std::fmt::Display for PortRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl std::str::FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |part: &str| part.trim().parse::<u16>().map_err(|error| format!("port {part:?}: {error}"));
        let (first, last) = (port(first)?, port(last)?);
        Self::new(first, last).ok_or_else(|| format!("{text:?} is no range FIRST-LAST of ports from 1 to 65535"))
    }
}

// === impl Paths ===

impl Paths {
    /// The socket that the CNI plugin talks to.
    pub fn cni_socket(&self) -> PathBuf {
        self.run.join("cni.sock")
    }

    /// The socket that sdnctl talks to.
    pub fn admin_socket(&self) -> PathBuf {
        self.run.join("admin.sock")
    }

    /// The socket on which a new keeper asks the running one for its sockets.
    pub fn keeper_socket(&self) -> PathBuf {
        self.run.join("keeper.sock")
    }

    /// Directory of leases.
    pub fn leases(&self) -> PathBuf {
        self.state.join("leases")
    }

    /// The last snapshot of the cluster, for a start while the source is away.
    pub fn last_snapshot(&self) -> PathBuf {
        self.state.join("snapshot.json")
    }
}

/// Where the admin socket is when nothing else is said: what sdnctl looks for.
pub fn default_admin_socket() -> PathBuf {
    Path::new(parse::RUN_DIR).join("admin.sock")
}

#[cfg(test)]
mod tests;

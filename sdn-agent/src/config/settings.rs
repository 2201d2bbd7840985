//! The layers a configuration is made of: what was said, and where, before anything is believed.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::ArgMatches;
use clap::parser::ValueSource;
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::ConfigError;

/// Every setting as text, from the command line, the environment (`CULVERT_*`) or a file with the same names.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Name of the Node object that this agent serves [default: the host's name]
    #[arg(long, env = "CULVERT_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<Text>,
    /// File or directory of manifests describing the cluster, watched for changes; needed by `node`
    #[arg(long, env = "CULVERT_MANIFESTS", value_name = "PATH")]
    pub manifests: Option<Text>,
    /// Network of pod addresses and prefix length of a node's share [default: 10.128.0.0/14,23 and fd01::/48,64]; may be repeated
    #[arg(long, env = "CULVERT_CLUSTER_NETWORK", value_name = "CIDR,PREFIX", value_delimiter = ' ')]
    pub cluster_network: Option<Vec<Text>>,
    /// Network of service addresses [default: 172.30.0.0/16 and fd02::/112]; may be repeated
    #[arg(long, env = "CULVERT_SERVICE_NETWORK", value_name = "CIDR", value_delimiter = ' ')]
    pub service_network: Option<Vec<Text>>,
    /// Device that carries the tunnel and traffic to the outside [default: that of the default route, followed]
    #[arg(long, env = "CULVERT_UPLINK", value_name = "DEVICE")]
    pub uplink: Option<Text>,
    /// XDP on the uplink, to drop forged packets early: off, generic, or native, which on a veth costs its peer TSO [default: off]
    #[arg(long, env = "CULVERT_UPLINK_XDP", value_name = "MODE")]
    pub uplink_xdp: Option<Text>,
    /// UDP port of the tunnel [default: 4789]
    #[arg(long, env = "CULVERT_VXLAN_PORT", value_name = "PORT")]
    pub vxlan_port: Option<Text>,
    /// MTU inside the tunnel [default: the uplink's less 50, or less 70 over IPv6]
    #[arg(long, env = "CULVERT_TUNNEL_MTU", value_name = "BYTES")]
    pub tunnel_mtu: Option<Text>,
    /// Let pods reach the cloud's metadata service, 169.254.169.254 [default: false]
    #[arg(long, env = "CULVERT_ALLOW_METADATA", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub allow_metadata: Option<Text>,
    /// Let pods reach the machine configuration server, ports 22623 and 22624 of nodes [default: false]
    #[arg(long, env = "CULVERT_ALLOW_MACHINE_CONFIG", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub allow_machine_config: Option<Text>,
    /// Give pod traffic to the outside the node's address [default: true]
    #[arg(long, env = "CULVERT_MASQUERADE", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub masquerade: Option<Text>,
    /// Source ports of masqueraded traffic; must keep clear of the node's own and of NodePorts [default: 23000-29999]
    #[arg(long, env = "CULVERT_MASQUERADE_PORTS", value_name = "FIRST-LAST")]
    pub masquerade_ports: Option<Text>,
    /// Ports that NodePort services may use [default: 30000-32767]
    #[arg(long, env = "CULVERT_NODE_PORTS", value_name = "FIRST-LAST")]
    pub node_ports: Option<Text>,
    /// How long TCP without a reply is tracked [default: 60s]
    #[arg(long, env = "CULVERT_CONNTRACK_TCP_OPENING", value_name = "TIME")]
    pub conntrack_tcp_opening: Option<Text>,
    /// How long an idle TCP connection is tracked [default: 8000s]
    #[arg(long, env = "CULVERT_CONNTRACK_TCP_ESTABLISHED", value_name = "TIME")]
    pub conntrack_tcp_established: Option<Text>,
    /// How long a TCP connection is tracked after one FIN [default: 120s]
    #[arg(long, env = "CULVERT_CONNTRACK_TCP_HALF_CLOSED", value_name = "TIME")]
    pub conntrack_tcp_half_closed: Option<Text>,
    /// How long a TCP connection is tracked after both FINs or a RST [default: 10s]
    #[arg(long, env = "CULVERT_CONNTRACK_TCP_CLOSED", value_name = "TIME")]
    pub conntrack_tcp_closed: Option<Text>,
    /// How long UDP without a reply is tracked [default: 30s]
    #[arg(long, env = "CULVERT_CONNTRACK_UDP_UNANSWERED", value_name = "TIME")]
    pub conntrack_udp_unanswered: Option<Text>,
    /// How long answered UDP is tracked [default: 120s]
    #[arg(long, env = "CULVERT_CONNTRACK_UDP", value_name = "TIME")]
    pub conntrack_udp: Option<Text>,
    /// How long ICMP echo is tracked [default: 30s]
    #[arg(long, env = "CULVERT_CONNTRACK_ICMP", value_name = "TIME")]
    pub conntrack_icmp: Option<Text>,
    /// How long flows of other protocols are tracked [default: 600s]
    #[arg(long, env = "CULVERT_CONNTRACK_OTHER", value_name = "TIME")]
    pub conntrack_other: Option<Text>,
    /// Answer cluster DNS on this node [default: true]
    #[arg(long, env = "CULVERT_DNS", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub dns: Option<Text>,
    /// Address of the DNS service, at most one a family [default: the tenth of each service network]; may be repeated
    #[arg(long, env = "CULVERT_DNS_ADDRESS", value_name = "IP", value_delimiter = ' ')]
    pub dns_address: Option<Vec<Text>>,
    /// Domain of the cluster's names [default: cluster.local]
    #[arg(long, env = "CULVERT_CLUSTER_DOMAIN", value_name = "DOMAIN")]
    pub cluster_domain: Option<Text>,
    /// File with the upstreams for all other names, followed [default: /etc/resolv.conf]
    #[arg(long, env = "CULVERT_DNS_RESOLV_CONF", value_name = "FILE")]
    pub dns_resolv_conf: Option<Text>,
    /// Upstream for all other names, in place of those in the file; may be repeated
    #[arg(long, env = "CULVERT_DNS_UPSTREAM", value_name = "IP[:PORT]", value_delimiter = ' ')]
    pub dns_upstream: Option<Vec<Text>>,
    /// Directory in a bpffs where maps and links are pinned [default: /sys/fs/bpf/culvert]
    #[arg(long, env = "CULVERT_BPFFS", value_name = "DIR")]
    pub bpffs: Option<Text>,
    /// Directory of the agent's sockets [default: /run/culvert]
    #[arg(long, env = "CULVERT_RUN_DIR", value_name = "DIR")]
    pub run_dir: Option<Text>,
    /// Directory of leases and of the last snapshot [default: /var/lib/culvert]
    #[arg(long, env = "CULVERT_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<Text>,
    /// TCP address of /healthz, /readyz and /metrics [default: 127.0.0.1:9420]
    #[arg(long, env = "CULVERT_METRICS_ADDRESS", value_name = "IP:PORT")]
    pub metrics_address: Option<Text>,
    /// Install the CNI plugin and its configuration at start [default: false]
    #[arg(long, env = "CULVERT_INSTALL_CNI", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub install_cni: Option<Text>,
    /// The CNI plugin to install [default: sdn-cni beside this program]
    #[arg(long, env = "CULVERT_CNI_PLUGIN", value_name = "FILE")]
    pub cni_plugin: Option<Text>,
    /// Directory of CNI plugins [default: /opt/cni/bin]
    #[arg(long, env = "CULVERT_CNI_BIN_DIR", value_name = "DIR")]
    pub cni_bin_dir: Option<Text>,
    /// Directory of CNI network configurations [default: /etc/cni/net.d]
    #[arg(long, env = "CULVERT_CNI_CONF_DIR", value_name = "DIR")]
    pub cni_conf_dir: Option<Text>,
    /// What is logged: error, warn, info, debug, trace, or TARGET=LEVEL, comma-separated [default: info]
    #[arg(long, env = "CULVERT_LOG_LEVEL", value_name = "FILTER")]
    pub log_level: Option<Text>,
    /// Shape of log lines: text or json [default: text]
    #[arg(long, env = "CULVERT_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<Text>,
}

/// One scalar as it was written. A file may say `4789` or `"4789"`, `true` or `"true"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(pub String);

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// `--name` on the command line.
    Flag(String),
    /// A `CULVERT_*` variable.
    Environment(String),
    /// The configuration file.
    File(PathBuf),
    /// Nobody said anything.
    Default,
}

/// Command line and environment over the file, ready to be read setting by setting.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    flags: Settings,
    from_environment: Vec<String>,
    file: Option<(PathBuf, Settings)>,
}

// === impl Layers ===

impl Layers {
    /// `matches` are those of the command that `flags` was parsed from; they know which values came from the environment.
    pub fn new(flags: Settings, matches: &ArgMatches, file: Option<&Path>) -> Result<Self, ConfigError> {
        let from_environment = matches
            .ids()
            .filter(|id| matches.value_source(id.as_str()) == Some(ValueSource::EnvVariable))
            .map(|id| id.as_str().to_owned())
            .collect();
        let file = file.map(|path| read_file(path).map(|settings| (path.to_owned(), settings))).transpose()?;
        Ok(Self { flags, from_environment, file })
    }

    /// The value of the highest layer that has one. `name` is the field's, with dashes.
    pub(super) fn find<T>(&self, name: &str, field: fn(&Settings) -> &Option<T>) -> Option<(&T, Origin)> {
        if let Some(value) = field(&self.flags) {
            return Some((value, self.flag_origin(name)));
        }
        let (path, settings) = self.file.as_ref()?;
        field(settings).as_ref().map(|value| (value, Origin::File(path.clone())))
    }

    fn flag_origin(&self, name: &str) -> Origin {
        let id = name.replace('-', "_");
        if self.from_environment.contains(&id) {
            Origin::Environment(format!("CULVERT_{}", id.to_uppercase()))
        } else {
            Origin::Flag(format!("--{name}"))
        }
    }
}

fn read_file(path: &Path) -> Result<Settings, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::ReadFile { path: path.to_owned(), source })?;
    let refuse = |problem: String| ConfigError::ParseFile { path: path.to_owned(), problem };
    if path.extension().is_some_and(|extension| extension == "toml") {
        return toml::from_str(&text).map_err(|error| refuse(error.to_string()));
    }
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Settings::default());
    }
    serde_yaml_ng::from_str(&text).map_err(|error| refuse(error.to_string()))
}

// === impl Text ===

impl FromStr for Text {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;

        impl Visitor<'_> for Scalar {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, true or false")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Text, E> {
                Ok(Text(value.to_owned()))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }
        }

        deserializer.deserialize_any(Scalar)
    }
}

// === impl Origin ===

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

//! From text to [`Config`]: each setting is parsed on its own, then those that must agree are compared.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use sdn_cluster::{ClusterNetwork, ClusterNetworks};

use crate::kernel::bpf::XdpMode;

use super::settings::Text;
use super::{
    CniInstall, Config, ConfigError, ConntrackTimeouts, Dns, Layers, Log, LogFormat, Origin, Paths, PortRange, Reach,
    Settings, Tunnel,
};

/// Where the agent's sockets are unless something else is said.
pub(super) const RUN_DIR: &str = "/run/culvert";

/// What only the node itself can tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// Its host name, for the default of `node-name`.
    pub name: Option<String>,
    /// `net.ipv4.ip_local_port_range`: what the node's own sockets use.
    pub local_ports: Option<PortRange>,
}

/// A setting as the agent uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// Name as in the file.
    pub name: &'static str,
    /// Its values: exactly one unless `list`.
    pub values: Vec<String>,
    /// Whether a file gives it as a list.
    pub list: bool,
    /// Where it came from.
    pub origin: Origin,
}

/// Reads setting after setting and remembers what it gave out.
struct Reader<'a> {
    layers: &'a Layers,
    effective: Vec<Effective>,
}

pub(super) fn config(layers: &Layers, host: &Host) -> Result<Config, ConfigError> {
    let mut read = Reader { layers, effective: Vec::new() };
    let mut config = Config {
        node_name: read.one("node-name", |s| &s.node_name, host.name.as_deref().unwrap_or_default(), node_name)?,
        manifests: read.option("manifests", |s| &s.manifests, path)?,
        service_networks: read.many(
            "service-network",
            |s| &s.service_network,
            &["172.30.0.0/16", "fd02::/112"],
            network,
        )?,
        cluster_networks: cluster_networks(&mut read)?,
        uplink: read.option("uplink", |s| &s.uplink, device)?,
        uplink_xdp: read.one("uplink-xdp", |s| &s.uplink_xdp, "off", xdp_mode)?,
        tunnel: Tunnel {
            port: read.one("vxlan-port", |s| &s.vxlan_port, "4789", port)?,
            mtu: read.option("tunnel-mtu", |s| &s.tunnel_mtu, mtu)?,
        },
        reach: Reach {
            metadata: read.one("allow-metadata", |s| &s.allow_metadata, "false", boolean)?,
            machine_config: read.one("allow-machine-config", |s| &s.allow_machine_config, "false", boolean)?,
        },
        masquerade: masquerade(&mut read)?,
        node_ports: read.one("node-ports", |s| &s.node_ports, "30000-32767", str::parse)?,
        conntrack: conntrack(&mut read)?,
        dns: dns(&mut read)?,
        paths: Paths {
            bpffs: read.one("bpffs", |s| &s.bpffs, "/sys/fs/bpf/culvert", absolute_path)?,
            run: read.one("run-dir", |s| &s.run_dir, RUN_DIR, absolute_path)?,
            state: read.one("state-dir", |s| &s.state_dir, "/var/lib/culvert", absolute_path)?,
        },
        metrics_address: read.one("metrics-address", |s| &s.metrics_address, "127.0.0.1:9420", socket_address)?,
        cni: CniInstall {
            install: read.one("install-cni", |s| &s.install_cni, "false", boolean)?,
            plugin: read.option("cni-plugin", |s| &s.cni_plugin, absolute_path)?,
            bin_dir: read.one("cni-bin-dir", |s| &s.cni_bin_dir, "/opt/cni/bin", absolute_path)?,
            conf_dir: read.one("cni-conf-dir", |s| &s.cni_conf_dir, "/etc/cni/net.d", absolute_path)?,
        },
        log: Log {
            filter: read.one("log-level", |s| &s.log_level, "info", log_filter)?,
            format: read.one("log-format", |s| &s.log_format, "text", log_format)?,
        },
        effective: Vec::new(),
    };
    agree(&config, &read, host)?;
    config.effective = read.effective;
    Ok(config)
}

fn masquerade(read: &mut Reader<'_>) -> Result<Option<PortRange>, ConfigError> {
    let on = read.one("masquerade", |s| &s.masquerade, "true", boolean)?;
    let ports = read.one("masquerade-ports", |s| &s.masquerade_ports, "23000-29999", str::parse)?;
    Ok(on.then_some(ports))
}

fn cluster_networks(read: &mut Reader<'_>) -> Result<ClusterNetworks, ConfigError> {
    let defaults = ["10.128.0.0/14,23", "fd01::/48,64"];
    let networks: Vec<ClusterNetwork> = read.many(
        "cluster-network",
        |s| &s.cluster_network,
        &defaults,
        |text| text.parse().map_err(|error: sdn_cluster::Error| error.to_string()),
    )?;
    if networks.is_empty() {
        return Err(read.refuse("cluster-network", "is an empty list; pods need at least one network".to_owned()));
    }
    ClusterNetworks::new(networks, &[]).map_err(|error| read.refuse("cluster-network", error.to_string()))
}

/// Cluster DNS. Its addresses depend on the service networks, which were read before.
fn dns(read: &mut Reader<'_>) -> Result<Dns, ConfigError> {
    let on = read.one("dns", |s| &s.dns, "true", boolean)?;
    let networks = read.effective.iter().find(|setting| setting.name == "service-network");
    let networks: Vec<IpNet> =
        networks.iter().flat_map(|setting| &setting.values).filter_map(|n| n.parse().ok()).collect();
    let mut tenths: Vec<String> = Vec::new();
    for v6 in [false, true] {
        let first = networks.iter().find(|network| network.addr().is_ipv6() == v6);
        tenths.extend(first.and_then(tenth).map(|address| address.to_string()));
    }
    let tenths: Vec<&str> = tenths.iter().map(String::as_str).collect();
    let addresses = read.many("dns-address", |s| &s.dns_address, &tenths, dns_address)?;
    if [false, true].into_iter().any(|v6| addresses.iter().filter(|address| address.is_ipv6() == v6).count() > 1) {
        return Err(read.refuse("dns-address", "has two addresses of one family; there is one DNS service".to_owned()));
    }
    Ok(Dns {
        addresses: if on { addresses } else { Vec::new() },
        domain: read.one("cluster-domain", |s| &s.cluster_domain, "cluster.local", domain)?,
        resolv_conf: read.one("dns-resolv-conf", |s| &s.dns_resolv_conf, "/etc/resolv.conf", absolute_path)?,
        upstreams: read.many("dns-upstream", |s| &s.dns_upstream, &[], upstream)?,
    })
}

/// Where Kubernetes distributions have the DNS service by custom.
fn tenth(network: &IpNet) -> Option<IpAddr> {
    let address = match network {
        IpNet::V4(network) => IpAddr::V4((u32::from(network.network()).checked_add(10)?).into()),
        IpNet::V6(network) => IpAddr::V6((u128::from(network.network()).checked_add(10)?).into()),
    };
    network.contains(&address).then_some(address)
}

fn conntrack(read: &mut Reader<'_>) -> Result<ConntrackTimeouts, ConfigError> {
    Ok(ConntrackTimeouts {
        tcp_opening: read.one("conntrack-tcp-opening", |s| &s.conntrack_tcp_opening, "60s", timeout)?,
        tcp_established: read.one("conntrack-tcp-established", |s| &s.conntrack_tcp_established, "8000s", timeout)?,
        tcp_half_closed: read.one("conntrack-tcp-half-closed", |s| &s.conntrack_tcp_half_closed, "120s", timeout)?,
        tcp_closed: read.one("conntrack-tcp-closed", |s| &s.conntrack_tcp_closed, "10s", timeout)?,
        udp_unanswered: read.one("conntrack-udp-unanswered", |s| &s.conntrack_udp_unanswered, "30s", timeout)?,
        udp: read.one("conntrack-udp", |s| &s.conntrack_udp, "120s", timeout)?,
        icmp: read.one("conntrack-icmp", |s| &s.conntrack_icmp, "30s", timeout)?,
        other: read.one("conntrack-other", |s| &s.conntrack_other, "600s", timeout)?,
    })
}

/// Settings that are fine alone and wrong together. The blame goes to the one a person is likelier to have changed.
fn agree(config: &Config, read: &Reader<'_>, host: &Host) -> Result<(), ConfigError> {
    let networks: Vec<(&str, IpNet)> = config.service_networks.iter().map(|net| ("service network", *net)).collect();
    ClusterNetworks::new(config.cluster_networks.iter().copied().collect(), &networks)
        .map_err(|error| read.refuse("cluster-network", error.to_string()))?;
    if let Some(address) =
        config.dns.addresses.iter().find(|address| config.cluster_networks.iter().any(|n| n.cidr().contains(*address)))
    {
        let problem = format!("{address} lies in a cluster network, which is for pods");
        return Err(read.refuse("dns-address", problem));
    }
    let Some(ports) = config.masquerade else { return Ok(()) };
    if ports.overlaps(config.node_ports) {
        let problem = format!("{ports} overlaps the NodePorts {} (setting node-ports)", config.node_ports);
        return Err(read.refuse("masquerade-ports", problem));
    }
    if let Some(local) = host.local_ports.filter(|local| ports.overlaps(*local)) {
        let problem = format!(
            "{ports} overlaps {local}, which the node's own sockets use (net.ipv4.ip_local_port_range): replies would \
             reach the wrong one"
        );
        return Err(read.refuse("masquerade-ports", problem));
    }
    Ok(())
}

// === impl Host ===

impl Host {
    /// Asks this machine. What it cannot tell stays `None`.
    pub fn read() -> Self {
        let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
        Self { name: name.map(|name| name.to_lowercase()), local_ports: range.as_deref().and_then(local_ports) }
    }
}

/// The two numbers of `ip_local_port_range`.
fn local_ports(text: &str) -> Option<PortRange> {
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last)), None) => PortRange::new(first, last),
        _ => None,
    }
}

// === impl Reader ===

impl Reader<'_> {
    fn one<T>(
        &mut self,
        name: &'static str,
        field: fn(&Settings) -> &Option<Text>,
        default: &str,
        parse: fn(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        let (text, origin) = match self.layers.find(name, field) {
            Some((Text(text), origin)) => (text.as_str(), origin),
            None => (default, Origin::Default),
        };
        self.note(name, vec![text.to_owned()], false, origin);
        parse(text).map_err(|problem| self.refuse(name, problem))
    }

    fn option<T>(
        &mut self,
        name: &'static str,
        field: fn(&Settings) -> &Option<Text>,
        parse: fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let Some((Text(text), origin)) = self.layers.find(name, field) else { return Ok(None) };
        self.note(name, vec![text.clone()], false, origin);
        parse(text).map(Some).map_err(|problem| self.refuse(name, problem))
    }

    fn many<T>(
        &mut self,
        name: &'static str,
        field: fn(&Settings) -> &Option<Vec<Text>>,
        default: &[&str],
        parse: fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, ConfigError> {
        let (texts, origin) = match self.layers.find(name, field) {
            Some((texts, origin)) => (texts.iter().map(|Text(text)| text.clone()).collect(), origin),
            None => (default.iter().map(ToString::to_string).collect::<Vec<_>>(), Origin::Default),
        };
        let parsed = texts.iter().map(|text| parse(text)).collect::<Result<Vec<T>, String>>();
        self.note(name, texts, true, origin);
        parsed.map_err(|problem| self.refuse(name, problem))
    }

    fn note(&mut self, name: &'static str, values: Vec<String>, list: bool, origin: Origin) {
        self.effective.push(Effective { name, values, list, origin });
    }

    /// An error about a setting that was read before.
    fn refuse(&self, name: &'static str, problem: String) -> ConfigError {
        let read = self.effective.iter().find(|setting| setting.name == name);
        ConfigError::Setting { name, origin: read.map_or(Origin::Default, |setting| setting.origin.clone()), problem }
    }
}

// === one kind of value each ===

fn node_name(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        let edges = label.starts_with('-') || label.ends_with('-');
        !label.is_empty() && !edges && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if text.is_empty() {
        return Err("is needed, because the host has no name".to_owned());
    }
    if text.len() > 253 || !text.split('.').all(label) {
        return Err(format!("{text:?} is no name of a Node: lower-case letters, digits, '-' and '.', 253 at most"));
    }
    Ok(text.to_owned())
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("is empty".to_owned()) } else { Ok(PathBuf::from(text)) }
}

fn absolute_path(text: &str) -> Result<PathBuf, String> {
    let path = path(text)?;
    if path.is_absolute() { Ok(path) } else { Err(format!("{text:?} is not absolute")) }
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().map_err(|error| format!("{text:?}: {error}"))?;
    if network.addr() != network.network() {
        return Err(format!("{text} has host bits set; the network is {}", network.trunc()));
    }
    Ok(network)
}

fn device(text: &str) -> Result<String, String> {
    // IFNAMSIZ is 16 with the closing NUL; the kernel refuses '/', ':' and white space (dev_valid_name).
    let valid = !text.is_empty()
        && text.len() < 16
        && text != "."
        && text != ".."
        && !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace());
    if valid { Ok(text.to_owned()) } else { Err(format!("{text:?} is no name of a network device")) }
}

fn xdp_mode(text: &str) -> Result<Option<XdpMode>, String> {
    match text {
        "off" => Ok(None),
        "generic" => Ok(Some(XdpMode::Generic)),
        "native" => Ok(Some(XdpMode::Native)),
        _ => Err(format!("{text:?} is neither off, generic nor native")),
    }
}

fn port(text: &str) -> Result<u16, String> {
    match text.parse::<u16>() {
        Ok(0) => Err("port 0 means none".to_owned()),
        Ok(port) => Ok(port),
        Err(error) => Err(format!("{text:?} is no port: {error}")),
    }
}

fn mtu(text: &str) -> Result<u32, String> {
    // IPv6 needs 1280 on every link (RFC 8200 §5); the length field of IP ends at 65535.
    match text.parse::<u32>() {
        Ok(mtu @ 1280..=65535) => Ok(mtu),
        Ok(mtu) => Err(format!("{mtu} is outside 1280 … 65535")),
        Err(error) => Err(format!("{text:?} is no number of bytes: {error}")),
    }
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(format!("{text:?} is no time: a number with s, m or h")),
    };
    let seconds = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    // A month is beyond any use, and keeps jiffies in 32 bits (2^32 / 1000 Hz = 49 days).
    match seconds {
        Some(seconds @ 1..=2_592_000) => Ok(Duration::from_secs(seconds)),
        Some(_) => Err(format!("{text} is outside 1s … 720h")),
        None => Err(format!("{text:?} is no time: a number with s, m or h")),
    }
}

fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is no IP:PORT, as in 127.0.0.1:9420 or [::1]:9420"))
}

fn dns_address(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| format!("{text:?} is no IP address"))?;
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() {
        return Err(format!("{address} is no address that pods could ask"));
    }
    Ok(address)
}

fn upstream(text: &str) -> Result<SocketAddr, String> {
    let with_port = text.parse().or_else(|_| text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53)));
    with_port.map_err(|_| format!("{text:?} is no IP or IP:PORT, as in 192.0.2.53 or [2001:db8::53]:5353"))
}

fn domain(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    // RFC 1035 §2.3.4
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.len() > 253 || !name.split('.').all(label) {
        return Err(format!("{text:?} is no domain name"));
    }
    Ok(name.to_ascii_lowercase())
}

fn log_filter(text: &str) -> Result<String, String> {
    let known = |level: &str| ["off", "error", "warn", "info", "debug", "trace"].contains(&level);
    for directive in text.split(',') {
        let (target, level) =
            directive.rsplit_once('=').map_or((None, directive), |(target, level)| (Some(target), level));
        if !known(level) || target.is_some_and(str::is_empty) {
            return Err(format!(
                "{directive:?} is no LEVEL and no TARGET=LEVEL; levels: off error warn info debug trace"
            ));
        }
    }
    Ok(text.to_owned())
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("{text:?} is neither text nor json")),
    }
}

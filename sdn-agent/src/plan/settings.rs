//! What of the agent's configuration the plan depends on.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::Config;

/// Fragments of one datagram that are let through: 64 KiB in the fragments of IPv6's smallest link, and some.
const FRAGMENTS: u32 = 64;
/// Example events of drops that one endpoint may cause a second.
const EVENTS_PER_SECOND: u16 = 10;

/// What of the agent's configuration the plan depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Name of this node.
    pub node_name: String,
    /// Networks that pod addresses come from.
    pub cluster_networks: Vec<IpNet>,
    /// First and last source port for pod traffic to the outside, in host order; `None` turns masquerading off.
    pub masquerade: Option<(u16, u16)>,
    /// XDP on the uplink, beside the hook behind it.
    pub uplink_xdp: bool,
    /// Port of the tunnel, in host order.
    pub vxlan_port: u16,
    /// Greatest IP packet of a pod in bytes; `None` derives it from the uplink's.
    pub mtu: Option<u32>,
    /// Pods may reach 169.254.169.254.
    pub metadata: bool,
    /// Pods may reach the machine configuration server.
    pub machine_config: bool,
    /// Where cluster DNS is asked, the same on every node; at most one address a family.
    pub resolvers: Vec<IpAddr>,
    /// Fragments of one datagram that are let through.
    pub fragments: u32,
    /// Example events of drops that one endpoint may cause a second.
    pub events_per_second: u16,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        Self {
            node_name: config.node_name.clone(),
            cluster_networks: config.cluster_networks.iter().map(|network| network.cidr()).collect(),
            masquerade: config.masquerade.map(|ports| (ports.first(), ports.last())),
            uplink_xdp: config.uplink_xdp.is_some(),
            vxlan_port: config.tunnel.port,
            mtu: config.tunnel.mtu,
            metadata: config.reach.metadata,
            machine_config: config.reach.machine_config,
            resolvers: config.dns.addresses.clone(),
            fragments: FRAGMENTS,
            events_per_second: EVENTS_PER_SECOND,
        }
    }
}

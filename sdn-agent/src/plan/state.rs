//! The node's settings, as the programs read them.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use sdn_cluster::model;
use sdn_common::node::CLUSTER_NETWORKS;
use sdn_common::{Be16, FamilyState, NodeState, Prefix};

use super::nodes::{NodeTable, first_host, tunnel_v6};
use super::{Inputs, Problem};
use crate::family::Family;
use crate::kernel::netlink::Uplink;

/// What VXLAN adds to a packet: outer IPv4 or IPv6, UDP, VXLAN and inner Ethernet headers.
const OVERHEAD_V4: u32 = 50;
const OVERHEAD_V6: u32 = 70;

/// The entry of `NODE_STATE`, `epoch` 0. `None` while this node's own object may just not have been read yet.
pub(super) fn node_state(inputs: &Inputs, table: &NodeTable) -> Option<NodeState> {
    if !table.own_known && !inputs.snapshot.synced {
        return None;
    }
    let settings = &inputs.settings;
    let (first, last) = settings.masquerade.unwrap_or_default();
    let flags = [
        (settings.masquerade.is_some(), NodeState::MASQUERADE),
        (settings.metadata, NodeState::METADATA),
        (settings.machine_config, NodeState::MACHINE_CONFIG),
    ];
    Some(NodeState {
        epoch: 0,
        flags: flags.into_iter().filter_map(|(on, bit)| on.then_some(bit)).sum(),
        vxlan_ifindex: inputs.vxlan.ifindex,
        uplink_ifindex: inputs.uplink.ifindex,
        mtu: tunnel_mtu(
            settings.mtu,
            inputs.snapshot.nodes.get(settings.node_name.as_str()).map(Arc::as_ref),
            &inputs.uplink,
        ),
        hz: inputs.hz,
        fragments: settings.fragments,
        vxlan_port: Be16::new(settings.vxlan_port),
        masquerade_first: first,
        masquerade_last: last,
        events_per_second: settings.events_per_second,
        stand_in: table.stand_in(&settings.node_name),
        v4: family_state(inputs, table),
        v6: family_state(inputs, table),
    })
}

/// Networks that the programs have no room for.
pub(super) fn problems(inputs: &Inputs) -> Vec<Problem> {
    let excess = |v6: bool| {
        let networks = inputs.settings.cluster_networks.iter().filter(move |network| network.addr().is_ipv6() == v6);
        networks.skip(CLUSTER_NETWORKS).map(|network| Problem {
            object: format!("cluster network {network}"),
            cause: format!("there is room for {CLUSTER_NETWORKS} of a family; its pods are not reached"),
        })
    };
    excess(false).chain(excess(true)).collect()
}

/// Greatest IP packet of a pod in bytes: as configured, or what the tunnel leaves of the uplink's MTU. The VXLAN device and the pods'
/// interfaces have it too.
pub fn tunnel_mtu(configured: Option<u32>, own: Option<&model::Node>, uplink: &Uplink) -> u32 {
    let overhead = if tunnel_v6(own, uplink) { OVERHEAD_V6 } else { OVERHEAD_V4 };
    configured.unwrap_or_else(|| uplink.mtu.saturating_sub(overhead))
}

fn family_state<A: Family>(inputs: &Inputs, table: &NodeTable) -> FamilyState<A> {
    let mut cluster = [Prefix::default(); CLUSTER_NETWORKS];
    for (slot, prefix) in cluster.iter_mut().zip(inputs.settings.cluster_networks.iter().filter_map(prefix)) {
        *slot = prefix;
    }
    let of_family = |address: IpAddr| A::from_ip(address);
    let masquerade = inputs.settings.masquerade.and_then(|_| masquerade_address(inputs));
    FamilyState {
        cluster,
        cluster_address: table
            .own_subnets
            .iter()
            .filter_map(|net| first_host(*net))
            .find_map(of_family)
            .unwrap_or_default(),
        masquerade: masquerade.unwrap_or_default(),
        resolver: inputs.settings.resolvers.iter().copied().find_map(of_family).unwrap_or_default(),
    }
}

/// The uplink's address that pods borrow: the one the cluster knows the node by, else its first.
fn masquerade_address<A: Family>(inputs: &Inputs) -> Option<A> {
    let own = inputs.snapshot.nodes.get(inputs.settings.node_name.as_str());
    let uplink = || inputs.uplink.addresses.iter().map(IpNet::addr);
    let known = uplink().filter(|address| own.is_some_and(|node| node.addresses.contains(address)));
    known.chain(uplink()).find_map(A::from_ip)
}

fn prefix<A: Family>(network: &IpNet) -> Option<Prefix<A>> {
    Some(Prefix { address: A::from_ip(network.network())?, mask: A::from_ip(network.netmask())? })
}

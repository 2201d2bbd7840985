//! Nodes: which addresses and host subnets are whose, where tunnels lead.
//!
//! Nodes are few beside pods, and what one of them may have depends on all others, so the table is made whole whenever one of
//! them changes. This node comes first in every quarrel, then names decide.

use std::net::IpAddr;
use std::sync::Arc;

use imbl::OrdMap;
use ipnet::IpNet;
use sdn_cluster::model;
use sdn_common::{Addr6, Node, incarnation};

use super::{Indices, Inputs, Problem};
use crate::family::mapped;
use crate::kernel::netlink::Uplink;

/// Whose an address or a host subnet is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// This node's.
    Own,
    /// Another node's.
    Other(Arc<str>),
}

/// What is known of all nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NodeTable {
    /// Whether this node's own object is there.
    pub(super) own_known: bool,
    /// The host subnets of this node.
    pub(super) own_subnets: Vec<IpNet>,
    /// Whether tunnels go over IPv6.
    pub(super) tunnel_v6: bool,
    /// Indices of the other nodes by name.
    pub(super) indices: OrdMap<Arc<str>, u32>,
    /// Nodes' own addresses.
    pub(super) owners: OrdMap<IpAddr, Owner>,
    /// Host subnets, which do not overlap, by their first address.
    pub(super) subnets: OrdMap<IpAddr, (IpNet, Owner)>,
    /// The map `NODES`.
    pub(super) nodes: OrdMap<u32, Node>,
    /// The map `TUNNELS`.
    pub(super) tunnels: OrdMap<Addr6, u32>,
    /// What was rejected.
    pub(super) problems: Vec<Problem>,
}

// === impl NodeTable ===

impl NodeTable {
    pub(super) fn new(inputs: &Inputs, indices: &mut Indices) -> Self {
        let own_name = inputs.settings.node_name.as_str();
        let nodes = &inputs.snapshot.nodes;
        let own = nodes.get(own_name).map(Arc::as_ref);
        let mut table = Self { own_known: own.is_some(), tunnel_v6: tunnel_v6(own, &inputs.uplink), ..Self::default() };
        indices.retain(|name| name != own_name && nodes.contains_key(name));
        table.add_own(own, inputs);
        for (name, node) in nodes.iter().filter(|(name, _)| name.as_ref() != own_name) {
            table.add_other(name, node, inputs, indices);
        }
        table
    }

    /// The host subnet that contains the address.
    pub(super) fn subnet_of(&self, address: IpAddr) -> Option<&(IpNet, Owner)> {
        let (_, found) = self.subnets.get_prev(&address)?;
        found.0.contains(&address).then_some(found)
    }

    /// The index of a node; `None` for one that is not known.
    pub(super) fn index_of(&self, owner: &Owner) -> Option<u32> {
        match owner {
            Owner::Own => Some(Node::SELF),
            Owner::Other(name) => self.indices.get(name).copied(),
        }
    }

    fn add_own(&mut self, own: Option<&model::Node>, inputs: &Inputs) {
        let object = format!("node {}", inputs.settings.node_name);
        if own.is_none() {
            self.reject(&object, "the cluster has no such node: this node has no host subnet".to_owned());
        }
        // Every node has these, and asks itself.
        for resolver in &inputs.settings.resolvers {
            self.take(&object, &Owner::Own, *resolver);
        }
        // The uplink may list what the object lists: the same owner, no quarrel.
        let uplink = inputs.uplink.addresses.iter().map(IpNet::addr);
        let addresses: Vec<IpAddr> = own.iter().flat_map(|node| node.addresses.clone()).chain(uplink).collect();
        for address in &addresses {
            self.claim(&object, &Owner::Own, *address, inputs);
        }
        for subnet in own.iter().flat_map(|node| &node.subnets) {
            if self.add_subnet(&object, &Owner::Own, *subnet, inputs) {
                self.own_subnets.push(*subnet);
            }
        }
        let tunnel = addresses.into_iter().find(|address| address.is_ipv6() == self.tunnel_v6);
        self.nodes.insert(Node::SELF, entry(tunnel));
    }

    fn add_other(&mut self, name: &Arc<str>, node: &model::Node, inputs: &Inputs, indices: &mut Indices) {
        let (object, owner) = (format!("node {name}"), Owner::Other(name.clone()));
        let addresses: Vec<IpAddr> =
            node.addresses.iter().copied().filter(|address| self.claim(&object, &owner, *address, inputs)).collect();
        let v6 = self.tunnel_v6;
        let tunnels: Vec<IpAddr> = addresses.into_iter().filter(|address| address.is_ipv6() == v6).collect();
        let tunnel = tunnels.first().copied();
        let Some(index) = indices.assign(name, tunnel.map(mapped)) else {
            let most = sdn_common::maps::NODES - 1;
            return self.reject(&object, format!("there is no room for it: a node knows {most} others at most"));
        };
        self.indices.insert(name.clone(), index);
        match tunnel {
            Some(_) => drop(self.nodes.insert(index, entry(tunnel))),
            // Without an entry the programs say that the node cannot be reached.
            None => {
                let family = if v6 { "IPv6" } else { "IPv4" };
                self.reject(&object, format!("it has no usable {family} address: its pods cannot be reached"));
            }
        }
        self.tunnels.extend(tunnels.into_iter().map(|address| (mapped(address), index)));
        for subnet in &node.subnets {
            self.add_subnet(&object, &owner, *subnet, inputs);
        }
    }

    /// Takes an address for a node; false if it cannot have it.
    fn claim(&mut self, object: &str, owner: &Owner, address: IpAddr, inputs: &Inputs) -> bool {
        let cause = if !is_usable(address) {
            "is no address of a machine".to_owned()
        } else if inputs.in_cluster(address) {
            "lies in the cluster network, which is for pods".to_owned()
        } else {
            return self.take(object, owner, address);
        };
        self.reject(object, format!("its address {address} {cause}"));
        false
    }

    fn take(&mut self, object: &str, owner: &Owner, address: IpAddr) -> bool {
        match self.owners.get(&address) {
            None => {
                self.owners.insert(address, owner.clone());
                true
            }
            Some(other) if other == owner => true,
            Some(other) => {
                let cause = format!("its address {address} is {}'s already", describe(other));
                self.reject(object, cause);
                false
            }
        }
    }

    /// Takes a host subnet and the node's own address in it.
    fn add_subnet(&mut self, object: &str, owner: &Owner, subnet: IpNet, inputs: &Inputs) -> bool {
        if !inputs.settings.cluster_networks.iter().any(|network| network.contains(&subnet)) {
            self.reject(object, format!("its host subnet {subnet} is not in a cluster network"));
            return false;
        }
        if let Some((other, theirs)) = self.overlapping(subnet) {
            let cause = format!("its host subnet {subnet} overlaps {other}, which is {}'s", describe(&theirs));
            self.reject(object, cause);
            return false;
        }
        self.subnets.insert(subnet.network(), (subnet, owner.clone()));
        if let Some(first) = first_host(subnet) {
            self.take(object, owner, first);
        }
        true
    }

    fn overlapping(&self, subnet: IpNet) -> Option<(IpNet, Owner)> {
        let before = self.subnet_of(subnet.network()).cloned();
        let within = || self.subnets.get_next(&subnet.network()).map(|(_, found)| found.clone());
        before
            .or_else(within)
            .filter(|(other, _)| subnet.contains(&other.network()) || other.contains(&subnet.network()))
    }

    fn reject(&mut self, object: &str, cause: String) {
        self.problems.push(Problem { object: object.to_owned(), cause });
    }
}

impl NodeTable {
    /// The node whose resolver stands in for this node's: any other that can be reached, not the same for all.
    pub(super) fn stand_in(&self, own_name: &str) -> u32 {
        let others: Vec<u32> = self.nodes.keys().copied().filter(|index| *index != Node::SELF).collect();
        match others.len() {
            0 => Node::SELF,
            len => others[incarnation(own_name) as usize % len],
        }
    }
}

/// The node's own address in a host subnet: the first after the subnet's own.
pub fn first_host(subnet: IpNet) -> Option<IpAddr> {
    match subnet {
        // Below this a subnet has no host besides the network and broadcast addresses.
        IpNet::V4(net) if net.prefix_len() <= 30 => Some(IpAddr::V4((u32::from(net.network()) + 1).into())),
        IpNet::V6(net) if net.prefix_len() <= 126 => Some(IpAddr::V6((u128::from(net.network()) + 1).into())),
        _ => None,
    }
}

/// Tunnels are of one family: that of this node's addresses on the uplink, IPv4 where there are both.
pub(super) fn tunnel_v6(own: Option<&model::Node>, uplink: &Uplink) -> bool {
    let uplink = || uplink.addresses.iter().map(IpNet::addr);
    let own = || own.iter().flat_map(|node| node.addresses.iter().copied());
    let both: Vec<IpAddr> = own().filter(|address| uplink().any(|found| found == *address)).collect();
    let candidates = match (both.is_empty(), uplink().next()) {
        (false, _) => both,
        // The object names addresses of another device, or none yet: packets leave with the uplink's.
        (true, Some(_)) => uplink().collect(),
        (true, None) => own().collect(),
    };
    !candidates.is_empty() && candidates.iter().all(IpAddr::is_ipv6)
}

fn entry(tunnel: Option<IpAddr>) -> Node {
    let family = if tunnel.is_some_and(|address| address.is_ipv6()) { Node::TUNNEL_V6 } else { 0 };
    Node { tunnel: tunnel.map(mapped).unwrap_or_default(), flags: Node::VALID | family }
}

fn is_usable(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address.to_ipv4_mapped().is_some(),
    };
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || link_local)
}

pub(super) fn describe(owner: &Owner) -> String {
    match owner {
        Owner::Own => "this node".to_owned(),
        Owner::Other(name) => format!("node {name}"),
    }
}

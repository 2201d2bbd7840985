//! Host subnets for nodes.

use crate::{error::Error, model::Node, network::ClusterNetwork, network::ClusterNetworks};
use ipnet::IpNet;
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

/// Gives host subnets from `networks` to those nodes which have none of a family that the networks have; those that are
/// there are kept. The lowest free one is next. Fails, changing nothing, when two nodes' subnets overlap, when one lies
/// outside of the networks (unless there are none), and when they are used up.
pub fn assign_subnets(nodes: &mut [Arc<Node>], networks: &ClusterNetworks) -> Result<(), Error> {
    let mut taken = Taken::default();
    for node in nodes.iter() {
        for subnet in &node.subnets {
            taken.keep(node, *subnet, networks)?;
        }
    }
    let mut assigned = nodes.to_vec();
    for is_ipv4 in [true, false] {
        let mut free = Free::new(networks, is_ipv4);
        for node in
            assigned.iter_mut().filter(|node| node.subnets.iter().all(|subnet| subnet.addr().is_ipv4() != is_ipv4))
        {
            if let Some(subnet) = free.next(&mut taken, node)? {
                let node = Arc::make_mut(node);
                // In the order of families, as the API requires of the first one only that it is podCIDR.
                let place = if is_ipv4 { 0 } else { node.subnets.len() };
                node.subnets.insert(place, subnet);
            }
        }
    }
    nodes.clone_from_slice(&assigned);
    Ok(())
}

/// The subnets that nodes have: by their first address, with the last one and the node.
#[derive(Default)]
struct Taken(BTreeMap<IpAddr, (IpAddr, Arc<str>, IpNet)>);

/// The subnets of one family that are not given out yet.
struct Free<'a> {
    networks: Vec<(&'a ClusterNetwork, Box<dyn Iterator<Item = IpNet>>)>,
}

// === impl Taken ===

impl Taken {
    /// Notes the subnet that a node has already.
    fn keep(&mut self, node: &Node, subnet: IpNet, networks: &ClusterNetworks) -> Result<(), Error> {
        let fault =
            |reason: String| Error::HostSubnet { node: node.name.to_string(), subnet: subnet.to_string(), reason };
        if !networks.is_empty() && !networks.iter().any(|network| network.cidr().contains(&subnet)) {
            let all: Vec<_> = networks.iter().map(|network| network.cidr().to_string()).collect();
            return Err(fault(format!("lies outside of the cluster network ({})", all.join(", "))));
        }
        if let Some((other, taken)) = self.overlapping(subnet) {
            return Err(fault(format!("overlaps {taken} of node {other}")));
        }
        self.insert(node, subnet);
        Ok(())
    }

    fn insert(&mut self, node: &Node, subnet: IpNet) {
        self.0.insert(subnet.network(), (subnet.broadcast(), node.name.clone(), subnet));
    }

    /// The node and subnet that overlaps `subnet`. Taken ones never overlap each other, so that only the last one that
    /// begins before the end of `subnet` can reach into it.
    fn overlapping(&self, subnet: IpNet) -> Option<(&Arc<str>, IpNet)> {
        let (_, (last, node, taken)) = self.0.range(..=subnet.broadcast()).next_back()?;
        let same_family = taken.addr().is_ipv4() == subnet.addr().is_ipv4();
        (same_family && *last >= subnet.network()).then_some((node, *taken))
    }
}

// === impl Free ===

impl<'a> Free<'a> {
    fn new(networks: &'a ClusterNetworks, is_ipv4: bool) -> Self {
        let ours = networks.iter().filter(|network| network.is_ipv4() == is_ipv4);
        let subnets = |network: &'a ClusterNetwork| {
            (network, Box::new(network.host_subnets()) as Box<dyn Iterator<Item = IpNet>>)
        };
        Self { networks: ours.map(subnets).collect() }
    }

    /// The next subnet, for `node`; `None` when there is no network of the family.
    fn next(&mut self, taken: &mut Taken, node: &Node) -> Result<Option<IpNet>, Error> {
        for (_, subnets) in &mut self.networks {
            if let Some(subnet) = subnets.find(|subnet| taken.overlapping(*subnet).is_none()) {
                taken.insert(node, subnet);
                return Ok(Some(subnet));
            }
        }
        match self.networks.last() {
            None => Ok(None),
            Some((network, _)) => Err(Error::SubnetsExhausted {
                node: node.name.to_string(),
                network: network.cidr().to_string(),
                host_prefix: network.host_prefix(),
                subnets: network.host_subnet_count(),
            }),
        }
    }
}

//! Addresses for pods, where no agent hands them out.

use crate::{
    error::Error,
    model::{Node, Pod},
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

/// Gives addresses from their nodes' host subnets to those placed pods which have none, for use without agents (who
/// else hand out the addresses), the lowest free ones in the order of the pods. Pods in the host network get their
/// node's. Pods that have ended have none.
pub fn assign_addresses(pods: &mut [Arc<Pod>], nodes: &[Arc<Node>]) -> Result<(), Error> {
    let mut used: HashMap<IpAddr, usize> = HashMap::new();
    for (index, pod) in pods.iter().enumerate().filter(|(_, pod)| !pod.host_network && !pod.ended()) {
        for address in &pod.addresses {
            if let Some(first) = used.insert(*address, index) {
                let (one, other) = (pods[first].key().to_string(), pod.key().to_string());
                return Err(Error::AddressTaken { one, other, address: *address });
            }
        }
    }
    let nodes: BTreeMap<&str, &Arc<Node>> = nodes.iter().map(|node| (&*node.name, node)).collect();
    let mut next: HashMap<IpNet, u128> = HashMap::new();
    for (index, pod) in pods.iter_mut().enumerate().filter(|(_, pod)| pod.addresses.is_empty() && !pod.ended()) {
        let Some(node) = pod.node.as_deref().and_then(|name| nodes.get(name)) else { continue };
        let addresses = if pod.host_network {
            one_a_family(&node.addresses)
        } else {
            let free = |subnet: &IpNet| free_address(*subnet, next.entry(*subnet).or_default(), &mut used, index);
            let addresses: Option<Vec<_>> = node.subnets.iter().map(free).collect();
            addresses.ok_or_else(|| exhausted(pod, node))?
        };
        Arc::make_mut(pod).addresses = addresses;
    }
    Ok(())
}

/// The host parts that no pod may have, in a host subnet: the network address, the node's own (the first host), and in
/// IPv4 the broadcast address.
pub fn reserved_hosts(subnet: IpNet) -> impl Iterator<Item = IpAddr> {
    let broadcast = matches!(subnet, IpNet::V4(_)).then(|| subnet.broadcast());
    let node = match subnet {
        IpNet::V4(subnet) => host_v4(subnet, 1).map(IpAddr::V4),
        IpNet::V6(subnet) => host_v6(subnet, 1).map(IpAddr::V6),
    };
    [Some(subnet.network()), node, broadcast].into_iter().flatten()
}

/// The next free address of a subnet; `cursor` remembers the host part to go on from.
fn free_address(subnet: IpNet, cursor: &mut u128, used: &mut HashMap<IpAddr, usize>, pod: usize) -> Option<IpAddr> {
    loop {
        let address = match subnet {
            IpNet::V4(subnet) => host_v4(subnet, *cursor).map(IpAddr::V4),
            IpNet::V6(subnet) => host_v6(subnet, *cursor).map(IpAddr::V6),
        }?;
        *cursor += 1;
        if !used.contains_key(&address) && reserved_hosts(subnet).all(|reserved| reserved != address) {
            used.insert(address, pod);
            return Some(address);
        }
    }
}

fn host_v4(subnet: Ipv4Net, host: u128) -> Option<Ipv4Addr> {
    let address = u32::from(subnet.network()).checked_add(u32::try_from(host).ok()?)?.into();
    subnet.contains(&address).then_some(address)
}

/// Pods use 32 bits of the host part, however many there are.
fn host_v6(subnet: Ipv6Net, host: u128) -> Option<Ipv6Addr> {
    let address = u128::from(subnet.network()).checked_add(u32::try_from(host).ok()?.into())?.into();
    subnet.contains(&address).then_some(address)
}

/// The first address of each family, in their order: what kubelet makes of a node's addresses for its host network's
/// pods.
fn one_a_family(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let first = addresses.first();
    let other = first.and_then(|first| addresses.iter().find(|address| address.is_ipv4() != first.is_ipv4()));
    first.into_iter().chain(other).copied().collect()
}

fn exhausted(pod: &Pod, node: &Node) -> Error {
    let subnets: Vec<_> = node.subnets.iter().map(ToString::to_string).collect();
    Error::AddressesExhausted { pod: pod.key().to_string(), node: node.name.to_string(), subnet: subnets.join(", ") }
}

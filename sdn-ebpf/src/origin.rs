//! Who sent the packet, and may they; who is behind an address.

use sdn_common::{Address, Be16, Endpoint, Identity, Node, NodeState, Reason, Side};

use crate::{
    family::{Family, IpHeader, protocol},
    frame::Skb,
    hook, icmp,
    packet::Packet,
    verdict::{End, Stage},
};

/// A pod sends from its own address and from its own MAC, through its own veth. Sets [`Packet::from`].
#[inline(always)]
pub fn pod<F: Family>(skb: Skb, packet: &mut Packet<F>) -> Stage<&'static Endpoint> {
    let Some(endpoint) = endpoint::<F>(packet.head.ip.source()) else {
        return Err(End::drop(Reason::SpoofedAddress));
    };
    if endpoint.ifindex != skb.ifindex() {
        return Err(End::drop(Reason::SpoofedAddress));
    }
    if endpoint.mac != packet.head.from {
        return Err(End::drop(Reason::SpoofedMac));
    }
    packet.from = side_of(endpoint);
    Ok(endpoint)
}

/// Where no pod's packet may go, whoever is there: multicast, link-local, and without being asked for the cloud's metadata.
#[inline(always)]
pub fn reach<F: Family>(packet: &Packet<F>) -> Stage<()> {
    let to = packet.destination();
    if to.is_multicast() {
        return Err(End::drop(Reason::Multicast));
    }
    if to.is_loopback() || to.is_zero() {
        return Err(End::drop(Reason::UnknownDestination));
    }
    if !to.is_link_local() {
        return Ok(());
    }
    if F::IS_V6 || to.mapped().0[3] != METADATA {
        return Err(End::drop(Reason::LinkLocal));
    }
    let dns = packet.destination_port == DNS && matches!(packet.protocol, protocol::TCP | protocol::UDP);
    if dns || hook::state()?.flags & NodeState::METADATA != 0 {
        return Ok(());
    }
    // Whether the source is really that pod is asked next.
    match endpoint::<F>(packet.head.ip.source()) {
        Some(pod) if pod.flags & Endpoint::METADATA != 0 => Ok(()),
        _ => Err(End::drop(Reason::Metadata)),
    }
}

/// The machine configuration server of a node hands out credentials to whoever asks (OpenShift's ports 22623 and 22624).
#[inline(always)]
pub fn machine_config<F: Family>(packet: &Packet<F>) -> Stage<()> {
    let port = packet.destination_port.native();
    let asked = packet.protocol == protocol::TCP && (port == 22623 || port == 22624);
    if asked && hook::state()?.flags & NodeState::MACHINE_CONFIG == 0 {
        Err(End::drop(Reason::MachineConfig))
    } else {
        Ok(())
    }
}

/// Nothing from a pod goes to the port of the tunnel at a node: what the tunnel carries is believed.
#[inline(always)]
pub fn tunnel_port<F: Family>(packet: &Packet<F>) -> Stage<()> {
    if packet.protocol == protocol::UDP && packet.destination_port == hook::state()?.vxlan_port {
        return Err(End::drop(Reason::PodVxlan));
    }
    Ok(())
}

/// The underlay does not speak for the cluster network, and nobody's loopback is out there.
#[inline(always)]
pub fn underlay<F: Family>(source: F::Address, destination: F::Address) -> Stage<()> {
    if in_cluster::<F>(source)? || in_cluster::<F>(destination)? {
        return Err(End::drop(Reason::UplinkForged));
    }
    if source.is_loopback() {
        return Err(End::drop(Reason::UplinkLoopback));
    }
    Ok(())
}

/// Who is behind an address. An address of the cluster network that nobody has is refused.
#[inline(always)]
pub fn locate<F: Family>(address: &F::Address) -> Stage<Side> {
    if let Some(endpoint) = endpoint::<F>(address) {
        return Ok(side_of(endpoint));
    }
    locate_elsewhere::<F>(address)
}

#[inline(always)]
fn locate_elsewhere<F: Family>(address: &F::Address) -> Stage<Side> {
    // SAFETY: the entry is valid while the program runs, and replaced whole by the agent (no-prealloc hash).
    if let Some(peer) = unsafe { F::peers().get(address) } {
        return Ok(Side { node: peer.node, incarnation: peer.incarnation, identity: peer.identity });
    }
    if !in_cluster::<F>(*address)? {
        return Ok(outside::<F>(*address));
    }
    match F::subnet(*address) {
        // A pod that this node has not heard of yet. Its node has.
        Some(node) if node != Node::SELF => Ok(Side { node, incarnation: 0, identity: Identity::UNKNOWN }),
        _ => Err(End::reject(Reason::UnknownDestination, icmp::Error::HostUnreachable)),
    }
}

/// Somebody outside the cluster, whom policies know by the blocks of addresses that they speak of.
#[inline(always)]
pub fn outside<F: Family>(address: F::Address) -> Side {
    let identity = F::cidr(address).unwrap_or(Identity::OUTSIDE);
    Side { node: Node::OUTSIDE, incarnation: 0, identity }
}

/// Whether an address belongs to the cluster network.
#[inline(always)]
pub fn in_cluster<F: Family>(address: F::Address) -> Stage<bool> {
    let [a, b, c, d] = &F::state(hook::state()?).cluster;
    Ok(a.contains(address) || b.contains(address) || c.contains(address) || d.contains(address))
}

/// The pod of this node that has the address.
#[inline(always)]
pub fn endpoint<F: Family>(address: &F::Address) -> Option<&'static Endpoint> {
    // SAFETY: the entry is valid while the program runs. The agent replaces entries, so a reader may see one of two states.
    unsafe { F::endpoints().get(address) }
}

#[inline(always)]
fn side_of(endpoint: &Endpoint) -> Side {
    Side { node: Node::SELF, incarnation: endpoint.incarnation, identity: endpoint.identity }
}

const METADATA: u32 = u32::from_ne_bytes([169, 254, 169, 254]);
const DNS: Be16 = Be16::new(53);

//! Who sent a tunnelled packet, and may they (decisions 9 and 10 of the design).

use sdn_common::{Address, Identity, Node, Reason, Side, wire};

use crate::{
    conntrack::{self, Lookup},
    encap,
    family::Family,
    hook, maps,
    packet::Packet,
    resolver,
    verdict::{End, Stage},
};

/// Sets [`Packet::from`] for a packet of a known flow. What was verified at the flow's epoch is compared, not looked up.
#[inline(always)]
pub fn sender_of_flow<F: Family>(packet: &mut Packet<F>, found: &Lookup) -> Stage<()> {
    if let Some(flow) = found.flow {
        // SAFETY: the entry is valid while the program runs.
        let flow = unsafe { &*flow };
        let side = conntrack::sent_by(flow, found.way);
        let sender = if side.incarnation == 0 {
            wire::Sender { kind: wire::Kind::Node, value: 0 }
        } else {
            wire::Sender { kind: wire::Kind::Pod, value: side.incarnation }
        };
        let known =
            flow.epoch == hook::state()?.epoch && packet.tunnel.vni == wire::VNI && sender.mac() == packet.head.from;
        if known && encap::node(side.node).is_some_and(|node| node.tunnel == packet.tunnel.from) {
            packet.from = side;
            return Ok(());
        }
    }
    sender(packet)
}

/// Sets [`Packet::from`], looked up: the tunnel comes from a node, the inner source is that node's, and the pod is the one known there.
#[inline(never)]
pub fn sender<F: Family>(packet: &mut Packet<F>) -> Stage<()> {
    // SAFETY: the entry is valid while the program runs.
    let Some(&node) = (unsafe { maps::TUNNELS.get(packet.tunnel.from) }) else {
        return Err(End::drop(Reason::TunnelUnknownNode));
    };
    if packet.tunnel.vni != wire::VNI {
        return Err(End::drop(Reason::TunnelVni));
    }
    let Some(sender) = wire::Sender::parse(packet.head.from) else {
        return Err(End::drop(Reason::TunnelKind));
    };
    let source = packet.source();
    // SAFETY: as above.
    let peer = unsafe { F::peers().get(source) };
    let (incarnation, identity) = match (peer, sender.kind) {
        // Another node's resolver stands in for this node's, at the address that both have.
        (Some(peer), wire::Kind::Node)
            if peer.node == Node::SELF && resolver::is_resolver::<F>(hook::state()?, source) =>
        {
            packet.from = Side { node: Node::SELF, incarnation: 0, identity: peer.identity };
            return Ok(());
        }
        (Some(peer), _) if peer.node != node => return Err(End::drop(Reason::TunnelForeignSource)),
        (Some(peer), wire::Kind::Node) if peer.incarnation == 0 => (0, peer.identity),
        (Some(peer), wire::Kind::Pod) if peer.incarnation == sender.value => (sender.value, peer.identity),
        // An address of a node that claims to be a pod's, or the reverse, is no honest node's doing either.
        (Some(peer), wire::Kind::Pod) if peer.incarnation != 0 => return Err(End::drop(Reason::StalePeer)),
        (Some(_), _) => return Err(End::drop(Reason::TunnelForeignSource)),
        // Not heard of yet: at least its address belongs to that node.
        (None, wire::Kind::Pod) if F::subnet(source) == Some(node) && !source.is_zero() => {
            (sender.value, Identity::UNKNOWN)
        }
        (None, _) => return Err(End::drop(Reason::TunnelForeignSource)),
    };
    packet.from = Side { node, incarnation, identity };
    Ok(())
}

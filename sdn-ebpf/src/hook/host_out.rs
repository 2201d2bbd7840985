//! `host_out`: what the node itself sends to the cluster network, at the egress of the VXLAN device.

use aya_ebpf::bindings::TC_ACT_OK;
use sdn_common::{Endpoint, Hook, Identity, Node, Reason, Side, wire};

use crate::{
    conntrack::{self, Admit},
    encap,
    family::{Family, IpHeader, V4, V6},
    fragment,
    frame::{Frame, Skb},
    origin,
    packet::Packet,
    parse, related, route,
    verdict::{self, End, Sent, Stage},
};

pub fn run(skb: Skb) -> i32 {
    // With a key already: from `pod_out`, judged and counted there.
    if encap::addressed(skb) {
        return TC_ACT_OK;
    }
    match skb.ethertype() {
        V4::ETHERTYPE => journey::<V4>(skb),
        V6::ETHERTYPE => journey::<V6>(skb),
        _ => {
            let end = Err(End::drop(Reason::UnsupportedEthertype));
            verdict::leave_other(skb, Hook::HostOut, 0, end)
        }
    }
}

#[inline(never)]
fn journey<F: Family>(skb: Skb) -> i32 {
    let Some(packet) = Packet::<F>::begin(Hook::HostOut) else {
        return verdict::not_ready(skb, Hook::HostOut, 0);
    };
    let end = stages(skb, packet);
    verdict::leave(skb, packet, end)
}

#[inline(always)]
fn stages<F: Family>(skb: Skb, packet: &mut Packet<F>) -> Stage<Sent> {
    parse::headers(&skb, packet)?;
    packet.forwarded = skb.ingress_ifindex() != 0;
    origin::reach(packet)?;
    fragment::follow(packet)?;
    packet.from = sender(packet)?;
    let receiver = if packet.is_icmp_error() {
        related::track(skb, packet)?;
        conntrack::receiver(packet, &packet.to)
    } else {
        let found = conntrack::find(packet);
        conntrack::track::<F, HostOut>(packet, &found, None)?
    };
    packet.peer = packet.to.identity;
    send(skb, packet, receiver)
}

/// Who sends: whatever the source, the answer has to go back to the node's stack.
#[inline(always)]
fn sender<F: Family>(packet: &Packet<F>) -> Stage<Side> {
    match origin::locate::<F>(packet.head.ip.source()) {
        Ok(side) if side.node == Node::OUTSIDE => Ok(Side { node: Node::SELF, ..side }),
        Ok(side) if route::is_host(&side) => Ok(side),
        _ => Err(End::drop(Reason::ForeignSource)),
    }
}

/// The node may open a flow to any pod. To another node's pod only from its own addresses, because nothing else is believed
/// there; packets of others that it forwards are not its own.
struct HostOut;

impl<F: Family> Admit<F> for HostOut {
    #[inline(always)]
    fn admit(packet: &mut Packet<F>) -> Stage<()> {
        match packet.to.node {
            Node::SELF if !route::is_host(&packet.to) => Ok(()),
            Node::SELF | Node::OUTSIDE => Err(End::drop(Reason::UnknownDestination)),
            _ => own(packet),
        }
    }
}

/// Only the node's own packets enter the tunnel from here: also within a flow that is known.
#[inline(always)]
fn own<F: Family>(packet: &Packet<F>) -> Stage<()> {
    if packet.from.identity == Identity::HOST && !packet.forwarded {
        Ok(())
    } else {
        Err(End::drop(Reason::ForeignSource))
    }
}

#[inline(always)]
fn send<F: Family>(skb: Skb, packet: &mut Packet<F>, receiver: Option<&Endpoint>) -> Stage<Sent> {
    match packet.to.node {
        Node::SELF if !route::is_host(&packet.to) => route::to_pod(skb, packet, receiver),
        Node::SELF | Node::OUTSIDE => Err(End::drop(Reason::UnknownDestination)),
        node => {
            own(packet)?;
            packet.head.to = wire::TUNNEL_DESTINATION;
            packet.head.from = wire::Sender { kind: wire::Kind::Node, value: 0 }.mac();
            packet.write_head(skb)?;
            encap::key(skb, node)?;
            Ok(Sent { node, ..Sent::TUNNEL })
        }
    }
}

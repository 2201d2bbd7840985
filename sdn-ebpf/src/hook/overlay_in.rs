//! `overlay_in`: what comes out of the tunnel, and what pods of this node send to the node itself.

use sdn_common::{Endpoint, Hook, Node, Reason};

use crate::{
    conntrack::{self, Admit},
    encap::{self, Tunnel},
    family::{Family, IpHeader, V4, V6},
    fragment,
    frame::{Frame, Skb},
    packet::{Packet, Piece},
    parse, related, route, trust,
    verdict::{self, End, Sent, Stage},
};

pub fn run(skb: Skb) -> i32 {
    let mut tunnel = Tunnel::default();
    if !encap::tunnel(skb, &mut tunnel) {
        // Not out of the tunnel: `pod_out` sent it here, judged, on its way to the node.
        return verdict::leave_other(skb, Hook::OverlayIn, 0, skb.claim().map(|()| Sent::HOST));
    }
    match skb.ethertype() {
        V4::ETHERTYPE => journey::<V4>(skb, &tunnel),
        V6::ETHERTYPE => journey::<V6>(skb, &tunnel),
        _ => {
            let end = Err(End::drop(Reason::UnsupportedEthertype));
            verdict::leave_other(skb, Hook::OverlayIn, 0, end)
        }
    }
}

#[inline(never)]
fn journey<F: Family>(skb: Skb, tunnel: &Tunnel) -> i32 {
    let Some(packet) = Packet::<F>::begin(Hook::OverlayIn) else {
        return verdict::not_ready(skb, Hook::OverlayIn, 0);
    };
    packet.tunnel = *tunnel;
    let end = stages(skb, packet);
    verdict::leave(skb, packet, end)
}

#[inline(always)]
fn stages<F: Family>(skb: Skb, packet: &mut Packet<F>) -> Stage<Sent> {
    parse::headers(&skb, packet)?;
    if packet.head.ip.ttl() == 0 {
        return Err(End::drop(Reason::TtlExpired));
    }
    if packet.piece != Piece::Whole {
        // Whoever is not believed leaves no trace in the table of fragments either.
        trust::sender(packet)?;
        fragment::follow(packet)?;
    }
    let receiver = if packet.is_icmp_error() {
        trust::sender(packet)?;
        packet.peer = packet.from.identity;
        related::track(skb, packet)?;
        conntrack::receiver(packet, &packet.to)
    } else {
        let found = conntrack::find(packet);
        trust::sender_of_flow(packet, &found)?;
        packet.peer = packet.from.identity;
        conntrack::track::<F, OverlayIn>(packet, &found, None)?
    };
    deliver(skb, packet, receiver)
}

/// What comes out of the tunnel is for this node or its pods.
struct OverlayIn;

impl<F: Family> Admit<F> for OverlayIn {
    #[inline(always)]
    fn admit(packet: &mut Packet<F>) -> Stage<()> {
        if packet.to.node == Node::SELF { Ok(()) } else { Err(End::drop(Reason::TunnelNotLocal)) }
    }
}

#[inline(always)]
fn deliver<F: Family>(skb: Skb, packet: &mut Packet<F>, receiver: Option<&Endpoint>) -> Stage<Sent> {
    let to = packet.to;
    if to.node != Node::SELF {
        return Err(End::drop(Reason::TunnelNotLocal));
    }
    skb.claim()?;
    if route::is_host(&to) { Ok(Sent::HOST) } else { route::to_pod(skb, packet, receiver) }
}

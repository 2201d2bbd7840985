//! `pod_out`: everything that a pod sends, at the host's end of its veth.

use sdn_common::{Be16, Endpoint, Hook, Node, Reason, wire};

use crate::{
    conntrack::{self, Admit},
    family::{Family, V4, V6},
    fragment,
    frame::{Frame, Skb},
    hook, masquerade, neighbour, origin,
    packet::Packet,
    parse, related, resolver, route,
    verdict::{self, End, Sent, Stage},
};

pub fn run(skb: Skb) -> i32 {
    match skb.ethertype() {
        V4::ETHERTYPE => journey::<V4>(skb),
        V6::ETHERTYPE => journey::<V6>(skb),
        hook::ARP => {
            let end = neighbour::arp(skb).map(|()| neighbour::back(skb));
            verdict::leave_other(skb, Hook::PodOut, skb.ifindex(), end)
        }
        _ => {
            let end = Err(End::drop(Reason::UnsupportedEthertype));
            verdict::leave_other(skb, Hook::PodOut, skb.ifindex(), end)
        }
    }
}

#[inline(never)]
fn journey<F: Family>(skb: Skb) -> i32 {
    let Some(packet) = Packet::<F>::begin(Hook::PodOut) else {
        return verdict::not_ready(skb, Hook::PodOut, skb.ifindex());
    };
    packet.endpoint = skb.ifindex();
    let end = stages(skb, packet);
    verdict::leave(skb, packet, end)
}

#[inline(always)]
fn stages<F: Family>(skb: Skb, packet: &mut Packet<F>) -> Stage<Sent> {
    parse::headers(&skb, packet)?;
    if let Some(answered) = neighbour::discovery(skb, packet)? {
        return Ok(answered);
    }
    origin::reach(packet)?;
    let sender = origin::pod(skb, packet)?;
    fragment::follow(packet)?;
    let receiver = if packet.is_icmp_error() {
        related::track(skb, packet)?;
        conntrack::receiver(packet, &packet.to)
    } else {
        let found = conntrack::find(packet);
        conntrack::track::<F, PodOut>(packet, &found, Some(sender))?
    };
    packet.peer = packet.to.identity;
    send(skb, packet, receiver)
}

/// A pod may open a flow to anywhere; outside it is known by a port of the node.
struct PodOut;

impl<F: Family> Admit<F> for PodOut {
    #[inline(always)]
    fn admit(packet: &mut Packet<F>) -> Stage<()> {
        if packet.to.node == Node::OUTSIDE {
            return masquerade::port_for(packet);
        }
        packet.masquerade_port = Be16(0);
        Ok(())
    }
}

#[inline(always)]
fn send<F: Family>(skb: Skb, packet: &mut Packet<F>, receiver: Option<&Endpoint>) -> Stage<Sent> {
    let to = resolver::stand_in(packet)?;
    if to.incarnation == 0 && to.node != Node::OUTSIDE {
        origin::machine_config(packet)?;
    }
    if route::is_host(&to) {
        origin::tunnel_port(packet)?;
        return route::to_host();
    }
    route::fits(skb, packet)?;
    route::hop(packet)?;
    match to.node {
        Node::SELF => route::to_pod(skb, packet, receiver),
        Node::OUTSIDE => route::to_outside(skb, packet),
        node => {
            origin::tunnel_port(packet)?;
            let sender = wire::Sender { kind: wire::Kind::Pod, value: packet.from.incarnation };
            route::to_node(skb, packet, node, sender)
        }
    }
}

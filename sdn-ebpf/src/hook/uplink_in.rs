//! `uplink_in`: what comes from the underlay. Replies to masqueraded flows go back to their pods, forged packets go nowhere,
//! and everything else is the node's own affair.

use sdn_common::{Be16, Endpoint, Hook, Identity, Masquerade, MasqueradeKey, Node, Reason, Side};

use crate::{
    conntrack::{self, Admit},
    family::{Family, IpHeader, V4, V6, protocol},
    fragment,
    frame::{Frame, Skb},
    hook,
    nat::{self, Translation},
    origin,
    packet::{Head, Packet},
    parse, related, route,
    verdict::{self, End, Sent, Stage},
};

pub fn run(skb: Skb) -> i32 {
    match skb.ethertype() {
        V4::ETHERTYPE if !tunnelled::<V4>(skb) => journey::<V4>(skb),
        V6::ETHERTYPE if !tunnelled::<V6>(skb) => journey::<V6>(skb),
        _ => verdict::pass(skb, Hook::UplinkIn),
    }
}

/// Whether this is the tunnel's, which is the VXLAN device's affair and most of what comes: seen without the whole journey.
#[inline(always)]
fn tunnelled<F: Family>(skb: Skb) -> bool {
    let mut head = Head::<F::Header>::default();
    let Ok(state) = hook::state() else {
        return false;
    };
    if head.read(&skb).is_err() || head.ip.plain() != Some(protocol::UDP) {
        return false;
    }
    let Ok([ports]) = skb.words(Head::<F::Header>::LEN) else {
        return false;
    };
    let [_, _, a, b] = ports.to_ne_bytes();
    u16::from_ne_bytes([a, b]) == state.vxlan_port.0
        && origin::underlay::<F>(*head.ip.source(), *head.ip.destination()).is_ok()
}

#[inline(never)]
fn journey<F: Family>(skb: Skb) -> i32 {
    let Some(packet) = Packet::<F>::begin(Hook::UplinkIn) else {
        return verdict::not_ready(skb, Hook::UplinkIn, 0);
    };
    let end = stages(skb, packet);
    verdict::leave(skb, packet, end)
}

#[inline(always)]
fn stages<F: Family>(skb: Skb, packet: &mut Packet<F>) -> Stage<Sent> {
    let parsed = parse::headers(&skb, packet);
    origin::underlay::<F>(packet.source(), packet.destination())?;
    // What cannot be parsed is not a pod's: the node's stack is the judge of its own packets.
    let state = hook::state()?;
    if parsed.is_err() || packet.destination() != F::state(state).masquerade {
        return Ok(Sent::PASS);
    }
    if packet.is_icmp_error() {
        packet.to = OUTSIDE;
        error(skb, packet)?;
        if packet.to.node == Node::OUTSIDE {
            return Ok(Sent::PASS);
        }
        let receiver = conntrack::receiver(packet, &packet.to);
        return enter(skb, packet, receiver);
    }
    if fragment::follow(packet).is_err() {
        return Ok(Sent::PASS);
    }
    let Some(pod) = owner(packet)? else {
        return Ok(Sent::PASS);
    };
    packet.masquerade_port = packet.destination_port;
    nat::rewrite(skb, packet, &Translation { end: nat::End::Destination, address: pod.pod, port: pod.port })?;
    let found = conntrack::find(packet);
    packet.from = OUTSIDE;
    let receiver = conntrack::track::<F, UplinkIn>(packet, &found, None)?;
    enter(skb, packet, receiver)
}

/// A reply whose flow was forgotten while its port was not: it goes on where it was. A reply to a pod that is gone is not for its
/// successor, and nothing opens from outside.
struct UplinkIn;

impl<F: Family> Admit<F> for UplinkIn {
    const ANSWERS: bool = true;

    #[inline(always)]
    fn admit(_: &mut Packet<F>) -> Stage<()> {
        Ok(())
    }
}

/// The pod that a reply is for. `None`: the packet is the node's.
#[inline(always)]
fn owner<F: Family>(packet: &Packet<F>) -> Stage<Option<&'static Masquerade<F::Address>>> {
    let reply = packet.is_echo_reply();
    if !in_range(packet.destination_port)? || !(reply || matches!(packet.protocol, protocol::TCP | protocol::UDP)) {
        return Ok(None);
    }
    let remote_port = if reply { Be16(0) } else { packet.source_port };
    let key = MasqueradeKey {
        remote: packet.source(),
        local: packet.destination(),
        remote_port,
        local_port: packet.destination_port,
        protocol: packet.protocol,
        _pad: [0; 3],
    };
    let owner = look_up::<F>(&key);
    // The range is the pods': a packet to one of its ports that belongs to no flow must not make the node's stack reset one.
    // Echo identifiers are not reserved: the node's own pings use any.
    if owner.is_none() && !reply { Err(End::drop(Reason::NoFlow)) } else { Ok(owner) }
}

/// An ICMP error about a masqueraded flow: the pod must see its own packet quoted. [`Packet::to`] stays outside where the error
/// is about none, and so the node's own.
#[inline(never)]
fn error<F: Family>(skb: Skb, packet: &mut Packet<F>) -> Stage<()> {
    if related::quote(&skb, packet).is_err() || !in_range(packet.quote.source_port)? {
        return Ok(());
    }
    let quote = &packet.quote;
    let key = MasqueradeKey {
        remote: *quote.ip.destination(),
        local: *quote.ip.source(),
        remote_port: if quote.protocol == F::ICMP { Be16(0) } else { quote.destination_port },
        local_port: quote.source_port,
        protocol: quote.protocol,
        _pad: [0; 3],
    };
    let Some(pod) = look_up::<F>(&key) else {
        return Ok(());
    };
    nat::rewrite_quote(skb, packet, &Translation { end: nat::End::Source, address: pod.pod, port: pod.port })?;
    let port = packet.destination_port;
    nat::rewrite(skb, packet, &Translation { end: nat::End::Destination, address: pod.pod, port })?;
    packet.to = origin::locate::<F>(packet.head.ip.destination())?;
    Ok(())
}

#[inline(always)]
fn enter<F: Family>(skb: Skb, packet: &mut Packet<F>, receiver: Option<&Endpoint>) -> Stage<Sent> {
    packet.peer = Identity::OUTSIDE;
    if packet.to.node != Node::SELF || packet.to.incarnation == 0 {
        return Err(End::drop(Reason::UnknownDestination));
    }
    route::hop(packet)?;
    packet.write_addresses(skb)?;
    skb.claim()?;
    route::to_pod(skb, packet, receiver)
}

#[inline(always)]
fn look_up<F: Family>(key: &MasqueradeKey<F::Address>) -> Option<&'static Masquerade<F::Address>> {
    // SAFETY: the entry is valid while the program runs; entries are never changed, only added and removed.
    unsafe { F::masquerade().get(key) }
}

#[inline(always)]
fn in_range(port: Be16) -> Stage<bool> {
    let state = hook::state()?;
    Ok((state.masquerade_first..=state.masquerade_last).contains(&port.native()))
}

const OUTSIDE: Side = Side { node: Node::OUTSIDE, incarnation: 0, identity: Identity::OUTSIDE };

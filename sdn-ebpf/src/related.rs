//! ICMP errors: they belong to the flow whose packet they quote, or to nobody.

use sdn_common::{Be16, FlowKey, Node, Reason};

use crate::{
    conntrack,
    family::{Family, IpHeader, protocol},
    frame::{Frame, Skb},
    hook,
    nat::{self, Translation},
    origin,
    packet::Packet,
    parse::icmp_type,
    policy,
    verdict::{End, Stage},
};

/// An ICMP error's header, before the quote (RFC 792, RFC 4443 §2.1).
const ERROR_HEADER: u32 = 8;

/// An error about a known flow goes to the end that sent what it quotes. [`Packet::from`] sent the error.
#[inline(never)]
pub fn track<F: Family>(skb: Skb, packet: &mut Packet<F>) -> Stage<()> {
    quote(&skb, packet)?;
    let quote = &packet.quote;
    let (key, way) = FlowKey::new(
        (*quote.ip.source(), quote.source_port),
        (*quote.ip.destination(), quote.destination_port),
        quote.protocol,
    );
    packet.key = key;
    let Some(flow) = conntrack::look_up(packet, way).flow else {
        return Err(End::drop(Reason::IcmpUnrelated));
    };
    // SAFETY: the entry is valid while the program runs.
    let flow = unsafe { &*flow };
    // A flow that a policy has cut since is cut for what speaks of it, too. One that is to be judged again is soon judged by its
    // own packets.
    let (back, there) = (conntrack::sent_by(flow, way), conntrack::sent_by(flow, way.reverse()));
    let first = conntrack::pod::<F>(&back, packet.quote.ip.source());
    let second = conntrack::pod::<F>(&there, packet.quote.ip.destination());
    let [egress, ingress] =
        if way == flow.opened() { policy::sets(first, second) } else { policy::sets(second, first) };
    if flow.sets[0] != egress || flow.sets[1] != ingress {
        return Err(End::drop(Reason::IcmpUnrelated));
    }
    // A pod complains about its own traffic only, wherever it is: it is no router.
    let router = packet.from.incarnation == 0;
    let about_itself = *packet.quote.ip.destination() == packet.source();
    if *packet.quote.ip.source() != packet.destination() || !(router || about_itself) {
        return Err(End::drop(Reason::IcmpUnrelated));
    }
    let fresh = flow.epoch == hook::state()?.epoch;
    packet.to = if fresh { conntrack::sent_by(flow, way) } else { origin::locate::<F>(packet.head.ip.destination())? };
    packet.masquerade_port = flow.masquerade_port;
    if packet.to.node == Node::OUTSIDE && packet.masquerade_port.0 != 0 {
        let address = F::state(hook::state()?).masquerade;
        let outside = Translation { end: nat::End::Destination, address, port: packet.masquerade_port };
        nat::rewrite_quote(skb, packet, &outside)?;
    }
    Ok(())
}

/// Reads the quoted packet as far as its ports, into [`Packet::quote`].
#[inline(always)]
pub fn quote<F: Family, T: Frame>(frame: &T, packet: &mut Packet<F>) -> Stage<()> {
    let quote = &mut packet.quote;
    quote.error = packet.transport;
    quote.at = packet.transport + ERROR_HEADER;
    frame.load(quote.at, &mut quote.ip).map_err(|_| End::drop(Reason::IcmpUnrelated))?;
    let (number, len) = quote.ip.quoted();
    quote.protocol = number;
    quote.transport = quote.at + len;
    (quote.source_port, quote.destination_port) = (Be16(0), Be16(0));
    let words = frame.words::<2>(quote.transport).map_err(|_| End::drop(Reason::IcmpUnrelated))?;
    let ([a, b, c, d], [e, f, _, _]) = (words[0].to_ne_bytes(), words[1].to_ne_bytes());
    if matches!(number, protocol::TCP | protocol::UDP | protocol::SCTP) {
        quote.source_port = Be16(u16::from_ne_bytes([a, b]));
        quote.destination_port = Be16(u16::from_ne_bytes([c, d]));
    } else if number == F::ICMP && is_echo::<F>(a) {
        quote.source_port = Be16(u16::from_ne_bytes([e, f]));
        quote.destination_port = quote.source_port;
    }
    Ok(())
}

#[inline(always)]
fn is_echo<F: Family>(kind: u8) -> bool {
    if F::IS_V6 {
        matches!(kind, icmp_type::ECHO_V6 | icmp_type::ECHO_REPLY_V6)
    } else {
        matches!(kind, icmp_type::ECHO_V4 | icmp_type::ECHO_REPLY_V4)
    }
}

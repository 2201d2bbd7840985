//! NetworkPolicy: may this flow be? Asked when it opens, and once more when the answer may have changed (decision 7 of the
//! design). What the sets say was resolved by the compiler: here entries are looked up, the first hit decides.

use sdn_common::{
    Author, Be16, Direction, Endpoint, Identity, Node, Reason, Rule, RuleKey, SetId, SetRef, Side, event::Scratch,
};

use crate::{
    conntrack,
    family::{Family, IpHeader, V4, V6, protocol},
    hook, maps,
    packet::{Packet, tcp},
    resolver,
    verdict::{End, Stage},
};

/// The sets that filter a flow now: egress of the end that opened it, ingress of the end that answers, each where that end is a
/// pod of this node.
#[inline(always)]
pub fn sets(opener: Option<&Endpoint>, answerer: Option<&Endpoint>) -> [SetId; 2] {
    let (mut egress, mut ingress) = (SetId::NONE, SetId::NONE);
    if let Some(endpoint) = opener {
        egress = endpoint.egress.id;
    }
    if let Some(endpoint) = answerer {
        ingress = endpoint.ingress.id;
    }
    [egress, ingress]
}

/// Judges the flow of the packet at hand in its first direction, against which the packet goes where [`Packet::backwards`] says
/// so. Leaves sets and authors in the packet.
///
/// A TCP packet in the middle of a flow that is not known may belong to a connection that was opened from either end: what
/// either direction allows is let through, and [`Packet::backwards`] says which it was.
#[inline(always)]
pub fn judge<F: Family>(packet: &mut Packet<F>) -> Stage<()> {
    const { assert!(size_of::<Packet<F>>() <= size_of::<Scratch>()) };
    End::from_word(F::judge(core::ptr::from_mut(packet).cast()))
}

/// [`judge`] for IPv4, a function that the verifier looks at once, on its own; see [`policy_look_up`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn policy_judge_v4(packet: *mut Scratch) -> u32 {
    apart::<V4>(packet)
}

/// [`judge`] for IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn policy_judge_v6(packet: *mut Scratch) -> u32 {
    apart::<V6>(packet)
}

#[inline(always)]
fn apart<F: Family>(packet: *mut Scratch) -> u32 {
    // For the verifier, which knows of such a function's argument only that it is that large, or null.
    if packet.is_null() {
        return End::word(Err(End::drop(Reason::HelperFailed)));
    }
    // SAFETY: `judge` hands over a packet that is its caller's alone.
    End::word(either(unsafe { &mut *packet.cast::<Packet<F>>() }))
}

#[inline(always)]
fn either<F: Family>(packet: &mut Packet<F>) -> Stage<()> {
    let endpoint = packet.endpoint;
    let verdict = flow(packet);
    if verdict.is_ok() || !packet.midstream {
        return verdict;
    }
    packet.backwards = !packet.backwards;
    let other = flow(packet).map_err(|_| End::drop(Reason::NoFlow));
    packet.author = Author::NONE;
    packet.endpoint = endpoint;
    other
}

/// Both ends of the flow in its first direction.
#[inline(never)]
fn flow<F: Family>(packet: &mut Packet<F>) -> Stage<()> {
    packet.sets = [SetId::NONE; 2];
    packet.authors = [Author::NONE; 2];
    let (ip, backwards) = (&packet.head.ip, packet.backwards);
    // Nobody is kept from himself.
    if ip.source() == ip.destination() {
        return Ok(());
    }
    let (opener, answerer) = if backwards { (packet.to, packet.from) } else { (packet.from, packet.to) };
    let (from, to) = if backwards { (ip.destination(), ip.source()) } else { (ip.source(), ip.destination()) };
    let port = if backwards { packet.source_port } else { packet.destination_port };
    let (opener_pod, answerer_pod) = (conntrack::pod::<F>(&opener, from), conntrack::pod::<F>(&answerer, to));
    let exempt = is_question::<F>(*to, port)?;
    let asked = Asked { protocol: packet.protocol, port: if packet.protocol == F::ICMP { 0 } else { port.native() } };
    packet.sets = sets(opener_pod, answerer_pod);
    if let Some(pod) = opener_pod
        && !exempt
    {
        packet.authors[0] = direction(packet, pod, answerer.identity, asked, Direction::Egress)?;
    }
    if let Some(pod) = answerer_pod
        && !local(&opener, packet.relayed)
    {
        packet.authors[1] = direction(packet, pod, opener.identity, asked, Direction::Ingress)?;
    }
    Ok(())
}

/// What a flow is about: the transport protocol and the port that it was opened to, in host order.
#[derive(Clone, Copy)]
struct Asked {
    protocol: u8,
    port: u16,
}

/// A local socket of this node, which its own pods always let in (kubelet's probes). What the node forwards for others is not.
#[inline(always)]
fn local(opener: &Side, relayed: bool) -> bool {
    opener.node == Node::SELF && opener.identity == Identity::HOST && !relayed
}

/// Cluster DNS, which every pod reaches, whatever isolates it.
#[inline(always)]
fn is_question<F: Family>(to: F::Address, port: Be16) -> Stage<bool> {
    Ok(port == DNS && resolver::is_resolver::<F>(hook::state()?, to))
}

const DNS: Be16 = Be16::new(53);

/// What one of a pod's sets says. A refusal is reported as that pod's, with its author and the other end.
#[inline(always)]
fn direction<F: Family>(
    packet: &mut Packet<F>,
    pod: &Endpoint,
    peer: Identity,
    asked: Asked,
    direction: Direction,
) -> Stage<Author> {
    let set = match direction {
        Direction::Egress => &pod.egress,
        Direction::Ingress => &pod.ingress,
    };
    if set.id == SetId::NONE {
        return Ok(Author::NONE);
    }
    let what = u32::from(asked.protocol) << 16 | u32::from(asked.port);
    let rule = policy_look_up(set.id.0, peer.0, what, set.shapes);
    if rule >> 32 == ALLOWS {
        return Ok(Author(rule as u32));
    }
    (packet.endpoint, packet.peer) = (pod.ifindex, peer);
    packet.author = if rule == NOTHING { set.default_author } else { Author(rule as u32) };
    Err(refusal(direction))
}

#[inline(always)]
fn refusal(direction: Direction) -> End {
    End::drop(match direction {
        Direction::Egress => Reason::PolicyEgress,
        Direction::Ingress => Reason::PolicyIngress,
    })
}

/// Of [`policy_look_up`]: no entry.
const NOTHING: u64 = 0;
/// In the upper half of what [`policy_look_up`] finds, above the author.
const DENIES: u64 = 1;
const ALLOWS: u64 = 2;

/// The entry that decides: under the peer, then under any; from the longest prefix to any protocol. `what` is the protocol and,
/// in the lower half, the port.
///
/// Not mangled, so that it stays a function that others could link to: the verifier looks at such a one once, on its own, and
/// not in every state that every caller comes with. Eight copies of the loop were 370,000 instructions.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn policy_look_up(set: u32, peer: u32, what: u32, shapes: u64) -> u64 {
    let (protocol, port) = ((what >> 16) as u8, what as u16);
    for step in 0..2 * RuleKey::SHAPES {
        let (under, step, base) = if step < RuleKey::SHAPES {
            (Identity(peer), step, SetRef::UNDER_IDENTITY)
        } else {
            (Identity::ANY, step - RuleKey::SHAPES, SetRef::UNDER_ANY)
        };
        // 16, 15, … 0, then any protocol.
        let shape = if step == RuleKey::SHAPES - 1 { RuleKey::ANY_PROTOCOL_SHAPE } else { 16 - step };
        if shapes >> (base + shape) & 1 == 0 {
            continue;
        }
        let key = RuleKey::at(SetId(set), under, protocol, port, shape);
        // SAFETY: entries are valid while the program runs, and never changed: a set is written before anything refers to it.
        if let Some(rule) = unsafe { maps::POLICY_RULES.get(&key) } {
            let verdict = if rule.verdict == Rule::ALLOW { ALLOWS } else { DENIES };
            return verdict << 32 | u64::from(rule.author.0);
        }
    }
    NOTHING
}

/// Whether a packet that belongs to no known flow may be in the middle of a TCP connection.
#[inline(always)]
pub fn midstream<F: Family>(packet: &Packet<F>) -> bool {
    packet.protocol == protocol::TCP && packet.tcp_flags & (tcp::SYN | tcp::ACK) != tcp::SYN
}

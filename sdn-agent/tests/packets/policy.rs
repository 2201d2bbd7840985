//! NetworkPolicy: what compiled sets say of flows that open, and of those that are there when something changes.

use sdn_common::Reason::*;
use sdn_common::{Author, Direction, Identity, Rule, RuleKey, SetId, SetRef};

use crate::harness::*;

/// What everybody at the outside's address is known by, and everybody near it.
const BLOCK: Identity = Identity(901);
const WIDER: Identity = Identity(900);

const ALLOW: u32 = Rule::ALLOW;
const DENY: u32 = Rule::DENY;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Whatever protocol.
const EVERY: (u8, u16, u8) = (0, 0, RuleKey::ANY_PROTOCOL);

/// The author of what the set with this number refuses without a rule.
fn isolation(set: u32) -> Author {
    Author(1000 + set)
}

/// (peer, (protocol, port, prefix), verdict); its author is 10 × set + position.
type Entry = (Identity, (u8, u16, u8), u32);

impl Bench {
    /// Writes a set and answers with what an endpoint holds of it.
    fn set(&mut self, number: u32, entries: &[Entry]) -> SetRef {
        let mut shapes = 0;
        for (position, (peer, (protocol, port, prefix), verdict)) in (0..).zip(entries) {
            let key = RuleKey { set: SetId(number), peer: *peer, port: *port, protocol: *protocol, prefix: *prefix };
            self.put_rule(&key, &Rule { author: Author(10 * number + position), verdict: *verdict });
            let base = if *peer == Identity::ANY { SetRef::UNDER_ANY } else { SetRef::UNDER_IDENTITY };
            shapes |= 1 << (base + key.shape());
        }
        SetRef { id: SetId(number), default_author: isolation(number), shapes }
    }
}

/// The pod is let in by this set only.
fn ingress(pod: Actor, number: u32, entries: &'static [Entry]) -> impl Fn(&mut Bench) + Send {
    move |bench| {
        let set = bench.set(number, entries);
        bench.set_filters(pod, SetRef::default(), set);
    }
}

/// The pod is let out by this set only.
fn egress(pod: Actor, number: u32, entries: &'static [Entry]) -> impl Fn(&mut Bench) + Send {
    move |bench| {
        let set = bench.set(number, entries);
        bench.set_filters(pod, set, SetRef::default());
    }
}

/// Whom the last drop is counted under: the pod whose policy refused, the rule, the other end.
fn by(
    pod: Actor,
    direction: Direction,
    author: Author,
    peer: Identity,
) -> impl Fn(&mut Bench) -> Result<(), String> + Send {
    move |bench| {
        let found: Vec<_> =
            bench.drops().into_keys().map(|key| (key.endpoint, key.direction, key.author, key.peer)).collect();
        let expected = (pod.ifindex, direction as u8, author, peer);
        if found == [expected] { Ok(()) } else { Err(format!("{found:?} instead of {expected:?}")) }
    }
}

/// The rules that admitted a packet's flow, and the sets they are of: egress, ingress.
fn admitted(packet: Packet, sets: [u32; 2], authors: [u32; 2]) -> impl Fn(&mut Bench) -> Result<(), String> + Send {
    move |bench| {
        let (_, flow, _) = bench.flow(&packet).ok_or("no flow")?;
        let found = (flow.sets.map(|set| set.0), flow.authors.map(|author| author.0));
        if found == (sets, authors) { Ok(()) } else { Err(format!("{found:?} instead of {:?}", (sets, authors))) }
    }
}

/// A set is asked under the peer's identity, then under any; under each from the longest prefix to whatever protocol.
#[test]
fn the_first_entry_decides() {
    run(entries);
}

pub fn entries(_: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, b, far, other, unheard, .. } = cast;
    const FAR: Identity = Identity(302);
    let to = |port: u16| tcp(far, a, SYN).ports(CLIENT, port);
    vec![
        Row::of("no policy").tunnel(far, to(80)).reaches(a).check(admitted(to(80), [0, 0], [0, 0])),
        Row::of("isolated, no rule")
            .given(ingress(a, 1, &[]))
            .tunnel(far, to(80))
            .drops(PolicyIngress)
            .check(by(a, Direction::Ingress, isolation(1), FAR))
            .flow(&to(80), "none"),
        Row::of("the peer, protocol and port")
            .given(ingress(a, 1, &[(FAR, (TCP, 80, 16), ALLOW)]))
            .tunnel(far, to(80))
            .reaches(a)
            .check(admitted(to(80), [0, 1], [0, 10]))
            .tunnel(far, to(81))
            .drops(PolicyIngress)
            .tunnel(far, udp(far, a).ports(CLIENT, 80))
            .drops(PolicyIngress)
            .tunnel(other, tcp(other, a, SYN).ports(CLIENT, 80))
            .drops(PolicyIngress)
            .check(by(a, Direction::Ingress, isolation(1), Identity(303))),
        Row::of("part of the ports: 8080 to 8095")
            .given(ingress(a, 1, &[(FAR, (TCP, 8080, 12), ALLOW)]))
            .tunnel(far, to(8080))
            .reaches(a)
            .tunnel(far, to(8095))
            .reaches(a)
            .tunnel(far, to(8096))
            .drops(PolicyIngress)
            .tunnel(far, to(8079))
            .drops(PolicyIngress),
        Row::of("all ports of a protocol")
            .given(ingress(a, 1, &[(FAR, (TCP, 0, 0), ALLOW)]))
            .tunnel(far, to(65535))
            .reaches(a)
            .tunnel(far, udp(far, a))
            .drops(PolicyIngress),
        Row::of("whatever protocol")
            .given(ingress(a, 1, &[(FAR, EVERY, ALLOW)]))
            .tunnel(far, udp(far, a))
            .reaches(a)
            .tunnel(far, raw(far, a, 47))
            .reaches(a)
            .tunnel(other, udp(other, a))
            .drops(PolicyIngress),
        Row::of("any peer")
            .given(ingress(a, 1, &[(Identity::ANY, (UDP, SERVER, 16), ALLOW)]))
            .tunnel(far, udp(far, a))
            .reaches(a)
            .tunnel(other, udp(other, a))
            .reaches(a)
            .pod(b, udp(b, a))
            .reaches(a)
            .tunnel(unheard, udp(unheard, a))
            .reaches(a)
            .tunnel(far, udp(far, a).ports(CLIENT, SERVER + 1))
            .drops(PolicyIngress),
        Row::of("any peer, whatever protocol")
            .given(ingress(a, 1, &[(Identity::ANY, EVERY, ALLOW)]))
            .tunnel(far, raw(far, a, 47))
            .reaches(a),
        Row::of("somebody of whom only the node is known")
            .given(ingress(a, 1, &[(FAR, EVERY, ALLOW)]))
            .tunnel(unheard, udp(unheard, a))
            .drops(PolicyIngress)
            .check(by(a, Direction::Ingress, isolation(1), Identity::UNKNOWN)),
        Row::of("the longer prefix first")
            .given(ingress(a, 1, &[(FAR, (TCP, 80, 16), DENY), (FAR, (TCP, 64, 10), ALLOW), (FAR, EVERY, DENY)]))
            .tunnel(far, to(80))
            .drops(PolicyIngress)
            .check(by(a, Direction::Ingress, Author(10), FAR))
            .tunnel(far, to(81))
            .reaches(a)
            .check(admitted(to(81), [0, 1], [0, 11]))
            .tunnel(far, to(200))
            .drops(PolicyIngress)
            .check(by(a, Direction::Ingress, Author(12), FAR)),
        Row::of("the peer before any")
            .given(ingress(a, 1, &[(FAR, EVERY, DENY), (Identity::ANY, (TCP, 80, 16), ALLOW)]))
            .tunnel(far, to(80))
            .drops(PolicyIngress)
            .check(by(a, Direction::Ingress, Author(10), FAR))
            .tunnel(other, tcp(other, a, SYN).ports(CLIENT, 80))
            .reaches(a),
        Row::of("a ping has no port")
            .given(ingress(a, 1, &[(FAR, (TCP, 0, 0), ALLOW), (FAR, (UDP, 80, 16), ALLOW)]))
            .tunnel(far, echo(far, a))
            .drops(PolicyIngress)
            .given(ingress(a, 2, &[(FAR, EVERY, ALLOW)]))
            .tunnel(far, echo(far, a))
            .reaches(a),
    ]
}

/// Whom a policy does not keep, and whom it does.
#[test]
fn some_are_never_kept() {
    run(exempt);
}

pub fn exempt(_: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, b, far, node, outside, .. } = cast;
    let dns = |packet: Packet| packet.ports(CLIENT, 53);
    vec![
        Row::of("the node's own sockets are let in, and answered")
            .given(ingress(a, 1, &[]))
            .host(tcp(node, a, SYN))
            .reaches(a)
            .pod(a, tcp_back(a, node, SYN | ACK))
            .reaches_host(),
        Row::of("what the node forwards is judged")
            .given(ingress(a, 1, &[]))
            .forwarded(tcp(node, a, SYN))
            .drops(PolicyIngress)
            .forwarded(tcp(outside, a, SYN))
            .drops(PolicyIngress)
            .check(by(a, Direction::Ingress, isolation(1), Identity::OUTSIDE)),
        Row::of("and its answers with it")
            .given(ingress(a, 1, &[(Identity::ANY, EVERY, ALLOW)]))
            .forwarded(tcp(node, a, SYN))
            .reaches(a)
            .given(ingress(a, 2, &[]))
            .pod(a, tcp_back(a, node, SYN | ACK))
            .drops(PolicyIngress),
        Row::of("a pod reaches itself")
            .given(move |bench: &mut Bench| {
                let (out, into) = (bench.set(1, &[]), bench.set(2, &[]));
                bench.set_filters(a, out, into);
            })
            .pod(a, udp(a, a))
            .reaches(a),
        Row::of("answers to what it asked come in")
            .given(ingress(a, 1, &[]))
            .pod(a, udp(a, far))
            .tunnels(a, far)
            .tunnel(far, udp_back(far, a))
            .reaches(a),
        Row::of("and to what was asked of it go out")
            .given(egress(a, 1, &[]))
            .pod(b, udp(b, a))
            .reaches(a)
            .pod(a, udp_back(a, b))
            .reaches(b),
        Row::of("cluster DNS is asked whatever isolates, other ports there are not")
            .given(egress(a, 1, &[]))
            .given(move |bench: &mut Bench| bench.set_resolver(node.address))
            .pod(a, dns(udp(a, node)))
            .reaches_host()
            .pod(a, dns(tcp(a, node, SYN)))
            .reaches_host()
            .pod(a, udp(a, node).ports(CLIENT, 54))
            .drops(PolicyEgress),
        Row::of("without cluster DNS nothing is asked there")
            .given(egress(a, 1, &[]))
            .pod(a, dns(udp(a, node)))
            .drops(PolicyEgress),
    ]
}

/// Egress is judged by whom the destination is known as: pods by identity, the outside by the blocks that contain it.
#[test]
fn what_a_pod_may_send() {
    run(sending);
}

pub fn sending(family: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, b, far, outside, elsewhere, two, node_uplink, .. } = cast;
    let out = |packet: &Packet| packet.clone().translate_source(node_uplink, PORT);
    let blocks = move |bench: &mut Bench| {
        bench.set_cidr(outside.address, family.pick(16, 47), WIDER);
        bench.set_cidr(outside.address, family.pick(24, 48), BLOCK);
    };
    let opening = tcp(a, outside, SYN);
    vec![
        Row::of("nowhere")
            .given(egress(a, 1, &[]))
            .pod(a, udp(a, b))
            .drops(PolicyEgress)
            .check(by(a, Direction::Egress, isolation(1), Identity::POD))
            .pod(a, udp(a, far))
            .drops(PolicyEgress)
            .check(by(a, Direction::Egress, isolation(1), Identity(302)))
            .pod(a, udp(a, two))
            .drops(PolicyEgress)
            .pod(a, udp(a, outside))
            .drops(PolicyEgress),
        Row::of("to a pod elsewhere")
            .given(egress(a, 1, &[(Identity(302), (UDP, SERVER, 16), ALLOW)]))
            .pod(a, udp(a, far))
            .tunnels(a, far)
            .check(admitted(udp(a, far), [1, 0], [10, 0])),
        Row::of("both ends have their say")
            .given(egress(a, 1, &[(Identity::POD, EVERY, ALLOW)]))
            .given(ingress(b, 2, &[(Identity::POD, (UDP, SERVER, 16), ALLOW)]))
            .pod(a, udp(a, b))
            .reaches(b)
            .check(admitted(udp(a, b), [1, 2], [10, 20]))
            .pod(a, tcp(a, b, SYN))
            .drops(PolicyIngress),
        Row::of("outside: the narrowest block in use")
            .given(blocks)
            .given(egress(a, 1, &[(BLOCK, (TCP, SERVER, 16), ALLOW), (WIDER, (UDP, SERVER, 16), ALLOW)]))
            .pod(a, opening.clone())
            .leaves_as(&out(&opening))
            .pod(a, udp(a, outside))
            .drops(PolicyEgress)
            .pod(a, udp(a, elsewhere))
            .drops(PolicyEgress),
        Row::of("outside, in no block")
            .given(blocks)
            .given(egress(a, 1, &[(Identity::OUTSIDE, EVERY, ALLOW)]))
            .pod(a, udp(a, elsewhere))
            .leaves_as(&out(&udp(a, elsewhere)))
            .pod(a, udp(a, outside))
            .drops(PolicyEgress),
        Row::of("an answer from outside whose flow is forgotten is judged as what the pod opened")
            .given(blocks)
            .given(egress(a, 1, &[(BLOCK, EVERY, ALLOW)]))
            .pod(a, opening.clone())
            .leaves_as(&out(&opening))
            .given(|bench| bench.forget_flows())
            .uplink(tcp(outside, node_uplink, SYN | ACK).ports(SERVER, PORT))
            .reaches_as(a, tcp_back(outside, a, SYN | ACK))
            .given(|bench| bench.forget_flows())
            .given(egress(a, 2, &[]))
            .uplink(tcp(outside, node_uplink, SYN | ACK).ports(SERVER, PORT))
            .drops(PolicyEgress),
    ]
}

/// Flows that are there are judged once more when the sets of their pods or the identity of a peer change; a flow that is cut is
/// cut both ways, and one that no edit concerns loses nothing.
#[test]
fn edits_reach_flows() {
    run(edits);
}

pub fn edits(_: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, b, far, .. } = cast;
    const FAR: Identity = Identity(302);
    const OPEN: &[Entry] = &[(Identity::ANY, EVERY, ALLOW)];
    let moved = |bench: &mut Bench| bench.change_state(|state| state.epoch += 1);
    let relabelled = Actor { identity: Identity(700), ..far };
    let streams = || {
        Row::of("a stream")
            .given(ingress(a, 1, OPEN))
            .tunnel(far, tcp(far, a, SYN))
            .reaches(a)
            .pod(a, tcp_back(a, far, SYN | ACK))
            .tunnels(a, far)
    };
    vec![
        streams()
            .given(ingress(a, 2, &[]))
            .tunnel(far, tcp(far, a, ACK))
            .drops(PolicyIngress)
            .check(by(a, Direction::Ingress, isolation(2), FAR))
            .pod(a, tcp_back(a, far, ACK))
            .drops(PolicyIngress)
            .given(ingress(a, 3, &[(FAR, (TCP, SERVER, 16), ALLOW)]))
            .pod(a, tcp_back(a, far, ACK))
            .tunnels(a, far)
            .tunnel(far, tcp(far, a, ACK))
            .reaches(a)
            .check(admitted(tcp(far, a, ACK), [0, 3], [0, 30])),
        // The answer first: still judged in the first direction.
        streams().given(ingress(a, 2, &[])).pod(a, tcp_back(a, far, ACK)).drops(PolicyIngress),
        // A pod that was not isolated.
        Row::of("a policy comes")
            .pod(b, udp(b, a))
            .reaches(a)
            .given(ingress(a, 1, &[]))
            .pod(b, udp(b, a))
            .drops(PolicyIngress)
            .check(by(a, Direction::Ingress, isolation(1), Identity::POD))
            .pod(a, udp_back(a, b))
            .drops(PolicyIngress)
            .check(by(a, Direction::Ingress, isolation(1), Identity::POD)),
        Row::of("a policy goes")
            .given(ingress(a, 1, &[]))
            .pod(b, udp(b, a))
            .drops(PolicyIngress)
            .given(move |bench: &mut Bench| bench.set_filters(a, SetRef::default(), SetRef::default()))
            .pod(b, udp(b, a))
            .reaches(a),
        Row::of("egress of the one that opened it, by its answer")
            .given(egress(a, 1, OPEN))
            .pod(a, udp(a, far))
            .tunnels(a, far)
            .given(egress(a, 2, &[]))
            .tunnel(far, udp_back(far, a))
            .drops(PolicyEgress)
            .pod(a, udp(a, far))
            .drops(PolicyEgress),
        Row::of("egress of the one that answers does not concern it")
            .pod(b, udp(b, a))
            .reaches(a)
            .given(egress(a, 1, &[]))
            .pod(a, udp_back(a, b))
            .reaches(b),
        Row::of("the peer is relabelled")
            .given(ingress(a, 1, &[(FAR, EVERY, ALLOW)]))
            .tunnel(far, udp(far, a))
            .reaches(a)
            .given(move |bench: &mut Bench| bench.set_peer(relabelled))
            .given(moved)
            .tunnel(far, udp(far, a))
            .drops(PolicyIngress)
            .check(by(a, Direction::Ingress, isolation(1), Identity(700)))
            .pod(a, udp_back(a, far))
            .drops(PolicyIngress),
        Row::of("an error about a flow that is cut")
            .given(ingress(a, 1, OPEN))
            .tunnel(far, udp(far, a))
            .reaches(a)
            .given(ingress(a, 2, &[]))
            .pod(a, error(a, far, Error::Port, &udp(far, a)))
            .drops(IcmpUnrelated),
    ]
}

/// TCP whose beginning was not seen: it may have been opened from either end.
#[test]
fn in_the_middle_of_a_stream_either_direction_counts() {
    run(midstream);
}

pub fn midstream(_: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, b, .. } = cast;
    let ack = tcp(b, a, ACK);
    vec![
        Row::of("what its own direction allows")
            .given(ingress(a, 1, &[(Identity::ANY, (TCP, SERVER, 16), ALLOW)]))
            .pod(b, ack.clone())
            .reaches(a)
            .flow(&ack, "unanswered, midstream"),
        Row::of("what only the other direction allows")
            .given(ingress(a, 1, &[]))
            .pod(b, ack.clone())
            .reaches(a)
            .flow(&ack, "unanswered, opened by the other, replied, midstream"),
        Row::of("what neither allows")
            .given(move |bench: &mut Bench| {
                let (out, into) = (bench.set(1, &[]), bench.set(2, &[]));
                bench.set_filters(a, out, into);
            })
            .pod(b, ack.clone())
            .drops(NoFlow),
        Row::of("an opening has one direction").given(ingress(a, 1, &[])).pod(b, tcp(b, a, SYN)).drops(PolicyIngress),
        Row::of("a datagram too").given(ingress(a, 1, &[])).pod(b, udp(b, a)).drops(PolicyIngress),
    ]
}

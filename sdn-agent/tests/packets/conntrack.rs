//! Flows: how they open, what answers them, how they end, and what becomes of them when the world changes.

use sdn_common::Reason::*;
use sdn_common::{Flow, Identity};

use crate::harness::world::EPOCH;
use crate::harness::*;

fn moved(bench: &mut Bench) {
    bench.change_state(|state| state.epoch += 1);
}

/// New flows wait in a table of their own until the other end answers.
#[test]
fn an_answer_moves_a_flow_to_the_answered_ones() {
    run(answers);
}

pub fn answers(family: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, b, far, node, two, .. } = cast;
    let counts = |unanswered: usize, answered: usize| {
        move |bench: &mut Bench| match (bench.flows(family, Table::Unanswered), bench.flows(family, Table::Answered)) {
            found if found == (unanswered, answered) => Ok(()),
            found => Err(format!("{found:?} flows instead of {:?}", (unanswered, answered))),
        }
    };
    let mut rows = vec![
        Row::of("asked again and again, it stays unanswered")
            .pod(a, udp(a, b))
            .reaches(b)
            .pod(a, udp(a, b))
            .reaches(b)
            .flow(&udp(a, b), "unanswered")
            .check(counts(1, 0))
            .pod(b, udp_back(b, a))
            .reaches(a)
            .flow(&udp(a, b), "answered")
            .flow(&udp_back(b, a), "answered, opened by the other")
            .check(counts(0, 1)),
        Row::of("the greater end opens it")
            .pod(b, udp(b, a))
            .reaches(a)
            .flow(&udp(b, a), "unanswered")
            .flow(&udp_back(a, b), "unanswered, opened by the other")
            .pod(a, udp_back(a, b))
            .reaches(b)
            .flow(&udp(b, a), "answered"),
        Row::of("into the tunnel and back")
            .pod(a, udp(a, far))
            .tunnels(a, far)
            .tunnel(far, udp_back(far, a))
            .reaches(a)
            .flow(&udp(a, far), "answered"),
        Row::of("out of the tunnel and back")
            .tunnel(far, udp(far, a))
            .reaches(a)
            .pod(a, udp_back(a, far))
            .tunnels(a, far)
            .flow(&udp(far, a), "answered"),
        Row::of("to the node and back")
            .pod(a, udp(a, node))
            .reaches_host()
            .host(udp_back(node, a))
            .reaches(a)
            .flow(&udp(a, node), "answered"),
        Row::of("from the node and back")
            .host(udp(node, a))
            .reaches(a)
            .pod(a, udp_back(a, node))
            .reaches_host()
            .flow(&udp(node, a), "answered"),
        Row::of("from the node to another one and back")
            .host(udp(node, two))
            .tunnels(node, two)
            .tunnel(two, udp_back(two, node))
            .reaches_host()
            .flow(&udp(node, two), "answered"),
        Row::of("other ports are another flow")
            .pod(a, udp(a, b))
            .reaches(b)
            .pod(b, udp_back(b, a).ports(SERVER, CLIENT + 1))
            .reaches(a)
            .check(counts(2, 0)),
        Row::of("another protocol is another flow")
            .pod(a, udp(a, b))
            .reaches(b)
            .pod(b, tcp_back(b, a, ACK))
            .reaches(a)
            .check(counts(2, 0)),
        Row::of("protocols without ports: a flow between two addresses")
            .pod(a, raw(a, b, GRE))
            .reaches(b)
            .pod(b, raw(b, a, GRE))
            .reaches(a)
            .flow(&raw(a, b, GRE), "answered"),
        Row::of("an echo and its answer")
            .pod(a, echo(a, b))
            .reaches(b)
            .pod(b, echo_reply(b, a))
            .reaches(a)
            .flow(&echo(a, b), "answered"),
        Row::of("an answer to another echo")
            .pod(a, echo(a, b))
            .reaches(b)
            .pod(b, echo_reply(b, a).ports(CLIENT + 1, 0))
            .drops(NoFlow),
        Row::of("time that passes is written down").pod(a, udp(a, b)).reaches(b).check(move |bench| {
            let seen = |bench: &Bench| bench.flow(&udp(a, b)).map(|(_, flow, _)| flow.last_seen);
            let before = seen(bench);
            std::thread::sleep(std::time::Duration::from_millis(30));
            bench.run(&At::pod(a.ifindex), &udp(a, b).bytes());
            if before.is_some() && seen(bench) > before { Ok(()) } else { Err("it stands still".to_owned()) }
        }),
    ];
    // An echo reply that nobody asked for, at each hook.
    rows.extend([
        Row::of("an answer that nobody asked for").pod(a, echo_reply(a, b)).drops(NoFlow),
        Row::of("an answer that nobody asked for, out of the tunnel").tunnel(far, echo_reply(far, a)).drops(NoFlow),
        Row::of("an answer that nobody asked for, from the node").host(echo_reply(node, a)).drops(NoFlow),
    ]);
    rows
}

/// TCP's states, as far as they decide how long a flow may be idle.
#[test]
fn tcp_flows_open_end_and_open_again() {
    run(tcp_states);
}

pub fn tcp_states(_: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, b, far, outside, node_uplink, .. } = cast;
    let there = |flags: u8| tcp(a, b, flags);
    let back = |flags: u8| tcp_back(b, a, flags);
    let open = |name: &'static str| {
        Row::of(name)
            .pod(a, there(SYN))
            .reaches(b)
            .pod(b, back(SYN | ACK))
            .reaches(a)
            .pod(a, there(ACK))
            .reaches(b)
            .flow(&there(ACK), "answered")
    };
    let out = |flags: u8| tcp(a, outside, flags).translate_source(node_uplink, PORT);
    vec![
        Row::of("an opening").pod(a, there(SYN)).reaches(b).flow(&there(SYN), "unanswered"),
        Row::of("an opening that is refused")
            .pod(a, there(SYN))
            .reaches(b)
            .pod(b, back(RST | ACK))
            .reaches(a)
            .flow(&there(SYN), "answered, reset"),
        open("one end has no more to say")
            .pod(a, there(FIN | ACK))
            .reaches(b)
            .flow(&there(ACK), "answered, fin sent")
            .flow(&back(ACK), "answered, opened by the other, fin received"),
        open("the other end has no more to say")
            .pod(b, back(FIN | ACK))
            .reaches(a)
            .flow(&there(ACK), "answered, fin received"),
        open("neither has")
            .pod(a, there(FIN | ACK))
            .reaches(b)
            .pod(b, back(FIN | ACK))
            .reaches(a)
            .pod(a, there(ACK))
            .reaches(b)
            .flow(&there(ACK), "answered, fin sent, fin received"),
        open("reset").pod(b, back(RST)).reaches(a).flow(&there(ACK), "answered, reset"),
        open("an opening again while it lives: a retransmission")
            .pod(a, there(SYN))
            .reaches(b)
            .flow(&there(ACK), "answered"),
        open("an opening after its end is another connection")
            .pod(a, there(FIN | ACK))
            .reaches(b)
            .pod(b, back(FIN | ACK))
            .reaches(a)
            .pod(a, there(SYN))
            .reaches(b)
            .flow(&there(SYN), "answered, not replied")
            .pod(b, back(SYN | ACK))
            .reaches(a)
            .flow(&there(SYN), "answered"),
        open("an opening after its end, by the other")
            .pod(a, there(RST))
            .reaches(b)
            .pod(b, back(SYN))
            .reaches(a)
            .flow(&back(SYN), "answered, not replied"),
        open("after one FIN it is not over: an opening changes nothing")
            .pod(a, there(FIN | ACK))
            .reaches(b)
            .pod(a, there(SYN))
            .reaches(b)
            .flow(&there(SYN), "answered, fin sent"),
        open("what follows the end belongs to it")
            .pod(a, there(RST))
            .reaches(b)
            .pod(b, back(ACK))
            .reaches(a)
            .flow(&there(ACK), "answered, reset"),
        Row::of("an opening to the outside after the end has the same port")
            .pod(a, tcp(a, outside, SYN))
            .leaves_as(&out(SYN))
            .uplink(tcp_back(outside, node_uplink, RST | ACK).ports(SERVER, PORT))
            .reaches_as(a, tcp_back(outside, a, RST | ACK))
            .flow(&tcp(a, outside, SYN), "answered, reset")
            .pod(a, tcp(a, outside, SYN))
            .leaves_as(&out(SYN))
            .flow(&tcp(a, outside, SYN), "answered, not replied"),
        Row::of("in mid-stream, in its own direction")
            .pod(a, there(ACK))
            .reaches(b)
            .flow(&there(ACK), "unanswered, midstream")
            .pod(b, back(ACK))
            .reaches(a)
            .flow(&there(ACK), "answered, midstream"),
        Row::of("in mid-stream, the other direction first")
            .tunnel(far, tcp_back(far, a, PSH | ACK))
            .reaches(a)
            .pod(a, tcp(a, far, ACK))
            .tunnels(a, far)
            .flow(&tcp(a, far, ACK), "answered, opened by the other, midstream"),
        Row::of("in mid-stream, an answer to an opening that is forgotten")
            .pod(b, back(SYN | ACK))
            .reaches(a)
            .flow(&there(ACK), "unanswered, opened by the other, midstream"),
        Row::of("in mid-stream, a reset: passed on, and over")
            .pod(a, there(RST))
            .reaches(b)
            .flow(&there(ACK), "unanswered, midstream, reset")
            .pod(a, there(SYN))
            .reaches(b)
            .flow(&there(ACK), "unanswered"),
        Row::of("in mid-stream, an end")
            .pod(a, there(FIN | ACK))
            .reaches(b)
            .pod(a, there(FIN | ACK))
            .reaches(b)
            .flow(&there(ACK), "unanswered, midstream, fin sent"),
    ]
}

/// When the epoch moves, both ends are looked up again: the same ends, the same flow; other ends, another flow.
#[test]
fn a_moved_epoch_makes_flows_look_again() {
    run(epochs);
}

pub fn epochs(_: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, b, far, outside, node_uplink, two, .. } = cast;
    let answered = |name: &'static str| {
        Row::of(name)
            .pod(a, udp(a, far))
            .tunnels(a, far)
            .tunnel(far, udp_back(far, a))
            .reaches(a)
            .flow(&udp(a, far), "answered")
    };
    let elsewhere = Actor { node: 3, ..far };
    let renamed = Actor { identity: Identity(777), ..far };
    let receiver = move |identity: Identity, epoch: u32| {
        move |bench: &mut Bench| {
            let packet = udp(a, far);
            match (bench.flow(&packet), bench.flow_sides(&packet)) {
                (Some((_, flow, _)), Some((_, to))) if flow.epoch == epoch && to.identity == identity => Ok(()),
                found => Err(format!("{found:?}")),
            }
        }
    };
    let local_successor = Actor { incarnation: 0xa000_1002, ..b };
    vec![
        answered("nothing has changed")
            .given(moved)
            .pod(a, udp(a, far))
            .tunnels(a, far)
            .flow(&udp(a, far), "answered")
            .check(receiver(far.identity, EPOCH + 1)),
        answered("nothing has changed, the answer looks")
            .given(moved)
            .tunnel(far, udp_back(far, a))
            .reaches(a)
            .flow(&udp(a, far), "answered")
            .check(receiver(far.identity, EPOCH + 1)),
        answered("another identity: the same flow")
            .given(move |bench| bench.set_peer(renamed))
            .pod(a, udp(a, far))
            .tunnels(a, far)
            .check(receiver(far.identity, EPOCH))
            .given(moved)
            .pod(a, udp(a, far))
            .tunnels(a, far)
            .check(receiver(renamed.identity, EPOCH + 1))
            .flow(&udp(a, far), "answered"),
        answered("it is on another node by now")
            .given(move |bench| bench.set_peer(elsewhere))
            .given(moved)
            .pod(a, udp(a, far))
            .tunnels(a, elsewhere)
            .flow(&udp(a, far), "answered, not replied")
            .tunnel(elsewhere, udp_back(far, a))
            .reaches(a)
            .flow(&udp(a, far), "answered"),
        answered("it is gone, and its host subnet with it")
            .given(move |bench| bench.remove_peer(far))
            .given(move |bench| bench.remove_subnet(far.address))
            .given(moved)
            .pod(a, udp(a, far))
            .answers(UnknownDestination, &answer_of(cast, Error::Host, &udp(a, far))),
        answered("it is gone: its node is asked, and the flow lives on")
            .given(move |bench| bench.remove_peer(far))
            .given(moved)
            .pod(a, udp(a, far))
            .tunnels(a, far)
            .flow(&udp(a, far), "answered"),
        Row::of("another pod has the neighbour's address: another flow")
            .pod(a, udp(a, b))
            .reaches(b)
            .pod(b, udp_back(b, a))
            .reaches(a)
            .flow(&udp(a, b), "answered")
            .given(move |bench| bench.set_endpoint(local_successor, 0))
            .given(moved)
            .pod(a, udp(a, b))
            .reaches(local_successor)
            .flow(&udp(a, b), "answered, not replied"),
        Row::of("another pod has the sender's address: another flow, without waiting for the epoch")
            .pod(a, udp(a, b))
            .reaches(b)
            .pod(b, udp_back(b, a))
            .reaches(a)
            .given(move |bench| bench.set_endpoint(local_successor, 0))
            .pod(local_successor, udp_back(b, a))
            .reaches(a)
            .flow(&udp_back(b, a), "answered, not replied"),
        Row::of("to the outside: the same flow, the same port")
            .pod(a, tcp(a, outside, SYN))
            .leaves_as(&tcp(a, outside, SYN).translate_source(node_uplink, PORT))
            .uplink(tcp_back(outside, node_uplink, SYN | ACK).ports(SERVER, PORT))
            .reaches_as(a, tcp_back(outside, a, SYN | ACK))
            .given(moved)
            .uplink(tcp_back(outside, node_uplink, ACK).ports(SERVER, PORT))
            .reaches_as(a, tcp_back(outside, a, ACK))
            .flow(&tcp(a, outside, ACK), "answered")
            .given(moved)
            .pod(a, tcp(a, outside, ACK))
            .leaves_as(&tcp(a, outside, ACK).translate_source(node_uplink, PORT))
            .flow(&tcp(a, outside, ACK), "answered"),
        Row::of("an outside address becomes a node's: no translation any more")
            .pod(a, udp(a, outside))
            .leaves_as(&udp(a, outside).translate_source(node_uplink, PORT))
            .given(move |bench| bench.set_peer(Actor { node: 2, ..two }.at(outside.address)))
            .given(moved)
            .pod(a, udp(a, outside))
            .tunnels(a, two),
    ]
}

fn answer_of(cast: Cast, about: Error, packet: &Packet) -> Packet {
    let family = if packet.is_v6() { Family::V6 } else { Family::V4 };
    answer(family, cast.node, cast.a, about, packet.clone())
}

/// An ICMP error belongs to the flow whose packet it quotes, and goes to who sent that; a pod complains about its own only.
#[test]
fn icmp_errors_belong_to_the_flow_that_they_quote() {
    run(related);
}

pub fn related(family: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, b, shaped, far, other, two, three, node, outside, .. } = cast;
    let mut rows = Vec::new();
    for packet in [udp(a, far), tcp(a, far, SYN), echo(a, far), sctp(a, far), raw(a, far, GRE)] {
        let sent = || Row::of("about a packet into the tunnel").pod(a, packet.clone()).tunnels(a, far);
        rows.extend([
            sent().tunnel(far, error(far, a, Error::Port, &packet.clone().hop())).reaches(a),
            sent().tunnel(two, error(two, a, Error::Host, &packet.clone().hop())).reaches(a),
            sent().host(error(node, a, Error::TooBig(1280), &packet)).reaches(a),
            sent().given(moved).host(error(node, a, Error::TooBig(1280), &packet)).reaches(a),
        ]);
        let unrelated = || Row::of("about a packet that nobody sent");
        rows.extend([
            unrelated().tunnel(far, error(far, a, Error::Port, &packet)).drops(IcmpUnrelated),
            unrelated().tunnel(two, error(two, a, Error::Port, &packet)).drops(IcmpUnrelated),
            unrelated().host(error(node, a, Error::Port, &packet)).drops(IcmpUnrelated),
            unrelated().pod(b, error(b, a, Error::Port, &packet)).drops(IcmpUnrelated),
        ]);
    }
    let known = |name: &'static str| Row::of(name).pod(a, udp(a, b)).reaches(b);
    let tunnelled = |name: &'static str| Row::of(name).pod(a, udp(a, far)).tunnels(a, far);
    let about = udp(a, b);
    let quote = about.bytes()[ETHERNET..].to_vec();
    let enough = family.pick(28, 48);
    let with_options = family.pick(udp(a, b).options(&[1; 12]), udp(a, b));
    let quote_with_options = with_options.bytes()[ETHERNET..ETHERNET + with_options.header_len() + 8].to_vec();
    rows.extend([
        known("to its neighbour").pod(b, error(b, a, Error::Port, &about.clone().hop())).reaches(a),
        known("the flow is no more answered than before")
            .pod(b, error(b, a, Error::Port, &about))
            .reaches(a)
            .flow(&about, "unanswered"),
        known("the eight bytes that must be quoted")
            .pod(b, error_quoting(b, a, Error::Port, quote[..enough].to_vec()))
            .reaches(a),
        known("a byte less")
            .pod(b, error_quoting(b, a, Error::Port, quote[..enough - 1].to_vec()))
            .drops(IcmpUnrelated),
        known("no quote at all").pod(b, error_quoting(b, a, Error::Port, Vec::new())).drops(IcmpUnrelated),
        Row::of("a quoted header with options")
            .pod(a, with_options)
            .reaches(b)
            .pod(b, error_quoting(b, a, Error::Port, quote_with_options))
            .reaches(a),
        known("about another port").pod(b, error(b, a, Error::Port, &about.clone().ports(1, 2))).drops(IcmpUnrelated),
        known("about another protocol").pod(b, error(b, a, Error::Port, &tcp(a, b, SYN))).drops(IcmpUnrelated),
        known("to one who did not send it").pod(b, error(b, shaped, Error::Port, &about)).drops(IcmpUnrelated),
        known("by a pod about its neighbours' flow")
            .pod(shaped, error(shaped, a, Error::Port, &about))
            .drops(IcmpUnrelated),
        known("by a pod in another's name").pod(shaped, error(b, a, Error::Port, &about)).drops(SpoofedAddress),
        known("by the sender itself, to the other end").pod(a, error(a, b, Error::Port, &about)).drops(IcmpUnrelated),
        known("by the sender itself, to itself").pod(a, error(a, a, Error::Port, &about)).drops(IcmpUnrelated),
        known("by another node's pod about its flow")
            .tunnel(far, error(far, a, Error::Port, &about))
            .drops(IcmpUnrelated),
        tunnelled("by another pod of that node")
            .tunnel(far, error(cast.unheard, a, Error::Port, &udp(a, far)))
            .drops(IcmpUnrelated),
        tunnelled("by another node's pod")
            .tunnel(other, error(other, a, Error::Port, &udp(a, far)))
            .drops(IcmpUnrelated),
        tunnelled("by another node: a router on the way")
            .tunnel(three, error(three, a, Error::Port, &udp(a, far)))
            .reaches(a),
        tunnelled("by a pod of this node").pod(b, error(b, a, Error::Port, &udp(a, far))).drops(IcmpUnrelated),
        Row::of("of a pod about an answer that it does not want")
            .tunnel(far, udp(far, a))
            .reaches(a)
            .pod(a, error(a, far, Error::Port, &udp(far, a)))
            .tunnels(a, far),
        Row::of("of a pod to the node")
            .host(udp(node, a))
            .reaches(a)
            .pod(a, error(a, node, Error::Port, &udp(node, a)))
            .reaches_host(),
        Row::of("of the outside, forwarded by the node: about nothing known")
            .forwarded(error(outside, a, Error::Port, &udp(a, outside)))
            .drops(IcmpUnrelated),
        known("about an error: nobody sends these")
            .pod(b, error(b, a, Error::Port, &error(a, b, Error::Port, &about)))
            .drops(IcmpUnrelated),
    ]);
    rows
}

/// The lifetimes that the sweep reads stand in [`Flow`]; what the programs write there is what it reads.
#[test]
fn states_are_those_that_the_sweep_reads() {
    use sdn_common::flow::Timeouts;
    sandbox::bench(|bench| {
        let times = Timeouts::DEFAULT;
        for family in Family::BOTH {
            bench.reset();
            let Cast { a, b, .. } = Cast::of(family);
            let lifetime = |bench: &Bench, packet: &Packet| {
                let (_, flow, _): (_, Flow, _) = bench.flow(packet).expect("the flow");
                times.of(packet.protocol(), flow.state)
            };
            let send = |bench: &mut Bench, from: Actor, packet: &Packet| {
                let outcome = bench.run(&At::pod(from.ifindex), &packet.bytes());
                assert_eq!(outcome.verdict.reason, 0, "{packet:?}");
                lifetime(bench, packet)
            };
            let steps = [
                (a, tcp(a, b, SYN), times.tcp_opening),
                (b, tcp_back(b, a, SYN | ACK), times.tcp_established),
                (a, tcp(a, b, FIN | ACK), times.tcp_half_closed),
                (b, tcp_back(b, a, FIN | ACK), times.tcp_closed),
                (a, tcp(a, b, SYN), times.tcp_opening),
                (b, tcp_back(b, a, RST | ACK), times.tcp_closed),
                (a, udp(a, b), times.udp_unanswered),
                (b, udp_back(b, a), times.udp),
                (a, echo(a, b), times.icmp),
                (b, echo_reply(b, a), times.icmp),
                (a, sctp(a, b), times.other),
            ];
            for (step, (from, packet, seconds)) in steps.iter().enumerate() {
                assert_eq!(send(bench, *from, packet), *seconds, "{family:?}, step {step}: {packet:?}");
            }
        }
    });
}

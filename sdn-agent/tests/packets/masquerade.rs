//! Pods reach the outside by a port of their node: addresses, ports and checksums both ways, whose port is whose, and what does
//! not get one.

use std::collections::BTreeSet;

use sdn_common::Reason::*;

use crate::harness::*;

/// Fixed by the world: one port, so that rows can name it.
fn out(packet: &Packet, cast: Cast) -> Packet {
    packet.clone().translate_source(cast.node_uplink, PORT)
}

/// TCP, UDP and echo go out and come back, with sound checksums.
#[test]
fn flows_to_the_outside_are_translated_both_ways() {
    run(both_ways);
}

pub fn both_ways(family: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, outside, node_uplink, node, .. } = cast;
    let there_and_back = |name: &'static str, packet: Packet, reply: Packet| {
        // What the outside sends, and what the pod sees of it.
        let arriving = reply.clone().translate_destination(node_uplink, PORT);
        Row::of(name).pod(a, packet.clone()).leaves_as(&out(&packet, cast)).uplink(arriving).reaches_as(a, reply)
    };
    let options = family.pick(vec![1, 1, 1, 0], Vec::new());
    let pieces = |packet: Packet| packet.filled_to(600).pieces(77, &[512]);
    let fragmented = |name: &'static str, packet: Packet, reply: Packet| {
        let sent = pieces(packet.clone());
        let translated = pieces(out(&packet.filled_to(600), cast));
        let seen = pieces(reply.clone().filled_to(600));
        let arriving = pieces(reply.filled_to(600).translate_destination(node_uplink, PORT));
        Row::of(name)
            .pod(a, sent[0].clone())
            .leaves_as(&translated[0])
            .pod(a, sent[1].clone())
            .leaves_as(&translated[1])
            .uplink(arriving[0].clone())
            .reaches_as(a, seen[0].clone())
            .uplink(arriving[1].clone())
            .reaches_as(a, seen[1].clone())
    };
    vec![
        there_and_back("UDP", udp(a, outside), udp_back(outside, a)),
        there_and_back("UDP of an odd length", udp(a, outside).data([1, 2, 3]), udp_back(outside, a).data([1])),
        there_and_back("UDP without data", udp(a, outside).data([]), udp_back(outside, a).data([])),
        there_and_back(
            "UDP without a checksum keeps having none",
            udp(a, outside).without_checksum(),
            udp_back(outside, a).without_checksum(),
        ),
        there_and_back("TCP", tcp(a, outside, SYN), tcp_back(outside, a, SYN | ACK)),
        there_and_back("TCP in mid-stream", tcp(a, outside, ACK), tcp_back(outside, a, ACK | PSH)),
        there_and_back("an echo", echo(a, outside), echo_reply(outside, a)),
        there_and_back(
            "a great packet",
            tcp(a, outside, ACK).filled_to(1450),
            tcp_back(outside, a, ACK).filled_to(1500),
        ),
        there_and_back("with options", udp(a, outside).options(&options), udp_back(outside, a).options(&options)),
        there_and_back("traffic class", udp(a, outside).tos(0x48), udp_back(outside, a).tos(0x44).ttl(7)),
        there_and_back("DNS", udp(a, outside).ports(5353, 53), udp(outside, a).ports(53, 5353)),
        there_and_back(
            "from a port that is in the range itself",
            udp(a, outside).ports(PORT, 80),
            udp(outside, a).ports(80, PORT),
        ),
        fragmented("UDP in pieces", udp(a, outside), udp_back(outside, a)),
        fragmented("TCP in pieces", tcp(a, outside, ACK), tcp_back(outside, a, ACK)),
        fragmented("an echo in pieces", echo(a, outside), echo_reply(outside, a)),
        Row::of("UDP whose checksum comes out as zero is sent as ones").pod(a, zero_sum(a, cast)).leaves_as(&{
            let sent = out(&zero_sum(a, cast), cast);
            assert_eq!(sent.transport()[6..8], [0xff, 0xff]);
            sent
        }),
        Row::of("a hundred packets of one flow have one port").check(move |bench| {
            let sent = out(&udp(a, outside), cast).hop().bytes();
            for _ in 0..100 {
                if bench.run(&At::pod(a.ifindex), &udp(a, outside).bytes()).bytes != sent {
                    return Err("another packet".to_owned());
                }
            }
            assert_eq!(bench.ports(family), [PORT]);
            Ok(())
        }),
        Row::of("the node's own packets are not translated").host(udp(node, outside)).drops(UnknownDestination),
    ]
}

/// A datagram that has the checksum zero after translation.
fn zero_sum(a: Actor, cast: Cast) -> Packet {
    let packet = udp(a, cast.outside).data([0, 0]);
    let sum = out(&packet, cast).transport()[6..8].to_vec();
    packet.data(sum)
}

/// What comes in by the uplink is a pod's only if a pod asked for it.
#[test]
fn only_answers_come_in() {
    run(answers);
}

pub fn answers(_: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, b, outside, elsewhere, node_uplink, two_uplink, .. } = cast;
    let sent = || Row::of("after a pod's datagram").pod(a, udp(a, outside)).leaves_as(&out(&udp(a, outside), cast));
    let back = |from: Actor, port: u16, to_port: u16| udp(from, node_uplink).ports(port, to_port);
    let pinged = || Row::of("after a pod's ping").pod(a, echo(a, outside)).leaves_as(&out(&echo(a, outside), cast));
    let reply = |from: Actor, id: u16| echo_reply(from, node_uplink).ports(id, id);
    let opening = tcp(a, outside, SYN);
    vec![
        Row::of("UDP to a port of the range that nobody has").uplink(back(outside, 80, PORT)).drops(NoFlow),
        Row::of("TCP to a port of the range that nobody has")
            .uplink(tcp(outside, node_uplink, SYN).ports(80, PORT))
            .drops(NoFlow),
        Row::of("TCP in mid-stream to it").uplink(tcp(outside, node_uplink, RST | ACK).ports(80, PORT)).drops(NoFlow),
        Row::of("a port below the range").uplink(back(outside, 80, PORT - 1)).passes(),
        Row::of("a port above the range").uplink(back(outside, 80, PORT + 1)).passes(),
        Row::of("to another address").uplink(udp(outside, two_uplink).ports(80, PORT)).passes(),
        Row::of("a protocol without ports").uplink(raw(outside, node_uplink, GRE)).passes(),
        Row::of("SCTP to a port of the range").uplink(sctp(outside, node_uplink).ports(80, PORT)).passes(),
        Row::of("a ping of the node").uplink(echo(outside, node_uplink)).passes(),
        Row::of("a ping of the node with a number of the range")
            .uplink(echo(outside, node_uplink).ports(PORT, PORT))
            .passes(),
        Row::of("an answer to the node's own ping").uplink(reply(outside, CLIENT)).passes(),
        Row::of("an answer to the node's own ping with a number of the range").uplink(reply(outside, PORT)).passes(),
        sent().uplink(back(outside, 80, PORT)).reaches_as(a, udp_back(outside, a)),
        sent().uplink(back(outside, 81, PORT)).drops(NoFlow),
        sent().uplink(back(elsewhere, 80, PORT)).drops(NoFlow),
        sent().uplink(tcp(outside, node_uplink, ACK).ports(80, PORT)).drops(NoFlow),
        sent().uplink(reply(outside, PORT)).passes(),
        pinged().uplink(reply(outside, PORT)).reaches_as(a, echo_reply(outside, a)),
        pinged().uplink(reply(elsewhere, PORT)).passes(),
        pinged().uplink(echo(outside, node_uplink).ports(PORT, PORT)).passes(),
        pinged().uplink(back(outside, 0, PORT)).drops(NoFlow),
        Row::of("two destinations may share a port")
            .pod(a, udp(a, outside))
            .leaves_as(&out(&udp(a, outside), cast))
            .pod(b, udp(b, elsewhere))
            .leaves_as(&out(&udp(b, elsewhere), cast))
            .uplink(back(elsewhere, 80, PORT))
            .reaches_as(b, udp_back(elsewhere, b))
            .uplink(back(outside, 80, PORT))
            .reaches_as(a, udp_back(outside, a)),
        Row::of("two ports of one destination, and two protocols")
            .pod(a, udp(a, outside))
            .leaves_as(&out(&udp(a, outside), cast))
            .pod(b, udp(b, outside).ports(CLIENT, 81))
            .leaves_as(&out(&udp(b, outside).ports(CLIENT, 81), cast))
            .pod(b, opening_of(b, outside))
            .leaves_as(&out(&opening_of(b, outside), cast))
            .uplink(back(outside, 81, PORT))
            .reaches_as(b, udp(outside, b).ports(81, CLIENT))
            .uplink(tcp(outside, node_uplink, SYN | ACK).ports(80, PORT))
            .reaches_as(b, tcp_back(outside, b, SYN | ACK)),
        Row::of("the pod is gone")
            .pod(a, udp(a, outside))
            .leaves_as(&out(&udp(a, outside), cast))
            .given(move |bench| {
                bench.remove_endpoint(a);
                bench.change_state(|state| state.epoch += 1);
            })
            .uplink(back(outside, 80, PORT))
            .drops(UnknownDestination),
        Row::of("another pod has the address by now: nothing comes in for it that it did not ask for")
            .pod(a, udp(a, outside))
            .leaves_as(&out(&udp(a, outside), cast))
            .given(move |bench| {
                bench.set_endpoint(Actor { incarnation: 0xa000_1001, ..a }, 0);
                bench.change_state(|state| state.epoch += 1);
            })
            .uplink(back(outside, 80, PORT))
            .drops(NoFlow),
        Row::of("the flow is forgotten, its port is not: the answer goes on")
            .pod(a, opening.clone())
            .leaves_as(&out(&opening, cast))
            .given(|bench| bench.forget_flows())
            .uplink(tcp(outside, node_uplink, SYN | ACK).ports(80, PORT))
            .reaches_as(a, tcp_back(outside, a, SYN | ACK))
            .pod(a, tcp(a, outside, ACK))
            .leaves_as(&out(&tcp(a, outside, ACK), cast))
            .flow(&tcp(a, outside, ACK), "answered, midstream"),
    ]
}

fn opening_of(from: Actor, to: Actor) -> Packet {
    tcp(from, to, SYN)
}

/// What cannot be told apart by a port is refused, and so is what finds none free: counted, never sent as it is.
#[test]
fn what_gets_no_port_stays() {
    run(refused);
}

pub fn refused(family: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, b, outside, elsewhere, node_uplink, .. } = cast;
    let taken = || {
        Row::of("the only port is taken toward this destination")
            .pod(a, udp(a, outside))
            .leaves_as(&out(&udp(a, outside), cast))
    };
    let no_ports = |bench: &mut Bench| {
        bench.change_state(|state| (state.masquerade_first, state.masquerade_last) = (PORT, PORT - 1));
    };
    let timestamp = icmp(a, outside, family.pick(13, 150), 0, [0; 4]);
    let pings = echo(b, outside);
    vec![
        Row::of("SCTP").pod(a, sctp(a, outside)).drops(MasqueradeUnsupported),
        Row::of("GRE").pod(a, raw(a, outside, GRE)).drops(MasqueradeUnsupported),
        Row::of("ESP").pod(a, raw(a, outside, 50)).drops(MasqueradeUnsupported),
        Row::of("IPv4 in IP").pod(a, raw(a, outside, 4)).drops(MasqueradeUnsupported),
        Row::of("ICMP that is no echo").pod(a, timestamp).drops(MasqueradeUnsupported),
        Row::of("an echo reply that nobody asked for").pod(a, echo_reply(a, outside)).drops(NoFlow),
        taken().pod(b, udp(b, outside)).drops(MasqueradeExhausted),
        taken().pod(a, udp(a, outside).ports(CLIENT + 1, 80)).drops(MasqueradeExhausted),
        taken().pod(a, udp(a, outside)).leaves_as(&out(&udp(a, outside), cast)),
        taken().pod(b, udp(b, elsewhere)).leaves_as(&out(&udp(b, elsewhere), cast)),
        taken().pod(b, opening_of(b, outside)).leaves_as(&out(&opening_of(b, outside), cast)),
        taken().pod(b, pings.clone()).leaves_as(&out(&pings, cast)),
        taken()
            .pod(b, udp(b, outside))
            .drops(MasqueradeExhausted)
            .flow(&udp(b, outside), "none")
            .given(|bench| bench.forget_ports())
            .pod(b, udp(b, outside))
            .leaves_as(&out(&udp(b, outside), cast)),
        Row::of("numbers of pings are taken as well")
            .pod(a, echo(a, outside))
            .leaves_as(&out(&echo(a, outside), cast))
            .pod(b, pings)
            .drops(MasqueradeExhausted),
        Row::of("there are no ports at all").given(no_ports).pod(a, udp(a, outside)).drops(MasqueradeExhausted),
        Row::of("taken by the first of two, told to come back later: the answer still finds it")
            .pod(a, udp(a, outside))
            .leaves_as(&out(&udp(a, outside), cast))
            .pod(b, udp(b, outside))
            .drops(MasqueradeExhausted)
            .uplink(udp_back(outside, node_uplink).ports(80, PORT))
            .reaches_as(a, udp_back(outside, a)),
    ]
}

/// ICMP errors from the outside about a pod's packets reach it, quoting what it sent; its own about answers leave quoting what
/// the outside sent. Of a quoted packet only the transport checksum is not the original's: nobody looks at it.
#[test]
fn icmp_errors_are_translated_with_what_they_quote() {
    run(errors);
}

pub fn errors(family: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, b, outside, elsewhere, node_uplink, far, .. } = cast;
    let router = elsewhere;
    let mut rows = Vec::new();
    let all = [Error::Net, Error::Host, Error::Port, Error::TooBig(1280), Error::TimeExceeded];
    for packet in [udp(a, outside), tcp(a, outside, SYN), echo(a, outside)] {
        let sent = out(&packet, cast).hop();
        for what in all {
            for from in [router, outside] {
                // The quote as the router saw it, and as the pod is to see it.
                let seen = quoted(&packet.clone().hop(), &sent);
                rows.push(
                    Row::of("an error about a packet of the pod")
                        .pod(a, packet.clone())
                        .leaves_as(&out(&packet, cast))
                        .uplink(error(from, node_uplink, what, &sent))
                        .reaches_as(a, error_quoting(from, a, what, seen)),
                );
            }
        }
        // Routers need to quote no more than eight bytes behind the header.
        let enough = family.pick(28, 48);
        let seen = quoted(&packet.clone().hop(), &sent)[..enough].to_vec();
        let quote = sent.bytes()[ETHERNET..ETHERNET + enough].to_vec();
        let arriving = error_quoting(router, node_uplink, Error::Port, quote.clone());
        let short = error_quoting(router, node_uplink, Error::Port, quote[..enough - 1].to_vec());
        rows.push(
            Row::of("an error that quotes no more than it must")
                .pod(a, packet.clone())
                .leaves_as(&out(&packet, cast))
                .uplink(arriving)
                .reaches_as(a, error_quoting(router, a, Error::Port, seen))
                .uplink(short)
                .passes(),
        );
    }
    let ours = out(&udp(a, outside), cast);
    let answer = udp_back(outside, node_uplink).ports(80, PORT);
    let received = udp_back(outside, a).hop();
    // The pod quotes what it received; outside it must be what was sent there: one hop ago, to the node.
    let restored = quoted(&answer.clone().hop(), &received);
    let complaint = error(a, outside, Error::Port, &received);
    rows.extend([
        Row::of("an error of the pod's own")
            .pod(a, udp(a, outside))
            .leaves_as(&ours)
            .uplink(answer.clone())
            .reaches_as(a, udp_back(outside, a))
            .pod(a, complaint.clone())
            .leaves_as(&error_quoting(node_uplink, outside, Error::Port, restored).macs(complaint.to, a.mac)),
        Row::of("an error of another pod about it")
            .pod(a, udp(a, outside))
            .leaves_as(&ours)
            .uplink(answer)
            .reaches_as(a, udp_back(outside, a))
            .pod(b, error(b, outside, Error::Port, &received))
            .drops(IcmpUnrelated),
        Row::of("an error about the node's own packets")
            .uplink(error(router, node_uplink, Error::Port, &udp(node_uplink, outside)))
            .passes(),
        Row::of("an error about a port of the range that nobody has")
            .uplink(error(router, node_uplink, Error::Port, &ours))
            .passes(),
        Row::of("an error about another destination")
            .pod(a, udp(a, outside))
            .leaves_as(&ours)
            .uplink(error(router, node_uplink, Error::Port, &ours.clone().destination(elsewhere.address)))
            .passes(),
        Row::of("an error in the name of a cluster address")
            .pod(a, udp(a, outside))
            .leaves_as(&ours)
            .uplink(error(far, node_uplink, Error::Port, &ours))
            .drops(UplinkForged),
        Row::of("an error to a pod itself")
            .pod(a, udp(a, outside))
            .leaves_as(&ours)
            .uplink(error(router, a, Error::Port, &udp(a, outside)))
            .drops(UplinkForged),
        Row::of("an error for a pod that is gone")
            .pod(a, udp(a, outside))
            .leaves_as(&ours)
            .given(move |bench| {
                bench.remove_endpoint(a);
                bench.change_state(|state| state.epoch += 1);
            })
            .uplink(error(router, node_uplink, Error::Port, &ours))
            .drops(UnknownDestination),
        Row::of("an error at the end of its way")
            .pod(a, udp(a, outside))
            .leaves_as(&ours)
            .uplink(error(router, node_uplink, Error::TooBig(1280), &ours).ttl(1))
            .drops(TtlExpired),
    ]);
    rows
}

/// The bytes of `packet` as quoted where the transport checksum is still that of `translated`.
fn quoted(packet: &Packet, translated: &Packet) -> Vec<u8> {
    let at = match packet.protocol() {
        TCP => 16,
        UDP => 6,
        _ => 2,
    };
    let sum = translated.transport()[at..at + 2].to_vec();
    packet.clone().lie_in_transport(at, &sum).bytes()[ETHERNET..].to_vec()
}

/// The source port of a packet that left.
fn source_port(packet: &[u8], family: Family) -> u16 {
    let transport = ETHERNET + family.pick(20, 40);
    u16::from_be_bytes([packet[transport], packet[transport + 1]])
}

/// Sends a packet out and tells its port.
fn port_of(bench: &mut Bench, family: Family, pod: Actor, packet: &Packet) -> u16 {
    let outcome = bench.run(&At::pod(pod.ifindex), &packet.bytes());
    assert_eq!(outcome.verdict.reason, 0, "{packet:?}");
    source_port(&outcome.bytes, family)
}

fn widen(bench: &mut Bench, first: u16, last: u16) {
    bench.touch();
    bench.change_state(|state| (state.masquerade_first, state.masquerade_last) = (first, last));
}

/// Two pods with one port toward one destination: each has its own outside, and gets its own answers.
#[test]
fn collisions_are_resolved() {
    sandbox::bench(|bench| {
        for family in Family::BOTH {
            bench.reset();
            let Cast { a, b, shaped, outside, node_uplink, .. } = Cast::of(family);
            widen(bench, 30_000, 30_002);
            let pods = [a, b, shaped];
            let ports = pods.map(|pod| port_of(bench, family, pod, &udp(pod, outside)));
            assert_eq!(BTreeSet::from(ports), BTreeSet::from([30_000, 30_001, 30_002]), "all of the range");
            for (pod, port) in pods.into_iter().zip(ports) {
                let outcome = bench.run(&At::uplink(), &udp(outside, node_uplink).ports(80, port).bytes());
                let expected = udp_back(outside, pod).hop().macs(pod.mac, sdn_common::wire::GATEWAY_MAC);
                assert_eq!(outcome.bytes, expected.bytes(), "{family:?} port {port}");
                assert_eq!(outcome.verdict.ifindex, pod.ifindex);
            }
            let fourth = bench.run(&At::pod(a.ifindex), &udp(a, outside).ports(9, 80).bytes());
            assert_eq!(fourth.verdict.reason, MasqueradeExhausted as u32);
        }
    });
}

/// Ports are taken from the whole range and from nowhere else; a range no larger than 64 is used up before it counts as exhausted.
#[test]
fn ports_come_from_the_range() {
    sandbox::bench(|bench| {
        for family in Family::BOTH {
            let Cast { a, outside, .. } = Cast::of(family);
            for (first, last) in [(30_000, 30_000), (30_000, 30_063), (64_000, 65_535), (1, 64), (23_000, 29_999)] {
                bench.reset();
                widen(bench, first, last);
                let count = 64.min(usize::from(last - first) + 1);
                let flows = (0..count as u16).map(|i| udp(a, outside).ports(10_000 + i, 80));
                let ports: BTreeSet<u16> = flows.map(|packet| port_of(bench, family, a, &packet)).collect();
                assert_eq!(ports.len(), count, "{family:?} {first}-{last}: one destination, so each flow has its own");
                assert!(ports.iter().all(|port| (first..=last).contains(port)), "{family:?} {first}-{last}: {ports:?}");
                assert_eq!(bench.ports(family), Vec::from_iter(ports));
            }
        }
    });
}

/// A flow keeps its port as long as anybody remembers it: the flow, or the port.
#[test]
fn a_flow_keeps_its_port() {
    sandbox::bench(|bench| {
        for family in Family::BOTH {
            let Cast { a, b, outside, .. } = Cast::of(family);
            let mine = udp(b, outside);
            bench.reset();
            widen(bench, 20_000, 29_999);
            let first = port_of(bench, family, b, &mine);
            bench.forget_flows();
            assert_eq!(port_of(bench, family, b, &mine), first, "{family:?}: the flow was forgotten, the port was not");
            bench.change_state(|state| state.epoch += 1);
            assert_eq!(port_of(bench, family, b, &mine), first, "{family:?}: the epoch has moved");

            // Behind others that wanted the same port, which are gone by now.
            bench.reset();
            widen(bench, 30_000, 30_001);
            let theirs = port_of(bench, family, a, &udp(a, outside));
            let mut late = (0..100).map(|i| udp(b, outside).ports(10_000 + i, 80));
            let mine = late
                .find(|packet| {
                    bench.forget_flows();
                    bench.forget_ports();
                    port_of(bench, family, b, packet) == theirs
                })
                .expect("a flow that begins its search at their port");
            bench.forget_flows();
            bench.forget_ports();
            assert_eq!(port_of(bench, family, a, &udp(a, outside)), theirs);
            let second = port_of(bench, family, b, &mine);
            assert_ne!(second, theirs);
            bench.free_port(family, theirs);
            bench.change_state(|state| state.epoch += 1);
            assert_eq!(
                port_of(bench, family, b, &mine),
                second,
                "{family:?}: a better port is free, but the flow lives"
            );
        }
    });
}

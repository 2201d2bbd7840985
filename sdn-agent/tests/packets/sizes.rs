//! Packets that live too long or are too big, and what their sender is told.

use sdn_common::Reason::*;

use crate::harness::*;

#[test]
fn a_hop_is_taken_off_and_the_last_one_answered() {
    run(hops);
}

pub fn hops(family: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, b, far, outside, node, node_uplink, .. } = cast;
    let told = |packet: &Packet| answer(family, node, a, Error::TimeExceeded, packet.clone());
    let translated = |packet: Packet| packet.translate_source(node_uplink, PORT);
    let mut rows = vec![
        Row::of("two left").pod(a, udp(a, b).ttl(2)).reaches(b),
        Row::of("two left, to the tunnel").pod(a, udp(a, far).ttl(2)).tunnels(a, far),
        Row::of("two left, to the outside")
            .pod(a, udp(a, outside).ttl(2))
            .leaves_as(&translated(udp(a, outside).ttl(2))),
        Row::of("to the node there is no hop").pod(a, udp(a, node).ttl(1)).reaches_host(),
        Row::of("out of the tunnel there is no hop").tunnel(far, udp(far, a).ttl(1)).reaches(a),
        Row::of("from the node there is no hop").host(udp(node, a).ttl(1)).reaches(a),
        Row::of("from the node into the tunnel there is no hop").host(udp(node, far).ttl(1)).tunnels(node, far),
        Row::of("a reply from outside with one left")
            .pod(a, udp(a, outside))
            .leaves_as(&translated(udp(a, outside)))
            .uplink(udp_back(outside, node_uplink).ports(SERVER, PORT).ttl(1))
            .drops(TtlExpired),
        Row::of("an ICMP error is not answered")
            .tunnel(far, udp(far, a))
            .reaches(a)
            .pod(a, error(a, far, Error::Port, &udp(far, a)).ttl(1))
            .drops(TtlExpired),
        Row::of("a later fragment is not answered")
            .pod(a, udp(a, far).filled_to(600).pieces(1, &[512])[0].clone())
            .tunnels(a, far)
            .pod(a, udp(a, far).filled_to(600).pieces(1, &[512])[1].clone().ttl(1))
            .drops(TtlExpired),
        Row::of("too short to be quoted").pod(a, raw(a, far, GRE).data([1, 2, 3]).ttl(1)).drops(TtlExpired),
        Row::of("without an own address, the gateway answers")
            .given(|bench| {
                bench.change_state(|state| {
                    (state.v4.cluster_address, state.v6.cluster_address) = Default::default();
                });
            })
            .pod(a, udp(a, far).ttl(1))
            .answers(TtlExpired, &told(&udp(a, far).ttl(1)).source(cast.gateway.address)),
    ];
    let kinds: [fn(Actor, Actor) -> Packet; 5] =
        [udp, |from, to| tcp(from, to, SYN), echo, sctp, |from, to| raw(from, to, GRE)];
    for kind in kinds {
        for to in [b, far] {
            let packet = kind(a, to).ttl(1);
            rows.push(Row::of("one left").pod(a, packet.clone()).answers(TtlExpired, &told(&packet)));
            let packet = kind(a, to).ttl(0).tos(0x20).id(0xffff);
            rows.push(Row::of("none left").pod(a, packet.clone()).answers(TtlExpired, &told(&packet)));
        }
    }
    for packet in [udp(a, outside).ttl(1), tcp(a, outside, SYN).ttl(1), echo(a, outside).ttl(1)] {
        rows.push(Row::of("one left, to the outside").pod(a, packet.clone()).answers(TtlExpired, &told(&packet)));
    }
    let first = udp(a, far).filled_to(600).pieces(1, &[512])[0].clone().ttl(1);
    rows.push(Row::of("a first fragment is answered").pod(a, first.clone()).answers(TtlExpired, &told(&first)));
    rows
}

#[test]
fn packets_too_big_are_answered_with_the_mtu() {
    run(too_big);
}

pub fn too_big(family: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, b, far, outside, node, node_uplink, .. } = cast;
    let mtu = usize::from(MTU);
    let told = |packet: &Packet| answer(family, node, a, Error::TooBig(MTU), packet.clone());
    let translated = |packet: Packet| packet.translate_source(node_uplink, PORT);
    let fits = |to: Actor| udp(a, to).filled_to(mtu);
    let greater = |to: Actor| udp(a, to).filled_to(mtu + 1);
    let fragment = udp(a, far).filled_to(3000).pieces(1, &[1456, 1456]);
    let smaller = |bench: &mut Bench| bench.change_state(|state| state.mtu = 1400);
    let told_smaller = answer(family, node, a, Error::TooBig(1400), udp(a, far).filled_to(1401));
    vec![
        Row::of("just fits").pod(a, fits(far)).tunnels(a, far),
        Row::of("just fits its neighbour").pod(a, fits(b)).reaches(b),
        Row::of("just fits the outside").pod(a, fits(outside)).leaves_as(&translated(fits(outside))),
        Row::of("a byte too much").pod(a, greater(far)).answers(TooBig, &told(&greater(far))),
        Row::of("a byte too much for its neighbour").pod(a, greater(b)).answers(TooBig, &told(&greater(b))),
        Row::of("a byte too much for the outside").pod(a, greater(outside)).answers(TooBig, &told(&greater(outside))),
        Row::of("much too big")
            .pod(a, udp(a, far).filled_to(3600))
            .answers(TooBig, &told(&udp(a, far).filled_to(3600))),
        Row::of("TCP")
            .pod(a, tcp(a, far, ACK).filled_to(1500))
            .answers(TooBig, &told(&tcp(a, far, ACK).filled_to(1500))),
        Row::of("an echo").pod(a, echo(a, far).filled_to(1500)).answers(TooBig, &told(&echo(a, far).filled_to(1500))),
        Row::of("the frame is filled up, the packet fits").pod(a, fits(far).frame_len(1600)).tunnels(a, far),
        Row::of("a first fragment").pod(a, fragment[0].clone()).answers(TooBig, &told(&fragment[0])),
        Row::of("to the node there is no tunnel").pod(a, udp(a, node).filled_to(1500)).reaches_host(),
        Row::of("out of the tunnel there is none").tunnel(far, udp(far, a).filled_to(1500)).reaches(a),
        Row::of("another MTU fits").given(smaller).pod(a, udp(a, far).filled_to(1400)).tunnels(a, far),
        Row::of("another MTU").given(smaller).pod(a, udp(a, far).filled_to(1401)).answers(TooBig, &told_smaller),
    ]
}

/// A packet that stands for several is measured by what each of them will be.
#[test]
fn segments_are_measured() {
    run(segments);
}

pub fn segments(family: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, b, far, outside, node, node_uplink, .. } = cast;
    let told = |packet: &Packet| answer(family, node, a, Error::TooBig(MTU), packet.clone());
    let big = |packet: Packet| packet.filled_to(3600);
    let (stream, datagrams) = (big(tcp(a, far, ACK)), big(udp(a, far)));
    let headers = family.pick(20, 40) as u32;
    let of_tcp = u32::from(MTU) - headers - 20;
    let of_udp = u32::from(MTU) - headers - 8;
    let with_options = big(tcp_with_options(a, far, 12));
    // Of UDP the header's length may be the first segment's or the whole's.
    let first_segment = datagrams.clone().lie_in_transport(4, &((of_udp + 8) as u16).to_be_bytes());
    vec![
        Row::of("TCP segments that fit").pod_gso(a, stream.clone(), of_tcp, 3).tunnels(a, far),
        Row::of("TCP segments that fit its neighbour").pod_gso(a, big(tcp(a, b, ACK)), of_tcp, 3).reaches(b),
        Row::of("TCP segments a byte too big")
            .pod_gso(a, stream.clone(), of_tcp + 1, 3)
            .answers(TooBig, &told(&stream)),
        Row::of("TCP segments with options that fit").pod_gso(a, with_options.clone(), of_tcp - 12, 3).tunnels(a, far),
        Row::of("TCP segments with options, too big")
            .pod_gso(a, with_options.clone(), of_tcp - 11, 3)
            .answers(TooBig, &told(&with_options)),
        Row::of("datagrams that fit").pod_gso(a, datagrams.clone(), of_udp, 3).tunnels(a, far),
        Row::of("datagrams a byte too big")
            .pod_gso(a, datagrams.clone(), of_udp + 1, 3)
            .answers(TooBig, &told(&datagrams)),
        Row::of("datagrams whose header tells of the first").pod_gso(a, first_segment, of_udp, 3).tunnels(a, far),
        Row::of("a packet that is small, of segments that are big: not sent by anybody, refused")
            .pod_gso(a, tcp(a, far, ACK), 2000, 2)
            .answers(TooBig, &told(&tcp(a, far, ACK))),
        Row::of("segments to the outside")
            .pod_gso(a, big(tcp(a, outside, ACK)), of_tcp, 3)
            .leaves_as(&big(tcp(a, outside, ACK)).translate_source(node_uplink, PORT)),
        Row::of("segments to the node").pod_gso(a, big(tcp(a, node, ACK)), 3000, 2).reaches_host(),
    ]
}

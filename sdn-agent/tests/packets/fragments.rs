//! Fragments: the later ones follow the first, in order, or are dropped and counted (row 12 of the checklist).

use sdn_common::Reason::*;

use crate::harness::world::FRAGMENTS;
use crate::harness::*;

/// An identification.
const ID: u32 = 0x4711;

#[test]
fn later_fragments_follow_the_first() {
    run(in_order);
}

pub fn in_order(family: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, b, far, node, outside, .. } = cast;
    let whole = udp(a, b).filled_to(1000);
    let all = |row: Row, packets: Vec<Packet>| packets.into_iter().fold(row, |row, piece| row.pod(a, piece).reaches(b));
    let pieces = |packet: &Packet| packet.pieces(ID, &[256, 512]);
    let many = udp(a, b).filled_to(1000).pieces(ID, &[32; FRAGMENTS as usize - 1]);
    let two = |packet: Packet, id: u32| packet.filled_to(600).pieces(id, &[512]);
    let first = two(udp(a, b), ID);
    let second = two(udp(a, b).ports(5, 6), ID + 1);
    let tcp_pieces = two(tcp(a, b, ACK), ID);
    let echo_pieces = two(echo(a, b), ID);
    let forged: Vec<Packet> = first.iter().map(|piece| piece.clone().with_mac(b.mac)).collect();
    let by_tunnel = two(udp(far, a), ID);
    let stranger = Tunnel { from: underlay(Family::V4, 99), vni: 0 };
    let interleaved = vec![first[0].clone(), second[0].clone(), first[1].clone(), second[1].clone()];
    let mixed = vec![first[0].clone(), tcp_pieces[0].clone(), tcp_pieces[1].clone(), first[1].clone()];
    let mut rows = vec![
        all(Row::of("in order"), pieces(&whole)),
        all(Row::of("in order, of a protocol without ports"), pieces(&raw(a, b, GRE).filled_to(1000))),
        all(Row::of("in order, an echo"), pieces(&echo(a, b).filled_to(1000))),
        all(Row::of("in order, TCP"), pieces(&tcp(a, b, ACK).filled_to(1000))),
        all(Row::of("as many as there may be"), many),
        all(Row::of("two datagrams at once"), interleaved),
        all(Row::of("one datagram after the other, with one identification"), [first.clone(), first.clone()].concat()),
        all(Row::of("the first holds eight bytes: all of a UDP header"), udp(a, b).pieces(ID, &[8])),
        Row::of("into the tunnel")
            .pod(a, udp(a, far).pieces(ID, &[8])[0].clone())
            .tunnels(a, far)
            .pod(a, udp(a, far).pieces(ID, &[8])[1].clone())
            .tunnels(a, far),
        Row::of("out of the tunnel")
            .tunnel(far, by_tunnel[0].clone())
            .reaches(a)
            .tunnel(far, by_tunnel[1].clone())
            .reaches(a),
        Row::of("to the node")
            .pod(a, two(udp(a, node), ID)[0].clone())
            .reaches_host()
            .pod(a, two(udp(a, node), ID)[1].clone())
            .reaches_host(),
        Row::of("from the node")
            .host(two(udp(node, a), ID)[0].clone())
            .reaches(a)
            .host(two(udp(node, a), ID)[1].clone())
            .reaches(a),
        Row::of("later ones belong to the first one's flow")
            .pod(a, first[0].clone())
            .reaches(b)
            .pod(a, first[1].clone())
            .reaches(b)
            .flow(&udp(a, b), "unanswered")
            .flow(&udp(a, b).ports(0, 0), "none"),
        Row::of("an echo's later ones as well")
            .pod(a, echo_pieces[0].clone())
            .reaches(b)
            .pod(a, echo_pieces[1].clone())
            .reaches(b)
            .flow(&echo(a, b), "unanswered"),
        Row::of("later ones meet the rules of the first: the machine configuration server")
            .pod(a, two(tcp(a, node, ACK).ports(CLIENT, 22623), ID)[0].clone())
            .drops(MachineConfig)
            .pod(a, two(tcp(a, node, ACK).ports(CLIENT, 22623), ID)[1].clone())
            .drops(MachineConfig),
        Row::of("a forged one does not spoil the datagram")
            .pod(a, first[0].clone())
            .reaches(b)
            .pod(b, first[0].clone().with_mac(b.mac))
            .drops(SpoofedAddress)
            .pod(a, forged[0].clone())
            .drops(SpoofedMac)
            .pod(a, first[1].clone())
            .reaches(b),
        Row::of("one from nobody's tunnel does not spoil the datagram")
            .tunnel(far, by_tunnel[0].clone())
            .reaches(a)
            .tunnel_by(stranger, by_tunnel[0].clone())
            .drops(TunnelUnknownNode)
            .tunnel_by(stranger, by_tunnel[1].clone())
            .drops(TunnelUnknownNode)
            .tunnel(far, by_tunnel[1].clone())
            .reaches(a),
        Row::of("one in a node's name does not spoil the datagram")
            .tunnel(far, by_tunnel[0].clone())
            .reaches(a)
            .tunnel(cast.other, by_tunnel[0].clone())
            .drops(TunnelForeignSource)
            .tunnel(far, by_tunnel[1].clone())
            .reaches(a),
        Row::of("one identification at two hooks: two datagrams")
            .pod(a, two(udp(a, far), ID)[0].clone())
            .tunnels(a, far)
            .tunnel(far, by_tunnel[0].clone())
            .reaches(a)
            .pod(a, two(udp(a, far), ID)[1].clone())
            .tunnels(a, far)
            .tunnel(far, by_tunnel[1].clone())
            .reaches(a),
        Row::of("what comes in for the node is put together by the node")
            .uplink(two(udp(outside, cast.node_uplink), ID)[1].clone())
            .passes()
            .uplink(two(udp(outside, cast.node_uplink), ID)[0].clone())
            .passes(),
    ];
    if family == Family::V4 {
        rows.push(all(Row::of("one identification, two protocols: two datagrams"), mixed));
    }
    rows
}

#[test]
fn fragments_out_of_line_are_refused() {
    run(out_of_line);
}

pub fn out_of_line(family: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, b, far, .. } = cast;
    let whole = udp(a, b).filled_to(1000);
    let pieces = whole.pieces(ID, &[256, 256, 256]);
    let piece = |n: usize| pieces[n].clone();
    // The second begins 8 bytes early, or 8 late, or within the first.
    let moved = |offset: u16| piece(1).fragment(ID, offset, true);
    let excess = udp(a, b).filled_to(1000).pieces(ID, &[32; FRAGMENTS as usize]);
    let too_many = excess[..FRAGMENTS as usize]
        .iter()
        .fold(Row::of("one too many"), |row, piece| row.pod(a, piece.clone()).reaches(b))
        .pod(a, excess[FRAGMENTS as usize].clone())
        .drops(FragmentExcess)
        .pod(a, excess[FRAGMENTS as usize].clone())
        .drops(FragmentOutOfOrder);
    let fewer = |bench: &mut Bench| bench.change_state(|state| state.fragments = 2);
    let later = |bench: &mut Bench| bench.change_state(|state| state.hz = 0);
    let raw_piece =
        |len: usize, offset: u16, more: bool| raw(a, b, GRE).data(vec![0xab; len]).fragment(ID, offset, more);
    let small = |packet: Packet, first: usize| packet.filled_to(200).pieces(ID, &[first]);
    vec![
        Row::of("the first one last")
            .pod(a, piece(1))
            .drops(FragmentOutOfOrder)
            .pod(a, piece(2))
            .drops(FragmentOutOfOrder)
            .pod(a, piece(3))
            .drops(FragmentOutOfOrder)
            .pod(a, piece(0))
            .reaches(b),
        Row::of("the first one last, out of the tunnel")
            .tunnel(far, udp(far, a).filled_to(600).pieces(ID, &[512])[1].clone())
            .drops(FragmentOutOfOrder),
        Row::of("one is missing, and late")
            .pod(a, piece(0))
            .reaches(b)
            .pod(a, piece(2))
            .drops(FragmentOutOfOrder)
            .pod(a, piece(1))
            .drops(FragmentOutOfOrder)
            .pod(a, piece(3))
            .drops(FragmentOutOfOrder),
        Row::of("one twice")
            .pod(a, piece(0))
            .reaches(b)
            .pod(a, piece(1))
            .reaches(b)
            .pod(a, piece(1))
            .drops(FragmentOverlap)
            .pod(a, piece(2))
            .drops(FragmentOutOfOrder),
        Row::of("the first one twice")
            .pod(a, piece(0))
            .reaches(b)
            .pod(a, piece(0))
            .drops(FragmentOverlap)
            .pod(a, piece(1))
            .drops(FragmentOutOfOrder),
        Row::of("the first one again, of another datagram by now")
            .given(later)
            .pod(a, piece(0))
            .reaches(b)
            .pod(a, piece(0))
            .reaches(b)
            .pod(a, piece(1))
            .reaches(b),
        Row::of("overlapping its predecessor's end")
            .pod(a, piece(0))
            .reaches(b)
            .pod(a, moved(248))
            .drops(FragmentOverlap),
        Row::of("overlapping its predecessor's ports")
            .pod(a, piece(0))
            .reaches(b)
            .pod(a, moved(8))
            .drops(FragmentOverlap)
            .pod(a, piece(1))
            .drops(FragmentOutOfOrder),
        Row::of("a gap").pod(a, piece(0)).reaches(b).pod(a, moved(264)).drops(FragmentOutOfOrder),
        too_many,
        Row::of("one more than is configured")
            .given(fewer)
            .pod(a, piece(0))
            .reaches(b)
            .pod(a, piece(1))
            .reaches(b)
            .pod(a, piece(2))
            .drops(FragmentExcess),
        Row::of("tiny: half a TCP header").pod(a, small(tcp(a, b, SYN), 8)[0].clone()).drops(FragmentTiny),
        Row::of("tiny: TCP without its flags").pod(a, small(tcp(a, b, ACK), 16)[0].clone()).drops(FragmentTiny),
        Row::of("tiny: TCP without its options")
            .pod(a, tcp_with_options(a, b, 12).pieces(ID, &[24])[0].clone())
            .drops(FragmentTiny),
        Row::of("not tiny: a TCP header and options")
            .pod(a, tcp_with_options(a, b, 12).pieces(ID, &[32])[0].clone())
            .reaches(b),
        Row::of("tiny: half an SCTP header").pod(a, small(sctp(a, b), 8)[0].clone()).drops(FragmentTiny),
        Row::of("tiny: nothing at all").pod(a, udp(a, b).pieces(ID, &[0])[0].clone()).drops(FragmentTiny),
        Row::of("tiny: out of the tunnel").tunnel(far, small(tcp(far, a, SYN), 8)[0].clone()).drops(FragmentTiny),
        Row::of("not a multiple of eight bytes, and not the last").pod(a, raw_piece(9, 0, true)).drops(Malformed),
        Row::of("not a multiple of eight bytes, in the middle")
            .pod(a, raw_piece(8, 0, true))
            .reaches(b)
            .pod(a, raw_piece(9, 8, true))
            .drops(Malformed),
        Row::of("longer than a datagram can be")
            .pod(a, raw_piece(8, 0, true))
            .reaches(b)
            .pod(a, raw_piece(100, 0xfff8, false))
            .drops(Malformed),
        Row::of("another's: its source is not the first one's")
            .pod(a, piece(0))
            .reaches(b)
            .pod(cast.shaped, udp(cast.shaped, b).filled_to(1000).pieces(ID, &[256])[1].clone())
            .drops(FragmentOutOfOrder)
            .pod(a, piece(1))
            .reaches(b),
        Row::of("another identification")
            .pod(a, piece(0))
            .reaches(b)
            .pod(a, piece(1).fragment(ID + 1, 256, true))
            .drops(FragmentOutOfOrder),
        match family {
            Family::V4 => Row::of("another protocol")
                .pod(a, piece(0))
                .reaches(b)
                .pod(a, piece(1).body(Body::Raw { protocol: TCP, data: piece(1).transport() }))
                .drops(FragmentOutOfOrder),
            // The first one alone says what the datagram is (RFC 8200 §4.5).
            Family::V6 => Row::of("a fragment that is the whole datagram")
                .pod(a, udp(a, b).fragment(ID, 0, false))
                .reaches(b)
                .flow(&udp(a, b), "unanswered")
                .pod(a, udp(a, b).fragment(ID, 0, false))
                .reaches(b),
        },
    ]
}

/// Behind extension headers, and two fragment headers in one packet.
#[test]
fn fragments_and_extension_headers() {
    run(extensions);
}

pub fn extensions(family: Family, cast: Cast) -> Vec<Row> {
    if family == Family::V4 {
        return Vec::new();
    }
    let Cast { a, b, .. } = cast;
    let before = [Extension::hop_by_hop(), Extension::destination_options(16)];
    let dressed: Vec<Packet> = udp(a, b).filled_to(600).extensions(&before).pieces(ID, &[256]);
    // A fragment header, as an extension before the one that the packet has.
    let outer = Extension { kind: 44, rest: vec![0, 0, 1, 0, 0, 0, 1] };
    vec![
        Row::of("behind extension headers").pod(a, dressed[0].clone()).reaches(b).pod(a, dressed[1].clone()).reaches(b),
        Row::of("a fragment of a fragment")
            .pod(a, udp(a, b).extensions(std::slice::from_ref(&outer)).fragment(ID, 0, false))
            .drops(ExtensionHeaders),
        Row::of("a routing header behind the fragment header")
            .pod(a, raw(a, b, 43).data([17, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4, 0, 8, 0, 0]).fragment(ID, 0, true))
            .drops(ExtensionHeaders),
        Row::of("an extension header that goes beyond its first fragment")
            .pod(a, raw(a, b, 60).data([17, 3, 1, 4, 0, 0, 0, 0]).fragment(ID, 0, true))
            .drops(FragmentTiny),
    ]
}

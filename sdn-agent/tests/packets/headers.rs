//! Headers that are cut short or contradict themselves, and IPv6's extension headers.

use sdn_common::Reason::*;

use crate::harness::*;

#[test]
fn headers_that_contradict_themselves_are_refused() {
    run(malformed);
}

pub fn malformed(family: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, b, .. } = cast;
    let short = |packet: Packet, by: usize| {
        let len = packet.bytes().len();
        packet.frame_len(len - by)
    };
    let flags = |flags: u8| tcp(a, b, SYN).lie_in_transport(13, &[flags]);
    let offset = |words: u8| tcp(a, b, ACK).data([]).lie_in_transport(12, &[words << 4]);
    let udp_len = |len: u16| udp(a, b).lie_in_transport(4, &len.to_be_bytes());
    let transport_len = |packet: Packet, len: usize| {
        let protocol = packet.protocol();
        let bytes = packet.transport()[..len].to_vec();
        packet.body(Body::Raw { protocol, data: bytes })
    };
    let mut rows = vec![
        Row::of("cut short by a byte").pod(a, short(udp(a, b), 1)).drops(Malformed),
        Row::of("cut short behind the IP header")
            .pod(a, udp(a, b).frame_len(ETHERNET + family.pick(20, 40)))
            .drops(Malformed),
        Row::of("TCP options").pod(a, tcp_with_options(a, b, 12)).reaches(b),
        Row::of("a TCP header of 24 bytes whose packet ends before").pod(a, offset(6)).drops(Malformed),
        Row::of("a TCP header of 60 bytes whose packet ends before").pod(a, offset(15)).drops(Malformed),
        Row::of("a TCP header of 16 bytes").pod(a, offset(4)).drops(Malformed),
        Row::of("a TCP header of none").pod(a, offset(0)).drops(Malformed),
        Row::of("TCP without flags").pod(a, flags(0)).drops(Malformed),
        Row::of("TCP with push and urgent alone").pod(a, flags(PSH | 0x20)).drops(Malformed),
        Row::of("TCP that opens and ends").pod(a, flags(SYN | FIN)).drops(Malformed),
        Row::of("TCP that opens and resets").pod(a, flags(SYN | RST)).drops(Malformed),
        Row::of("TCP with all flags").pod(a, flags(0x3f)).drops(Malformed),
        Row::of("TCP that ends without acknowledging").pod(a, flags(FIN)).reaches(b),
        Row::of("TCP with congestion signals").pod(a, tcp(a, b, SYN | 0xc0)).reaches(b),
        Row::of("TCP of 19 bytes").pod(a, transport_len(tcp(a, b, SYN), 19)).drops(Malformed),
        Row::of("UDP of 7 bytes").pod(a, transport_len(udp(a, b), 7)).drops(Malformed),
        Row::of("UDP that says 7 bytes").pod(a, udp_len(7)).drops(Malformed),
        Row::of("UDP that says none").pod(a, udp_len(0)).drops(Malformed),
        Row::of("UDP that says more than there is").pod(a, udp_len(17)).drops(Malformed),
        Row::of("UDP that says less than there is").pod(a, udp_len(15)).reaches(b),
        Row::of("ICMP of 7 bytes").pod(a, transport_len(echo(a, b), 7)).drops(Malformed),
        Row::of("SCTP of 11 bytes").pod(a, transport_len(sctp(a, b), 11)).drops(Malformed),
        Row::of("SCTP of 12 bytes").pod(a, transport_len(sctp(a, b), 12)).reaches(b),
        Row::of("another protocol with nothing in it").pod(a, raw(a, b, GRE).data([])).reaches(b),
        Row::of("TCP without a byte").pod(a, transport_len(tcp(a, b, SYN), 0)).drops(Malformed),
    ];
    for version in [0, 3, 5, 15_u8].into_iter().chain([family.pick(6, 4)]) {
        let first = version << 4 | family.pick(5, 0);
        rows.push(Row::of("another version in the header").pod(a, udp(a, b).lie(ETHERNET, &[first])).drops(Malformed));
    }
    rows.extend(family.pick(malformed_v4(a, b), malformed_v6(a, b)));
    rows
}

fn malformed_v4(a: Actor, b: Actor) -> Vec<Row> {
    let header = |words: u8| udp(a, b).lie(ETHERNET, &[0x40 | words]);
    let total = |len: u16| udp(a, b).lie(ETHERNET + 2, &len.to_be_bytes());
    vec![
        Row::of("a header of 16 bytes").pod(a, header(4)).drops(Malformed),
        Row::of("a header of none").pod(a, header(0)).drops(Malformed),
        Row::of("a header longer than the packet").pod(a, header(15)).drops(Malformed),
        Row::of("a length of none").pod(a, total(0)).drops(Malformed),
        Row::of("a length less than the header").pod(a, total(19)).drops(Malformed),
        Row::of("a length of the header alone").pod(a, total(20)).drops(Malformed),
        Row::of("a length more than the frame").pod(a, total(37)).drops(Malformed),
        Row::of("the greatest length").pod(a, total(0xffff)).drops(Malformed),
    ]
}

fn malformed_v6(a: Actor, b: Actor) -> Vec<Row> {
    let payload = |len: u16| udp(a, b).lie(ETHERNET + 4, &len.to_be_bytes());
    vec![
        Row::of("a payload of none").pod(a, payload(0)).drops(Malformed),
        Row::of("a payload more than the frame").pod(a, payload(17)).drops(Malformed),
        Row::of("the greatest payload").pod(a, payload(0xffff)).drops(Malformed),
    ]
}

#[test]
fn extension_headers_are_followed() {
    run(extensions);
}

pub fn extensions(family: Family, cast: Cast) -> Vec<Row> {
    use Extension as E;
    if family == Family::V4 {
        return Vec::new();
    }
    let Cast { a, b, far, outside, two, node_uplink, .. } = cast;
    let with = |chain: &[Extension]| udp(a, b).extensions(chain);
    let padding = || E::destination_options(8);
    let all =
        [E::hop_by_hop(), E::destination_options(8), E::routing(0), E::authentication(), E::destination_options(32)];
    let six = [padding(), padding(), padding(), padding(), padding(), padding()];
    let seven = [&six[..], &[padding()]].concat();
    let long = |words: u8| with(&[E { kind: 60, rest: vec![words, 1, 4, 0, 0, 0, 0] }]);
    vec![
        Row::of("hop-by-hop options").pod(a, with(&[E::hop_by_hop()])).reaches(b),
        Row::of("destination options").pod(a, with(&[E::destination_options(64)])).reaches(b),
        Row::of("an authentication header, measured in words of four").pod(a, with(&[E::authentication()])).reaches(b),
        Row::of("mobility").pod(a, with(&[E::mobility()])).reaches(b),
        Row::of("a routing header that is used up").pod(a, with(&[E::routing(0)])).reaches(b),
        Row::of("a routing header with a segment left").pod(a, with(&[E::routing(1)])).drops(ExtensionHeaders),
        Row::of("a routing header with a segment left, behind another")
            .pod(a, with(&[E::hop_by_hop(), E::destination_options(16), E::routing(200)]))
            .drops(ExtensionHeaders),
        Row::of("five of them").pod(a, with(&all)).reaches(b),
        Row::of("six of them").pod(a, with(&six)).reaches(b),
        Row::of("seven of them").pod(a, with(&seven)).drops(ExtensionHeaders),
        Row::of("twenty of them").pod(a, with(&vec![padding(); 20])).drops(ExtensionHeaders),
        Row::of("one that goes beyond the packet").pod(a, long(2)).drops(Malformed),
        Row::of("one that goes far beyond").pod(a, long(255)).drops(Malformed),
        Row::of("one that is all there is").pod(a, raw(a, b, 59).data([]).extensions(&[E::hop_by_hop()])).reaches(b),
        Row::of("one that is cut").pod(a, raw(a, b, 0).data([59, 0, 1, 4])).drops(Malformed),
        Row::of("no next header").pod(a, raw(a, b, 59)).reaches(b),
        Row::of("what stands behind them is judged: VXLAN")
            .pod(a, udp(a, two).ports(CLIENT, 4789).extensions(&all))
            .drops(PodVxlan),
        Row::of("what stands behind them is judged: machine configuration")
            .pod(a, tcp(a, two, SYN).ports(CLIENT, 22623).extensions(&all))
            .drops(MachineConfig),
        Row::of("into the tunnel").pod(a, udp(a, far).extensions(&all)).tunnels(a, far),
        Row::of("out of the tunnel").tunnel(far, udp(far, a).extensions(&all)).reaches(a),
        Row::of("to the outside and back")
            .pod(a, udp(a, outside).extensions(&all))
            .leaves_as(&udp(a, outside).translate_source(node_uplink, PORT).extensions(&all))
            .uplink(udp_back(outside, node_uplink).ports(SERVER, PORT).extensions(&[E::destination_options(24)]))
            .reaches_as(a, udp_back(outside, a).extensions(&[E::destination_options(24)])),
        Row::of("without them it is the same flow")
            .pod(a, tcp(a, b, SYN).extensions(&all))
            .reaches(b)
            .pod(b, tcp_back(b, a, SYN | ACK))
            .reaches(a)
            .flow(&tcp(a, b, ACK), "answered"),
    ]
}

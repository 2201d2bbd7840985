//! The packets that tables are made of, read by another implementation: what the programs are compared with must be right itself.

use std::net::IpAddr;

use pnet_packet::{Packet as _, icmp as icmp4, icmpv6, ipv4, ipv6, tcp as tcp_, udp as udp_};

use crate::harness::*;

/// Checksums and lengths as pnet sees them.
fn assert_sound(packet: &Packet) {
    let bytes = packet.bytes();
    let (len, transport) = match (packet.source, packet.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let ip = ipv4::Ipv4Packet::new(&bytes[ETHERNET..]).expect("a whole header");
            assert_eq!((ip.get_source(), ip.get_destination()), (source, destination));
            assert_eq!(ip.get_checksum(), ipv4::checksum(&ip), "{packet:?}");
            (usize::from(ip.get_total_length()), ip.payload().to_vec())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let ip = ipv6::Ipv6Packet::new(&bytes[ETHERNET..]).expect("a whole header");
            assert_eq!((ip.get_source(), ip.get_destination()), (source, destination));
            (usize::from(ip.get_payload_length()) + 40, bytes[ETHERNET + packet.header_len()..].to_vec())
        }
        _ => panic!("{packet:?}"),
    };
    assert_eq!(len, bytes.len() - ETHERNET);
    let (found, expected) = checksums(packet, &transport);
    assert_eq!(found, expected, "{packet:?}");
}

/// The transport checksum: as it is, and as it should be.
fn checksums(packet: &Packet, transport: &[u8]) -> (u16, u16) {
    match (packet.protocol(), packet.source, packet.destination) {
        (TCP, source, destination) => {
            let tcp = tcp_::TcpPacket::new(transport).expect("a whole header");
            let expected = match (source, destination) {
                (IpAddr::V4(source), IpAddr::V4(destination)) => tcp_::ipv4_checksum(&tcp, &source, &destination),
                (IpAddr::V6(source), IpAddr::V6(destination)) => tcp_::ipv6_checksum(&tcp, &source, &destination),
                _ => unreachable!(),
            };
            (tcp.get_checksum(), expected)
        }
        (UDP, source, destination) => {
            let udp = udp_::UdpPacket::new(transport).expect("a whole header");
            assert_eq!(usize::from(udp.get_length()), transport.len());
            let expected = match (source, destination) {
                (IpAddr::V4(source), IpAddr::V4(destination)) => udp_::ipv4_checksum(&udp, &source, &destination),
                (IpAddr::V6(source), IpAddr::V6(destination)) => udp_::ipv6_checksum(&udp, &source, &destination),
                _ => unreachable!(),
            };
            (udp.get_checksum(), expected)
        }
        (ICMP, ..) => {
            let message = icmp4::IcmpPacket::new(transport).expect("a whole header");
            (message.get_checksum(), icmp4::checksum(&message))
        }
        (ICMPV6, IpAddr::V6(source), IpAddr::V6(destination)) => {
            let message = icmpv6::Icmpv6Packet::new(transport).expect("a whole header");
            (message.get_checksum(), icmpv6::checksum(&message, &source, &destination))
        }
        _ => (0, 0),
    }
}

#[test]
fn packets_are_sound() {
    for family in Family::BOTH {
        let Cast { a, b, outside, .. } = Cast::of(family);
        let plain = [
            udp(a, b),
            tcp(a, b, SYN),
            tcp(a, outside, ACK).data([1, 2, 3]),
            echo(a, outside),
            echo_reply(outside, a),
            error(outside, a, Error::TooBig(1280), &udp(a, outside)),
            sctp(a, b),
            raw(a, b, GRE),
        ];
        for packet in plain {
            assert_sound(&packet);
            assert_sound(&packet.clone().ttl(1).tos(0xb8).translate_source(b, 30_000).translate_destination(a, 7));
            assert_sound(&packet.clone().filled_to(1450));
            match family {
                Family::V4 => assert_sound(&packet.options(&[1, 1, 1, 0])),
                Family::V6 => {
                    let chain = [Extension::hop_by_hop(), Extension::routing(0), Extension::destination_options(24)];
                    assert_sound(&packet.extensions(&chain));
                }
            }
        }
    }
}

#[test]
fn pieces_make_up_the_datagram() {
    for family in Family::BOTH {
        let Cast { a, b, .. } = Cast::of(family);
        let whole = udp(a, b).filled_to(1000);
        let pieces = whole.pieces(5, &[256, 512]);
        assert_eq!(pieces.len(), 3);
        let fragments: Vec<_> = pieces.iter().map(|piece| piece.fragment.unwrap()).collect();
        assert_eq!(
            fragments.iter().map(|f| (f.offset, f.more)).collect::<Vec<_>>(),
            [(0, true), (256, true), (768, false)]
        );
        assert_eq!(pieces.iter().flat_map(Packet::transport).collect::<Vec<u8>>(), whole.transport());
    }
}

#[test]
fn a_zero_checksum_of_udp_is_sent_as_ones() {
    let Cast { a, b, .. } = Cast::of(Family::V4);
    // The two bytes of data are the checksum of the rest, so that the sum comes out as zero.
    let sum = udp(a, b).data([0, 0]).transport()[6..8].to_vec();
    assert_eq!(udp(a, b).data(sum).transport()[6..8], [0xff, 0xff]);
}

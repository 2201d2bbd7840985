//! The pod's gateway: the program answers ARP and neighbour discovery for it, byte for byte as here.

use sdn_common::Reason::*;
use sdn_common::wire::GATEWAY_MAC;

use crate::harness::*;

#[test]
fn arp_for_the_gateway_is_answered() {
    run(arp);
}

pub fn arp(family: Family, cast: Cast) -> Vec<Row> {
    if family == Family::V6 {
        return Vec::new();
    }
    let Cast { a, b, gateway, far, node, outside, .. } = cast;
    let ask = arp_request(a, a, gateway);
    let none = a.at([0, 0, 0, 0].into());
    let answer = |question: Arp| Arp {
        to: question.from,
        from: GATEWAY_MAC,
        operation: 2,
        sender_mac: GATEWAY_MAC,
        sender: question.target,
        target_mac: question.sender_mac,
        target: question.sender,
    };
    let probe = arp_request(a, none, gateway);
    let bytes = |arp: Arp| arp.bytes();
    let with = |offset: usize, value: &[u8]| {
        let mut bytes = bytes(ask);
        bytes[offset..offset + value.len()].copy_from_slice(value);
        bytes
    };
    // To the last byte, spelled out once.
    let in_full = [
        &[0x0a, 0x58, 10, 128, 0, 1, 0x0a, 0x58, 169, 254, 1, 1, 0x08, 0x06][..],
        &[0, 1, 8, 0, 6, 4, 0, 2],
        &[0x0a, 0x58, 169, 254, 1, 1, 169, 254, 1, 1],
        &[0x0a, 0x58, 10, 128, 0, 1, 10, 128, 0, 2],
    ]
    .concat();
    // Ethernet frames are filled up to 60 bytes: the filling stays.
    let mut filled = bytes(ask);
    filled.resize(60, 0xee);
    let mut filled_answer = bytes(answer(ask));
    filled_answer.resize(60, 0xee);
    vec![
        Row::of("asked by all").pod_frame(a, &ask).replies(&in_full),
        Row::of("asked of the gateway itself").pod_frame(a, &Arp { to: GATEWAY_MAC, ..ask }).replies(&answer(ask)),
        Row::of("asked by another pod")
            .pod_frame(b, &arp_request(b, b, gateway))
            .replies(&answer(arp_request(b, b, gateway))),
        Row::of("a frame that is filled up").pod_frame(a, &filled).replies(&filled_answer),
        Row::of("a probe for the gateway's address finds it taken").pod_frame(a, &probe).replies(&answer(probe)),
        Row::of("for itself: nobody else has it").pod_frame(a, &arp_request(a, none, a)).drops(NeighbourUnknown),
        Row::of("for its neighbour").pod_frame(a, &arp_request(a, a, b)).drops(NeighbourUnknown),
        Row::of("for the node").pod_frame(a, &arp_request(a, a, node)).drops(NeighbourUnknown),
        Row::of("for another node's pod").pod_frame(a, &arp_request(a, a, far)).drops(NeighbourUnknown),
        Row::of("for a machine outside").pod_frame(a, &arp_request(a, a, outside)).drops(NeighbourUnknown),
        Row::of("announcing itself").pod_frame(a, &arp_request(a, a, a)).drops(NeighbourUnknown),
        Row::of("an operation that is neither").pod_frame(a, &Arp { operation: 3, ..ask }).drops(NeighbourUnknown),
        Row::of("other hardware").pod_frame(a, &with(14, &[0, 6])).drops(Malformed),
        Row::of("another protocol").pod_frame(a, &with(16, &[0x86, 0xdd])).drops(Malformed),
        Row::of("other lengths").pod_frame(a, &with(18, &[8, 4])).drops(Malformed),
        Row::of("cut short").pod_frame(a, &bytes(ask)[..41].to_vec()).drops(Malformed),
    ]
}

#[test]
fn neighbour_discovery_for_the_gateway_is_answered() {
    run(neighbour_discovery);
}

pub fn neighbour_discovery(family: Family, cast: Cast) -> Vec<Row> {
    if family == Family::V4 {
        return Vec::new();
    }
    let Cast { a, b, gateway, far, node, .. } = cast;
    let link_local = a.at(v6("fe80::858:aff:fe80:1"));
    let none = a.at(v6("::"));
    let ask = solicitation(a, gateway);
    let answer = |to: Actor| neighbour_advertisement(gateway, to, gateway, GATEWAY_MAC).macs(a.mac, GATEWAY_MAC);
    let without_option = |packet: Packet| packet.data(gateway_octets());
    // To the last byte, spelled out once.
    let in_full = [
        &[0x0a, 0x58, 10, 128, 0, 1, 0x0a, 0x58, 169, 254, 1, 1, 0x86, 0xdd][..],
        &[0x60, 0, 0, 0, 0, 32, 58, 255],
        &[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        &[0xfd, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
        &[136, 0, 0xe6, 0x43, 0xe0, 0, 0, 0],
        &[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        &[2, 1, 0x0a, 0x58, 169, 254, 1, 1],
    ]
    .concat();
    vec![
        Row::of("asked of its group").pod(a, ask.clone()).replies(&in_full),
        Row::of("asked of the gateway itself")
            .pod(a, ask.clone().destination(gateway.address).macs(GATEWAY_MAC, a.mac))
            .replies(&answer(a)),
        Row::of("asked from a link-local address")
            .pod(a, solicitation(link_local, gateway))
            .replies(&answer(link_local)),
        Row::of("asked without its MAC").pod(a, without_option(ask.clone())).replies(&answer(a)),
        Row::of("asked with options to spare")
            .pod(a, ask.clone().data([&gateway_octets()[..], &[0xee; 64]].concat()))
            .replies(&answer(a)),
        Row::of("the traffic class of the question stays").pod(a, ask.clone().tos(0xc0)).replies(&answer(a).tos(0xc0)),
        Row::of("a probe for duplicates").pod(a, solicitation(none, gateway)).drops(NeighbourUnknown),
        Row::of("a probe for its own address").pod(a, solicitation(none, a)).drops(NeighbourUnknown),
        Row::of("for its neighbour").pod(a, solicitation(a, b)).drops(NeighbourUnknown),
        Row::of("for the node").pod(a, solicitation(a, node)).drops(NeighbourUnknown),
        Row::of("for another node's pod").pod(a, solicitation(a, far)).drops(NeighbourUnknown),
        Row::of("from further away than the link").pod(a, ask.clone().ttl(254)).drops(Malformed),
        Row::of("behind an extension header")
            .pod(a, ask.clone().extensions(&[Extension::hop_by_hop()]))
            .drops(Malformed),
        Row::of("without a target").pod(a, ask.data([])).drops(Malformed),
    ]
}

fn gateway_octets() -> [u8; 16] {
    sdn_common::wire::GATEWAY_V6
}

/// What a pod sends that is no packet of IP.
#[test]
fn other_protocols_are_refused() {
    run(ethertypes);
}

pub fn ethertypes(_: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, b, .. } = cast;
    let frame = |ethertype: u16| [&GATEWAY_MAC[..], &a.mac, &ethertype.to_be_bytes(), &[0; 46]].concat();
    let tagged = {
        let packet = udp(a, b).bytes();
        [&packet[..12], &[0x81, 0x00, 0, 5], &packet[12..]].concat()
    };
    vec![
        Row::of("LLDP").pod_frame(a, &frame(0x88cc)).drops(UnsupportedEthertype),
        Row::of("PPPoE").pod_frame(a, &frame(0x8864)).drops(UnsupportedEthertype),
        Row::of("an 802.3 length").pod_frame(a, &frame(46)).drops(UnsupportedEthertype),
        Row::of("a VLAN tag").pod_frame(a, &tagged).drops(UnsupportedEthertype),
    ]
}

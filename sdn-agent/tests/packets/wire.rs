//! Decision 10 of the design: what one node tells another, and what becomes of what it does not know.

use sdn_common::Identity;
use sdn_common::Reason::*;
use sdn_common::wire::{Kind, Sender};

use crate::harness::world::{EPOCH, tunnel};
use crate::harness::*;

/// The inner source address: 02, the kind with its version, 32 bits. Written by the programs, read by them, nobody else's business.
#[test]
fn senders_are_known_by_the_inner_source_address() {
    run(kinds);
}

pub fn kinds(_: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, far, node, two, .. } = cast;
    let foreign = |mac| udp(far, a).with_mac(mac);
    let [_, _, i0, i1, i2, i3] = far.mac;
    vec![
        Row::of("a pod's incarnation goes with its packets").pod(a, udp(a, far)).tunnels(a, far),
        Row::of("the node's packets are of kind node").host(udp(node, far)).tunnels(node, far),
        Row::of("kind pod").tunnel(far, foreign([2, 0x11, i0, i1, i2, i3])).reaches(a),
        Row::of("kind node").tunnel(two, udp(two, a).with_mac([2, 0x10, 0, 0, 0, 0])).reaches(a),
        Row::of("the destination address does not matter").tunnel(far, udp(far, a).macs([0xff; 6], far.mac)).reaches(a),
        Row::of("a later version of kind pod").tunnel(far, foreign([2, 0x21, i0, i1, i2, i3])).drops(TunnelKind),
        Row::of("a later version of kind node").tunnel(two, foreign([2, 0x20, 0, 0, 0, 0])).drops(TunnelKind),
        Row::of("an unknown kind").tunnel(far, foreign([2, 0x12, i0, i1, i2, i3])).drops(TunnelKind),
        Row::of("kind 0").tunnel(far, foreign([2, 0, i0, i1, i2, i3])).drops(TunnelKind),
        Row::of("another first octet").tunnel(far, foreign([0, 0x11, i0, i1, i2, i3])).drops(TunnelKind),
        Row::of("a device's own address").tunnel(far, foreign([0x52, 0x54, 0, 1, 2, 3])).drops(TunnelKind),
        Row::of("no address").tunnel(far, foreign([0; 6])).drops(TunnelKind),
        Row::of("a pod without an incarnation").tunnel(far, foreign([2, 0x11, 0, 0, 0, 0])).drops(TunnelKind),
        Row::of("a node with one").tunnel(two, udp(two, a).with_mac([2, 0x10, 0, 0, 0, 7])).drops(TunnelKind),
        Row::of("an unknown kind within a known flow")
            .pod(a, udp(a, far))
            .tunnels(a, far)
            .tunnel(far, udp_back(far, a).with_mac([2, 0x12, i0, i1, i2, i3]))
            .drops(TunnelKind),
        Row::of("frames of other protocols")
            .tunnel_frame(far, &[vec![0xff; 12], vec![0x08, 0x06], vec![0; 46]].concat())
            .drops(UnsupportedEthertype),
    ]
}

/// VNI 0 until projects have numbers of their own; others are a counted drop, all 24 bits.
#[test]
fn other_networks_are_refused() {
    run(networks);
}

pub fn networks(_: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, far, two, .. } = cast;
    let by = |vni| Tunnel { from: tunnel(2), vni };
    vec![
        Row::of("network 0").tunnel_by(by(0), udp(far, a)).reaches(a),
        Row::of("network 1").tunnel_by(by(1), udp(far, a)).drops(TunnelVni),
        Row::of("network 0x100, whose low byte is 0").tunnel_by(by(0x100), udp(far, a)).drops(TunnelVni),
        Row::of("network 0x10000, whose low bytes are 0").tunnel_by(by(0x01_0000), udp(far, a)).drops(TunnelVni),
        Row::of("the last network").tunnel_by(by(0xff_ffff), udp(far, a)).drops(TunnelVni),
        Row::of("a node's packet in another network").tunnel_by(by(1), udp(two, a)).drops(TunnelVni),
        Row::of("another network within a known flow")
            .tunnel(far, udp(far, a))
            .reaches(a)
            .tunnel_by(by(1), udp(far, a))
            .drops(TunnelVni),
    ]
}

/// "A packet whose incarnation is not the one the receiver knows for that address is dropped, never judged by the old labels."
#[test]
fn another_pod_at_a_known_address_is_stale() {
    run(incarnations);
}

pub fn incarnations(_: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, far, unheard, .. } = cast;
    let successor = Actor {
        incarnation: 0xb000_1007,
        mac: Sender { kind: Kind::Pod, value: 0xb000_1007 }.mac(),
        identity: Identity(999),
        ..far
    };
    let learn = move |bench: &mut Bench| {
        bench.set_peer(successor);
        bench.change_state(|state| state.epoch += 1);
    };
    vec![
        Row::of("not the pod that is known").tunnel(far, udp(successor, a)).drops(StalePeer),
        Row::of("not the pod that is known, an ICMP error")
            .pod(a, udp(a, far))
            .tunnels(a, far)
            .tunnel(far, error(successor, a, Error::Port, &udp(a, far)))
            .drops(StalePeer),
        Row::of("not the pod that is known, within its flow")
            .tunnel(far, udp(far, a))
            .reaches(a)
            .tunnel(far, udp(successor, a))
            .drops(StalePeer),
        Row::of("the pod is known by now").given(learn).tunnel(far, udp(successor, a)).reaches(a),
        Row::of("its predecessor is not any more")
            .tunnel(far, udp(far, a))
            .reaches(a)
            .given(learn)
            .tunnel(far, udp(far, a))
            .drops(StalePeer)
            .tunnel(far, udp(successor, a))
            .reaches(a),
        Row::of("an unknown pod of a known host subnet").tunnel(unheard, udp(unheard, a)).reaches(a),
        Row::of("an answer from an unknown pod")
            .pod(a, udp(a, unheard))
            .tunnels(a, unheard)
            .tunnel(unheard, udp_back(unheard, a))
            .reaches(a)
            .flow(&udp(a, unheard), "answered")
            .pod(a, udp(a, unheard))
            .tunnels(a, unheard),
        Row::of("another unknown pod within its flow is another flow")
            .tunnel(unheard, udp(unheard, a))
            .reaches(a)
            .pod(a, udp_back(a, unheard))
            .tunnels(a, unheard)
            .flow(&udp(unheard, a), "answered")
            .tunnel(unheard, udp(unheard, a).with_mac(successor.mac))
            .reaches(a)
            .flow(&udp(unheard, a), "answered, not replied"),
        Row::of("an unknown pod becomes known, within its flow")
            .tunnel(unheard, udp(unheard, a))
            .reaches(a)
            .pod(a, udp_back(a, unheard))
            .tunnels(a, unheard)
            .given(move |bench| {
                bench.set_peer(unheard);
                bench.change_state(|state| state.epoch += 1);
            })
            .tunnel(unheard, udp(unheard, a))
            .reaches(a)
            .flow(&udp(unheard, a), "answered")
            .check(move |bench| match bench.flow_sides(&udp(unheard, a)) {
                Some((sender, _)) if sender.identity == unheard.identity => Ok(()),
                sides => Err(format!("the flow's ends are {sides:?}")),
            }),
        Row::of("a pod stays unknown while the epoch moves: its flow lives on")
            .tunnel(unheard, udp(unheard, a))
            .reaches(a)
            .pod(a, udp_back(a, unheard))
            .tunnels(a, unheard)
            .given(|bench| bench.change_state(|state| state.epoch = EPOCH + 1))
            .pod(a, udp_back(a, unheard))
            .tunnels(a, unheard)
            .flow(&udp(unheard, a), "answered"),
    ]
}

/// "IPv6-only clusters and underlays are first-class": what travels in a tunnel does not depend on what it goes over.
#[test]
fn tunnels_go_over_ipv6_as_well() {
    run(underlays);
}

pub fn underlays(_: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, six, node, .. } = cast;
    let by = |from| Tunnel { from, vni: 0 };
    // The same bytes as node 6's, read as IPv4.
    let confused = underlay(Family::V4, 6);
    vec![
        Row::of("to it").pod(a, udp(a, six)).tunnels(a, six),
        Row::of("from the node to it").host(udp(node, six)).tunnels(node, six),
        Row::of("from it").tunnel(six, udp(six, a)).reaches(a),
        Row::of("back and forth")
            .pod(a, tcp(a, six, SYN))
            .tunnels(a, six)
            .tunnel(six, tcp_back(six, a, SYN | ACK))
            .reaches(a),
        Row::of("from no node").tunnel_by(by(underlay(Family::V6, 77)), udp(six, a)).drops(TunnelUnknownNode),
        Row::of("from the node's number over IPv4").tunnel_by(by(confused), udp(six, a)).drops(TunnelUnknownNode),
        Row::of("from another node over IPv4").tunnel_by(by(tunnel(2)), udp(six, a)).drops(TunnelForeignSource),
    ]
}

/// What comes out of the tunnel is for this node or its pods; it is not carried further.
#[test]
fn what_arrives_is_for_this_node() {
    run(arrivals);
}

pub fn arrivals(family: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, b, far, other, outside, free, homeless, node, node_uplink, two, three, .. } = cast;
    let group = outside.at(family.pick([224, 0, 0, 1].into(), v6("ff02::1")));
    let loopback = outside.at(family.pick([127, 0, 0, 1].into(), v6("::1")));
    let metadata = outside.at(family.pick([169, 254, 169, 254].into(), v6("fe80::a9fe:a9fe")));
    vec![
        Row::of("for a pod").tunnel(far, udp(far, b)).reaches(b),
        Row::of("for the node").tunnel(far, udp(far, node)).reaches_host(),
        Row::of("for the node's address on the uplink").tunnel(far, udp(far, node_uplink)).reaches_host(),
        Row::of("from a node for the node").tunnel(two, udp(two, node)).reaches_host(),
        Row::of("for a pod of the sending node").tunnel(far, udp(far, cast.unheard)).drops(TunnelNotLocal),
        Row::of("for another node's pod").tunnel(far, udp(far, other)).drops(TunnelNotLocal),
        Row::of("for another node").tunnel(far, udp(far, three)).drops(TunnelNotLocal),
        Row::of("for the outside").tunnel(far, udp(far, outside)).drops(TunnelNotLocal),
        Row::of("for a group").tunnel(far, udp(far, group)).drops(TunnelNotLocal),
        Row::of("for loopback").tunnel(far, udp(far, loopback)).drops(TunnelNotLocal),
        Row::of("for the metadata service").tunnel(far, udp(far, metadata)).drops(TunnelNotLocal),
        Row::of("for a free address").tunnel(far, udp(far, free)).drops(UnknownDestination),
        Row::of("for nobody's address").tunnel(far, udp(far, homeless)).drops(UnknownDestination),
        Row::of("for a pod that moved away")
            .tunnel(far, udp(far, a))
            .reaches(a)
            .given(move |bench| {
                bench.remove_endpoint(a);
                bench.set_peer(Actor { node: 3, ..a });
                bench.change_state(|state| state.epoch += 1);
            })
            .tunnel(far, udp(far, a))
            .drops(TunnelNotLocal),
        Row::of("for a pod that is gone")
            .given(move |bench| bench.remove_endpoint(a))
            .tunnel(far, udp(far, a))
            .drops(UnknownDestination),
        Row::of("the last hop: time to live 1").tunnel(far, udp(far, a).ttl(1)).reaches(a),
        Row::of("time to live 0").tunnel(far, udp(far, a).ttl(0)).drops(TtlExpired),
        Row::of("cut short behind the IP header")
            .tunnel(far, udp(far, a).frame_len(ETHERNET + family.pick(20, 40)))
            .drops(Malformed),
        Row::of("cut short by a byte")
            .tunnel(far, {
                let whole = udp(far, a);
                let len = whole.bytes().len();
                whole.frame_len(len - 1)
            })
            .drops(Malformed),
        Row::of("no tunnel at all: from this node's pods, for the node")
            .frame(At::overlay(None), &udp(a, node))
            .reaches_host(),
    ]
}

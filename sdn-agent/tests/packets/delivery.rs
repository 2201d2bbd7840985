//! Where packets go, and where they may not.

use sdn_common::Reason::*;
use sdn_common::{Addr4, Addr6, Endpoint, NodeState};

use crate::harness::*;

/// Same node, other nodes, the node itself, other nodes themselves: no translation anywhere.
#[test]
fn packets_reach_pods_and_nodes() {
    run(paths);
}

pub fn paths(family: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, b, shaped, far, unheard, node, node_uplink, two, two_uplink, .. } = cast;
    let mut rows = Vec::new();
    let kinds: [fn(Actor, Actor) -> Packet; 6] =
        [udp, |from, to| tcp(from, to, SYN), echo, sctp, |from, to| raw(from, to, GRE), |from, to| raw(from, to, 50)];
    for packet in kinds {
        rows.extend([
            Row::of("same node").pod(a, packet(a, b)).reaches(b),
            Row::of("same node, a pod with a bandwidth limit").pod(a, packet(a, shaped)).reaches(shaped),
            Row::of("another node's pod").pod(a, packet(a, far)).tunnels(a, far),
            Row::of("another node's pod that is not known yet").pod(a, packet(a, unheard)).tunnels(a, unheard),
            Row::of("from another node's pod").tunnel(far, packet(far, a)).reaches(a),
            Row::of("its node").pod(a, packet(a, node)).reaches_host(),
            Row::of("its node's address on the uplink").pod(a, packet(a, node_uplink)).reaches_host(),
            Row::of("from its node").host(packet(node, a)).reaches(a),
            Row::of("another node").pod(a, packet(a, two)).tunnels(a, two),
            Row::of("another node's address on the underlay").pod(a, packet(a, two_uplink)).tunnels(a, two_uplink),
            Row::of("from another node").tunnel(two, packet(two, a)).reaches(a),
            Row::of("from a node to another node's pod").host(packet(node, far)).tunnels(node, far),
        ]);
    }
    // Whatever else stands in the header goes along.
    let dressed = match family {
        Family::V4 => udp(a, b).options(&[1, 1, 1, 0]),
        Family::V6 => udp(a, b).extensions(&[Extension::destination_options(16)]),
    };
    let odd = udp(a, b).data([1, 2, 3]);
    let padded = odd.bytes().len() + 3;
    rows.extend([
        Row::of("options and extension headers").pod(a, dressed).reaches(b),
        Row::of("traffic class").pod(a, udp(a, b).tos(0xba)).reaches(b),
        Row::of("no data").pod(a, udp(a, b).data([])).reaches(b),
        Row::of("a frame that is filled up").pod(a, odd.frame_len(padded)).reaches(b),
        Row::of("to itself").pod(a, udp(a, a)).reaches(a),
        Row::of("a client's port that is the server's").pod(a, udp(a, b).ports(53, 53)).reaches(b),
        Row::of("every time to live: the IPv4 checksum follows").pod(a, udp(a, b).ttl(255)).reaches(b),
    ]);
    for ttl in 2..255 {
        rows.push(Row::of("some time to live").pod(a, udp(a, b).ttl(ttl).id(u16::from(ttl) << 8 | 0xfe)).reaches(b));
    }
    rows
}

/// The epoch has moved, but a new pod's packets are not yet known here: nothing reaches it by its predecessor's flow.
#[test]
fn a_pods_flows_end_with_it() {
    run(successors);
}

pub fn successors(_: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, b, far, .. } = cast;
    let successor = Actor { incarnation: 0xa000_1002, ..b };
    let moved = |bench: &mut Bench| bench.change_state(|state| state.epoch += 1);
    vec![
        Row::of("the epoch has not moved yet")
            .pod(a, udp(a, b))
            .reaches(b)
            .given(move |bench| bench.set_endpoint(successor, 0))
            .pod(a, udp(a, b))
            .drops(StalePeer)
            .given(moved)
            .pod(a, udp(a, b))
            .reaches(successor),
        Row::of("the epoch has not moved yet, out of the tunnel")
            .tunnel(far, udp(far, b))
            .reaches(b)
            .given(move |bench| bench.set_endpoint(successor, 0))
            .tunnel(far, udp(far, b))
            .drops(StalePeer)
            .given(moved)
            .tunnel(far, udp(far, b))
            .reaches(successor),
        Row::of("the epoch has not moved yet, an ICMP error")
            .pod(b, udp(b, far))
            .tunnels(b, far)
            .given(move |bench| bench.set_endpoint(successor, 0))
            .tunnel(far, error(far, b, Error::Port, &udp(b, far)))
            .drops(StalePeer),
        Row::of("gone, and the epoch has not moved yet")
            .pod(a, udp(a, b))
            .reaches(b)
            .given(move |bench| bench.remove_endpoint(b))
            .pod(a, udp(a, b))
            .drops(UnknownDestination),
    ]
}

/// Addresses that nobody has, and those that are not forwarded.
#[test]
fn some_destinations_are_none() {
    run(nowhere);
}

pub fn nowhere(family: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, free, homeless, node, gateway, .. } = cast;
    let to = |v4: [u8; 4], v6_text: &str| a.at(family.pick(v4.into(), v6(v6_text)));
    let unreachable = |packet: Packet| answer(family, node, a, Error::Host, packet);
    let mut rows = vec![
        Row::of("a free address").pod(a, udp(a, free)).answers(UnknownDestination, &unreachable(udp(a, free))),
        Row::of("a free address, TCP")
            .pod(a, tcp(a, free, SYN))
            .answers(UnknownDestination, &unreachable(tcp(a, free, SYN))),
        Row::of("an address of no node")
            .pod(a, udp(a, homeless))
            .answers(UnknownDestination, &unreachable(udp(a, homeless))),
        Row::of("a group").pod(a, udp(a, to([224, 0, 0, 251], "ff02::fb"))).drops(Multicast),
        Row::of("a group of the whole site").pod(a, udp(a, to([239, 1, 2, 3], "ff05::2"))).drops(Multicast),
        Row::of("loopback").pod(a, udp(a, to([127, 0, 0, 1], "::1"))).drops(UnknownDestination),
        Row::of("no address").pod(a, udp(a, to([0, 0, 0, 0], "::"))).drops(UnknownDestination),
        Row::of("the gateway").pod(a, udp(a, gateway)).drops(LinkLocal),
        Row::of("link-local").pod(a, udp(a, to([169, 254, 7, 7], "fe80::77"))).drops(LinkLocal),
        Row::of("link-local, from its link-local address")
            .pod(a, udp(to([169, 254, 7, 6], "fe80::76"), to([169, 254, 7, 7], "fe80::77")))
            .drops(LinkLocal),
    ];
    if family == Family::V4 {
        let broadcast = to([255, 255, 255, 255], "::");
        rows.push(Row::of("broadcast").pod(a, udp(a, broadcast).ports(68, 67)).drops(Multicast));
        let subnet = to([10, 128, 1, 255], "::");
        rows.push(
            Row::of("its subnet's broadcast")
                .pod(a, udp(a, subnet))
                .answers(UnknownDestination, &unreachable(udp(a, subnet))),
        );
    }
    rows
}

/// Pods reach neither the metadata service (DNS excepted) nor the machine configuration server of nodes, unless told to.
#[test]
fn metadata_and_machine_configuration_are_out_of_reach() {
    run(forbidden);
}

pub fn forbidden(family: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, b, far, outside, node, node_uplink, two, two_uplink, .. } = cast;
    let translated = |packet: &Packet| packet.clone().translate_source(node_uplink, PORT);
    let server = |to: Actor, port: u16| tcp(a, to, SYN).ports(CLIENT, port);
    let allow = |flag: u32| move |bench: &mut Bench| bench.change_state(|state| state.flags |= flag);
    let mut rows = vec![
        Row::of("one port lower").pod(a, server(two, 22622)).tunnels(a, two),
        Row::of("one port higher").pod(a, server(two, 22625)).tunnels(a, two),
        Row::of("another protocol").pod(a, udp(a, two).ports(CLIENT, 22623)).tunnels(a, two),
        Row::of("a pod's port").pod(a, server(far, 22623)).tunnels(a, far),
        Row::of("its neighbour's port").pod(a, server(b, 22624)).reaches(b),
        Row::of("a port outside").pod(a, server(outside, 22623)).leaves_as(&translated(&server(outside, 22623))),
        Row::of("from the port").pod(a, tcp(a, two, SYN).ports(22623, 80)).tunnels(a, two),
        Row::of("from the node itself").host(tcp(node, two, SYN).ports(CLIENT, 22623)).tunnels(node, two),
        Row::of("allowed").given(allow(NodeState::MACHINE_CONFIG)).pod(a, server(two, 22623)).tunnels(a, two),
        Row::of("allowed on its node")
            .given(allow(NodeState::MACHINE_CONFIG))
            .pod(a, server(node, 22624))
            .reaches_host(),
        Row::of("allowed is something else")
            .given(allow(NodeState::METADATA))
            .pod(a, server(two, 22623))
            .drops(MachineConfig),
    ];
    for port in [22623, 22624] {
        for whom in [node, node_uplink, two, two_uplink] {
            rows.push(Row::of("the machine configuration server").pod(a, server(whom, port)).drops(MachineConfig));
            let later = tcp(a, whom, ACK).ports(CLIENT, port);
            rows.push(Row::of("the machine configuration server, mid-stream").pod(a, later).drops(MachineConfig));
        }
    }
    if family == Family::V4 {
        rows.extend(metadata(cast));
    }
    rows
}

fn metadata(cast: Cast) -> Vec<Row> {
    let Cast { a, b, node_uplink, .. } = cast;
    let service = a.at([169, 254, 169, 254].into());
    let translated = |packet: &Packet| packet.clone().translate_source(node_uplink, PORT);
    let web = tcp(a, service, SYN);
    let dns = [udp(a, service).ports(CLIENT, 53), tcp(a, service, SYN).ports(CLIENT, 53)];
    let allow = |bench: &mut Bench| bench.change_state(|state| state.flags |= NodeState::METADATA);
    let favour = move |bench: &mut Bench| bench.set_endpoint(a, Endpoint::METADATA);
    let others = tcp(b, service, SYN);
    vec![
        Row::of("the metadata service").pod(a, web.clone()).drops(Metadata),
        Row::of("the metadata service by UDP").pod(a, udp(a, service)).drops(Metadata),
        Row::of("the metadata service by ping").pod(a, echo(a, service)).drops(Metadata),
        Row::of("by a protocol without ports").pod(a, raw(a, service, GRE)).drops(Metadata),
        Row::of("DNS of the metadata service").pod(a, dns[0].clone()).leaves_as(&translated(&dns[0])),
        Row::of("DNS by TCP").pod(a, dns[1].clone()).leaves_as(&translated(&dns[1])),
        Row::of("SCTP port 53 is no DNS").pod(a, sctp(a, service).ports(CLIENT, 53)).drops(Metadata),
        Row::of("all pods may").given(allow).pod(a, web.clone()).leaves_as(&translated(&web)),
        Row::of("this pod may").given(favour).pod(a, web.clone()).leaves_as(&translated(&web)),
        Row::of("another pod may").given(favour).pod(b, others).drops(Metadata),
        Row::of("another pod may, in its name").given(favour).pod(b, tcp(a, service, SYN)).drops(SpoofedAddress),
        Row::of("other link-local addresses stay where they are")
            .given(allow)
            .pod(a, tcp(a, a.at([169, 254, 169, 253].into()), SYN))
            .drops(LinkLocal),
    ]
}

/// Without masquerade there is no way outside, and the sender hears of it.
#[test]
fn the_outside_takes_masquerade() {
    run(no_outside);
}

pub fn no_outside(family: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, outside, node, .. } = cast;
    let told = |packet: &Packet| answer(family, node, a, Error::Net, packet.clone());
    let without: [fn(&mut NodeState); 3] = [
        |state| state.flags = 0,
        |state| state.uplink_ifindex = 0,
        |state| (state.v4.masquerade, state.v6.masquerade) = (Addr4::default(), Addr6::default()),
    ];
    without
        .into_iter()
        .flat_map(|change| {
            let none = move |bench: &mut Bench| bench.change_state(change);
            let moved = move |bench: &mut Bench| bench.change_state(|state| state.epoch += 1);
            let (packet, opening) = (udp(a, outside), tcp(a, outside, SYN));
            let translated = packet.clone().translate_source(cast.node_uplink, PORT);
            [
                Row::of("no way outside").given(none).pod(a, packet.clone()).answers(NoOutside, &told(&packet)),
                Row::of("no way outside, TCP").given(none).pod(a, opening.clone()).answers(NoOutside, &told(&opening)),
                Row::of("no way outside any more")
                    .pod(a, packet.clone())
                    .leaves_as(&translated)
                    .given(none)
                    .pod(a, packet.clone())
                    .answers(NoOutside, &told(&packet))
                    .given(moved)
                    .pod(a, packet.clone())
                    .answers(NoOutside, &told(&packet)),
            ]
        })
        .collect()
}

//! Decision 9 of the design: sources are not believed. Each sentence of it has its table, with a forged packet for each rule.

use sdn_common::Reason::*;
use sdn_common::wire::{Kind, Sender};

use crate::harness::*;

/// "A pod sends only from its own address and MAC."
#[test]
fn pods_send_from_their_own_address_and_mac() {
    run(pods);
}

pub fn pods(family: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, b, far, free, outside, node, node_uplink, two, homeless, gateway, .. } = cast;
    let from = |whom: Actor| udp(whom, far).with_mac(a.mac);
    let loopback = a.at(family.pick([127, 0, 0, 1].into(), v6("::1")));
    let unspecified = a.at(family.pick([0, 0, 0, 0].into(), v6("::")));
    let multicast = a.at(family.pick([224, 0, 0, 1].into(), v6("ff02::1")));
    vec![
        Row::of("its own address and MAC").pod(a, udp(a, far)).tunnels(a, far),
        Row::of("another pod's address").pod(a, from(b)).drops(SpoofedAddress),
        Row::of("another pod's address and MAC").pod(a, udp(b, far)).drops(SpoofedAddress),
        Row::of("another pod's address, to that pod").pod(a, udp(b, b).with_mac(a.mac)).drops(SpoofedAddress),
        Row::of("an address that nobody has").pod(a, from(free)).drops(SpoofedAddress),
        Row::of("the node's address").pod(a, from(node)).drops(SpoofedAddress),
        Row::of("the node's address on the uplink").pod(a, from(node_uplink)).drops(SpoofedAddress),
        Row::of("another node's address").pod(a, from(two)).drops(SpoofedAddress),
        Row::of("the address of another node's pod").pod(a, udp(far, b).with_mac(a.mac)).drops(SpoofedAddress),
        Row::of("an address of the cluster network").pod(a, from(homeless)).drops(SpoofedAddress),
        Row::of("an address from outside").pod(a, from(outside)).drops(SpoofedAddress),
        Row::of("the gateway's address").pod(a, from(gateway)).drops(SpoofedAddress),
        Row::of("a loopback address").pod(a, from(loopback)).drops(SpoofedAddress),
        Row::of("no address").pod(a, from(unspecified)).drops(SpoofedAddress),
        Row::of("a multicast address").pod(a, from(multicast)).drops(SpoofedAddress),
        Row::of("another pod's MAC").pod(a, udp(a, far).with_mac(b.mac)).drops(SpoofedMac),
        Row::of("the MAC of a tunnelled packet")
            .pod(a, udp(a, far).with_mac(Sender { kind: Kind::Pod, value: b.incarnation }.mac()))
            .drops(SpoofedMac),
        Row::of("the MAC of a tunnelled packet from a node")
            .pod(a, udp(a, far).with_mac(Sender { kind: Kind::Node, value: 0 }.mac()))
            .drops(SpoofedMac),
        Row::of("another pod's established flow")
            .pod(a, udp(a, b))
            .reaches(b)
            .pod(b, udp_back(b, a))
            .reaches(a)
            .pod(b, udp(a, b))
            .drops(SpoofedAddress),
        Row::of("another pod's established flow to the outside")
            .pod(a, udp(a, outside))
            .leaves_as(&udp(a, outside).translate_source(node_uplink, PORT))
            .pod(b, udp(a, outside).with_mac(b.mac))
            .drops(SpoofedAddress),
        Row::of("an address of a pod that is gone")
            .given(move |bench| bench.remove_endpoint(a))
            .pod(a, udp(a, far))
            .drops(SpoofedAddress),
    ]
}

/// "A pod sends only from its own address and MAC": also in ARP.
#[test]
fn pods_claim_nobodys_address_in_arp() {
    run(arp);
}

pub fn arp(family: Family, cast: Cast) -> Vec<Row> {
    if family == Family::V6 {
        return Vec::new();
    }
    let Cast { a, b, free, node, .. } = cast;
    let ask = |sender: Actor| arp_request(a, sender, cast.gateway);
    vec![
        Row::of("asks as another pod").pod_frame(a, &ask(b)).drops(SpoofedNeighbour),
        Row::of("asks as nobody").pod_frame(a, &ask(free)).drops(SpoofedNeighbour),
        Row::of("asks as the node").pod_frame(a, &ask(node)).drops(SpoofedNeighbour),
        Row::of("asks as the gateway").pod_frame(a, &ask(cast.gateway)).drops(SpoofedNeighbour),
        Row::of("another MAC in the message")
            .pod_frame(a, &Arp { sender_mac: b.mac, ..ask(a) })
            .drops(SpoofedNeighbour),
        Row::of("another MAC in the frame").pod_frame(a, &Arp { from: b.mac, ..ask(a) }).drops(SpoofedNeighbour),
        Row::of("announces the gateway's address")
            .pod_frame(a, &arp_request(a, cast.gateway, cast.gateway))
            .drops(SpoofedNeighbour),
        Row::of("answers for the gateway")
            .pod_frame(a, &Arp { operation: 2, ..arp_request(a, cast.gateway, b) })
            .drops(SpoofedNeighbour),
        Row::of("answers for itself, unasked")
            .pod_frame(a, &Arp { operation: 2, ..arp_request(a, a, b) })
            .drops(NeighbourUnknown),
    ]
}

/// "A pod sends only from its own address and MAC": also in neighbour discovery. Pods are no routers.
#[test]
fn pods_claim_nobodys_address_in_neighbour_discovery_and_are_no_routers() {
    run(neighbour_discovery);
}

pub fn neighbour_discovery(family: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, b, far, node, gateway, outside, .. } = cast;
    if family == Family::V4 {
        return vec![
            Row::of("a redirect").pod(a, icmp(a, b, 5, 1, [0; 4])).drops(RouterImpersonation),
            Row::of("a redirect in another's name").pod(a, icmp(node, b, 5, 0, [0; 4])).drops(RouterImpersonation),
        ];
    }
    let link_local = a.at(v6("fe80::858:aff:fe80:1"));
    let advertisement = |from: Actor, to: Actor, target: Actor| neighbour_advertisement(from, to, target, a.mac);
    vec![
        Row::of("asks as another pod").pod(a, solicitation(b, gateway).with_mac(a.mac)).drops(SpoofedNeighbour),
        Row::of("asks as another node's pod").pod(a, solicitation(far, gateway)).drops(SpoofedNeighbour),
        Row::of("asks as a machine outside").pod(a, solicitation(outside, gateway)).drops(SpoofedNeighbour),
        Row::of("asks with another MAC").pod(a, solicitation(a, gateway).with_mac(b.mac)).drops(SpoofedNeighbour),
        Row::of("advertises as another pod").pod(a, advertisement(b, a, b)).drops(SpoofedNeighbour),
        Row::of("advertises another's address").pod(a, advertisement(a, b, b)).drops(NeighbourUnknown),
        Row::of("advertises the gateway's address, as the gateway")
            .pod(a, advertisement(gateway, b, gateway))
            .drops(NeighbourUnknown),
        Row::of("a router advertisement")
            .pod(a, icmp(link_local, b, 134, 0, [64, 0, 0, 60]))
            .drops(RouterImpersonation),
        Row::of("a router advertisement to all nodes")
            .pod(a, icmp(link_local, link_local.at(v6("ff02::1")), 134, 0, [64, 0, 0, 60]).ttl(255))
            .drops(RouterImpersonation),
        Row::of("a router advertisement behind an extension header")
            .pod(a, icmp(a, b, 134, 0, [64, 0, 0, 60]).extensions(&[Extension::destination_options(8)]))
            .drops(RouterImpersonation),
        Row::of("a router solicitation").pod(a, icmp(link_local, gateway, 133, 0, [0; 4])).drops(NeighbourUnknown),
        Row::of("a redirect").pod(a, icmp(a, b, 137, 0, [0; 4])).drops(RouterImpersonation),
        Row::of("a redirect in the gateway's name").pod(a, icmp(gateway, b, 137, 0, [0; 4])).drops(RouterImpersonation),
    ]
}

/// "A tunnel packet comes from a known node, and its inner source belongs to that node (its host subnet, its own addresses)."
#[test]
fn tunnelled_packets_come_from_the_node_of_their_source() {
    run(tunnel);
}

pub fn tunnel(family: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, b, far, other, unheard, free, homeless, outside, .. } = cast;
    let Cast { node, node_uplink, two, two_uplink, three, three_uplink, .. } = cast;
    let stranger = Tunnel { from: underlay(Family::V4, 99), vni: 0 };
    let own = Tunnel { from: underlay(Family::V4, 1), vni: 0 };
    // An address that node 3 has but is not known of, in the name of a pod.
    let elsewhere = unheard.at(family.pick([10, 128, 4, 99].into(), v6("fd01:0:0:4::99")));
    let as_pod = |whom: Actor| udp(whom, a).with_mac(far.mac);
    let as_node = |whom: Actor| udp(whom, a).with_mac(two.mac);
    let loopback = far.at(family.pick([127, 0, 0, 1].into(), v6("::1")));
    let unspecified = far.at(family.pick([0, 0, 0, 0].into(), v6("::")));
    let multicast = far.at(family.pick([224, 0, 0, 1].into(), v6("ff02::1")));
    let established = || {
        let row = Row::of("an established flow from elsewhere");
        row.tunnel(far, udp(far, a)).reaches(a).pod(a, udp_back(a, far)).tunnels(a, far)
    };
    vec![
        Row::of("a node's pod").tunnel(far, udp(far, a)).reaches(a),
        Row::of("a node's address").tunnel(two, udp(two, a)).reaches(a),
        Row::of("a node's address on the underlay").tunnel(two, udp(two_uplink, a)).reaches(a),
        Row::of("from nobody's tunnel").tunnel_by(stranger, udp(far, a)).drops(TunnelUnknownNode),
        Row::of("from this node's own tunnel").tunnel_by(own, udp(far, a)).drops(TunnelUnknownNode),
        Row::of("from a node that is gone")
            .given(|bench| bench.remove_tunnel(world::tunnel(2)))
            .tunnel(far, udp(far, a))
            .drops(TunnelUnknownNode),
        Row::of("another node's pod").tunnel(far, udp(other, a)).drops(TunnelForeignSource),
        Row::of("an unknown pod of another node").tunnel(far, udp(elsewhere, a)).drops(TunnelForeignSource),
        Row::of("another node's address").tunnel(far, udp(three, a)).drops(TunnelForeignSource),
        Row::of("another node's address on the underlay").tunnel(far, udp(three_uplink, a)).drops(TunnelForeignSource),
        Row::of("this node's pod").tunnel(far, as_pod(b)).drops(TunnelForeignSource),
        Row::of("this node's free address").tunnel(far, as_pod(free)).drops(TunnelForeignSource),
        Row::of("this node's address, as a node").tunnel(far, as_node(node)).drops(TunnelForeignSource),
        Row::of("this node's address, as a pod").tunnel(far, as_pod(node)).drops(TunnelForeignSource),
        Row::of("this node's address on the uplink").tunnel(far, as_node(node_uplink)).drops(TunnelForeignSource),
        Row::of("nobody's address in the cluster").tunnel(far, as_pod(homeless)).drops(TunnelForeignSource),
        Row::of("an address from outside, as a pod").tunnel(far, as_pod(outside)).drops(TunnelForeignSource),
        Row::of("an address from outside, as a node").tunnel(far, as_node(outside)).drops(TunnelForeignSource),
        Row::of("a loopback address").tunnel(far, as_pod(loopback)).drops(TunnelForeignSource),
        Row::of("no address").tunnel(far, as_pod(unspecified)).drops(TunnelForeignSource),
        Row::of("a multicast address").tunnel(far, as_pod(multicast)).drops(TunnelForeignSource),
        Row::of("a pod's address as a node's").tunnel(far, udp(far, a).with_mac(two.mac)).drops(TunnelForeignSource),
        Row::of("a node's address as a pod's").tunnel(far, udp(two, a).with_mac(far.mac)).drops(TunnelForeignSource),
        established().tunnel(far, udp(far, a)).reaches(a),
        established().tunnel(other, udp(far, a)).drops(TunnelForeignSource),
        established().tunnel_by(stranger, udp(far, a)).drops(TunnelUnknownNode),
        established().tunnel(far, udp(far, a).with_mac(two.mac)).drops(TunnelForeignSource),
        Row::of("a node's established flow from elsewhere")
            .host(udp(node, two))
            .tunnels(node, two)
            .tunnel(two, udp_back(two, node))
            .reaches_host()
            .tunnel(other, udp_back(two, node))
            .drops(TunnelForeignSource),
        Row::of("an ICMP error from elsewhere")
            .pod(a, udp(a, far))
            .tunnels(a, far)
            .tunnel(other, error(far, a, Error::Port, &udp(a, far)))
            .drops(TunnelForeignSource),
    ]
}

/// "A packet from the uplink with a source or destination in the cluster network, or a loopback source, is dropped."
#[test]
fn the_uplink_does_not_speak_for_the_cluster() {
    run(uplink);
}

pub fn uplink(family: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, far, outside, node_uplink, .. } = cast;
    let mut rows = from_the_underlay(family, cast, At::uplink());
    rows.push(
        Row::of("forged reply to a masqueraded flow")
            .pod(a, udp(a, outside))
            .leaves_as(&udp(a, outside).translate_source(node_uplink, PORT))
            .uplink(udp(far, node_uplink).ports(80, PORT))
            .drops(UplinkForged),
    );
    rows
}

/// What is wrong by its addresses alone is refused before there is a socket buffer, and nothing else is.
#[test]
fn what_is_forged_is_refused_early() {
    run(uplink_xdp);
}

pub fn uplink_xdp(family: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, far, outside, node_uplink, .. } = cast;
    let at = At::uplink_xdp();
    let mut rows = from_the_underlay(family, cast, at);
    // Beyond the first buffer of a test run, which is less than a page.
    let long = |from: Actor| udp(from, node_uplink).filled_to(3900);
    rows.extend([
        Row::of("a port of the range that nobody has").at(at, udp(outside, node_uplink).ports(80, PORT)).passes(),
        Row::of("a reply to a masqueraded flow")
            .pod(a, udp(a, outside))
            .leaves_as(&udp(a, outside).translate_source(node_uplink, PORT))
            .at(at, udp(outside, node_uplink).ports(80, PORT))
            .passes(),
        Row::of("in several buffers").at(at, long(outside)).passes(),
        Row::of("forged, in several buffers").at(at, long(far)).drops(UplinkForged),
        Row::of("with a VLAN tag").frame(at, &tagged(&udp(far, node_uplink))).passes(),
    ]);
    rows
}

/// A frame with a VLAN tag in it (IEEE 802.1Q).
fn tagged(packet: &Packet) -> Vec<u8> {
    let bytes = packet.bytes();
    [&bytes[..12], &[0x81, 0x00, 0x00, 0x07], &bytes[12..]].concat()
}

/// What both hooks of the uplink say alike.
fn from_the_underlay(family: Family, cast: Cast, at: At) -> Vec<Row> {
    let Cast { a, far, free, homeless, outside, node, node_uplink, two, two_uplink, .. } = cast;
    let loopback = outside.at(family.pick([127, 3, 2, 1].into(), v6("::1")));
    let all = outside.at(family.pick([224, 0, 0, 251].into(), v6("ff02::fb")));
    let forged = udp(far, node_uplink);
    // Lengths that lie, so that the packet cannot be parsed.
    let bad = |packet: Packet| packet.frame_len(ETHERNET + family.pick(20, 40));
    let of = |name: &'static str, packet: Packet| Row::of(name).at(at, packet);
    vec![
        of("to the node", udp(outside, node_uplink)).passes(),
        of("from a node, tunnelled", udp(two_uplink, node_uplink).ports(51000, 4789)).passes(),
        of("to somebody else", udp(outside, two_uplink)).passes(),
        of("to all", udp(outside, all)).passes(),
        of("from this node's pod", udp(a, node_uplink)).drops(UplinkForged),
        of("from another node's pod", forged.clone()).drops(UplinkForged),
        of("from an address that nobody has", udp(homeless, node_uplink)).drops(UplinkForged),
        of("from this node's address in its host subnet", udp(node, node_uplink)).drops(UplinkForged),
        of("from another node's address in its host subnet", udp(two, node_uplink)).drops(UplinkForged),
        of("to this node's pod", udp(outside, a)).drops(UplinkForged),
        of("to this node's address in its host subnet", udp(outside, node)).drops(UplinkForged),
        of("to another node's pod", udp(outside, far)).drops(UplinkForged),
        of("to an address that nobody has", udp(outside, free)).drops(UplinkForged),
        of("from loopback", udp(loopback, node_uplink)).drops(UplinkLoopback),
        of("from loopback to a pod", udp(loopback, a)).drops(UplinkForged),
        of("forged and cut short", bad(forged)).drops(UplinkForged),
        of("not forged, cut short", bad(udp(outside, node_uplink))).passes(),
        Row::of("neither IPv4 nor IPv6").frame(at, &[vec![0xff; 12], vec![0x88, 0xcc], vec![0; 46]].concat()).passes(),
    ]
}

/// "Nothing from a pod leaves as VXLAN: tested on the tuple that leaves, after translation."
#[test]
fn nothing_from_a_pod_leaves_as_vxlan() {
    run(vxlan);
}

pub fn vxlan(_: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, b, far, outside, node, node_uplink, two, two_uplink, unheard, .. } = cast;
    let to = |whom: Actor| udp(a, whom).ports(CLIENT, 4789);
    let translated = |packet: Packet| packet.translate_source(node_uplink, PORT);
    let pieces = to(outside).filled_to(1000).pieces(9, &[512]);
    vec![
        Row::of("to its node").pod(a, to(node)).drops(PodVxlan),
        Row::of("to its node's address on the uplink").pod(a, to(node_uplink)).drops(PodVxlan),
        Row::of("to another node").pod(a, to(two)).drops(PodVxlan),
        Row::of("to another node's address on the underlay").pod(a, to(two_uplink)).drops(PodVxlan),
        Row::of("to another node's pod").pod(a, to(far)).drops(PodVxlan),
        Row::of("to somebody on another node").pod(a, to(unheard)).drops(PodVxlan),
        Row::of("to the outside, after translation").pod(a, to(outside)).drops(PodVxlan),
        Row::of("to the outside, the first piece and the others")
            .pod(a, pieces[0].clone())
            .drops(PodVxlan)
            .pod(a, pieces[1].clone())
            .drops(PodVxlan),
        Row::of("as an answer: the client's port is the tunnel's")
            .tunnel(far, udp(far, a).ports(4789, 80))
            .reaches(a)
            .pod(a, udp(a, far).ports(80, 4789))
            .drops(PodVxlan),
        Row::of("from the port, not to it")
            .pod(a, udp(a, outside).ports(4789, 80))
            .leaves_as(&translated(udp(a, outside).ports(4789, 80))),
        Row::of("by TCP")
            .pod(a, tcp(a, outside, SYN).ports(CLIENT, 4789))
            .leaves_as(&translated(tcp(a, outside, SYN).ports(CLIENT, 4789))),
        Row::of("within the node: it leaves nowhere").pod(a, to(b)).reaches(b),
        Row::of("another port is configured")
            .given(|bench| bench.change_state(|state| state.vxlan_port = sdn_common::Be16::new(8472)))
            .pod(a, to(outside))
            .leaves_as(&translated(to(outside)))
            .pod(a, to(outside).ports(CLIENT, 8472))
            .drops(PodVxlan)
            .pod(a, to(two).ports(CLIENT, 8472))
            .drops(PodVxlan),
    ]
}

/// "The exemption of a pod's own node is for packets of local sockets, never for an address: what a node forwards for others is
/// judged." To other nodes it sends from its own addresses only, because they believe nothing else.
#[test]
fn the_node_speaks_for_itself_only() {
    run(host);
}

pub fn host(family: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, far, outside, free, homeless, node, node_uplink, two, two_uplink, .. } = cast;
    let group = outside.at(family.pick([224, 0, 0, 1].into(), v6("ff02::1")));
    vec![
        Row::of("to its pod").host(udp(node, a)).reaches(a),
        Row::of("to its pod, from the uplink's address").host(udp(node_uplink, a)).reaches(a),
        Row::of("to a pod with a bandwidth limit").host(udp(node, cast.shaped)).reaches(cast.shaped),
        Row::of("to another node's pod").host(udp(node, far)).tunnels(node, far),
        Row::of("to another node's pod, from the uplink's address").host(udp(node_uplink, far)).tunnels(node, far),
        Row::of("to another node").host(udp(node, two)).tunnels(node, two),
        Row::of("to another node's address on the underlay").host(udp(node, two_uplink)).tunnels(node, two),
        Row::of("forwarded, to its own pod").forwarded(udp(outside, a)).reaches(a),
        Row::of("forwarded, to its own pod, whose answer goes back by the node")
            .forwarded(udp(outside, a))
            .reaches(a)
            .pod(a, udp_back(a, outside))
            .reaches_host()
            .flow(&udp(outside, a), "answered")
            .given(|bench| bench.change_state(|state| state.epoch += 1))
            .pod(a, udp_back(a, outside))
            .reaches_host()
            .forwarded(udp(outside, a))
            .reaches(a)
            .flow(&udp(outside, a), "answered"),
        Row::of("from an address of its own that the cluster does not know, and the answer")
            .host(tcp(outside, a, SYN))
            .reaches(a)
            .pod(a, tcp_back(a, outside, SYN | ACK))
            .reaches_host(),
        Row::of("a pod's own flow to that address is translated all the same")
            .host(udp(outside, a))
            .reaches(a)
            .pod(a, udp(a, outside))
            .leaves_as(&udp(a, outside).translate_source(node_uplink, PORT)),
        Row::of("in a pod's name, to its neighbour").host(udp(a, cast.b)).drops(ForeignSource),
        Row::of("forwarded, to another node's pod").forwarded(udp(outside, far)).drops(ForeignSource),
        Row::of("forwarded in the node's name").forwarded(udp(node, far)).drops(ForeignSource),
        Row::of("from an address outside").host(udp(outside, far)).drops(ForeignSource),
        Row::of("in a pod's name").host(udp(a, far)).drops(ForeignSource),
        Row::of("in another node's name").host(udp(two, far)).drops(ForeignSource),
        Row::of("in the name of another node's pod").host(udp(far, cast.other)).drops(ForeignSource),
        Row::of("in nobody's name").host(udp(free, a)).drops(ForeignSource),
        Row::of("in the name of nobody in the cluster").host(udp(homeless, a)).drops(ForeignSource),
        Row::of("to itself").host(udp(node, node_uplink)).drops(UnknownDestination),
        Row::of("to the outside").host(udp(node, outside)).drops(UnknownDestination),
        Row::of("to a free address").host(udp(node, free)).drops(UnknownDestination),
        Row::of("to nobody's address").host(udp(node, homeless)).drops(UnknownDestination),
        Row::of("to all").host(udp(node, group)).drops(Multicast),
        Row::of("to a node without a tunnel").host(udp(node, cast.lost)).drops(UnreachableNode),
        Row::of("forwarded within a flow of the node's own")
            .host(udp(node, far))
            .tunnels(node, far)
            .tunnel(far, udp_back(far, node))
            .reaches_host()
            .forwarded(udp(node, far))
            .drops(ForeignSource),
        Row::of("in a pod's name within that pod's flow")
            .pod(a, udp(a, far))
            .tunnels(a, far)
            .host(udp(a, far))
            .drops(ForeignSource),
        Row::of("frames of other protocols")
            .frame(At::host(0), &[vec![0xff; 12], vec![0x08, 0x06], vec![0; 46]].concat())
            .drops(UnsupportedEthertype),
    ]
}

/// An index that is no node's stands for nothing: also after a node is gone.
#[test]
fn a_node_without_an_entry_gets_nothing() {
    run(gone);
}

pub fn gone(_: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, far, lost, .. } = cast;
    vec![
        Row::of("never known").pod(a, udp(a, lost)).drops(UnreachableNode),
        Row::of("known until now")
            .pod(a, udp(a, far))
            .tunnels(a, far)
            .given(|bench| bench.clear_node(2))
            .pod(a, udp(a, far))
            .drops(UnreachableNode),
    ]
}

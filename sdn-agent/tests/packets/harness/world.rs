//! The cast of the tables: a node with three pods, other nodes with theirs, and the outside, for each family.
//!
//! Everything has fixed numbers, so a row is read without looking anything up: pods are on devices 101 … 103, nodes have their
//! own number as the last part of their addresses and as the third group of their host subnets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sdn_common::wire::{GATEWAY_MAC, Kind, Sender, TUNNEL_DESTINATION};
use sdn_common::{Addr4, Addr6, Address, Be16, Endpoint, FamilyState, Identity, Mac, Node, NodeState, Peer, Prefix};

use super::bench::Bench;

pub const VXLAN: u32 = 110;
pub const UPLINK: u32 = 120;
/// Devices that the namespace of a test has.
pub const DEVICES: [u32; 5] = [101, 102, 103, VXLAN, UPLINK];

/// The greatest packet that a pod may send.
pub const MTU: u16 = 1450;
/// The range of masquerade ports: one port, so that rows can name it.
pub const PORT: u16 = 30_000;
/// Fragments of one datagram that are let through.
pub const FRAGMENTS: u32 = 16;
/// The epoch of a fresh world.
pub const EPOCH: u32 = 7;

/// IP version of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// Somebody with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actor {
    pub address: IpAddr,
    /// What frames from here have as source: of a pod of this node its MAC, of others what their node writes.
    pub mac: Mac,
    /// The host's end of a pod's veth; 0 for all others.
    pub ifindex: u32,
    /// Index of its node, or [`Node::OUTSIDE`].
    pub node: u32,
    /// 0 where it is no pod.
    pub incarnation: u32,
    pub identity: Identity,
}

/// Everybody, in one family.
#[derive(Clone, Copy, Debug)]
pub struct Cast {
    /// Pods of this node.
    pub a: Actor,
    pub b: Actor,
    /// One with a bandwidth limit.
    pub shaped: Actor,
    /// An address of this node's host subnet that nobody has.
    pub free: Actor,
    /// This node: its address in its host subnet, and that on the uplink, which stands for its pods outside.
    pub node: Actor,
    pub node_uplink: Actor,
    /// Pods of node 2 and of node 3.
    pub far: Actor,
    pub other: Actor,
    /// A pod of node 2 that this node has not heard of.
    pub unheard: Actor,
    /// Node 2: its address in its host subnet, and that on the underlay.
    pub two: Actor,
    pub two_uplink: Actor,
    /// Node 3, the same.
    pub three: Actor,
    pub three_uplink: Actor,
    /// A pod of node 4, whose tunnel address is not known.
    pub lost: Actor,
    /// A pod of node 6, whose tunnel goes over IPv6.
    pub six: Actor,
    /// An address of the cluster network that is in no node's host subnet.
    pub homeless: Actor,
    /// Two machines outside the cluster.
    pub outside: Actor,
    pub elsewhere: Actor,
    /// The gateway that pods know.
    pub gateway: Actor,
}

// === impl Family ===

impl Family {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// One of two values.
    pub fn pick<T>(self, v4: T, v6: T) -> T {
        match self {
            Self::V4 => v4,
            Self::V6 => v6,
        }
    }
}

// === impl Actor ===

impl Actor {
    fn pod(address: IpAddr, number: u8) -> Self {
        let incarnation = 0xa000_0000 | u32::from(number);
        let ifindex = 100 + u32::from(number);
        Self { address, mac: [0x0a, 0x58, 10, 128, 0, number], ifindex, node: 0, incarnation, identity: Identity::POD }
    }

    fn remote_pod(address: IpAddr, node: u32, incarnation: u32) -> Self {
        let mac = Sender { kind: Kind::Pod, value: incarnation }.mac();
        Self { address, mac, ifindex: 0, node, incarnation, identity: Identity(300 + node) }
    }

    fn machine(address: IpAddr, node: u32) -> Self {
        let mac = Sender { kind: Kind::Node, value: 0 }.mac();
        let identity = if node == Node::SELF { Identity::HOST } else { Identity::NODE };
        Self { address, mac, ifindex: 0, node, incarnation: 0, identity }
    }

    /// Somebody at an address about which nothing is known.
    pub fn stranger(address: IpAddr) -> Self {
        let mac = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
        Self { address, mac, ifindex: 0, node: Node::OUTSIDE, incarnation: 0, identity: Identity::OUTSIDE }
    }

    /// The same one at another address.
    pub fn at(self, address: IpAddr) -> Self {
        Self { address, ..self }
    }

    /// Where its frames go: pods know only their gateway.
    pub fn next_hop(&self) -> Mac {
        if self.ifindex != 0 { GATEWAY_MAC } else { TUNNEL_DESTINATION }
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint {
            ifindex: self.ifindex,
            incarnation: self.incarnation,
            identity: self.identity,
            mac: self.mac,
            ..Endpoint::default()
        }
    }

    pub fn peer(&self) -> Peer {
        Peer { node: self.node, incarnation: self.incarnation, identity: self.identity, _pad: 0 }
    }
}

// === impl Cast ===

impl Cast {
    pub fn of(family: Family) -> Self {
        let cluster = |node: u8, host: u8| match family {
            Family::V4 => IpAddr::from([10, 128, node, host]),
            Family::V6 => IpAddr::V6(Ipv6Addr::new(0xfd01, 0, 0, node.into(), 0, 0, 0, host.into())),
        };
        let underlay = |host: u8| underlay(family, host);
        Self {
            a: Actor::pod(cluster(0, 2), 1),
            b: Actor::pod(cluster(0, 3), 2),
            shaped: Actor::pod(cluster(0, 4), 3),
            free: Actor::stranger(cluster(0, 200)),
            node: Actor::machine(cluster(0, 1), Node::SELF),
            node_uplink: Actor::machine(underlay(1), Node::SELF),
            far: Actor::remote_pod(cluster(2, 7), 2, 0xb000_0007),
            other: Actor::remote_pod(cluster(4, 8), 3, 0xb000_0008),
            unheard: Actor::remote_pod(cluster(2, 99), 2, 0xb000_0099),
            two: Actor::machine(cluster(2, 1), 2),
            two_uplink: Actor::machine(underlay(2), 2),
            three: Actor::machine(cluster(4, 1), 3),
            three_uplink: Actor::machine(underlay(3), 3),
            lost: Actor::remote_pod(cluster(8, 9), 4, 0xb000_0009),
            six: Actor::remote_pod(cluster(12, 6), 6, 0xb000_0006),
            homeless: Actor::stranger(cluster(100, 5)),
            outside: Actor::stranger(family.pick([198, 51, 100, 10].into(), v6("2001:db8:1::10"))),
            elsewhere: Actor::stranger(family.pick([203, 0, 113, 20].into(), v6("2001:db8:2::20"))),
            gateway: Actor::stranger(family.pick([169, 254, 1, 1].into(), v6("fe80::1"))),
        }
    }

    /// Pods of this node.
    pub fn pods(&self) -> [Actor; 3] {
        [self.a, self.b, self.shaped]
    }

    /// What `PEERS` holds: nodes' addresses, this one's too, and the pods of others, but not those never heard of.
    pub fn peers(&self) -> [Actor; 10] {
        [
            self.node,
            self.node_uplink,
            self.two,
            self.two_uplink,
            self.three,
            self.three_uplink,
            self.far,
            self.other,
            self.lost,
            self.six,
        ]
    }
}

/// An address in the tables, for the few that have no actor.
pub fn v6(text: &str) -> IpAddr {
    IpAddr::V6(text.parse().expect("an IPv6 address"))
}

/// A node's address on the underlay.
pub fn underlay(family: Family, node: u8) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(192, 168, 9, node)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, node.into())),
    }
}

/// Where a node's end of the tunnel is: over IPv4, but for node 6.
pub fn tunnel(node: u32) -> IpAddr {
    let family = if node == 6 { Family::V6 } else { Family::V4 };
    underlay(family, u8::try_from(node).expect("a node of the cast"))
}

pub fn mapped(address: IpAddr) -> Addr6 {
    match address {
        IpAddr::V4(address) => Addr4::new(address.octets()).mapped(),
        IpAddr::V6(address) => Addr6::new(address.octets()),
    }
}

/// The settings of the node.
pub fn node_state() -> NodeState {
    let unspecified = |address: IpAddr| match address {
        IpAddr::V4(address) => Addr4::new(address.octets()),
        IpAddr::V6(_) => Addr4::default(),
    };
    let (four, six) = (Cast::of(Family::V4), Cast::of(Family::V6));
    let mut v4 = FamilyState {
        cluster_address: unspecified(four.node.address),
        masquerade: unspecified(four.node_uplink.address),
        ..FamilyState::default()
    };
    v4.cluster[0] = Prefix { address: Addr4::new([10, 128, 0, 0]), mask: Addr4::new([255, 252, 0, 0]) };
    let mut v6_state = FamilyState {
        cluster_address: mapped(six.node.address),
        masquerade: mapped(six.node_uplink.address),
        ..FamilyState::default()
    };
    v6_state.cluster[0] = Prefix { address: mapped(v6("fd01::")), mask: mapped(v6("ffff:ffff:ffff::")) };
    NodeState {
        epoch: EPOCH,
        flags: NodeState::MASQUERADE,
        vxlan_ifindex: VXLAN,
        uplink_ifindex: UPLINK,
        mtu: MTU.into(),
        // Not the kernel's rate: a second that never ends makes fragments and budgets of events independent of the clock.
        hz: 1 << 30,
        fragments: FRAGMENTS,
        vxlan_port: Be16::new(4789),
        masquerade_first: PORT,
        masquerade_last: PORT,
        events_per_second: 100,
        stand_in: Node::SELF,
        v4,
        v6: v6_state,
    }
}

/// Fills empty maps.
pub fn fill(bench: &mut Bench) {
    bench.set_state(node_state());
    for node in [2, 3, 6] {
        bench.set_node(node, tunnel(node));
    }
    for family in Family::BOTH {
        let cast = Cast::of(family);
        cast.pods().iter().for_each(|pod| bench.set_endpoint(*pod, 0));
        bench.set_endpoint(cast.shaped, Endpoint::SHAPED);
        cast.peers().iter().for_each(|peer| bench.set_peer(*peer));
        let subnets = [(cast.node, 0), (cast.two, 2), (cast.three, 3), (cast.lost, 4), (cast.six, 6)];
        for (within, node) in subnets {
            bench.set_subnet(within.address, node);
        }
    }
}

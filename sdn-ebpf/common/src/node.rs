//! What the programs know of this node and of the others.

use crate::{Addr4, Addr6, Be16, Prefix, plain};

/// Another node of the cluster. Map `NODES`, by index.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Where its end of the tunnel is; an IPv4 address in its mapped form.
    pub tunnel: Addr6,
    /// Bits of [`Node::VALID`] ….
    pub flags: u32,
}

impl Node {
    /// Index 0 of `NODES`: this node.
    pub const SELF: u32 = 0;
    /// Not an index: an address outside the cluster.
    pub const OUTSIDE: u32 = u32::MAX;
    /// The entry is in use.
    pub const VALID: u32 = 1 << 0;
    /// The tunnel goes over IPv6.
    pub const TUNNEL_V6: u32 = 1 << 1;
}

/// Networks of the cluster that one family can have (`clusterNetwork` of an OpenShift network configuration lists several).
pub const CLUSTER_NETWORKS: usize = 4;

/// What [`NodeState`] says of one family.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FamilyState<A> {
    /// The networks of the cluster; unused slots are empty.
    pub cluster: [Prefix<A>; CLUSTER_NETWORKS],
    /// The node's own address in its host subnet; zero where it has none.
    pub cluster_address: A,
    /// The node's address that pods borrow to reach the outside; zero where there is none.
    pub masquerade: A,
    /// Where cluster DNS is asked: an address that every node has. Zero where there is none.
    pub resolver: A,
}

/// The node's settings. Map `NODE_STATE`, one entry. Each field is written whole, the entry as such is not atomic: a packet may
/// see some fields before and some after a change.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeState {
    /// Moves when something already known about an address, an endpoint or a node changes: flows look again.
    pub epoch: u32,
    /// Bits of [`NodeState::MASQUERADE`] ….
    pub flags: u32,
    /// The VXLAN device.
    pub vxlan_ifindex: u32,
    /// The device that leads outside; 0 where there is none.
    pub uplink_ifindex: u32,
    /// The greatest IP packet that a pod may send, in bytes.
    pub mtu: u32,
    /// `jiffies` per second (the kernel's `CONFIG_HZ`).
    pub hz: u32,
    /// Fragments of one datagram that are let through.
    pub fragments: u32,
    /// Destination port of the tunnel.
    pub vxlan_port: Be16,
    /// First port of the masquerade range, in host order.
    pub masquerade_first: u16,
    /// Last port of the range, inclusive, in host order.
    pub masquerade_last: u16,
    /// Example events of drops that an endpoint may cause a second.
    pub events_per_second: u16,
    /// Index into `NODES` of the node whose resolver stands in while this node's does not beat; 0 for none.
    pub stand_in: u32,
    /// IPv4.
    pub v4: FamilyState<Addr4>,
    /// IPv6.
    pub v6: FamilyState<Addr6>,
}

impl NodeState {
    /// Pods reach the outside from the node's address.
    pub const MASQUERADE: u32 = 1 << 0;
    /// Every pod may reach 169.254.169.254.
    pub const METADATA: u32 = 1 << 1;
    /// Every pod may reach the machine configuration server, ports 22623 and 22624 of nodes.
    pub const MACHINE_CONFIG: u32 = 1 << 2;
}

plain!(Node = 20, FamilyState<Addr4> = 44, FamilyState<Addr6> = 176, NodeState = 260);

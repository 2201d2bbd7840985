//! What the kernel is to hold.

use imbl::OrdMap;
use sdn_common::{Addr4, Addr6, Endpoint, Hook, Node, NodeState, Peer};

use super::policy::WantedPolicies;
use crate::family::Cidr;
use crate::kernel::bpf::Device;

/// What the kernel is to hold. A clone is a few reference counts, and two of them share what they have in common, so that the
/// difference between one and the next is found in time proportional to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The node's settings, `epoch` 0: apply counts that. `None` while too little is known: what is there stays.
    pub state: Option<NodeState>,
    /// Nodes in use, by index.
    pub nodes: OrdMap<u32, Node>,
    /// Nodes' indices by the addresses that their tunnels come from.
    pub tunnels: OrdMap<Addr6, u32>,
    /// What policies say, beyond what endpoints and peers refer to.
    pub policies: WantedPolicies,
    /// IPv4.
    pub v4: Addresses<Addr4>,
    /// IPv6.
    pub v6: Addresses<Addr6>,
    /// Programs on devices.
    pub links: OrdMap<(Hook, u32), Device>,
}

/// What the kernel is to know of one family's addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses<A: Ord> {
    /// Host subnets and the index of the node that has each.
    pub subnets: OrdMap<Cidr<A>, u32>,
    /// Pods of this node.
    pub endpoints: OrdMap<A, Endpoint>,
    /// Everybody else.
    pub peers: OrdMap<A, Peer>,
}

impl<A: Ord> Default for Addresses<A> {
    fn default() -> Self {
        Self { subnets: OrdMap::default(), endpoints: OrdMap::default(), peers: OrdMap::default() }
    }
}

//! Who is behind an address: pods of this node ([`Endpoint`]) and everybody else in the cluster ([`Peer`]).

use crate::{Mac, SetRef, plain};

/// What a policy can ask about an address, as a number of this node (decision 5 of the design). Numbers below
/// [`Identity::FIRST`] are fixed; the others are given out by the agent, never reused, never on the wire.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity(pub u32);

impl Identity {
    /// An address in the cluster network of which this node knows nothing (yet).
    pub const UNKNOWN: Self = Self(0);
    /// A local socket of this node.
    pub const HOST: Self = Self(1);
    /// Another node's own address.
    pub const NODE: Self = Self(2);
    /// An address outside the cluster.
    pub const OUTSIDE: Self = Self(3);
    /// A pod about which nothing finer is asked.
    pub const POD: Self = Self(4);
    /// Not behind any address: stands for every peer in a policy's rules.
    pub const ANY: Self = Self(5);
    /// The first number that the agent gives out.
    pub const FIRST: Self = Self(256);
}

/// A pod of this node. Map `ENDPOINTS_V4`, `ENDPOINTS_V6`, keyed by its address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// Index of the host's end of its veth, in the node's network namespace.
    pub ifindex: u32,
    /// Which pod this is; never 0. See [`incarnation`].
    pub incarnation: u32,
    /// What policies know it by.
    pub identity: Identity,
    /// Bits of [`Endpoint::SHAPED`] ….
    pub flags: u32,
    /// The address of its own end, `eth0`; it sends from no other.
    pub mac: Mac,
    /// Zero.
    pub _pad: [u8; 2],
    /// What filters the flows that it opens.
    pub egress: SetRef,
    /// What filters the flows that are opened to it.
    pub ingress: SetRef,
}

impl Endpoint {
    /// Deliver with `bpf_redirect`, through the queueing discipline of the veth, which `bpf_redirect_peer` passes by.
    pub const SHAPED: u32 = 1 << 0;
    /// The node's own proxy of the metadata service or a debugging pod: may reach 169.254.169.254.
    pub const METADATA: u32 = 1 << 1;
}

/// Any other address of the cluster: a pod elsewhere, or an address of a node. Map `PEERS_V4`, `PEERS_V6`, keyed by it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Index into `NODES` of the node that it is on; 0 is this node.
    pub node: u32,
    /// Which pod this is; 0 for an address of a node.
    pub incarnation: u32,
    /// What policies know it by.
    pub identity: Identity,
    /// Zero.
    pub _pad: u32,
}

plain!(Identity = 4, Endpoint = 56, Peer = 16);

/// The incarnation of a pod: FNV-1a over the text of its UID (`metadata.uid`; the container's id where there is none). Every
/// node computes the same number from the same object, so it can tell which of two pods that had one address sent a packet.
/// Never 0, which stands for a node itself.
#[must_use]
pub const fn incarnation(uid: &str) -> u32 {
    let bytes = uid.as_bytes();
    let mut hash: u32 = 0x811c_9dc5;
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u32).wrapping_mul(0x0100_0193);
        i += 1;
    }
    if hash == 0 { 1 } else { hash }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incarnation_is_fnv_1a() {
        // Vectors of the FNV specification (draft-eastlake-fnv, appendix C).
        assert_eq!(incarnation(""), 0x811c_9dc5);
        assert_eq!(incarnation("a"), 0xe40c_292c);
        assert_eq!(incarnation("foobar"), 0xbf9c_f968);
    }
}

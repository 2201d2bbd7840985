//! Masquerade: pods reach the outside from an address of their node, each flow by a port of its own.

use crate::{Addr4, Addr6, Be16, plain};

/// A masqueraded flow as the outside sees it. Maps `MASQUERADE_*`. One port serves many flows as long as their remote ends differ.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MasqueradeKey<A> {
    /// The outside's address.
    pub remote: A,
    /// The node's address that stands for the pod's.
    pub local: A,
    /// The outside's port; 0 for ICMP echo.
    pub remote_port: Be16,
    /// The node's port, from the configured range; for ICMP echo the identifier.
    pub local_port: Be16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub _pad: [u8; 3],
}

/// The pod's side of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Masquerade<A> {
    /// The pod's address.
    pub pod: A,
    /// The pod's port; for ICMP echo its identifier.
    pub port: Be16,
    /// Zero.
    pub _pad: u16,
}

plain!(MasqueradeKey<Addr4> = 16, MasqueradeKey<Addr6> = 40, Masquerade<Addr4> = 8, Masquerade<Addr6> = 20);

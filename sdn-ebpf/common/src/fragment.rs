//! Fragments: only the first one has ports, the others follow it.

use crate::{Addr4, Addr6, Be16, plain};

/// What the fragments of one datagram have in common (RFC 791 §3.2, RFC 8200 §4.5). Maps `FRAGMENTS_*`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FragmentKey<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Identification, in wire order; IPv4's 16 bits stand in the low half.
    pub id: u32,
    /// IP protocol number.
    pub protocol: u8,
    /// The hook that sees the fragments: one datagram may pass two of them on one node.
    pub hook: u8,
    /// Zero.
    pub _pad: u16,
}

/// What the first fragment told. Fragments must come in order and without gap or overlap: a receiver that put them together
/// differently than we judged them could be deceived (RFC 1858, RFC 5722).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// Source port (ICMP: identifier).
    pub source_port: Be16,
    /// Destination port.
    pub destination_port: Be16,
    /// Where the next fragment has to begin, in bytes of the datagram's payload.
    pub next: u32,
    /// Fragments seen so far.
    pub seen: u16,
    /// ICMP type.
    pub icmp: u8,
    /// Zero.
    pub _pad: u8,
    /// Low half of `jiffies` at the last one.
    pub touched: u32,
}

plain!(FragmentKey<Addr4> = 16, FragmentKey<Addr6> = 40, Fragment = 16);

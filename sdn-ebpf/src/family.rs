//! IPv4 and IPv6 as one: the stages are written once over [`Family`], which names each family's types and maps.

use aya_ebpf::maps::{HashMap, LruHashMap, lpm_trie::Key};
use sdn_common::{
    Addr4, Addr6, Address, Be16, Endpoint, FamilyState, Flow, FlowKey, Fragment, FragmentKey, Identity, Masquerade,
    MasqueradeKey, NodeState, Peer, event::Scratch,
};

use crate::{
    checksum,
    frame::{Frame, Plain},
    maps,
    packet::Packet,
    parse, policy,
    verdict::Stage,
};

/// Internet protocol numbers used here (IANA).
pub mod protocol {
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ICMPV6: u8 = 58;
    pub const SCTP: u8 = 132;
}

/// One of the two families.
pub trait Family: Sized + 'static {
    type Address: Address + Plain;
    type Header: IpHeader<Self::Address>;

    const ETHERTYPE: Be16;
    /// Protocol number of its ICMP.
    const ICMP: u8;
    const IS_V6: bool;

    /// Reads the IP header and, for IPv6, the extension headers: fills `packet` up to the transport header.
    fn parse<F: Frame>(frame: &F, packet: &mut Packet<Self>) -> Stage<()>;
    /// See [`policy::judge`].
    fn judge(packet: *mut Scratch) -> u32;
    /// Host subnet look-up, longest prefix first.
    fn subnet(address: Self::Address) -> Option<u32>;
    /// What policies know an address outside the cluster by, if any speaks of it.
    fn cidr(address: Self::Address) -> Option<Identity>;

    fn state(state: &NodeState) -> &FamilyState<Self::Address>;
    fn endpoints() -> &'static HashMap<Self::Address, Endpoint>;
    fn peers() -> &'static HashMap<Self::Address, Peer>;
    fn flows() -> &'static LruHashMap<FlowKey<Self::Address>, Flow>;
    fn new_flows() -> &'static LruHashMap<FlowKey<Self::Address>, Flow>;
    fn fragments() -> &'static LruHashMap<FragmentKey<Self::Address>, Fragment>;
    fn masquerade() -> &'static HashMap<MasqueradeKey<Self::Address>, Masquerade<Self::Address>>;
}

/// What the stages read and change in an IP header, wherever the family keeps it.
pub trait IpHeader<A>: Plain + Default {
    /// Bytes from the start of the header through the last one that [`IpHeader::set_ttl`] changes.
    const THROUGH_TTL: u32;

    fn source(&self) -> &A;
    fn destination(&self) -> &A;
    fn set_source(&mut self, address: A);
    fn set_destination(&mut self, address: A);
    fn ttl(&self) -> u8;
    fn set_ttl(&mut self, ttl: u8);
    /// Transport protocol and length of the header, where it stands quoted in an ICMP error. Extension headers are not walked:
    /// a quote behind them is related to no flow.
    fn quoted(&self) -> (u8, u32);
    /// The transport protocol of a packet whose transport header follows at once: no options, no extension headers, no fragment.
    fn plain(&self) -> Option<u8>;
}

/// RFC 791 §3.1, without options.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Ipv4Header {
    pub version_ihl: u8,
    pub tos: u8,
    pub total_len: Be16,
    pub id: Be16,
    pub fragment: Be16,
    /// Time to live and protocol: one word of the checksum.
    pub ttl_protocol: [u8; 2],
    pub checksum: u16,
    pub source: Addr4,
    pub destination: Addr4,
}

/// RFC 8200 §3.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Ipv6Header {
    pub version_class_flow: [u8; 4],
    pub payload_len: Be16,
    pub next_header: u8,
    pub hop_limit: u8,
    pub source: Addr6,
    pub destination: Addr6,
}

// SAFETY: repr(C), bytes and words of which any value is valid, no padding (20 and 40 bytes).
unsafe impl Plain for Ipv4Header {}
// SAFETY: as above.
unsafe impl Plain for Ipv6Header {}
// SAFETY: transparent over a word.
unsafe impl Plain for Addr4 {}
// SAFETY: transparent over words.
unsafe impl Plain for Addr6 {}

pub struct V4;
pub struct V6;

// === impl V4 ===

impl Family for V4 {
    type Address = Addr4;
    type Header = Ipv4Header;

    const ETHERTYPE: Be16 = Be16::new(0x0800);
    const ICMP: u8 = protocol::ICMP;
    const IS_V6: bool = false;

    #[inline(always)]
    fn parse<F: Frame>(frame: &F, packet: &mut Packet<Self>) -> Stage<()> {
        parse::v4::header(frame, packet)
    }

    #[inline(always)]
    fn judge(packet: *mut Scratch) -> u32 {
        policy::policy_judge_v4(packet)
    }

    #[inline(always)]
    fn subnet(address: Addr4) -> Option<u32> {
        maps::SUBNETS_V4.get(Key::new(32, address)).copied()
    }

    #[inline(always)]
    fn cidr(address: Addr4) -> Option<Identity> {
        maps::CIDRS_V4.get(Key::new(32, address)).copied()
    }

    #[inline(always)]
    fn state(state: &NodeState) -> &FamilyState<Addr4> {
        &state.v4
    }

    #[inline(always)]
    fn endpoints() -> &'static HashMap<Addr4, Endpoint> {
        &maps::ENDPOINTS_V4
    }

    #[inline(always)]
    fn peers() -> &'static HashMap<Addr4, Peer> {
        &maps::PEERS_V4
    }

    #[inline(always)]
    fn flows() -> &'static LruHashMap<FlowKey<Addr4>, Flow> {
        &maps::FLOWS_V4
    }

    #[inline(always)]
    fn new_flows() -> &'static LruHashMap<FlowKey<Addr4>, Flow> {
        &maps::NEW_FLOWS_V4
    }

    #[inline(always)]
    fn fragments() -> &'static LruHashMap<FragmentKey<Addr4>, Fragment> {
        &maps::FRAGMENTS_V4
    }

    #[inline(always)]
    fn masquerade() -> &'static HashMap<MasqueradeKey<Addr4>, Masquerade<Addr4>> {
        &maps::MASQUERADE_V4
    }
}

// === impl V6 ===

impl Family for V6 {
    type Address = Addr6;
    type Header = Ipv6Header;

    const ETHERTYPE: Be16 = Be16::new(0x86dd);
    const ICMP: u8 = protocol::ICMPV6;
    const IS_V6: bool = true;

    #[inline(always)]
    fn parse<F: Frame>(frame: &F, packet: &mut Packet<Self>) -> Stage<()> {
        parse::v6::headers(frame, packet)
    }

    #[inline(always)]
    fn judge(packet: *mut Scratch) -> u32 {
        policy::policy_judge_v6(packet)
    }

    #[inline(always)]
    fn subnet(address: Addr6) -> Option<u32> {
        maps::SUBNETS_V6.get(Key::new(128, address)).copied()
    }

    #[inline(always)]
    fn cidr(address: Addr6) -> Option<Identity> {
        maps::CIDRS_V6.get(Key::new(128, address)).copied()
    }

    #[inline(always)]
    fn state(state: &NodeState) -> &FamilyState<Addr6> {
        &state.v6
    }

    #[inline(always)]
    fn endpoints() -> &'static HashMap<Addr6, Endpoint> {
        &maps::ENDPOINTS_V6
    }

    #[inline(always)]
    fn peers() -> &'static HashMap<Addr6, Peer> {
        &maps::PEERS_V6
    }

    #[inline(always)]
    fn flows() -> &'static LruHashMap<FlowKey<Addr6>, Flow> {
        &maps::FLOWS_V6
    }

    #[inline(always)]
    fn new_flows() -> &'static LruHashMap<FlowKey<Addr6>, Flow> {
        &maps::NEW_FLOWS_V6
    }

    #[inline(always)]
    fn fragments() -> &'static LruHashMap<FragmentKey<Addr6>, Fragment> {
        &maps::FRAGMENTS_V6
    }

    #[inline(always)]
    fn masquerade() -> &'static HashMap<MasqueradeKey<Addr6>, Masquerade<Addr6>> {
        &maps::MASQUERADE_V6
    }
}

// === impl Ipv4Header ===

impl IpHeader<Addr4> for Ipv4Header {
    const THROUGH_TTL: u32 = 12;

    #[inline(always)]
    fn source(&self) -> &Addr4 {
        &self.source
    }

    #[inline(always)]
    fn destination(&self) -> &Addr4 {
        &self.destination
    }

    #[inline(always)]
    fn set_source(&mut self, address: Addr4) {
        self.checksum = checksum::replaced(self.checksum, self.source.0, address.0);
        self.source = address;
    }

    #[inline(always)]
    fn set_destination(&mut self, address: Addr4) {
        self.checksum = checksum::replaced(self.checksum, self.destination.0, address.0);
        self.destination = address;
    }

    #[inline(always)]
    fn ttl(&self) -> u8 {
        self.ttl_protocol[0]
    }

    #[inline(always)]
    fn set_ttl(&mut self, ttl: u8) {
        let old = u32::from(u16::from_ne_bytes(self.ttl_protocol));
        self.ttl_protocol[0] = ttl;
        let new = u32::from(u16::from_ne_bytes(self.ttl_protocol));
        self.checksum = checksum::replaced(self.checksum, old, new);
    }

    #[inline(always)]
    fn quoted(&self) -> (u8, u32) {
        (self.ttl_protocol[1], u32::from(self.version_ihl & 0x0f) * 4)
    }

    #[inline(always)]
    fn plain(&self) -> Option<u8> {
        // "More fragments" and the offset; "don't fragment" may be set.
        let fragment = self.fragment.native() & 0x3fff;
        if self.version_ihl == 0x45 && fragment == 0 { Some(self.ttl_protocol[1]) } else { None }
    }
}

// === impl Ipv6Header ===

impl IpHeader<Addr6> for Ipv6Header {
    const THROUGH_TTL: u32 = 8;

    #[inline(always)]
    fn source(&self) -> &Addr6 {
        &self.source
    }

    #[inline(always)]
    fn destination(&self) -> &Addr6 {
        &self.destination
    }

    #[inline(always)]
    fn set_source(&mut self, address: Addr6) {
        self.source = address;
    }

    #[inline(always)]
    fn set_destination(&mut self, address: Addr6) {
        self.destination = address;
    }

    #[inline(always)]
    fn ttl(&self) -> u8 {
        self.hop_limit
    }

    #[inline(always)]
    fn set_ttl(&mut self, ttl: u8) {
        self.hop_limit = ttl;
    }

    #[inline(always)]
    fn quoted(&self) -> (u8, u32) {
        (self.next_header, 40)
    }

    #[inline(always)]
    fn plain(&self) -> Option<u8> {
        if self.version_class_flow[0] >> 4 == 6 { Some(self.next_header) } else { None }
    }
}

//! What the stages know of the packet at hand. Filled by parsing, read by all, reported by the verdict.

use sdn_common::{Author, Be16, FlowKey, Hook, Identity, Mac, Masquerade, MasqueradeKey, SetId, Side, event::Scratch};

use crate::{
    encap::Tunnel,
    family::{Family, IpHeader},
    frame::{ETHERNET, Frame, Plain, Skb},
    maps,
    nat::Quote,
    verdict::Stage,
};

/// Ethernet and IP header as they stand in the packet. The leading two bytes are ours: they align the IP header to words.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Head<H> {
    pub align: u16,
    pub to: Mac,
    pub from: Mac,
    pub ethertype: Be16,
    pub ip: H,
}

impl<H: Plain> Head<H> {
    /// Bytes of it in the packet.
    pub const LEN: u32 = ETHERNET + size_of::<H>() as u32;

    /// Reads it from the packet.
    #[inline(always)]
    pub fn read<T: Frame>(&mut self, frame: &T) -> Stage<()> {
        // SAFETY: from `to` on, the head is plain bytes in the packet's order, aligned to words but for the first two bytes.
        unsafe { frame.read_head((&raw mut self.to).cast(), Self::LEN) }
    }
}

/// Where a fragment stands in its datagram.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    Whole,
    First,
    Later,
}

/// The packet's state. It lives in a per-CPU map, one entry a hook: 512 bytes of stack do not hold it beside what the stages
/// need, and the verifier, which follows every value on the stack, would follow these through every branch.
#[repr(C)]
pub struct Packet<F: Family> {
    pub head: Head<F::Header>,
    pub hook: Hook,
    pub piece: Piece,
    /// Transport protocol; after the extension headers for IPv6.
    pub protocol: u8,
    pub tcp_flags: u8,
    /// ICMP type.
    pub icmp: u8,
    /// More fragments follow.
    pub more: bool,
    /// The node forwards it for somebody else: it comes from no local socket.
    pub forwarded: bool,
    /// The flow was opened by what the node forwards for somebody else. Set by `conntrack`.
    pub relayed: bool,
    /// The packet goes against the direction that its flow was opened in. Set by `conntrack`.
    pub backwards: bool,
    /// TCP in the middle of a flow that is not known. Set by `conntrack`.
    pub midstream: bool,
    /// The port of the node that stands for the pod outside; 0 where the flow is not masqueraded.
    pub masquerade_port: Be16,
    /// For ICMP echo both ports are the identifier.
    pub source_port: Be16,
    pub destination_port: Be16,
    /// Identification of the datagram, in wire order.
    pub fragment_id: u32,
    /// Offset of this fragment in its datagram's payload, in bytes.
    pub fragment_offset: u32,
    /// Offset of the transport header from the Ethernet header.
    pub transport: u32,
    /// Length of the transport header in bytes.
    pub transport_len: u32,
    /// Offset of the end of the packet as its IP header says.
    pub end: u32,
    /// `ifindex` of the pod whose packet this is; 0 for none.
    pub endpoint: u32,
    /// Identity of the other end.
    pub peer: Identity,
    /// Which rule of a policy refused it. Set by `policy`.
    pub author: Author,
    /// The sets that its flow was judged by, egress and ingress, and the rules that admitted it. Set by `policy`.
    pub sets: [SetId; 2],
    pub authors: [Author; 2],
    /// Who sent it. Set by `origin` or `trust`.
    pub from: Side,
    /// Who it is for. Set by `conntrack` or `related`.
    pub to: Side,
    /// Key of its flow. Set by `conntrack::find`, for ICMP errors by `related::track`.
    pub key: FlowKey<F::Address>,
    /// What an ICMP error quotes. Set by `related::quote`.
    pub quote: Quote<F::Header>,
    /// The tunnel that it came by. Set by `overlay_in`.
    pub tunnel: Tunnel,
    /// The port looked for in `masquerade::port_for`, and the pod that it is to stand for.
    pub outside: MasqueradeKey<F::Address>,
    pub pod: Masquerade<F::Address>,
}

/// Bits of [`Packet::tcp_flags`] (RFC 9293 §3.1).
pub mod tcp {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const ACK: u8 = 0x10;
}

impl<F: Family> Packet<F> {
    /// The hook's scratch entry, cleared of the packet before; `None` until the agent has written the node's settings, except for
    /// the uplink, where most packets are the node's own affair. The programs run with bottom halves off and are not
    /// interrupted by one at the same hook of the same CPU.
    #[inline(always)]
    pub fn begin(hook: Hook) -> Option<&'static mut Self> {
        const { assert!(size_of::<Self>() <= size_of::<Scratch>()) };
        if maps::NODE_STATE.get(0)?.mtu == 0 && !matches!(hook, Hook::UplinkIn | Hook::UplinkXdp) {
            return None;
        }
        let scratch = maps::SCRATCH.get_ptr_mut(hook as u32)?;
        // SAFETY: the entry is large enough, aligned to eight bytes, and this program's until it returns; every field is plain.
        let packet = unsafe { &mut *scratch.cast::<Self>() };
        packet.hook = hook;
        packet.piece = Piece::Whole;
        packet.protocol = 0;
        packet.tcp_flags = 0;
        packet.icmp = 0;
        packet.more = false;
        packet.forwarded = false;
        packet.masquerade_port = Be16(0);
        packet.source_port = Be16(0);
        packet.destination_port = Be16(0);
        packet.fragment_id = 0;
        packet.fragment_offset = 0;
        packet.transport = 0;
        packet.transport_len = 0;
        packet.end = 0;
        packet.endpoint = 0;
        packet.peer = Identity::UNKNOWN;
        packet.author = Author::NONE;
        Some(packet)
    }

    #[inline(always)]
    pub fn source(&self) -> F::Address {
        *self.head.ip.source()
    }

    #[inline(always)]
    pub fn destination(&self) -> F::Address {
        *self.head.ip.destination()
    }

    /// Reads the Ethernet header and the fixed part of the IP header.
    #[inline(always)]
    pub fn read_head<T: Frame>(&mut self, frame: &T) -> Stage<()> {
        let read = self.head.read(frame);
        if read.is_err() {
            // Not the packet before this one: `uplink_in` judges addresses, and a drop reports them.
            self.head = Head::default();
        }
        read
    }

    /// Whether the transport header is in this packet.
    #[inline(always)]
    pub fn has_transport(&self) -> bool {
        !matches!(self.piece, Piece::Later)
    }

    /// Writes the Ethernet header and the IP header's first bytes, through time to live and checksum, in one go.
    #[inline(always)]
    pub fn write_head(&self, skb: Skb) -> Stage<()> {
        self.store_head(skb, ETHERNET + F::Header::THROUGH_TTL)
    }

    /// Writes both headers whole, addresses included.
    #[inline(always)]
    pub fn write_addresses(&self, skb: Skb) -> Stage<()> {
        self.store_head(skb, ETHERNET + size_of::<F::Header>() as u32)
    }

    #[inline(always)]
    fn store_head(&self, skb: Skb, len: u32) -> Stage<()> {
        // SAFETY: from `to` on, the head is the packet's first bytes in order, aligned to words but for the first two bytes;
        // `len` never goes beyond it.
        unsafe { skb.write_head((&raw const self.head.to).cast(), len) }
    }
}

//! ICMP errors that the programs themselves send to a pod whose packet they refuse.

use core::{mem::size_of, ptr::null_mut};

use aya_ebpf::{
    bindings::TC_ACT_SHOT,
    helpers::{bpf_csum_diff, bpf_redirect},
};
use sdn_common::{Addr4, Addr6, Address, Be16, Forward, Hook, Mac, wire};

use crate::{
    checksum,
    family::{Family, Ipv4Header, Ipv6Header, protocol},
    frame::{ETHERNET, Frame, Plain, Skb},
    hook,
    packet::{Packet, Piece},
    verdict::{Stage, count_forward},
};

/// What a sender is told.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// Nothing: the packet is just dropped.
    None = 0,
    NetUnreachable = 1,
    HostUnreachable = 2,
    TooBig = 3,
    TimeExceeded = 4,
}

impl Error {
    /// What there is to tell, if anything.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::NetUnreachable),
            2 => Some(Self::HostUnreachable),
            3 => Some(Self::TooBig),
            4 => Some(Self::TimeExceeded),
            _ => None,
        }
    }
}

/// Hop limit of our answers: one hop is all they make.
const TTL: u8 = 64;

/// Bytes behind the IP header that are quoted: enough to find the flow (RFC 792; RFC 4443 §2.4 would allow more).
const QUOTED: usize = 8;

#[repr(C)]
#[derive(Clone, Copy)]
struct Ethernet {
    to: Mac,
    from: Mac,
}

/// ICMP header and quote, both families: 8 bytes and the quoted headers.
#[repr(C)]
#[derive(Clone, Copy)]
struct Message<H> {
    kind: [u8; 2],
    checksum: u16,
    value: u32,
    quote: H,
    quoted: [u8; QUOTED],
}

// SAFETY: bytes.
unsafe impl Plain for Ethernet {}
// SAFETY: headers and bytes, sizes 36 and 56, no padding.
unsafe impl<H: Plain> Plain for Message<H> {}

/// Turns the refused packet into an answer to its sender. The drop is counted already; what cannot be answered is just dropped.
#[inline(always)]
pub fn answer<F: Family>(skb: Skb, packet: &Packet<F>, error: Error) -> i32 {
    // Only pods are told by us: the node's own stack tells its sockets, and errors never answer errors (RFC 1122 §3.2.2).
    let tell = matches!(packet.hook, Hook::PodOut) && packet.piece != Piece::Later && !packet.is_icmp_error();
    if !tell {
        return TC_ACT_SHOT;
    }
    let sent = if F::IS_V6 { answer_v6(skb, error) } else { answer_v4(skb, error) };
    if sent.is_err() {
        return TC_ACT_SHOT;
    }
    count_forward(skb, packet.hook, Forward::Answer);
    // SAFETY: plain numbers. Out of the device that it came in by: to the pod.
    unsafe { bpf_redirect(skb.ifindex(), 0) as i32 }
}

#[inline(never)]
fn answer_v4(skb: Skb, error: Error) -> Stage<()> {
    let state = hook::state()?;
    let (kind, code, value) = match error {
        Error::None | Error::NetUnreachable => (3, 0, 0),
        Error::HostUnreachable => (3, 1, 0),
        // RFC 1191 §4: the next hop's MTU in the low half.
        Error::TooBig => (3, 4, state.mtu.to_be()),
        Error::TimeExceeded => (11, 0, 0),
    };
    let own = state.v4.cluster_address;
    let from = if own.is_zero() { Addr4::new(wire::GATEWAY_V4) } else { own };
    let mut message = message::<Ipv4Header>(skb, [kind, code], value)?;
    seal(&mut message, 0);
    let len = size_of::<Ipv4Header>() + size_of::<Message<Ipv4Header>>();
    let mut ip = Ipv4Header {
        version_ihl: 0x45,
        tos: 0xc0, // Internetwork control, as RFC 1812 §4.3.2.5 has it.
        total_len: Be16::new(len as u16),
        ttl_protocol: [TTL, protocol::ICMP],
        source: from,
        destination: message.quote.source,
        ..Ipv4Header::default()
    };
    // SAFETY: the header's own twenty bytes.
    let sum = unsafe { bpf_csum_diff(null_mut(), 0, (&raw mut ip).cast(), size_of::<Ipv4Header>() as u32, 0) };
    ip.checksum = !checksum::fold(sum as u32 as u64);
    send(skb, &ip, &message)
}

#[inline(never)]
fn answer_v6(skb: Skb, error: Error) -> Stage<()> {
    let state = hook::state()?;
    let (kind, code, value) = match error {
        Error::None | Error::NetUnreachable => (1, 0, 0),
        Error::HostUnreachable => (1, 3, 0),
        Error::TooBig => (2, 0, state.mtu.to_be()),
        Error::TimeExceeded => (3, 0, 0),
    };
    let own = state.v6.cluster_address;
    let from = if own.is_zero() { Addr6::new(wire::GATEWAY_V6) } else { own };
    let len = size_of::<Message<Ipv6Header>>() as u32;
    let mut message = message::<Ipv6Header>(skb, [kind, code], value)?;
    let mut ip = Ipv6Header {
        version_class_flow: [0x60, 0, 0, 0],
        payload_len: Be16::new(len as u16),
        next_header: protocol::ICMPV6,
        hop_limit: TTL,
        source: from,
        destination: message.quote.source,
    };
    // The pseudo header (RFC 8200 §8.1): both addresses, which stand side by side, the length and the protocol.
    let seed = (len + u32::from(protocol::ICMPV6)).to_be();
    // SAFETY: the header's own thirty-two bytes.
    let sum = unsafe { bpf_csum_diff(null_mut(), 0, (&raw mut ip.source).cast(), 32, seed) };
    seal(&mut message, sum as u32);
    send(skb, &ip, &message)
}

/// The ICMP message about the packet at hand: its header and the first bytes behind it are quoted.
#[inline(always)]
fn message<H: Plain + Default>(skb: Skb, kind: [u8; 2], value: u32) -> Stage<Message<H>> {
    let mut message = Message { kind, checksum: 0, value, quote: H::default(), quoted: [0; QUOTED] };
    skb.load(ETHERNET, &mut message.quote)?;
    skb.load(ETHERNET + size_of::<H>() as u32, &mut message.quoted)?;
    Ok(message)
}

/// Puts the checksum into a message whose pseudo header sums up to `seed`.
#[inline(always)]
fn seal<H: Plain>(message: &mut Message<H>, seed: u32) {
    // SAFETY: the message's own bytes, a multiple of four.
    let sum = unsafe {
        bpf_csum_diff(null_mut(), 0, core::ptr::from_mut(message).cast(), size_of::<Message<H>>() as u32, seed)
    };
    message.checksum = !checksum::fold(sum as u32 as u64);
}

/// Writes the answer over the packet, addressed to where it came from.
#[inline(always)]
fn send<H: Plain>(skb: Skb, ip: &H, message: &Message<H>) -> Stage<()> {
    let mut ethernet = Ethernet { to: [0; 6], from: [0; 6] };
    skb.load(0, &mut ethernet)?;
    let ip_len = size_of::<H>() as u32;
    skb.resize(ETHERNET + ip_len + size_of::<Message<H>>() as u32)?;
    skb.store(0, &Ethernet { to: ethernet.from, from: wire::GATEWAY_MAC })?;
    skb.store(ETHERNET, ip)?;
    skb.store(ETHERNET + ip_len, message)
}

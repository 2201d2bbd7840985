//! The pod's gateway: ARP and neighbour discovery for it are answered here, everything else of that kind goes no further.

use core::{mem::size_of, ptr::null_mut};

use aya_ebpf::helpers::{bpf_csum_diff, bpf_redirect};
use sdn_common::{Addr4, Addr6, Address, Be16, Forward, Mac, Reason, wire};

use crate::{
    checksum,
    family::{Family, Ipv6Header, V4, protocol},
    frame::{ETHERNET, Frame, Plain, Skb},
    origin,
    packet::Packet,
    verdict::{End, Sent, Stage},
};

/// An ARP packet for IPv4 over Ethernet (RFC 826), with the Ethernet header before it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Arp {
    to: Mac,
    from: Mac,
    ethertype: Be16,
    hardware: Be16,
    protocol: Be16,
    lengths: [u8; 2],
    operation: Be16,
    sender_mac: Mac,
    sender: [u8; 4],
    target_mac: Mac,
    target: [u8; 4],
}

/// A neighbour solicitation or advertisement with one link-layer address option (RFC 4861 §4.3, §4.4, §4.6.1).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Neighbour {
    kind: [u8; 2],
    checksum: u16,
    flags: u32,
    target: Addr6,
    option: [u8; 2],
    mac: Mac,
}

// SAFETY: bytes and 16-bit words, 42 bytes, no padding.
unsafe impl Plain for Arp {}
// SAFETY: bytes and words, 32 bytes, no padding.
unsafe impl Plain for Neighbour {}

const REQUEST: Be16 = Be16::new(1);
const REPLY: Be16 = Be16::new(2);

/// ICMPv6 types of neighbour discovery (RFC 4861 §4).
mod kind {
    pub const ROUTER_SOLICITATION: u8 = 133;
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    pub const SOLICITATION: u8 = 135;
    pub const ADVERTISEMENT: u8 = 136;
    pub const REDIRECT: u8 = 137;
}

/// ICMP redirect for IPv4 (RFC 792).
const REDIRECT_V4: u8 = 5;

/// "Router, solicited, override": the answer's flags (RFC 4861 §4.4).
const ADVERTISEMENT_FLAGS: u32 = u32::from_ne_bytes([0xe0, 0, 0, 0]);

/// Length of a solicitation without options.
const SOLICITATION_LEN: u32 = 24;

/// Answers ARP from a pod for its gateway, in place.
#[inline(never)]
pub fn arp(skb: Skb) -> Stage<()> {
    let mut arp = Arp::default();
    skb.load(0, &mut arp)?;
    if arp.hardware != Be16::new(1) || arp.protocol != V4::ETHERTYPE || arp.lengths != [6, 4] {
        return Err(End::drop(Reason::Malformed));
    }
    // A probe for duplicates has no sender (RFC 5227): nobody else can have the address, so nobody answers.
    if arp.sender != [0; 4] {
        let known = origin::endpoint::<V4>(&Addr4::new(arp.sender));
        if !known.is_some_and(|e| e.ifindex == skb.ifindex() && e.mac == arp.sender_mac && e.mac == arp.from) {
            return Err(End::drop(Reason::SpoofedNeighbour));
        }
    }
    if arp.operation != REQUEST || arp.target != wire::GATEWAY_V4 {
        return Err(End::drop(Reason::NeighbourUnknown));
    }
    let answer = Arp {
        to: arp.from,
        from: wire::GATEWAY_MAC,
        operation: REPLY,
        sender_mac: wire::GATEWAY_MAC,
        sender: arp.target,
        target_mac: arp.sender_mac,
        target: arp.sender,
        ..arp
    };
    skb.store(0, &answer)
}

/// Neighbour discovery from a pod. `None`: it is something else.
#[inline(always)]
pub fn discovery<F: Family>(skb: Skb, packet: &Packet<F>) -> Stage<Option<Sent>> {
    if packet.protocol != F::ICMP || !packet.has_transport() {
        return Ok(None);
    }
    if !F::IS_V6 {
        return if packet.icmp == REDIRECT_V4 { Err(End::drop(Reason::RouterImpersonation)) } else { Ok(None) };
    }
    match packet.icmp {
        kind::ROUTER_ADVERTISEMENT | kind::REDIRECT => Err(End::drop(Reason::RouterImpersonation)),
        kind::ROUTER_SOLICITATION => Err(End::drop(Reason::NeighbourUnknown)),
        kind::ADVERTISEMENT => {
            own_source(skb, packet)?;
            Err(End::drop(Reason::NeighbourUnknown))
        }
        kind::SOLICITATION => {
            own_source(skb, packet)?;
            advertise(skb, packet)?;
            Ok(Some(back(skb)))
        }
        _ => Ok(None),
    }
}

/// Neighbour discovery speaks for the sender's address only; link-local ones do not leave the veth, so they are believed.
#[inline(always)]
fn own_source<F: Family>(skb: Skb, packet: &Packet<F>) -> Stage<()> {
    let source = packet.source();
    if source.is_zero() || source.is_link_local() {
        return Ok(());
    }
    let known = origin::endpoint::<F>(&source);
    if known.is_some_and(|e| e.ifindex == skb.ifindex() && e.mac == packet.head.from) {
        Ok(())
    } else {
        Err(End::drop(Reason::SpoofedNeighbour))
    }
}

/// Answers a solicitation for the gateway.
#[inline(never)]
fn advertise<F: Family>(skb: Skb, packet: &Packet<F>) -> Stage<()> {
    let (transport, asker) = (packet.transport, packet.head.from);
    let mut ip = Ipv6Header::default();
    skb.load(ETHERNET, &mut ip)?;
    let mut asked = [0u32; SOLICITATION_LEN as usize / 4];
    // SAFETY: twenty-four plain bytes.
    unsafe { skb.load_bytes(transport, asked.as_mut_ptr().cast(), SOLICITATION_LEN)? };
    let target = Addr6([asked[2], asked[3], asked[4], asked[5]]);
    // RFC 4861 §7.1.1: from a neighbour, which a hop limit of 255 proves. `::` asks about duplicates: nobody has our address.
    if ip.hop_limit != 255 || transport != ETHERNET + 40 {
        return Err(End::drop(Reason::Malformed));
    }
    if target != Addr6::new(wire::GATEWAY_V6) || ip.source.is_zero() {
        return Err(End::drop(Reason::NeighbourUnknown));
    }
    ip.destination = ip.source;
    ip.source = target;
    ip.payload_len = Be16::new(size_of::<Neighbour>() as u16);
    let mut answer = Neighbour {
        kind: [kind::ADVERTISEMENT, 0],
        checksum: 0,
        flags: ADVERTISEMENT_FLAGS,
        target,
        option: [2, 1],
        mac: wire::GATEWAY_MAC,
    };
    answer.checksum = sum(&mut ip, &mut answer);
    skb.resize(ETHERNET + 40 + size_of::<Neighbour>() as u32)?;
    skb.store(0, &asker)?;
    skb.store(6, &wire::GATEWAY_MAC)?;
    skb.store(ETHERNET, &ip)?;
    skb.store(ETHERNET + 40, &answer)
}

/// The checksum over addresses, length, protocol and message (RFC 4443 §2.3).
#[inline(always)]
fn sum(ip: &mut Ipv6Header, answer: &mut Neighbour) -> u16 {
    let len = size_of::<Neighbour>() as u32;
    let seed = (len + u32::from(protocol::ICMPV6)).to_be();
    // SAFETY: source and destination stand side by side, thirty-two bytes; the message is its own.
    let sum = unsafe {
        let addresses = bpf_csum_diff(null_mut(), 0, (&raw mut ip.source).cast(), 32, seed);
        bpf_csum_diff(null_mut(), 0, core::ptr::from_mut(answer).cast(), len, addresses as u32)
    };
    !checksum::fold(sum as u32 as u64)
}

/// Out of the veth that the question came in by.
#[inline(always)]
pub fn back(skb: Skb) -> Sent {
    let ifindex = skb.ifindex();
    // SAFETY: plain numbers.
    Sent::redirect(Forward::Answer, unsafe { bpf_redirect(ifindex, 0) }, ifindex)
}

impl Default for Arp {
    #[inline(always)]
    fn default() -> Self {
        // SAFETY: bytes and 16-bit words.
        unsafe { core::mem::zeroed() }
    }
}

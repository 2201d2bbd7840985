//! Translation: an address and a port of a packet become others, checksums included.
//!
//! The recipe works on partial checksums and on GSO packets: the kernel's helpers know what a checksum field holds.

use aya_ebpf::helpers::{bpf_csum_diff, bpf_l4_csum_replace};
use sdn_common::{Address, Be16};

use crate::{
    family::{Family, IpHeader, protocol},
    frame::{Skb, helper},
    packet::Packet,
    verdict::Stage,
};

/// Which end of the packet changes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    Source,
    Destination,
}

/// What becomes of that end.
#[derive(Clone, Copy)]
pub struct Translation<A> {
    pub end: End,
    pub address: A,
    pub port: Be16,
}

/// Flags of `bpf_l4_csum_replace` (include/uapi/linux/bpf.h). `IPV6` came with 6.17 and matters for CHECKSUM_COMPLETE.
mod flag {
    pub const PSEUDO_HDR: u64 = 1 << 4;
    pub const MARK_MANGLED_0: u64 = 1 << 5;
    pub const IPV6: u64 = 1 << 7;
}

/// Writes another address and port over one end. The head is changed here and written by the stage that sends the packet.
#[inline(never)]
pub fn rewrite<F: Family>(skb: Skb, packet: &mut Packet<F>, to: &Translation<F::Address>) -> Stage<()> {
    let Translation { end, address, port } = *to;
    let (old, old_port) = match end {
        End::Source => (packet.source(), packet.source_port),
        End::Destination => (packet.destination(), packet.destination_port),
    };
    if packet.has_transport()
        && let Some(field) = checksum_field::<F>(packet)
    {
        replace_address::<F>(skb, packet, field, old, address)?;
        if port != old_port {
            replace_port(skb, packet, field, old_port, port)?;
            skb.store(packet.transport + port_offset::<F>(packet, end), &port)?;
        }
    }
    match end {
        End::Source => packet.head.ip.set_source(address),
        End::Destination => packet.head.ip.set_destination(address),
    }
    // An identifier stands for both ports.
    let both = packet.protocol == F::ICMP;
    if both || end == End::Source {
        packet.source_port = port;
    }
    if both || end == End::Destination {
        packet.destination_port = port;
    }
    Ok(())
}

/// Offset of the transport checksum from the transport header.
#[inline(always)]
fn checksum_field<F: Family>(packet: &Packet<F>) -> Option<u32> {
    match packet.protocol {
        protocol::TCP => Some(16),
        protocol::UDP => Some(6),
        number if number == F::ICMP => Some(2),
        _ => None,
    }
}

/// Offset of a port from the transport header; of the identifier for ICMP.
#[inline(always)]
fn port_offset<F: Family>(packet: &Packet<F>, end: End) -> u32 {
    if packet.protocol == F::ICMP {
        return 4;
    }
    match end {
        End::Source => 0,
        End::Destination => 2,
    }
}

/// UDP's checksum 0 means none, and stays 0.
#[inline(always)]
fn mangled<F: Family>(packet: &Packet<F>) -> u64 {
    if packet.protocol == protocol::UDP { flag::MARK_MANGLED_0 } else { 0 }
}

#[inline(always)]
fn replace_address<F: Family>(skb: Skb, packet: &Packet<F>, field: u32, old: F::Address, new: F::Address) -> Stage<()> {
    // ICMP for IPv4 has no pseudo header, ICMPv6 has (RFC 4443 §2.3).
    if packet.protocol == protocol::ICMP {
        return Ok(());
    }
    let at = packet.transport + field;
    let flags = flag::PSEUDO_HDR | mangled(packet);
    if F::IS_V6 {
        let difference = difference(old, new);
        // SAFETY: the packet is the program's own.
        return helper(unsafe { bpf_l4_csum_replace(skb.raw(), at, 0, difference, flags | flag::IPV6) });
    }
    let (old, new) = (old.mapped().0[3], new.mapped().0[3]);
    // SAFETY: as above.
    helper(unsafe { bpf_l4_csum_replace(skb.raw(), at, u64::from(old), u64::from(new), flags | 4) })
}

#[inline(always)]
fn replace_port<F: Family>(skb: Skb, packet: &Packet<F>, field: u32, old: Be16, new: Be16) -> Stage<()> {
    let at = packet.transport + field;
    // SAFETY: the packet is the program's own.
    helper(unsafe { bpf_l4_csum_replace(skb.raw(), at, u64::from(old.0), u64::from(new.0), mangled(packet) | 2) })
}

/// What changing one address into the other does to a checksum over it.
#[inline(always)]
fn difference<A: Address>(old: A, new: A) -> u64 {
    let (mut old, mut new) = (old.mapped().0, new.mapped().0);
    // SAFETY: both are arrays of sixteen bytes.
    let sum = unsafe { bpf_csum_diff(old.as_mut_ptr(), 16, new.as_mut_ptr(), 16, 0) };
    sum as u32 as u64
}

/// Translates the packet quoted by an ICMP error: the quote must be what its reader once sent.
#[inline(never)]
pub fn rewrite_quote<F: Family>(skb: Skb, packet: &mut Packet<F>, to: &Translation<F::Address>) -> Stage<()> {
    let Translation { end, address, port } = *to;
    let quote = &mut packet.quote;
    let ip = &mut quote.ip;
    let (old, old_port) = match end {
        End::Source => (*ip.source(), quote.source_port),
        End::Destination => (*ip.destination(), quote.destination_port),
    };
    match end {
        End::Source => ip.set_source(address),
        End::Destination => ip.set_destination(address),
    }
    // The quoted IPv4 header's own checksum makes up for its address; ICMPv6's covers the quoted address as it covers any byte.
    let field = quote.error + 2;
    if F::IS_V6 {
        let difference = difference(old, address);
        // SAFETY: the packet is the program's own.
        helper(unsafe { bpf_l4_csum_replace(skb.raw(), field, 0, difference, 0) })?;
    }
    // SAFETY: as above.
    helper(unsafe { bpf_l4_csum_replace(skb.raw(), field, u64::from(old_port.0), u64::from(port.0), 2) })?;
    // SAFETY: a header is plain bytes.
    unsafe { skb.store_bytes(quote.at, (&raw const *ip).cast(), size_of::<F::Header>() as u32)? };
    let offset = match (quote.protocol == F::ICMP, end) {
        (true, _) => 4,
        (false, End::Source) => 0,
        (false, End::Destination) => 2,
    };
    skb.store(quote.transport + offset, &port)
}

/// The packet that an ICMP error quotes.
#[repr(C)]
pub struct Quote<H> {
    /// Offset of the ICMP header of the error from the Ethernet header.
    pub error: u32,
    pub ip: H,
    /// Offset of its IP header.
    pub at: u32,
    /// Offset of its transport header.
    pub transport: u32,
    pub protocol: u8,
    pub source_port: Be16,
    pub destination_port: Be16,
}

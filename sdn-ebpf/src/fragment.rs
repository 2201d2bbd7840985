//! Fragments follow their first one, in order, or are dropped.

use aya_ebpf::helpers::bpf_jiffies64;
use sdn_common::{Fragment, FragmentKey, Reason};

use crate::{
    family::Family,
    hook,
    packet::{Packet, Piece},
    verdict::{End, Stage},
};

/// Seconds for which a datagram's identification is taken to be the same datagram's (IPv4 reuses it after 65,536, RFC 4963).
const SAME_DATAGRAM: u32 = 2;

/// Remembers a first fragment's ports, gives them to the later ones, and refuses those out of line.
#[inline(always)]
pub fn follow<F: Family>(packet: &mut Packet<F>) -> Stage<()> {
    if packet.piece == Piece::Whole { Ok(()) } else { follow_piece(packet) }
}

#[inline(never)]
fn follow_piece<F: Family>(packet: &mut Packet<F>) -> Stage<()> {
    let key = FragmentKey {
        source: packet.source(),
        destination: packet.destination(),
        id: packet.fragment_id,
        protocol: packet.protocol,
        hook: packet.hook as u8,
        _pad: 0,
    };
    // SAFETY: no arguments, no effects.
    let now = unsafe { bpf_jiffies64() } as u32;
    let len = packet.end - packet.transport;
    if packet.more && !len.is_multiple_of(8) {
        return Err(End::drop(Reason::Malformed));
    }
    if packet.fragment_offset + len > 0xffff {
        return Err(End::drop(Reason::Malformed));
    }
    match packet.piece {
        Piece::First => first(packet, &key, len, now),
        _ => later(packet, &key, len, now),
    }
}

#[inline(always)]
fn first<F: Family>(packet: &Packet<F>, key: &FragmentKey<F::Address>, len: u32, now: u32) -> Stage<()> {
    // SAFETY: the entry is valid while the program runs.
    if let Some(known) = unsafe { F::fragments().get(key) }
        && now.wrapping_sub(known.touched) < SAME_DATAGRAM * hook::state()?.hz
    {
        let _ = F::fragments().remove(key);
        return Err(End::drop(Reason::FragmentOverlap));
    }
    let entry = Fragment {
        source_port: packet.source_port,
        destination_port: packet.destination_port,
        next: len,
        seen: 1,
        icmp: packet.icmp,
        _pad: 0,
        touched: now,
    };
    // Without an entry the later ones are dropped, and counted, as out of order.
    let _ = F::fragments().insert(key, entry, 0);
    Ok(())
}

#[inline(always)]
fn later<F: Family>(packet: &mut Packet<F>, key: &FragmentKey<F::Address>, len: u32, now: u32) -> Stage<()> {
    let Some(entry) = F::fragments().get_ptr_mut(key) else {
        return Err(End::drop(Reason::FragmentOutOfOrder));
    };
    // SAFETY: the entry is valid while the program runs; the fragments of one datagram come one after the other.
    let entry = unsafe { &mut *entry };
    packet.source_port = entry.source_port;
    packet.destination_port = entry.destination_port;
    packet.icmp = entry.icmp;
    let refused = if packet.fragment_offset < entry.next {
        Some(Reason::FragmentOverlap)
    } else if packet.fragment_offset > entry.next {
        Some(Reason::FragmentOutOfOrder)
    } else if u32::from(entry.seen) >= hook::state()?.fragments {
        Some(Reason::FragmentExcess)
    } else {
        None
    };
    entry.next = packet.fragment_offset + len;
    entry.seen += 1;
    entry.touched = now;
    // One bad fragment spoils the datagram: what follows finds no entry (RFC 5722 §4).
    if refused.is_some() || !packet.more {
        let _ = F::fragments().remove(key);
    }
    match refused {
        Some(reason) => Err(End::drop(reason)),
        None => Ok(()),
    }
}

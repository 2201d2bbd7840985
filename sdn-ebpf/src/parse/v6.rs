//! The IPv6 header and what stands between it and the transport (RFC 8200 §4).

use sdn_common::Reason;

use crate::{
    family::V6,
    frame::{ETHERNET, Frame},
    packet::{Packet, Piece},
    verdict::{End, Stage},
};

/// More extension headers than that are nobody's honest packet (RFC 9098 §7 collects what others accept).
const MOST_HEADERS: u32 = 6;

/// Next-header numbers (RFC 8200 §4, RFC 4302, RFC 6275).
mod next {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const AUTHENTICATION: u8 = 51;
    pub const DESTINATION: u8 = 60;
    pub const MOBILITY: u8 = 135;
}

/// Reads the fixed header and walks the extension headers.
#[inline(always)]
pub fn headers<T: Frame>(frame: &T, packet: &mut Packet<V6>) -> Stage<()> {
    let ip = &packet.head.ip;
    let payload = u32::from(ip.payload_len.native());
    packet.end = ETHERNET + 40 + payload;
    if ip.version_class_flow[0] >> 4 != 6 || packet.end > frame.len() {
        return Err(End::drop(Reason::Malformed));
    }
    packet.protocol = ip.next_header;
    packet.transport = ETHERNET + 40;
    packet.piece = Piece::Whole;
    for _ in 0..MOST_HEADERS {
        if !is_extension(packet.protocol) {
            return Ok(());
        }
        step(frame, packet)?;
        if packet.piece == Piece::Later {
            // What follows is the middle of the datagram, not a header.
            return Ok(());
        }
    }
    if is_extension(packet.protocol) { Err(End::drop(Reason::ExtensionHeaders)) } else { Ok(()) }
}

#[inline(always)]
const fn is_extension(number: u8) -> bool {
    matches!(
        number,
        next::HOP_BY_HOP | next::ROUTING | next::FRAGMENT | next::AUTHENTICATION | next::DESTINATION | next::MOBILITY
    )
}

/// One header further.
#[inline(always)]
fn step<T: Frame>(frame: &T, packet: &mut Packet<V6>) -> Stage<()> {
    // Eight bytes: the shortest extension header.
    let words = frame.words::<2>(packet.transport)?;
    let ([following, len, high, low], id) = (words[0].to_ne_bytes(), words[1]);
    let bytes = match packet.protocol {
        // A piece of a piece: put together, it need not be what it looks like here.
        next::FRAGMENT if packet.piece == Piece::First => return Err(End::drop(Reason::ExtensionHeaders)),
        next::FRAGMENT => {
            fragment(packet, u16::from_be_bytes([high, low]), id);
            8
        }
        // Source routing lets a packet go where its destination does not say (RFC 5095); with nothing left it is harmless.
        next::ROUTING if low != 0 => return Err(End::drop(Reason::ExtensionHeaders)),
        // RFC 4302 §2.2: in words of four bytes, less two.
        next::AUTHENTICATION => (u32::from(len) + 2) * 4,
        _ => (u32::from(len) + 1) * 8,
    };
    packet.protocol = following;
    packet.transport += bytes;
    if packet.transport > packet.end {
        return Err(End::drop(if packet.piece == Piece::First { Reason::FragmentTiny } else { Reason::Malformed }));
    }
    Ok(())
}

/// RFC 8200 §4.5. A fragment without a second one is a whole datagram (RFC 6946).
#[inline(always)]
fn fragment(packet: &mut Packet<V6>, offset_and_flags: u16, id: u32) {
    packet.more = offset_and_flags & 1 != 0;
    packet.fragment_offset = u32::from(offset_and_flags & 0xfff8);
    packet.fragment_id = id;
    packet.piece = match (packet.fragment_offset, packet.more) {
        (0, false) => Piece::Whole,
        (0, true) => Piece::First,
        _ => Piece::Later,
    };
}

//! The IPv4 header (RFC 791 §3.1).

use sdn_common::Reason;

use crate::{
    family::V4,
    frame::{ETHERNET, Frame},
    packet::{Packet, Piece},
    verdict::{End, Stage},
};

const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// Reads the header: lengths, protocol, fragment.
#[inline(always)]
pub fn header<T: Frame>(frame: &T, packet: &mut Packet<V4>) -> Stage<()> {
    let ip = &packet.head.ip;
    let header_len = u32::from(ip.version_ihl & 0x0f) * 4;
    let total = u32::from(ip.total_len.native());
    if ip.version_ihl >> 4 != 4 || header_len < 20 || total < header_len || ETHERNET + total > frame.len() {
        return Err(End::drop(Reason::Malformed));
    }
    packet.protocol = ip.ttl_protocol[1];
    packet.transport = ETHERNET + header_len;
    packet.end = ETHERNET + total;
    let fragment = ip.fragment.native();
    packet.more = fragment & MORE_FRAGMENTS != 0;
    packet.fragment_offset = u32::from(fragment & OFFSET_MASK) * 8;
    packet.fragment_id = u32::from(ip.id.0);
    packet.piece = match (packet.fragment_offset, packet.more) {
        (0, false) => Piece::Whole,
        (0, true) => Piece::First,
        _ => Piece::Later,
    };
    Ok(())
}

//! From bytes to a [`Packet`]: what is cut short or contradicts itself goes no further.

pub mod v4;
pub mod v6;

use sdn_common::{Be16, Reason};

use crate::{
    family::{Family, protocol},
    frame::Frame,
    packet::{Packet, Piece, tcp},
    verdict::{End, Stage},
};

/// ICMP types that carry an identifier: echo request and reply (RFC 792, RFC 4443 §4).
pub mod icmp_type {
    pub const ECHO_REPLY_V4: u8 = 0;
    pub const ECHO_V4: u8 = 8;
    pub const ECHO_V6: u8 = 128;
    pub const ECHO_REPLY_V6: u8 = 129;
}

/// Reads the headers through the transport's.
#[inline(always)]
pub fn headers<F: Family, T: Frame>(frame: &T, packet: &mut Packet<F>) -> Stage<()> {
    packet.read_head(frame)?;
    F::parse(frame, packet)?;
    if packet.has_transport() { transport(frame, packet) } else { Ok(()) }
}

#[inline(always)]
fn transport<F: Family, T: Frame>(frame: &T, packet: &mut Packet<F>) -> Stage<()> {
    match packet.protocol {
        protocol::TCP => tcp(frame, packet),
        protocol::UDP => udp(frame, packet),
        protocol::SCTP => sctp(frame, packet),
        number if number == F::ICMP => icmp(frame, packet),
        _ => Ok(()),
    }
}

/// RFC 9293 §3.1, through the flags.
#[inline(always)]
fn tcp<F: Family, T: Frame>(frame: &T, packet: &mut Packet<F>) -> Stage<()> {
    need(packet, 20)?;
    let words = frame.words::<4>(packet.transport)?;
    ports(packet, words[0]);
    let [offset, flags, _, _] = words[3].to_ne_bytes();
    packet.tcp_flags = flags;
    need(packet, u32::from(offset >> 4) * 4)?;
    // A header shorter than itself; nothing set at all; or an opening that closes. No stack sends these, scanners do.
    let opens_and_ends = flags & tcp::SYN != 0 && flags & (tcp::FIN | tcp::RST) != 0;
    if packet.transport_len < 20 || flags & (tcp::SYN | tcp::FIN | tcp::RST | tcp::ACK) == 0 || opens_and_ends {
        return Err(End::drop(Reason::Malformed));
    }
    Ok(())
}

/// RFC 768.
#[inline(always)]
fn udp<F: Family, T: Frame>(frame: &T, packet: &mut Packet<F>) -> Stage<()> {
    need(packet, 8)?;
    let words = frame.words::<2>(packet.transport)?;
    ports(packet, words[0]);
    let [a, b, _, _] = words[1].to_ne_bytes();
    let len = u32::from(u16::from_be_bytes([a, b]));
    // Of a fragmented datagram only the first part is here; a GSO packet's length is its first segment's or the whole.
    let whole = packet.piece == Piece::Whole && frame.segment() == 0;
    if len < 8 || (whole && packet.transport + len > packet.end) {
        return Err(End::drop(Reason::Malformed));
    }
    Ok(())
}

/// RFC 9260 §3.1: only the ports matter here.
#[inline(always)]
fn sctp<F: Family, T: Frame>(frame: &T, packet: &mut Packet<F>) -> Stage<()> {
    need(packet, 12)?;
    let [word] = frame.words(packet.transport)?;
    ports(packet, word);
    Ok(())
}

/// RFC 792, RFC 4443 §2.1. The identifier of an echo stands for both ports.
#[inline(always)]
fn icmp<F: Family, T: Frame>(frame: &T, packet: &mut Packet<F>) -> Stage<()> {
    need(packet, 8)?;
    let words = frame.words::<2>(packet.transport)?;
    packet.icmp = words[0].to_ne_bytes()[0];
    if packet.is_echo() || packet.is_echo_reply() {
        let [a, b, _, _] = words[1].to_ne_bytes();
        let id = Be16(u16::from_ne_bytes([a, b]));
        (packet.source_port, packet.destination_port) = (id, id);
    }
    Ok(())
}

/// The transport header has `len` bytes, and they are here.
#[inline(always)]
fn need<F: Family>(packet: &mut Packet<F>, len: u32) -> Stage<()> {
    packet.transport_len = len;
    if packet.transport + len <= packet.end {
        return Ok(());
    }
    // What could hide a header from a filter has a name of its own (RFC 1858).
    Err(End::drop(if packet.piece == Piece::First { Reason::FragmentTiny } else { Reason::Malformed }))
}

#[inline(always)]
fn ports<F: Family>(packet: &mut Packet<F>, word: u32) {
    let [a, b, c, d] = word.to_ne_bytes();
    packet.source_port = Be16(u16::from_ne_bytes([a, b]));
    packet.destination_port = Be16(u16::from_ne_bytes([c, d]));
}

impl<F: Family> Packet<F> {
    #[inline(always)]
    pub fn is_echo(&self) -> bool {
        self.protocol == F::ICMP && self.icmp == if F::IS_V6 { icmp_type::ECHO_V6 } else { icmp_type::ECHO_V4 }
    }

    #[inline(always)]
    pub fn is_echo_reply(&self) -> bool {
        self.protocol == F::ICMP
            && self.icmp == if F::IS_V6 { icmp_type::ECHO_REPLY_V6 } else { icmp_type::ECHO_REPLY_V4 }
    }

    /// Unreachable, too big, time exceeded, parameter problem; for IPv4 source quench as well (RFC 792, RFC 4443 §2.1).
    #[inline(always)]
    pub fn is_icmp_error(&self) -> bool {
        self.protocol == F::ICMP
            && self.has_transport()
            && if F::IS_V6 { (1..=4).contains(&self.icmp) } else { matches!(self.icmp, 3 | 4 | 11 | 12) }
    }
}

//! Messages on the wire (RFC 1035 section 4, EDNS of RFC 6891): what is parsed in place, and the numbers in them.

mod message;
mod name;
mod splice;
mod writer;

pub(crate) use message::{Edns, Parsed, Query, parse};
pub(crate) use name::{MAX_NAME, Name, append_wire};
pub(crate) use splice::splice;
pub(crate) use writer::{NameAt, Section, Writer, failure};

/// The header's size.
pub(crate) const HEADER: usize = 12;

/// The size of an OPT record without options: root, type, size, the extended TTL, no data.
pub(crate) const OPT_SIZE: usize = 11;

/// The most we send over UDP: what passes any network without fragments (DNS flag day 2020; OpenShift's bufsize).
pub(crate) const MAX_UDP: usize = 1232;

/// What a client takes that says nothing (RFC 1035 section 4.2.1).
pub(crate) const PLAIN_UDP: usize = 512;

/// The most a message over TCP can have.
pub(crate) const MAX_TCP: usize = 65_535;

/// Types of records (RFC 1035 section 3.2.2 and its successors).
pub(crate) mod rtype {
    pub(crate) const A: u16 = 1;
    pub(crate) const NS: u16 = 2;
    pub(crate) const CNAME: u16 = 5;
    pub(crate) const SOA: u16 = 6;
    pub(crate) const PTR: u16 = 12;
    pub(crate) const HINFO: u16 = 13;
    pub(crate) const TXT: u16 = 16;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const SRV: u16 = 33;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const TKEY: u16 = 249;
    pub(crate) const TSIG: u16 = 250;
    pub(crate) const IXFR: u16 = 251;
    pub(crate) const AXFR: u16 = 252;
    pub(crate) const MAILB: u16 = 253;
    pub(crate) const MAILA: u16 = 254;
    pub(crate) const ANY: u16 = 255;
}

/// The class IN.
pub(crate) const CLASS_IN: u16 = 1;

/// Response codes (RFC 1035 section 4.1.1; BADVERS is extended, RFC 6891 section 6.1.3).
pub(crate) mod rcode {
    pub(crate) const NOERROR: u16 = 0;
    pub(crate) const FORMERR: u16 = 1;
    pub(crate) const SERVFAIL: u16 = 2;
    pub(crate) const NXDOMAIN: u16 = 3;
    pub(crate) const NOTIMP: u16 = 4;
    pub(crate) const REFUSED: u16 = 5;
    pub(crate) const NOTAUTH: u16 = 9;
    pub(crate) const BADVERS: u16 = 16;
}

/// Bits of the header's third and fourth byte, as one number in network order.
pub(crate) mod flag {
    pub(crate) const RESPONSE: u16 = 0x8000;
    pub(crate) const OPCODE: u16 = 0x7800;
    pub(crate) const AUTHORITATIVE: u16 = 0x0400;
    pub(crate) const TRUNCATED: u16 = 0x0200;
    pub(crate) const RECURSION_DESIRED: u16 = 0x0100;
    pub(crate) const RECURSION_AVAILABLE: u16 = 0x0080;
    pub(crate) const CHECKING_DISABLED: u16 = 0x0010;
    pub(crate) const RCODE: u16 = 0x000f;
}

/// Two bytes of a message in network order, if it has them.
pub(crate) fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    let bytes = message.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

#[cfg(test)]
mod tests;

//! The message for a client: an entry with this client's id, spelling and bits, and TTLs that have counted down.

use super::query::{Query, append_opt, count_additional};
use super::wire::{HEADER, OPT_SIZE, flag, put_u16, put_u32, rcode, u16_at, u32_at, word};
use crate::cache::Entry;

/// Extended DNS Errors (RFC 8914) that are told.
pub(crate) mod ede {
    pub(crate) const STALE_ANSWER: u16 = 3;
    pub(crate) const CACHED_ERROR: u16 = 13;
    pub(crate) const STALE_NXDOMAIN: u16 = 19;
    pub(crate) const NO_REACHABLE_AUTHORITY: u16 = 22;
    pub(crate) const NETWORK_ERROR: u16 = 23;
    pub(crate) const OTHER: u16 = 0;
}

/// Bytes of an EDE option without text.
const EDE_LENGTH: usize = 6;

/// TTLs as they are to be told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ttls {
    /// Counted down: seconds since the answer came, and until it ends.
    Aged { age: u32, left: u32 },
    /// All the same.
    Fixed(u32),
}

/// How an answer is given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery {
    pub(crate) ttls: Ttls,
    /// The Extended DNS Error that goes with it.
    pub(crate) error: Option<u16>,
    /// The largest message.
    pub(crate) max_size: usize,
}

// === impl Ttls ===

impl Ttls {
    fn tell(self, ttl: u32) -> u32 {
        match self {
            // Raised where our lower bound is above it.
            Self::Aged { age, left } => ttl.saturating_sub(age).max(left),
            Self::Fixed(ttl) => ttl,
        }
    }
}

/// Writes an entry as the answer to a query.
pub(crate) fn write(entry: &Entry, query: &Query, delivery: Delivery, out: &mut Vec<u8>) {
    out.clear();
    if entry.message().len() + opt_length(query, delivery.error) > delivery.max_size {
        return write_truncated(entry, query, delivery, out);
    }
    out.extend(entry.message());
    out[HEADER..HEADER + query.name.len()].copy_from_slice(query.name);
    for at in entry.ttls() {
        let ttl = delivery.ttls.tell(u32_at(out, at).unwrap_or(0));
        put_u32(out, at, ttl);
    }
    finish(entry, query, delivery.error, out);
}

/// A response without records.
pub(crate) fn write_empty(query: &Query, code: u16, error: Option<u16>, max_size: usize, out: &mut Vec<u8>) {
    out.clear();
    out.extend([0; HEADER]);
    write_question(query, out);
    let error = error.filter(|error| out.len() + opt_length(query, Some(*error)) <= max_size);
    finish_header(query, code, 0, out);
    append_edns(query, (code >> 4) as u8, error, out);
}

/// What is answered to a message that is no proper question: its header alone.
pub(crate) fn malformed(message: &[u8], code: u16) -> Vec<u8> {
    let flags = u16_at(message, word::FLAGS).unwrap_or(0);
    let mut out = vec![0; HEADER];
    put_u16(&mut out, word::ID, u16_at(message, word::ID).unwrap_or(0));
    let kept = flags & (flag::OPCODE | flag::RECURSION_DESIRED | flag::CHECKING_DISABLED);
    put_u16(&mut out, word::FLAGS, flag::RESPONSE | flag::RECURSION_AVAILABLE | kept | code & flag::RCODE);
    out
}

/// RFC 2181 section 9: the client asks again by TCP, so it gets nothing that it could take for all.
fn write_truncated(entry: &Entry, query: &Query, delivery: Delivery, out: &mut Vec<u8>) {
    write_empty(query, entry.rcode(), None, delivery.max_size, out);
    let flags = u16_at(out, word::FLAGS).unwrap_or(0);
    put_u16(out, word::FLAGS, flags | flag::TRUNCATED);
}

fn write_question(query: &Query, out: &mut Vec<u8>) {
    out.extend(query.name);
    out.extend(query.rtype.to_be_bytes());
    out.extend(query.class.to_be_bytes());
    put_u16(out, word::QUESTIONS, 1);
}

fn finish(entry: &Entry, query: &Query, error: Option<u16>, out: &mut Vec<u8>) {
    let flags = u16_at(out, word::FLAGS).unwrap_or(0);
    finish_header(query, entry.rcode(), flags & flag::AUTHENTIC_DATA, out);
    append_edns(query, 0, error, out);
}

/// Nothing forwarded is authoritative, and recursion is what forwarding is for.
fn finish_header(query: &Query, code: u16, authenticated: u16, out: &mut [u8]) {
    let authenticated = if query.wants_authenticated() { authenticated } else { 0 };
    let kept = query.flags & (flag::RECURSION_DESIRED | flag::CHECKING_DISABLED);
    put_u16(out, word::ID, query.id);
    put_u16(out, word::FLAGS, flag::RESPONSE | flag::RECURSION_AVAILABLE | kept | authenticated | code & flag::RCODE);
}

/// Who sends no OPT record gets none. `extended`: the upper eight bits of a code of twelve.
fn append_edns(query: &Query, extended: u8, error: Option<u16>, out: &mut Vec<u8>) {
    if query.edns.is_some() {
        append_opt(out, extended, query.dnssec_ok(), error);
        count_additional(out);
    }
}

fn opt_length(query: &Query, error: Option<u16>) -> usize {
    match query.edns {
        None => 0,
        Some(_) => OPT_SIZE + error.map_or(0, |_| EDE_LENGTH),
    }
}

/// The Extended DNS Error that goes with an old answer.
pub(crate) fn stale_error(entry: &Entry) -> u16 {
    if entry.rcode() == rcode::NXDOMAIN { ede::STALE_NXDOMAIN } else { ede::STALE_ANSWER }
}

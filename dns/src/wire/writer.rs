//! Responses, written record by record up to their limit.

use super::{CLASS_IN, Edns, HEADER, MAX_TCP, MAX_UDP, OPT_SIZE, PLAIN_UDP, flag, rcode, u16_at};

/// A response being written. The buffer begins with the query's header and question.
pub(crate) struct Writer<'o> {
    out: &'o mut Vec<u8>,
    /// Where records have to end: OPT's place is kept free.
    limit: usize,
    edns: Option<Edns>,
    counts: [u16; 3],
    truncated: bool,
}

/// The sections that records are written to, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    /// What was asked for.
    Answer = 0,
    /// SOA of negative answers.
    Authority = 1,
    /// What saves the next question.
    Additional = 2,
}

/// Where a name stands in the message, uncompressed: records refer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NameAt(u16);

/// The largest offset that compression can refer to.
const MAX_POINTER: usize = 0x3fff;

// === impl NameAt ===

impl NameAt {
    /// The name of the question.
    #[expect(clippy::cast_possible_truncation, reason = "12 fits")]
    pub(crate) const QUESTION: Self = Self(HEADER as u16);

    /// `None` when it is too far for a reference.
    pub(crate) fn new(offset: usize) -> Option<Self> {
        u16::try_from(offset).ok().filter(|offset| usize::from(*offset) <= MAX_POINTER).map(Self)
    }

    /// Its offset.
    pub(crate) fn offset(self) -> usize {
        usize::from(self.0)
    }

    /// The name that is left when so many bytes of labels are taken from its front.
    pub(crate) fn skip(self, bytes: usize) -> Option<Self> {
        Self::new(self.offset() + bytes)
    }

    /// The reference to it (RFC 1035 section 4.1.4).
    pub(crate) fn pointer(self) -> [u8; 2] {
        (self.0 | 0xc000).to_be_bytes()
    }
}

// === impl Edns ===

impl Edns {
    /// The largest response over UDP to a query with this OPT record.
    pub(crate) fn udp_limit(edns: Option<Self>) -> usize {
        edns.map_or(PLAIN_UDP, |edns| usize::from(edns.size).clamp(PLAIN_UDP, MAX_UDP))
    }

    /// The same OPT record without options, for a query of our own.
    pub(crate) fn request(self) -> [u8; OPT_SIZE] {
        let [high, low] = self.size.to_be_bytes();
        [0, 0, 41, high, low, 0, 0, u8::from(self.dnssec_ok) << 7, 0, 0, 0]
    }

    /// The OPT record that answers this one: its size as far as we go along, its DO, no options.
    fn reply(self, rcode: u16) -> [u8; OPT_SIZE] {
        let limit = Self::udp_limit(Some(self));
        let [high, low] = u16::try_from(limit).unwrap_or(u16::MAX).to_be_bytes();
        let extended = u8::try_from(rcode >> 4).unwrap_or_default();
        [0, 0, 41, high, low, extended, 0, u8::from(self.dnssec_ok) << 7, 0, 0, 0]
    }
}

// === impl Writer ===

impl<'o> Writer<'o> {
    /// A response no longer than `max_size` to the query that begins with `head`, header and question. `out` is emptied.
    pub(crate) fn new(out: &'o mut Vec<u8>, head: &[u8], edns: Option<Edns>, max_size: usize) -> Self {
        out.clear();
        out.extend_from_slice(head);
        Self::resume(out, edns, max_size, [0; 3])
    }

    /// Goes on with a response that has so many records in its sections.
    pub(crate) fn resume(out: &'o mut Vec<u8>, edns: Option<Edns>, max_size: usize, counts: [u16; 3]) -> Self {
        let limit = max_size.min(MAX_TCP) - edns.map_or(0, |_| OPT_SIZE);
        Self { out, limit, edns, counts, truncated: false }
    }

    /// Writes a record from its type on: TYPE, CLASS, TTL, RDLENGTH and RDATA in `parts`. False when there is no room,
    /// which for what was asked for is told to the client.
    pub(crate) fn record(&mut self, section: Section, owner: NameAt, parts: &[&[u8]]) -> bool {
        let size: usize = parts.iter().map(|part| part.len()).sum();
        if self.out.len() + 2 + size > self.limit {
            self.truncated |= section == Section::Answer;
            return false;
        }
        self.out.extend_from_slice(&owner.pointer());
        for part in parts {
            self.out.extend_from_slice(part);
        }
        self.counts[section as usize] += 1;
        true
    }

    /// Writes a record of which `rdata` is given, and returns where that begins.
    pub(crate) fn rdata(
        &mut self,
        section: Section,
        owner: NameAt,
        rtype: u16,
        ttl: u32,
        rdata: &[&[u8]],
    ) -> Option<usize> {
        let size: usize = rdata.iter().map(|part| part.len()).sum();
        let mut fixed = [0; 10];
        fixed[..2].copy_from_slice(&rtype.to_be_bytes());
        fixed[2..4].copy_from_slice(&CLASS_IN.to_be_bytes());
        fixed[4..8].copy_from_slice(&ttl.to_be_bytes());
        fixed[8..].copy_from_slice(&u16::try_from(size).ok()?.to_be_bytes());
        if self.out.len() + 2 + fixed.len() + size > self.limit {
            self.truncated |= section == Section::Answer;
            return None;
        }
        self.out.extend_from_slice(&owner.pointer());
        self.out.extend_from_slice(&fixed);
        let at = self.out.len();
        for part in rdata {
            self.out.extend_from_slice(part);
        }
        self.counts[section as usize] += 1;
        Some(at)
    }

    /// How many records the sections have.
    pub(crate) fn counts(&self) -> [u16; 3] {
        self.counts
    }

    /// Completes the message: flags, counts, OPT. `also` are flags that others set already.
    pub(crate) fn finish(self, rcode: u16, also: u16) {
        let truncated = if self.truncated { flag::TRUNCATED } else { 0 };
        if rcode & !flag::RCODE != 0 && self.edns.is_none() {
            // Extended codes need OPT, and only queries with one get them.
            return write_head(self.out, rcode::SERVFAIL, 0, self.counts);
        }
        let mut counts = self.counts;
        if let Some(edns) = self.edns {
            self.out.extend_from_slice(&edns.reply(rcode));
            counts[2] += 1;
        }
        write_head(self.out, rcode & flag::RCODE, truncated | also, counts);
    }
}

/// Makes the header of a query at the start of `out` a response's.
fn write_head(out: &mut [u8], rcode: u16, also: u16, counts: [u16; 3]) {
    let asked = u16_at(out, 2).unwrap_or_default();
    let kept = flag::OPCODE | flag::RECURSION_DESIRED | flag::CHECKING_DISABLED;
    let flags = (asked & kept) | flag::RESPONSE | flag::RECURSION_AVAILABLE | also | rcode;
    out[2..4].copy_from_slice(&flags.to_be_bytes());
    for (at, count) in [6, 8, 10].into_iter().zip(counts) {
        out[at..at + 2].copy_from_slice(&count.to_be_bytes());
    }
}

/// Writes the response to `message` that is nothing but a code. The question is repeated up to `question_end`.
pub(crate) fn failure(out: &mut Vec<u8>, message: &[u8], rcode: u16, question_end: Option<usize>, edns: Option<Edns>) {
    let head = question_end.and_then(|end| message.get(..end)).unwrap_or(&message[..HEADER]);
    let writer = Writer::new(out, head, edns, MAX_UDP);
    if question_end.is_none() {
        writer.out[4..6].copy_from_slice(&[0, 0]);
    }
    writer.finish(rcode, 0);
}

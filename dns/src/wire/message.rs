//! The plain query, parsed in place: header, one question, and maybe OPT. Nearly all there are. What else may be a valid
//! message is looked at by hickory.

use super::{CLASS_IN, HEADER, Name, flag, rcode, rtype, u16_at};
use crate::forward::Question;
use hickory_proto::{
    op::Message,
    serialize::binary::{BinDecodable, BinDecoder},
};

/// A query.
#[derive(Debug)]
pub(crate) struct Query<'a> {
    /// The whole message.
    pub(crate) message: &'a [u8],
    /// The name that is asked for.
    pub(crate) name: Name,
    /// QTYPE.
    pub(crate) rtype: u16,
    /// QCLASS.
    pub(crate) class: u16,
    /// What its OPT record says.
    pub(crate) edns: Option<Edns>,
}

/// What an OPT record says (RFC 6891 section 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edns {
    /// The largest UDP message its sender takes.
    pub(crate) size: u16,
    /// Its version; we know 0.
    pub(crate) version: u8,
    /// DO: records of DNSSEC are wanted (RFC 3225).
    pub(crate) dnssec_ok: bool,
}

/// What became of a message.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it stays on the stack, and nearly all are queries")]
pub(crate) enum Parsed<'a> {
    /// A question to be answered.
    Query(Query<'a>),
    /// To be answered with this response code alone. The question is repeated if it is given.
    Fail {
        /// The code.
        rcode: u16,
        /// The question's end in the message, where there is one to repeat.
        question_end: Option<usize>,
        /// What the OPT record says, where one was found.
        edns: Option<Edns>,
    },
    /// Not to be answered: no header, or itself a response.
    Drop,
}

/// Parses a message.
pub(crate) fn parse(message: &[u8]) -> Parsed<'_> {
    let (Some(flags), Some(questions)) = (u16_at(message, 2), u16_at(message, 4)) else { return Parsed::Drop };
    if message.len() < HEADER || flags & flag::RESPONSE != 0 {
        return Parsed::Drop;
    }
    if flags & flag::OPCODE != 0 {
        return fail(rcode::NOTIMP, None, None);
    }
    // One and only one (RFC 9619).
    if questions != 1 {
        return fail(rcode::FORMERR, None, None);
    }
    let Some(name) = Name::parse(&message[HEADER..]) else { return fail(rcode::FORMERR, None, None) };
    let at = HEADER + name.wire().len();
    let (Some(rtype), Some(class)) = (u16_at(message, at), u16_at(message, at + 2)) else {
        return fail(rcode::FORMERR, None, None);
    };
    let end = at + 4;
    let edns = match message[6..HEADER] {
        [0, 0, 0, 0, 0, 0] if message.len() == end => None,
        [0, 0, 0, 0, 0, 1] => match parse_opt(&message[end..]) {
            Some(edns) => Some(edns),
            None => return parse_other(message, name, rtype, class, end),
        },
        _ => return parse_other(message, name, rtype, class, end),
    };
    check(Query { message, name, rtype, class, edns }, end)
}

/// What the message's only other record says, if that is an OPT record and the message ends with it.
fn parse_opt(bytes: &[u8]) -> Option<Edns> {
    let [0, 0, 41, size_high, size_low, _, version, flags, _, high, low, options @ ..] = bytes else { return None };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if options.len() != length || !options_are_whole(options) {
        return None;
    }
    let size = u16::from_be_bytes([*size_high, *size_low]);
    Some(Edns { size, version: *version, dnssec_ok: flags & 0x80 != 0 })
}

/// Whether options fill their space: code, length, so many bytes, again and again.
fn options_are_whole(mut options: &[u8]) -> bool {
    while let [_, _, high, low, rest @ ..] = options {
        let Some(next) = rest.get(usize::from(u16::from_be_bytes([*high, *low]))..) else { return false };
        options = next;
    }
    options.is_empty()
}

/// A query with other records than OPT: valid if hickory can read all of it. What the records say is ignored, but a
/// signature, for which we have no keys.
fn parse_other(message: &[u8], name: Name, rtype: u16, class: u16, end: usize) -> Parsed<'_> {
    let mut decoder = BinDecoder::new(message);
    let parsed = match Message::read(&mut decoder) {
        Ok(parsed) if decoder.is_empty() => parsed,
        _ => return fail(rcode::FORMERR, Some(end), None),
    };
    let edns = parsed.edns.as_ref().map(|edns| Edns {
        size: edns.max_payload(),
        version: edns.version(),
        dnssec_ok: edns.flags().dnssec_ok,
    });
    if parsed.additionals.iter().any(|record| u16::from(record.record_type()) == rtype::TSIG) {
        return fail(rcode::NOTAUTH, Some(end), edns);
    }
    check(Query { message, name, rtype, class, edns }, end)
}

/// Lets a query pass that is one we answer, whatever it asks for.
fn check(query: Query<'_>, end: usize) -> Parsed<'_> {
    let refusal = match query.rtype {
        _ if query.edns.is_some_and(|edns| edns.version > 0) => Some(rcode::BADVERS),
        _ if query.class != CLASS_IN => Some(rcode::REFUSED),
        rtype::AXFR | rtype::IXFR => Some(rcode::REFUSED),
        rtype::OPT => Some(rcode::FORMERR),
        rtype::TKEY | rtype::TSIG | rtype::MAILA | rtype::MAILB => Some(rcode::NOTIMP),
        _ => None,
    };
    match refusal {
        Some(rcode) => fail(rcode, Some(end), query.edns),
        None => Parsed::Query(query),
    }
}

fn fail(rcode: u16, question_end: Option<usize>, edns: Option<Edns>) -> Parsed<'static> {
    Parsed::Fail { rcode, question_end, edns }
}

// === impl Query ===

impl<'a> Query<'a> {
    /// Header and question, as they came.
    pub(crate) fn head(&self) -> &'a [u8] {
        &self.message[..HEADER + self.name.wire().len() + 4]
    }

    /// For the forwarder.
    pub(crate) fn question(&self) -> Question<'a> {
        let name = &self.message[HEADER..HEADER + self.name.wire().len()];
        Question { name, rtype: self.rtype, class: self.class }
    }
}

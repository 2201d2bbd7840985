//! A client's query, and the query that is made of it for an upstream.

use rand::RngExt as _;

use super::Question;
use super::wire::{
    CLASS_IN, HEADER, MAX_NAME, MAX_UDP, flag, plain_name_end, put_u16, rcode, record, rtype, u16_at, word,
};
use crate::cache::{Key, KeyBits};

/// What a client wants, as far as a forwarder cares.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query<'a> {
    pub(crate) id: u16,
    /// The header's second word.
    pub(crate) flags: u16,
    pub(crate) name: &'a [u8],
    pub(crate) rtype: u16,
    pub(crate) class: u16,
    /// `None` without an OPT record.
    pub(crate) edns: Option<Edns>,
}

/// A client's OPT record (RFC 6891). Its options are its hop's business and end here, ECS (RFC 7871) among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edns {
    pub(crate) version: u8,
    pub(crate) dnssec_ok: bool,
}

/// Why a query is not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unanswerable {
    /// There is no header, or it is a response: an answer could start a fight.
    NoQuery,
    /// The code to answer with.
    Refuse(u16),
}

// === impl Query ===

impl<'a> Query<'a> {
    /// Reads a whole message.
    pub(crate) fn parse(message: &'a [u8]) -> Result<Self, Unanswerable> {
        let flags = u16_at(message, word::FLAGS).ok_or(Unanswerable::NoQuery)?;
        if message.len() < HEADER || flags & flag::RESPONSE != 0 {
            return Err(Unanswerable::NoQuery);
        }
        if flags & flag::OPCODE != 0 {
            return Err(Unanswerable::Refuse(rcode::NOTIMP));
        }
        let read = || {
            let end = plain_name_end(message, HEADER).filter(|_| u16_at(message, word::QUESTIONS) == Some(1))?;
            let question = Question {
                name: &message[HEADER..end],
                rtype: u16_at(message, end)?,
                class: u16_at(message, end + 2)?,
            };
            Self::with_question(message, &question)
        };
        read().ok_or(Unanswerable::Refuse(rcode::FORMERR))
    }

    /// The rest of a message whose question is known. `None` when that is malformed.
    pub(crate) fn with_question(message: &'a [u8], question: &Question<'a>) -> Option<Self> {
        let records = HEADER + question.name.len() + 4;
        Some(Self {
            id: u16_at(message, word::ID)?,
            flags: u16_at(message, word::FLAGS)?,
            name: question.name,
            rtype: question.rtype,
            class: question.class,
            edns: edns(message, records)?,
        })
    }

    /// The code for a query that is understood and not forwarded: of an EDNS to come, for a zone transfer, which is between
    /// servers, or of a class other than IN, which is about the server itself (version.bind).
    pub(crate) fn refusal(&self) -> Option<u16> {
        match self.edns {
            Some(edns) if edns.version != 0 => Some(rcode::BADVERS),
            _ if self.class != CLASS_IN => Some(rcode::REFUSED),
            _ => matches!(self.rtype, rtype::AXFR | rtype::IXFR | rtype::OPT).then_some(rcode::REFUSED),
        }
    }

    /// What the answer depends on.
    pub(crate) fn key(&self) -> Key {
        let bits = KeyBits {
            dnssec_ok: self.dnssec_ok(),
            checking_disabled: self.flags & flag::CHECKING_DISABLED != 0,
            recursion_desired: self.flags & flag::RECURSION_DESIRED != 0,
        };
        Key::new(self.name, self.rtype, self.class, bits)
    }

    pub(crate) fn dnssec_ok(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec_ok)
    }

    /// Whether the client understands the AD bit (RFC 6840 section 5.7).
    pub(crate) fn wants_authenticated(&self) -> bool {
        self.flags & flag::AUTHENTIC_DATA != 0 || self.dnssec_ok()
    }
}

/// The OPT record among a query's records; `Some(None)` when there is none.
fn edns(message: &[u8], start: usize) -> Option<Option<Edns>> {
    let count = |at| u16_at(message, at).map(usize::from);
    let others = count(word::ANSWERS)? + count(word::AUTHORITIES)?;
    let (mut at, mut found) = (start, None);
    for index in 0..others + count(word::ADDITIONALS)? {
        let record = record(message, at)?;
        if record.rtype == rtype::OPT {
            // In the additional section, once, at the root (RFC 6891 section 6.1.1).
            if index < others || found.is_some() || message[record.start] != 0 {
                return None;
            }
            let [_, version] = u16_at(message, record.ttl_at)?.to_be_bytes();
            let dnssec_ok = u16_at(message, record.ttl_at + 2)? & flag::DNSSEC_OK != 0;
            found = Some(Edns { version, dnssec_ok });
        }
        at = record.end;
    }
    Some(found)
}

/// What is asked of upstreams on behalf of everyone who waits for it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// In wire form.
    pub(crate) name: Box<[u8]>,
    pub(crate) rtype: u16,
    pub(crate) class: u16,
    pub(crate) bits: KeyBits,
}

/// A query as it was sent: what a reply is compared with.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// The datagram.
    pub(crate) message: Vec<u8>,
    /// Where its question ends.
    pub(crate) question_end: usize,
    /// The reply must have the name exactly so.
    pub(crate) exact_case: bool,
}

// === impl Request ===

impl Request {
    pub(crate) fn new(query: &Query, key: &Key) -> Self {
        Self { name: query.name.into(), rtype: query.rtype, class: query.class, bits: key.bits() }
    }

    /// A query with an id nobody can guess, and if wanted a spelling nobody can guess either (draft-vixie-dnsext-dns0x20).
    pub(crate) fn message(&self, random_case: bool, with_edns: bool) -> Sent {
        let mut random = rand::rng();
        let mut message = Vec::with_capacity(HEADER + self.name.len() + 4 + super::wire::OPT_SIZE);
        message.extend(random.random::<u16>().to_be_bytes());
        // AD asks for the AD bit in the reply without asking for signatures.
        let mut flags = flag::AUTHENTIC_DATA;
        flags |= if self.bits.recursion_desired { flag::RECURSION_DESIRED } else { 0 };
        flags |= if self.bits.checking_disabled { flag::CHECKING_DISABLED } else { 0 };
        for value in [flags, 1, 0, 0, u16::from(with_edns)] {
            message.extend(value.to_be_bytes());
        }
        message.extend(&*self.name);
        if random_case {
            randomise_case(&mut message[HEADER..]);
        }
        message.extend(self.rtype.to_be_bytes());
        message.extend(self.class.to_be_bytes());
        let question_end = message.len();
        if with_edns {
            append_opt(&mut message, 0, self.bits.dnssec_ok, None);
        }
        Sent { message, question_end, exact_case: random_case }
    }
}

// === impl Sent ===

impl Sent {
    pub(crate) fn id(&self) -> u16 {
        u16::from_be_bytes([self.message[0], self.message[1]])
    }

    /// Name, type and class.
    pub(crate) fn question(&self) -> &[u8] {
        &self.message[HEADER..self.question_end]
    }
}

/// Flips letters of a name in wire form. Lengths of labels are below the letters.
fn randomise_case(name: &mut [u8]) {
    let mut bits = [0_u8; MAX_NAME.div_ceil(8)];
    rand::rng().fill(&mut bits[..]);
    for (index, byte) in name.iter_mut().enumerate().filter(|(_, byte)| byte.is_ascii_alphabetic()) {
        if bits[index / 8] >> (index % 8) & 1 != 0 {
            *byte ^= 0x20;
        }
    }
}

/// Appends an OPT record of ours. `extended`: the upper eight bits of the response code; `error`: an Extended DNS Error (RFC
/// 8914).
pub(crate) fn append_opt(message: &mut Vec<u8>, extended: u8, dnssec_ok: bool, error: Option<u16>) {
    message.push(0);
    message.extend(rtype::OPT.to_be_bytes());
    message.extend((MAX_UDP as u16).to_be_bytes());
    message.extend([extended, 0]);
    message.extend(if dnssec_ok { flag::DNSSEC_OK } else { 0 }.to_be_bytes());
    match error {
        None => message.extend([0, 0]),
        Some(code) => {
            // Option 15, two bytes: the code without text.
            message.extend([0, 6, 0, 15, 0, 2]);
            message.extend(code.to_be_bytes());
        }
    }
}

/// Counts one more record in the additional section.
pub(crate) fn count_additional(message: &mut [u8]) {
    let count = u16_at(message, word::ADDITIONALS).unwrap_or(0);
    put_u16(message, word::ADDITIONALS, count.saturating_add(1));
}

//! An upstream's reply: believed only if it answers what was asked, and taken apart as far as the cache needs it.

use super::query::Sent;
use super::wire::{HEADER, flag, plain_name_end, put_u16, rcode, record, rtype, u16_at, u32_at, word};
use crate::cache::{Content, SoaTimes};

/// Why a message is no reply to what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Rejection {
    /// Somebody else's, late, or forged: the right one may still come.
    #[error("its id or question is not what was asked")]
    Foreign,
    /// It is the upstream's, and useless.
    #[error("it is malformed")]
    Malformed,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Answer(Content),
    /// There is more than fits: ask by TCP.
    Truncated,
    /// The server does not understand EDNS (RFC 6891 section 7): ask without.
    NoEdns,
}

impl Reply {
    /// Whether it answers what was sent, and what it says.
    pub(crate) fn read(message: Vec<u8>, sent: &Sent) -> Result<Self, Rejection> {
        let flags = u16_at(&message, word::FLAGS).ok_or(Rejection::Foreign)?;
        let id = u16_at(&message, word::ID);
        if message.len() < HEADER || id != Some(sent.id()) || flags & (flag::RESPONSE | flag::OPCODE) != flag::RESPONSE
        {
            return Err(Rejection::Foreign);
        }
        let code = flags & flag::RCODE;
        if u16_at(&message, word::QUESTIONS) == Some(0) && !matches!(code, rcode::NOERROR | rcode::NXDOMAIN) {
            // Errors may leave the question out.
            return Ok(Self::from_records(bare(&message, sent), sent, None));
        }
        let end = question_end(&message, sent).ok_or(Rejection::Foreign)?;
        if flags & flag::TRUNCATED != 0 {
            // Some cut their messages in the middle of a record.
            return Ok(Self::Truncated);
        }
        let records = Records::read(&message, end, sent).ok_or(Rejection::Malformed)?;
        Ok(Self::from_records(message, sent, Some(records)))
    }

    fn from_records(mut message: Vec<u8>, sent: &Sent, records: Option<Records>) -> Self {
        let records = records.unwrap_or_default();
        let flags = u16_at(&message, word::FLAGS).unwrap_or(0);
        let mut code = flags & flag::RCODE;
        let asked_with_edns = sent.message.len() > sent.question_end;
        if asked_with_edns && !records.has_opt && matches!(code, rcode::FORMERR | rcode::NOTIMP) {
            return Self::NoEdns;
        }
        if let Some(end) = records.end {
            message.truncate(end);
            put_u16(&mut message, word::ADDITIONALS, records.additionals);
        }
        if records.extended {
            // BADVERS and its like are about this hop; for the client it is a failure.
            code = rcode::SERVFAIL;
            put_u16(&mut message, word::FLAGS, flags & !flag::RCODE | code);
        }
        Self::Answer(Content {
            message,
            ttls: records.ttls,
            rcode: code,
            // Aliases that lead nowhere, without the SOA that says so: the upstream follows none.
            has_answer: records.has_answer || records.answers > 0 && records.soa.is_none(),
            min_ttl: records.min_ttl,
            soa: records.soa,
        })
    }
}

/// Where the question ends, if there is one question and it is the one that was asked.
fn question_end(message: &[u8], sent: &Sent) -> Option<usize> {
    if u16_at(message, word::QUESTIONS) != Some(1) {
        return None;
    }
    let end = plain_name_end(message, HEADER)? + 4;
    let (question, asked) = (message.get(HEADER..end)?, sent.question());
    let [name, asked_name] = [question, asked].map(|question| question.split_at(question.len() - 4));
    let same_name = if sent.exact_case { name.0 == asked_name.0 } else { name.0.eq_ignore_ascii_case(asked_name.0) };
    (same_name && name.1 == asked_name.1).then_some(end)
}

/// The header of an error with our question.
fn bare(message: &[u8], sent: &Sent) -> Vec<u8> {
    let mut whole = message[..HEADER].to_vec();
    whole.extend(sent.question());
    put_u16(&mut whole, word::QUESTIONS, 1);
    for at in [word::ANSWERS, word::AUTHORITIES, word::ADDITIONALS] {
        put_u16(&mut whole, at, 0);
    }
    whole
}

/// What the records of a reply say about it.
#[derive(Debug, Default)]
struct Records {
    ttls: Vec<u16>,
    min_ttl: Option<u32>,
    answers: u16,
    /// One of the answers is of the type that was asked for.
    has_answer: bool,
    soa: Option<SoaTimes>,
    has_opt: bool,
    /// The response code has more than four bits.
    extended: bool,
    /// Records of the additional section that stay, and where they end.
    additionals: u16,
    end: Option<usize>,
}

impl Records {
    fn read(message: &[u8], start: usize, sent: &Sent) -> Option<Self> {
        let [answers, authorities, additionals] =
            [word::ANSWERS, word::AUTHORITIES, word::ADDITIONALS].map(|at| u16_at(message, at).unwrap_or(0));
        let mut records = Self { end: Some(start), answers, ..Self::default() };
        let asked = u16_at(sent.question(), sent.question().len() - 4)?;
        let mut at = start;
        for index in 0..u32::from(answers) + u32::from(authorities) + u32::from(additionals) {
            let record = record(message, at)?;
            let in_answer = index < u32::from(answers);
            let in_authority = !in_answer && index < u32::from(answers) + u32::from(authorities);
            if record.rtype == rtype::OPT {
                if in_answer || in_authority {
                    return None;
                }
                records.has_opt = true;
                records.extended = message[record.ttl_at] != 0;
                // What follows are a transaction's signatures, which are this hop's as well.
                return Some(records);
            }
            records.ttls.push(u16::try_from(record.ttl_at).ok()?);
            records.min_ttl = Some(records.min_ttl.map_or(record.ttl, |least| least.min(record.ttl)));
            records.has_answer |= in_answer && (record.rtype == asked || asked == rtype::ANY);
            if in_authority && record.rtype == rtype::SOA && records.soa.is_none() {
                let minimum = u32_at(message, record.end.checked_sub(4)?)?;
                records.soa = Some(SoaTimes { ttl: record.ttl, minimum });
            }
            records.additionals += u16::from(!in_answer && !in_authority);
            (at, records.end) = (record.end, Some(record.end));
        }
        Some(records)
    }
}

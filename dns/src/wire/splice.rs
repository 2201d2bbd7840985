//! One message's records appended to another's: the end of an alias that was resolved elsewhere.

use super::{HEADER, NameAt, flag, rtype, u16_at};

/// What a reply said that was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spliced {
    /// Its response code.
    pub(crate) rcode: u16,
    /// Its flag TC.
    pub(crate) truncated: u16,
    /// The records in the sections, those before included.
    pub(crate) counts: [u16; 3],
}

/// Appends to `draft` the records of `reply`, whose question's name stands at `name` in the draft: all references in
/// them are moved. OPT is left out. `counts` is what the draft has; it may have answers only. `None`, with `draft` as it
/// was, when the reply is no whole message or a reference would be too far.
pub(crate) fn splice(draft: &mut Vec<u8>, name: NameAt, reply: &[u8], counts: [u16; 3]) -> Option<Spliced> {
    let before = draft.len();
    let spliced = append(draft, name, reply, counts);
    if spliced.is_none() {
        draft.truncate(before);
    }
    spliced
}

fn append(draft: &mut Vec<u8>, name: NameAt, reply: &[u8], mut counts: [u16; 3]) -> Option<Spliced> {
    let flags = u16_at(reply, 2)?;
    let (question_end, name_end) = question_ends(reply)?;
    let asked = reply.get(HEADER..name_end)?;
    // References to the question go where the name stands: it has to be that.
    if !draft.get(name.offset()..name.offset() + asked.len())?.eq_ignore_ascii_case(asked) {
        return None;
    }
    let mut moves =
        Moves { records: question_end, name_end, name: name.offset(), to: draft.len(), cut: usize::MAX, cut_by: 0 };
    let mut at = question_end;
    for (section, count_at) in [6, 8, 10].into_iter().enumerate() {
        for _ in 0..u16_at(reply, count_at)? {
            let owner_end = skip_name(reply, at)?;
            let rtype = u16_at(reply, owner_end)?;
            let rdata = owner_end + 10;
            let end = rdata + usize::from(u16_at(reply, owner_end + 8)?);
            reply.get(..end)?;
            if rtype == rtype::OPT {
                (moves.cut, moves.cut_by) = (at, end - at);
                at = end;
                continue;
            }
            let to = draft.len();
            draft.extend_from_slice(&reply[at..end]);
            moves.apply(reply, at, draft, to)?;
            for name_at in names_in(reply, rtype, rdata, end)?.into_iter().flatten() {
                moves.apply(reply, name_at, draft, to + (name_at - at))?;
            }
            counts[section] = counts[section].checked_add(1)?;
            at = end;
        }
    }
    Some(Spliced { rcode: flags & flag::RCODE, truncated: flags & flag::TRUNCATED, counts })
}

/// Where the only question ends, and its name.
fn question_ends(reply: &[u8]) -> Option<(usize, usize)> {
    if u16_at(reply, 4)? != 1 {
        return None;
    }
    let name_end = skip_name(reply, HEADER)?;
    reply.get(..name_end + 4)?;
    Some((name_end + 4, name_end))
}

/// Where things go.
struct Moves {
    /// Where the reply's records began.
    records: usize,
    /// Where the name of its question ended.
    name_end: usize,
    /// Where that name stands in the draft.
    name: usize,
    /// Where the draft's records go on.
    to: usize,
    /// Where OPT was, and how long.
    cut: usize,
    cut_by: usize,
}

impl Moves {
    /// Moves the reference that the name at `from` in the reply ends with; its copy is at `to` in the draft.
    fn apply(&self, reply: &[u8], from: usize, draft: &mut [u8], to: usize) -> Option<()> {
        let Some(at) = reference(reply, from)? else { return Some(()) };
        let target = usize::from(u16_at(reply, at)? & 0x3fff);
        let moved = if target < self.name_end {
            self.name + target.checked_sub(HEADER)?
        } else {
            let cut = if target > self.cut { self.cut_by } else { 0 };
            self.to + target.checked_sub(self.records)? - cut
        };
        let pointer = NameAt::new(moved)?.pointer();
        draft.get_mut(to + (at - from)..)?.get_mut(..2)?.copy_from_slice(&pointer);
        Some(())
    }
}

/// Where the name at `at` has its reference, if it ends with one.
fn reference(message: &[u8], mut at: usize) -> Option<Option<usize>> {
    loop {
        match *message.get(at)? {
            0 => return Some(None),
            length @ 1..=63 => at += 1 + usize::from(length),
            0xc0.. => return Some(Some(at)),
            _ => return None,
        }
    }
}

/// Where the name at `at` ends.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

/// Where the RDATA from `rdata` to `end` has names that may be compressed: in the types of RFC 1035 (RFC 3597 section 4
/// forbids it in all later ones), and those where some compress all the same.
fn names_in(message: &[u8], rtype: u16, rdata: usize, end: usize) -> Option<[Option<usize>; 2]> {
    let names = match rtype {
        // NS, MD, MF, CNAME, MB, MG, MR, PTR; NXT, DNAME
        2..=5 | 7..=9 | 12 | 30 | 39 => [Some(rdata), None],
        // SOA, MINFO, RP: two
        6 | 14 | 17 => [Some(rdata), Some(skip_name(message, rdata)?)],
        // MX, AFSDB, RT, KX: after a preference
        15 | 18 | 21 | 36 => [Some(rdata + 2), None],
        // PX
        26 => [Some(rdata + 2), Some(skip_name(message, rdata + 2)?)],
        // SRV
        33 => [Some(rdata + 6), None],
        _ => [None, None],
    };
    names.iter().flatten().all(|at| *at < end).then_some(names)
}

//! DNS messages as bytes (RFC 1035 section 4): as much of them as a forwarder looks at.
//!
//! Records pass through as they came, so that types nobody here has heard of pass as well. What is read are lengths, names,
//! TTLs, and the one record that belongs to a hop, OPT.

pub(crate) use crate::wire::{CLASS_IN, HEADER, MAX_NAME, MAX_UDP, OPT_SIZE, rcode, rtype, u16_at};

/// Bits of the second word of a header, and of an OPT record's TTL.
pub(crate) mod flag {
    pub(crate) use crate::wire::flag::*;

    /// What was said is proven (RFC 4035); in a query: whoever asks knows what this means (RFC 6840 section 5.7).
    pub(crate) const AUTHENTIC_DATA: u16 = 0x0020;
    /// In the lower half of an OPT record's TTL: signatures are wanted (RFC 3225).
    pub(crate) const DNSSEC_OK: u16 = 0x8000;
}

/// Where the words of a header are.
pub(crate) mod word {
    pub(crate) const ID: usize = 0;
    pub(crate) const FLAGS: usize = 2;
    pub(crate) const QUESTIONS: usize = 4;
    pub(crate) const ANSWERS: usize = 6;
    pub(crate) const AUTHORITIES: usize = 8;
    pub(crate) const ADDITIONALS: usize = 10;
}

/// The 32 bits at `at`.
pub(crate) fn u32_at(message: &[u8], at: usize) -> Option<u32> {
    let bytes = message.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// Overwrites the 16 bits at `at`, which must be there.
pub(crate) fn put_u16(message: &mut [u8], at: usize, value: u16) {
    message[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Overwrites the 32 bits at `at`, which must be there.
pub(crate) fn put_u32(message: &mut [u8], at: usize, value: u32) {
    message[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// The end of a name that has no pointers, as in questions.
pub(crate) fn plain_name_end(message: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        let length = usize::from(*message.get(at)?);
        if length > 63 {
            return None;
        }
        at += 1 + length;
        if at > message.len() || at - start > MAX_NAME {
            return None;
        }
        if length == 0 {
            return Some(at);
        }
    }
}

/// The end of a name in a record.
///
/// Pointers lead back only (RFC 1035 section 4.1.4: "a prior occurrence"), so that following them ends.
pub(crate) fn name_end(message: &[u8], start: usize) -> Option<usize> {
    let (mut at, mut length_of_name, mut end) = (start, 0, None);
    // Where the part of the name begins that is read: a pointer leads before it.
    let mut part = start;
    loop {
        let length = usize::from(*message.get(at)?);
        match length {
            0 => return Some(end.unwrap_or(at + 1)).filter(|_| length_of_name < MAX_NAME),
            1..=63 => {
                at += 1 + length;
                length_of_name += 1 + length;
                if length_of_name >= MAX_NAME {
                    return None;
                }
            }
            0xc0.. => {
                let target = usize::from(u16_at(message, at)? & 0x3fff);
                if target >= part || target < HEADER {
                    return None;
                }
                end = end.or(Some(at + 2));
                (at, part) = (target, target);
            }
            _ => return None,
        }
    }
}

/// A record without its name and data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Where its name begins.
    pub(crate) start: usize,
    pub(crate) rtype: u16,
    pub(crate) class: u16,
    /// Where its TTL is.
    pub(crate) ttl_at: usize,
    pub(crate) ttl: u32,
    /// Where its data is, and where that ends: the next record.
    pub(crate) data: usize,
    pub(crate) end: usize,
}

/// Reads the record that begins at `start`.
pub(crate) fn record(message: &[u8], start: usize) -> Option<Record> {
    let fixed = name_end(message, start)?;
    let data = fixed + 10;
    let end = data + usize::from(u16_at(message, fixed + 8)?);
    if end > message.len() {
        return None;
    }
    let ttl = u32_at(message, fixed + 4)?;
    let record = Record {
        start,
        rtype: u16_at(message, fixed)?,
        class: u16_at(message, fixed + 2)?,
        ttl_at: fixed + 4,
        // RFC 2181 section 8: the top bit set means zero.
        ttl: if ttl > i32::MAX as u32 { 0 } else { ttl },
        data,
        end,
    };
    names_in_data(message, &record)?;
    Some(record)
}

/// Checks the names in a record's data, of the types in which pointers occur: those of RFC 1035, which may have them (RFC
/// 3597 section 4), and those in which receivers must expect them.
fn names_in_data(message: &[u8], record: &Record) -> Option<()> {
    // Bytes before the names, how many names, bytes after them.
    let (before, names, after) = match record.rtype {
        // NS MD MF CNAME MB MG MR PTR, NSAP-PTR is none; DNAME.
        2 | 3 | 4 | 5 | 7 | 8 | 9 | 12 | 39 => (0, 1, 0),
        // SOA
        rtype::SOA => (0, 2, 20),
        // MINFO, RP
        14 | 17 => (0, 2, 0),
        // MX, AFSDB, RT, KX
        15 | 18 | 21 | 36 => (2, 1, 0),
        // PX
        26 => (2, 2, 0),
        // SRV
        33 => (6, 1, 0),
        _ => return Some(()),
    };
    let mut at = record.data + before;
    for _ in 0..names {
        at = name_end(message, at)?;
    }
    (at + after == record.end).then_some(())
}

#[cfg(test)]
mod tests;

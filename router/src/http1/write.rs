//! How messages are written. Everything appends to a buffer that the caller keeps for the next message.

use super::Version;

/// `METHOD TARGET HTTP/1.1`; always 1.1, which is what the router speaks to pods.
pub fn request_line(out: &mut Vec<u8>, method: &[u8], target: &[u8]) {
    out.extend_from_slice(method);
    out.push(b' ');
    // Path and query of an absolute target may come without the slash.
    if !matches!(target.first(), Some(b'/' | b'*')) {
        out.push(b'/');
    }
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// `HTTP/1.x STATUS REASON`; an empty reason becomes the usual one.
pub fn status_line(out: &mut Vec<u8>, version: Version, status: u16, phrase: &[u8]) {
    out.extend_from_slice(if version == Version::Http10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(&[digit(status / 100), digit(status / 10), digit(status), b' ']);
    out.extend_from_slice(if phrase.is_empty() { reason(status).as_bytes() } else { phrase });
    out.extend_from_slice(b"\r\n");
}

/// `NAME: VALUE`. Both must have been read from a message, or be known to have no CR, LF or NUL.
#[inline]
pub fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The line before a chunk of `size` bytes, which must not be 0. The chunk's own CR LF is the caller's to add.
pub fn chunk_size(out: &mut Vec<u8>, size: usize) {
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(size >> (place * 4)) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// The chunk of size 0 and the trailers, as [`super::Decoder::trailers`] gives them.
pub fn last_chunk(out: &mut Vec<u8>, trailers: &[u8]) {
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(trailers);
    out.extend_from_slice(b"\r\n");
}

/// A trailer section of fields.
pub fn write_trailers<'a>(out: &mut Vec<u8>, fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
    for (name, value) in fields {
        field(out, name, value);
    }
}

/// A number in decimal.
pub fn decimal(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// The usual phrase of a status (RFC 9110 §15); empty for those that have none.
pub fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default()
}

fn digit(number: u16) -> u8 {
    b'0' + (number % 10) as u8
}

//! The name that a TLS client asks for, read from its ClientHello before anything is decided: the bytes are kept, and go
//! to rustls or to a pod as they came.

mod destination;

use thiserror::Error;

pub use destination::{Destined, Passthrough, Terminated, destination};

/// Bytes that a ClientHello may have with its record headers. Those with post-quantum key shares have about 1,800.
pub const MAX_HELLO: usize = 16 * 1024;

/// What a ClientHello (RFC 8446 §4.1.2) says that matters for where it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The server name (RFC 6066 §3), in lower case.
    pub name: Option<String>,
    /// The client offers HTTP/2 (RFC 7301, RFC 9113 §3.2).
    pub offers_h2: bool,
}

/// Why bytes are not a ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HelloFault {
    /// No TLS handshake record: plain HTTP on the TLS port, or something else.
    #[error("reading a ClientHello: this is not TLS (plain HTTP sent to the TLS port?)")]
    NotTls,
    /// The lengths in it contradict each other.
    #[error("reading a ClientHello: it is malformed")]
    Malformed,
    /// More than [`MAX_HELLO`].
    #[error("reading a ClientHello: it has more than {MAX_HELLO} bytes")]
    TooLarge,
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const MAX_RECORD: usize = 1 << 14;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;

/// Reads the ClientHello that a connection begins with. `None`: not all of it is there yet. It may be spread over several
/// records.
pub fn read(bytes: &[u8]) -> Result<Option<ClientHello>, HelloFault> {
    // One record is the rule; only others are put together.
    let mut message = Vec::new();
    let mut rest = Bytes(bytes);
    loop {
        let Some(record) = next_record(&mut rest)? else {
            return if bytes.len() >= MAX_HELLO { Err(HelloFault::TooLarge) } else { Ok(None) };
        };
        message.extend_from_slice(record);
        if let Some(hello) = whole_message(&message)? {
            return parse(hello).map(Some).ok_or(HelloFault::Malformed);
        }
    }
}

/// The content of the next whole record of the handshake.
fn next_record<'a>(bytes: &mut Bytes<'a>) -> Result<Option<&'a [u8]>, HelloFault> {
    if bytes.0.first().is_some_and(|kind| *kind != HANDSHAKE) || bytes.0.get(1).is_some_and(|major| *major != 3) {
        return Err(HelloFault::NotTls);
    }
    let mut ahead = Bytes(bytes.0);
    let (Some(_), Some(length)) = (ahead.take(3), ahead.number(2)) else { return Ok(None) };
    if length == 0 || length > MAX_RECORD {
        return Err(HelloFault::Malformed);
    }
    let record = ahead.take(length);
    *bytes = if record.is_some() { ahead } else { Bytes(bytes.0) };
    Ok(record)
}

/// The body of the handshake message, when all of it is there.
fn whole_message(bytes: &[u8]) -> Result<Option<&[u8]>, HelloFault> {
    let mut bytes = Bytes(bytes);
    let Some(kind) = bytes.number(1) else { return Ok(None) };
    if kind != usize::from(CLIENT_HELLO) {
        return Err(HelloFault::Malformed);
    }
    let Some(length) = bytes.number(3) else { return Ok(None) };
    if length > MAX_HELLO { Err(HelloFault::TooLarge) } else { Ok(bytes.take(length)) }
}

fn parse(hello: &[u8]) -> Option<ClientHello> {
    let mut hello = Bytes(hello);
    let _version_and_random = hello.take(2 + 32)?;
    let _session = hello.vector(1)?;
    let _ciphers = hello.vector(2)?;
    let _compression = hello.vector(1)?;
    let mut found = ClientHello::default();
    if hello.0.is_empty() {
        return Some(found);
    }
    let mut extensions = Bytes(hello.vector(2)?);
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let content = Bytes(extensions.vector(2)?);
        match kind as u16 {
            SERVER_NAME => found.name = server_name(content)?,
            ALPN => found.offers_h2 = offers_h2(content)?,
            _ => {}
        }
    }
    hello.0.is_empty().then_some(found)
}

/// The first host name of the list; the outer `None` for a malformed one.
fn server_name(mut content: Bytes<'_>) -> Option<Option<String>> {
    let mut names = Bytes(content.vector(2)?);
    while !names.0.is_empty() {
        let (kind, name) = (names.number(1)?, names.vector(2)?);
        if kind == 0 {
            let name = std::str::from_utf8(name).ok().filter(|name| name.is_ascii() && !name.is_empty())?;
            return Some(Some(name.to_ascii_lowercase()));
        }
    }
    Some(None)
}

fn offers_h2(mut content: Bytes<'_>) -> Option<bool> {
    let mut protocols = Bytes(content.vector(2)?);
    let mut offers = false;
    while !protocols.0.is_empty() {
        offers |= protocols.vector(1)? == b"h2";
    }
    Some(offers)
}

/// What is left to be read.
struct Bytes<'a>(&'a [u8]);

// === impl Bytes ===

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of so many bytes, in network order.
    fn number(&mut self, bytes: usize) -> Option<usize> {
        self.take(bytes).map(|bytes| bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// Bytes after their length, which has so many bytes itself.
    fn vector(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let length = self.number(bytes)?;
        self.take(length)
    }
}

#[cfg(test)]
mod tests;

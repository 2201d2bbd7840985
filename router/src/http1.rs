//! HTTP/1 as the router reads and writes it: strict, because what two parsers read differently is how requests are smuggled.
//!
//! Nothing here copies or allocates once its vectors have grown: a head is a list of spans of the buffer that it was read
//! into, and a body is decoded where it lies. Nothing here does I/O either, so all of it can be fed one byte at a time.
//!
//! What is refused, though others accept it: a line that ends with LF alone, CR alone, NUL, folded lines, Content-Length
//! beside Transfer-Encoding, a repeated Content-Length or Host, and any transfer coding but `chunked`.

mod body;
mod head;
mod names;
mod refusal;
mod scan;
mod write;

#[cfg(test)]
mod tests;

pub use body::{Decoded, Decoder, MAX_CHUNK_LINE, MAX_TRAILERS};
pub use head::{Framing, MAX_FIELDS, Request, Response, Target};
pub use names::Known;
pub use refusal::Refusal;
pub use scan::{Scan, Scanned};
pub use write::{chunk_size, decimal, field, last_chunk, reason, request_line, status_line, write_trailers};

/// A part of the buffer that a head was read into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

/// The minor version of HTTP/1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0: closes after the response unless told otherwise, knows no chunks.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
}

/// A field of a head, or of trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name as it was written.
    pub name: Span,
    /// Its value, without the whitespace around it.
    pub value: Span,
    /// Which of the names that the router acts upon it is.
    pub known: Known,
}

/// What the Connection field and the version of a message say about its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Persistence {
    /// `close` was named, or the version closes unless told otherwise.
    pub close: bool,
    /// `upgrade` was named.
    pub upgrade: bool,
    /// `keep-alive` was named.
    pub keep_alive: bool,
}

// === impl Span ===

impl Span {
    /// The bytes from `start` to before `end`.
    pub(crate) fn new(start: usize, end: usize) -> Self {
        // Heads are bounded to a buffer of some KiB, so both fit.
        Self { start: start as u32, end: end as u32 }
    }

    /// The span of `part`, which must lie in `whole`.
    fn within(whole: &[u8], part: &[u8]) -> Self {
        let start = part.as_ptr() as usize - whole.as_ptr() as usize;
        Self::new(start, start + part.len())
    }

    /// The bytes that it stands for in `bytes`, the buffer that it was read from.
    #[inline]
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }

    /// The text that it stands for. Empty where it is not ASCII, which [`Request::target`] and the host always are.
    #[inline]
    pub fn text(self, bytes: &[u8]) -> &str {
        std::str::from_utf8(self.of(bytes)).unwrap_or("")
    }

    /// How many bytes.
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Stands for nothing.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Without its first `count` bytes, at most all.
    pub fn skip(self, count: usize) -> Self {
        Self { start: self.end.min(self.start + count as u32), end: self.end }
    }

    /// Its first `count` bytes, at most all.
    pub fn take(self, count: usize) -> Self {
        Self { start: self.start, end: self.end.min(self.start + count as u32) }
    }
}

/// The elements of a comma-separated list (RFC 9110 §5.6.1), without the whitespace around them; empty ones left out.
pub fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

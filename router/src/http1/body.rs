//! Bodies, decoded where they lie.

use std::ops::Range;

use super::{Framing, Known, Refusal};

/// Bytes that a chunk's size and its extensions may have.
pub const MAX_CHUNK_LINE: u16 = 4096;

/// Bytes that trailers may have.
pub const MAX_TRAILERS: usize = 8192;

/// Fields that trailers may have.
const MAX_TRAILER_FIELDS: usize = 32;

/// Finds the end of a body, and what of its bytes is its content. Fed with bytes as they come, however they are split.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    /// The trailer section, its empty line included. Empty until trailers come.
    trailers: Vec<u8>,
}

/// What a call of [`Decoder::decode`] made of the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Where the content lies: moved together if there was framing in between.
    pub content: Range<usize>,
    /// Bytes that are used up, framing included.
    pub consumed: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Done,
    Length(u64),
    Close,
    /// In a chunk's size; `digits` were read.
    Size {
        size: u64,
        digits: u8,
    },
    /// After a chunk's size, in whitespace and extensions that are ignored.
    Extension {
        size: u64,
        seen: u16,
    },
    /// LF after a chunk's size.
    SizeLf(u64),
    Data(u64),
    /// CR after a chunk's data.
    DataCr,
    /// LF after a chunk's data.
    DataLf,
    /// In the trailers, at the start of a line or not.
    Trailers,
}

// === impl Decoder ===

impl Decoder {
    /// For a body that ends so.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Empty => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size { size: 0, digits: 0 },
            Framing::Close => State::Close,
        };
        Self { state, trailers: Vec::new() }
    }

    /// The whole body was decoded.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The body ends with the connection.
    pub fn ends_with_connection(&self) -> bool {
        self.state == State::Close
    }

    /// How many bytes are left, if that is known.
    pub fn left(&self) -> Option<u64> {
        match self.state {
            State::Done => Some(0),
            State::Length(left) => Some(left),
            _ => None,
        }
    }

    /// The trailer section as it came, each line with CR LF, without the empty line. Worth something when done.
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// Takes what it can of `bytes`, which follow those of the last call. Content is left where it lies, or moved to the
    /// first content there if chunks are many. Bytes after the body's end are not touched.
    pub fn decode(&mut self, bytes: &mut [u8]) -> Result<Decoded, Refusal> {
        match &mut self.state {
            State::Done => Ok(Decoded::default()),
            State::Close => Ok(Decoded { content: 0..bytes.len(), consumed: bytes.len() }),
            State::Length(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= length as u64;
                if *left == 0 {
                    self.state = State::Done;
                }
                Ok(Decoded { content: 0..length, consumed: length })
            }
            _ => self.decode_chunks(bytes),
        }
    }

    fn decode_chunks(&mut self, bytes: &mut [u8]) -> Result<Decoded, Refusal> {
        let mut content: Option<Range<usize>> = None;
        let mut at = 0;
        while at < bytes.len() && self.state != State::Done {
            if let State::Data(left) = self.state {
                let length = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                content = Some(match content {
                    None => at..at + length,
                    Some(before) => {
                        bytes.copy_within(at..at + length, before.end);
                        before.start..before.end + length
                    }
                });
                at += length;
                let left = left - length as u64;
                self.state = if left == 0 { State::DataCr } else { State::Data(left) };
            } else {
                self.step(bytes[at])?;
                at += 1;
            }
        }
        Ok(Decoded { content: content.unwrap_or_default(), consumed: at })
    }

    /// One byte of framing.
    fn step(&mut self, byte: u8) -> Result<(), Refusal> {
        self.state = match (self.state, byte) {
            (State::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < 15 => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                State::Size { size: size * 16 + u64::from(digit), digits: digits + 1 }
            }
            (State::Size { size, digits: 1.. }, b'\r') => State::SizeLf(size),
            (State::Size { size, digits: 1.. }, b';' | b' ' | b'\t') => State::Extension { size, seen: 0 },
            (State::Extension { size, .. }, b'\r') => State::SizeLf(size),
            (State::Extension { size, seen }, byte) if is_text(byte) && seen < MAX_CHUNK_LINE => {
                State::Extension { size, seen: seen + 1 }
            }
            (State::SizeLf(0), b'\n') => State::Trailers,
            (State::SizeLf(size), b'\n') => State::Data(size),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { size: 0, digits: 0 },
            (State::Trailers, byte) => return self.trailer(byte),
            _ => return Err(Refusal::Chunk),
        };
        Ok(())
    }

    fn trailer(&mut self, byte: u8) -> Result<(), Refusal> {
        if self.trailers.len() >= MAX_TRAILERS || byte == 0 {
            return Err(Refusal::Trailers);
        }
        // A line ends with CR LF, and CR is nowhere else.
        if (byte == b'\n') != (self.trailers.last() == Some(&b'\r')) {
            return Err(Refusal::Trailers);
        }
        self.trailers.push(byte);
        if self.trailers == b"\r\n" || self.trailers.ends_with(b"\r\n\r\n") {
            check_trailers(&self.trailers)?;
            self.trailers.truncate(self.trailers.len() - 2);
            self.state = State::Done;
        }
        Ok(())
    }
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Names and values are what they may be, and nothing frames, routes or decides about the message.
fn check_trailers(section: &[u8]) -> Result<(), Refusal> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILER_FIELDS];
    match httparse::parse_headers(section, &mut fields) {
        Ok(httparse::Status::Complete((length, fields))) if length == section.len() => {
            let barred = |field: &httparse::Header<'_>| Known::of(field.name.as_bytes()).is_barred_from_trailers();
            if fields.iter().any(barred) { Err(Refusal::Trailers) } else { Ok(()) }
        }
        _ => Err(Refusal::Trailers),
    }
}

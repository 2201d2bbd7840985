//! The two sides of a request, client and pod, whichever HTTP they speak: content comes from one and goes to the other.

use std::{
    io::{self, IoSlice},
    ops::Range,
    task::{Context, Poll, ready},
};

use bytes::Bytes;

use super::Io;
use crate::{
    http1::{Decoder, Framing, Refusal, chunk_size, last_chunk},
    http2,
    server::Buffer,
};

/// A side.
#[derive(Debug)]
pub enum Side {
    /// A connection that has one message at a time.
    Http1(Http1),
    /// A stream of an HTTP/2 connection.
    Http2(Box<http2::Stream>),
}

/// A connection that speaks HTTP/1, or none (a tunnel).
#[derive(Debug)]
pub struct Http1 {
    /// The connection.
    pub io: Io,
    /// What was read of it and is not used up.
    pub buffer: Buffer,
    /// Where the body that it sends ends.
    pub decoder: Decoder,
    /// The content at the start of `buffer`, after framing: offsets in what is filled.
    content: Range<usize>,
    /// Bytes of `buffer` that `content` and the framing around it are.
    framed: usize,
}

/// What is being written to a side that speaks HTTP/1: something before the content, content, and something behind.
#[derive(Debug, Default)]
pub struct Writer {
    /// A head, the line of a chunk, or nothing.
    pub before: Vec<u8>,
    before_sent: usize,
    content_left: usize,
    after: Vec<u8>,
    after_sent: usize,
    /// Content is written in chunks.
    pub chunked: bool,
    is_armed: bool,
    is_last: bool,
    /// Bytes written since [`Writer::clear`].
    pub written: u64,
}

/// What came of handing content to a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// So many bytes of the content were taken.
    Some(usize),
    /// Everything was; the next content is wanted.
    All,
    /// Everything was, and the message is whole.
    Finished,
}

/// Why content does not pass on.
#[derive(Debug)]
pub enum PassFault {
    /// The side that it comes from failed, or ended before the message did.
    From(io::Error),
    /// The side that it comes from sends what cannot be taken.
    Refused(Refusal),
    /// The side that it goes to failed.
    To(io::Error),
}

/// Passes content on until the message is whole.
pub fn poll_pass(
    cx: &mut Context<'_>,
    from: &mut Side,
    to: &mut Side,
    writer: &mut Writer,
) -> Poll<Result<(), PassFault>> {
    loop {
        let sent = to.poll_send(cx, writer, from.content(), from.is_last(), from.trailers());
        match ready!(sent).map_err(PassFault::To)? {
            Sent::Some(count) => from.consume(count),
            Sent::All => ready!(from.poll_content(cx))?,
            Sent::Finished => return Poll::Ready(Ok(())),
        }
    }
}

// === impl Side ===

impl Side {
    /// Content that was received and not consumed.
    pub fn content(&self) -> &[u8] {
        match self {
            Self::Http1(side) => side.buffer.part(side.content.clone()),
            Self::Http2(stream) => stream.content(),
        }
    }

    /// No content comes after [`Side::content`].
    pub fn is_last(&self) -> bool {
        match self {
            Self::Http1(side) => side.decoder.is_done(),
            Self::Http2(stream) => stream.is_last(),
        }
    }

    /// Fields after the content, as lines; worth something when it is the last.
    pub fn trailers(&self) -> &[u8] {
        match self {
            Self::Http1(side) => side.decoder.trailers(),
            Self::Http2(stream) => stream.trailers(),
        }
    }

    /// Content was passed on.
    pub fn consume(&mut self, count: usize) {
        match self {
            Self::Http1(side) => side.consume(count),
            Self::Http2(stream) => stream.consume(count),
        }
    }

    /// Waits for more content, or to know that there is none.
    pub fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PassFault>> {
        match self {
            Self::Http1(side) => side.poll_content(cx),
            Self::Http2(stream) => stream.poll_content(cx),
        }
    }

    /// Sends content, and what the writer has before it.
    pub fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut Writer,
        content: &[u8],
        is_last: bool,
        trailers: &[u8],
    ) -> Poll<io::Result<Sent>> {
        match self {
            Self::Http1(side) => writer.poll_send(cx, &mut side.io, content, is_last, trailers),
            Self::Http2(stream) => {
                let sent = ready!(stream.poll_send(cx, content, is_last, trailers));
                writer.written += if let Ok(Sent::Some(count)) = sent { count as u64 } else { 0 };
                Poll::Ready(sent)
            }
        }
    }
}

// === impl Http1 ===

impl Http1 {
    /// A connection, of which `buffer` was read.
    pub fn new(io: Io, buffer: Buffer) -> Self {
        Self { io, buffer, decoder: Decoder::default(), content: 0..0, framed: 0 }
    }

    /// A body begins at the start of the buffer. What of it is there is decoded.
    pub fn begin_body(&mut self, framing: Framing) -> Result<(), Refusal> {
        self.decoder = Decoder::new(framing);
        self.decode()
    }

    /// Leaves what is left of a body that was received whole: what comes after it is the next message.
    pub fn end_body(&mut self) {
        self.buffer.consume(self.framed);
        (self.content, self.framed) = (0..0, 0);
    }

    fn decode(&mut self) -> Result<(), Refusal> {
        let decoded = self.decoder.decode(self.buffer.filled_mut())?;
        self.content = decoded.content;
        self.framed = decoded.consumed;
        if self.content.is_empty() {
            self.end_body();
        }
        Ok(())
    }

    fn consume(&mut self, count: usize) {
        self.content.start += count;
        if self.content.is_empty() {
            self.end_body();
        }
    }

    fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PassFault>> {
        while self.content.is_empty() && !self.decoder.is_done() {
            if ready!(self.buffer.poll_fill(cx, &mut self.io)).map_err(PassFault::From)? == 0 {
                if !self.decoder.ends_with_connection() {
                    return Poll::Ready(Err(PassFault::From(io::ErrorKind::UnexpectedEof.into())));
                }
                self.decoder = Decoder::default();
            }
            self.decode().map_err(PassFault::Refused)?;
        }
        Poll::Ready(Ok(()))
    }
}

// === impl Writer ===

impl Writer {
    /// Ready for another message. What was allocated stays.
    pub fn clear(&mut self) {
        self.before.clear();
        self.after.clear();
        *self = Self {
            before: std::mem::take(&mut self.before),
            after: std::mem::take(&mut self.after),
            ..Self::default()
        };
    }

    /// Bytes of a message were written.
    pub fn has_begun(&self) -> bool {
        self.written > 0
    }

    #[inline]
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut Io,
        content: &[u8],
        is_last: bool,
        trailers: &[u8],
    ) -> Poll<io::Result<Sent>> {
        if !self.is_armed && !self.arm(content.len(), is_last, trailers) {
            ready!(io.poll_sent(cx))?;
            return Poll::Ready(Ok(Sent::All));
        }
        loop {
            let left = &content[..self.content_left.min(content.len())];
            let parts = [&self.before[self.before_sent..], left, &self.after[self.after_sent..]];
            if parts.iter().all(|part| part.is_empty()) {
                return self.poll_done(cx, io);
            }
            let written = ready!(write(cx, io, parts))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_content = self.account(written, parts.map(<[u8]>::len));
            if of_content > 0 {
                return Poll::Ready(Ok(Sent::Some(of_content)));
            }
        }
    }

    /// Decides what is written next; false if there is nothing.
    fn arm(&mut self, length: usize, is_last: bool, trailers: &[u8]) -> bool {
        if self.before.is_empty() && length == 0 && !is_last {
            return false;
        }
        if self.chunked && length > 0 {
            chunk_size(&mut self.before, length);
            self.after.extend_from_slice(b"\r\n");
        }
        if self.chunked && is_last {
            last_chunk(&mut self.after, trailers);
        }
        (self.content_left, self.is_last, self.is_armed) = (length, is_last, true);
        true
    }

    fn account(&mut self, written: usize, [before, content, _]: [usize; 3]) -> usize {
        self.written += written as u64;
        let of_before = written.min(before);
        let of_content = (written - of_before).min(content);
        self.before_sent += of_before;
        self.content_left -= of_content;
        self.after_sent += written - of_before - of_content;
        of_content
    }

    fn poll_done(&mut self, cx: &mut Context<'_>, io: &mut Io) -> Poll<io::Result<Sent>> {
        // The end has to get out; what comes before it gets out with it, or when there is nothing to add.
        if self.is_last {
            ready!(io.poll_sent(cx))?;
        }
        let is_last = self.is_last;
        self.before_sent = 0;
        self.before.clear();
        self.after.clear();
        (self.after_sent, self.is_armed, self.is_last) = (0, false, false);
        Poll::Ready(Ok(if is_last { Sent::Finished } else { Sent::All }))
    }
}

/// One write of those that have anything.
#[inline]
fn write(cx: &mut Context<'_>, io: &mut Io, parts: [&[u8]; 3]) -> Poll<io::Result<usize>> {
    let slices = parts.map(IoSlice::new);
    match parts.map(<[u8]>::is_empty) {
        [false, true, true] => io.poll_write(cx, &slices[..1]),
        [true, false, true] => io.poll_write(cx, &slices[1..2]),
        [false, false, true] => io.poll_write(cx, &slices[..2]),
        _ => io.poll_write(cx, &slices),
    }
}

/// The fields of trailers, read from lines.
pub(crate) fn trailer_fields(lines: &[u8]) -> http::HeaderMap {
    let mut map = http::HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = http::HeaderName::from_bytes(line[..colon].trim_ascii());
        let value = http::HeaderValue::from_maybe_shared(Bytes::copy_from_slice(line[colon + 1..].trim_ascii()));
        if let (Ok(name), Ok(value)) = (name, value) {
            map.append(name, value);
        }
    }
    map
}

//! Compression of responses on their way, for clients that take it and types that are worth it.

use std::{
    io::Write,
    task::{Context, Poll, ready},
};

use flate2::{Compression, write::GzEncoder};

use crate::{
    http1::{Framing, Known, Request, Response, Version, elements},
    session::{PassFault, Sent, Side, Writer},
};

/// What is between a pod's content and the client's.
pub struct Squeeze {
    encoder: GzEncoder<Vec<u8>>,
    /// Bytes of what the encoder has made that were sent.
    sent: usize,
    /// The encoder holds something back.
    holds: bool,
    is_finished: bool,
}

// === impl Squeeze ===

impl Default for Squeeze {
    /// With the least effort, as HAProxy: time is dearer here than bytes.
    fn default() -> Self {
        Self { encoder: GzEncoder::new(Vec::new(), Compression::fast()), sent: 0, holds: false, is_finished: false }
    }
}

impl Squeeze {
    /// As [`crate::session::poll_pass`], with compression.
    pub fn poll_pass(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Side,
        to: &mut Side,
        writer: &mut Writer,
    ) -> Poll<Result<(), PassFault>> {
        loop {
            let made = &self.encoder.get_ref()[self.sent..];
            match ready!(to.poll_send(cx, writer, made, self.is_finished, from.trailers())).map_err(PassFault::To)? {
                Sent::Some(count) => self.sent += count,
                Sent::Finished => return Poll::Ready(Ok(())),
                Sent::All => ready!(self.poll_more(cx, from))?,
            }
        }
    }

    /// Takes more content. What is held back goes out before there is a wait, so that what a pod says slowly arrives.
    fn poll_more(&mut self, cx: &mut Context<'_>, from: &mut Side) -> Poll<Result<(), PassFault>> {
        self.encoder.get_mut().clear();
        self.sent = 0;
        let result = if !from.content().is_empty() {
            let result = self.encoder.write_all(from.content());
            from.consume(from.content().len());
            self.holds = true;
            result
        } else if from.is_last() {
            self.is_finished = true;
            self.encoder.try_finish()
        } else {
            match from.poll_content(cx) {
                Poll::Pending if self.holds => {
                    self.holds = false;
                    self.encoder.flush()
                }
                other => return other,
            }
        };
        Poll::Ready(result.map_err(PassFault::From))
    }
}

/// Whether a response is to be compressed: of one of these types, whole, as it is, not so already, and the client takes
/// it.
pub fn is_wanted(
    types: &[std::sync::Arc<str>],
    request: &Request,
    head: &[u8],
    response: &Response,
    answer: &[u8],
) -> bool {
    if types.is_empty()
        || request.version == Version::Http10
        || response.status != 200
        || response.framing == Framing::Empty
    {
        return false;
    }
    let has = |known| response.value(answer, known).is_some();
    let kind = response.value(answer, Known::ContentType).unwrap_or_default();
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let transforms = response
        .value(answer, Known::CacheControl)
        .is_none_or(|value| !elements(value).any(|element| element.eq_ignore_ascii_case(b"no-transform")));
    let accepts = request.fields.iter().filter(|field| field.known == Known::AcceptEncoding);
    let accepts = accepts.flat_map(|field| elements(field.value.of(head))).any(is_gzip);
    accepts
        && transforms
        && !has(Known::ContentEncoding)
        && types.iter().any(|wanted| kind.eq_ignore_ascii_case(wanted.as_bytes()))
}

/// `gzip`, or `gzip;q=` something above 0.
fn is_gzip(element: &[u8]) -> bool {
    let mut parts = element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(b"gzip"));
    named && parts.all(|part| !part.starts_with(b"q=0") || part.iter().skip(3).any(|byte| matches!(byte, b'1'..=b'9')))
}

/// An entity tag that says: not the same bytes any more (RFC 9110 §8.8.1).
pub fn weak(tag: &[u8]) -> Vec<u8> {
    if tag.starts_with(b"W/") { tag.to_vec() } else { [b"W/", tag].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_who_takes_gzip() {
        for (element, expected) in [
            ("gzip", true),
            ("GZIP", true),
            ("gzip;q=0.5", true),
            ("gzip; q=0.001", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0", false),
            ("br", false),
            ("*", false),
        ] {
            assert_eq!(is_gzip(element.as_bytes()), expected, "{element}");
        }
        assert_eq!((weak(b"\"a\""), weak(b"W/\"a\"")), (b"W/\"a\"".to_vec(), b"W/\"a\"".to_vec()));
    }
}

//! HTTP/2, by the h2 crate: its heads are written down as those of HTTP/1 and read by the same strict codec, so that all
//! that follows treats one kind of request only.

mod serve;
mod stream;
mod upstream;

pub use serve::serve;
pub use stream::Stream;
pub use upstream::{Upstreams, send};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::http1::{self, Known};

/// The fields of a head that was written as lines, without those that only a connection of HTTP/1 has.
fn fields(lines: &[u8]) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(16);
    for line in lines.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end).filter(|line| !line.is_empty()) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let known = Known::of(name);
        let trailers = known == Known::Te && value.eq_ignore_ascii_case(b"trailers");
        if (is_of_connection(known) && !trailers) || known == Known::Host {
            continue;
        }
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            map.append(name, value);
        }
    }
    map
}

/// RFC 9113 §8.2.2: connection-specific fields are not carried.
fn is_of_connection(known: Known) -> bool {
    known.is_hop_by_hop() && known != Known::ContentLength
}

/// The fields of a head of HTTP/2, as lines. Several Cookie fields become one (RFC 9113 §8.2.3).
fn write_fields(out: &mut Vec<u8>, map: &HeaderMap, skip: impl Fn(Known) -> bool) {
    for (name, value) in map {
        let known = Known::of(name.as_str().as_bytes());
        if known != Known::Cookie && !skip(known) {
            http1::field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    let mut cookies = map.get_all(http::header::COOKIE).iter();
    if let Some(first) = cookies.next() {
        out.extend_from_slice(b"cookie: ");
        out.extend_from_slice(first.as_bytes());
        for cookie in cookies {
            out.extend_from_slice(b"; ");
            out.extend_from_slice(cookie.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
}

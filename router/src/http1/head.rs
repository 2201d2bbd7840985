//! Heads: what httparse finds, held to what it lets pass, and what the fields say about framing and connection.

use std::mem::MaybeUninit;

use super::{Field, Known, Persistence, Refusal, Span, Version, elements};

/// Fields that a head may have: HAProxy's `tune.http.maxhdr`.
pub const MAX_FIELDS: usize = 101;

/// Fields that Connection may name besides its own options.
const MAX_NOMINATED: usize = 16;

/// How a body ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    #[default]
    Empty,
    /// After so many bytes.
    Length(u64),
    /// With a chunk of size 0 and trailers.
    Chunked,
    /// With the connection; only responses.
    Close,
}

/// The form of a request's target (RFC 9112 §3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// A path and maybe a query.
    #[default]
    Origin,
    /// A whole URI, of which [`Request::target`] is path and query.
    Absolute,
    /// `*`: the server as a whole.
    Asterisk,
}

/// The head of a request. Spans are of the buffer that it was parsed from, so it is worth as long as that is kept.
#[derive(Debug, Default)]
pub struct Request {
    /// The method, a token.
    pub method: Span,
    /// Path and query. Empty or starting with `?` only if the target was absolute: then a `/` comes before it.
    pub target: Span,
    /// How the target was written.
    pub form: Target,
    /// Host, in lower case, with a port if it came with one; empty if there is none.
    pub host: Span,
    /// The version of the message.
    pub version: Version,
    /// The fields in their order.
    pub fields: Vec<Field>,
    /// How the body ends.
    pub framing: Framing,
    /// What it says about its connection.
    pub persistence: Persistence,
    /// `Expect: 100-continue`: the body waits for an interim response.
    pub expect_continue: bool,
    /// What it asks the connection to become, if Connection has `upgrade` too and the protocol is not h2c.
    pub upgrade: Option<Span>,
    /// Fields that Connection names: they end here.
    pub nominated: Vec<Span>,
}

/// The head of a response, likewise.
#[derive(Debug, Default)]
pub struct Response {
    /// The status, 100 to 999.
    pub status: u16,
    /// The reason phrase, maybe empty.
    pub reason: Span,
    /// The version of the message.
    pub version: Version,
    /// The fields in their order.
    pub fields: Vec<Field>,
    /// How the body ends, the request's method considered.
    pub framing: Framing,
    /// Content-Length as it was written, also where the body is not sent (HEAD, 304).
    pub length: Option<u64>,
    /// What it says about its connection.
    pub persistence: Persistence,
    /// Fields that Connection names: they end here.
    pub nominated: Vec<Span>,
}

/// What a walk over the fields collects about a message as a whole.
#[derive(Default)]
struct Framed {
    length: Option<u64>,
    chunked: bool,
    host: Option<Span>,
    upgrade: Option<Span>,
    expect_continue: bool,
    persistence: Persistence,
}

// === impl Request ===

impl Request {
    /// Reads the head that lies in `bytes` from `start` to before `end`, as [`super::Scan`] found it. The host is written
    /// in lower case where it lies.
    pub fn parse(&mut self, bytes: &mut [u8], start: usize, end: usize) -> Result<(), Refusal> {
        let framed = self.parse_lines(bytes, start, end)?;
        self.framing = framed.framing(self.version)?.unwrap_or_default();
        self.expect_continue = framed.expect_continue && self.version == Version::Http11;
        self.persistence = framed.persistence;
        self.upgrade = framed.upgrade.filter(|upgrade| self.upgrades(bytes, *upgrade));
        self.find_host(bytes, framed.host)?;
        bytes[self.host.start as usize..self.host.end as usize].make_ascii_lowercase();
        Ok(())
    }

    /// As new, but for what its vectors have grown to: no span is left of the last head.
    pub fn clear(&mut self) {
        let (mut fields, mut nominated) = (std::mem::take(&mut self.fields), std::mem::take(&mut self.nominated));
        fields.clear();
        nominated.clear();
        *self = Self { fields, nominated, ..Self::default() };
    }

    /// The path without the query, for looking up; `/` for the server as a whole.
    pub fn path<'a>(&self, bytes: &'a [u8]) -> &'a str {
        let target = self.target.text(bytes);
        let path = target.split('?').next().unwrap_or_default();
        if path.is_empty() || self.form == Target::Asterisk { "/" } else { path }
    }

    /// The method is HEAD, whose responses have no body.
    pub fn is_head(&self, bytes: &[u8]) -> bool {
        self.method.of(bytes) == b"HEAD"
    }

    /// The value of the first field of this name.
    pub fn value<'a>(&self, bytes: &'a [u8], known: Known) -> Option<&'a [u8]> {
        self.fields.iter().find(|field| field.known == known).map(|field| field.value.of(bytes))
    }

    fn parse_lines(&mut self, bytes: &[u8], start: usize, end: usize) -> Result<Framed, Refusal> {
        let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut head = httparse::Request::new(&mut []);
        let (length, whole) = (end - start, &bytes[start..end]);
        match head.parse_with_uninit_headers(whole, &mut fields) {
            Ok(httparse::Status::Complete(parsed)) if parsed == length => {}
            Ok(_) => return Err(Refusal::StartLine),
            Err(error) => return Err(Refusal::diagnose(whole, error)),
        }
        let (Some(method), Some(target), Some(version)) = (head.method, head.path, head.version) else {
            return Err(Refusal::StartLine);
        };
        self.version = Version::of(version);
        self.method = Span::within(bytes, method.as_bytes());
        self.target = Span::within(bytes, target.as_bytes());
        if method == "CONNECT" {
            return Err(Refusal::Connect);
        }
        let mut framed = Framed::begin(self.version);
        framed.collect(bytes, head.headers, &mut self.fields, &mut self.nominated)?;
        Ok(framed)
    }

    /// An upgrade is carried out for a request without a body, and never to h2c: requests inside it would pass unseen.
    fn upgrades(&self, bytes: &[u8], upgrade: Span) -> bool {
        let h2c = || elements(upgrade.of(bytes)).any(|protocol| protocol.eq_ignore_ascii_case(b"h2c"));
        self.persistence.upgrade && self.version == Version::Http11 && self.framing.is_empty() && !h2c()
    }

    fn find_host(&mut self, bytes: &[u8], field: Option<Span>) -> Result<(), Refusal> {
        let authority = self.split_target(bytes)?;
        let host = match (field, authority) {
            (Some(host), Some(authority)) if !host.of(bytes).eq_ignore_ascii_case(authority.of(bytes)) => {
                return Err(Refusal::HostDiffers);
            }
            (None, _) if self.version == Version::Http11 => return Err(Refusal::NoHost),
            (Some(host), _) | (None, Some(host)) => host,
            (None, None) => Span::default(),
        };
        if !is_host(host.of(bytes)) {
            return Err(Refusal::Host);
        }
        self.host = host;
        Ok(())
    }

    /// Sets the form of the target and leaves path and query in it; the authority, if it was a whole URI.
    fn split_target(&mut self, bytes: &[u8]) -> Result<Option<Span>, Refusal> {
        let target = self.target.of(bytes);
        if target.iter().any(|byte| !byte.is_ascii_graphic() || *byte == b'#') {
            return Err(Refusal::Target);
        }
        self.form = match target {
            [b'/', ..] => Target::Origin,
            b"*" if self.method.of(bytes) == b"OPTIONS" => Target::Asterisk,
            _ => Target::Absolute,
        };
        if self.form != Target::Absolute {
            return Ok(None);
        }
        let scheme = [&b"http://"[..], b"https://"]
            .into_iter()
            .find(|scheme| target.len() > scheme.len() && target[..scheme.len()].eq_ignore_ascii_case(scheme))
            .ok_or(Refusal::Target)?;
        let rest = self.target.skip(scheme.len());
        let length = rest.of(bytes).iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        self.target = rest.skip(length);
        if length == 0 { Err(Refusal::Target) } else { Ok(Some(rest.take(length))) }
    }
}

// === impl Response ===

impl Response {
    /// Reads the head that lies in `bytes` from `start` to before `end`. `to_head`: it answers a HEAD request.
    pub fn parse(&mut self, bytes: &[u8], start: usize, end: usize, to_head: bool) -> Result<(), Refusal> {
        let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut head = httparse::Response::new(&mut []);
        let (length, whole) = (end - start, &bytes[start..end]);
        match httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut head, whole, &mut fields) {
            Ok(httparse::Status::Complete(parsed)) if parsed == length => {}
            Ok(_) => return Err(Refusal::StartLine),
            Err(error) => return Err(Refusal::diagnose(whole, error)),
        }
        let (Some(status @ 100..), Some(version)) = (head.code, head.version) else {
            return Err(Refusal::StartLine);
        };
        self.status = status;
        self.version = Version::of(version);
        // httparse answers with a constant where the phrase is empty or not ASCII.
        self.reason = head
            .reason
            .filter(|reason| lies_within(whole, reason))
            .map_or(Span::default(), |reason| Span::within(bytes, reason.as_bytes()));
        let mut framed = Framed::begin(self.version);
        framed.collect(bytes, head.headers, &mut self.fields, &mut self.nominated)?;
        let framing = framed.framing(self.version)?;
        let bodiless = to_head || status < 200 || matches!(status, 204 | 304);
        self.framing = if bodiless { Framing::Empty } else { framing.unwrap_or(Framing::Close) };
        self.length = framed.length;
        self.persistence = framed.persistence;
        Ok(())
    }

    /// As new, but for what its vectors have grown to: no span is left of the last head.
    pub fn clear(&mut self) {
        let (mut fields, mut nominated) = (std::mem::take(&mut self.fields), std::mem::take(&mut self.nominated));
        fields.clear();
        nominated.clear();
        *self = Self { fields, nominated, ..Self::default() };
    }

    /// An interim response, after which another follows (RFC 9110 §15.2); 101 is final for HTTP.
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }

    /// The value of the first field of this name.
    pub fn value<'a>(&self, bytes: &'a [u8], known: Known) -> Option<&'a [u8]> {
        self.fields.iter().find(|field| field.known == known).map(|field| field.value.of(bytes))
    }
}

// === impl Framed ===

impl Framed {
    fn begin(version: Version) -> Self {
        let persistence = Persistence { close: version == Version::Http10, ..Persistence::default() };
        Self { persistence, ..Self::default() }
    }

    fn collect(
        &mut self,
        bytes: &[u8],
        headers: &[httparse::Header<'_>],
        fields: &mut Vec<Field>,
        nominated: &mut Vec<Span>,
    ) -> Result<(), Refusal> {
        fields.clear();
        nominated.clear();
        for header in headers {
            let name = Span::within(bytes, header.name.as_bytes());
            // An empty value may be a constant of httparse's.
            let value = if header.value.is_empty() { Span::default() } else { Span::within(bytes, header.value) };
            let known = Known::of(header.name.as_bytes());
            self.look_at(bytes, known, value, nominated)?;
            fields.push(Field { name, value, known });
        }
        Ok(())
    }

    #[inline]
    fn look_at(&mut self, bytes: &[u8], known: Known, value: Span, names: &mut Vec<Span>) -> Result<(), Refusal> {
        match known {
            Known::Host if self.host.replace(value).is_some() => Err(Refusal::HostTwice),
            Known::ContentLength => {
                let length = content_length(value.of(bytes)).ok_or(Refusal::Length)?;
                if self.length.replace(length).is_some() { Err(Refusal::LengthTwice) } else { Ok(()) }
            }
            Known::TransferEncoding if self.chunked => Err(Refusal::Coding),
            Known::TransferEncoding => {
                self.chunked = true;
                coding(value.of(bytes))
            }
            Known::Connection => self.options(bytes, value, names),
            Known::Upgrade => {
                self.upgrade = Some(value);
                Ok(())
            }
            Known::Expect => {
                self.expect_continue |= value.of(bytes).eq_ignore_ascii_case(b"100-continue");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn options(&mut self, bytes: &[u8], value: Span, nominated: &mut Vec<Span>) -> Result<(), Refusal> {
        for option in elements(value.of(bytes)) {
            if option.eq_ignore_ascii_case(b"close") {
                self.persistence.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.persistence.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.persistence.upgrade = true;
            } else if nominated.len() == MAX_NOMINATED {
                return Err(Refusal::Connection);
            } else {
                nominated.push(Span::within(bytes, option));
            }
        }
        Ok(())
    }

    /// How the body ends, if the fields tell; and HTTP/1.0's keep-alive, now that all of them are known.
    fn framing(&self, version: Version) -> Result<Option<Framing>, Refusal> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(Refusal::LengthAndCoding),
            (true, None) if version == Version::Http10 => Err(Refusal::CodingInHttp10),
            (true, None) => Ok(Some(Framing::Chunked)),
            (false, Some(0)) => Ok(Some(Framing::Empty)),
            (false, Some(length)) => Ok(Some(Framing::Length(length))),
            (false, None) => Ok(None),
        }
    }
}

impl Framing {
    /// There is no body.
    pub fn is_empty(self) -> bool {
        self == Self::Empty
    }
}

impl Version {
    fn of(minor: u8) -> Self {
        if minor == 0 { Self::Http10 } else { Self::Http11 }
    }
}

impl Persistence {
    /// The connection may be used for another message.
    pub fn persists(self, version: Version) -> bool {
        match version {
            Version::Http11 => !self.close,
            Version::Http10 => self.keep_alive,
        }
    }
}

/// One decimal number, without sign, list or whitespace.
fn content_length(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.len() <= 19 && value.iter().all(u8::is_ascii_digit);
    digits.then(|| value.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0')))
}

fn coding(value: &[u8]) -> Result<(), Refusal> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let known = |coding: &[u8]| {
        [&b"gzip"[..], b"x-gzip", b"deflate", b"compress", b"x-compress"]
            .iter()
            .any(|name| coding.eq_ignore_ascii_case(name))
    };
    let mut codings: Vec<_> = elements(value).collect();
    let chunked = codings.pop().is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
    if chunked && !codings.is_empty() && codings.into_iter().all(known) {
        return Err(Refusal::UnknownCoding);
    }
    Err(Refusal::Coding)
}

/// A name or an address with maybe a port (RFC 9112 §3.2), or nothing. Narrower than a URI's authority: what differs are
/// bytes that no name has, and that others may end it at.
fn is_host(host: &[u8]) -> bool {
    let (name, port) = match host {
        [b'[', rest @ ..] => match rest.iter().position(|byte| *byte == b']') {
            Some(end) => {
                let inside = rest[..end].iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'));
                if !inside || end == 0 {
                    return false;
                }
                (&[][..], &rest[end + 1..])
            }
            None => return false,
        },
        _ => host.split_at(host.iter().position(|byte| *byte == b':').unwrap_or(host.len())),
    };
    let port = matches!(port, [] | [b':', ..]) && port.iter().skip(1).all(u8::is_ascii_digit) && port.len() <= 6;
    port && name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'))
}

fn lies_within(whole: &[u8], part: &str) -> bool {
    whole.as_ptr_range().contains(&part.as_ptr())
}

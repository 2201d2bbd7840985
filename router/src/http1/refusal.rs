//! Why a message is refused.

use thiserror::Error;

/// Why a head or a body is not taken. Each ends its connection: where a message ends is not known any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// A line ends with LF without CR before it (RFC 9112 §2.2 lets us take it; others read it as part of the line).
    #[error("a line ends with LF alone")]
    BareLf,
    /// CR is not followed by LF.
    #[error("CR stands alone")]
    BareCr,
    /// A NUL byte in the head.
    #[error("a NUL byte in the head")]
    Nul,
    /// A line that continues the one before (obs-fold, RFC 9112 §5.2).
    #[error("a field is folded over two lines")]
    Folded,
    /// The request line or status line is not one.
    #[error("the first line is not one of HTTP/1")]
    StartLine,
    /// A version other than 1.0 and 1.1.
    #[error("the version is not HTTP/1.0 or HTTP/1.1")]
    Version,
    /// The target is of no known form, has a fragment, or bytes that no URI has.
    #[error("the request target is not a path or an http URI")]
    Target,
    /// CONNECT: the router is no forward proxy.
    #[error("CONNECT is not for a router of requests")]
    Connect,
    /// A field's name or value has bytes that may not be there, whitespace before the colon among them.
    #[error("a field has bytes that may not be there, or whitespace before its colon")]
    Field,
    /// No Host in HTTP/1.1.
    #[error("the Host field is missing")]
    NoHost,
    /// More than one Host.
    #[error("more than one Host field")]
    HostTwice,
    /// Host is not a host and a port.
    #[error("the Host field is not a host and a port")]
    Host,
    /// Host is another than that of the absolute target.
    #[error("the Host field differs from the host in the request target")]
    HostDiffers,
    /// Content-Length is not one decimal number; an empty one too (CVE-2023-40225).
    #[error("the Content-Length is not a number")]
    Length,
    /// More than one Content-Length, equal or not.
    #[error("more than one Content-Length")]
    LengthTwice,
    /// Both Content-Length and Transfer-Encoding.
    #[error("Content-Length beside Transfer-Encoding")]
    LengthAndCoding,
    /// Transfer-Encoding is not `chunked` once.
    #[error("the Transfer-Encoding is not chunked alone")]
    Coding,
    /// Transfer-Encoding names a coding that the router does not know, before `chunked`.
    #[error("a transfer coding that is not known")]
    UnknownCoding,
    /// Transfer-Encoding in HTTP/1.0, which has none.
    #[error("Transfer-Encoding in HTTP/1.0")]
    CodingInHttp10,
    /// The Connection field names more fields than anybody has.
    #[error("the Connection field names too many fields")]
    Connection,
    /// More bytes than a head may have.
    #[error("the head is too large")]
    HeadTooLarge,
    /// More fields than [`super::MAX_FIELDS`].
    #[error("the head has too many fields")]
    TooManyFields,
    /// The target alone is too large.
    #[error("the request target is too long")]
    TargetTooLong,
    /// A chunk's size line, or its end, is not one.
    #[error("a chunk of the body is malformed")]
    Chunk,
    /// Trailers that are too large, malformed, or have fields that may not be there (RFC 9110 §6.5.1).
    #[error("the trailers are malformed, too large, or have fields that may not be there")]
    Trailers,
}

impl Refusal {
    /// The status that a client is answered with.
    pub fn status(self) -> u16 {
        match self {
            Self::Version => 505,
            Self::Connect => 405,
            Self::UnknownCoding => 501,
            Self::HeadTooLarge | Self::TooManyFields => 431,
            Self::TargetTooLong => 414,
            _ => 400,
        }
    }

    /// Why httparse refused a head, in the words that matter for smuggling.
    #[cold]
    pub(super) fn diagnose(head: &[u8], error: httparse::Error) -> Self {
        let lines = || head.split(|byte| *byte == b'\n');
        if matches!(error, httparse::Error::TooManyHeaders) {
            return Self::TooManyFields;
        }
        if head.contains(&0) {
            return Self::Nul;
        }
        if lines().any(|line| line.iter().rev().skip(1).any(|byte| *byte == b'\r')) {
            return Self::BareCr;
        }
        if lines().skip(1).any(|line| matches!(line.first(), Some(b' ' | b'\t'))) {
            return Self::Folded;
        }
        match error {
            httparse::Error::HeaderName | httparse::Error::HeaderValue => Self::Field,
            httparse::Error::Version => {
                let first = lines().next().unwrap_or_default();
                let words: Vec<_> = first.trim_ascii_end().split(|byte| *byte == b' ').collect();
                let version = words.len() == 3 && words[2].starts_with(b"HTTP/");
                if version || first.starts_with(b"HTTP/") { Self::Version } else { Self::StartLine }
            }
            _ if lines().next().is_some_and(|first| !first.is_ascii()) => Self::Target,
            _ => Self::StartLine,
        }
    }
}

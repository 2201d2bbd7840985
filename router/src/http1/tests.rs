//! The codec held to RFC 9112: the corpus, what is written is read back, and bytes split anywhere amount to the same.

mod corpus;

use super::*;
use proptest::{collection::vec, prelude::*, test_runner::Config};

const LIMIT: usize = 24 * 1024;

/// What foreign bytes are made of, so that many of them come far.
const WORDS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\n",
    b"POST /a HTTP/1.1\r\n",
    b"HTTP/1.0 200 OK\r\n",
    b"Host: a\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close, x\r\n",
    b"X: y\r\n",
    b"\r\n",
    b"\n",
    b"\r",
    b"5\r\n",
    b"0\r\n",
    b"hello",
    b":",
    b" ",
    b"\0",
    b";a=b",
    b"\t",
    b"ffffffffffffffff",
    b"\xff",
];

/// One message as it was read: everything that matters, copied out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Message {
    line: (String, String, Version),
    host: String,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    framing: Framing,
    persistence: Persistence,
    expects: bool,
    upgrade: Option<String>,
    body: Vec<u8>,
    trailers: Vec<u8>,
}

/// What a stream of bytes amounts to: whole messages, then what stopped it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reading {
    messages: Vec<Message>,
    refusal: Option<Refusal>,
    /// A message was begun that is not whole.
    partial: bool,
}

/// Reads requests, or one response, from bytes that arrive in parts.
fn read<'a>(parts: impl Iterator<Item = &'a [u8]>, response_to: Option<&str>) -> Reading {
    let mut reader = Reader { response_to, ..Reader::default() };
    for part in parts {
        reader.buffer.extend_from_slice(part);
        while reader.refusal.is_none() && reader.advance() {}
    }
    let partial = reader.message.is_some() || reader.scan.has_begun();
    Reading { messages: reader.messages, partial: partial && reader.refusal.is_none(), refusal: reader.refusal }
}

fn read_whole(bytes: &[u8]) -> Reading {
    read(std::iter::once(bytes), None)
}

#[derive(Default)]
struct Reader<'a> {
    response_to: Option<&'a str>,
    buffer: Vec<u8>,
    scan: Scan,
    message: Option<(Message, Decoder)>,
    messages: Vec<Message>,
    refusal: Option<Refusal>,
}

impl Reader<'_> {
    /// Takes a step; whether there may be another with the same bytes.
    fn advance(&mut self) -> bool {
        self.step().unwrap_or_else(|refusal| {
            self.refusal = Some(refusal);
            false
        })
    }

    fn step(&mut self) -> Result<bool, Refusal> {
        let Some((message, decoder)) = &mut self.message else {
            let Scanned::Complete { start, end } = self.scan.scan(&self.buffer, LIMIT)? else { return Ok(false) };
            self.message = Some(self.head(start, end)?);
            self.buffer.drain(..end);
            self.scan = Scan::default();
            return Ok(true);
        };
        let decoded = decoder.decode(&mut self.buffer)?;
        message.body.extend_from_slice(&self.buffer[decoded.content]);
        self.buffer.drain(..decoded.consumed);
        if !decoder.is_done() {
            return Ok(false);
        }
        message.trailers = decoder.trailers().to_vec();
        self.messages.extend(self.message.take().map(|(message, _)| message));
        Ok(true)
    }

    fn head(&mut self, start: usize, end: usize) -> Result<(Message, Decoder), Refusal> {
        let text = |span: Span, bytes: &[u8]| String::from_utf8(span.of(bytes).to_vec()).unwrap();
        let copy = |fields: &[Field], bytes: &[u8]| {
            fields.iter().map(|field| (field.name.of(bytes).to_vec(), field.value.of(bytes).to_vec())).collect()
        };
        if let Some(method) = self.response_to {
            let mut head = Response::default();
            head.parse(&self.buffer, start, end, method == "HEAD")?;
            let bytes = &self.buffer;
            let message = Message {
                line: (head.status.to_string(), String::from_utf8_lossy(head.reason.of(bytes)).into(), head.version),
                fields: copy(&head.fields, bytes),
                framing: head.framing,
                persistence: head.persistence,
                ..Message::default()
            };
            return Ok((message, Decoder::new(head.framing)));
        }
        let mut head = Request::default();
        head.parse(&mut self.buffer, start, end)?;
        let bytes = &self.buffer;
        let message = Message {
            line: (text(head.method, bytes), text(head.target, bytes), head.version),
            host: text(head.host, bytes),
            fields: copy(&head.fields, bytes),
            framing: head.framing,
            persistence: head.persistence,
            expects: head.expect_continue,
            upgrade: head.upgrade.map(|span| text(span, bytes)),
            ..Message::default()
        };
        Ok((message, Decoder::new(head.framing)))
    }
}

/// A request to be written: what a client of ours could mean.
#[derive(Clone, Debug)]
struct Meant {
    method: String,
    target: String,
    fields: Vec<(String, String)>,
    /// Chunks, or one body with its length.
    chunked: bool,
    body: Vec<Vec<u8>>,
    trailers: Vec<(String, String)>,
}

impl Meant {
    fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        request_line(&mut out, self.method.as_bytes(), self.target.as_bytes());
        field(&mut out, b"Host", b"a.example");
        for (name, value) in &self.fields {
            field(&mut out, name.as_bytes(), value.as_bytes());
        }
        let body = self.body.concat();
        if self.chunked {
            field(&mut out, b"Transfer-Encoding", b"chunked");
            out.extend_from_slice(b"\r\n");
            for chunk in self.body.iter().filter(|chunk| !chunk.is_empty()) {
                chunk_size(&mut out, chunk.len());
                out.extend_from_slice(chunk);
                out.extend_from_slice(b"\r\n");
            }
            let mut trailers = Vec::new();
            write_trailers(
                &mut trailers,
                self.trailers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())),
            );
            last_chunk(&mut out, &trailers);
        } else {
            out.extend_from_slice(b"Content-Length: ");
            decimal(&mut out, body.len() as u64);
            out.extend_from_slice(b"\r\n\r\n");
            out.extend_from_slice(&body);
        }
        out
    }

    fn expected(&self) -> Message {
        let body = self.body.concat();
        let mut fields = vec![(b"Host".to_vec(), b"a.example".to_vec())];
        fields.extend(
            self.fields.iter().map(|(name, value)| (name.clone().into_bytes(), value.trim().as_bytes().to_vec())),
        );
        let (framing, name, value) = match (self.chunked, body.len()) {
            (true, _) => (Framing::Chunked, "Transfer-Encoding", "chunked".into()),
            (false, 0) => (Framing::Empty, "Content-Length", "0".into()),
            (false, length) => (Framing::Length(length as u64), "Content-Length", length.to_string()),
        };
        fields.push((name.into(), value.into_bytes()));
        let mut trailers = Vec::new();
        if self.chunked {
            write_trailers(
                &mut trailers,
                self.trailers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())),
            );
        }
        Message {
            line: (self.method.clone(), self.target.clone(), Version::Http11),
            host: "a.example".into(),
            fields,
            framing,
            body,
            trailers,
            ..Message::default()
        }
    }
}

fn meant() -> impl Strategy<Value = Meant> {
    let plain = || vec(("X-[a-z]{1,12}", "[!-~]([ -~]{0,40}[!-~])?"), 0..12);
    (
        "[A-Z]{1,7}".prop_filter("a router of requests", |method| method != "CONNECT"),
        "/[a-z0-9/%.~]{0,30}(\\?[a-z=&]{0,10})?",
        plain(),
        any::<bool>(),
        vec(vec(any::<u8>(), 0..300), 0..5),
        vec(("X-[a-z]{1,12}", "[!-~]{0,20}"), 0..3),
    )
        .prop_map(|(method, target, fields, chunked, body, trailers)| Meant {
            method,
            target,
            fields,
            chunked,
            body,
            trailers,
        })
}

proptest! {
    #![proptest_config(Config::with_cases(400))]

    /// What is written is read back, several messages in a row.
    #[test]
    fn reads_what_it_writes(meant in vec(meant(), 1..4)) {
        let bytes: Vec<u8> = meant.iter().flat_map(Meant::write).collect();
        let reading = read_whole(&bytes);
        prop_assert_eq!(reading.refusal, None);
        prop_assert_eq!(reading.messages, meant.iter().map(Meant::expected).collect::<Vec<_>>());
        prop_assert!(!reading.partial);
    }

    /// However the bytes arrive, they amount to the same.
    #[test]
    fn reads_the_same_in_parts(meant in vec(meant(), 1..3), size in 1usize..50) {
        let bytes: Vec<u8> = meant.iter().flat_map(Meant::write).collect();
        prop_assert_eq!(read(bytes.chunks(size), None), read_whole(&bytes));
    }

    /// Bytes of any kind are answered in some way, the same whole and in parts. Most begin like a request.
    #[test]
    fn survives_foreign_bytes(
        words in vec(proptest::sample::select(WORDS), 0..14),
        noise in vec(any::<(u8, u8)>(), 0..4),
        size in 1usize..20,
    ) {
        let mut bytes = words.concat();
        for (at, value) in noise {
            if !bytes.is_empty() {
                let at = at as usize % bytes.len();
                bytes[at] = value;
            }
        }
        let whole = read_whole(&bytes);
        prop_assert_eq!(read(bytes.chunks(size), None), whole.clone());
        // Nothing passes that has what is to be refused anywhere in a head.
        for message in &whole.messages {
            let has = |name: &[u8]| message.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name)).count();
            prop_assert!(has(b"content-length") + has(b"transfer-encoding") <= 1, "framed twice");
            prop_assert!(has(b"host") <= 1, "two hosts");
            prop_assert!(message.fields.iter().all(|(_, value)| !value.iter().any(|byte| b"\r\n\0".contains(byte))));
        }
        let answer = read(bytes.chunks(size), Some("GET"));
        prop_assert_eq!(answer, read(std::iter::once(&bytes[..]), Some("GET")));
    }
}

/// The rows of the corpus, each whole and split at every byte.
#[test]
fn holds_the_corpus_split_anywhere() {
    for row in corpus::requests() {
        let whole = read_whole(&row.bytes);
        row.check(&whole);
        for at in 0..row.bytes.len() {
            let (first, second) = row.bytes.split_at(at);
            assert_eq!(read([first, second].into_iter(), None), whole, "{} split at {at}", row.name);
        }
        let each = read(row.bytes.chunks(1), None);
        assert_eq!(each, whole, "{} byte by byte", row.name);
    }
    for (method, row) in corpus::responses() {
        let whole = read(std::iter::once(&row.bytes[..]), Some(method));
        row.check(&whole);
        assert_eq!(read(row.bytes.chunks(1), Some(method)), whole, "{} byte by byte", row.name);
    }
}

#[test]
fn knows_every_name_it_claims_to() {
    for known in [Known::Host, Known::ContentLength, Known::XSslClientDer, Known::SetCookie, Known::Etag] {
        assert_eq!(Known::of(known.name().to_uppercase().as_bytes()), known);
    }
    for other in ["hos", "hostt", "x-host", "content_length", ""] {
        assert_eq!(Known::of(other.as_bytes()), Known::Other, "{other}");
    }
}

#[test]
fn bounds_what_it_holds() {
    let line = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(LIMIT));
    assert_eq!(read_whole(line.as_bytes()).refusal, Some(Refusal::TargetTooLong));
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(LIMIT));
    assert_eq!(read_whole(head.as_bytes()).refusal, Some(Refusal::HeadTooLarge));
    let fields = |count| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count));
    assert_eq!(read_whole(fields(MAX_FIELDS - 1).as_bytes()).messages.len(), 1);
    assert_eq!(read_whole(fields(MAX_FIELDS).as_bytes()).refusal, Some(Refusal::TooManyFields));
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let extension = format!("{chunked}5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(MAX_CHUNK_LINE as usize + 1));
    assert_eq!(read_whole(extension.as_bytes()).refusal, Some(Refusal::Chunk));
    let trailers = format!("{chunked}0\r\nX: {}\r\n\r\n", "x".repeat(MAX_TRAILERS));
    assert_eq!(read_whole(trailers.as_bytes()).refusal, Some(Refusal::Trailers));
}

#[test]
fn writes_numbers() {
    for number in [0, 1, 9, 10, 15, 16, 255, 256, 65_535, 1 << 20, u32::MAX as usize] {
        let (mut hex, mut digits) = (Vec::new(), Vec::new());
        chunk_size(&mut hex, number);
        decimal(&mut digits, number as u64);
        assert_eq!((hex, digits), (format!("{number:x}\r\n").into_bytes(), number.to_string().into_bytes()));
    }
}

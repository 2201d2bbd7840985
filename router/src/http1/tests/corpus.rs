//! Raw requests and responses with what becomes of them. From RFC 9112's rules, and from what is known to be read in two
//! ways by servers in a row.

use super::{Reading, Refusal, Refusal::*};

/// Bytes, and what becomes of them.
pub struct Row {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    expected: Expected,
}

enum Expected {
    /// So many messages with these bodies, and nothing left.
    Bodies(&'static [&'static str]),
    /// Refused so, after that many whole messages.
    Refused(Refusal, usize),
    /// Not whole.
    Partial,
}

use Expected::{Bodies, Partial, Refused};

impl Row {
    pub fn check(&self, reading: &Reading) {
        match &self.expected {
            Bodies(bodies) => {
                assert_eq!(reading.refusal, None, "{}", self.name);
                let read: Vec<_> =
                    reading.messages.iter().map(|message| String::from_utf8_lossy(&message.body)).collect();
                assert_eq!(read, *bodies, "{}", self.name);
            }
            Refused(refusal, before) => {
                assert_eq!((reading.refusal, reading.messages.len()), (Some(*refusal), *before), "{}", self.name);
            }
            Partial => {
                assert!(reading.partial && reading.refusal.is_none() && reading.messages.is_empty(), "{}", self.name)
            }
        }
    }
}

fn row(name: &'static str, text: &str, expected: Expected) -> Row {
    // Latin-1, so that any byte can be written in a row.
    Row { name, bytes: text.chars().map(|letter| letter as u8).collect(), expected }
}

#[rustfmt::skip]
pub fn requests() -> Vec<Row> {
    let get = |rest: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{rest}\r\n");
    let post = |rest: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{rest}\r\n{body}");
    let chunked = |body: &str| post("Transfer-Encoding: chunked\r\n", body);
    vec![
        // The plain cases
        row("simple", &get(""), Bodies(&[""])),
        row("two in a row", &(get("") + &get("")), Bodies(&["", ""])),
        row("empty lines first", &("\r\n\r\n".to_string() + &get("")), Bodies(&[""])),
        row("no reason to wait", "GET / HTTP/1.1\r\nHost: a\r\n", Partial),
        row("HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", Bodies(&[""])),
        row("empty value", &get("X:\r\n"), Bodies(&[""])),
        row("whitespace around a value", &get("X: \t y \t\r\n"), Bodies(&[""])),
        row("bytes above ASCII in a value", &get("X: \u{e9}\r\n"), Bodies(&[""])),
        row("underscore in a name", &get("X_A: b\r\n"), Bodies(&[""])),
        row("length", &post("Content-Length: 5\r\n", "hello"), Bodies(&["hello"])),
        row("length 0", &post("Content-Length: 0\r\n", ""), Bodies(&[""])),
        row("length with zeroes before", &post("Content-Length: 005\r\n", "hello"), Bodies(&["hello"])),
        row("length, then another", &(post("Content-Length: 5\r\n", "hello") + &get("")), Bodies(&["hello", ""])),
        row("body not whole", &post("Content-Length: 5\r\n", "hell"), Partial),

        // Where lines end
        row("LF alone", "GET / HTTP/1.1\nHost: a\n\n", Refused(BareLf, 0)),
        row("LF alone after the first line", "GET / HTTP/1.1\nHost: a\r\n\r\n", Refused(BareLf, 0)),
        row("LF alone after a field", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", Refused(BareLf, 0)),
        row("LF alone for the empty line", "GET / HTTP/1.1\r\nHost: a\r\n\n", Refused(BareLf, 0)),
        row("LF alone before all", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(BareLf, 0)),
        row("LF hidden in a value", &get("X: a\nTransfer-Encoding: chunked\r\n"), Refused(BareLf, 0)),
        row("CR alone in a value", &get("X: a\rb\r\n"), Refused(BareCr, 0)),
        row("CR alone in a name", &get("X\ra: b\r\n"), Refused(BareCr, 0)),
        row("CR CR LF", &get("X: a\r\r\n"), Refused(BareCr, 0)),
        row("CR alone in the first line", "GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", Refused(BareCr, 0)),
        row("NUL in a value", &get("X: a\0b\r\n"), Refused(Nul, 0)),
        row("NUL in a name", &get("X\0: b\r\n"), Refused(Nul, 0)),
        row("NUL in the target", "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", Refused(Nul, 0)),
        row("NUL in the length", &post("Content-Length: 5\0\r\n", "hello"), Refused(Nul, 0)),
        row("folded", &get("X: a\r\n b\r\n"), Refused(Folded, 0)),
        row("folded with a tab", &get("X: a\r\n\tb\r\n"), Refused(Folded, 0)),
        row("folded length", &post("X: y\r\n Content-Length: 5\r\n", "hello"), Refused(Folded, 0)),
        row("folded coding", &post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"), Refused(Folded, 0)),
        row("first field folded", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", Refused(Folded, 0)),

        // The first line
        row("two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(StartLine, 0)),
        row("two spaces before the version", "GET /  HTTP/1.1\r\nHost: a\r\n\r\n", Refused(StartLine, 0)),
        row("tab for a space", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", Refused(StartLine, 0)),
        row("space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", Refused(StartLine, 0)),
        row("space at the end", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Refused(StartLine, 0)),
        row("space before the method", " GET / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(StartLine, 0)),
        row("no version", "GET /\r\n\r\n", Refused(StartLine, 0)),
        row("HTTP/2.0", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", Refused(Version, 0)),
        row("HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", Refused(Version, 0)),
        row("HTTP/1.10", "GET / HTTP/1.10\r\nHost: a\r\n\r\n", Refused(StartLine, 0)),
        row("http/1.1", "GET / http/1.1\r\nHost: a\r\n\r\n", Refused(StartLine, 0)),
        row("bytes that no token has", "G(T / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(StartLine, 0)),
        row("bytes above ASCII in the target", "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", Refused(Target, 0)),
        row("fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", Refused(Target, 0)),
        row("target without a slash", "GET a HTTP/1.1\r\nHost: a\r\n\r\n", Refused(Target, 0)),
        row("authority as target", "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", Refused(Target, 0)),
        row("asterisk", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Bodies(&[""])),
        row("asterisk for GET", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", Refused(Target, 0)),
        row("CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", Refused(Connect, 0)),
        row("absolute", "GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n", Bodies(&[""])),
        row("absolute, Host in another case", "GET HTTP://A/b HTTP/1.1\r\nHost: a\r\n\r\n", Bodies(&[""])),
        row("absolute, without a path", "GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", Bodies(&[""])),
        row("absolute, another Host", "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", Refused(HostDiffers, 0)),
        row("absolute, with a user", "GET http://u@a/ HTTP/1.1\r\nHost: u@a\r\n\r\n", Refused(Host, 0)),
        row("absolute, without a host", "GET http:/// HTTP/1.1\r\nHost: a\r\n\r\n", Refused(Target, 0)),
        row("another scheme", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Refused(Target, 0)),

        // Host
        row("no Host", "GET / HTTP/1.1\r\nX: y\r\n\r\n", Refused(NoHost, 0)),
        row("empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", Bodies(&[""])),
        row("two Hosts", &get("Host: b\r\n"), Refused(HostTwice, 0)),
        row("two equal Hosts", &get("Host: a\r\n"), Refused(HostTwice, 0)),
        row("list of Hosts", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", Refused(Host, 0)),
        row("Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Refused(Host, 0)),
        row("Host with a user", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", Refused(Host, 0)),
        row("Host with a port", "GET / HTTP/1.1\r\nHost: a:8080\r\n\r\n", Bodies(&[""])),
        row("Host with a word for a port", "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", Refused(Host, 0)),
        row("Host with two ports", "GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n", Refused(Host, 0)),
        row("Host in brackets", "GET / HTTP/1.1\r\nHost: [fd00::1]:80\r\n\r\n", Bodies(&[""])),
        row("Host in one bracket", "GET / HTTP/1.1\r\nHost: [fd00::1\r\n\r\n", Refused(Host, 0)),

        // Fields
        row("space before the colon", &get("X-A : b\r\n"), Refused(Field, 0)),
        row("tab before the colon", &post("Content-Length\t: 5\r\n", "hello"), Refused(Field, 0)),
        row("space before the colon of a coding", &post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), Refused(Field, 0)),
        row("no colon", &get("X\r\n"), Refused(Field, 0)),
        row("no name", &get(": b\r\n"), Refused(Field, 0)),
        row("bytes that no name has", &get("X{}A: b\r\n"), Refused(Field, 0)),
        row("bytes above ASCII in a name", &get("X\u{e9}: b\r\n"), Refused(Field, 0)),
        row("DEL in a value", &get("X: \x7f\r\n"), Refused(Field, 0)),
        row("control byte in a value", &get("X: \x01\r\n"), Refused(Field, 0)),
        row("vertical tab before a coding", &post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"), Refused(Field, 0)),

        // Lengths
        row("empty length", &post("Content-Length:\r\n", "hello"), Refused(Length, 0)),
        row("signed length", &post("Content-Length: +5\r\n", "hello"), Refused(Length, 0)),
        row("negative length", &post("Content-Length: -5\r\n", "hello"), Refused(Length, 0)),
        row("length in hex", &post("Content-Length: 0x5\r\n", "hello"), Refused(Length, 0)),
        row("list of lengths", &post("Content-Length: 5, 5\r\n", "hello"), Refused(Length, 0)),
        row("length with a space inside", &post("Content-Length: 1 1\r\n", "hello"), Refused(Length, 0)),
        row("length beyond 64 bits", &post("Content-Length: 18446744073709551621\r\n", "hello"), Refused(Length, 0)),
        row("two lengths", &post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"), Refused(LengthTwice, 0)),
        row("two equal lengths", &post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), Refused(LengthTwice, 0)),
        row("CL.TE", &post("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nG"), Refused(LengthAndCoding, 0)),
        row("TE.CL", &post("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "8\r\nSMUGGLED\r\n0\r\n\r\n"), Refused(LengthAndCoding, 0)),
        row("CL.0 with a coding", &post("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", "0\r\n\r\n"), Refused(LengthAndCoding, 0)),

        // Codings
        row("chunked", &chunked("5\r\nhello\r\n0\r\n\r\n"), Bodies(&["hello"])),
        row("chunked, then another", &(chunked("5\r\nhello\r\n0\r\n\r\n") + &get("")), Bodies(&["hello", ""])),
        row("CHUNKED", &post("Transfer-Encoding: CHUNKED\r\n", "0\r\n\r\n"), Bodies(&[""])),
        row("xchunked", &post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), Refused(Coding, 0)),
        row("chunked, identity", &post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"), Refused(Coding, 0)),
        row("identity", &post("Transfer-Encoding: identity\r\n", ""), Refused(Coding, 0)),
        row("chunked twice", &post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"), Refused(Coding, 0)),
        row("two codings", &post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"), Refused(Coding, 0)),
        row("two codings, the other way", &post("Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), Refused(Coding, 0)),
        row("quoted coding", &post("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n"), Refused(Coding, 0)),
        row("empty coding", &post("Transfer-Encoding:\r\n", ""), Refused(Coding, 0)),
        row("gzip, chunked", &post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), Refused(UnknownCoding, 0)),
        row("coding in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refused(CodingInHttp10, 0)),

        // Chunks
        row("many chunks", &chunked("1\r\na\r\n2\r\nbc\r\nA\r\n0123456789\r\n0\r\n\r\n"), Bodies(&["abc0123456789"])),
        row("extension", &chunked("5;a=b\r\nhello\r\n0;c\r\n\r\n"), Bodies(&["hello"])),
        row("quoted extension", &chunked("5;a=\"b\"\r\nhello\r\n0\r\n\r\n"), Bodies(&["hello"])),
        row("space after a size", &chunked("5 \r\nhello\r\n0\r\n\r\n"), Bodies(&["hello"])),
        row("zeroes before a size", &chunked("0005\r\nhello\r\n000\r\n\r\n"), Bodies(&["hello"])),
        row("LF alone after a size", &chunked("5\nhello\r\n0\r\n\r\n"), Refused(Chunk, 0)),
        row("LF alone in an extension", &chunked("5;a\nhello\r\n0\r\n\r\n"), Refused(Chunk, 0)),
        row("CR alone in an extension", &chunked("5;a\rb\r\nhello\r\n0\r\n\r\n"), Refused(Chunk, 0)),
        row("LF alone after data", &chunked("5\r\nhello\n0\r\n\r\n"), Refused(Chunk, 0)),
        row("nothing after data", &chunked("5\r\nhello0\r\n\r\n"), Refused(Chunk, 0)),
        row("data longer than its size", &chunked("5\r\nhello!\r\n0\r\n\r\n"), Refused(Chunk, 0)),
        row("empty size", &chunked("\r\nhello\r\n0\r\n\r\n"), Refused(Chunk, 0)),
        row("size with a sign", &chunked("+5\r\nhello\r\n0\r\n\r\n"), Refused(Chunk, 0)),
        row("size with 0x", &chunked("0x5\r\nhello\r\n0\r\n\r\n"), Refused(Chunk, 0)),
        row("space before a size", &chunked(" 5\r\nhello\r\n0\r\n\r\n"), Refused(Chunk, 0)),
        row("size beyond 60 bits", &chunked("ffffffffffffffff\r\nhello\r\n0\r\n\r\n"), Refused(Chunk, 0)),
        row("size that wraps to 5", &chunked("10000000000000005\r\nhello\r\n0\r\n\r\n"), Refused(Chunk, 0)),
        row("LF alone at the end", &chunked("0\r\n\n"), Refused(Trailers, 0)),
        row("no end", &chunked("5\r\nhello\r\n0\r\n"), Partial),

        // Trailers
        row("trailers", &chunked("5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n"), Bodies(&["hello"])),
        row("length in trailers", &chunked("0\r\nContent-Length: 5\r\n\r\n"), Refused(Trailers, 0)),
        row("coding in trailers", &chunked("0\r\nTransfer-Encoding: chunked\r\n\r\n"), Refused(Trailers, 0)),
        row("Host in trailers", &chunked("0\r\nHost: b\r\n\r\n"), Refused(Trailers, 0)),
        row("client's address in trailers", &chunked("0\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n"), Refused(Trailers, 0)),
        row("LF alone in trailers", &chunked("0\r\nX: y\n\r\n"), Refused(Trailers, 0)),
        row("CR alone in trailers", &chunked("0\r\nX: y\rz\r\n\r\n"), Refused(Trailers, 0)),
        row("folded trailers", &chunked("0\r\nX: y\r\n z\r\n\r\n"), Refused(Trailers, 0)),
        row("NUL in trailers", &chunked("0\r\nX: \0\r\n\r\n"), Refused(Trailers, 0)),

        // Connection
        row("too many named fields", &get(&format!("Connection: {}\r\n", "a,".repeat(17))), Refused(Connection, 0)),
        row("a broken one after a whole one", &(get("") + "GET /\n"), Refused(BareLf, 1)),
        row("what is left of a body is a request", &(post("Content-Length: 3\r\n", "abcG") + "ET / HTTP/1.1\r\nHost: a\r\n\r\n"), Bodies(&["abc", ""])),
    ]
}

/// With the method that is answered.
#[rustfmt::skip]
pub fn responses() -> Vec<(&'static str, Row)> {
    let ok = |rest: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{rest}\r\n{body}");
    vec![
        ("GET", row("length", &ok("Content-Length: 5\r\n", "hello"), Bodies(&["hello"]))),
        ("GET", row("chunked", &ok("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"), Bodies(&["hello"]))),
        ("GET", row("until the end", &ok("", "hello"), Partial)),
        ("HEAD", row("no body for HEAD", &ok("Content-Length: 5\r\n", ""), Bodies(&[""]))),
        ("GET", row("no body for 204", "HTTP/1.1 204 No Content\r\n\r\n", Bodies(&[""]))),
        ("GET", row("no body for 304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Bodies(&[""]))),
        ("GET", row("interim before final", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", Bodies(&["", ""]))),
        ("GET", row("no phrase", "HTTP/1.1 204 \r\n\r\n", Bodies(&[""]))),
        ("GET", row("no space for a phrase", "HTTP/1.1 204\r\n\r\n", Bodies(&[""]))),
        ("GET", row("LF alone", "HTTP/1.1 204 No Content\n\n", Refused(BareLf, 0))),
        ("GET", row("folded", &ok("X: a\r\n b\r\n", ""), Refused(Folded, 0))),
        ("GET", row("NUL", &ok("X: \0\r\n", ""), Refused(Nul, 0))),
        ("GET", row("length and coding", &ok("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", ""), Refused(LengthAndCoding, 0))),
        ("GET", row("two lengths", &ok("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"), Refused(LengthTwice, 0))),
        ("GET", row("space before the colon", &ok("X : y\r\n", ""), Refused(Field, 0))),
        ("GET", row("HTTP/2", "HTTP/2 200 OK\r\n\r\n", Refused(Version, 0))),
        ("GET", row("status of two digits", "HTTP/1.1 20 OK\r\n\r\n", Refused(StartLine, 0))),
        ("GET", row("status below 100", "HTTP/1.1 099 No\r\n\r\n", Refused(StartLine, 0))),
    ]
}

//! The values of fields: text with places that are filled in for each message. A part of HAProxy's format language:
//! `%[req.hdr(Name)]`, `%[res.hdr(Name)]` and `%[ssl_c_der]`, each with `,lower` and `,base64` after it and flags like
//! `%{+Q}` before; `%%` is a percent sign.

use base64::{Engine, prelude::BASE64_STANDARD};
use std::{borrow::Cow, fmt, sync::Arc};

/// A value, read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

/// Which messages a value is for: responses have fields of their own to speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `req.hdr`.
    Request,
    /// `res.hdr`.
    Response,
}

/// What a value can speak of: one message and its connection.
pub trait Fields {
    /// The value of the last field of this name (compared without regard to case) of the message that is changed.
    fn last(&self, name: &str) -> Option<&[u8]>;
    /// The client's certificate, DER.
    fn client_certificate(&self) -> Option<&[u8]>;
}

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at character {at} of {text:?}")]
pub struct TemplateFault {
    text: String,
    /// Counted from 1.
    at: usize,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Arc<str>),
    Place { sample: Sample, converters: Vec<Converter>, flags: Flags },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Sample {
    Header(Arc<str>),
    ClientCertificate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Converter {
    Lower,
    Base64,
}

/// `Q` puts the value in quotes; `E` puts a backslash before `"`, `\` and `]`; `X` (hexadecimal) changes nothing of text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Flags {
    quote: bool,
    escape: bool,
}

/// The most characters of a value.
const MAX_VALUE: usize = 16_384;

// === impl Template ===

impl Template {
    /// Reads a value.
    pub fn parse(text: &str, direction: Direction) -> Result<Self, TemplateFault> {
        let mut parser = Parser { text, at: 0, direction };
        parser.template().map_err(|reason| TemplateFault {
            text: text.chars().take(64).collect(),
            at: text[..parser.at].chars().count() + 1,
            reason,
        })
    }

    /// The value for a message. Bytes that a field cannot have (controls: what fills a place comes from outside) are
    /// left out.
    pub fn render(&self, fields: &impl Fields) -> Vec<u8> {
        let mut value = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => value.extend_from_slice(text.as_bytes()),
                Part::Place { sample, converters, flags } => {
                    let mut sample = match sample {
                        Sample::Header(name) => fields.last(name).map(last_of_list).unwrap_or_default().into(),
                        Sample::ClientCertificate => Cow::from(fields.client_certificate().unwrap_or_default()),
                    };
                    for converter in converters {
                        sample = converter.apply(sample);
                    }
                    flags.write(&sample, &mut value);
                }
            }
        }
        value.retain(|byte| *byte == b'\t' || !byte.is_ascii_control());
        value
    }

    /// The value, if it is the same for all messages.
    pub fn fixed(&self) -> Option<&str> {
        match &self.parts[..] {
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }
}

/// The last of a field's comma-separated values; commas in quotes do not count.
fn last_of_list(value: &[u8]) -> &[u8] {
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    for (index, byte) in value.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => start = index + 1,
            _ => {}
        }
    }
    value[start..].trim_ascii()
}

impl Converter {
    fn apply(self, sample: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
        match self {
            Self::Lower => sample.to_ascii_lowercase().into(),
            Self::Base64 => BASE64_STANDARD.encode(&sample).into_bytes().into(),
        }
    }
}

impl Flags {
    fn write(self, sample: &[u8], value: &mut Vec<u8>) {
        if self.quote {
            value.push(b'"');
        }
        for byte in sample {
            if self.escape && matches!(byte, b'"' | b'\\' | b']') {
                value.push(b'\\');
            }
            value.push(*byte);
        }
        if self.quote {
            value.push(b'"');
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    direction: Direction,
}

// === impl Parser ===

impl<'a> Parser<'a> {
    fn template(&mut self) -> Result<Template, &'static str> {
        if self.text.is_empty() {
            return Err("the value is empty");
        }
        if self.text.len() > MAX_VALUE {
            return Err("the value has more than 16384 characters");
        }
        let (mut parts, mut literal) = (Vec::new(), String::new());
        while let Some(character) = self.rest().chars().next() {
            if character.is_control() {
                return Err("a control character");
            }
            if character != '%' {
                literal.push(character);
                self.at += character.len_utf8();
            } else if self.takes("%%") {
                literal.push('%');
            } else {
                if !literal.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut literal).into()));
                }
                parts.push(self.place()?);
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal.into()));
        }
        Ok(Template { parts })
    }

    fn place(&mut self) -> Result<Part, &'static str> {
        self.takes("%");
        let flags = if self.takes("{") { self.flags()? } else { Flags::default() };
        if !self.takes("[") {
            return Err("after % comes %, [ or {flags}[");
        }
        let sample = self.sample()?;
        let mut converters = Vec::new();
        loop {
            if self.takes("]") {
                return Ok(Part::Place { sample, converters, flags });
            }
            converters.push(match () {
                () if self.takes(",lower") => Converter::Lower,
                () if self.takes(",base64") => Converter::Base64,
                () => return Err("here can be ], ,lower or ,base64"),
            });
        }
    }

    fn flags(&mut self) -> Result<Flags, &'static str> {
        let mut flags = Flags::default();
        loop {
            let is_on = !self.takes("-");
            if is_on {
                self.takes("+");
            }
            match () {
                () if self.takes("Q") => flags.quote = is_on,
                () if self.takes("E") => flags.escape = is_on,
                () if self.takes("X") => {}
                () => return Err("the flags are Q, X and E, with + or - before"),
            }
            if self.takes("}") {
                return Ok(flags);
            }
            if !self.takes(",") {
                return Err("flags are parted by commas and end with }");
            }
        }
    }

    fn sample(&mut self) -> Result<Sample, &'static str> {
        if self.takes("ssl_c_der") {
            return Ok(Sample::ClientCertificate);
        }
        let is_known = match self.direction {
            Direction::Request => self.takes("req.hdr("),
            Direction::Response => self.takes("res.hdr("),
        };
        if !is_known {
            return Err(match self.direction {
                Direction::Request => "a request's value can have req.hdr(name) and ssl_c_der",
                Direction::Response => "a response's value can have res.hdr(name) and ssl_c_der",
            });
        }
        let rest: &'a str = self.rest();
        let end = rest.find(|character: char| !character.is_ascii_alphanumeric() && character != '-');
        let name = &rest[..end.unwrap_or(rest.len())];
        if name.is_empty() {
            return Err("the name of a field is missing");
        }
        self.at += name.len();
        if !self.takes(")") {
            return Err("the name of a field is letters, digits and -, and ends with )");
        }
        Ok(Sample::Header(name.into()))
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn takes(&mut self, token: &str) -> bool {
        let begins = self.rest().starts_with(token);
        if begins {
            self.at += token.len();
        }
        begins
    }
}

// === impl Direction ===

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "request",
            Self::Response => "response",
        })
    }
}

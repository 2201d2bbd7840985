//! A file's bytes into its documents, each as JSON. Documents are told apart before they are parsed, so that one that
//! is broken takes no other with it.

use super::yaml;
use crate::model;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// What is looked at behind broken JSON documents, in bytes over all of them: each may make us read to the end of the
/// file.
const MAX_JSON_EFFORT: usize = 1 << 30;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// YAML documents between `---` lines; a document may be JSON, or several of JSON one after the other.
    Yaml,
    /// JSON documents one after the other.
    Json,
}

/// One document.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Document<'a> {
    /// The file's line on which `json` begins.
    pub line: usize,
    /// The document as JSON, tokens on the lines they have in the file.
    pub json: Cow<'a, str>,
}

/// A document that cannot be read at all.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken {
    /// The file's line.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// Calls `each` for every document of a file that is not empty, in their order.
pub(super) fn for_each<'a>(bytes: &'a [u8], format: Format, each: &mut dyn FnMut(Result<Document<'a>, Broken>)) {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let chunks = match format {
        Format::Yaml => chunks(bytes),
        Format::Json => vec![Chunk { line: 1, bytes }],
    };
    for Chunk { line, bytes } in chunks {
        match (std::str::from_utf8(bytes), format) {
            (Ok(text), Format::Yaml) => yaml_document(text, line, each),
            (Ok(text), Format::Json) => json_documents(text, line, each),
            (Err(error), _) => {
                let line = line + count_lines(&bytes[..error.valid_up_to()]);
                each(Err(Broken { line, message: "not UTF-8".to_owned() }));
            }
        }
    }
}

/// What stands between two `---` lines.
struct Chunk<'a> {
    line: usize,
    bytes: &'a [u8],
}

/// Splits at the lines that begin or end a document. YAML allows `---` and `...` at the beginning of a line nowhere
/// else.
fn chunks(bytes: &[u8]) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let (mut begin, mut begin_line, mut offset) = (0, 1, 0);
    // Directives (%YAML, %TAG) stand before the `---` of their own document.
    let (mut directives, mut content) = (false, false);
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let number = index + 1;
        let end = offset + line.len();
        match line {
            _ if is_marker(line, b"---") => {
                if !directives || content {
                    chunks.push(Chunk { line: begin_line, bytes: &bytes[begin..offset] });
                    (begin, begin_line) = (offset, number);
                }
                (directives, content) = (false, true);
            }
            _ if is_marker(line, b"...") => {
                chunks.push(Chunk { line: begin_line, bytes: &bytes[begin..offset] });
                (begin, begin_line) = (end, number + 1);
                (directives, content) = (false, false);
            }
            [b'%', ..] if !content => directives = true,
            [b'#' | b'\n' | b'\r', ..] => {}
            _ => content = true,
        }
        offset = end;
    }
    chunks.push(Chunk { line: begin_line, bytes: &bytes[begin..] });
    chunks
}

fn is_marker(line: &[u8], marker: &[u8]) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.first().is_none_or(u8::is_ascii_whitespace))
}

fn yaml_document<'a>(text: &'a str, line: usize, each: &mut dyn FnMut(Result<Document<'a>, Broken>)) {
    // What looks like JSON may be several documents of it, which YAML does not know, or the flow style of YAML.
    let body = text.strip_prefix("---").unwrap_or(text);
    let looks_like_json = body.trim_start().starts_with('{');
    if looks_like_json && json_stream(body).is_ok() {
        return json_documents(body, line, each);
    }
    match yaml::to_json(text) {
        Ok(None) => {}
        Ok(Some(json)) => each(Ok(document(Cow::Owned(json), line))),
        Err(_) if looks_like_json => json_documents(body, line, each),
        Err(error) => {
            // The parser may say that the end is a line behind the last one.
            let within = (error.line - 1).min(count_lines(text.trim_end().as_bytes()));
            each(Err(Broken { line: line + within, message: error.message }));
        }
    }
}

fn json_stream(text: &str) -> Result<(), serde_json::Error> {
    serde_json::Deserializer::from_str(text).into_iter::<&RawValue>().try_for_each(|document| document.map(drop))
}

/// After a broken document it goes on at the next line that begins with `{`: inside a document no line usually does.
fn json_documents<'a>(text: &'a str, line: usize, each: &mut dyn FnMut(Result<Document<'a>, Broken>)) {
    let mut rest = text;
    let mut line = line;
    let mut effort = MAX_JSON_EFFORT;
    while let Some(skip) = rest.find(|c: char| !c.is_ascii_whitespace()) {
        line += count_lines(&rest.as_bytes()[..skip]);
        rest = &rest[skip..];
        let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<&'a RawValue>();
        let end = match stream.next() {
            Some(Ok(raw)) => {
                if raw.get() != "null" {
                    each(Ok(Document { line, json: Cow::Borrowed(raw.get()) }));
                }
                stream.byte_offset()
            }
            Some(Err(error)) => {
                let message = format!("not JSON: {}", model::message(&error));
                each(Err(Broken { line: line + error.line().max(1) - 1, message }));
                effort = effort.saturating_sub(rest.len());
                let next = if effort > 0 { rest.find("\n{") } else { None };
                next.map_or(rest.len(), |end| end + 1)
            }
            None => rest.len(),
        };
        line += count_lines(&rest.as_bytes()[..end]);
        rest = &rest[end..];
    }
}

/// Lines above the first token belong to the file, not to the object.
fn document(json: Cow<'_, str>, line: usize) -> Document<'_> {
    let blank = json.len() - json.trim_start_matches('\n').len();
    match json {
        Cow::Borrowed(json) => Document { line: line + blank, json: Cow::Borrowed(&json[blank..]) },
        Cow::Owned(mut json) => {
            json.drain(..blank);
            Document { line: line + blank, json: Cow::Owned(json) }
        }
    }
}

/// How many lines end in `bytes`.
pub(super) fn count_lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each document as "line json" or "line !message".
    fn documents(bytes: &[u8], format: Format) -> Vec<String> {
        let mut all = Vec::new();
        for_each(bytes, format, &mut |document| {
            all.push(match document {
                Ok(document) => format!("{} {}", document.line, document.json.replace('\n', "")),
                Err(broken) => format!("{} !{}", broken.line, broken.message),
            });
        });
        all
    }

    #[test]
    fn files_split_into_documents() {
        use Format::{Json, Yaml};
        let rows: &[(&str, Format, &[&str])] = &[
            ("", Yaml, &[]),
            ("# nothing\n---\n---\n# here\n", Yaml, &[]),
            ("a: 1\n---\nb: 2\n", Yaml, &["1 {\"a\":1}", "3 {\"b\":2}"]),
            ("# licence\n\n---\n\na: 1\n--- # next\nb: 2", Yaml, &["5 {\"a\":1}", "7 {\"b\":2}"]),
            ("--- {a: 1}\n---\n[1]\n", Yaml, &["1 {\"a\":1}", "3 [1]"]),
            ("a: |\n  ---\n  x\n---\nb: 1", Yaml, &["1 {\"a\":\"---\\nx\\n\"}", "5 {\"b\":1}"]),
            ("a: ---x\n---x: 1\n", Yaml, &["1 {\"a\":\"---x\",\"---x\":1}"]),
            ("%YAML 1.2\n---\na: 1\n", Yaml, &["3 {\"a\":1}"]),
            ("a: 1\n...\n%YAML 1.2\n---\nb: 1\n...\n", Yaml, &["1 {\"a\":1}", "5 {\"b\":1}"]),
            ("a: 1\r\n---\r\nb: 2\r\n", Yaml, &["1 {\"a\":1}", "3 {\"b\":2}"]),
            ("\u{feff}a: 1\n", Yaml, &["1 {\"a\":1}"]),
            ("{\"a\":1}\n{\"b\":2}\n---\n{c: 3}", Yaml, &["1 {\"a\":1}", "2 {\"b\":2}", "4 {\"c\":3}"]),
            ("---\n{\"a\":\n1}\n", Yaml, &["2 {\"a\":1}"]),
            ("{\"a\":1} {\"b\":2}\n\n{\n\"c\":3}null", Json, &["1 {\"a\":1}", "1 {\"b\":2}", "3 {\"c\":3}"]),
            (
                "{\"a\":1}\n{\"b\":\n{\"c\":3}\n{\"d\":4}",
                Json,
                &["1 {\"a\":1}", "4 !not JSON: expected `,` or `}`", "3 {\"c\":3}", "4 {\"d\":4}"],
            ),
            ("{\"a\":1}\n{\"b\" 2}\n{\"c\":3}\n", Yaml, &["1 {\"a\":1}", "2 !not JSON: expected `:`", "3 {\"c\":3}"]),
            ("a: 1", Json, &["1 !not JSON: expected value"]),
        ];
        for (text, format, expected) in rows {
            assert_eq!(documents(text.as_bytes(), *format), *expected, "{text:?}");
        }
    }

    #[test]
    fn a_broken_document_takes_no_other_with_it() {
        let text = b"a: 1\n---\nb: [1\n---\nc: 3\n---\nd: \xff\n---\ne:\n f: 1\n  g: 2\n---\nh: 8\n";
        let all = documents(text, Format::Yaml);
        assert_eq!(all.len(), 6, "{all:?}");
        assert_eq!([&all[0], &all[2], &all[5]], ["1 {\"a\":1}", "5 {\"c\":3}", "13 {\"h\":8}"]);
        assert!(all[1].starts_with("3 !not YAML") || all[1].starts_with("4 !not YAML"), "{}", all[1]);
        assert_eq!(all[3], "7 !not UTF-8");
        assert!(all[4].starts_with("11 !not YAML"), "{}", all[4]);
    }
}

//! Changes to heads that are written already, for routes that want any: line by line, in the order of the actions, each
//! seeing what those before it did.

use crate::{
    config::HeaderCase,
    headers::{Action, Template},
};

/// What values of actions can speak of besides the head.
pub(crate) struct Scene<'a> {
    /// The client's certificate, DER.
    pub client_certificate: Option<&'a [u8]>,
}

struct Fields<'a> {
    /// First line and fields, without the empty line.
    head: &'a [u8],
    scene: &'a Scene<'a>,
}

/// Carries out actions on the head in `out`, which has its first line and fields.
pub(crate) fn act(out: &mut Vec<u8>, actions: &[Action], scene: &Scene<'_>) {
    for action in actions {
        match action {
            Action::Set { name, value } => {
                let value = render(value, out, scene);
                remove(out, name.as_bytes());
                crate::http1::field(out, name.as_bytes(), &value);
            }
            Action::Delete { name } => remove(out, name.as_bytes()),
        }
    }
}

fn render(value: &Template, head: &[u8], scene: &Scene<'_>) -> Vec<u8> {
    match value.fixed() {
        Some(text) => text.as_bytes().to_vec(),
        None => value.render(&Fields { head, scene }),
    }
}

/// Takes all fields of this name out.
pub(crate) fn remove(head: &mut Vec<u8>, name: &[u8]) {
    let mut at = next_line(head, 0);
    while at < head.len() {
        let next = next_line(head, at);
        if named(&head[at..next]).is_some_and(|(found, _)| found.eq_ignore_ascii_case(name)) {
            head.drain(at..next);
        } else {
            at = next;
        }
    }
}

/// Writes names as some clients and servers need them.
pub(crate) fn adjust_case(head: &mut [u8], cases: &[HeaderCase]) {
    let mut at = if cases.is_empty() { head.len() } else { next_line(head, 0) };
    while at < head.len() {
        let next = next_line(head, at);
        let length = named(&head[at..next]).map_or(0, |(name, _)| name.len());
        let name = &mut head[at..at + length];
        if let Some(case) = cases.iter().find(|case| name.eq_ignore_ascii_case(case.name.as_bytes())) {
            name.copy_from_slice(case.written.as_bytes());
        }
        at = next;
    }
}

fn next_line(head: &[u8], at: usize) -> usize {
    memchr::memchr(b'\n', &head[at..]).map_or(head.len(), |end| at + end + 1)
}

/// A line's name and value.
fn named(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    Some((&line[..colon], line[colon + 1..].trim_ascii()))
}

// === impl Fields ===

impl crate::headers::Fields for Fields<'_> {
    fn last(&self, name: &str) -> Option<&[u8]> {
        let lines = self.head.split(|byte| *byte == b'\n').skip(1);
        let named = lines.filter_map(named).filter(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()));
        named.last().map(|(_, value)| value)
    }

    fn client_certificate(&self) -> Option<&[u8]> {
        self.scene.client_certificate
    }
}

//! The annotation rewrite-target: what pods are asked for instead of the route's path.
//!
//! The value went through HAProxy's configuration once, unquoted, so that `#`, quotes, `%` and `\` had meanings of their
//! own there. They still have them.

use std::sync::Arc;

/// A route's path, and what takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The route's path, as it was written.
    path: Arc<str>,
    /// For the target `/` one slash after the path goes, too: `/app/x` is to be `/x`, not `//x`.
    takes_slash: bool,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// `\0`: the request's whole path.
    Whole,
    /// `\1`: what follows the route's path.
    Rest,
}

// === impl Rewrite ===

impl Rewrite {
    /// Reads the target for a route of this path; `None` when it does not begin with a slash, or has more than a line.
    pub fn parse(target: &str, path: &Arc<str>) -> Option<Self> {
        if !target.starts_with('/') || target.contains('\n') {
            return None;
        }
        Some(Self { path: path.clone(), takes_slash: target == "/", parts: parts(&sanitize(target)) })
    }

    /// What a pod is asked for instead of `path`, which is without its query and one that the route serves.
    pub fn apply(&self, path: &str) -> String {
        let Some(rest) = path.strip_prefix(&*self.path) else { return path.to_owned() };
        let rest = if self.takes_slash { rest.strip_prefix('/').unwrap_or(rest) } else { rest };
        self.parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.as_str(),
                Part::Whole => path,
                Part::Rest => rest,
            })
            .collect()
    }
}

/// The target as HAProxy would be given it, with `\1` for the rest of the path at its end.
fn sanitize(target: &str) -> String {
    let (target, is_cut) = cut_comment(target);
    let target = strip_quotes(&strip_quotes(&target, '"'), '\'');
    let target = runs(&target, '%', |length| if length % 2 == 1 { length } else { length / 2 });
    // Single ones go; of a longer run each pair is one, and an odd one at its end stays.
    let target = runs(&target, '\\', |length| if length == 1 { 0 } else { length.div_ceil(2) });
    if is_cut { target } else { target + "\\1" }
}

/// What is before the first `#` that has no backslash before it, and whether there was one.
fn cut_comment(text: &str) -> (String, bool) {
    let mut escaped = false;
    for (index, character) in text.char_indices() {
        if character == '#' && !escaped {
            return (text[..index].to_owned(), true);
        }
        escaped = character == '\\' && !escaped;
    }
    (text.to_owned(), false)
}

/// Without the quotes that have no backslash before them. A single quote that has one loses it: it would not survive the
/// quotes that HAProxy is given.
fn strip_quotes(text: &str, quote: char) -> String {
    let (mut stripped, mut escaped) = (String::with_capacity(text.len()), false);
    for character in text.chars() {
        if character == quote && !escaped {
            continue;
        }
        stripped.push(character);
        escaped = character == '\\' && !escaped;
    }
    stripped
}

/// Every run of `character` with the length that `length` gives it.
fn runs(text: &str, character: char, length: impl Fn(usize) -> usize) -> String {
    let (mut result, mut run) = (String::with_capacity(text.len()), 0);
    for next in text.chars().map(Some).chain([None]) {
        if next == Some(character) {
            run += 1;
            continue;
        }
        result.extend(std::iter::repeat_n(character, if run > 0 { length(run) } else { 0 }));
        run = 0;
        result.extend(next);
    }
    result
}

/// What HAProxy makes of `\0` to `\9` (there is one group, so that from 2 on they are nothing) and of other escapes.
/// What a path cannot have is written as `%` and its code.
fn parts(text: &str) -> Vec<Part> {
    let (mut parts, mut literal) = (Vec::new(), String::new());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let reference = match character {
            '\\' => characters.next().ok_or(None),
            other => Err(Some(other)),
        };
        let group = match reference {
            Ok('0') => Part::Whole,
            Ok('1') => Part::Rest,
            Ok('2'..='9') => continue,
            Ok(other) | Err(Some(other)) => {
                push(&mut literal, other);
                continue;
            }
            Err(None) => break,
        };
        parts.extend((!literal.is_empty()).then(|| Part::Text(std::mem::take(&mut literal))));
        parts.push(group);
    }
    parts.extend((!literal.is_empty()).then_some(Part::Text(literal)));
    parts
}

fn push(literal: &mut String, character: char) {
    if character.is_ascii_graphic() && character != '#' {
        literal.push(character);
        return;
    }
    for byte in character.encode_utf8(&mut [0; 4]).bytes() {
        literal.push_str(&format!("%{byte:02X}"));
    }
}

#[cfg(test)]
mod tests;

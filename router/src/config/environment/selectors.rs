//! Selectors as they are written on a command line.

use sdn_cluster::model::{LabelExpression, LabelOperator, LabelSelector};
use std::collections::BTreeSet;

/// Labels: `a=b`, `a==b`, `a!=b`, `a in (b, c)`, `a notin (b, c)`, `a` and `!a`, parted by commas; all must hold.
pub(super) fn labels(text: &str) -> Result<LabelSelector, String> {
    let mut selector = LabelSelector::default();
    for requirement in requirements(text) {
        let fault =
            || format!("{requirement:?} is not a requirement like a=b, a!=b, a in (b,c), a notin (b,c), a or !a");
        let (key, operator) = requirement_of(requirement).ok_or_else(fault)?;
        selector.expressions.push(LabelExpression { key: key.to_owned(), operator });
    }
    Ok(selector)
}

/// Fields: `metadata.name=a` and `metadata.namespace!=b`, parted by commas; all must hold.
pub(super) fn fields(text: &str) -> Result<Vec<(String, String, bool)>, String> {
    let mut fields = Vec::new();
    for requirement in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (field, value, wanted) =
            comparison(requirement).ok_or_else(|| format!("{requirement:?} is not field=value"))?;
        if field != "metadata.name" && field != "metadata.namespace" {
            return Err(format!("{field:?} cannot be selected by: metadata.name and metadata.namespace can"));
        }
        fields.push((field.to_owned(), value.to_owned(), wanted));
    }
    Ok(fields)
}

/// Parted by the commas that are in no parentheses.
fn requirements(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_i32);
    for (index, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn requirement_of(text: &str) -> Option<(&str, LabelOperator)> {
    let single = |value: &str| BTreeSet::from([value.to_owned()]);
    if let Some((key, value, wanted)) = comparison(text) {
        let operator = if wanted { LabelOperator::In(single(value)) } else { LabelOperator::NotIn(single(value)) };
        return is_key(key).then_some((key, operator));
    }
    if let Some(key) = text.strip_prefix('!').map(str::trim) {
        return is_key(key).then_some((key, LabelOperator::DoesNotExist));
    }
    let Some((key, rest)) = text.split_once(char::is_whitespace) else {
        return is_key(text).then_some((text, LabelOperator::Exists));
    };
    let rest = rest.trim_start();
    let word = rest.find(['(', ' ']).map_or(rest, |end| &rest[..end]);
    let values = rest[word.len()..].trim().strip_prefix('(')?.strip_suffix(')')?;
    let values = values.split(',').map(|value| value.trim().to_owned()).collect();
    let operator = match word {
        "in" => LabelOperator::In(values),
        "notin" => LabelOperator::NotIn(values),
        _ => return None,
    };
    is_key(key).then_some((key, operator))
}

fn comparison(text: &str) -> Option<(&str, &str, bool)> {
    let at = text.find(['=', '!']).filter(|at| *at > 0)?;
    let (key, rest) = text.split_at(at);
    let (value, wanted) = match rest.strip_prefix("!=") {
        Some(value) => (value, false),
        None => (rest.strip_prefix("==").or_else(|| rest.strip_prefix('='))?, true),
    };
    (!value.contains(['=', '!', '('])).then_some((key.trim(), value.trim(), wanted))
}

fn is_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte))
}

//! Variables that are lists.

use crate::{
    config::{Capture, CaptureCookie, CookieMatch, HeaderCase},
    headers::{self, Action, Direction, Template},
};
use std::sync::Arc;

/// Texts parted by commas.
pub(super) fn texts(list: &str) -> Vec<Arc<str>> {
    list.split(',').map(str::trim).filter(|text| !text.is_empty()).map(Arc::from).collect()
}

/// Texts parted by any of `separators`.
pub(super) fn parted(list: &str, separators: &[char]) -> Vec<String> {
    list.split(separators).map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

/// `name:value:Set` and `name:Delete`, parted by commas, each part encoded as in the query of a URL.
pub(super) fn actions(list: &str, direction: Direction) -> Result<Vec<Action>, String> {
    list.split(',').map(|entry| action(entry, direction)).collect()
}

fn action(entry: &str, direction: Direction) -> Result<Action, String> {
    let parts = entry.split(':').map(decode).collect::<Option<Vec<_>>>();
    let parts = parts.ok_or_else(|| format!("{entry:?} is not encoded as in the query of a URL"))?;
    let (name, value) = match &parts[..] {
        [name, value, action] if action == "Set" => (name, Some(value)),
        [name, action] if action == "Delete" => (name, None),
        _ => return Err(format!("{entry:?} is neither name:value:Set nor name:Delete")),
    };
    if let Some(reason) = headers::refusal(name) {
        return Err(format!("{name:?} {reason}"));
    }
    let name = Arc::from(name.as_str());
    let Some(value) = value else { return Ok(Action::Delete { name }) };
    // The reference writes values into its configuration in single quotes if there are none yet.
    let quoted = value.strip_prefix('\'').and_then(|value| value.strip_suffix('\''));
    let bare = quoted.map_or_else(|| value.clone(), |quoted| quoted.replace("'\\''", "'"));
    let value = Template::parse(&bare, direction).map_err(|error| error.to_string())?;
    Ok(Action::Set { name, value })
}

/// Percent codes, and `+` for blanks.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// `name:length`, parted by commas.
pub(super) fn captures(list: &str) -> Result<Vec<Capture>, String> {
    list.split(',')
        .map(|entry| {
            let (name, length) = named_length(entry)?;
            Ok(Capture { name: name.into(), length })
        })
        .collect()
}

/// `name=:length` for the cookie of this name, `name:length` for the first whose name begins like this.
pub(super) fn cookie(text: &str) -> Result<CaptureCookie, String> {
    let (name, length) = text.split_once(':').ok_or_else(|| format!("{text:?} is not name:length"))?;
    let (bare, is_exact) = name.strip_suffix('=').map_or((name, false), |name| (name, true));
    let (bare, length) = named_length(&format!("{bare}:{length}")).map(|(name, length)| (Arc::from(name), length))?;
    Ok(CaptureCookie { name: if is_exact { CookieMatch::Exact(bare) } else { CookieMatch::Prefix(bare) }, length })
}

fn named_length(entry: &str) -> Result<(&str, usize), String> {
    let (name, length) = entry.split_once(':').ok_or_else(|| format!("{entry:?} is not name:length"))?;
    if !headers::is_name(name) {
        return Err(format!("{name:?} is not a name"));
    }
    let length = length.parse().map_err(|_| format!("{length:?} is not a length"))?;
    Ok((name, length))
}

/// Names as they are to be written, parted by commas.
pub(super) fn cases(list: &str) -> Result<Vec<HeaderCase>, String> {
    list.split(',')
        .map(|name| match headers::is_name(name) {
            true => Ok(HeaderCase { name: name.to_ascii_lowercase().into(), written: name.into() }),
            false => Err(format!("{name:?} is not the name of a field")),
        })
        .collect()
}

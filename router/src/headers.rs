//! What is done with the fields of messages (spec.httpHeaders.actions), and the language of their values.

mod template;

use std::sync::Arc;

pub use template::{Direction, Fields, Template, TemplateFault};

/// What is done with one field.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// It has this value, in place of whatever it had.
    Set {
        /// Its name, as it was written: names are compared without regard to case.
        name: Arc<str>,
        /// Its value.
        value: Template,
    },
    /// It goes.
    Delete {
        /// Its name.
        name: Arc<str>,
    },
}

/// Fields that actions may not touch: they are how the router keeps its own promises (HSTS and affinity), or a hole
/// (httpoxy).
const RESERVED: [&str; 4] = ["strict-transport-security", "proxy", "cookie", "set-cookie"];

/// The most characters of a field's name.
const MAX_NAME: usize = 255;

// === impl Action ===

impl Action {
    /// The field's name.
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Set { name, .. } | Self::Delete { name } => name,
        }
    }
}

/// Why a field of this name cannot be set or deleted by an action; `None`: it can.
pub fn refusal(name: &str) -> Option<&'static str> {
    if !is_name(name) {
        return Some("is not the name of a field: 1 to 255 letters, digits and !#$%&'*+-.^_`|~");
    }
    let is_reserved = RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved));
    is_reserved
        .then_some("may not be changed: Strict-Transport-Security, Proxy, Cookie and Set-Cookie are not for actions")
}

/// Whether a field may be called so.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(is_token)
}

/// A character of a token (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;

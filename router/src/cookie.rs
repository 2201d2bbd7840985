//! The cookie that brings a client back to its endpoint: names and values as the OpenShift router has them, so that
//! sessions survive a move from it, and agree on all routers.

use crate::config::{Cookie, SameSite};
use md5::{Digest, Md5};
use std::{fmt::Write, net::SocketAddr, sync::Arc};

/// The name of a route's cookie where nothing names it.
pub fn name(namespace: &str, route: &str) -> Arc<str> {
    // What the reference puts before the blank, the termination, is always empty when it makes the name.
    md5_hex(&format!(" {namespace}:{route}"))
}

/// What a cookie says to come back to an endpoint: `port` is the name of the Service's port, empty when it has none.
pub fn value(pod: Option<&str>, service: &str, port: &str, address: SocketAddr) -> Arc<str> {
    let (ip, number) = (address.ip(), address.port());
    md5_hex(&match pod {
        Some(pod) => format!("pod:{pod}:{service}:{port}:{ip}:{number}"),
        None => format!("ept:{service}:{port}:{ip}:{number}"),
    })
}

/// Whether a cookie may be called so.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// The value of the cookie `name` in a Cookie field; of several the first.
pub fn find<'a>(field: &'a str, name: &str) -> Option<&'a str> {
    pairs(field).find_map(|pair| value_of(pair, name))
}

/// A Cookie field without the cookie `name`: what a pod sees. `None` when nothing is left; unchanged (borrowed) when the
/// cookie is not in it.
pub fn strip<'a>(field: &'a str, name: &str) -> Option<std::borrow::Cow<'a, str>> {
    if find(field, name).is_none() {
        return Some(field.into());
    }
    let rest: Vec<&str> = pairs(field).filter(|pair| value_of(pair, name).is_none() && !pair.is_empty()).collect();
    (!rest.is_empty()).then(|| rest.join("; ").into())
}

fn pairs(field: &str) -> impl Iterator<Item = &str> {
    field.split(';').map(str::trim)
}

fn value_of<'a>(pair: &'a str, name: &str) -> Option<&'a str> {
    let (key, value) = pair.split_once('=')?;
    (key.trim_end() == name).then(|| value.trim_start().trim_matches('"'))
}

fn md5_hex(text: &str) -> Arc<str> {
    let mut hex = String::with_capacity(32);
    for byte in Md5::digest(text.as_bytes()) {
        write!(hex, "{byte:02x}").expect("writing to a String does not fail");
    }
    hex.into()
}

// === impl Cookie ===

impl Cookie {
    /// The value of the Set-Cookie field that brings a client back to the endpoint whose cookie says `value`.
    pub fn set(&self, value: &str) -> String {
        let secure = match self.secure {
            Some(same_site) => format!("; Secure; SameSite={}", SameSite::as_str(same_site)),
            None => String::new(),
        };
        format!("{}={value}; path=/; HttpOnly{secure}", self.name)
    }
}

#[cfg(test)]
mod tests;

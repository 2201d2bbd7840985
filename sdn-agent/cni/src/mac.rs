//! Ethernet addresses of pods and of their gateway.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// An Ethernet address in transmission order; text and JSON form are `0a:58:0a:80:01:05`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

/// What every pod's gateway answers with, and the address of the host end of every pod's veth: 0a:58 and 169.254.1.1.
pub const GATEWAY_MAC: MacAddr = MacAddr([0x0a, 0x58, 169, 254, 1, 1]);

/// A text that is no Ethernet address.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("reading Ethernet address '{0}': want six two-digit hexadecimal numbers separated by colons")]
pub struct InvalidMac(String);

// === impl MacAddr ===

impl MacAddr {
    /// The address of the pod whose first address is `address`: 0a:58 and its low 32 bits. Host parts have 32 bits at most, so this is
    /// unique within a node's subnet.
    pub fn of_pod(address: IpAddr) -> Self {
        let low = match address {
            IpAddr::V4(v4) => v4.octets(),
            IpAddr::V6(v6) => {
                let octets = v6.octets();
                [octets[12], octets[13], octets[14], octets[15]]
            }
        };
        Self([0x0a, 0x58, low[0], low[1], low[2], low[3]])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = InvalidMac;

    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        let invalid = || InvalidMac(text.chars().take(40).collect());
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()));
            *octet = u8::from_str_radix(part.ok_or_else(invalid)?, 16).map_err(|_| invalid())?;
        }
        parts.next().is_none().then_some(Self(octets)).ok_or_else(invalid)
    }
}

impl Serialize for MacAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms() {
        let rows: &[(&str, Option<[u8; 6]>)] = &[
            ("0a:58:0a:80:01:05", Some([0x0a, 0x58, 0x0a, 0x80, 1, 5])),
            ("0A:58:0A:80:01:05", Some([0x0a, 0x58, 0x0a, 0x80, 1, 5])),
            ("", None),
            ("0a:58:0a:80:01", None),
            ("0a:58:0a:80:01:05:06", None),
            ("0a:58:0a:80:1:5", None),
            ("0a:58:0a:80:01:+5", None),
            ("0a-58-0a-80-01-05", None),
        ];
        for (text, want) in rows {
            assert_eq!(text.parse::<MacAddr>().ok().map(|mac| mac.0), *want, "{text}");
        }
        assert_eq!(GATEWAY_MAC.to_string(), "0a:58:a9:fe:01:01");
    }

    #[test]
    fn of_a_pod() {
        assert_eq!(MacAddr::of_pod("10.128.1.5".parse().unwrap()).to_string(), "0a:58:0a:80:01:05");
        assert_eq!(MacAddr::of_pod("fd01:0:0:1::1:2".parse().unwrap()).to_string(), "0a:58:00:01:00:02");
    }
}

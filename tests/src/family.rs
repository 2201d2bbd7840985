//! The IP families that a lab uses.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// One IP family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum IpFamily {
    /// IPv4.
    #[serde(rename = "IPv4")]
    V4,
    /// IPv6.
    #[serde(rename = "IPv6")]
    V6,
}

/// The families of a lab's pods and of its underlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Family {
    /// IPv4 only.
    V4,
    /// IPv6 only: no interface of the lab has an IPv4 address.
    V6,
    /// Both, IPv4 first.
    #[default]
    Dual,
}

impl IpFamily {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl fmt::Display for IpFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

impl Family {
    /// The families in it, the preferred one first.
    pub fn each(self) -> &'static [IpFamily] {
        match self {
            Self::V4 => &[IpFamily::V4],
            Self::V6 => &[IpFamily::V6],
            Self::Dual => &[IpFamily::V4, IpFamily::V6],
        }
    }
}

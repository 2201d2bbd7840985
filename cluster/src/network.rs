//! The address ranges of the cluster.

use crate::error::Error;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// A range that nodes get their host subnets from, like `10.128.0.0/14,23`: every node has a /23 of it. Checked when it
/// is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterNetwork {
    cidr: IpNet,
    host_prefix: u8,
}

/// The cluster networks of a cluster, checked against each other and against what must stay apart from them. There may
/// be none where nodes bring their host subnets and nobody assigns any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterNetworks(Vec<ClusterNetwork>);

/// The cluster network when none is configured: 10.128.0.0/14, a /23 a node.
pub const DEFAULT_V4: ClusterNetwork = ClusterNetwork {
    cidr: IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 128, 0, 0), 14)),
    host_prefix: DEFAULT_HOST_PREFIX_V4,
};

/// The IPv6 cluster network when none is configured: fd01::/48, a /64 a node.
pub const DEFAULT_V6: ClusterNetwork = ClusterNetwork {
    cidr: IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 0), 48)),
    host_prefix: DEFAULT_HOST_PREFIX_V6,
};

/// The service networks when none are configured: 172.30.0.0/16 and fd02::/112.
pub const DEFAULT_SERVICES: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(172, 30, 0, 0), 16)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfd02, 0, 0, 0, 0, 0, 0, 0), 112)),
];

const DEFAULT_HOST_PREFIX_V4: u8 = 23;
const DEFAULT_HOST_PREFIX_V6: u8 = 64;

/// The longest host prefixes: a /29 has 5 addresses for pods, when network, node and broadcast are taken; a /30 would
/// have one.
const MAX_HOST_PREFIX_V4: u8 = 29;
const MAX_HOST_PREFIX_V6: u8 = 120;

/// Ranges that mean something else on every machine, the link-local gateway of our pods included.
const SPECIAL: [(&str, IpNet); 9] = [
    ("this network", IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 8))),
    ("the loopback addresses", IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8))),
    ("the link-local addresses", IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16))),
    ("the multicast addresses", IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4))),
    ("the reserved addresses", IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(240, 0, 0, 0), 4))),
    ("the loopback address", IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128))),
    ("the IPv4-mapped addresses", IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96))),
    ("the link-local addresses", IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10))),
    ("the multicast addresses", IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8))),
];

// === impl ClusterNetwork ===

impl ClusterNetwork {
    /// The network `cidr`, of which every node gets a subnet with a prefix of `host_prefix` bits.
    pub fn new(cidr: IpNet, host_prefix: u8) -> Result<Self, Error> {
        let network = Self { cidr, host_prefix };
        let (family, longest) = match cidr {
            IpNet::V4(_) => ("IPv4", MAX_HOST_PREFIX_V4),
            IpNet::V6(_) => ("IPv6", MAX_HOST_PREFIX_V6),
        };
        let reason = if cidr != cidr.trunc() {
            format!("has host bits set: the network is {}", cidr.trunc())
        } else if host_prefix > longest {
            format!("host subnets are too small for pods: in {family} at most /{longest}, not /{host_prefix}")
        } else if host_prefix < cidr.prefix_len() {
            format!("a host subnet of /{host_prefix} is larger than the network itself")
        } else if let Err(reason) = check_special(cidr) {
            reason
        } else {
            return Ok(network);
        };
        Err(Error::ClusterNetwork { given: network.to_string(), reason })
    }

    /// The whole range.
    pub fn cidr(&self) -> IpNet {
        self.cidr
    }

    /// The prefix length of every node's subnet.
    pub fn host_prefix(&self) -> u8 {
        self.host_prefix
    }

    /// Whether it is one of IPv4.
    pub fn is_ipv4(&self) -> bool {
        matches!(self.cidr, IpNet::V4(_))
    }

    /// How many nodes fit.
    pub fn host_subnet_count(&self) -> u128 {
        // Not 128 bits: no cluster network has the prefix 0, which lies in what SPECIAL forbids.
        1 << (self.host_prefix - self.cidr.prefix_len())
    }

    /// The subnets for nodes, lowest first.
    pub fn host_subnets(&self) -> impl Iterator<Item = IpNet> + use<> {
        self.cidr.subnets(self.host_prefix).expect("new() checked that host subnets are not larger than the network")
    }
}

impl FromStr for ClusterNetwork {
    type Err = Error;

    /// `CIDR,HOSTPREFIX`; without the second the default of the family (23, 64).
    fn from_str(given: &str) -> Result<Self, Error> {
        let fault = |reason: &str| Error::ClusterNetwork { given: given.to_owned(), reason: reason.to_owned() };
        let (cidr, host_prefix) = match given.split_once(',') {
            Some((cidr, host_prefix)) => (cidr, Some(host_prefix)),
            None => (given, None),
        };
        let cidr: IpNet =
            cidr.trim().parse().map_err(|_| fault("not written as CIDR,HOSTPREFIX, like 10.128.0.0/14,23"))?;
        let host_prefix = match (host_prefix, cidr) {
            (Some(text), _) => {
                let digits = text.trim().trim_start_matches('/');
                digits.parse().map_err(|_| fault("the host prefix after the comma is not a number of bits, like 23"))?
            }
            (None, IpNet::V4(_)) => DEFAULT_HOST_PREFIX_V4,
            (None, IpNet::V6(_)) => DEFAULT_HOST_PREFIX_V6,
        };
        Self::new(cidr, host_prefix)
    }
}

impl TryFrom<String> for ClusterNetwork {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<ClusterNetwork> for String {
    fn from(network: ClusterNetwork) -> Self {
        network.to_string()
    }
}

impl fmt::Display for ClusterNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.cidr, self.host_prefix)
    }
}

// === impl ClusterNetworks ===

impl ClusterNetworks {
    /// `networks`, which must overlap neither each other nor any of `apart` (each with what it is for, like "service
    /// network").
    pub fn new(networks: Vec<ClusterNetwork>, apart: &[(&str, IpNet)]) -> Result<Self, Error> {
        for (index, one) in networks.iter().enumerate() {
            if let Some(other) = networks[..index].iter().find(|other| overlap(one.cidr, other.cidr)) {
                let (one, other) = (format!("cluster network {}", one.cidr), format!("cluster network {}", other.cidr));
                return Err(Error::Overlap { one, other });
            }
        }
        let networks = Self(networks);
        networks.check_apart(apart)?;
        Ok(networks)
    }

    /// Checks that none overlaps any of `ranges`, each with what it is for: like the uplink's addresses, which are
    /// known later.
    pub fn check_apart(&self, ranges: &[(&str, IpNet)]) -> Result<(), Error> {
        for network in &self.0 {
            if let Some((what, range)) = ranges.iter().find(|(_, range)| overlap(*range, network.cidr)) {
                return Err(Error::Overlap {
                    one: format!("cluster network {}", network.cidr),
                    other: format!("{what} {range}"),
                });
            }
        }
        Ok(())
    }

    /// The networks in the order given.
    pub fn iter(&self) -> impl Iterator<Item = &ClusterNetwork> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an address is a pod's or a node's in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.cidr.contains(&address))
    }
}

impl Default for ClusterNetworks {
    /// The default network of IPv4.
    fn default() -> Self {
        Self(vec![DEFAULT_V4])
    }
}

/// Refuses ranges that mean something else on every machine.
pub(crate) fn check_special(range: IpNet) -> Result<(), String> {
    match SPECIAL.into_iter().find(|(_, special)| overlap(*special, range)) {
        Some((what, special)) => Err(format!("lies in {special}, {what}")),
        None => Ok(()),
    }
}

/// Whether two ranges have addresses in common.
pub fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_and_checked() {
        let rows = [
            ("10.128.0.0/14,23", Ok("10.128.0.0/14,23")),
            ("10.128.0.0/14", Ok("10.128.0.0/14,23")),
            ("10.128.0.0/14, /24", Ok("10.128.0.0/14,24")),
            ("fd01::/48,64", Ok("fd01::/48,64")),
            ("fd01::/48", Ok("fd01::/48,64")),
            ("192.168.8.0/29,29", Ok("192.168.8.0/29,29")),
            ("10.128.0.0/14,29", Ok("10.128.0.0/14,29")),
            ("fd01::/112,120", Ok("fd01::/112,120")),
            ("10.128.0.0/14,30", Err("too small for pods")),
            ("fd01::/48,121", Err("too small for pods")),
            ("10.128.0.0/14,13", Err("larger than the network itself")),
            ("10.128.0.0/24", Err("larger than the network itself")),
            ("10.129.0.0/14,23", Err("has host bits set: the network is 10.128.0.0/14")),
            ("fd01::1/48,64", Err("has host bits set")),
            ("0.0.0.0/0,8", Err("this network")),
            ("::/0,64", Err("the loopback address")),
            ("169.254.0.0/16,24", Err("link-local")),
            ("127.0.0.0/8,24", Err("loopback")),
            ("224.0.0.0/8,24", Err("multicast")),
            ("fe80::/16,64", Err("link-local")),
            ("10.128.0.0,23", Err("not written as")),
            ("10.128.0.0/14,", Err("not a number of bits")),
            ("10.128.0.0/14,300", Err("not a number of bits")),
            ("10.128.0.0/14,23,1", Err("not a number of bits")),
            ("", Err("not written as")),
        ];
        for (text, expected) in rows {
            match (text.parse::<ClusterNetwork>(), expected) {
                (Ok(network), Ok(expected)) => assert_eq!(network.to_string(), expected, "{text:?}"),
                (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{text:?}: {error}"),
                (result, _) => panic!("{text:?}: {result:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn ranges_stay_apart() {
        type Row<'a> = (&'a [&'a str], &'a [(&'a str, IpNet)], Option<&'a str>);
        let services = [("service network", DEFAULT_SERVICES[0]), ("service network", DEFAULT_SERVICES[1])];
        let uplink = [("the uplink's address", "10.131.255.255/32".parse().expect("a network"))];
        // networks, what must be apart, what overlaps
        let rows: [Row; 7] = [
            (&["10.128.0.0/14,23", "fd01::/48,64"], &services, None),
            (&["10.128.0.0/14,23", "10.0.0.0/14,23"], &services, None),
            (
                &["10.128.0.0/14,23", "10.130.0.0/16,24"],
                &[],
                Some("cluster network 10.130.0.0/16 overlaps cluster network 10.128.0.0/14"),
            ),
            (&["10.130.0.0/16,24", "10.128.0.0/14,23"], &[], Some("overlaps cluster network 10.130.0.0/16")),
            (&["172.16.0.0/12,23"], &services, Some("overlaps service network 172.30.0.0/16")),
            (&["10.128.0.0/14,23"], &uplink, Some("overlaps the uplink's address 10.131.255.255/32")),
            (&[], &services, None),
        ];
        for (networks, apart, expected) in rows {
            let parsed = networks.iter().map(|text| text.parse().expect(text)).collect();
            match (ClusterNetworks::new(parsed, apart), expected) {
                (Ok(_), None) => {}
                (Err(error), Some(expected)) => assert!(error.to_string().contains(expected), "{networks:?}: {error}"),
                (result, _) => panic!("{networks:?}: {result:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn host_subnets_come_in_order() {
        let subnets: Vec<_> = DEFAULT_V4.host_subnets().take(3).map(|subnet| subnet.to_string()).collect();
        assert_eq!(subnets, ["10.128.0.0/23", "10.128.2.0/23", "10.128.4.0/23"]);
        assert_eq!((DEFAULT_V4.host_subnet_count(), DEFAULT_V4.host_subnets().count()), (512, 512));
        assert_eq!(
            DEFAULT_V6.host_subnets().nth(1).map(|subnet| subnet.to_string()).as_deref(),
            Some("fd01:0:0:1::/64")
        );
        assert_eq!(DEFAULT_V6.host_subnet_count(), 65536);
        let one: ClusterNetwork = "192.168.8.0/29,29".parse().expect("a network");
        assert_eq!(one.host_subnets().count(), 1);
    }

    #[test]
    fn the_defaults_are_valid() {
        for network in [DEFAULT_V4, DEFAULT_V6] {
            assert_eq!(network.to_string().parse::<ClusterNetwork>().expect("valid"), network);
        }
        let json = serde_json::to_string(&DEFAULT_V4).expect("written");
        assert_eq!(json, "\"10.128.0.0/14,23\"");
        assert_eq!(serde_json::from_str::<ClusterNetwork>(&json).expect("read"), DEFAULT_V4);
        assert!(serde_json::from_str::<ClusterNetwork>("\"10.128.0.0/14,31\"").is_err());
    }
}

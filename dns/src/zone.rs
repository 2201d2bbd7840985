//! Whose a name is: the cluster's, a reverse zone's of its networks, or somebody else's.

use crate::{index::Zones, wire::Name};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The zones we answer for.
#[derive(Debug)]
pub(crate) struct Authority {
    pub(crate) zones: Zones,
    reverse: Vec<IpNet>,
}

/// Where a name belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zone {
    /// To the cluster's domain, with so many labels before it.
    Cluster(usize),
    /// To a reverse zone, with so many labels before it.
    Reverse(usize, Place),
    /// To somebody else.
    Elsewhere,
}

/// What a name in a reverse zone means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The zone itself, with the addresses of it.
    Apex,
    /// An address.
    Address(IpAddr),
    /// All addresses from one to another: names may be below.
    Range(IpAddr, IpAddr),
    /// No address.
    Nowhere,
}

// === impl Authority ===

impl Authority {
    /// Answers for the cluster's zones and for the reverse zones of networks.
    pub(crate) fn new(zones: Zones, networks: &[IpNet]) -> Self {
        let mut reverse: Vec<IpNet> = networks.iter().flat_map(|network| cut(*network)).collect();
        reverse.sort();
        reverse.dedup();
        Self { zones, reverse }
    }

    /// Where a name belongs.
    pub(crate) fn zone_of(&self, name: &Name) -> Zone {
        let cluster = &self.zones.cluster;
        if let Some(depth) = name.depth_in(cluster.wire(), cluster.labels()) {
            return Zone::Cluster(depth);
        }
        let depth = name.labels().saturating_sub(2);
        match name.after(depth) {
            b"\x07in-addr\x04arpa\x00" => self.reverse_zone(name, depth, 8, 4, v4_range),
            b"\x03ip6\x04arpa\x00" => self.reverse_zone(name, depth, 4, 32, v6_range),
            _ => Zone::Elsewhere,
        }
    }

    /// Where a reverse name belongs that has `depth` labels of `bits` bits before its root; addresses have `all`.
    fn reverse_zone(
        &self,
        name: &Name,
        depth: usize,
        bits: usize,
        all: usize,
        range: fn(u128, usize) -> (IpAddr, IpAddr),
    ) -> Zone {
        let parse = if bits == 8 { octet } else { nibble };
        let mut value = 0u128;
        let mut parsed = 0;
        while parsed < depth.min(all) {
            let Some(part) = parse(name.label(depth - 1 - parsed)) else { break };
            value = value << bits | u128::from(part);
            parsed += 1;
        }
        let (first, last) = range(value << ((all - parsed) * bits), (all - parsed) * bits);
        let fits = |zone: &&IpNet| usize::from(zone.prefix_len()) <= parsed * bits && zone.contains(&first);
        let Some(zone) = self.reverse.iter().find(fits).filter(|zone| zone.contains(&last)) else {
            return Zone::Elsewhere;
        };
        let zone_labels = usize::from(zone.prefix_len()) / bits;
        let place = match (depth - parsed, parsed) {
            (1.., _) => Place::Nowhere,
            (_, parsed) if parsed == zone_labels => Place::Apex,
            (_, parsed) if parsed == all => Place::Address(first),
            _ => Place::Range(first, last),
        };
        Zone::Reverse(depth - zone_labels, place)
    }
}

/// The networks of whole labels that a network consists of: zones are cut between labels.
fn cut(network: IpNet) -> Vec<IpNet> {
    let label = if network.addr().is_ipv4() { 8 } else { 4 };
    let prefix = network.prefix_len().div_ceil(label) * label;
    match network.trunc().subnets(prefix) {
        Ok(subnets) => subnets.collect(),
        Err(_) => vec![network.trunc()],
    }
}

/// A label of an address as it is written: no zeros in front.
fn octet(label: &[u8]) -> Option<u8> {
    if label.len() > 1 && label[0] == b'0' || label.iter().any(|byte| !byte.is_ascii_digit()) {
        return None;
    }
    std::str::from_utf8(label).ok()?.parse().ok()
}

fn nibble(label: &[u8]) -> Option<u8> {
    let [digit] = label else { return None };
    char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// All addresses that have the bits of `value` but for the last `open`.
fn v4_range(value: u128, open: usize) -> (IpAddr, IpAddr) {
    let value = u32::try_from(value).unwrap_or_default();
    let last = value | u32::MAX.checked_shr(32 - u32::try_from(open).unwrap_or(32)).unwrap_or(0);
    (Ipv4Addr::from(value).into(), Ipv4Addr::from(last).into())
}

fn v6_range(value: u128, open: usize) -> (IpAddr, IpAddr) {
    let last = value | u128::MAX.checked_shr(128 - u32::try_from(open).unwrap_or(128)).unwrap_or(0);
    (Ipv6Addr::from(value).into(), Ipv6Addr::from(last).into())
}

//! Ranges that something is picked from. The lower band is for those who ask for something of their own; what is picked
//! comes from above it while there is any, as Kubernetes does (KEP-3070 for addresses, KEP-3668 for ports).

use crate::model::{IpFamily, meta};
use ipnet::IpNet;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
};

/// More addresses of one range are not used: as many as a /112 has. Kubernetes does not either.
const MAX_ADDRESSES: u128 = 1 << 16;

/// Addresses of one network.
pub(super) struct AddressRange {
    network: IpNet,
    /// The first that can be picked, counted from the network's address.
    first: u128,
    /// How many can be.
    count: u64,
    /// How many of them make the band that is picked from last.
    band: u64,
}

/// Ports of nodes.
pub(super) struct PortRange {
    range: RangeInclusive<u16>,
    band: u64,
}

// === impl AddressRange ===

impl AddressRange {
    /// The addresses of a service network.
    pub fn of_services(network: IpNet) -> Self {
        let range = Self::new(network, size(network).min(MAX_ADDRESSES));
        let all = u64::try_from(size(network)).unwrap_or(u64::MAX);
        Self { band: band(all, 16, 256), ..range }
    }

    /// The addresses of a pool.
    pub fn of_pool(network: IpNet) -> Self {
        Self::new(network, size(network).min(MAX_ADDRESSES))
    }

    fn new(network: IpNet, size: u128) -> Self {
        // The network's own address is nobody's, nor is the broadcast address of IPv4; ranges of one or two addresses
        // have neither.
        let (first, last) = match network {
            _ if size <= 2 => (0, size),
            IpNet::V4(_) if network.prefix_len() >= 16 => (1, size - 1),
            _ => (1, size),
        };
        Self { network, first, count: u64::try_from(last - first).unwrap_or(u64::MAX), band: 0 }
    }

    pub fn family(&self) -> IpFamily {
        IpFamily::of(self.network.addr())
    }

    /// Whether an address is one that a Service can have.
    pub fn contains(&self, address: IpAddr) -> bool {
        let is_reserved = size(self.network) > 2
            && (address == self.network.network() || (address.is_ipv4() && address == self.network.broadcast()));
        self.network.contains(&address) && !is_reserved
    }

    /// One that is free, as `seed` has it: from above the band if there is one.
    pub fn pick(&self, seed: &str, free: impl Fn(&IpAddr) -> bool) -> Option<IpAddr> {
        pick(self.count, self.band, seed, |index| Some(self.address(index)).filter(&free))
    }

    /// The lowest one that is free.
    pub fn lowest(&self, free: impl Fn(&IpAddr) -> bool) -> Option<IpAddr> {
        (0..self.count).map(|index| self.address(index)).find(free)
    }

    fn address(&self, index: u64) -> IpAddr {
        let offset = self.first + u128::from(index);
        match self.network.network() {
            // An offset lies within the network, so that neither sum overflows.
            IpAddr::V4(base) => Ipv4Addr::from(u32::from(base) + u32::try_from(offset).unwrap_or_default()).into(),
            IpAddr::V6(base) => Ipv6Addr::from(u128::from(base) + offset).into(),
        }
    }
}

// === impl PortRange ===

impl PortRange {
    pub fn new(range: RangeInclusive<u16>) -> Self {
        let size = u64::from(range.end() - range.start()) + 1;
        Self { range, band: band(size, 32, 128) }
    }

    pub fn contains(&self, port: u16) -> bool {
        self.range.contains(&port)
    }

    /// One that is free, as `seed` has it: from above the band if there is one.
    pub fn pick(&self, seed: &str, free: impl Fn(u16) -> bool) -> Option<u16> {
        let (first, last) = (*self.range.start(), *self.range.end());
        let port = |index: u64| u16::try_from(index).ok().map(|index| first + index);
        pick(u64::from(last - first) + 1, self.band, seed, |index| port(index).filter(|port| free(*port)))
    }
}

/// How many addresses a network has.
fn size(network: IpNet) -> u128 {
    1u128.checked_shl(u32::from(network.max_prefix_len() - network.prefix_len())).unwrap_or(u128::MAX)
}

/// The lower band of a range of `size`: min(max(16, size / step), most), none in a range that is no larger than 16.
fn band(size: u64, step: u64, most: u64) -> u64 {
    if size <= 16 { 0 } else { (size / step).clamp(16, most) }
}

/// Tries the places above the band from the one that `seed` means, all around; then the band from below.
fn pick<T>(count: u64, band: u64, seed: &str, try_at: impl Fn(u64) -> Option<T>) -> Option<T> {
    let band = band.min(count);
    let upper = count - band;
    let begin = if upper == 0 { 0 } else { meta::fnv1a(seed.as_bytes()) % upper };
    let mut places = (0..upper).map(|step| band + (begin + step) % upper).chain(0..band);
    places.find_map(try_at)
}

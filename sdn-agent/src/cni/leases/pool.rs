//! Which addresses of the node's host subnets are free, and which is next. In memory and pure; [`super::files`] makes it durable.
//!
//! Addresses never used come first, in ascending order; then the one given back longest ago. So an address rests as long as the
//! subnet allows before another pod gets it, and other nodes have forgotten its last owner by then.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::IpNet;

/// How many addresses given back are remembered in order, for each family: all of a subnet up to /16. In an IPv6 subnet the oldest
/// ones beyond are treated as never used, which they nearly are: their turn comes after four thousand million others.
const REMEMBERED: usize = 1 << 16;

/// Use of one host subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetUsage {
    /// The host subnet.
    pub subnet: IpNet,
    /// Addresses in use: leases, reservations, and what quarantined lease files hold.
    pub used: u64,
    /// Addresses a pod could get.
    pub free: u64,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

#[derive(Debug, Default)]
pub(super) struct Pool {
    subnets: Vec<Subnet>,
    used: HashSet<IpAddr>,
    freed: [Freed; 2],
}

#[derive(Debug)]
struct Subnet {
    net: IpNet,
    /// Host parts that pods may have.
    hosts: RangeInclusive<u32>,
    /// Where the search for an address never used goes on.
    next: u32,
    used: u64,
    freed: u64,
}

/// Addresses given back, oldest first.
#[derive(Debug, Default)]
struct Freed {
    by_age: BTreeMap<u64, IpAddr>,
    age_of: HashMap<IpAddr, u64>,
    next_age: u64,
}

// === impl Family ===

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

// === impl Pool ===

impl Pool {
    /// Replaces the subnets. What is in use stays in use, inside or outside the new ones.
    pub fn set_subnets(&mut self, subnets: &[IpNet]) {
        let mut nets: Vec<IpNet> = subnets.iter().map(IpNet::trunc).collect();
        nets.sort_by_key(|net| (net.addr().is_ipv6(), net.prefix_len()));
        let mut kept: Vec<IpNet> = Vec::new();
        for net in nets {
            // An overlap would hand out an address twice by two names; the wider one has all of them.
            if !kept.iter().any(|wide| wide.contains(&net)) {
                kept.push(net);
            }
        }
        // The order of the list is the order of preference.
        kept.sort_by_key(|net| subnets.iter().position(|subnet| subnet.trunc() == *net));
        self.subnets = kept.into_iter().map(|net| self.subnet(net)).collect();
    }

    fn subnet(&self, net: IpNet) -> Subnet {
        let hosts = pod_host_parts(&net);
        let freed = &self.freed[Family::of(net.addr()) as usize];
        let mut subnet = Subnet { net, next: *hosts.start(), hosts, used: 0, freed: 0 };
        subnet.used = self.used.iter().filter(|address| subnet.hands_out(**address)).count() as u64;
        subnet.freed = freed.age_of.keys().filter(|address| subnet.hands_out(**address)).count() as u64;
        if freed.by_age.len() >= REMEMBERED {
            // Some were forgotten, and look as if they had never been used. The last ones known were handed out lately, so what
            // lies behind them has rested longest.
            let known = self.used.iter().chain(freed.age_of.keys()).filter(|address| subnet.hands_out(**address));
            if let Some(last) = known.map(|address| host_part(&net, address)).max() {
                subnet.next = last;
                subnet.step();
            }
        }
        subnet
    }

    /// The families there are subnets of, IPv4 first.
    pub fn families(&self) -> Vec<Family> {
        let mut families: Vec<Family> = self.subnets.iter().map(|subnet| Family::of(subnet.net.addr())).collect();
        families.sort();
        families.dedup();
        families
    }

    /// Could [`Self::take`] give an address of this family?
    pub fn has_free(&self, family: Family) -> bool {
        let mut of_family = self.subnets.iter().filter(|subnet| Family::of(subnet.net.addr()) == family);
        of_family.any(|subnet| subnet.capacity() > subnet.used)
    }

    /// Takes the next address of a family; None if all are in use.
    pub fn take(&mut self, family: Family) -> Option<IpAddr> {
        let address = self.take_fresh(family).or_else(|| self.oldest_freed(family))?;
        self.occupy(address);
        Some(address)
    }

    /// Marks an address as in use. False if it was already.
    pub fn occupy(&mut self, address: IpAddr) -> bool {
        self.forget_freed(address);
        let new = self.used.insert(address);
        if new && let Some(subnet) = self.subnet_of(address) {
            subnet.used += 1;
        }
        new
    }

    /// Puts an address at the end of the order, whether it was in use or not.
    pub fn give_back(&mut self, address: IpAddr) {
        if self.used.remove(&address)
            && let Some(subnet) = self.subnet_of(address)
        {
            subnet.used -= 1;
        }
        self.forget_freed(address);
        let freed = &mut self.freed[Family::of(address) as usize];
        freed.push(address);
        let forgotten = if freed.by_age.len() > REMEMBERED { freed.oldest() } else { None };
        if let Some(subnet) = self.subnet_of(address) {
            subnet.freed += 1;
        }
        if let Some(forgotten) = forgotten {
            self.forget_freed(forgotten);
        }
    }

    /// Addresses given back, oldest first, one family after the other.
    pub fn freed(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.freed.iter().flat_map(|freed| freed.by_age.values().copied())
    }

    pub fn usage(&self) -> Vec<SubnetUsage> {
        let usage = |subnet: &Subnet| SubnetUsage {
            subnet: subnet.net,
            used: subnet.used,
            free: subnet.capacity() - subnet.used,
        };
        self.subnets.iter().map(usage).collect()
    }

    fn take_fresh(&mut self, family: Family) -> Option<IpAddr> {
        let Self { subnets, used, freed } = self;
        let freed = &freed[family as usize];
        let mut of_family = subnets.iter_mut().filter(|subnet| Family::of(subnet.net.addr()) == family);
        let subnet = of_family.find(|subnet| subnet.capacity() > subnet.used + subnet.freed)?;
        loop {
            // Ends: the counts say that a host part is neither in use nor among the freed.
            let address = with_host_part(&subnet.net, subnet.next);
            subnet.step();
            if !used.contains(&address) && !freed.age_of.contains_key(&address) {
                return Some(address);
            }
        }
    }

    fn oldest_freed(&self, family: Family) -> Option<IpAddr> {
        let mut by_age = self.freed[family as usize].by_age.values();
        // Addresses of a subnet that the node had before are in the order, too: it may get that subnet again.
        by_age.find(|address| self.subnets.iter().any(|subnet| subnet.hands_out(**address))).copied()
    }

    fn forget_freed(&mut self, address: IpAddr) {
        if self.freed[Family::of(address) as usize].remove(address)
            && let Some(subnet) = self.subnet_of(address)
        {
            subnet.freed -= 1;
        }
    }

    fn subnet_of(&mut self, address: IpAddr) -> Option<&mut Subnet> {
        self.subnets.iter_mut().find(|subnet| subnet.hands_out(address))
    }
}

// === impl Subnet ===

impl Subnet {
    fn capacity(&self) -> u64 {
        if self.hosts.is_empty() { 0 } else { u64::from(self.hosts.end() - self.hosts.start()) + 1 }
    }

    /// Could this subnet give the address to a pod?
    fn hands_out(&self, address: IpAddr) -> bool {
        self.net.contains(&address) && self.hosts.contains(&host_part(&self.net, &address))
            // In a wide IPv6 subnet, bits above the host part's 32 may be set.
            && with_host_part(&self.net, host_part(&self.net, &address)) == address
    }

    fn step(&mut self) {
        let beyond = self.next >= *self.hosts.end() || self.next < *self.hosts.start();
        self.next = if beyond { *self.hosts.start() } else { self.next + 1 };
    }
}

// === impl Freed ===

impl Freed {
    fn push(&mut self, address: IpAddr) {
        self.by_age.insert(self.next_age, address);
        self.age_of.insert(address, self.next_age);
        self.next_age += 1;
    }

    fn remove(&mut self, address: IpAddr) -> bool {
        let age = self.age_of.remove(&address);
        age.is_some_and(|age| self.by_age.remove(&age).is_some())
    }

    fn oldest(&self) -> Option<IpAddr> {
        self.by_age.first_key_value().map(|(_, address)| *address)
    }
}

/// Host parts for pods: without the network's own, the node's (1) and, for IPv4, the broadcast address; 32 bits at most. Empty if the
/// subnet is too small for any.
fn pod_host_parts(net: &IpNet) -> RangeInclusive<u32> {
    let bits = u32::from(net.max_prefix_len() - net.prefix_len());
    let last = if bits >= 32 { u32::MAX } else { (1 << bits) - 1 };
    let last = if net.addr().is_ipv4() { last.saturating_sub(1) } else { last };
    2..=last
}

fn host_part(net: &IpNet, address: &IpAddr) -> u32 {
    match (net, address) {
        (IpNet::V4(net), IpAddr::V4(address)) => address.to_bits() & net.hostmask().to_bits(),
        (IpNet::V6(net), IpAddr::V6(address)) => {
            // The low 32 bits, as decided for IPv6.
            (address.to_bits() & net.hostmask().to_bits()) as u32
        }
        _ => 0,
    }
}

fn with_host_part(net: &IpNet, host: u32) -> IpAddr {
    match net {
        IpNet::V4(net) => Ipv4Addr::from_bits(net.network().to_bits() | host).into(),
        IpNet::V6(net) => Ipv6Addr::from_bits(net.network().to_bits() | u128::from(host)).into(),
    }
}

#[cfg(test)]
mod tests;

//! Addresses of the contract and addresses of the standard library: both families by one trait, so that what handles them is
//! written once.

use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use sdn_common::{Addr4, Addr6, Address};

/// An address family, as its address in the maps.
pub trait Family: Address + aya::Pod + Ord + Hash + fmt::Debug + Send + Sync + Unpin {
    /// How the family's maps end: `PEERS_V4`.
    const SUFFIX: &'static str;

    /// The address, if it is of this family. A mapped IPv4 address is an IPv6 address here: nothing makes one by accident.
    fn from_ip(address: IpAddr) -> Option<Self>;

    /// The address as people write it.
    fn ip(self) -> IpAddr;
}

/// A network as the key of a trie: `struct bpf_lpm_trie_key`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr<A> {
    /// Bits of the prefix.
    pub length: u32,
    /// The network's address, host bits zero.
    pub address: A,
}

// === impl Family ===

impl Family for Addr4 {
    const SUFFIX: &'static str = "V4";

    fn from_ip(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Some(Self::new(address.octets())),
            IpAddr::V6(_) => None,
        }
    }

    fn ip(self) -> IpAddr {
        Ipv4Addr::from(self.bytes()).into()
    }
}

impl Family for Addr6 {
    const SUFFIX: &'static str = "V6";

    fn from_ip(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(Self::new(address.octets())),
        }
    }

    fn ip(self) -> IpAddr {
        Ipv6Addr::from(self.bytes()).into()
    }
}

/// Either family's address in 16 bytes, IPv4 in its mapped form.
pub fn mapped(address: IpAddr) -> Addr6 {
    match address {
        IpAddr::V4(address) => Addr4::new(address.octets()).mapped(),
        IpAddr::V6(address) => Addr6::new(address.octets()),
    }
}

/// The address that [`mapped`] was given.
pub fn unmapped(address: Addr6) -> IpAddr {
    IpAddr::from(address.bytes()).to_canonical()
}

// === impl Cidr ===

impl<A: Family> Cidr<A> {
    /// The network, if it is of this family. Host bits are cleared.
    pub fn from_net(network: IpNet) -> Option<Self> {
        let address = A::from_ip(network.network())?;
        Some(Self { length: u32::from(network.prefix_len()), address })
    }

    /// The network as people write it; `None` for a length that its family does not have.
    pub fn net(self) -> Option<IpNet> {
        IpNet::new(self.address.ip(), u8::try_from(self.length).ok()?).ok()
    }
}

impl<A: Family> fmt::Display for Cidr<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address.ip(), self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_were() {
        for text in ["10.128.0.5", "0.0.0.0", "fd01::7", "::1:ffff:0:1"] {
            let address: IpAddr = text.parse().unwrap();
            let [v4, v6] = [Addr4::from_ip(address).map(Family::ip), Addr6::from_ip(address).map(Family::ip)];
            assert_eq!((v4.or(v6), v4.is_some() && v6.is_some()), (Some(address), false), "{text}");
            assert_eq!(unmapped(mapped(address)), address);
        }
    }

    #[test]
    fn a_network_loses_its_host_bits() {
        let cidr = Cidr::<Addr4>::from_net("10.128.3.7/23".parse().unwrap()).unwrap();
        assert_eq!(cidr.to_string(), "10.128.2.0/23");
        assert_eq!(Cidr::<Addr6>::from_net("10.128.3.7/23".parse().unwrap()), None);
    }
}

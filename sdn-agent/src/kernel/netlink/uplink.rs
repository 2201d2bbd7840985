//! The uplink: the device of the default route (or the configured one), followed through every change.

use std::net::IpAddr;

use ipnet::IpNet;

/// The device that carries the tunnel and the traffic to the outside, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    /// Device name, for people and for aya, which attaches by name.
    pub name: String,
    /// Interface index.
    pub ifindex: u32,
    /// MTU in bytes.
    pub mtu: u32,
    /// MAC address; zero for a device without one.
    pub mac: [u8; 6],
    /// Its addresses of global scope with their prefix lengths, in the kernel's order, IPv4 first.
    pub addresses: Vec<IpNet>,
    /// Whether it is up and has carrier.
    pub running: bool,
}

impl Uplink {
    /// Whether the address is one of the uplink's own.
    pub fn has(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|own| own.addr() == address)
    }
}

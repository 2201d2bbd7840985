//! `ip link … type vxlan`

use rtnetlink::LinkVxlan;
use rtnetlink::packet_route::link::InfoVxlan;

use super::{Netlink, NetlinkError, failed};

/// What a VXLAN device is like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VxlanLink {
    /// UDP port, host byte order.
    pub port: u16,
    /// `external`: programs say for each packet where it goes (IFLA_VXLAN_COLLECT_METADATA).
    pub external: bool,
    /// It learns where MACs are from what it receives.
    pub learning: bool,
}

impl Netlink {
    /// `ip link add NAME type vxlan external nolearning dstport PORT`, with this MAC and MTU, and ARP off. It stays down.
    pub async fn add_vxlan(&self, name: &str, port: u16, mac: [u8; 6], mtu: u32) -> Result<(), NetlinkError> {
        let message = LinkVxlan::new(name, 0)
            .collect_metadata(true)
            .learning(false)
            .port(port)
            .address(mac.to_vec())
            .mtu(mtu)
            .arp(false)
            .build();
        let added = self.handle.link().add(message).execute().await;
        added.map_err(|error| failed(format!("add VXLAN device {name} with UDP port {port}"), error))
    }
}

impl From<&[InfoVxlan]> for VxlanLink {
    fn from(data: &[InfoVxlan]) -> Self {
        let mut link = Self::default();
        for info in data {
            match info {
                InfoVxlan::Port(port) => link.port = *port,
                InfoVxlan::CollectMetadata(external) => link.external = *external,
                InfoVxlan::Learning(learning) => link.learning = *learning,
                _ => {}
            }
        }
        link
    }
}

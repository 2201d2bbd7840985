//! culvert0, the VXLAN device: its place in the node's network, kept as it has to be.
//!
//! The node's own cluster address sits on it, so that the node reaches every pod and every pod reaches it, without forwarding and
//! without another device. The programs on it do the rest.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use sdn_cluster::ClusterNetworks;
use sdn_cluster::model::Node;
use sdn_common::wire;
use tokio::sync::watch;

use super::readiness::Readiness;
use super::tasks::Tasks;
use crate::config::Config;
use crate::kernel::bpf::Device;
use crate::kernel::netlink::{Link, Netlink, NetlinkError, Route, Uplink};
use crate::kernel::sysctl::{self, SysctlError};
use crate::plan::{first_host, tunnel_mtu};

/// The device's name.
pub const DEVICE: &str = "culvert0";

/// How often to look although nothing was reported.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How soon to try again what the kernel refused.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// The device as it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// UDP port, host byte order.
    pub port: u16,
    /// MTU in bytes.
    pub mtu: u32,
    /// What frames in the tunnel are addressed to, on every node: so the kernel takes them for its own, and the program need not
    /// say so of each.
    pub mac: [u8; 6],
    /// The node's own cluster addresses, one a host subnet.
    pub addresses: Vec<IpAddr>,
    /// Addresses that every node has: cluster DNS is asked there.
    pub shared: Vec<IpAddr>,
    /// Each cluster network, with the node's cluster address of the same family as source.
    pub routes: Vec<(IpNet, IpAddr)>,
}

/// The device could not be brought into shape.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// A request.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A setting.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// It was made and was not there.
    #[error("find device {DEVICE} after making it: it is gone (does another agent run in this network namespace?)")]
    Gone,
}

// === impl Overlay ===

impl Overlay {
    /// What the node, its uplink and the configuration make of it. `None` while the node has no host subnet.
    pub fn wanted(config: &Config, node: &Node, uplink: &Uplink) -> Option<Self> {
        let mut addresses: Vec<IpAddr> = node.subnets.iter().filter_map(|subnet| first_host(*subnet)).collect();
        addresses.sort();
        if addresses.is_empty() {
            return None;
        }
        let mac = wire::TUNNEL_DESTINATION;
        let mtu = tunnel_mtu(config.tunnel.mtu, Some(node), uplink);
        let routes = routes(&config.cluster_networks, &addresses);
        let of_family = |shared: &&IpAddr| addresses.iter().any(|address| address.is_ipv6() == shared.is_ipv6());
        let shared = config.dns.addresses.iter().filter(of_family).copied().collect();
        Some(Self { port: config.tunnel.port, mtu, mac, addresses, shared, routes })
    }

    /// Makes the device so, whatever it is now. What is right already is not touched: traffic goes on.
    pub async fn ensure(&self, netlink: &Netlink) -> Result<Device, OverlayError> {
        let link = match netlink.find_link(DEVICE).await? {
            Some(link) if self.can_become(&link) => link,
            found => {
                if let Some(Link { ifindex, kind, .. }) = found {
                    tracing::warn!(?kind, "device {DEVICE} is not what it has to be: making it anew");
                    netlink.del_link(ifindex).await?;
                }
                netlink.add_vxlan(DEVICE, self.port, self.mac, self.mtu).await?;
                netlink.find_link(DEVICE).await?.ok_or(OverlayError::Gone)?
            }
        };
        // Before it is up: IPv6 makes addresses, or fails to, at that moment.
        sysctl::write_overlay(DEVICE, self.addresses.iter().any(IpAddr::is_ipv6))?;
        self.ensure_link(netlink, &link).await?;
        self.ensure_addresses(netlink, link.ifindex).await?;
        self.ensure_routes(netlink, link.ifindex).await?;
        Ok(Device { name: link.name, ifindex: link.ifindex })
    }

    /// Whether the device can be brought into shape as it is; port and kind are for ever.
    fn can_become(&self, link: &Link) -> bool {
        link.vxlan.is_some_and(|vxlan| vxlan.port == self.port && vxlan.external && !vxlan.learning)
    }

    async fn ensure_link(&self, netlink: &Netlink, link: &Link) -> Result<(), NetlinkError> {
        if !link.no_arp {
            netlink.set_link_arp_off(link.ifindex).await?;
        }
        if link.mac != self.mac {
            netlink.set_link_mac(link.ifindex, self.mac).await?;
        }
        if link.mtu != self.mtu {
            netlink.set_link_mtu(link.ifindex, self.mtu).await?;
        }
        if !link.up {
            netlink.set_link_up(link.ifindex).await?;
        }
        Ok(())
    }

    /// The new ones first, so that the node is never without.
    async fn ensure_addresses(&self, netlink: &Netlink, ifindex: u32) -> Result<(), NetlinkError> {
        let there = netlink.list_addresses(ifindex).await?;
        let wanted: Vec<IpNet> = self.addresses.iter().chain(&self.shared).copied().map(IpNet::from).collect();
        for address in wanted.iter().filter(|address| !there.contains(address)) {
            netlink.add_address(ifindex, *address).await?;
        }
        for address in there.into_iter().filter(|address| !wanted.contains(address)) {
            netlink.del_address(ifindex, address).await?;
        }
        Ok(())
    }

    async fn ensure_routes(&self, netlink: &Netlink, ifindex: u32) -> Result<(), NetlinkError> {
        let there = netlink.list_own_routes().await?;
        let route = |(destination, source): &(IpNet, IpAddr)| Route {
            destination: *destination,
            ifindex,
            source: Some(*source),
        };
        let wanted: Vec<Route> = self.routes.iter().map(route).collect();
        for route in wanted.iter().filter(|route| !there.contains(route)) {
            netlink.replace_route(route).await?;
        }
        // A replaced one is not there any more; the kernel compares the destination and the metric.
        let replaced = |old: &Route| wanted.iter().any(|new| new.destination == old.destination);
        for route in there.iter().filter(|route| !wanted.contains(route) && !replaced(route)) {
            netlink.del_route(route).await?;
        }
        Ok(())
    }
}

fn routes(networks: &ClusterNetworks, addresses: &[IpAddr]) -> Vec<(IpNet, IpAddr)> {
    let source = |net: IpNet| addresses.iter().find(|address| address.is_ipv4() == net.addr().is_ipv4());
    networks.iter().filter_map(|network| Some((network.cidr(), *source(network.cidr())?))).collect()
}

// === keeping it so ===

/// What the device is kept in shape with, and by.
#[derive(Debug)]
pub struct OverlayKeeper {
    /// The way to the kernel.
    pub netlink: Netlink,
    /// The configuration.
    pub config: Arc<Config>,
    /// This node's object.
    pub node: watch::Receiver<Arc<Node>>,
    /// The uplink.
    pub uplink: watch::Receiver<Uplink>,
    /// Changes of devices, addresses and routes: somebody may have changed ours.
    pub changes: watch::Receiver<()>,
    /// Hears why the device is not as it has to be, under [`Self::stage`].
    pub readiness: Readiness,
    /// Name of the readiness' stage.
    pub stage: &'static str,
}

impl OverlayKeeper {
    /// Brings the device into shape, and keeps it so in a task that ends when all receivers are dropped. Returns when it is so for
    /// the first time.
    pub async fn start(mut self, tasks: &Tasks) -> watch::Receiver<Device> {
        let device = loop {
            match self.ensure().await {
                Some(device) => break device,
                None => self.wait(TRY_AGAIN).await,
            }
        };
        let sender = watch::Sender::new(device);
        let receiver = sender.subscribe();
        tasks.spawn(self.keep(sender));
        receiver
    }

    async fn keep(mut self, sender: watch::Sender<Device>) {
        let mut pause = LOOK_AGAIN;
        loop {
            tokio::select! {
                () = self.wait(pause) => {}
                () = sender.closed() => return,
            }
            pause = match self.ensure().await {
                Some(device) => {
                    sender.send_if_modified(|last| std::mem::replace(last, device.clone()) != device);
                    LOOK_AGAIN
                }
                None => TRY_AGAIN,
            };
        }
    }

    async fn ensure(&mut self) -> Option<Device> {
        let wanted = Overlay::wanted(&self.config, &self.node.borrow_and_update(), &self.uplink.borrow_and_update());
        let outcome = match wanted {
            Some(wanted) => wanted.ensure(&self.netlink).await.map_err(|error| error.to_string()),
            None => Err("the node has no host subnet".to_owned()),
        };
        self.readiness.set(self.stage, outcome.as_ref().err().cloned());
        outcome.ok()
    }

    /// Until something that the device depends on has changed, or the time is over.
    async fn wait(&mut self, pause: Duration) {
        tokio::select! {
            Ok(()) = self.node.changed() => {}
            Ok(()) = self.uplink.changed() => {}
            Ok(()) = self.changes.changed() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

#[cfg(test)]
mod tests;

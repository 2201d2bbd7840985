//! rtnetlink in the words of `ip`: one request a method, in the network namespace of the thread that connected.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan, RouteMessageBuilder};

/// How long the carrier of a new device may take to be noticed.
const RUNNING_DEADLINE: Duration = Duration::from_secs(5);

/// An open rtnetlink socket.
#[derive(Debug, Clone)]
pub struct Netlink {
    handle: Handle,
}

/// A VXLAN device of the kernel with one fixed peer, as a comparison for the dataplane.
#[derive(Debug, Clone, Copy)]
pub struct VxlanTunnel {
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// The node's own address on the underlay.
    pub local: IpAddr,
    /// The peer's.
    pub remote: IpAddr,
    /// UDP port of both.
    pub port: u16,
}

impl Netlink {
    /// Connects in the calling thread's network namespace; to be called inside a tokio runtime.
    pub fn connect() -> Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection().context("open an rtnetlink socket")?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// `ip link set NAME up`
    pub async fn set_up(&self, name: &str) -> Result<()> {
        self.set(LinkUnspec::new_with_name(name).up().build()).await.with_context(|| format!("set {name} up"))
    }

    /// `ip link set NAME mtu MTU`, bytes.
    pub async fn set_mtu(&self, name: &str, mtu: u32) -> Result<()> {
        let message = LinkUnspec::new_with_name(name).mtu(mtu).build();
        self.set(message).await.with_context(|| format!("set the MTU of {name} to {mtu}"))
    }

    /// `ip link set NAME master BRIDGE`
    pub async fn set_master(&self, name: &str, bridge: &str) -> Result<()> {
        let message = LinkUnspec::new_with_name(name).controller(link_index(bridge)?).build();
        self.set(message).await.with_context(|| format!("attach {name} to the bridge {bridge}"))
    }

    /// `ip link set NAME netns NAMESPACE`
    pub async fn set_netns(&self, name: &str, namespace: impl AsFd) -> Result<()> {
        let message = LinkUnspec::new_with_name(name).setns_by_fd(namespace.as_fd().as_raw_fd()).build();
        self.set(message).await.with_context(|| format!("move {name} to another network namespace"))
    }

    /// `ip link set NAME name NEW`
    pub async fn rename(&self, name: &str, new: &str) -> Result<()> {
        let message = LinkUnspec::new_with_index(link_index(name)?).name(new).build();
        self.set(message).await.with_context(|| format!("rename {name} to {new}"))
    }

    /// `ip link add NAME type bridge mcast_snooping 0`: neighbour discovery is multicast, and nobody here asks for it by MLD.
    pub async fn add_bridge(&self, name: &str) -> Result<()> {
        let message = LinkBridge::new(name).mcast_snooping(false).build();
        self.add(message).await.with_context(|| format!("make the bridge {name}"))
    }

    /// `ip link add NAME type veth peer name PEER`
    pub async fn add_veth(&self, name: &str, peer: &str) -> Result<()> {
        self.add(LinkVeth::new(name, peer).build()).await.with_context(|| format!("make the veth pair {name}, {peer}"))
    }

    /// `ip link add NAME type vxlan id VNI dev UPLINK local A remote B dstport P`
    pub async fn add_vxlan(&self, name: &str, uplink: &str, tunnel: VxlanTunnel) -> Result<()> {
        let message = vxlan_message(name, link_index(uplink)?, tunnel);
        self.add(message).await.with_context(|| format!("make the VXLAN device {name} to {}", tunnel.remote))
    }

    /// Waits until NAME is operationally up. The kernel takes notice of a new veth's carrier up to a second late, and a bridge's
    /// port forwards nothing before.
    pub async fn await_running(&self, name: &str) -> Result<()> {
        let deadline = Instant::now() + RUNNING_DEADLINE;
        while !is_running(name)? {
            ensure!(Instant::now() < deadline, "{name} does not get carrier");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// `ip address add ADDRESS dev NAME nodad`
    pub async fn add_address(&self, name: &str, address: IpNet) -> Result<()> {
        let mut request = self.handle.address().add(link_index(name)?, address.addr(), address.prefix_len());
        // Even with accept_dad = 0 an address is tentative for a moment without this.
        request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        request.execute().await.with_context(|| format!("add {address} to {name}"))
    }

    /// `ip route add default via GATEWAY`
    pub async fn add_default_route(&self, gateway: IpAddr) -> Result<()> {
        let message = match gateway {
            IpAddr::V4(gateway) => RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build(),
            IpAddr::V6(gateway) => RouteMessageBuilder::<Ipv6Addr>::new().gateway(gateway).build(),
        };
        self.handle.route().add(message).execute().await.with_context(|| format!("add the default route via {gateway}"))
    }

    async fn set(&self, message: LinkMessage) -> Result<()> {
        Ok(self.handle.link().set(message).execute().await?)
    }

    async fn add(&self, message: LinkMessage) -> Result<()> {
        Ok(self.handle.link().add(message).execute().await?)
    }
}

fn is_running(name: &str) -> Result<bool> {
    let mut interfaces = getifaddrs().context("list the interfaces")?;
    let running = InterfaceFlags::IFF_RUNNING | InterfaceFlags::IFF_LOWER_UP;
    Ok(interfaces.any(|interface| interface.interface_name == name && interface.flags.contains(running)))
}

fn link_index(name: &str) -> Result<u32> {
    if_nametoindex(name).with_context(|| format!("find the interface {name}"))
}

fn vxlan_message(name: &str, uplink: u32, tunnel: VxlanTunnel) -> LinkMessage {
    let link: LinkMessageBuilder<LinkVxlan> = LinkVxlan::new(name, tunnel.vni).dev(uplink).port(tunnel.port);
    let link = match tunnel.local {
        IpAddr::V4(local) => link.local(local),
        IpAddr::V6(local) => link.local6(local),
    };
    match tunnel.remote {
        IpAddr::V4(remote) => link.remote(remote),
        IpAddr::V6(remote) => link.remote6(remote),
    }
    .build()
}

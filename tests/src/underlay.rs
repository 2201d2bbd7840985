//! What connects a lab's nodes: a bridge in a namespace of its own, and beyond it an outside host that plays the internet.
//!
//! ```text
//! underlay   bridge br0 ── port0 ─ outside eth0   192.168.77.1   fd00:77::1    the nodes' default gateway
//!                        │                   lo   203.0.113.10   2001:db8:77::10   "somewhere on the internet"
//!                        ├ port1 ─ node-1  eth0   192.168.77.11  fd00:77::b
//!                        └ port2 ─ node-2  eth0   192.168.77.12  fd00:77::c
//! ```
//!
//! The outside host has no route to any pod, so an answer from there proves that the question came from a node's address.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;

use crate::family::{Family, IpFamily};
use crate::netlink::Netlink;
use crate::sandbox::{Namespace, Sandbox};

/// The uplink's name on every host.
pub const UPLINK: &str = "eth0";

/// The bridge in the underlay's namespace.
const BRIDGE: &str = "br0";

/// As many hosts as the last byte of an IPv4 address has room for above [`Host::Node`]'s first.
const MOST_NODES: usize = 200;

/// A host on the underlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// The outside host, which is also the default gateway.
    Outside,
    /// A node, counted from 1.
    Node(usize),
}

/// The underlay's namespace and what is plugged into it.
#[derive(Debug)]
pub struct Underlay {
    switch: Sandbox,
    family: Family,
    mtu: u32,
}

// === impl Host ===

impl Host {
    /// Its address on the underlay with the prefix.
    pub fn address(self, family: IpFamily) -> IpNet {
        let number = match self {
            Self::Outside => 1,
            Self::Node(index) => 10 + u8::try_from(index).unwrap_or(u8::MAX),
        };
        match family {
            IpFamily::V4 => net(Ipv4Addr::new(192, 168, 77, number).into(), 24),
            IpFamily::V6 => net(Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, number.into()).into(), 64),
        }
    }

    /// Its addresses on the underlay.
    pub fn addresses(self, family: Family) -> Vec<IpAddr> {
        family.each().iter().map(|family| self.address(*family).addr()).collect()
    }

    fn port(self) -> String {
        match self {
            Self::Outside => "port0".into(),
            Self::Node(index) => format!("port{index}"),
        }
    }
}

/// Where pods find "the internet": addresses of the outside host beyond the underlay.
pub fn internet_address(family: IpFamily) -> IpAddr {
    match family {
        IpFamily::V4 => Ipv4Addr::new(203, 0, 113, 10).into(),
        IpFamily::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 0x10).into(),
    }
}

/// The clouds' metadata service, which the outside host would answer for if it were let through.
pub const METADATA: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));

fn net(address: IpAddr, prefix: u8) -> IpNet {
    // Callers give constants, and 32 and 128 for single addresses.
    IpNet::new(address, prefix).expect("the prefix fits the family")
}

// === impl Underlay ===

impl Underlay {
    /// Makes the bridge. `mtu` in bytes is that of all uplinks.
    pub fn new(family: Family, mtu: u32) -> Result<Self> {
        let switch = Sandbox::from(new_host_namespace()?);
        switch.netlink(async |link: Netlink| {
            link.add_bridge(BRIDGE).await?;
            link.set_mtu(BRIDGE, mtu).await?;
            link.set_up(BRIDGE).await
        })?;
        Ok(Self { switch, family, mtu })
    }

    /// The bridge's own namespace: for looking at what passes.
    pub fn switch(&self) -> &Sandbox {
        &self.switch
    }

    /// The resolv.conf of hosts here: the outside host knows the names of the internet.
    pub fn resolv_conf(&self) -> String {
        self.family.each().iter().map(|family| format!("nameserver {}\n", internet_address(*family))).collect()
    }

    /// Makes the outside host.
    pub fn add_outside(&self) -> Result<Namespace> {
        let outside = new_host_namespace()?;
        self.plug_in(Host::Outside, &outside)?;
        Sandbox::from(outside.clone()).netlink(async |link: Netlink| {
            for family in self.family.each() {
                let prefix = if *family == IpFamily::V4 { 32 } else { 128 };
                link.add_address("lo", net(internet_address(*family), prefix)).await?;
                if *family == IpFamily::V4 {
                    link.add_address("lo", net(METADATA, 32)).await?;
                }
            }
            Ok(())
        })?;
        Ok(outside)
    }

    /// Makes the network namespace of the node number `index` (from 1), with its default route through the outside host.
    pub fn add_node(&self, index: usize) -> Result<Namespace> {
        ensure!((1..=MOST_NODES).contains(&index), "a lab has 1 to {MOST_NODES} nodes");
        let node = new_host_namespace()?;
        self.plug_in(Host::Node(index), &node)?;
        Sandbox::from(node.clone()).netlink(async |link: Netlink| {
            for family in self.family.each() {
                link.add_default_route(Host::Outside.address(*family).addr()).await?;
            }
            Ok(())
        })?;
        Ok(node)
    }

    /// A veth from the bridge to the host's uplink, with the host's addresses.
    fn plug_in(&self, host: Host, namespace: &Namespace) -> Result<()> {
        let port = host.port();
        let other = format!("{port}-host");
        self.switch.netlink(async |link: Netlink| {
            link.add_veth(&port, &other).await?;
            link.set_mtu(&port, self.mtu).await?;
            link.set_mtu(&other, self.mtu).await?;
            link.set_master(&port, BRIDGE).await?;
            link.set_up(&port).await?;
            link.set_netns(&other, namespace).await
        })?;
        Sandbox::from(namespace.clone()).netlink(async |link: Netlink| {
            link.rename(&other, UPLINK).await?;
            link.set_up(UPLINK).await?;
            for family in self.family.each() {
                link.add_address(UPLINK, host.address(*family)).await?;
            }
            link.await_running(UPLINK).await
        })?;
        self.switch.netlink(async |link: Netlink| link.await_running(&port).await)
    }
}

/// A network namespace in which addresses are usable at once and ping needs no privileges.
pub fn new_host_namespace() -> Result<Namespace> {
    let namespace = Namespace::new_net()?;
    Sandbox::from(namespace.clone()).within(|| {
        for device in ["all", "default"] {
            write_sysctl(&format!("ipv6/conf/{device}/accept_dad"), "0")?;
            write_sysctl(&format!("ipv6/conf/{device}/router_solicitations"), "0")?;
        }
        allow_ping()
    })?;
    Ok(namespace)
}

/// A pod's network namespace as container runtimes make it.
pub fn new_pod_namespace() -> Result<Namespace> {
    let namespace = Namespace::new_net()?;
    Sandbox::from(namespace.clone()).within(allow_ping)?;
    Ok(namespace)
}

/// What container runtimes do for pods (containerd's enable_unprivileged_icmp): everybody may open ICMP sockets.
fn allow_ping() -> Result<()> {
    write_sysctl("ipv4/ping_group_range", "0 2147483647")
}

/// Sets `/proc/sys/net/NAME` of the calling thread's network namespace.
fn write_sysctl(name: &str, value: &str) -> Result<()> {
    let file = format!("/proc/sys/net/{name}");
    fs::write(&file, value).with_context(|| format!("write {value} to {file}"))
}

#[cfg(test)]
mod tests;

//! What the kernel does alone, as a comparison: the same kind of underlay, nodes and pods, connected by bridges and VXLAN devices.
//!
//! Pods of one node are ports of its bridge. The bridge's VXLAN port leads to the other node. All pods are in one subnet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, Result};
use ipnet::IpNet;

use crate::family::{Family, IpFamily};
use crate::netlink::{Netlink, VxlanTunnel};
use crate::sandbox::{Namespace, Sandbox};
use crate::underlay::{Host, UPLINK, Underlay, new_host_namespace};

const BRIDGE: &str = "br0";
const VXLAN: &str = "vxlan0";
const POD_INTERFACE: &str = "eth0";

/// Not the dataplane's own port, to be seen apart in captures.
const PORT: u16 = 4790;
const VNI: u32 = 1;

/// Two nodes with the kernel's own devices. They end when dropped, and nothing of them is outside of their namespaces.
#[derive(Debug)]
pub struct Peers {
    family: Family,
    pod_mtu: u32,
    nodes: [Sandbox; 2],
    pods: AtomicU16,
    // Kept alive: the cable between the nodes.
    _underlay: Underlay,
}

/// A pod of [`Peers`].
#[derive(Debug)]
pub struct PeerPod {
    sandbox: Sandbox,
    addresses: Vec<IpAddr>,
}

// === impl Peers ===

impl Peers {
    /// Two nodes on an underlay with an MTU of `underlay_mtu` bytes; tunnels use the first family.
    pub fn new(family: Family, underlay_mtu: u32) -> Result<Self> {
        let underlay = Underlay::new(family, underlay_mtu)?;
        let nodes = [underlay.add_node(1)?.into(), underlay.add_node(2)?.into()];
        let overhead = if family == Family::V6 { 70 } else { 50 };
        let peers =
            Self { family, pod_mtu: underlay_mtu - overhead, nodes, pods: AtomicU16::new(0), _underlay: underlay };
        peers.connect(0, 1)?;
        peers.connect(1, 0)?;
        Ok(peers)
    }

    /// The node's network.
    pub fn node(&self, index: usize) -> &Sandbox {
        &self.nodes[index]
    }

    /// Attaches one more pod to the bridge of node 0 or 1.
    pub fn add_pod(&self, node: usize) -> Result<PeerPod> {
        let number = self.pods.fetch_add(1, Ordering::Relaxed) + 1;
        let net = new_host_namespace()?;
        let (port, other) = (format!("pod{number}"), format!("pod{number}-in"));
        self.nodes[node].netlink(async |link: Netlink| {
            link.add_veth(&port, &other).await?;
            link.set_mtu(&port, self.pod_mtu).await?;
            link.set_mtu(&other, self.pod_mtu).await?;
            link.set_master(&port, BRIDGE).await?;
            link.set_up(&port).await?;
            link.set_netns(&other, &net).await
        })?;
        let addresses: Vec<IpNet> = self.family.each().iter().map(|family| pod_address(*family, number)).collect();
        let pod = PeerPod::configure(net, &other, &addresses);
        let pod = pod.with_context(|| format!("configure the pod {number} of a peer"))?;
        self.nodes[node].netlink(async |link: Netlink| link.await_running(&port).await)?;
        Ok(pod)
    }

    fn connect(&self, from: usize, to: usize) -> Result<()> {
        // Every family value has a first member.
        let first = self.family.each()[0];
        let address = |node: usize| Host::Node(node + 1).address(first).addr();
        let tunnel = VxlanTunnel { vni: VNI, local: address(from), remote: address(to), port: PORT };
        self.nodes[from].netlink(async |link: Netlink| {
            link.add_bridge(BRIDGE).await?;
            link.add_vxlan(VXLAN, UPLINK, tunnel).await?;
            link.set_mtu(VXLAN, self.pod_mtu).await?;
            link.set_master(VXLAN, BRIDGE).await?;
            link.set_up(VXLAN).await?;
            link.set_up(BRIDGE).await
        })
    }
}

fn pod_address(family: IpFamily, number: u16) -> IpNet {
    let [high, low] = number.to_be_bytes();
    let (address, prefix) = match family {
        IpFamily::V4 => (IpAddr::from(Ipv4Addr::new(10, 200, high, low)), 16),
        IpFamily::V6 => (Ipv6Addr::new(0xfd02, 0x200, 0, 0, 0, 0, 0, number).into(), 64),
    };
    IpNet::new(address, prefix).expect("16 and 64 fit their families")
}

// === impl PeerPod ===

impl PeerPod {
    fn configure(net: Namespace, interface: &str, addresses: &[IpNet]) -> Result<Self> {
        let sandbox = Sandbox::from(net);
        sandbox.netlink(async |link: Netlink| {
            link.rename(interface, POD_INTERFACE).await?;
            link.set_up(POD_INTERFACE).await?;
            for address in addresses {
                link.add_address(POD_INTERFACE, *address).await?;
            }
            link.await_running(POD_INTERFACE).await
        })?;
        Ok(Self { sandbox, addresses: addresses.iter().map(IpNet::addr).collect() })
    }

    /// Its network.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Its addresses.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Its address of one family.
    pub fn address(&self, family: IpFamily) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| IpFamily::of(*address) == family)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::probe;

    #[test]
    fn pods_of_peers_reach_each_other_on_one_node_and_across() {
        for family in [Family::Dual, Family::V6] {
            let peers = Peers::new(family, 1500).unwrap();
            let pods = [peers.add_pod(0).unwrap(), peers.add_pod(0).unwrap(), peers.add_pod(1).unwrap()];
            for (from, to) in [(0, 1), (0, 2), (2, 1)] {
                for target in pods[to].addresses().iter().copied() {
                    let outcome = pods[from]
                        .sandbox()
                        .within_async(async || Ok(probe::ping(target, Duration::from_secs(2)).await));
                    outcome.unwrap().unwrap_or_else(|failure| panic!("{from} to {to} at {target}: {failure}"));
                }
            }
            assert_eq!(pods[0].addresses().len(), family.each().len());
        }
    }
}

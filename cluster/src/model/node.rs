//! Nodes.

use super::meta::Labels;
use ipnet::IpNet;
use std::{net::IpAddr, sync::Arc};

/// A machine of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// metadata.name.
    pub name: Arc<str>,
    /// metadata.uid; empty when the object carries none.
    pub uid: Arc<str>,
    /// metadata.labels.
    pub labels: Labels,
    /// The label topology.kubernetes.io/zone.
    pub zone: Option<Arc<str>>,
    /// The node's own addresses on the underlay: status.addresses of type InternalIP in their order, then those of type ExternalIP.
    /// Host names are ignored.
    pub addresses: Vec<IpAddr>,
    /// The host subnets its pods get their addresses from: spec.podCIDRs, else spec.podCIDR. At most one of each family, never with
    /// host bits set.
    pub subnets: Vec<IpNet>,
    /// spec.unschedulable: no new pods but those of DaemonSets.
    pub unschedulable: bool,
}

impl Node {
    /// The label that names a node's zone.
    pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
}

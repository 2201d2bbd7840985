//! Nodes.

use super::{
    meta::Labels,
    object::{self, FieldError},
    wire::{self, Address, DnsSubdomain, Meta, Subnet, or_default},
};
use ipnet::IpNet;
use serde::Deserialize;
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
    /// The node's own addresses on the underlay: status.addresses of type InternalIP in their order, then those of type
    /// ExternalIP. Host names are ignored.
    pub addresses: Vec<IpAddr>,
    /// The host subnets its pods get their addresses from: spec.podCIDRs, else spec.podCIDR. At most one of each
    /// family, never with host bits set.
    pub subnets: Vec<IpNet>,
    /// spec.unschedulable: no new pods but those of DaemonSets.
    pub unschedulable: bool,
}

impl Node {
    /// The label that names a node's zone.
    pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
}

#[derive(Deserialize)]
struct Wire {
    metadata: Meta<DnsSubdomain>,
    #[serde(default, deserialize_with = "or_default")]
    spec: Spec,
    #[serde(default, deserialize_with = "or_default")]
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(try_from = "RawSpec")]
struct Spec {
    subnets: Vec<IpNet>,
    unschedulable: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSpec {
    #[serde(rename = "podCIDR", default)]
    pod_cidr: Option<Subnet>,
    #[serde(rename = "podCIDRs", default, deserialize_with = "or_default")]
    pod_cidrs: Vec<Subnet>,
    #[serde(default, deserialize_with = "or_default")]
    unschedulable: bool,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default, deserialize_with = "or_default")]
    addresses: Vec<NodeAddress>,
}

/// Host names are names: only the two types that hold addresses are read as such.
#[derive(Deserialize)]
#[serde(try_from = "RawNodeAddress")]
enum NodeAddress {
    Internal(IpAddr),
    External(IpAddr),
    Other,
}

#[derive(Deserialize)]
struct RawNodeAddress {
    r#type: String,
    address: String,
}

// === impl Node ===

impl Node {
    pub(super) fn parse(json: &str, seed: &str) -> Result<Self, FieldError> {
        let Wire { metadata, spec, status } = object::decode(json)?;
        let internal = status.addresses.iter().filter_map(NodeAddress::internal);
        let external = status.addresses.iter().filter_map(NodeAddress::external);
        Ok(Self {
            name: metadata.name(seed)?,
            uid: metadata.uid(),
            addresses: internal.chain(external).collect(),
            subnets: spec.subnets,
            unschedulable: spec.unschedulable,
            zone: metadata.labels.0.get(Self::ZONE_LABEL).map(|zone| zone.as_str().into()),
            labels: metadata.labels.0,
        })
    }
}

impl TryFrom<RawSpec> for Spec {
    type Error = String;

    fn try_from(spec: RawSpec) -> Result<Self, String> {
        let mut subnets: Vec<IpNet> = spec.pod_cidrs.iter().map(|subnet| subnet.0).collect();
        match (spec.pod_cidr, subnets.first()) {
            (Some(Subnet(one)), None) => subnets.push(one),
            (Some(Subnet(one)), Some(first)) if one != *first => {
                return Err(format!("podCIDR {one} is not the first of podCIDRs, {first}"));
            }
            _ => {}
        }
        wire::one_a_family(subnets.iter().map(|subnet| subnet.addr().is_ipv4()), "podCIDRs")?;
        Ok(Self { subnets, unschedulable: spec.unschedulable })
    }
}

// === impl NodeAddress ===

impl NodeAddress {
    fn internal(&self) -> Option<IpAddr> {
        if let Self::Internal(address) = self { Some(*address) } else { None }
    }

    fn external(&self) -> Option<IpAddr> {
        if let Self::External(address) = self { Some(*address) } else { None }
    }
}

impl TryFrom<RawNodeAddress> for NodeAddress {
    type Error = String;

    fn try_from(RawNodeAddress { r#type, address }: RawNodeAddress) -> Result<Self, String> {
        Ok(match r#type.as_str() {
            "InternalIP" => Self::Internal(Address::try_from(address)?.0),
            "ExternalIP" => Self::External(Address::try_from(address)?.0),
            _ => Self::Other,
        })
    }
}

//! Endpoints, which EndpointSlices have replaced: read, and made into slices at once.

use super::{
    AddressType, Endpoint, EndpointPort, EndpointSlice,
    wire::{Port, TargetRef},
};
use crate::model::{
    meta,
    object::{self, FieldError},
    service::{EndpointAddress, fault},
    wire::{DnsLabel, DnsSubdomain, Meta, or_default, or_none},
};
use serde::Deserialize;
use std::sync::Arc;

/// A v1 Endpoints object: what somebody says stands behind the Service of the same name. Only [`crate::control`] uses
/// it, which publishes its slices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// metadata.namespace.
    pub namespace: Arc<str>,
    /// metadata.name, which is the Service's.
    pub name: Arc<str>,
    /// What it comes to, as the EndpointSlice mirroring controller has it: for every subset a slice of each family.
    /// None when it says that it is not to be mirrored (the label [`Endpoints::SKIP_LABEL`], the annotation of a leader
    /// election).
    pub slices: Vec<EndpointSlice>,
}

/// The annotation that programs use to elect a leader among them by means of an Endpoints object.
const LEADER_ANNOTATION: &str = "control-plane.alpha.kubernetes.io/leader";

#[derive(Deserialize)]
struct Wire {
    metadata: Meta<DnsSubdomain>,
    #[serde(default, deserialize_with = "or_default")]
    subsets: Vec<Subset>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subset {
    #[serde(default, deserialize_with = "or_default")]
    addresses: Vec<WireAddress>,
    #[serde(default, deserialize_with = "or_default")]
    not_ready_addresses: Vec<WireAddress>,
    #[serde(default, deserialize_with = "or_default")]
    ports: Vec<Port>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireAddress {
    ip: EndpointAddress,
    #[serde(default, deserialize_with = "or_none")]
    hostname: Option<DnsLabel>,
    #[serde(default, deserialize_with = "or_none")]
    node_name: Option<DnsSubdomain>,
    target_ref: Option<TargetRef>,
}

// === impl Endpoints ===

impl Endpoints {
    /// The label that keeps it from being mirrored, when "true".
    pub const SKIP_LABEL: &str = "endpointslice.kubernetes.io/skip-mirror";

    pub(in crate::model) fn parse(json: &str, seed: &str) -> Result<Self, FieldError> {
        let Wire { metadata, subsets } = object::decode(json)?;
        let (namespace, name) = (metadata.namespace(), metadata.name(seed)?);
        let is_skipped = metadata.labels.0.get(Self::SKIP_LABEL).is_some_and(|value| value == "true")
            || metadata.annotations.0.contains_key(LEADER_ANNOTATION);
        let mut slices = Vec::new();
        for (index, subset) in subsets.into_iter().enumerate() {
            subset.check().map_err(|error| error.within(&format!("subsets[{index}]"), 0))?;
            slices.extend(subset.slices(index, &namespace, &name));
        }
        if is_skipped {
            slices.clear();
        }
        Ok(Self { namespace, name, slices })
    }
}

// === impl Subset ===

impl Subset {
    fn check(&self) -> Result<(), FieldError> {
        if self.addresses.is_empty() && self.not_ready_addresses.is_empty() {
            return Err(fault("addresses", "there is neither one that is ready nor one that is not"));
        }
        let is_several = self.ports.len() > 1;
        for (index, port) in self.ports.iter().enumerate() {
            if port.port.is_none() {
                return Err(fault(format!("ports[{index}].port"), "the number is missing"));
            }
            if is_several && !port.has_name() {
                let message = "the name is missing: with several ports each has one";
                return Err(fault(format!("ports[{index}].name"), message));
            }
        }
        Ok(())
    }

    fn slices(self, index: usize, namespace: &Arc<str>, name: &Arc<str>) -> Vec<EndpointSlice> {
        let ports: Vec<EndpointPort> = self.ports.into_iter().map(Port::model).collect();
        let ready = self.addresses.into_iter().map(|address| address.model(true, namespace));
        let not_ready = self.not_ready_addresses.into_iter().map(|address| address.model(false, namespace));
        let (v4, v6): (Vec<_>, Vec<_>) = ready.chain(not_ready).partition(|endpoint| endpoint.address.is_ipv4());
        let mut slices = Vec::new();
        for (address_type, endpoints) in [(AddressType::V4, v4), (AddressType::V6, v6)] {
            for (part, endpoints) in endpoints.chunks(EndpointSlice::MAX_ENDPOINTS).enumerate() {
                let suffix = meta::suffix(&format!("{namespace}/{name}#{index}#{address_type:?}#{part}"));
                slices.push(EndpointSlice {
                    namespace: namespace.clone(),
                    name: format!("{}-{index}-{suffix}", &name[..name.floor_char_boundary(MAX_BASE)]).into(),
                    service: Some(name.clone()),
                    managed_by: Some(EndpointSlice::MIRRORING_CONTROLLER.into()),
                    address_type,
                    ports: ports.clone(),
                    endpoints: endpoints.to_vec(),
                });
            }
        }
        slices
    }
}

/// What a slice's name may have before its number and suffix.
const MAX_BASE: usize = 220;

// === impl WireAddress ===

impl WireAddress {
    fn model(self, ready: bool, namespace: &Arc<str>) -> Endpoint {
        Endpoint {
            address: self.ip.0,
            ready,
            serving: ready,
            terminating: false,
            hostname: self.hostname.map(|name| name.as_ref().clone()),
            node: self.node_name.map(|name| name.as_ref().clone()),
            zone: None,
            hints: None,
            pod: self.target_ref.and_then(|target| target.pod(namespace)),
        }
    }
}

//! An EndpointSlice as it is written, and the rules that the API has for it.

use super::{AddressType, Endpoint, EndpointPort, EndpointSlice, Hints};
use crate::model::{
    object::FieldError,
    pod::{PodKey, Protocol},
    service::{EndpointAddress, fault},
    wire::{DnsLabel, DnsSubdomain, LabelKey, LabelValue, Meta, or_default, or_none},
};
use serde::Deserialize;
use std::{collections::BTreeSet, net::IpAddr, num::NonZeroU16, sync::Arc};

/// The most addresses of one endpoint.
const MAX_ADDRESSES: usize = 100;

/// The most hints of one endpoint, of each kind.
const MAX_HINTS: usize = 8;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Wire {
    metadata: Meta<DnsSubdomain>,
    address_type: AddressType,
    #[serde(default, deserialize_with = "or_default")]
    endpoints: Vec<WireEndpoint>,
    #[serde(default, deserialize_with = "or_default")]
    ports: Vec<Port>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireEndpoint {
    addresses: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    conditions: Conditions,
    #[serde(default, deserialize_with = "or_none")]
    hostname: Option<DnsLabel>,
    #[serde(default, deserialize_with = "or_none")]
    node_name: Option<DnsSubdomain>,
    #[serde(default, deserialize_with = "or_none")]
    zone: Option<LabelValue>,
    #[serde(default, deserialize_with = "or_default")]
    hints: WireHints,
    target_ref: Option<TargetRef>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireHints {
    #[serde(deserialize_with = "or_default")]
    for_zones: Vec<Hint>,
    #[serde(deserialize_with = "or_default")]
    for_nodes: Vec<Hint>,
}

#[derive(Deserialize)]
struct Hint {
    name: Arc<str>,
}

/// What an endpoint is; only pods are of use.
#[derive(Deserialize)]
pub(super) struct TargetRef {
    #[serde(default)]
    kind: String,
    #[serde(default, deserialize_with = "or_none")]
    namespace: Option<DnsLabel>,
    #[serde(default, deserialize_with = "or_none")]
    name: Option<DnsSubdomain>,
}

/// A port of an EndpointSlice or, where it has a number, of Endpoints.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Port {
    #[serde(default, deserialize_with = "or_none")]
    name: Option<DnsLabel>,
    #[serde(default, deserialize_with = "or_default")]
    protocol: Protocol,
    pub port: Option<NonZeroU16>,
    #[serde(default, deserialize_with = "or_none")]
    app_protocol: Option<LabelKey>,
}

// === impl Wire ===

impl Wire {
    pub fn model(self, seed: &str) -> Result<EndpointSlice, FieldError> {
        let Self { metadata, address_type, endpoints, ports } = self;
        if endpoints.len() > EndpointSlice::MAX_ENDPOINTS {
            let message = format!("{} are more than {}", endpoints.len(), EndpointSlice::MAX_ENDPOINTS);
            return Err(fault("endpoints", message));
        }
        let mut names = BTreeSet::new();
        for (index, port) in ports.iter().enumerate() {
            let name = port.name.as_ref().map(|name| name.as_ref().clone()).unwrap_or_default();
            if !names.insert(name.clone()) {
                return Err(fault(format!("ports[{index}].name"), format!("two ports are called {name:?}")));
            }
        }
        let namespace = metadata.namespace();
        let mut models = Vec::with_capacity(endpoints.len());
        for (index, endpoint) in endpoints.into_iter().enumerate() {
            let endpoint = endpoint.model(address_type, &namespace);
            let endpoint = endpoint.map_err(|error| error.within(&format!("endpoints[{index}]"), 0))?;
            models.extend(endpoint);
        }
        let label = |name: &str| metadata.labels.0.get(name).map(|value| Arc::from(value.as_str()));
        Ok(EndpointSlice {
            name: metadata.name(seed)?,
            service: label(EndpointSlice::SERVICE_LABEL),
            managed_by: label(EndpointSlice::MANAGED_BY_LABEL),
            namespace,
            address_type,
            ports: ports.into_iter().map(Port::model).collect(),
            endpoints: models,
        })
    }
}

// === impl WireEndpoint ===

impl WireEndpoint {
    /// `None` for one that has names instead of addresses.
    fn model(self, address_type: AddressType, namespace: &Arc<str>) -> Result<Option<Endpoint>, FieldError> {
        if self.addresses.is_empty() || self.addresses.len() > MAX_ADDRESSES {
            let message = format!("there are {}: an endpoint has 1 to {MAX_ADDRESSES}", self.addresses.len());
            return Err(fault("addresses", message));
        }
        let mut first = None;
        for (index, text) in self.addresses.into_iter().enumerate() {
            let address = read_address(text, address_type);
            let address = address.map_err(|message| fault(format!("addresses[{index}]"), message))?;
            first = first.or(address);
        }
        let hints = self.hints.model()?;
        let Some(address) = first else { return Ok(None) };
        Ok(Some(Endpoint {
            address,
            ready: self.conditions.ready.unwrap_or(true),
            serving: self.conditions.serving.unwrap_or(true),
            terminating: self.conditions.terminating.unwrap_or(false),
            hostname: self.hostname.map(|name| name.as_ref().clone()),
            node: self.node_name.map(|name| name.as_ref().clone()),
            zone: self.zone.map(|zone| zone.0.into()),
            hints,
            pod: self.target_ref.and_then(|target| target.pod(namespace)),
        }))
    }
}

fn read_address(text: String, address_type: AddressType) -> Result<Option<IpAddr>, String> {
    if address_type == AddressType::Fqdn {
        return DnsSubdomain::try_from(text).map(|_| None);
    }
    let EndpointAddress(address) = EndpointAddress::try_from(text)?;
    if address.is_ipv4() != (address_type == AddressType::V4) {
        return Err(format!("{address} is not of the slice's addressType"));
    }
    Ok(Some(address))
}

// === impl WireHints ===

impl WireHints {
    fn model(self) -> Result<Option<Box<Hints>>, FieldError> {
        for (name, hints) in [("forZones", &self.for_zones), ("forNodes", &self.for_nodes)] {
            let field = || format!("hints.{name}");
            if hints.len() > MAX_HINTS {
                return Err(fault(field(), format!("{} are more than {MAX_HINTS}", hints.len())));
            }
            if let Some(index) = hints.iter().position(|hint| hint.name.is_empty()) {
                return Err(fault(format!("{}[{index}].name", field()), "the name is missing"));
            }
        }
        let names = |hints: Vec<Hint>| hints.into_iter().map(|hint| hint.name).collect();
        let hints = Hints { zones: names(self.for_zones), nodes: names(self.for_nodes) };
        Ok(Some(hints).filter(|hints| *hints != Hints::default()).map(Box::new))
    }
}

// === impl TargetRef ===

impl TargetRef {
    pub fn pod(self, namespace: &Arc<str>) -> Option<PodKey> {
        let name = self.name.filter(|_| self.kind == "Pod")?.as_ref().clone();
        let namespace = self.namespace.map_or_else(|| namespace.clone(), |namespace| namespace.as_ref().clone());
        Some(PodKey { namespace, name })
    }
}

// === impl Port ===

impl Port {
    pub fn model(self) -> EndpointPort {
        EndpointPort {
            name: self.name.map(|name| name.as_ref().clone()),
            protocol: self.protocol,
            port: self.port.map(NonZeroU16::get),
            app_protocol: self.app_protocol.map(|name| name.0.into()),
        }
    }

    pub fn has_name(&self) -> bool {
        self.name.is_some()
    }
}

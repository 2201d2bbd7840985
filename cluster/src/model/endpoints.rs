//! What stands behind Services: EndpointSlices, and the older Endpoints.

mod legacy;
mod wire;

use super::{
    object::{self, FieldError},
    pod::{PodKey, Protocol},
    service::ServiceKey,
};
use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr, sync::Arc};

pub use legacy::Endpoints;

/// An EndpointSlice: endpoints of one Service that have their ports in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSlice {
    /// metadata.namespace.
    pub namespace: Arc<str>,
    /// metadata.name.
    pub name: Arc<str>,
    /// The Service it belongs to, of the same namespace (the label [`EndpointSlice::SERVICE_LABEL`]).
    pub service: Option<Arc<str>>,
    /// Who made it (the label [`EndpointSlice::MANAGED_BY_LABEL`]).
    pub managed_by: Option<Arc<str>>,
    /// What its addresses are.
    pub address_type: AddressType,
    /// The ports of all its endpoints; none: nothing can be reached, though DNS knows the endpoints.
    pub ports: Vec<EndpointPort>,
    /// The endpoints. Empty for [`AddressType::Fqdn`]: nobody forwards to names.
    pub endpoints: Vec<Endpoint>,
}

/// What an EndpointSlice is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SliceKey {
    /// metadata.namespace.
    pub namespace: Arc<str>,
    /// metadata.name.
    pub name: Arc<str>,
}

/// addressType of an EndpointSlice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AddressType {
    /// IPv4 addresses.
    #[default]
    #[serde(rename = "IPv4")]
    V4,
    /// IPv6 addresses.
    #[serde(rename = "IPv6")]
    V6,
    /// Names.
    #[serde(rename = "FQDN")]
    Fqdn,
}

/// One port of a slice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointPort {
    /// The name of the Service's port it belongs to.
    pub name: Option<Arc<str>>,
    /// TCP unless declared.
    pub protocol: Protocol,
    /// The number; `None` means all ports.
    pub port: Option<u16>,
    /// What is spoken, for those who care.
    pub app_protocol: Option<Arc<str>>,
}

/// One endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The first of addresses: the API says that the others are the same to a client, and that the first will do.
    pub address: IpAddr,
    /// conditions.ready: new connections may go there. What says nothing is ready.
    pub ready: bool,
    /// conditions.serving: like ready, also while it ends. What says nothing serves.
    pub serving: bool,
    /// conditions.terminating: it is about to end. What says nothing is not.
    pub terminating: bool,
    /// The name it has below the Service's in DNS.
    pub hostname: Option<Arc<str>>,
    /// nodeName: where it is.
    pub node: Option<Arc<str>>,
    /// zone: where that is.
    pub zone: Option<Arc<str>>,
    /// For whom it is best.
    pub hints: Option<Box<Hints>>,
    /// targetRef: the pod that it is.
    pub pod: Option<PodKey>,
}

/// hints of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// forZones: clients of these zones should use it.
    pub zones: Vec<Arc<str>>,
    /// forNodes: clients on these nodes should.
    pub nodes: Vec<Arc<str>>,
}

// === impl EndpointSlice ===

impl EndpointSlice {
    /// The label that names a slice's Service.
    pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";
    /// The label that says who made a slice.
    pub const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
    /// Who makes slices from selectors, in Kubernetes and here.
    pub const CONTROLLER: &str = "endpointslice-controller.k8s.io";
    /// Who makes slices from Endpoints, in Kubernetes and here.
    pub const MIRRORING_CONTROLLER: &str = "endpointslicemirroring-controller.k8s.io";
    /// The most endpoints a slice may have.
    pub const MAX_ENDPOINTS: usize = 1000;

    pub(super) fn parse(json: &str, seed: &str) -> Result<Self, FieldError> {
        let wire: wire::Wire = object::decode(json)?;
        wire.model(seed)
    }

    /// Its namespace and name.
    pub fn key(&self) -> SliceKey {
        SliceKey { namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// The Service it belongs to.
    pub fn service_key(&self) -> Option<ServiceKey> {
        let name = self.service.clone()?;
        Some(ServiceKey { namespace: self.namespace.clone(), name })
    }
}

// === impl SliceKey ===

impl SliceKey {
    /// The key of the slice `name` in `namespace`.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for SliceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests;

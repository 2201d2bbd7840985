//! Namespaces.

use super::{
    meta::Labels,
    object::{self, FieldError},
    wire::{DnsLabel, Meta},
};
use serde::Deserialize;
use std::sync::Arc;

/// A namespace: what policies select by label, and what names are unique in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// metadata.name.
    pub name: Arc<str>,
    /// metadata.uid; empty when the object carries none.
    pub uid: Arc<str>,
    /// metadata.labels, [`Namespace::NAME_LABEL`] among them once it was read from anywhere.
    pub labels: Labels,
}

#[derive(Deserialize)]
struct Wire {
    metadata: Meta<DnsLabel>,
}

// === impl Namespace ===

impl Namespace {
    /// The label that the API gives every namespace: its name.
    pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";

    /// The namespace that stands for the nodes' own network on OpenShift: nobody's pods are in there.
    pub const HOST_NETWORK: &str = "openshift-host-network";

    /// The label that OpenShift gives the namespaces from which routers' traffic comes, be they in the host network or
    /// not. Its value says nothing.
    pub const ROUTERS_LABEL: &str = "policy-group.network.openshift.io/ingress";

    pub(super) fn parse(json: &str, seed: &str) -> Result<Self, FieldError> {
        let Wire { metadata } = object::decode(json)?;
        let (name, uid) = (metadata.name(seed)?, metadata.uid());
        let mut labels = metadata.labels.0;
        // The API server sets it whatever is written. Manifests come to us without one.
        labels.insert(Self::NAME_LABEL.to_owned(), name.to_string());
        Ok(Self { name, uid, labels })
    }

    /// Whether a policy's namespaceSelector that selects this namespace means nodes, and pods in their network, too.
    pub fn stands_for_hosts(&self) -> bool {
        *self.name == *Self::HOST_NETWORK || self.labels.contains_key(Self::ROUTERS_LABEL)
    }
}

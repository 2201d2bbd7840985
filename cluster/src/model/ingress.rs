//! Ingresses (networking.k8s.io/v1) and their classes.

mod wire;

use super::{
    meta::{Labels, ObjectName, Timestamp},
    object::{self, FieldError},
};
use serde::Deserialize;
use std::sync::Arc;

/// An Ingress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ingress {
    /// metadata.namespace.
    pub namespace: Arc<str>,
    /// metadata.name.
    pub name: Arc<str>,
    /// metadata.uid; empty when the object carries none.
    pub uid: Arc<str>,
    /// metadata.labels.
    pub labels: Labels,
    /// Those of metadata.annotations that routers read.
    pub annotations: Labels,
    /// metadata.creationTimestamp.
    pub created: Option<Timestamp>,
    /// spec.ingressClassName, else the older annotation [`Ingress::CLASS_ANNOTATION`].
    pub class: Option<Arc<str>>,
    /// spec.rules.
    pub rules: Vec<IngressRule>,
    /// spec.tls.
    pub tls: Vec<IngressTls>,
    /// spec.defaultBackend.
    pub default_backend: Option<IngressBackend>,
}

/// One host of an Ingress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IngressRule {
    /// The host; it may begin with `*.`. `None`: every host.
    pub host: Option<Arc<str>>,
    /// The paths.
    pub paths: Vec<IngressPath>,
}

/// One path of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressPath {
    /// The path; empty, or beginning with a slash.
    pub path: Arc<str>,
    /// How it is compared.
    pub path_type: PathType,
    /// Where it leads; `None`: to something that is not a Service.
    pub backend: Option<IngressBackend>,
}

/// pathType of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
pub enum PathType {
    /// Only this path.
    Exact,
    /// This path and what is below it, segment by segment.
    Prefix,
    /// As the class has it: like Prefix here.
    ImplementationSpecific,
}

/// A Service's port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IngressBackend {
    /// The Service, of the Ingress's namespace.
    pub service: Arc<str>,
    /// The port of the Service (not of its endpoints).
    pub port: ServicePortRef,
}

/// How an Ingress names a port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ServicePortRef {
    /// By number.
    Number(u16),
    /// By name.
    Name(Arc<str>),
}

/// Hosts with TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IngressTls {
    /// The hosts; none: all hosts of the Ingress.
    pub hosts: Vec<Arc<str>>,
    /// The Secret that has the certificate; `None`: the router's own certificate.
    pub secret: Option<Arc<str>>,
}

/// An IngressClass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IngressClass {
    /// metadata.name.
    pub name: Arc<str>,
    /// spec.controller: who serves it.
    pub controller: Arc<str>,
    /// The annotation [`IngressClass::DEFAULT_ANNOTATION`]: Ingresses without a class are of this one.
    pub is_default: bool,
}

// === impl Ingress ===

impl Ingress {
    /// What said the class before there was a field for it.
    pub const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

    pub(super) fn parse(json: &str, seed: &str) -> Result<Self, FieldError> {
        let wire: wire::Wire = object::decode(json)?;
        wire.model(seed)
    }

    /// Its namespace and name.
    pub fn key(&self) -> ObjectName {
        ObjectName { namespace: self.namespace.clone(), name: self.name.clone() }
    }
}

// === impl IngressClass ===

impl IngressClass {
    /// The annotation that makes a class the default one.
    pub const DEFAULT_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";

    pub(super) fn parse(json: &str, seed: &str) -> Result<Self, FieldError> {
        let wire: wire::Class = object::decode(json)?;
        wire.model(seed)
    }
}

#[cfg(test)]
mod tests;

//! Routes (route.openshift.io/v1): hosts and paths that lead to Services from outside.

mod wire;

use super::{
    meta::{Labels, ObjectName, Timestamp},
    object::{self, FieldError},
    secret::Sensitive,
};
use serde::Deserialize;
use std::{fmt, sync::Arc};

/// A Route. Whether its host is one, and whether its certificates are, is for routers to judge: they say so in its
/// status.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// metadata.namespace.
    pub namespace: Arc<str>,
    /// metadata.name.
    pub name: Arc<str>,
    /// metadata.uid; empty when the object carries none.
    pub uid: Arc<str>,
    /// metadata.labels.
    pub labels: Labels,
    /// Those of metadata.annotations that routers read, see [`Route::ANNOTATIONS`].
    pub annotations: Labels,
    /// metadata.creationTimestamp.
    pub created: Option<Timestamp>,
    /// The Ingress that it was made of, when that controls it.
    pub ingress: Option<Arc<str>>,
    /// spec.host; empty: none.
    pub host: Arc<str>,
    /// spec.subdomain: what comes before each router's own domain, where there is no host; empty: none.
    pub subdomain: Arc<str>,
    /// spec.path; empty, or beginning with a slash.
    pub path: Arc<str>,
    /// spec.wildcardPolicy.
    pub wildcard: WildcardPolicy,
    /// spec.to.
    pub to: RouteTarget,
    /// spec.alternateBackends: at most three.
    pub alternates: Vec<RouteTarget>,
    /// spec.port.targetPort: the number or the name of a port of the endpoints; `None`: all their ports.
    pub target_port: Option<Arc<str>>,
    /// spec.tls; `None`: plain HTTP.
    pub tls: Option<RouteTls>,
    /// spec.httpHeaders.actions.request: at most twenty.
    pub request_headers: Vec<HeaderAction>,
    /// spec.httpHeaders.actions.response: at most twenty.
    pub response_headers: Vec<HeaderAction>,
}

/// spec.wildcardPolicy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
pub enum WildcardPolicy {
    /// The host itself.
    #[default]
    None,
    /// Every host of the host's domain, one label before it.
    Subdomain,
}

/// A Service that a Route leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RouteTarget {
    /// Its name; it is of the Route's namespace.
    pub service: Arc<str>,
    /// Its share of the requests, 0 to 256, relative to the others'.
    pub weight: u16,
}

/// spec.tls of a Route.
#[derive(Default, PartialEq, Eq)]
pub struct RouteTls {
    /// Where TLS ends.
    pub termination: TlsTermination,
    /// What becomes of requests without TLS.
    pub insecure: InsecurePolicy,
    /// A certificate with its chain, PEM. A key may be in it.
    pub certificate: Option<Sensitive>,
    /// Its key, PEM.
    pub key: Option<Sensitive>,
    /// Certificates of the authorities that signed it, PEM.
    pub ca_certificate: Option<Arc<str>>,
    /// Certificates of the authorities that signed the pods', PEM.
    pub destination_ca: Option<Arc<str>>,
    /// A Secret of the Route's namespace that has certificate and key.
    pub external: Option<Arc<str>>,
}

/// spec.tls.termination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsTermination {
    /// At the router.
    #[default]
    Edge,
    /// At the pod.
    Passthrough,
    /// At the router, which speaks TLS to the pod.
    Reencrypt,
}

/// spec.tls.insecureEdgeTerminationPolicy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
pub enum InsecurePolicy {
    /// They find nothing.
    #[default]
    #[serde(alias = "")]
    None,
    /// They are served.
    Allow,
    /// They are redirected.
    Redirect,
}

/// What is done with a field of requests or responses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeaderAction {
    /// The field's name.
    pub name: Arc<str>,
    /// The value it gets; `None`: it is deleted.
    pub set: Option<Arc<str>>,
}

// === impl Route ===

impl Route {
    /// Beginnings of the names of annotations that routers read.
    pub const ANNOTATIONS: [&str; 4] =
        ["haproxy.router.openshift.io/", "router.openshift.io/", "route.openshift.io/", "router.culvert/"];
    /// The largest weight of a Service.
    pub const MAX_WEIGHT: u16 = 256;

    pub(super) fn parse(json: &str, seed: &str) -> Result<Self, FieldError> {
        let wire: wire::Wire = object::decode(json)?;
        wire.model(seed)
    }

    /// Its namespace and name.
    pub fn key(&self) -> ObjectName {
        ObjectName { namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// All its Services, the primary one first.
    pub fn targets(&self) -> impl Iterator<Item = &RouteTarget> {
        std::iter::once(&self.to).chain(&self.alternates)
    }
}

// === impl RouteTls ===

impl fmt::Debug for RouteTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteTls")
            .field("termination", &self.termination)
            .field("insecure", &self.insecure)
            .field("external", &self.external)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

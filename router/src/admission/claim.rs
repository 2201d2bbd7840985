//! A route's claim to a host and a path.

use crate::table::{RouteId, Termination};
use sdn_cluster::model::{
    ObjectName, Route,
    ingress::ServicePortRef,
    route::{TlsTermination, WildcardPolicy},
};
use std::{cmp::Ordering, sync::Arc};

/// A Route, or what a path of an Ingress amounts to, and the host it is for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub id: RouteId,
    pub route: Arc<Route>,
    /// The host, which need not be what the object says; empty: none.
    pub host: Arc<str>,
    /// It is for the hosts of the host's domain.
    pub is_wildcard: bool,
    /// Only its path is meant, not what is below (pathType Exact).
    pub is_exact: bool,
    /// Which ports of the endpoints.
    pub port: PortChoice,
    /// The Secret with the authorities of the pods (an Ingress's annotation).
    pub destination_secret: Option<Arc<str>>,
}

/// Which ports of endpoints are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PortChoice {
    /// Every one.
    All,
    /// That of this number or name.
    Endpoint(Arc<str>),
    /// Those of this port of the Service.
    Service(ServicePortRef),
}

/// What claims can collide on: a host, or the hosts of a domain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct HostKey {
    /// The host; for a wildcard, the domain.
    pub name: Arc<str>,
    pub is_wildcard: bool,
}

// === impl Claim ===

impl Claim {
    /// The claim of a Route that has this host.
    pub fn of_route(id: RouteId, route: Arc<Route>, host: Arc<str>) -> Self {
        Self {
            id,
            host,
            is_wildcard: route.wildcard == WildcardPolicy::Subdomain,
            is_exact: false,
            port: route.target_port.clone().map_or(PortChoice::All, PortChoice::Endpoint),
            destination_secret: None,
            route,
        }
    }

    pub fn name(&self) -> ObjectName {
        ObjectName { namespace: self.id.namespace.clone(), name: self.id.name.clone() }
    }

    pub fn host_key(&self) -> HostKey {
        let name = if self.is_wildcard { self.domain().into() } else { self.host.clone() };
        HostKey { name, is_wildcard: self.is_wildcard }
    }

    /// What follows the host's first label.
    pub fn domain(&self) -> &str {
        self.host.split_once('.').map_or("", |(_, domain)| domain)
    }

    /// As it is served: `*.` and the domain for a wildcard.
    pub fn served_host(&self) -> Arc<str> {
        if self.is_wildcard { format!("*.{}", self.domain()).into() } else { self.host.clone() }
    }

    pub fn termination(&self) -> Termination {
        match self.route.tls.as_ref().map(|tls| tls.termination) {
            None => Termination::Plain,
            Some(TlsTermination::Edge) => Termination::Edge,
            Some(TlsTermination::Reencrypt) => Termination::Reencrypt,
            Some(TlsTermination::Passthrough) => Termination::Passthrough,
        }
    }

    /// Its path; `/` and the empty one are the same.
    pub fn path(&self) -> &str {
        if &*self.route.path == "/" && !self.is_exact { "" } else { &self.route.path }
    }

    /// The older first: by creation, then by UID. What has neither (manifests need not) is the older, and in the order of
    /// names.
    pub fn age(&self, other: &Self) -> Ordering {
        let key = |claim: &Self| (claim.route.created.clone(), claim.id.uid.clone(), claim.name());
        key(self).cmp(&key(other))
    }
}

//! Backends: what a route amounts to.

use super::{
    certificate::Certificate,
    state::{BackendState, EndpointState},
};
use crate::config::RouteConfig;
use std::{fmt, net::SocketAddr, sync::Arc};

/// An admitted route with its endpoints. Immutable, but for the counters in `state`, which outlive it.
pub struct Backend {
    /// The route.
    pub id: RouteId,
    /// The host, lower-case; `*.` and the domain for a wildcard.
    pub host: Arc<str>,
    /// spec.path, as it was written; empty for the root.
    pub path: Arc<str>,
    /// Only this path is meant, not what is below (an Ingress's pathType Exact).
    pub is_exact: bool,
    /// Where TLS ends.
    pub termination: Termination,
    /// What becomes of requests without TLS, for routes that have TLS.
    pub insecure: Insecure,
    /// The route's own certificate; `None`: the host's, else the default one.
    pub certificate: Option<Arc<Certificate>>,
    /// Which client certificates the route wants.
    pub client_authority: Option<Arc<ClientAuthority>>,
    /// How the pods of a re-encrypt route prove who they are.
    pub destination: DestinationTrust,
    /// What its annotations and the router's settings say.
    pub config: Arc<RouteConfig>,
    /// Where requests go. Endpoints of weight 0 are for the clients whose cookies name them.
    pub endpoints: Vec<Endpoint>,
    /// The weights of `endpoints` added up, in their order: what weighted choices search.
    pub(crate) shares: Vec<u64>,
    /// The step from one turn to the next in `shares`: coprime with their sum.
    pub(crate) stride: u64,
    /// A Service of the route sleeps: its one endpoint is its ClusterIP, and asking it for its health would wake it.
    pub is_idled: bool,
    /// Counters of the whole process.
    pub state: Arc<BackendState>,
}

/// Which object a backend is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId {
    /// metadata.namespace.
    pub namespace: Arc<str>,
    /// metadata.name. For an Ingress, its name, `/`, and the rule's and path's indices: no Route can be called that.
    pub name: Arc<str>,
    /// What it is.
    pub source: Source,
    /// metadata.uid.
    pub uid: Arc<str>,
}

/// The kind of object that a backend is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A Route.
    Route,
    /// One path of an Ingress.
    Ingress,
}

/// Where the TLS of a route ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Termination {
    /// There is none.
    Plain,
    /// At the router; pods are spoken to without.
    Edge,
    /// At the router; pods are spoken to over TLS of its own.
    Reencrypt,
    /// At the pod.
    Passthrough,
}

/// spec.tls.insecureEdgeTerminationPolicy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Insecure {
    /// Requests without TLS find nothing.
    #[default]
    None,
    /// They are served.
    Allow,
    /// They are redirected to https.
    Redirect,
}

/// How the pods of a re-encrypt route prove who they are.
#[derive(Clone, Default)]
pub enum DestinationTrust {
    /// Not at all: the route names no authority, and the router has none for Services.
    #[default]
    Unverified,
    /// By a certificate of these authorities.
    Authorities {
        /// Their certificates, PEM.
        pem: Arc<[u8]>,
        /// The name that the certificate must have; `None`: any.
        name: Option<Name>,
    },
}

/// The name that a pod's certificate must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// The endpoint's Service, as `<service>.<namespace>.svc`.
    Service,
    /// This one.
    Fixed(Arc<str>),
}

/// Which client certificates a route wants.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ClientAuthority {
    /// Certificates of the authorities, PEM.
    pub pem: Vec<u8>,
    /// Requests without a client certificate are refused.
    pub is_required: bool,
}

/// One place where requests can go.
#[derive(Clone)]
pub struct Endpoint {
    /// Where.
    pub address: SocketAddr,
    /// Its share of new requests, relative to the others'.
    pub weight: u32,
    /// What it speaks.
    pub protocol: AppProtocol,
    /// The pod.
    pub pod: Option<Arc<str>>,
    /// The Service that it is of.
    pub service: Arc<str>,
    /// The name of the Service's port; empty when it has none.
    pub port: Arc<str>,
    /// What a cookie says to come back here.
    pub cookie: Arc<str>,
    /// Counters of the whole process.
    pub state: Arc<EndpointState>,
}

/// What a pod speaks (appProtocol of its port).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AppProtocol {
    /// HTTP/1.1; over TLS what ALPN settles, h2 or HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS, by prior knowledge (`h2c`, `kubernetes.io/h2c`).
    H2c,
}

// === impl Backend ===

impl Backend {
    /// Requests over TLS that ends here are served.
    pub fn serves_tls(&self) -> bool {
        matches!(self.termination, Termination::Edge | Termination::Reencrypt)
    }

    /// Requests without TLS are served.
    pub fn serves_plain(&self) -> bool {
        self.termination == Termination::Plain || (self.insecure == Insecure::Allow && self.serves_tls())
    }

    /// Requests without TLS are redirected to https.
    pub fn redirects(&self) -> bool {
        self.termination != Termination::Plain && self.insecure == Insecure::Redirect
    }

    /// Pods are worth asking for their health: there is more than one, and none has to be woken for it.
    pub fn checks_health(&self) -> bool {
        self.endpoints.len() > 1 && !self.is_idled
    }

    /// The place of the endpoint that a cookie of this value names.
    pub fn endpoint_of(&self, cookie: &str) -> Option<usize> {
        self.endpoints.iter().position(|endpoint| *endpoint.cookie == *cookie)
    }
}

// === impl RouteId ===

impl fmt::Display for RouteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

// === impl Termination ===

impl fmt::Display for Termination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "",
            Self::Edge => "edge",
            Self::Reencrypt => "reencrypt",
            Self::Passthrough => "passthrough",
        })
    }
}

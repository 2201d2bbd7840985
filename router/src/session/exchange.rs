//! One request and its response: what the stages know of it, and leave for the next one.

use std::{
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::pki_types::CertificateDer;
use tokio::sync::OwnedSemaphorePermit;

use super::side::Writer;
use crate::{
    config::Permit,
    http1::{Request, Response},
    respond::Squeeze,
    table::{Active, Backend, BackendState, Certificate, ClientAuthority, Endpoint, EndpointState},
};

/// What is known of a client's connection, the same for all of its requests.
#[derive(Clone)]
pub struct Connection {
    /// The client, as the PROXY protocol says if there is one.
    pub client: SocketAddr,
    /// Where it came to, likewise.
    pub local: SocketAddr,
    /// When it was accepted.
    pub accepted: Instant,
    /// What its handshake settled; `None`: it is plain.
    pub tls: Option<Arc<Secured>>,
    /// Counts it among the router's connections, until the last of its requests has ended.
    pub permit: Option<Rc<OwnedSemaphorePermit>>,
}

/// What a handshake settled.
pub struct Secured {
    /// The name that the client asked for, lower-case.
    pub name: Option<String>,
    /// What it was shown.
    pub certificate: Arc<Certificate>,
    /// Against which route's authorities its own certificate was verified; `None`: none was asked for by a route.
    pub authority: Option<Arc<ClientAuthority>>,
    /// Its own certificate, verified.
    pub client_certificate: Option<CertificateDer<'static>>,
    /// What pods are told about that, as lines of a head.
    pub client_fields: Vec<u8>,
    /// HTTP/2 was settled on.
    pub is_h2: bool,
    /// The version of TLS, as HAProxy's logs have it.
    pub version: &'static str,
    /// The cipher suite.
    pub cipher: String,
}

/// Why a request ended as it did: the two letters of HAProxy's termination state, in words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum End {
    /// It was answered by the pod to the end.
    #[default]
    Normal,
    /// Answered by the router because of a rule (redirect, refused client, health).
    Rule,
    /// The request was not taken: malformed, or of nobody's.
    BadRequest,
    /// The client took too long for its request.
    ClientTimeout,
    /// The client went away while it sent the request.
    ClientGone,
    /// The client went away, or took too long, while it was answered.
    ClientGoneLate,
    /// No endpoint, or none that could be connected to.
    NoServer,
    /// It waited too long for a place at an endpoint.
    QueueTimeout,
    /// The pod took too long for its response.
    ServerTimeout,
    /// The pod closed before its response.
    ServerGone,
    /// The pod's response is not taken: malformed.
    BadResponse,
    /// The pod closed, or took too long, within its response.
    ServerGoneLate,
}

/// An answer of the router's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Why.
    pub end: End,
    /// What to say in the log besides.
    pub reason: Option<String>,
    /// Where to go instead.
    pub location: Option<String>,
    /// The connection is of no use any more.
    pub close: bool,
}

/// What ends a request before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It is answered by the router.
    Answer(Box<Answer>),
    /// Nobody can be answered any more.
    Abort(End),
}

/// How far things got.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// The first byte of the request (a stream of HTTP/2: its head).
    pub begun: Instant,
    /// The head was whole.
    pub head: Instant,
    /// A place at an endpoint was had.
    pub queued: Option<Instant>,
    /// A connection to it was had.
    pub connected: Option<Instant>,
    /// The response's head was whole.
    pub answered: Option<Instant>,
}

/// One request and its response. Taken from the core and given back, so that what its vectors have grown to is kept.
pub struct Exchange {
    /// The request's head as it came; its spans are of this.
    pub head: Vec<u8>,
    /// The request.
    pub request: Request,
    /// The response's head as it came; its spans are of this.
    pub answer: Vec<u8>,
    /// The response.
    pub response: Response,
    /// What is written to the pod.
    pub up: Writer,
    /// What is written to the client.
    pub down: Writer,
    /// The route that serves it.
    pub backend: Option<Arc<Backend>>,
    /// Which of its endpoints.
    pub endpoint: Option<usize>,
    /// Connections that were tried in vain.
    pub retries: u8,
    /// Another endpoint was taken than the one first chosen.
    pub redispatched: bool,
    /// The connection to the pod had served before.
    pub reused: bool,
    /// What the client's affinity cookie said.
    pub cookie: Option<String>,
    /// How far things got.
    pub times: Times,
    /// The status that the client got; 0: none.
    pub status: u16,
    /// How it ended.
    pub end: End,
    /// What the log says besides.
    pub reason: Option<String>,
    /// Content bytes that came from the client.
    pub bytes_in: u64,
    /// An upgrade to the extended CONNECT of HTTP/2 (RFC 8441).
    pub is_tunnel: bool,
    /// Compresses the response, if it is to be.
    pub squeeze: Option<Box<Squeeze>>,
    /// Counts it as in flight.
    pub guards: Guards,
}

/// What counts a request as in flight until dropped.
#[derive(Default)]
pub struct Guards {
    /// At the client's limits.
    pub permit: Option<Permit>,
    /// At the route.
    pub backend: Option<Active<BackendState>>,
    /// At the endpoint.
    pub endpoint: Option<Active<EndpointState>>,
}

// === impl Exchange ===

impl Exchange {
    /// An empty one.
    pub fn new(now: Instant) -> Self {
        Self {
            head: Vec::new(),
            request: Request::default(),
            answer: Vec::new(),
            response: Response::default(),
            up: Writer::default(),
            down: Writer::default(),
            backend: None,
            endpoint: None,
            retries: 0,
            redispatched: false,
            reused: false,
            cookie: None,
            times: Times::at(now),
            status: 0,
            end: End::Normal,
            reason: None,
            bytes_in: 0,
            is_tunnel: false,
            squeeze: None,
            guards: Guards::default(),
        }
    }

    /// As new, but for what its vectors have grown to.
    pub fn clear(&mut self, now: Instant) {
        self.head.clear();
        self.answer.clear();
        self.request.clear();
        self.response.clear();
        self.up.clear();
        self.down.clear();
        (self.backend, self.endpoint) = (None, None);
        (self.retries, self.redispatched, self.reused, self.is_tunnel) = (0, false, false, false);
        (self.cookie, self.reason, self.squeeze) = (None, None, None);
        (self.status, self.end, self.bytes_in) = (0, End::Normal, 0);
        self.times = Times::at(now);
        self.guards = Guards::default();
    }

    /// The host without port and trailing dot, lower-case.
    pub fn host(&self) -> &str {
        host_name(self.request.host.text(&self.head))
    }

    /// The endpoint that was chosen.
    pub fn chosen(&self) -> Option<&Endpoint> {
        self.backend.as_ref()?.endpoints.get(self.endpoint?)
    }

    /// How long the pod may be silent.
    pub fn patience(&self) -> Duration {
        self.backend.as_ref().map_or(Duration::from_secs(30), |backend| backend.config.timeouts.server)
    }

    /// It may be sent a second time though the first may have arrived: the method says so (RFC 9110 §9.2.2) and no
    /// content has been used up.
    pub fn is_repeatable(&self) -> bool {
        let idempotent =
            matches!(self.request.method.of(&self.head), b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE");
        idempotent && self.request.framing.is_empty() && self.request.upgrade.is_none() && !self.is_tunnel
    }
}

/// A host without its port, nor the brackets' contents taken for one.
fn host_name(host: &str) -> &str {
    let name = match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

// === impl Times ===

impl Times {
    fn at(now: Instant) -> Self {
        Self { begun: now, head: now, queued: None, connected: None, answered: None }
    }

    /// From the whole head to the place at an endpoint.
    pub fn queue(&self) -> Option<Duration> {
        Some(self.queued? - self.head)
    }

    /// From there to the connection.
    pub fn connect(&self) -> Option<Duration> {
        Some(self.connected? - self.queued?)
    }

    /// From there to the response's head.
    pub fn response(&self) -> Option<Duration> {
        Some(self.answered? - self.connected?)
    }
}

// === impl Answer ===

impl Answer {
    /// An answer with the usual page for its status.
    pub fn new(status: u16, end: End) -> Self {
        Self { status, end, reason: None, location: None, close: false }
    }

    /// And the connection ends with it.
    pub fn closing(self) -> Self {
        Self { close: true, ..self }
    }

    /// With something for the log.
    pub fn because(self, reason: impl ToString) -> Self {
        Self { reason: Some(reason.to_string()), ..self }
    }
}

impl From<Answer> for Stop {
    fn from(answer: Answer) -> Self {
        Self::Answer(Box::new(answer))
    }
}

// === impl End ===

impl End {
    /// HAProxy's two letters (its configuration manual, §8.5).
    pub fn letters(self) -> &'static str {
        match self {
            Self::Normal => "--",
            Self::Rule => "LR",
            Self::BadRequest => "PR",
            Self::ClientTimeout => "cR",
            Self::ClientGone => "CR",
            Self::ClientGoneLate => "CD",
            Self::NoServer => "SC",
            Self::QueueTimeout => "sQ",
            Self::ServerTimeout => "sH",
            Self::ServerGone => "SH",
            Self::BadResponse => "PH",
            Self::ServerGoneLate => "SD",
        }
    }
}

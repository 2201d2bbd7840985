//! What requests of a route are treated by: annotations and router-wide settings, read once into types.

mod annotations;
mod duration;
mod environment;
mod limits;
mod rewrite;
mod settings;

use crate::headers::Action;
use ipnet::IpNet;
use std::{net::IpAddr, sync::Arc, time::Duration};

pub use annotations::{Notice, RouteFacts, annotation};
pub use environment::SettingsFault;
pub use limits::{Limit, Limiter, Limits, Permit};
pub use rewrite::Rewrite;
pub use settings::{
    Capture, CaptureCookie, Ciphers, ClientAuth, CookieMatch, Credentials, HeaderCase, IpMode, MutualTls, Selector,
    Settings, TlsVersion,
};

/// What a route's annotations say, with the router's settings where they say nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteConfig {
    /// How endpoints are chosen.
    pub balance: Balance,
    /// How a client comes back to its endpoint; `None`: not by a cookie.
    pub cookie: Option<Cookie>,
    /// How long is waited for what.
    pub timeouts: Timeouts,
    /// Who may come.
    pub allow: AllowList,
    /// How much of one client is taken; `None`: all.
    pub limits: Option<Limits>,
    /// How many requests an endpoint is given at a time, of this process; the others wait. `None`: all.
    pub pod_connections: Option<u32>,
    /// What pods are asked for instead of the path; `None`: the path.
    pub rewrite: Option<Rewrite>,
    /// The value of Strict-Transport-Security in responses over TLS that ends here.
    pub hsts: Option<Arc<str>>,
    /// How pods are told about the client.
    pub forwarded: Forwarded,
    /// What is done with the fields of requests, in this order: the router's own, then the route's.
    pub request_headers: Vec<Action>,
    /// What is done with the fields of responses, in this order: the route's, then the router's own.
    pub response_headers: Vec<Action>,
    /// How often an endpoint is asked whether it is there.
    pub check_interval: Duration,
    /// The names of fields are written to pods as [`Settings::header_case`] has them.
    pub adjust_case: bool,
    /// The version of the PROXY protocol that pods are told about the client with, before anything else.
    pub send_proxy: Option<ProxyVersion>,
}

/// How endpoints are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Balance {
    /// The less busy of two that are drawn.
    #[default]
    Random,
    /// In turn.
    RoundRobin,
    /// The least busy.
    LeastConnections,
    /// The client's address decides.
    Source,
}

/// The cookie that brings a client back to its endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// Its name.
    pub name: Arc<str>,
    /// It goes over TLS only, with this SameSite; `None`: neither attribute is written.
    pub secure: Option<SameSite>,
}

/// The SameSite attribute of a cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SameSite {
    /// With requests from other sites too.
    #[default]
    None,
    /// With links from other sites.
    Lax,
    /// With requests of the same site only.
    Strict,
}

/// How long is waited for what, for one route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection to a pod.
    pub connect: Duration,
    /// For a pod's next byte.
    pub server: Duration,
    /// For the next byte of either side of an upgraded or passthrough connection.
    pub tunnel: Duration,
}

/// Who may come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AllowList {
    /// Everybody.
    #[default]
    Everybody,
    /// Who is in one of these; nobody where there is none.
    Only(Vec<IpNet>),
}

/// How pods are told about the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Forwarded {
    /// What the client says stays, and more is added.
    #[default]
    Append,
    /// What the client says goes.
    Replace,
    /// Only what the client does not say is added.
    IfNone,
    /// What the client says stays, and nothing is added.
    Never,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyVersion {
    /// Text.
    V1,
    /// Binary.
    V2,
}

// === impl AllowList ===

impl AllowList {
    /// Whether a client with this address may come. An IPv4 client on an IPv6 socket counts as what it is.
    pub fn admits(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        match self {
            Self::Everybody => true,
            Self::Only(ranges) => ranges.iter().any(|range| range.contains(&client)),
        }
    }
}

// === impl SameSite ===

impl SameSite {
    /// As it is written in a cookie.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Lax => "Lax",
            Self::Strict => "Strict",
        }
    }
}

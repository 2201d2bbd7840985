//! What an operator decides, and what the embedder knows.

use ipnet::IpNet;
use std::{collections::BTreeSet, fmt, net::IpAddr, num::NonZeroU32, sync::Arc, time::Duration};

/// How the resolver is to behave.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster's domain.
    pub zone: String,
    /// The addresses of the DNS service: what the zone's NS record leads to.
    pub addresses: Vec<IpAddr>,
    /// The networks whose reverse zones we answer for, those of pods and Services. All others are forwarded.
    pub reverse: Vec<IpNet>,
    /// TTL of the cluster's records, in seconds, at most 3600; and of negative answers.
    pub ttl: u32,
    /// Which pods have names.
    pub pod_names: PodNames,
    /// A Service with an address of its own, but no endpoint that is ready, has no name.
    pub ignore_empty_services: bool,
    /// The namespaces that have names; `None` for all.
    pub namespaces: Option<BTreeSet<String>>,
    /// An endpoint without a hostname is called as its pod, not as its address.
    pub endpoint_pod_names: bool,
    /// Search paths are completed by us; `None` leaves it to the clients.
    pub search: Option<Search>,
    /// Who may ask.
    pub clients: Arc<dyn Clients>,
    /// How many queries a client may send; `None` for as many as it likes.
    pub rate: Option<Rate>,
    /// Limits of connections.
    pub tcp: TcpLimits,
}

/// Which names of pods there are: `a-b-c-d.namespace.pod.ZONE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodNames {
    /// None.
    Disabled,
    /// All, in namespaces that exist: the address is what the name says. What OpenShift and kubeadm have.
    #[default]
    Insecure,
    /// Those of pods that exist in the namespace.
    Verified,
}

/// How search paths are completed. A pod's own is `namespace.svc.ZONE`, `svc.ZONE`, `ZONE`, and then these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// The node's own search domains, which pods have after the cluster's.
    pub domains: Vec<String>,
}

/// Queries a client may send: a bucket of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens that come in a second.
    pub per_second: NonZeroU32,
    /// Tokens that the bucket holds.
    pub burst: NonZeroU32,
}

/// Limits of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpLimits {
    /// Connections at a time.
    pub connections: usize,
    /// Of those, from one address.
    pub per_client: usize,
    /// Queries of a connection that are being answered; more are not read.
    pub in_flight: usize,
    /// A connection without a query for so long is closed.
    pub idle: Duration,
    /// A message has to arrive in this time, from its first byte on.
    pub read: Duration,
    /// A response has to be taken in this time.
    pub write: Duration,
}

/// What the embedder knows about clients.
pub trait Clients: fmt::Debug + Send + Sync {
    /// Whether this is one of ours, a pod or the node: nobody else gets answers.
    fn admits(&self, address: IpAddr) -> bool;

    /// The namespace of the pod to which this node gave the address, known before the API tells of it. `None` where it
    /// did not; then the snapshot has the word. Never for pods in the node's network.
    fn namespace(&self, address: IpAddr) -> Option<Arc<str>> {
        let _ = address;
        None
    }
}

/// Admits the addresses of these networks.
#[derive(Clone, Debug, Default)]
pub struct Networks(pub Vec<IpNet>);

// === impl Config ===

impl Default for Config {
    /// The cluster's domain and TTL as CoreDNS has them, for clients on the node itself.
    fn default() -> Self {
        Self {
            zone: "cluster.local".to_owned(),
            addresses: Vec::new(),
            reverse: Vec::new(),
            ttl: 5,
            pod_names: PodNames::default(),
            ignore_empty_services: false,
            namespaces: None,
            endpoint_pod_names: false,
            search: None,
            clients: Arc::new(Networks(vec![
                IpNet::V4(ipnet::Ipv4Net::new_assert([127, 0, 0, 0].into(), 8)),
                IpNet::from(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)),
            ])),
            rate: None,
            tcp: TcpLimits::default(),
        }
    }
}

// === impl TcpLimits ===

impl Default for TcpLimits {
    /// Timeouts as CoreDNS has them.
    fn default() -> Self {
        Self {
            connections: 1024,
            per_client: 128,
            in_flight: 64,
            idle: Duration::from_secs(10),
            read: Duration::from_secs(3),
            write: Duration::from_secs(5),
        }
    }
}

// === impl Networks ===

impl Clients for Networks {
    fn admits(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

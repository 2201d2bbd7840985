//! The agent's side of the plugin protocol: one connection, one operation.
//!
//! ```text
//! ADD     wait for an earlier operation on the attachment → wait until the pod is known → reserve → Prepared
//!         → (the plugin makes the veth) → Commit → lease on disk → dataplane attaches → Done
//! DEL     cancel a running ADD → remove the host interface → dataplane detaches → lease off the disk → Done
//! ```
//!
//! The interface goes first when a pod leaves: from then on it can send nothing, neither past the dataplane nor from an address that
//! belongs to another pod by then.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ipnet::IpNet;
use nix::unistd::geteuid;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use sdn_cni::protocol::{Dns, Failure, PodIdentity, Request, code};

use self::attachments::Attachments;
use self::connection::Connection;
use super::counters::Counters;
use super::leases::Leases;
use super::pod::PodNetwork;

mod add;
mod attachments;
mod connection;
mod operations;
mod reclaim;

/// A pod's IPv4 gateway: link-local, the same for all.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// A pod's IPv6 gateway: link-local, the same for all.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// Connections served at the same time; the rest wait in the socket's queue.
const CONNECTIONS: usize = 512;

/// How long to wait after a failed accept, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the plugin until it is told to stop.
#[derive(Debug)]
pub struct Server<N>(Arc<Shared<N>>);

/// What the server needs to know about the node.
pub struct ServerConfig {
    /// The node's host subnets; empty as long as they are not known.
    pub subnets: watch::Receiver<Vec<IpNet>>,
    /// MTU of pods' interfaces in bytes; 0 as long as it is not known.
    pub mtu: watch::Receiver<u32>,
    /// Can the dataplane take pods? ADD is refused with "try again later" until then.
    pub readiness: watch::Receiver<Readiness>,
    /// What results say about name servers. Kubernetes does not look at it: kubelet writes a pod's resolv.conf.
    pub dns: PodDns,
    /// Waits until the pod's object has been seen, so that its policies hold from its first packet. None does not wait.
    pub pod_known: Option<PodKnown>,
    /// Longest waits.
    pub limits: Limits,
}

/// Whether pods can be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// They can.
    Ready,
    /// They cannot, and why; the runtime is told so.
    NotReady(String),
}

/// The name servers and the search path of a pod, by its namespace and addresses.
pub type PodDns = Arc<dyn Fn(&str, &[IpAddr]) -> Dns + Send + Sync>;

/// Returns when the pod's object is known, or says why it never will be or cannot be found out now.
pub type PodKnown = Arc<dyn Fn(PodIdentity) -> PodKnownFuture + Send + Sync>;

/// What a [`PodKnown`] returns. The error is the cause, for people.
pub type PodKnownFuture = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Longest waits of the server.
#[derive(Clone, Debug)]
pub struct Limits {
    /// For a connection's first message.
    pub request: Duration,
    /// For an earlier operation on the same attachment.
    pub turn: Duration,
    /// For [`ServerConfig::pod_known`].
    pub pod_known: Duration,
    /// Between Prepared and Commit: for the plugin to make the veth.
    pub commit: Duration,
    /// For what is under way when the server is told to stop.
    pub stop: Duration,
    /// Between two looks for leases whose container is gone.
    pub reclaim: Duration,
}

#[derive(Debug)]
struct Shared<N> {
    leases: Leases,
    network: Arc<N>,
    config: ServerConfig,
    counters: Arc<Counters>,
    attachments: Attachments,
    /// Leases whose attach failed at the start; tried again with each look for vanished containers.
    unattached: std::sync::Mutex<Vec<sdn_cni::Attachment>>,
}

// === impl Server ===

impl<N: PodNetwork> Server<N> {
    /// A server over these leases. Nothing happens until [`Self::run`].
    pub fn new(leases: Leases, network: Arc<N>, config: ServerConfig, counters: Arc<Counters>) -> Self {
        let attachments = Attachments::default();
        Self(Arc::new(Shared { leases, network, config, counters, attachments, unattached: Default::default() }))
    }

    /// Takes back the leases of containers that are gone, attaches the others again, then serves the socket until `stop` is
    /// done. What is under way then is finished; new connections stay in the socket's queue for the next agent.
    pub async fn run(self, listener: UnixListener, stop: impl Future<Output = ()>) {
        let shared = self.0;
        let mut beside = JoinSet::new();
        beside.spawn(shared.clone().follow_subnets());
        shared.resume().await;
        beside.spawn(shared.clone().keep_reclaiming());
        let mut operations = JoinSet::new();
        tokio::select! {
            () = stop => {}
            () = shared.accept(&listener, &mut operations) => {}
        }
        drop(beside);
        let finished = async { while operations.join_next().await.is_some() {} };
        if tokio::time::timeout(shared.config.limits.stop, finished).await.is_err() {
            warn!("stopping in the middle of CNI operations; their plugins undo them");
        }
    }
}

// === impl Shared ===

impl<N: PodNetwork> Shared<N> {
    /// Takes connections for ever, as many at a time as there are places.
    async fn accept(self: &Arc<Self>, listener: &UnixListener, operations: &mut JoinSet<()>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                // Only to forget it; the loop comes back here at once.
                Some(_) = operations.join_next() => continue,
            };
            match accepted {
                Ok((stream, _)) => {
                    let shared = self.clone();
                    operations.spawn(async move {
                        shared.serve(stream).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    warn!(%error, "accepting a connection of the CNI plugin");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Hands out addresses of the subnets that the node has now.
    async fn follow_subnets(self: Arc<Self>) {
        let mut subnets = self.config.subnets.clone();
        loop {
            let now = subnets.borrow_and_update().clone();
            info!(subnets = ?now, "addresses of pods come from these subnets");
            self.leases.set_subnets(&now);
            if subnets.changed().await.is_err() {
                return;
            }
        }
    }

    async fn keep_reclaiming(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.config.limits.reclaim).await;
            self.reclaim().await;
        }
    }

    /// One connection, from the first message to the last.
    async fn serve(&self, stream: UnixStream) {
        if let Err(refusal) = admit(&stream) {
            warn!("{refusal}");
            self.counters.strangers.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut connection = Connection::new(stream);
        let outcome = match connection.receive::<Request>(self.config.limits.request).await {
            Ok(Some(request)) => self.answer(&mut connection, request).await,
            // Connected and left, as health checks do.
            Ok(None) => return,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = outcome {
            self.counters.count_failure(failure.code);
            warn!(code = failure.code, "{failure}");
            connection.fail(failure).await;
        }
    }

    /// Serves one request. A failure is still to be sent.
    async fn answer(&self, connection: &mut Connection, request: Request) -> Result<(), Failure> {
        debug!(?request, "CNI request");
        match request {
            Request::Add(request) => self.add(connection, request).await,
            Request::Del(request) => self.del(connection, request).await,
            Request::Check(request) => self.check(connection, request).await,
            Request::Gc(request) => self.gc(connection, request).await,
            Request::Status => self.status(connection).await,
            Request::Commit(_) => {
                Err(Failure::new(code::PROTOCOL, "Commit without Add", "plugin and agent are of different releases"))
            }
        }
    }

    /// Why ADD cannot be served now, if it cannot.
    fn unready(&self) -> Option<String> {
        if let Readiness::NotReady(cause) = &*self.config.readiness.borrow() {
            return Some(cause.clone());
        }
        if *self.config.mtu.borrow() == 0 {
            return Some("the MTU of the uplink is not known yet".into());
        }
        if self.config.subnets.borrow().is_empty() {
            return Some(
                "this node has no host subnet yet: its Node object has no podCIDRs, or was not read yet".into(),
            );
        }
        None
    }
}

impl std::fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerConfig").field("subnets", &*self.subnets.borrow()).finish_non_exhaustive()
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(10),
            turn: Duration::from_secs(30),
            pod_known: Duration::from_secs(10),
            commit: Duration::from_secs(60),
            stop: Duration::from_secs(5),
            reclaim: Duration::from_secs(30),
        }
    }
}

/// Only root and the agent's own user may ask.
fn admit(stream: &UnixStream) -> Result<(), String> {
    let peer =
        stream.peer_cred().map_err(|e| format!("refusing a connection of the CNI plugin: its user is unknown: {e}"))?;
    let own = geteuid().as_raw();
    if peer.uid() == 0 || peer.uid() == own {
        return Ok(());
    }
    Err(format!("refusing a connection to the CNI socket: its user is {}, only root and {own} may ask", peer.uid()))
}

/// Gateway of an address's family.
fn gateway_of(address: &IpAddr) -> IpAddr {
    if address.is_ipv4() { GATEWAY_V4.into() } else { GATEWAY_V6.into() }
}

#[cfg(test)]
mod tests;

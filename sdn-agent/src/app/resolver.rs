//! Cluster DNS on this node: the resolver with what only the agent knows, and the beat that keeps questions coming to it.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ipnet::IpNet;
use nix::time::{ClockId, clock_gettime};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use sdn_cluster::Snapshot;
use sdn_cni::protocol::Dns;
use sdn_dns::forward::{CachingForwarder, ForwardConfig, ForwardError, UpstreamSource};
use sdn_dns::{Clients, Rate, Search, Sockets};
use tokio::sync::watch;

use crate::cni::Leases;
use crate::cni::server::PodDns;
use crate::config::Config;
use crate::kernel::bpf::PinDirectory;
use crate::kernel::bpf::raw::{RawMap, Update, bytes_of};

/// Between two beats. After a second without one, the programs send questions to another node.
const BEAT: Duration = Duration::from_millis(200);

/// What one pod may ask: far more than a program needs, far less than the resolver can answer.
const RATE: Rate =
    Rate { per_second: NonZeroU32::new(5_000).expect("not zero"), burst: NonZeroU32::new(10_000).expect("not zero") };

/// As kubelet has it: names with fewer dots are looked for along the search path first.
const NDOTS: &str = "ndots:5";

/// The resolver at work.
pub struct Resolver {
    handle: sdn_dns::Handle<CachingForwarder>,
    forwarder: CachingForwarder,
    registry: Registry,
    stopped: AtomicBool,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    /// Its upstreams.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// Its sockets or its zone.
    #[error(transparent)]
    Server(#[from] sdn_dns::Error),
    /// The thread of its beat.
    #[error("start the thread that beats: {0}")]
    Thread(std::io::Error),
}

/// What a resolver is started with.
#[derive(Debug)]
pub struct Start<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The keeper's sockets.
    pub sockets: Sockets,
    /// The cluster.
    pub snapshots: watch::Receiver<Snapshot>,
    /// Which pod has which address.
    pub leases: Leases,
    /// The node's own addresses, from which its own processes ask.
    pub own: Vec<IpAddr>,
    /// Where the map of the beat is, or will be.
    pub pins: PinDirectory,
}

/// Pods of the cluster and this node ask; nobody else.
struct Asking {
    networks: Vec<IpNet>,
    own: Vec<IpAddr>,
    leases: Leases,
}

// === impl Resolver ===

impl Resolver {
    /// Starts to answer, and to beat. To be called in a tokio runtime.
    pub fn start(start: Start<'_>) -> Result<Arc<Self>, ResolverError> {
        let Start { config, sockets, snapshots, leases, own, pins } = start;
        let mut registry = Registry::default();
        let upstreams = match config.dns.upstreams.as_slice() {
            [] => UpstreamSource::ResolvConf(config.dns.resolv_conf.clone()),
            fixed => UpstreamSource::Fixed(fixed.to_vec()),
        };
        let forwarder = CachingForwarder::new(ForwardConfig::new(upstreams), &mut registry)?;
        let networks: Vec<IpNet> = config.cluster_networks.iter().map(|network| network.cidr()).collect();
        let reverse = networks.iter().chain(&config.service_networks).copied().collect();
        let clients = Arc::new(Asking { networks, own, leases });
        let search = Search { domains: forwarder.search().to_vec() };
        let settings = sdn_dns::Config {
            zone: config.dns.domain.clone(),
            addresses: config.dns.addresses.clone(),
            reverse,
            search: Some(search),
            clients,
            rate: Some(RATE),
            ..sdn_dns::Config::default()
        };
        let handle = sdn_dns::start(settings, sockets, snapshots, forwarder.clone())?;
        handle.register_metrics(&mut registry);
        let resolver = Arc::new(Self { handle, forwarder, registry, stopped: AtomicBool::new(false) });
        let beating = Arc::downgrade(&resolver);
        let beat = move || {
            let (mut map, mut domains) = (None, Arc::default());
            // It ends with the resolver.
            while let Some(resolver) = beating.upgrade().filter(|resolver| !resolver.stopped.load(Ordering::Relaxed)) {
                map = map.or_else(|| pins.open_map("HEARTBEAT").ok());
                resolver.beat(map.as_ref(), &mut domains);
                drop(resolver);
                thread::sleep(BEAT);
            }
        };
        thread::Builder::new().name("dns-beat".to_owned()).spawn(beat).map_err(ResolverError::Thread)?;
        Ok(resolver)
    }

    /// Says that it lives, if it does, and follows the node's search domains.
    fn beat(&self, map: Option<&RawMap>, domains: &mut Arc<Vec<String>>) {
        // At the node's very first start, the map comes with the programs.
        if let Some(map) = map.filter(|_| self.handle.is_healthy()) {
            let written = monotonic().map(|now| map.update(&0u32.to_ne_bytes(), bytes_of(&now), Update::Any));
            if let Some(Err(error)) = written {
                tracing::warn!(%error, "cannot write the resolver's beat: another node's will be asked");
            }
        }
        let now = self.forwarder.search();
        if now != *domains {
            if let Err(error) = self.handle.set_search_domains(&Search { domains: now.to_vec() }) {
                tracing::warn!(%error, "cannot follow the node's search domains");
            }
            *domains = now;
        }
    }

    /// Whether it knows the cluster.
    pub fn is_ready(&self) -> bool {
        self.handle.is_ready()
    }

    /// Answers a message as if this client had sent it.
    pub async fn ask(&self, message: &[u8], client: IpAddr) -> Option<Vec<u8>> {
        self.handle.ask(message, client).await
    }

    /// Has every query logged, or no longer.
    pub fn log_queries(&self, wanted: bool) {
        self.handle.log_queries(wanted);
    }

    /// Services, and addresses of endpoints, that have names.
    pub fn sizes(&self) -> (usize, usize) {
        self.handle.sizes()
    }

    /// Upstreams: address, and what is wrong with it.
    pub fn upstreams(&self) -> Vec<(String, Option<&'static str>)> {
        let wrong = |down: bool, looping: bool| match (down, looping) {
            (_, true) => Some("forwards to this resolver"),
            (true, false) => Some("does not answer"),
            (false, false) => None,
        };
        let all = self.forwarder.upstreams();
        all.into_iter().map(|upstream| (upstream.address.to_string(), wrong(upstream.down, upstream.looping))).collect()
    }

    /// Its metrics, in the OpenMetrics text format with its end.
    pub fn metrics(&self) -> String {
        let mut text = String::new();
        // Writing to a String fails only if one of the values' own code does, and these are numbers.
        if let Err(error) = encode(&mut text, &self.registry) {
            tracing::error!(%error, "cannot write the resolver's metrics");
        }
        text
    }

    /// What the CNI plugin says about name servers. Follows the node's search domains.
    pub fn pod_dns(self: &Arc<Self>, config: &Config) -> PodDns {
        let (resolver, addresses, domain) =
            (Arc::downgrade(self), config.dns.addresses.clone(), config.dns.domain.clone());
        Arc::new(move |namespace, pod| {
            let own = resolver.upgrade().map(|resolver| resolver.forwarder.search()).unwrap_or_default();
            pod_dns(namespace, pod, &addresses, &domain, &own)
        })
    }

    /// Stops: what was asked is answered, what is asked from now on waits for the next resolver, or after a second without a beat
    /// goes to another node's.
    pub async fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.handle.stop().await;
    }
}

/// As kubelet writes a resolv.conf for `dnsPolicy: ClusterFirst`.
fn pod_dns(namespace: &str, pod: &[IpAddr], servers: &[IpAddr], domain: &str, own: &[String]) -> Dns {
    let of_family = |server: &&IpAddr| pod.iter().any(|address| address.is_ipv6() == server.is_ipv6());
    let nameservers: Vec<String> = servers.iter().filter(of_family).map(ToString::to_string).collect();
    if nameservers.is_empty() {
        return Dns::default();
    }
    let mut search = vec![format!("svc.{domain}"), domain.to_owned()];
    if !namespace.is_empty() {
        search.insert(0, format!("{namespace}.svc.{domain}"));
    }
    search.extend(own.iter().cloned());
    Dns { nameservers, domain: None, search, options: vec![NDOTS.to_owned()] }
}

/// Nanoseconds of CLOCK_MONOTONIC, as `bpf_ktime_get_ns` has them.
fn monotonic() -> Option<u64> {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).ok()?);
    u64::try_from(now.as_nanos()).ok()
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("handle", &self.handle).finish_non_exhaustive()
    }
}

// === impl Asking ===

impl Clients for Asking {
    fn admits(&self, address: IpAddr) -> bool {
        address.is_loopback()
            || self.networks.iter().any(|network| network.contains(&address))
            || self.own.contains(&address)
    }

    fn namespace(&self, address: IpAddr) -> Option<Arc<str>> {
        self.leases.namespace_of(address)
    }
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asking").field("networks", &self.networks).field("own", &self.own).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_told_of_the_resolver_of_their_families() {
        let (servers, own) =
            (["172.30.0.10", "fd02::a"].map(|text| text.parse().unwrap()), ["corp.example".to_owned()]);
        // (namespace, addresses) → (name servers, search path)
        type Row = (&'static str, &'static [&'static str], &'static [&'static str], &'static [&'static str]);
        let rows: [Row; 4] = [
            (
                "shop",
                &["10.128.0.2"],
                &["172.30.0.10"],
                &["shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"],
            ),
            (
                "shop",
                &["10.128.0.2", "fd01::2"],
                &["172.30.0.10", "fd02::a"],
                &["shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"],
            ),
            ("", &["fd01::2"], &["fd02::a"], &["svc.cluster.local", "cluster.local", "corp.example"]),
            ("shop", &[], &[], &[]),
        ];
        for (namespace, addresses, nameservers, search) in rows {
            let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
            let dns = pod_dns(namespace, &addresses, &servers, "cluster.local", &own);
            assert_eq!(dns.nameservers, nameservers, "{addresses:?}");
            assert_eq!(dns.search, search, "{addresses:?}");
            assert_eq!(dns.options.is_empty(), nameservers.is_empty());
        }
    }
}

//! What answers names that are not the cluster's: upstreams, and a cache of what they said.
//!
//! A question's way through here, in [`CachingForwarder::resolve`]:
//!
//! ```text
//! query → (cache →) zones → upstream → exchange → reply → cache → answer
//! ```

mod answer;
mod config;
mod exchange;
mod flights;
mod loops;
mod metrics;
mod query;
mod reply;
mod resolv_conf;
mod upstream;
mod watch;
pub(crate) mod wire;
mod zones;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use self::answer::{Delivery, Ttls, ede};
use self::flights::{Flights, Outcome, Waiter};
use self::loops::Loops;
use self::metrics::ForwardMetrics;
use self::query::{Query, Request, Unanswerable};
use self::wire::rcode;
use self::zones::{Pool, Zones};
use crate::cache::{Cache, CacheMetrics, Clock, Entry, Found, Key, Kind};

pub use self::config::{ForwardConfig, Policy, UpstreamSource, ZoneUpstreams};
pub use self::resolv_conf::ResolvConf;
pub use crate::cache::{Bounds, CacheConfig, Prefetch, Stale};

/// A question, as it was asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The name in wire form (RFC 1035 section 3.1), uncompressed, with its final root label, in the case it was asked in.
    pub name: &'a [u8],
    /// QTYPE.
    pub rtype: u16,
    /// QCLASS.
    pub class: u16,
}

/// What answers a name that is not the cluster's. A clone is the same forwarder.
pub trait Forwarder: Clone + Send + Sync + 'static {
    /// Writes a complete response to the message `query` into `out` (emptied before), no longer than `max_size`, if it
    /// can be made at once from what is cached. Otherwise returns false, and what `out` has is of no use.
    fn answer_cached(&self, query: &[u8], question: &Question<'_>, max_size: usize, out: &mut Vec<u8>) -> bool;

    /// A complete response to the message `query`, no longer than `max_size`: SERVFAIL when nobody answers.
    fn resolve(&self, query: &[u8], max_size: usize) -> impl Future<Output = Vec<u8>> + Send;
}

/// Asks upstreams and keeps what they answer. A clone is the same one.
#[derive(Clone, Debug)]
pub struct CachingForwarder {
    inner: Arc<Inner>,
}

/// An upstream, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamStatus {
    /// Its address.
    pub address: SocketAddr,
    /// Left alone until it answers a probe.
    pub down: bool,
    /// Left alone because it forwards to this resolver.
    pub looping: bool,
}

/// Why there is no forwarder.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// A zone's name is none.
    #[error("configure upstreams for the zone {0:?}: that is not a domain name")]
    Zone(String),
    /// It has tasks of its own.
    #[error("start the forwarder: it has to be started inside of a tokio runtime")]
    NoRuntime,
}

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// Nobody is configured, or everybody loops.
    NoUpstream,
    /// Everybody is known to be down.
    AllDown,
    /// Nobody answered.
    Unanswered,
    /// Too many questions at once.
    Busy,
    /// The task that asked is gone.
    Ended,
    /// Not in the time that an old answer gives it.
    Late,
}

#[derive(Debug)]
struct Inner {
    config: ForwardConfig,
    cache: Cache,
    zones: ArcSwap<Zones>,
    search: ArcSwap<Vec<String>>,
    flights: Arc<Flights>,
    loops: Arc<Loops>,
    permits: Arc<Semaphore>,
    metrics: ForwardMetrics,
    runtime: Handle,
}

/// An entry, and how it is to be given.
struct Answer {
    entry: Arc<Entry>,
    ttls: Ttls,
    error: Option<u16>,
}

// === impl CachingForwarder ===

impl CachingForwarder {
    /// Starts to watch for upstreams. Its tasks end when the last clone is dropped. `registry` gets its metrics.
    pub fn new(config: ForwardConfig, registry: &mut Registry) -> Result<Self, ForwardError> {
        Self::with_clock(config, registry, Clock::start())
    }

    fn with_clock(config: ForwardConfig, registry: &mut Registry, clock: Clock) -> Result<Self, ForwardError> {
        let runtime = Handle::try_current().map_err(|_| ForwardError::NoRuntime)?;
        let cache = Cache::new(config.cache.clone(), clock, CacheMetrics::register(registry));
        let permits = Arc::new(Semaphore::new(config.max_concurrent.min(Semaphore::MAX_PERMITS)));
        let inner = Arc::new(Inner {
            cache,
            zones: ArcSwap::from_pointee(Zones::new(&[], &[], config.policy, |_| {
                unreachable!("there are no addresses")
            })?),
            search: ArcSwap::default(),
            flights: Arc::default(),
            loops: Arc::default(),
            permits,
            metrics: ForwardMetrics::register(registry),
            runtime,
            config,
        });
        watch::start(&inner)?;
        Ok(Self { inner })
    }

    /// The upstreams of all zones, each address once.
    pub fn upstreams(&self) -> Vec<UpstreamStatus> {
        let zones = self.inner.zones.load();
        let mut found: Vec<UpstreamStatus> = vec![];
        for upstream in zones.pools().flat_map(|pool| pool.upstreams()) {
            let address = upstream.address();
            if found.iter().all(|other| other.address != address) {
                found.push(UpstreamStatus { address, down: upstream.is_down(), looping: upstream.is_looping() });
            }
        }
        found
    }

    /// The search domains of the watched resolv.conf, empty when there is none: the last part of the search path of pods.
    pub fn search(&self) -> Arc<Vec<String>> {
        self.inner.search.load_full()
    }
}

impl Forwarder for CachingForwarder {
    fn answer_cached(&self, query: &[u8], question: &Question<'_>, max_size: usize, out: &mut Vec<u8>) -> bool {
        let query = Query::with_question(query, question).filter(|query| query.refusal().is_none());
        let answer = query.and_then(|query| Some((query, self.inner.at_hand(&query, &query.key())?)));
        match answer {
            None => false,
            Some((query, answer)) => {
                answer.deliver(&query, max_size, out);
                true
            }
        }
    }

    /// Empty for a message that must not be answered: one too short to be a query, or a response.
    async fn resolve(&self, query: &[u8], max_size: usize) -> Vec<u8> {
        let mut out = vec![];
        let query = match Query::parse(query) {
            Ok(query) => query,
            Err(Unanswerable::NoQuery) => return out,
            Err(Unanswerable::Refuse(code)) => return answer::malformed(query, code),
        };
        if let Some(code) = query.refusal() {
            answer::write_empty(&query, code, None, max_size, &mut out);
        } else if self.inner.loops.caught(query.name, query.rtype) {
            answer::write_empty(&query, rcode::REFUSED, Some(ede::OTHER), max_size, &mut out);
        } else {
            match self.inner.find(&query, &query.key()).await {
                Ok(answer) => answer.deliver(&query, max_size, &mut out),
                Err(failure) => {
                    answer::write_empty(&query, failure.code(), Some(failure.error()), max_size, &mut out);
                }
            }
        }
        out
    }
}

// === impl Inner ===

impl Inner {
    /// What can be answered now. The cache's count of requests and hits is made here, and that of misses in [`Self::find`].
    fn at_hand(self: &Arc<Self>, query: &Query, key: &Key) -> Option<Answer> {
        let (now, metrics) = (self.cache.now(), self.cache.metrics());
        match self.cache.find(key, now) {
            Found::Fresh(entry) => {
                metrics.hit(entry.kind());
                if self.cache.is_due(&entry, now) {
                    metrics.prefetches.inc();
                    self.fetch(Request::new(query, key), key);
                }
                let (age, left) = entry.age(now);
                let error = (entry.kind() == Kind::Failure).then_some(ede::CACHED_ERROR);
                Some(Answer { entry, ttls: Ttls::Aged { age, left }, error })
            }
            Found::Stale(entry) => {
                let up = self.pool(key).is_up();
                if up && !entry.is_excused(now) {
                    return None;
                }
                if up && entry.claim_refresh(now) {
                    self.fetch(Request::new(query, key), key);
                }
                metrics.hit(entry.kind());
                Some(self.stale(entry))
            }
            Found::Nothing => None,
        }
    }

    /// What can be answered, from the cache or by upstreams.
    async fn find(self: &Arc<Self>, query: &Query<'_>, key: &Key) -> Result<Answer, Failure> {
        if let Some(answer) = self.at_hand(query, key) {
            return Ok(answer);
        }
        self.cache.metrics().miss();
        let waiter = self.fetch(Request::new(query, key), key);
        let Found::Stale(old) = self.cache.find(key, self.cache.now()) else {
            return flights::wait(waiter).await.map(|entry| self.fresh(entry));
        };
        let stale = self.cache.config().stale.unwrap_or_default();
        let outcome = timeout(stale.patience, flights::wait(waiter)).await.unwrap_or(Err(Failure::Late));
        Ok(match outcome {
            Ok(entry) if matches!(entry.rcode(), rcode::NOERROR | rcode::NXDOMAIN) => self.fresh(entry),
            _ => {
                old.excuse(self.cache.now().after(stale.recheck));
                self.stale(old)
            }
        })
    }

    fn fresh(&self, entry: Arc<Entry>) -> Answer {
        let (age, left) = entry.age(self.cache.now());
        Answer { entry, ttls: Ttls::Aged { age, left }, error: None }
    }

    fn stale(&self, entry: Arc<Entry>) -> Answer {
        self.cache.metrics().served_stale.inc();
        let ttl = self.cache.config().stale.unwrap_or_default().ttl.as_secs();
        let error = Some(answer::stale_error(&entry));
        Answer { entry, ttls: Ttls::Fixed(u32::try_from(ttl).unwrap_or(u32::MAX)), error }
    }

    /// Has upstreams asked, unless they are being asked.
    fn fetch(self: &Arc<Self>, request: Request, key: &Key) -> Waiter {
        let (waiter, flight) = self.flights.join(key);
        let Some(flight) = flight else {
            return waiter;
        };
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            self.metrics.rejects.inc();
            flight.land(Err(Failure::Busy));
            return waiter;
        };
        let (inner, key) = (self.clone(), key.clone());
        self.runtime.spawn(async move {
            let outcome = inner.ask(&request, &key).await;
            drop(permit);
            flight.land(outcome);
        });
        waiter
    }

    /// Asks one upstream after the other, each a second time if only time was against it.
    async fn ask(&self, request: &Request, key: &Key) -> Outcome {
        let order = self.pool(key).order();
        if order.all_down {
            self.metrics.all_down.inc();
        }
        match order.upstreams.len() {
            0 => return Err(Failure::NoUpstream),
            _ if order.all_down && self.config.fail_fast => return Err(Failure::AllDown),
            _ => {}
        }
        let deadline = Instant::now() + self.config.deadline;
        let mut left: Vec<_> = order.upstreams.iter().collect();
        let mut refusal = None;
        for _ in 0..2 {
            let mut again = vec![];
            for upstream in left {
                let time = deadline.saturating_duration_since(Instant::now());
                if time.is_zero() {
                    break;
                }
                match upstream.ask(request, time).await {
                    Ok(content) if self.config.failover && is_refusal(content.rcode) => {
                        refusal.get_or_insert(content);
                    }
                    Ok(content) => return Ok(self.cache.keep(key, content)),
                    Err(exchange::ExchangeError::Timeout(_)) => again.push(upstream),
                    Err(_) => {}
                }
            }
            left = again;
        }
        refusal.map(|content| self.cache.keep(key, content)).ok_or(Failure::Unanswered)
    }

    fn pool(&self, key: &Key) -> Arc<Pool> {
        self.zones.load().find(key.name()).clone()
    }
}

/// Another server may do better (as glibc's res_send sees it).
fn is_refusal(code: u16) -> bool {
    matches!(code, rcode::SERVFAIL | rcode::REFUSED | rcode::NOTIMP)
}

// === impl Answer ===

impl Answer {
    fn deliver(&self, query: &Query, max_size: usize, out: &mut Vec<u8>) {
        let delivery = Delivery { ttls: self.ttls, error: self.error, max_size };
        answer::write(&self.entry, query, delivery, out);
    }
}

// === impl Failure ===

impl Failure {
    /// For the client. CoreDNS refuses what is too much as well.
    fn code(self) -> u16 {
        if self == Self::Busy { rcode::REFUSED } else { rcode::SERVFAIL }
    }

    /// The Extended DNS Error that explains it.
    fn error(self) -> u16 {
        match self {
            Self::NoUpstream | Self::AllDown => ede::NO_REACHABLE_AUTHORITY,
            Self::Unanswered | Self::Late => ede::NETWORK_ERROR,
            Self::Busy | Self::Ended => ede::OTHER,
        }
    }
}

#[cfg(test)]
mod tests;

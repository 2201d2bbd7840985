//! What upstreams have answered: each message as it came, found by its question, for as long as its TTLs and our bounds allow.
//!
//! The names in here are those that upstreams were asked for. What a search path makes of them is put together when somebody
//! asks (see [`crate::forward`]), so nobody's search path can answer somebody else.

mod clock;
mod entry;
mod key;
mod lifetime;
mod metrics;

use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache as Shards;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};

pub(crate) use clock::{Clock, Moment};
pub(crate) use entry::{Content, Entry, Kind, SoaTimes};
pub(crate) use key::{Key, KeyBits};
pub(crate) use metrics::CacheMetrics;

/// How the cache behaves. Durations are rounded down to seconds, the unit of TTLs, unless told otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// The most answers that are kept.
    pub max_entries: usize,
    /// The most memory that answers may take, in bytes, their keys and bookkeeping included.
    pub max_bytes: usize,
    /// Bounds of the time for which answers with records are kept.
    pub positive: Bounds,
    /// Bounds of the time for which "no such name" and "no such records" are kept (RFC 2308).
    pub negative: Bounds,
    /// How long a server's failure is kept: at least 1 s, at most 5 min (RFC 9520 section 3.2).
    pub failure: Duration,
    /// Answers that are asked for often are fetched again before they end; `None`: they are not.
    pub prefetch: Option<Prefetch>,
    /// Answers that have ended are kept for when no upstream answers (RFC 8767); `None`: they are not.
    pub stale: Option<Stale>,
}

/// A time is at least `min` and at most `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Shorter TTLs are raised to this.
    pub min: Duration,
    /// Longer TTLs are lowered to this; wins over `min`.
    pub max: Duration,
}

/// Which answers are fetched again before they end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefetch {
    /// Those that were asked for this often,
    pub amount: u32,
    /// with no pause as long as this in between. Exact to the millisecond.
    pub window: Duration,
    /// When this part of their time is left, in percent.
    pub percent: u32,
}

/// How answers serve that have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stale {
    /// For how long after their end.
    pub max: Duration,
    /// What they get as TTL.
    pub ttl: Duration,
    /// How long upstreams have to answer before the client gets the old answer. Exact to the millisecond.
    pub patience: Duration,
    /// For how long after a failure to fetch it the old answer is given at once. Exact to the millisecond.
    pub recheck: Duration,
}

/// What is known of a question.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// To be answered with.
    Fresh(Arc<Entry>),
    /// It has ended, but nothing better may be there.
    Stale(Arc<Entry>),
    Nothing,
}

/// The cache. A clone is the same one.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    entries: Shards<Box<[u8]>, Arc<Entry>, Weight, DefaultHashBuilder, Evictions>,
    config: CacheConfig,
    clock: Clock,
    metrics: CacheMetrics,
}

/// An entry's share of the bytes, and of the number of entries: whichever is larger.
#[derive(Clone, Debug)]
struct Weight {
    least: u64,
}

/// Counts what leaves.
#[derive(Clone, Debug)]
struct Evictions {
    metrics: CacheMetrics,
}

// === impl CacheConfig ===

impl Default for CacheConfig {
    /// As OpenShift configures CoreDNS where it does, as CoreDNS is by default elsewhere.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            max_entries: 2 * 9984,
            max_bytes: 16 << 20,
            positive: Bounds { min: seconds(5), max: seconds(900) },
            negative: Bounds { min: seconds(5), max: seconds(30) },
            failure: seconds(5),
            prefetch: Some(Prefetch { amount: 3, window: seconds(60), percent: 10 }),
            stale: Some(Stale::default()),
        }
    }
}

impl Default for Stale {
    /// RFC 8767 section 5 recommends the TTL. It would wait 1.8 s, in which many clients have given up or are late already.
    fn default() -> Self {
        Self {
            max: Duration::from_secs(3600),
            ttl: Duration::from_secs(30),
            patience: Duration::from_millis(300),
            recheck: Duration::from_secs(5),
        }
    }
}

// === impl Bounds ===

impl Bounds {
    /// `seconds` within the bounds.
    pub(crate) fn clamp(self, seconds: u32) -> u32 {
        let whole = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        seconds.max(whole(self.min)).min(whole(self.max))
    }
}

// === impl Found ===

impl Found {
    /// An answer, old or not, that is not a failure.
    pub(crate) fn usable(&self) -> Option<&Arc<Entry>> {
        match self {
            Self::Fresh(entry) | Self::Stale(entry) => Some(entry).filter(|entry| entry.kind() != Kind::Failure),
            Self::Nothing => None,
        }
    }
}

// === impl Cache ===

impl Cache {
    pub(crate) fn new(config: CacheConfig, clock: Clock, metrics: CacheMetrics) -> Self {
        let (entries, bytes) = (config.max_entries.max(1), config.max_bytes.max(1) as u64);
        let options = OptionsBuilder::new()
            .estimated_items_capacity(entries)
            .weight_capacity(bytes)
            .build()
            .expect("both capacities are given, which is all that it asks for");
        let weight = Weight { least: bytes.div_ceil(entries as u64) };
        let evictions = Evictions { metrics: metrics.clone() };
        let entries = Shards::with_options(options, weight, DefaultHashBuilder::default(), evictions);
        Self { inner: Arc::new(Inner { entries, config, clock, metrics }) }
    }

    pub(crate) fn config(&self) -> &CacheConfig {
        &self.inner.config
    }

    pub(crate) fn metrics(&self) -> &CacheMetrics {
        &self.inner.metrics
    }

    pub(crate) fn now(&self) -> Moment {
        self.inner.clock.now()
    }

    /// Looks for an answer.
    pub(crate) fn find(&self, key: &Key, now: Moment) -> Found {
        let Some(entry) = self.inner.entries.get(key.as_bytes()) else {
            return Found::Nothing;
        };
        if now < entry.ends() {
            return Found::Fresh(entry);
        }
        match self.inner.config.stale {
            // A failure is nothing to hold on to.
            Some(stale) if entry.kind() != Kind::Failure && now < entry.ends().after(stale.max) => Found::Stale(entry),
            _ => Found::Nothing,
        }
    }

    /// Makes an entry of what an upstream has sent, and keeps it if it may be kept.
    pub(crate) fn keep(&self, key: &Key, content: Content) -> Arc<Entry> {
        let now = self.now();
        let lifetime = lifetime::of(&content, &self.inner.config);
        let entry = Arc::new(Entry::new(content, lifetime, now));
        let Some(lifetime) = lifetime else {
            return entry;
        };
        if lifetime.kind == Kind::Failure && self.find(key, now).usable().is_some() {
            // An old answer is worth more than a new failure.
            return entry;
        }
        if let Some(before) = self.inner.entries.peek(key.as_bytes()) {
            entry.inherit_popularity(&before);
            self.inner.metrics.left(before.kind());
        }
        self.inner.metrics.came(entry.kind());
        self.inner.entries.insert(key.as_bytes().into(), entry.clone());
        entry
    }

    /// Whether this use of a fresh entry is the one at which it is to be fetched again.
    pub(crate) fn is_due(&self, entry: &Entry, now: Moment) -> bool {
        let Some(prefetch) = self.inner.config.prefetch else {
            return false;
        };
        entry.count_use(now, prefetch.window) >= prefetch.amount
            && entry.is_in_last(prefetch.percent, now)
            && entry.claim_refresh(now)
    }

    /// Bytes that count against the limit.
    #[cfg(test)]
    pub(crate) fn weight(&self) -> u64 {
        self.inner.entries.weight()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.inner.entries.len()
    }
}

// === impl Weight ===

impl Weighter<Box<[u8]>, Arc<Entry>> for Weight {
    fn weight(&self, key: &Box<[u8]>, entry: &Arc<Entry>) -> u64 {
        let bytes = key.len() + entry.bytes();
        self.least.max(bytes as u64)
    }
}

// === impl Evictions ===

impl Lifecycle<Box<[u8]>, Arc<Entry>> for Evictions {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), _key: Box<[u8]>, entry: Arc<Entry>) {
        self.metrics.evicted(entry.kind());
    }
}

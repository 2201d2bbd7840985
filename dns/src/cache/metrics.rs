//! The cache's metrics, named and labelled as those of CoreDNS's plugin cache, so that dashboards keep working.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::entry::Kind;

/// A clone counts into the same. Each is at hand without looking for its labels.
#[derive(Clone, Debug)]
pub(crate) struct CacheMetrics {
    /// Answered from the cache: with records, or that there are none.
    hits: PerKind<Counter>,
    entries: PerKind<Gauge>,
    evictions: PerKind<Counter>,
    pub(crate) requests: Counter,
    pub(crate) misses: Counter,
    pub(crate) prefetches: Counter,
    pub(crate) served_stale: Counter,
}

/// CoreDNS keeps failures among the denials.
#[derive(Clone, Debug)]
struct PerKind<M> {
    success: M,
    denial: M,
}

/// CoreDNS has one server block where we have one server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    server: &'static str,
    zones: &'static str,
    view: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    server: &'static str,
    r#type: &'static str,
    zones: &'static str,
    view: &'static str,
}

/// What CoreDNS calls a server block for everything on the usual port.
const SERVER: &str = "dns://:53";
const ZONES: &str = ".";

// === impl CacheMetrics ===

impl CacheMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let hits = PerKind::register(registry, "hits", "The count of cache hits");
        let entries = PerKind::register(registry, "entries", "The number of elements in the cache");
        let evictions = PerKind::register(registry, "evictions", "The count of cache evictions");
        let mut plain = |name: &str, help: &str| {
            let family = Family::<Labels, Counter>::default();
            registry.register(format!("coredns_cache_{name}"), help, family.clone());
            family.get_or_create_owned(&Labels { server: SERVER, zones: ZONES, view: "" })
        };
        Self {
            hits,
            entries,
            evictions,
            requests: plain("requests", "The count of cache requests"),
            misses: plain("misses", "The count of cache misses"),
            prefetches: plain("prefetch", "The number of times the cache has prefetched a cached item"),
            served_stale: plain("served_stale", "The number of requests served from stale cache entries"),
        }
    }

    pub(crate) fn hit(&self, kind: Kind) {
        self.requests.inc();
        self.hits.of(kind).inc();
    }

    pub(crate) fn miss(&self) {
        self.requests.inc();
        self.misses.inc();
    }

    pub(super) fn came(&self, kind: Kind) {
        self.entries.of(kind).inc();
    }

    pub(super) fn left(&self, kind: Kind) {
        self.entries.of(kind).dec();
    }

    pub(super) fn evicted(&self, kind: Kind) {
        self.left(kind);
        self.evictions.of(kind).inc();
    }

    #[cfg(test)]
    pub(crate) fn entries(&self) -> i64 {
        self.entries.success.get() + self.entries.denial.get()
    }
}

// === impl PerKind ===

impl<M> PerKind<M> {
    fn of(&self, kind: Kind) -> &M {
        match kind {
            Kind::Success => &self.success,
            Kind::Denial | Kind::Failure => &self.denial,
        }
    }

    fn register(registry: &mut Registry, name: &str, help: &str) -> Self
    where
        M: Clone + Default + prometheus_client::metrics::TypedMetric + 'static,
        Family<KindLabels, M>: prometheus_client::registry::Metric,
    {
        let family = Family::<KindLabels, M>::default();
        registry.register(format!("coredns_cache_{name}"), help, family.clone());
        let of =
            |kind| family.get_or_create_owned(&KindLabels { server: SERVER, r#type: kind, zones: ZONES, view: "" });
        Self { success: of("success"), denial: of("denial") }
    }
}

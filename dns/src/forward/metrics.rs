//! The forwarder's metrics, named and labelled as those of CoreDNS's plugin forward (and proxy, its newer names), so that
//! dashboards keep working.

use std::net::SocketAddr;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::wire::rcode;

/// A clone counts into the same.
#[derive(Clone, Debug)]
pub(crate) struct ForwardMetrics {
    requests: Family<To, Counter>,
    responses: Family<ToWithCode, Counter>,
    durations: Family<ToWithCode, Histogram, Buckets>,
    proxy_durations: Family<Proxy, Histogram, Buckets>,
    failed_probes: Family<To, Counter>,
    proxy_failed_probes: Family<ProxyTo, Counter>,
    /// All upstreams were down.
    pub(crate) all_down: Counter,
    /// Too many questions at once.
    pub(crate) rejects: Counter,
}

/// Of one upstream.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamMetrics {
    all: ForwardMetrics,
    to: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct To {
    to: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ToWithCode {
    to: String,
    rcode: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProxyTo {
    proxy_name: &'static str,
    to: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Proxy {
    proxy_name: &'static str,
    to: String,
    rcode: &'static str,
}

#[derive(Clone, Debug)]
struct Buckets;

/// CoreDNS's plugin.TimeBuckets: 0.25 ms, doubled 15 times.
const FIRST_BUCKET: f64 = 0.000_25;
const BUCKETS: i32 = 16;
const PROXY_NAME: &str = "forward";

// === impl ForwardMetrics ===

impl ForwardMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            responses: Family::default(),
            durations: Family::new_with_constructor(Buckets),
            proxy_durations: Family::new_with_constructor(Buckets),
            failed_probes: Family::default(),
            proxy_failed_probes: Family::default(),
            all_down: Counter::default(),
            rejects: Counter::default(),
        };
        let seconds = "Time each request took, in seconds";
        let probes = "Probes that an upstream did not answer";
        let broken = "Times that all upstreams were down";
        let rejects = "Queries refused because too many were being forwarded";
        registry.register("coredns_forward_requests", "Requests made per upstream", metrics.requests.clone());
        registry.register("coredns_forward_responses", "Responses received per upstream", metrics.responses.clone());
        registry.register("coredns_forward_request_duration_seconds", seconds, metrics.durations.clone());
        registry.register("coredns_proxy_request_duration_seconds", seconds, metrics.proxy_durations.clone());
        registry.register("coredns_forward_healthcheck_failures", probes, metrics.failed_probes.clone());
        registry.register("coredns_proxy_healthcheck_failures", probes, metrics.proxy_failed_probes.clone());
        registry.register("coredns_forward_healthcheck_broken", broken, metrics.all_down.clone());
        registry.register("coredns_forward_max_concurrent_rejects", rejects, metrics.rejects.clone());
        metrics
    }

    pub(crate) fn of(&self, address: SocketAddr) -> UpstreamMetrics {
        UpstreamMetrics { all: self.clone(), to: address.to_string() }
    }
}

// === impl UpstreamMetrics ===

impl UpstreamMetrics {
    pub(crate) fn answered(&self, code: u16, time: Duration) {
        let (to, rcode) = (self.to.clone(), code_name(code));
        let seconds = time.as_secs_f64();
        self.all
            .proxy_durations
            .get_or_create(&Proxy { proxy_name: PROXY_NAME, to: to.clone(), rcode })
            .observe(seconds);
        let labels = ToWithCode { to, rcode };
        self.all.responses.get_or_create(&labels).inc();
        self.all.durations.get_or_create(&labels).observe(seconds);
        self.asked();
    }

    /// CoreDNS counts what it asked, answered or not.
    pub(crate) fn unanswered(&self) {
        self.asked();
    }

    pub(crate) fn failed_probe(&self) {
        let to = self.to.clone();
        self.all.proxy_failed_probes.get_or_create(&ProxyTo { proxy_name: PROXY_NAME, to: to.clone() }).inc();
        self.all.failed_probes.get_or_create(&To { to }).inc();
    }

    fn asked(&self) {
        self.all.requests.get_or_create(&To { to: self.to.clone() }).inc();
    }
}

// === impl Buckets ===

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new((0..BUCKETS).map(|power| FIRST_BUCKET * f64::from(1 << power)))
    }
}

/// As miekg/dns, and so CoreDNS, spells them.
fn code_name(code: u16) -> &'static str {
    match code {
        rcode::NOERROR => "NOERROR",
        rcode::FORMERR => "FORMERR",
        rcode::SERVFAIL => "SERVFAIL",
        rcode::NXDOMAIN => "NXDOMAIN",
        rcode::NOTIMP => "NOTIMP",
        rcode::REFUSED => "REFUSED",
        _ => "OTHER",
    }
}

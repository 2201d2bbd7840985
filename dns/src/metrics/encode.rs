//! The counters of all threads, summed when somebody asks.

use super::{DURATIONS, Histogram, SIZES, Shared, Stats, TYPES, Transport};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder},
    metrics::{MetricType, exemplar::Exemplar},
};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Gives the counters out.
#[derive(Debug)]
pub(crate) struct Collect {
    pub(crate) shared: Arc<Shared>,
    pub(crate) threads: Vec<Arc<Stats>>,
    /// The cluster's domain, with its final dot.
    pub(crate) zone: String,
}

/// A label and its value.
type Label<'a> = (&'static str, &'a str);

/// CoreDNS names each of its servers; we are one.
const SERVER: Label<'static> = ("server", "dns://:53");

/// CoreDNS's views, which we have none of.
const VIEW: Label<'static> = ("view", "");

/// Response codes in their order.
const RCODES: [&str; 16] = [
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH",
    "NOTZONE", "11", "12", "13", "14", "15",
];

impl Collector for Collect {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.requests(&mut encoder)?;
        self.responses(&mut encoder)?;
        self.durations(&mut encoder)?;
        let help = "Size of the requests in bytes.";
        self.sizes(&mut encoder, "coredns_dns_request_size_bytes", help, |stats| &stats.request_size)?;
        let help = "Size of the responses in bytes.";
        self.sizes(&mut encoder, "coredns_dns_response_size_bytes", help, |stats| &stats.response_size)?;
        self.rest(&mut encoder)
    }
}

impl Collect {
    fn all(&self) -> impl Iterator<Item = &Stats> {
        self.threads.iter().map(|stats| &**stats).chain([&self.shared.stats])
    }

    fn sum<'a>(&'a self, counter: impl Fn(&'a Stats) -> &'a AtomicU64) -> u64 {
        self.all().map(|stats| counter(stats).load(Ordering::Relaxed)).sum()
    }

    fn zones(&self) -> [Label<'_>; 2] {
        [("zone", &self.zone), ("zone", ".")]
    }

    fn requests(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Counter of DNS requests made per zone, protocol and family";
        let mut metric = encoder.encode_descriptor("coredns_dns_requests", help, None, MetricType::Counter)?;
        for (zone, zone_label) in self.zones().into_iter().enumerate() {
            for transport in [Transport::Udp, Transport::Tcp] {
                for (family, family_label) in ["1", "2"].into_iter().enumerate() {
                    let names = TYPES.iter().map(|(_, name)| *name).chain(["other"]);
                    for (rtype, name) in names.enumerate() {
                        let value = self.sum(|stats| &stats.requests[zone][transport as usize][family][rtype]);
                        let proto = ("proto", transport.as_str());
                        let labels = [SERVER, zone_label, VIEW, proto, ("family", family_label), ("type", name)];
                        counter_of(&mut metric, &labels, value)?;
                    }
                }
            }
        }
        let help = "Counter of DNS requests with DO bit set per zone.";
        let mut metric = encoder.encode_descriptor("coredns_dns_do_requests", help, None, MetricType::Counter)?;
        for (zone, label) in self.zones().into_iter().enumerate() {
            counter_of(&mut metric, &[SERVER, label, VIEW], self.sum(|stats| &stats.dnssec_ok[zone]))?;
        }
        Ok(())
    }

    fn responses(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Counter of response status codes.";
        let mut metric = encoder.encode_descriptor("coredns_dns_responses", help, None, MetricType::Counter)?;
        for (zone, label) in self.zones().into_iter().enumerate() {
            let plugin = ("plugin", ["kubernetes", "forward"][zone]);
            for (rcode, name) in RCODES.into_iter().enumerate() {
                let value = self.sum(|stats| &stats.responses[zone][rcode]);
                counter_of(&mut metric, &[SERVER, label, VIEW, ("rcode", name), plugin], value)?;
            }
        }
        Ok(())
    }

    fn durations(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let name = "coredns_dns_request_duration_seconds";
        let help = "Histogram of the time (in seconds) each request took per zone.";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (zone, label) in self.zones().into_iter().enumerate() {
            let parts = self.all().map(|stats| &stats.duration[zone]);
            histogram_of(&mut metric, &[SERVER, label, VIEW], parts, &DURATIONS, NANOSECOND)?;
        }
        let name = "culvert_dns_index_update_seconds";
        let help = "From a changed snapshot of the cluster to its answers in use.";
        let metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        encode_histogram(metric, [&self.shared.updates].into_iter(), &DURATIONS, NANOSECOND)
    }

    fn sizes(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        of: impl Fn(&Stats) -> &[[Histogram<{ SIZES.len() }>; 2]; 2],
    ) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (zone, label) in self.zones().into_iter().enumerate() {
            for transport in [Transport::Udp, Transport::Tcp] {
                let parts = self.all().map(|stats| &of(stats)[zone][transport as usize]);
                let labels = [SERVER, label, VIEW, ("proto", transport.as_str())];
                histogram_of(&mut metric, &labels, parts, &SIZES, 1.0)?;
            }
        }
        Ok(())
    }

    fn rest(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let panics = self.shared.panics.load(Ordering::Relaxed);
        counter(encoder, "coredns_panics", "A metrics that counts the number of panics.", panics)?;
        let unsent = self.shared.unsent.load(Ordering::Relaxed);
        counter(encoder, "culvert_dns_unsent", "Responses that the kernel did not take.", unsent)?;
        let help = "Messages without an answer, by reason.";
        let mut metric = encoder.encode_descriptor("culvert_dns_dropped", help, None, MetricType::Counter)?;
        for (reason, name) in ["client", "rate", "malformed", "connection"].into_iter().enumerate() {
            counter_of(&mut metric, &[("reason", name)], self.sum(|stats| &stats.dropped[reason]))?;
        }
        let help = "Connections that are open.";
        let mut metric = encoder.encode_descriptor("culvert_dns_tcp_connections", help, None, MetricType::Gauge)?;
        metric.encode_gauge(&self.shared.connections.load(Ordering::Relaxed))
    }
}

const NANOSECOND: f64 = 1e-9;

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    metric.encode_counter(&value, None::<&Exemplar<[Label<'_>; 0], u64>>)
}

fn counter_of<const N: usize>(metric: &mut MetricEncoder<'_>, labels: &[Label<'_>; N], value: u64) -> fmt::Result {
    // As with CoreDNS, what never happened is not listed.
    if value == 0 {
        return Ok(());
    }
    metric.encode_family(labels)?.encode_counter(&value, None::<&Exemplar<[Label<'_>; 0], u64>>)
}

fn histogram_of<'a, const N: usize, const L: usize>(
    metric: &mut MetricEncoder<'_>,
    labels: &[Label<'_>; L],
    parts: impl Iterator<Item = &'a Histogram<N>>,
    ends: &[u64; N],
    unit: f64,
) -> fmt::Result {
    encode_histogram(metric.encode_family(labels)?, parts, ends, unit)
}

/// Sums the parts; their ends are in units of `unit`.
fn encode_histogram<'a, const N: usize>(
    mut metric: MetricEncoder<'_>,
    parts: impl Iterator<Item = &'a Histogram<N>>,
    ends: &[u64; N],
    unit: f64,
) -> fmt::Result {
    let mut buckets: Vec<(f64, u64)> = ends.iter().map(|end| (as_f64(*end) * unit, 0)).collect();
    buckets.push((f64::MAX, 0));
    let mut sum = 0;
    for part in parts {
        for (bucket, own) in buckets.iter_mut().zip(part.buckets.iter().chain([&part.above])) {
            bucket.1 += own.load(Ordering::Relaxed);
        }
        sum += part.sum.load(Ordering::Relaxed);
    }
    let count = buckets.iter().map(|(_, count)| count).sum();
    metric.encode_histogram::<[Label<'_>; 0]>(as_f64(sum) * unit, count, &buckets, None)
}

#[expect(clippy::cast_precision_loss, reason = "metrics are not exact beyond 2^53")]
fn as_f64(value: u64) -> f64 {
    value as f64
}

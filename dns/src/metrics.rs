//! What is counted: under CoreDNS's names, so that dashboards go on to work.

mod encode;

use crate::{
    engine::Arrival,
    wire::{Query, flag, rtype, u16_at},
};
use std::{
    net::IpAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

pub(crate) use encode::Collect;

/// Counters of one thread: nobody else writes them, so that counting costs no waiting.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    requests: [[[[AtomicU64; TYPES.len() + 1]; 2]; 2]; 2],
    responses: [[AtomicU64; 16]; 2],
    dnssec_ok: [AtomicU64; 2],
    duration: [Histogram<{ DURATIONS.len() }>; 2],
    request_size: [[Histogram<{ SIZES.len() }>; 2]; 2],
    response_size: [[Histogram<{ SIZES.len() }>; 2]; 2],
    dropped: [AtomicU64; 4],
}

/// What all share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Counters of tasks.
    pub(crate) stats: Stats,
    /// Threads and tasks that panicked.
    pub(crate) panics: AtomicU64,
    /// Responses the kernel did not take.
    pub(crate) unsent: AtomicU64,
    /// Connections that are open.
    pub(crate) connections: AtomicU64,
    /// The threads of sockets are to end: what a thread can see without a lock.
    pub(crate) stopping: AtomicBool,
    /// From a snapshot to its index in use.
    pub(crate) updates: Histogram<{ DURATIONS.len() }>,
}

/// Upper ends of buckets and how many fell in each, and above all; and the sum, in nanoseconds or bytes.
#[derive(Debug)]
pub(crate) struct Histogram<const N: usize> {
    buckets: [AtomicU64; N],
    above: AtomicU64,
    sum: AtomicU64,
}

/// How a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp = 0,
    Tcp = 1,
}

/// Whose names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ZoneLabel {
    /// The cluster's, reverse zones included.
    Cluster = 0,
    /// Everybody else's.
    Root = 1,
}

/// Why a message got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// Its sender is none of ours.
    Client = 0,
    /// Its sender sends too many.
    Rate = 1,
    /// It is no query.
    Malformed = 2,
    /// Its connection asks too much at once, or there are too many.
    Connection = 3,
}

/// One query and its response, for the counters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observed {
    pub(crate) zone: ZoneLabel,
    transport: Transport,
    is_v6: bool,
    rtype: u16,
    dnssec_ok: bool,
    request: usize,
    response: usize,
    rcode: u8,
}

/// Types that are counted by name, as CoreDNS does; all else is `other`.
pub(crate) const TYPES: [(u16, &str); 18] = [
    (rtype::A, "A"),
    (rtype::AAAA, "AAAA"),
    (15, "MX"),
    (rtype::SOA, "SOA"),
    (rtype::CNAME, "CNAME"),
    (rtype::PTR, "PTR"),
    (rtype::TXT, "TXT"),
    (rtype::NS, "NS"),
    (rtype::SRV, "SRV"),
    (43, "DS"),
    (48, "DNSKEY"),
    (46, "RRSIG"),
    (47, "NSEC"),
    (50, "NSEC3"),
    (65, "HTTPS"),
    (rtype::IXFR, "IXFR"),
    (rtype::AXFR, "AXFR"),
    (rtype::ANY, "ANY"),
];

/// CoreDNS's buckets of durations, and finer ones below: in nanoseconds.
pub(crate) const DURATIONS: [u64; 20] = {
    let mut ends = [0; 20];
    let mut end = 15_625;
    let mut index = 0;
    while index < ends.len() {
        ends[index] = end;
        end *= 2;
        index += 1;
    }
    ends
};

/// CoreDNS's buckets of sizes, in bytes.
pub(crate) const SIZES: [u64; 14] =
    [0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16_000, 32_000, 48_000, 64_000];

// === impl Stats ===

impl Stats {
    /// Counts a query and its response.
    pub(crate) fn observe(&self, seen: Observed) {
        let (zone, transport) = (seen.zone as usize, seen.transport as usize);
        // Nearly all are of the first two types.
        let rtype = TYPES.iter().position(|(rtype, _)| *rtype == seen.rtype).unwrap_or(TYPES.len());
        add(&self.requests[zone][transport][usize::from(seen.is_v6)][rtype], 1);
        add(&self.responses[zone][usize::from(seen.rcode & 0xf)], 1);
        if seen.dnssec_ok {
            add(&self.dnssec_ok[zone], 1);
        }
        self.request_size[zone][transport].observe(&SIZES, seen.request as u64, 1);
        self.response_size[zone][transport].observe(&SIZES, seen.response as u64, 1);
    }

    /// Counts how long it took to answer queries for names of these zones.
    pub(crate) fn took(&self, time: Duration, zones: &[ZoneLabel]) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        for zone in [ZoneLabel::Cluster, ZoneLabel::Root] {
            let times = zones.iter().filter(|own| **own == zone).count() as u64;
            if times > 0 {
                self.duration[zone as usize].observe(&DURATIONS, nanos, times);
            }
        }
    }

    /// Counts a message without an answer.
    pub(crate) fn drop_query(&self, reason: Dropped) {
        add(&self.dropped[reason as usize], 1);
    }
}

/// Each counter has one writer, or writers that meet rarely.
fn add(counter: &AtomicU64, value: u64) {
    counter.fetch_add(value, Ordering::Relaxed);
}

// === impl Histogram ===

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)), above: AtomicU64::new(0), sum: AtomicU64::new(0) }
    }
}

impl<const N: usize> Histogram<N> {
    /// Counts `value`, `times` times.
    pub(crate) fn observe(&self, ends: &[u64; N], value: u64, times: u64) {
        let bucket = ends.iter().position(|end| value <= *end);
        add(bucket.map_or(&self.above, |index| &self.buckets[index]), times);
        add(&self.sum, value.saturating_mul(times));
    }
}

// === impl Observed ===

impl Observed {
    /// A query that was answered.
    pub(crate) fn answered(arrival: &Arrival<'_>, query: &Query<'_>, zone: ZoneLabel, response: &[u8]) -> Self {
        let mut observed = Self::failed(arrival.transport, arrival.client, arrival.message.len(), response);
        observed.zone = zone;
        observed.rtype = query.rtype;
        observed.dnssec_ok = query.edns.is_some_and(|edns| edns.dnssec_ok);
        observed
    }

    /// A message that was answered with a code alone.
    pub(crate) fn failed(transport: Transport, client: IpAddr, request: usize, response: &[u8]) -> Self {
        let rcode = u16_at(response, 2).unwrap_or_default() & flag::RCODE;
        Self {
            zone: ZoneLabel::Root,
            transport,
            is_v6: client.is_ipv6(),
            rtype: 0,
            dnssec_ok: false,
            request,
            response: response.len(),
            // Four bits.
            rcode: u8::try_from(rcode).unwrap_or_default(),
        }
    }
}

// === impl Transport ===

impl Transport {
    /// As CoreDNS labels it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

//! Counters of the whole process, without locks.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::listen::Door;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

/// What is counted for a route, an endpoint, or a door.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests (passthrough: connections) that have ended.
    pub requests: Count,
    /// Bytes from clients.
    pub bytes_in: Count,
    /// Bytes to clients.
    pub bytes_out: Count,
    /// Pods that could not be connected to, each try.
    pub connection_errors: Count,
    /// Responses that did not come, or not whole.
    pub response_errors: Count,
    /// Requests that were refused: by a rule, or malformed.
    pub denied: Count,
    /// Tries after the first.
    pub retries: Count,
    /// Requests that went to another endpoint than the one first chosen.
    pub redispatches: Count,
    /// Responses by the first digit of their status, 1 to 5; at 0 all others.
    pub responses: [Count; 6],
    /// Microseconds that requests waited for a place at an endpoint.
    pub queue: Count,
    /// Microseconds that connecting took.
    pub connect: Count,
    /// Microseconds from the connection to the response's head.
    pub response: Count,
    /// Microseconds in all.
    pub total: Count,
}

/// The counters of a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// As in [`Counters`].
    pub requests: u64,
    /// As in [`Counters`].
    pub bytes_in: u64,
    /// As in [`Counters`].
    pub bytes_out: u64,
    /// As in [`Counters`].
    pub connection_errors: u64,
    /// As in [`Counters`].
    pub response_errors: u64,
    /// As in [`Counters`].
    pub denied: u64,
    /// As in [`Counters`].
    pub retries: u64,
    /// As in [`Counters`].
    pub redispatches: u64,
    /// As in [`Counters`].
    pub responses: [u64; 6],
    /// Mean microseconds of queue, connect, response and total.
    pub means: [u64; 4],
}

/// What is counted for the router as a whole.
#[derive(Debug, Default)]
pub struct Totals {
    http: DoorCounters,
    https: DoorCounters,
}

#[derive(Debug, Default)]
struct DoorCounters {
    connections: Count,
    requests: Counters,
}

// === impl Count ===

impl Count {
    /// Counts `more`.
    #[inline]
    pub fn add(&self, more: u64) {
        // Most of what is added is 0.
        if more > 0 {
            self.0.fetch_add(more, Relaxed);
        }
    }

    /// So many until now.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

// === impl Counters ===

impl Counters {
    /// A time, if there was one.
    pub(crate) fn time(count: &Count, time: Option<Duration>) {
        count.add(time.map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)));
    }

    /// What they say now.
    pub fn snapshot(&self) -> Snapshot {
        let requests = self.requests.value();
        let mean = |sum: &Count| sum.value() / requests.max(1);
        Snapshot {
            requests,
            bytes_in: self.bytes_in.value(),
            bytes_out: self.bytes_out.value(),
            connection_errors: self.connection_errors.value(),
            response_errors: self.response_errors.value(),
            denied: self.denied.value(),
            retries: self.retries.value(),
            redispatches: self.redispatches.value(),
            responses: std::array::from_fn(|class| self.responses[class].value()),
            means: [&self.queue, &self.connect, &self.response, &self.total].map(mean),
        }
    }
}

// === impl Totals ===

impl Totals {
    /// A connection was taken.
    pub fn accepted(&self, door: Door) {
        self.of(door).connections.add(1);
    }

    /// A connection or request was refused.
    pub fn denied(&self, door: Door) {
        self.of(door).requests.denied.add(1);
    }

    /// Connections that were taken.
    pub fn connections(&self, door: Door) -> u64 {
        self.of(door).connections.value()
    }

    /// What came in by a door.
    pub fn requests(&self, door: Door) -> &Counters {
        &self.of(door).requests
    }

    fn of(&self, door: Door) -> &DoorCounters {
        match door {
            Door::Http => &self.http,
            Door::Https => &self.https,
        }
    }
}

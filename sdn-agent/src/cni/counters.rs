//! What the CNI server counts. The process exports it; nothing here knows how.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sdn_cni::protocol::code;

/// Codes that are counted on their own; anything else goes under 0.
const CODES: [u32; 15] = [
    code::INCOMPATIBLE_VERSION,
    code::UNSUPPORTED_FIELD,
    code::UNKNOWN_CONTAINER,
    code::INVALID_ENVIRONMENT,
    code::IO_FAILURE,
    code::DECODING_FAILURE,
    code::INVALID_CONFIG,
    code::TRY_AGAIN_LATER,
    code::NOT_AVAILABLE,
    code::KERNEL,
    code::ADDRESSES_EXHAUSTED,
    code::CHECK_FAILED,
    code::DATAPLANE,
    code::LEASE_STORAGE,
    code::PROTOCOL,
];

/// Counters since the process started. Addresses in use are read from [`super::leases::Leases::usage`].
#[derive(Debug, Default)]
pub struct Counters {
    /// ADDs that ended in Done.
    pub adds: AtomicU64,
    /// Time from an ADD's first message to its Done, summed, in microseconds. The plugin's own work is in it, the hook's wait too.
    pub add_micros: AtomicU64,
    /// ADDs that did not come to Done, whoever was the cause, and were undone as far as they had come.
    pub rollbacks: AtomicU64,
    /// DELs that ended in Done.
    pub dels: AtomicU64,
    /// CHECKs that found everything as it should be.
    pub checks: AtomicU64,
    /// GCs that ended in Done.
    pub gcs: AtomicU64,
    /// Leases taken back because their container was gone without a DEL.
    pub reclaimed: AtomicU64,
    /// Connections refused because of their user.
    pub strangers: AtomicU64,
    failures: [AtomicU64; CODES.len() + 1],
}

// === impl Counters ===

impl Counters {
    /// Counts an answer that was a failure.
    pub fn count_failure(&self, code: u32) {
        let place = CODES.iter().position(|known| *known == code).map_or(0, |index| index + 1);
        self.failures[place].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an ADD that took `duration`.
    pub fn count_add(&self, duration: Duration) {
        self.adds.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.add_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Failures by CNI error code; 0 stands for all other codes.
    pub fn failures(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        let codes = std::iter::once(0).chain(CODES);
        codes.zip(&self.failures).map(|(code, count)| (code, count.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_under_their_code() {
        let counters = Counters::default();
        for code in [code::TRY_AGAIN_LATER, code::TRY_AGAIN_LATER, code::PROTOCOL, 77] {
            counters.count_failure(code);
        }
        let counted: Vec<_> = counters.failures().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(0, 1), (code::TRY_AGAIN_LATER, 2), (code::PROTOCOL, 1)]);
    }
}

//! Time as the cache and the health of upstreams see it. Tests move it; nothing waits by it.

use std::time::{Duration, Instant};

#[cfg(test)]
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicU64, Ordering};

/// Tells the time. A clone tells the same.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    origin: Instant,
    /// Milliseconds by which a test is ahead.
    #[cfg(test)]
    ahead: Arc<AtomicU64>,
}

/// Milliseconds since the clock began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) u64);

impl Clock {
    /// The machine's monotonic clock.
    pub(crate) fn start() -> Self {
        Self {
            // One second in, so that a moment of zero is "never yet".
            origin: Instant::now().checked_sub(Duration::from_secs(1)).unwrap_or_else(Instant::now),
            #[cfg(test)]
            ahead: Arc::default(),
        }
    }

    pub(crate) fn now(&self) -> Moment {
        let now = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        #[cfg(test)]
        let now = now + self.ahead.load(Ordering::Relaxed);
        Moment(now)
    }

    #[cfg(test)]
    pub(crate) fn advance(&self, time: Duration) {
        self.ahead.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

impl Moment {
    /// `time` later.
    pub(crate) fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Whole seconds since `earlier`.
    pub(crate) fn seconds_since(self, earlier: Self) -> u32 {
        u32::try_from(self.0.saturating_sub(earlier.0) / 1000).unwrap_or(u32::MAX)
    }
}

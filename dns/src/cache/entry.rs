//! One answer.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::clock::Moment;
use super::lifetime::Lifetime;
use crate::forward::wire::{put_u32, u32_at};

/// At most one attempt to fetch an entry again begins in this time, whoever uses it.
const BETWEEN_REFRESHES: Duration = Duration::from_secs(1);

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// There are records.
    Success,
    /// There is no such name, or it has no such records.
    Denial,
    /// The upstream could not say.
    Failure,
}

/// A reply that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    /// The message without its OPT record and whatever came after that.
    pub(crate) message: Vec<u8>,
    /// Where its TTLs are.
    pub(crate) ttls: Vec<u16>,
    /// The response code, at most 15.
    pub(crate) rcode: u16,
    /// There are records of the type that was asked for.
    pub(crate) has_answer: bool,
    /// The smallest TTL; `None` when there are no records.
    pub(crate) min_ttl: Option<u32>,
    /// Of the authority section.
    pub(crate) soa: Option<SoaTimes>,
}

/// What of an SOA record says for how long nothing is there (RFC 2308 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SoaTimes {
    pub(crate) ttl: u32,
    pub(crate) minimum: u32,
}

/// A reply and its time.
#[derive(Debug)]
pub(crate) struct Entry {
    message: Box<[u8]>,
    ttls: Box<[u16]>,
    rcode: u16,
    kind: Kind,
    stored: Moment,
    /// Zero: not kept.
    seconds: u32,
    /// Uses in a row without a long pause, and when the last was, in milliseconds.
    uses: AtomicU32,
    last_use: AtomicU64,
    /// When somebody last began to fetch it again, and until when a failure of that counts, in milliseconds.
    refreshed: AtomicU64,
    excused: AtomicU64,
}

// === impl Entry ===

impl Entry {
    pub(super) fn new(content: Content, lifetime: Option<Lifetime>, now: Moment) -> Self {
        let mut message = content.message.into_boxed_slice();
        if let Some(lifetime) = lifetime {
            for at in content.ttls.iter().map(|at| usize::from(*at)) {
                let ttl = u32_at(&message, at).unwrap_or(0);
                let ttl = if ttl > i32::MAX as u32 { 0 } else { ttl };
                put_u32(&mut message, at, ttl.min(lifetime.max_ttl));
            }
        }
        Self {
            message,
            ttls: content.ttls.into(),
            rcode: content.rcode,
            kind: lifetime.map_or(Kind::Failure, |lifetime| lifetime.kind),
            stored: now,
            seconds: lifetime.map_or(0, |lifetime| lifetime.seconds),
            uses: AtomicU32::new(0),
            last_use: AtomicU64::new(0),
            refreshed: AtomicU64::new(0),
            excused: AtomicU64::new(0),
        }
    }

    /// The message: the id, the spelling of the question and the TTLs are somebody else's.
    pub(crate) fn message(&self) -> &[u8] {
        &self.message
    }

    pub(crate) fn ttls(&self) -> impl Iterator<Item = usize> {
        self.ttls.iter().map(|at| usize::from(*at))
    }

    pub(crate) fn rcode(&self) -> u16 {
        self.rcode
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn ends(&self) -> Moment {
        self.stored.after(Duration::from_secs(u64::from(self.seconds)))
    }

    /// Seconds since it was stored, and until it ends.
    pub(crate) fn age(&self, now: Moment) -> (u32, u32) {
        let age = now.seconds_since(self.stored);
        (age, self.seconds.saturating_sub(age))
    }

    /// Bytes that it takes, its place in the cache included.
    pub(super) fn bytes(&self) -> usize {
        // Two counters of the Arc; in the cache a key, a pointer, an index and what its slots leave unused.
        const AROUND: usize = 16 + 80;
        size_of::<Self>() + AROUND + self.message.len() + 2 * self.ttls.len()
    }

    /// One more use. How many there were with no pause as long as `window`, this one included.
    pub(super) fn count_use(&self, now: Moment, window: Duration) -> u32 {
        // Two threads may count as one; nothing needs these to be exact.
        let last = Moment(self.last_use.swap(now.0, Ordering::Relaxed));
        if now >= last.after(window) {
            self.uses.store(1, Ordering::Relaxed);
            return 1;
        }
        self.uses.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// The answer to the same question was as popular.
    pub(super) fn inherit_popularity(&self, before: &Self) {
        self.uses.store(before.uses.load(Ordering::Relaxed), Ordering::Relaxed);
        self.last_use.store(before.last_use.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Whether at most `percent` of its time is left.
    pub(super) fn is_in_last(&self, percent: u32, now: Moment) -> bool {
        let left = self.ends().0.saturating_sub(now.0);
        left * 100 <= u64::from(self.seconds) * 1000 * u64::from(percent)
    }

    /// True for one user a second: that one has it fetched again.
    pub(crate) fn claim_refresh(&self, now: Moment) -> bool {
        let last = self.refreshed.load(Ordering::Relaxed);
        (last == 0 || now >= Moment(last).after(BETWEEN_REFRESHES))
            && self.refreshed.compare_exchange(last, now.0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// It could not be fetched again: until `until` it is given out old without another wait.
    pub(crate) fn excuse(&self, until: Moment) {
        self.excused.store(until.0, Ordering::Relaxed);
    }

    pub(crate) fn is_excused(&self, now: Moment) -> bool {
        now < Moment(self.excused.load(Ordering::Relaxed))
    }
}

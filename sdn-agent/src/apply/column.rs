//! One kind of entries: what the kernel holds of it, and what it refused.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use imbl::OrdMap;
use sdn_cluster::snapshot::{Change as Difference, changes};
use tokio::time::Instant;

use super::Failing;
use super::kernel::{Change, Kernel, Refused};

/// Writes after which others on the thread have their turn: a write takes one or two microseconds.
const TURN: u64 = 256;
/// Wait before the second try; doubled for each further one.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What a pass has done so far.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) now: Instant,
    /// The cluster is known: what is found to differ from it is wrong, and what is not in it is gone. Before that the kernel knows
    /// better: what it holds was written by an agent that had read the cluster later than the snapshot on disk was saved.
    pub(super) complete: bool,
    /// Entries written or removed.
    pub(super) writes: u64,
    /// An entry that was there before was changed or removed: flows must look again.
    pub(super) altered: bool,
}

/// One kind of entries.
#[derive(Debug)]
pub(super) struct Column<K: Ord, V> {
    /// What the kernel holds.
    actual: OrdMap<K, V>,
    failing: BTreeMap<K, Retry<V>>,
    change: fn(K, Option<V>) -> Change,
    /// Whether flows have to look again when an entry becomes another: they remember what it said.
    alters: Alters<V>,
}

/// Whether a change of an entry, from what to what, is one that flows have to look at.
pub(super) type Alters<V> = fn(Option<&V>, Option<&V>) -> bool;

/// What the kernel refused, and when it is asked again.
#[derive(Clone, Debug)]
pub(super) struct Retry<V> {
    /// What was asked: another wish is tried at once.
    wish: Option<V>,
    object: String,
    cause: String,
    full: bool,
    attempts: u32,
    due: Instant,
}

// === impl Pass ===

impl Pass {
    pub(super) fn new(now: Instant, complete: bool) -> Self {
        Self { now, complete, writes: 0, altered: false }
    }

    async fn count(&mut self) {
        self.writes += 1;
        if self.writes.is_multiple_of(TURN) {
            tokio::task::yield_now().await;
        }
    }
}

// === impl Column ===

impl<K: Ord + Clone + Debug, V: Clone + PartialEq> Column<K, V> {
    /// `actual` is what the kernel was found to hold.
    pub(super) fn new(actual: impl IntoIterator<Item = (K, V)>, change: fn(K, Option<V>) -> Change) -> Self {
        Self::altering(actual, change, |old, _| old.is_some())
    }

    /// A column like [`Column::new`], of entries that no flow remembers.
    pub(super) fn apart(actual: impl IntoIterator<Item = (K, V)>, change: fn(K, Option<V>) -> Change) -> Self {
        Self::altering(actual, change, |_, _| false)
    }

    /// A column of which `alters` says what flows have to look at.
    pub(super) fn altering(
        actual: impl IntoIterator<Item = (K, V)>,
        change: fn(K, Option<V>) -> Change,
        alters: Alters<V>,
    ) -> Self {
        Self { actual: actual.into_iter().collect(), failing: BTreeMap::new(), change, alters }
    }

    /// What the kernel holds.
    pub(super) fn actual(&self) -> &OrdMap<K, V> {
        &self.actual
    }

    /// Whether all that was tried was taken.
    pub(super) fn is_clean(&self) -> bool {
        self.failing.is_empty()
    }

    /// Doubts what the kernel holds under a key, so that it is written again.
    pub(super) fn doubt(&mut self, key: &K) {
        self.actual.remove(key);
    }

    /// Doubts all that the kernel holds, but what it refused to let go.
    pub(super) fn doubt_all(&mut self) {
        let stuck = self.failing.keys().filter_map(|key| Some((key.clone(), self.actual.get(key)?.clone())));
        self.actual = stuck.collect();
    }

    /// Writes what is wanted and not there.
    pub(super) async fn add(&mut self, wanted: &OrdMap<K, V>, kernel: &mut impl Kernel, pass: &mut Pass) {
        self.put_where(wanted, kernel, pass, |was_there| !was_there).await;
    }

    /// Writes what is wanted and not there, or different.
    pub(super) async fn put(&mut self, wanted: &OrdMap<K, V>, kernel: &mut impl Kernel, pass: &mut Pass) {
        self.put_where(wanted, kernel, pass, |_| true).await;
    }

    async fn put_where(
        &mut self,
        wanted: &OrdMap<K, V>,
        kernel: &mut impl Kernel,
        pass: &mut Pass,
        applies: impl Fn(bool) -> bool,
    ) {
        self.failing.retain(|key, _| self.actual.get(key) != wanted.get(key));
        let actual = self.actual.clone();
        for difference in changes(&actual, wanted) {
            let (key, value, old) = match difference {
                Difference::Added(key, value) => (key, value, None),
                Difference::Changed { key, old, new } => (key, new, Some(old)),
                Difference::Removed(..) => continue,
            };
            if applies(old.is_some()) && self.write(key, Some(value), kernel, pass).await {
                self.actual.insert(key.clone(), value.clone());
                pass.altered |= (self.alters)(old, Some(value));
            }
        }
    }

    /// Removes what is there and not wanted.
    pub(super) async fn remove(&mut self, wanted: &OrdMap<K, V>, kernel: &mut impl Kernel, pass: &mut Pass) {
        let actual = self.actual.clone();
        let mut made_room = false;
        for difference in changes(&actual, wanted) {
            let Difference::Removed(key, old) = difference else { continue };
            if self.write(key, None, kernel, pass).await {
                self.actual.remove(key);
                pass.altered |= (self.alters)(Some(old), None);
                made_room = true;
            }
        }
        if made_room {
            self.retry_full(pass);
        }
        // From here on the two share all but what failed, and the next difference is found without a look at the rest.
        let mut settled = wanted.clone();
        for key in self.failing.keys() {
            match self.actual.get(key) {
                Some(value) => drop(settled.insert(key.clone(), value.clone())),
                None => drop(settled.remove(key)),
            }
        }
        self.actual = settled;
    }

    /// Leaves what is there and not wanted, until [`Column::remove_keys`]. Returns its keys.
    pub(super) fn leave(&mut self, wanted: &OrdMap<K, V>) -> Vec<K> {
        let left: Vec<(K, V)> = changes(&self.actual, wanted)
            .filter_map(|difference| match difference {
                Difference::Removed(key, value) => Some((key.clone(), value.clone())),
                _ => None,
            })
            .collect();
        let mut settled = wanted.clone();
        settled.extend(left.iter().cloned());
        for key in self.failing.keys() {
            match self.actual.get(key) {
                Some(value) => drop(settled.insert(key.clone(), value.clone())),
                None => drop(settled.remove(key)),
            }
        }
        self.actual = settled;
        left.into_iter().map(|(key, _)| key).collect()
    }

    /// Removes entries, unless they are wanted.
    pub(super) async fn remove_keys(
        &mut self,
        keys: &[K],
        wanted: &OrdMap<K, V>,
        kernel: &mut impl Kernel,
        pass: &mut Pass,
    ) {
        for key in keys.iter().filter(|key| !wanted.contains_key(*key)) {
            if self.write(key, None, kernel, pass).await {
                self.actual.remove(key);
            }
        }
        self.retry_full(pass);
    }

    fn retry_full(&mut self, pass: &Pass) {
        self.failing.values_mut().filter(|retry| retry.full).for_each(|retry| retry.due = pass.now);
    }

    /// When something refused is to be tried again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.failing.values().map(|retry| retry.due).min()
    }

    /// What was refused.
    pub(super) fn failures(&self) -> impl Iterator<Item = Failing> {
        self.failing.values().map(Retry::failing)
    }

    /// What was refused under a key.
    pub(super) fn failure(&self, key: &K) -> Option<Failing> {
        self.failing.get(key).map(Retry::failing)
    }

    async fn write(&mut self, key: &K, value: Option<&V>, kernel: &mut impl Kernel, pass: &mut Pass) -> bool {
        let earlier = self.failing.get(key).filter(|retry| retry.wish.as_ref() == value);
        if earlier.is_some_and(|retry| retry.due > pass.now) {
            return false;
        }
        let attempts = earlier.map_or(0, |retry| retry.attempts);
        let change = (self.change)(key.clone(), value.cloned());
        pass.count().await;
        match kernel.write(&change) {
            Ok(()) => {
                if self.failing.remove(key).is_some() {
                    tracing::info!("the kernel takes {change} now");
                }
                true
            }
            Err(refused) => {
                let retry = Retry::new(value.cloned(), &change, refused, attempts + 1, pass.now);
                self.failing.insert(key.clone(), retry);
                false
            }
        }
    }
}

// === impl Retry ===

impl<V> Retry<V> {
    pub(super) fn new(wish: Option<V>, change: &Change, refused: Refused, attempts: u32, now: Instant) -> Self {
        let Refused { cause, full } = refused;
        if attempts == 1 {
            tracing::warn!("{change}: {cause}; it will be tried again");
        }
        let wait = FIRST_WAIT.saturating_mul(1 << (attempts - 1).min(16)).min(LONGEST_WAIT);
        Self { wish, object: change.to_string(), cause, full, attempts, due: now + wait }
    }

    pub(super) fn failing(&self) -> Failing {
        Failing { object: self.object.clone(), cause: self.cause.clone(), attempts: self.attempts }
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }
}

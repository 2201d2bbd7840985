//! One task owns the cluster's state and publishes it.

use crate::{
    model::ObjectKey,
    snapshot::Snapshot,
    source::{ObjectChange, Problem, Source, UnusedKind, Update},
};
use std::{collections::BTreeSet, sync::Arc};
use tokio::sync::watch;

/// A handle to the store's task: what it publishes. The task ends when the last clone of all three receivers is
/// dropped, and when the source ends.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// The cluster; a new one after every change.
    pub snapshots: watch::Receiver<Snapshot>,
    /// All that is wrong at the source now.
    pub problems: watch::Receiver<Arc<[Problem]>>,
    /// Kinds of objects that are at the source but not used.
    pub unused: watch::Receiver<Arc<[UnusedKind]>>,
}

/// Starts a task that owns the state which `source` describes, from nothing.
pub fn spawn(source: impl Source) -> Cluster {
    spawn_from(source, Snapshot::default())
}

/// Starts a task like [`spawn`], from a last known state: `last` is published at once (not synced), and what the source
/// turns out not to have any more goes with its first complete read.
pub fn spawn_from(source: impl Source, last: Snapshot) -> Cluster {
    let last = Snapshot { synced: false, ..last };
    let store = Store {
        unconfirmed: last.objects().map(|object| object.key()).collect(),
        snapshots: watch::Sender::new(last.clone()),
        problems: watch::Sender::new(Arc::default()),
        unused: watch::Sender::new(Arc::default()),
        state: last,
    };
    let cluster = Cluster {
        snapshots: store.snapshots.subscribe(),
        problems: store.problems.subscribe(),
        unused: store.unused.subscribe(),
    };
    tokio::spawn(store.run(source));
    cluster
}

/// The task's own.
struct Store {
    state: Snapshot,
    /// Objects of the last known state of which the source has said nothing yet.
    unconfirmed: BTreeSet<ObjectKey>,
    snapshots: watch::Sender<Snapshot>,
    problems: watch::Sender<Arc<[Problem]>>,
    unused: watch::Sender<Arc<[UnusedKind]>>,
}

// === impl Cluster ===

impl Cluster {
    /// The cluster as it is now.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshots.borrow().clone()
    }

    /// Waits until the source was read to its end once, and returns what it has. `None` when the source ended before
    /// that.
    pub async fn synced(&mut self) -> Option<Snapshot> {
        self.snapshots.wait_for(|snapshot| snapshot.synced).await.ok().map(|snapshot| snapshot.clone())
    }
}

// === impl Store ===

impl Store {
    async fn run(mut self, mut source: impl Source) {
        loop {
            let update = tokio::select! {
                update = source.next() => update,
                () = self.abandoned() => None,
            };
            let Some(update) = update else { return };
            self.apply(update);
        }
    }

    /// Waits until nobody listens any more.
    async fn abandoned(&self) {
        self.snapshots.closed().await;
        self.problems.closed().await;
        self.unused.closed().await;
    }

    /// Applies an update and publishes what it changed: the snapshot last, so that who waits for it finds the problems
    /// too.
    fn apply(&mut self, update: Update) {
        if let Some(problems) = update.problems {
            self.problems.send_replace(problems);
        }
        if let Some(unused) = update.unused {
            self.unused.send_replace(unused);
        }
        let mut changed = false;
        for change in update.changes {
            changed |= self.change(change);
        }
        if update.synced {
            for key in std::mem::take(&mut self.unconfirmed) {
                changed |= self.state.delete(&key);
            }
        }
        if changed || update.synced != self.state.synced {
            self.state.synced = update.synced;
            self.state.generation += 1;
            self.snapshots.send_replace(self.state.clone());
        }
    }

    /// Whether the state is another one now.
    fn change(&mut self, change: ObjectChange) -> bool {
        match change {
            ObjectChange::Put(object) => {
                if !self.unconfirmed.is_empty() {
                    self.unconfirmed.remove(&object.key());
                }
                self.state.put(object)
            }
            ObjectChange::Delete(key) => self.state.delete(&key),
        }
    }
}

#[cfg(test)]
mod tests;

//! One task owns the cluster's state and publishes it.

use crate::{
    snapshot::Snapshot,
    source::{Problem, Source, UnusedKind},
};
use std::sync::Arc;
use tokio::sync::watch;

/// A handle to the store's task: what it publishes. The task ends when the last clone of all three receivers is dropped, and when
/// the source ends.
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

/// Starts a task like [`spawn`], from a last known state: `last` is published at once (not synced), and what the source turns out
/// not to have any more goes with its first complete read.
pub fn spawn_from(source: impl Source, last: Snapshot) -> Cluster {
    let _ = source;
    let (snapshots, problems, unused) = (watch::Sender::new(last), watch::Sender::default(), watch::Sender::default());
    Cluster { snapshots: snapshots.subscribe(), problems: problems.subscribe(), unused: unused.subscribe() }
}

impl Cluster {
    /// The cluster as it is now.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshots.borrow().clone()
    }

    /// Waits until the source was read to its end once, and returns what it has. `None` when the source ended before that.
    pub async fn synced(&mut self) -> Option<Snapshot> {
        self.snapshots.wait_for(|snapshot| snapshot.synced).await.ok().map(|snapshot| snapshot.clone())
    }
}

//! Connections to pods that have served and wait to serve again.

use std::{
    cell::RefCell,
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::session::Io;

/// What connections are interchangeable by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The pod.
    pub address: SocketAddr,
    /// 0 for none; else the number of what it proved.
    pub tls: u64,
}

/// The idle connections of a core.
#[derive(Debug, Default)]
pub struct Upstreams {
    idle: RefCell<HashMap<Key, Vec<Idle>>>,
}

#[derive(Debug)]
struct Idle {
    io: Io,
    since: Instant,
}

/// Idle connections to one pod that are kept.
const KEPT: usize = 256;
/// How long one is kept.
const PATIENCE: Duration = Duration::from_secs(15);
/// A pod may close a connection just when a request is on its way to it, and nobody can tell whether it was acted upon.
/// What may not be sent twice goes only on connections that were used just before: servers wait longer than this.
const FRESH: Duration = Duration::from_secs(1);

// === impl Key ===

impl Key {
    /// In place of a number: for one request only.
    pub const UNSHARED: u64 = u64::MAX;
}

// === impl Upstreams ===

impl Upstreams {
    /// An idle connection, the one last used; `repeatable`: the request may be sent again if the connection turns out to
    /// be closed.
    #[inline]
    pub fn take(&self, key: &Key, now: Instant, repeatable: bool) -> Option<Io> {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.get_mut(key)?;
        while let Some(mut found) = connections.pop() {
            if !repeatable && now.saturating_duration_since(found.since) > FRESH {
                return None;
            }
            if found.io.is_quiet() {
                return Some(found.io);
            }
        }
        None
    }

    /// Keeps a connection for another request.
    #[inline]
    pub fn give(&self, key: Key, io: Io, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.entry(key).or_default();
        if connections.len() < KEPT {
            connections.push(Idle { io, since: now });
        }
    }

    /// Closes those that waited too long, or that their pods have closed.
    pub fn sweep(&self, now: Instant) {
        self.idle.borrow_mut().retain(|_, connections| {
            connections.retain_mut(|idle| now.saturating_duration_since(idle.since) < PATIENCE && idle.io.is_quiet());
            !connections.is_empty()
        });
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.idle.borrow().values().map(Vec::len).sum()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

//! Counters of the whole process: they outlive tables, so that a change of a route forgets nothing.

use crate::{config::Limiter, stats::Counters};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};
use tokio::sync::Notify;

/// What is counted for one route.
#[derive(Default)]
pub struct BackendState {
    /// What statistics and metrics tell.
    pub counters: Counters,
    /// Requests and passthrough connections in flight.
    active: AtomicU32,
    /// How many choices were made in turn.
    pub(crate) turn: AtomicU64,
    /// What each client takes; made when a route first limits it.
    limiter: OnceLock<Arc<Limiter>>,
    /// The endpoints that anybody still knows, by what their cookies say.
    endpoints: Mutex<HashMap<Arc<str>, Weak<EndpointState>>>,
}

/// What is counted for one endpoint of a route.
#[derive(Default)]
pub struct EndpointState {
    /// What statistics and metrics tell.
    pub counters: Counters,
    active: AtomicU32,
    is_down: AtomicBool,
    /// Checks in a row that say another thing than `is_down`.
    doubts: AtomicU32,
    /// Told when a place has become free.
    pub freed: Notify,
}

/// One request in flight, at an endpoint or a route: dropped when it has ended.
pub struct Active<T: Counts>(Arc<T>);

/// What counts requests in flight.
pub trait Counts {
    /// How many there are.
    fn active(&self) -> &AtomicU32;
    /// One has ended.
    fn ended(&self) {}
}

// === impl BackendState ===

impl BackendState {
    /// Requests and passthrough connections in flight.
    pub fn active(&self) -> u32 {
        self.active.load(Relaxed)
    }

    /// Counts one more until the answer is dropped.
    pub fn enter(self: &Arc<Self>) -> Active<Self> {
        self.active.fetch_add(1, Relaxed);
        Active(self.clone())
    }

    /// What each client takes.
    pub fn limiter(&self) -> &Arc<Limiter> {
        self.limiter.get_or_init(Arc::default)
    }

    /// The state of the endpoint whose cookie says `id`: the same as long as anybody has it.
    pub fn endpoint(&self, id: &Arc<str>) -> Arc<EndpointState> {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = endpoints.get(id).and_then(Weak::upgrade) {
            return state;
        }
        endpoints.retain(|_, state| state.strong_count() > 0);
        let state = Arc::<EndpointState>::default();
        endpoints.insert(id.clone(), Arc::downgrade(&state));
        state
    }
}

impl Counts for BackendState {
    fn active(&self) -> &AtomicU32 {
        &self.active
    }
}

// === impl EndpointState ===

impl EndpointState {
    /// Checks in a row that succeed before an endpoint is taken back.
    pub const RISE: u32 = 2;
    /// Checks in a row that fail before an endpoint is left out.
    pub const FALL: u32 = 3;

    /// Requests in flight.
    pub fn active(&self) -> u32 {
        self.active.load(Relaxed)
    }

    /// Counts one more until the answer is dropped, whatever the limit.
    pub fn enter(self: &Arc<Self>) -> Active<Self> {
        self.active.fetch_add(1, Relaxed);
        Active(self.clone())
    }

    /// Counts one more unless there are `limit` already. Who gets none waits for `freed`.
    pub fn try_enter(self: &Arc<Self>, limit: Option<u32>) -> Option<Active<Self>> {
        let Some(limit) = limit else { return Some(self.enter()) };
        let more = |active| (active < limit).then_some(active + 1);
        self.active.fetch_update(Relaxed, Relaxed, more).ok().map(|_| Active(self.clone()))
    }

    /// Whether it is left out, because checks failed.
    pub fn is_down(&self) -> bool {
        self.is_down.load(Relaxed)
    }

    /// Notes what a check found: [`Self::FALL`] failures in a row take it out, [`Self::RISE`] successes bring it back.
    /// Whether that changed now.
    pub fn check(&self, succeeded: bool) -> bool {
        let is_down = self.is_down();
        if succeeded != is_down {
            self.doubts.store(0, Relaxed);
            return false;
        }
        let enough = if is_down { Self::RISE } else { Self::FALL };
        let turns = self.doubts.fetch_add(1, Relaxed) + 1 >= enough;
        if turns {
            self.doubts.store(0, Relaxed);
            self.is_down.store(!is_down, Relaxed);
        }
        turns
    }

    /// It counts as healthy until checks say otherwise: they have ended.
    pub fn trust(&self) {
        self.doubts.store(0, Relaxed);
        self.is_down.store(false, Relaxed);
    }
}

impl Counts for EndpointState {
    fn active(&self) -> &AtomicU32 {
        &self.active
    }

    fn ended(&self) {
        self.freed.notify_one();
    }
}

// === impl Active ===

impl<T: Counts> Drop for Active<T> {
    fn drop(&mut self) {
        self.0.active().fetch_sub(1, Relaxed);
        self.0.ended();
    }
}

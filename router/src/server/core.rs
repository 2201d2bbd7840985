//! What one core works with: nothing here is shared with another but what says so.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    task::Waker,
    time::Instant,
};

use arc_swap::Guard;

use super::{Pool, Shared};
use crate::{
    connect::Upstreams, http2::Upstreams as Http2Upstreams, session::Exchange, table::Table, tls::Destinations,
};

/// A core: a thread with a runtime of its own.
pub struct Core {
    /// What all cores have.
    pub shared: Arc<Shared>,
    /// Free buffers.
    pub pool: Rc<Pool>,
    /// Idle connections to pods.
    pub upstreams: Upstreams,
    /// Connections to pods that speak HTTP/2.
    pub http2: Http2Upstreams,
    /// For handshakes with pods.
    pub destinations: Destinations,
    #[expect(clippy::vec_box, reason = "an exchange is handed on many times; its address is")]
    exchanges: RefCell<Vec<Box<Exchange>>>,
    is_draining: Cell<bool>,
    /// The idle connections, to be told of draining.
    sleepers: RefCell<Vec<Option<Waker>>>,
    vacant: RefCell<Vec<usize>>,
    random: Cell<u64>,
}

/// A place among a core's connections, given back when dropped.
pub struct Place {
    core: Rc<Core>,
    index: usize,
}

/// Exchanges that are kept for the next requests.
const KEPT: usize = 1024;
/// Bytes of a head's vector above which it is freed.
const LARGE: usize = 16 * 1024;

// === impl Core ===

impl Core {
    /// A core. `seed` is any number that others do not have.
    pub fn new(shared: Arc<Shared>, seed: u64) -> Rc<Self> {
        Rc::new(Self {
            pool: Pool::new(shared.buffer_size),
            upstreams: Upstreams::default(),
            http2: Http2Upstreams::default(),
            destinations: Destinations::new(shared.tls.profile().clone()),
            exchanges: RefCell::default(),
            is_draining: Cell::new(false),
            sleepers: RefCell::default(),
            vacant: RefCell::default(),
            random: Cell::new(seed | 1),
            shared,
        })
    }

    /// The table in force: to be taken once a request.
    pub fn table(&self) -> Guard<Arc<Table>> {
        self.shared.table.load()
    }

    /// An empty exchange.
    pub fn exchange(&self, now: Instant) -> Box<Exchange> {
        match self.exchanges.borrow_mut().pop() {
            Some(mut exchange) => {
                exchange.clear(now);
                exchange
            }
            None => Box::new(Exchange::new(now)),
        }
    }

    /// Takes back an exchange.
    pub fn recycle(&self, mut exchange: Box<Exchange>) {
        exchange.guards = Default::default();
        (exchange.backend, exchange.squeeze) = (None, None);
        let large = exchange.head.capacity().max(exchange.answer.capacity()).max(exchange.up.before.capacity()) > LARGE;
        let mut exchanges = self.exchanges.borrow_mut();
        if exchanges.len() < KEPT && !large {
            exchanges.push(exchange);
        }
    }

    /// No new connection is taken, and those there are end with their next response.
    pub fn is_draining(&self) -> bool {
        self.is_draining.get()
    }

    /// Begins to drain: idle connections are told.
    pub fn drain(&self) {
        self.is_draining.set(true);
        for waker in self.sleepers.borrow_mut().iter_mut().filter_map(Option::take) {
            waker.wake();
        }
    }

    /// A place for a connection.
    pub fn place(self: &Rc<Self>) -> Place {
        let index = self.vacant.borrow_mut().pop().unwrap_or_else(|| {
            self.sleepers.borrow_mut().push(None);
            self.sleepers.borrow().len() - 1
        });
        Place { core: self.clone(), index }
    }

    /// Connections of clients.
    pub fn connections(&self) -> usize {
        self.sleepers.borrow().len() - self.vacant.borrow().len()
    }

    /// A random number (xorshift64*): for choices, not for secrets.
    pub fn random(&self) -> u64 {
        let mut state = self.random.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.random.set(state);
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

// === impl Place ===

impl Place {
    /// The core.
    pub fn core(&self) -> &Rc<Core> {
        &self.core
    }

    /// The connection sleeps, and wants to be woken for draining. Its waker is the same at all times, because it is one
    /// task.
    #[inline]
    pub fn sleep(&self, waker: &Waker) {
        let mut sleepers = self.core.sleepers.borrow_mut();
        if sleepers[self.index].is_none() {
            sleepers[self.index] = Some(waker.clone());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.core.sleepers.borrow_mut()[self.index] = None;
        self.core.vacant.borrow_mut().push(self.index);
    }
}

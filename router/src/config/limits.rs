//! How much of one client is taken (the rate-limit-connections annotations).
//!
//! Counts are of the whole process and per route. With a limit of N exactly N are taken, where HAProxy's comparison
//! takes one less of two of the three. What is refused does not count: a client that goes on asking is served again as
//! soon as its window has room.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// The limits of one route, for each address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Requests (passthrough: connections) in flight.
    pub concurrent: Option<u32>,
    /// Requests (passthrough: connections) in 3 seconds.
    pub connections: Option<u32>,
    /// HTTP requests in 10 seconds.
    pub requests: Option<u32>,
}

/// Which limit was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// [`Limits::concurrent`].
    Concurrent,
    /// [`Limits::connections`].
    Connections,
    /// [`Limits::requests`].
    Requests,
}

/// What each client of a route takes. Unknown clients cost nothing.
pub struct Limiter {
    shards: Box<[Mutex<HashMap<IpAddr, Client>>]>,
    hasher: RandomState,
    /// What times are counted from.
    begin: Instant,
}

/// A request that was let pass. It counts as in flight until it is dropped.
pub struct Permit {
    limiter: Arc<Limiter>,
    client: IpAddr,
}

#[derive(Default)]
struct Client {
    in_flight: u32,
    connections: Window,
    requests: Window,
    /// Milliseconds at which it was last let pass.
    seen: u64,
}

/// How many there were in the last period: those of the present one, and of the one before as far as it still counts.
#[derive(Clone, Copy, Default)]
struct Window {
    period: u64,
    now: u32,
    before: u32,
}

const CONNECTIONS_PERIOD: u64 = 3_000;
const REQUESTS_PERIOD: u64 = 10_000;
/// Milliseconds after which a client that does nothing is forgotten.
const EXPIRY: u64 = 30_000;
const SHARDS: usize = 16;
/// Clients of a route that are remembered, as in HAProxy's tables.
const CAPACITY: usize = 100_000;

// === impl Limits ===

impl Limits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

// === impl Limiter ===

impl Limiter {
    /// Lets a request (passthrough: a connection) of `client` pass at `now`, or says which limit it met.
    pub fn admit(self: &Arc<Self>, limits: &Limits, client: IpAddr, now: Instant) -> Result<Permit, Limit> {
        let client = client.to_canonical();
        self.count(limits, client, now)?;
        Ok(Permit { limiter: self.clone(), client })
    }

    fn count(&self, limits: &Limits, client: IpAddr, now: Instant) -> Result<(), Limit> {
        let now = u64::try_from(now.saturating_duration_since(self.begin).as_millis()).unwrap_or(u64::MAX);
        let mut shard = self.shard(client);
        if shard.len() >= CAPACITY / SHARDS && !shard.contains_key(&client) {
            make_room(&mut shard, now);
        }
        let entry = shard.entry(client).or_default();
        let is_over = |limit: Option<u32>, taken: u64| limit.is_some_and(|limit| taken >= u64::from(limit));
        if is_over(limits.concurrent, entry.in_flight.into()) {
            return Err(Limit::Concurrent);
        }
        if is_over(limits.connections, entry.connections.taken(now, CONNECTIONS_PERIOD)) {
            return Err(Limit::Connections);
        }
        if is_over(limits.requests, entry.requests.taken(now, REQUESTS_PERIOD)) {
            return Err(Limit::Requests);
        }
        entry.in_flight += 1;
        entry.connections.add();
        entry.requests.add();
        entry.seen = now;
        Ok(())
    }

    /// How many clients are remembered.
    pub fn clients(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    fn end(&self, client: IpAddr) {
        if let Some(entry) = self.shard(client).get_mut(&client) {
            entry.in_flight = entry.in_flight.saturating_sub(1);
        }
    }

    fn shard(&self, client: IpAddr) -> MutexGuard<'_, HashMap<IpAddr, Client>> {
        let place = self.hasher.hash_one(client) as usize % SHARDS;
        self.shards[place].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Limiter {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            begin: Instant::now(),
        }
    }
}

/// Forgets who has done nothing for long; if nobody has, whoever was seen longest ago of those with nothing in flight.
fn make_room(clients: &mut HashMap<IpAddr, Client>, now: u64) {
    let full = clients.len();
    clients.retain(|_, client| client.in_flight > 0 || now.saturating_sub(client.seen) < EXPIRY);
    if clients.len() == full {
        let idle = clients.iter().filter(|(_, client)| client.in_flight == 0);
        if let Some(oldest) = idle.min_by_key(|(_, client)| client.seen).map(|(address, _)| *address) {
            clients.remove(&oldest);
        }
    }
}

// === impl Window ===

impl Window {
    /// How many count at `now`, rounded down; turns to the present period.
    fn taken(&mut self, now: u64, length: u64) -> u64 {
        let period = now / length;
        if period != self.period {
            self.before = if period == self.period + 1 { self.now } else { 0 };
            self.now = 0;
            self.period = period;
        }
        let left = length - now % length;
        u64::from(self.now) + u64::from(self.before) * left / length
    }

    fn add(&mut self) {
        self.now = self.now.saturating_add(1);
    }
}

// === impl Permit ===

impl Drop for Permit {
    fn drop(&mut self) {
        self.limiter.end(self.client);
    }
}

#[cfg(test)]
mod tests;

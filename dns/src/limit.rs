//! How many queries a client may send: a bucket of tokens each, without locks and in bounded memory.

use crate::{config::Rate, index::address_key};
use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

/// The buckets of all clients.
#[derive(Debug)]
pub(crate) struct Limiter {
    /// Nanoseconds that a query costs.
    cost: u64,
    /// Nanoseconds that may be owed: the bucket's size.
    burst: u64,
    start: Instant,
    /// Pods choose neither their address nor this: they cannot look for others to share a bucket with.
    hasher: RandomState,
    slots: Box<[Slot]>,
}

/// A client's bucket, as the generic cell rate algorithm keeps it: when all its queries will have been paid for.
#[derive(Debug, Default)]
struct Slot {
    /// Whose it is; 0 for nobody's.
    client: AtomicU64,
    /// Nanoseconds since the start.
    paid: AtomicU64,
}

/// Clients at a time; a node has some hundred pods.
const SLOTS: usize = 8192;

/// How many slots a client may be in.
const PROBES: usize = 8;

impl Limiter {
    pub(crate) fn new(rate: Rate) -> Self {
        let cost = 1_000_000_000 / u64::from(rate.per_second.get());
        Self {
            cost,
            burst: cost * u64::from(rate.burst.get()),
            start: Instant::now(),
            hasher: RandomState::new(),
            slots: (0..SLOTS).map(|_| Slot::default()).collect(),
        }
    }

    /// Nanoseconds since the start, for [`Limiter::admits`]: taken once for many queries.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Takes a token from a client's bucket, if there is one.
    pub(crate) fn admits(&self, client: IpAddr, now: u64) -> bool {
        let hash = self.hasher.hash_one(address_key(client)).max(1);
        let slot = self.slot(hash, now);
        slot.paid
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |paid| {
                let paid = paid.max(now) + self.cost;
                (paid - now <= self.burst).then_some(paid)
            })
            .is_ok()
    }

    /// The client's slot, or one that nobody has used for long enough to fill. Where all are in use, the last is shared.
    fn slot(&self, hash: u64, now: u64) -> &Slot {
        let first = usize::try_from(hash % SLOTS as u64).unwrap_or_default();
        let slots = || (first..first + PROBES).map(|index| &self.slots[index % SLOTS]);
        if let Some(own) = slots().find(|slot| slot.client.load(Ordering::Relaxed) == hash) {
            return own;
        }
        let free = |slot: &&Slot| {
            let client = slot.client.load(Ordering::Relaxed);
            // A full bucket says nothing about its client: it can be another's.
            slot.paid.load(Ordering::Relaxed) <= now
                && slot.client.compare_exchange(client, hash, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        slots().find(free).unwrap_or(&self.slots[(first + PROBES - 1) % SLOTS])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    fn limiter(per_second: u32, burst: u32) -> Limiter {
        let number = |number| NonZeroU32::new(number).unwrap();
        Limiter::new(Rate { per_second: number(per_second), burst: number(burst) })
    }

    #[test]
    fn takes_a_burst_and_then_the_rate() {
        let limiter = limiter(10, 3);
        let client: IpAddr = "10.128.0.5".parse().unwrap();
        let taken = |now| (0..10).filter(|_| limiter.admits(client, now)).count();
        assert_eq!(taken(1_000_000_000), 3, "the bucket is full at first");
        assert_eq!(taken(1_000_000_000), 0);
        assert_eq!(taken(1_100_000_000), 1, "a tenth of a second later there is one token");
        assert_eq!(taken(9_000_000_000), 3, "no more than the bucket holds");
    }

    #[test]
    fn keeps_clients_apart() {
        let limiter = limiter(1, 1);
        let clients: Vec<IpAddr> =
            (0..200u32).map(|host| std::net::Ipv4Addr::from(0x0a80_0000 + host).into()).collect();
        assert!(clients.iter().all(|client| limiter.admits(*client, 1)));
        assert!(!clients.iter().any(|client| limiter.admits(*client, 2)));
    }

    #[test]
    fn goes_on_when_there_are_more_clients_than_buckets() {
        let limiter = limiter(1, 1);
        let many = (0..100_000u32).map(|host| IpAddr::from(std::net::Ipv4Addr::from(0x0a80_0000 + host)));
        assert!(many.filter(|client| limiter.admits(*client, 1)).count() >= SLOTS / 2);
    }
}

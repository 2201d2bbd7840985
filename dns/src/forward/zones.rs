//! Who is asked for which names, in which order.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::seq::SliceRandom as _;

use super::ForwardError;
use super::config::{Policy, ZoneUpstreams};
use super::upstream::Upstream;
use crate::wire::Name;

/// All upstreams. Replaced as a whole; what stays is the same [`Upstream`] with what is known of it.
#[derive(Debug)]
pub(crate) struct Zones {
    /// By names in lower case and wire form.
    zones: HashMap<Box<[u8]>, Arc<Pool>>,
    root: Arc<Pool>,
}

/// The upstreams of a zone.
#[derive(Debug)]
pub(crate) struct Pool {
    zone: Box<[u8]>,
    upstreams: Vec<Arc<Upstream>>,
    policy: Policy,
    turn: AtomicUsize,
}

/// Upstreams in the order in which to ask.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    /// None of them is thought to answer.
    pub(crate) all_down: bool,
}

// === impl Zones ===

impl Zones {
    /// `make` gives the upstream of an address.
    pub(crate) fn new(
        root: &[SocketAddr],
        zones: &[ZoneUpstreams],
        policy: Policy,
        mut make: impl FnMut(SocketAddr) -> Arc<Upstream>,
    ) -> Result<Self, ForwardError> {
        let mut pool = |zone: Box<[u8]>, addresses: &[SocketAddr]| {
            let upstreams = addresses.iter().map(|address| make(*address)).collect();
            Arc::new(Pool { zone, upstreams, policy, turn: AtomicUsize::new(0) })
        };
        let root = pool([0].into(), root);
        let named = zones.iter().map(|zone| {
            let name = Name::from_text(&zone.zone).ok_or_else(|| ForwardError::Zone(zone.zone.clone()))?;
            Ok((name.wire().into(), pool(name.wire().into(), &zone.upstreams)))
        });
        Ok(Self { zones: named.collect::<Result<_, _>>()?, root })
    }

    /// The pool of the longest zone that a name is in. The name is in lower case and wire form.
    pub(crate) fn find(&self, name: &[u8]) -> &Arc<Pool> {
        let mut rest = name;
        while !self.zones.is_empty() {
            if let Some(pool) = self.zones.get(rest) {
                return pool;
            }
            match rest.first().map(|length| usize::from(*length)) {
                None | Some(0) => break,
                Some(length) => rest = rest.get(1 + length..).unwrap_or_default(),
            }
        }
        &self.root
    }

    /// Every pool.
    pub(crate) fn pools(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.zones.values().chain([&self.root])
    }

    /// The upstream of an address, if it is among them.
    pub(crate) fn upstream(&self, address: SocketAddr) -> Option<&Arc<Upstream>> {
        self.pools().flat_map(|pool| pool.upstreams()).find(|upstream| upstream.address() == address)
    }
}

// === impl Pool ===

impl Pool {
    pub(crate) fn zone(&self) -> &[u8] {
        &self.zone
    }

    pub(crate) fn upstreams(&self) -> &[Arc<Upstream>] {
        &self.upstreams
    }

    /// Whether asking is of any use.
    pub(crate) fn is_up(&self) -> bool {
        self.upstreams.iter().any(|upstream| !upstream.is_down() && !upstream.is_looping())
    }

    /// By the policy, those that are down at the end: a probe may be late. Never those that ask us in turn.
    pub(crate) fn order(&self) -> Order {
        let mut upstreams: Vec<Arc<Upstream>> =
            self.upstreams.iter().filter(|upstream| !upstream.is_looping()).cloned().collect();
        match self.policy {
            Policy::Sequential => {}
            Policy::Random => upstreams.shuffle(&mut rand::rng()),
            Policy::RoundRobin if upstreams.is_empty() => {}
            Policy::RoundRobin => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed) % upstreams.len();
                upstreams.rotate_left(turn);
            }
        }
        let all_down = upstreams.iter().all(|upstream| upstream.is_down());
        if all_down {
            // Nobody knows which of them comes back first.
            upstreams.shuffle(&mut rand::rng());
        }
        upstreams.sort_by_key(|upstream| upstream.is_down());
        Order { upstreams, all_down }
    }
}

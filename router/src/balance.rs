//! Which endpoint a request goes to.

use crate::{
    config::Balance,
    table::{Backend, Endpoint},
};
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
    sync::atomic::Ordering::Relaxed,
};

/// What a choice depends on.
#[derive(Clone, Copy, Debug)]
pub struct BalanceInput<'a> {
    /// The client's address.
    pub client: IpAddr,
    /// The value of the route's affinity cookie, if the client sent one.
    pub cookie: Option<&'a str>,
    /// A random number.
    pub random: u64,
}

/// The place of the endpoint for a request. `None`: there is none, or none that is up and has any weight.
///
/// A cookie's endpoint is taken if it is up, whatever its weight. Otherwise endpoints that are full
/// ([`pod_connections`](crate::config::RouteConfig::pod_connections)) are taken only when all are: the request has to
/// wait then.
pub fn choose(backend: &Backend, input: &BalanceInput<'_>) -> Option<usize> {
    choose_other(backend, input, &|_| false)
}

/// Like [`choose`], without the endpoints that `is_out` says were tried already. A cookie's endpoint is no exception.
pub fn choose_other(backend: &Backend, input: &BalanceInput<'_>, is_out: &dyn Fn(usize) -> bool) -> Option<usize> {
    let is_up = |place: usize| !backend.endpoints[place].state.is_down() && !is_out(place);
    if let Some(place) = input.cookie.and_then(|cookie| backend.endpoint_of(cookie)).filter(|place| is_up(*place)) {
        return Some(place);
    }
    let limit = backend.config.pod_connections.unwrap_or(u32::MAX);
    let has_room = |place: usize| is_up(place) && backend.endpoints[place].state.active() < limit;
    by_algorithm(backend, input, &has_room).or_else(|| by_algorithm(backend, input, &is_up))
}

type Eligible<'a> = &'a dyn Fn(usize) -> bool;

fn by_algorithm(backend: &Backend, input: &BalanceInput<'_>, eligible: Eligible<'_>) -> Option<usize> {
    match backend.config.balance {
        Balance::Random => two_choices(backend, input.random, eligible),
        Balance::RoundRobin => in_turn(backend, eligible),
        Balance::LeastConnections => least_busy(backend, eligible),
        Balance::Source => by_address(backend, input.client, eligible),
    }
}

/// Two are drawn by weight; the less busy for its weight is taken.
fn two_choices(backend: &Backend, random: u64, eligible: Eligible<'_>) -> Option<usize> {
    let total = *backend.shares.last()?;
    let draw = |bits: u64| eligible_from(backend, (bits * total) >> 32, eligible);
    let (one, other) = (draw(random >> 32)?, draw(random & 0xffff_ffff)?);
    let is_busier = load(&backend.endpoints[one]) > load(&backend.endpoints[other]);
    Some(if is_busier { other } else { one })
}

/// In turn, by weight: in as many choices as all weights together, each endpoint comes as often as its weight, and its
/// turns are spread evenly (steps of the golden ratio, made coprime with the sum).
fn in_turn(backend: &Backend, eligible: Eligible<'_>) -> Option<usize> {
    let total = *backend.shares.last().filter(|total| **total > 0)?;
    // A few turns are passed over where endpoints are out, before the search for whoever is left.
    for _ in 0..8 {
        let turn = u128::from(backend.state.turn.fetch_add(1, Relaxed));
        let share = (turn * u128::from(backend.stride) % u128::from(total)) as u64;
        let place = holder(backend, share);
        if eligible(place) {
            return Some(place);
        }
    }
    let turn = backend.state.turn.load(Relaxed);
    eligible_from(backend, turn.wrapping_mul(backend.stride) % total, eligible)
}

/// The least busy for its weight; of equals the next in turn.
fn least_busy(backend: &Backend, eligible: Eligible<'_>) -> Option<usize> {
    let count = backend.endpoints.len();
    let first = backend.state.turn.fetch_add(1, Relaxed) as usize % count.max(1);
    let places = (first..count).chain(0..first);
    let candidates = places.filter(|place| backend.endpoints[*place].weight > 0 && eligible(*place));
    candidates.min_by(|one, other| load(&backend.endpoints[*one]).cmp(&load(&backend.endpoints[*other])))
}

/// Rendezvous: each endpoint draws a number from its name and the client's, and the largest for its weight wins. All
/// routers agree, and an endpoint that comes or goes moves only its own clients.
fn by_address(backend: &Backend, client: IpAddr, eligible: Eligible<'_>) -> Option<usize> {
    let score = |endpoint: &Endpoint| {
        let mut hasher = DefaultHasher::new();
        (client.to_canonical(), endpoint.address).hash(&mut hasher);
        // In (0, 1]: the logarithm is finite and not above 0.
        let drawn = ((hasher.finish() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        -f64::from(endpoint.weight) / drawn.ln().min(-f64::MIN_POSITIVE)
    };
    let places = (0..backend.endpoints.len()).filter(|place| backend.endpoints[*place].weight > 0 && eligible(*place));
    places
        .map(|place| (score(&backend.endpoints[place]), place))
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, place)| place)
}

/// Requests in flight for the weight: compared without dividing.
fn load(endpoint: &Endpoint) -> Load {
    Load { active: endpoint.state.active(), weight: endpoint.weight.max(1) }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Load {
    active: u32,
    weight: u32,
}

// === impl Load ===

impl PartialOrd for Load {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Load {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let cross = |one: &Self, other: &Self| u64::from(one.active) * u64::from(other.weight);
        cross(self, other).cmp(&cross(other, self))
    }
}

/// Whose share the number is in: that of weights added up.
fn holder(backend: &Backend, share: u64) -> usize {
    backend.shares.partition_point(|end| *end <= share)
}

/// The first that may be chosen, from the holder of `share` on, in a circle.
fn eligible_from(backend: &Backend, share: u64, eligible: Eligible<'_>) -> Option<usize> {
    let count = backend.endpoints.len();
    let first = holder(backend, share);
    let mut places = (first..count).chain(0..first.min(count));
    places.find(|place| backend.endpoints[*place].weight > 0 && eligible(*place))
}

#[cfg(test)]
mod tests;

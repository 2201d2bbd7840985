use super::*;
use crate::table::testing::balanced;
use std::collections::HashMap;

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const ALL: [Balance; 4] = [Balance::Random, Balance::RoundRobin, Balance::LeastConnections, Balance::Source];

/// Numbers as from a generator: the same ones every time.
fn random(seed: u64) -> u64 {
    let mixed = (seed.wrapping_add(1)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn input(seed: u64) -> BalanceInput<'static> {
    let client = IpAddr::V4((0x0a00_0000 + u32::try_from(seed).expect("small")).into());
    BalanceInput { client, cookie: None, random: random(seed) }
}

/// How often each endpoint is chosen in `count` choices, nothing being in flight.
fn counts(backend: &Backend, count: u64) -> Vec<u64> {
    let mut counts = vec![0; backend.endpoints.len()];
    for seed in 0..count {
        counts[choose(backend, &input(seed)).expect("an endpoint")] += 1;
    }
    counts
}

#[test]
fn turns_are_exactly_as_the_weights() {
    let rows: [&[u32]; 9] = [
        &[1],
        &[1, 1],
        &[1, 2],
        &[4, 1],
        &[1, 3, 6],
        &[7, 11, 13, 17],
        &[256, 1],
        &[0, 5, 0, 5],
        &[1, 1, 1, 1, 1, 1, 1],
    ];
    for weights in rows {
        let backend = balanced(Balance::RoundRobin, None, weights);
        let sum: u32 = weights.iter().sum();
        let periods = 10_000 / u64::from(sum);
        let expected: Vec<_> = weights.iter().map(|weight| u64::from(*weight) * periods).collect();
        assert_eq!(counts(&backend, periods * u64::from(sum)), expected, "{weights:?}");
    }
}

#[test]
fn in_ten_thousand_turns_nobody_is_two_away_from_their_share() {
    for weights in [&[9, 1][..], &[3, 7], &[99, 1], &[50, 30, 20], &[256, 64, 64, 1], &[1; 37]] {
        let backend = balanced(Balance::RoundRobin, None, weights);
        let sum: u32 = weights.iter().sum();
        for (count, weight) in counts(&backend, 10_000).into_iter().zip(weights) {
            let share = 10_000.0 * f64::from(*weight) / f64::from(sum);
            assert!((count as f64 - share).abs() < 2.0, "{weights:?}: {count} instead of {share}");
        }
    }
}

#[test]
fn turns_are_spread() {
    let backend = balanced(Balance::RoundRobin, None, &[1, 1]);
    let turns: Vec<_> = (0..6).map(|seed| choose(&backend, &input(seed)).expect("an endpoint")).collect();
    assert!(turns.windows(2).all(|pair| pair[0] != pair[1]), "{turns:?}");
    // Nine of ten: never two of the tenth within five turns.
    let backend = balanced(Balance::RoundRobin, None, &[9, 1]);
    let turns: Vec<_> = (0..100).filter(|seed| choose(&backend, &input(*seed)) == Some(1)).collect();
    assert!(turns.windows(2).all(|pair| pair[1] - pair[0] >= 5), "{turns:?}");
}

#[test]
fn draws_and_addresses_keep_the_weights_as_chance_would() {
    for balance in [Balance::Random, Balance::Source] {
        for weights in [&[1, 1][..], &[3, 1], &[5, 3, 2], &[1; 20]] {
            let backend = balanced(balance, None, weights);
            let sum: u32 = weights.iter().sum();
            for (count, weight) in counts(&backend, 10_000).into_iter().zip(weights) {
                let share = f64::from(*weight) / f64::from(sum);
                let deviation = (10_000.0 * share * (1.0 - share)).sqrt();
                let distance = (count as f64 - 10_000.0 * share) / deviation;
                assert!(distance.abs() < 5.0, "{balance:?} {weights:?}: {count}, {distance:.1} deviations");
            }
        }
    }
}

#[test]
fn the_less_busy_of_two_is_taken() {
    let backend = balanced(Balance::Random, None, &[1; 10]);
    let mut held = Vec::new();
    for seed in 0..1_000 {
        let place = choose(&backend, &input(seed)).expect("an endpoint");
        held.push(backend.endpoints[place].state.enter());
    }
    let busiest = backend.endpoints.iter().map(|endpoint| endpoint.state.active()).max().expect("ten");
    assert!(busiest <= 104, "two choices keep the busiest near the mean of 100: {busiest}");
}

#[test]
fn the_least_busy_for_its_weight_is_taken() {
    let backend = balanced(Balance::LeastConnections, None, &[1, 2, 0]);
    let mut held = Vec::new();
    for seed in 0..30 {
        let place = choose(&backend, &input(seed)).expect("an endpoint");
        held.push(backend.endpoints[place].state.enter());
    }
    let active: Vec<_> = backend.endpoints.iter().map(|endpoint| endpoint.state.active()).collect();
    assert_eq!(active, [10, 20, 0]);
    // Equals take turns.
    drop(held);
    let backend = balanced(Balance::LeastConnections, None, &[1; 4]);
    assert_eq!(counts(&backend, 400), [100; 4]);
}

#[test]
fn a_client_stays_where_its_address_leads_and_only_those_of_the_lost_move() {
    let backend = balanced(Balance::Source, None, &[1; 10]);
    let before: Vec<_> = (0..1_000).map(|seed| choose(&backend, &input(seed)).expect("an endpoint")).collect();
    let again: Vec<_> = (0..1_000).map(|seed| choose(&backend, &input(seed)).expect("an endpoint")).collect();
    assert_eq!(before, again);
    let fewer = balanced(Balance::Source, None, &[1; 9]);
    for (seed, place) in before.iter().enumerate().filter(|(_, place)| **place < 9) {
        assert_eq!(choose(&fewer, &input(seed as u64)), Some(*place));
    }
    let v6 = |address: &str| BalanceInput { client: address.parse().expect("an address"), ..input(0) };
    assert_eq!(choose(&backend, &v6("::ffff:192.0.2.9")), choose(&backend, &v6("192.0.2.9")), "one client");
}

#[test]
fn a_cookie_leads_back_whatever_the_weight_unless_its_endpoint_is_down() {
    for balance in ALL {
        let backend = balanced(balance, None, &[1, 0, 1]);
        let with = |cookie| BalanceInput { cookie: Some(cookie), ..input(7) };
        assert_eq!(choose(&backend, &with("cookie-1")), Some(1), "{balance:?}");
        let fresh = |cookie| {
            let chosen: HashMap<_, u32> =
                (0..100).map(|seed| (choose(&backend, &BalanceInput { cookie, ..input(seed) }), 1)).collect();
            chosen.keys().all(|place| matches!(place, Some(0 | 2)))
        };
        assert!(fresh(None) && fresh(Some("unknown")), "{balance:?}: nobody new comes to a weight of 0");
        for _ in 0..3 {
            backend.endpoints[1].state.check(false);
        }
        assert!(fresh(Some("cookie-1")), "{balance:?}");
    }
}

#[test]
fn who_is_down_is_passed_over_and_nobody_is_left_when_all_are() {
    for balance in ALL {
        let backend = balanced(balance, None, &[1, 1, 1]);
        for _ in 0..3 {
            backend.endpoints[0].state.check(false);
        }
        let counts = counts(&backend, 1_000);
        assert_eq!(counts[0], 0, "{balance:?}");
        assert!(counts[1] > 200 && counts[2] > 200, "{balance:?} {counts:?}");
        for endpoint in &backend.endpoints[1..] {
            for _ in 0..3 {
                endpoint.state.check(false);
            }
        }
        assert_eq!(choose(&backend, &input(0)), None, "{balance:?}");
        assert_eq!(choose(&balanced(balance, None, &[]), &input(0)), None);
        assert_eq!(choose(&balanced(balance, None, &[0, 0]), &input(0)), None, "{balance:?}: all weights are 0");
    }
}

#[test]
fn who_was_tried_is_not_tried_again() {
    for balance in ALL {
        let backend = balanced(balance, None, &[1, 1, 1]);
        let cookie = BalanceInput { client: CLIENT, cookie: Some("cookie-0"), random: 1 };
        for seed in 0..50 {
            let input = BalanceInput { random: random(seed), ..cookie };
            assert_eq!(choose_other(&backend, &input, &|place| place != 2), Some(2), "{balance:?}");
        }
        assert_eq!(choose_other(&backend, &cookie, &|_| true), None);
    }
}

#[test]
fn full_endpoints_are_left_until_all_are() {
    for balance in ALL {
        let backend = balanced(balance, Some(2), &[1, 1]);
        let mut held: Vec<_> = (0..2).map(|_| backend.endpoints[0].state.enter()).collect();
        assert_eq!(counts(&backend, 100)[0], 0, "{balance:?}");
        held.extend((0..2).map(|_| backend.endpoints[1].state.enter()));
        assert!(choose(&backend, &input(0)).is_some(), "{balance:?}: it waits with one of them");
        assert!(backend.endpoints[0].state.try_enter(Some(2)).is_none());
        held.pop();
        assert!(backend.endpoints[1].state.try_enter(Some(2)).is_some());
    }
}

#[test]
fn three_failures_take_an_endpoint_out_and_two_successes_bring_it_back() {
    let backend = balanced(Balance::Random, None, &[1]);
    let state = &backend.endpoints[0].state;
    // what the checks found; whether it is down after
    let rows = [
        (false, false),
        (false, false),
        (true, false),
        (false, false),
        (false, false),
        (false, true),
        (true, true),
        (false, true),
        (true, true),
        (true, false),
    ];
    for (step, (succeeded, is_down)) in rows.into_iter().enumerate() {
        state.check(succeeded);
        assert_eq!(state.is_down(), is_down, "after check {step}");
    }
}

#[test]
fn counters_end_with_what_they_count() {
    let backend = balanced(Balance::Random, None, &[1]);
    let (one, other) = (backend.state.enter(), backend.state.enter());
    assert_eq!(backend.state.active(), 2);
    drop((one, other));
    assert_eq!(backend.state.active(), 0);
    let known = backend.state.endpoint(&"cookie-0".into());
    assert!(std::sync::Arc::ptr_eq(&known, &backend.endpoints[0].state), "the same as long as anybody has it");
}

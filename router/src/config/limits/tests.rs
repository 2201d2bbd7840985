use super::*;
use std::time::Duration;

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

/// How many of `count` requests at `at` milliseconds pass; each has ended before the next comes.
fn passed(limiter: &Arc<Limiter>, limits: &Limits, count: u32, at: u64) -> u32 {
    let now = limiter.begin + Duration::from_millis(at);
    (0..count).map(|_| u32::from(limiter.admit(limits, CLIENT, now).is_ok())).sum()
}

#[test]
fn exactly_so_many_pass_in_a_window() {
    let rows = [
        (Limits { connections: Some(5), ..Limits::default() }, CONNECTIONS_PERIOD, Limit::Connections),
        (Limits { requests: Some(5), ..Limits::default() }, REQUESTS_PERIOD, Limit::Requests),
    ];
    for (limits, period, limit) in rows {
        let limiter = Arc::new(Limiter::default());
        assert_eq!(passed(&limiter, &limits, 20, 0), 5, "{limits:?}");
        let now = limiter.begin + Duration::from_millis(1);
        assert_eq!(limiter.admit(&limits, CLIENT, now).err(), Some(limit));
        assert!(limiter.admit(&limits, OTHER, now).is_ok(), "another client has its own");
        // The last window counts as far as it still overlaps: half of five and a bit.
        assert_eq!(passed(&limiter, &limits, 20, period + period / 2), 3);
        assert_eq!(passed(&limiter, &limits, 20, 3 * period), 5, "all is forgotten after two");
    }
}

#[test]
fn what_is_refused_does_not_count() {
    let limits = Limits { connections: Some(2), ..Limits::default() };
    let limiter = Arc::new(Limiter::default());
    let hammered: u32 = (0..30).map(|tick| passed(&limiter, &limits, 10, tick * 1_000)).sum();
    // Ten windows of 3 seconds: a client that never stops asking still gets what it may.
    assert!((15..=20).contains(&hammered), "{hammered}");
}

#[test]
fn so_many_are_in_flight() {
    let limits = Limits { concurrent: Some(3), ..Limits::default() };
    let limiter = Arc::new(Limiter::default());
    let now = limiter.begin;
    let mut permits: Vec<_> = (0..3).map(|_| limiter.admit(&limits, CLIENT, now).expect("it passes")).collect();
    assert_eq!(limiter.admit(&limits, CLIENT, now).err(), Some(Limit::Concurrent));
    permits.pop();
    permits.push(limiter.admit(&limits, CLIENT, now).expect("one has ended"));
    assert_eq!(limiter.admit(&limits, CLIENT, now).err(), Some(Limit::Concurrent));
    let mapped = "::ffff:192.0.2.1".parse().expect("an address");
    assert_eq!(limiter.admit(&limits, mapped, now).err(), Some(Limit::Concurrent), "it is the same client");
    drop(permits);
    assert!(limiter.admit(&limits, CLIENT, now).is_ok());
}

#[test]
fn nothing_passes_a_limit_of_zero() {
    for limits in [
        Limits { concurrent: Some(0), ..Limits::default() },
        Limits { connections: Some(0), ..Limits::default() },
        Limits { requests: Some(0), ..Limits::default() },
    ] {
        assert_eq!(passed(&Arc::new(Limiter::default()), &limits, 3, 0), 0, "{limits:?}");
    }
}

#[test]
fn not_more_clients_are_remembered_than_there_is_room_for() {
    let limits = Limits { requests: Some(1), ..Limits::default() };
    let limiter = Arc::new(Limiter::default());
    let held = limiter.admit(&limits, CLIENT, limiter.begin).expect("the first");
    for number in 0..150_000_u32 {
        let client = IpAddr::V4((0x0a00_0000 + number).into());
        let _ = limiter.admit(&limits, client, limiter.begin + Duration::from_millis(number.into()));
    }
    assert!(limiter.clients() <= CAPACITY, "{}", limiter.clients());
    assert!(limiter.shard(CLIENT).contains_key(&CLIENT), "who has something in flight is not forgotten");
    drop(held);
}

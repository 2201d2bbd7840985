use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pool(subnets: &[&str]) -> Pool {
    let mut pool = Pool::default();
    pool.set_subnets(&subnets.iter().map(|text| net(text)).collect::<Vec<_>>());
    pool
}

#[test]
fn capacity_and_first_address() {
    let rows: &[(&str, u64, Option<&str>)] = &[
        ("10.128.2.0/23", 509, Some("10.128.2.2")),
        ("10.128.2.77/24", 253, Some("10.128.2.2")),
        ("10.0.0.0/30", 1, Some("10.0.0.2")),
        ("10.0.0.0/31", 0, None),
        ("10.0.0.1/32", 0, None),
        ("10.0.0.0/8", (1 << 24) - 3, Some("10.0.0.2")),
        ("0.0.0.0/0", (1 << 32) - 3, Some("0.0.0.2")),
        ("fd01:0:0:1::/64", (1 << 32) - 2, Some("fd01:0:0:1::2")),
        ("fd01::/48", (1 << 32) - 2, Some("fd01::2")),
        ("fd01::100/120", 254, Some("fd01::102")),
        ("fd01::/127", 0, None),
        ("fd01::/128", 0, None),
    ];
    for (subnet, capacity, first) in rows {
        let mut pool = pool(&[subnet]);
        let family = pool.families()[0];
        assert_eq!(pool.usage()[0].free, *capacity, "{subnet}");
        assert_eq!(pool.take(family), first.map(ip), "{subnet}");
    }
}

#[test]
fn every_address_once_then_none() {
    let mut pool = pool(&["10.0.0.0/28"]);
    let taken: Vec<_> = std::iter::from_fn(|| pool.take(Family::V4)).collect();
    let want: Vec<_> = (2..=14).map(|host| IpAddr::from([10, 0, 0, host])).collect();
    assert_eq!(taken, want);
    assert_eq!(pool.usage(), [SubnetUsage { subnet: net("10.0.0.0/28"), used: 13, free: 0 }]);
}

#[test]
fn never_used_before_freed_and_freed_oldest_first() {
    let mut pool = pool(&["10.0.0.0/29"]);
    assert_eq!(pool.take(Family::V4), Some(ip("10.0.0.2")));
    assert_eq!(pool.take(Family::V4), Some(ip("10.0.0.3")));
    pool.give_back(ip("10.0.0.3"));
    pool.give_back(ip("10.0.0.2"));
    let order: Vec<_> = std::iter::from_fn(|| pool.take(Family::V4)).map(|address| address.to_string()).collect();
    assert_eq!(order, ["10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.3", "10.0.0.2"]);
}

#[test]
fn several_subnets_of_a_family() {
    let mut pool = pool(&["10.0.9.0/30", "fd01::/126", "10.0.1.0/30"]);
    assert_eq!(pool.families(), [Family::V4, Family::V6]);
    assert_eq!(pool.take(Family::V4), Some(ip("10.0.9.2")), "the first in the list is preferred");
    assert_eq!(pool.take(Family::V4), Some(ip("10.0.1.2")));
    assert_eq!(pool.take(Family::V4), None);
    assert_eq!(pool.take(Family::V6), Some(ip("fd01::2")));
    pool.give_back(ip("10.0.1.2"));
    pool.give_back(ip("10.0.9.2"));
    assert_eq!(pool.take(Family::V4), Some(ip("10.0.1.2")), "the order goes over all subnets");
}

#[test]
fn overlapping_and_repeated_subnets_are_one() {
    let mut pool = pool(&["10.0.0.0/30", "10.0.0.0/29", "10.0.0.0/29"]);
    assert_eq!(pool.usage().len(), 1);
    assert_eq!(std::iter::from_fn(|| pool.take(Family::V4)).count(), 5);
}

#[test]
fn changed_subnets_keep_what_is_in_use() {
    let mut pool = pool(&["10.0.0.0/29"]);
    let old = pool.take(Family::V4).unwrap();
    pool.set_subnets(&[net("10.0.1.0/29")]);
    assert_eq!(pool.take(Family::V4), Some(ip("10.0.1.2")));
    pool.give_back(old);
    assert_eq!(pool.usage()[0].used, 1, "an address of the old subnet is not counted in the new one");
    while let Some(address) = pool.take(Family::V4) {
        assert!(net("10.0.1.0/29").contains(&address), "{address} is of the old subnet");
    }
    pool.set_subnets(&[net("10.0.0.0/29"), net("10.0.1.0/29")]);
    assert_eq!(pool.take(Family::V4), Some(ip("10.0.0.3")), "never used");
    assert_eq!(
        pool.usage(),
        [
            SubnetUsage { subnet: net("10.0.0.0/29"), used: 1, free: 4 },
            SubnetUsage { subnet: net("10.0.1.0/29"), used: 5, free: 0 },
        ]
    );
}

#[test]
fn what_is_not_for_pods_is_not_counted() {
    let mut pool = pool(&["10.0.0.0/29", "fd01::/48"]);
    for address in ["10.0.0.1", "10.0.0.7", "192.0.2.1", "fd01:0:0:9::5"] {
        assert!(pool.occupy(ip(address)));
    }
    assert_eq!(pool.usage().iter().map(|usage| usage.used).sum::<u64>(), 0);
    for address in ["10.0.0.1", "10.0.0.7", "192.0.2.1", "fd01:0:0:9::5"] {
        pool.give_back(ip(address));
    }
    let order: Vec<_> = std::iter::from_fn(|| pool.take(Family::V4)).map(|address| address.to_string()).collect();
    assert_eq!(order, ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
}

#[test]
fn after_a_restart_what_was_never_used_is_still_first() {
    let mut pool = Pool::default();
    pool.occupy(ip("fd01::2"));
    pool.occupy(ip("fd01::4"));
    pool.give_back(ip("fd01::5"));
    pool.set_subnets(&[net("fd01::/64")]);
    let order: Vec<_> = (0..3).filter_map(|_| pool.take(Family::V6)).map(|address| address.to_string()).collect();
    assert_eq!(order, ["fd01::3", "fd01::6", "fd01::7"]);
}

#[test]
fn the_order_has_a_bound() {
    let mut pool = pool(&["fd01::/64"]);
    for _ in 0..=REMEMBERED {
        let address = pool.take(Family::V6).unwrap();
        pool.give_back(address);
    }
    assert_eq!(pool.freed().count(), REMEMBERED);
    assert!(!pool.freed().any(|address| address == ip("fd01::2")), "the oldest is forgotten");
    assert_eq!(pool.usage()[0].used, 0);
    let next = ip("fd01::1:3");
    assert_eq!(pool.take(Family::V6), Some(next));
    pool.give_back(next);

    // After a restart it is not taken for one that was never used.
    let mut restarted = Pool::default();
    pool.freed().for_each(|address| restarted.give_back(address));
    restarted.set_subnets(&[net("fd01::/64")]);
    assert_eq!(restarted.take(Family::V6), Some(ip("fd01::1:4")));
}

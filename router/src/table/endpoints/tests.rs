use super::*;

#[test]
fn shares_are_exact() {
    // weights with how many endpoints share them; what each endpoint weighs
    type Row = (&'static [(u128, usize)], &'static [u32]);
    let rows: [Row; 12] = [
        // The example of the reference: 256 and 64 there.
        (&[(20, 2), (10, 4)], &[4, 1]),
        (&[(100, 3)], &[1]),
        (&[(256, 1)], &[1]),
        (&[(1, 1), (1, 1)], &[1, 1]),
        (&[(90, 1), (10, 1)], &[9, 1]),
        (&[(50, 3), (50, 2)], &[2, 3]),
        (&[(100, 2), (0, 2)], &[1, 0]),
        (&[(0, 2), (0, 1)], &[0, 0]),
        (&[(100, 0), (100, 5)], &[0, 1]),
        (&[], &[]),
        // One in a hundred of a hundred: the reference gives it 28 of 100 requests.
        (&[(256, 1), (1, 100)], &[25_600, 1]),
        (&[(1, 2), (2, 3), (3, 5), (4, 7)], &[105, 140, 126, 120]),
    ];
    for (groups, expected) in rows {
        assert_eq!(weights(groups), expected, "{groups:?}");
    }
}

#[test]
fn what_is_too_fine_is_rounded_and_nobody_is_left_out() {
    let groups = [(256, 997), (1, 1009), (255, 991), (3, 1013)];
    let weights = weights(&groups);
    assert!(weights.iter().all(|weight| (1..=65_536).contains(weight)), "{weights:?}");
    let total: f64 = groups.iter().zip(&weights).map(|((_, count), weight)| *count as f64 * f64::from(*weight)).sum();
    for ((weight, count), each) in groups.iter().zip(&weights) {
        let (actual, wanted) = (*count as f64 * f64::from(*each) / total, *weight as f64 / 515.0);
        assert!((actual / wanted - 1.0).abs() < 0.01, "{actual} instead of {wanted}");
    }
}

#[test]
fn addresses_behind_which_no_pod_is() {
    let restricted = [
        "127.0.0.1",
        "127.8.8.8",
        "169.254.169.254",
        "169.254.0.1",
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "239.1.1.1",
        "255.255.255.255",
        "168.63.129.16",
        "::",
        "::1",
        "fe80::1",
        "ff02::1",
        "fd00:ec2::254",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:168.63.129.16",
        "::127.0.0.1",
        "::a9fe:a9fe",
    ];
    let fine = ["10.128.0.2", "192.168.1.1", "168.63.129.17", "169.253.1.1", "fd01::2", "2001:db8::1", "fd00:ec2::253"];
    for (address, expected) in
        restricted.map(|address| (address, true)).into_iter().chain(fine.map(|fine| (fine, false)))
    {
        assert_eq!(is_restricted(address.parse().expect("an address")), expected, "{address}");
    }
}

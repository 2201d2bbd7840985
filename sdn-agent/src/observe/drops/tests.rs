use sdn_common::Author;

use super::*;
use crate::kernel::bpf::raw::{self, RawMap, Update};
use crate::kernel::bpf::testing::{open, sandbox};

fn key(reason: Reason, endpoint: u32, peer: Identity) -> DropKey {
    let hook = Hook::PodOut as u8;
    let direction = sdn_common::Direction::Egress as u8;
    DropKey { reason: reason as u16, direction, hook, endpoint, peer, author: Author::NONE }
}

/// Counts as the programs on two CPUs do.
fn count(pins: &PinDirectory, map: &str, key: &[u8], packets: [u64; 2]) {
    let map: RawMap = pins.open_map(map).unwrap();
    let mut value = vec![0; map.stride()];
    for (slot, packets) in value.chunks_exact_mut(size_of::<Counter>()).zip(packets) {
        slot.copy_from_slice(raw::bytes_of(&Counter { packets, bytes: 100 * packets }));
    }
    map.update(key, &value, Update::Any).unwrap();
}

/// Packets on two CPUs, where there are two.
fn two(packets: [u64; 2]) -> u64 {
    if aya::util::nr_cpus().unwrap() > 1 { packets[0] + packets[1] } else { packets[0] }
}

fn rows(drops: &Drops) -> Vec<(String, String, String, u64)> {
    let rows = drops.rows().unwrap();
    rows.into_iter().map(|row| (row.reason, row.endpoint, row.peer, row.packets)).collect()
}

fn row(reason: &str, endpoint: &str, peer: &str, packets: u64) -> (String, String, String, u64) {
    (reason.to_owned(), endpoint.to_owned(), peer.to_owned(), packets)
}

#[test]
fn rows_are_summed_over_cpus_and_named() {
    sandbox(|pins| {
        open(&pins);
        let names = Names::default();
        names.add(17, "shop/cart".to_owned());
        let drops = Drops::open(&pins, names).unwrap();
        assert_eq!(drops.rows().unwrap(), []);
        let spoofed = key(Reason::SpoofedAddress, 17, Identity::UNKNOWN);
        count(&pins, "DROPS", raw::bytes_of(&spoofed), [5, 7]);
        // Another hook is the same row to people.
        let elsewhere = DropKey { hook: Hook::HostOut as u8, ..spoofed };
        count(&pins, "DROPS", raw::bytes_of(&elsewhere), [1, 0]);
        count(&pins, "DROPS", raw::bytes_of(&key(Reason::Multicast, 0, Identity::OUTSIDE)), [2, 0]);
        // What the table had no room for: the total knows more than the rows.
        let total = |reason: Reason, packets| count(&pins, "DROP_TOTALS", &(reason as u32).to_ne_bytes(), packets);
        total(Reason::SpoofedAddress, [6, 7]);
        total(Reason::Multicast, [6, 0]);
        let expected = [
            row("spoofed_address", "shop/cart", "unknown", two([5, 7]) + 1),
            row("multicast", "unattributed", "unknown", 4),
            row("multicast", "node", "outside", 2),
        ];
        assert_eq!(rows(&drops), expected);
        let found = drops.rows().unwrap();
        assert_eq!(found[0].bytes, 100 * found[0].packets);
        assert_eq!((found[0].direction, found[0].description.is_empty()), (Direction::Egress, false));
        // Another rule of a policy is another row.
        count(&pins, "DROPS", raw::bytes_of(&DropKey { author: Author(3), ..spoofed }), [1, 0]);
        let by: Vec<_> = drops.rows().unwrap().into_iter().filter_map(|row| Some((row.author?, row.packets))).collect();
        assert_eq!(by, [("policy rule 3 (gone)".to_owned(), 1)]);
        let totals = drops.totals().unwrap();
        assert_eq!(
            totals.iter().map(|(reason, _)| *reason).collect::<Vec<_>>(),
            [Reason::SpoofedAddress, Reason::Multicast]
        );
        assert_eq!(totals[1].1.packets, 6);
    });
}

#[test]
fn counts_of_pods_that_are_gone_are_kept_when_the_table_fills() {
    sandbox(|pins| {
        open(&pins);
        let names = Names::default();
        let drops = Drops::with_room(&pins, names.clone(), 3).unwrap();
        names.add(17, "shop/cart".to_owned());
        names.add(18, "shop/other".to_owned());
        let table = Table::<DropKey, Counter>::open(&pins, "DROPS").unwrap();
        count(&pins, "DROPS", raw::bytes_of(&key(Reason::Multicast, 17, Identity::POD)), [3, 0]);
        count(&pins, "DROPS", raw::bytes_of(&key(Reason::Multicast, 18, Identity::POD)), [2, 0]);
        names.remove(17);
        let expected = vec![row("multicast", "shop/cart", "a pod", 3), row("multicast", "shop/other", "a pod", 2)];
        assert_eq!(rows(&drops), expected);
        assert_eq!(table.sums().unwrap().len(), 2, "there is room");
        count(&pins, "DROPS", raw::bytes_of(&key(Reason::Multicast, 0, Identity::POD)), [1, 0]);
        let mut expected = expected;
        expected.push(row("multicast", "node", "a pod", 1));
        assert_eq!(rows(&drops), expected);
        let left: Vec<u32> = table.sums().unwrap().into_iter().map(|(key, _)| key.endpoint).collect();
        assert!(left.len() == 2 && !left.contains(&17), "only the row of the pod that is gone made room: {left:?}");
        assert_eq!(rows(&drops), expected);
        // The pod comes again under its name, behind another interface: its counts go on.
        names.add(19, "shop/cart".to_owned());
        count(&pins, "DROPS", raw::bytes_of(&key(Reason::Multicast, 19, Identity::POD)), [4, 0]);
        assert_eq!(rows(&drops)[0], row("multicast", "shop/cart", "a pod", 7));
    });
}

#[test]
fn what_was_not_dropped_is_counted_by_hook() {
    sandbox(|pins| {
        open(&pins);
        let drops = Drops::open(&pins, Names::default()).unwrap();
        let index = Hook::OverlayIn as u32 * FORWARD_KINDS + Forward::Pod as u32;
        count(&pins, "FORWARDS", &index.to_ne_bytes(), [9, 0]);
        let forwards = drops.forwards().unwrap();
        assert_eq!(forwards.len(), Hook::ALL.len() * FORWARD_NAMES.len());
        let counted: Vec<_> = forwards.iter().filter(|count| count.count.packets > 0).collect();
        let expected = ForwardCount { hook: "overlay_in", forward: "pod", count: Counter { packets: 9, bytes: 900 } };
        assert_eq!(counted, [&expected]);
    });
}

#[test]
fn numbers_of_a_later_build_stay_numbers() {
    assert_eq!(reason_texts(999).0, "reason_999");
    assert_eq!(identity(Identity(300)), "identity 300");
}

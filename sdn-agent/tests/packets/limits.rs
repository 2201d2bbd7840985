//! Maps that are full (row 23 of the checklist): the outcome is documented, counted, and never a silent allow.

use aya::maps::{HashMap, MapData};
use sdn_common::Reason::*;
use sdn_common::{Addr4, Flow, FlowKey};

use crate::harness::world::node_state;
use crate::harness::*;

/// Sends a packet from a pod and says why it was dropped, 0 if it was not.
fn reason(bench: &mut Bench, pod: Actor, packet: &Packet) -> u32 {
    let (_, verdict, _) = bench.judge(&At::pod(pod.ifindex), &packet.bytes());
    verdict.reason
}

/// Opens a flow between two pods and answers it.
fn establish(bench: &mut Bench, from: Actor, to: Actor, port: u16) {
    assert_eq!(reason(bench, from, &udp(from, to).ports(port, 80)), 0);
    assert_eq!(reason(bench, to, &udp(to, from).ports(80, port)), 0);
}

#[test]
fn a_flood_evicts_unanswered_flows_only() {
    sandbox::small_bench(|bench| {
        for family in Family::BOTH {
            let Cast { a, b, far, .. } = Cast::of(family);
            (0..50).for_each(|i| establish(bench, a, b, 1000 + i));
            for i in 0..2000 {
                assert_eq!(reason(bench, a, &udp(a, far).ports(i, 53)), 0, "{family:?}: the flood itself goes on");
            }
            for i in 0..50 {
                assert_eq!(bench.describe_flow(&udp(a, b).ports(1000 + i, 80)), "answered", "{family:?}");
                assert_eq!(reason(bench, a, &udp(a, b).ports(1000 + i, 80)), 0);
            }
            assert_eq!(bench.flows(family, Table::Answered), 50);
            assert!(bench.flows(family, Table::Unanswered) <= 128);
            assert_eq!(bench.describe_flow(&udp(a, far).ports(0, 53)), "none", "{family:?}: the oldest made room");
            assert_eq!(
                bench.describe_flow(&udp(a, far).ports(1999, 53)),
                "unanswered",
                "{family:?}: the newest is there"
            );
        }
    });
}

#[test]
fn answered_flows_make_room_for_each_other_and_are_taken_up_again() {
    sandbox::small_bench(|bench| {
        for family in Family::BOTH {
            let Cast { a, b, .. } = Cast::of(family);
            (0..1000).for_each(|i| establish(bench, a, b, 1000 + i));
            assert!(bench.flows(family, Table::Answered) <= 128);
            let oldest = tcp(a, b, ACK).ports(1000, 80);
            assert_eq!(bench.describe_flow(&udp(a, b).ports(1000, 80)), "none");
            assert_eq!(reason(bench, a, &oldest), 0, "{family:?}: a forgotten connection goes on");
            assert_eq!(bench.describe_flow(&oldest), "unanswered, midstream");
        }
    });
}

/// The kernel's LRU maps always make room, so plain maps stand in for them here.
#[test]
fn tables_that_take_no_more_drop_new_flows_and_keep_the_others() {
    sandbox::sandbox(|bpffs| {
        let mut setup = Setup::default();
        for map in ["NEW_FLOWS_V4", "FLOWS_V4"] {
            let path = bpffs.join(map);
            let full = HashMap::<MapData, FlowKey<Addr4>, Flow>::create(1, 0).unwrap();
            full.pin(&path).unwrap();
            setup.pinned.push((map, path));
        }
        let mut bench = Bench::load(&setup);
        let bench = &mut bench;
        let Cast { a, b, far, outside, .. } = Cast::of(Family::V4);
        assert_eq!(reason(bench, a, &udp(a, b)), 0);
        let refused = bench.run(&At::pod(a.ifindex), &udp(a, far).bytes());
        assert_eq!((refused.verdict.reason, refused.action), (FlowsFull as u32, 2));
        assert_eq!(refused.counted, bench::Totals::one_drop(FlowsFull, udp(a, far).bytes().len()));
        assert_eq!(reason(bench, a, &udp(a, outside)), FlowsFull as u32);
        // Answered, it moves and makes room for the next one, which finds no room when it is answered, and stays where it is.
        assert_eq!(reason(bench, b, &udp_back(b, a)), 0);
        assert_eq!(bench.describe_flow(&udp(a, b)), "answered");
        assert_eq!(reason(bench, a, &tcp(a, b, SYN)), 0);
        assert_eq!(reason(bench, b, &tcp_back(b, a, SYN | ACK)), 0);
        assert_eq!(bench.describe_flow(&tcp(a, b, ACK)), "unanswered, replied");
        assert_eq!(reason(bench, a, &tcp(a, b, ACK)), 0);
        assert_eq!(reason(bench, a, &udp(a, b)), 0);
    });
}

#[test]
fn masquerade_ports_run_out_in_the_map_as_well() {
    sandbox::small_bench(|bench| {
        for family in Family::BOTH {
            let Cast { a, outside, .. } = Cast::of(family);
            bench.change_state(|state| (state.masquerade_first, state.masquerade_last) = (30_000, 30_999));
            for port in 0..4 {
                assert_eq!(reason(bench, a, &udp(a, outside).ports(port, 80)), 0);
            }
            let packet = udp(a, outside).ports(4, 80);
            let refused = bench.run(&At::pod(a.ifindex), &packet.bytes());
            assert_eq!(refused.verdict.reason, MasqueradeExhausted as u32, "{family:?}");
            assert_eq!(refused.counted, bench::Totals::one_drop(MasqueradeExhausted, packet.bytes().len()));
            assert_eq!(reason(bench, a, &udp(a, outside).ports(0, 80)), 0, "{family:?}: those that are there go on");
        }
    });
}

#[test]
fn a_flood_of_first_fragments_forgets_the_oldest_datagram() {
    sandbox::small_bench(|bench| {
        for family in Family::BOTH {
            let Cast { a, b, .. } = Cast::of(family);
            let pieces = |id: u32| udp(a, b).filled_to(600).pieces(id, &[512]);
            for id in 0..2000 {
                assert_eq!(reason(bench, a, &pieces(id)[0]), 0);
            }
            assert_eq!(reason(bench, a, &pieces(0)[1]), FragmentOutOfOrder as u32, "{family:?}");
            assert_eq!(reason(bench, a, &pieces(1999)[1]), 0, "{family:?}");
        }
    });
}

#[test]
fn drops_are_counted_exactly_where_their_keys_have_no_room() {
    sandbox::small_bench(|bench| {
        let Cast { a, b, shaped, .. } = Cast::of(Family::V4);
        let spoofed = |pod: Actor| udp(Cast::of(Family::V4).far, b).with_mac(pod.mac);
        // Each run empties the map, so these go by one another.
        let at = |pod: Actor| At::pod(pod.ifindex);
        let len = spoofed(a).bytes().len() as u64;
        let before = bench.totals();
        for pod in [a, b, shaped] {
            for _ in 0..5 {
                bench.judge(&at(pod), &spoofed(pod).bytes());
            }
        }
        let counted = bench.totals().since(&before);
        let total = counted.drops[&(SpoofedAddress as u32)];
        assert_eq!((total.packets, total.bytes), (15, 15 * len));
        let keyed = bench.drops();
        assert_eq!(keyed.len(), 2, "{keyed:?}");
        assert!(keyed.values().all(|counter| (counter.packets, counter.bytes) == (5, 5 * len)), "{keyed:?}");
    });
}

#[test]
fn a_full_ring_loses_examples_and_no_counts() {
    sandbox::small_bench(|bench| {
        let Cast { a, b, .. } = Cast::of(Family::V4);
        let state = node_state();
        bench.set_state(sdn_common::NodeState { events_per_second: 10_000, ..state });
        let before = bench.totals();
        let packet = udp(b, a).bytes();
        (0..500).for_each(|_| drop(bench.judge(&At::pod(a.ifindex), &packet)));
        let counted = bench.totals().since(&before);
        assert_eq!(counted.drops[&(SpoofedAddress as u32)].packets, 500);
        let events = bench.events().len();
        assert!((1..500).contains(&events), "{events} events of 500 in a ring of 4096 bytes");
        // Read, there is room again.
        bench.judge(&At::pod(a.ifindex), &packet);
        assert_eq!(bench.events().len(), 1);
    });
}

//! Cluster DNS at one address that every node has: asked on this node, and on another while this one's resolver is silent.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use sdn_common::Node;
use sdn_common::Reason::*;

use crate::harness::*;

/// Nanoseconds of CLOCK_MONOTONIC, which the programs read.
fn now() -> u64 {
    let time = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock that every kernel has"));
    u64::try_from(time.as_nanos()).expect("less than 584 years")
}

#[test]
fn questions_go_to_a_resolver_that_beats() {
    run(resolvers);
}

pub fn resolvers(_: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, b, node, two, three, .. } = cast;
    // Everybody's: here it is this node's, as the stack of every node has it.
    let dns = Actor { address: node.address, ..node };
    let with = move |stand_in: u32, beat: u64| {
        move |bench: &mut Bench| {
            bench.set_resolver(dns.address);
            bench.change_state(|state| state.stand_in = stand_in);
            bench.set_heartbeat(beat);
        }
    };
    let (question, elsewhere) = (udp(a, dns).ports(CLIENT, 53), Actor { node: 2, ..dns });
    let by_two = Tunnel { from: tunnel(2), vni: 0 };
    vec![
        Row::of("it beats").given(with(2, now())).pod(a, question.clone()).reaches_host(),
        Row::of("its beat is of the future, as of another clock's second")
            .given(with(2, now() + 10_000_000_000))
            .pod(a, question.clone())
            .reaches_host(),
        Row::of("it is silent, and another stands in")
            .given(with(2, now() - 1_500_000_000))
            .pod(a, question.clone())
            .tunnels(a, elsewhere)
            .tunnel_by(by_two, udp_back(two.at(dns.address), a).ports(53, CLIENT))
            .reaches(a),
        Row::of("in the middle of a flow, and back")
            .given(with(2, now()))
            .pod(a, question.clone())
            .reaches_host()
            .given(with(2, 0))
            .pod(a, question.clone())
            .tunnels(a, elsewhere)
            .given(|bench: &mut Bench| bench.set_heartbeat(now()))
            .pod(a, question.clone())
            .reaches_host(),
        Row::of("silent, and nobody stands in").given(with(Node::SELF, 0)).pod(a, question.clone()).reaches_host(),
        Row::of("another address of the node's is not the resolver's")
            .given(with(2, 0))
            .pod(a, udp(a, cast.node_uplink).ports(CLIENT, 53))
            .reaches_host(),
        Row::of("a stranger does not speak for it")
            .given(with(2, 0))
            .tunnel_by(Tunnel { from: underlay(Family::V4, 77), vni: 0 }, udp_back(two.at(dns.address), a))
            .drops(TunnelUnknownNode),
        Row::of("a node speaks for no other address of ours")
            .given(with(2, 0))
            .tunnel_by(by_two, udp_back(two.at(b.address), a))
            .drops(TunnelForeignSource)
            .tunnel_by(by_two, udp_back(two.at(cast.node_uplink.address), a))
            .drops(TunnelForeignSource)
            .tunnel_by(by_two, udp_back(two.at(three.address), a))
            .drops(TunnelForeignSource),
    ]
}

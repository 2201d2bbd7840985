//! Every reason for a drop has a row that shows it.

use std::collections::BTreeSet;

use sdn_common::Reason;

use crate::harness::row::Table;
use crate::harness::*;
use crate::{
    conntrack, counting, delivery, fragments, gateway, headers, masquerade, policy, resolver, sizes, sources, wire,
};

/// All tables.
const TABLES: &[Table] = &[
    conntrack::answers,
    conntrack::epochs,
    conntrack::related,
    conntrack::tcp_states,
    counting::not_ready,
    delivery::forbidden,
    delivery::no_outside,
    delivery::nowhere,
    delivery::paths,
    delivery::successors,
    fragments::extensions,
    fragments::in_order,
    fragments::out_of_line,
    gateway::arp,
    gateway::ethertypes,
    gateway::neighbour_discovery,
    headers::extensions,
    headers::malformed,
    masquerade::answers,
    masquerade::both_ways,
    masquerade::errors,
    masquerade::refused,
    policy::edits,
    policy::entries,
    policy::exempt,
    policy::midstream,
    policy::sending,
    resolver::resolvers,
    sizes::hops,
    sizes::segments,
    sizes::too_big,
    sources::arp,
    sources::gone,
    sources::host,
    sources::neighbour_discovery,
    sources::pods,
    sources::tunnel,
    sources::uplink,
    sources::uplink_xdp,
    sources::vxlan,
    wire::arrivals,
    wire::incarnations,
    wire::kinds,
    wire::networks,
    wire::underlays,
];

/// Reasons that no row shows, and why.
const ELSEWHERE: &[(Reason, &str)] = &[
    (
        Reason::FlowsFull,
        "takes a map that is full: limits::tables_that_take_no_more_drop_new_flows_and_keep_the_others",
    ),
    (Reason::HelperFailed, "takes a kernel without memory: helpers refuse nothing else that comes through parsing"),
];

#[test]
fn every_reason_has_a_row() {
    let mut shown = BTreeSet::new();
    for table in TABLES {
        for family in Family::BOTH {
            shown.extend(table(family, Cast::of(family)).iter().flat_map(|row| row.reasons().collect::<Vec<_>>()));
        }
    }
    for (reason, why) in ELSEWHERE {
        assert!(shown.insert(*reason), "{} has a row after all; it is excused because it {why}", reason.label());
    }
    let missing: Vec<_> = Reason::ALL.iter().filter(|reason| !shown.contains(reason)).map(|r| r.label()).collect();
    assert!(missing.is_empty(), "no row shows these reasons: {missing:?}");
}

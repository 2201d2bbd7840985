//! What drops are counted under, and the examples that are shown of them. That each drop and each forward is counted once, with
//! its bytes, is checked by every row of every table.

use sdn_common::Reason::*;
use sdn_common::{Author, Direction, DropKey, Hook, Identity, NodeState, Reason};

use crate::harness::world::mapped;
use crate::harness::*;

/// A drop, and who was at its other end as far as the packet came.
struct Counted {
    at: At,
    packet: Packet,
    reason: Reason,
    endpoint: u32,
    peer: Identity,
}

fn counted(cast: Cast) -> Vec<Counted> {
    let Cast { a, b, far, two, outside, node, node_uplink, homeless, .. } = cast;
    let pod = |packet: Packet, reason: Reason, peer: Identity| Counted {
        at: At::pod(a.ifindex),
        packet,
        reason,
        endpoint: a.ifindex,
        peer,
    };
    let tunnel = |sender: Actor, packet: Packet, reason: Reason, peer: Identity| Counted {
        at: At::overlay(Some(Tunnel { from: world::tunnel(sender.node), vni: 0 })),
        packet,
        reason,
        endpoint: 0,
        peer,
    };
    vec![
        pod(udp(b, far).with_mac(a.mac), SpoofedAddress, Identity::UNKNOWN),
        pod(udp(a, homeless), UnknownDestination, Identity::UNKNOWN),
        pod(udp(a, far).ttl(1), TtlExpired, far.identity),
        pod(udp(a, far).ports(1, 4789), PodVxlan, far.identity),
        pod(udp(a, outside).ports(1, 4789), PodVxlan, Identity::OUTSIDE),
        pod(tcp(a, two, SYN).ports(1, 22623), MachineConfig, Identity::NODE),
        pod(tcp(a, node, SYN).ports(1, 22623), MachineConfig, Identity::HOST),
        tunnel(far, udp(far, outside), TunnelNotLocal, far.identity),
        tunnel(two, error(two, a, Error::Port, &udp(a, far)), IcmpUnrelated, Identity::NODE),
        tunnel(far, udp(cast.three, a), TunnelForeignSource, Identity::UNKNOWN),
        Counted {
            at: At::uplink(),
            packet: udp(far, node_uplink),
            reason: UplinkForged,
            endpoint: 0,
            peer: Identity::UNKNOWN,
        },
        Counted {
            at: At::uplink_xdp(),
            packet: udp(far, node_uplink),
            reason: UplinkForged,
            endpoint: 0,
            peer: Identity::UNKNOWN,
        },
        Counted {
            at: At::host(0),
            packet: udp(node, outside),
            reason: UnknownDestination,
            endpoint: 0,
            peer: Identity::UNKNOWN,
        },
    ]
}

impl Counted {
    fn key(&self) -> DropKey {
        let direction = match self.at.hook {
            Hook::PodOut | Hook::HostOut => Direction::Egress,
            Hook::OverlayIn | Hook::UplinkIn | Hook::UplinkXdp => Direction::Ingress,
        };
        DropKey {
            reason: self.reason as u16,
            direction: direction as u8,
            hook: self.at.hook as u8,
            endpoint: self.endpoint,
            peer: self.peer,
            author: Author::NONE,
        }
    }
}

#[test]
fn drops_have_a_key_and_an_example() {
    sandbox::bench(|bench| {
        for family in Family::BOTH {
            for row in counted(Cast::of(family)) {
                bench.reset();
                let bytes = row.packet.bytes();
                let outcome = bench.run(&row.at, &bytes);
                assert_eq!(
                    outcome.keyed.keys().copied().collect::<Vec<_>>(),
                    [row.key()],
                    "{family:?} {:?}",
                    row.packet
                );
                let events = bench.events();
                let [event] = events.as_slice() else { panic!("{family:?}: {events:?}") };
                assert_eq!(event.key, row.key());
                let (source, destination) = (mapped(row.packet.source), mapped(row.packet.destination));
                assert_eq!((event.source, event.destination), (source, destination), "{family:?}");
                let (from, to) = row.packet.flow_ports();
                assert_eq!((event.source_port.native(), event.destination_port.native()), (from, to));
                assert_eq!((event.len as usize, event.protocol), (bytes.len(), row.packet.protocol()));
                assert_eq!(event.ethertype.native(), family.pick(0x0800, 0x86dd));
            }
        }
    });
}

#[test]
fn an_endpoint_spends_its_own_budget_of_examples() {
    sandbox::bench(|bench| {
        let Cast { a, b, far, .. } = Cast::of(Family::V4);
        let forged = udp(far, a).bytes();
        bench.change_state(|state| {
            state.events_per_second = 3;
            // A second that nothing was spent in yet.
            state.hz = 1 << 28;
        });
        for pod in [a, b] {
            (0..10).for_each(|_| drop(bench.judge(&At::pod(pod.ifindex), &forged)));
            let events = bench.events();
            assert_eq!(events.len(), 3);
            assert!(events.iter().all(|event| event.key.endpoint == pod.ifindex));
        }
    });
}

/// Nothing is forwarded before the settings are there; the node's own traffic is left alone.
#[test]
fn without_settings_nothing_is_forwarded() {
    run(not_ready);
}

pub fn not_ready(_: Family, cast: Cast) -> Vec<Row> {
    let Cast { a, b, far, node, outside, node_uplink, .. } = cast;
    let empty = |bench: &mut Bench| bench.set_state(NodeState::default());
    vec![
        Row::of("from a pod to its neighbour").given(empty).pod(a, udp(a, b)).drops(NotReady),
        Row::of("from a pod to the outside").given(empty).pod(a, udp(a, outside)).drops(NotReady),
        Row::of("from a pod to its node").given(empty).pod(a, udp(a, node)).drops(NotReady),
        Row::of("out of the tunnel").given(empty).tunnel(far, udp(far, a)).drops(NotReady),
        Row::of("from the node").given(empty).host(udp(node, a)).drops(NotReady),
        Row::of("to the node by its uplink").given(empty).uplink(udp(outside, node_uplink)).passes(),
        Row::of("to the node by its uplink, early")
            .given(empty)
            .at(At::uplink_xdp(), udp(outside, node_uplink))
            .passes(),
    ]
}

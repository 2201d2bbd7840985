use std::net::IpAddr;

use sdn_common::{Be16, Node, Side};

use super::*;
use crate::kernel::bpf::testing::{open, sandbox};

const HZ: u32 = 100;
const NOW: u64 = 10_000_000;
const TCP: u8 = 6;
const ICMP: u8 = 1;

fn address(text: &str) -> Addr4 {
    Addr4::from_ip(text.parse::<IpAddr>().unwrap()).unwrap()
}

fn key(source: (&str, u16), destination: (&str, u16), protocol: u8) -> FlowKey<Addr4> {
    let end = |(text, port): (&str, u16)| (address(text), Be16::new(port));
    FlowKey::new(end(source), end(destination), protocol).0
}

fn flow(idle_seconds: u64, state: u32) -> Flow {
    Flow { last_seen: NOW - idle_seconds * u64::from(HZ), state, ..Flow::default() }
}

/// A sweeper at a fixed time, with the default timeouts.
fn sweeper(pins: &PinDirectory) -> Sweeper {
    open(pins);
    let clock = Clock::showing(NOW, HZ);
    let start = Start { pins: pins.clone(), clock, timeouts: Timeouts::DEFAULT, interval: INTERVAL };
    Sweeper::open(&start).unwrap()
}

fn run(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

#[test]
fn flows_live_as_long_as_their_state_says() {
    sandbox(|pins| {
        run(async {
            let mut sweeper = sweeper(&pins);
            let both = Flow::FIN_FROM_LOW | Flow::FIN_FROM_HIGH;
            // (protocol, state, idle for seconds, stays)
            let rows = [
                (TCP, Flow::REPLIED, 7_990, true),
                (TCP, Flow::REPLIED, 8_010, false),
                (TCP, Flow::REPLIED | Flow::FIN_FROM_LOW, 110, true),
                (TCP, Flow::REPLIED | Flow::FIN_FROM_LOW, 130, false),
                (TCP, Flow::REPLIED | both, 5, true),
                (TCP, Flow::REPLIED | both, 15, false),
                (TCP, Flow::REPLIED | Flow::RESET, 15, false),
                (17, Flow::REPLIED, 110, true),
                (17, Flow::REPLIED, 130, false),
                (ICMP, Flow::REPLIED, 25, true),
                (ICMP, Flow::REPLIED, 35, false),
                (132, Flow::REPLIED, 590, true),
                (132, Flow::REPLIED, 610, false),
            ];
            for (number, (protocol, state, idle, _)) in rows.iter().enumerate() {
                let key = key(("10.128.0.2", number as u16), ("10.128.2.2", 80), *protocol);
                sweeper.v4.flows.insert(&key, &flow(*idle, *state)).unwrap();
            }
            let opening = key(("10.128.0.2", 1), ("10.128.2.2", 443), TCP);
            sweeper.v4.new_flows.insert(&opening, &flow(50, 0)).unwrap();
            let unanswered = key(("10.128.0.2", 2), ("10.128.2.2", 443), TCP);
            sweeper.v4.new_flows.insert(&unanswered, &flow(70, 0)).unwrap();
            sweeper.sweep().await.unwrap();
            for (number, (protocol, state, idle, stays)) in rows.iter().enumerate() {
                let key = key(("10.128.0.2", number as u16), ("10.128.2.2", 80), *protocol);
                let found = sweeper.v4.flows.lookup(&key).unwrap().is_some();
                assert_eq!(found, *stays, "protocol {protocol} state {state:#b} idle for {idle} s");
            }
            assert!(sweeper.v4.new_flows.lookup(&opening).unwrap().is_some());
            assert!(sweeper.v4.new_flows.lookup(&unanswered).unwrap().is_none());
            let stay = rows.iter().filter(|row| row.3).count() as u64;
            let Swept { flows, new_flows, expired, sweeps, .. } = sweeper.swept;
            assert_eq!((flows, new_flows, expired, sweeps), ([stay, 0], [1, 0], rows.len() as u64 - stay + 1, 1));
        });
    });
}

#[test]
fn a_flow_of_the_future_stays() {
    // The programs' clock and ours are a tick apart, and a packet may pass between the two readings.
    sandbox(|pins| {
        run(async {
            let mut sweeper = sweeper(&pins);
            let key = key(("10.128.0.2", 1), ("10.128.2.2", 80), TCP);
            let ahead = Flow { last_seen: NOW + 1_000, state: Flow::REPLIED, ..Flow::default() };
            sweeper.v4.flows.insert(&key, &ahead).unwrap();
            sweeper.sweep().await.unwrap();
            assert!(sweeper.v4.flows.lookup(&key).unwrap().is_some());
        });
    });
}

fn masquerade(remote: (&str, u16), port: u16, protocol: u8) -> MasqueradeKey<Addr4> {
    MasqueradeKey {
        remote: address(remote.0),
        local: address("192.168.9.1"),
        remote_port: Be16::new(remote.1),
        local_port: Be16::new(port),
        protocol,
        _pad: [0; 3],
    }
}

fn to_outside(port: u16) -> Flow {
    let outside = Side { node: Node::OUTSIDE, ..Side::default() };
    Flow { masquerade_port: Be16::new(port), sides: [outside, outside], ..flow(1, Flow::REPLIED) }
}

#[test]
fn a_port_is_free_two_sweeps_after_its_flow() {
    sandbox(|pins| {
        run(async {
            let mut sweeper = sweeper(&pins);
            let pod = |port| Masquerade { pod: address("10.128.0.2"), port: Be16::new(port), _pad: 0 };
            let tcp = masquerade(("198.51.100.7", 80), 23_000, TCP);
            let tcp_flow = key(("10.128.0.2", 4000), ("198.51.100.7", 80), TCP);
            // An echo's identifier stands for both ports of its flow and for none of the outside's.
            let echo = masquerade(("198.51.100.7", 0), 23_001, ICMP);
            let echo_flow = key(("10.128.0.2", 77), ("198.51.100.7", 77), ICMP);
            let orphan = masquerade(("198.51.100.8", 80), 23_002, TCP);
            let other_port = masquerade(("198.51.100.7", 80), 23_003, TCP);
            sweeper.v4.masquerade.insert(&tcp, &pod(4000)).unwrap();
            sweeper.v4.flows.insert(&tcp_flow, &to_outside(23_000)).unwrap();
            sweeper.v4.masquerade.insert(&echo, &pod(77)).unwrap();
            sweeper.v4.new_flows.insert(&echo_flow, &to_outside(23_001)).unwrap();
            sweeper.v4.masquerade.insert(&orphan, &pod(4001)).unwrap();
            // The flow is there, but goes by another port.
            sweeper.v4.masquerade.insert(&other_port, &pod(4000)).unwrap();
            let held = |sweeper: &Sweeper| {
                [tcp, echo, orphan, other_port].map(|key| sweeper.v4.masquerade.lookup(&key).unwrap().is_some())
            };
            sweeper.sweep().await.unwrap();
            assert_eq!(held(&sweeper), [true; 4], "one look is not enough");
            // What got its flow between two sweeps is no suspect any more.
            let late_flow = key(("10.128.0.2", 4001), ("198.51.100.8", 80), TCP);
            sweeper.v4.new_flows.insert(&late_flow, &to_outside(23_002)).unwrap();
            sweeper.sweep().await.unwrap();
            assert_eq!(held(&sweeper), [true, true, true, false]);
            assert_eq!((sweeper.swept.masquerades, sweeper.swept.freed), ([3, 0], 1));
            sweeper.v4.new_flows.remove(&late_flow).unwrap();
            sweeper.sweep().await.unwrap();
            assert_eq!(held(&sweeper), [true, true, true, false], "counted from anew");
            sweeper.sweep().await.unwrap();
            assert_eq!(held(&sweeper), [true, true, false, false]);
        });
    });
}

#[test]
fn a_port_that_a_flow_takes_up_in_that_moment_is_put_back() {
    sandbox(|pins| {
        run(async {
            let sweeper = sweeper(&pins);
            let pod = Masquerade { pod: address("10.128.0.2"), port: Be16::new(4000), _pad: 0 };
            let key_outside = masquerade(("198.51.100.7", 80), 23_000, TCP);
            sweeper.v4.masquerade.insert(&key_outside, &pod).unwrap();
            let flow_key = key(("10.128.0.2", 4000), ("198.51.100.7", 80), TCP);
            sweeper.v4.new_flows.insert(&flow_key, &to_outside(23_000)).unwrap();
            assert!(!sweeper.v4.free(&key_outside, &pod).unwrap());
            assert!(sweeper.v4.masquerade.lookup(&key_outside).unwrap().is_some());
            sweeper.v4.new_flows.remove(&flow_key).unwrap();
            assert!(sweeper.v4.free(&key_outside, &pod).unwrap());
            assert!(!sweeper.v4.free(&key_outside, &pod).unwrap(), "it is gone already");
        });
    });
}

#[test]
fn ipv6_is_swept_as_well() {
    sandbox(|pins| {
        run(async {
            let mut sweeper = sweeper(&pins);
            let end =
                |last, port| (Addr6::new([0xfd, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]), Be16::new(port));
            let key = FlowKey::new(end(2, 4000), end(9, 80), 17).0;
            sweeper.v6.flows.insert(&key, &flow(200, Flow::REPLIED)).unwrap();
            sweeper.sweep().await.unwrap();
            assert_eq!((sweeper.swept.flows, sweeper.swept.expired), ([0, 0], 1));
        });
    });
}

#[test]
fn the_task_sweeps_until_nobody_looks() {
    sandbox(|pins| {
        run(async {
            let dataplane = open(&pins);
            let interval = Duration::from_millis(10);
            let start = Start { pins, clock: dataplane.clock(), timeouts: Timeouts::DEFAULT, interval };
            let (mut swept, task) = spawn(start).unwrap();
            swept.wait_for(|swept| swept.sweeps > 2).await.unwrap();
            drop(swept);
            tokio::time::timeout(Duration::from_secs(10), task).await.unwrap().unwrap();
        });
    });
}

#[test]
fn the_configurations_timeouts() {
    let seconds = Duration::from_secs;
    let config = ConntrackTimeouts {
        tcp_opening: seconds(1),
        tcp_established: seconds(2),
        tcp_half_closed: seconds(3),
        tcp_closed: seconds(4),
        udp_unanswered: seconds(5),
        udp: seconds(6),
        icmp: seconds(7),
        other: seconds(8),
    };
    let expected = Timeouts {
        tcp_opening: 1,
        tcp_established: 2,
        tcp_half_closed: 3,
        tcp_closed: 4,
        udp_unanswered: 5,
        udp: 6,
        icmp: 7,
        other: 8,
    };
    assert_eq!(Timeouts::from(&config), expected);
}

//! Packets that nobody thought of: valid ones with something changed, and noise. The programs do with them what the model does, and
//! whatever came before, nothing is forwarded in another's name.
//!
//! The same packets each time; `CULVERT_TEST_LONG=1` makes fifty times as many.

use std::cell::RefCell;
use std::net::IpAddr;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use sdn_common::event::Verdict;
use sdn_common::{Forward, Hook, Reason};

use crate::harness::world::{DEVICES, tunnel};
use crate::harness::*;
use crate::model::{self, Fate};

/// A frame and where it appears.
#[derive(Clone, Debug)]
struct Case {
    at: At,
    bytes: Vec<u8>,
}

/// What is changed in a frame.
#[derive(Clone, Debug)]
enum Change {
    Byte(prop::sample::Index, u8),
    Bit(prop::sample::Index, u8),
    /// Another end: an address of the cast.
    Source(prop::sample::Index),
    Destination(prop::sample::Index),
    /// Another source MAC of the cast.
    Mac(prop::sample::Index),
    /// One of the numbers that mean something.
    Port(prop::sample::Index),
    Protocol(prop::sample::Index),
    Fragment(u8),
    Ethertype(prop::sample::Index),
    Cut(prop::sample::Index),
    Lengthen(u8),
}

const PORTS: [u16; 8] = [53, 80, 4789, 22622, 22623, 22624, PORT, CLIENT];
const PROTOCOLS: [u8; 16] = [0, 1, 4, 6, 17, 43, 44, 47, 50, 51, 58, 59, 60, 132, 135, 255];
const ETHERTYPES: [u16; 4] = [0x0800, 0x86dd, 0x0806, 0x8100];

fn everybody(family: Family) -> Vec<Actor> {
    let cast = Cast::of(family);
    let special: [IpAddr; 6] = match family {
        Family::V4 => {
            [[127, 0, 0, 1], [0; 4], [224, 0, 0, 1], [255; 4], [169, 254, 169, 254], [169, 254, 7, 7]].map(Into::into)
        }
        Family::V6 => ["::1", "::", "ff02::1", "fe80::1", "fe80::7", "fd01:0:1::"].map(v6),
    };
    let Cast { free, unheard, homeless, outside, elsewhere, gateway, .. } = cast;
    let mut all = vec![free, unheard, homeless, outside, elsewhere, gateway];
    all.extend(cast.pods());
    all.extend(cast.peers());
    all.extend(special.map(Actor::stranger));
    all
}

/// Whose packets are believed there.
fn believed(at: &At, family: Family) -> Vec<Actor> {
    let cast = Cast::of(family);
    match (at.hook, at.tunnel) {
        (Hook::PodOut, _) => cast.pods().into_iter().filter(|pod| pod.ifindex == at.ifindex).collect(),
        (Hook::OverlayIn, Some(by)) => {
            let of_node = |peer: &Actor| peer.node != 0 && tunnel(peer.node) == by.from;
            cast.peers().into_iter().chain([cast.unheard]).filter(of_node).collect()
        }
        (Hook::HostOut, _) => vec![cast.node, cast.node_uplink],
        (Hook::UplinkIn | Hook::UplinkXdp, _) => vec![cast.outside, cast.elsewhere],
        (Hook::OverlayIn, None) => vec![cast.a],
    }
}

/// An ordinary frame at some hook: four times in five from one who is believed there.
fn ordinary(at: At) -> impl Strategy<Value = (At, Family, Vec<u8>)> {
    let index = any::<prop::sample::Index>;
    let ends = (prop::sample::select(&Family::BOTH[..]), prop::bool::weighted(0.8), index(), index());
    (ends, 0..20_u8, any::<u8>(), index()).prop_map(move |((family, fitting, from, to), kind, ttl, port)| {
        let senders = Some(believed(&at, family)).filter(|senders| fitting && !senders.is_empty());
        let from = *from.get(&senders.unwrap_or_else(|| everybody(family)));
        let to = match at.hook {
            Hook::UplinkIn | Hook::UplinkXdp if fitting => Cast::of(family).node_uplink,
            Hook::OverlayIn if fitting && ttl & 1 == 0 => *to.get(&Cast::of(family).pods()),
            _ => *to.get(&everybody(family)),
        };
        (at, family, ordinary_bytes(family, from, to, kind, ttl, *port.get(&PORTS)))
    })
}

fn ordinary_bytes(family: Family, from: Actor, to: Actor, kind: u8, ttl: u8, port: u16) -> Vec<u8> {
    let Cast { a, gateway, .. } = Cast::of(family);
    let packet = match kind {
        0..=3 => udp(from, to).ports(CLIENT, port),
        4..=6 => tcp(from, to, SYN).ports(CLIENT, port),
        7 => tcp(from, to, ACK).ports(port, port).filled_to(1445 + usize::from(ttl % 10)),
        8 | 9 => echo(from, to),
        10 => echo_reply(from, to),
        11 => error(from, to, Error::Port, &udp(to, from)),
        12 => sctp(from, to),
        13 => raw(from, to, GRE),
        14 => udp(from, to).filled_to(300).pieces(1, &[8])[usize::from(ttl & 1)].clone(),
        15 => tcp_with_options(from, to, 12).fragment(7, 0, true),
        16 if family == Family::V6 => udp(from, to).extensions(&[Extension::hop_by_hop(), Extension::authentication()]),
        17 if family == Family::V6 => return solicitation(from, if ttl < 128 { gateway } else { to }).bytes(),
        18 if family == Family::V6 => udp(from, to).extensions(&[Extension::routing(0)]).fragment(9, 0, true),
        16 => tcp(from, to, SYN).options(&[1; 8]),
        _ if family == Family::V4 => return arp_request(a, from, if ttl < 128 { gateway } else { to }).bytes(),
        _ => neighbour_advertisement(from, to, gateway, from.mac),
    };
    packet.ttl(if ttl < 24 { ttl % 3 } else { 64 }).bytes()
}

fn change() -> impl Strategy<Value = Change> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => (index(), any::<u8>()).prop_map(|(at, value)| Change::Byte(at, value)),
        4 => (index(), 0..8_u8).prop_map(|(at, bit)| Change::Bit(at, bit)),
        2 => index().prop_map(Change::Source),
        2 => index().prop_map(Change::Destination),
        2 => index().prop_map(Change::Mac),
        2 => index().prop_map(Change::Port),
        2 => index().prop_map(Change::Protocol),
        1 => any::<u8>().prop_map(Change::Fragment),
        1 => index().prop_map(Change::Ethertype),
        1 => index().prop_map(Change::Cut),
        1 => any::<u8>().prop_map(Change::Lengthen),
    ]
}

fn apply(family: Family, bytes: &mut Vec<u8>, change: &Change) {
    let len = bytes.len();
    let all = everybody(family);
    let mut write = |offset: usize, value: &[u8]| {
        if let Some(place) = bytes.get_mut(offset..offset + value.len()) {
            place.copy_from_slice(value);
        }
    };
    let octets = |actor: &Actor| match actor.address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    match change {
        Change::Byte(at, value) => bytes[at.index(len)] = *value,
        Change::Bit(at, bit) => bytes[at.index(len)] ^= 1 << bit,
        Change::Source(who) => write(family.pick(26, 22), &octets(who.get(&all))),
        Change::Destination(who) => write(family.pick(30, 38), &octets(who.get(&all))),
        Change::Mac(who) => write(6, &who.get(&all).mac),
        Change::Port(port) => write(family.pick(36, 56), &port.get(&PORTS).to_be_bytes()),
        Change::Protocol(number) => write(family.pick(23, 20), &[*number.get(&PROTOCOLS)]),
        Change::Fragment(bits) => write(family.pick(20, 54), &[bits & 0x3f]),
        Change::Ethertype(ethertype) => write(12, &ethertype.get(&ETHERTYPES).to_be_bytes()),
        Change::Cut(at) => bytes.truncate(at.index(len) + 1),
        Change::Lengthen(by) => bytes.resize(len + usize::from(*by), 0x5a),
    }
}

fn anywhere() -> impl Strategy<Value = At> {
    let known = [tunnel(2), tunnel(3), tunnel(6)];
    let strangers = [underlay(Family::V4, 99), underlay(Family::V4, 1), underlay(Family::V6, 2)];
    let tunnels = prop_oneof![9 => prop::sample::select(known.to_vec()), 1 => prop::sample::select(strangers.to_vec())];
    let gso = prop_oneof![9 => Just(None), 1 => (1..2000_u32).prop_map(|size| Some((size, 2)))];
    let at = prop_oneof![
        4 => prop::sample::select(&DEVICES[..3]).prop_map(At::pod),
        4 => (tunnels, prop_oneof![19 => Just(0), 1 => 1..0xff_ffff_u32])
            .prop_map(|(from, vni)| At::overlay(Some(Tunnel { from, vni }))),
        1 => Just(At::overlay(None)),
        2 => prop::sample::select(vec![0, world::UPLINK]).prop_map(At::host),
        2 => Just(At::uplink()),
        1 => Just(At::uplink_xdp()),
    ];
    (at, gso).prop_map(|(at, gso)| At { gso, ..at })
}

/// Nearly valid, nine times in ten; else noise behind an Ethernet header.
fn case() -> impl Strategy<Value = Case> {
    let changes = prop_oneof![2 => Just(Vec::new()), 3 => prop::collection::vec(change(), 1..4)];
    let nearly = (anywhere().prop_flat_map(ordinary), changes).prop_map(|((at, family, mut bytes), changes)| {
        changes.iter().for_each(|change| apply(family, &mut bytes, change));
        Case { at, bytes }
    });
    let noise = prop::collection::vec(any::<u8>(), 0..200);
    let noise = (anywhere(), prop::sample::select(&ETHERTYPES[..]), noise).prop_map(|(at, ethertype, noise)| {
        let Cast { a, .. } = Cast::of(Family::V4);
        let bytes = [&a.next_hop()[..], &a.mac, &ethertype.to_be_bytes(), &noise].concat();
        Case { at, bytes }
    });
    prop_oneof![9 => nearly, 1 => noise].prop_map(|case| Case { bytes: runnable(case.bytes), ..case })
}

/// The kernel runs no test with less than an Ethernet header and the IP header that it announces.
fn runnable(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().max(ETHERNET), 0);
    let least = match u16::from_be_bytes([bytes[12], bytes[13]]) {
        0x0800 => 34,
        0x86dd => 54,
        _ => ETHERNET,
    };
    bytes.resize(bytes.len().max(least), 0);
    bytes
}

fn runner(cases: u32) -> TestRunner {
    let long = std::env::var_os("CULVERT_TEST_LONG").is_some_and(|value| value == "1");
    let cases = if long { cases * 50 } else { cases };
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// What a verdict says, as the model says it.
fn fate(verdict: &Verdict) -> Fate {
    let forwards = [Forward::Pass, Forward::Pod, Forward::Tunnel, Forward::Host, Forward::Outside, Forward::Answer];
    match (verdict.reason, forwards.get(verdict.forward as usize)) {
        (0, Some(forward)) => Fate::Forward(*forward, verdict.ifindex, verdict.node),
        (reason, _) => {
            Fate::Drop(u16::try_from(reason).ok().and_then(Reason::from_number).expect("a reason that has a number"))
        }
    }
}

/// Whether the action is one that goes with what became of the packet.
fn fits(at: &At, fate: Fate, action: i32) -> bool {
    const OK: i32 = 0;
    const SHOT: i32 = 2;
    const REDIRECT: i32 = 7;
    const XDP_DROP: i32 = 1;
    const XDP_PASS: i32 = 2;
    use Reason::{NoOutside, TooBig, TtlExpired, UnknownDestination};
    if at.hook == Hook::UplinkXdp {
        return matches!((fate, action), (Fate::Drop(_), XDP_DROP) | (Fate::Forward(Forward::Pass, 0, 0), XDP_PASS));
    }
    match (fate, action) {
        (Fate::Drop(_), SHOT) => true,
        // Its sender is told.
        (Fate::Drop(TtlExpired | TooBig | UnknownDestination | NoOutside), REDIRECT) => at.hook == Hook::PodOut,
        (Fate::Forward(_, 0, _), action) => action == OK,
        (Fate::Forward(..), action) => action == REDIRECT,
        _ => false,
    }
}

#[test]
fn programs_and_model_agree() {
    sandbox::bench(|bench| {
        let bench = RefCell::new(bench);
        let result = runner(6_000).run(&case(), |case| {
            let mut bench = bench.borrow_mut();
            let (action, verdict, _) = bench.judge(&case.at, &case.bytes);
            bench.forget();
            let fate = fate(&verdict);
            prop_assert_eq!(fate, model::judge(&case.at, &case.bytes));
            prop_assert!(fits(&case.at, fate, action), "{:?} with action {}", fate, action);
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{error}"));
    });
}

/// Whatever was sent before: flows, fragments and ports let nobody speak for another.
#[test]
fn no_history_makes_a_source_believed() {
    sandbox::bench(|bench| {
        let bench = RefCell::new(bench);
        let result = runner(300).run(&prop::collection::vec(case(), 1..30), |cases| {
            let mut bench = bench.borrow_mut();
            bench.forget();
            for case in cases {
                let (action, verdict, out) = bench.judge(&case.at, &case.bytes);
                let fate = fate(&verdict);
                prop_assert!(fits(&case.at, fate, action), "{:?} with action {}: {:?}", fate, action, case);
                if let Fate::Forward(forward, ..) = fate {
                    in_its_own_name(&case, forward, &out)
                        .map_err(|why| TestCaseError::fail(format!("{why}: {case:?}")))?;
                }
            }
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{error}"));
    });
}

/// A packet that was forwarded comes from where its source is.
fn in_its_own_name(case: &Case, forward: Forward, out: &[u8]) -> Result<(), &'static str> {
    let source = |bytes: &[u8]| match (u16::from_be_bytes([bytes[12], bytes[13]]), bytes) {
        (0x0800, bytes) => <[u8; 4]>::try_from(&bytes[26..30]).ok().map(IpAddr::from),
        (0x86dd, bytes) => <[u8; 16]>::try_from(&bytes[22..38]).ok().map(IpAddr::from),
        _ => None,
    };
    let casts = Family::BOTH.map(Cast::of);
    let (Some(from), Some(leaving)) = (source(&case.bytes), source(out)) else {
        return if matches!(forward, Forward::Pass | Forward::Answer) || case.at.tunnel.is_none() {
            Ok(())
        } else {
            Err("forwarded without an address")
        };
    };
    let require = |holds: bool, why: &'static str| if holds { Ok(()) } else { Err(why) };
    match (case.at.hook, forward) {
        (_, Forward::Answer) => Ok(()),
        (Hook::PodOut, forward) => {
            let own =
                |pod: &Actor| pod.address == from && pod.ifindex == case.at.ifindex && pod.mac == case.bytes[6..12];
            require(casts.iter().flat_map(Cast::pods).any(|pod| own(&pod)), "not the pod's own address and MAC")?;
            let borrowed = casts.iter().any(|cast| cast.node_uplink.address == leaving);
            require(
                (forward == Forward::Outside) == borrowed,
                "the node's address stands for the pod's outside, and only there",
            )
        }
        (Hook::OverlayIn, _) => match case.at.tunnel {
            None => Ok(()),
            Some(tunnel) => require(model::is_of_tunnel(from, tunnel), "not of the tunnel's node"),
        },
        (Hook::HostOut, Forward::Tunnel) => {
            let own = |cast: &Cast| [cast.node.address, cast.node_uplink.address].contains(&from);
            require(case.at.ingress == 0 && casts.iter().any(own), "not the node's own")
        }
        (Hook::HostOut, _) => Ok(()),
        (Hook::UplinkIn | Hook::UplinkXdp, _) => require(!model::in_cluster(from) && !from.is_loopback(), "forged"),
    }
}

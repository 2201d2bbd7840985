mod conformance;
pub(crate) mod generate;
mod limits;
mod tables;

use std::collections::BTreeMap;

use proptest::prelude::*;
use sdn_cluster::model::Protocol;
use sdn_cluster::verdict::{self, Decision, End, Flow, Traffic, verdict};

use super::*;
use crate::plan::testing::ip;
use crate::plan::{Indices, Inputs, Plan, Wanted};
use generate::{cluster, operation};

// === Against the yardstick ===

/// Addresses outside of the cluster.
const OUTSIDE: [&str; 6] =
    ["203.0.113.7", "203.0.113.8", "203.0.113.200", "198.51.100.1", "2001:db8::9", "2001:db9::9"];

fn plan(inputs: Inputs) -> Plan {
    Plan::new(inputs, Indices::default(), Seed::default())
}

/// Everybody whom a flow can be from or to, with an address.
fn parties(inputs: &Inputs) -> Vec<(IpAddr, End)> {
    let pods = inputs.snapshot.pods.values().filter(|pod| !pod.host_network);
    let pods = pods.flat_map(|pod| pod.addresses.iter().map(move |address| (*address, End::Pod(pod.key()))));
    let node = |name: &str, address: &str| (ip(address), End::Node { name: name.into(), address: ip(address) });
    let nodes =
        [node("n0", "192.168.9.1"), node("n0", "10.128.0.1"), node("n1", "192.168.9.2"), node("n2", "fd01:0:0:2::1")];
    let outside = OUTSIDE.map(|address| (ip(address), End::Address(ip(address))));
    pods.chain(nodes).chain(outside).collect()
}

fn traffic() -> impl Iterator<Item = Traffic> {
    use Protocol::{Sctp, Tcp, Udp};
    let ported = [(Tcp, 1), (Tcp, 3), (Tcp, 8), (Tcp, 12), (Tcp, 40_000), (Udp, 2), (Udp, 5), (Sctp, 1), (Sctp, 9)];
    ported.into_iter().map(|(protocol, port)| Traffic::Port { protocol, port }).chain([Traffic::Icmp])
}

fn packet(from: IpAddr, to: IpAddr, traffic: Traffic) -> Packet {
    let (protocol, port) = match traffic {
        Traffic::Port { protocol, port } => (ports::number(protocol), port),
        Traffic::Icmp => (if from.is_ipv4() { 1 } else { 58 }, 0),
    };
    Packet { from, to, protocol, port }
}

/// What the yardstick says, in the words of the evaluator; authors by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    NotHere,
    Itself,
    OwnNode,
    NotIsolated,
    Decided(bool, Option<Authorship>),
}

fn said(answer: Answer, wanted: &Wanted) -> Said {
    match answer {
        Answer::NotHere => Said::NotHere,
        Answer::Itself => Said::Itself,
        Answer::OwnNode => Said::OwnNode,
        Answer::NotIsolated => Said::NotIsolated,
        Answer::Decided { allowed, author } => {
            Said::Decided(allowed, wanted.policies.authors.get(&author).map(|name| Authorship::clone(name)))
        }
    }
}

fn expected(decision: &Decision, direction: verdict::Direction) -> Said {
    let author = |policy: &PolicyKey, rule: Option<usize>| {
        let rule = rule.map(|rule| u16::try_from(rule).unwrap());
        Some(Authorship { policy: policy.clone(), direction, rule })
    };
    match decision {
        Decision::NotSubject => Said::NotHere,
        Decision::NotIsolated => Said::NotIsolated,
        Decision::Itself => Said::Itself,
        Decision::OwnNode => Said::OwnNode,
        Decision::Admitted { policy, rule } => Said::Decided(true, author(policy, Some(*rule))),
        Decision::Isolated { by } => Said::Decided(false, author(by, None)),
        Decision::Unknown => panic!("the test asks about pods that are there"),
    }
}

fn is_here(inputs: &Inputs, end: &End) -> bool {
    matches!(end, End::Pod(key) if inputs.snapshot.pods[key].node.as_deref() == Some("n0"))
}

pub(crate) type Question = (IpAddr, IpAddr, Traffic);

/// What the yardstick says of every flow to or from this node's pods.
pub(crate) fn read(inputs: &Inputs) -> BTreeMap<String, (Question, [Said; 2])> {
    let parties = parties(inputs);
    let mut answers = BTreeMap::new();
    for (from, sender) in &parties {
        for (to, receiver) in parties.iter().filter(|(to, _)| to.is_ipv4() == from.is_ipv4()) {
            let sides = [is_here(inputs, sender), is_here(inputs, receiver)];
            if sides == [false; 2] {
                continue;
            }
            for traffic in traffic() {
                let family = verdict::Family::of(*from);
                let flow = Flow { from: sender.clone(), to: receiver.clone(), family, traffic };
                let verdict = verdict(&inputs.snapshot, &flow);
                let egress = expected(&verdict.egress, verdict::Direction::Egress);
                let ingress = expected(&verdict.ingress, verdict::Direction::Ingress);
                let said =
                    [if sides[0] { egress } else { Said::NotHere }, if sides[1] { ingress } else { Said::NotHere }];
                answers.insert(format!("{sender} {from} → {receiver} {to} {traffic}"), ((*from, *to, traffic), said));
            }
        }
    }
    answers
}

pub(crate) fn judge(inputs: &Inputs, wanted: &Wanted, (from, to, traffic): Question) -> [Said; 2] {
    let evaluator = Evaluator { wanted, cluster_networks: &inputs.settings.cluster_networks };
    evaluator.judge(&packet(from, to, traffic)).map(|answer| said(answer, wanted))
}

fn is_own(address: IpAddr) -> bool {
    ["192.168.9.1", "10.128.0.1"].contains(&address.to_string().as_str())
}

/// Every flow is judged as the yardstick does, with the same author.
fn assert_right(plan: &Plan, step: &str) -> BTreeMap<String, (Question, [Said; 2])> {
    let inputs = plan.inputs();
    let answers = read(inputs);
    for (name, (question, expected)) in &answers {
        let found = judge(inputs, plan.wanted(), *question);
        if is_own(question.1) {
            // This node's addresses share an identity: what is said of one of them only is said of none.
            assert!(found[0] == expected[0] || !found[0].allows() || expected[0].allows(), "{step}: {name}: {found:?}");
            continue;
        }
        assert_eq!(found, *expected, "{step}: {name}: {:#?}", inputs.snapshot.policies);
    }
    assert_eq!(plan.conditions().count(), 0);
    answers
}

impl Said {
    pub(crate) fn allows(&self) -> bool {
        !matches!(self, Self::Decided(false, _))
    }
}

/// Whether the pods of this node that a flow is between are known: others neither send nor receive.
pub(crate) fn are_there(wanted: &Wanted, (from, to, _): &Question, said: &[Said; 2]) -> bool {
    let is_there = |address: &IpAddr| {
        let v4 = Addr4::from_ip(*address).is_some_and(|address| wanted.v4.endpoints.contains_key(&address));
        v4 || Addr6::from_ip(*address).is_some_and(|address| wanted.v6.endpoints.contains_key(&address))
    };
    [(from, &said[0]), (to, &said[1])].into_iter().all(|(address, said)| *said == Said::NotHere || is_there(address))
}

/// On the way from one state to the next each side says what it said, or what it will say.
fn assert_steps(
    plan: &mut Plan,
    before: &BTreeMap<String, (Question, [Said; 2])>,
    after: &BTreeMap<String, (Question, [Said; 2])>,
    step: &str,
) {
    for wanted in plan.take_steps() {
        for (name, (question, said)) in after {
            let Some((_, earlier)) = before.get(name) else { continue };
            if is_own(question.1) || !are_there(&wanted, question, said) {
                continue;
            }
            for (found, (was, is)) in judge(plan.inputs(), &wanted, *question).iter().zip(earlier.iter().zip(said)) {
                let right = [was.allows(), is.allows()].contains(&found.allows());
                assert!(right, "{step}: {name} on the way: {found:?}, before {was:?}, after {is:?}");
            }
        }
    }
}

/// Every number that an entry uses means something.
fn assert_consistent(plan: &Plan) {
    let wanted = plan.wanted();
    let references = wanted.v4.endpoints.values().chain(wanted.v6.endpoints.values());
    let sets: BTreeSet<SetId> = references.flat_map(|endpoint| [endpoint.egress.id, endpoint.ingress.id]).collect();
    let peers =
        wanted.v4.peers.values().map(|peer| peer.identity).chain(wanted.v6.peers.values().map(|peer| peer.identity));
    let endpoints = wanted.v4.endpoints.values().chain(wanted.v6.endpoints.values()).map(|endpoint| endpoint.identity);
    let cidrs = wanted.policies.cidrs_v4.values().chain(wanted.policies.cidrs_v6.values()).copied();
    let known: BTreeSet<Identity> = peers.chain(endpoints).chain(cidrs).collect();
    for (key, rule) in &wanted.policies.rules {
        assert!(sets.contains(&key.set), "{key:?} is of a set that nobody has");
        assert!(
            key.peer == Identity::ANY || key.peer < Identity::FIRST || known.contains(&key.peer),
            "{key:?} is about nobody"
        );
        assert!(wanted.policies.authors.contains_key(&rule.author), "{key:?} has no author");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_compiled_is_what_the_policies_say(operations in prop::collection::vec(operation(), 1..24)) {
        let mut inputs = cluster();
        let mut plan = plan(inputs.clone());
        let mut before = assert_right(&plan, "at first");
        let mut numbers = plan.policies.seed();
        for (step, operation) in operations.into_iter().enumerate() {
            let step = format!("{step}: {operation:?}");
            generate::apply(&mut inputs, operation);
            plan.update(inputs.clone());
            let after = assert_right(&plan, &step);
            assert_consistent(&plan);
            assert_steps(&mut plan, &before, &after, &step);
            let next = plan.policies.seed();
            prop_assert!(next.next_set >= numbers.next_set && next.next_identity >= numbers.next_identity);
            (before, numbers) = (after, next);
        }
        // Made anew it says the same, and adopts what it finds.
        let seed = plan.policies.seed();
        let again = Plan::new(inputs, Indices::default(), seed);
        assert_right(&again, "made anew");
        assert_consistent(&again);
        let identities = |plan: &Plan| plan.wanted().v4.peers.values().map(|peer| peer.identity).collect::<Vec<_>>();
        prop_assert_eq!(identities(&again), identities(&plan), "what means the same keeps its number");
    }

    #[test]
    fn several_changes_at_once(changes in prop::collection::vec(prop::collection::vec(operation(), 1..6), 1..5)) {
        let mut inputs = cluster();
        let mut plan = plan(inputs.clone());
        for (step, operations) in changes.into_iter().enumerate() {
            let step = format!("{step}: {operations:?}");
            operations.into_iter().for_each(|operation| generate::apply(&mut inputs, operation));
            plan.update(inputs.clone());
            assert_right(&plan, &step);
            assert_consistent(&plan);
        }
    }
}

/// A sample in an ordinary run; `CULVERT_POLICY_CASES` asks for more.
fn cases() -> u32 {
    std::env::var("CULVERT_POLICY_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(32)
}

mod node;
mod policy;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use sdn_common::{Addr6, Author, Endpoint, Identity, Node, NodeState, Peer, Rule, RuleKey};

use super::kernel::{Change, Refused};
use super::*;
use crate::family::{Family, mapped};
use crate::plan::Indices;
use crate::plan::policy::{Authorship, Seed};
use crate::plan::testing::*;

// === A kernel that fails on demand ===

/// What the maps and hooks would hold, and the changes in their order.
#[derive(Clone, Debug, Default)]
struct Fake(Arc<Mutex<Model>>);

#[derive(Debug, Default)]
struct Model {
    log: Vec<Logged>,
    state: Option<NodeState>,
    nodes: BTreeMap<u32, Node>,
    tunnels: BTreeMap<Addr6, u32>,
    subnets: BTreeMap<String, u32>,
    endpoints: BTreeMap<IpAddr, Endpoint>,
    peers: BTreeMap<IpAddr, Peer>,
    authors: BTreeMap<Author, Arc<Authorship>>,
    rules: BTreeMap<RuleKey, Rule>,
    blocks: BTreeMap<String, Identity>,
    links: BTreeSet<(Hook, u32)>,
    /// Objects that are refused, as an error names them.
    refused: BTreeSet<String>,
    full: bool,
    no_grace: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Logged {
    Wrote(Box<Change>),
    Waited,
}

impl Kernel for Fake {
    fn write(&mut self, change: &Change) -> Result<(), Refused> {
        let mut model = self.0.lock().unwrap();
        if model.refused.contains(&change.to_string()) {
            return Err(Refused { cause: "refused by the test".to_owned(), full: model.full });
        }
        model.take(change.clone());
        model.log.push(Logged::Wrote(Box::new(change.clone())));
        Ok(())
    }

    fn grace_period(&mut self) -> impl Future<Output = Result<(), Refused>> + Send + 'static {
        let mut model = self.0.lock().unwrap();
        let outcome = if model.no_grace {
            Err(Refused { cause: "no grace".to_owned(), full: false })
        } else {
            model.log.push(Logged::Waited);
            Ok(())
        };
        std::future::ready(outcome)
    }
}

impl Model {
    fn take(&mut self, change: Change) {
        fn set<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
            match value {
                Some(value) => drop(map.insert(key, value)),
                None => drop(map.remove(&key)),
            }
        }
        match change {
            Change::State(state) => self.state = Some(state),
            Change::Node(index, node) => set(&mut self.nodes, index, node),
            Change::Tunnel(from, index) => set(&mut self.tunnels, from, index),
            Change::SubnetV4(subnet, index) => set(&mut self.subnets, subnet.to_string(), index),
            Change::SubnetV6(subnet, index) => set(&mut self.subnets, subnet.to_string(), index),
            Change::EndpointV4(address, endpoint) => set(&mut self.endpoints, address.ip(), endpoint),
            Change::EndpointV6(address, endpoint) => set(&mut self.endpoints, address.ip(), endpoint),
            Change::PeerV4(address, peer) => set(&mut self.peers, address.ip(), peer),
            Change::PeerV6(address, peer) => set(&mut self.peers, address.ip(), peer),
            Change::Author(author, name) => set(&mut self.authors, author, name),
            Change::Rule(key, rule) => set(&mut self.rules, key, rule),
            Change::BlockV4(block, identity) => set(&mut self.blocks, block.to_string(), identity),
            Change::BlockV6(block, identity) => set(&mut self.blocks, block.to_string(), identity),
            Change::Link(link, Some(_)) => {
                assert!(self.state.is_some(), "a program without its settings drops everything");
                self.links.insert(link);
            }
            Change::Link(link, None) => drop(self.links.remove(&link)),
        }
    }

    fn refers_to(&self, index: u32) -> bool {
        let tunnels = self.tunnels.values().copied();
        let subnets = self.subnets.values().copied();
        tunnels.chain(subnets).chain(self.peers.values().map(|peer| peer.node)).any(|held| held == index)
    }

    /// Whether it holds what is wanted, and nothing else.
    fn agrees(&self, wanted: &crate::plan::Wanted) -> Result<(), String> {
        fn same<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
            what: &str,
            found: &BTreeMap<K, V>,
            wanted: BTreeMap<K, V>,
        ) -> Result<(), String> {
            if *found == wanted { Ok(()) } else { Err(format!("{what}: {found:?} instead of {wanted:?}")) }
        }
        let own = |(key, value): (&u32, &Node)| (*key, *value);
        same("nodes", &self.nodes, wanted.nodes.iter().map(own).collect())?;
        same("tunnels", &self.tunnels, wanted.tunnels.iter().map(|(from, node)| (*from, *node)).collect())?;
        let subnets = wanted.v4.subnets.iter().map(|(net, node)| (net.to_string(), *node));
        let subnets = subnets.chain(wanted.v6.subnets.iter().map(|(net, node)| (net.to_string(), *node)));
        same("subnets", &self.subnets, subnets.collect())?;
        let endpoints = wanted.v4.endpoints.iter().map(|(address, endpoint)| (address.ip(), *endpoint));
        let endpoints =
            endpoints.chain(wanted.v6.endpoints.iter().map(|(address, endpoint)| (address.ip(), *endpoint)));
        same("endpoints", &self.endpoints, endpoints.collect())?;
        let peers = wanted.v4.peers.iter().map(|(address, peer)| (address.ip(), *peer));
        let peers = peers.chain(wanted.v6.peers.iter().map(|(address, peer)| (address.ip(), *peer)));
        same("peers", &self.peers, peers.collect())?;
        let policies = &wanted.policies;
        same(
            "authors",
            &self.authors,
            policies.authors.iter().map(|(author, name)| (*author, name.clone())).collect(),
        )?;
        same("rules", &self.rules, policies.rules.iter().map(|(key, rule)| (*key, *rule)).collect())?;
        let blocks = policies.cidrs_v4.iter().map(|(block, identity)| (block.to_string(), *identity));
        let blocks = blocks.chain(policies.cidrs_v6.iter().map(|(block, identity)| (block.to_string(), *identity)));
        same("blocks", &self.blocks, blocks.collect())?;
        let links: BTreeSet<_> = wanted.links.keys().copied().collect();
        if self.links != links {
            return Err(format!("links: {:?} instead of {links:?}", self.links));
        }
        let state = self.state.map(|state| NodeState { epoch: 0, ..state });
        if state != wanted.state { Err(format!("state: {state:?} instead of {:?}", wanted.state)) } else { Ok(()) }
    }
}

/// A plan, what it was applied to, and how far the clock has gone.
struct Bench {
    fake: Fake,
    actual: Actual,
    plan: Plan,
    now: Instant,
}

impl Bench {
    fn new(inputs: Inputs) -> Self {
        let plan = Plan::new(inputs, Indices::default(), Seed::default());
        Self { fake: Fake::default(), actual: Actual::empty(), plan, now: Instant::now() }
    }

    async fn pass(&mut self) -> Vec<Logged> {
        self.fake.0.lock().unwrap().log.clear();
        let reserved: BTreeSet<u32> = self.plan.reserved().collect();
        self.actual.converge(&mut self.plan, &mut self.fake, self.now).await;
        let still: BTreeSet<u32> = self.plan.reserved().collect();
        let model = self.fake.0.lock().unwrap();
        for index in reserved.difference(&still) {
            assert!(!model.refers_to(*index), "number {index} is free while it is referred to");
            assert!(!model.nodes.contains_key(index), "number {index} is free while it is in use");
        }
        if still.len() < reserved.len() {
            let waited = model.log.iter().rposition(|logged| *logged == Logged::Waited).expect("a grace period");
            let after = &model.log[waited..];
            let is_node = |logged: &Logged| match logged {
                Logged::Waited => true,
                Logged::Wrote(change) => matches!(**change, Change::Node(..)),
            };
            assert!(after.iter().all(is_node), "flows look again before a number is free: {after:?}");
        }
        model.log.clone()
    }

    async fn change(&mut self, change: impl FnOnce(Inputs) -> Inputs) -> Vec<Logged> {
        self.plan.update(change(self.plan.inputs().clone()));
        self.pass().await
    }

    fn refuse(&self, objects: &[&str]) {
        self.fake.0.lock().unwrap().refused = objects.iter().map(|object| (*object).to_owned()).collect();
    }

    fn epoch(&self) -> u32 {
        self.fake.0.lock().unwrap().state.unwrap().epoch
    }

    fn failures(&self) -> Vec<(String, u32)> {
        self.actual.failures().into_iter().map(|failing| (failing.object, failing.attempts)).collect()
    }

    fn assert_agrees(&self) {
        self.fake.0.lock().unwrap().agrees(self.plan.wanted()).unwrap();
    }
}

/// Names of what was changed, in order.
fn names(log: &[Logged]) -> Vec<String> {
    let name = |logged: &Logged| match logged {
        Logged::Waited => "grace period".to_owned(),
        Logged::Wrote(change) => match &**change {
            Change::State(state) => format!("epoch {}", state.epoch),
            change if is_removal(change) => format!("no {change}"),
            change => change.to_string(),
        },
    };
    log.iter().map(name).collect()
}

fn is_removal(change: &Change) -> bool {
    match change {
        Change::State(_) => false,
        Change::Node(_, value) => value.is_none(),
        Change::Tunnel(_, value) | Change::SubnetV4(_, value) | Change::SubnetV6(_, value) => value.is_none(),
        Change::EndpointV4(_, value) => value.is_none(),
        Change::EndpointV6(_, value) => value.is_none(),
        Change::PeerV4(_, value) => value.is_none(),
        Change::PeerV6(_, value) => value.is_none(),
        Change::Author(_, value) => value.is_none(),
        Change::Rule(_, value) => value.is_none(),
        Change::BlockV4(_, value) => value.is_none(),
        Change::BlockV6(_, value) => value.is_none(),
        Change::Link(_, value) => value.is_none(),
    }
}

fn two_nodes() -> Inputs {
    inputs().with_node(node("n0", &["192.168.9.1"], &["10.128.0.0/23"])).with_node(node(
        "n1",
        &["192.168.9.2"],
        &["10.128.2.0/23"],
    ))
}

// === Order ===

#[tokio::test]
async fn what_is_referred_to_comes_first() {
    let mut bench = Bench::new(two_nodes().with_local(local("near", 17, &["10.128.0.2"])));
    let expected = [
        "node number 0",
        "node number 1",
        "tunnel from 192.168.9.2",
        "host subnet 10.128.0.0/23",
        "host subnet 10.128.2.0/23",
        "peer 10.128.0.1",
        "peer 10.128.2.1",
        "peer 192.168.9.1",
        "peer 192.168.9.2",
        "endpoint 10.128.0.2",
        "epoch 1",
        "program pod_out on cv17",
        "program overlay_in on culvert0",
        "program host_out on culvert0",
        "program uplink_in on eth0",
    ];
    assert_eq!(names(&bench.pass().await), expected);
    assert_eq!(bench.pass().await, [], "nothing differs any more");
    bench.assert_agrees();
}

#[tokio::test]
async fn a_node_goes_after_what_refers_to_it() {
    let mut bench = Bench::new(two_nodes().with_pod(pod("far", "n1", &["10.128.2.2"])));
    bench.pass().await;
    let log = bench
        .change(|mut inputs| {
            inputs.snapshot.nodes.remove("n1");
            inputs.snapshot.pods.clear();
            inputs
        })
        .await;
    let expected = [
        // The node does not stand in for this one's resolver any more.
        "epoch 2",
        "no peer 10.128.2.1",
        "no peer 10.128.2.2",
        "no peer 192.168.9.2",
        "no host subnet 10.128.2.0/23",
        "no tunnel from 192.168.9.2",
        "epoch 3",
        "grace period",
        "no node number 1",
    ];
    assert_eq!(names(&log), expected);
    assert_eq!(bench.plan.reserved().count(), 0, "its number is free");
}

#[tokio::test]
async fn a_nodes_number_is_kept_while_anything_refers_to_it() {
    let mut bench = Bench::new(two_nodes());
    bench.pass().await;
    bench.refuse(&["peer 192.168.9.2"]);
    let without = |mut inputs: Inputs| {
        inputs.snapshot.nodes.remove("n1");
        inputs
    };
    let log = names(&bench.change(without).await);
    assert!(!log.contains(&"no node number 1".to_owned()) && !log.contains(&"grace period".to_owned()), "{log:?}");
    let with = |inputs: Inputs| inputs.with_node(node("n2", &["192.168.9.3"], &[]));
    bench.change(with).await;
    assert_eq!(bench.plan.wanted().tunnels.get(&mapped(ip("192.168.9.3"))), Some(&2), "1 is not given again");
    bench.refuse(&[]);
    bench.now += Duration::from_secs(60);
    let log = names(&bench.pass().await);
    assert_eq!(log, ["no peer 192.168.9.2", "epoch 5", "grace period", "no node number 1"]);
}

#[tokio::test]
async fn without_a_grace_period_numbers_stay() {
    let mut bench = Bench::new(two_nodes());
    bench.pass().await;
    bench.fake.0.lock().unwrap().no_grace = true;
    bench
        .change(|mut inputs| {
            inputs.snapshot.nodes.remove("n1");
            inputs
        })
        .await;
    assert_eq!(bench.plan.reserved().collect::<Vec<_>>(), [1]);
    assert_eq!(bench.failures().len(), 1);
    bench.fake.0.lock().unwrap().no_grace = false;
    assert_eq!(bench.pass().await, [], "not before its time");
    bench.now += Duration::from_secs(60);
    assert_eq!(names(&bench.pass().await), ["grace period", "no node number 1"]);
    assert_eq!((bench.failures(), bench.plan.reserved().count()), (vec![], 0));
}

#[tokio::test]
async fn the_uplink_moves_without_a_gap() {
    let mut bench = Bench::new(two_nodes());
    bench.pass().await;
    let log = bench
        .change(|mut inputs| {
            let moved = Uplink { name: "eth1".to_owned(), ifindex: 9, ..(*inputs.uplink).clone() };
            inputs.uplink = Arc::new(moved);
            inputs
        })
        .await;
    assert_eq!(names(&log), ["epoch 2", "program uplink_in on eth1", "no program uplink_in on interface 2"]);
}

// === The epoch ===

#[tokio::test]
async fn the_epoch_moves_when_something_known_changes() {
    let mut bench = Bench::new(two_nodes().with_pod(pod("far", "n1", &["10.128.2.2"])));
    bench.pass().await;
    assert_eq!(bench.epoch(), 1);
    let log = bench.change(|inputs| inputs.with_pod(pod("new", "n1", &["10.128.2.3"]))).await;
    assert_eq!(names(&log), ["peer 10.128.2.3"], "nobody knew anything about it");
    let reborn = sdn_cluster::model::Pod { uid: "other".into(), ..pod("far", "n1", &["10.128.2.2"]) };
    let log = bench.change(|inputs| inputs.with_pod(reborn)).await;
    assert_eq!(names(&log), ["peer 10.128.2.2", "epoch 2"]);
    let log = bench
        .change(|mut inputs| {
            inputs.snapshot.pods.clear();
            inputs
        })
        .await;
    assert_eq!(names(&log), ["no peer 10.128.2.2", "no peer 10.128.2.3", "epoch 3"], "once for all of them");
    let log = bench.change(|inputs| inputs.with_local(local("near", 17, &["10.128.0.2"]))).await;
    assert_eq!(names(&log), ["endpoint 10.128.0.2", "program pod_out on cv17"]);
    let log = bench
        .change(|mut inputs| {
            inputs.pods.clear();
            inputs
        })
        .await;
    assert_eq!(names(&log), ["no endpoint 10.128.0.2", "epoch 4", "no program pod_out on interface 17"]);
    let log = bench
        .change(|mut inputs| {
            Arc::make_mut(&mut inputs.settings).metadata = true;
            inputs
        })
        .await;
    assert_eq!(names(&log), ["epoch 5"]);
    assert_eq!(bench.actual.epoch(), 5);
}

#[tokio::test]
async fn an_epoch_that_was_refused_is_still_owed() {
    let mut bench = Bench::new(two_nodes().with_pod(pod("far", "n1", &["10.128.2.2"])));
    bench.pass().await;
    bench.refuse(&["settings of this node"]);
    bench
        .change(|mut inputs| {
            inputs.snapshot.pods.clear();
            inputs
        })
        .await;
    assert_eq!((bench.epoch(), bench.failures()), (1, vec![("settings of this node".to_owned(), 1)]));
    bench.refuse(&[]);
    assert_eq!(bench.pass().await, []);
    bench.now += Duration::from_secs(1);
    assert_eq!(names(&bench.pass().await), ["epoch 2"]);
    assert_eq!(bench.failures(), []);
}

// === Failures ===

#[tokio::test]
async fn what_is_refused_stops_nothing_else_and_is_tried_again() {
    let mut bench = Bench::new(two_nodes().with_pod(pod("far", "n1", &["10.128.2.2"])));
    bench.refuse(&["peer 10.128.2.2", "program uplink_in on eth0"]);
    let log = names(&bench.pass().await);
    assert!(log.contains(&"peer 192.168.9.2".to_owned()) && log.contains(&"program host_out on culvert0".to_owned()));
    let failing =
        |attempts| vec![("peer 10.128.2.2".to_owned(), attempts), ("program uplink_in on eth0".to_owned(), attempts)];
    assert_eq!(bench.failures(), failing(1));
    let due = bench.actual.due().unwrap();
    assert!(due > bench.now, "not at once");
    bench.pass().await;
    assert_eq!(bench.failures(), failing(1), "not before its time");
    // Each wait is twice as long as the one before, up to a limit.
    let mut waits = Vec::new();
    for attempts in 2..14 {
        let due = bench.actual.due().unwrap();
        waits.push(due - bench.now);
        bench.now = due;
        bench.pass().await;
        assert_eq!(bench.failures(), failing(attempts));
    }
    assert!(
        waits.is_sorted() && waits[0] < Duration::from_secs(1) && waits[11] == Duration::from_secs(30),
        "{waits:?}"
    );
    bench.refuse(&[]);
    bench.now = bench.actual.due().unwrap();
    assert_eq!(names(&bench.pass().await), ["peer 10.128.2.2", "program uplink_in on eth0"]);
    assert_eq!((bench.failures(), bench.actual.due()), (vec![], None));
    bench.assert_agrees();
}

#[tokio::test]
async fn another_wish_is_tried_at_once_and_a_dropped_one_never() {
    let mut bench = Bench::new(two_nodes().with_pod(pod("far", "n1", &["10.128.2.2"])));
    bench.refuse(&["peer 10.128.2.2"]);
    bench.pass().await;
    let reborn = sdn_cluster::model::Pod { uid: "other".into(), ..pod("far", "n1", &["10.128.2.2"]) };
    bench.change(|inputs| inputs.with_pod(reborn)).await;
    assert_eq!(bench.failures(), [("peer 10.128.2.2".to_owned(), 1)], "tried for the new wish");
    bench
        .change(|mut inputs| {
            inputs.snapshot.pods.clear();
            inputs
        })
        .await;
    assert_eq!((bench.failures(), bench.actual.due()), (vec![], None));
}

#[tokio::test]
async fn room_in_a_full_map_is_used_at_once() {
    let mut bench =
        Bench::new(two_nodes().with_pod(pod("a", "n1", &["10.128.2.2"])).with_pod(pod("b", "n1", &["10.128.2.3"])));
    bench.refuse(&["peer 10.128.2.3"]);
    bench.fake.0.lock().unwrap().full = true;
    bench.pass().await;
    bench.refuse(&[]);
    bench
        .change(|mut inputs| {
            inputs.snapshot.pods.remove(&sdn_cluster::model::PodKey::new("shop", "a"));
            inputs
        })
        .await;
    assert_eq!(bench.actual.due(), Some(bench.now));
    assert_eq!(names(&bench.pass().await), ["peer 10.128.2.3"]);
}

// === Before the cluster is known ===

#[tokio::test]
async fn nothing_is_removed_before_the_cluster_is_known() {
    let mut before = Bench::new(two_nodes().with_pod(pod("far", "n1", &["10.128.2.2"])).with_local(local(
        "near",
        17,
        &["10.128.0.2"],
    )));
    before.pass().await;
    let held = before.fake.0.lock().unwrap().peers.clone();
    // The agent starts again: it has its leases, and a snapshot that is not complete.
    let mut inputs = inputs().with_local(local("near", 17, &["10.128.0.2"]));
    inputs.snapshot.synced = false;
    before.plan = Plan::new(inputs, before.actual.indices(), Seed::default());
    assert_eq!(before.pass().await, []);
    assert_eq!(before.fake.0.lock().unwrap().peers, held);
    // Pods of this node are known from the leases, so they may go.
    let log = before
        .change(|mut inputs| {
            inputs.pods.clear();
            inputs
        })
        .await;
    assert_eq!(names(&log), ["no endpoint 10.128.0.2", "epoch 2", "no program pod_out on interface 17"]);
    // Complete: what is absent is gone.
    let log = before
        .change(|mut inputs| {
            inputs.snapshot = two_nodes().snapshot;
            inputs
        })
        .await;
    assert_eq!(names(&log), ["no peer 10.128.2.2", "epoch 3"]);
    before.assert_agrees();
}

#[tokio::test]
async fn before_the_cluster_is_known_the_kernel_knows_better() {
    let mut bench = Bench::new(two_nodes().with_pod(pod("far", "n1", &["10.128.2.2"])));
    bench.pass().await;
    let held = bench.fake.0.lock().unwrap().peers[&ip("10.128.2.2")];
    // The snapshot on disk is older: it has another pod under that address, and one that is not known yet.
    let earlier = sdn_cluster::model::Pod { uid: "earlier".into(), ..pod("far", "n1", &["10.128.2.2"]) };
    let mut inputs = two_nodes().with_pod(earlier).with_pod(pod("more", "n1", &["10.128.2.3"]));
    inputs.snapshot.synced = false;
    bench.plan = Plan::new(inputs, bench.actual.indices(), Seed::default());
    let log = bench.pass().await;
    assert_eq!(names(&log), ["peer 10.128.2.3"]);
    assert_eq!(bench.fake.0.lock().unwrap().peers[&ip("10.128.2.2")], held);
    let log = bench
        .change(|mut inputs| {
            inputs.snapshot.synced = true;
            inputs
        })
        .await;
    assert_eq!(names(&log), ["peer 10.128.2.2", "epoch 2"]);
    bench.assert_agrees();
}

#[tokio::test]
async fn links_that_are_doubted_are_put_again() {
    let mut bench = Bench::new(two_nodes().with_local(local("near", 17, &["10.128.0.2"])));
    bench.pass().await;
    bench.fake.0.lock().unwrap().links.clear();
    bench.actual.links.doubt_all();
    let expected = [
        "program pod_out on cv17",
        "program overlay_in on culvert0",
        "program host_out on culvert0",
        "program uplink_in on eth0",
    ];
    assert_eq!(names(&bench.pass().await), expected);
    // One that could not be removed is not forgotten.
    bench.refuse(&["program pod_out on interface 17"]);
    bench
        .change(|mut inputs| {
            inputs.pods.clear();
            inputs
        })
        .await;
    bench.actual.links.doubt_all();
    bench.refuse(&[]);
    bench.now += Duration::from_secs(1);
    assert!(names(&bench.pass().await).contains(&"no program pod_out on interface 17".to_owned()));
    bench.assert_agrees();
}

// === Pods ===

fn sources(inputs: &Inputs) -> (Sources, watch::Sender<Snapshot>) {
    let (snapshots, snapshot) = watch::channel(inputs.snapshot.clone());
    let (_, uplink) = watch::channel((*inputs.uplink).clone());
    let (_, vxlan) = watch::channel(inputs.vxlan.clone());
    (Sources { snapshots: snapshot, uplink, vxlan }, snapshots)
}

fn task(inputs: &Inputs) -> (Task<Fake>, Fake, Names, watch::Sender<Snapshot>) {
    let (sources, snapshots) = sources(inputs);
    let (fake, names) = (Fake::default(), Names::default());
    let settings = (*inputs.settings).clone();
    let clock = Clock::showing(1000, 250);
    let pods = inputs.pods.values().cloned().collect();
    let task = Task::new(fake.clone(), Actual::empty(), sources, settings, clock, pods, names.clone());
    (task, fake, names, snapshots)
}

#[tokio::test]
async fn a_pod_is_attached_when_the_kernel_has_it() {
    let (mut task, fake, names, _snapshots) = task(&two_nodes());
    task.pass(Instant::now()).await;
    let pod = Arc::new(local("near", 17, &["10.128.0.2", "fd01::2"]));
    task.attach(pod.clone()).await.unwrap();
    {
        let model = fake.0.lock().unwrap();
        assert_eq!(model.endpoints.keys().copied().collect::<Vec<_>>(), [ip("10.128.0.2"), ip("fd01::2")]);
        assert!(model.links.contains(&(Hook::PodOut, 17)));
    }
    assert_eq!(names.resolve(17), "shop/near");
    // Again, as after a restart of the runtime's call: the link is looked at once more, nothing else is written.
    fake.0.lock().unwrap().log.clear();
    task.attach(pod.clone()).await.unwrap();
    assert_eq!(super::tests::names(&fake.0.lock().unwrap().log), ["program pod_out on cv17"]);
    task.detach(&pod).await.unwrap();
    task.detach(&pod).await.unwrap();
    let model = fake.0.lock().unwrap();
    assert!(model.endpoints.is_empty() && !model.links.contains(&(Hook::PodOut, 17)));
    assert_eq!(names.resolve(17), "shop/near", "its drops are still its own");
    assert!(!names.is_present(17));
}

#[tokio::test]
async fn a_pod_that_cannot_be_attached_leaves_nothing() {
    let (mut task, fake, names, snapshots) = task(&{
        let mut inputs = inputs();
        inputs.snapshot.synced = false;
        inputs
    });
    task.pass(Instant::now()).await;
    let pod = Arc::new(local("near", 17, &["10.128.0.2"]));
    let error = task.attach(pod.clone()).await.unwrap_err();
    assert!(error.transient && error.to_string().contains("not been read yet"), "{error}");
    snapshots.send_replace(two_nodes().snapshot);
    for object in ["program pod_out on cv17", "endpoint 10.128.0.2"] {
        fake.0.lock().unwrap().refused = BTreeSet::from([object.to_owned()]);
        let error = task.attach(pod.clone()).await.unwrap_err();
        assert_eq!(error.to_string(), format!("attach of {object}: refused by the test"));
        let model = fake.0.lock().unwrap();
        assert!(model.endpoints.is_empty() && !model.links.contains(&(Hook::PodOut, 17)), "{object}");
        assert!(!names.is_present(17) && task.actual.failures().is_empty(), "{object}");
    }
    fake.0.lock().unwrap().refused.clear();
    let thief = Arc::new(local("thief", 18, &["10.128.0.1"]));
    let error = task.attach(thief).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "attach of pod shop/thief with 10.128.0.1: its address 10.128.0.1 is that of this node"
    );
    assert!(!error.transient);
    task.attach(pod).await.unwrap();
}

#[tokio::test]
async fn the_loop_follows_what_it_watches_and_ends_with_its_handles() {
    let (task, fake, _, snapshots) = task(&two_nodes());
    let mut applied = task.applied.subscribe();
    let (commands, queue) = mpsc::channel(1);
    let running = tokio::spawn(task.run(queue));
    applied.wait_for(|applied| applied.synced && applied.forwarding).await.unwrap();
    let mut snapshot = two_nodes().with_pod(pod("far", "n1", &["10.128.2.2"])).snapshot;
    snapshot.generation = 7;
    fake.0.lock().unwrap().refused.insert("peer 10.128.2.2".to_owned());
    snapshots.send_replace(snapshot);
    let failing = applied.wait_for(|applied| applied.generation == 7).await.unwrap().failures.clone();
    assert_eq!(failing[0].object, "peer 10.128.2.2");
    // It is tried again by itself.
    fake.0.lock().unwrap().refused.clear();
    let healed = applied.wait_for(|applied| applied.generation == 7 && applied.failures.is_empty());
    tokio::time::timeout(Duration::from_secs(10), healed).await.unwrap().unwrap();
    assert_eq!(applied.borrow().entries.peers, [5, 0]);
    // The source may end without the loop: pods still come and go.
    drop(snapshots);
    let (reply, answer) = oneshot::channel();
    commands.send(Command::Attach(Arc::new(local("near", 17, &["10.128.0.2"])), reply)).await.unwrap();
    answer.await.unwrap().unwrap();
    drop(commands);
    tokio::time::timeout(Duration::from_secs(10), running).await.unwrap().unwrap();
}

// === Properties ===

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever changes and whatever is refused in between: a node's number is not free while anything refers to it (each pass
    /// asserts that), and when nothing is refused any more, the kernel holds what is wanted.
    #[test]
    fn the_kernel_ends_up_as_wanted(
        operations in prop::collection::vec((operation(), prop::collection::vec(0..12_usize, 0..3)), 1..40)
    ) {
        let objects = [
            "node number 1", "node number 2", "tunnel from 192.168.9.2", "tunnel from 192.168.9.3",
            "host subnet 10.128.2.0/23", "host subnet fd01:0:0:1::/64", "peer 10.128.2.1", "peer 192.168.9.3",
            "endpoint 10.128.2.1", "settings of this node", "program pod_out on cv11", "peer 10.128.4.2",
        ];
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut bench = Bench::new(three_nodes());
            let mut inputs = bench.plan.inputs().clone();
            bench.pass().await;
            for (operation, refused) in operations {
                bench.refuse(&refused.into_iter().map(|number| objects[number]).collect::<Vec<_>>());
                apply_operation(&mut inputs, operation);
                bench.change(|_| inputs.clone()).await;
                bench.now += Duration::from_millis(100);
            }
            bench.refuse(&[]);
            bench.now += Duration::from_secs(3600);
            inputs.snapshot.synced = true;
            bench.change(|_| inputs.clone()).await;
            // What waited for a refused removal goes with the pass after it.
            bench.pass().await;
            prop_assert_eq!(bench.failures(), vec![]);
            let agrees = bench.fake.0.lock().unwrap().agrees(bench.plan.wanted());
            prop_assert!(agrees.is_ok(), "{}", agrees.unwrap_err());
            prop_assert_eq!(bench.plan.reserved().count(), 0);
            prop_assert_eq!(bench.pass().await, vec![], "and then nothing is left to do");
            Ok(())
        })?;
    }
}

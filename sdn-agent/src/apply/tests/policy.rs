//! Policies reach the kernel entry by entry, and between any two writes each pod's side says what it said or what it will say.

use super::*;
use crate::family::Cidr;
use crate::plan::policy::tests::{are_there, generate, judge, read};
use crate::plan::{Addresses, Wanted};

impl Bench {
    /// What the loop does when the grace period is over.
    async fn collect(&mut self) {
        if self.actual.begin_collecting() {
            let waited = self.fake.grace_period().await;
            match waited {
                Ok(()) => drop(self.actual.collect(&self.plan, &mut self.fake, self.now).await),
                Err(_) => self.actual.spare(),
            }
        }
    }

    fn rules(&self) -> usize {
        self.fake.0.lock().unwrap().rules.len()
    }
}

/// What the kernel holds after each of these writes.
fn replay(start: &Wanted, log: &[Logged]) -> Vec<Wanted> {
    let mut held = start.clone();
    let mut states = Vec::new();
    for logged in log {
        if let Logged::Wrote(change) = logged {
            write(&mut held, change);
            states.push(held.clone());
        }
    }
    states
}

fn write(held: &mut Wanted, change: &Change) {
    fn set<K: Ord + Clone, V: Clone>(map: &mut OrdMap<K, V>, key: &K, value: &Option<V>) {
        match value {
            Some(value) => drop(map.insert(key.clone(), value.clone())),
            None => drop(map.remove(key)),
        }
    }
    match change {
        Change::EndpointV4(address, endpoint) => set(&mut held.v4.endpoints, address, endpoint),
        Change::EndpointV6(address, endpoint) => set(&mut held.v6.endpoints, address, endpoint),
        Change::PeerV4(address, peer) => set(&mut held.v4.peers, address, peer),
        Change::PeerV6(address, peer) => set(&mut held.v6.peers, address, peer),
        Change::Author(author, name) => set(&mut held.policies.authors, author, name),
        Change::Rule(key, rule) => set(&mut held.policies.rules, key, rule),
        Change::BlockV4(block, identity) => set(&mut held.policies.cidrs_v4, block, identity),
        Change::BlockV6(block, identity) => set(&mut held.policies.cidrs_v6, block, identity),
        _ => {}
    }
}

/// An edit of which two sets and one pod's labels are part.
async fn edited() -> (Bench, Vec<Logged>) {
    let mut inputs = generate::cluster();
    let policy = |name, text: &str| {
        let json = format!(r#"{{"metadata": {{"namespace": "x", "name": "{name}"}}, "spec": {text}}}"#);
        match sdn_cluster::model::Object::parse(sdn_cluster::model::Kind::NetworkPolicy, &json, "").unwrap() {
            sdn_cluster::model::Object::NetworkPolicy(policy) => (policy.key(), policy),
            _ => unreachable!("a policy was asked for"),
        }
    };
    let insert = |inputs: &mut Inputs, text| {
        let (key, policy) = policy("one", text);
        inputs.snapshot.policies.insert(key, policy);
    };
    insert(
        &mut inputs,
        r#"{"podSelector": {}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"a": "1"}}}]}]}"#,
    );
    let mut bench = Bench::new(inputs.clone());
    let log = names(&bench.pass().await);
    let first = |what: &str| log.iter().position(|name| name.starts_with(what)).expect(what);
    assert!(first("author") < first("rule") && first("rule") < first("peer") && first("peer") < first("endpoint"));
    bench.collect().await;
    insert(&mut inputs, r#"{"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.128.0.0/14"}}]}]}"#);
    let log = bench.change(|_| inputs).await;
    (bench, log)
}

#[tokio::test]
async fn who_is_who_comes_before_sets_and_old_sets_go_after_a_grace_period() {
    let (mut bench, log) = edited().await;
    let names = names(&log);
    let first = |what: &str| {
        names.iter().position(|name| name.starts_with(what)).unwrap_or_else(|| panic!("{what}: {names:?}"))
    };
    let last = |what: &str| names.iter().rposition(|name| name.starts_with(what)).unwrap();
    let epochs: Vec<usize> = (0..names.len()).filter(|index| names[*index].starts_with("epoch")).collect();
    assert!(first("block") < epochs[0] && first("peer") < epochs[0], "{names:?}");
    // Endpoints are written with their new identities, flows look again, then the sets are flipped.
    assert!(first("endpoint") < epochs[0] && last("endpoint") > epochs[0], "{names:?}");
    assert!(
        !names.iter().any(|name| name.starts_with("no rule")),
        "running programs may be in the middle of them: {names:?}"
    );
    assert!(bench.fake.0.lock().unwrap().agrees(bench.plan.wanted()).is_err(), "the old set is still there");
    let before = bench.rules();
    bench.fake.0.lock().unwrap().log.clear();
    bench.collect().await;
    let log = self::names(&bench.fake.0.lock().unwrap().log);
    assert_eq!(log.first().map(String::as_str), Some("grace period"));
    assert!(log.len() > 1 && log[1..].iter().all(|name| name.starts_with("no rule")), "{log:?}");
    assert!(bench.rules() < before);
    bench.assert_agrees();
    assert!(!bench.actual.begin_collecting(), "nothing is left");
}

#[tokio::test]
async fn what_an_endpoint_could_still_refer_to_is_not_collected() {
    let (mut bench, _) = edited().await;
    bench.collect().await;
    let objects = ["endpoint 10.128.0.2", "endpoint 10.128.0.4", "endpoint 10.128.0.6"];
    bench.refuse(&objects);
    let before = bench.rules();
    bench
        .change(|mut inputs| {
            inputs.snapshot.policies.clear();
            inputs
        })
        .await;
    assert_eq!(bench.failures().len(), objects.len());
    assert!(!bench.actual.begin_collecting());
    assert_eq!(bench.rules(), before);
    bench.refuse(&[]);
    bench.now += std::time::Duration::from_secs(60);
    bench.pass().await;
    bench.collect().await;
    assert_eq!(bench.rules(), 0);
}

#[tokio::test]
async fn without_a_grace_period_old_sets_stay() {
    let (mut bench, _) = edited().await;
    let before = bench.rules();
    bench.fake.0.lock().unwrap().no_grace = true;
    bench.collect().await;
    assert_eq!(bench.rules(), before);
    bench.fake.0.lock().unwrap().no_grace = false;
    bench.pass().await;
    bench.collect().await;
    bench.assert_agrees();
}

#[tokio::test]
async fn a_new_agent_numbers_on_and_keeps_identities() {
    let (mut bench, _) = edited().await;
    bench.collect().await;
    let (peers, sets) = {
        let model = bench.fake.0.lock().unwrap();
        (model.peers.clone(), model.rules.keys().map(|key| key.set).max().unwrap())
    };
    let seed = bench.actual.seed();
    assert!(seed.next_set > sets);
    bench.plan = Plan::new(bench.plan.inputs().clone(), bench.actual.indices(), seed);
    let log = names(&bench.pass().await);
    assert_eq!(bench.fake.0.lock().unwrap().peers, peers);
    assert!(
        !log.iter().any(|name| name.starts_with("epoch") || name.starts_with("author")),
        "flows go on as they are: {log:?}"
    );
    bench.collect().await;
    bench.assert_agrees();
    assert!(bench.fake.0.lock().unwrap().rules.keys().all(|key| key.set > sets), "a number is a generation");
}

#[tokio::test]
async fn before_the_policies_are_known_pods_keep_what_filters_them() {
    let (mut bench, _) = edited().await;
    bench.collect().await;
    let (held, peers) = {
        let model = bench.fake.0.lock().unwrap();
        (model.endpoints.clone(), model.peers.clone())
    };
    let mut inputs = bench.plan.inputs().clone();
    let known = std::mem::take(&mut inputs.snapshot);
    inputs.snapshot.synced = false;
    // What was saved is older, and incomplete: this node, and nothing else.
    inputs.snapshot.nodes.extend(known.nodes.iter().take(1).map(|(name, node)| (name.clone(), node.clone())));
    let fresh = local("fresh", 77, &["10.128.0.77"]);
    inputs = inputs.with_local(fresh);
    bench.plan = Plan::new(inputs.clone(), bench.actual.indices(), bench.actual.seed());
    bench.pass().await;
    let endpoints = bench.fake.0.lock().unwrap().endpoints.clone();
    let fresh = endpoints[&ip("10.128.0.77")];
    assert!(held.iter().all(|(address, endpoint)| endpoints[address] == *endpoint));
    assert!(fresh.ingress.id.0 > 0 && fresh.egress.id.0 > 0, "a pod of which nothing is known is closed: {fresh:?}");
    // Known again, the same as ever: no pod is without its rights for a moment, nor is anybody somebody else.
    inputs.snapshot = known;
    let log = bench.change(|_| inputs).await;
    let mut sets = BTreeMap::<IpAddr, usize>::new();
    for logged in &log {
        match logged {
            Logged::Wrote(change) => match &**change {
                Change::EndpointV4(address, _) => *sets.entry(address.ip()).or_default() += 1,
                Change::EndpointV6(address, _) => *sets.entry(address.ip()).or_default() += 1,
                _ => {}
            },
            Logged::Waited => {}
        }
    }
    assert!(sets.values().all(|writes| *writes == 1), "from the old set to the new one: {:?}", names(&log));
    assert_eq!(bench.fake.0.lock().unwrap().peers, peers);
    bench.collect().await;
    bench.assert_agrees();
}

/// Everything that the kernel is asked about policies.
fn held(wanted: &Wanted) -> Wanted {
    fn addresses<A: Ord + Copy>(from: &Addresses<A>) -> Addresses<A>
    where
        Cidr<A>: Ord + Clone,
    {
        Addresses { endpoints: from.endpoints.clone(), peers: from.peers.clone(), ..Addresses::default() }
    }
    let (v4, v6) = (addresses(&wanted.v4), addresses(&wanted.v6));
    Wanted { policies: wanted.policies.clone(), v4, v6, ..Wanted::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn after_each_write_each_side_says_what_it_did_or_will(operations in prop::collection::vec(generate::operation(), 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut inputs = generate::cluster();
        let mut bench = Bench::new(inputs.clone());
        runtime.block_on(bench.pass());
        let (mut before, mut state) = (read(&inputs), held(bench.plan.wanted()));
        for operation in operations {
            let step = format!("{operation:?}");
            generate::apply(&mut inputs, operation);
            let log = runtime.block_on(bench.change(|_| inputs.clone()));
            let after = read(&inputs);
            let flows = after.iter().filter_map(|(name, after)| Some((name, before.get(name)?, after)));
            let flows: Vec<_> = flows.filter(|(name, ..)| !name.contains("→ node n0")).step_by(7).collect();
            for (index, held) in replay(&state, &log).iter().enumerate() {
                for (name, (question, was), (_, is)) in &flows {
                    if !are_there(held, question, is) {
                        continue;
                    }
                    let found = judge(&inputs, held, *question);
                    for (found, (was, is)) in found.iter().zip(was.iter().zip(is)) {
                        prop_assert!(
                            [was.allows(), is.allows()].contains(&found.allows()),
                            "{}: {} after {:?}: {:?}, before {:?}, after {:?}", step, name, names(&log)[..=index].last(), found, was, is
                        );
                    }
                }
            }
            runtime.block_on(bench.collect());
            bench.assert_agrees();
            (before, state) = (after, super::policy::held(bench.plan.wanted()));
        }
    }
}

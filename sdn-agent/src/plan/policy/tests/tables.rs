//! Single facts about plans: who shares what, what moves, and what does not.

use sdn_cluster::model::{LabelSelector, Labels, Namespace, NetworkPolicy, Peer, Pod, Rule as PolicyRule, Scope};
use sdn_common::Endpoint;

use super::*;
use crate::plan::testing::{local, pod, three_nodes, v4};

fn labels(text: &[(&str, &str)]) -> Labels {
    text.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn selecting(text: &[(&str, &str)]) -> LabelSelector {
    LabelSelector { labels: labels(text), ..LabelSelector::default() }
}

/// Admits pods with `app: client` of the same namespace to pods with `app: web`.
fn web() -> NetworkPolicy {
    NetworkPolicy {
        namespace: "shop".into(),
        name: "web".into(),
        pod_selector: selecting(&[("app", "web")]),
        ingress: Some(vec![PolicyRule {
            peers: vec![Peer::Pods(selecting(&[("app", "client")]))].into(),
            ports: Scope::Everything,
        }]),
        ..NetworkPolicy::default()
    }
}

/// Two pods here with `app: web`, one without; one elsewhere with `app: client`.
fn shop() -> Inputs {
    let mut inputs = three_nodes();
    inputs.snapshot.namespaces.insert("shop".into(), Namespace { name: "shop".into(), ..Namespace::default() }.into());
    for (name, number, app) in [("web-1", 10, "web"), ("web-2", 11, "web"), ("plain", 12, "plain")] {
        let address = format!("10.128.0.{number}");
        inputs = inputs.with_pod(Pod { labels: labels(&[("app", app)]), ..pod(name, "n0", &[&address]) });
        inputs = inputs.with_local(local(name, number, &[&address]));
    }
    inputs.with_pod(Pod { labels: labels(&[("app", "client")]), ..pod("client", "n1", &["10.128.2.10"]) })
}

fn with(mut inputs: Inputs, policies: &[NetworkPolicy]) -> Inputs {
    for policy in policies {
        inputs.snapshot.policies.insert(policy.key(), policy.clone().into());
    }
    inputs
}

fn endpoint(wanted: &Wanted, number: u8) -> Endpoint {
    wanted.v4.endpoints[&v4(&format!("10.128.0.{number}"))]
}

#[test]
fn pods_that_agree_share_a_set() {
    let plan = plan(with(shop(), &[web()]));
    let [one, two, plain] = [10, 11, 12].map(|number| endpoint(plan.wanted(), number));
    assert_eq!(one.ingress, two.ingress);
    assert_ne!(one.ingress.id, SetId::NONE);
    assert_eq!([one.egress, two.egress, plain.egress, plain.ingress], [SetRef::default(); 4]);
    assert_eq!(plan.wanted().policies.rules.len(), 1, "one entry, for the client");
    assert_eq!(one.identity, two.identity);
    assert_ne!(one.identity, plain.identity);
}

#[test]
fn without_policies_nothing_is_asked() {
    let plan = plan(shop());
    let wanted = plan.wanted();
    assert!(wanted.v4.endpoints.values().all(|endpoint| endpoint.identity == Identity::POD));
    assert_eq!(wanted.policies, WantedPolicies::default());
    assert_eq!(wanted.v4.peers[&v4("10.128.2.10")].identity, Identity::POD);
}

#[test]
fn what_nobody_asks_about_moves_nothing() {
    let mut inputs = with(shop(), &[web()]);
    let mut plan = plan(inputs.clone());
    let before = plan.wanted().clone();
    // A label that no policy has a word for, of pods here and elsewhere; one more container port; an annotation of a namespace.
    for pod in ["web-1", "plain", "client"] {
        let object = inputs.snapshot.pods.get_mut(&PodKey::new("shop", pod)).unwrap();
        Arc::make_mut(object).labels.insert("pod-template-hash".to_owned(), "12345".to_owned());
    }
    plan.update(inputs.clone());
    assert_eq!(*plan.wanted(), before);
    assert_eq!(plan.take_steps(), []);
    // A policy that says what is said already, in a namespace with no pods.
    let elsewhere = NetworkPolicy { namespace: "empty".into(), ..web() };
    plan.update(with(inputs, &[elsewhere]));
    assert_eq!(*plan.wanted(), before);
}

#[test]
fn an_edit_gives_the_set_another_number_and_leaves_the_others() {
    let other = NetworkPolicy { name: "other".into(), pod_selector: selecting(&[("app", "plain")]), ..web() };
    let inputs = with(shop(), &[web(), other]);
    let mut plan = plan(inputs.clone());
    let before = plan.wanted().clone();
    let mut edited = web();
    edited.ingress.as_mut().unwrap().push(PolicyRule { peers: Scope::Everything, ports: Scope::Everything });
    plan.update(with(inputs, &[edited]));
    let (web, was) = (endpoint(plan.wanted(), 10).ingress, endpoint(&before, 10).ingress);
    assert!(web.id > was.id);
    assert_eq!(web.default_author, was.default_author);
    assert_eq!(endpoint(plan.wanted(), 12), endpoint(&before, 12));
    assert!(plan.wanted().policies.rules.keys().all(|key| key.set != was.id));
    assert_eq!(plan.take_steps(), [], "who is who stayed");
}

#[test]
fn a_relabelled_peer_moves_and_the_set_learns_of_it_in_place() {
    let inputs = with(shop(), &[web()]);
    let mut plan = plan(inputs.clone());
    let before = endpoint(plan.wanted(), 10).ingress;
    let mut inputs = inputs
        .with_pod(Pod { labels: labels(&[("app", "client"), ("tier", "x")]), ..pod("late", "n1", &["10.128.2.11"]) });
    plan.update(inputs.clone());
    let peer = |plan: &Plan, number: u8| plan.wanted().v4.peers[&v4(&format!("10.128.2.{number}"))].identity;
    assert_eq!(peer(&plan, 10), peer(&plan, 11), "the same answers");
    assert_eq!(endpoint(plan.wanted(), 10).ingress, before);
    Arc::make_mut(inputs.snapshot.pods.get_mut(&PodKey::new("shop", "client")).unwrap()).labels =
        labels(&[("app", "stranger")]);
    plan.update(inputs.clone());
    assert_ne!(peer(&plan, 10), peer(&plan, 11));
    assert_eq!(endpoint(plan.wanted(), 10).ingress, before, "the set is the same function");
    assert_eq!(plan.take_steps(), []);
}

#[test]
fn a_pod_without_an_object_is_closed_where_a_policy_may_be_about_it() {
    let stranger = local("stranger", 30, &["10.128.0.30"]);
    // (policies, synced, closed for egress, closed for ingress)
    let egress = NetworkPolicy { name: "out".into(), ingress: None, egress: Some(vec![]), ..web() };
    let elsewhere = NetworkPolicy { namespace: "bank".into(), ..web() };
    let rows: [(&[NetworkPolicy], bool, bool, bool); 5] = [
        (&[], true, false, false),
        (&[web()], true, false, true),
        (&[web(), egress], true, true, true),
        (&[elsewhere], true, false, false),
        (&[], false, true, true),
    ];
    for (index, (policies, synced, out, into)) in rows.into_iter().enumerate() {
        let mut inputs = with(shop(), policies).with_local(stranger.clone());
        inputs.snapshot.synced = synced;
        let plan = plan(inputs);
        let endpoint = endpoint(plan.wanted(), 30);
        assert_eq!((endpoint.egress.id != SetId::NONE, endpoint.ingress.id != SetId::NONE), (out, into), "row {index}");
        let sets = [endpoint.egress.id, endpoint.ingress.id];
        assert!(
            plan.wanted().policies.rules.keys().all(|key| !sets.contains(&key.set)),
            "row {index}: nothing is admitted"
        );
    }
    // Its object comes: another pod of the same name is not it.
    let mut inputs = with(shop(), &[web()]).with_local(stranger);
    inputs = inputs.with_pod(Pod { uid: "earlier".into(), ..pod("stranger", "n0", &["10.128.0.30"]) });
    let mut plan = plan(inputs.clone());
    assert_ne!(endpoint(plan.wanted(), 30).ingress.id, SetId::NONE);
    assert_eq!(endpoint(plan.wanted(), 30).identity, Identity::UNKNOWN);
    plan.update(inputs.with_pod(pod("stranger", "n0", &["10.128.0.30"])));
    assert_eq!(endpoint(plan.wanted(), 30).ingress.id, SetId::NONE);
    assert!(endpoint(plan.wanted(), 30).identity >= Identity::FIRST);
}

#[test]
fn a_new_pod_appears_only_with_its_sets() {
    let mut plan = plan(with(shop(), &[]));
    let inputs = with(shop(), &[web()]);
    let inputs = inputs.with_pod(Pod { labels: labels(&[("app", "web")]), ..pod("new", "n0", &["10.128.0.40"]) });
    plan.update(inputs.with_local(local("new", 40, &["10.128.0.40"])));
    let steps = plan.take_steps();
    assert!(!steps.is_empty());
    for step in &steps {
        let found = step.v4.endpoints.get(&v4("10.128.0.40"));
        assert!(found.is_none_or(|found| found.ingress.id != SetId::NONE), "{found:?}");
    }
    assert_eq!(endpoint(plan.wanted(), 40).ingress, endpoint(plan.wanted(), 10).ingress);
}

#[test]
fn nodes_keep_their_own_numbers_unless_a_block_has_them() {
    let block = |cidr: &str| {
        let block = sdn_cluster::model::IpBlock { cidr: cidr.parse().unwrap(), except: vec![] };
        let rule = PolicyRule { peers: vec![Peer::Block(block)].into(), ports: Scope::Everything };
        NetworkPolicy { ingress: Some(vec![rule]), ..web() }
    };
    let mut plan = plan(with(shop(), &[web()]));
    let peer = |plan: &Plan, address: &str| plan.wanted().v4.peers[&v4(address)].identity;
    assert_eq!((peer(&plan, "192.168.9.1"), peer(&plan, "192.168.9.2")), (Identity::HOST, Identity::NODE));
    plan.update(with(shop(), &[block("192.168.9.2/32")]));
    assert_eq!((peer(&plan, "192.168.9.1"), peer(&plan, "192.168.9.3")), (Identity::HOST, Identity::NODE));
    let asked = peer(&plan, "192.168.9.2");
    assert!(asked >= Identity::FIRST);
    assert_eq!(plan.wanted().policies.cidrs_v4.len(), 1);
    plan.update(with(shop(), &[web()]));
    assert_eq!(peer(&plan, "192.168.9.2"), Identity::NODE, "asked no more");
    assert!(plan.wanted().policies.cidrs_v4.is_empty());
    plan.update(with(shop(), &[block("192.168.9.2/32")]));
    assert!(peer(&plan, "192.168.9.2") > asked, "never a number again");
}

#[test]
fn this_nodes_addresses_are_in_a_block_when_all_of_them_are() {
    // (blocks, exceptions, whether pods reach the node)
    let rows: [(&[&str], &[&str], bool); 6] = [
        (&["0.0.0.0/0"], &[], true),
        (&["192.168.9.0/24"], &[], false),
        (&["192.168.9.0/24", "10.128.0.0/14"], &[], false),
        (&["0.0.0.0/0"], &["10.128.0.0/14"], false),
        (&["0.0.0.0/0"], &["203.0.113.0/24"], true),
        (&["::/0"], &[], false),
    ];
    for (cidrs, except, reaches) in rows {
        let block = |cidr: &&str| {
            let except = except.iter().map(|text| text.parse().unwrap()).collect();
            Peer::Block(sdn_cluster::model::IpBlock { cidr: cidr.parse().unwrap(), except })
        };
        let rule = PolicyRule { peers: cidrs.iter().map(block).collect::<Vec<_>>().into(), ports: Scope::Everything };
        let policy = NetworkPolicy { ingress: None, egress: Some(vec![rule]), ..web() };
        let mut inputs = with(shop(), &[policy]);
        // One family: a block has addresses of one only, and the number does not say which is meant.
        let own = inputs.snapshot.nodes.get_mut("n0").unwrap();
        Arc::make_mut(own).subnets.truncate(1);
        let plan = plan(inputs);
        let evaluator = Evaluator { wanted: plan.wanted(), cluster_networks: &plan.inputs().settings.cluster_networks };
        assert_eq!(evaluator.identity(ip("192.168.9.1")), Identity::HOST);
        assert_eq!(evaluator.identity(ip("10.128.0.1")), Identity::HOST);
        let [egress, _] =
            evaluator.judge(&Packet { from: ip("10.128.0.10"), to: ip("192.168.9.1"), protocol: 6, port: 80 });
        assert_eq!(
            matches!(egress, Answer::Decided { allowed: true, .. }),
            reaches,
            "{cidrs:?} {except:?}: {egress:?}"
        );
    }
}

//! What does not fit: only that is closed, and it is said.

use sdn_cluster::model::{IpBlock, LabelSelector, Labels, Namespace, NetworkPolicy, Peer, Rule as PolicyRule, Scope};

use super::*;
use crate::plan::testing::{local, pod, three_nodes};

fn limits() -> Limits {
    Limits { rules: 8, rules_of_namespace: 6, identities: 64, blocks: 4, authors: 100 }
}

fn allowing(namespace: &str, name: &str, peers: Vec<Peer>) -> NetworkPolicy {
    NetworkPolicy {
        namespace: namespace.into(),
        name: name.into(),
        ingress: Some(vec![PolicyRule { peers: peers.into(), ports: Scope::Everything }]),
        ..NetworkPolicy::default()
    }
}

fn everybody() -> Vec<Peer> {
    vec![Peer::Namespaces(LabelSelector::default())]
}

fn block(cidr: &str, except: &[&str]) -> Peer {
    let except = except.iter().map(|text| text.parse().unwrap()).collect();
    Peer::Block(IpBlock { cidr: cidr.parse().unwrap(), except })
}

fn labelled(name: &str, label: &str) -> sdn_cluster::model::Pod {
    let labels = Labels::from([("app".to_owned(), label.to_owned())]);
    sdn_cluster::model::Pod { labels, ..pod(name, "n1", &[]) }
}

/// A pod here in each of two namespaces, and pods elsewhere that differ in what a policy asks for.
fn crowd(others: u8) -> Inputs {
    let mut inputs = three_nodes();
    for name in ["shop", "bank"] {
        let namespace = Namespace { name: name.into(), ..Namespace::default() };
        inputs.snapshot.namespaces.insert(name.into(), namespace.into());
    }
    for (index, namespace) in (0..).zip(["shop", "bank"]) {
        let address = format!("10.128.0.{}", 10 + index);
        let object = sdn_cluster::model::Pod { namespace: namespace.into(), ..pod(namespace, "n0", &[&address]) };
        inputs = inputs.with_pod(object);
        inputs = inputs
            .with_local(LocalPod { namespace: namespace.to_owned(), ..local(namespace, 20 + index, &[&address]) });
    }
    // Asks for the label, and is about nobody here.
    let asking = Peer::Pods(LabelSelector {
        labels: Labels::from([("app".to_owned(), "1".to_owned())]),
        ..LabelSelector::default()
    });
    put(&mut inputs, allowing("elsewhere", "asking", vec![asking]));
    for other in 0..others {
        let address = ip(&format!("10.128.2.{}", 10 + other));
        let object = sdn_cluster::model::Pod {
            addresses: vec![address],
            ..labelled(&format!("other-{other}"), &other.to_string())
        };
        inputs = inputs.with_pod(object);
    }
    inputs
}

fn put(inputs: &mut Inputs, policy: NetworkPolicy) {
    inputs.snapshot.policies.insert(policy.key(), policy.into());
}

fn admitted(plan: &Plan, from: &str, to: &str) -> bool {
    let evaluator = Evaluator { wanted: plan.wanted(), cluster_networks: &plan.inputs().settings.cluster_networks };
    let [_, ingress] = evaluator.judge(&Packet { from: ip(from), to: ip(to), protocol: 6, port: 80 });
    !matches!(ingress, Answer::Decided { allowed: false, .. })
}

fn too_large(plan: &Plan) -> Vec<(String, usize, usize)> {
    let sets = plan.conditions().filter_map(|condition| match condition {
        Condition::SetTooLarge(TooLarge { namespace, policies, needed, room, .. }) => {
            Some((format!("{namespace}/{}", policies.join("+")), needed, room))
        }
        _ => None,
    });
    sets.collect()
}

const SHOP: &str = "10.128.0.10";
const BANK: &str = "10.128.0.11";
const OTHER: &str = "10.128.2.10";

#[test]
fn a_set_that_does_not_fit_is_closed_and_no_other() {
    // Four others and two pods here make six identities.
    let mut inputs = crowd(4);
    put(&mut inputs, allowing("shop", "web", everybody()));
    let mut plan = Plan::with_limits(inputs.clone(), Indices::default(), Seed::default(), limits());
    assert!(admitted(&plan, OTHER, SHOP), "{:?}", plan.conditions().collect::<Vec<_>>());
    let entries = plan.wanted().policies.rules.len();
    assert!((4..=6).contains(&entries), "{entries}");

    // The second one finds less room than it needs: the first is kept.
    put(&mut inputs, allowing("bank", "vault", everybody()));
    plan.update(inputs.clone());
    assert_eq!(too_large(&plan), [("bank/vault".to_owned(), entries, 8 - entries)]);
    assert!(admitted(&plan, OTHER, SHOP) && !admitted(&plan, OTHER, BANK));
    let author = plan.wanted().v4.endpoints[&crate::plan::testing::v4(BANK)].ingress.default_author;
    assert_eq!(plan.wanted().policies.authors[&author].to_string(), "bank/vault ingress isolation");

    // Room: it opens.
    inputs.snapshot.policies.remove(&PolicyKey::new("shop", "web"));
    plan.update(inputs.clone());
    assert_eq!(too_large(&plan), []);
    assert!(admitted(&plan, OTHER, BANK));
}

#[test]
fn a_set_that_outgrows_its_room_is_closed_under_another_number() {
    let mut inputs = crowd(3);
    put(&mut inputs, allowing("shop", "web", everybody()));
    let mut plan = Plan::with_limits(inputs.clone(), Indices::default(), Seed::default(), limits());
    let set = |plan: &Plan| plan.wanted().v4.endpoints[&crate::plan::testing::v4(SHOP)].ingress.id;
    let before = set(&plan);
    assert!(admitted(&plan, OTHER, SHOP));
    // The namespace's budget of six.
    let inputs = crowd(9);
    let mut inputs = Inputs {
        snapshot: Snapshot { policies: plan.inputs().snapshot.policies.clone(), ..inputs.snapshot },
        ..inputs
    };
    plan.update(inputs.clone());
    assert_eq!(too_large(&plan).len(), 1);
    assert!(!admitted(&plan, OTHER, SHOP) && set(&plan) != before);
    assert_eq!(plan.wanted().policies.rules.len(), 0, "a closed set has no entries");
    for other in 3..9 {
        inputs.snapshot.pods.remove(&PodKey::new("shop", format!("other-{other}")));
    }
    plan.update(inputs);
    assert_eq!(too_large(&plan), []);
    assert!(admitted(&plan, OTHER, SHOP));
}

#[test]
fn without_a_number_only_rules_for_anybody_match() {
    let mut inputs = crowd(9);
    put(&mut inputs, allowing("shop", "web", everybody()));
    let few = Limits { rules: 100, rules_of_namespace: 100, identities: 9, ..limits() };
    let mut plan = Plan::with_limits(inputs.clone(), Indices::default(), Seed::default(), few);
    let refused = plan.conditions().find_map(|condition| match condition {
        Condition::IdentitiesExhausted(refused) => Some(refused),
        _ => None,
    });
    let addresses = (0..9).map(|other| format!("10.128.2.{}", 10 + other));
    let turned_away = addresses.filter(|address| !admitted(&plan, address, SHOP)).count();
    assert!(turned_away > 0 && refused >= Some(turned_away), "{refused:?}, {turned_away}");
    put(
        &mut inputs,
        NetworkPolicy {
            ingress: Some(vec![PolicyRule { peers: Scope::Everything, ports: Scope::Everything }]),
            ..allowing("shop", "all", vec![])
        },
    );
    plan.update(inputs.clone());
    assert!((0..9).all(|other| admitted(&plan, &format!("10.128.2.{}", 10 + other), SHOP)));
    // Fewer differences: everybody has a number.
    inputs.snapshot.policies.remove(&PolicyKey::new("elsewhere", "asking"));
    inputs.snapshot.policies.remove(&PolicyKey::new("shop", "all"));
    plan.update(inputs);
    assert_eq!(plan.conditions().count(), 0);
    assert!((0..9).all(|other| admitted(&plan, &format!("10.128.2.{}", 10 + other), SHOP)));
}

#[test]
fn a_block_that_finds_no_room_admits_nobody_nor_does_its_exception_open_anything() {
    let mut inputs = crowd(1);
    put(
        &mut inputs,
        allowing(
            "shop",
            "a",
            vec![block("203.0.113.0/24", &["203.0.113.8/29"]), block("198.51.100.0/24", &["198.51.100.7/32"])],
        ),
    );
    let mut plan = Plan::with_limits(inputs.clone(), Indices::default(), Seed::default(), limits());
    assert_eq!(plan.conditions().count(), 0, "four blocks");
    // A fifth block, and an exception that is a sixth.
    put(
        &mut inputs,
        allowing("shop", "b", vec![block("192.0.2.0/24", &[]), block("203.0.113.0/24", &["203.0.113.128/25"])]),
    );
    plan.update(inputs.clone());
    assert_eq!(plan.conditions().collect::<Vec<_>>(), [Condition::BlocksExhausted(2)]);
    let rows = [
        ("203.0.113.1", true),
        ("203.0.113.9", false),
        ("203.0.113.200", true),
        ("198.51.100.1", true),
        ("198.51.100.7", false),
        ("192.0.2.1", false),
    ];
    for (address, expected) in rows {
        assert_eq!(admitted(&plan, address, SHOP), expected, "{address}");
    }
    inputs.snapshot.policies.remove(&PolicyKey::new("shop", "a"));
    plan.update(inputs);
    assert_eq!(plan.conditions().count(), 0);
    for (address, expected) in [
        ("203.0.113.1", true),
        ("203.0.113.9", true),
        ("203.0.113.200", false),
        ("192.0.2.1", true),
        ("198.51.100.1", false),
    ] {
        assert_eq!(admitted(&plan, address, SHOP), expected, "{address} when there is room");
    }
}

//! Random policies over a small random cluster: what holds of every set of policies, and that reading one does no harm.

use proptest::{collection::vec, option, prelude::*, sample::select};
use sdn_cluster::{
    Snapshot,
    model::{
        ContainerPort, IpBlock, Kind, LabelExpression, LabelOperator, LabelSelector, Labels, Namespace, NetworkPolicy,
        Object, Peer, Pod, PodKey, PolicyPort, PortMatch, Protocol, Rule, Scope,
    },
    source::manifests,
    verdict::{Decision, End, Family, Flow, Traffic, verdict},
};
use std::{fs, net::Ipv4Addr, sync::Arc};

const KEYS: [&str; 2] = ["a", "b"];
const VALUES: [&str; 3] = ["1", "2", ""];
const NAMESPACES: [&str; 2] = ["x", "y"];
const PORT_NAMES: [&str; 2] = ["http", "dns"];

fn labels() -> impl Strategy<Value = Labels> {
    let label = (select(&KEYS[..]), select(&VALUES[..]));
    vec(label, 0..3).prop_map(|labels| labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
}

fn selector() -> impl Strategy<Value = LabelSelector> {
    let operator = (0..4u8, vec(select(&VALUES[..]), 1..3)).prop_map(|(operator, values)| {
        let values = values.into_iter().map(Into::into).collect();
        match operator {
            0 => LabelOperator::In(values),
            1 => LabelOperator::NotIn(values),
            2 => LabelOperator::Exists,
            _ => LabelOperator::DoesNotExist,
        }
    });
    let expression =
        (select(&KEYS[..]), operator).prop_map(|(key, operator)| LabelExpression { key: key.into(), operator });
    let few = prop_oneof![2 => Just(Labels::new()), 1 => labels()];
    (few, vec(expression, 0..2)).prop_map(|(labels, expressions)| LabelSelector { labels, expressions })
}

fn protocol() -> impl Strategy<Value = Protocol> {
    select(&[Protocol::Tcp, Protocol::Udp, Protocol::Sctp][..])
}

fn peer() -> impl Strategy<Value = Peer> {
    let block = (select(&["10.0.0.0/28", "10.0.0.8/29", "0.0.0.0/0", "fd01::/16"][..]), any::<bool>());
    let block = block.prop_map(|(cidr, except)| {
        let cidr: ipnet::IpNet = cidr.parse().expect("a CIDR");
        let except = cidr.subnets(cidr.prefix_len() + 2).expect("two bits more").filter(|_| except).skip(1).take(2);
        IpBlock { cidr, except: except.collect() }
    });
    prop_oneof![
        selector().prop_map(Peer::Pods),
        selector().prop_map(Peer::Namespaces),
        (selector(), selector()).prop_map(|(namespaces, pods)| Peer::PodsIn { namespaces, pods }),
        block.prop_map(Peer::Block),
    ]
}

fn port() -> impl Strategy<Value = PolicyPort> {
    let port = prop_oneof![
        Just(PortMatch::Any),
        (1..4u16, 0..3u16).prop_map(|(first, more)| PortMatch::Numbers { first, last: first + more }),
        select(&PORT_NAMES[..]).prop_map(|name| PortMatch::Name(name.into())),
    ];
    (protocol(), port).prop_map(|(protocol, port)| PolicyPort { protocol, port })
}

fn rule() -> impl Strategy<Value = Rule> {
    (vec(peer(), 0..3), vec(port(), 0..3)).prop_map(|(peers, ports)| Rule { peers: peers.into(), ports: ports.into() })
}

/// A policy without a name.
fn policy() -> impl Strategy<Value = NetworkPolicy> {
    let rules = || option::of(vec(rule(), 0..3));
    (select(&NAMESPACES[..]), selector(), rules(), rules())
        .prop_filter("one direction at least", |(_, _, ingress, egress)| ingress.is_some() || egress.is_some())
        .prop_map(|(namespace, pod_selector, ingress, egress)| NetworkPolicy {
            namespace: namespace.into(),
            pod_selector,
            ingress,
            egress,
            ..NetworkPolicy::default()
        })
}

/// Two namespaces with three pods each, and no policies.
fn cluster() -> impl Strategy<Value = Snapshot> {
    let ports = vec((select(&PORT_NAMES[..]), 1..5u16, protocol()), 0..3);
    (vec(labels(), 2), vec((labels(), ports), 6)).prop_map(|(namespaces, pods)| {
        let mut snapshot = Snapshot { synced: true, ..Snapshot::default() };
        for (name, labels) in NAMESPACES.into_iter().zip(namespaces) {
            let namespace = Namespace { name: name.into(), labels, ..Namespace::default() };
            snapshot.namespaces.insert(name.into(), namespace.into());
        }
        for (index, (labels, ports)) in (0u8..).zip(pods) {
            let model = |(name, port, protocol): (&str, u16, Protocol)| ContainerPort {
                name: Some(name.into()),
                port,
                protocol,
                host_port: None,
            };
            let pod = Pod {
                namespace: NAMESPACES[usize::from(index) % 2].into(),
                name: format!("p{}", index / 2).into(),
                labels,
                addresses: vec![Ipv4Addr::new(10, 0, 0, index * 2).into()],
                ports: ports.into_iter().map(model).collect(),
                ..Pod::default()
            };
            snapshot.pods.insert(pod.key(), pod.into());
        }
        snapshot
    })
}

fn flow() -> impl Strategy<Value = Flow> {
    let pod =
        (select(&NAMESPACES[..]), 0..3u8).prop_map(|(namespace, n)| End::Pod(PodKey::new(namespace, format!("p{n}"))));
    let outside = (0..16u8).prop_map(|n| End::Address(Ipv4Addr::new(10, 0, 0, n).into()));
    let end = || prop_oneof![4 => pod.clone(), 1 => outside.clone()];
    let traffic = prop_oneof![
        6 => (protocol(), 1..7u16).prop_map(|(protocol, port)| Traffic::Port { protocol, port }),
        1 => Just(Traffic::Icmp),
    ];
    (end(), end(), traffic).prop_map(|(from, to, traffic)| Flow { from, to, family: Family::V4, traffic })
}

fn flows() -> impl Strategy<Value = Vec<Flow>> {
    vec(flow(), 30)
}

/// The cluster with these policies, which are called by their order.
fn with<'a>(cluster: &Snapshot, policies: impl IntoIterator<Item = &'a NetworkPolicy>) -> Snapshot {
    let mut snapshot = cluster.clone();
    for (index, policy) in policies.into_iter().enumerate() {
        let policy = NetworkPolicy { name: format!("policy-{index}").into(), ..policy.clone() };
        snapshot.policies.insert(policy.key(), policy.into());
    }
    snapshot
}

fn sides(snapshot: &Snapshot, flow: &Flow) -> [Decision; 2] {
    let verdict = verdict(snapshot, flow);
    [verdict.ingress, verdict.egress]
}

fn reverse<T>(scope: &mut Scope<T>) {
    if let Scope::Only(items) = scope {
        items.reverse();
    }
}

/// The same policy with every list the other way round.
fn reversed(policy: &NetworkPolicy) -> NetworkPolicy {
    let mut policy = policy.clone();
    for rules in [&mut policy.ingress, &mut policy.egress].into_iter().flatten() {
        rules.reverse();
        for rule in rules {
            reverse(&mut rule.peers);
            reverse(&mut rule.ports);
        }
    }
    policy
}

/// A policy with something of everything.
const WHOLE: &str = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector:
    matchLabels: {app: web}
    matchExpressions:
    - {key: tier, operator: NotIn, values: [db, cache]}
  policyTypes: [Ingress, Egress]
  ingress:
  - from:
    - namespaceSelector: {matchExpressions: [{key: team, operator: Exists}]}
      podSelector: {}
    - ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}
    ports:
    - {port: 80, endPort: 90}
    - {port: http, protocol: UDP}
  - {}
  egress:
  - to: [{ipBlock: {cidr: 'fd00::/8'}}]
";

const BITS: [&str; 36] = [
    "-",
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    ",",
    "\n",
    "  ",
    "    ",
    "null",
    "~",
    "0",
    "-1",
    "65536",
    "80",
    "1.5",
    "''",
    "true",
    "a",
    "A b",
    "/33",
    "::/0",
    "In",
    "Gt",
    "from:",
    "to:",
    "ports:",
    "port:",
    "endPort: 1",
    "except:",
    "[{}]",
    "[[]]",
    "podSelector:",
    "spec:",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn another_rule_denies_nothing(
        cluster in cluster(), mut policies in vec(policy(), 1..5), which in any::<prop::sample::Index>(),
        ingress in any::<bool>(), rule in rule(), flows in flows(),
    ) {
        let before = with(&cluster, &policies);
        let policy = which.get_mut(&mut policies);
        let rules = if ingress { &mut policy.ingress } else { &mut policy.egress };
        // A direction that was not isolated would become so.
        prop_assume!(rules.is_some());
        rules.get_or_insert_default().push(rule);
        let after = with(&cluster, &policies);
        for flow in flows {
            for (old, new) in sides(&before, &flow).into_iter().zip(sides(&after, &flow)) {
                prop_assert!(new.is_allowed() || !old.is_allowed(), "{:?}: {} became {}", flow, old, new);
            }
        }
    }

    #[test]
    fn policies_are_united(cluster in cluster(), policies in vec(policy(), 0..5), split in 0..5usize, flows in flows()) {
        let (one, other) = policies.split_at(split.min(policies.len()));
        let (one, other, both) = (with(&cluster, one), with(&cluster, other), with(&cluster, &policies));
        for flow in flows {
            let answers = sides(&one, &flow).into_iter().zip(sides(&other, &flow)).zip(sides(&both, &flow));
            for ((one, other), both) in answers {
                let expected = match (&one, &other) {
                    (Decision::NotIsolated, rest) | (rest, Decision::NotIsolated) => rest.is_allowed(),
                    _ => one.is_allowed() || other.is_allowed(),
                };
                prop_assert_eq!(both.is_allowed(), expected, "{:?}: {}, {} together {}", flow, one, other, both);
            }
        }
    }

    #[test]
    fn order_says_nothing(cluster in cluster(), policies in vec(policy(), 0..5), flows in flows()) {
        let there = with(&cluster, &policies);
        let back: Vec<_> = policies.iter().rev().map(reversed).collect();
        let back = with(&cluster, &back);
        for flow in flows {
            for (there, back) in sides(&there, &flow).into_iter().zip(sides(&back, &flow)) {
                prop_assert_eq!(there.is_allowed(), back.is_allowed(), "{:?}: {} and {}", flow, there, back);
            }
        }
    }

    #[test]
    fn policies_survive_being_written(policy in policy()) {
        let policy = NetworkPolicy { name: "web".into(), ..policy };
        let object = Object::NetworkPolicy(Arc::new(policy));
        let json = object.to_json().expect("not a workload").to_string();
        prop_assert_eq!(Object::parse(Kind::NetworkPolicy, &json, ""), Ok(object), "{}", json);
    }

    #[test]
    fn whatever_is_written_does_no_harm(
        at in 0..WHOLE.len(), cut in 0..30usize, bits in vec(select(&BITS[..]), 0..4), again in 0..WHOLE.len(),
    ) {
        let mut text = WHOLE.as_bytes().to_vec();
        text.splice(at..(at + cut).min(text.len()), bits.concat().into_bytes());
        let again = again.min(text.len());
        text.splice(again..again, bits.concat().into_bytes());
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("policy.yaml");
        fs::write(&path, &text).expect("written");
        let contents = manifests::read(&path, Kind::ALL).expect("read");
        let lines = text.split(|byte| *byte == b'\n').count();
        for problem in &contents.problems {
            prop_assert!((1..=lines).contains(&problem.line), "{problem}");
        }
        for object in contents.objects {
            let Object::NetworkPolicy(policy) = &object else { continue };
            prop_assert!(policy.problems().len() <= contents.problems.len(), "problems are told");
            let json = object.to_json().expect("not a workload").to_string();
            prop_assert_eq!(Object::parse(Kind::NetworkPolicy, &json, ""), Ok(object), "{}", json);
        }
    }
}

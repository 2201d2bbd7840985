//! Random clusters with policies, and changes to them. Few names and small numbers: what meets is what matters.

use std::net::IpAddr;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use sdn_cluster::model::{
    ContainerPort, IpBlock, LabelExpression, LabelOperator, LabelSelector, Labels, Namespace, NetworkPolicy, Peer, Pod,
    PodPhase, PolicyKey, PolicyPort, PortMatch, Protocol, Rule,
};
use sdn_common::incarnation;

use crate::cni::LocalPod;
use crate::plan::Inputs;
use crate::plan::testing::{ip, local, three_nodes};

const KEYS: [&str; 3] = ["a", "b", "c"];
const VALUES: [&str; 3] = ["1", "2", ""];
pub(crate) const NAMESPACES: [&str; 4] = ["x", "y", "openshift-host-network", "z"];
const PORT_NAMES: [&str; 2] = ["http", "dns"];
const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
const BLOCKS: [&str; 16] = [
    "0.0.0.0/0",
    "10.128.0.0/14",
    "10.128.0.0/23",
    "10.128.0.0/28",
    "10.128.0.8/29",
    "10.128.0.10/32",
    "10.128.2.0/24",
    "192.168.9.0/24",
    "192.168.9.2/32",
    "203.0.113.0/24",
    "203.0.113.128/25",
    "203.0.113.7/32",
    "::/0",
    "fd01::/48",
    "fd01::/124",
    "2001:db8::/32",
];
/// Pods: their namespace and name, and the node they are on.
pub(crate) const PODS: u8 = 8;

/// What becomes of a cluster.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    PutPolicy {
        name: u8,
        policy: NetworkPolicy,
    },
    RemovePolicy(u8),
    Relabel {
        pod: u8,
        labels: Labels,
    },
    Rename {
        pod: u8,
        ports: Vec<(&'static str, u16, Protocol)>,
    },
    /// Another pod, under the address that this number has.
    Replace {
        pod: u8,
        address: u8,
        labels: Labels,
    },
    RemovePod(u8),
    PutNamespace {
        name: u8,
        labels: Labels,
    },
    RemoveNamespace(u8),
}

pub(crate) fn labels() -> impl Strategy<Value = Labels> {
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
    select(&PROTOCOLS[..])
}

fn peer() -> impl Strategy<Value = Peer> {
    let block = (select(&BLOCKS[..]), vec(select(&BLOCKS[..]), 0..3)).prop_map(|(cidr, except)| {
        let cidr: ipnet::IpNet = cidr.parse().unwrap();
        let except = except.into_iter().map(|except| except.parse().unwrap());
        IpBlock { cidr, except: except.filter(|except| cidr.contains(except) && cidr != *except).collect() }
    });
    prop_oneof![
        2 => selector().prop_map(Peer::Pods),
        2 => selector().prop_map(Peer::Namespaces),
        2 => (selector(), selector()).prop_map(|(namespaces, pods)| Peer::PodsIn { namespaces, pods }),
        3 => block.prop_map(Peer::Block),
    ]
}

fn port() -> impl Strategy<Value = PolicyPort> {
    let port = prop_oneof![
        1 => Just(PortMatch::Any),
        4 => (1..9u16, 0..9u16).prop_map(|(first, more)| PortMatch::Numbers { first, last: first + more }),
        1 => (1..9u16).prop_map(|first| PortMatch::Numbers { first, last: 65_535 }),
        3 => select(&PORT_NAMES[..]).prop_map(|name| PortMatch::Name(name.into())),
    ];
    (protocol(), port).prop_map(|(protocol, port)| PolicyPort { protocol, port })
}

fn rule() -> impl Strategy<Value = Rule> {
    let rule = (vec(peer(), 0..3), vec(port(), 0..3))
        .prop_map(|(peers, ports)| Rule { peers: peers.into(), ports: ports.into() });
    prop_oneof![12 => rule, 1 => Just(Rule::nothing())]
}

pub(crate) fn policy() -> impl Strategy<Value = NetworkPolicy> {
    let rules = || option::of(vec(rule(), 0..3));
    (select(&NAMESPACES[..2]), selector(), rules(), rules())
        .prop_filter("one direction at least", |(_, _, ingress, egress)| ingress.is_some() || egress.is_some())
        .prop_map(|(namespace, pod_selector, ingress, egress)| NetworkPolicy {
            namespace: namespace.into(),
            pod_selector,
            ingress,
            egress,
            ..NetworkPolicy::default()
        })
}

fn ports() -> impl Strategy<Value = Vec<(&'static str, u16, Protocol)>> {
    vec((select(&PORT_NAMES[..]), 1..9u16, protocol()), 0..3)
}

pub(crate) fn operation() -> impl Strategy<Value = Operation> {
    let pod = || 0..PODS;
    prop_oneof![
        6 => (0..6_u8, policy()).prop_map(|(name, policy)| Operation::PutPolicy { name, policy }),
        2 => (0..6_u8).prop_map(Operation::RemovePolicy),
        4 => (pod(), labels()).prop_map(|(pod, labels)| Operation::Relabel { pod, labels }),
        2 => (pod(), ports()).prop_map(|(pod, ports)| Operation::Rename { pod, ports }),
        2 => (pod(), 0..PODS, labels()).prop_map(|(pod, address, labels)| Operation::Replace { pod, address, labels }),
        1 => pod().prop_map(Operation::RemovePod),
        2 => (0..4_u8, labels()).prop_map(|(name, labels)| Operation::PutNamespace { name, labels }),
        1 => (0..4_u8).prop_map(Operation::RemoveNamespace),
    ]
}

/// Three nodes, four namespaces, and pods on all nodes, one of them in its node's network. No policies.
pub(crate) fn cluster() -> Inputs {
    let mut inputs = three_nodes();
    for number in 0..4 {
        apply(&mut inputs, Operation::PutNamespace { name: number, labels: Labels::new() });
    }
    for pod in 0..PODS {
        let labels = Labels::from([("a".to_owned(), VALUES[usize::from(pod) % 3].to_owned())]);
        apply(&mut inputs, Operation::Replace { pod, address: pod, labels });
    }
    inputs
}

/// Whether a pod is on this node.
fn is_here(pod: u8) -> bool {
    pod < 5
}

fn named(pod: u8) -> (Arc<str>, String) {
    (NAMESPACES[usize::from(pod) % 2].into(), format!("p{pod}"))
}

/// The addresses that go by this number for a pod that is here or elsewhere.
fn addresses(pod: u8, number: u8) -> Vec<IpAddr> {
    if is_here(pod) {
        vec![ip(&format!("10.128.0.{}", 2 * number + 2)), ip(&format!("fd01::{:x}", 2 * number + 2))]
    } else {
        vec![ip(&format!("10.128.2.{}", 2 * number + 2)), ip(&format!("fd01:0:0:1::{:x}", 2 * number + 2))]
    }
}

pub(crate) fn apply(inputs: &mut Inputs, operation: Operation) {
    let policy_key = |number: u8| PolicyKey::new(NAMESPACES[usize::from(number) % 2], format!("policy-{number}"));
    match operation {
        Operation::PutPolicy { name, policy } => {
            let key = policy_key(name);
            let policy = NetworkPolicy { namespace: key.namespace.clone(), name: key.name.clone(), ..policy };
            inputs.snapshot.policies.insert(key, Arc::new(policy));
        }
        Operation::RemovePolicy(name) => drop(inputs.snapshot.policies.remove(&policy_key(name))),
        Operation::Relabel { pod, labels } => edit(inputs, pod, |pod| pod.labels = labels),
        Operation::Rename { pod, ports } => edit(inputs, pod, |pod| {
            let model = |(name, port, protocol): (&str, u16, Protocol)| ContainerPort {
                name: Some(name.into()),
                port,
                protocol,
                host_port: None,
            };
            pod.ports = ports.into_iter().map(model).collect();
        }),
        Operation::Replace { pod, address, labels } => replace(inputs, pod, address, labels),
        Operation::RemovePod(pod) => remove(inputs, pod),
        Operation::PutNamespace { name, labels } => {
            let name: Arc<str> = NAMESPACES[usize::from(name)].into();
            let namespace = Namespace { name: name.clone(), labels, ..Namespace::default() };
            inputs.snapshot.namespaces.insert(name, namespace.into());
        }
        Operation::RemoveNamespace(name) => drop(inputs.snapshot.namespaces.remove(NAMESPACES[usize::from(name)])),
    }
    inputs.snapshot.generation += 1;
}

fn edit(inputs: &mut Inputs, pod: u8, change: impl FnOnce(&mut Pod)) {
    let (namespace, name) = named(pod);
    if let Some(pod) = inputs.snapshot.pods.get_mut(&sdn_cluster::model::PodKey::new(namespace, name)) {
        change(Arc::make_mut(pod));
    }
}

fn remove(inputs: &mut Inputs, pod: u8) {
    let (namespace, name) = named(pod);
    inputs.snapshot.pods.remove(&sdn_cluster::model::PodKey::new(namespace.clone(), name.as_str()));
    inputs.pods = inputs
        .pods
        .iter()
        .filter(|(_, pod)| *pod.namespace != *namespace || *pod.name != *name)
        .map(|(key, pod)| (key.clone(), pod.clone()))
        .collect();
}

fn replace(inputs: &mut Inputs, number: u8, address: u8, labels: Labels) {
    let addresses = addresses(number, address);
    // Whoever had the address is gone.
    let holder = inputs.snapshot.pods.values().find(|pod| pod.addresses == addresses).map(|pod| pod.key());
    if let Some(holder) = holder {
        let digits: String = holder.name.chars().filter(char::is_ascii_digit).collect();
        remove(inputs, digits.parse().unwrap());
    }
    remove(inputs, number);
    let (namespace, name) = named(number);
    let uid = format!("uid-{number}-{}", inputs.snapshot.generation);
    // The last one lives in its node's network.
    let host_network = number == PODS - 1;
    let pod = Pod {
        namespace: namespace.clone(),
        name: name.as_str().into(),
        uid: uid.as_str().into(),
        labels,
        node: Some(if is_here(number) { "n0".into() } else { "n1".into() }),
        addresses: if host_network { vec![ip("192.168.9.2")] } else { addresses.clone() },
        host_network,
        phase: PodPhase::Running,
        ready: true,
        ..Pod::default()
    };
    inputs.snapshot.pods.insert(pod.key(), pod.into());
    if is_here(number) {
        let lease = LocalPod {
            namespace: namespace.to_string(),
            container_id: format!("container-{uid}"),
            incarnation: incarnation(&uid),
            uid,
            addresses,
            ..local(&name, 20 + u32::from(number), &[])
        };
        inputs.pods.insert(lease.attachment(), Arc::new(lease));
    }
}

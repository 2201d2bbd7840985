//! What policies say, for people: read from the objects, as they are written.

use std::collections::BTreeSet;
use std::sync::Arc;

use sdn_cluster::Snapshot;
use sdn_cluster::model::{
    LabelOperator, LabelSelector, NetworkPolicy, Peer, Pod, PodKey, PolicyPort, PortMatch, Rule, Scope,
};
use sdn_cluster::verdict::Direction;

use super::api::{ConditionRow, PolicyExplanation, PolicyRow, RuleRow};

/// What no policy forbids.
const ALWAYS: [&str; 4] = [
    "the pod itself",
    "replies, and ICMP errors about what is allowed",
    "what its own node's sockets open to it (health checks)",
    "its questions to the cluster's DNS, port 53",
];

/// `sdnctl policy get`
pub(super) fn rows(snapshot: &Snapshot, node: &str, conditions: &[ConditionRow]) -> Vec<PolicyRow> {
    snapshot.policies.values().map(|policy| row(policy, snapshot, node, conditions)).collect()
}

fn row(policy: &NetworkPolicy, snapshot: &Snapshot, node: &str, conditions: &[ConditionRow]) -> PolicyRow {
    let selected: Vec<&Arc<Pod>> = subjects(snapshot).filter(|pod| selects(policy, pod)).collect();
    PolicyRow {
        namespace: policy.namespace.to_string(),
        name: policy.name.to_string(),
        pod_selector: policy.pod_selector.to_json(),
        ingress: policy.ingress.as_ref().map(Vec::len),
        egress: policy.egress.as_ref().map(Vec::len),
        here: selected.iter().filter(|pod| pod.node.as_deref() == Some(node)).count(),
        pods: selected.iter().map(|pod| pod.key().to_string()).collect(),
        problems: problems(policy).collect(),
        conditions: about(&policy.key().to_string(), conditions).collect(),
    }
}

/// `sdnctl policy explain`; `None` for a pod that is not known.
pub(super) fn explain(snapshot: &Snapshot, key: &PodKey, conditions: &[ConditionRow]) -> Option<PolicyExplanation> {
    let pod = snapshot.pods.get(key)?;
    let mut notes = Vec::new();
    if pod.host_network {
        notes.push("it is in its node's network: policies do not apply to it".to_owned());
    }
    let selecting: Vec<&Arc<NetworkPolicy>> = match pod.host_network {
        true => Vec::new(),
        false => snapshot.policies_in(&pod.namespace).filter(|policy| selects(policy, pod)).collect(),
    };
    for policy in &selecting {
        let name = policy.key().to_string();
        notes.extend(problems(policy).map(|problem| format!("{name}: {problem}")));
        notes.extend(about(&name, conditions).map(|message| format!("{name}: {message}")));
    }
    let explain = |direction| rules(snapshot, pod, &selecting, direction);
    Some(PolicyExplanation {
        pod: key.to_string(),
        addresses: pod.addresses.clone(),
        always: ALWAYS.map(str::to_owned).into(),
        ingress: explain(Direction::Ingress),
        egress: explain(Direction::Egress),
        notes,
    })
}

/// The rules that hold for a pod; `None` where no policy isolates it.
fn rules(
    snapshot: &Snapshot,
    pod: &Pod,
    selecting: &[&Arc<NetworkPolicy>],
    direction: Direction,
) -> Option<Vec<RuleRow>> {
    let mut rows = Vec::new();
    let isolating = selecting.iter().filter_map(|policy| Some((*policy, direction.rules(policy)?)));
    for (policy, rules) in isolating {
        let name = policy.key().to_string();
        if rules.is_empty() {
            rows.push(RuleRow { policy: name.clone(), ..RuleRow::default() });
        }
        rows.extend(rules.iter().enumerate().map(|(index, rule)| RuleRow {
            policy: name.clone(),
            rule: Some(index),
            peers: peers(policy, rule),
            matches: matches(snapshot, policy, rule),
            ports: ports(rule, (direction == Direction::Ingress).then_some(pod)),
        }));
    }
    let isolated = selecting.iter().any(|policy| direction.rules(policy).is_some());
    isolated.then_some(rows)
}

fn subjects(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<Pod>> {
    snapshot.pods.values().filter(|pod| !pod.host_network && !pod.ended())
}

fn selects(policy: &NetworkPolicy, pod: &Pod) -> bool {
    policy.namespace == pod.namespace && policy.pod_selector.matches(&pod.labels)
}

fn problems(policy: &NetworkPolicy) -> impl Iterator<Item = String> {
    policy.problems().iter().map(|problem| format!("{}: {}", problem.field, problem.message))
}

fn about(policy: &str, conditions: &[ConditionRow]) -> impl Iterator<Item = String> {
    let concerns =
        move |row: &&ConditionRow| row.policies.is_empty() || row.policies.iter().any(|named| named == policy);
    conditions.iter().filter(concerns).map(|row| row.message.clone())
}

// === Texts ===

fn peers(policy: &NetworkPolicy, rule: &Rule) -> Vec<String> {
    match &rule.peers {
        _ if rule.admits_nothing() => vec!["nobody: the rule is invalid".to_owned()],
        Scope::Everything => vec!["anybody".to_owned()],
        Scope::Only(peers) => peers.iter().map(|peer| peer_text(policy, peer)).collect(),
    }
}

fn peer_text(policy: &NetworkPolicy, peer: &Peer) -> String {
    let namespaces = |selector: &LabelSelector| match selector.is_empty() {
        true => "any namespace".to_owned(),
        false => format!("namespaces with {}", selector_text(selector)),
    };
    let pods = |selector: &LabelSelector| match selector.is_empty() {
        true => "any pod".to_owned(),
        false => format!("pods with {}", selector_text(selector)),
    };
    match peer {
        Peer::Pods(selector) => format!("{} of {}", pods(selector), policy.namespace),
        Peer::Namespaces(selector) => format!("any pod of {}", namespaces(selector)),
        Peer::PodsIn { namespaces: selector, pods: of } => format!("{} of {}", pods(of), namespaces(selector)),
        Peer::Block(block) if block.except.is_empty() => block.cidr.to_string(),
        Peer::Block(block) => {
            let except: Vec<String> = block.except.iter().map(ToString::to_string).collect();
            format!("{} except {}", block.cidr, except.join(", "))
        }
    }
}

/// As kubectl writes selectors: `app=web,tier in (a,b),!old`.
fn selector_text(selector: &LabelSelector) -> String {
    let labels = selector.labels.iter().map(|(key, value)| format!("{key}={value}"));
    let list = |values: &BTreeSet<String>| values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
    let expressions = selector.expressions.iter().map(|expression| match &expression.operator {
        LabelOperator::In(values) => format!("{} in ({})", expression.key, list(values)),
        LabelOperator::NotIn(values) => format!("{} notin ({})", expression.key, list(values)),
        LabelOperator::Exists => expression.key.clone(),
        LabelOperator::DoesNotExist => format!("!{}", expression.key),
    });
    labels.chain(expressions).collect::<Vec<_>>().join(",")
}

fn ports(rule: &Rule, subject: Option<&Pod>) -> Vec<String> {
    match &rule.ports {
        Scope::Everything => vec!["all".to_owned()],
        Scope::Only(ports) => ports.iter().map(|port| port_text(port, subject)).collect(),
    }
}

/// A name is followed by what it means on the pod itself, where the rule is about its own ports.
fn port_text(port: &PolicyPort, subject: Option<&Pod>) -> String {
    let protocol = port.protocol;
    match &port.port {
        PortMatch::Any => format!("all/{protocol}"),
        PortMatch::Numbers { first, last } if first == last => format!("{first}/{protocol}"),
        PortMatch::Numbers { first, last } => format!("{first}-{last}/{protocol}"),
        PortMatch::Name(name) => {
            let Some(pod) = subject else { return format!("{name}/{protocol}") };
            let named = pod.ports.iter().filter(|own| own.name.as_ref() == Some(name) && own.protocol == protocol);
            let meant: Vec<String> = named.map(|own| own.port.to_string()).collect();
            let meant = if meant.is_empty() { "none of its ports".to_owned() } else { meant.join(", ") };
            format!("{name}/{protocol} ({meant})")
        }
    }
}

/// The pods that a rule admits now; `None` where it is not about pods.
fn matches(snapshot: &Snapshot, policy: &NetworkPolicy, rule: &Rule) -> Option<Vec<String>> {
    let Scope::Only(peers) = &rule.peers else { return None };
    if peers.iter().all(|peer| matches!(peer, Peer::Block(_))) {
        return None;
    }
    let is_peer = |pod: &&Arc<Pod>| peers.iter().any(|peer| matches_pod(snapshot, policy, peer, pod));
    Some(subjects(snapshot).filter(is_peer).map(|pod| pod.key().to_string()).collect())
}

fn matches_pod(snapshot: &Snapshot, policy: &NetworkPolicy, peer: &Peer, pod: &Pod) -> bool {
    let selected = |selector: &LabelSelector| {
        let namespace = snapshot.namespaces.get(&pod.namespace);
        namespace.is_some_and(|namespace| selector.matches(&namespace.labels))
    };
    match peer {
        Peer::Pods(selector) => pod.namespace == policy.namespace && selector.matches(&pod.labels),
        Peer::Namespaces(selector) => selected(selector),
        Peer::PodsIn { namespaces, pods } => selected(namespaces) && pods.matches(&pod.labels),
        Peer::Block(block) => pod.addresses.iter().any(|address| block.contains(*address)),
    }
}

#[cfg(test)]
mod tests {
    use sdn_cluster::model::{Kind, Object};

    use super::*;

    fn snapshot() -> Snapshot {
        let objects = [
            (Kind::Namespace, r#"{"metadata": {"name": "shop", "labels": {"team": "a"}}}"#),
            (
                Kind::Pod,
                r#"{"metadata": {"namespace": "shop", "name": "web", "labels": {"app": "web"}},
                    "spec": {"nodeName": "n0", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]}}"#,
            ),
            (
                Kind::Pod,
                r#"{"metadata": {"namespace": "shop", "name": "client", "labels": {"app": "client"}},
                    "spec": {"nodeName": "n1", "containers": [{"name": "c"}]}}"#,
            ),
            (
                Kind::NetworkPolicy,
                r#"{"metadata": {"namespace": "shop", "name": "web"}, "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [
                    {"from": [{"podSelector": {"matchLabels": {"app": "client"}}}], "ports": [{"port": "http"}, {"port": 80, "endPort": 90}]},
                    {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
                              {"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "In", "values": ["a", "b"]}]}, "podSelector": {}}]},
                    {}]}}"#,
            ),
            (
                Kind::NetworkPolicy,
                r#"{"metadata": {"namespace": "shop", "name": "out"}, "spec": {"podSelector": {}, "policyTypes": ["Egress"]}}"#,
            ),
        ];
        let mut snapshot = Snapshot { synced: true, ..Snapshot::default() };
        for (kind, json) in objects {
            match Object::parse(kind, json, "").unwrap() {
                Object::Namespace(namespace) => drop(snapshot.namespaces.insert(namespace.name.clone(), namespace)),
                Object::Pod(pod, _) => drop(snapshot.pods.insert(pod.key(), pod)),
                Object::NetworkPolicy(policy) => drop(snapshot.policies.insert(policy.key(), policy)),
                _ => unreachable!("no other kind is in the list"),
            }
        }
        snapshot
    }

    #[test]
    fn policies_are_listed_with_what_they_select_and_what_found_no_room() {
        let conditions = [ConditionRow {
            policies: vec!["shop/web".to_owned()],
            message: "too large".to_owned(),
            ..ConditionRow::default()
        }];
        let rows = rows(&snapshot(), "n0", &conditions);
        let short: Vec<_> = rows
            .iter()
            .map(|row| (row.name.as_str(), row.ingress, row.egress, row.pods.join(" "), row.here, row.conditions.len()))
            .collect();
        assert_eq!(
            short,
            [
                ("out", None, Some(0), "shop/client shop/web".to_owned(), 1, 0),
                ("web", Some(3), None, "shop/web".to_owned(), 1, 1)
            ]
        );
    }

    #[test]
    fn a_pod_is_explained_rule_by_rule() {
        let snapshot = snapshot();
        assert_eq!(explain(&snapshot, &PodKey::new("shop", "gone"), &[]), None);
        let web = explain(&snapshot, &PodKey::new("shop", "web"), &[]).unwrap();
        let row = |row: &RuleRow| {
            let matches = row.matches.as_ref().map_or("-".to_owned(), |matches| matches.join(" "));
            format!("{} {:?}: {} | {matches} | {}", row.policy, row.rule, row.peers.join("; "), row.ports.join(" "))
        };
        let ingress: Vec<String> = web.ingress.unwrap().iter().map(row).collect();
        assert_eq!(
            ingress,
            [
                "shop/web Some(0): pods with app=client of shop | shop/client | http/TCP (8080) 80-90/TCP",
                "shop/web Some(1): 10.0.0.0/8 except 10.1.0.0/16; any pod of namespaces with team in (a,b) | shop/client shop/web | all",
                "shop/web Some(2): anybody | - | all",
            ]
        );
        let egress: Vec<String> = web.egress.unwrap().iter().map(row).collect();
        assert_eq!(egress, ["shop/out None:  | - | "], "isolated, and nothing admitted");
        let client = explain(&snapshot, &PodKey::new("shop", "client"), &[]).unwrap();
        assert_eq!(client.ingress, None);
    }
}

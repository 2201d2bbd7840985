//! A row for each statement about policies that the model can decide. See also `tests/policy_conformance.rs`.

use super::*;
use crate::{
    model::{ContainerPort, Kind, Node, Object},
    source::manifests,
};

/// Three namespaces on two nodes. In each of shop and other there are `web` (http is 8080/TCP, dns 53/UDP), `api` (http
/// is 9090/TCP) and `db`; all on node-1 but `api`. `agent` is in the network of node-1, `remote` in that of node-2.
fn cluster(policies: &str) -> Snapshot {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("policies.yaml");
    std::fs::write(&path, policies).expect("written");
    let contents = manifests::read(&path, Kind::DERIVED).expect("read");
    assert_eq!(contents.problems, [], "{policies}");
    let mut snapshot = base();
    for object in contents.objects {
        match object {
            Object::NetworkPolicy(policy) => drop(snapshot.policies.insert(policy.key(), policy)),
            Object::Namespace(namespace) => drop(snapshot.namespaces.insert(namespace.name.clone(), namespace)),
            other => panic!("{other:?} is not expected here"),
        }
    }
    snapshot
}

fn base() -> Snapshot {
    let mut snapshot = Snapshot { synced: true, ..Snapshot::default() };
    for (number, name) in [(1, "node-1"), (2, "node-2")] {
        let node = Node {
            name: name.into(),
            addresses: vec![address(&format!("192.0.2.{number}")), address(&format!("2001:db8::{number}"))],
            subnets: vec![
                format!("10.128.{}.0/23", 2 * number).parse().expect("a subnet"),
                format!("fd01:0:0:{number}::/64").parse().expect("a subnet"),
            ],
            ..Node::default()
        };
        snapshot.nodes.insert(name.into(), node.into());
    }
    for (name, team) in [("shop", "a"), ("other", "b"), ("infra", "c")] {
        let json = format!(r#"{{"metadata": {{"name": "{name}", "labels": {{"team": "{team}"}}}}}}"#);
        let Ok(Object::Namespace(namespace)) = Object::parse(Kind::Namespace, &json, "") else { panic!("{json}") };
        snapshot.namespaces.insert(name.into(), namespace);
    }
    for (third, namespace) in [(2, "shop"), (3, "other")] {
        let web = [("http", 8080, Protocol::Tcp), ("dns", 53, Protocol::Udp)];
        pod(&mut snapshot, namespace, "web", "node-1", (third, 10), &web);
        pod(&mut snapshot, namespace, "api", "node-2", (third + 2, 10), &[("http", 9090, Protocol::Tcp)]);
        pod(&mut snapshot, namespace, "db", "node-1", (third, 20), &[]);
    }
    for (name, node, address) in [("agent", "node-1", "192.0.2.1"), ("remote", "node-2", "192.0.2.2")] {
        let host_pod = Pod {
            namespace: "infra".into(),
            name: name.into(),
            node: Some(node.into()),
            addresses: vec![address.parse().expect("an address")],
            host_network: true,
            ports: vec![port("http", 8080, Protocol::Tcp)],
            ..Pod::default()
        };
        snapshot.pods.insert(host_pod.key(), host_pod.into());
    }
    snapshot
}

fn port(name: &str, port: u16, protocol: Protocol) -> ContainerPort {
    ContainerPort { name: Some(name.into()), port, protocol, host_port: None }
}

fn pod(
    snapshot: &mut Snapshot,
    namespace: &str,
    name: &str,
    node: &str,
    (third, last): (u8, u8),
    ports: &[(&str, u16, Protocol)],
) {
    let pod = Pod {
        namespace: namespace.into(),
        name: name.into(),
        labels: [("app".to_owned(), name.to_owned())].into(),
        node: Some(node.into()),
        addresses: vec![address(&format!("10.128.{third}.{last}")), address(&format!("fd01:0:0:{third}::{last}"))],
        ports: ports.iter().map(|(name, number, protocol)| port(name, *number, *protocol)).collect(),
        ..Pod::default()
    };
    snapshot.pods.insert(pod.key(), pod.into());
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// `shop/web`, `node-1@192.0.2.1` or an address.
fn end(text: &str) -> End {
    if let Some((name, at)) = text.split_once('@') {
        return End::Node { name: name.into(), address: address(at) };
    }
    match text.split_once('/') {
        Some((namespace, name)) => End::Pod(PodKey::new(namespace, name)),
        None => End::Address(address(text)),
    }
}

/// `from > to 80/TCP`, `6: from > to ICMP`.
fn flow(text: &str) -> Flow {
    let (family, text) = text.strip_prefix("6: ").map_or((Family::V4, text), |rest| (Family::V6, rest));
    let words: Vec<_> = text.split(' ').collect();
    let [from, ">", to, traffic] = words[..] else { panic!("{text}") };
    let traffic = match traffic.split_once('/') {
        None => Traffic::Icmp,
        Some((port, protocol)) => Traffic::Port {
            port: port.parse().expect("a port"),
            protocol: [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
                .into_iter()
                .find(|known| known.as_str() == protocol)
                .expect("a protocol"),
        },
    };
    Flow { from: end(from), to: end(to), family, traffic }
}

/// What a policy for shop's web, called `name`, has after `spec:`, in flow style.
fn web(name: &str, spec: &str) -> String {
    policy(name, &format!("podSelector: {{matchLabels: {{app: web}}}}, {spec}"))
}

fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{{spec}}}\n"
    )
}

/// Flows that must pass and flows that must not.
type Rows<'a> = &'a [(&'a str, bool)];

fn check(policies: &str, rows: Rows) {
    let snapshot = cluster(policies);
    for (text, expected) in rows {
        let answer = verdict(&snapshot, &flow(text));
        assert_eq!(answer.allowed(), *expected, "{text}: {answer:?} under\n{policies}");
    }
}

#[test]
fn policies_are_united() {
    let from_api = web("a", "ingress: [{from: [{podSelector: {matchLabels: {app: api}}}]}]");
    let from_db = web("b", "ingress: [{from: [{podSelector: {matchLabels: {app: db}}}], ports: [{port: 80}]}]");
    check(
        &(from_api + &from_db),
        &[
            ("shop/api > shop/web 80/TCP", true),
            ("shop/api > shop/web 81/TCP", true),
            ("shop/db > shop/web 80/TCP", true),
            ("shop/db > shop/web 81/TCP", false),
            ("other/api > shop/web 80/TCP", false),
            ("shop/api > shop/db 80/TCP", true),
            ("shop/web > shop/api 80/TCP", true),
        ],
    );
}

#[test]
fn empty_and_absent_rules() {
    let (into, out) = ("shop/api > shop/web 80/TCP", "shop/web > shop/api 80/TCP");
    // spec, in, out
    let rows = [
        ("ingress: []", false, true),
        ("ingress: [{}]", true, true),
        ("policyTypes: [Ingress]", false, true),
        ("policyTypes: []", false, true),
        ("policyTypes: null, ingress: null", false, true),
        ("policyTypes: [Egress]", true, false),
        ("policyTypes: [Egress, Ingress]", false, false),
        ("policyTypes: [Ingress, Ingress]", false, true),
        ("policyTypes: [Egress], egress: [{}]", true, true),
        ("policyTypes: [Egress], egress: [], ingress: []", true, false),
        // Rules of a direction that is not among the types say nothing.
        ("policyTypes: [Ingress], egress: [{to: [{podSelector: {}}], ports: [{port: 1}]}]", false, true),
        ("policyTypes: [Egress], ingress: [{ports: [{port: 1}]}]", true, false),
        // Defaults: always Ingress, and Egress where there are rules for it.
        ("egress: [{}]", false, true),
        ("egress: [{ports: [{port: 1}]}]", false, false),
        ("ingress: [{}], egress: []", true, true),
        ("ingress: [{}], egress: null", true, true),
    ];
    for (spec, ingress, egress) in rows {
        check(&web("a", spec), &[(into, ingress), (out, egress)]);
    }
}

#[test]
fn an_absent_pod_selector_selects_all_of_the_namespace() {
    for spec in ["podSelector: {}", "podSelector: null", "ingress: []"] {
        let rows = [("other/db > shop/db 80/TCP", false), ("shop/web > shop/api 80/TCP", false)];
        check(&policy("a", spec), &[rows[0], rows[1], ("shop/web > other/web 80/TCP", true)]);
    }
}

#[test]
fn peers_alone_and_together() {
    let (api, other_api, other_db, outside) = (
        "shop/api > shop/web 80/TCP",
        "other/api > shop/web 80/TCP",
        "other/db > shop/web 80/TCP",
        "203.0.113.7 > shop/web 80/TCP",
    );
    // from, shop/api, other/api, other/db, outside
    let rows = [
        ("from: []", [true, true, true, true]),
        ("from: null", [true, true, true, true]),
        ("", [true, true, true, true]),
        ("from: [{podSelector: {}}]", [true, false, false, false]),
        ("from: [{namespaceSelector: {}}]", [true, true, true, false]),
        ("from: [{namespaceSelector: {matchLabels: {team: b}}}]", [false, true, true, false]),
        (
            "from: [{namespaceSelector: {matchLabels: {team: b}}, podSelector: {matchLabels: {app: api}}}]",
            [false, true, false, false],
        ),
        (
            "from: [{namespaceSelector: {matchLabels: {team: b}}}, {podSelector: {matchLabels: {app: api}}}]",
            [true, true, true, false],
        ),
        ("from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: api}}}]", [true, true, false, false]),
        (
            "from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: other}}}]",
            [false, true, true, false],
        ),
        (
            "from: [{namespaceSelector: {matchExpressions: [{key: absent, operator: NotIn, values: [x]}]}}]",
            [true, true, true, false],
        ),
        ("from: [{podSelector: {matchExpressions: [{key: absent, operator: Exists}]}}]", [false, false, false, false]),
        ("from: [{ipBlock: {cidr: 0.0.0.0/0}}]", [true, true, true, true]),
        ("from: [{ipBlock: {cidr: 203.0.113.7/32}}]", [false, false, false, true]),
    ];
    for (from, expected) in rows {
        let flows: Vec<_> = [api, other_api, other_db, outside].into_iter().zip(expected).collect();
        check(&web("a", &format!("ingress: [{{{from}}}]")), &flows);
    }
}

#[test]
fn named_ports_are_the_destinations_own() {
    let named = |name: &str, protocol: &str| {
        policy("a", &format!("ingress: [{{ports: [{{port: {name}, protocol: {protocol}}}]}}]"))
    };
    check(
        &named("http", "TCP"),
        &[
            ("other/web > shop/web 8080/TCP", true),
            ("other/web > shop/web 9090/TCP", false),
            ("other/web > shop/api 9090/TCP", true),
            ("other/web > shop/api 8080/TCP", false),
            ("other/web > shop/web 8080/UDP", false),
            ("other/web > shop/db 8080/TCP", false),
        ],
    );
    check(&named("http", "UDP"), &[("other/web > shop/web 8080/UDP", false), ("other/web > shop/web 8080/TCP", false)]);
    check(&named("dns", "UDP"), &[("other/web > shop/web 53/UDP", true), ("other/web > shop/web 53/TCP", false)]);
    check(&named("none", "TCP"), &[("other/web > shop/web 8080/TCP", false), ("other/web > shop/web 53/UDP", false)]);
    // On the way out they are the peer's, wherever it is; what is no pod has none.
    check(
        &web("a", "policyTypes: [Egress], egress: [{ports: [{port: http}]}]"),
        &[
            ("shop/web > other/api 9090/TCP", true),
            ("shop/web > other/api 8080/TCP", false),
            ("shop/web > other/web 8080/TCP", true),
            ("shop/web > 203.0.113.7 8080/TCP", false),
            ("shop/web > infra/remote 8080/TCP", false),
        ],
    );
}

#[test]
fn ports_and_ranges_are_exact() {
    let ports = |ports: &str| web("a", &format!("ingress: [{{ports: {ports}}}]"));
    let to = |port: &str| format!("shop/api > shop/web {port}");
    // ports, those that are admitted, those that are not
    let rows: [(&str, &[&str], &[&str]); 9] = [
        ("[]", &["1/TCP", "1/UDP", "1/SCTP", "ICMP"], &[]),
        ("null", &["1/TCP", "ICMP"], &[]),
        ("[{}]", &["1/TCP", "65535/TCP"], &["1/UDP", "1/SCTP", "ICMP"]),
        ("[{protocol: SCTP}]", &["0/SCTP", "7/SCTP"], &["7/TCP", "ICMP"]),
        ("[{port: 80}]", &["80/TCP"], &["79/TCP", "81/TCP", "0/TCP", "80/UDP", "80/SCTP", "ICMP"]),
        ("[{port: 80, endPort: 80}]", &["80/TCP"], &["79/TCP", "81/TCP", "0/TCP"]),
        ("[{port: 80, endPort: 90, protocol: UDP}]", &["80/UDP", "85/UDP", "90/UDP"], &["79/UDP", "91/UDP", "85/TCP"]),
        ("[{port: 65000, endPort: 65535}]", &["65000/TCP", "65535/TCP"], &["0/TCP", "1/TCP", "64999/TCP"]),
        ("[{port: 53, protocol: UDP}, {port: 80}]", &["53/UDP", "80/TCP"], &["53/TCP", "80/UDP"]),
    ];
    for (list, admitted, denied) in rows {
        let flows: Vec<_> =
            admitted.iter().map(|port| (to(port), true)).chain(denied.iter().map(|port| (to(port), false))).collect();
        let flows: Vec<_> = flows.iter().map(|(text, expected)| (text.as_str(), *expected)).collect();
        check(&ports(list), &flows);
    }
}

#[test]
fn blocks_match_whatever_has_the_address() {
    check(
        &web("a", "ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]}]"),
        &[
            ("203.0.113.7 > shop/web 80/TCP", true),
            ("10.1.2.3 > shop/web 80/TCP", false),
            ("shop/api > shop/web 80/TCP", false),
            ("node-2@192.0.2.2 > shop/web 80/TCP", true),
            ("node-2@10.128.4.1 > shop/web 80/TCP", false),
            ("infra/remote > shop/web 80/TCP", true),
            ("6: 2001:db8::7 > shop/web 80/TCP", false),
        ],
    );
    check(
        &web(
            "a",
            "ingress: [{from: [{ipBlock: {cidr: 10.128.4.0/24, except: [10.128.4.20/32]}}], ports: [{port: 80}]}]",
        ),
        &[
            ("shop/api > shop/web 80/TCP", true),
            ("6: shop/api > shop/web 80/TCP", false),
            ("shop/api > shop/web 81/TCP", false),
            ("10.128.4.20 > shop/web 80/TCP", false),
            ("shop/db > shop/web 80/TCP", false),
        ],
    );
    check(
        &web(
            "a",
            "policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 'fd01::/16', except: ['fd01:0:0:5::/64']}}]}]",
        ),
        &[
            ("6: shop/web > shop/api ICMP", true),
            ("6: shop/web > other/api ICMP", false),
            ("shop/web > shop/api ICMP", false),
            ("6: shop/web > fd01:0:0:4::10 80/TCP", true),
            ("6: shop/web > 2001:db8::1 80/TCP", false),
        ],
    );
}

#[test]
fn a_pod_reaches_itself_and_its_own_node_reaches_it() {
    let deny = policy("deny", "podSelector: {}, policyTypes: [Ingress, Egress]");
    check(
        &deny,
        &[
            ("shop/web > shop/web 80/TCP", true),
            ("shop/web > shop/web ICMP", true),
            ("node-1@192.0.2.1 > shop/web 80/TCP", true),
            ("6: node-1@2001:db8::1 > shop/web 80/TCP", true),
            ("node-1@10.128.2.1 > shop/web ICMP", true),
            ("infra/agent > shop/web 80/TCP", true),
            ("node-2@192.0.2.2 > shop/web 80/TCP", false),
            ("infra/remote > shop/web 80/TCP", false),
            // Not by address: what a node forwards for others is judged.
            ("192.0.2.1 > shop/web 80/TCP", false),
            ("shop/web > node-1@192.0.2.1 80/TCP", false),
            ("shop/web > shop/db 80/TCP", false),
        ],
    );
}

#[test]
fn pods_in_the_host_network_are_no_subjects() {
    let deny = policy("deny", "podSelector: {}, policyTypes: [Ingress, Egress]").replace("shop", "infra");
    check(
        &deny,
        &[
            ("shop/web > infra/agent 80/TCP", true),
            ("infra/agent > shop/web 80/TCP", true),
            ("infra/agent > 203.0.113.7 80/TCP", true),
        ],
    );
}

#[test]
fn hosts_are_selected_as_on_openshift() {
    const HOSTS: &str = "---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: openshift-host-network\n  labels: {policy-group.network.openshift.io/host-network: ''}\n";
    const ROUTERS: &str = "---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: routers\n  labels: {policy-group.network.openshift.io/ingress: ''}\n";
    let flows = ["infra/remote > shop/web 80/TCP", "node-2@192.0.2.2 > shop/web 80/TCP"];
    // the namespaces there are, from, whether hosts get in
    let rows = [
        ("", "{namespaceSelector: {}}", false),
        (HOSTS, "{namespaceSelector: {}}", true),
        (ROUTERS, "{namespaceSelector: {}}", true),
        (HOSTS, "{namespaceSelector: {matchLabels: {policy-group.network.openshift.io/host-network: ''}}}", true),
        (HOSTS, "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: openshift-host-network}}}", true),
        (ROUTERS, "{namespaceSelector: {matchLabels: {policy-group.network.openshift.io/ingress: ''}}}", true),
        (HOSTS, "{namespaceSelector: {matchLabels: {policy-group.network.openshift.io/ingress: ''}}}", false),
        (HOSTS, "{namespaceSelector: {}, podSelector: {}}", false),
        (HOSTS, "{podSelector: {}}", false),
        // Not by the namespace that such a pod is in.
        (HOSTS, "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: infra}}}", false),
    ];
    for (namespaces, from, expected) in rows {
        let policies = format!("{namespaces}{}", web("a", &format!("ingress: [{{from: [{from}]}}]")));
        check(&policies, &flows.map(|flow| (flow, expected)));
    }
    let out = "policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}]}]";
    check(&(HOSTS.to_owned() + &web("a", out)), &[("shop/web > node-2@192.0.2.2 80/TCP", true)]);
}

#[test]
fn icmp_follows_rules_without_ports() {
    let from_api = |ports: &str| web("a", &format!("ingress: [{{from: [{{podSelector: {{}}}}]{ports}}}]"));
    check(&from_api(""), &[("shop/api > shop/web ICMP", true), ("other/api > shop/web ICMP", false)]);
    check(&from_api(", ports: [{port: 80}]"), &[("shop/api > shop/web ICMP", false)]);
    check(&from_api(", ports: [{}, {protocol: UDP}, {protocol: SCTP}]"), &[("shop/api > shop/web ICMP", false)]);
}

#[test]
fn every_answer_has_its_author() {
    let policies = web("b", "ingress: [{from: [{podSelector: {matchLabels: {app: db}}}]}, {ports: [{port: 80}]}]")
        + &web("a", "ingress: []")
        + &web("c", "ingress: [{ports: [{port: 80}]}], egress: [{ports: [{port: 443}]}]");
    let snapshot = cluster(&policies);
    let rows = [
        ("other/api > shop/web 80/TCP", "admitted by shop/b, rule 1", "not isolated"),
        ("shop/db > shop/web 80/TCP", "admitted by shop/b, rule 0", "not isolated"),
        ("shop/api > shop/web 81/TCP", "isolated by shop/a", "not isolated"),
        ("shop/web > 203.0.113.7 80/TCP", "not subject to policy", "isolated by shop/c"),
        ("shop/web > shop/api 443/TCP", "not isolated", "admitted by shop/c, rule 0"),
        ("shop/web > shop/web 1/TCP", "a pod reaches itself", "a pod reaches itself"),
        ("node-1@192.0.2.1 > shop/web 1/TCP", "the pod's own node", "not subject to policy"),
        ("shop/nobody > shop/api 1/TCP", "not isolated", "no such pod"),
        ("shop/web > shop/nobody 443/TCP", "no such pod", "admitted by shop/c, rule 0"),
    ];
    for (text, ingress, egress) in rows {
        let answer = verdict(&snapshot, &flow(text));
        assert_eq!((answer.ingress.to_string(), answer.egress.to_string()), (ingress.into(), egress.into()), "{text}");
    }
}

#[test]
fn of_an_unknown_namespace_no_labels_are_known() {
    let not_a = "matchExpressions: [{key: team, operator: NotIn, values: [a]}]";
    let mut snapshot = cluster(&web("a", &format!("ingress: [{{from: [{{namespaceSelector: {{{not_a}}}}}]}}]")));
    let flow = flow("other/api > shop/web 80/TCP");
    assert!(verdict(&snapshot, &flow).allowed());
    snapshot.namespaces.remove("other");
    assert!(!verdict(&snapshot, &flow).allowed());
}

#[test]
fn invalid_rules_admit_nothing_and_the_others_do() {
    let json = r#"{"metadata": {"name": "a", "namespace": "shop"}, "spec": {"podSelector": {"matchLabels": {"app": "web"}},
        "ingress": [{"ports": [{"port": 80}]}, {"from": [{}]}, {"ports": [{"port": 90, "endPort": 80}, {"port": 81}]}]}}"#;
    let Ok(Object::NetworkPolicy(policy)) = Object::parse(Kind::NetworkPolicy, json, "") else { panic!("not taken") };
    let mut snapshot = base();
    snapshot.policies.insert(policy.key(), policy);
    for (port, expected) in [(80, true), (81, false), (85, false), (1, false)] {
        let answer = verdict(&snapshot, &flow(&format!("shop/api > shop/web {port}/TCP")));
        assert_eq!(answer.allowed(), expected, "{port}: {answer:?}");
    }
}

#[test]
fn addresses_belong_to_pods_nodes_or_nobody() {
    let mut snapshot = base();
    let rows = [
        ("10.128.2.10", "shop/web"),
        ("fd01:0:0:2::10", "shop/web"),
        ("192.0.2.1", "node-1@192.0.2.1"),
        ("10.128.2.1", "node-1@10.128.2.1"),
        ("fd01:0:0:2::1", "node-2@fd01:0:0:2::1"),
        ("10.128.2.11", "10.128.2.11"),
        ("203.0.113.7", "203.0.113.7"),
    ];
    for (at, expected) in rows {
        assert_eq!(End::at(&snapshot, address(at)), end(expected), "{at}");
    }
    let key = PodKey::new("shop", "web");
    let ended = Pod { phase: crate::model::PodPhase::Failed, ..Pod::clone(&snapshot.pods[&key]) };
    snapshot.pods.insert(key, ended.into());
    assert_eq!(End::at(&snapshot, address("10.128.2.10")), end("10.128.2.10"), "its address may be another's already");
}

use super::*;
use crate::model::{ContainerPort, PodPhase, Protocol};
use std::collections::HashMap;

/// The objects of a text of manifests, all good.
fn objects(text: &str) -> Vec<Object> {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("test.yaml");
    std::fs::write(&file, text).expect("written");
    let contents = crate::source::manifests::read(&file, Kind::ALL).expect("read");
    assert_eq!(contents.problems, []);
    contents.objects
}

fn derived(text: &str, count: usize) -> Derived {
    derive(objects(text), nodes(count), &ClusterNetworks::default(), &ServiceRanges::default()).expect("derived")
}

fn workload(kind: &str, name: &str, fields: &str, template: &str) -> String {
    let api_version = match kind {
        "ReplicationController" => "v1",
        "DeploymentConfig" => "apps.openshift.io/v1",
        "Job" | "CronJob" => "batch/v1",
        _ => "apps/v1",
    };
    let template = format!(
        "template: {{metadata: {{labels: {{app: {name}}}}}, spec: {{{template}containers: [{{ports: [{{containerPort: 80}}]}}]}}}}"
    );
    format!(
        "{{apiVersion: {api_version}, kind: {kind}, metadata: {{name: {name}, namespace: shop}}, spec: {{{fields}{template}}}}}\n---\n"
    )
}

fn names(derived: &Derived) -> Vec<&str> {
    derived.pods.iter().map(|pod| &*pod.name).collect()
}

fn pods_per_node(derived: &Derived) -> BTreeMap<&str, usize> {
    let mut count = BTreeMap::new();
    for node in derived.pods.iter().filter_map(|pod| pod.node.as_deref()) {
        *count.entry(node).or_default() += 1;
    }
    count
}

#[test]
fn workloads_become_pods() {
    // kind, fields, what the names look like (# for five letters or digits, @ for nine), labels that are added
    type Row<'a> = (&'a str, &'a str, &'a [&'a str], &'a [(&'a str, &'a str)]);
    let rows: &[Row] = &[
        ("Deployment", "replicas: 2, ", &["web-@-#", "web-@-#"], &[]),
        ("ReplicaSet", "replicas: 2, ", &["web-#", "web-#"], &[]),
        ("ReplicationController", "replicas: 1, ", &["web-#"], &[]),
        ("DeploymentConfig", "replicas: 1, ", &["web-1-#"], &[("deploymentconfig", "web"), ("deployment", "web-1")]),
        ("StatefulSet", "replicas: 2, ", &["web-0", "web-1"], &[]),
        (
            "StatefulSet",
            "ordinals: {start: 3}, ",
            &["web-3"],
            &[("statefulset.kubernetes.io/pod-name", "web-3"), ("apps.kubernetes.io/pod-index", "3")],
        ),
        ("DaemonSet", "", &["web-#", "web-#", "web-#"], &[]),
        (
            "Job",
            "parallelism: 2, ",
            &["web-#", "web-#"],
            &[("job-name", "web"), ("batch.kubernetes.io/job-name", "web")],
        ),
        ("Deployment", "replicas: 0, ", &[], &[]),
    ];
    for (kind, fields, expected, labels) in rows {
        let text = workload(kind, "web", fields, "");
        let derived = derived(&text, 3);
        let shape = |name: &&str| {
            let parts: Vec<_> = name.split('-').collect();
            let shaped = parts.iter().enumerate().map(|(index, part)| match part.len() {
                5 if index > 0 => "#",
                9 if index > 0 => "@",
                _ => part,
            });
            shaped.collect::<Vec<_>>().join("-")
        };
        assert_eq!(names(&derived).iter().map(shape).collect::<Vec<_>>(), *expected, "{kind} {fields}");
        assert_eq!(names(&derived).iter().collect::<BTreeSet<_>>().len(), expected.len(), "{kind}: names differ");
        for pod in &derived.pods {
            assert_eq!(
                (&*pod.namespace, pod.labels["app"].as_str(), pod.phase, pod.ready),
                ("shop", "web", PodPhase::Pending, false)
            );
            assert_eq!(pod.ports, [ContainerPort { name: None, port: 80, protocol: Protocol::Tcp, host_port: None }]);
            assert_eq!((pod.uid.len(), &pod.uid[14..15], pod.addresses.len()), (36, "8", 0), "{}", pod.uid);
            for (key, value) in *labels {
                assert_eq!(pod.labels.get(*key).map(String::as_str), Some(*value), "{kind}");
            }
            assert_eq!(pod.labels.contains_key("pod-template-hash"), *kind == "Deployment");
        }
        assert_eq!(
            derived.pods.iter().map(|pod| &pod.uid).collect::<BTreeSet<_>>().len(),
            expected.len(),
            "{kind}: UIDs differ"
        );
        let again = super::tests::derived(&text, 3);
        assert_eq!((names(&again), &again.pods), (names(&derived), &derived.pods), "{kind}: the same every time");
    }
}

#[test]
fn names_and_uids_are_the_same_in_every_version() {
    let derived = derived(&(workload("Deployment", "web", "", "") + &workload("StatefulSet", "db", "", "")), 1);
    let got: Vec<_> = derived.pods.iter().map(|pod| format!("{} {}", pod.name, pod.uid)).collect();
    assert_eq!(
        got,
        ["web-s87l8vm74-7kjn9 a2e57725-968a-83ba-a90e-ceba6f18e0a4", "db-0 39f43f11-20fb-813b-b7ca-9d17d4cebb67"]
    );
}

#[test]
fn what_a_workload_controls_is_not_made_twice() {
    let owned = |kind: &str, name: &str, owner_kind: &str, owner: &str, spec: &str| {
        let owner = format!(
            "ownerReferences: [{{apiVersion: apps/v1, kind: {owner_kind}, name: {owner}, uid: u, controller: true}}]"
        );
        let api_version = if kind == "Pod" { "v1" } else { "apps/v1" };
        format!(
            "{{apiVersion: {api_version}, kind: {kind}, metadata: {{name: {name}, namespace: shop, {owner}}}, spec: {{{spec}}}}}\n---\n"
        )
    };
    let template = "replicas: 2, template: {metadata: {labels: {app: web}}, spec: {containers: [{}]}}";
    let deployment = workload("Deployment", "web", "replicas: 2, ", "");
    let replica_set = owned("ReplicaSet", "web-abc", "Deployment", "web", template);
    let pods = owned("Pod", "web-abc-1", "ReplicaSet", "web-abc", "containers: [{}]")
        + &owned("Pod", "web-abc-2", "ReplicaSet", "web-abc", "containers: [{}]");
    let other = owned("Pod", "other-1", "Widget", "other", "containers: [{}]");
    // a dump of everything, of the ReplicaSet and its pods, of the pods alone, with a pod of something unknown
    assert_eq!(derived(&format!("{deployment}{replica_set}{pods}"), 2).pods.len(), 2);
    assert_eq!(derived(&format!("{replica_set}{pods}"), 2).pods.len(), 2);
    assert_eq!(names(&derived(&pods, 2)), ["web-abc-1", "web-abc-2"]);
    assert_eq!(derived(&format!("{pods}{other}{deployment}"), 2).pods.len(), 5);
}

#[test]
fn pods_are_spread() {
    let text = workload("Deployment", "a", "replicas: 3, ", "")
        + &workload("Deployment", "b", "replicas: 1, ", "")
        + &workload("StatefulSet", "c", "replicas: 2, ", "")
        + &workload("DaemonSet", "d", "", "");
    let derived = derived(&text, 3);
    let mut of_workload: HashMap<&str, BTreeSet<&str>> = HashMap::new();
    for pod in &derived.pods {
        let nodes = of_workload.entry(&pod.labels["app"]).or_default();
        assert!(nodes.insert(pod.node.as_deref().expect("placed")), "{} shares its node", pod.name);
    }
    assert_eq!(pods_per_node(&derived), BTreeMap::from([("node-1", 3), ("node-2", 3), ("node-3", 3)]));
    let seven = super::tests::derived(&workload("Deployment", "a", "replicas: 7, ", ""), 3);
    assert_eq!(pods_per_node(&seven), BTreeMap::from([("node-1", 3), ("node-2", 2), ("node-3", 2)]));
}

#[test]
fn nodes_are_chosen_by_what_pods_ask_for() {
    let node = |name: &str, labels: &str, spec: &str| {
        format!(
            "{{apiVersion: v1, kind: Node, metadata: {{name: {name}, labels: {{{labels}}}}}, spec: {{{spec}}}}}\n---\n"
        )
    };
    let nodes = node("a", "disk: ssd, cpu: '4'", "")
        + &node("b", "disk: hdd, cpu: '16'", "")
        + &node("c", "disk: ssd", "unschedulable: true");
    let affinity = |expression: &str| {
        format!(
            "affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: [{expression}]}}}}}}, "
        )
    };
    let expressions = |expression: &str| affinity(&format!("{{matchExpressions: [{{{expression}}}]}}"));
    // what the template says, and where its two pods go
    let rows: Vec<(String, &[&str])> = vec![
        (String::new(), &["a", "b"]),
        ("nodeSelector: {disk: ssd}, ".into(), &["a", "a"]),
        ("nodeSelector: {disk: tape}, ".into(), &[]),
        ("nodeName: c, ".into(), &["c", "c"]),
        ("nodeName: d, ".into(), &[]),
        (expressions("key: disk, operator: In, values: [hdd, tape]"), &["b", "b"]),
        (expressions("key: disk, operator: NotIn, values: [hdd]"), &["a", "a"]),
        (expressions("key: gpu, operator: NotIn, values: [a100]"), &["a", "b"]),
        (expressions("key: gpu, operator: Exists"), &[]),
        (expressions("key: gpu, operator: DoesNotExist"), &["a", "b"]),
        (expressions("key: cpu, operator: Gt, values: ['4']"), &["b", "b"]),
        (expressions("key: cpu, operator: Lt, values: ['5']"), &["a", "a"]),
        (expressions("key: disk, operator: Gt, values: ['5']"), &[]),
        (affinity("{}"), &[]),
        (affinity("{}, {matchFields: [{key: metadata.name, operator: In, values: [b]}]}"), &["b", "b"]),
        (
            affinity("{matchExpressions: [{key: disk, operator: Exists}, {key: cpu, operator: In, values: ['16']}]}"),
            &["b", "b"],
        ),
    ];
    for (template, expected) in rows {
        let derived = derived(&(nodes.clone() + &workload("Deployment", "web", "replicas: 2, ", &template)), 9);
        let placed: Vec<_> = derived.pods.iter().filter_map(|pod| pod.node.as_deref()).collect();
        assert_eq!(placed, expected, "{template}");
        assert_eq!(
            derived.notes.len(),
            derived.pods.len() - placed.len(),
            "{template}: each unplaced pod has its note"
        );
    }
    let daemons = |template: &str| {
        let derived = derived(&(nodes.clone() + &workload("DaemonSet", "web", "", template)), 9);
        derived.pods.iter().filter_map(|pod| pod.node.as_deref().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(daemons(""), ["a", "b", "c"], "cordoned nodes too");
    assert_eq!(daemons("nodeSelector: {disk: ssd}, "), ["a", "c"]);
    assert_eq!(daemons("nodeName: b, "), ["b"]);
}

#[test]
fn bare_pods_begin_anew() {
    let text = "
{apiVersion: v1, kind: Pod, metadata: {name: a, uid: mine}, spec: {nodeName: node-2, containers: [{}]}, status: {phase: Running, podIP: 10.0.0.1, conditions: [{type: Ready, status: 'True'}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: b}, spec: {containers: [{}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: c}, spec: {containers: [{}]}, status: {phase: Succeeded}}
---
{apiVersion: batch/v1, kind: CronJob, metadata: {name: d}}
";
    let derived = derived(text, 2);
    let a = &derived.pods[0];
    assert_eq!(
        (&*a.uid, a.node.as_deref(), a.phase, a.ready, a.addresses.len()),
        ("mine", Some("node-2"), PodPhase::Pending, false, 0)
    );
    assert_eq!(
        (names(&derived), derived.pods[1].node.as_deref(), derived.pods[1].uid.len()),
        (vec!["a", "b"], Some("node-1"), 36)
    );
    let notes: Vec<_> = derived.notes.iter().map(ToString::to_string).collect();
    assert_eq!(
        notes,
        ["Pod default/c: has ended (Succeeded), not run", "CronJob default/d: not run: nobody waits for its time"]
    );
}

#[test]
fn namespaces_are_completed() {
    let text = "{apiVersion: v1, kind: Namespace, metadata: {name: quiet, uid: u, labels: {team: a}}}\n---\n"
        .to_owned()
        + &workload("Deployment", "web", "", "");
    let derived = derived(&text, 1);
    let [quiet, shop] = &derived.namespaces[..] else { panic!("{:?}", derived.namespaces) };
    assert_eq!((&*quiet.name, &*quiet.uid, quiet.labels["team"].as_str()), ("quiet", "u", "a"));
    assert_eq!(quiet.labels["kubernetes.io/metadata.name"], "quiet");
    assert_eq!((&*shop.name, shop.uid.len(), shop.labels.len()), ("shop", 36, 1));
}

#[test]
fn impossible_wishes_are_clear_errors() {
    let one = workload("Deployment", "web", "", "");
    let many = workload("Deployment", "web", "replicas: 4000000000, ", "")
        + &workload("Deployment", "api", "replicas: 4000000000, ", "");
    let rows = [(one.as_str(), 0, "no nodes"), (many.as_str(), 1, "the largest workload is Deployment shop/")];
    for (text, count, expected) in rows {
        let error = derive(objects(text), nodes(count), &ClusterNetworks::default(), &ServiceRanges::default())
            .expect_err("impossible")
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(derived("", 0).pods.is_empty(), "nothing needs no node");
}

#[test]
fn a_name_that_would_be_too_long_is_cut() {
    let name = "a".repeat(70);
    let derived = derived(&workload("ReplicaSet", &name[..60], "replicas: 30, ", ""), 1);
    assert!(derived.pods.iter().all(|pod| pod.name.len() == 63), "{:?}", names(&derived));
}

// === host subnets ===

fn networks(texts: &[&str]) -> ClusterNetworks {
    ClusterNetworks::new(texts.iter().map(|text| text.parse().expect(text)).collect(), &[]).expect("apart")
}

fn node_with(name: &str, subnets: &[&str]) -> Arc<Node> {
    let subnets = subnets.iter().map(|text| text.parse().expect(text)).collect();
    Arc::new(Node { name: name.into(), subnets, ..Node::default() })
}

#[test]
fn nodes_get_host_subnets() {
    // networks; what the nodes have; what they have then, or the error
    type Row<'a> = (&'a [&'a str], &'a [&'a [&'a str]], Result<&'a [&'a [&'a str]], &'a str>);
    let rows: &[Row] = &[
        (&["10.128.0.0/14,23"], &[&[], &[]], Ok(&[&["10.128.0.0/23"], &["10.128.2.0/23"]])),
        (
            &["10.128.0.0/14,23", "fd01::/48,64"],
            &[&[], &[]],
            Ok(&[&["10.128.0.0/23", "fd01::/64"], &["10.128.2.0/23", "fd01:0:0:1::/64"]]),
        ),
        (&["fd01::/48,64"], &[&[]], Ok(&[&["fd01::/64"]])),
        // what is there stays, and is not given out again
        (
            &["10.128.0.0/14,23"],
            &[&[], &["10.128.0.0/23"], &[]],
            Ok(&[&["10.128.2.0/23"], &["10.128.0.0/23"], &["10.128.4.0/23"]]),
        ),
        (
            &["10.128.0.0/14,23"],
            &[&["10.128.3.0/24"], &[], &[]],
            Ok(&[&["10.128.3.0/24"], &["10.128.0.0/23"], &["10.128.4.0/23"]]),
        ),
        (&["10.128.0.0/14,23"], &[&["10.128.0.0/22"], &[]], Ok(&[&["10.128.0.0/22"], &["10.128.4.0/23"]])),
        (
            &["10.128.0.0/14,23", "fd01::/48,64"],
            &[&["fd01::/64"], &["10.128.0.0/23"]],
            Ok(&[&["10.128.2.0/23", "fd01::/64"], &["10.128.0.0/23", "fd01:0:0:1::/64"]]),
        ),
        // without networks what is there stays, and nothing is given
        (&[], &[&["10.244.0.0/24"], &[]], Ok(&[&["10.244.0.0/24"], &[]])),
        // one network after the other
        (
            &["10.0.0.0/24,25", "10.0.8.0/24,25"],
            &[&[], &[], &[]],
            Ok(&[&["10.0.0.0/25"], &["10.0.0.128/25"], &["10.0.8.0/25"]]),
        ),
        (
            &["10.0.0.0/24,25"],
            &[&[], &[], &[]],
            Err("no host subnet left for node n3: all 2 /25 of cluster network 10.0.0.0/24 are taken"),
        ),
        (
            &["10.128.0.0/14,23"],
            &[&["10.128.0.0/23"], &["10.128.1.0/24"]],
            Err("node n2 has the host subnet 10.128.1.0/24, which overlaps 10.128.0.0/23 of node n1"),
        ),
        (
            &["10.128.0.0/14,23"],
            &[&["10.244.0.0/24"]],
            Err("which lies outside of the cluster network (10.128.0.0/14)"),
        ),
    ];
    for (given, before, expected) in rows {
        let mut nodes: Vec<_> =
            before.iter().enumerate().map(|(index, subnets)| node_with(&format!("n{}", index + 1), subnets)).collect();
        let untouched = nodes.clone();
        match (assign_subnets(&mut nodes, &networks(given)), expected) {
            (Ok(()), Ok(expected)) => {
                let after: Vec<Vec<_>> =
                    nodes.iter().map(|node| node.subnets.iter().map(ToString::to_string).collect()).collect();
                assert_eq!(after, *expected, "{given:?} {before:?}");
            }
            (Err(error), Err(expected)) => {
                assert!(error.to_string().contains(expected), "{given:?} {before:?}: {error}");
                assert_eq!(nodes, untouched);
            }
            (result, _) => panic!("{given:?} {before:?}: {result:?} {nodes:?}"),
        }
    }
}

// === addresses ===

#[test]
fn pods_get_addresses_from_their_nodes() {
    let nodes = [
        Arc::new(Node {
            addresses: vec![
                "192.0.2.1".parse().expect("address"),
                "192.0.2.9".parse().expect("address"),
                "fd00::1".parse().expect("address"),
            ],
            ..Node::clone(&node_with("a", &["10.128.0.0/29", "fd01::/64"]))
        }),
        node_with("b", &["fd01:0:0:1::/64"]),
    ];
    let pod = |name: &str, node: &str, addresses: &[&str], host_network: bool| {
        let addresses = addresses.iter().map(|text| text.parse().expect(text)).collect();
        let node = Some(node.into()).filter(|node: &Arc<str>| !node.is_empty());
        Arc::new(Pod { name: name.into(), namespace: "x".into(), node, addresses, host_network, ..Pod::default() })
    };
    let mut pods = [
        pod("one", "a", &[], false),
        pod("has", "a", &["10.128.0.3", "fd01::2"], false),
        pod("host", "a", &[], true),
        pod("two", "a", &[], false),
        pod("six", "b", &[], false),
        pod("waits", "", &[], false),
        Arc::new(Pod { phase: PodPhase::Failed, ..Pod::clone(&pod("ended", "a", &[], false)) }),
    ];
    assign_addresses(&mut pods, &nodes).expect("enough");
    let got: Vec<Vec<_>> = pods.iter().map(|pod| pod.addresses.iter().map(ToString::to_string).collect()).collect();
    let expected: [&[&str]; 7] = [
        &["10.128.0.2", "fd01::3"],
        &["10.128.0.3", "fd01::2"],
        &["192.0.2.1", "fd00::1"],
        &["10.128.0.4", "fd01::4"],
        &["fd01:0:0:1::2"],
        &[],
        &[],
    ];
    assert_eq!(got, expected);
    let before = pods.clone();
    assign_addresses(&mut pods, &nodes).expect("nothing to do");
    assert_eq!(pods, before);

    let mut more: Vec<_> = (0..6).map(|n| pod(&format!("p{n}"), "a", &[], false)).collect();
    let error = assign_addresses(&mut more, &nodes).expect_err("a /29 has room for five").to_string();
    assert_eq!(error, "no address left for pod x/p5 in host subnet 10.128.0.0/29, fd01::/64 of node a");
    let mut twice = [pod("p", "a", &["10.128.0.5"], false), pod("q", "b", &["10.128.0.5"], false)];
    let error = assign_addresses(&mut twice, &nodes).expect_err("one address").to_string();
    assert_eq!(error, "pods x/p and x/q both have the address 10.128.0.5");
}

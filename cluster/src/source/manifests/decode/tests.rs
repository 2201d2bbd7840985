use super::*;
use crate::model::{ContainerPort, Owner, Pod, PodPhase, Protocol, RequirementOperator};

fn parsed(text: &str) -> Parsed {
    parse(text.as_bytes(), Format::Yaml, &Kind::ALL.into(), "test.yaml").expect("not too many")
}

/// The one object that `text` is.
fn object(text: &str) -> Object {
    let parsed = parsed(text);
    assert_eq!(parsed.rejected, [], "{text}");
    assert_eq!(parsed.found.len(), 1, "{text}");
    parsed.found[0].object.clone()
}

const POD: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: web-1
  namespace: shop
  uid: 0b5c3d0e
  labels: {app: web, app.kubernetes.io/name: web}
  annotations:
    kubernetes.io/ingress-bandwidth: 10M
    k8s.v1.cni.cncf.io/networks: other
    example.com/note: dropped
  ownerReferences:
  - {apiVersion: apps/v1, kind: ReplicaSet, name: web, uid: x, controller: true}
  resourceVersion: '5'
spec:
  nodeName: node-2
  nodeSelector: {disk: ssd}
  affinity:
    nodeAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        nodeSelectorTerms:
        - matchExpressions: [{key: cpu, operator: Gt, values: ['4']}]
          matchFields: [{key: metadata.name, operator: In, values: [node-2]}]
      preferredDuringSchedulingIgnoredDuringExecution: 7
  hostNetwork: null
  containers:
  - name: web
    ports:
    - {name: http, containerPort: 8080}
    - {containerPort: 53, protocol: UDP, hostPort: 5353}
  - name: other
  initContainers:
  - {name: setup, ports: [{containerPort: 1}]}
  - {name: sidecar, restartPolicy: Always, ports: [{name: admin, containerPort: 9000, protocol: SCTP}]}
status:
  phase: Running
  podIP: 10.128.0.5
  podIPs: [{ip: 10.128.0.5}, {ip: 'fd01::5'}]
  conditions:
  - {type: Initialized, status: 'True'}
  - {type: Ready, status: 'True'}
";

fn port(name: Option<&str>, port: u16, protocol: Protocol, host_port: Option<u16>) -> ContainerPort {
    ContainerPort { name: name.map(Into::into), port, protocol, host_port }
}

#[test]
fn a_pod_is_read_whole() {
    let Object::Pod(pod, Some(scheduling)) = object(POD) else { panic!("not a pod that waits") };
    let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    let expected = Pod {
        namespace: "shop".into(),
        name: "web-1".into(),
        uid: "0b5c3d0e".into(),
        labels: labels(&[("app", "web"), ("app.kubernetes.io/name", "web")]),
        annotations: labels(&[("kubernetes.io/ingress-bandwidth", "10M"), ("k8s.v1.cni.cncf.io/networks", "other")]),
        node: Some("node-2".into()),
        addresses: vec!["10.128.0.5".parse().expect("address"), "fd01::5".parse().expect("address")],
        host_network: false,
        hostname: None,
        subdomain: None,
        terminating: false,
        phase: PodPhase::Running,
        ready: true,
        ports: vec![
            port(Some("http"), 8080, Protocol::Tcp, None),
            port(None, 53, Protocol::Udp, Some(5353)),
            port(Some("admin"), 9000, Protocol::Sctp, None),
        ],
    };
    assert_eq!(*pod, expected);
    assert_eq!(scheduling.controller, Some(Owner { kind: Some(Kind::ReplicaSet), name: "web".into() }));
    assert_eq!(scheduling.nodes.labels, labels(&[("disk", "ssd")]));
    let term = &scheduling.nodes.terms[0];
    assert_eq!((term[0].operator, term[1].key.as_str()), (RequirementOperator::Gt, "metadata.name"));
}

#[test]
fn what_is_left_out_has_its_default() {
    let Object::Pod(pod, None) = object("{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{}]}}")
    else {
        panic!("not a mere pod");
    };
    assert_eq!(*pod, Pod { namespace: "default".into(), name: "a".into(), ..Pod::default() });
    let empty = "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: '', labels: null}, spec: {nodeName: '', containers: [{ports: null}]}, status: null}";
    let Object::Pod(same, None) = object(empty) else { panic!("not a mere pod") };
    assert_eq!(same, pod, "what is empty is as if it were left out");
    let text = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {hostNetwork: true, containers: [{ports: [{containerPort: 80}]}]}, status: {podIP: ''}}";
    let Object::Pod(pod, None) = object(text) else { panic!("not a mere pod") };
    assert_eq!(
        (pod.ports[0].host_port, pod.addresses.len()),
        (Some(80), 0),
        "the port of a pod in the host network is the host's"
    );
}

#[test]
fn a_node_is_read_whole() {
    let text = "
apiVersion: v1
kind: Node
metadata: {name: node-1, labels: {topology.kubernetes.io/zone: east}}
spec: {podCIDR: 10.128.0.0/23, podCIDRs: [10.128.0.0/23, 'fd01::/64'], unschedulable: true}
status:
  addresses:
  - {type: Hostname, address: node-1}
  - {type: ExternalIP, address: 203.0.113.1}
  - {type: InternalIP, address: 192.0.2.1}
  - {type: InternalIP, address: 'fd00::1'}
  - {type: InternalDNS, address: node-1.example.com}
";
    let Object::Node(node) = object(text) else { panic!("not a node") };
    assert_eq!((&*node.name, node.zone.as_deref(), node.unschedulable), ("node-1", Some("east"), true));
    let addresses: Vec<_> = node.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["192.0.2.1", "fd00::1", "203.0.113.1"], "internal ones first");
    let subnets: Vec<_> = node.subnets.iter().map(ToString::to_string).collect();
    assert_eq!(subnets, ["10.128.0.0/23", "fd01::/64"]);
}

#[test]
fn workloads_of_all_kinds() {
    let template = "template: {metadata: {labels: {app: a}}, spec: {containers: [{ports: [{containerPort: 80}]}]}}";
    let rows = [
        ("apps/v1", "Deployment", "replicas: 3, ", 3),
        ("extensions/v1beta1", "Deployment", "", 1),
        ("apps/v1", "ReplicaSet", "replicas: 0, ", 0),
        ("v1", "ReplicationController", "replicas: 2, ", 2),
        ("apps.openshift.io/v1", "DeploymentConfig", "replicas: 2, ", 2),
        ("v1", "DeploymentConfig", "", 1),
        ("apps/v1", "StatefulSet", "replicas: 2, ordinals: {start: 5}, ", 2),
        ("apps/v1", "DaemonSet", "", 1),
        ("batch/v1", "Job", "", 1),
        ("batch/v1", "Job", "parallelism: 4, completions: 3, ", 3),
        ("batch/v1", "Job", "parallelism: 4, ", 4),
        ("batch/v1", "Job", "parallelism: 4, suspend: true, ", 0),
    ];
    for (api_version, kind, fields, replicas) in rows {
        let text =
            format!("{{apiVersion: {api_version}, kind: {kind}, metadata: {{name: a}}, spec: {{{fields}{template}}}}}");
        let Object::Workload(workload) = object(&text) else { panic!("not a workload: {text}") };
        assert_eq!((workload.kind.as_str(), workload.replicas), (kind, replicas), "{text}");
        assert_eq!((workload.template.ports[0].port, workload.template.labels["app"].as_str()), (80, "a"));
        assert_eq!(workload.first_ordinal, if kind == "StatefulSet" { 5 } else { 0 });
    }
    let text =
        "{apiVersion: batch/v1, kind: CronJob, metadata: {name: a}, spec: {schedule: '* * * * *', jobTemplate: {}}}";
    assert!(
        matches!(object(text), Object::Workload(workload) if workload.kind == Kind::CronJob && workload.replicas == 0)
    );
}

#[test]
fn what_is_wrong_has_its_line_field_and_object() {
    // the change to POD: what, by what; then line, field and a part of the message
    let rows = [
        ("name: web-1", "name: Web", 5, "metadata.name", "not a name"),
        ("namespace: shop", "namespace: a.b", 6, "metadata.namespace", "not a name"),
        ("app: web,", "app: [web],", 8, "metadata.labels.app", "expected a string"),
        ("app: web,", "app: 1,", 8, "metadata.labels.app", "invalid type: integer `1`, expected a string"),
        ("app: web,", "app: yes,", 8, "metadata.labels.app", "invalid type: boolean `true`"),
        ("app: web,", "app: 'a b',", 8, "metadata.labels.app", "not the value of a label"),
        ("app: web,", "'a b': web,", 8, "metadata.labels.a b", "not the key of a label"),
        ("nodeName: node-2", "nodeName: {}", 17, "spec.nodeName", "expected a string"),
        ("disk: ssd", "disk: 5", 18, "spec.nodeSelector.disk", "expected a string"),
        (
            "values: ['4']",
            "values: []",
            23,
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0]",
            "do not go with",
        ),
        (
            "operator: Gt",
            "operator: Is",
            23,
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].operator",
            "unknown variant `Is`",
        ),
        ("hostNetwork: null", "hostNetwork: 'true'", 26, "spec.hostNetwork", "expected a boolean"),
        ("containerPort: 8080", "containerPort: 70000", 30, "spec.containers[0].ports[0].containerPort", "70000"),
        ("containerPort: 8080", "containerPort: 0", 30, "spec.containers[0].ports[0].containerPort", "nonzero"),
        (
            "containerPort: 8080",
            "containerPort: '80'",
            30,
            "spec.containers[0].ports[0].containerPort",
            "invalid type: string",
        ),
        (
            "name: http, containerPort: 8080",
            "name: http",
            30,
            "spec.containers[0].ports[0]",
            "missing field `containerPort`",
        ),
        ("name: http", "name: HTTP", 30, "spec.containers[0].ports[0].name", "not the name of a port"),
        ("protocol: UDP", "protocol: udp", 31, "spec.containers[0].ports[1].protocol", "unknown variant `udp`"),
        (
            "containerPort: 53,",
            "containerPort: 53, name: http,",
            31,
            "spec.containers[0].ports",
            "two ports are called",
        ),
        ("  containers:\n", "  containers: []\n  ignored:\n", 27, "spec.containers", "at least one container"),
        ("  containers:", "  container:", 35, "spec", "missing field `containers`"),
        ("phase: Running", "phase: Dancing", 37, "status.phase", "unknown variant"),
        ("podIP: 10.128.0.5", "podIP: 10.128.0.6", 42, "status", "not the first of podIPs"),
        ("ip: 10.128.0.5}", "ip: 10.128.0}", 39, "status.podIPs[0].ip", "not an address"),
        ("ip: 'fd01::5'", "ip: 10.128.0.6", 42, "status", "more than one of a family"),
    ];
    for (what, by, line, field, message) in rows {
        assert!(POD.contains(what), "{what}");
        let parsed = parsed(&POD.replacen(what, by, 1));
        let [rejected] = &parsed.rejected[..] else { panic!("{by}: {parsed:?}") };
        assert_eq!((rejected.line, rejected.field.as_str()), (line, field), "{by}: {rejected:?}");
        assert!(rejected.message.contains(message), "{by}: {rejected:?}");
        let has_key = !by.starts_with("name: Web") && !by.starts_with("namespace:");
        if has_key {
            assert_eq!(rejected.object, "Pod shop/web-1");
            assert_eq!(rejected.key.as_ref().map(ToString::to_string).as_deref(), Some("Pod shop/web-1"));
        }
    }
}

#[test]
fn nodes_and_namespaces_are_checked_too() {
    let rows = [
        ("Node", "spec: {podCIDRs: [10.128.1.0/23]}", "spec.podCIDRs[0]", "host bits set"),
        ("Node", "spec: {podCIDRs: [10.128.0.0/23, 10.128.2.0/23]}", "spec", "more than one of a family"),
        ("Node", "spec: {podCIDR: 10.0.0.0/24, podCIDRs: [10.128.0.0/23]}", "spec", "not the first of podCIDRs"),
        ("Node", "status: {addresses: [{type: InternalIP, address: node-1}]}", "status.addresses[0]", "not an address"),
        ("Node", "status: {addresses: [{type: InternalIP}]}", "status.addresses[0]", "missing field `address`"),
        ("Node", "spec: {unschedulable: 1}", "spec.unschedulable", "expected a boolean"),
        ("Namespace", "metadata: {name: a.b}", "metadata.name", "not a name"),
        ("Namespace", "metadata: {}", "metadata.name", "the name is missing"),
        ("Namespace", "metadata: {generateName: 'A-'}", "metadata.generateName", "not a name"),
        ("Namespace", "", "", "missing field `metadata`"),
        ("Deployment", "", "", "missing field `spec`"),
        ("Deployment", "spec: {replicas: -1}", "spec.replicas", "invalid value: integer `-1`"),
        ("Deployment", "spec: {}", "spec", "missing field `template`"),
    ];
    for (kind, rest, field, message) in rows {
        let named = if rest.contains("metadata") || field.is_empty() && kind == "Namespace" {
            ""
        } else {
            "metadata: {name: a}\n"
        };
        let api_version = if kind == "Deployment" { "apps/v1" } else { "v1" };
        let parsed = parsed(&format!("apiVersion: {api_version}\nkind: {kind}\n{named}{rest}"));
        let [rejected] = &parsed.rejected[..] else { panic!("{rest}: {parsed:?}") };
        assert_eq!(rejected.field, field, "{rest}: {rejected:?}");
        assert!(rejected.message.contains(message), "{rest}: {rejected:?}");
    }
}

#[test]
fn lists_are_unrolled() {
    let node = |name: &str| format!("{{apiVersion: v1, kind: Node, metadata: {{name: {name}}}}}");
    let rows: &[(String, &[&str], usize)] = &[
        (format!("{{apiVersion: v1, kind: List, items: [{}, {}]}}", node("a"), node("b")), &["Node a", "Node b"], 0),
        ("{apiVersion: v1, kind: NodeList, items: [{metadata: {name: a}}, {metadata: {name: B}}, {metadata: {name: c}}]}".into(), &["Node a", "Node c"], 1),
        (format!("{{apiVersion: v1, kind: List, items: [{{apiVersion: v1, kind: List, items: [{}]}}]}}", node("a")), &["Node a"], 0),
        (format!("{{apiVersion: v1, kind: List, items: [5, {}, null]}}", node("a")), &["Node a"], 2),
        ("{apiVersion: v1, kind: List, items: []}".into(), &[], 0),
        ("{apiVersion: v1, kind: List, items: null}".into(), &[], 0),
        ("{apiVersion: v1, kind: List}".into(), &[], 0),
        ("{apiVersion: v1, kind: List, items: {}}".into(), &[], 1),
        ("{apiVersion: v1, kind: List, items: [{metadata: {name: a}}]}".into(), &[], 1),
        ("[1]".into(), &[], 1),
        ("just text".into(), &[], 1),
        ("{kind: Node, metadata: {name: a}}".into(), &[], 1),
        ("{apiVersion: v1, metadata: {name: a}}".into(), &[], 1),
        ("{apiVersion: v1, kind: '', metadata: {name: a}}".into(), &[], 1),
        ("{apiVersion: 1, kind: Node, metadata: {name: a}}".into(), &[], 1),
    ];
    for (text, objects, rejected) in rows {
        let parsed = parsed(text);
        let found: Vec<_> = parsed.found.iter().map(|found| found.object.key().to_string()).collect();
        assert_eq!(
            (&found[..], parsed.rejected.len()),
            (&objects.iter().map(ToString::to_string).collect::<Vec<_>>()[..], *rejected),
            "{text}: {parsed:?}"
        );
    }
    let deep = (0..8).fold(node("a"), |inner, _| format!("{{apiVersion: v1, kind: List, items: [{inner}]}}"));
    assert!(parsed(&deep).rejected[0].message.contains("too deep"));
}

#[test]
fn items_of_lists_have_their_lines() {
    let yaml = "# head\napiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Node\n  metadata:\n    name: a\n-\n  apiVersion: v1\n  kind: Node\n  metadata:\n    labels: {}\n    name: B\n";
    let json = "{\"apiVersion\": \"v1\", \"kind\": \"List\",\n \"items\": [\n\n{\"apiVersion\": \"v1\",\n \"kind\": \"Node\", \"metadata\": {\"name\": \"a\"}},\n {\"apiVersion\": \"v1\", \"kind\": \"Node\",\n \"metadata\": {\n\"name\": \"B\"}}]}";
    for (text, found, rejected) in [(yaml, 5, 14), (json, 4, 8)] {
        let parsed = parsed(text);
        assert_eq!((parsed.found[0].line, parsed.rejected[0].line), (found, rejected), "{text}");
    }
}

#[test]
fn unused_kinds_are_counted_not_errors() {
    let text = "
{apiVersion: v1, kind: Service, metadata: {name: 5}}
---
{apiVersion: apps/v1, kind: Deployment, broken: true}
---
{apiVersion: v1, kind: Service}
---
{apiVersion: serving.knative.dev/v1, kind: Service}
---
{apiVersion: example.com/v1, kind: Pod}
---
{apiVersion: v1, kind: Node, metadata: {name: a}}
";
    let kinds = [Kind::Node, Kind::Pod].into();
    let parsed = parse(text.as_bytes(), Format::Yaml, &kinds, "").expect("not too many");
    let unused: Vec<_> = parsed
        .unused
        .iter()
        .map(|(kind, unused)| (kind.api_version.as_str(), kind.kind.as_str(), unused.count, unused.line))
        .collect();
    let expected = [
        ("apps/v1", "Deployment", 1, 4),
        ("example.com/v1", "Pod", 1, 10),
        ("serving.knative.dev/v1", "Service", 1, 8),
        ("v1", "Service", 2, 2),
    ];
    assert_eq!(unused, expected);
    assert_eq!((parsed.found.len(), parsed.rejected.len()), (1, 0));
}

#[test]
fn generated_names_are_the_same_every_time() {
    let text = "{apiVersion: batch/v1, kind: Job, metadata: {generateName: import-}, spec: {template: {spec: {containers: [{}]}}}}";
    let name = |text: &str, file: &str| {
        let parsed = parse(text.as_bytes(), Format::Yaml, &Kind::ALL.into(), file).expect("not too many");
        parsed.found.iter().map(|found| found.object.key().name.to_string()).collect::<Vec<_>>()
    };
    let twice = format!("{text}\n---\n{text}");
    let names = name(&twice, "a.yaml");
    assert!(names.iter().all(|name| name.starts_with("import-") && name.len() == 12), "{names:?}");
    assert_ne!(names[0], names[1]);
    assert_eq!(names, name(&twice, "a.yaml"));
    assert_ne!(names, name(&twice, "b.yaml"));
}

#[test]
fn too_many_objects_are_refused() {
    let text = "{}\n".repeat(MAX_OBJECTS + 1);
    assert!(parse(text.as_bytes(), Format::Json, &Kind::ALL.into(), "").is_err());
}

mod arbitrary {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    /// Bits of which YAML is made, in any order.
    const BITS: [&str; 44] = [
        "- ",
        "-",
        ": ",
        ":",
        "? ",
        "&a ",
        "*a ",
        "*a",
        "<<: ",
        "<<: *a",
        "|\n",
        "|2-\n",
        ">-\n",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\n",
        "\n\n",
        "\r\n",
        " ",
        "  ",
        "    ",
        "\t",
        "'",
        "\"",
        "\\",
        "# c\n",
        "%YAML 1.2\n",
        "---\n",
        "--- ",
        "...\n",
        "!!str ",
        "!x ",
        "~",
        "é",
        "\u{feff}",
        "\u{0}",
        "key",
        "1",
        "apiVersion: v1\n",
        "kind: Node\n",
        "metadata: {name: a}\n",
    ];

    fn parse_both(bytes: &[u8]) {
        for format in [Format::Yaml, Format::Json] {
            let parsed = parse(bytes, format, &Kind::ALL.into(), "").expect("not too many");
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count()
                + bytes.iter().filter(|byte| **byte == b'\r').count()
                + 1;
            let places =
                parsed.found.iter().map(|found| found.line).chain(parsed.rejected.iter().map(|rejected| rejected.line));
            for line in places {
                assert!((1..=lines).contains(&line), "line {line} of {lines}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn bytes_do_no_harm(bytes in vec(any::<u8>(), 0..200)) {
            parse_both(&bytes);
        }

        #[test]
        fn bits_of_yaml_do_no_harm(bits in vec(proptest::sample::select(&BITS[..]), 0..40)) {
            parse_both(bits.concat().as_bytes());
        }

        #[test]
        fn a_pod_with_something_else_in_it_does_no_harm(at in 0..POD.len(), cut in 0..20usize, bits in vec(proptest::sample::select(&BITS[..]), 0..3)) {
            let mut bytes = POD.as_bytes().to_vec();
            let end = (at + cut).min(bytes.len());
            bytes.splice(at..end, bits.concat().into_bytes());
            parse_both(&bytes);
        }
    }
}

//! Truth tables of NetworkPolicy that others made, row by row against the compiled form, each step applied over the last.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sdn_cluster::model::{Kind, Object, Protocol};
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::plan::testing::{inputs, local, node};

#[derive(Deserialize)]
struct Case {
    id: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    state: State,
    expected: Vec<Row>,
    expected_external: Vec<ExternalRow>,
}

#[derive(Deserialize)]
struct State {
    namespaces: Vec<Value>,
    pods: Vec<CasePod>,
    networkpolicies: Vec<Value>,
}

#[derive(Deserialize)]
struct CasePod {
    namespace: String,
    name: String,
    labels: Value,
    ip: String,
    containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Container {
    name: String,
    ports: Vec<Port>,
}

#[derive(Deserialize)]
struct Port {
    name: Option<String>,
    port: u16,
    protocol: Protocol,
}

#[derive(Debug, Deserialize)]
struct Row {
    from: String,
    to: String,
    port: u16,
    protocol: Protocol,
    ingress_allowed: bool,
    egress_allowed: bool,
    #[serde(default)]
    loopback: bool,
}

#[derive(Debug, Deserialize)]
struct ExternalRow {
    from: Option<String>,
    from_ip: Option<IpAddr>,
    to: Option<String>,
    to_ip: Option<IpAddr>,
    port: u16,
    protocol: Protocol,
    allowed: bool,
}

/// Kept beside the repository, not in it.
fn conformance() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance/networkpolicy");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("SKIPPED: there are no NetworkPolicy conformance cases at {}", folder.display());
    None
}

fn read(kind: Kind, json: &Value) -> Object {
    let text = json.to_string();
    Object::parse(kind, &text, "").unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

impl State {
    /// A node that all pods are on. Its cluster network is another than the addresses that the tables call external.
    fn inputs(&self) -> Inputs {
        let mut inputs = inputs().with_node(node("n0", &["192.168.9.1"], &["10.64.0.0/23"]));
        Arc::make_mut(&mut inputs.settings).cluster_networks = vec!["10.64.0.0/14".parse().unwrap()];
        for namespace in &self.namespaces {
            if let Object::Namespace(namespace) = read(Kind::Namespace, &json!({"metadata": namespace})) {
                inputs.snapshot.namespaces.insert(namespace.name.clone(), namespace);
            }
        }
        for policy in &self.networkpolicies {
            if let Object::NetworkPolicy(policy) = read(Kind::NetworkPolicy, policy) {
                inputs.snapshot.policies.insert(policy.key(), policy);
            }
        }
        self.pods.iter().zip(100..).fold(inputs, |inputs, (pod, ifindex)| pod.add_to(inputs, ifindex))
    }
}

impl CasePod {
    fn add_to(&self, mut inputs: Inputs, ifindex: u32) -> Inputs {
        let port = |port: &Port| match &port.name {
            Some(name) => json!({"name": name, "containerPort": port.port, "protocol": port.protocol}),
            None => json!({"containerPort": port.port, "protocol": port.protocol}),
        };
        let container = |container: &Container| json!({"name": container.name, "ports": container.ports.iter().map(port).collect::<Vec<_>>()});
        let json = json!({
            "metadata": {"namespace": self.namespace, "name": self.name, "labels": self.labels, "uid": format!("uid-{}-{}", self.namespace, self.name)},
            "spec": {"nodeName": "n0", "containers": self.containers.iter().map(container).collect::<Vec<_>>()},
            "status": {"podIP": self.ip},
        });
        if let Object::Pod(pod, _) = read(Kind::Pod, &json) {
            let lease = local(&self.name, ifindex, &[&self.ip]);
            let uid = pod.uid.to_string();
            inputs.snapshot.pods.insert(pod.key(), pod);
            let namespace = self.namespace.clone();
            inputs = inputs.with_local(LocalPod { container_id: uid.clone(), uid, namespace, ..lease });
        }
        inputs
    }
}

impl Step {
    fn check(&self, plan: &Plan, id: &str) -> usize {
        let inputs = plan.inputs();
        let evaluator = Evaluator { wanted: plan.wanted(), cluster_networks: &inputs.settings.cluster_networks };
        let pod = |text: &str| {
            let (namespace, name) = text.split_once('/').unwrap();
            inputs.snapshot.pods[&PodKey::new(namespace, name)].addresses[0]
        };
        let ask = |from, to, port, protocol| {
            let answers = evaluator.judge(&Packet { from, to, protocol: ports::number(protocol), port });
            answers.map(|answer| !matches!(answer, Answer::Decided { allowed: false, .. }))
        };
        for row in &self.expected {
            let expected = if row.loopback { [true; 2] } else { [row.egress_allowed, row.ingress_allowed] };
            assert_eq!(ask(pod(&row.from), pod(&row.to), row.port, row.protocol), expected, "{id}: {row:?}");
        }
        for row in &self.expected_external {
            let end =
                |name: &Option<String>, address: Option<IpAddr>| address.unwrap_or_else(|| pod(name.as_ref().unwrap()));
            let answers = ask(end(&row.from, row.from_ip), end(&row.to, row.to_ip), row.port, row.protocol);
            assert_eq!(answers == [true; 2], row.allowed, "{id}: {row:?}");
        }
        self.expected.len() + self.expected_external.len()
    }
}

#[test]
fn every_row_of_the_corpora_is_compiled_right() {
    let Some(folder) = conformance() else { return };
    let unpacked = tempfile::tempdir().unwrap();
    let mut tar = Command::new("tar");
    tar.arg("-xJf").arg(folder.join("cases.tar.xz")).arg("-C").arg(unpacked.path());
    assert!(tar.status().unwrap().success(), "tar and xz unpack the cases");
    let mut rows = 0;
    for corpus in ["corpus", "corpus-recipes"] {
        let mut files: Vec<_> =
            fs::read_dir(unpacked.path().join(corpus)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "json")) {
            let case: Case = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
            let mut plan = Plan::new(inputs(), Indices::default(), Seed::default());
            for (number, step) in case.steps.iter().enumerate() {
                plan.update(step.state.inputs());
                rows += step.check(&plan, &format!("{} step {number}", case.id));
            }
        }
    }
    assert_eq!(rows, 129_839 + 87_168, "all rows were compared");
}

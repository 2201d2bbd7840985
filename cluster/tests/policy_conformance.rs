//! Truth tables of NetworkPolicy that others made, row by row against the yardstick.

use sdn_cluster::{
    Snapshot,
    model::{Kind, Object, PodKey, Protocol},
    verdict::{End, Family, Flow, Traffic, verdict},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
};

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
    containers: Vec<CaseContainer>,
}

#[derive(Deserialize)]
struct CaseContainer {
    name: String,
    ports: Vec<CasePort>,
}

#[derive(Deserialize)]
struct CasePort {
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
    combined_allowed: bool,
    /// A pod to itself, which the table judges like any other pair, and the API allows.
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

/// How many rows of a kind were compared.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    cases: usize,
    steps: usize,
    rows: usize,
    external: usize,
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

/// Reads an object as any source would; nothing may be wrong with it.
fn read(kind: Kind, json: &Value, id: &str) -> Object {
    let text = json.to_string();
    let object = Object::parse(kind, &text, "").unwrap_or_else(|error| panic!("{id}: {text}: {error:?}"));
    assert_eq!(object.faults(&text), [], "{id}: {text}");
    object
}

impl State {
    fn snapshot(&self, id: &str) -> Snapshot {
        let mut snapshot = Snapshot { synced: true, ..Snapshot::default() };
        for namespace in &self.namespaces {
            if let Object::Namespace(namespace) = read(Kind::Namespace, &json!({"metadata": namespace}), id) {
                snapshot.namespaces.insert(namespace.name.clone(), namespace);
            }
        }
        for pod in &self.pods {
            if let Object::Pod(pod, _) = read(Kind::Pod, &pod.manifest(), id) {
                snapshot.pods.insert(pod.key(), pod);
            }
        }
        for policy in &self.networkpolicies {
            if let Object::NetworkPolicy(policy) = read(Kind::NetworkPolicy, policy, id) {
                snapshot.policies.insert(policy.key(), policy);
            }
        }
        assert_eq!(snapshot.policies.len(), self.networkpolicies.len(), "{id}: every policy has its name");
        snapshot
    }
}

impl CasePod {
    fn manifest(&self) -> Value {
        let port = |port: &CasePort| match &port.name {
            Some(name) => json!({"name": name, "containerPort": port.port, "protocol": port.protocol}),
            None => json!({"containerPort": port.port, "protocol": port.protocol}),
        };
        let container = |container: &CaseContainer| json!({"name": container.name, "ports": container.ports.iter().map(port).collect::<Vec<_>>()});
        json!({
            "metadata": {"namespace": self.namespace, "name": self.name, "labels": self.labels},
            "spec": {"containers": self.containers.iter().map(container).collect::<Vec<_>>()},
            "status": {"podIP": self.ip},
        })
    }
}

fn pod(text: &str) -> End {
    let (namespace, name) = text.split_once('/').expect("namespace/name");
    End::Pod(PodKey::new(namespace, name))
}

fn flow(from: End, to: End, port: u16, protocol: Protocol) -> Flow {
    Flow { from, to, family: Family::V4, traffic: Traffic::Port { protocol, port } }
}

impl Step {
    fn check(&self, id: &str, count: &mut Count) {
        let snapshot = self.state.snapshot(id);
        for row in &self.expected {
            let answer = verdict(&snapshot, &flow(pod(&row.from), pod(&row.to), row.port, row.protocol));
            let got = (answer.ingress_allowed(), answer.egress_allowed(), answer.allowed());
            let expected = if row.loopback {
                (true, true, true)
            } else {
                (row.ingress_allowed, row.egress_allowed, row.combined_allowed)
            };
            assert_eq!(got, expected, "{id}: {row:?}: {answer:?}");
        }
        for row in &self.expected_external {
            let end = |name: &Option<String>, address: &Option<IpAddr>| match (name, address) {
                (Some(name), None) => pod(name),
                (None, Some(address)) => End::Address(*address),
                _ => panic!("{id}: {row:?} has an end that is not clear"),
            };
            let (from, to) = (end(&row.from, &row.from_ip), end(&row.to, &row.to_ip));
            let answer = verdict(&snapshot, &flow(from, to, row.port, row.protocol));
            assert_eq!(answer.allowed(), row.allowed, "{id}: {row:?}: {answer:?}");
        }
        count.steps += 1;
        count.rows += self.expected.len();
        count.external += self.expected_external.len();
    }
}

fn check(folder: &Path) -> Count {
    let mut files: Vec<_> =
        fs::read_dir(folder).expect("listed").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let mut count = Count::default();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "json")) {
        let text = fs::read_to_string(file).expect("read");
        let case: Case = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for (number, step) in case.steps.iter().enumerate() {
            step.check(&format!("{} step {number}", case.id), &mut count);
        }
        count.cases += 1;
    }
    count
}

#[test]
fn the_yardstick_agrees_with_every_row_of_the_corpora() {
    let Some(folder) = conformance() else { return };
    let unpacked = tempfile::tempdir().expect("a directory");
    let mut tar = Command::new("tar");
    tar.arg("-xJf").arg(folder.join("cases.tar.xz")).arg("-C").arg(unpacked.path());
    assert!(tar.status().expect("tar is there").success(), "tar and xz unpack the cases");
    let corpus = check(&unpacked.path().join("corpus"));
    let recipes = check(&unpacked.path().join("corpus-recipes"));
    println!("{corpus:?}, recipes: {recipes:?}");
    assert_eq!((corpus.cases, corpus.steps), (230, 256));
    assert_eq!(recipes.cases, 15);
    assert_eq!(
        (corpus.rows + recipes.rows, corpus.external + recipes.external),
        (129_839, 87_168),
        "all rows were compared"
    );
}

#[test]
fn recipes_are_read_as_people_write_them() {
    let Some(folder) = conformance() else { return };
    let contents = sdn_cluster::source::manifests::read(folder.join("recipes"), Kind::DERIVED).expect("read");
    // Several recipes are about one policy, with the same name: the first one counts.
    let is_double = |message: &str| message.contains("already defined");
    assert!(contents.problems.iter().all(|problem| is_double(&problem.message)), "{:?}", contents.problems);
    assert!(contents.objects.len() >= 8, "{:?}", contents.objects);
    assert!(contents.objects.iter().all(|object| object.key().kind == Kind::NetworkPolicy));
}

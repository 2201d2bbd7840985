//! Good and bad manifests mixed at random: nothing panics, every good object is applied beside the bad ones, and there
//! is exactly one problem for each bad one.

use proptest::{collection::vec, prelude::*, sample::select, strategy::ValueTree, test_runner::TestRunner};
use sdn_cluster::{
    model::Kind,
    source::manifests::{self, Options},
    store,
};
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// Good objects, with NAME for the name.
const GOOD: [(&str, &str); 10] = [
    (
        "Node NAME",
        "apiVersion: v1\nkind: Node\nmetadata:\n  name: NAME\n  labels:\n    topology.kubernetes.io/zone: east\n",
    ),
    (
        "Node NAME",
        "{\"apiVersion\": \"v1\", \"kind\": \"Node\",\n \"metadata\": {\"name\": \"NAME\"}, \"spec\": {\"podCIDR\": \"10.128.0.0/23\"}}\n",
    ),
    ("Namespace NAME", "kind: Namespace\napiVersion: v1\nmetadata: {name: NAME}\nstatus: {phase: Active}\n"),
    (
        "Pod default/NAME",
        "# a pod\napiVersion: v1\nkind: Pod\nmetadata:\n  name: NAME\nspec:\n  containers:\n  - name: a\n    image: a\n    ports:\n    - containerPort: 80\n",
    ),
    (
        "Pod shop/NAME",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: NAME, namespace: shop, unknown: [1, {}]}\nspec:\n  containers: [{name: a}]\nstatus: {podIP: 10.128.0.7}\n",
    ),
    (
        "Deployment default/NAME",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: NAME\nspec:\n  template:\n    metadata:\n      labels: {app: a}\n    spec: &spec\n      containers: [{name: a}]\n",
    ),
    (
        "StatefulSet shop/NAME",
        "apiVersion: apps/v1\nkind: StatefulSet\nmetadata:\n  name: NAME\n  namespace: shop\nspec: {replicas: 3, template: {spec: {containers: [{name: a}]}}}\n",
    ),
    (
        "NetworkPolicy shop/NAME",
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: NAME, namespace: shop}\nspec:\n  ingress:\n  - from:\n    - podSelector: {}\n",
    ),
    ("Node NAME", "apiVersion: v1\nkind: NodeList\nitems:\n- metadata: {name: NAME}\n"),
    (
        "Namespace NAME",
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata:\n    name: NAME\n",
    ),
];

/// Objects that are not used: neither applied nor wrong, whatever is in them.
const UNUSED: [&str; 3] = [
    "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: NAME}\nsecrets: nonsense\n",
    "apiVersion: example.com/v1\nkind: Pod\nmetadata: 5\n",
    "apiVersion: v1\nkind: ConfigMap\ndata:\n  text: |\n    ---x\n    kind: Pod\n",
];

/// Documents with one fault each.
const BAD: [&str; 29] = [
    "apiVersion: v1\nkind: Node\nmetadata:\n  name: NAME\n labels: {}\n",
    "apiVersion: v1\nkind: Node\nmetadata: {name: NAME\n",
    "apiVersion: v1\nkind: Node\nkind: Node\nmetadata: {name: NAME}\n",
    "apiVersion: v1\nkind: Node\nmetadata: *nowhere\n",
    "apiVersion: v1\nkind: Node\nmetadata: {name: \"NAME}\n",
    "\tapiVersion: v1\n",
    "just some words: and: colons\n",
    "42\n",
    "[1, 2]\n",
    "\"text\"\n",
    "kind: Node\nmetadata: {name: NAME}\n",
    "apiVersion: v1\nmetadata: {name: NAME}\n",
    "apiVersion: v1\nkind: [Node]\nmetadata: {name: NAME}\n",
    "apiVersion: v1\nkind: Node\n",
    "apiVersion: v1\nkind: Node\nmetadata: {}\n",
    "apiVersion: v1\nkind: Node\nmetadata: {name: Upper-NAME}\n",
    "apiVersion: v1\nkind: Node\nmetadata: {name: NAME, labels: {a: yes}}\n",
    "apiVersion: v1\nkind: Node\nmetadata: {name: NAME}\nspec: {podCIDR: 10.128.1.0/23}\n",
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: a.NAME}\n",
    "apiVersion: v1\nkind: Pod\nmetadata: {name: NAME}\n",
    "apiVersion: v1\nkind: Pod\nmetadata: {name: NAME}\nspec: {containers: []}\n",
    "apiVersion: v1\nkind: Pod\nmetadata: {name: NAME}\nspec: {containers: [{ports: [{containerPort: 65536}]}]}\n",
    "apiVersion: v1\nkind: Pod\nmetadata: {name: NAME}\nspec: {containers: [{ports: [{containerPort: 80, protocol: tcp}]}]}\n",
    "apiVersion: v1\nkind: Pod\nmetadata: {name: NAME}\nspec: {containers: [{}]}\nstatus: {podIP: 127.0.0.1}\n",
    "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: NAME}\nspec: {replicas: two, template: {spec: {containers: [{}]}}}\n",
    "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: NAME}\nspec: {podSelector: {matchExpressions: [{key: a, operator: In}]}}\n",
    "apiVersion: v1\nkind: List\nitems: {}\n",
    "apiVersion: v1\nkind: NodeList\nitems: [{metadata: {name: ''}}]\n",
    "{\"apiVersion\": \"v1\", \"kind\": \"Node\" \"metadata\": {\"name\": \"NAME\"}}\n",
];

#[derive(Clone, Copy, Debug)]
enum Document {
    Good(&'static (&'static str, &'static str)),
    Unused(&'static str),
    Bad(&'static str),
}

fn documents(count: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<Document>> {
    let document = prop_oneof![
        4 => (0..GOOD.len()).prop_map(|index| Document::Good(&GOOD[index])),
        1 => select(&UNUSED[..]).prop_map(Document::Unused),
        3 => select(&BAD[..]).prop_map(Document::Bad),
    ];
    vec(document, count)
}

/// What some documents come to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    objects: BTreeSet<String>,
    problems: usize,
    unused: usize,
}

impl Document {
    /// The text with `name` in it, counted into `outcome`.
    fn text(self, name: &str, outcome: &mut Outcome) -> String {
        let text = match self {
            Self::Good((key, text)) => {
                outcome.objects.insert(key.replace("NAME", name));
                text
            }
            Self::Unused(text) => {
                outcome.unused += 1;
                text
            }
            Self::Bad(text) => {
                outcome.problems += 1;
                text
            }
        };
        text.replace("NAME", name)
    }
}

/// Writes the documents into files of several each, and says what must come of them.
fn write(directory: &Path, documents: &[Document], per_file: usize) -> Outcome {
    let mut outcome = Outcome::default();
    for (number, chunk) in documents.chunks(per_file).enumerate() {
        let mut file = String::new();
        for (index, document) in chunk.iter().enumerate() {
            let name = format!("x{number}-{index}");
            let _ = write!(file, "---\n{}", document.text(&name, &mut outcome));
        }
        fs::write(directory.join(format!("{number}.yaml")), file).expect("written");
    }
    outcome
}

fn read(directory: &Path) -> Outcome {
    let contents = manifests::read(directory, Kind::ALL).expect("read");
    Outcome {
        objects: contents.objects.iter().map(|object| object.key().to_string()).collect(),
        problems: contents.problems.len(),
        unused: contents.unused.iter().map(|unused| unused.count).sum(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn good_objects_are_read_beside_bad_ones(documents in documents(0..12), per_file in 1..5usize) {
        let directory = tempfile::tempdir().expect("a directory");
        let expected = write(directory.path(), &documents, per_file);
        prop_assert_eq!(read(directory.path()), expected);
    }
}

/// 500 random documents under a running store, half of them replaced while it runs, then all put right.
#[tokio::test]
async fn a_store_survives_500_random_manifests() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut runner = TestRunner::deterministic();
    let first = documents(500).new_tree(&mut runner).expect("made").current();
    let second: Vec<_> = documents(500)
        .new_tree(&mut runner)
        .expect("made")
        .current()
        .into_iter()
        .zip(&first)
        .enumerate()
        .map(|(n, (new, old))| if n % 2 == 0 { new } else { *old })
        .collect();
    let derived = |outcome: Outcome| -> BTreeSet<String> {
        let used =
            |key: &String| ["Node ", "Namespace ", "Pod ", "NetworkPolicy "].iter().any(|kind| key.starts_with(kind));
        outcome.objects.into_iter().filter(used).collect()
    };

    let expected = write(directory.path(), &first, 4);
    let options = Options { debounce: Duration::from_millis(10), ..Options::kinds(Kind::ALL) };
    let source = manifests::open(directory.path(), options).await.expect("opened");
    let mut cluster = store::spawn(source);
    let snapshot = cluster.synced().await.expect("synced");
    assert!(expected.problems > 100 && expected.objects.len() > 100, "a fair mixture: {expected:?}");
    assert_eq!(cluster.problems.borrow().len(), expected.problems);
    assert_eq!(keys(&snapshot), derived(expected));

    // What turns bad stays as it was; so every good object of the second state is there, and perhaps some of the first.
    let expected = write(directory.path(), &second, 4);
    let problems = expected.problems;
    let wanted = derived(expected);
    until(&mut cluster, |cluster| {
        cluster.problems.borrow().len() == problems && keys(&cluster.snapshot()).is_superset(&wanted)
    })
    .await;

    let good: Vec<_> = (0..500).map(|n| Document::Good(&GOOD[n % GOOD.len()])).collect();
    let wanted = derived(write(directory.path(), &good, 4));
    until(&mut cluster, |cluster| cluster.problems.borrow().is_empty() && keys(&cluster.snapshot()) == wanted).await;
}

fn keys(snapshot: &sdn_cluster::Snapshot) -> BTreeSet<String> {
    let nodes = snapshot.nodes.keys().map(|name| format!("Node {name}"));
    let namespaces = snapshot.namespaces.keys().map(|name| format!("Namespace {name}"));
    let pods = snapshot.pods.keys().map(|key| format!("Pod {key}"));
    let policies = snapshot.policies.keys().map(|key| format!("NetworkPolicy {key}"));
    nodes.chain(namespaces).chain(pods).chain(policies).collect()
}

async fn until(cluster: &mut store::Cluster, reached: impl Fn(&store::Cluster) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !reached(cluster) {
        assert!(Instant::now() < deadline, "not reached: {} problems", cluster.problems.borrow().len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

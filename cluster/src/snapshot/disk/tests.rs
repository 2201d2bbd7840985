use super::*;
use crate::model::{Namespace, Node, Pod, PodPhase};
use std::{os::unix::fs::PermissionsExt, sync::Arc};

fn snapshot() -> Snapshot {
    let node =
        Node { name: "node-1".into(), subnets: vec!["10.128.0.0/23".parse().expect("a subnet")], ..Node::default() };
    let labels =
        [("team", "a"), (Namespace::NAME_LABEL, "shop")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let namespace = Namespace { name: "shop".into(), labels: labels.into(), ..Namespace::default() };
    let policy = r#"{"metadata": {"name": "web", "namespace": "shop"}, "spec": {"ingress": [{}, {"from": [{}]}]}}"#;
    let policy = Object::parse(Kind::NetworkPolicy, policy, "").expect("a policy, though one of its rules is wrong");
    let pod = |name: &str| Pod {
        namespace: "shop".into(),
        name: name.into(),
        node: Some("node-1".into()),
        addresses: vec!["10.128.0.2".parse().expect("an address")],
        phase: PodPhase::Running,
        ready: true,
        ..Pod::default()
    };
    let mut snapshot = Snapshot { generation: 7, synced: true, ..Snapshot::default() };
    let objects = [
        Object::Node(node.into()),
        Object::Namespace(namespace.into()),
        Object::Pod(pod("web-0").into(), None),
        Object::Pod(pod("web-1").into(), None),
        policy,
    ];
    objects.into_iter().for_each(|object| assert!(snapshot.put(object)));
    snapshot
}

#[test]
fn a_snapshot_survives_on_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("cluster.json");
    assert_eq!(Snapshot::load(&path).expect("nothing is no error"), None);
    for snapshot in [Snapshot::default(), snapshot()] {
        snapshot.save(&path).expect("saved");
        assert_eq!(Snapshot::load(&path).expect("loaded"), Some(Snapshot { synced: false, ..snapshot }));
    }
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_is_not_a_snapshot_is_an_error_and_what_is_not_an_object_is_left_out() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("cluster.json");
    for text in
        ["", "{", "[]", "{\"items\": []}", "{\"metadata\": {\"resourceVersion\": \"x\"}, \"items\": []}", "\u{0}"]
    {
        fs::write(&path, text).expect("written");
        let error = Snapshot::load(&path).expect_err(text).to_string();
        assert!(error.contains("is not a saved snapshot"), "{text:?}: {error}");
    }
    fs::write(&path, b"\xff\xff").expect("written");
    assert!(Snapshot::load(&path).expect_err("not text").to_string().contains("not text"));
    assert!(Snapshot::load(directory.path()).expect_err("a directory").to_string().contains("cannot read"));
    let items = [
        "5",
        "{\"apiVersion\": \"v1\", \"kind\": \"Secret\", \"metadata\": {\"name\": \"a\"}}",
        "{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {\"name\": \"A\"}}",
        "{\"apiVersion\": \"v1\", \"kind\": \"Node\", \"metadata\": {\"name\": \"a\"}}",
    ];
    fs::write(&path, format!("{{\"metadata\": {{\"resourceVersion\": \"3\"}}, \"items\": [{}]}}", items.join(",")))
        .expect("written");
    let loaded = Snapshot::load(&path).expect("loaded").expect("there");
    assert_eq!((loaded.nodes.len(), loaded.pods.len(), loaded.generation), (1, 0, 3));
}

#[tokio::test]
async fn snapshots_are_kept_saved() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("cluster.json");
    let sender = watch::Sender::new(Snapshot::default());
    let task = tokio::spawn(keep_saved(sender.subscribe(), path.clone(), Duration::from_millis(1)));
    sender.send_replace(Snapshot { synced: false, ..snapshot() });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!path.exists(), "what is not complete is not saved over what was");
    sender.send_replace(snapshot());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !path.exists() && tokio::time::Instant::now() < deadline {
        sleep(Duration::from_millis(5)).await;
    }
    let mut last = Snapshot { generation: 8, ..snapshot() };
    last.nodes.insert("b".into(), Arc::new(Node { name: "b".into(), ..Node::default() }));
    sender.send_replace(last.clone());
    drop(sender);
    task.await.expect("it ends with the store");
    assert_eq!(Snapshot::load(&path).expect("loaded"), Some(Snapshot { synced: false, ..last }), "the last one too");
}

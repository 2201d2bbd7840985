use super::*;
use crate::model::{Namespace, Node, Object, Pod};
use std::time::Duration;
use tokio::{sync::mpsc, time::timeout};

const PATIENCE: Duration = Duration::from_secs(20);

/// A source that says what it is told to, and tells when it is dropped.
struct Script {
    updates: mpsc::Receiver<Update>,
    _dropped: mpsc::Sender<()>,
}

impl Source for Script {
    async fn next(&mut self) -> Option<Update> {
        self.updates.recv().await
    }
}

fn script() -> (Script, mpsc::Sender<Update>, mpsc::Receiver<()>) {
    let (updates, receiver) = mpsc::channel(8);
    let (dropped, is_dropped) = mpsc::channel(1);
    (Script { updates: receiver, _dropped: dropped }, updates, is_dropped)
}

fn node(name: &str, unschedulable: bool) -> Object {
    Object::Node(Node { name: name.into(), unschedulable, ..Node::default() }.into())
}

fn pod(name: &str) -> Object {
    Object::Pod(Pod { namespace: "shop".into(), name: name.into(), ..Pod::default() }.into(), None)
}

fn put(objects: impl IntoIterator<Item = Object>) -> Update {
    Update { changes: objects.into_iter().map(ObjectChange::Put).collect(), synced: true, ..Update::default() }
}

/// Sends an update and waits for the snapshot that it makes.
async fn send(updates: &mpsc::Sender<Update>, cluster: &mut Cluster, update: Update) -> Snapshot {
    cluster.snapshots.mark_unchanged();
    updates.send(update).await.expect("the store listens");
    timeout(PATIENCE, cluster.snapshots.changed()).await.expect("in time").expect("the store goes on");
    cluster.snapshot()
}

#[tokio::test]
async fn updates_are_applied_whole() {
    let (source, updates, _) = script();
    let mut cluster = spawn(source);
    assert_eq!(cluster.snapshot(), Snapshot::default());
    let first = send(&updates, &mut cluster, Update { synced: false, ..put([node("a", false), pod("web")]) }).await;
    assert_eq!((first.nodes.len(), first.pods.len(), first.generation, first.synced), (1, 1, 1, false));
    let namespace = Object::Namespace(Namespace { name: "shop".into(), ..Namespace::default() }.into());
    let changes =
        vec![ObjectChange::Put(namespace), ObjectChange::Put(node("a", true)), ObjectChange::Delete(pod("web").key())];
    let second = send(&updates, &mut cluster, Update { changes, synced: true, ..Update::default() }).await;
    assert_eq!(
        (second.namespaces.len(), second.pods.len(), second.nodes["a"].unschedulable, second.synced),
        (1, 0, true, true)
    );
    assert_eq!((second.generation, first.pods.len()), (2, 1), "the first snapshot stays what it was");
    assert_eq!(second.node_changes(&first).count(), 1);
}

#[tokio::test]
async fn what_changes_nothing_is_not_published() {
    let (source, updates, _) = script();
    let mut cluster = spawn(source);
    let first = send(&updates, &mut cluster, put([node("a", false)])).await;
    updates.send(put([node("a", false)])).await.expect("the store listens");
    updates
        .send(Update { changes: vec![ObjectChange::Delete(pod("none").key())], synced: true, ..Update::default() })
        .await
        .expect("the store listens");
    let next = send(&updates, &mut cluster, put([node("b", false)])).await;
    assert_eq!(next.generation, first.generation + 1);
    assert!(Arc::ptr_eq(&next.nodes["a"], &first.nodes["a"]));
}

#[tokio::test]
async fn problems_and_unused_kinds_stand_beside() {
    let (source, updates, _) = script();
    let mut cluster = spawn(source);
    let problem = Problem {
        file: "a.yaml".into(),
        line: 3,
        field: "spec".into(),
        object: "Pod a/b".into(),
        message: "wrong".into(),
    };
    let unused =
        UnusedKind { api_version: "v1".into(), kind: "Service".into(), count: 1, file: "a.yaml".into(), line: 1 };
    let update = Update {
        problems: Some([problem.clone()].into()),
        unused: Some([unused.clone()].into()),
        ..put([node("a", false)])
    };
    send(&updates, &mut cluster, update).await;
    assert_eq!(
        (cluster.problems.borrow().to_vec(), cluster.unused.borrow().to_vec()),
        (vec![problem.clone()], vec![unused])
    );
    assert_eq!(problem.to_string(), "a.yaml:3: Pod a/b: spec: wrong");
    // Without a word about them they stay; problems alone make no snapshot.
    updates
        .send(Update { synced: true, problems: Some([].into()), ..Update::default() })
        .await
        .expect("the store listens");
    timeout(PATIENCE, cluster.problems.wait_for(|problems| problems.is_empty()))
        .await
        .expect("in time")
        .expect("goes on");
    assert_eq!((cluster.unused.borrow().len(), cluster.snapshot().generation), (1, 1));
}

#[tokio::test]
async fn the_last_known_state_holds_until_the_first_complete_read() {
    let (source, updates, _) = script();
    let mut last = Snapshot { generation: 41, synced: true, ..Snapshot::default() };
    for name in ["a", "gone"] {
        last.nodes.insert(name.into(), Node { name: name.into(), ..Node::default() }.into());
    }
    let mut cluster = spawn_from(source, last);
    let begin = cluster.snapshot();
    assert_eq!((begin.nodes.len(), begin.generation, begin.synced), (2, 41, false));
    let partly =
        send(&updates, &mut cluster, Update { synced: false, ..put([node("a", false), node("new", false)]) }).await;
    assert_eq!((partly.nodes.len(), partly.synced), (3, false));
    let whole = send(&updates, &mut cluster, put([])).await;
    assert_eq!(whole.nodes.keys().map(|name| &**name).collect::<Vec<_>>(), ["a", "new"]);
    assert!(whole.synced && Arc::ptr_eq(&whole.nodes["a"], &begin.nodes["a"]));
}

#[tokio::test]
async fn the_task_ends_with_its_listeners_or_its_source() {
    let (source, updates, mut dropped) = script();
    let mut cluster = spawn(source);
    send(&updates, &mut cluster, put([node("a", false)])).await;
    let problems = cluster.problems.clone();
    drop(cluster);
    assert!(timeout(Duration::from_millis(50), dropped.recv()).await.is_err(), "somebody listens still");
    drop(problems);
    assert_eq!(timeout(PATIENCE, dropped.recv()).await.expect("it ends"), None);

    let (source, updates, _) = script();
    let mut cluster = spawn(source);
    drop(updates);
    assert_eq!(timeout(PATIENCE, cluster.synced()).await.expect("it ends"), None);
}

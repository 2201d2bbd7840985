use super::*;
use crate::{
    source::ObjectChange,
    store::{self, Cluster},
};
use std::{os::unix::fs::symlink, sync::Arc};
use tempfile::TempDir;

/// Long enough on a busy machine; nothing waits so long when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

fn node(name: &str) -> String {
    format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n")
}

fn quick() -> Options {
    Options { debounce: Duration::from_millis(10), ..Options::default() }
}

/// A directory, and a cluster that watches `manifests` in it.
struct Case {
    directory: TempDir,
    cluster: Cluster,
}

impl Case {
    async fn new(files: &[(&str, String)], options: Options) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        fs::create_dir(directory.path().join("manifests")).expect("made");
        for (name, text) in files {
            fs::write(directory.path().join("manifests").join(name), text).expect("written");
        }
        let source = open(directory.path().join("manifests"), options).await.expect("opened");
        let mut cluster = store::spawn(source);
        cluster.synced().await.expect("synced");
        Self { directory, cluster }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("manifests").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
    }

    fn names(&self) -> String {
        names(&self.cluster)
    }

    /// Waits until the nodes are these.
    async fn settle(&mut self, expected: &str) {
        let wait = self.cluster.snapshots.wait_for(|snapshot| {
            let names: Vec<_> = snapshot.nodes.keys().map(|name| &**name).collect();
            names.join(" ") == expected
        });
        let reached = timeout(PATIENCE, wait).await.is_ok();
        assert!(reached, "expected {expected:?}, there is {:?}; {:?}", self.names(), self.cluster.problems.borrow());
    }

    /// Waits until there are so many problems, and returns them.
    async fn problems(&mut self, count: usize) -> Arc<[Problem]> {
        let problems = timeout(PATIENCE, self.cluster.problems.wait_for(|problems| problems.len() == count)).await;
        problems.unwrap_or_else(|_| panic!("expected {count} problems")).expect("the store goes on").clone()
    }
}

fn names(cluster: &Cluster) -> String {
    cluster.snapshot().nodes.keys().map(|name| name.to_string()).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn changes_are_followed() {
    let mut case = Case::new(&[("a.yaml", node("a")), ("b.json", "{}".into())], quick()).await;
    assert_eq!(case.names(), "a");
    case.problems(1).await;

    case.write("c.yaml", &node("c"));
    case.settle("a c").await;
    fs::write(case.path(".d.tmp"), node("d")).expect("written");
    fs::rename(case.path(".d.tmp"), case.path("d.yml")).expect("renamed");
    case.settle("a c d").await;
    fs::write(case.path("../a.new"), node("e")).expect("written");
    fs::rename(case.path("../a.new"), case.path("a.yaml")).expect("renamed");
    case.settle("c d e").await;
    fs::remove_file(case.path("c.yaml")).expect("removed");
    case.settle("d e").await;
    fs::rename(case.path("d.yml"), case.path("d.txt")).expect("renamed");
    case.settle("e").await;
    fs::rename(case.path("d.txt"), case.path("d.json.yaml")).expect("renamed");
    case.settle("d e").await;
    case.write("b.json", "");
    case.problems(0).await;
    assert_eq!(case.names(), "d e");
}

#[tokio::test]
async fn directories_are_followed() {
    let mut case = Case::new(&[], quick()).await;
    fs::create_dir_all(case.path("x/y")).expect("made");
    case.write("x/y/a.yaml", &node("a"));
    case.settle("a").await;
    case.write("x/y/b.yaml", &node("b"));
    case.settle("a b").await;
    fs::rename(case.path("x/y"), case.path("z")).expect("renamed");
    case.write("z/c.yaml", &node("c"));
    case.settle("a b c").await;
    fs::rename(case.path("z"), case.path("../away")).expect("renamed");
    case.settle("").await;
    fs::write(case.path("../away/d.yaml"), node("d")).expect("written");
    fs::rename(case.path("../away"), case.path("back")).expect("renamed");
    case.settle("a b c d").await;
    fs::remove_dir_all(case.path("back")).expect("removed");
    case.settle("").await;
    symlink("../linked", case.path("link")).expect("linked");
    fs::create_dir(case.path("../linked")).expect("made");
    fs::write(case.path("../linked/e.yaml"), node("e")).expect("written");
    case.write("f.yaml", &node("f"));
    case.settle("e f").await;
}

#[tokio::test]
async fn the_directory_itself_may_be_replaced() {
    let mut case = Case::new(&[("a.yaml", node("a")), ("b.yaml", node("b"))], quick()).await;
    let other = case.directory.path().join("other");
    fs::create_dir(&other).expect("made");
    fs::write(other.join("c.yaml"), node("c")).expect("written");

    fs::rename(case.path(""), case.directory.path().join("old")).expect("renamed");
    tokio::time::sleep(Duration::from_millis(100)).await;
    case.problems(1).await;
    assert_eq!(case.names(), "a b", "what was there stays while there is nothing");
    fs::rename(&other, case.path("")).expect("renamed");
    case.settle("c").await;
    case.problems(0).await;

    case.write("d.yaml", &node("d"));
    case.settle("c d").await;
    fs::remove_dir_all(case.path("")).expect("removed");
    fs::create_dir(case.path("")).expect("made");
    case.write("e.yaml", &node("e"));
    case.settle("e").await;
}

/// While one directory is put in the place of another there are moments without any, and moments when files that were listed are
/// gone: none of them is a state of the cluster.
#[tokio::test]
async fn nothing_between_two_directories_is_seen() {
    let files: Vec<_> = (0..20).map(|n| (format!("{n:02}.yaml"), node(&format!("a{n:02}")))).collect();
    let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
    let mut case = Case::new(&files, Options { debounce: Duration::from_millis(1), ..Options::default() }).await;
    let first = case.names();
    let path = |name: &str| case.directory.path().join(name);
    let (other, away) = (path("other"), path("away"));
    fs::create_dir(&other).expect("made");
    fs::write(other.join("b.yaml"), node("b")).expect("written");
    let mut snapshots = case.cluster.snapshots.clone();
    let seen = tokio::spawn(async move {
        let mut seen = BTreeSet::new();
        while snapshots.changed().await.is_ok() {
            let names: Vec<_> = snapshots.borrow_and_update().nodes.keys().map(ToString::to_string).collect();
            let is_last = names == ["last"];
            seen.insert(names.join(" "));
            if is_last {
                break;
            }
        }
        seen
    });
    for pause in 0..60 {
        fs::rename(case.path(""), &away).expect("renamed");
        tokio::time::sleep(Duration::from_micros(pause * 100)).await;
        fs::rename(&other, case.path("")).expect("renamed");
        fs::rename(&away, &other).expect("renamed");
        tokio::time::sleep(Duration::from_millis(pause % 20)).await;
    }
    fs::write(other.join("last.yaml"), node("last")).expect("written");
    for file in fs::read_dir(&other).expect("listed").map(|entry| entry.expect("listed").path()) {
        if !file.ends_with("last.yaml") {
            fs::remove_file(file).expect("removed");
        }
    }
    fs::rename(case.path(""), &away).expect("renamed");
    fs::rename(&other, case.path("")).expect("renamed");
    case.settle("last").await;
    let seen = seen.await.expect("it ends");
    let allowed = BTreeSet::from([first, "b".to_owned(), "last".to_owned()]);
    assert!(seen.is_subset(&allowed) && seen.len() > 1, "{seen:?}");
}

#[tokio::test]
async fn what_mounts_of_config_maps_do_is_followed() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let version = |name: &str, text: String| {
        fs::create_dir(path(name)).expect("made");
        fs::write(path(name).join("n.yaml"), text).expect("written");
    };
    version("..2024_1", node("a"));
    symlink("..2024_1", path("..data")).expect("linked");
    symlink("..data/n.yaml", path("n.yaml")).expect("linked");
    let source = open(directory.path(), quick()).await.expect("opened");
    let mut case = Case { cluster: store::spawn(source), directory: tempfile::tempdir().expect("a directory") };
    case.settle("a").await;
    version("..2024_2", node("b"));
    symlink("..2024_2", path("..data_tmp")).expect("linked");
    fs::rename(path("..data_tmp"), path("..data")).expect("renamed");
    fs::remove_dir_all(path("..2024_1")).expect("removed");
    case.settle("b").await;
}

#[tokio::test]
async fn a_link_to_the_directory_may_lead_elsewhere() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    for (version, name) in [("v1", "a"), ("v2", "b")] {
        fs::create_dir_all(path(version).join("sub")).expect("made");
        fs::write(path(version).join("sub/n.yaml"), node(name)).expect("written");
    }
    symlink("v1", path("current")).expect("linked");
    let source = open(path("current/sub"), quick()).await.expect("opened");
    let mut case = Case { cluster: store::spawn(source), directory: tempfile::tempdir().expect("a directory") };
    case.settle("a").await;
    symlink("v2", path("next")).expect("linked");
    fs::rename(path("next"), path("current")).expect("renamed");
    case.settle("b").await;
    fs::write(path("v2/sub/n.yaml"), node("c")).expect("written");
    case.settle("c").await;
}

#[tokio::test]
async fn a_single_file_is_followed() {
    let mut case = Case::new(&[("one", node("a")), ("other.yaml", node("x"))], quick()).await;
    let source = open(case.path("one"), quick()).await.expect("opened, whatever its name");
    case.cluster = store::spawn(source);
    case.settle("a").await;
    case.write("one", &node("b"));
    case.settle("b").await;
    case.write("new", &node("c"));
    fs::rename(case.path("new"), case.path("one")).expect("renamed");
    case.settle("c").await;
    fs::remove_file(case.path("one")).expect("removed");
    let problems = case.problems(1).await;
    assert!(problems[0].message.contains("the last state stays"), "{}", problems[0]);
    assert_eq!(case.names(), "c");
    case.write("one", &node("d"));
    case.settle("d").await;
    case.problems(0).await;
}

#[tokio::test]
async fn without_inotify_it_is_looked_at() {
    let options = Options { inotify: false, poll: Duration::from_millis(30), ..quick() };
    let mut case = Case::new(&[("a.yaml", node("a"))], options).await;
    case.write("b.yaml", &node("b"));
    case.settle("a b").await;
    // The same size, and perhaps within one tick of the file system's clock.
    for name in ["c", "d", "e", "f"] {
        case.write("b.yaml", &node(name));
        case.settle(&format!("a {name}")).await;
    }
    fs::remove_file(case.path("a.yaml")).expect("removed");
    case.settle("f").await;
}

#[tokio::test]
async fn a_bad_document_is_a_problem_until_it_is_good() {
    let good = format!("{}---\n{}", node("a"), node("b"));
    let mut case = Case::new(&[("n.yaml", good.clone())], quick()).await;
    case.write(
        "n.yaml",
        &format!(
            "{}  labels: {{x: 1}}\n---\n{}---\n{}",
            node("a"),
            node("b").replace("{name: b}", "{name: b, labels: {x: 1}}"),
            node("c")
        ),
    );
    case.settle("a b c").await;
    let problems = case.problems(2).await;
    assert!(problems[0].message.starts_with("not YAML"), "{}", problems[0]);
    let path = case.path("n.yaml").display().to_string();
    assert_eq!(
        problems[1].to_string(),
        format!("{path}:8: Node b: metadata.labels.x: invalid type: integer `1`, expected a string: put it in quotes")
    );
    case.write("n.yaml", &good);
    case.settle("a b").await;
    case.problems(0).await;
}

#[tokio::test]
async fn only_what_changed_is_read_and_published() {
    let files: Vec<(String, String)> = (0..200).map(|n| (format!("n{n}.yaml"), node(&format!("n{n}")))).collect();
    let files: Vec<(&str, String)> = files.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
    let mut case = Case::new(&files, quick()).await;
    let before = case.cluster.snapshot();
    case.write("n7.yaml", &node("other"));
    timeout(PATIENCE, case.cluster.snapshots.wait_for(|snapshot| snapshot.nodes.contains_key("other")))
        .await
        .expect("in time")
        .expect("goes on");
    let after = case.cluster.snapshot();
    assert_eq!(after.node_changes(&before).count(), 2);
    assert_eq!(after.generation, before.generation + 1);
    let shared = before
        .nodes
        .iter()
        .filter(|(name, node)| after.nodes.get(*name).is_some_and(|now| Arc::ptr_eq(node, now)))
        .count();
    assert_eq!(shared, 199);
    // Written again as it is: nobody is told.
    case.cluster.snapshots.mark_unchanged();
    case.write("n8.yaml", &node("n8"));
    assert!(timeout(Duration::from_millis(300), case.cluster.snapshots.changed()).await.is_err());
}

#[tokio::test]
async fn many_changes_make_few_updates() {
    let mut case = Case::new(&[], Options { debounce: Duration::from_millis(50), ..Options::default() }).await;
    let before = case.cluster.snapshot().generation;
    for n in 0..300 {
        case.write(&format!("{n}.yaml"), &node(&format!("n{n}")));
    }
    timeout(PATIENCE, case.cluster.snapshots.wait_for(|snapshot| snapshot.nodes.len() == 300))
        .await
        .expect("in time")
        .expect("goes on");
    let updates = case.cluster.snapshot().generation - before;
    assert!(updates < 30, "{updates} updates");
}

#[tokio::test]
async fn unreadable_places_keep_their_last_state() {
    let mut case = Case::new(&[("a.yaml", node("a"))], quick()).await;
    fs::create_dir(case.path("sub")).expect("made");
    case.write("sub/b.yaml", &node("b"));
    case.settle("a b").await;
    // Root may read everything: what it cannot do is to open a link to itself.
    symlink("loop.yaml", case.path("loop.yaml")).expect("linked");
    fs::rename(case.path("sub"), case.path("../sub")).expect("renamed");
    symlink("sub", case.path("sub")).expect("linked");
    case.problems(2).await;
    assert_eq!(case.names(), "a b");
    fs::remove_file(case.path("sub")).expect("removed");
    fs::remove_file(case.path("loop.yaml")).expect("removed");
    case.settle("a").await;
    case.problems(0).await;
}

#[tokio::test]
async fn what_is_missing_is_an_error_or_waited_for() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("later");
    let error = open(&path, quick()).await.expect_err("not there").to_string();
    assert!(error.contains("cannot open the manifests at") && error.contains("later"), "{error}");
    assert!(read(&path, Kind::ALL).is_err());

    let source = open(&path, Options { missing: Missing::Wait, ..quick() }).await.expect("waits");
    let mut case = Case { cluster: store::spawn(source), directory };
    case.problems(1).await;
    assert!(!case.cluster.snapshot().synced);
    fs::create_dir(&path).expect("made");
    timeout(PATIENCE, case.cluster.synced()).await.expect("in time").expect("synced, with nothing in it");
    fs::write(path.join("a.yaml"), node("a")).expect("written");
    case.settle("a").await;
    case.problems(0).await;
}

#[tokio::test]
async fn the_first_update_has_everything() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("a.yaml"), format!("{}---\n{}", node("a"), "{apiVersion: batch/v1, kind: Job}"))
        .expect("written");
    let mut source = open(directory.path(), quick()).await.expect("opened");
    let update = source.next().await.expect("an update");
    assert!(matches!(&update.changes[..], [ObjectChange::Put(Object::Node(_))]) && update.synced);
    assert_eq!((update.problems, update.unused.map(|unused| unused.len())), (None, Some(1)));
    assert!(timeout(Duration::from_millis(200), source.next()).await.is_err(), "nothing else is told");
}

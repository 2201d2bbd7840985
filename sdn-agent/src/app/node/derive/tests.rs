use std::time::Duration;

use super::*;
use crate::config::{Host, Layers};

const DEADLINE: Duration = Duration::from_secs(10);

fn config() -> Arc<Config> {
    let host = Host { name: Some("n1".to_owned()), local_ports: None };
    Arc::new(Config::from_layers(&Layers::default(), &host).unwrap())
}

fn snapshot(nodes: &[(&str, &[&str])], synced: bool) -> Snapshot {
    let node = |(name, subnets): &(&str, &[&str])| {
        let subnets = subnets.iter().map(|subnet| subnet.parse().unwrap()).collect();
        (Arc::from(*name), Arc::new(Node { name: (*name).into(), subnets, ..Node::default() }))
    };
    Snapshot { nodes: nodes.iter().map(node).collect(), synced, ..Snapshot::default() }
}

fn uplink(mtu: u32, addresses: &[&str]) -> Uplink {
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    Uplink { name: "up0".to_owned(), ifindex: 7, mtu, mac: [0; 6], addresses, running: true }
}

async fn until(what: &str, reached: impl Fn() -> bool) {
    let wait = async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("not {what}"));
}

#[tokio::test]
async fn the_nodes_object_is_waited_for_and_followed() {
    let readiness = Readiness::waiting_for(&[stage::NODE]);
    let waits = |text: &str| readiness.waiting().get(stage::NODE).is_some_and(|why| why.contains(text));
    let (sender, receiver) = watch::channel(snapshot(&[], false));
    let own = tokio::spawn({
        let readiness = readiness.clone();
        async move { own_node(receiver, &config(), &readiness, &Tasks::new()).await }
    });
    until("waiting for the source", || waits("has not been read to its end yet")).await;
    sender.send_replace(snapshot(&[("n2", &["10.128.4.0/23"])], true));
    until("waiting for the node", || waits("there is no Node n1")).await;
    sender.send_replace(snapshot(&[("n1", &[])], true));
    until("waiting for a subnet", || waits("Node n1 has no host subnet")).await;
    // The last snapshot on disk is as good as the source: a node is not less itself while the source is away.
    sender.send_replace(snapshot(&[("n1", &["10.128.2.0/23"])], false));
    let mut own = own.await.unwrap();
    assert!(readiness.waiting().is_empty());
    assert_eq!(own.borrow().subnets, ["10.128.2.0/23".parse().unwrap()]);

    sender.send_replace(snapshot(&[("n1", &["10.128.6.0/23"])], true));
    let changed = own.wait_for(|node| node.subnets == ["10.128.6.0/23".parse().unwrap()]);
    drop(tokio::time::timeout(DEADLINE, changed).await.unwrap().unwrap());
    sender.send_replace(snapshot(&[], true));
    until("told that it is gone", || waits("there is no Node n1")).await;
    assert_eq!(own.borrow().subnets.len(), 1, "its pods keep their addresses");
    own.mark_unchanged();
    sender.send_replace(snapshot(&[("n1", &["10.128.6.0/23"]), ("n2", &[])], true));
    until("told that it is back", || readiness.waiting().is_empty()).await;
    assert!(!own.has_changed().unwrap(), "the same object is no news");
}

#[tokio::test]
async fn networks_that_overlap_the_uplinks_are_waited_out() {
    let readiness = Readiness::waiting_for(&[stage::UPLINK, stage::NETWORKS]);
    let (uplinks, problems) = (watch::Sender::new(uplink(1500, &["10.129.0.5/16"])), watch::Sender::new(None));
    let changes = watch::Sender::new(());
    let following =
        Following { uplink: uplinks.subscribe(), problem: problems.subscribe(), changes: changes.subscribe() };
    let (kept, started) = (readiness.clone(), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let apart = tokio::spawn({
        let started = Arc::clone(&started);
        async move {
            keep_apart(&following, &config(), &kept, &Tasks::new()).await;
            started.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    });
    until("told of the overlap", || readiness.waiting().get(stage::NETWORKS).is_some_and(|why| why.contains("up0")))
        .await;
    assert!(!started.load(std::sync::atomic::Ordering::Relaxed));
    uplinks.send_replace(uplink(1500, &["192.0.2.5/24"]));
    until("apart", || readiness.waiting().is_empty()).await;
    problems.send_replace(Some("there is no default route".to_owned()));
    until("told of the loss", || readiness.waiting().contains_key(stage::UPLINK)).await;
    problems.send_replace(None);
    uplinks.send_replace(uplink(1500, &["fd01::5/64"]));
    until("told of the new overlap", || readiness.waiting().keys().eq([&stage::NETWORKS])).await;
    apart.await.unwrap();
    drop(problems);
    tokio::time::timeout(Duration::from_millis(50), uplinks.closed())
        .await
        .expect_err("the task follows the uplink alone, too");
}

#[tokio::test]
async fn subnets_and_mtu_follow() {
    let (nodes, uplinks) = (
        watch::Sender::new(Arc::clone(&snapshot(&[("n1", &["10.128.2.0/23"])], true).nodes["n1"])),
        watch::Sender::new(uplink(1500, &["192.0.2.5/24"])),
    );
    let Derived { mut subnets, mut mtu } = follow(nodes.subscribe(), uplinks.subscribe(), &config(), &Tasks::new());
    assert_eq!((subnets.borrow().len(), *mtu.borrow()), (1, 1450));
    uplinks.send_replace(uplink(9000, &["192.0.2.5/24"]));
    drop(tokio::time::timeout(DEADLINE, mtu.wait_for(|mtu| *mtu == 8950)).await.unwrap().unwrap());
    uplinks.send_replace(uplink(9000, &["2001:db8::5/64"]));
    drop(tokio::time::timeout(DEADLINE, mtu.wait_for(|mtu| *mtu == 8930)).await.unwrap().unwrap());
    assert!(!subnets.has_changed().unwrap());
    nodes.send_replace(Arc::clone(&snapshot(&[("n1", &["10.128.2.0/23", "fd01::/64"])], true).nodes["n1"]));
    drop(tokio::time::timeout(DEADLINE, subnets.wait_for(|nets| nets.len() == 2)).await.unwrap().unwrap());
    drop((nodes, uplinks));
    let ended = async { while subnets.changed().await.is_ok() {} };
    tokio::time::timeout(DEADLINE, ended).await.expect("the task ends with what it follows");
}

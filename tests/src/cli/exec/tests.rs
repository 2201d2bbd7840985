use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use crate::record::{Owner, Phase};

fn record(pods: &[&str]) -> Record {
    let pod = PodRecord {
        node: "node-1".into(),
        addresses: vec![],
        host_network: false,
        ready: true,
        net: None,
        mount: None,
        cgroup: PathBuf::new(),
        served: vec![],
        problems: vec![],
    };
    let node = NodeRecord {
        host: HostRecord::default(),
        mount: PathBuf::new(),
        subnets: vec![],
        agent: None,
        restarts: 0,
        log: PathBuf::new(),
    };
    Record {
        name: "lab".into(),
        owner: Owner { pid: 1, started: 1 },
        phase: Phase::Ready,
        nodes: BTreeMap::from([("node-1".to_owned(), node)]),
        pods: pods.iter().map(|key| ((*key).to_owned(), pod.clone())).collect(),
        outside: HostRecord::default(),
    }
}

#[test]
fn targets_are_found_by_whole_name_then_by_unique_beginning() {
    let record = record(&["shop/web", "shop/web-2", "other/web-3", "other/db-7f9c", "shop/outside-1"]);
    let rows: &[(Option<&str>, &str, Result<&str, &str>)] = &[
        (None, "shop/web", Ok("shop/web")),
        (None, "web", Ok("shop/web")),
        (None, "db", Ok("other/db-7f9c")),
        (None, "web-", Err("may be other/web-3, shop/web-2")),
        (Some("shop"), "web-", Ok("shop/web-2")),
        (Some("other"), "web", Ok("other/web-3")),
        (Some("shop"), "outside", Ok("shop/outside-1")),
        (None, "shop/w", Err("may be shop/web, shop/web-2")),
        (None, "nginx", Err("no pod 'nginx' in the lab 'lab'")),
        (Some("none"), "web", Err("no pod 'none/web'")),
        (None, "node/node-9", Err("no node 'node-9': there are node-1")),
    ];
    for (namespace, target, expected) in rows {
        match (find(&record, *namespace, target), expected) {
            (Ok(Target::Pod(key, _)), Ok(wanted)) => assert_eq!(key, *wanted, "{namespace:?} {target}"),
            (Err(error), Err(wanted)) => assert!(error.to_string().contains(wanted), "{target}: {error}"),
            (found, _) => panic!("{namespace:?} {target}: {found:?}"),
        }
    }
    assert!(matches!(find(&record, None, "outside"), Ok(Target::Outside(_))));
    assert!(matches!(find(&record, None, "underlay"), Ok(Target::Underlay)));
    assert!(matches!(find(&record, None, "node/node-1"), Ok(Target::Node(_))));
}

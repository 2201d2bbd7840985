use super::*;
use crate::testing::{namespace, pod, service, slice};
use proptest::prelude::*;
use sdn_cluster::{
    Snapshot,
    model::{PodKey, ServiceKey, SliceKey},
};
use std::collections::BTreeMap;

const NAMING: Naming = Naming { ttl: 5, pod_names: false, namespaces: None };

/// One change of a cluster so small that changes meet.
#[derive(Clone, Debug)]
enum Step {
    Namespace(u8, bool),
    Service(u8, u8, u8),
    Slice(u8, u8, u8, Vec<u8>),
    Pod(u8, u8, u8),
}

fn steps() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let step = prop_oneof![
        (0u8..3, any::<bool>()).prop_map(|(name, there)| Step::Namespace(name, there)),
        (0u8..3, 0u8..3, 0u8..5).prop_map(|(space, name, kind)| Step::Service(space, name, kind)),
        (0u8..3, 0u8..4, 0u8..4, prop::collection::vec(0u8..8, 0..5))
            .prop_map(|(space, name, of, endpoints)| Step::Slice(space, name, of, endpoints)),
        (0u8..3, 0u8..4, 0u8..6).prop_map(|(space, name, kind)| Step::Pod(space, name, kind)),
    ];
    prop::collection::vec(prop::collection::vec(step, 1..4), 1..20)
}

fn apply(snapshot: &mut Snapshot, step: &Step) {
    match step {
        Step::Namespace(name, true) => namespace(snapshot, &format!("n{name}")),
        Step::Namespace(name, false) => drop(snapshot.namespaces.remove(&*format!("n{name}"))),
        Step::Service(space, name, kind) => {
            let key = format!("n{space}/s{name}");
            let port = r#""ports":[{"name":"p","port":1}]"#;
            match kind {
                0 => drop(snapshot.services.remove(&ServiceKey::new(format!("n{space}"), format!("s{name}")))),
                1 => service(snapshot, &key, &format!(r#""clusterIP":"None",{port}"#)),
                2 => service(snapshot, &key, r#""type":"ExternalName","externalName":"x.example""#),
                // Two may claim one address for a moment.
                kind => service(
                    snapshot,
                    &key,
                    &format!(r#""clusterIP":"172.30.0.{kind}","clusterIPs":["172.30.0.{kind}"],{port}"#),
                ),
            }
        }
        Step::Slice(space, name, of, endpoints) if endpoints.is_empty() => {
            let _ = of;
            snapshot.slices.remove(&SliceKey::new(format!("n{space}"), format!("e{name}")));
        }
        Step::Slice(space, name, of, endpoints) => {
            let text = |endpoint: &u8| match endpoint {
                0 => "!10.128.0.1".to_owned(),
                1..4 => format!("10.128.0.{endpoint}=h{endpoint}"),
                _ => format!("10.128.0.{endpoint}"),
            };
            let all: Vec<String> = endpoints.iter().map(text).collect();
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            slice(snapshot, &format!("n{space}/e{name}"), &format!("s{of}"), &["p/TCP/1"], &all);
        }
        Step::Pod(space, name, 0) => drop(snapshot.pods.remove(&PodKey::new(format!("n{space}"), format!("p{name}")))),
        Step::Pod(space, name, kind) => {
            pod(snapshot, &format!("n{space}/p{name}"), &[&format!("10.128.1.{kind}")], *kind == 5);
        }
    }
}

/// All that an index has, in an order of its own. Several at one address come in the order in which they did.
fn contents(index: &Index) -> (BTreeMap<Vec<u8>, String>, Vec<String>) {
    let services = index.services.iter().map(|(key, entry)| (key.to_vec(), format!("{entry:?}"))).collect();
    let namespaces = index.namespaces.iter().map(|(label, namespace)| format!("{label:?} {namespace:?}"));
    let mut others: Vec<String> = namespaces.collect();
    for (at, owners) in index.cluster_ips.iter().chain(index.endpoints.iter()) {
        others.extend(owners.as_slice().iter().map(|owner| format!("{at} {owner:?}")));
    }
    for (at, pods) in &index.pods {
        others.extend(pods.as_slice().iter().map(|pod| format!("{at} {pod:?}")));
    }
    others.sort();
    (services, others)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// An index that was changed is the one that would be built.
    #[test]
    fn changes_come_to_the_same(rounds in steps()) {
        let (mut snapshot, mut builder) = (Snapshot::default(), Builder::new(NAMING));
        for steps in rounds {
            steps.iter().for_each(|step| apply(&mut snapshot, step));
            let changed = builder.update(&snapshot);
            let built = Builder::new(NAMING).update(&snapshot);
            prop_assert_eq!(contents(&changed), contents(&built));
        }
    }
}

#[test]
fn what_did_not_change_is_shared() {
    let mut snapshot = crate::testing::cluster();
    let mut builder = Builder::new(NAMING);
    let before = builder.update(&snapshot);
    slice(&mut snapshot, "shop/db-1", "db", &["sql/TCP/5432"], &["10.128.1.2=db-1"]);
    let after = builder.update(&snapshot);
    let entry = |index: &Index, key: &[u8]| index.service(key).unwrap().clone();
    let same = |key| Arc::ptr_eq(&entry(&before, key), &entry(&after, key));
    assert!(same(b"\x03api\x04shop"));
    assert!(!same(b"\x02db\x04shop"));
    let again = builder.update(&snapshot);
    assert!(Arc::ptr_eq(&entry(&after, b"\x02db\x04shop"), &entry(&again, b"\x02db\x04shop")));
    assert_eq!(after.serial, again.serial);
}

#[test]
fn names_that_are_no_labels_are_left_out() {
    assert!(service_labels("shop", &"x".repeat(64)).is_none());
    assert_eq!(&*service_labels("Shop", "Api").unwrap(), b"\x03api\x04shop");
}

/// 10,000 Services with 100,000 endpoints. Run by hand: `cargo test -p sdn-dns --lib large_cluster -- --ignored --nocapture`.
#[test]
#[ignore = "measures memory and time, which other tests would disturb"]
fn a_large_cluster_in_numbers() {
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let mut snapshot = Snapshot { synced: true, ..Snapshot::default() };
    (0..100).for_each(|name| namespace(&mut snapshot, &format!("n{name}")));
    for number in 0..10_000u32 {
        let (key, name) = (format!("n{}/service-{number}", number % 100), format!("service-{number}"));
        let spec = match number % 4 {
            0 => r#""clusterIP":"None","ports":[{"name":"http","port":80}]"#.to_owned(),
            _ => {
                let address = std::net::Ipv4Addr::from(0xac1e_0100 + number);
                format!(r#""clusterIP":"{address}","clusterIPs":["{address}"],"ports":[{{"name":"http","port":80}}]"#)
            }
        };
        service(&mut snapshot, &key, &spec);
        let all: Vec<String> =
            (0..10).map(|host| std::net::Ipv4Addr::from(0x0a80_0000 + number * 16 + host).to_string()).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        slice(&mut snapshot, &format!("{key}-1"), &name, &["http/TCP/8080"], &all);
        for (host, address) in all.iter().enumerate() {
            pod(&mut snapshot, &format!("{key}-{host}"), &[address], false);
        }
    }
    let before = resident();
    let mut builder = Builder::new(NAMING);
    let since = std::time::Instant::now();
    let index = builder.update(&snapshot);
    println!("built in {:?}, {} KiB more", since.elapsed(), resident() - before);
    let mut times = Vec::new();
    for round in 0..200u32 {
        let number = round * 37;
        let address = std::net::Ipv4Addr::from(0x0a90_0000 + round).to_string();
        let key = format!("n{}/service-{number}-1", number % 100);
        slice(&mut snapshot, &key, &format!("service-{number}"), &["http/TCP/8080"], &[&address]);
        let since = std::time::Instant::now();
        let _changed = builder.update(&snapshot);
        times.push(since.elapsed());
    }
    times.sort();
    println!("a changed slice: median {:?}, 99th of 100 {:?}", times[100], times[198]);
    assert_eq!(index.sizes(), (10_000, 100_000));
    assert!(resident() - before < 60 * 1024);
}

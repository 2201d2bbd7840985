//! Where upstreams come from.

use std::fs;

use prometheus_client::registry::Registry;

use super::rig::*;
use crate::forward::{CachingForwarder, ForwardConfig, ForwardError, UpstreamSource, ZoneUpstreams};

fn addresses(rig: &Rig) -> Vec<String> {
    rig.forwarder.upstreams().iter().map(|upstream| upstream.address.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_resolv_conf_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("resolv.conf");
    let write = |text: &str| fs::write(&path, text).unwrap();
    write("nameserver 192.0.2.1\nsearch corp.test\n");
    let rig = Rig::new(ForwardConfig { upstreams: UpstreamSource::ResolvConf(path.clone()), ..config(&[]) });
    assert_eq!(addresses(&rig), ["192.0.2.1:53"]);
    assert_eq!(*rig.forwarder.search(), ["corp.test"]);
    rig.forwarder.inner.zones.load().pools().next().unwrap().upstreams()[0].set_looping(true);

    // Time is the test's: it runs ahead while everyone sleeps.
    let wait = || tokio::time::sleep(std::time::Duration::from_secs(5));
    write("nameserver 192.0.2.2\nnameserver 192.0.2.1\n");
    wait().await;
    assert_eq!(addresses(&rig), ["192.0.2.2:53", "192.0.2.1:53"]);
    assert!(rig.forwarder.search().is_empty());
    let status = rig.forwarder.upstreams();
    assert!(!status[0].looping && status[1].looping, "what is known of one that stays, stays: {status:?}");

    for (what, text) in [("empty", ""), ("without a nameserver", "search corp.test\n")] {
        write(text);
        wait().await;
        assert_eq!(addresses(&rig), ["192.0.2.2:53", "192.0.2.1:53"], "{what}");
    }
    fs::remove_file(&path).unwrap();
    wait().await;
    assert_eq!(addresses(&rig).len(), 2, "gone");
    // As NetworkManager replaces it.
    let other = directory.path().join("other");
    fs::write(&other, "nameserver 192.0.2.3\n").unwrap();
    std::os::unix::fs::symlink(&other, &path).unwrap();
    wait().await;
    assert_eq!(addresses(&rig), ["192.0.2.3:53"]);
}

#[tokio::test(start_paused = true)]
async fn a_resolv_conf_may_come_later() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("resolv.conf");
    let rig = Rig::new(ForwardConfig { upstreams: UpstreamSource::ResolvConf(path.clone()), ..config(&[]) });
    assert!(addresses(&rig).is_empty());
    fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert_eq!(addresses(&rig), ["192.0.2.1:53"]);
}

#[tokio::test]
async fn an_upstream_of_several_zones_is_one() {
    let fake = Fake::start(silence).await;
    let zone = |zone: &str| ZoneUpstreams { zone: zone.to_owned(), upstreams: vec![fake.address] };
    let rig = Rig::new(ForwardConfig { zones: vec![zone("a.test"), zone("b.test")], ..config(&[&fake]) });
    assert_eq!(rig.forwarder.upstreams().len(), 1);
    rig.resolve(&Client::asks("x.a.test.")).await;
    wait_until(|| rig.forwarder.upstreams()[0].down).await;
    assert!(!rig.forwarder.inner.zones.load().find(b"\x01b\x04test\0").is_up());
}

#[test]
fn what_cannot_work_is_said() {
    let config = ForwardConfig::new(UpstreamSource::Fixed(vec![]));
    let error = CachingForwarder::new(config.clone(), &mut Registry::default()).unwrap_err();
    assert!(matches!(error, ForwardError::NoRuntime), "{error}");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    for name in ["a..b", ".a", &"a".repeat(64), &["a"; 128].join(".")] {
        let zones = vec![ZoneUpstreams { zone: name.to_owned(), upstreams: vec![] }];
        let error = CachingForwarder::new(ForwardConfig { zones, ..config.clone() }, &mut Registry::default());
        assert!(matches!(error, Err(ForwardError::Zone(_))), "{name}");
    }
}

#[tokio::test]
async fn the_last_clone_takes_its_tasks_along() {
    let forwarder = CachingForwarder::new(
        ForwardConfig::new(UpstreamSource::ResolvConf("/nonexistent/resolv.conf".into())),
        &mut Registry::default(),
    )
    .unwrap();
    let inner = std::sync::Arc::downgrade(&forwarder.inner);
    let clone = forwarder.clone();
    drop(forwarder);
    assert!(inner.upgrade().is_some());
    drop(clone);
    assert!(inner.upgrade().is_none(), "no task keeps it");
}

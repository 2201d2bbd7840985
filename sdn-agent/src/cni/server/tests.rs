//! The server with real network namespaces and veths, the plugin's own code, and a dataplane that is played.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use nix::mount::{MntFlags, umount2};
use serde_json::{Value, json};

use sdn_cni::commands;
use sdn_cni::mac::GATEWAY_MAC;
use sdn_cni::netlink::{Links, VethEnd};
use sdn_cni::protocol::{AddRequest, CommitRequest, DelRequest, Response, host_interface_name};

use self::node::{Dataplane, Node, Options, Peer, addresses, attachment, eventually, host_end, parameters, refusal};
use self::sandbox::{PodNetns, Sandbox};
use super::*;

mod node;
#[path = "../../../cni/tests/support/sandbox.rs"]
mod sandbox;

/// Tells the test binary to be [`stranger`], and where to knock.
const STRANGER: &str = "CULVERT_CNI_STRANGER";

fn add_request(pod: &PodNetns) -> Request {
    Request::Add(AddRequest {
        attachment: attachment(pod),
        network: "culvert".into(),
        netns: pod.open().identity(),
        pod: parameters(pod).pod,
        runtime_config: serde_json::Map::new(),
    })
}

/// Sends Add and makes the veth, as the plugin does up to Commit.
fn begin_add(node: &Node, pod: &PodNetns) -> (Peer, Request) {
    let mut peer = node.connect();
    peer.send(&add_request(pod));
    let Some(Response::Prepared(prepared)) = peer.receive() else { panic!("no Prepared") };
    let interface = &prepared.interface;
    let here = VethEnd { name: &interface.host_interface, mac: GATEWAY_MAC };
    let there = VethEnd { name: "eth0", mac: interface.mac };
    Links::connect().unwrap().add_veth(here, there, pod.open().as_raw_fd(), interface.mtu).unwrap();
    (peer, Request::Commit(CommitRequest { host_ifindex: host_end(pod).unwrap() }))
}

#[track_caller]
fn expect_code(outcome: Result<impl std::fmt::Debug, Failure>, code: u32, named: &str) {
    let failure = outcome.expect_err("this should fail");
    assert_eq!(failure.code, code, "{failure}");
    assert!(failure.to_string().contains(named), "'{named}' is not in: {failure}");
}

#[test]
fn a_pod_comes_is_checked_and_goes() {
    Sandbox::run(|sandbox| {
        let node = Node::start(sandbox, Options::default());
        let pod = sandbox.pod("web-0");
        node.status().unwrap();
        let result = node.add(&pod).unwrap();
        assert_eq!(addresses(&result), ["10.128.2.2/32", "fd01:0:0:2::2/128"]);
        assert_eq!(result["dns"], json!({ "nameservers": ["172.30.0.10"] }));
        node.check(&pod, &result).unwrap();

        let lease = node.leases.find(&attachment(&pod)).unwrap();
        let attached = node.network.attached.lock().unwrap().get(&attachment(&pod)).cloned().unwrap();
        assert_eq!(attached, lease.pod);
        assert_eq!((attached.namespace.as_str(), attached.name.as_str()), ("shop", "web-0"));
        assert_eq!(attached.incarnation, sdn_common::incarnation("uid-web-0"));
        assert_eq!(attached.mac, [0x0a, 0x58, 10, 128, 2, 2]);
        assert_eq!((attached.mtu, attached.netns.as_path()), (1450, pod.path()));
        assert_eq!(lease.network, "culvert");

        for _ in 0..2 {
            node.del(&pod).unwrap();
            node.expect_empty();
            assert_eq!(host_end(&pod), None);
        }
        expect_code(node.check(&pod, &result), code::CHECK_FAILED, "no lease");
        let counters = &node.counters;
        let counts =
            [&counters.adds, &counters.dels, &counters.checks, &counters.rollbacks].map(|count| count.load(Relaxed));
        assert_eq!(counts, [1, 2, 1, 0]);
        assert!(node.counters.failures().any(|failure| failure == (code::CHECK_FAILED, 1)));
    });
}

#[test]
fn a_hundred_at_once() {
    Sandbox::run(|sandbox| {
        let node = Node::start(sandbox, Options::default());
        let pods: Vec<PodNetns> = (0..100).map(|number| sandbox.pod(&format!("pod{number}"))).collect();
        let results: Vec<Value> = at_once(&pods, |pod| node.add(pod).unwrap());
        let distinct: BTreeSet<String> = results.iter().flat_map(addresses).collect();
        assert_eq!(distinct.len(), 200, "an IPv4 and an IPv6 address for each");
        assert_eq!(node.leases.pods().len(), 100);
        assert_eq!(node.lease_files(), 100);
        assert_eq!(node.network.attached.lock().unwrap().len(), 100);
        for (pod, result) in pods.iter().zip(&results) {
            let mut links = pod.links();
            let index = links.get_link("eth0").unwrap().unwrap().index;
            let has = links.list_addresses(index).unwrap();
            let mut want: Vec<IpAddr> =
                addresses(result).iter().map(|net| net.split('/').next().unwrap().parse().unwrap()).collect();
            want.sort();
            let mut has: Vec<IpAddr> = has.iter().map(|address| address.address).collect();
            has.sort();
            assert_eq!(has, want);
            node.check(pod, result).unwrap();
        }
        at_once(&pods, |pod| node.del(pod).unwrap());
        node.expect_empty();
        assert!(pods.iter().all(|pod| host_end(pod).is_none()));
        assert_eq!(node.counters.adds.load(Relaxed), 100);
    });
}

#[test]
fn as_processes() {
    let profile = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned();
    let plugin = profile.join("sdn-cni");
    // Built by whoever runs all tests; this is for running this one where nobody has.
    if !plugin.is_file() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "sdn-cni"]);
        build.args(profile.ends_with("release").then_some("--release"));
        assert!(build.status().unwrap().success(), "building the plugin");
    }
    Sandbox::run(move |sandbox| {
        let node = Node::start(sandbox, Options::default());
        let pods: Vec<PodNetns> = (0..130).map(|number| sandbox.pod(&format!("pod{number}"))).collect();
        let mut times: Vec<Duration> = Vec::new();
        for pod in &pods[..30] {
            let start = Instant::now();
            node.execute(&plugin, "ADD", pod).unwrap();
            times.push(start.elapsed());
        }
        times.sort();
        println!("one ADD after the other: median {:?}, longest {:?}", times[15], times[29]);
        let results = at_once(&pods[30..], |pod| node.execute(&plugin, "ADD", pod).unwrap());
        let distinct: BTreeSet<String> = results.iter().flat_map(addresses).collect();
        assert_eq!((distinct.len(), node.leases.pods().len()), (200, 130));
        at_once(&pods, |pod| node.execute(&plugin, "DEL", pod).unwrap());
        node.expect_empty();
    });
}

/// Does it for all pods at the same time, each on its own thread.
fn at_once<T: Send>(pods: &[PodNetns], work: impl Fn(&PodNetns) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let threads: Vec<_> = pods.iter().map(|pod| scope.spawn(|| work(pod))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn a_lost_answer_is_given_again() {
    Sandbox::run(|sandbox| {
        let node = Node::start(sandbox, Options::default());
        let pod = sandbox.pod("web-0");
        let first = node.add(&pod).unwrap();
        let index = host_end(&pod);
        assert_eq!(node.add(&pod).unwrap(), first);
        assert_eq!(host_end(&pod), index, "a pod's interface was replaced");
        // The container has got another network namespace since.
        let path = pod.path().to_owned();
        drop(pod);
        let pod = sandbox.pod("web-0");
        assert_eq!(pod.path(), path);
        assert_eq!(node.add(&pod).unwrap(), first);
        let lease = node.leases.find(&attachment(&pod)).unwrap();
        assert_eq!(lease.netns_inode, pod.open().identity().inode);
        assert_eq!(Some(lease.pod.host_ifindex), host_end(&pod));
        node.check(&pod, &first).unwrap();
        node.del(&pod).unwrap();
        node.expect_empty();
    });
}

#[test]
fn both_of_two_adds_of_one_container_get_the_same() {
    Sandbox::run(|sandbox| {
        let node = Node::start(sandbox, Options::default());
        *node.network.attach_time.lock().unwrap() = Duration::from_millis(100);
        let pod = sandbox.pod("web-0");
        let (first, second) = thread::scope(|scope| {
            let first = scope.spawn(|| node.add(&pod));
            let second = scope.spawn(|| node.add(&pod));
            (first.join().unwrap().unwrap(), second.join().unwrap().unwrap())
        });
        assert_eq!(first, second);
        assert_eq!(node.leases.pods().len(), 1);
        node.check(&pod, &first).unwrap();
    });
}

#[test]
fn a_plugin_that_goes_before_commit_leaves_nothing() {
    Sandbox::run(|sandbox| {
        let node = Node::start(sandbox, Options::default());
        let pod = sandbox.pod("web-0");
        let (peer, _) = begin_add(&node, &pod);
        assert_eq!(node.leases.usage()[0].used, 1);
        drop(peer);
        eventually("the killed plugin's interface is removed", || host_end(&pod).is_none());
        eventually("the rollback is counted", || node.counters.rollbacks.load(Relaxed) == 1);
        node.expect_empty();
        // Half a Commit is none.
        let (mut peer, commit) = begin_add(&node, &pod);
        let line = sdn_cni::protocol::encode(&commit).unwrap();
        peer.write(&line[..line.len() - 1]);
        peer.finish();
        assert!(matches!(peer.receive(), Some(Response::Failure(failure)) if failure.code == code::TRY_AGAIN_LATER));
        eventually("the rollback is counted", || node.counters.rollbacks.load(Relaxed) == 2);
        node.expect_empty();
    });
}

#[test]
fn a_plugin_that_goes_before_done_leaves_nothing() {
    Sandbox::run(|sandbox| {
        let node = Node::start(sandbox, Options::default());
        *node.network.attach_time.lock().unwrap() = Duration::from_millis(50);
        let pod = sandbox.pod("web-0");
        let (mut peer, commit) = begin_add(&node, &pod);
        peer.send(&commit);
        drop(peer);
        eventually("the rollback is counted", || node.counters.rollbacks.load(Relaxed) == 1);
        assert_eq!(host_end(&pod), None);
        node.expect_empty();
    });
}

#[test]
fn a_plugin_that_goes_on_a_retry_leaves_the_pod() {
    Sandbox::run(|sandbox| {
        let node = Node::start(sandbox, Options::default());
        let pod = sandbox.pod("web-0");
        let result = node.add(&pod).unwrap();
        let mut peer = node.connect();
        peer.send(&add_request(&pod));
        assert!(matches!(peer.receive(), Some(Response::Prepared(prepared)) if prepared.existing));
        drop(peer);
        eventually("the rollback is counted", || node.counters.rollbacks.load(Relaxed) == 1);
        node.check(&pod, &result).unwrap();
    });
}

#[test]
fn a_plugin_that_never_commits_is_given_up() {
    Sandbox::run(|sandbox| {
        let limits = Limits { commit: Duration::from_millis(50), ..Limits::default() };
        let node = Node::start(sandbox, Options { limits, ..Options::default() });
        let pod = sandbox.pod("web-0");
        let (mut peer, _) = begin_add(&node, &pod);
        assert!(matches!(peer.receive(), Some(Response::Failure(failure)) if failure.code == code::TRY_AGAIN_LATER));
        assert_eq!(host_end(&pod), None);
        node.expect_empty();
    });
}

#[test]
fn a_refusal_of_the_dataplane_undoes_everything() {
    for (transient, code) in [(true, code::TRY_AGAIN_LATER), (false, code::DATAPLANE)] {
        Sandbox::run(move |sandbox| {
            let node = Node::start(sandbox, Options::default());
            *node.network.attach_error.lock().unwrap() = Some(refusal(transient));
            let pod = sandbox.pod("web-0");
            expect_code(node.add(&pod), code, "the map is full");
            assert_eq!(host_end(&pod), None);
            node.expect_empty();
            // If it does not even let go, the address must not go to another pod.
            *node.network.detach_error.lock().unwrap() = Some(refusal(false));
            expect_code(node.add(&pod), code, "the map is full");
            assert_eq!(node.leases.usage()[0].used, 1);
            expect_code(node.del(&pod), code::DATAPLANE, "the map is full");
            assert_eq!(node.leases.usage()[0].used, 1);
            *node.network.detach_error.lock().unwrap() = None;
            node.del(&pod).unwrap();
            node.expect_empty();
        });
    }
}

#[test]
fn del_cancels_an_add_that_waits() {
    Sandbox::run(|sandbox| {
        let never: PodKnown = Arc::new(|_| Box::pin(std::future::pending()));
        let node = Node::start(sandbox, Options { pod_known: Some(never), ..Options::default() });
        let pod = sandbox.pod("web-0");
        thread::scope(|scope| {
            let add = scope.spawn(|| node.add(&pod));
            // Until it is there to be cancelled; a DEL before it would have nothing to do.
            thread::sleep(Duration::from_millis(100));
            let start = Instant::now();
            node.del(&pod).unwrap();
            assert!(start.elapsed() < Duration::from_secs(5), "DEL waited for the ADD's own limit");
            expect_code(add.join().unwrap(), code::TRY_AGAIN_LATER, "DEL");
        });
        node.expect_empty();
    });
}

#[test]
fn del_waits_for_an_add_that_is_being_committed() {
    Sandbox::run(|sandbox| {
        let node = Node::start(sandbox, Options::default());
        *node.network.attach_time.lock().unwrap() = Duration::from_millis(200);
        let pod = sandbox.pod("web-0");
        let (mut peer, commit) = begin_add(&node, &pod);
        peer.send(&commit);
        eventually("the lease is there, attach goes on", || node.lease_files() == 1);
        node.del(&pod).unwrap();
        node.expect_empty();
        assert!(matches!(peer.receive(), Some(Response::Failure(_))));
    });
}

#[test]
fn a_del_that_nobody_waits_for_spares_a_pod_added_since() {
    Sandbox::run(|sandbox| {
        let node = Node::start(sandbox, Options::default());
        let pod = sandbox.pod("web-0");
        node.add(&pod).unwrap();
        let del = Request::Del(DelRequest { attachment: attachment(&pod) });
        thread::scope(|scope| {
            // As if the server were away: it cannot go on until this lock is released.
            let stalled = node.network.attached.lock().unwrap();
            let next = sandbox.pod("next");
            let add = scope.spawn(|| node.add(&next).map(|_| next));
            eventually("the server is in the other pod's attach", || node.lease_files() == 2);
            let mut peer = node.connect();
            peer.send(&del);
            drop(peer);
            drop(stalled);
            node.del(&add.join().unwrap().unwrap()).unwrap();
        });
        node.status().unwrap();
        thread::sleep(Duration::from_millis(50));
        assert_eq!(node.leases.pods().len(), 1, "an outdated DEL cut off a running pod");
        // With the interface gone it is meant, whoever waits.
        Links::connect().unwrap().delete_link(&host_interface_name(&attachment(&pod))).unwrap();
        let mut peer = node.connect();
        peer.send(&del);
        drop(peer);
        eventually("the lease is given back", || node.leases.pods().is_empty());
    });
}

#[test]
fn gc_removes_what_is_not_listed() {
    Sandbox::run(|sandbox| {
        let node = Node::start(sandbox, Options::default());
        let names = ["kept", "stale1", "stale2", "elsewhere"];
        let pods = names.map(|name| sandbox.pod(name));
        for pod in &pods[..3] {
            node.add(pod).unwrap();
        }
        commands::add(&node.config_with(&[("name", json!("other"))]), &parameters(&pods[3])).unwrap();
        let gc = |valid: &[&PodNetns]| {
            let valid =
                valid.iter().map(|pod| json!({ "containerID": attachment(pod).container_id, "ifname": "eth0" }));
            commands::gc(node.config_with(&[("cni.dev/valid-attachments", valid.collect())]))
        };
        *node.network.detach_error.lock().unwrap() = Some(refusal(false));
        expect_code(gc(&[&pods[0]]), code::DATAPLANE, "2 attachments could not be removed");
        *node.network.detach_error.lock().unwrap() = None;
        gc(&[&pods[0]]).unwrap();
        let left: Vec<String> = node.leases.pods().iter().map(|pod| pod.name.clone()).collect();
        assert_eq!(left, ["elsewhere", "kept"]);
        assert_eq!(
            names.map(|name| host_end(&pods[names.iter().position(|n| *n == name).unwrap()]).is_some()),
            [true, false, false, true]
        );
        gc(&[]).unwrap();
        assert_eq!(node.leases.pods().len(), 1, "another network's attachment was removed");
    });
}

#[test]
fn check_compares_lease_kernel_and_dataplane() {
    Sandbox::run(|sandbox| {
        let node = Node::start(sandbox, Options::default());
        let (pod, other) = (sandbox.pod("web-0"), sandbox.pod("other"));
        let result = node.add(&pod).unwrap();
        node.check(&pod, &result).unwrap();

        let mut moved = parameters(&pod);
        moved.netns = Some(other.path().to_owned());
        let config = node.config_with(&[("prevResult", result.clone())]);
        expect_code(commands::check(&config, &moved), code::CHECK_FAILED, "not the network namespace");
        let mut fewer = result.clone();
        fewer["ips"].as_array_mut().unwrap().pop();
        expect_code(node.check(&pod, &fewer), code::CHECK_FAILED, "fd01:0:0:2::2");
        *node.network.check_error.lock().unwrap() = Some(refusal(false));
        expect_code(node.check(&pod, &result), code::DATAPLANE, "the map is full");
        *node.network.check_error.lock().unwrap() = None;
        // A later MTU is for later pods.
        node.mtu.send_replace(1400);
        node.check(&pod, &result).unwrap();

        let deleted = pod.open().run(|| Command::new("ip").args(["-6", "route", "del", "default"]).status().unwrap());
        assert!(deleted.unwrap().success());
        expect_code(node.check(&pod, &result), code::CHECK_FAILED, "route ::/0 via fe80::1");
        Links::connect().unwrap().delete_link(&host_interface_name(&attachment(&pod))).unwrap();
        expect_code(node.check(&pod, &result), code::CHECK_FAILED, "is missing");
    });
}

#[test]
fn a_full_subnet() {
    Sandbox::run(|sandbox| {
        let node = Node::start(sandbox, Options { subnets: Some(&["10.0.0.0/30"]), ..Options::default() });
        let (first, second) = (sandbox.pod("first"), sandbox.pod("second"));
        node.add(&first).unwrap();
        expect_code(node.add(&second), code::ADDRESSES_EXHAUSTED, "10.0.0.0/30: 1 of 1 addresses are in use");
        expect_code(node.status(), code::NOT_AVAILABLE, "10.0.0.0/30");
        // The node gets another subnet beside it.
        node.subnets.send_replace(vec!["10.0.0.0/30".parse().unwrap(), "10.0.1.0/30".parse().unwrap()]);
        eventually("the new subnet is seen", || node.leases.usage().len() == 2);
        node.status().unwrap();
        assert_eq!(addresses(&node.add(&second).unwrap()), ["10.0.1.2/32"]);
        node.del(&first).unwrap();
        assert_eq!(addresses(&node.add(&first).unwrap()), ["10.0.0.2/32"]);
    });
}

#[test]
fn a_node_that_is_not_ready() {
    Sandbox::run(|sandbox| {
        let node = Node::start(sandbox, Options::default());
        let pod = sandbox.pod("web-0");
        let unready = |named: &str| {
            expect_code(node.add(&pod), code::TRY_AGAIN_LATER, named);
            expect_code(node.status(), code::NOT_AVAILABLE, named);
        };
        node.readiness.send_replace(Readiness::NotReady("the programs are being loaded".into()));
        unready("the programs are being loaded");
        node.readiness.send_replace(Readiness::Ready);
        node.mtu.send_replace(0);
        unready("MTU");
        node.mtu.send_replace(1450);
        node.subnets.send_replace(vec![]);
        unready("no host subnet");
        node.subnets.send_replace(vec!["10.0.0.0/24".parse().unwrap()]);
        eventually("the new subnet is seen", || node.leases.usage().len() == 1);
        node.status().unwrap();
        node.add(&pod).unwrap();
        // DEL is served in any case.
        node.readiness.send_replace(Readiness::NotReady("going".into()));
        node.del(&pod).unwrap();
        node.expect_empty();
    });
}

#[test]
fn the_pods_object_comes_first() {
    Sandbox::run(|sandbox| {
        let (asked, asked_for) = mpsc::channel();
        let answers: Mutex<Vec<PodKnownFuture>> = Mutex::new(vec![
            Box::pin(std::future::ready(Ok(()))),
            Box::pin(std::future::pending()),
            Box::pin(std::future::ready(Err("it was deleted".into()))),
        ]);
        let known: PodKnown = Arc::new(move |pod| {
            asked.send(pod).unwrap();
            answers.lock().unwrap().pop().expect("asked once too often")
        });
        let limits = Limits { pod_known: Duration::from_millis(50), ..Limits::default() };
        let node = Node::start(sandbox, Options { pod_known: Some(known), limits, ..Options::default() });
        let pod = sandbox.pod("web-0");
        expect_code(node.add(&pod), code::TRY_AGAIN_LATER, "it was deleted");
        expect_code(node.add(&pod), code::TRY_AGAIN_LATER, "has not been seen");
        node.expect_empty();
        node.add(&pod).unwrap();
        assert!(asked_for.try_iter().all(|asked| Some(asked) == parameters(&pod).pod));
        // A container that is no pod of Kubernetes has no object.
        let other = sandbox.pod("other");
        commands::add(&node.config(), &sdn_cni::environment::Parameters { pod: None, ..parameters(&other) }).unwrap();
        let attached = node.network.attached.lock().unwrap()[&attachment(&other)].clone();
        assert_eq!(attached.incarnation, sdn_common::incarnation("c-other"));
    });
}

#[test]
fn capabilities_that_are_not_there() {
    Sandbox::run(|sandbox| {
        let node = Node::start(sandbox, Options::default());
        let pod = sandbox.pod("web-0");
        let config = node.config_with(&[("runtimeConfig", json!({ "mac": "0a:58:00:00:00:01" }))]);
        expect_code(
            commands::add(&config, &parameters(&pod)),
            code::UNSUPPORTED_FIELD,
            "runtimeConfig.mac = \"0a:58:00:00:00:01\"",
        );
        let config = node.config_with(&[("runtimeConfig", json!({ "mac": null }))]);
        commands::add(&config, &parameters(&pod)).unwrap();
    });
}

#[test]
fn leases_of_vanished_containers_are_taken_back() {
    Sandbox::run(|sandbox| {
        let limits = Limits { reclaim: Duration::from_millis(20), ..Limits::default() };
        let node = Node::start(sandbox, Options { limits, ..Options::default() });
        let [gone, unmounted, replaced, veth_left, netns_left] =
            ["gone", "unmounted", "replaced", "veth_left", "netns_left"].map(|name| sandbox.pod(name));
        let mut kept_alive = None;
        for pod in [&gone, &unmounted, &replaced, &veth_left, &netns_left] {
            node.add(pod).unwrap();
            if std::ptr::eq(pod, &veth_left) {
                // Somebody holds the namespace, so its interface stays when the path goes.
                kept_alive = Some(pod.open());
            }
        }
        Links::connect().unwrap().delete_link(&host_interface_name(&attachment(&netns_left))).unwrap();
        let path = replaced.path().to_owned();
        drop((gone, replaced, veth_left));
        let replacement = sandbox.pod("replaced");
        assert_eq!(replacement.path(), path);
        umount2(unmounted.path(), MntFlags::MNT_DETACH).unwrap();

        eventually("three leases are taken back", || node.counters.reclaimed.load(Relaxed) == 3);
        thread::sleep(Duration::from_millis(100));
        let left: Vec<String> = node.leases.pods().iter().map(|pod| pod.name.clone()).collect();
        assert_eq!(left, ["netns_left", "veth_left"]);
        drop(kept_alive);
        eventually("without its namespace, the fourth goes, too", || node.counters.reclaimed.load(Relaxed) == 4);
        assert_eq!(node.network.attached.lock().unwrap().len(), 1);
    });
}

#[test]
fn a_quarantined_lease_is_taken_back_with_its_interface() {
    Sandbox::run(|sandbox| {
        let limits = Limits { reclaim: Duration::from_millis(20), ..Limits::default() };
        let start = |limits: &Limits| Node::start(sandbox, Options { limits: limits.clone(), ..Options::default() });
        let pod = sandbox.pod("web-0");
        let node = start(&limits);
        node.add(&pod).unwrap();
        let file = format!("leases/10.128.2.2_fd01:0:0:2::2_{}.json", host_interface_name(&attachment(&pod)));
        node.stop();
        std::fs::write(sandbox.dir().join(file), "damaged").unwrap();

        let node = start(&limits);
        thread::sleep(Duration::from_millis(100));
        assert_eq!(node.leases.quarantined().len(), 1);
        let other = sandbox.pod("other");
        assert_eq!(addresses(&node.add(&other).unwrap())[0], "10.128.2.3/32");
        // The DEL finds no lease, but the interface goes.
        node.del(&pod).unwrap();
        eventually("its addresses are free", || node.leases.quarantined().is_empty());
        assert_eq!(node.leases.usage()[0].used, 1);
    });
}

#[test]
fn a_new_agent_attaches_the_pods_again() {
    Sandbox::run(|sandbox| {
        let (pod, gone) = (sandbox.pod("web-0"), sandbox.pod("gone"));
        let node = Node::start(sandbox, Options::default());
        let result = node.add(&pod).unwrap();
        node.add(&gone).unwrap();
        node.stop();
        drop(gone);

        let limits = Limits { reclaim: Duration::from_millis(20), ..Limits::default() };
        let network = Dataplane::default();
        *network.attach_error.lock().unwrap() = Some(refusal(true));
        let node = Node::start(sandbox, Options { limits, network: Some(network), ..Options::default() });
        eventually("the vanished container's lease is taken back", || node.leases.pods().len() == 1);
        thread::sleep(Duration::from_millis(50));
        assert!(node.network.attached.lock().unwrap().is_empty());
        *node.network.attach_error.lock().unwrap() = None;
        eventually("attach is tried again", || node.network.attached.lock().unwrap().len() == 1);
        node.check(&pod, &result).unwrap();
        assert_eq!(
            addresses(&node.add(&sandbox.pod("next")).unwrap())[0],
            "10.128.2.4/32",
            "the freed address is last"
        );
    });
}

#[test]
fn nonsense_is_refused_and_hurts_nobody() {
    Sandbox::run(|sandbox| {
        let limits = Limits { request: Duration::from_millis(100), ..Limits::default() };
        let node = Node::start(sandbox, Options { limits, ..Options::default() });
        let rows: &[(&[u8], u32, &str)] = &[
            (b"\n", code::PROTOCOL, "EOF"),
            (b"GET / HTTP/1.1\r\n", code::PROTOCOL, "expected value"),
            (b"\xff\xfe\x00\n", code::PROTOCOL, "expected value"),
            (b"{\"protocol\":2,\"message\":\"status\"}\n", code::PROTOCOL, "ours is 1"),
            (b"{\"protocol\":1,\"message\":{\"add\":{}}}\n", code::PROTOCOL, "missing field"),
            (b"{\"protocol\":1,\"message\":{\"commit\":{\"host_ifindex\":1}}}\n", code::PROTOCOL, "Commit without Add"),
            (b"{\"protocol\":1,", code::TRY_AGAIN_LATER, "nothing came"),
        ];
        for (bytes, code, named) in rows {
            let mut peer = node.connect();
            peer.write(bytes);
            let Some(Response::Failure(failure)) = peer.receive() else { panic!("{bytes:?} was accepted") };
            assert_eq!(failure.code, *code, "{failure}");
            assert!(failure.to_string().contains(named), "{failure}");
            assert_eq!(peer.receive(), None);
        }
        let mut peer = node.connect();
        peer.write(&vec![b' '; sdn_cni::protocol::MAX_MESSAGE + 1]);
        let Some(Response::Failure(failure)) = peer.receive() else { panic!("too long a line was accepted") };
        assert!(failure.to_string().contains("longer than"), "{failure}");
        // Silent connections hold up nobody.
        let silent: Vec<Peer> = (0..50).map(|_| node.connect()).collect();
        node.status().unwrap();
        drop(silent);
        node.expect_empty();
    });
}

#[test]
fn a_stopping_server_finishes_what_it_has_begun() {
    Sandbox::run(|sandbox| {
        let node = Node::start(sandbox, Options::default());
        *node.network.attach_time.lock().unwrap() = Duration::from_millis(200);
        let pod = sandbox.pod("web-0");
        let (mut peer, commit) = begin_add(&node, &pod);
        peer.send(&commit);
        eventually("the lease is there, attach goes on", || node.lease_files() == 1);
        let network = node.network.clone();
        node.stop();
        assert_eq!(peer.receive(), Some(Response::Done));
        assert_eq!(network.attached.lock().unwrap().len(), 1);
    });
}

#[test]
fn strangers_are_refused() {
    Sandbox::run(|sandbox| {
        let node = Node::start(sandbox, Options::default());
        // Let them through to the socket, so that it is the server which refuses.
        for (path, mode) in [(sandbox.dir(), 0o755), (&node.socket, 0o777)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let mut stranger = Command::new(std::env::current_exe().unwrap());
        let name = format!("{}::stranger", module_path!().split_once("::").unwrap().1);
        stranger.args(["--exact", &name, "--ignored", "--nocapture"]).env(STRANGER, &node.socket).uid(65534).gid(65534);
        let output = stranger.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && said.contains("hung up"),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(node.counters.strangers.load(Relaxed), 1);
        node.status().unwrap();
    });
}

/// Asks for the status as another user.
#[test]
#[ignore = "not a test: the process that strangers_are_refused starts"]
fn stranger() {
    let Ok(socket) = std::env::var(STRANGER) else { return };
    let mut agent = sdn_cni::client::Client::connect(socket.as_ref(), Duration::from_secs(10)).unwrap();
    match agent.ask(&Request::Status) {
        Err(sdn_cni::client::ClientError::Silent { .. }) => println!("hung up"),
        other => println!("{other:?}"),
    }
}

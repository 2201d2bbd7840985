//! The kubelet's and the container runtime's parts, with a CNI plugin that is played by a script: what the real one is told, what
//! becomes of its answers, and what the lab does when it fails.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sdn_lab::machine::Machine;
use sdn_lab::probe;
use sdn_lab::{Family, IpFamily, Lab, PodSpec};

/// Connects pods to a bridge of their node, gives them the next address, and writes down how it was called.
const PLUGIN: &str = r#"#!/bin/sh
set -e
cd /run/culvert
conf=$(cat)
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $CNI_ARGS" >> calls
port=cv$(echo "$CNI_CONTAINERID" | cut -c 1-12)
case $CNI_COMMAND in
ADD)
    if [ -e refuse ]; then rm refuse; echo '{"cniVersion":"1.1.0","code":11,"msg":"not yet","details":"on purpose"}'; exit 1; fi
    exec 9> lock; flock 9
    ip link show pods > /dev/null 2>&1 || { ip link add pods type bridge; ip link set pods up; ip address add 10.9.0.1/24 dev pods; }
    number=$(($(cat last 2> /dev/null || echo 1) + 1)); echo $number > last
    ip link add "$port" type veth peer name p$number
    ip link set p$number netns "$CNI_NETNS"
    nsenter --net="$CNI_NETNS" sh -c "ip link set p$number name eth0 && ip address add 10.9.0.$number/24 dev eth0 && ip link set eth0 up"
    ip link set "$port" master pods up
    echo "{\"cniVersion\":\"1.1.0\",\"interfaces\":[{\"name\":\"$port\"}],\"ips\":[{\"address\":\"10.9.0.$number/24\",\"interface\":0}]}" ;;
DEL) ip link delete "$port" 2> /dev/null || true ;;
CHECK) case $conf in *prevResult*"$port"*) ;; *) echo '{"code":7,"msg":"no previous result"}'; exit 1 ;; esac ;;
esac
"#;

struct Played {
    lab: Lab,
    _plugin: tempfile::TempDir,
}

fn played(name: &str, pods: impl IntoIterator<Item = PodSpec>) -> Played {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let plugin = directory.path().join("plugin");
    std::fs::write(&plugin, PLUGIN).expect("a plugin is written");
    std::fs::set_permissions(&plugin, PermissionsExt::from_mode(0o755)).expect("a plugin is executable");
    let lab = Lab::builder(name).nodes(2).family(Family::V4).without_agents().plugin_program(plugin);
    let lab = pods.into_iter().fold(lab, |lab, pod| lab.pod(pod)).start().expect("the lab comes up");
    Played { lab, _plugin: directory }
}

fn calls(lab: &Lab, node: &str) -> Vec<String> {
    let text =
        lab.node(node).and_then(|node| node.read_file(Path::new("/run/culvert/calls"))).expect("the plugin was called");
    text.lines().map(Into::into).collect()
}

#[test]
fn pods_are_connected_served_published_and_taken_down_again() {
    let before = Machine::look().unwrap();
    let pods = [
        PodSpec::new("shop/web").on("node-1").tcp(8080).udp(53),
        PodSpec::new("shop/db").on("node-1").tcp(5432).label("app", "db"),
    ];
    let Played { lab, .. } = &played("played-life", pods);
    let (web, db) = (lab.pod("shop/web").unwrap(), lab.pod("shop/db").unwrap());
    let target = SocketAddr::new(db.address(IpFamily::V4).unwrap(), 5432);
    let answer = web.sandbox().unwrap().within_async(async || Ok(probe::http(target, Duration::from_secs(2)).await));
    let answer = answer.unwrap().unwrap().answer.unwrap();
    assert_eq!((answer.who.to_string(), answer.client_address), ("shop/db".into(), web.addresses()[0]));
    assert!(web.run(["ip", "-brief", "address"]).unwrap().contains(&web.addresses()[0].to_string()));
    assert!(web.run(["cat", "/proc/self/cgroup"]).unwrap().contains("/node-1/pods/shop_web"));
    lab.check_pod("shop/web").unwrap();

    let id = db.container_id().unwrap();
    let [call] =
        &calls(lab, "node-1").into_iter().filter(|call| call.contains("K8S_POD_NAME=db")).collect::<Vec<_>>()[..]
    else {
        panic!("one ADD for shop/db")
    };
    let uid = db.object().uid.clone();
    let arguments = format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=db;K8S_POD_INFRA_CONTAINER_ID={id};K8S_POD_UID={uid}"
    );
    assert_eq!(*call, format!("ADD {id} eth0 {arguments}"));

    let published = lab.dir().manifests().join("pods/shop_db.json");
    let text = std::fs::read_to_string(&published).unwrap();
    assert!(text.contains(&db.addresses()[0].to_string()) && text.contains("\"app\": \"db\""), "{text}");
    lab.relabel("shop/db", [("app", "other")]).unwrap();
    assert!(std::fs::read_to_string(&published).unwrap().contains("\"app\": \"other\""));
    lab.delete_pod("shop/db").unwrap();
    assert!(!published.exists() && lab.pod("shop/db").is_err());
    assert!(calls(lab, "node-1").last().unwrap().starts_with(&format!("DEL {id} ")));
    let left = lab.node("node-1").unwrap().exec(["ls", "/run/netns"]).unwrap();
    assert_eq!(String::from_utf8(left.stdout).unwrap().lines().count(), 1, "shop/web's only");
    assert_eq!(before, Machine::look().unwrap());
}

#[test]
fn a_plugin_that_fails_is_asked_again_with_a_new_sandbox() {
    let Played { lab, .. } = &played("played-retry", []);
    lab.node("node-2").unwrap().exec(["touch", "/run/culvert/refuse"]).unwrap();
    let pod = lab.add_pod(PodSpec::new("late").on("node-2").tcp(80)).unwrap();
    assert!(pod.is_ready());
    let verbs: Vec<_> =
        calls(lab, "node-2").iter().map(|call| call.split(' ').take(2).map(String::from).collect::<Vec<_>>()).collect();
    let [refused, removed, added] = &verbs[..] else { panic!("{verbs:?}") };
    assert_eq!([&*refused[0], &*removed[0], &*added[0]], ["ADD", "DEL", "ADD"]);
    assert!(refused[1] == removed[1] && removed[1] != added[1], "{verbs:?}");
}

#[test]
fn a_pod_of_a_name_comes_and_goes_and_is_another_one_each_time() {
    let Played { lab, .. } = &played("played-churn", []);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..4 {
        let names = (0..20).map(|number| format!("churn/pod-{number}"));
        let pods = lab.add_pods(names.clone().map(|name| PodSpec::new(&name).udp(9))).unwrap();
        assert!(pods.iter().all(|pod| pod.is_ready() && seen.insert(pod.object().uid.clone())));
        names.for_each(|name| lab.delete_pod(&name).unwrap());
    }
    assert_eq!(lab.pods().len(), 0);
    for node in lab.nodes() {
        let count = String::from_utf8(
            node.exec(["sh", "-c", "ls /run/netns | wc -l; ls /sys/class/net | grep -c ^cv"]).unwrap().stdout,
        );
        assert_eq!(count.unwrap(), "0\n0\n", "left on {}", node.name());
    }
}

#[test]
fn the_command_line_sees_a_lab_of_another_process() {
    let name = "played-cli";
    let Played { lab, .. } = &played(name, [PodSpec::new("shop/web-1").on("node-2").tcp(8080)]);
    let sdn_lab = |arguments: &[&str]| Command::new(env!("CARGO_BIN_EXE_sdn-lab")).args(arguments).output().unwrap();
    let status = sdn_lab(&["status", "--name", name, "-o", "json"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    let address = lab.pod("shop/web-1").unwrap().addresses()[0].to_string();
    assert_eq!((&status[0]["alive"], &status[0]["phase"]), (&true.into(), &"ready".into()));
    assert_eq!(status[0]["pods"]["shop/web-1"]["addresses"][0], *address);
    let ip = sdn_lab(&["exec", "--name", name, "-n", "shop", "web", "--", "ip", "-4", "-brief", "address"]);
    assert!(String::from_utf8(ip.stdout).unwrap().contains(&address));
    let cgroup = sdn_lab(&["exec", "--name", name, "web-1", "--", "cat", "/proc/self/cgroup"]);
    assert!(String::from_utf8(cgroup.stdout).unwrap().contains("/node-2/pods/shop_web-1"));
    for target in ["web-1", "node/node-1", "outside", "underlay"] {
        let code = sdn_lab(&["exec", "--name", name, target, "--", "sh", "-c", "exit 42"]).status.code();
        assert_eq!(code, Some(42), "{target}");
    }
    let refused = sdn_lab(&["exec", "--name", name, "db", "--", "true"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("no pod 'db' in the lab 'played-cli'"));
    let none = sdn_lab(&["down", "--name", "played-none"]);
    assert!(String::from_utf8(none.stderr).unwrap().contains("no lab 'played-none' is up"));
}

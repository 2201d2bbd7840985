//! Nothing is lost while agents are killed, come back, and are replaced.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use sdn_lab::programs::Programs;
use sdn_lab::sandbox::Sandbox;
use sdn_lab::stream::{Carrier, Stream};
use sdn_lab::{Family, Lab, Node, PodSpec};

/// Messages a second of each stream.
const RATE: u32 = 1000;

const PATIENCE: Duration = Duration::from_secs(60);

/// Streams of several labs at once would measure the machine.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn start(name: &str, family: Family) -> Lab {
    let pods = [("a", "node-1"), ("b", "node-1"), ("c", "node-2")];
    let lab = Lab::builder(name).nodes(2).family(family);
    let lab = pods.into_iter().fold(lab, |lab, (name, node)| lab.pod(PodSpec::new(name).on(node).tcp(80).udp(53)));
    lab.start().expect("the lab comes up")
}

/// Runs streams while `disturb` does its work: of each carrier and family, within a node, across nodes, and masqueraded.
fn assert_nothing_lost(lab: &Lab, disturb: impl FnOnce()) {
    // One that failed has nothing to do with the next.
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let from = lab.pod("a").and_then(|pod| pod.sandbox()).expect("a is up");
    let streams: Vec<Stream> = targets(lab)
        .iter()
        .flat_map(|(to, address)| {
            let carriers = [Carrier::Tcp, Carrier::Udp, Carrier::Ping];
            carriers.map(|carrier| Stream::start(carrier, &from, to, *address, RATE).expect("the stream starts"))
        })
        .collect();
    thread::sleep(Duration::from_millis(500));
    disturb();
    thread::sleep(Duration::from_millis(500));
    let reports = Stream::finish_all(streams);
    let broken: Vec<_> = reports.iter().filter(|report| !report.is_whole()).map(ToString::to_string).collect();
    reports.iter().for_each(|report| println!("{report}"));
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

fn targets(lab: &Lab) -> Vec<(Sandbox, IpAddr)> {
    let pods = ["b", "c"].map(|name| lab.pod(name).expect("the pod is there"));
    let pods = pods.into_iter().map(|pod| (pod.sandbox().expect("the pod is up"), pod.addresses()));
    let internet = lab.family().each().iter().map(|family| lab.outside().address(*family)).collect();
    let hosts = pods.chain([(lab.outside().sandbox().clone(), internet)]);
    hosts
        .flat_map(|(sandbox, addresses)| addresses.into_iter().map(move |address| (sandbox.clone(), address)))
        .collect()
}

fn await_ready(node: &Node) {
    node.agent().wait_ready(PATIENCE).expect("the agent gets ready again");
    // What comes last after a start, and between two disturbances.
    thread::sleep(Duration::from_millis(100));
}

/// Waits for a role that is not the one which was killed.
fn await_role(node: &Node, killed: Option<Pid>) {
    let deadline = Instant::now() + PATIENCE;
    while node.agent().role().is_none_or(|role| Some(role) == killed) {
        assert!(
            Instant::now() < deadline,
            "the keeper of {} starts no role: {}",
            node.name(),
            node.agent().last_words()
        );
        thread::sleep(Duration::from_millis(1));
    }
}

/// A copy under another name, as an update brings.
fn copy_of(program: &Path, directory: &tempfile::TempDir) -> PathBuf {
    let copy = directory.path().join("sdn-agent");
    std::fs::copy(program, &copy).expect("the agent's program is copied");
    copy
}

fn kill_roles(name: &str, family: Family) {
    let lab = &start(name, family);
    assert_nothing_lost(lab, || {
        for _ in 0..3 {
            for node in lab.nodes() {
                node.agent().kill_role().expect("the role runs");
                await_ready(node);
            }
        }
    });
    assert!(lab.nodes().iter().all(|node| node.agent().restarts() == 0), "keepers stay");
}

#[test]
fn killed_roles_lose_nothing() {
    kill_roles("restart-role", Family::Dual);
}

#[test]
fn killed_roles_lose_nothing_on_an_ipv6_underlay() {
    kill_roles("restart-role-v6", Family::V6);
}

#[test]
fn killed_keepers_lose_nothing() {
    let lab = &start("restart-keeper", Family::Dual);
    assert_nothing_lost(lab, || {
        for node in lab.nodes() {
            let killed = node.agent().kill_keeper().unwrap();
            while node.agent().keeper().is_none_or(|pid| pid == killed) {
                thread::sleep(Duration::from_millis(5));
            }
            await_ready(node);
        }
    });
}

#[test]
fn a_stopped_agent_loses_nothing() {
    let lab = &start("restart-stop", Family::Dual);
    assert_nothing_lost(lab, || {
        for node in lab.nodes() {
            node.agent().stop().unwrap();
            thread::sleep(Duration::from_millis(300));
            node.agent().start().unwrap();
            await_ready(node);
        }
    });
}

/// Hands over to `program` on each node, and kills its role several times on the way.
fn replace_and_kill(name: &str, program: &Path) {
    let lab = &start(name, Family::Dual);
    assert_nothing_lost(lab, || {
        for node in lab.nodes() {
            let usual = start_duration(node);
            node.agent().replace(program).expect("the new keeper takes over");
            let mut killed = None;
            for part in [0.05, 0.3, 0.5, 0.7, 0.8, 0.9] {
                await_role(node, killed);
                thread::sleep(usual.mul_f32(part));
                killed = Some(node.agent().kill_role().expect("the role runs"));
            }
            await_ready(node);
        }
    });
}

/// What a role takes from its start until it is ready tells when to kill: at the beginning, while maps are converted, while
/// programs are switched.
fn start_duration(node: &Node) -> Duration {
    let killed = node.agent().kill_role().expect("the role runs");
    await_role(node, Some(killed));
    let began = Instant::now();
    node.agent().wait_ready(PATIENCE).expect("the agent gets ready again");
    began.elapsed()
}

#[test]
fn a_replaced_program_loses_nothing_even_if_it_is_killed_on_the_way() {
    let directory = tempfile::tempdir().unwrap();
    replace_and_kill("restart-replace", &copy_of(&Programs::find().unwrap().agent, &directory));
}

#[test]
fn a_program_with_other_maps_loses_nothing_even_if_it_is_killed_on_the_way() {
    let next = Programs::find().unwrap().agent.with_file_name("layout-next").join("sdn-agent");
    assert!(next.is_file(), "{} is not there: `cargo xtask test` builds it", next.display());
    replace_and_kill("restart-layout", &next);
}

#[test]
fn pods_can_be_added_and_removed_after_every_kind_of_restart() {
    let lab = &start("restart-after", Family::Dual);
    let [one, two] = lab.nodes() else { panic!("two nodes") };
    let check = |name: &str| {
        let pod = lab.add_pod(PodSpec::new(name).on("node-1").tcp(80)).unwrap();
        let survey = sdn_lab::survey::survey(lab, |_, _| ()).unwrap();
        assert_eq!(survey.faults(), Vec::<String>::new(), "after {name}");
        lab.delete_pod(&pod.key().to_string()).unwrap();
    };
    one.agent().kill_role().unwrap();
    await_ready(one);
    check("killed-role");
    let killed = two.agent().kill_keeper().unwrap();
    while two.agent().keeper().is_none_or(|pid| pid == killed) {
        thread::sleep(Duration::from_millis(5));
    }
    await_ready(two);
    check("killed-keeper");
}

//! Labs without agents: what they stand on, that two of them do not meet, and that nothing is left of them.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sdn_lab::machine::{Machine, traces};
use sdn_lab::probe;
use sdn_lab::state::LabDir;
use sdn_lab::{Family, IpFamily, Lab, PodSpec};

const PATIENCE: Duration = Duration::from_secs(2);

fn bare(name: &str, family: Family) -> Lab {
    let pods = [
        PodSpec::new("ground/web").on("node-1").host_network().tcp(8080).udp(8081),
        PodSpec::new("ground/ping").on("node-2").host_network(),
    ];
    let lab = Lab::builder(name).nodes(2).family(family).without_agents();
    pods.into_iter().fold(lab, |lab, pod| lab.pod(pod)).start().expect("a lab without agents comes up")
}

#[test]
fn a_lab_leaves_nothing_behind() {
    let before = Machine::look().unwrap();
    let lab = bare("ground-clean", Family::Dual);
    assert!(traces("ground-clean").unwrap().len() > 5, "the look sees a lab");
    assert_eq!(before, Machine::look().unwrap(), "the machine's own network and files are left alone");
    lab.node("node-1").unwrap().exec(["sleep", "0.01"]).unwrap();
    lab.stop().unwrap();
    assert_eq!(before.changes_after("ground-clean").unwrap(), Vec::<String>::new());
}

#[test]
fn a_panic_leaves_nothing_behind() {
    let before = Machine::look().unwrap();
    let failed = std::thread::spawn(|| {
        let lab = bare("ground-panic", Family::V4);
        let never = lab.node("node-2").unwrap().sandbox().spawn(Command::new("sleep").arg("600"));
        panic!("a test fails here on purpose, with {never:?} running");
    });
    assert!(failed.join().is_err());
    assert_eq!(before.changes_after("ground-panic").unwrap(), Vec::<String>::new());
}

#[test]
fn nodes_have_files_of_their_own_and_change_nothing_on_the_machine() {
    let lab = bare("ground-files", Family::Dual);
    let [one, two] = ["node-1", "node-2"].map(|name| lab.node(name).unwrap().clone());
    let script = "mkdir -p /var/lib/culvert/leases /etc/cni/net.d /opt/cni/bin && \
                  for d in /etc /etc/cni/net.d /opt/cni/bin /run/culvert /var/lib/culvert/leases /sys/fs/bpf; do \
                      mkdir $d/of-node-1 || exit 1; done; \
                  test \"$(ls /sys/class/net)\" = \"$(printf 'eth0\\nlo')\" && grep -q $$ /sys/fs/cgroup/host/cgroup.procs";
    let written = one.exec(["sh", "-c", script]).unwrap();
    assert!(written.status.success(), "{written:?}");
    for place in ["/etc", "/opt/cni/bin", "/run/culvert", "/var/lib/culvert/leases", "/sys/fs/bpf"] {
        let place = Path::new(place).join("of-node-1");
        assert!(!place.exists(), "{} is on the machine", place.display());
        let seen = two.sandbox().within(|| Ok(place.exists())).unwrap();
        assert!(!seen, "{} is on the other node", place.display());
    }
    let manifest = lab.dir().manifests().join("nodes/node-1.json");
    let text = one.read_file(&manifest).unwrap();
    assert!(text.contains("192.168.77.11") && text.contains("10.128."), "{text}");
    let overwrite = one.sandbox().within(|| Ok(std::fs::write(&manifest, "{}"))).unwrap();
    assert_eq!(overwrite.unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}

#[test]
fn two_labs_with_the_same_addresses_do_not_meet() {
    let labs = ["ground-a", "ground-b"].map(|name| bare(name, Family::Dual));
    for lab in &labs {
        let web = lab.pod("ground/web").unwrap();
        assert_eq!(web.addresses(), lab.node("node-1").unwrap().addresses());
        let target = SocketAddr::new(web.address(IpFamily::V6).unwrap(), 8080);
        let from = lab.pod("ground/ping").unwrap().sandbox().unwrap();
        let answer = from.within_async(async || Ok(probe::http(target, PATIENCE).await)).unwrap().unwrap();
        assert_eq!(answer.answer.unwrap().who.pod, "web");
    }
    let [first, second] = labs;
    let target = SocketAddr::new(second.pod("ground/web").unwrap().addresses()[0], 8081);
    first.stop().unwrap();
    let from = second.pod("ground/ping").unwrap().sandbox().unwrap();
    let answer = from.within_async(async || Ok(probe::datagram(target, PATIENCE).await)).unwrap().unwrap();
    assert_eq!(answer.answer.unwrap().client_address.to_string(), "192.168.77.12");
}

#[test]
fn a_name_is_taken_once_and_free_again_when_its_owner_is_gone() {
    let before = Machine::look().unwrap();
    let lab = bare("ground-name", Family::V4);
    let taken = Lab::builder("ground-name").without_agents().start().unwrap_err();
    assert!(taken.to_string().contains("'ground-name' is up"), "{taken}");
    lab.stop().unwrap();
    bare("ground-name", Family::V4).stop().unwrap();
    for name in ["", "Up", "a/b", "-x", "a b"] {
        let refused = Lab::builder(name).without_agents().start().unwrap_err().to_string();
        assert!(refused.contains("cannot be a lab's name"), "{name}: {refused}");
    }
    assert_eq!(before.changes_after("ground-name").unwrap(), Vec::<String>::new());
}

/// Run by [`a_killed_owner_leaves_nothing_behind`] in a process of its own, as the owner that is killed.
#[test]
#[ignore = "not a test: the process that another test kills"]
fn hold_a_lab_until_killed() {
    let lab = bare("ground-killed", Family::Dual);
    let mut running = lab.node("node-1").unwrap().sandbox().spawn(Command::new("sleep").arg("600")).unwrap();
    std::fs::write(lab.dir().path().join("held"), "").unwrap();
    running.wait().unwrap();
}

#[test]
fn a_killed_owner_leaves_nothing_behind() {
    // Of a run of this test that was killed itself.
    LabDir::new("ground-killed").unwrap().remove_stale().unwrap();
    let before = Machine::look().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "hold_a_lab_until_killed"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut owner = command.spawn().unwrap();
    let held = Path::new("/run/culvert-lab/ground-killed/held");
    let deadline = Instant::now() + Duration::from_secs(30);
    while !held.exists() {
        assert!(Instant::now() < deadline && owner.try_wait().unwrap().is_none(), "the lab does not come up");
        std::thread::sleep(Duration::from_millis(20));
    }
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert_eq!(before.changes_after("ground-killed").unwrap(), Vec::<String>::new());
}

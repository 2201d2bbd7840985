//! The loop with the real kernel: programs, maps, devices, and packets.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::*;
use crate::cni::PodNetwork;
use crate::kernel::bpf::testing::{device, ip as run_ip, link_ids, open, open_with_xdp, sandbox, veth};
use crate::kernel::bpf::{PinDirectory, Table, XdpMode};
use crate::observe::Dataplane as _;

/// Runs a test with devices as a node has them.
fn on_a_node(test: impl AsyncFnOnce(PinDirectory) + Send + 'static) {
    sandbox(|pins| {
        run_ip("link add culvert0 type vxlan external dstport 4789");
        run_ip("link add eth0 type veth peer name underlay");
        run_ip("addr add 192.168.9.1/24 dev eth0");
        run_ip("link set eth0 up");
        run_ip("link set culvert0 up");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(pins));
    });
}

struct Agent {
    handle: Handle,
    snapshots: watch::Sender<Snapshot>,
    _uplink: watch::Sender<Uplink>,
    _vxlan: watch::Sender<Device>,
    task: JoinHandle<()>,
}

fn start(pins: &PinDirectory, snapshot: Snapshot, pods: Vec<Arc<LocalPod>>) -> Agent {
    start_with_xdp(pins, snapshot, pods, None)
}

fn start_with_xdp(pins: &PinDirectory, snapshot: Snapshot, pods: Vec<Arc<LocalPod>>, mode: Option<XdpMode>) -> Agent {
    let (snapshots, snapshot) = watch::channel(snapshot);
    let uplink = Uplink { ifindex: device("eth0").ifindex, ..(*uplink(&["192.168.9.1/24"])).clone() };
    let (uplink, uplink_receiver) = watch::channel(uplink);
    let (vxlan, vxlan_receiver) = watch::channel(device("culvert0"));
    let start = Start {
        dataplane: open_with_xdp(pins, mode.unwrap_or_default()),
        settings: Settings { uplink_xdp: mode.is_some(), ..settings() },
        timeouts: sdn_common::flow::Timeouts::DEFAULT,
        snapshots: snapshot,
        uplink: uplink_receiver,
        vxlan: vxlan_receiver,
        pods,
    };
    let (handle, task) = spawn(start).unwrap();
    Agent { handle, snapshots, _uplink: uplink, _vxlan: vxlan, task }
}

impl Agent {
    async fn stop(self) {
        drop(self.handle);
        tokio::time::timeout(Duration::from_secs(10), self.task).await.unwrap().unwrap();
    }

    async fn applied(&self, condition: impl FnMut(&Applied) -> bool) -> Applied {
        let mut applied = self.handle.applied();
        let found = tokio::time::timeout(Duration::from_secs(10), applied.wait_for(condition)).await;
        found.expect("the loop comes to it").unwrap().clone()
    }
}

fn state(pins: &PinDirectory) -> NodeState {
    Table::<u32, NodeState>::open(pins, "NODE_STATE").unwrap().lookup(&0).unwrap().unwrap()
}

#[test]
fn a_node_forwards_and_goes_on_across_restarts() {
    on_a_node(async |pins| {
        let snapshot = three_nodes().with_pod(pod("far", "n1", &["10.128.2.2", "fd01:0:0:1::2"])).snapshot;
        let first = start(&pins, snapshot.clone(), vec![]);
        let applied = first.applied(|applied| applied.synced).await;
        assert!(applied.forwarding && applied.failures.is_empty() && applied.problems.is_empty(), "{applied:?}");
        let expected =
            Entries { nodes: 3, tunnels: 2, subnets: [3, 3], endpoints: [0, 0], peers: [7, 4], ..Entries::default() };
        assert_eq!(applied.entries, expected);

        let host = veth("cv1");
        let pod =
            LocalPod { host_interface: host.name.clone(), ..local("near", host.ifindex, &["10.128.0.2", "fd01::2"]) };
        let pod = Arc::new(pod);
        first.handle.check(pod.clone()).await.unwrap_err();
        first.handle.attach(pod.clone()).await.unwrap();
        first.handle.check(pod.clone()).await.unwrap();
        let other = LocalPod { incarnation: 1, ..(*pod).clone() };
        let error = first.handle.check(Arc::new(other)).await.unwrap_err();
        assert_eq!(error.to_string(), "check of endpoint 10.128.0.2: the kernel has another pod's");
        let (link, _) = link_ids(&pins, Hook::PodOut, host.ifindex).unwrap();
        let before = state(&pins);
        first.stop().await;
        assert_eq!(link_ids(&pins, Hook::PodOut, host.ifindex).unwrap().0, link, "it forwards without an agent");

        // With nothing but its leases: the cluster has not been read yet.
        let unsynced = Snapshot { synced: false, ..Snapshot::default() };
        let second = start(&pins, unsynced, vec![pod.clone()]);
        let applied = second.applied(|applied| applied.passes > 0).await;
        let held = Entries { endpoints: [1, 1], ..expected };
        assert_eq!((applied.entries, applied.synced, applied.forwarding), (held, false, true));
        second.handle.check(pod.clone()).await.unwrap();
        second.snapshots.send_replace(snapshot);
        let applied = second.applied(|applied| applied.synced).await;
        assert_eq!(applied.entries, held);
        assert_eq!(state(&pins), before, "nothing that flows remember was touched");
        assert_eq!(applied.writes, 4, "each link was looked at, and nothing else written: {applied:?}");
        assert_eq!(link_ids(&pins, Hook::PodOut, host.ifindex).unwrap().0, link);

        // The interface goes first, as the CNI server does it.
        run_ip("link del cv1");
        second.handle.detach(pod.clone()).await.unwrap();
        second.handle.detach(pod.clone()).await.unwrap();
        assert_eq!(link_ids(&pins, Hook::PodOut, host.ifindex), None);
        assert_eq!(state(&pins).epoch, before.epoch.wrapping_add(1));
        let error = second.handle.check(pod.clone()).await.unwrap_err();
        assert_eq!(error.to_string(), "check of endpoint 10.128.0.2: the kernel does not have it");
        let error = second.handle.attach(pod).await.unwrap_err();
        assert!(error.to_string().starts_with("attach of program pod_out on cv1: "), "{error}");
        second.stop().await;
    });
}

#[test]
fn a_lease_that_is_gone_leaves_nothing() {
    on_a_node(async |pins| {
        let first = start(&pins, three_nodes().snapshot, vec![]);
        first.applied(|applied| applied.synced).await;
        let host = veth("cv1");
        let pod = LocalPod { host_interface: host.name.clone(), ..local("near", host.ifindex, &["10.128.0.2"]) };
        first.handle.attach(Arc::new(pod)).await.unwrap();
        first.stop().await;
        let second = start(&pins, three_nodes().snapshot, vec![]);
        let applied = second.applied(|applied| applied.synced).await;
        assert_eq!(applied.entries.endpoints, [0, 0]);
        assert_eq!(link_ids(&pins, Hook::PodOut, host.ifindex), None);
        second.stop().await;
    });
}

#[test]
fn drops_are_counted_and_shown_by_name_also_when_the_pod_is_gone() {
    on_a_node(async |pins| {
        let agent = start(&pins, three_nodes().snapshot, vec![]);
        agent.applied(|applied| applied.synced).await;
        let host = veth("cv1");
        let pod = LocalPod { host_interface: host.name.clone(), ..local("near", host.ifindex, &["10.128.0.2"]) };
        let pod = Arc::new(pod);
        agent.handle.attach(pod.clone()).await.unwrap();
        let mut events = agent.handle.events();
        // The pod's end asks for an address that is not its gateway's, from an address that is not its own.
        run_ip("addr add 10.9.9.9/24 dev cv1-p");
        run_ip("link set cv1 up");
        run_ip("link set cv1-p up");
        let ping = Command::new("ping").args(["-c", "1", "-W", "1", "-I", "cv1-p", "10.9.9.1"]).output().unwrap();
        assert!(!ping.status.success());
        let arp = async {
            loop {
                let event = events.recv().await.unwrap();
                if event.protocol == "arp" {
                    return event;
                }
            }
        };
        let event = tokio::time::timeout(Duration::from_secs(10), arp).await.unwrap();
        assert_eq!((event.endpoint.as_str(), event.reason.as_str()), ("shop/near", "spoofed_neighbour"));
        assert!(event.time_ms > 0 && event.length >= 42, "{event:?}");
        assert!(agent.handle.counts().unwrap().events > 0);
        let of_pod = async || -> (u64, u64) {
            let rows = agent.handle.drops().await.unwrap();
            let rows = rows.iter().filter(|row| row.endpoint == "shop/near" && row.reason == "spoofed_neighbour");
            rows.fold((0, 0), |sum, row| (sum.0 + row.packets, sum.1 + row.bytes))
        };
        let (packets, bytes) = of_pod().await;
        assert!(packets > 0 && bytes >= 42 * packets, "{packets} packets, {bytes} bytes");
        run_ip("link del cv1");
        agent.handle.detach(pod).await.unwrap();
        let (after, _) = of_pod().await;
        assert!(after >= packets);
        let programs = agent.handle.programs().unwrap();
        assert_eq!(programs.iter().find(|program| program.name == "host_out").unwrap().attached_to, ["culvert0"]);
        let maps = agent.handle.maps().await.unwrap();
        let peers = maps.iter().find(|map| map.name == "PEERS_V4").unwrap();
        assert_eq!((peers.entries, peers.version, peers.capacity), (Some(6), 1, 262_144));
        let total =
            agent.handle.counts().unwrap().drops.iter().find(|(reason, _)| *reason == "spoofed_neighbour").unwrap().1;
        assert!(total.packets >= packets, "{total:?}");
        agent.stop().await;
    });
}

/// A device without native XDP is an uplink all the same, and it is said.
#[test]
fn an_uplink_that_refuses_xdp_goes_on_without() {
    on_a_node(async |pins| {
        run_ip("link add dum0 type vxlan external dstport 4790");
        let dummy = device("dum0");
        let eth0 = (*uplink(&["192.168.9.1/24"])).clone();
        let agent = start_with_xdp(&pins, three_nodes().snapshot, vec![], Some(XdpMode::Native));
        agent.applied(|applied| applied.forwarding && applied.failures.is_empty()).await;
        let old = device("eth0").ifindex;
        assert!(link_ids(&pins, Hook::UplinkXdp, old).is_some());
        agent._uplink.send_replace(Uplink { name: dummy.name, ifindex: dummy.ifindex, ..eth0 });
        let applied = agent.applied(|applied| applied.forwarding && !applied.failures.is_empty()).await;
        assert_eq!(applied.failures[0].object, "program uplink_xdp on dum0");
        assert!(applied.failures[0].cause.contains("no native XDP"), "{:?}", applied.failures);
        let status = crate::observe::Dataplane::applied(&agent.handle);
        assert!(status.failures[0].starts_with("program uplink_xdp on dum0: "), "{status:?}");
        assert_eq!(link_ids(&pins, Hook::UplinkXdp, old), None);
        assert!(link_ids(&pins, Hook::UplinkIn, dummy.ifindex).is_some());
        agent.stop().await;
        // Where it can be attached it is, until it is switched off.
        let agent = start_with_xdp(&pins, three_nodes().snapshot, vec![], Some(XdpMode::Generic));
        agent.applied(|applied| applied.forwarding && applied.failures.is_empty()).await;
        assert!(link_ids(&pins, Hook::UplinkXdp, old).is_some());
        agent.stop().await;
        let agent = start(&pins, three_nodes().snapshot, vec![]);
        agent.applied(|applied| applied.forwarding && applied.failures.is_empty()).await;
        assert_eq!(link_ids(&pins, Hook::UplinkXdp, old), None);
        agent.stop().await;
    });
}

#[test]
fn devices_that_move_are_followed() {
    on_a_node(async |pins| {
        let agent = start(&pins, three_nodes().snapshot, vec![]);
        agent.applied(|applied| applied.forwarding).await;
        let old = device("eth0").ifindex;
        run_ip("link add eth1 type veth peer name underlay1");
        let moved = Uplink {
            name: "eth1".to_owned(),
            ifindex: device("eth1").ifindex,
            ..(*uplink(&["192.168.9.1/24"])).clone()
        };
        agent._uplink.send_replace(moved.clone());
        agent.applied(|applied| applied.forwarding && applied.passes > 1).await;
        assert_eq!(link_ids(&pins, Hook::UplinkIn, old), None);
        assert!(link_ids(&pins, Hook::UplinkIn, moved.ifindex).is_some());
        assert_eq!(state(&pins).uplink_ifindex, moved.ifindex);
        // An uplink that is not there is a failure that heals when it comes.
        let absent = Uplink { name: "eth2".to_owned(), ifindex: 77, ..moved };
        agent._uplink.send_replace(absent);
        let applied = agent.applied(|applied| !applied.failures.is_empty()).await;
        assert_eq!(applied.failures[0].object, "program uplink_in on eth2");
        assert!(!applied.forwarding);
        assert!(applied.failures[0].cause.starts_with("attach uplink_in to eth2: "), "{:?}", applied.failures);
        run_ip("link add eth2 index 77 type veth peer name underlay2");
        agent.applied(|applied| applied.failures.is_empty() && applied.forwarding).await;
        agent.stop().await;
    });
}

#[test]
fn the_loop_ends_with_the_last_handle() {
    on_a_node(async |pins| {
        let agent = start(&pins, three_nodes().snapshot, vec![]);
        let second = agent.handle.clone();
        drop(agent.handle);
        second.applied().wait_for(|applied| applied.synced).await.unwrap();
        assert!(!agent.task.is_finished());
        drop(second);
        tokio::time::timeout(Duration::from_secs(10), agent.task).await.unwrap().unwrap();
        assert_eq!(open(&pins).opened().switched.len(), 3, "what it attached stays");
    });
}

/// A process in a network namespace of its own, which stands for a pod.
struct Sandbox(Child);

impl Sandbox {
    /// Connects it as the CNI plugin does.
    fn new(name: &str, last: u8) -> (Self, Arc<LocalPod>) {
        let mut command = Command::new("unshare");
        let child = command.args(["-n", "sleep", "600"]).stdout(Stdio::null()).spawn().unwrap();
        let this = Self(child);
        let own = fs::read_link("/proc/thread-self/ns/net").unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while fs::read_link(format!("/proc/{}/ns/net", this.0.id())).is_ok_and(|other| other == own) {
            assert!(std::time::Instant::now() < deadline, "unshare takes too long");
            std::thread::sleep(Duration::from_millis(5));
        }
        let (address, mac) = (format!("10.128.0.{last}"), [0x0a, 0x58, 10, 128, 0, last]);
        let text = mac.map(|byte| format!("{byte:02x}")).join(":");
        let pid = this.0.id();
        run_ip(&format!(
            "link add cv{last} address 0a:58:a9:fe:01:01 type veth peer name eth0 address {text} netns {pid}"
        ));
        for line in [
            "link set lo up".to_owned(),
            "link set eth0 up".to_owned(),
            format!("addr add {address}/32 dev eth0"),
            "route add 169.254.1.1 dev eth0 scope link".to_owned(),
            "route add default via 169.254.1.1 dev eth0".to_owned(),
        ] {
            let output = this.inside("ip", &line).output().unwrap();
            assert!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let host = device(&format!("cv{last}"));
        let pod = LocalPod { host_interface: host.name, mac, ..local(name, host.ifindex, &[&address]) };
        (this, Arc::new(pod))
    }

    fn inside(&self, program: &str, arguments: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.0.id().to_string(), "-n", program]).args(arguments.split_whitespace());
        command
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn no_packet_is_lost_while_agents_come_and_go() {
    on_a_node(async |pins| {
        let snapshot = three_nodes().snapshot;
        let mut agent = start(&pins, snapshot.clone(), vec![]);
        agent.applied(|applied| applied.forwarding).await;
        let ((one, first), (_two, second)) = (Sandbox::new("one", 2), Sandbox::new("two", 3));
        for pod in [&first, &second] {
            agent.handle.attach(pod.clone()).await.unwrap();
            run_ip(&format!("link set {} up", pod.host_interface));
        }
        let mut stream = one.inside("ping", "-q -i 0.002 -c 2000 -W 2 10.128.0.3");
        let stream = stream.stdout(Stdio::piped()).spawn().unwrap();
        let began = std::time::Instant::now();
        let mut restarts = 0;
        while began.elapsed() < Duration::from_secs(3) {
            agent.stop().await;
            agent = start(&pins, snapshot.clone(), vec![first.clone(), second.clone()]);
            agent.applied(|applied| applied.synced).await;
            restarts += 1;
        }
        let output = stream.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("2000 packets transmitted, 2000 received"), "{restarts} restarts: {text}");
        assert!(restarts > 1);
        // What a new interface says of itself is not carried, and nothing else was dropped.
        let own = |reason: &str| ["multicast", "neighbour_unknown"].contains(&reason);
        let drops = agent.handle.drops().await.unwrap();
        assert!(drops.iter().all(|row| own(&row.reason)), "{drops:?}");
        agent.stop().await;
    });
}

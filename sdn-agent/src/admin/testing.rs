//! An agent for tests: known parts, and a dataplane that says what it is told to.

use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;
use sdn_cluster::model::{Node, Pod, PodKey, PodPhase};
use sdn_cluster::source::{Problem, UnusedKind};
use sdn_cluster::{Cluster, Snapshot};
use tokio::net::UnixListener;
use tokio::sync::{broadcast, watch};

use super::api::{ApplyStatus, Direction, DropCount, DropEvent, MapStatus, ProgramStatus};
use super::client::Client;
use super::{Agent, admin, serve_unix};
use crate::app::readiness::Readiness;
use crate::config::{Config, Host, Layers};
use crate::kernel::bpf::Device;
use crate::kernel::netlink::{Following, Uplink};
use crate::observe::{Counts, Dataplane, ObserveError, Packets};

/// A dataplane without a kernel.
#[derive(Debug)]
pub(crate) struct FakeDataplane {
    /// Where tests send events.
    pub(crate) events: broadcast::Sender<DropEvent>,
    /// Everything that can fail does.
    pub(crate) broken: bool,
}

impl FakeDataplane {
    pub(crate) fn new(broken: bool) -> Self {
        Self { events: broadcast::Sender::new(4), broken }
    }

    fn unless_broken<T>(&self, object: &str, value: T) -> Result<T, ObserveError> {
        let error = ObserveError { object: object.to_owned(), cause: "it is broken".to_owned() };
        if self.broken { Err(error) } else { Ok(value) }
    }
}

impl Dataplane for FakeDataplane {
    fn programs(&self) -> Result<Vec<ProgramStatus>, ObserveError> {
        let program = |name: &str, id, run_count, run_time_ns| ProgramStatus {
            name: name.to_owned(),
            id,
            attached_to: vec!["culvert0".to_owned()],
            run_count,
            run_time_ns,
        };
        self.unless_broken("programs", vec![program("overlay_in", 17, 1000, 150_000), program("pod_out", 18, 0, 0)])
    }

    async fn maps(&self) -> Result<Vec<MapStatus>, ObserveError> {
        let map = |name: &str, entries, capacity| MapStatus {
            name: name.to_owned(),
            version: 1,
            entries,
            capacity,
            memory: 3 << 19,
        };
        self.unless_broken("maps", vec![map("PEERS_V4", Some(90), 100), map("EVENTS", None, 4096)])
    }

    async fn drops(&self) -> Result<Vec<DropCount>, ObserveError> {
        self.unless_broken(
            "drops",
            vec![drop_count("spoofed_source", "shop/web-0", 7), drop_count("no_flow", "shop/db-0", 2)],
        )
    }

    fn events(&self) -> broadcast::Receiver<DropEvent> {
        self.events.subscribe()
    }

    fn applied(&self) -> ApplyStatus {
        let failures =
            if self.broken { vec!["peer 10.128.4.9: no space left (asked 3 times)".to_owned()] } else { vec![] };
        ApplyStatus {
            passes: 4,
            generation: 12,
            synced: true,
            forwarding: !self.broken,
            writes: 33,
            took_micros: 1234,
            failures,
            problems: vec!["pod shop/web-9: 10.1.1.1 is in no host subnet".to_owned()],
            conditions: vec![crate::admin::api::ConditionRow {
                kind: "SetTooLarge".to_owned(),
                policies: vec!["shop/web".to_owned()],
                message: "policies web of namespace shop need more".to_owned(),
            }],
            identities: 7,
            policy_sets: 3,
        }
    }

    fn counts(&self) -> Result<Counts, ObserveError> {
        let packets = |packets| Packets { packets, bytes: packets * 100 };
        self.unless_broken(
            "counts",
            Counts {
                drops: vec![("spoofed_source", packets(7))],
                forwards: vec![("pod_out", "tunnel", packets(900))],
                events: 5,
                expired_flows: 6,
                freed_ports: 8,
            },
        )
    }
}

fn drop_count(reason: &str, endpoint: &str, packets: u64) -> DropCount {
    DropCount {
        reason: reason.to_owned(),
        description: format!("Why {reason} is dropped."),
        endpoint: endpoint.to_owned(),
        direction: Direction::Egress,
        peer: "outside".to_owned(),
        author: None,
        packets,
        bytes: packets * 60,
    }
}

/// An event of a pod.
pub(crate) fn event(endpoint: &str) -> DropEvent {
    DropEvent {
        time_ms: 3_723_004,
        reason: "spoofed_source".to_owned(),
        endpoint: endpoint.to_owned(),
        direction: Direction::Egress,
        source: Some("10.128.2.2".parse().unwrap()),
        destination: Some("fd01::2".parse().unwrap()),
        protocol: "udp".to_owned(),
        source_port: Some(40000),
        destination_port: Some(53),
        length: 80,
        author: None,
    }
}

/// An agent that has nothing yet but its configuration, and waits for its node.
pub(crate) fn starting() -> Agent<FakeDataplane> {
    let host = Host { name: Some("n1".to_owned()), local_ports: None };
    let config = Config::from_layers(&Layers::default(), &host).unwrap();
    let readiness = Readiness::waiting_for(&["node object"]);
    readiness.blocked("node object", "there is no Node n1");
    Agent::new(Arc::new(config), readiness)
}

/// An agent that has all its parts but leases. Its channels' senders are leaked: it never changes.
pub(crate) fn running(broken: bool) -> Agent<FakeDataplane> {
    let agent = starting();
    agent.readiness.reached("node object");
    agent.cluster.set(cluster()).unwrap();
    let uplink = Uplink {
        name: "eth0".to_owned(),
        ifindex: 2,
        mtu: 1500,
        mac: [2, 0, 0, 0, 0, 1],
        addresses: vec!["192.0.2.5/24".parse().unwrap()],
        running: true,
    };
    agent.uplink.set(Following { uplink: constant(uplink), problem: constant(None), changes: constant(()) }).unwrap();
    agent.overlay.set(constant(Device { name: "culvert0".to_owned(), ifindex: 9 })).unwrap();
    agent.mtu.set(constant(1450)).unwrap();
    agent.dataplane.set(FakeDataplane::new(broken)).unwrap();
    agent
}

/// A receiver whose value stays.
fn constant<T>(value: T) -> watch::Receiver<T> {
    let (sender, receiver) = watch::channel(value);
    std::mem::forget(sender);
    receiver
}

fn cluster() -> Cluster {
    let node = |name: &str, subnet: &str| {
        let node = Node {
            name: name.into(),
            uid: format!("uid-{name}").into(),
            addresses: vec!["192.0.2.5".parse().unwrap()],
            subnets: vec![subnet.parse().unwrap()],
            ..Node::default()
        };
        (Arc::<str>::from(name), Arc::new(node))
    };
    let pod = |namespace: &str, name: &str, node: Option<&str>, address: &str, host_network: bool| {
        let pod = Pod {
            namespace: namespace.into(),
            name: name.into(),
            uid: format!("uid-{name}").into(),
            node: node.map(Into::into),
            addresses: vec![address.parse().unwrap()],
            host_network,
            phase: PodPhase::Running,
            ready: true,
            ..Pod::default()
        };
        (PodKey { namespace: namespace.into(), name: name.into() }, Arc::new(pod))
    };
    let snapshot = Snapshot {
        nodes: OrdMap::from_iter([node("n1", "10.128.2.0/23"), node("n2", "10.128.4.0/23")]),
        pods: OrdMap::from_iter([
            pod("kube-system", "proxy", Some("n1"), "192.0.2.5", true),
            pod("shop", "web-0", Some("n1"), "10.128.2.2", false),
            pod("shop", "web-1", Some("n2"), "10.128.4.2", false),
        ]),
        generation: 12,
        synced: true,
        ..Snapshot::default()
    };
    let problem = Problem {
        file: "/m/a.yaml".into(),
        line: 7,
        field: "spec.nodeName".to_owned(),
        object: "Pod shop/web-2".to_owned(),
        message: "is no name".to_owned(),
    };
    let unused = UnusedKind {
        api_version: "v1".to_owned(),
        kind: "Secret".to_owned(),
        count: 2,
        file: "/m/b.yaml".into(),
        line: 1,
    };
    Cluster {
        snapshots: constant(snapshot),
        problems: constant(Arc::from([problem])),
        unused: constant(Arc::from([unused])),
    }
}

/// Serves an agent's admin socket in a directory of its own, and asks it. Both end with the runtime.
pub(crate) fn serve(agent: Agent<FakeDataplane>) -> (Arc<Agent<FakeDataplane>>, Client, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let agent = Arc::new(agent);
    tokio::spawn(serve_unix(listener, admin(Arc::clone(&agent))));
    (agent, Client::new(&path), directory)
}

/// Longer than anything here takes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

//! Clusters to plan for, and changes to them, for the tests of plan and apply.

use std::net::IpAddr;
use std::sync::Arc;

use imbl::OrdMap;
use proptest::prelude::*;
use sdn_cluster::Snapshot;
use sdn_cluster::model::{self, Pod, PodKey, PodPhase};
use sdn_common::{Addr4, Addr6, incarnation};

use super::{Inputs, Settings};
use crate::cni::LocalPod;
use crate::family::Family;
use crate::kernel::bpf::Device;
use crate::kernel::netlink::Uplink;

// === Clusters ===

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn v4(text: &str) -> Addr4 {
    Addr4::from_ip(ip(text)).unwrap()
}

pub(crate) fn v6(text: &str) -> Addr6 {
    Addr6::from_ip(ip(text)).unwrap()
}

pub(crate) fn settings() -> Settings {
    Settings {
        node_name: "n0".to_owned(),
        cluster_networks: vec!["10.128.0.0/14".parse().unwrap(), "fd01::/48".parse().unwrap()],
        masquerade: Some((23_000, 29_999)),
        uplink_xdp: false,
        vxlan_port: 4789,
        mtu: None,
        metadata: false,
        machine_config: false,
        resolvers: Vec::new(),
        fragments: 64,
        events_per_second: 10,
    }
}

pub(crate) fn uplink(addresses: &[&str]) -> Arc<Uplink> {
    Arc::new(Uplink {
        name: "eth0".to_owned(),
        ifindex: 2,
        mtu: 1500,
        mac: [2, 0, 0, 0, 0, 1],
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        running: true,
    })
}

pub(crate) fn inputs() -> Inputs {
    Inputs {
        settings: Arc::new(settings()),
        uplink: uplink(&["192.168.9.1/24"]),
        vxlan: Device { name: "culvert0".to_owned(), ifindex: 3 },
        hz: 250,
        snapshot: Snapshot { synced: true, ..Snapshot::default() },
        pods: OrdMap::default(),
    }
}

pub(crate) fn node(name: &str, addresses: &[&str], subnets: &[&str]) -> (Arc<str>, Arc<model::Node>) {
    let node = model::Node {
        name: name.into(),
        addresses: addresses.iter().map(|text| ip(text)).collect(),
        subnets: subnets.iter().map(|text| text.parse().unwrap()).collect(),
        ..model::Node::default()
    };
    (name.into(), Arc::new(node))
}

pub(crate) fn pod(name: &str, on: &str, addresses: &[&str]) -> Pod {
    Pod {
        namespace: "shop".into(),
        name: name.into(),
        uid: format!("uid-{name}").into(),
        node: Some(on.into()),
        addresses: addresses.iter().map(|text| ip(text)).collect(),
        phase: PodPhase::Running,
        ready: true,
        ..Pod::default()
    }
}

pub(crate) fn local(name: &str, ifindex: u32, addresses: &[&str]) -> LocalPod {
    LocalPod {
        container_id: format!("container-{name}"),
        ifname: "eth0".to_owned(),
        netns: "/run/netns/none".into(),
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        addresses: addresses.iter().map(|text| ip(text)).collect(),
        mac: [0x0a, 0x58, 10, 128, 0, 2],
        host_interface: format!("cv{ifindex}"),
        host_ifindex: ifindex,
        incarnation: incarnation(&format!("uid-{name}")),
        mtu: 1450,
    }
}

impl Inputs {
    pub(crate) fn with_node(mut self, (name, node): (Arc<str>, Arc<model::Node>)) -> Self {
        self.snapshot.nodes.insert(name, node);
        self
    }

    pub(crate) fn with_pod(mut self, pod: Pod) -> Self {
        self.snapshot.pods.insert(pod.key(), Arc::new(pod));
        self
    }

    pub(crate) fn with_local(mut self, pod: LocalPod) -> Self {
        self.pods.insert(pod.attachment(), Arc::new(pod));
        self
    }
}

/// Three nodes, this one first.
pub(crate) fn three_nodes() -> Inputs {
    inputs()
        .with_node(node("n0", &["192.168.9.1"], &["10.128.0.0/23", "fd01::/64"]))
        .with_node(node("n1", &["192.168.9.2"], &["10.128.2.0/23", "fd01:0:0:1::/64"]))
        .with_node(node("n2", &["192.168.9.3"], &["10.128.4.0/23", "fd01:0:0:2::/64"]))
}

// === Changes ===

/// A change to the inputs. Small numbers make collisions likely: they are what it is about.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    PutNode { name: u8, addresses: Vec<u8>, subnets: Vec<u8> },
    RemoveNode(u8),
    PutPod { name: u8, node: u8, addresses: Vec<u8>, phase: u8, host_network: bool, uid: u8 },
    RemovePod(u8),
    PutLocal { name: u8, addresses: Vec<u8>, ifindex: u8 },
    RemoveLocal(u8),
    Uplink(u8),
    Synced(bool),
    Masquerade(bool),
    ReleaseAll,
}

pub(crate) fn operation() -> impl Strategy<Value = Operation> {
    let few = |upto: u8| prop::collection::vec(0..upto, 0..3);
    prop_oneof![
        4 => (0..5_u8, few(8), few(8)).prop_map(|(name, addresses, subnets)| Operation::PutNode { name, addresses, subnets }),
        2 => (0..5_u8).prop_map(Operation::RemoveNode),
        8 => (0..6_u8, 0..6_u8, few(20), 0..3_u8, prop::bool::weighted(0.1), 0..3_u8).prop_map(
            |(name, node, addresses, phase, host_network, uid)| Operation::PutPod {
                name, node, addresses, phase, host_network, uid
            }
        ),
        3 => (0..6_u8).prop_map(Operation::RemovePod),
        4 => (0..4_u8, few(20), 10..14_u8)
            .prop_map(|(name, addresses, ifindex)| Operation::PutLocal { name, addresses, ifindex }),
        2 => (0..4_u8).prop_map(Operation::RemoveLocal),
        1 => (0..4_u8).prop_map(Operation::Uplink),
        1 => any::<bool>().prop_map(Operation::Synced),
        1 => any::<bool>().prop_map(Operation::Masquerade),
        1 => Just(Operation::ReleaseAll),
    ]
}

pub(crate) fn node_address(number: u8) -> IpAddr {
    match number {
        7 => ip("10.128.0.9"),
        number if number % 2 == 0 => ip(&format!("192.168.9.{}", 1 + number)),
        number => ip(&format!("2001:db8::{}", 1 + number)),
    }
}

pub(crate) fn subnet(number: u8) -> ipnet::IpNet {
    let text = match number {
        6 => "10.128.0.0/20".to_owned(),
        7 => "10.200.0.0/23".to_owned(),
        number if number % 2 == 0 => format!("10.128.{}.0/23", number),
        number => format!("fd01:0:0:{number}::/64"),
    };
    text.parse().unwrap()
}

pub(crate) fn pod_address(number: u8) -> IpAddr {
    match number {
        0 => ip("8.8.8.8"),
        1 => ip("192.168.9.1"),
        number if number % 2 == 0 => ip(&format!("10.128.{}.{}", number % 6, 1 + number / 6)),
        number => ip(&format!("fd01:0:0:{}::{}", number % 6, 1 + number / 6)),
    }
}

pub(crate) fn apply_operation(inputs: &mut Inputs, operation: Operation) {
    let snapshot = &mut inputs.snapshot;
    let name_of = |number: u8| Arc::<str>::from(format!("n{number}"));
    let pod_key = |number: u8| PodKey::new("shop", format!("pod-{number}"));
    match operation {
        Operation::PutNode { name, addresses, subnets } => {
            let node = model::Node {
                name: name_of(name),
                addresses: addresses.into_iter().map(node_address).collect(),
                subnets: subnets.into_iter().map(subnet).collect(),
                ..model::Node::default()
            };
            snapshot.nodes.insert(name_of(name), Arc::new(node));
        }
        Operation::RemoveNode(name) => drop(snapshot.nodes.remove(&name_of(name))),
        Operation::PutPod { name, node, addresses, phase, host_network, uid } => {
            let phases = [PodPhase::Running, PodPhase::Pending, PodPhase::Failed];
            let pod = Pod {
                uid: if uid == 0 { "".into() } else { format!("uid-{name}-{uid}").into() },
                node: (node < 5).then(|| name_of(node)),
                addresses: addresses.into_iter().map(pod_address).collect(),
                phase: phases[usize::from(phase)],
                ready: phase == 0 && uid == 1,
                host_network,
                ..pod(&format!("pod-{name}"), "", &[])
            };
            snapshot.pods.insert(pod_key(name), Arc::new(pod));
        }
        Operation::RemovePod(name) => drop(snapshot.pods.remove(&pod_key(name))),
        Operation::PutLocal { name, addresses, ifindex } => {
            let mut pod = local(&format!("local-{name}"), u32::from(ifindex), &[]);
            pod.addresses = addresses.into_iter().map(pod_address).collect();
            inputs.pods.insert(pod.attachment(), Arc::new(pod));
        }
        Operation::RemoveLocal(name) => {
            let attachment = local(&format!("local-{name}"), 0, &[]).attachment();
            inputs.pods.remove(&attachment);
        }
        Operation::Uplink(number) => {
            inputs.uplink = match number {
                0 => uplink(&["192.168.9.1/24"]),
                1 => uplink(&["192.168.9.1/24", "2001:db8::1/64"]),
                2 => uplink(&["2001:db8::2/64"]),
                _ => Arc::new(Uplink { ifindex: 9, name: "eth1".to_owned(), mtu: 9000, ..(*uplink(&[])).clone() }),
            }
        }
        Operation::Synced(synced) => snapshot.synced = synced,
        Operation::Masquerade(on) => {
            Arc::make_mut(&mut inputs.settings).masquerade = on.then_some((23_000, 29_999));
        }
        Operation::ReleaseAll => {}
    }
    snapshot.generation += 1;
}

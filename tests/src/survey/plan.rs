//! Which questions are asked.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Result;
use sdn_cluster::model::Protocol;

use super::{Check, Expected, Path, Place, Question};
use crate::family::IpFamily;
use crate::lab::{Lab, MACHINE_CONFIG_PORTS, NODE_PORT, OUTSIDE_TCP, OUTSIDE_UDP};
use crate::node::Node;
use crate::pod::Pod;
use crate::underlay::METADATA;

/// The port of the tunnel.
const VXLAN_PORT: u16 = 4789;

/// A pod that is up, and where its questions are asked.
struct Asker {
    pod: Arc<Pod>,
    place: Arc<Place>,
}

/// One family's view of a lab.
struct Planner<'a> {
    lab: &'a Lab,
    family: IpFamily,
    pods: &'a [Asker],
    checks: Vec<Check>,
}

/// All questions of a lab, of every family that it has.
pub fn plan(lab: &Lab) -> Result<Vec<Check>> {
    let pods: Vec<Asker> =
        lab.pods().into_iter().filter(|pod| pod.is_ready()).map(Asker::new).collect::<Result<_>>()?;
    let mut checks = vec![];
    for family in lab.family().each().iter().copied() {
        let mut planner = Planner { lab, family, pods: &pods, checks: vec![] };
        planner.pods_ask();
        planner.nodes_ask();
        checks.append(&mut planner.checks);
    }
    Ok(checks)
}

impl Asker {
    fn new(pod: Arc<Pod>) -> Result<Self> {
        let (name, node) = (pod.key().to_string(), pod.node().name().to_owned());
        let place = Arc::new(Place { name, node, sandbox: pod.sandbox()? });
        Ok(Self { pod, place })
    }
}

impl Planner<'_> {
    /// Pods on the host's network are the node, and ask as such.
    fn pods_ask(&mut self) {
        let family = self.family;
        for Asker { pod, place } in self.pods.iter().filter(|asker| !asker.pod.is_host_network()) {
            let Some(own) = pod.address(family) else { continue };
            for Asker { pod: other, .. } in self.pods.iter().filter(|asker| asker.pod.key() != pod.key()) {
                self.ask_pod(path_between(pod, other), place, other, &[own]);
            }
            for node in self.lab.nodes() {
                let path = if Arc::ptr_eq(node, pod.node()) { Path::PodToOwnNode } else { Path::PodToOtherNode };
                self.ask_node(path, place, node, own);
            }
            self.ask_outside(pod, place);
            self.ask_forbidden(pod, place, own);
        }
    }

    fn nodes_ask(&mut self) {
        for node in self.lab.nodes() {
            let name = node.name().to_owned();
            let place = Arc::new(Place { name: name.clone(), node: name, sandbox: node.sandbox().clone() });
            let seen_as: Vec<IpAddr> =
                node.cluster_address(self.family).into_iter().chain(node.address(self.family)).collect();
            for Asker { pod, .. } in self.pods.iter().filter(|asker| !asker.pod.is_host_network()) {
                let own = Arc::ptr_eq(node, pod.node());
                let path = if own { Path::NodeToOwnPod } else { Path::NodeToOtherPod };
                self.ask_pod(path, &place, pod, &seen_as);
            }
        }
    }

    fn ask_pod(&mut self, path: Path, from: &Arc<Place>, pod: &Pod, seen_as: &[IpAddr]) {
        let Some(address) = pod.address(self.family) else { return };
        self.add(path, from, Question::Ping(address), answer(&pod.key().to_string(), seen_as));
        for (protocol, port) in pod.served() {
            let target = SocketAddr::new(address, port);
            let question = if protocol == Protocol::Udp { Question::Datagram(target) } else { Question::Http(target) };
            self.add(path, from, question, answer(&pod.key().to_string(), seen_as));
        }
    }

    /// Both on the underlay's address and on that in the cluster network.
    fn ask_node(&mut self, path: Path, from: &Arc<Place>, node: &Node, own: IpAddr) {
        for address in node.address(self.family).into_iter().chain(node.cluster_address(self.family)) {
            let target = SocketAddr::new(address, NODE_PORT);
            for question in [Question::Ping(address), Question::Http(target), Question::Datagram(target)] {
                self.add(path, from, question, answer(node.name(), &[own]));
            }
        }
    }

    fn ask_outside(&mut self, pod: &Pod, from: &Arc<Place>) {
        let address = self.lab.outside().address(self.family);
        let seen_as: Vec<IpAddr> = pod.node().address(self.family).into_iter().collect();
        let http = Question::Http(SocketAddr::new(address, OUTSIDE_TCP));
        let datagram = Question::Datagram(SocketAddr::new(address, OUTSIDE_UDP));
        for question in [Question::Ping(address), http, datagram] {
            self.add(Path::PodToOutside, from, question, answer("outside", &seen_as));
        }
    }

    fn ask_forbidden(&mut self, pod: &Pod, from: &Arc<Place>, own: IpAddr) {
        let others = self.lab.nodes().iter().filter(|node| !Arc::ptr_eq(node, pod.node()));
        let other = others.chain(self.lab.nodes()).find_map(|node| node.address(self.family));
        if let Some(node) = other {
            let tunnel = Question::Datagram(SocketAddr::new(node, VXLAN_PORT));
            self.add(Path::PodToVxlan, from, tunnel, Expected::Dropped("pod_vxlan"));
            let forged = Question::Forged { source: next_to(own), target: SocketAddr::new(node, NODE_PORT) };
            self.add(Path::ForgedSource, from, forged, Expected::Dropped("spoofed_address"));
        }
        if IpFamily::of(METADATA) == self.family {
            let metadata = Question::Http(SocketAddr::new(METADATA, OUTSIDE_TCP));
            self.add(Path::PodToMetadata, from, metadata, Expected::Dropped("metadata"));
        }
        for (node, port) in pod.node().address(self.family).into_iter().chain(other).zip(MACHINE_CONFIG_PORTS) {
            let server = Question::Http(SocketAddr::new(node, port));
            self.add(Path::PodToMachineConfig, from, server, Expected::Dropped("machine_config"));
        }
    }

    fn add(&mut self, path: Path, from: &Arc<Place>, question: Question, expected: Expected) {
        self.checks.push(Check { path, family: self.family, from: from.clone(), question, expected });
    }
}

fn answer(who: &str, seen_as: &[IpAddr]) -> Expected {
    Expected::Answer { who: who.to_owned(), seen_as: seen_as.to_vec() }
}

fn path_between(pod: &Pod, other: &Pod) -> Path {
    match (other.is_host_network(), Arc::ptr_eq(pod.node(), other.node())) {
        (false, true) => Path::PodToPodSameNode,
        (false, false) => Path::PodToPodAcross,
        (true, true) => Path::PodToOwnNode,
        (true, false) => Path::PodToOtherNode,
    }
}

/// An address of the same host subnet that is not this one.
fn next_to(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => std::net::Ipv4Addr::from(u32::from(address) ^ 1).into(),
        IpAddr::V6(address) => std::net::Ipv6Addr::from(u128::from(address) ^ 1).into(),
    }
}

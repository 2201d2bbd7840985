//! What the doors show: the parts of the role, as they come to be.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use sdn_cluster::model::Pod;
use sdn_cluster::{Cluster, Snapshot};
use sdn_cni::MacAddr;
use tokio::sync::watch;

use super::api::{
    ApplyStatus, ClusterStatus, LocalPodRow, NodeRow, OverlayStatus, PodRow, Status, SubnetStatus, UplinkStatus,
};
use crate::app::readiness::Readiness;
use crate::app::resolver::Resolver;
use crate::cni::{Counters, Leases, LocalPod};
use crate::config::Config;
use crate::kernel::bpf::Device;
use crate::kernel::capabilities::Held;
use crate::kernel::netlink::Following;
use crate::observe::Dataplane;

/// The role as its doors see it. A part is absent until the role has it; each is set once.
#[derive(Debug)]
pub struct Agent<D> {
    /// The configuration.
    pub config: Arc<Config>,
    /// What is waited for.
    pub readiness: Readiness,
    /// What the CNI server counts.
    pub counters: Arc<Counters>,
    /// When the role started.
    pub started: Instant,
    /// The cluster's objects.
    pub cluster: OnceLock<Cluster>,
    /// The uplink.
    pub uplink: OnceLock<Following>,
    /// The overlay's device.
    pub overlay: OnceLock<watch::Receiver<Device>>,
    /// MTU inside the tunnel in bytes; 0 until it is known.
    pub mtu: OnceLock<watch::Receiver<u32>>,
    /// Leases of this node's pods.
    pub leases: OnceLock<Leases>,
    /// What is in the kernel.
    pub dataplane: OnceLock<D>,
    /// Cluster DNS, where it is answered on this node.
    pub resolver: OnceLock<Arc<Resolver>>,
}

// === impl Agent ===

impl<D: Dataplane> Agent<D> {
    /// An agent that has nothing yet.
    pub fn new(config: Arc<Config>, readiness: Readiness) -> Self {
        Self {
            config,
            readiness,
            counters: Arc::default(),
            started: Instant::now(),
            cluster: OnceLock::new(),
            uplink: OnceLock::new(),
            overlay: OnceLock::new(),
            mtu: OnceLock::new(),
            leases: OnceLock::new(),
            dataplane: OnceLock::new(),
            resolver: OnceLock::new(),
        }
    }

    /// The cluster as it is known now.
    pub fn snapshot(&self) -> Snapshot {
        self.cluster.get().map(Cluster::snapshot).unwrap_or_default()
    }

    /// `sdnctl status`. What cannot be read is named in it.
    pub async fn status(&self) -> Status {
        let mut unknown = Vec::new();
        let mut known = |error: String| unknown.push(error);
        let capabilities = Held::read().unwrap_or_else(|error| {
            known(error.to_string());
            Held::default()
        });
        let (mut programs, mut maps, mut apply) = (Vec::new(), Vec::new(), ApplyStatus::default());
        if let Some(dataplane) = self.dataplane.get() {
            apply = dataplane.applied();
            programs = dataplane.programs().map_err(|error| known(error.to_string())).unwrap_or_default();
            maps = dataplane.maps().await.map_err(|error| known(error.to_string())).unwrap_or_default();
        }
        let waiting = self.readiness.waiting().into_iter().map(|(stage, why)| (stage.to_owned(), why)).collect();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.started.elapsed().as_secs(),
            pid: std::process::id(),
            resident_bytes: resident_bytes(),
            node: self.config.node_name.clone(),
            waiting,
            subnets: self.subnets(),
            uplink: self.uplink.get().map(uplink_status),
            uplink_problem: self.uplink.get().and_then(|following| following.problem.borrow().clone()),
            overlay: self.overlay_status(),
            masquerade: self.config.masquerade.map(|ports| ports.to_string()),
            local_pods: self.leases.get().map_or(0, |leases| leases.pods().len()),
            quarantined_leases: self.quarantined(),
            cluster: self.cluster.get().map(cluster_status).unwrap_or_default(),
            apply,
            capabilities,
            programs,
            maps,
            unknown,
        }
    }

    /// `sdnctl get pods`: those of the cluster, and containers attached here that are none.
    pub fn pods(&self, namespace: Option<&str>) -> Vec<PodRow> {
        let wanted = |name: &str| namespace.is_none_or(|wanted| wanted == name);
        let (snapshot, leases) = (self.snapshot(), self.leases.get().map(Leases::pods).unwrap_or_default());
        let mut locals: Vec<&LocalPod> = leases.iter().map(AsRef::as_ref).filter(|l| wanted(&l.namespace)).collect();
        let mut rows: Vec<PodRow> = Vec::new();
        for pod in snapshot.pods.values().filter(|pod| wanted(&pod.namespace)) {
            let here = pod.node.as_deref() == Some(&self.config.node_name);
            let place = here.then(|| locals.iter().position(|local| is_of(local, pod))).flatten();
            rows.push(pod_row(pod, place.map(|place| locals.swap_remove(place))));
        }
        // A lease whose pod the source does not have (any more), or that is of no pod: shown too, as it has addresses.
        locals.sort_by(|a, b| (&a.namespace, &a.name, &a.container_id).cmp(&(&b.namespace, &b.name, &b.container_id)));
        rows.extend(locals.into_iter().map(|local| lease_row(local, &self.config)));
        rows
    }

    /// `sdnctl get nodes`
    pub fn nodes(&self) -> Vec<NodeRow> {
        let snapshot = self.snapshot();
        let mut pods: BTreeMap<&str, usize> = BTreeMap::new();
        for node in snapshot.pods.values().filter_map(|pod| pod.node.as_deref()) {
            *pods.entry(node).or_default() += 1;
        }
        let row = |node: &Arc<sdn_cluster::model::Node>| NodeRow {
            name: node.name.to_string(),
            uid: node.uid.to_string(),
            zone: node.zone.as_deref().map(str::to_owned),
            addresses: node.addresses.clone(),
            subnets: node.subnets.clone(),
            unschedulable: node.unschedulable,
            pods: pods.get(&*node.name).copied().unwrap_or_default(),
            this: *node.name == *self.config.node_name,
        };
        snapshot.nodes.values().map(row).collect()
    }

    fn subnets(&self) -> Vec<SubnetStatus> {
        let usage = self.leases.get().map(Leases::usage).unwrap_or_default();
        usage.into_iter().map(|row| SubnetStatus { subnet: row.subnet, used: row.used, free: row.free }).collect()
    }

    fn quarantined(&self) -> Vec<String> {
        let leases = self.leases.get().map(Leases::quarantined).unwrap_or_default();
        leases.into_iter().map(|lease| format!("{}: {}", lease.file.display(), lease.problem)).collect()
    }

    fn overlay_status(&self) -> Option<OverlayStatus> {
        let Device { name, ifindex } = self.overlay.get()?.borrow().clone();
        let mtu = self.mtu.get().map_or(0, |mtu| *mtu.borrow());
        Some(OverlayStatus { name, ifindex, port: self.config.tunnel.port, mtu })
    }
}

/// Whether a lease is that pod's, and not that of an earlier one with its name. A runtime may not have said the uid.
fn is_of(local: &LocalPod, pod: &Pod) -> bool {
    let named = local.namespace == *pod.namespace && local.name == *pod.name;
    named && (local.uid.is_empty() || pod.uid.is_empty() || local.uid == *pod.uid)
}

fn uplink_status(following: &Following) -> UplinkStatus {
    let uplink = following.uplink.borrow().clone();
    UplinkStatus {
        name: uplink.name,
        ifindex: uplink.ifindex,
        mtu: uplink.mtu,
        addresses: uplink.addresses,
        running: uplink.running,
    }
}

fn cluster_status(cluster: &Cluster) -> ClusterStatus {
    let snapshot = cluster.snapshots.borrow();
    let unused = |unused: &sdn_cluster::source::UnusedKind| {
        format!("{} {} ({}, first in {})", unused.api_version, unused.kind, unused.count, unused.file.display())
    };
    ClusterStatus {
        synced: snapshot.synced,
        generation: snapshot.generation,
        nodes: snapshot.nodes.len(),
        namespaces: snapshot.namespaces.len(),
        pods: snapshot.pods.len(),
        problems: cluster.problems.borrow().iter().map(ToString::to_string).collect(),
        unused: cluster.unused.borrow().iter().map(unused).collect(),
    }
}

fn pod_row(pod: &Pod, local: Option<&LocalPod>) -> PodRow {
    PodRow {
        namespace: pod.namespace.to_string(),
        name: pod.name.to_string(),
        uid: pod.uid.to_string(),
        node: pod.node.as_deref().map(str::to_owned),
        // The lease knows before the object does.
        addresses: local.map_or_else(|| pod.addresses.clone(), |local| local.addresses.clone()),
        phase: format!("{:?}", pod.phase),
        ready: pod.ready,
        host_network: pod.host_network,
        local: local.map(local_row),
    }
}

fn lease_row(local: &LocalPod, config: &Config) -> PodRow {
    PodRow {
        namespace: local.namespace.clone(),
        name: if local.name.is_empty() { local.container_id.clone() } else { local.name.clone() },
        uid: local.uid.clone(),
        node: Some(config.node_name.clone()),
        addresses: local.addresses.clone(),
        phase: "Unknown".to_owned(),
        ready: false,
        host_network: false,
        local: Some(local_row(local)),
    }
}

fn local_row(local: &LocalPod) -> LocalPodRow {
    LocalPodRow {
        container_id: local.container_id.clone(),
        netns: local.netns.clone(),
        host_interface: local.host_interface.clone(),
        host_ifindex: local.host_ifindex,
        mac: MacAddr(local.mac).to_string(),
        mtu: local.mtu,
        incarnation: local.incarnation,
    }
}

/// Resident memory of this process and of the keeper above it.
pub(crate) fn resident_bytes() -> Vec<u64> {
    let resident = |process: &str| {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib * 1024)
    };
    let keeper = crate::keeper::Inherited::is_role().then(|| nix::unistd::getppid().to_string());
    std::iter::once("self".to_owned()).chain(keeper).filter_map(|process| resident(&process)).collect()
}

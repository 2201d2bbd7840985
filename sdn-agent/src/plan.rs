//! Pure: what the cluster looks like, and who this node's pods are, become what the kernel is to hold.
//!
//! [`Plan::new`] makes a plan from nothing, [`Plan::update`] from the one before in time proportional to what changed. An object that
//! cannot be used rejects only itself; [`Plan::problems`] says which and why.
#![forbid(unsafe_code)]

mod addresses;
mod indices;
mod nodes;
mod settings;
mod state;
mod wanted;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use ipnet::IpNet;
use sdn_cluster::model::{Pod, PodKey};
use sdn_cluster::snapshot::{Change, Snapshot, changes};
use sdn_cni::Attachment;
use sdn_common::Hook;

use crate::cni::LocalPod;
use crate::family::{Cidr, Family};
use crate::kernel::bpf::Device;
use crate::kernel::netlink::Uplink;

pub use indices::Indices;
pub use nodes::first_host;
pub use settings::Settings;
pub use state::tunnel_mtu;
pub use wanted::{Addresses, Wanted};

use addresses::{Claims, is_peer};
use nodes::{NodeTable, Owner};

/// All that a plan is made from. A clone is a few reference counts.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The configuration.
    pub settings: Arc<Settings>,
    /// The device that leads outside.
    pub uplink: Arc<Uplink>,
    /// The VXLAN device.
    pub vxlan: Device,
    /// `jiffies` per second.
    pub hz: u32,
    /// The cluster.
    pub snapshot: Snapshot,
    /// Pods of this node.
    pub pods: OrdMap<Attachment, Arc<LocalPod>>,
}

/// An object that could not be used as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Problem {
    /// `pod shop/cart-7`, `node node-2`
    pub object: String,
    /// What is wrong with it.
    pub cause: String,
}

/// What the kernel is to hold, and what it was made from.
#[derive(Clone, Debug)]
pub struct Plan {
    wanted: Wanted,
    inputs: Inputs,
    indices: Indices,
    table: NodeTable,
    claims: Claims,
    /// Pods of other nodes, by node.
    pods_of: OrdMap<Arc<str>, OrdSet<PodKey>>,
    /// What was rejected at each address.
    problems: OrdMap<IpAddr, Vec<Problem>>,
}

// === impl Plan ===

impl Plan {
    /// A plan from nothing. `indices` says which numbers are taken.
    pub fn new(inputs: Inputs, indices: Indices) -> Self {
        let mut indices = indices;
        let table = NodeTable::new(&inputs, &mut indices);
        let mut plan = Self {
            wanted: Wanted::default(),
            inputs,
            indices,
            table,
            claims: Claims::default(),
            pods_of: OrdMap::default(),
            problems: OrdMap::default(),
        };
        plan.wanted.links = links(&plan.inputs);
        plan.write_table();
        for pod in plan.inputs.snapshot.pods.clone().values() {
            plan.add_pod(pod);
        }
        for pod in plan.inputs.pods.clone().values() {
            plan.claims.add_local(pod);
        }
        let touched: BTreeSet<IpAddr> = plan.claims.addresses().chain(plan.table.owners.keys().copied()).collect();
        plan.resolve(&touched);
        plan
    }

    /// Makes it the plan for these inputs.
    pub fn update(&mut self, inputs: Inputs) {
        if self.inputs.settings != inputs.settings {
            *self = Self::new(inputs, std::mem::take(&mut self.indices));
            return;
        }
        let old = std::mem::replace(&mut self.inputs, inputs);
        let new = &self.inputs;
        let devices_changed = old.vxlan != new.vxlan || old.hz != new.hz || old.uplink != new.uplink;
        let synced = old.snapshot.synced != new.snapshot.synced;
        let nodes_changed = new.snapshot.node_changes(&old.snapshot).next().is_some();
        let mut touched = BTreeSet::new();
        if devices_changed || old.pods != new.pods {
            self.wanted.links = links(new);
        }
        self.update_pods(&old.snapshot, &mut touched);
        self.update_locals(&old.pods, &mut touched);
        if devices_changed || nodes_changed || synced {
            self.update_table(&mut touched);
        }
        self.resolve(&touched);
    }

    /// What the kernel is to hold.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// What the plan was made from.
    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// Whether the cluster is known so well that what is absent in the plan may be removed.
    pub fn is_complete(&self) -> bool {
        self.inputs.snapshot.synced
    }

    /// Objects that could not be used, nodes first.
    pub fn problems(&self) -> impl Iterator<Item = Problem> {
        let networks = state::problems(&self.inputs).into_iter();
        let nodes = self.table.problems.iter().cloned();
        networks.chain(nodes).chain(self.problems.values().flatten().cloned())
    }

    /// Numbers that wait to be released.
    pub fn reserved(&self) -> impl Iterator<Item = u32> {
        self.indices.reserved()
    }

    /// Frees the number of a node that is gone: nothing in the kernel refers to it any more.
    pub fn release(&mut self, index: u32) {
        self.indices.release(index);
    }

    // === Changes ===

    fn update_pods(&mut self, old: &Snapshot, touched: &mut BTreeSet<IpAddr>) {
        let new = self.inputs.snapshot.clone();
        for change in new.pod_changes(old) {
            let (removed, added) = sides(change);
            if let Some(pod) = removed {
                touched.extend(&pod.addresses);
                self.remove_pod(pod);
            }
            if let Some(pod) = added {
                touched.extend(&pod.addresses);
                self.add_pod(pod);
            }
        }
    }

    fn update_locals(&mut self, old: &OrdMap<Attachment, Arc<LocalPod>>, touched: &mut BTreeSet<IpAddr>) {
        let new = self.inputs.pods.clone();
        for change in changes(old, &new) {
            let (removed, added) = sides(change);
            if let Some(pod) = removed {
                touched.extend(&pod.addresses);
                self.claims.remove_local(pod);
            }
            if let Some(pod) = added {
                touched.extend(&pod.addresses);
                self.claims.add_local(pod);
            }
        }
    }

    fn update_table(&mut self, touched: &mut BTreeSet<IpAddr>) {
        let new = NodeTable::new(&self.inputs, &mut self.indices);
        let old = std::mem::replace(&mut self.table, new);
        touched.extend(changes(&old.owners, &self.table.owners).map(|change| *key(&change)));
        for change in changes(&old.indices, &self.table.indices) {
            for pod in self.pods_of.get(key(&change)).into_iter().flatten() {
                touched.extend(self.inputs.snapshot.pods.get(pod).iter().flat_map(|pod| &pod.addresses));
            }
        }
        for change in changes(&old.subnets, &self.table.subnets) {
            let (removed, added) = sides(change);
            for (subnet, _) in removed.into_iter().chain(added) {
                touched.extend(self.claims.pods_between(subnet.network(), subnet.broadcast()));
            }
        }
        self.write_table();
    }

    fn add_pod(&mut self, pod: &Pod) {
        if let Some(node) = pod.node.as_ref().filter(|_| is_peer(pod, &self.inputs)) {
            self.claims.add_pod(pod);
            self.pods_of.entry(node.clone()).or_default().insert(pod.key());
        }
    }

    fn remove_pod(&mut self, pod: &Pod) {
        self.claims.remove_pod(pod);
        let Some(node) = &pod.node else { return };
        let Some(pods) = self.pods_of.get_mut(node) else { return };
        pods.remove(&pod.key());
        if pods.is_empty() {
            self.pods_of.remove(node);
        }
    }

    // === Results ===

    fn write_table(&mut self) {
        let Self { wanted, table, inputs, .. } = self;
        wanted.state = state::node_state(inputs, table);
        wanted.nodes = table.nodes.clone();
        wanted.tunnels = table.tunnels.clone();
        wanted.v4.subnets = subnets(table);
        wanted.v6.subnets = subnets(table);
    }

    fn resolve(&mut self, touched: &BTreeSet<IpAddr>) {
        for address in touched {
            let resolution = self.claims.resolve(*address, &self.inputs, &self.table);
            write(&mut self.wanted.v4, *address, &resolution);
            write(&mut self.wanted.v6, *address, &resolution);
            set(&mut self.problems, *address, Some(resolution.problems).filter(|problems| !problems.is_empty()));
        }
    }
}

fn write<A: Family>(addresses: &mut Addresses<A>, address: IpAddr, resolution: &addresses::Resolution) {
    let Some(address) = A::from_ip(address) else { return };
    set(&mut addresses.endpoints, address, resolution.endpoint);
    set(&mut addresses.peers, address, resolution.peer);
}

/// Makes the entry what it should be, and leaves the map shared with its earlier self where nothing changes.
fn set<K: Ord + Clone, V: Clone + PartialEq>(map: &mut OrdMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) if map.get(&key) != Some(&value) => drop(map.insert(key, value)),
        None if map.contains_key(&key) => drop(map.remove(&key)),
        _ => {}
    }
}

fn subnets<A: Family>(table: &NodeTable) -> OrdMap<Cidr<A>, u32> {
    let entry = |(subnet, owner): &(IpNet, Owner)| Some((Cidr::from_net(*subnet)?, table.index_of(owner)?));
    table.subnets.values().filter_map(entry).collect()
}

/// All programs on devices. Whole each time: a node has few devices.
fn links(inputs: &Inputs) -> OrdMap<(Hook, u32), Device> {
    let uplink = Device { name: inputs.uplink.name.clone(), ifindex: inputs.uplink.ifindex };
    let ours =
        [(Hook::OverlayIn, inputs.vxlan.clone()), (Hook::HostOut, inputs.vxlan.clone()), (Hook::UplinkIn, uplink)];
    let pods = inputs
        .pods
        .values()
        .map(|pod| (Hook::PodOut, Device { name: pod.host_interface.clone(), ifindex: pod.host_ifindex }));
    ours.into_iter().chain(pods).map(|(hook, device)| ((hook, device.ifindex), device)).collect()
}

/// What went and what came.
fn sides<'a, K, V>(change: Change<'a, K, V>) -> (Option<&'a V>, Option<&'a V>) {
    match change {
        Change::Added(_, new) => (None, Some(new)),
        Change::Changed { old, new, .. } => (Some(old), Some(new)),
        Change::Removed(_, old) => (Some(old), None),
    }
}

fn key<'a, K, V>(change: &Change<'a, K, V>) -> &'a K {
    match change {
        Change::Added(key, _) | Change::Removed(key, _) | Change::Changed { key, .. } => key,
    }
}

// === impl Inputs ===

impl Inputs {
    fn in_cluster(&self, address: IpAddr) -> bool {
        self.settings.cluster_networks.iter().any(|network| network.contains(&address))
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

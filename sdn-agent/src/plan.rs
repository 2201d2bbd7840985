//! Pure: what the cluster looks like, and who this node's pods are, become what the kernel is to hold.
//!
//! [`Plan::new`] makes a plan from nothing, [`Plan::update`] from the one before in time proportional to what changed. An object that
//! cannot be used rejects only itself; [`Plan::problems`] says which and why.
#![forbid(unsafe_code)]

mod addresses;
mod indices;
mod nodes;
pub mod policy;
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
use sdn_common::{Endpoint, Hook, SetId, SetRef};

use crate::cni::LocalPod;
use crate::family::{Cidr, Family};
use crate::kernel::bpf::Device;
use crate::kernel::netlink::Uplink;

pub use indices::Indices;
pub use nodes::first_host;
pub use settings::Settings;
pub use state::tunnel_mtu;
pub use wanted::{Addresses, Wanted};

use addresses::{Claims, Holder, is_peer};
use nodes::{NodeTable, Owner};
use policy::{Condition, Limits, Policies, Seed, Who, Words};

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
    /// What the kernel is to hold on the way to that, in this order.
    steps: Vec<Wanted>,
    inputs: Inputs,
    indices: Indices,
    table: NodeTable,
    claims: Claims,
    /// Pods of other nodes, by node.
    pods_of: OrdMap<Arc<str>, OrdSet<PodKey>>,
    /// What was rejected at each address.
    problems: OrdMap<IpAddr, Vec<Problem>>,
    policies: Policies,
}

// === impl Plan ===

impl Plan {
    /// A plan from nothing. `indices` and `seed` say which numbers are taken.
    pub fn new(inputs: Inputs, indices: Indices, seed: Seed) -> Self {
        Self::with_limits(inputs, indices, seed, Limits::default())
    }

    /// A plan from nothing, with other limits than the kernel's maps have.
    pub(crate) fn with_limits(inputs: Inputs, indices: Indices, seed: Seed, limits: Limits) -> Self {
        let mut indices = indices;
        let table = NodeTable::new(&inputs, &mut indices);
        let mut plan = Self {
            wanted: Wanted::default(),
            steps: Vec::new(),
            inputs,
            indices,
            table,
            claims: Claims::default(),
            pods_of: OrdMap::default(),
            problems: OrdMap::default(),
            policies: Policies::new(seed, limits),
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
        plan.follow_policies(&Snapshot::default(), &OrdMap::default(), touched);
        plan.end_taking_over();
        plan
    }

    /// Makes it the plan for these inputs.
    pub fn update(&mut self, inputs: Inputs) {
        if self.inputs.settings != inputs.settings {
            let (seed, limits) = (self.policies.seed(), self.policies.limits());
            *self = Self::with_limits(inputs, std::mem::take(&mut self.indices), seed, limits);
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
        self.follow_policies(&old.snapshot, &old.pods, touched);
        if !old.snapshot.synced {
            self.end_taking_over();
        }
    }

    /// Until the cluster is known, the kernel holds what an earlier agent's plan wanted: there are no steps on the way from that,
    /// and addresses keep the identities that they have there.
    fn end_taking_over(&mut self) {
        self.steps.clear();
        if self.is_complete() {
            self.policies.end_adoption();
        }
    }

    /// What the kernel is to hold in between, one after the other, each of which is right in itself: see [`policy`]. Once taken they
    /// are done.
    pub fn take_steps(&mut self) -> Vec<Wanted> {
        std::mem::take(&mut self.steps)
    }

    /// What found no room.
    pub fn conditions(&self) -> impl Iterator<Item = Condition> {
        self.policies.conditions()
    }

    /// How many identities and policy sets there are.
    pub fn policy_counts(&self) -> (usize, usize) {
        (self.policies.identity_count(), self.policies.set_count())
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
            touched.extend(self.policies.addresses_here(key(&change)));
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

    /// Who is who and what may be, in the order that [`policy`] explains.
    fn follow_policies(
        &mut self,
        old: &Snapshot,
        pods: &OrdMap<Attachment, Arc<LocalPod>>,
        mut touched: BTreeSet<IpAddr>,
    ) {
        let new = self.inputs.snapshot.clone();
        let words = self.policies.hear(old, &new);
        touched.extend(self.asked(&words));
        let identified = self.identify(&touched, &words);
        let identified_step = identified.then(|| self.wanted.clone());

        let moved = self.policies.follow_sets(old, &new, [pods, &self.inputs.pods], &self.own_addresses());
        let before = self.wanted.clone();
        self.filter(&moved);
        // Where no set says anything new, pods change sets as they change names: in one entry, and so in one step.
        let edited = new.policy_changes(old).next().is_some() || new.namespace_changes(old).next().is_some();
        if !moved.is_empty() && edited {
            self.steps.extend(identified_step);
            self.steps.extend(self.still_isolating(&before, &moved));
        }
        self.forget_words(&new);
    }

    /// What is wanted, but that no pod is rid of an isolation yet: where an edit isolates others in its stead, nothing is open in
    /// between. `None` where nothing becomes free.
    fn still_isolating(&self, before: &Wanted, moved: &BTreeSet<Attachment>) -> Option<Wanted> {
        let mut wanted = self.wanted.clone();
        let pods = moved.iter().filter_map(|attachment| self.inputs.pods.get(attachment));
        let mut freed = false;
        for address in pods.flat_map(|pod| &pod.addresses) {
            freed |= keep_isolation(&mut wanted.v4, &before.v4, *address);
            freed |= keep_isolation(&mut wanted.v6, &before.v6, *address);
        }
        // The sets that they still have.
        let rules = before.policies.rules.clone().union(wanted.policies.rules.clone());
        wanted.policies.rules = rules;
        freed.then_some(wanted)
    }

    fn own_addresses(&self) -> BTreeSet<IpAddr> {
        let own = self.table.owners.iter().filter(|(_, owner)| **owner == Owner::Own);
        own.map(|(address, _)| *address).collect()
    }

    /// What is asked no more, and what finds room since.
    fn forget_words(&mut self, new: &Snapshot) {
        let mut words = self.policies.forget();
        let readmitted = self.policies.readmit_blocks(&mut words);
        let mut touched = self.policies.readmit_addresses(&mut words);
        touched.append(&mut self.asked(&words));
        if touched.is_empty() && words.blocks.is_empty() {
            return;
        }
        let before = self.wanted.clone();
        if self.identify(&touched, &words) {
            self.steps.push(before);
        }
        let identified = self.wanted.clone();
        if readmitted {
            self.policies.redefine_all(new);
        }
        let moved = self.policies.reopen();
        if !moved.is_empty() {
            self.filter(&moved);
            self.steps.push(identified);
        }
    }

    /// Gives pods of this node the sets that they have now.
    fn filter(&mut self, moved: &BTreeSet<Attachment>) {
        let here = |attachment: &Attachment| self.inputs.pods.get(attachment).map(|pod| pod.addresses.clone());
        let addresses: BTreeSet<IpAddr> = moved.iter().filter_map(here).flatten().collect();
        self.resolve(&addresses);
        self.wanted.policies = self.policies.wanted();
    }

    /// Gives addresses the identities that they have now, under the sets that there are. Returns whether one is another.
    fn identify(&mut self, touched: &BTreeSet<IpAddr>, words: &Words) -> bool {
        let moved = self.resolve(touched);
        let blocks = self.policies.follow_blocks(&words.blocks);
        let settled = self.policies.settle();
        self.wanted.policies = self.policies.wanted();
        moved | blocks | settled
    }

    /// The addresses about which more or less is asked.
    fn asked(&self, words: &Words) -> BTreeSet<IpAddr> {
        let mut touched = BTreeSet::new();
        if *words == Words::default() {
            return touched;
        }
        for pod in self.inputs.snapshot.pods.values().filter(|pod| Policies::concerns(words, pod)) {
            touched.extend(&pod.addresses);
            touched.extend(self.policies.addresses_here(&pod.key()));
        }
        if words.pods {
            touched.extend(self.inputs.pods.values().flat_map(|pod| &pod.addresses));
        }
        for block in &words.blocks {
            let (first, last) = (block.network(), block.broadcast());
            touched.extend(self.claims.pods_between(first, last));
            touched.extend(self.claims.locals_between(first, last));
            touched.extend(self.table.owners.range(first..=last).map(|(address, _)| *address));
        }
        touched
    }

    /// Decides about addresses. Returns whether one has another identity.
    fn resolve(&mut self, touched: &BTreeSet<IpAddr>) -> bool {
        let mut moved = false;
        for address in touched {
            let mut resolution = self.claims.resolve(*address, &self.inputs, &self.table);
            let (who, references) = self.read_holder(resolution.holder.as_ref());
            let before = self.policies.identity(*address);
            let identity = self.policies.identify(*address, who);
            moved |= before != self.policies.identity(*address);
            if let Some(peer) = &mut resolution.peer {
                peer.identity = identity;
            }
            // A pod whose policies are not settled is not there yet.
            resolution.endpoint = resolution.endpoint.zip(references).map(|(endpoint, [egress, ingress])| Endpoint {
                identity,
                egress,
                ingress,
                ..endpoint
            });
            write(&mut self.wanted.v4, *address, &resolution);
            write(&mut self.wanted.v6, *address, &resolution);
            set(&mut self.problems, *address, Some(resolution.problems).filter(|problems| !problems.is_empty()));
        }
        moved
    }

    /// What can be asked about whoever has an address, and what filters it if it is here.
    fn read_holder(&self, holder: Option<&Holder>) -> (Option<Who>, Option<[SetRef; 2]>) {
        let Inputs { snapshot, pods, .. } = &self.inputs;
        match holder {
            None => (None, None),
            Some(Holder::Node(owner)) => (Some(Who::Host { own: *owner == Owner::Own }), None),
            Some(Holder::Pod(key)) => (snapshot.pods.get(key).map(|pod| self.policies.who(pod)), None),
            Some(Holder::Local(attachment)) => {
                let who = pods.get(attachment).map(|pod| self.policies.who_here(pod, snapshot));
                (who, self.policies.references(attachment))
            }
        }
    }
}

fn write<A: Family>(addresses: &mut Addresses<A>, address: IpAddr, resolution: &addresses::Resolution) {
    let Some(address) = A::from_ip(address) else { return };
    set(&mut addresses.endpoints, address, resolution.endpoint);
    set(&mut addresses.peers, address, resolution.peer);
}

/// Puts an endpoint's sets back that it has no more and nothing in their place. Returns whether there are any.
fn keep_isolation<A: Family>(wanted: &mut Addresses<A>, before: &Addresses<A>, address: IpAddr) -> bool {
    let Some(address) = A::from_ip(address) else { return false };
    let (Some(new), Some(old)) = (wanted.endpoints.get(&address), before.endpoints.get(&address)) else { return false };
    let kept = |new: SetRef, old: SetRef| if new.id == SetId::NONE { old } else { new };
    let kept = Endpoint { egress: kept(new.egress, old.egress), ingress: kept(new.ingress, old.ingress), ..*new };
    let freed = kept != *new;
    if freed {
        wanted.endpoints.insert(address, kept);
    }
    freed
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
    let ours = [
        (Hook::OverlayIn, inputs.vxlan.clone()),
        (Hook::HostOut, inputs.vxlan.clone()),
        (Hook::UplinkIn, uplink.clone()),
    ];
    let early = inputs.settings.uplink_xdp.then_some((Hook::UplinkXdp, uplink));
    let pods = inputs
        .pods
        .values()
        .map(|pod| (Hook::PodOut, Device { name: pod.host_interface.clone(), ifindex: pod.host_ifindex }));
    ours.into_iter().chain(early).chain(pods).map(|(hook, device)| ((hook, device.ifindex), device)).collect()
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

//! Who is behind each address: all that say it is theirs, and which of them is believed.
//!
//! What becomes of an address depends on its claimants and on the table of nodes, and on nothing else. So a change of a pod or a
//! node touches the addresses concerned, and making the plan anew is touching all of them: both ways share this code.

use std::net::IpAddr;

use imbl::OrdMap;
use sdn_cluster::model::{Pod, PodKey};
use sdn_cni::Attachment;
use sdn_common::{Endpoint, Peer, incarnation};

use super::nodes::{NodeTable, Owner, describe};
use super::{Inputs, Problem};
use crate::cni::LocalPod;

/// Who says that an address is theirs, beside nodes. Each list is sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Claims {
    /// Pods of this node, by their leases.
    locals: OrdMap<IpAddr, Vec<Attachment>>,
    /// Pods of other nodes.
    pods: OrdMap<IpAddr, Vec<PodKey>>,
}

/// What becomes of an address. Identities and sets are still to be written into it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Resolution {
    pub(super) endpoint: Option<Endpoint>,
    pub(super) peer: Option<Peer>,
    /// Who is believed.
    pub(super) holder: Option<Holder>,
    pub(super) problems: Vec<Problem>,
}

/// Whose an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// A node's.
    Node(Owner),
    /// A pod of this node's.
    Local(Attachment),
    /// A pod of another node's.
    Pod(PodKey),
}

// === impl Claims ===

impl Claims {
    pub(super) fn add_local(&mut self, pod: &LocalPod) {
        pod.addresses.iter().for_each(|address| add(&mut self.locals, *address, pod.attachment()));
    }

    pub(super) fn remove_local(&mut self, pod: &LocalPod) {
        pod.addresses.iter().for_each(|address| remove(&mut self.locals, *address, &pod.attachment()));
    }

    pub(super) fn add_pod(&mut self, pod: &Pod) {
        pod.addresses.iter().for_each(|address| add(&mut self.pods, *address, pod.key()));
    }

    pub(super) fn remove_pod(&mut self, pod: &Pod) {
        pod.addresses.iter().for_each(|address| remove(&mut self.pods, *address, &pod.key()));
    }

    /// All addresses that somebody claims.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.locals.keys().chain(self.pods.keys()).copied()
    }

    /// The addresses between two that a pod of this node claims.
    pub(super) fn locals_between(&self, first: IpAddr, last: IpAddr) -> impl Iterator<Item = IpAddr> {
        self.locals.range(first..=last).map(|(address, _)| *address)
    }

    /// The addresses between two that a pod of another node claims.
    pub(super) fn pods_between(&self, first: IpAddr, last: IpAddr) -> impl Iterator<Item = IpAddr> {
        self.pods.range(first..=last).map(|(address, _)| *address)
    }

    /// Decides about an address.
    pub(super) fn resolve(&self, address: IpAddr, inputs: &Inputs, table: &NodeTable) -> Resolution {
        let mut resolution = Resolution::default();
        let locals = || self.locals.get(&address).into_iter().flatten().filter_map(|key| inputs.pods.get(key));
        let mut refuse = |object: String, cause: String| resolution.problems.push(Problem { object, cause });
        let mut holder = None;
        if let Some(owner) = table.owners.get(&address) {
            resolution.peer = table.index_of(owner).map(node_peer);
            resolution.holder = Some(Holder::Node(owner.clone()));
            holder = Some(describe(owner));
        }
        for pod in locals() {
            match &holder {
                Some(holder) => refuse(pod.to_string(), taken(address, holder)),
                None => {
                    resolution.endpoint = Some(endpoint(pod));
                    resolution.holder = Some(Holder::Local(pod.attachment()));
                    holder = Some(pod.to_string());
                }
            }
        }
        for pod in self.candidates(address, inputs) {
            let object = format!("pod {}", pod.key());
            match (peer(pod, address, inputs, table), &holder) {
                (Err(cause), _) => refuse(object, cause),
                (Ok(_), Some(holder)) => refuse(object, taken(address, holder)),
                (Ok(peer), None) => {
                    resolution.peer = Some(peer);
                    resolution.holder = Some(Holder::Pod(pod.key()));
                    holder = Some(object);
                }
            }
        }
        resolution
    }

    /// The pods that claim an address, the likeliest first: one that runs before one that may be on its way out or in.
    fn candidates<'a>(&self, address: IpAddr, inputs: &'a Inputs) -> Vec<&'a Pod> {
        use sdn_cluster::model::PodPhase::Running;
        let keys = self.pods.get(&address).into_iter().flatten();
        let mut pods: Vec<&Pod> = keys.filter_map(|key| inputs.snapshot.pods.get(key)).map(AsRef::as_ref).collect();
        pods.sort_by_key(|pod| (pod.phase != Running, !pod.ready));
        pods
    }
}

/// Whether the pod is one of another node, with addresses of its own.
pub(super) fn is_peer(pod: &Pod, inputs: &Inputs) -> bool {
    let elsewhere = pod.node.as_deref().is_some_and(|node| node != inputs.settings.node_name);
    elsewhere && !pod.host_network && !pod.ended()
}

fn node_peer(node: u32) -> Peer {
    Peer { node, ..Peer::default() }
}

fn endpoint(pod: &LocalPod) -> Endpoint {
    Endpoint { ifindex: pod.host_ifindex, incarnation: pod.incarnation, mac: pod.mac, ..Endpoint::default() }
}

fn peer(pod: &Pod, address: IpAddr, inputs: &Inputs, table: &NodeTable) -> Result<Peer, String> {
    let name = pod.node.as_ref().ok_or("it is on no node")?;
    let owner = Owner::Other(name.clone());
    let node = table.index_of(&owner).ok_or_else(|| format!("its node {name} is not known"))?;
    if !inputs.in_cluster(address) {
        return Err(format!("its address {address} is not in a cluster network"));
    }
    if let Some((subnet, theirs)) = table.subnet_of(address).filter(|(_, theirs)| *theirs != owner) {
        let whose = describe(theirs);
        return Err(format!(
            "its address {address} is in {subnet}, the host subnet of {whose}, but it is on node {name}"
        ));
    }
    if pod.uid.is_empty() {
        return Err("it has no uid, by which its packets are known".to_owned());
    }
    Ok(Peer { node, incarnation: incarnation(&pod.uid), ..Peer::default() })
}

fn taken(address: IpAddr, holder: &str) -> String {
    format!("its address {address} is that of {holder}")
}

fn add<T: Ord + Clone>(claims: &mut OrdMap<IpAddr, Vec<T>>, address: IpAddr, claimant: T) {
    let list = claims.entry(address).or_default();
    if let Err(place) = list.binary_search(&claimant) {
        list.insert(place, claimant);
    }
}

fn remove<T: Ord + Clone>(claims: &mut OrdMap<IpAddr, Vec<T>>, address: IpAddr, claimant: &T) {
    let Some(list) = claims.get_mut(&address) else { return };
    list.retain(|held| held != claimant);
    if list.is_empty() {
        claims.remove(&address);
    }
}

//! Pods of this node and the policies that select them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sdn_cluster::Snapshot;
use sdn_cluster::model::{NetworkPolicy, Pod, PodKey};
use sdn_cluster::verdict::Direction;
use sdn_cni::Attachment;

use super::facts::{named_ports, names};
use super::sets::{SetKey, Slot};
use crate::cni::LocalPod;

/// Egress, then ingress: as the kernel's structures have them.
pub(super) const DIRECTIONS: [Direction; 2] = [Direction::Egress, Direction::Ingress];

/// Pods of this node.
#[derive(Clone, Debug, Default)]
pub(super) struct Subjects {
    known: BTreeMap<Attachment, Subject>,
    by_pod: BTreeMap<PodKey, BTreeSet<Attachment>>,
}

/// A pod of this node.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) pod: Arc<LocalPod>,
    /// The policies that select it, by direction. `None`: its object is not known.
    selected: Option<[BTreeSet<Arc<str>>; 2]>,
    /// Its sets, by direction; `None` where it is not isolated.
    pub(super) slots: [Option<Slot>; 2],
}

// === impl Subjects ===

impl Subjects {
    pub(super) fn get(&self, attachment: &Attachment) -> Option<&Subject> {
        self.known.get(attachment)
    }

    /// Takes a pod in; what selects it is looked up by [`Subjects::select`].
    pub(super) fn add(&mut self, pod: Arc<LocalPod>) {
        let attachment = pod.attachment();
        let slots = self.known.get(&attachment).map(|subject| subject.slots).unwrap_or_default();
        self.by_pod.entry(key(&pod)).or_default().insert(attachment.clone());
        self.known.insert(attachment, Subject { pod, selected: None, slots });
    }

    /// Takes a pod out. Returns its sets.
    pub(super) fn remove(&mut self, attachment: &Attachment) -> [Option<Slot>; 2] {
        let Some(subject) = self.known.remove(attachment) else { return [None; 2] };
        let key = key(&subject.pod);
        if let Some(attachments) = self.by_pod.get_mut(&key) {
            attachments.remove(attachment);
            if attachments.is_empty() {
                self.by_pod.remove(&key);
            }
        }
        subject.slots
    }

    /// The attachments of a pod.
    pub(super) fn of(&self, pod: &PodKey) -> impl Iterator<Item = &Attachment> {
        self.by_pod.get(pod).into_iter().flatten()
    }

    /// The attachments of a namespace's pods.
    pub(super) fn in_namespace<'a>(&'a self, namespace: &'a Arc<str>) -> impl Iterator<Item = &'a Attachment> {
        let first = PodKey::new(namespace.clone(), "");
        let own = self.by_pod.range(first..).take_while(move |(key, _)| key.namespace == *namespace);
        own.flat_map(|(_, attachments)| attachments)
    }

    /// All attachments with their sets.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Attachment, &Subject)> {
        self.known.iter()
    }

    pub(super) fn set_slots(&mut self, attachment: &Attachment, slots: [Option<Slot>; 2]) {
        if let Some(subject) = self.known.get_mut(attachment) {
            subject.slots = slots;
        }
    }

    /// Looks up anew which policies select a pod.
    pub(super) fn select(&mut self, attachment: &Attachment, snapshot: &Snapshot) {
        let Some(subject) = self.known.get_mut(attachment) else { return };
        subject.selected = object(&subject.pod, snapshot).map(|pod| {
            let selecting = |direction: Direction| {
                let policies = snapshot.policies_in(&pod.namespace).filter(|policy| selects(policy, direction, pod));
                policies.map(|policy| policy.name.clone()).collect()
            };
            DIRECTIONS.map(selecting)
        });
    }

    /// A policy is another than it was. Returns whether it selects the pod now or did, and in another direction than before.
    pub(super) fn reselect(
        &mut self,
        attachment: &Attachment,
        name: &Arc<str>,
        policy: Option<&NetworkPolicy>,
        snapshot: &Snapshot,
    ) -> bool {
        let Some(subject) = self.known.get_mut(attachment) else { return false };
        let Some(selected) = &mut subject.selected else { return true };
        let Some(pod) = object(&subject.pod, snapshot) else { return true };
        let mut changed = false;
        for (direction, names) in DIRECTIONS.into_iter().zip(selected) {
            let selects = policy.is_some_and(|policy| selects(policy, direction, pod));
            changed |= if selects { names.insert(name.clone()) } else { names.remove(name) };
        }
        changed
    }

    /// What the pod's set is made for; `None` where nothing isolates it.
    pub(super) fn set_key(&self, attachment: &Attachment, index: usize, snapshot: &Snapshot) -> Option<SetKey> {
        let (subject, direction) = (self.known.get(attachment)?, DIRECTIONS[index]);
        let namespace: Arc<str> = subject.pod.namespace.as_str().into();
        if namespace.is_empty() {
            return None;
        }
        let Some(selected) = &subject.selected else {
            // Any policy there is may be about it. Before all policies are known there may be one.
            let isolating = snapshot.policies_in(&namespace).find(|policy| direction.rules(policy).is_some());
            let policies: Vec<Arc<str>> = isolating.map(|policy| policy.name.clone()).into_iter().collect();
            let isolated = !policies.is_empty() || !snapshot.synced;
            return isolated.then_some(SetKey { namespace, direction, policies, ports: Vec::new(), closed: true });
        };
        let policies: Vec<Arc<str>> = selected[index].iter().cloned().collect();
        if policies.is_empty() {
            return None;
        }
        let ports = match (direction, object(&subject.pod, snapshot)) {
            (Direction::Ingress, Some(pod)) => own_ports(pod, &policies, snapshot),
            _ => Vec::new(),
        };
        Some(SetKey { namespace, direction, policies, ports, closed: false })
    }
}

/// The pod's object, if it is the one that runs here.
pub(super) fn object<'a>(pod: &LocalPod, snapshot: &'a Snapshot) -> Option<&'a Pod> {
    let found = snapshot.pods.get(&key(pod))?;
    (pod.uid.is_empty() || *found.uid == *pod.uid).then_some(found)
}

fn key(pod: &LocalPod) -> PodKey {
    PodKey::new(pod.namespace.as_str(), pod.name.as_str())
}

fn selects(policy: &NetworkPolicy, direction: Direction, pod: &Pod) -> bool {
    direction.rules(policy).is_some() && policy.pod_selector.matches(&pod.labels)
}

/// What a pod's own ports are called, as far as ingress rules ask.
fn own_ports(pod: &Pod, policies: &[Arc<str>], snapshot: &Snapshot) -> Vec<super::facts::NamedPort> {
    if pod.ports.iter().all(|port| port.name.is_none()) {
        return Vec::new();
    }
    let own = snapshot.policies_in(&pod.namespace).filter(|policy| policies.binary_search(&policy.name).is_ok());
    let rules = own.filter_map(|policy| policy.ingress.as_ref()).flatten();
    let asked: BTreeSet<&Arc<str>> = rules.flat_map(names).map(|(name, _)| name).collect();
    named_ports(pod, |name| asked.iter().any(|asked| ***asked == *name))
}

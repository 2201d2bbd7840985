//! EndpointSlices from selectors, as the EndpointSlice controller of Kubernetes makes them, where there is none.

mod slices;

use crate::{
    model::{EndpointSlice, Object, Pod, PodKey, Service, ServiceKey, ServiceType},
    snapshot::{Change, Snapshot},
    source::ObjectChange,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

pub use slices::TARGET_ENDPOINTS;

/// Keeps the slices of all Services with a selector up to date: told of a new snapshot, it says what changes. What it
/// makes is the same whichever way it came there, and costs what changed: a Service whose pods changed is done anew.
///
/// Slices of Services without a selector are given, not made. Topology hints are set for trafficDistribution; the
/// proportional ones of topology-mode Auto need the nodes' CPUs, and are not set, as Kubernetes does where it cannot.
#[derive(Debug, Default)]
pub struct Deriver {
    last: Snapshot,
    /// The Services with a selector, by one of the labels they ask for.
    by_label: HashMap<LabelPair, BTreeSet<ServiceKey>>,
    /// The pods that each selects.
    members: BTreeMap<ServiceKey, BTreeSet<PodKey>>,
    /// What was made of them.
    slices: BTreeMap<ServiceKey, Vec<Arc<EndpointSlice>>>,
    /// There are slices that were made before, and no update came yet.
    resumed: bool,
}

/// A label of a namespace's pods: namespace, key, value.
type LabelPair = (Arc<str>, String, String);

/// All slices of a snapshot's Services with selectors, in the order of their keys.
pub fn derive_slices(snapshot: &Snapshot) -> Vec<Arc<EndpointSlice>> {
    let mut deriver = Deriver::default();
    deriver.update(snapshot);
    deriver.slices().cloned().collect()
}

impl Deriver {
    /// Takes over from what was published before, by whoever made it: of these slices (those with the label of the
    /// controller) the next update removes what is no longer right, and leaves alone what is.
    pub fn resume(published: impl IntoIterator<Item = Arc<EndpointSlice>>) -> Self {
        let mut deriver = Self { resumed: true, ..Self::default() };
        for slice in published {
            if let Some(key) =
                slice.service_key().filter(|_| slice.managed_by.as_deref() == Some(EndpointSlice::CONTROLLER))
            {
                deriver.slices.entry(key).or_default().push(slice);
            }
        }
        deriver
    }

    /// The slices as they are now.
    pub fn slices(&self) -> impl Iterator<Item = &Arc<EndpointSlice>> {
        self.slices.values().flatten()
    }

    /// Makes what the snapshot's nodes, pods and Services come to, and returns what differs from before.
    pub fn update(&mut self, now: &Snapshot) -> Vec<ObjectChange> {
        let last = std::mem::replace(&mut self.last, now.clone());
        let mut dirty = BTreeSet::new();
        self.note_services(&last, now, &mut dirty);
        self.note_pods(&last, now, &mut dirty);
        self.note_nodes(&last, now, &mut dirty);
        if std::mem::take(&mut self.resumed) {
            // What was made for Services that are gone.
            dirty.extend(self.slices.keys().cloned());
        }
        let mut changes = Vec::new();
        for key in dirty {
            let wanted = self.make(&key, now);
            self.replace(key, wanted, &mut changes);
        }
        changes
    }

    fn note_services(&mut self, last: &Snapshot, now: &Snapshot, dirty: &mut BTreeSet<ServiceKey>) {
        for change in now.service_changes(last) {
            let (key, old, new) = match change {
                Change::Added(key, new) => (key, None, Some(new)),
                Change::Changed { key, old, new } => (key, Some(old), Some(new)),
                Change::Removed(key, old) => (key, Some(old), None),
            };
            dirty.insert(key.clone());
            let label = |service: &&Arc<Service>| first_label(service);
            let (old_label, new_label) = (old.as_ref().and_then(label), new.as_ref().and_then(label));
            if let (Some(old), Some(new)) = (old, new)
                && old.selector == new.selector
                && old_label == new_label
            {
                continue;
            }
            if let Some(label) = old_label {
                self.forget(&label, key);
            }
            if let (Some(label), Some(service)) = (new_label, new) {
                self.by_label.entry(label).or_default().insert(key.clone());
                // The pods that are known; what changed among them is seen next.
                let chosen = pods_in(last, &key.namespace).filter(|(_, pod)| service.selects(&pod.labels));
                self.members.insert(key.clone(), chosen.map(|(key, _)| key.clone()).collect());
            }
        }
    }

    fn forget(&mut self, label: &LabelPair, key: &ServiceKey) {
        self.members.remove(key);
        if let Some(services) = self.by_label.get_mut(label) {
            services.remove(key);
            if services.is_empty() {
                self.by_label.remove(label);
            }
        }
    }

    fn note_pods(&mut self, last: &Snapshot, now: &Snapshot, dirty: &mut BTreeSet<ServiceKey>) {
        for change in now.pod_changes(last) {
            let (key, old, new) = match change {
                Change::Added(key, new) => (key, None, Some(new)),
                Change::Changed { key, old, new } => (key, Some(old), Some(new)),
                Change::Removed(key, old) => (key, Some(old), None),
            };
            for service in old.map(|pod| self.selecting(now, pod)).unwrap_or_default() {
                if let Some(members) = self.members.get_mut(&service) {
                    members.remove(key);
                }
                dirty.insert(service);
            }
            for service in new.map(|pod| self.selecting(now, pod)).unwrap_or_default() {
                self.members.entry(service.clone()).or_default().insert(key.clone());
                dirty.insert(service);
            }
        }
    }

    /// The Services that select a pod.
    fn selecting(&self, now: &Snapshot, pod: &Pod) -> Vec<ServiceKey> {
        let pair = |(key, value): (&String, &String)| (pod.namespace.clone(), key.clone(), value.clone());
        let candidates = pod.labels.iter().filter_map(|label| self.by_label.get(&pair(label))).flatten();
        let selects = |key: &&ServiceKey| now.services.get(*key).is_some_and(|service| service.selects(&pod.labels));
        candidates.filter(selects).cloned().collect()
    }

    /// A node that comes, goes or moves to another zone changes the endpoints on it.
    fn note_nodes(&self, last: &Snapshot, now: &Snapshot, dirty: &mut BTreeSet<ServiceKey>) {
        let moved: BTreeSet<&Arc<str>> = now
            .node_changes(last)
            .filter_map(|change| match change {
                Change::Added(name, _) | Change::Removed(name, _) => Some(name),
                Change::Changed { key, old, new } => (old.zone != new.zone).then_some(key),
            })
            .collect();
        if moved.is_empty() {
            return;
        }
        let is_moved = |pod: &PodKey| {
            let node = now.pods.get(pod).and_then(|pod| pod.node.as_ref());
            node.is_some_and(|node| moved.contains(node))
        };
        let touched = self.members.iter().filter(|(_, pods)| pods.iter().any(is_moved));
        dirty.extend(touched.map(|(service, _)| service.clone()));
    }

    fn make(&self, key: &ServiceKey, now: &Snapshot) -> Vec<Arc<EndpointSlice>> {
        let (Some(service), Some(members)) = (now.services.get(key), self.members.get(key)) else { return Vec::new() };
        let pods = members.iter().filter_map(|pod| now.pods.get(pod));
        slices::of_service(service, pods, &now.nodes)
    }

    /// Puts `wanted` in the place of a Service's slices. What is equal stays the object it is.
    fn replace(&mut self, key: ServiceKey, mut wanted: Vec<Arc<EndpointSlice>>, changes: &mut Vec<ObjectChange>) {
        let old = self.slices.remove(&key).unwrap_or_default();
        let mut left: BTreeMap<Arc<str>, Arc<EndpointSlice>> =
            old.into_iter().map(|slice| (slice.name.clone(), slice)).collect();
        for slice in &mut wanted {
            match left.remove(&slice.name) {
                Some(old) if old == *slice => *slice = old,
                _ => changes.push(ObjectChange::Put(Object::EndpointSlice(slice.clone()))),
            }
        }
        changes.extend(left.into_values().map(|slice| ObjectChange::Delete(Object::EndpointSlice(slice).key())));
        if !wanted.is_empty() {
            self.slices.insert(key, wanted);
        }
    }
}

/// One label that the pods of a Service have, to find it by; `None` when its endpoints are not made from pods.
fn first_label(service: &Service) -> Option<LabelPair> {
    let (key, value) = service.selector.first_key_value()?;
    let is_derived = service.service_type != ServiceType::ExternalName;
    is_derived.then(|| (service.namespace.clone(), key.clone(), value.clone()))
}

/// The pods of a namespace.
fn pods_in<'a>(snapshot: &'a Snapshot, namespace: &'a Arc<str>) -> impl Iterator<Item = (&'a PodKey, &'a Arc<Pod>)> {
    let first = PodKey::new(namespace.clone(), "");
    snapshot.pods.range(first..).take_while(move |(key, _)| key.namespace == *namespace)
}

#[cfg(test)]
mod tests;

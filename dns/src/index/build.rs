//! An index from a snapshot: anew at first, then from what changed.

use super::{Entry, Few, Index, Namespace, Naming, PodAt, ServiceKind, address_key, namespace_label, service_labels};
use sdn_cluster::{
    Change, Snapshot,
    model::{Pod, ServiceKey, SliceKey},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// Keeps an index up to date. The cost of an update grows with what changed: a Service that changed, or one of whose
/// slices did, is encoded anew.
#[derive(Debug)]
pub(crate) struct Builder {
    naming: Naming,
    last: Snapshot,
    index: Index,
    /// The slices of each Service.
    slices: BTreeMap<ServiceKey, BTreeSet<SliceKey>>,
}

impl Builder {
    /// Starts with nothing.
    pub(crate) fn new(naming: Naming) -> Self {
        Self { naming, last: Snapshot::default(), index: Index::default(), slices: BTreeMap::new() }
    }

    /// The index of a snapshot.
    pub(crate) fn update(&mut self, now: &Snapshot) -> Index {
        let last = std::mem::replace(&mut self.last, now.clone());
        let mut dirty = BTreeSet::new();
        for change in now.service_changes(&last) {
            dirty.insert(key_of(&change).clone());
        }
        self.note_slices(&last, now, &mut dirty);
        let mut changed = !dirty.is_empty();
        changed |= self.note_namespaces(&last, now);
        changed |= self.note_pods(&last, now);
        for key in dirty {
            self.replace(&key, now);
        }
        if changed {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            // It wraps in 2106, as serial numbers do (RFC 1982).
            #[expect(clippy::cast_possible_truncation, reason = "a serial number is modulo 2^32")]
            let serial = since.as_secs() as u32;
            self.index.serial = serial;
        }
        self.index.synced = now.synced;
        self.index.clone()
    }

    fn note_slices(&mut self, last: &Snapshot, now: &Snapshot, dirty: &mut BTreeSet<ServiceKey>) {
        for change in now.slice_changes(last) {
            let (key, old, new) = match &change {
                Change::Added(key, new) => (*key, None, Some(*new)),
                Change::Removed(key, old) => (*key, Some(*old), None),
                Change::Changed { key, old, new } => (*key, Some(*old), Some(*new)),
            };
            let (old, new) = (old.and_then(|slice| slice.service_key()), new.and_then(|slice| slice.service_key()));
            if let Some(service) = old.filter(|old| Some(old) != new.as_ref()) {
                if let Some(slices) = self.slices.get_mut(&service) {
                    slices.remove(key);
                    if slices.is_empty() {
                        self.slices.remove(&service);
                    }
                }
                dirty.insert(service);
            }
            if let Some(service) = new {
                self.slices.entry(service.clone()).or_default().insert(key.clone());
                dirty.insert(service);
            }
        }
    }

    /// Whether any came or went.
    fn note_namespaces(&mut self, last: &Snapshot, now: &Snapshot) -> bool {
        let mut changed = false;
        for change in now.namespace_changes(last).filter(|change| !matches!(change, Change::Changed { .. })) {
            changed = true;
            let declared = !matches!(change, Change::Removed(..));
            let name = key_of(&change);
            if !self.naming.exposes(name) {
                continue;
            }
            if let Some(label) = namespace_label(name) {
                self.change_namespace(label, |namespace| namespace.declared = declared);
            }
        }
        changed
    }

    /// Whether any did change.
    fn note_pods(&mut self, last: &Snapshot, now: &Snapshot) -> bool {
        let mut changed = false;
        for change in now.pod_changes(last) {
            let (old, new) = match change {
                Change::Added(_, new) => (None, Some(new)),
                Change::Removed(_, old) => (Some(old), None),
                Change::Changed { old, new, .. } => (Some(old), Some(new)),
            };
            let (old, new) = (old.and_then(pod_at), new.and_then(pod_at));
            if old == new {
                continue;
            }
            changed = true;
            for (address, pod) in old.iter().flat_map(|(addresses, pod)| addresses.iter().map(move |at| (at, pod))) {
                remove(&mut self.index.pods, *address, pod);
            }
            for (address, pod) in new
                .into_iter()
                .flat_map(|(addresses, pod)| addresses.into_iter().map(move |address| (address, pod.clone())))
            {
                insert(&mut self.index.pods, address, pod);
            }
        }
        changed
    }

    /// Encodes a Service anew.
    fn replace(&mut self, key: &ServiceKey, now: &Snapshot) {
        let Some(labels) = service_labels(&key.namespace, &key.name) else { return };
        let slices = self.slices.get(key).into_iter().flatten().filter_map(|slice| now.slices.get(slice));
        let service = now.services.get(key).filter(|_| self.naming.exposes(&key.namespace));
        let old = self.index.services.get(&labels).cloned();
        // The same labels everywhere: they are one piece of memory.
        let labels = old.as_ref().map_or(labels, |old| old.key.clone());
        let new = service.and_then(|service| Entry::new(labels.clone(), service, slices, &self.naming)).map(Arc::new);
        let (before, after) = (own_addresses(old.as_deref()), own_addresses(new.as_deref()));
        update_addresses(&mut self.index.cluster_ips, &before, &after, &labels);
        let (before, after) = (endpoint_addresses(old.as_deref()), endpoint_addresses(new.as_deref()));
        update_addresses(&mut self.index.endpoints, &before, &after, &labels);
        if old.is_some() != new.is_some()
            && let Some(label) = namespace_label(&key.namespace)
        {
            let more = new.is_some();
            self.change_namespace(label, |namespace| match more {
                true => namespace.services += 1,
                false => namespace.services -= 1,
            });
        }
        match new {
            Some(entry) => self.index.services.insert(labels, entry),
            None => self.index.services.remove(&labels),
        };
    }

    fn change_namespace(&mut self, label: Arc<[u8]>, change: impl FnOnce(&mut Namespace)) {
        let mut namespace = self.index.namespaces.get(&label).copied().unwrap_or_default();
        change(&mut namespace);
        if namespace == Namespace::default() {
            self.index.namespaces.remove(&label);
        } else {
            self.index.namespaces.insert(label, namespace);
        }
    }
}

fn key_of<'a, K, V>(change: &Change<'a, K, V>) -> &'a K {
    match change {
        Change::Added(key, _) | Change::Removed(key, _) | Change::Changed { key, .. } => key,
    }
}

/// A pod that has not ended, and where it is.
fn pod_at(pod: &Arc<Pod>) -> Option<(Vec<u128>, PodAt)> {
    if pod.ended() || pod.addresses.is_empty() {
        return None;
    }
    let addresses = pod.addresses.iter().copied().map(address_key).collect();
    Some((addresses, PodAt { key: pod.key(), host_network: pod.host_network }))
}

/// The addresses that are a Service's own.
fn own_addresses(entry: Option<&Entry>) -> Vec<IpAddr> {
    let own = entry.filter(|entry| matches!(entry.kind, ServiceKind::Cluster));
    own.iter().flat_map(|entry| entry.addresses.iter()).collect()
}

fn endpoint_addresses(entry: Option<&Entry>) -> Vec<IpAddr> {
    let mut addresses: Vec<_> =
        entry.iter().flat_map(|entry| &entry.endpoints.list).map(|endpoint| endpoint.address).collect();
    addresses.dedup();
    addresses
}

/// Makes a Service lead from these addresses instead of those.
fn update_addresses(map: &mut imbl::OrdMap<u128, Few<Arc<[u8]>>>, old: &[IpAddr], new: &[IpAddr], service: &Arc<[u8]>) {
    let (old, new): (BTreeSet<_>, BTreeSet<_>) =
        (old.iter().copied().map(address_key).collect(), new.iter().copied().map(address_key).collect());
    for gone in old.difference(&new) {
        remove(map, *gone, service);
    }
    for added in new.difference(&old) {
        insert(map, *added, service.clone());
    }
}

fn insert<T: Clone + PartialEq>(map: &mut imbl::OrdMap<u128, Few<T>>, address: u128, value: T) {
    let few = Few::with(map.get(&address), value);
    map.insert(address, few);
}

fn remove<T: Clone + PartialEq>(map: &mut imbl::OrdMap<u128, Few<T>>, address: u128, value: &T) {
    match map.get(&address).and_then(|few| few.without(value)) {
        Some(left) => map.insert(address, left),
        None => map.remove(&address),
    };
}

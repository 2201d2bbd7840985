//! The cluster at one moment: immutable, cheap to clone, diffable.

mod disk;
mod objects;

use crate::model::{
    EndpointSlice, Namespace, NetworkPolicy, Node, ObjectName, Pod, PodKey, PolicyKey, Route, Secret, Service,
    ServiceKey, SliceKey,
    ingress::{Ingress, IngressClass},
};
use imbl::{OrdMap, ordmap::DiffItem};
use std::{fmt, sync::Arc};

pub use disk::keep_saved;

/// The cluster at one moment. A clone is a few reference counts; two snapshots share what they have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Nodes by name.
    pub nodes: OrdMap<Arc<str>, Arc<Node>>,
    /// Namespaces by name.
    pub namespaces: OrdMap<Arc<str>, Arc<Namespace>>,
    /// Pods by namespace and name.
    pub pods: OrdMap<PodKey, Arc<Pod>>,
    /// NetworkPolicies by namespace and name.
    pub policies: OrdMap<PolicyKey, Arc<NetworkPolicy>>,
    /// Services by namespace and name.
    pub services: OrdMap<ServiceKey, Arc<Service>>,
    /// EndpointSlices by namespace and name.
    pub slices: OrdMap<SliceKey, Arc<EndpointSlice>>,
    /// Routes by namespace and name. These and what follows are of the kinds [`Kind::ROUTES`](crate::model::Kind): only
    /// routers have them, and they are never saved.
    pub routes: OrdMap<ObjectName, Arc<Route>>,
    /// Ingresses by namespace and name.
    pub ingresses: OrdMap<ObjectName, Arc<Ingress>>,
    /// IngressClasses by name.
    pub ingress_classes: OrdMap<Arc<str>, Arc<IngressClass>>,
    /// Secrets by namespace and name.
    pub secrets: OrdMap<ObjectName, Arc<Secret>>,
    /// Grows with every change of the collections.
    pub generation: u64,
    /// The source was read to its end once, so that what is absent here is absent in the cluster. Before that nothing
    /// may be removed because it is missing here.
    pub synced: bool,
}

/// One difference between an older and a newer snapshot.
#[derive(Debug, PartialEq, Eq)]
pub enum Change<'a, K, V> {
    /// Only the newer one has it.
    Added(&'a K, &'a V),
    /// Both have it, and it differs.
    Changed {
        /// What it is called.
        key: &'a K,
        /// As it was.
        old: &'a V,
        /// As it is.
        new: &'a V,
    },
    /// Only the older one has it.
    Removed(&'a K, &'a V),
}

impl Snapshot {
    /// What changed among nodes since `older`.
    pub fn node_changes<'a>(&'a self, older: &'a Self) -> impl Iterator<Item = Change<'a, Arc<str>, Arc<Node>>> {
        changes(&older.nodes, &self.nodes)
    }

    /// What changed among namespaces since `older`.
    pub fn namespace_changes<'a>(
        &'a self,
        older: &'a Self,
    ) -> impl Iterator<Item = Change<'a, Arc<str>, Arc<Namespace>>> {
        changes(&older.namespaces, &self.namespaces)
    }

    /// What changed among pods since `older`.
    pub fn pod_changes<'a>(&'a self, older: &'a Self) -> impl Iterator<Item = Change<'a, PodKey, Arc<Pod>>> {
        changes(&older.pods, &self.pods)
    }

    /// What changed among Services since `older`.
    pub fn service_changes<'a>(
        &'a self,
        older: &'a Self,
    ) -> impl Iterator<Item = Change<'a, ServiceKey, Arc<Service>>> {
        changes(&older.services, &self.services)
    }

    /// What changed among EndpointSlices since `older`.
    pub fn slice_changes<'a>(
        &'a self,
        older: &'a Self,
    ) -> impl Iterator<Item = Change<'a, SliceKey, Arc<EndpointSlice>>> {
        changes(&older.slices, &self.slices)
    }

    /// What changed among NetworkPolicies since `older`.
    pub fn policy_changes<'a>(
        &'a self,
        older: &'a Self,
    ) -> impl Iterator<Item = Change<'a, PolicyKey, Arc<NetworkPolicy>>> {
        changes(&older.policies, &self.policies)
    }

    /// What changed among Routes since `older`.
    pub fn route_changes<'a>(&'a self, older: &'a Self) -> impl Iterator<Item = Change<'a, ObjectName, Arc<Route>>> {
        changes(&older.routes, &self.routes)
    }

    /// What changed among Ingresses since `older`.
    pub fn ingress_changes<'a>(
        &'a self,
        older: &'a Self,
    ) -> impl Iterator<Item = Change<'a, ObjectName, Arc<Ingress>>> {
        changes(&older.ingresses, &self.ingresses)
    }

    /// What changed among Secrets since `older`.
    pub fn secret_changes<'a>(&'a self, older: &'a Self) -> impl Iterator<Item = Change<'a, ObjectName, Arc<Secret>>> {
        changes(&older.secrets, &self.secrets)
    }

    /// The NetworkPolicies of a namespace, in the order of their names.
    pub fn policies_in<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<NetworkPolicy>> {
        let first = PolicyKey::new(namespace, "");
        let own = self.policies.range(first..).take_while(move |(key, _)| &*key.namespace == namespace);
        own.map(|(_, policy)| policy)
    }
}

/// What changed from `older` to `newer`, in the order of keys. Parts that both share are skipped, so that the cost
/// grows with the number of changes; an equal value under another pointer is not a change.
pub fn changes<'a, K: Ord + fmt::Debug, V: PartialEq>(
    older: &'a OrdMap<K, V>,
    newer: &'a OrdMap<K, V>,
) -> impl Iterator<Item = Change<'a, K, V>> {
    older.diff(newer).map(|item| match item {
        DiffItem::Add(key, value) => Change::Added(key, value),
        DiffItem::Update { old: (_, old), new: (key, new) } => Change::Changed { key, old, new },
        DiffItem::Remove(key, value) => Change::Removed(key, value),
    })
}

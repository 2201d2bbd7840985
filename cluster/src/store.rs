//! One task owns the cluster's state and publishes it.

use crate::{
    model::{Object, ObjectKey, ObjectName, PodKey, PolicyKey, ServiceKey, SliceKey},
    snapshot::Snapshot,
    source::{ObjectChange, Problem, Source, UnusedKind, Update},
};
use std::{collections::BTreeSet, sync::Arc};
use tokio::sync::watch;

/// A handle to the store's task: what it publishes. The task ends when the last clone of all three receivers is
/// dropped, and when the source ends.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// The cluster; a new one after every change.
    pub snapshots: watch::Receiver<Snapshot>,
    /// All that is wrong at the source now.
    pub problems: watch::Receiver<Arc<[Problem]>>,
    /// Kinds of objects that are at the source but not used.
    pub unused: watch::Receiver<Arc<[UnusedKind]>>,
}

/// Starts a task that owns the state which `source` describes, from nothing.
pub fn spawn(source: impl Source) -> Cluster {
    spawn_from(source, Snapshot::default())
}

/// Starts a task like [`spawn`], from a last known state: `last` is published at once (not synced), and what the source
/// turns out not to have any more goes with its first complete read.
pub fn spawn_from(source: impl Source, last: Snapshot) -> Cluster {
    let last = Snapshot { synced: false, ..last };
    let store = Store {
        unconfirmed: keys(&last).collect(),
        snapshots: watch::Sender::new(last.clone()),
        problems: watch::Sender::new(Arc::default()),
        unused: watch::Sender::new(Arc::default()),
        state: last,
    };
    let cluster = Cluster {
        snapshots: store.snapshots.subscribe(),
        problems: store.problems.subscribe(),
        unused: store.unused.subscribe(),
    };
    tokio::spawn(store.run(source));
    cluster
}

/// The task's own.
struct Store {
    state: Snapshot,
    /// Objects of the last known state of which the source has said nothing yet.
    unconfirmed: BTreeSet<ObjectKey>,
    snapshots: watch::Sender<Snapshot>,
    problems: watch::Sender<Arc<[Problem]>>,
    unused: watch::Sender<Arc<[UnusedKind]>>,
}

// === impl Cluster ===

impl Cluster {
    /// The cluster as it is now.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshots.borrow().clone()
    }

    /// Waits until the source was read to its end once, and returns what it has. `None` when the source ended before
    /// that.
    pub async fn synced(&mut self) -> Option<Snapshot> {
        self.snapshots.wait_for(|snapshot| snapshot.synced).await.ok().map(|snapshot| snapshot.clone())
    }
}

// === impl Store ===

impl Store {
    async fn run(mut self, mut source: impl Source) {
        loop {
            let update = tokio::select! {
                update = source.next() => update,
                () = self.abandoned() => None,
            };
            let Some(update) = update else { return };
            self.apply(update);
        }
    }

    /// Waits until nobody listens any more.
    async fn abandoned(&self) {
        self.snapshots.closed().await;
        self.problems.closed().await;
        self.unused.closed().await;
    }

    /// Applies an update and publishes what it changed: the snapshot last, so that who waits for it finds the problems
    /// too.
    fn apply(&mut self, update: Update) {
        if let Some(problems) = update.problems {
            self.problems.send_replace(problems);
        }
        if let Some(unused) = update.unused {
            self.unused.send_replace(unused);
        }
        let mut changed = false;
        for change in update.changes {
            changed |= self.change(change);
        }
        if update.synced {
            for key in std::mem::take(&mut self.unconfirmed) {
                changed |= self.delete(&key);
            }
        }
        if changed || update.synced != self.state.synced {
            self.state.synced = update.synced;
            self.state.generation += 1;
            self.snapshots.send_replace(self.state.clone());
        }
    }

    /// Whether the state is another one now.
    fn change(&mut self, change: ObjectChange) -> bool {
        match change {
            ObjectChange::Put(object) => {
                if !self.unconfirmed.is_empty() {
                    self.unconfirmed.remove(&object.key());
                }
                self.put(object)
            }
            ObjectChange::Delete(key) => self.delete(&key),
        }
    }

    /// An equal object stays the one it is, so that what shares it goes on sharing it.
    fn put(&mut self, object: Object) -> bool {
        match object {
            Object::Node(node) => insert(&mut self.state.nodes, node.name.clone(), node),
            Object::Namespace(namespace) => insert(&mut self.state.namespaces, namespace.name.clone(), namespace),
            Object::Pod(pod, _) => insert(&mut self.state.pods, pod.key(), pod),
            Object::NetworkPolicy(policy) => insert(&mut self.state.policies, policy.key(), policy),
            Object::Service(service) => insert(&mut self.state.services, service.key(), service),
            Object::EndpointSlice(slice) => insert(&mut self.state.slices, slice.key(), slice),
            Object::Route(route) => insert(&mut self.state.routes, route.key(), route),
            Object::Ingress(ingress) => insert(&mut self.state.ingresses, ingress.key(), ingress),
            Object::IngressClass(class) => insert(&mut self.state.ingress_classes, class.name.clone(), class),
            Object::Secret(secret) => insert(&mut self.state.secrets, secret.key(), secret),
            // Sources are opened without workloads where there is a store: control has made pods of them.
            Object::Workload(_) | Object::Endpoints(_) => false,
        }
    }

    fn delete(&mut self, key: &ObjectKey) -> bool {
        use crate::model::Kind::{
            EndpointSlice, Ingress, IngressClass, Namespace, NetworkPolicy, Node, Pod, Route, Secret, Service,
        };
        let named = || ObjectName { namespace: key.namespace.clone(), name: key.name.clone() };
        match key.kind {
            Node => self.state.nodes.remove(&key.name).is_some(),
            Namespace => self.state.namespaces.remove(&key.name).is_some(),
            Pod => self.state.pods.remove(&PodKey::new(key.namespace.clone(), key.name.clone())).is_some(),
            NetworkPolicy => {
                self.state.policies.remove(&PolicyKey::new(key.namespace.clone(), key.name.clone())).is_some()
            }
            Service => self.state.services.remove(&ServiceKey::new(key.namespace.clone(), key.name.clone())).is_some(),
            EndpointSlice => {
                self.state.slices.remove(&SliceKey::new(key.namespace.clone(), key.name.clone())).is_some()
            }
            Route => self.state.routes.remove(&named()).is_some(),
            Ingress => self.state.ingresses.remove(&named()).is_some(),
            IngressClass => self.state.ingress_classes.remove(&key.name).is_some(),
            Secret => self.state.secrets.remove(&named()).is_some(),
            _ => false,
        }
    }
}

fn insert<K: Ord + Clone, V: Eq>(map: &mut imbl::OrdMap<K, Arc<V>>, key: K, value: Arc<V>) -> bool {
    if map.get(&key) == Some(&value) {
        return false;
    }
    map.insert(key, value);
    true
}

/// The keys of all objects of a snapshot.
fn keys(snapshot: &Snapshot) -> impl Iterator<Item = ObjectKey> {
    let nodes = snapshot.nodes.values().map(|node| Object::Node(node.clone()));
    let namespaces = snapshot.namespaces.values().map(|namespace| Object::Namespace(namespace.clone()));
    let pods = snapshot.pods.values().map(|pod| Object::Pod(pod.clone(), None));
    let policies = snapshot.policies.values().map(|policy| Object::NetworkPolicy(policy.clone()));
    let services = snapshot.services.values().map(|service| Object::Service(service.clone()));
    let slices = snapshot.slices.values().map(|slice| Object::EndpointSlice(slice.clone()));
    let cluster = nodes.chain(namespaces).chain(pods).chain(policies).chain(services).chain(slices);
    let routes = snapshot.routes.values().map(|route| Object::Route(route.clone()));
    let ingresses = snapshot.ingresses.values().map(|ingress| Object::Ingress(ingress.clone()));
    let classes = snapshot.ingress_classes.values().map(|class| Object::IngressClass(class.clone()));
    let secrets = snapshot.secrets.values().map(|secret| Object::Secret(secret.clone()));
    cluster.chain(routes).chain(ingresses).chain(classes).chain(secrets).map(|object| object.key())
}

#[cfg(test)]
mod tests;

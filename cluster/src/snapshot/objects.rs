//! A snapshot's objects of all kinds: listed, and changed one by one by whoever owns the state.

use super::Snapshot;
use crate::model::{Kind, Object, ObjectKey, ObjectName, PodKey, PolicyKey, ServiceKey, SliceKey};
use imbl::OrdMap;
use std::sync::Arc;

impl Snapshot {
    /// Puts an object in, in place of the one of its name; whether the snapshot is another one now. An equal object
    /// stays the one it is, so that what shares it goes on sharing it. The generation is left to the caller. Workloads
    /// and Endpoints are no part of a snapshot: control makes pods and slices of them.
    pub fn put(&mut self, object: Object) -> bool {
        match object {
            Object::Node(node) => insert(&mut self.nodes, node.name.clone(), node),
            Object::Namespace(namespace) => insert(&mut self.namespaces, namespace.name.clone(), namespace),
            Object::Pod(pod, _) => insert(&mut self.pods, pod.key(), pod),
            Object::NetworkPolicy(policy) => insert(&mut self.policies, policy.key(), policy),
            Object::Service(service) => insert(&mut self.services, service.key(), service),
            Object::EndpointSlice(slice) => insert(&mut self.slices, slice.key(), slice),
            Object::Route(route) => insert(&mut self.routes, route.key(), route),
            Object::Ingress(ingress) => insert(&mut self.ingresses, ingress.key(), ingress),
            Object::IngressClass(class) => insert(&mut self.ingress_classes, class.name.clone(), class),
            Object::Secret(secret) => insert(&mut self.secrets, secret.key(), secret),
            Object::Workload(_) | Object::Endpoints(_) => false,
        }
    }

    /// Takes an object out; whether it was there. The generation is left to the caller.
    pub fn delete(&mut self, key: &ObjectKey) -> bool {
        let named = || ObjectName { namespace: key.namespace.clone(), name: key.name.clone() };
        let (namespace, name) = (key.namespace.clone(), key.name.clone());
        match key.kind {
            Kind::Node => self.nodes.remove(&name).is_some(),
            Kind::Namespace => self.namespaces.remove(&name).is_some(),
            Kind::Pod => self.pods.remove(&PodKey::new(namespace, name)).is_some(),
            Kind::NetworkPolicy => self.policies.remove(&PolicyKey::new(namespace, name)).is_some(),
            Kind::Service => self.services.remove(&ServiceKey::new(namespace, name)).is_some(),
            Kind::EndpointSlice => self.slices.remove(&SliceKey::new(namespace, name)).is_some(),
            Kind::Route => self.routes.remove(&named()).is_some(),
            Kind::Ingress => self.ingresses.remove(&named()).is_some(),
            Kind::IngressClass => self.ingress_classes.remove(&name).is_some(),
            Kind::Secret => self.secrets.remove(&named()).is_some(),
            _ => false,
        }
    }

    /// All objects, kind by kind.
    pub fn objects(&self) -> impl Iterator<Item = Object> {
        let nodes = self.nodes.values().cloned().map(Object::Node);
        let namespaces = self.namespaces.values().cloned().map(Object::Namespace);
        let pods = self.pods.values().cloned().map(|pod| Object::Pod(pod, None));
        let policies = self.policies.values().cloned().map(Object::NetworkPolicy);
        let services = self.services.values().cloned().map(Object::Service);
        let slices = self.slices.values().cloned().map(Object::EndpointSlice);
        let cluster = nodes.chain(namespaces).chain(pods).chain(policies).chain(services).chain(slices);
        let routes = self.routes.values().cloned().map(Object::Route);
        let ingresses = self.ingresses.values().cloned().map(Object::Ingress);
        let classes = self.ingress_classes.values().cloned().map(Object::IngressClass);
        let secrets = self.secrets.values().cloned().map(Object::Secret);
        cluster.chain(routes).chain(ingresses).chain(classes).chain(secrets)
    }
}

fn insert<K: Ord + Clone, V: Eq>(map: &mut OrdMap<K, Arc<V>>, key: K, value: Arc<V>) -> bool {
    if map.get(&key) == Some(&value) {
        return false;
    }
    map.insert(key, value);
    true
}

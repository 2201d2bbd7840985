//! What a control plane goes on doing while its cluster runs.

use super::{Derived, endpoints::Deriver};
use crate::{model::Object, snapshot::Snapshot, source::ObjectChange};

/// A cluster that is kept consistent: told what changes, it says all that changes with it. Pods that get addresses,
/// become ready or go make the slices of the Services that select them.
#[derive(Debug, Default)]
pub struct ControlPlane {
    cluster: Snapshot,
    endpoints: Deriver,
}

impl ControlPlane {
    /// Begins with what was derived.
    pub fn new(derived: &Derived) -> Self {
        let mut cluster = Snapshot::default();
        derived.objects().for_each(|object| _ = cluster.put(object));
        Self::resume(cluster)
    }

    /// Goes on from what another one has published: the first [`ControlPlane::update`] also puts right what has come
    /// to be wrong since.
    pub fn resume(published: Snapshot) -> Self {
        let endpoints = Deriver::resume(published.slices.values().cloned());
        Self { cluster: published, endpoints }
    }

    /// Makes a change, and returns it with what follows from it, in the order in which they should be published.
    pub fn update(&mut self, change: ObjectChange) -> Vec<ObjectChange> {
        self.make(&change);
        let follow = self.endpoints.update(&self.cluster);
        follow.iter().for_each(|change| self.make(change));
        std::iter::once(change).chain(follow).collect()
    }

    /// The cluster as it is now.
    pub fn cluster(&self) -> &Snapshot {
        &self.cluster
    }

    fn make(&mut self, change: &ObjectChange) {
        let changed = match change {
            ObjectChange::Put(object) => self.cluster.put(object.clone()),
            ObjectChange::Delete(key) => self.cluster.delete(key),
        };
        self.cluster.generation += u64::from(changed);
    }
}

impl Derived {
    /// All objects, kind by kind.
    pub fn objects(&self) -> impl Iterator<Item = Object> {
        let nodes = self.nodes.iter().cloned().map(Object::Node);
        let namespaces = self.namespaces.iter().cloned().map(Object::Namespace);
        let pods = self.pods.iter().cloned().map(|pod| Object::Pod(pod, None));
        let policies = self.policies.iter().cloned().map(Object::NetworkPolicy);
        let services = self.services.iter().cloned().map(Object::Service);
        let slices = self.slices.iter().cloned().map(Object::EndpointSlice);
        nodes.chain(namespaces).chain(pods).chain(policies).chain(services).chain(slices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EndpointSlice, IpFamily, Kind, ObjectKey, Pod, PodPhase, Service};
    use std::sync::Arc;

    fn pod(name: &str, address: Option<&str>) -> Object {
        let addresses = address.map(|text| text.parse().expect("an address")).into_iter().collect();
        let (phase, ready) = if address.is_some() { (PodPhase::Running, true) } else { (PodPhase::Pending, false) };
        let labels = [("app".to_owned(), "web".to_owned())].into();
        let pod =
            Pod { namespace: "shop".into(), name: name.into(), labels, addresses, phase, ready, ..Pod::default() };
        Object::Pod(pod.into(), None)
    }

    fn derived() -> Derived {
        let service = Service {
            namespace: "shop".into(),
            name: "web".into(),
            headless: true,
            families: vec![IpFamily::V4],
            selector: [("app".to_owned(), "web".to_owned())].into(),
            ..Service::default()
        };
        Derived { services: vec![service.into()], ..Derived::default() }
    }

    /// The addresses of all slices that agents see.
    fn endpoints(cluster: &Snapshot) -> Vec<String> {
        let slices = cluster.slices.values().flat_map(|slice| &slice.endpoints);
        slices.map(|endpoint| endpoint.address.to_string()).collect()
    }

    #[test]
    fn endpoints_follow_the_pods() {
        let mut plane = ControlPlane::new(&derived());
        let kinds = |changes: &[ObjectChange]| {
            let text = |change: &ObjectChange| match change {
                ObjectChange::Put(object) => format!("+{}", object.key().kind),
                ObjectChange::Delete(key) => format!("-{}", key.kind),
            };
            changes.iter().map(text).collect::<Vec<_>>().join(" ")
        };
        // what happens, what is published, the endpoints then
        let key = |name: &str| ObjectKey { kind: Kind::Pod, namespace: "shop".into(), name: name.into() };
        let rows = [
            (ObjectChange::Put(pod("a", None)), "+Pod", vec![]),
            (ObjectChange::Put(pod("a", Some("10.128.0.2"))), "+Pod +EndpointSlice", vec!["10.128.0.2"]),
            (ObjectChange::Put(pod("b", Some("10.128.2.2"))), "+Pod +EndpointSlice", vec!["10.128.0.2", "10.128.2.2"]),
            (ObjectChange::Put(pod("b", Some("10.128.2.2"))), "+Pod", vec!["10.128.0.2", "10.128.2.2"]),
            (ObjectChange::Delete(key("a")), "-Pod +EndpointSlice", vec!["10.128.2.2"]),
            (ObjectChange::Put(pod("b", None)), "+Pod -EndpointSlice", vec![]),
        ];
        for (change, published, expected) in rows {
            let changes = plane.update(change.clone());
            assert_eq!(
                (kinds(&changes).as_str(), endpoints(plane.cluster())),
                (published, expected.iter().map(ToString::to_string).collect()),
                "{change:?}"
            );
        }
    }

    #[test]
    fn another_one_goes_on_and_puts_right_what_changed_meanwhile() {
        let mut plane = ControlPlane::new(&derived());
        plane.update(ObjectChange::Put(pod("a", Some("10.128.0.2"))));
        let mut published = plane.cluster().clone();
        let same = ControlPlane::resume(published.clone()).update(ObjectChange::Put(pod("a", Some("10.128.0.2"))));
        assert_eq!(same.len(), 1, "all is right: {same:?}");
        published.put(pod("b", Some("10.128.0.3")));
        let stale = EndpointSlice {
            namespace: "shop".into(),
            name: "gone-1".into(),
            service: Some("gone".into()),
            managed_by: Some(EndpointSlice::CONTROLLER.into()),
            ..EndpointSlice::default()
        };
        published.put(Object::EndpointSlice(Arc::new(stale)));
        let mut plane = ControlPlane::resume(published);
        plane.update(ObjectChange::Put(pod("a", Some("10.128.0.2"))));
        assert_eq!(endpoints(plane.cluster()), ["10.128.0.2", "10.128.0.3"]);
        assert_eq!(plane.cluster().slices.len(), 1);
    }
}

//! What is added to a running lab, beside single pods.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use sdn_cluster::control::Derived;
use sdn_cluster::model::{Kind, Object, ObjectKey, PodKey};

use super::Lab;
use crate::builder::{Added, Wanted, derive_on};
use crate::events::Progress;
use crate::pod::{Pod, parse_key};

impl Lab {
    /// Brings up what is in a file or directory of manifests.
    pub fn apply(&self, path: &Path) -> Result<Vec<Arc<Pod>>> {
        self.add(&Added::At(path))
    }

    /// Brings up what is in a text of manifests.
    pub fn apply_yaml(&self, text: &str) -> Result<Vec<Arc<Pod>>> {
        self.add(&Added::Text(text))
    }

    fn add(&self, added: &Added<'_>) -> Result<Vec<Arc<Pod>>> {
        let services = self.cluster().services.values().cloned().collect::<Vec<_>>();
        let Wanted { derived, notes } = derive_on(added, &self.nodes, services, &self.kubelet.ranges)?;
        notes.into_iter().for_each(|note| self.kubelet.events.progress(&Progress::Note(note)));
        derived.namespaces.iter().cloned().try_for_each(|namespace| self.put_namespace(namespace))?;
        self.publish_services(&derived)?;
        let pods = derived.pods.iter().map(|pod| self.admit((**pod).clone())).collect::<Result<Vec<_>>>()?;
        self.bring_up(&pods)?;
        Ok(pods)
    }

    /// Takes a Service away, with its endpoints.
    pub fn delete_service(&self, name: &str) -> Result<()> {
        let PodKey { namespace, name } = parse_key(name);
        self.kubelet.unpublish(ObjectKey { kind: Kind::Service, namespace, name })
    }

    /// Has a pod's readiness fail or succeed, as its probe would: it goes on answering either way.
    pub fn set_ready(&self, name: &str, ready: bool) -> Result<()> {
        let object = self.pod(name)?.update(|pod| pod.ready = ready);
        self.kubelet.publish(&Object::Pod(object, None))
    }

    pub(super) fn publish_services(&self, derived: &Derived) -> Result<()> {
        let services = derived.services.iter().cloned().map(Object::Service);
        let slices = derived.slices.iter().cloned().map(Object::EndpointSlice);
        services.chain(slices).try_for_each(|object| self.kubelet.publish(&object))
    }
}

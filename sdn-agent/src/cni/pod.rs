//! What the rest of the agent sees of a pod on this node, and what it has to do for one.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use sdn_cni::Attachment;

/// A pod attached to this node's network: the content of its lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalPod {
    /// The runtime's id of the container (of the pod's sandbox).
    pub container_id: String,
    /// The interface's name in the pod, `eth0`.
    pub ifname: String,
    /// Path of the pod's network namespace as the runtime gave it.
    pub netns: PathBuf,
    /// The pod's namespace; empty for a container that is no Kubernetes pod.
    pub namespace: String,
    /// The pod's name; empty for a container that is no Kubernetes pod.
    pub name: String,
    /// The pod's uid; empty if the runtime did not say it.
    pub uid: String,
    /// The pod's addresses, at most one a family, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// MAC of the pod's end of the veth, in transmission order.
    pub mac: [u8; 6],
    /// Name of the host end of the veth.
    pub host_interface: String,
    /// Index of the host end in the node's network namespace.
    pub host_ifindex: u32,
    /// Which life of these addresses this is (`sdn_common::incarnation` of the uid, or of the container id where there is none).
    pub incarnation: u32,
    /// MTU of both ends, in bytes.
    pub mtu: u32,
}

/// What the dataplane does for a pod. All three are idempotent, and are not called twice at the same time for one pod.
pub trait PodNetwork: Send + Sync + 'static {
    /// Connects the host end; returns when the kernel forwards for the pod. The host end may still be down: the plugin brings it up
    /// afterwards, so that no packet passes it unjudged.
    fn attach(&self, pod: Arc<LocalPod>) -> impl Future<Output = Result<(), AttachError>> + Send;

    /// Forgets the pod. Its interface is gone by then, as a rule.
    fn detach(&self, pod: Arc<LocalPod>) -> impl Future<Output = Result<(), AttachError>> + Send;

    /// Is the kernel's state for the pod what attach left?
    fn check(&self, pod: Arc<LocalPod>) -> impl Future<Output = Result<(), AttachError>> + Send;
}

/// The dataplane could not do something for a pod.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{operation} of {object}: {cause}")]
pub struct AttachError {
    /// What was tried, such as `attach` or `writing the endpoint`.
    pub operation: &'static str,
    /// On what, such as an interface or a map.
    pub object: String,
    /// The likely cause.
    pub cause: String,
    /// Will the same call work later without anything being repaired? The runtime is then told to try again.
    pub transient: bool,
}

// === impl LocalPod ===

impl LocalPod {
    /// The attachment this pod is known by to the runtime.
    pub fn attachment(&self) -> Attachment {
        Attachment { container_id: self.container_id.clone(), ifname: self.ifname.clone() }
    }
}

impl fmt::Display for LocalPod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() {
            write!(f, "container {}", self.container_id)
        } else {
            write!(f, "pod {}/{}", self.namespace, self.name)
        }
    }
}

//! Pods.

use super::{
    meta::{Kind, Labels},
    object::{self, FieldError},
    wire::{DnsSubdomain, Meta, PodSpec, PodStatus, or_default},
    workload::NodeSelector,
};
use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr, sync::Arc};

/// A pod, bound to a node or waiting for one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// metadata.namespace.
    pub namespace: Arc<str>,
    /// metadata.name.
    pub name: Arc<str>,
    /// metadata.uid; empty when the object carries none.
    pub uid: Arc<str>,
    /// metadata.labels.
    pub labels: Labels,
    /// Those of metadata.annotations that Culvert reads, see [`Pod::ANNOTATIONS`].
    pub annotations: Labels,
    /// spec.nodeName: the node it is bound to.
    pub node: Option<Arc<str>>,
    /// status.podIPs, else status.podIP: at most one of each family. With `host_network` these are the node's.
    pub addresses: Vec<IpAddr>,
    /// spec.hostNetwork: it lives in its node's network namespace.
    pub host_network: bool,
    /// spec.hostname: its own name, below `subdomain`, where that is a headless Service's.
    pub hostname: Option<Arc<str>>,
    /// spec.subdomain.
    pub subdomain: Option<Arc<str>>,
    /// status.phase.
    pub phase: PodPhase,
    /// The condition Ready of status.conditions.
    pub ready: bool,
    /// metadata.deletionTimestamp is set: it is about to end.
    pub terminating: bool,
    /// The declared ports of all containers, sidecars (init containers that always restart) included.
    pub ports: Vec<ContainerPort>,
}

/// What a pod is called: unique among those that exist at one time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodKey {
    /// metadata.namespace.
    pub namespace: Arc<str>,
    /// metadata.name.
    pub name: Arc<str>,
}

/// status.phase of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PodPhase {
    /// Accepted, its containers do not all run yet; also what a manifest without a status means.
    #[default]
    Pending,
    /// Bound to a node, its containers were made.
    Running,
    /// All containers ended well and stay so.
    Succeeded,
    /// All containers ended, at least one badly.
    Failed,
    /// The node could not be asked.
    Unknown,
}

/// One entry of a container's ports.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContainerPort {
    /// What Services and policies may call it by.
    pub name: Option<Arc<str>>,
    /// containerPort, 1 to 65535.
    pub port: u16,
    /// TCP unless declared.
    pub protocol: Protocol,
    /// The port of the node that leads to it. With hostNetwork it is `port`, as the API defaults it.
    pub host_port: Option<u16>,
}

/// The transport protocols that Kubernetes knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP, the default.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// What only the placing of a pod needs, and only until it has a node: kept beside the pod, not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// Which nodes will do.
    pub nodes: NodeSelector,
    /// The workload that made it (the ownerReference with controller: true).
    pub controller: Option<Owner>,
}

/// A reference to the object that controls another one of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its kind; `None` for kinds we do not model.
    pub kind: Option<Kind>,
    /// Its name.
    pub name: Arc<str>,
}

#[derive(Deserialize)]
struct Wire {
    metadata: Meta<DnsSubdomain>,
    spec: PodSpec,
    #[serde(default, deserialize_with = "or_default")]
    status: PodStatus,
}

// === impl Pod ===

impl Pod {
    /// Beginnings of the names of the annotations that are kept.
    pub const ANNOTATIONS: [&str; 3] =
        ["kubernetes.io/ingress-bandwidth", "kubernetes.io/egress-bandwidth", "k8s.v1.cni.cncf.io/"];

    pub(super) fn parse(json: &str, seed: &str) -> Result<(Self, Option<Scheduling>), FieldError> {
        let Wire { metadata, spec, status } = object::decode(json)?;
        let scheduling = Scheduling { nodes: spec.nodes(), controller: metadata.controller() };
        let pod = Self {
            namespace: metadata.namespace(),
            name: metadata.name(seed)?,
            uid: metadata.uid(),
            node: spec.node(),
            host_network: spec.host_network,
            hostname: spec.hostname.as_ref().map(|name| name.as_ref().clone()),
            subdomain: spec.subdomain.as_ref().map(|name| name.as_ref().clone()),
            terminating: metadata.deletion_timestamp.is_some(),
            ports: spec.ports(),
            addresses: status.addresses,
            phase: status.phase,
            ready: status.ready,
            labels: metadata.labels.0,
            annotations: metadata.annotations.0,
        };
        Ok((pod, Some(scheduling).filter(|scheduling| *scheduling != Scheduling::default())))
    }

    /// Its namespace and name.
    pub fn key(&self) -> PodKey {
        PodKey { namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// Whether it has ended for good: its address may belong to another pod already.
    pub fn ended(&self) -> bool {
        matches!(self.phase, PodPhase::Succeeded | PodPhase::Failed)
    }
}

// === impl PodKey ===

impl PodKey {
    /// The key of the pod `name` in `namespace`.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

// === impl PodPhase ===

impl fmt::Display for PodPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

// === impl Protocol ===

impl Protocol {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

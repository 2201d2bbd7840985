//! What all objects have: kind, name, labels, and the rules that the Kubernetes API has for them.

use serde::Deserialize;
use std::{collections::BTreeMap, fmt, sync::Arc};

/// Labels, annotations and node selectors.
pub type Labels = BTreeMap<String, String>;

/// The kinds of objects we have a model of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// v1 Node.
    Node,
    /// v1 Namespace.
    Namespace,
    /// v1 Pod.
    Pod,
    /// networking.k8s.io/v1 NetworkPolicy.
    NetworkPolicy,
    /// v1 Service.
    Service,
    /// discovery.k8s.io/v1 EndpointSlice.
    EndpointSlice,
    /// v1 Endpoints.
    Endpoints,
    /// apps/v1 Deployment.
    Deployment,
    /// apps/v1 ReplicaSet.
    ReplicaSet,
    /// v1 ReplicationController.
    ReplicationController,
    /// apps.openshift.io/v1 DeploymentConfig.
    DeploymentConfig,
    /// apps/v1 StatefulSet.
    StatefulSet,
    /// apps/v1 DaemonSet.
    DaemonSet,
    /// batch/v1 Job.
    Job,
    /// batch/v1 CronJob.
    CronJob,
    /// route.openshift.io/v1 Route.
    Route,
    /// networking.k8s.io/v1 Ingress.
    Ingress,
    /// networking.k8s.io/v1 IngressClass.
    IngressClass,
    /// v1 Secret.
    Secret,
}

/// What an object is called: unique among all objects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Kind,
    /// metadata.namespace; empty for kinds without one (Node, Namespace, IngressClass).
    pub namespace: Arc<str>,
    /// metadata.name.
    pub name: Arc<str>,
}

/// The namespace and name of an object whose kind is known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// metadata.namespace.
    pub namespace: Arc<str>,
    /// metadata.name.
    pub name: Arc<str>,
}

/// A moment as the API writes it, in UTC and whole seconds: `2026-01-31T08:15:00Z`. The order of the texts is that of
/// the moments.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Timestamp(Arc<str>);

// === impl Kind ===

impl Kind {
    /// All of them, in the order in which listings show them.
    pub const ALL: [Self; 19] = [
        Self::Node,
        Self::Namespace,
        Self::Pod,
        Self::NetworkPolicy,
        Self::Service,
        Self::EndpointSlice,
        Self::Endpoints,
        Self::Deployment,
        Self::ReplicaSet,
        Self::ReplicationController,
        Self::DeploymentConfig,
        Self::StatefulSet,
        Self::DaemonSet,
        Self::Job,
        Self::CronJob,
        Self::Route,
        Self::Ingress,
        Self::IngressClass,
        Self::Secret,
    ];

    /// What an agent reads: derived objects, no workloads.
    pub const DERIVED: [Self; 6] =
        [Self::Node, Self::Namespace, Self::Pod, Self::NetworkPolicy, Self::Service, Self::EndpointSlice];

    /// What leads to Services from outside: read by routers only, as Secrets are among it. Never saved.
    pub const ROUTES: [Self; 4] = [Self::Route, Self::Ingress, Self::IngressClass, Self::Secret];

    /// Whether its objects are part of a saved snapshot, and published: all that is derived.
    pub fn is_derived(self) -> bool {
        Self::DERIVED.contains(&self)
    }

    /// As the API writes it in `kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Node => "Node",
            Self::Namespace => "Namespace",
            Self::Pod => "Pod",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Endpoints => "Endpoints",
            Self::Deployment => "Deployment",
            Self::ReplicaSet => "ReplicaSet",
            Self::ReplicationController => "ReplicationController",
            Self::DeploymentConfig => "DeploymentConfig",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Job => "Job",
            Self::CronJob => "CronJob",
            Self::Route => "Route",
            Self::Ingress => "Ingress",
            Self::IngressClass => "IngressClass",
            Self::Secret => "Secret",
        }
    }

    /// Whether its objects live in namespaces.
    pub fn is_namespaced(self) -> bool {
        !matches!(self, Self::Node | Self::Namespace | Self::IngressClass)
    }

    /// The API groups it is or was served from, the present one first; "" is the core group.
    pub fn groups(self) -> &'static [&'static str] {
        match self {
            Self::Node | Self::Namespace | Self::Pod | Self::ReplicationController => &[""],
            Self::Service | Self::Endpoints | Self::Secret => &[""],
            Self::EndpointSlice => &["discovery.k8s.io"],
            Self::Deployment | Self::ReplicaSet | Self::DaemonSet => &["apps", "extensions"],
            Self::NetworkPolicy => &["networking.k8s.io", "extensions"],
            Self::StatefulSet => &["apps"],
            // OpenShift 3 served it from the core group too.
            Self::DeploymentConfig => &["apps.openshift.io", ""],
            Self::Job | Self::CronJob => &["batch"],
            // OpenShift 3 served it from the core group too.
            Self::Route => &["route.openshift.io", ""],
            Self::Ingress | Self::IngressClass => &["networking.k8s.io"],
        }
    }

    /// The kind that an object's `apiVersion` and `kind` name, if we model it. All versions of a group are taken: the
    /// fields we read have never changed between them.
    pub fn of(api_version: &str, kind: &str) -> Option<Self> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        Self::ALL.into_iter().find(|known| known.as_str() == kind && known.groups().contains(&group))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl ObjectKey ===

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

// === impl ObjectName ===

impl ObjectName {
    /// The name of `name` in `namespace`.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

// === impl Timestamp ===

impl TryFrom<String> for Timestamp {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        const FORM: &[u8; 20] = b"0000-00-00T00:00:00Z";
        let fits = |(byte, form): (u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { byte == *form };
        if text.len() != FORM.len() || !text.bytes().zip(FORM).all(fits) {
            return Err(format!("{text:?} is not a time like 2026-01-31T08:15:00Z"));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Five characters made from `seed`, as Kubernetes ends generated names: the same ones every time. Its alphabet has no
/// vowels, so that no words come out.
pub(crate) fn suffix(seed: &str) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut hash = fnv1a(seed.as_bytes());
    (0..5)
        .map(|_| {
            let letter = ALPHABET[(hash % ALPHABET.len() as u64) as usize];
            hash /= ALPHABET.len() as u64;
            char::from(letter)
        })
        .collect()
}

/// FNV-1a of 64 bits, finished as in SplitMix64 so that similar seeds end differently: stable across versions and
/// machines, which the standard library's hasher does not promise.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

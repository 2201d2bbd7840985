//! Services: a name and addresses that stand for pods.

mod wire;

use super::{
    meta::Labels,
    object::{self, FieldError},
    pod::Protocol,
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr, sync::Arc};

pub(super) use wire::{EndpointAddress, fault};

/// A Service. What the control plane assigns (addresses, ports of nodes) is empty until it did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// metadata.namespace.
    pub namespace: Arc<str>,
    /// metadata.name.
    pub name: Arc<str>,
    /// metadata.uid; empty when the object carries none.
    pub uid: Arc<str>,
    /// metadata.labels.
    pub labels: Labels,
    /// The annotation [`Service::TOPOLOGY_ANNOTATION`], or the older [`Service::TOPOLOGY_HINTS_ANNOTATION`].
    pub topology_mode: Option<Arc<str>>,
    /// The annotation [`Service::IDLED_ANNOTATION`] is there: its pods were taken away until somebody asks for them.
    pub idled: bool,
    /// spec.type.
    pub service_type: ServiceType,
    /// spec.clusterIP is None: no address of its own, its name leads to the pods'.
    pub headless: bool,
    /// spec.clusterIPs, the primary first: at most one of each family. Empty when headless, when ExternalName, and when
    /// not assigned yet.
    pub cluster_ips: Vec<IpAddr>,
    /// spec.ipFamilies, the primary first: of one kind with `cluster_ips` as far as those go. Empty when not decided.
    pub families: Vec<IpFamily>,
    /// spec.ipFamilyPolicy.
    pub family_policy: Option<FamilyPolicy>,
    /// spec.ports. Empty only when headless or ExternalName.
    pub ports: Vec<ServicePort>,
    /// spec.selector; empty: its endpoints are given, not chosen.
    pub selector: Labels,
    /// spec.sessionAffinity ClientIP: the seconds for which a client stays with its endpoint after its last new
    /// connection, 1 to 86400; `None` for no affinity.
    pub affinity: Option<u32>,
    /// spec.externalTrafficPolicy; Cluster for Services that nobody outside can reach.
    pub external_policy: TrafficPolicy,
    /// spec.internalTrafficPolicy.
    pub internal_policy: TrafficPolicy,
    /// spec.externalIPs.
    pub external_ips: Vec<IpAddr>,
    /// spec.loadBalancerSourceRanges, host bits cut; empty: everybody may come.
    pub source_ranges: Vec<IpNet>,
    /// spec.loadBalancerClass: whose load balancer it wants; `None` for the cluster's own.
    pub load_balancer_class: Option<Arc<str>>,
    /// spec.allocateLoadBalancerNodePorts; true unless it says otherwise.
    pub allocate_node_ports: bool,
    /// spec.healthCheckNodePort: where each node tells whether it has local endpoints.
    pub health_check_node_port: Option<u16>,
    /// spec.publishNotReadyAddresses: pods that are not ready count as ready.
    pub publish_not_ready: bool,
    /// spec.trafficDistribution.
    pub distribution: Option<TrafficDistribution>,
    /// spec.externalName: the name that an ExternalName stands for.
    pub external_name: Option<Arc<str>>,
    /// status.loadBalancer.ingress, those with an address: host names are for others to resolve.
    pub ingress: Vec<Ingress>,
}

/// What a Service is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// metadata.namespace.
    pub namespace: Arc<str>,
    /// metadata.name.
    pub name: Arc<str>,
}

/// spec.type of a Service. Each but ExternalName has what those before it have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ServiceType {
    /// Reached from inside the cluster by its own address.
    #[default]
    ClusterIP,
    /// And by a port of every node.
    NodePort,
    /// And by addresses from outside.
    LoadBalancer,
    /// An alias in DNS, nothing else.
    ExternalName,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum IpFamily {
    /// IPv4.
    #[serde(rename = "IPv4")]
    V4,
    /// IPv6.
    #[serde(rename = "IPv6")]
    V6,
}

/// spec.ipFamilyPolicy of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FamilyPolicy {
    /// One family.
    SingleStack,
    /// Both where the cluster has both.
    PreferDualStack,
    /// Both, or it is an error.
    RequireDualStack,
}

/// One entry of a Service's ports.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServicePort {
    /// Its name; every port has one where there are several.
    pub name: Option<Arc<str>>,
    /// TCP unless declared.
    pub protocol: Protocol,
    /// The port of the Service's addresses, 1 to 65535.
    pub port: u16,
    /// The port of the pods.
    pub target: TargetPort,
    /// The port of the nodes; `None` when it has none (yet).
    pub node_port: Option<u16>,
    /// What is spoken, for those who care.
    pub app_protocol: Option<Arc<str>>,
}

/// Where a port of a Service leads to at a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TargetPort {
    /// To this port.
    Number(u16),
    /// To the container port of this name and the same protocol, a number of its own for each pod.
    Name(Arc<str>),
}

/// Which endpoints traffic may go to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TrafficPolicy {
    /// All.
    #[default]
    Cluster,
    /// Those of the node where the traffic enters.
    Local,
}

/// spec.trafficDistribution of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TrafficDistribution {
    /// The older name of PreferSameZone.
    PreferClose,
    /// Endpoints of the client's zone where there are any.
    PreferSameZone,
    /// Endpoints of the client's node where there are any, else of its zone.
    PreferSameNode,
}

/// One entry of status.loadBalancer.ingress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ingress {
    /// The address.
    pub address: IpAddr,
    /// How traffic comes from there.
    pub mode: IpMode,
}

/// ipMode of a load balancer's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum IpMode {
    /// Packets come to nodes with the address as their destination: nodes serve it themselves.
    #[default]
    #[serde(rename = "VIP")]
    Vip,
    /// The load balancer ends connections and makes its own to pods or node ports: nodes must not serve the address.
    Proxy,
}

// === impl Service ===

impl Service {
    /// The label that hands a Service to another proxy than the cluster's.
    pub const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
    /// The annotation that asks for topology hints: Auto, or Disabled.
    pub const TOPOLOGY_ANNOTATION: &str = "service.kubernetes.io/topology-mode";
    /// What the annotation was called before Kubernetes 1.27.
    pub const TOPOLOGY_HINTS_ANNOTATION: &str = "service.kubernetes.io/topology-aware-hints";
    /// The annotation that says since when a Service sleeps.
    pub const IDLED_ANNOTATION: &str = "idling.alpha.openshift.io/idled-at";
    /// Seconds of affinity when sessionAffinityConfig has none.
    pub const DEFAULT_AFFINITY: u32 = 10_800;
    /// The most seconds of affinity.
    pub const MAX_AFFINITY: u32 = 86_400;

    pub(super) fn parse(json: &str, seed: &str) -> Result<Self, FieldError> {
        let wire: wire::Wire = object::decode(json)?;
        wire.model(seed)
    }

    /// Its namespace and name.
    pub fn key(&self) -> ServiceKey {
        ServiceKey { namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// Whether a control plane gives it addresses in the service networks.
    pub fn has_cluster_ips(&self) -> bool {
        !self.headless && self.service_type != ServiceType::ExternalName
    }

    /// Whether each of its ports is also one of the nodes'.
    pub fn has_node_ports(&self) -> bool {
        match self.service_type {
            ServiceType::NodePort => true,
            ServiceType::LoadBalancer => self.allocate_node_ports,
            ServiceType::ClusterIP | ServiceType::ExternalName => false,
        }
    }

    /// Whether nodes tell on a port of their own whether they have local endpoints.
    pub fn has_health_check(&self) -> bool {
        self.service_type == ServiceType::LoadBalancer && self.external_policy == TrafficPolicy::Local
    }

    /// The proxy that is to serve it; `None` for the cluster's own.
    pub fn proxy_name(&self) -> Option<&str> {
        self.labels.get(Self::PROXY_NAME_LABEL).map(String::as_str)
    }

    /// Whether its selector, if it has one, chooses a pod with these labels.
    pub fn selects(&self, labels: &Labels) -> bool {
        !self.selector.is_empty() && self.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

// === impl ServiceKey ===

impl ServiceKey {
    /// The key of the Service `name` in `namespace`.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

// === impl IpFamily ===

impl IpFamily {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }
}

impl fmt::Display for IpFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

#[cfg(test)]
mod tests;

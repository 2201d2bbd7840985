//! Kubernetes objects as Culvert needs them: the fields we use, checked while they are read. Whoever holds one of these
//! types holds valid names, addresses and ports.

mod endpoints;
pub mod ingress;
pub mod meta;
mod namespace;
mod node;
mod object;
mod pod;
mod policy;
mod render;
pub mod route;
pub mod secret;
mod selector;
mod service;
mod wire;
mod workload;

pub use endpoints::{AddressType, Endpoint, EndpointPort, EndpointSlice, Endpoints, Hints, SliceKey};
pub use meta::{Kind, Labels, ObjectKey, ObjectName, Timestamp};
pub use namespace::Namespace;
pub use node::Node;
pub use object::{FieldError, Object};
pub(crate) use object::{decode, message};
pub use pod::{ContainerPort, Owner, Pod, PodKey, PodPhase, Protocol, Scheduling};
pub use policy::{Invalid, IpBlock, NetworkPolicy, Peer, PolicyKey, PolicyPort, PortMatch, Rule, Scope};
pub use route::Route;
pub use secret::Secret;
pub use selector::{LabelExpression, LabelOperator, LabelSelector};
pub use service::{
    FamilyPolicy, Ingress, IpFamily, IpMode, Service, ServiceKey, ServicePort, ServiceType, TargetPort,
    TrafficDistribution, TrafficPolicy,
};
pub use workload::{NodeSelector, PodTemplate, Requirement, RequirementOperator, Workload};

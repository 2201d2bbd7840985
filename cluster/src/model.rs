//! Kubernetes objects as Culvert needs them: the fields we use, checked while they are read. Whoever holds one of these
//! types holds valid names, addresses and ports.

pub mod meta;
mod namespace;
mod node;
mod object;
mod pod;
mod render;
mod wire;
mod workload;

pub use meta::{Kind, Labels, ObjectKey};
pub use namespace::Namespace;
pub use node::Node;
pub use object::{FieldError, Object};
pub(crate) use object::{decode, message};
pub use pod::{ContainerPort, Owner, Pod, PodKey, PodPhase, Protocol, Scheduling};
pub use workload::{NodeSelector, PodTemplate, Requirement, RequirementOperator, Workload};

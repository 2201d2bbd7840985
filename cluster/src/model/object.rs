//! Any object of a kind we model, and how one is read.

use super::{Kind, Namespace, Node, ObjectKey, Pod, Scheduling, Workload};
use std::sync::Arc;

/// An object of any of the kinds we model. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A Node.
    Node(Arc<Node>),
    /// A Namespace.
    Namespace(Arc<Namespace>),
    /// A Pod, with what matters until it is placed.
    Pod(Arc<Pod>, Option<Arc<Scheduling>>),
    /// A workload of any kind.
    Workload(Arc<Workload>),
}

/// Why an object was rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The line it was found in, counted from 1 at the object's first; `None` when the fault has no place of its own (a field that is missing).
    pub line: Option<usize>,
    /// The path of the field, like `spec.containers[0].ports[1].containerPort`; empty for the object as a whole.
    pub field: String,
    /// What is wrong.
    pub message: String,
}

impl Object {
    /// Its kind, namespace and name.
    pub fn key(&self) -> ObjectKey {
        let none: Arc<str> = Arc::from("");
        match self {
            Self::Node(node) => ObjectKey { kind: Kind::Node, namespace: none, name: node.name.clone() },
            Self::Namespace(namespace) => {
                ObjectKey { kind: Kind::Namespace, namespace: none, name: namespace.name.clone() }
            }
            Self::Pod(pod, _) => {
                ObjectKey { kind: Kind::Pod, namespace: pod.namespace.clone(), name: pod.name.clone() }
            }
            Self::Workload(workload) => {
                ObjectKey { kind: workload.kind, namespace: workload.namespace.clone(), name: workload.name.clone() }
            }
        }
    }
}

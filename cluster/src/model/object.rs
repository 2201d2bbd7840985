//! Any object of a kind we model, and how one is read.

use super::{
    EndpointSlice, Endpoints, Kind, Namespace, NetworkPolicy, Node, ObjectKey, ObjectName, Pod, Route, Scheduling,
    Secret, Service, Workload,
    ingress::{Ingress, IngressClass},
};
use serde::Deserialize;
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
    /// A NetworkPolicy.
    NetworkPolicy(Arc<NetworkPolicy>),
    /// A Service.
    Service(Arc<Service>),
    /// An EndpointSlice.
    EndpointSlice(Arc<EndpointSlice>),
    /// Endpoints, of which control makes slices.
    Endpoints(Arc<Endpoints>),
    /// A workload of any kind.
    Workload(Arc<Workload>),
    /// A Route.
    Route(Arc<Route>),
    /// An Ingress.
    Ingress(Arc<Ingress>),
    /// An IngressClass.
    IngressClass(Arc<IngressClass>),
    /// A Secret.
    Secret(Arc<Secret>),
}

/// What is wrong with a field of an object: why the object was rejected, or part of it is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The line it was found in, counted from 1 at the object's first; `None` when the fault has no place of its own (a
    /// field that is missing).
    pub line: Option<usize>,
    /// The path of the field, like `spec.containers[0].ports[1].containerPort`; empty for the object as a whole.
    pub field: String,
    /// What is wrong.
    pub message: String,
}

impl Object {
    /// Reads the object of the kind `kind` that `json` is. Unknown fields are ignored, as the API does; what is known
    /// must fit. An object that has only a generateName gets a name made from `seed`.
    pub fn parse(kind: Kind, json: &str, seed: &str) -> Result<Self, FieldError> {
        match kind {
            Kind::Node => Node::parse(json, seed).map(|node| Self::Node(node.into())),
            Kind::Namespace => Namespace::parse(json, seed).map(|namespace| Self::Namespace(namespace.into())),
            Kind::Pod => Pod::parse(json, seed).map(|(pod, rest)| Self::Pod(pod.into(), rest.map(Arc::new))),
            Kind::NetworkPolicy => {
                NetworkPolicy::parse(json, seed).map(|(policy, _)| Self::NetworkPolicy(policy.into()))
            }
            Kind::Service => Service::parse(json, seed).map(|service| Self::Service(service.into())),
            Kind::EndpointSlice => EndpointSlice::parse(json, seed).map(|slice| Self::EndpointSlice(slice.into())),
            Kind::Endpoints => Endpoints::parse(json, seed).map(|endpoints| Self::Endpoints(endpoints.into())),
            Kind::Route => Route::parse(json, seed).map(|route| Self::Route(route.into())),
            Kind::Ingress => Ingress::parse(json, seed).map(|ingress| Self::Ingress(ingress.into())),
            Kind::IngressClass => IngressClass::parse(json, seed).map(|class| Self::IngressClass(class.into())),
            Kind::Secret => Secret::parse(json, seed).map(|secret| Self::Secret(secret.into())),
            _ => Workload::parse(kind, json, seed).map(|workload| Self::Workload(workload.into())),
        }
    }

    /// What is wrong with an object that was taken all the same, with the lines of `json`, which it was read from. Only
    /// a NetworkPolicy can be partly wrong.
    pub fn faults(&self, json: &str) -> Vec<FieldError> {
        match self {
            // Invalid policies are rare: reading one again costs less than keeping lines for all.
            Self::NetworkPolicy(policy) if policy.invalid.is_some() => {
                NetworkPolicy::parse(json, "").map_or_else(|error| vec![error], |(_, faults)| faults)
            }
            _ => Vec::new(),
        }
    }

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
            Self::NetworkPolicy(policy) => {
                ObjectKey { kind: Kind::NetworkPolicy, namespace: policy.namespace.clone(), name: policy.name.clone() }
            }
            Self::Service(service) => {
                ObjectKey { kind: Kind::Service, namespace: service.namespace.clone(), name: service.name.clone() }
            }
            Self::EndpointSlice(slice) => {
                ObjectKey { kind: Kind::EndpointSlice, namespace: slice.namespace.clone(), name: slice.name.clone() }
            }
            Self::Endpoints(endpoints) => ObjectKey {
                kind: Kind::Endpoints,
                namespace: endpoints.namespace.clone(),
                name: endpoints.name.clone(),
            },
            Self::Workload(workload) => {
                ObjectKey { kind: workload.kind, namespace: workload.namespace.clone(), name: workload.name.clone() }
            }
            Self::Route(route) => named(Kind::Route, route.key()),
            Self::Ingress(ingress) => named(Kind::Ingress, ingress.key()),
            Self::IngressClass(class) => {
                ObjectKey { kind: Kind::IngressClass, namespace: none, name: class.name.clone() }
            }
            Self::Secret(secret) => named(Kind::Secret, secret.key()),
        }
    }
}

fn named(kind: Kind, ObjectName { namespace, name }: ObjectName) -> ObjectKey {
    ObjectKey { kind, namespace, name }
}

impl FieldError {
    /// The same as a fault of what this was a part of: the part was the field `field` and began `lines` lines later.
    pub(super) fn within(self, field: &str, lines: usize) -> Self {
        let separator = if self.field.is_empty() || self.field.starts_with('[') { "" } else { "." };
        Self {
            line: self.line.map(|line| line + lines),
            field: format!("{field}{separator}{}", self.field),
            message: self.message,
        }
    }
}

/// Reads `json` as a `T`, with the line and path of what does not fit.
pub(crate) fn decode<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, FieldError> {
    let mut decoder = serde_json::Deserializer::from_str(json);
    serde_path_to_error::deserialize(&mut decoder).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        FieldError {
            line: (error.line() > 0).then_some(error.line()),
            field: if path == "." { String::new() } else { path },
            message: message(&error),
        }
    })
}

/// The message of an error of serde_json without the place, which we say in the file's own lines.
pub(crate) fn message(error: &serde_json::Error) -> String {
    let mut text = error.to_string();
    if let Some(end) = text.rfind(" at line ").filter(|_| error.line() > 0) {
        text.truncate(end);
    }
    let is_bare = ["invalid type: boolean", "invalid type: integer", "invalid type: floating point"];
    if text.ends_with("a string") && is_bare.iter().any(|begin| text.starts_with(begin)) {
        text += ": put it in quotes";
    }
    text
}

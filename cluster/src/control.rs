//! What a control plane would do, as pure functions: objects in, objects out.
//!
//! [`derive()`] is what happens once, in order: Services get their addresses, nodes get host subnets, workloads become
//! pods, pods get nodes, namespaces that only others name are made. The same objects give the same result every time,
//! names and UIDs included. A [`ControlPlane`] goes on from there: pods that get addresses become endpoints.

mod addresses;
pub mod endpoints;
mod place;
mod plane;
pub mod publish;
pub mod services;
mod subnets;
mod workloads;

use crate::{
    error::Error,
    model::{
        EndpointSlice, Kind, Namespace, NetworkPolicy, Node, Object, ObjectKey, Pod, Scheduling, Service, Workload,
        meta,
    },
    network::ClusterNetworks,
};
use services::{DerivedServices, ServiceRanges};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

pub use addresses::{assign_addresses, reserved_hosts};
pub use plane::ControlPlane;
pub use subnets::assign_subnets;

/// More pods are refused: someone has typed a zero too many.
pub const MAX_PODS: usize = 100_000;

/// What [`derive()`] made: complete, consistent objects, as agents read them.
#[derive(Clone, Debug, Default)]
pub struct Derived {
    /// The nodes, each with its host subnets.
    pub nodes: Vec<Arc<Node>>,
    /// The namespaces, those included that only pods, policies or Services named.
    pub namespaces: Vec<Arc<Namespace>>,
    /// The pods, placed, as if they had just been made: Pending, and without addresses (see [`assign_addresses`]).
    pub pods: Vec<Arc<Pod>>,
    /// The policies, as they are.
    pub policies: Vec<Arc<NetworkPolicy>>,
    /// The Services, with all that is assigned to them.
    pub services: Vec<Arc<Service>>,
    /// The EndpointSlices that are given. Those of Services with a selector come and go with their pods: see
    /// [`ControlPlane`] and [`endpoints::derive_slices`].
    pub slices: Vec<Arc<EndpointSlice>>,
    /// What a person should know: workloads that are not run, pods that fit on no node.
    pub notes: Vec<Note>,
}

/// Something a person should know about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The object.
    pub object: ObjectKey,
    /// What about it.
    pub message: String,
}

/// A pod that has no node yet, unless it named one itself.
#[derive(Clone, Debug)]
struct NewPod {
    pod: Pod,
    scheduling: Scheduling,
    /// The workload that made it; its pods are spread over the nodes.
    workload: Option<ObjectKey>,
}

/// The objects, by what is done with them.
#[derive(Default)]
struct Input {
    nodes: Vec<Arc<Node>>,
    namespaces: Vec<Arc<Namespace>>,
    pods: Vec<(Arc<Pod>, Scheduling)>,
    workloads: Vec<Arc<Workload>>,
    policies: Vec<Arc<NetworkPolicy>>,
}

/// Makes of the objects of some manifests what a control plane would make of them. `nodes` are used when there are none
/// among the objects.
pub fn derive(
    objects: impl IntoIterator<Item = Object>,
    nodes: Vec<Node>,
    networks: &ClusterNetworks,
    ranges: &ServiceRanges,
) -> Result<Derived, Error> {
    let objects: Vec<Object> = objects.into_iter().collect();
    let DerivedServices { services, slices, mut notes } = services::derive_services(&objects, ranges);
    let input = Input::sort(objects, nodes);
    let mut nodes: Vec<_> = input.nodes.into_iter().map(with_node_uid).collect();
    subnets::assign_subnets(&mut nodes, networks)?;
    let new_pods = workloads::expand(&input.workloads, &input.pods, &nodes, &mut notes)?;
    let pods = place::place(new_pods, &nodes, &mut notes)?;
    let pods: Vec<_> = pods.into_iter().map(Arc::new).collect();
    let named = pods.iter().map(|pod| &pod.namespace);
    let named = named.chain(input.policies.iter().map(|policy| &policy.namespace));
    let named = named.chain(services.iter().map(|service| &service.namespace));
    let namespaces = complete_namespaces(input.namespaces, named.collect());
    Ok(Derived { nodes, namespaces, pods, policies: input.policies, services, slices, notes })
}

/// `count` nodes called node-1, node-2 …, without addresses and host subnets.
pub fn nodes(count: usize) -> Vec<Node> {
    (1..=count).map(|n| Node { name: format!("node-{n}").into(), ..Node::default() }).collect()
}

/// A UID like those of the API, made from what the object is called and from `salt`, which tells those apart that bore
/// one name at different times: the same one every time.
pub fn uid(object: &ObjectKey, salt: &str) -> Arc<str> {
    let text = format!("{object}#{salt}");
    let (high, low) = (meta::fnv1a(text.as_bytes()), meta::fnv1a(format!("{text}#").as_bytes()));
    // The form of a UUID of version 8 (RFC 9562): bits of one's own choice.
    let bits = (u128::from(high) << 64 | u128::from(low)) & !(0xf << 76) & !(0b11 << 62) | 0x8 << 76 | 0b10 << 62;
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]).into()
}

fn with_node_uid(node: Arc<Node>) -> Arc<Node> {
    if !node.uid.is_empty() {
        return node;
    }
    let uid = uid(&Object::Node(node.clone()).key(), "");
    Arc::new(Node { uid, ..Node::clone(&node) })
}

/// Namespaces as the API has them: each labelled with its name, and one for every object that is in one.
fn complete_namespaces(declared: Vec<Arc<Namespace>>, named: BTreeSet<&Arc<str>>) -> Vec<Arc<Namespace>> {
    let mut namespaces: BTreeMap<Arc<str>, Namespace> =
        declared.into_iter().map(|namespace| (namespace.name.clone(), Arc::unwrap_or_clone(namespace))).collect();
    for name in named {
        let new = || Namespace { name: name.clone(), ..Namespace::default() };
        namespaces.entry(name.clone()).or_insert_with(new);
    }
    let complete = |mut namespace: Namespace| {
        namespace.labels.insert(Namespace::NAME_LABEL.to_owned(), namespace.name.to_string());
        if namespace.uid.is_empty() {
            namespace.uid = uid(&Object::Namespace(namespace.clone().into()).key(), "");
        }
        Arc::new(namespace)
    };
    namespaces.into_values().map(complete).collect()
}

// === impl Input ===

impl Input {
    fn sort(objects: impl IntoIterator<Item = Object>, nodes: Vec<Node>) -> Self {
        let mut input = Self::default();
        for object in objects {
            match object {
                Object::Node(node) => input.nodes.push(node),
                Object::Namespace(namespace) => input.namespaces.push(namespace),
                Object::Pod(pod, scheduling) => {
                    input.pods.push((pod, scheduling.map(Arc::unwrap_or_clone).unwrap_or_default()));
                }
                Object::NetworkPolicy(policy) => input.policies.push(policy),
                Object::Workload(workload) => input.workloads.push(workload),
                // Completed by [`services`].
                Object::Service(_) | Object::EndpointSlice(_) | Object::Endpoints(_) => {}
                // Nothing is derived of what leads here from outside.
                Object::Route(_) | Object::Ingress(_) | Object::IngressClass(_) | Object::Secret(_) => {}
            }
        }
        if input.nodes.is_empty() {
            input.nodes = nodes.into_iter().map(Arc::new).collect();
        }
        input
    }
}

// === impl NewPod ===

impl NewPod {
    fn key(&self) -> ObjectKey {
        ObjectKey { kind: Kind::Pod, namespace: self.pod.namespace.clone(), name: self.pod.name.clone() }
    }
}

// === impl Note ===

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.message)
    }
}

#[cfg(test)]
mod tests;

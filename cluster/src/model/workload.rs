//! Workloads: objects from which a control plane makes pods. Only [`crate::control`] uses them; agents never see them.

use super::{
    meta::{Kind, Labels},
    pod::{ContainerPort, Owner},
};
use std::sync::Arc;

/// A Deployment, ReplicaSet, ReplicationController, DeploymentConfig, StatefulSet, DaemonSet, Job or CronJob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Which of them.
    pub kind: Kind,
    /// metadata.namespace.
    pub namespace: Arc<str>,
    /// metadata.name.
    pub name: Arc<str>,
    /// metadata.uid; empty when the object carries none.
    pub uid: Arc<str>,
    /// How many pods it wants: spec.replicas, for a Job min(parallelism, completions). A DaemonSet has one a node instead.
    pub replicas: u32,
    /// The number of a StatefulSet's first pod (spec.ordinals.start).
    pub first_ordinal: u32,
    /// The workload that made this one (the ownerReference with controller: true).
    pub controller: Option<Owner>,
    /// What its pods are like.
    pub template: PodTemplate,
}

/// spec.template of a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodTemplate {
    /// metadata.labels.
    pub labels: Labels,
    /// Those of metadata.annotations that Culvert reads, see [`super::Pod::ANNOTATIONS`].
    pub annotations: Labels,
    /// spec.nodeName: all its pods on this node.
    pub node: Option<Arc<str>>,
    /// Which nodes will do.
    pub nodes: NodeSelector,
    /// spec.hostNetwork.
    pub host_network: bool,
    /// The declared ports, as in [`super::Pod::ports`].
    pub ports: Vec<ContainerPort>,
}

/// Which nodes a pod may be placed on: spec.nodeSelector and the required part of spec.affinity.nodeAffinity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSelector {
    /// Labels that the node must have, all of them.
    pub labels: Labels,
    /// Alternatives, of which one must hold; none given: every node will do.
    pub terms: Vec<Vec<Requirement>>,
}

/// One expression of a node selector term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label, or metadata.name for an expression of matchFields.
    pub key: String,
    /// How it is compared.
    pub operator: RequirementOperator,
    /// With what.
    pub values: Vec<String>,
}

/// How a [`Requirement`] compares a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum RequirementOperator {
    /// It is one of the values.
    In,
    /// It is absent or none of the values.
    NotIn,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
    /// It is a number greater than the value.
    Gt,
    /// It is a number less than the value.
    Lt,
}

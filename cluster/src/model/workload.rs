//! Workloads: objects from which a control plane makes pods. Only [`crate::control`] uses them; agents never see them.

use super::{
    meta::{Kind, Labels},
    object::{self, FieldError},
    pod::{ContainerPort, Owner},
    wire::{DnsLabel, DnsSubdomain, Meta, Template, or_default, or_none},
};
use serde::Deserialize;
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
    /// How many pods it wants: spec.replicas, for a Job min(parallelism, completions). A DaemonSet has one a node
    /// instead.
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
    /// spec.hostname.
    pub hostname: Option<Arc<str>>,
    /// spec.subdomain; for a StatefulSet its spec.serviceName, as its controller has it.
    pub subdomain: Option<Arc<str>>,
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

#[derive(Deserialize)]
struct Wire {
    metadata: Meta<DnsSubdomain>,
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    replicas: Option<u32>,
    parallelism: Option<u32>,
    completions: Option<u32>,
    #[serde(default, deserialize_with = "or_default")]
    suspend: bool,
    #[serde(default, deserialize_with = "or_default")]
    ordinals: Ordinals,
    #[serde(default, deserialize_with = "or_none")]
    service_name: Option<DnsLabel>,
    template: Template,
}

#[derive(Default, Deserialize)]
struct Ordinals {
    #[serde(default, deserialize_with = "or_default")]
    start: u32,
}

/// A CronJob makes Jobs when its time comes; nothing of its spec is used.
#[derive(Deserialize)]
struct CronJobWire {
    metadata: Meta<DnsSubdomain>,
}

// === impl Workload ===

impl Workload {
    pub(super) fn parse(kind: Kind, json: &str, seed: &str) -> Result<Self, FieldError> {
        if kind == Kind::CronJob {
            let CronJobWire { metadata } = object::decode(json)?;
            return Self::new(kind, &metadata, seed);
        }
        let Wire { metadata, spec } = object::decode(json)?;
        let workload = Self::new(kind, &metadata, seed)?;
        let template = PodTemplate::from(spec.template);
        let subdomain = match spec.service_name {
            Some(name) if kind == Kind::StatefulSet => Some(name.as_ref().clone()),
            _ => template.subdomain.clone(),
        };
        Ok(Self {
            replicas: match kind {
                Kind::Job if spec.suspend => 0,
                Kind::Job => {
                    let parallelism = spec.parallelism.unwrap_or(1);
                    parallelism.min(spec.completions.unwrap_or(parallelism))
                }
                _ => spec.replicas.unwrap_or(1),
            },
            first_ordinal: spec.ordinals.start,
            template: PodTemplate { subdomain, ..template },
            ..workload
        })
    }

    fn new(kind: Kind, metadata: &Meta<DnsSubdomain>, seed: &str) -> Result<Self, FieldError> {
        Ok(Self {
            kind,
            namespace: metadata.namespace(),
            name: metadata.name(seed)?,
            uid: metadata.uid(),
            replicas: 0,
            first_ordinal: 0,
            controller: metadata.controller(),
            template: PodTemplate::default(),
        })
    }
}

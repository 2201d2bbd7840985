//! The partial shapes of Kubernetes objects as they are written. Every check that concerns one field is made while that
//! field is read, so that the error has its line and path.

mod mapping;
mod text;

use super::{
    ingress::{Ingress, IngressClass},
    meta::{Kind, Labels, Timestamp},
    object::FieldError,
    pod::{ContainerPort, Owner, Pod, PodPhase, Protocol},
    route::Route,
    service::Service,
    workload::{NodeSelector, PodTemplate, Requirement, RequirementOperator},
};
pub(super) use mapping::Mapping;
use serde::{Deserialize, Deserializer};
use std::{collections::BTreeMap, net::IpAddr, num::NonZeroU16, sync::Arc};
pub(super) use text::or_none;
pub(super) use text::{Address, DnsLabel, DnsSubdomain, LabelKey, LabelValue, PortName, Subnet};

/// An absent or null field is the default, as for the API.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(decoder: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(decoder)?.unwrap_or_default())
}

/// Beginnings of the names of the annotations of Services and Endpoints that are read.
const SERVICES: [&str; 3] =
    ["service.kubernetes.io/topology-", "control-plane.alpha.kubernetes.io/leader", Service::IDLED_ANNOTATION];

/// Those of Ingresses and their classes, beside those of Routes.
const INGRESSES: [&str; 2] = [Ingress::CLASS_ANNOTATION, IngressClass::DEFAULT_ANNOTATION];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Meta<N> {
    pub name: Option<N>,
    pub generate_name: Option<String>,
    #[serde(default, deserialize_with = "text::or_none")]
    pub namespace: Option<DnsLabel>,
    pub uid: Option<Arc<str>>,
    #[serde(default, deserialize_with = "text::or_none")]
    pub creation_timestamp: Option<Timestamp>,
    pub deletion_timestamp: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub labels: LabelMap,
    #[serde(default, deserialize_with = "or_default")]
    pub annotations: Annotations,
    #[serde(default, deserialize_with = "or_default")]
    owner_references: Vec<OwnerReference>,
}

#[derive(Default, Deserialize)]
#[serde(from = "BTreeMap<LabelKey, LabelValue>")]
pub(super) struct LabelMap(pub Labels);

/// Only those that Culvert reads, of an object of any kind.
#[derive(Default, Deserialize)]
#[serde(from = "BTreeMap<String, String>")]
pub(super) struct Annotations(pub Labels);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OwnerReference {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    name: Arc<str>,
    controller: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodSpec {
    pub node_name: Option<Arc<str>>,
    #[serde(default, deserialize_with = "or_default")]
    node_selector: LabelMap,
    #[serde(default, deserialize_with = "or_default")]
    affinity: Affinity,
    #[serde(default, deserialize_with = "or_default")]
    pub host_network: bool,
    #[serde(default, deserialize_with = "text::or_none")]
    pub hostname: Option<DnsLabel>,
    #[serde(default, deserialize_with = "text::or_none")]
    pub subdomain: Option<DnsLabel>,
    containers: Containers,
    #[serde(default, deserialize_with = "or_default")]
    init_containers: Vec<InitContainer>,
}

/// The ports of all containers; there is at least one container.
#[derive(Default, Deserialize)]
#[serde(try_from = "Vec<Container>")]
struct Containers(Vec<Port>);

#[derive(Deserialize)]
struct Container {
    #[serde(default, deserialize_with = "or_default")]
    ports: Ports,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InitContainer {
    restart_policy: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    ports: Ports,
}

/// The ports of one container; their names differ.
#[derive(Default, Deserialize)]
#[serde(try_from = "Vec<Port>")]
struct Ports(Vec<Port>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    #[serde(default, deserialize_with = "text::or_none")]
    name: Option<PortName>,
    container_port: NonZeroU16,
    #[serde(default, deserialize_with = "or_default")]
    protocol: Protocol,
    #[serde(default, deserialize_with = "or_default")]
    host_port: u16,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Affinity {
    #[serde(deserialize_with = "or_default")]
    node_affinity: NodeAffinity,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeAffinity {
    #[serde(deserialize_with = "or_default")]
    required_during_scheduling_ignored_during_execution: NodeTerms,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeTerms {
    #[serde(deserialize_with = "or_default")]
    node_selector_terms: Vec<NodeTerm>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeTerm {
    #[serde(deserialize_with = "or_default")]
    match_expressions: Vec<Expression>,
    #[serde(deserialize_with = "or_default")]
    match_fields: Vec<Expression>,
}

#[derive(Deserialize)]
#[serde(try_from = "RawExpression")]
struct Expression(Requirement);

#[derive(Deserialize)]
struct RawExpression {
    key: String,
    operator: RequirementOperator,
    #[serde(default, deserialize_with = "or_default")]
    values: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(try_from = "RawPodStatus")]
pub(super) struct PodStatus {
    pub addresses: Vec<IpAddr>,
    pub phase: PodPhase,
    pub ready: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawPodStatus {
    #[serde(default, deserialize_with = "or_default")]
    phase: PodPhase,
    #[serde(rename = "podIP", default, deserialize_with = "text::or_none")]
    pod_ip: Option<Address>,
    #[serde(rename = "podIPs", default, deserialize_with = "or_default")]
    pod_ips: Vec<PodIp>,
    #[serde(default, deserialize_with = "or_default")]
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct PodIp {
    ip: Address,
}

#[derive(Deserialize)]
struct Condition {
    r#type: String,
    #[serde(default)]
    status: String,
}

/// spec.template of a workload.
#[derive(Deserialize)]
pub(super) struct Template {
    #[serde(default, deserialize_with = "or_default")]
    metadata: TemplateMeta,
    spec: PodSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TemplateMeta {
    #[serde(deserialize_with = "or_default")]
    labels: LabelMap,
    #[serde(deserialize_with = "or_default")]
    annotations: Annotations,
}

// === impl Meta ===

impl<N> Meta<N> {
    /// The reference to what controls the object.
    pub fn controller(&self) -> Option<Owner> {
        let reference = self.owner_references.iter().find(|reference| reference.controller == Some(true))?;
        Some(Owner { kind: Kind::of(&reference.api_version, &reference.kind), name: reference.name.clone() })
    }
}

impl<N: AsRef<Arc<str>>> Meta<N> {
    /// The object's name. One that only has a generateName gets the same name every time, made from `seed`: nobody is
    /// there to make one up.
    pub fn name(&self, seed: &str) -> Result<Arc<str>, FieldError> {
        match (&self.name, &self.generate_name) {
            (Some(name), _) => Ok(name.as_ref().clone()),
            (None, Some(prefix)) if !prefix.is_empty() => {
                let name = format!("{prefix}{}", super::meta::suffix(seed));
                DnsSubdomain::try_from(name).map(|name| name.as_ref().clone()).map_err(|message| FieldError {
                    line: None,
                    field: "metadata.generateName".to_owned(),
                    message,
                })
            }
            _ => Err(FieldError {
                line: None,
                field: "metadata.name".to_owned(),
                message: "the name is missing".to_owned(),
            }),
        }
    }

    /// The object's namespace: `default` when none is given.
    pub fn namespace(&self) -> Arc<str> {
        self.namespace.as_ref().map_or_else(|| Arc::from("default"), |namespace| namespace.as_ref().clone())
    }

    /// The object's UID; empty when there is none.
    pub fn uid(&self) -> Arc<str> {
        self.uid.clone().unwrap_or_default()
    }
}

impl From<BTreeMap<LabelKey, LabelValue>> for LabelMap {
    fn from(labels: BTreeMap<LabelKey, LabelValue>) -> Self {
        Self(labels.into_iter().map(|(key, value)| (key.0, value.0)).collect())
    }
}

impl From<BTreeMap<String, String>> for Annotations {
    fn from(mut annotations: BTreeMap<String, String>) -> Self {
        const KEPT: [&[&str]; 4] = [&Pod::ANNOTATIONS, &SERVICES, &Route::ANNOTATIONS, &INGRESSES];
        let is_kept = |name: &String| KEPT.iter().copied().flatten().any(|kept| name.starts_with(kept));
        annotations.retain(|name, _| is_kept(name));
        Self(annotations)
    }
}

// === impl PodSpec ===

impl PodSpec {
    /// The ports of the containers and of the init containers that stay (restartPolicy Always: sidecars).
    pub fn ports(&self) -> Vec<ContainerPort> {
        let sidecars = self
            .init_containers
            .iter()
            .filter(|container| container.restart_policy.as_deref() == Some("Always"))
            .flat_map(|container| &container.ports.0);
        self.containers.0.iter().chain(sidecars).map(|port| port.model(self.host_network)).collect()
    }

    /// spec.nodeName; the empty text means none.
    pub fn node(&self) -> Option<Arc<str>> {
        self.node_name.clone().filter(|name| !name.is_empty())
    }

    /// Which nodes will do. Kubernetes says that a term without expressions matches nothing.
    pub fn nodes(&self) -> NodeSelector {
        let terms =
            &self.affinity.node_affinity.required_during_scheduling_ignored_during_execution.node_selector_terms;
        let requirements = |term: &NodeTerm| {
            term.match_expressions.iter().chain(&term.match_fields).map(|expression| expression.0.clone()).collect()
        };
        NodeSelector { labels: self.node_selector.0.clone(), terms: terms.iter().map(requirements).collect() }
    }
}

impl Port {
    fn model(&self, host_network: bool) -> ContainerPort {
        let port = self.container_port.get();
        ContainerPort {
            name: self.name.as_ref().map(|name| name.0.clone()),
            port,
            protocol: self.protocol,
            host_port: if host_network { Some(port) } else { Some(self.host_port).filter(|port| *port > 0) },
        }
    }
}

impl TryFrom<Vec<Container>> for Containers {
    type Error = &'static str;

    fn try_from(containers: Vec<Container>) -> Result<Self, Self::Error> {
        if containers.is_empty() {
            return Err("a pod has at least one container");
        }
        Ok(Self(containers.into_iter().flat_map(|container| container.ports.0).collect()))
    }
}

impl TryFrom<Vec<Port>> for Ports {
    type Error = String;

    fn try_from(ports: Vec<Port>) -> Result<Self, String> {
        let mut names = std::collections::BTreeSet::new();
        for name in ports.iter().filter_map(|port| port.name.as_ref()) {
            if !names.insert(&name.0) {
                return Err(format!("two ports are called {:?}", name.0));
            }
        }
        Ok(Self(ports))
    }
}

impl TryFrom<RawExpression> for Expression {
    type Error = String;

    fn try_from(RawExpression { key, operator, values }: RawExpression) -> Result<Self, String> {
        use RequirementOperator::{DoesNotExist, Exists, Gt, In, Lt, NotIn};
        let fits = match operator {
            In | NotIn => !values.is_empty(),
            Exists | DoesNotExist => values.is_empty(),
            Gt | Lt => matches!(&values[..], [value] if value.parse::<i64>().is_ok()),
        };
        if !fits {
            return Err(format!("{} values do not go with the operator {operator:?}", values.len()));
        }
        Ok(Self(Requirement { key, operator, values }))
    }
}

impl TryFrom<RawPodStatus> for PodStatus {
    type Error = String;

    fn try_from(status: RawPodStatus) -> Result<Self, String> {
        let mut addresses: Vec<IpAddr> = status.pod_ips.iter().map(|entry| entry.ip.0).collect();
        match (status.pod_ip, addresses.first()) {
            (Some(Address(one)), None) => addresses.push(one),
            (Some(Address(one)), Some(first)) if one != *first => {
                return Err(format!("podIP {one} is not the first of podIPs, {first}"));
            }
            _ => {}
        }
        text::one_a_family(addresses.iter().map(IpAddr::is_ipv4), "podIPs")?;
        let is_ready = |condition: &Condition| condition.r#type == "Ready" && condition.status == "True";
        Ok(Self { addresses, phase: status.phase, ready: status.conditions.iter().any(is_ready) })
    }
}

// === impl Template ===

impl From<Template> for PodTemplate {
    fn from(Template { metadata, spec }: Template) -> Self {
        Self {
            node: spec.node(),
            nodes: spec.nodes(),
            host_network: spec.host_network,
            hostname: spec.hostname.as_ref().map(|name| name.as_ref().clone()),
            subdomain: spec.subdomain.as_ref().map(|name| name.as_ref().clone()),
            ports: spec.ports(),
            labels: metadata.labels.0,
            annotations: metadata.annotations.0,
        }
    }
}

pub(super) use text::one_a_family;

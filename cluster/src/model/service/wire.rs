//! A Service as it is written, and the rules that the API has for it. What concerns one field is checked while that
//! field is read; what concerns several, afterwards.

use super::{
    FamilyPolicy, Ingress, IpFamily, IpMode, Service, ServicePort, ServiceType, TargetPort, TrafficDistribution,
    TrafficPolicy,
};
use crate::model::{
    object::FieldError,
    pod::Protocol,
    wire::{Address, DnsLabel, DnsSubdomain, LabelKey, LabelMap, Meta, PortName, or_default, or_none},
};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};
use std::{collections::BTreeSet, fmt, net::IpAddr, num::NonZeroU16};

/// The kubelet's own port, which no load balancer may lead to.
const KUBELET_PORT: u16 = 10250;

/// Names are read as the newer rule has them (RFC 1123), which lets them begin with a digit.
#[derive(Deserialize)]
pub(super) struct Wire {
    metadata: Meta<DnsLabel>,
    #[serde(default, deserialize_with = "or_default")]
    spec: Spec,
    #[serde(default, deserialize_with = "or_default")]
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    #[serde(deserialize_with = "or_default")]
    r#type: ServiceType,
    #[serde(rename = "clusterIP", deserialize_with = "or_none")]
    cluster_ip: Option<ClusterIp>,
    #[serde(rename = "clusterIPs", deserialize_with = "or_default")]
    cluster_ips: Vec<ClusterIp>,
    #[serde(deserialize_with = "or_default")]
    ip_families: Vec<IpFamily>,
    ip_family_policy: Option<FamilyPolicy>,
    #[serde(deserialize_with = "or_default")]
    ports: Vec<Port>,
    #[serde(deserialize_with = "or_default")]
    selector: LabelMap,
    #[serde(deserialize_with = "or_default")]
    session_affinity: SessionAffinity,
    session_affinity_config: Option<AffinityConfig>,
    external_traffic_policy: Option<TrafficPolicy>,
    internal_traffic_policy: Option<TrafficPolicy>,
    #[serde(rename = "externalIPs", deserialize_with = "or_default")]
    external_ips: Vec<EndpointAddress>,
    #[serde(deserialize_with = "or_default")]
    load_balancer_source_ranges: Vec<SourceRange>,
    #[serde(deserialize_with = "or_none")]
    load_balancer_class: Option<LabelKey>,
    allocate_load_balancer_node_ports: Option<bool>,
    #[serde(deserialize_with = "or_default")]
    health_check_node_port: u16,
    #[serde(deserialize_with = "or_default")]
    publish_not_ready_addresses: bool,
    traffic_distribution: Option<TrafficDistribution>,
    #[serde(deserialize_with = "or_none")]
    external_name: Option<DnsSubdomain>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    #[serde(deserialize_with = "or_default")]
    load_balancer: LoadBalancer,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LoadBalancer {
    #[serde(deserialize_with = "or_default")]
    ingress: Vec<WireIngress>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireIngress {
    #[serde(default, deserialize_with = "or_none")]
    ip: Option<EndpointAddress>,
    ip_mode: Option<IpMode>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    #[serde(default, deserialize_with = "or_none")]
    name: Option<DnsLabel>,
    #[serde(default, deserialize_with = "or_default")]
    protocol: Protocol,
    port: NonZeroU16,
    #[serde(default)]
    target_port: Target,
    #[serde(default, deserialize_with = "or_default")]
    node_port: u16,
    #[serde(default, deserialize_with = "or_none")]
    app_protocol: Option<LabelKey>,
}

/// targetPort: a number or a name. Absent, 0 and "" mean the Service's own port.
#[derive(Default)]
struct Target(Option<TargetPort>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum ClusterIp {
    None,
    Address(IpAddr),
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
enum SessionAffinity {
    #[default]
    None,
    #[serde(rename = "ClientIP")]
    ClientIp,
}

#[derive(Deserialize)]
struct AffinityConfig {
    #[serde(rename = "clientIP", default, deserialize_with = "or_default")]
    client_ip: ClientIpConfig,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientIpConfig {
    timeout_seconds: Option<Timeout>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "i64")]
struct Timeout(u32);

/// An address that traffic can be sent to over any distance.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub struct EndpointAddress(pub IpAddr);

/// The API lets host bits be, and cuts them.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct SourceRange(IpNet);

/// A fault of a field that was found after it was read: its line is not known any more.
pub(crate) fn fault(field: impl Into<String>, message: impl Into<String>) -> FieldError {
    FieldError { line: None, field: field.into(), message: message.into() }
}

// === impl Wire ===

impl Wire {
    pub fn model(self, seed: &str) -> Result<Service, FieldError> {
        let Self { metadata, spec, status } = self;
        spec.check()?;
        let cluster_ips = spec.addresses();
        let topology_mode = [Service::TOPOLOGY_ANNOTATION, Service::TOPOLOGY_HINTS_ANNOTATION]
            .into_iter()
            .find_map(|name| metadata.annotations.0.get(name));
        Ok(Service {
            namespace: metadata.namespace(),
            name: metadata.name(seed)?,
            uid: metadata.uid(),
            topology_mode: topology_mode.map(|mode| mode.as_str().into()),
            idled: metadata.annotations.0.contains_key(Service::IDLED_ANNOTATION),
            service_type: spec.r#type,
            headless: spec.is_headless(),
            families: families(&cluster_ips, &spec.ip_families),
            cluster_ips,
            family_policy: spec.ip_family_policy,
            affinity: spec.affinity(),
            external_policy: spec.external_traffic_policy.unwrap_or_default(),
            internal_policy: spec.internal_traffic_policy.unwrap_or_default(),
            external_ips: spec.external_ips.iter().map(|address| address.0).collect(),
            source_ranges: spec.load_balancer_source_ranges.iter().map(|range| range.0).collect(),
            load_balancer_class: spec.load_balancer_class.map(|class| class.0.into()),
            allocate_node_ports: spec.allocate_load_balancer_node_ports.unwrap_or(true),
            health_check_node_port: Some(spec.health_check_node_port).filter(|port| *port > 0),
            publish_not_ready: spec.publish_not_ready_addresses,
            distribution: spec.traffic_distribution,
            external_name: spec
                .external_name
                .filter(|_| spec.r#type == ServiceType::ExternalName)
                .map(|name| name.as_ref().clone()),
            ports: spec.ports.into_iter().map(Port::model).collect(),
            selector: spec.selector.0,
            labels: metadata.labels.0,
            ingress: status.load_balancer.model(spec.r#type)?,
        })
    }
}

/// What is said of the families, filled up from the addresses.
fn families(cluster_ips: &[IpAddr], given: &[IpFamily]) -> Vec<IpFamily> {
    let inferred = cluster_ips.iter().skip(given.len()).map(|address| IpFamily::of(*address));
    given.iter().copied().chain(inferred).collect()
}

impl LoadBalancer {
    fn model(self, service_type: ServiceType) -> Result<Vec<Ingress>, FieldError> {
        let mut ingress = Vec::new();
        for (index, entry) in self.ingress.into_iter().enumerate() {
            let field = || format!("status.loadBalancer.ingress[{index}].ipMode");
            match (entry.ip, entry.ip_mode) {
                (Some(EndpointAddress(address)), mode) => {
                    ingress.push(Ingress { address, mode: mode.unwrap_or_default() });
                }
                (None, Some(_)) => return Err(fault(field(), "it goes with an ip, and there is none")),
                (None, None) => {}
            }
        }
        if !ingress.is_empty() && service_type != ServiceType::LoadBalancer {
            // What is left of an earlier type has no meaning.
            ingress.clear();
        }
        Ok(ingress)
    }
}

// === impl Spec ===

impl Spec {
    /// What the API asks of fields together.
    fn check(&self) -> Result<(), FieldError> {
        self.check_type()?;
        self.check_cluster_ips()?;
        self.check_families()?;
        self.check_ports()?;
        self.check_outside()?;
        if self.session_affinity == SessionAffinity::None && self.session_affinity_config.is_some() {
            return Err(fault("spec.sessionAffinityConfig", "it goes with sessionAffinity ClientIP only"));
        }
        Ok(())
    }

    fn check_type(&self) -> Result<(), FieldError> {
        match self.r#type {
            ServiceType::ExternalName if self.external_name.is_none() => {
                Err(fault("spec.externalName", "the name is missing: a Service of type ExternalName needs one"))
            }
            ServiceType::ExternalName if self.cluster_ip.is_some() || !self.cluster_ips.is_empty() => {
                Err(fault("spec.clusterIP", "a Service of type ExternalName has no address"))
            }
            ServiceType::NodePort | ServiceType::LoadBalancer if self.is_headless() => Err(fault(
                "spec.clusterIP",
                format!("a Service of type {:?} cannot do without an address (None)", self.r#type),
            )),
            ServiceType::ClusterIP | ServiceType::NodePort | ServiceType::LoadBalancer
                if self.ports.is_empty() && !self.is_headless() =>
            {
                Err(fault("spec.ports", "there are none: only headless and ExternalName Services do without"))
            }
            _ => Ok(()),
        }
    }

    fn check_cluster_ips(&self) -> Result<(), FieldError> {
        let field = "spec.clusterIPs";
        match (self.cluster_ip, self.cluster_ips.first()) {
            (None, Some(_)) => return Err(fault(field, "clusterIP is missing, which is the first of clusterIPs")),
            (Some(one), Some(first)) if one != *first => {
                return Err(fault(format!("{field}[0]"), format!("{first} is not clusterIP, {one}")));
            }
            _ => {}
        }
        if self.cluster_ips.len() > 1 && self.cluster_ips.contains(&ClusterIp::None) {
            return Err(fault(field, "None stands alone"));
        }
        let addresses = self.addresses();
        if addresses.len() > 2 {
            return Err(fault(field, "there are more than two: one of each family"));
        }
        if let [first, second] = addresses[..]
            && IpFamily::of(first) == IpFamily::of(second)
        {
            return Err(fault(format!("{field}[1]"), format!("{second} is of the same family as {first}")));
        }
        for (index, (address, family)) in addresses.iter().zip(&self.ip_families).enumerate() {
            if IpFamily::of(*address) != *family {
                return Err(fault(
                    format!("{field}[{index}]"),
                    format!("{address} is not {family}, as ipFamilies says"),
                ));
            }
        }
        Ok(())
    }

    fn check_families(&self) -> Result<(), FieldError> {
        if let [first, second, ..] = self.ip_families[..]
            && (first == second || self.ip_families.len() > 2)
        {
            return Err(fault("spec.ipFamilies", "it has each of IPv4 and IPv6 once at most"));
        }
        // Without an address and without a selector nothing is to be assigned or chosen: the API lets all pass.
        let is_free = self.is_headless() && self.selector.0.is_empty();
        let is_dual = self.ip_families.len() == 2 || self.cluster_ips.len() == 2;
        if is_dual && !is_free && matches!(self.ip_family_policy, None | Some(FamilyPolicy::SingleStack)) {
            let message = "two families go with PreferDualStack and RequireDualStack only";
            return Err(fault("spec.ipFamilyPolicy", message));
        }
        Ok(())
    }

    fn check_ports(&self) -> Result<(), FieldError> {
        let (mut names, mut ports, mut node_ports) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (index, port) in self.ports.iter().enumerate() {
            let field = |name: &str| format!("spec.ports[{index}]{name}");
            let name = port.name.as_ref().map(|name| name.as_ref().clone());
            if name.is_none() && self.ports.len() > 1 {
                return Err(fault(field(".name"), "the name is missing: with several ports each has one"));
            }
            if let Some(name) = name.filter(|name| !names.insert(name.clone())) {
                return Err(fault(field(".name"), format!("two ports are called {name:?}")));
            }
            if !ports.insert((port.protocol, port.port)) {
                return Err(fault(field(""), format!("{}/{} is there twice", port.port, port.protocol)));
            }
            if port.node_port > 0 && matches!(self.r#type, ServiceType::ClusterIP | ServiceType::ExternalName) {
                return Err(fault(field(".nodePort"), format!("it does not go with type {:?}", self.r#type)));
            }
            if port.node_port > 0 && !node_ports.insert((port.protocol, port.node_port)) {
                return Err(fault(field(".nodePort"), format!("{}/{} is there twice", port.node_port, port.protocol)));
            }
            if self.r#type == ServiceType::LoadBalancer && port.port.get() == KUBELET_PORT {
                return Err(fault(field(".port"), format!("{KUBELET_PORT} is the kubelet's, not for load balancers")));
            }
        }
        Ok(())
    }

    /// What goes with Services that somebody outside can reach.
    fn check_outside(&self) -> Result<(), FieldError> {
        let is_balancer = self.r#type == ServiceType::LoadBalancer;
        let for_balancers = [
            ("loadBalancerSourceRanges", !self.load_balancer_source_ranges.is_empty()),
            ("loadBalancerClass", self.load_balancer_class.is_some()),
            ("allocateLoadBalancerNodePorts", self.allocate_load_balancer_node_ports.is_some()),
        ];
        if let Some((name, _)) = for_balancers.into_iter().find(|(_, is_set)| *is_set && !is_balancer) {
            return Err(fault(format!("spec.{name}"), "it goes with type LoadBalancer only"));
        }
        let is_outside = match self.r#type {
            ServiceType::NodePort | ServiceType::LoadBalancer => true,
            ServiceType::ClusterIP => !self.external_ips.is_empty(),
            ServiceType::ExternalName => false,
        };
        if self.external_traffic_policy.is_some() && !is_outside {
            let message = "nobody outside can reach the Service: it goes with NodePort, LoadBalancer and externalIPs";
            return Err(fault("spec.externalTrafficPolicy", message));
        }
        let is_local = self.external_traffic_policy == Some(TrafficPolicy::Local);
        if self.health_check_node_port > 0 && !(is_balancer && is_local) {
            let message = "it goes with type LoadBalancer and externalTrafficPolicy Local only";
            return Err(fault("spec.healthCheckNodePort", message));
        }
        Ok(())
    }

    fn is_headless(&self) -> bool {
        self.cluster_ip == Some(ClusterIp::None)
    }

    fn addresses(&self) -> Vec<IpAddr> {
        let all = if self.cluster_ips.is_empty() { self.cluster_ip.as_slice() } else { &self.cluster_ips };
        all.iter().filter_map(|ip| if let ClusterIp::Address(address) = ip { Some(*address) } else { None }).collect()
    }

    fn affinity(&self) -> Option<u32> {
        let given = self.session_affinity_config.as_ref().and_then(|config| config.client_ip.timeout_seconds);
        let seconds = given.map_or(Service::DEFAULT_AFFINITY, |timeout| timeout.0);
        (self.session_affinity == SessionAffinity::ClientIp).then_some(seconds)
    }
}

// === impl Port ===

impl Port {
    fn model(self) -> ServicePort {
        let port = self.port.get();
        ServicePort {
            name: self.name.map(|name| name.as_ref().clone()),
            protocol: self.protocol,
            port,
            target: self.target_port.0.unwrap_or(TargetPort::Number(port)),
            node_port: Some(self.node_port).filter(|port| *port > 0),
            app_protocol: self.app_protocol.map(|name| name.0.into()),
        }
    }
}

// === impl Target ===

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Target;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port's number or name")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Target, E> {
                Ok(Target(None))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Target, E> {
                let port = u16::try_from(number).map_err(|_| E::custom(format!("{number} is not a port")))?;
                Ok(Target(Some(port).filter(|port| *port > 0).map(TargetPort::Number)))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Target, E> {
                Err(E::custom(format!("{number} is not a port")))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Target, E> {
                if text.is_empty() {
                    return Ok(Target(None));
                }
                let name = PortName::try_from(text.to_owned()).map_err(E::custom)?;
                Ok(Target(Some(TargetPort::Name(name.0))))
            }
        }

        decoder.deserialize_any(Visitor)
    }
}

// === impl ClusterIp ===

impl TryFrom<String> for ClusterIp {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "None" { Ok(Self::None) } else { Address::try_from(text).map(|address| Self::Address(address.0)) }
    }
}

impl<'de> Deserialize<'de> for ClusterIp {
    fn deserialize<D: Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        Self::try_from(String::deserialize(decoder)?).map_err(de::Error::custom)
    }
}

impl fmt::Display for ClusterIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl TryFrom<i64> for Timeout {
    type Error = String;

    fn try_from(seconds: i64) -> Result<Self, String> {
        let fits = u32::try_from(seconds).ok().filter(|seconds| (1..=Service::MAX_AFFINITY).contains(seconds));
        fits.map(Self).ok_or_else(|| format!("{seconds} is not within 1 to {} seconds", Service::MAX_AFFINITY))
    }
}

impl TryFrom<String> for EndpointAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let Address(address) = Address::try_from(text)?;
        let is_link_local = match address {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        if is_link_local { Err(format!("{address} is link-local: no node forwards to it")) } else { Ok(Self(address)) }
    }
}

impl TryFrom<String> for SourceRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let range: IpNet = text.trim().parse().map_err(|_| format!("{text:?} is not a range like 192.0.2.0/24"))?;
        Ok(Self(range.trunc()))
    }
}

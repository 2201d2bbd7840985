//! Services and EndpointSlices written back.

use super::metadata;
use crate::model::{Endpoint, EndpointPort, EndpointSlice, Ingress, Service, ServicePort, ServiceType, TargetPort};
use serde_json::{Map, Value, json};

impl Service {
    /// The Service as JSON.
    pub fn to_json(&self) -> Value {
        let mut annotations = Map::new();
        if let Some(mode) = &self.topology_mode {
            annotations.insert(Self::TOPOLOGY_ANNOTATION.into(), json!(mode));
        }
        if self.idled {
            // That it sleeps is kept, since when is not.
            annotations.insert(Self::IDLED_ANNOTATION.into(), json!("1970-01-01T00:00:00Z"));
        }
        let more = json!({"labels": self.labels, "annotations": annotations});
        let entry = |Ingress { address, mode }: &Ingress| json!({"ip": address, "ipMode": mode});
        let ingress: Vec<_> = self.ingress.iter().map(entry).collect();
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata(Some(&self.namespace), &self.name, &self.uid, more),
            "spec": self.spec(),
            "status": {"loadBalancer": if ingress.is_empty() { json!({}) } else { json!({"ingress": ingress}) }},
        })
    }

    fn spec(&self) -> Value {
        let first = self.cluster_ips.first();
        let is_balancer = self.service_type == ServiceType::LoadBalancer;
        let is_outside = matches!(self.service_type, ServiceType::NodePort | ServiceType::LoadBalancer)
            || (self.service_type == ServiceType::ClusterIP && !self.external_ips.is_empty());
        let all = json!({
            "type": self.service_type,
            "clusterIP": if self.headless { json!("None") } else { json!(first) },
            "clusterIPs": if self.headless { json!(["None"]) } else { json!(self.cluster_ips) },
            "ipFamilies": self.families,
            "ipFamilyPolicy": self.family_policy,
            "ports": self.ports.iter().map(render_port).collect::<Vec<_>>(),
            "selector": self.selector,
            "sessionAffinity": if self.affinity.is_some() { "ClientIP" } else { "None" },
            "sessionAffinityConfig": self.affinity.map(|seconds| json!({"clientIP": {"timeoutSeconds": seconds}})),
            "externalTrafficPolicy": is_outside.then_some(self.external_policy),
            "internalTrafficPolicy": self.internal_policy,
            "externalIPs": self.external_ips,
            "loadBalancerSourceRanges": self.source_ranges,
            "loadBalancerClass": self.load_balancer_class,
            "allocateLoadBalancerNodePorts": is_balancer.then_some(self.allocate_node_ports),
            "healthCheckNodePort": self.health_check_node_port,
            "publishNotReadyAddresses": self.publish_not_ready.then_some(true),
            "trafficDistribution": self.distribution,
            "externalName": self.external_name,
        });
        without_nothing(all)
    }
}

impl EndpointSlice {
    /// The slice as JSON.
    pub fn to_json(&self) -> Value {
        let labels = without_nothing(json!({
            Self::SERVICE_LABEL: self.service,
            Self::MANAGED_BY_LABEL: self.managed_by,
        }));
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": metadata(Some(&self.namespace), &self.name, &"".into(), json!({"labels": labels})),
            "addressType": self.address_type,
            "ports": self.ports.iter().map(render_endpoint_port).collect::<Vec<_>>(),
            "endpoints": self.endpoints.iter().map(render_endpoint).collect::<Vec<_>>(),
        })
    }
}

fn render_port(port: &ServicePort) -> Value {
    without_nothing(json!({
        "name": port.name,
        "protocol": port.protocol,
        "port": port.port,
        "targetPort": match &port.target {
            TargetPort::Number(number) => json!(number),
            TargetPort::Name(name) => json!(name),
        },
        "nodePort": port.node_port,
        "appProtocol": port.app_protocol,
    }))
}

fn render_endpoint_port(port: &EndpointPort) -> Value {
    without_nothing(json!({
        "name": port.name,
        "protocol": port.protocol,
        "port": port.port,
        "appProtocol": port.app_protocol,
    }))
}

fn render_endpoint(endpoint: &Endpoint) -> Value {
    let names = |names: &[std::sync::Arc<str>]| names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
    let hints = endpoint
        .hints
        .as_ref()
        .map(|hints| without_nothing(json!({"forZones": names(&hints.zones), "forNodes": names(&hints.nodes)})));
    without_nothing(json!({
        "addresses": [endpoint.address],
        "conditions": {
            "ready": endpoint.ready,
            "serving": endpoint.serving,
            "terminating": endpoint.terminating,
        },
        "hostname": endpoint.hostname,
        "nodeName": endpoint.node,
        "zone": endpoint.zone,
        "hints": hints,
        "targetRef": endpoint
            .pod
            .as_ref()
            .map(|pod| json!({"kind": "Pod", "namespace": pod.namespace, "name": pod.name})),
    }))
}

/// An object without the fields that say nothing.
fn without_nothing(mut value: Value) -> Value {
    if let Value::Object(map) = &mut value {
        map.retain(|_, value| match value {
            Value::Null => false,
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) => !map.is_empty(),
            _ => true,
        });
    }
    value
}

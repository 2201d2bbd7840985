//! Objects written back as the Kubernetes API writes them: what is read of that equals what was written.

mod services;

use super::{ContainerPort, Namespace, Node, Object, Pod};
use serde_json::{Map, Value, json};
use std::{collections::BTreeSet, sync::Arc};

impl Object {
    /// The object as JSON. `None` for workloads, Endpoints and what routers read, of which only a part is kept: and keys
    /// are never written.
    pub fn to_json(&self) -> Option<Value> {
        match self {
            Self::Node(node) => Some(node.to_json()),
            Self::Namespace(namespace) => Some(namespace.to_json()),
            Self::Pod(pod, _) => Some(pod.to_json()),
            Self::NetworkPolicy(policy) => Some(policy.to_json()),
            Self::Service(service) => Some(service.to_json()),
            Self::EndpointSlice(slice) => Some(slice.to_json()),
            Self::Workload(_) | Self::Endpoints(_) => None,
            Self::Route(_) | Self::Ingress(_) | Self::IngressClass(_) | Self::Secret(_) => None,
        }
    }
}

impl Node {
    /// The node as JSON.
    pub fn to_json(&self) -> Value {
        let mut spec = Map::new();
        if let Some(first) = self.subnets.first() {
            spec.insert("podCIDR".into(), json!(first));
            spec.insert("podCIDRs".into(), json!(self.subnets));
        }
        if self.unschedulable {
            spec.insert("unschedulable".into(), json!(true));
        }
        let address = |address| json!({"type": "InternalIP", "address": address});
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": metadata(None, &self.name, &self.uid, json!({"labels": self.labels})),
            "spec": spec,
            "status": {"addresses": self.addresses.iter().map(address).collect::<Vec<_>>()},
        })
    }
}

impl Namespace {
    /// The namespace as JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": metadata(None, &self.name, &self.uid, json!({"labels": self.labels})),
        })
    }
}

impl Pod {
    /// The pod as JSON. Its containers are stand-ins that have its ports.
    pub fn to_json(&self) -> Value {
        let mut more = json!({"labels": self.labels, "annotations": self.annotations});
        if self.terminating {
            // That it ends is kept, since when is not.
            more["deletionTimestamp"] = json!("1970-01-01T00:00:00Z");
        }
        let mut spec = Map::new();
        for (name, value) in [("hostname", &self.hostname), ("subdomain", &self.subdomain)] {
            if let Some(value) = value {
                spec.insert(name.into(), json!(value));
            }
        }
        if let Some(node) = &self.node {
            spec.insert("nodeName".into(), json!(node));
        }
        if self.host_network {
            spec.insert("hostNetwork".into(), json!(true));
        }
        spec.insert("containers".into(), containers(&self.ports));
        let ready = if self.ready { "True" } else { "False" };
        let mut status = json!({"phase": self.phase, "conditions": [{"type": "Ready", "status": ready}]});
        if let Some(first) = self.addresses.first() {
            status["podIP"] = json!(first);
            status["podIPs"] = self.addresses.iter().map(|address| json!({"ip": address})).collect();
        }
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata(Some(&self.namespace), &self.name, &self.uid, more),
            "spec": spec,
            "status": status,
        })
    }
}

/// The metadata, without what is empty.
fn metadata(namespace: Option<&Arc<str>>, name: &Arc<str>, uid: &Arc<str>, more: Value) -> Value {
    let mut metadata = json!({"name": name, "namespace": namespace, "uid": uid});
    if let (Value::Object(metadata), Value::Object(mut more)) = (&mut metadata, more) {
        metadata.append(&mut more);
        metadata.retain(|_, value| match value {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Object(map) => !map.is_empty(),
            _ => true,
        });
    }
    metadata
}

/// As few containers as have the ports in their order: in one container the names of ports differ.
fn containers(ports: &[ContainerPort]) -> Value {
    let mut containers = vec![Vec::new()];
    let mut names = BTreeSet::new();
    for port in ports {
        if let Some(name) = &port.name
            && !names.insert(name)
        {
            names = BTreeSet::from([name]);
            containers.push(Vec::new());
        }
        containers.last_mut().expect("it begins with one").push(render_port(port));
    }
    let named = |(index, ports): (usize, Vec<Value>)| {
        let name = if index == 0 { "main".to_owned() } else { format!("main-{}", index + 1) };
        if ports.is_empty() { json!({"name": name}) } else { json!({"name": name, "ports": ports}) }
    };
    containers.into_iter().enumerate().map(named).collect()
}

fn render_port(port: &ContainerPort) -> Value {
    let mut value = json!({"containerPort": port.port, "protocol": port.protocol});
    if let Some(name) = &port.name {
        value["name"] = json!(name);
    }
    if let Some(host_port) = port.host_port {
        value["hostPort"] = json!(host_port);
    }
    value
}

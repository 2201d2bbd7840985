mod admission;
mod endpoints;
mod incremental;
mod ingresses;
mod scale;
mod tls;

use super::*;
use crate::admission::Reason;
use sdn_cluster::model::{Kind, Object};
use serde_json::{Value, json};

/// A cluster and the builder that follows it.
struct World {
    snapshot: Snapshot,
    builder: TableBuilder,
    table: Arc<Table>,
}

// === impl World ===

impl World {
    fn new(settings: Settings) -> Self {
        let builder = TableBuilder::new(settings.into(), None);
        Self { snapshot: Snapshot::default(), builder, table: Arc::default() }
    }

    fn put(&mut self, object: Value) {
        let kind = Kind::ALL.into_iter().find(|kind| object["kind"] == kind.as_str()).expect("a kind");
        let object = Object::parse(kind, &object.to_string(), "").unwrap_or_else(|error| panic!("{error:?}"));
        let snapshot = &mut self.snapshot;
        match object {
            Object::Route(route) => drop(snapshot.routes.insert(route.key(), route)),
            Object::Ingress(ingress) => drop(snapshot.ingresses.insert(ingress.key(), ingress)),
            Object::IngressClass(class) => drop(snapshot.ingress_classes.insert(class.name.clone(), class)),
            Object::Secret(secret) => drop(snapshot.secrets.insert(secret.key(), secret)),
            Object::Service(service) => drop(snapshot.services.insert(service.key(), service)),
            Object::EndpointSlice(slice) => drop(snapshot.slices.insert(slice.key(), slice)),
            Object::Namespace(namespace) => drop(snapshot.namespaces.insert(namespace.name.clone(), namespace)),
            other => panic!("{other:?} is nothing that routers read"),
        }
    }

    fn delete_route(&mut self, namespace: &str, name: &str) {
        self.snapshot.routes.remove(&ObjectName::new(namespace, name)).expect("it was there");
    }

    fn update(&mut self) {
        self.table = self.builder.update(&self.snapshot);
    }

    fn status(&self, namespace: &str, name: &str) -> &RouteStatus {
        self.builder.statuses().get(&ObjectName::new(namespace, name)).expect("a status")
    }

    /// Why a route is not served; `None`: it is.
    fn rejection(&self, namespace: &str, name: &str) -> Option<(Reason, String)> {
        let rejection = self.status(namespace, name).admitted.clone().err();
        rejection.map(|rejection| (rejection.reason, rejection.message))
    }

    /// The names of the routes that are served, and of those that are not.
    fn sorted(&self) -> (Vec<String>, Vec<String>) {
        let all = self.builder.statuses().iter();
        let (admitted, rejected): (Vec<_>, Vec<_>) = all.partition(|(_, status)| status.admitted.is_ok());
        let names = |statuses: Vec<(&ObjectName, &Arc<RouteStatus>)>| {
            statuses.iter().map(|(name, _)| name.name.to_string()).collect()
        };
        (names(admitted), names(rejected))
    }

    fn backend(&self, host: &str, path: &str) -> Option<Arc<Backend>> {
        self.table.route(host, path, false).or_else(|| self.table.route(host, path, true))
    }

    /// Which route answers there.
    fn answers(&self, host: &str, path: &str) -> Option<String> {
        self.backend(host, path).map(|backend| backend.id.to_string())
    }
}

/// A Route `shop/NAME` of a minute, with what else its spec has.
fn route(name: &str, host: &str, minute: u32, spec: Value) -> Value {
    route_in("shop", name, host, minute, spec)
}

fn route_in(namespace: &str, name: &str, host: &str, minute: u32, spec: Value) -> Value {
    let mut route = json!({
        "apiVersion": "route.openshift.io/v1", "kind": "Route",
        "metadata": {
            "name": name, "namespace": namespace, "uid": format!("uid-{namespace}-{name}"),
            "creationTimestamp": format!("2026-01-01T{:02}:{:02}:00Z", minute / 60, minute % 60),
        },
        "spec": {"host": host, "to": {"kind": "Service", "name": "web"}},
    });
    merge(&mut route["spec"], spec);
    route
}

/// Puts the fields of `more` into `object`.
fn merge(object: &mut Value, more: Value) {
    let Value::Object(more) = more else { panic!("{more} is not an object") };
    for (name, value) in more {
        object[name] = value;
    }
}

fn with_annotation(mut object: Value, name: &str, value: &str) -> Value {
    object["metadata"]["annotations"][name] = json!(value);
    object
}

/// A Service `shop/NAME` with one port 80, called http.
fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"clusterIP": "172.30.0.10", "clusterIPs": ["172.30.0.10"], "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    })
}

/// A slice of the Service `shop/NAME`: its port http is 8080 at these addresses, each a pod's.
fn slice(name: &str, addresses: &[&str]) -> Value {
    let family = if addresses.first().is_some_and(|address| address.contains(':')) { "IPv6" } else { "IPv4" };
    let endpoint = |(index, address): (usize, &&str)| json!({"addresses": [address], "targetRef": {"kind": "Pod", "name": format!("{name}-{index}")}});
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{name}-{}", family.to_lowercase()), "namespace": "shop",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": family,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": addresses.iter().enumerate().map(endpoint).collect::<Vec<_>>(),
    })
}

//! One Service and its pods into slices.

use crate::model::{
    AddressType, Endpoint, EndpointPort, EndpointSlice, Hints, IpFamily, Node, Pod, Service, ServicePort, TargetPort,
    TrafficDistribution, meta,
};
use imbl::OrdMap;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

/// How many endpoints a slice has about, at most; Kubernetes has as many.
pub const TARGET_ENDPOINTS: usize = 100;

/// The slices of a Service that selects `pods`: for each family, and each set of port numbers that the pods resolve its
/// ports to.
pub(super) fn of_service<'a>(
    service: &Service,
    pods: impl Iterator<Item = &'a Arc<Pod>> + Clone,
    nodes: &OrdMap<Arc<str>, Arc<Node>>,
) -> Vec<Arc<EndpointSlice>> {
    // Without families nobody has decided them: what the pods have counts.
    let families = if service.families.is_empty() { &[IpFamily::V4, IpFamily::V6][..] } else { &service.families };
    let mut names = BTreeSet::new();
    let mut slices = Vec::new();
    for family in families {
        let mut groups: BTreeMap<Vec<EndpointPort>, Vec<Endpoint>> = BTreeMap::new();
        for pod in pods.clone() {
            if let Some(endpoint) = endpoint(service, pod, nodes, *family) {
                groups.entry(ports(service, pod)).or_default().push(endpoint);
            }
        }
        for (ports, endpoints) in groups {
            let seed = format!("{}#{family}#{ports:?}", service.key());
            for (bucket, endpoints) in distribute(endpoints).into_iter().enumerate() {
                if !endpoints.is_empty() {
                    let name = name(service, &format!("{seed}#{bucket}"), &mut names);
                    slices.push(Arc::new(slice(service, name, *family, &ports, endpoints)));
                }
            }
        }
    }
    slices
}

fn slice(
    service: &Service,
    name: Arc<str>,
    family: IpFamily,
    ports: &[EndpointPort],
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    EndpointSlice {
        namespace: service.namespace.clone(),
        name,
        service: Some(service.name.clone()),
        managed_by: Some(EndpointSlice::CONTROLLER.into()),
        address_type: match family {
            IpFamily::V4 => AddressType::V4,
            IpFamily::V6 => AddressType::V6,
        },
        ports: ports.to_vec(),
        endpoints,
    }
}

/// A name that no other slice of the Service has: the same one every time.
fn name(service: &Service, seed: &str, names: &mut BTreeSet<Arc<str>>) -> Arc<str> {
    let candidate = |again: u32| Arc::from(format!("{}-{}", service.name, meta::suffix(&format!("{seed}#{again}"))));
    let free = (0u32..).map(candidate).find(|name| names.insert(Arc::clone(name)));
    free.expect("a Service has fewer slices than there are names")
}

/// Parts endpoints so that none has many, and that one more or less changes one part only: by a hash of the pod, into
/// as many parts as a power of two. (Were they cut in order, one more would move all behind it.)
fn distribute(endpoints: Vec<Endpoint>) -> Vec<Vec<Endpoint>> {
    let parts = endpoints.len().div_ceil(TARGET_ENDPOINTS).next_power_of_two();
    let mut buckets = vec![Vec::new(); parts];
    for endpoint in endpoints {
        let seed = endpoint.pod.as_ref().map_or_else(|| endpoint.address.to_string(), ToString::to_string);
        // The remainder is less than the number of buckets.
        let bucket = meta::fnv1a(seed.as_bytes()) % parts as u64;
        buckets[usize::try_from(bucket).unwrap_or_default()].push(endpoint);
    }
    // Never more than the API allows, however unlucky the hashes.
    let cut = |bucket: Vec<Endpoint>| match bucket.len() {
        0..=EndpointSlice::MAX_ENDPOINTS => vec![bucket],
        _ => bucket.chunks(EndpointSlice::MAX_ENDPOINTS).map(<[_]>::to_vec).collect(),
    };
    buckets.into_iter().flat_map(cut).collect()
}

/// What a pod is to a Service; `None` when it has ended, has no address of the family, or its node is gone.
fn endpoint(service: &Service, pod: &Pod, nodes: &OrdMap<Arc<str>, Arc<Node>>, family: IpFamily) -> Option<Endpoint> {
    let address = pod.addresses.iter().find(|address| IpFamily::of(**address) == family)?;
    let node = pod.node.as_ref().map(|name| nodes.get(name));
    if pod.ended() || (matches!(node, Some(None)) && !service.publish_not_ready) {
        return None;
    }
    let zone = node.flatten().and_then(|node| node.zone.clone());
    let is_named = pod.subdomain.as_ref() == Some(&service.name);
    Some(Endpoint {
        address: IpAddr::clone(address),
        ready: service.publish_not_ready || (pod.ready && !pod.terminating),
        serving: pod.ready,
        terminating: pod.terminating,
        hostname: pod.hostname.clone().filter(|_| is_named),
        node: pod.node.clone(),
        hints: hints(service, pod.node.as_ref(), zone.as_ref()),
        zone,
        pod: Some(pod.key()),
    })
}

/// For whom an endpoint is, when the Service asks for its traffic to stay near.
fn hints(service: &Service, node: Option<&Arc<str>>, zone: Option<&Arc<str>>) -> Option<Box<Hints>> {
    use TrafficDistribution::{PreferClose, PreferSameNode, PreferSameZone};
    let hints = match service.distribution? {
        PreferClose | PreferSameZone => Hints { zones: zone.into_iter().cloned().collect(), nodes: Vec::new() },
        PreferSameNode => {
            Hints { zones: zone.into_iter().cloned().collect(), nodes: node.into_iter().cloned().collect() }
        }
    };
    Some(hints).filter(|hints| *hints != Hints::default()).map(Box::new)
}

/// What the ports of a Service are at a pod. A name that the pod does not have is left out.
fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let resolve = |port: &ServicePort| match &port.target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => {
            let fits =
                |own: &&crate::model::ContainerPort| own.name.as_ref() == Some(name) && own.protocol == port.protocol;
            pod.ports.iter().find(fits).map(|own| own.port)
        }
    };
    let port = |port: &ServicePort| {
        let number = resolve(port)?;
        Some(EndpointPort {
            name: port.name.clone(),
            protocol: port.protocol,
            port: Some(number),
            app_protocol: port.app_protocol.clone(),
        })
    };
    service.ports.iter().filter_map(port).collect()
}

use super::*;
use crate::model::{ContainerPort, IpFamily, Node, PodPhase, Protocol, ServicePort, TargetPort, TrafficDistribution};
use proptest::{collection::vec, prelude::*};

fn service(name: &str, label: &str) -> Service {
    let target = TargetPort::Name("http".into());
    let port =
        ServicePort { name: None, protocol: Protocol::Tcp, port: 80, target, node_port: None, app_protocol: None };
    Service {
        namespace: "shop".into(),
        name: name.into(),
        families: vec![IpFamily::V4],
        ports: vec![port],
        selector: [("app".to_owned(), label.to_owned())].into(),
        ..Service::default()
    }
}

fn pod(number: u8, label: &str) -> Pod {
    Pod {
        namespace: "shop".into(),
        name: format!("pod-{number}").into(),
        labels: [("app".to_owned(), label.to_owned())].into(),
        node: Some("n1".into()),
        addresses: vec![[10, 128, 0, number].into()],
        phase: PodPhase::Running,
        ready: true,
        ports: vec![ContainerPort { name: Some("http".into()), port: 8080, protocol: Protocol::Tcp, host_port: None }],
        ..Pod::default()
    }
}

fn snapshot(services: Vec<Service>, pods: Vec<Pod>) -> Snapshot {
    let node = Node { name: "n1".into(), zone: Some("east".into()), ..Node::default() };
    Snapshot {
        nodes: [(node.name.clone(), Arc::new(node))].into_iter().collect(),
        services: services.into_iter().map(|service| (service.key(), Arc::new(service))).collect(),
        pods: pods.into_iter().map(|pod| (pod.key(), Arc::new(pod))).collect(),
        ..Snapshot::default()
    }
}

#[test]
fn readiness_and_place_of_a_pod() {
    // what is changed of the pod and Service; ready, serving, terminating, or None when it is no endpoint
    type Row = (fn(&mut Pod), fn(&mut Service), Option<(bool, bool, bool)>);
    let rows: [Row; 11] = [
        (|_| {}, |_| {}, Some((true, true, false))),
        (|pod| pod.ready = false, |_| {}, Some((false, false, false))),
        (|pod| pod.ready = false, |service| service.publish_not_ready = true, Some((true, false, false))),
        (|pod| pod.terminating = true, |_| {}, Some((false, true, true))),
        (|pod| pod.terminating = true, |service| service.publish_not_ready = true, Some((true, true, true))),
        (|pod| pod.phase = PodPhase::Failed, |_| {}, None),
        (|pod| pod.addresses.clear(), |_| {}, None),
        (|pod| pod.node = Some("gone".into()), |_| {}, None),
        (|pod| pod.node = Some("gone".into()), |service| service.publish_not_ready = true, Some((true, true, false))),
        (|pod| pod.labels.clear(), |_| {}, None),
        (|_| {}, |service| service.selector.clear(), None),
    ];
    for (row, (change_pod, change_service, expected)) in rows.into_iter().enumerate() {
        let (mut pod, mut service) = (pod(2, "web"), service("web", "web"));
        change_pod(&mut pod);
        change_service(&mut service);
        let slices = derive_slices(&snapshot(vec![service], vec![pod]));
        let endpoint = slices.first().map(|slice| &slice.endpoints[0]);
        let got = endpoint.map(|endpoint| (endpoint.ready, endpoint.serving, endpoint.terminating));
        assert_eq!(got, expected, "row {row}");
    }
}

#[test]
fn names_resolve_for_each_pod() {
    let mut other = pod(3, "web");
    other.ports[0].port = 9090;
    let mut without = pod(4, "web");
    without.ports[0].protocol = Protocol::Udp;
    let slices = derive_slices(&snapshot(vec![service("web", "web")], vec![pod(2, "web"), other, without]));
    let ports: BTreeSet<_> = slices.iter().map(|slice| slice.ports.first().and_then(|port| port.port)).collect();
    assert_eq!(ports, [None, Some(8080), Some(9090)].into());
    assert!(slices.iter().all(|slice| slice.endpoints.len() == 1));
}

#[test]
fn hostname_zone_and_hints() {
    let mut named = pod(2, "web");
    (named.hostname, named.subdomain) = (Some("web-0".into()), Some("web".into()));
    let mut near = service("near", "web");
    near.distribution = Some(TrafficDistribution::PreferSameNode);
    let slices = derive_slices(&snapshot(vec![service("web", "web"), near], vec![named]));
    let [near, web] = &slices[..] else { panic!("{slices:?}") };
    let (near, web) = (&near.endpoints[0], &web.endpoints[0]);
    assert_eq!((web.hostname.as_deref(), web.zone.as_deref(), &web.hints), (Some("web-0"), Some("east"), &None));
    let hints = near.hints.as_ref().expect("hints");
    assert_eq!((near.hostname.as_deref(), &*hints.zones[0], &*hints.nodes[0]), (None, "east", "n1"));
}

#[test]
fn what_was_published_before_is_taken_over() {
    let now = snapshot(vec![service("web", "web")], vec![pod(2, "web")]);
    let published = derive_slices(&now);
    assert_eq!(Deriver::resume(published.clone()).update(&now), []);
    let gone = Deriver::resume(published).update(&snapshot(vec![], vec![]));
    assert!(matches!(&gone[..], [ObjectChange::Delete(_)]), "{gone:?}");
}

proptest! {
    /// Incrementally or at once, the slices are the same, and each endpoint is a pod that the Service selects.
    #[test]
    fn incremental_equals_full(steps in vec((0u8..4, 0u8..6, 0u8..3, any::<bool>()), 1..60)) {
        let labels = ["web", "api", "db"];
        let mut now = snapshot(vec![], vec![]);
        let mut deriver = Deriver::default();
        let mut published: BTreeMap<_, _> = BTreeMap::new();
        for (kind, number, label, flag) in steps {
            let label = labels[usize::from(label)];
            match kind {
                0 => {
                    let pod = Pod { ready: flag, terminating: number == 1, ..pod(number + 2, label) };
                    now.pods.insert(pod.key(), pod.into());
                }
                1 => drop(now.pods.remove(&pod(number + 2, label).key())),
                2 => {
                    let service = Service { publish_not_ready: flag, ..service(labels[usize::from(number % 3)], label) };
                    now.services.insert(service.key(), service.into());
                }
                _ if flag => drop(now.services.remove(&ServiceKey::new("shop", label))),
                _ => {
                    let zone = Some(label.into());
                    now.nodes.insert("n1".into(), Node { name: "n1".into(), zone, ..Node::default() }.into());
                }
            }
            for change in deriver.update(&now) {
                match change {
                    ObjectChange::Put(Object::EndpointSlice(slice)) => drop(published.insert(slice.name.clone(), slice)),
                    ObjectChange::Delete(key) => drop(published.remove(&key.name)),
                    other => panic!("{other:?}"),
                }
            }
            let mut full = derive_slices(&now);
            full.sort_by(|a, b| a.name.cmp(&b.name));
            prop_assert_eq!(published.values().cloned().collect::<Vec<_>>(), full);
        }
        for slice in published.values() {
            let service = &now.services[&slice.service_key().expect("a Service's")];
            let mut addresses = BTreeSet::new();
            for endpoint in &slice.endpoints {
                let pod = &now.pods[endpoint.pod.as_ref().expect("a pod")];
                prop_assert!(service.selects(&pod.labels) && addresses.insert(endpoint.address));
                prop_assert_eq!(endpoint.ready, service.publish_not_ready || (pod.ready && !pod.terminating));
            }
        }
    }
}

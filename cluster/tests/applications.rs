//! Real applications' manifests: read whole, and made into the pods that a cluster would run.

use sdn_cluster::{
    ClusterNetworks,
    control::{self, services::ServiceRanges},
    model::{Kind, Object, Protocol},
    source::{ObjectChange, manifests},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// What an application comes to on three nodes.
struct Expected {
    /// Objects of the kinds that are modelled.
    objects: usize,
    /// The kinds that are not, and how many of each.
    unused: &'static [(&'static str, usize)],
    /// Its pods.
    pods: usize,
    /// The ports that its pods have, all together.
    ports: usize,
    /// Its Services; one that waits for an address for outside says so.
    services: usize,
}

fn check(path: &Path, expected: &Expected) -> control::Derived {
    let contents = manifests::read(path, Kind::ALL).expect("read");
    assert_eq!(contents.problems, [], "{}", path.display());
    let mut unused: BTreeMap<_, usize> = BTreeMap::new();
    for kind in &contents.unused {
        *unused.entry(kind.kind.as_str()).or_default() += kind.count;
    }
    assert_eq!(
        (contents.objects.len(), unused.into_iter().collect::<Vec<_>>()),
        (expected.objects, expected.unused.to_vec())
    );
    let derived =
        control::derive(contents.objects, control::nodes(3), &ClusterNetworks::default(), &ServiceRanges::default())
            .expect("derived");
    let waits = |note: &&control::Note| !note.message.starts_with("no address for outside");
    assert_eq!(derived.notes.iter().find(waits), None, "everything is run");
    assert_eq!(derived.services.len(), expected.services, "{}", path.display());
    let mut own = derived.services.iter().filter(|service| service.has_cluster_ips());
    assert!(own.all(|service| service.cluster_ips.len() == service.families.len()), "{}", path.display());
    let ports: usize = derived.pods.iter().map(|pod| pod.ports.len()).sum();
    assert_eq!((derived.pods.len(), ports), (expected.pods, expected.ports), "{}", path.display());
    assert!(derived.pods.iter().all(|pod| pod.node.is_some()), "every pod has a node");
    let mut pods = derived.pods.clone();
    control::assign_addresses(&mut pods, &derived.nodes).expect("addresses for all");
    derived
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn the_example_is_what_its_comments_say() {
    let expected = Expected { objects: 9, unused: &[], pods: 9, ports: 12, services: 3 };
    let derived = check(&repository().join("examples/shop.yaml"), &expected);
    let pods = |app: &str| derived.pods.iter().filter(|pod| pod.labels["app"] == app).collect::<Vec<_>>();
    let nodes = |app: &str| {
        pods(app).iter().filter_map(|pod| pod.node.clone()).collect::<std::collections::BTreeSet<_>>().len()
    };
    assert_eq!((nodes("web"), nodes("probe"), nodes("api")), (3, 3, 2), "replicas are on different nodes");
    assert!(
        pods("web")
            .iter()
            .all(|pod| pod.ports.iter().any(|port| port.name.as_deref() == Some("http") && port.port == 8080))
    );
    assert!(pods("names").iter().all(|pod| pod.ports[0].protocol == Protocol::Udp));
    let namespaces: Vec<_> = derived.namespaces.iter().map(|namespace| namespace.name.to_string()).collect();
    assert_eq!(namespaces, ["monitoring", "shop"]);
}

#[test]
fn applications_from_elsewhere_are_read_whole() {
    // Kept beside the repository, not in it.
    let manifests = repository().join("../shared/manifests");
    if !manifests.is_dir() {
        println!("skipped: there are no manifests of other applications at {}", manifests.display());
        return;
    }
    let boutique = Expected { objects: 24, unused: &[("ServiceAccount", 11)], pods: 12, ports: 11, services: 12 };
    check(&manifests.join("online-boutique/kubernetes-manifests.yaml"), &boutique);
    let with_policies = Expected { objects: boutique.objects + 13, ..boutique };
    check(&manifests.join("online-boutique"), &with_policies);
    let guestbook = Expected { objects: 6, unused: &[], pods: 6, ports: 6, services: 3 };
    check(&manifests.join("guestbook"), &guestbook);
}

/// The Services of an application, completed, and the number of ready endpoints that its pods make of each.
fn services(path: &Path) -> Vec<String> {
    let objects = manifests::read(path, Kind::ALL).expect("read").objects;
    let ranges = ServiceRanges::default();
    let derived = control::derive(objects, control::nodes(3), &ClusterNetworks::default(), &ranges).expect("derived");
    let mut pods = derived.pods.clone();
    control::assign_addresses(&mut pods, &derived.nodes).expect("addresses for all");
    let mut plane = control::ControlPlane::new(&derived);
    for pod in pods {
        plane.update(ObjectChange::Put(Object::Pod(pod, None)));
    }
    let slices: Vec<_> = plane.cluster().slices.values().cloned().collect();
    assert_eq!(slices, control::endpoints::derive_slices(plane.cluster()), "as if made at once");
    let endpoints = |name: &str| {
        let own = slices.iter().filter(|slice| slice.service.as_deref() == Some(name));
        let ports = own.clone().flat_map(|slice| &slice.ports).filter_map(|port| port.port).collect::<Vec<_>>();
        (own.map(|slice| slice.endpoints.len()).sum::<usize>(), ports)
    };
    let line = |service: &std::sync::Arc<sdn_cluster::model::Service>| {
        let (count, ports) = endpoints(&service.name);
        assert_eq!(service.cluster_ips.len(), 1, "{}", service.name);
        assert_eq!(service.ports[0].node_port.is_some(), service.has_node_ports(), "{}", service.name);
        format!("{} {} -> {count} at {ports:?}", service.name, service.ports[0].port)
    };
    derived.services.iter().map(line).collect()
}

#[test]
fn services_of_applications_have_endpoints() {
    let manifests = repository().join("../shared/manifests");
    if !manifests.is_dir() {
        println!("skipped: there are no manifests of other applications at {}", manifests.display());
        return;
    }
    let boutique = services(&manifests.join("online-boutique/kubernetes-manifests.yaml"));
    assert_eq!(boutique.len(), 12);
    assert!(boutique.iter().all(|line| line.contains(" -> 1 at [")), "{boutique:#?}");
    assert!(boutique.contains(&"frontend-external 80 -> 1 at [8080]".to_owned()), "{boutique:#?}");
    let guestbook = services(&manifests.join("guestbook"));
    let expected =
        ["frontend 80 -> 3 at [80]", "redis-master 6379 -> 1 at [6379]", "redis-replica 6379 -> 2 at [6379]"];
    assert_eq!(guestbook, expected);
}

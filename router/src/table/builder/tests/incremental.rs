//! A table that followed every change is the one that is made at once.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap as Map;

/// One change of a cluster.
#[derive(Clone, Debug)]
enum Step {
    Route { namespace: usize, name: usize, host: usize, path: usize, kind: usize, minute: u32, service: usize },
    DeleteRoute { namespace: usize, name: usize },
    Slice { service: usize, addresses: usize },
    DeleteSlice { service: usize },
    Service { service: usize, idled: bool },
    Secret { is_there: bool },
    Update,
}

const NAMESPACES: [&str; 2] = ["shop", "other"];
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const HOSTS: [&str; 5] = ["x.h.com", "y.h.com", "h.com", "", "Bad"];
const PATHS: [&str; 4] = ["", "/a", "/a/", "/a/b"];
const SERVICES: [&str; 3] = ["web", "api", "none"];

fn step() -> impl Strategy<Value = Step> {
    let route = (0..2_usize, 0..5_usize, 0..5_usize, 0..4_usize, 0..7_usize, 0..4_u32, 0..3_usize).prop_map(
        |(namespace, name, host, path, kind, minute, service)| Step::Route {
            namespace,
            name,
            host,
            path,
            kind,
            minute,
            service,
        },
    );
    prop_oneof![
        6 => route,
        3 => (0..2_usize, 0..5_usize).prop_map(|(namespace, name)| Step::DeleteRoute { namespace, name }),
        2 => (0..3_usize, 0..4_usize).prop_map(|(service, addresses)| Step::Slice { service, addresses }),
        1 => (0..3_usize).prop_map(|service| Step::DeleteSlice { service }),
        1 => (0..3_usize, any::<bool>()).prop_map(|(service, idled)| Step::Service { service, idled }),
        1 => any::<bool>().prop_map(|is_there| Step::Secret { is_there }),
        4 => Just(Step::Update),
    ]
}

fn apply(world: &mut World, step: &Step) {
    match step {
        Step::Route { namespace, name, host, path, kind, minute, service } => {
            let spec = match kind {
                0 | 1 => json!({}),
                2 => json!({"tls": {"termination": "edge", "insecureEdgeTerminationPolicy": "Redirect"}}),
                3 => json!({"tls": {"termination": "passthrough"}}),
                4 => json!({"wildcardPolicy": "Subdomain"}),
                5 => json!({"tls": {"termination": "edge", "externalCertificate": {"name": "pair"}}}),
                _ => json!({"tls": {"termination": "edge", "certificate": "none"}}),
            };
            let mut object = route_in(NAMESPACES[*namespace], NAMES[*name], HOSTS[*host], *minute, spec);
            merge(&mut object["spec"], json!({"path": PATHS[*path], "to": {"name": SERVICES[*service]}}));
            world.put(object);
        }
        Step::DeleteRoute { namespace, name } => {
            world.snapshot.routes.remove(&ObjectName::new(NAMESPACES[*namespace], NAMES[*name]));
        }
        Step::Slice { service, addresses } => {
            let all = ["10.128.0.1", "10.128.0.2", "10.128.0.3"];
            world.put(slice(SERVICES[*service], &all[..*addresses]));
        }
        Step::DeleteSlice { service } => {
            let name = format!("{}-ipv4", SERVICES[*service]);
            world.snapshot.slices.remove(&sdn_cluster::model::SliceKey::new("shop", name));
        }
        Step::Service { service: index, idled } => {
            let object = service(SERVICES[*index]);
            let idled_at = "idling.alpha.openshift.io/idled-at";
            world.put(if *idled { with_annotation(object, idled_at, "2026-01-01T00:00:00Z") } else { object });
        }
        Step::Secret { is_there: true } => world.put(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pair", "namespace": "shop"},
            "type": "kubernetes.io/tls", "stringData": {"tls.crt": PAIR.0.as_str(), "tls.key": PAIR.1.as_str()},
        })),
        Step::Secret { is_there: false } => drop(world.snapshot.secrets.remove(&ObjectName::new("shop", "pair"))),
        Step::Update => world.update(),
    }
}

static PAIR: std::sync::LazyLock<(String, String)> = std::sync::LazyLock::new(|| {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(["x.h.com".to_owned()]).expect("a name");
    (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
});

/// All that a table says, but for the ids of certificates.
fn described(table: &Table) -> Map<String, String> {
    let backends = table.backends().map(|backend| {
        let endpoints: Vec<_> = backend.endpoints.iter().map(|endpoint| (endpoint.address, endpoint.weight)).collect();
        let text = format!(
            "{} {:?} {:?} {:?} {}",
            backend.id,
            backend.insecure,
            backend.config,
            endpoints,
            backend.certificate.is_some()
        );
        (format!("{}{} {:?}", backend.host, backend.path, backend.termination), text)
    });
    let hosts = table.hosts.iter().map(|(name, host)| (name.to_string(), host));
    let wildcards = table.wildcards.iter().map(|(name, host)| (format!("*.{name}"), host));
    let hosts = hosts.chain(wildcards).map(|(name, host)| {
        let passthrough = host.passthrough.as_ref().map(|backend| backend.id.to_string());
        (name, format!("{passthrough:?} {} {}", host.is_terminated, host.certificate.is_some()))
    });
    backends.chain(hosts).collect()
}

/// Reasons, without messages: what a route is told may depend on what it was before.
fn reasons(builder: &TableBuilder) -> Map<String, String> {
    use Reason::{ExternalCertificateSecretDeleted as Deleted, ExternalCertificateValidationFailed as Failed};
    let reason = |status: &RouteStatus| match &status.admitted {
        Err(rejection) if rejection.reason == Deleted => format!("{Failed}"),
        Err(rejection) => rejection.reason.to_string(),
        Ok(()) => format!("served {}", status.endpoints),
    };
    builder.statuses().iter().map(|(name, status)| (name.to_string(), reason(status))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn every_order_of_changes_ends_in_the_same_table(steps in prop::collection::vec(step(), 0..60), wildcards: bool) {
        let settings = || Settings { allow_wildcards: wildcards, ..Settings::default() };
        let mut world = World::new(settings());
        for step in &steps {
            apply(&mut world, step);
        }
        world.update();
        let mut fresh = TableBuilder::new(settings().into(), None);
        let table = fresh.update(&world.snapshot);
        prop_assert_eq!(reasons(&world.builder), reasons(&fresh));
        prop_assert_eq!(described(&world.table), described(&table));
    }

    #[test]
    fn nobody_serves_what_an_older_route_of_another_namespace_holds(steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::new(Settings { allow_wildcards: true, ..Settings::default() });
        for step in &steps {
            apply(&mut world, step);
        }
        world.update();
        let mut owners: Map<String, std::collections::BTreeSet<String>> = Map::new();
        for backend in world.table.backends() {
            let domain = backend.host.split_once('.').map_or("", |(_, domain)| domain);
            // In a domain with a wildcard all are of one namespace, else those of each host.
            let wildcard = world.table.wildcards.contains_key(domain);
            let key = if wildcard { format!("*.{domain}") } else { backend.host.to_string() };
            owners.entry(key).or_default().insert(backend.id.namespace.to_string());
        }
        for (host, namespaces) in owners {
            prop_assert_eq!(namespaces.len(), 1, "{}: {:?}", host, namespaces);
        }
    }
}

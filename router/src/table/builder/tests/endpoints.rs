//! Where requests go.

use super::*;
use crate::{
    balance::{BalanceInput, choose},
    config::Balance,
    table::{AppProtocol, Sni},
};

fn addresses(world: &World, host: &str) -> Vec<String> {
    world.backend(host, "/").expect("a backend").endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
}

fn weights(backend: &Backend) -> Vec<u32> {
    backend.endpoints.iter().map(|endpoint| endpoint.weight).collect()
}

#[test]
fn endpoints_are_the_ready_ones_of_the_port() {
    let mut world = World::new(Settings::default());
    world.put(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [
            {"name": "http", "port": 8080},
            {"name": "admin", "port": 9090},
            {"name": "dns", "port": 53, "protocol": "UDP"},
            {"name": "all"},
        ],
        "endpoints": [
            {"addresses": ["10.128.0.3"], "conditions": {"ready": true}},
            {"addresses": ["10.128.0.2"]},
            {"addresses": ["10.128.0.4"], "conditions": {"ready": false}},
            {"addresses": ["10.128.0.5"], "conditions": {"ready": false, "serving": true, "terminating": true}},
            {"addresses": ["168.63.129.16"]},
        ],
    }));
    world.put(slice("web", &["fd01::2", "fd00:ec2::254"]));
    let http = &["10.128.0.2:8080", "10.128.0.3:8080", "[fd01::2]:8080"];
    let all = &["10.128.0.2:8080", "10.128.0.2:9090", "10.128.0.3:8080", "10.128.0.3:9090", "[fd01::2]:8080"];
    // spec.port.targetPort; what is found
    let rows = [
        (json!("http"), &http[..]),
        (json!(8080), http),
        (json!("8080"), http),
        (json!("admin"), &["10.128.0.2:9090", "10.128.0.3:9090"]),
        (json!("dns"), &[]),
        (json!(80), &[]),
        (json!(null), all),
    ];
    for (index, (port, expected)) in rows.into_iter().enumerate() {
        let host = format!("h{index}.com");
        let spec = if port.is_null() { json!({}) } else { json!({"port": {"targetPort": port}}) };
        world.put(route(&format!("r{index}"), &host, 1, spec));
        world.update();
        assert_eq!(addresses(&world, &host), expected, "{port}");
    }
}

#[test]
fn weights_are_of_services_whatever_their_endpoints() {
    let mut world = World::new(Settings::default());
    world.put(slice("a", &["10.128.0.1", "10.128.0.2"]));
    world.put(slice("b", &["10.128.1.1", "10.128.1.2", "10.128.1.3", "10.128.1.4"]));
    world.put(slice("off", &["10.128.2.1"]));
    let spec = |a: u32, b: u32, more: Value| {
        let others = [json!({"name": "b", "weight": b}), json!({"name": "off", "weight": 0}), json!({"name": "gone"})];
        let mut spec = json!({"to": {"name": "a", "weight": a}, "alternateBackends": others});
        merge(&mut spec, more);
        spec
    };
    world.put(route("r", "h.com", 1, spec(20, 10, json!({}))));
    world.update();
    let backend = world.backend("h.com", "/").expect("a backend");
    assert_eq!(weights(&backend), [4, 4, 1, 1, 1, 1, 0], "as 256 and 64; a weight of 0 stays for cookies");
    assert_eq!(backend.config.balance, Balance::RoundRobin);
    world.put(route("r", "h.com", 1, spec(0, 10, json!({}))));
    world.update();
    assert_eq!(weights(&world.backend("h.com", "/").expect("a backend")), [0, 0, 1, 1, 1, 1, 0]);
    // Passthrough has no cookies: who has no weight is not there.
    world.put(route("r", "h.com", 1, spec(20, 10, json!({"tls": {"termination": "passthrough"}}))));
    world.update();
    let Some(Sni::Passthrough(backend)) = world.table.sni("h.com") else { panic!("passthrough") };
    assert_eq!(weights(&backend), [4, 4, 1, 1, 1, 1]);
    world.put(route("r", "h.com", 1, spec(0, 0, json!({}))));
    world.update();
    let backend = world.backend("h.com", "/").expect("a backend");
    let input = BalanceInput { client: "192.0.2.1".parse().expect("an address"), cookie: None, random: 1 };
    assert_eq!((weights(&backend), choose(&backend, &input)), (vec![0; 7], None), "all of nothing");
}

#[test]
fn a_split_between_services_is_exact_in_ten_thousand_requests() {
    let mut world = World::new(Settings::default());
    world.put(slice("a", &["10.128.0.1", "10.128.0.2", "10.128.0.3"]));
    world.put(slice("b", &["10.128.1.1", "10.128.1.2"]));
    for (a, b) in [(90, 10), (50, 50), (99, 1), (1, 256), (200, 100)] {
        let alternate = json!({"name": "b", "weight": b});
        let spec = json!({"to": {"name": "a", "weight": a}, "alternateBackends": [alternate]});
        world.put(route("r", "h.com", 1, spec));
        world.update();
        let backend = world.backend("h.com", "/").expect("a backend");
        let mut to_b = 0.0;
        for random in 0..10_000 {
            let input = BalanceInput { client: "192.0.2.1".parse().expect("an address"), cookie: None, random };
            let place = choose(&backend, &input).expect("an endpoint");
            to_b += f64::from(u8::from(&*backend.endpoints[place].service == "b"));
        }
        let share = 10_000.0 * f64::from(b) / f64::from(a + b);
        assert!((to_b - share).abs() <= 3.0, "{a}:{b}: {to_b} instead of {share}");
    }
}

#[test]
fn what_pods_speak_and_what_cookies_say() {
    let mut world = World::new(Settings::default());
    let mut slice = slice("hello", &["10.1.2.3"]);
    slice["endpoints"][0]["targetRef"] = json!({"kind": "Pod", "name": "hello-1"});
    for (app_protocol, termination, expected) in [
        (None, "edge", AppProtocol::Http1),
        (Some("h2c"), "edge", AppProtocol::H2c),
        (Some("kubernetes.io/h2c"), "edge", AppProtocol::H2c),
        (Some("http"), "edge", AppProtocol::Http1),
        (Some("h2c"), "reencrypt", AppProtocol::Http1),
    ] {
        slice["ports"][0]["appProtocol"] = json!(app_protocol);
        world.put(slice.clone());
        let spec = json!({"to": {"name": "hello"}, "tls": {"termination": termination}});
        world.put(route("hello", "h.com", 1, spec));
        world.update();
        let backend = world.backend("h.com", "/").expect("a backend");
        assert_eq!(backend.endpoints[0].protocol, expected, "{app_protocol:?} {termination}");
        assert_eq!(&*backend.endpoints[0].cookie, "2f6f26713a88f55bd065218e3cd96a91");
    }
}

#[test]
fn a_service_that_sleeps_is_reached_by_its_own_address() {
    let mut world = World::new(Settings::default());
    world.put(with_annotation(service("web"), "idling.alpha.openshift.io/idled-at", "2026-01-01T00:00:00Z"));
    for (index, port) in [json!("http"), json!(8080), json!(80)].into_iter().enumerate() {
        let spec = json!({"port": {"targetPort": port}});
        world.put(route(&format!("r{index}"), &format!("h{index}.com"), 1, spec));
    }
    world.put(route("all", "all.com", 1, json!({})));
    world.update();
    for host in ["h0.com", "h1.com", "h2.com", "all.com"] {
        let backend = world.backend(host, "/").expect("a backend");
        assert_eq!(addresses(&world, host), ["172.30.0.10:80"], "{host}");
        assert!(backend.is_idled && !backend.checks_health() && backend.endpoints[0].weight > 0);
    }
    world.put(slice("web", &["10.128.0.2", "10.128.0.3"]));
    world.update();
    let backend = world.backend("all.com", "/").expect("a backend");
    assert!(!backend.is_idled && backend.checks_health(), "it is awake");
    // Who is not asleep and has no endpoints has none.
    let mut world = World::new(Settings::default());
    world.put(service("web"));
    world.put(route("web", "h.com", 1, json!({})));
    world.update();
    assert_eq!(addresses(&world, "h.com"), [""; 0]);
}

#[test]
fn an_endpoint_that_stays_keeps_its_counters() {
    let mut world = World::new(Settings::default());
    world.put(slice("web", &["10.128.0.2", "10.128.0.3"]));
    world.put(route("web", "h.com", 1, json!({})));
    world.update();
    let before = world.backend("h.com", "/").expect("a backend");
    let held = before.endpoints[0].state.enter();
    world.put(slice("web", &["10.128.0.2", "10.128.0.4"]));
    world.update();
    let after = world.backend("h.com", "/").expect("a backend");
    assert_eq!(after.endpoints[0].state.active(), 1);
    assert!(Arc::ptr_eq(&before.state, &after.state));
    assert_eq!(before.endpoints.len(), 2, "a request that has the old table goes on with it");
    assert_eq!(addresses(&world, "h.com"), ["10.128.0.2:8080", "10.128.0.4:8080"]);
    drop(held);
}

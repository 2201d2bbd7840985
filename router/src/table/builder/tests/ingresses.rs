//! Ingresses: what they amount to.

use super::*;
use crate::table::{Insecure, Termination};

fn ingress(name: &str, minute: u32, spec: Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {
            "name": name, "namespace": "shop", "uid": format!("uid-{name}"),
            "creationTimestamp": format!("2026-01-01T00:{minute:02}:00Z"),
        },
        "spec": spec,
    })
}

/// A path that leads to the port http of a Service.
fn path(path: &str, path_type: &str, service: &str) -> Value {
    json!({"path": path, "pathType": path_type, "backend": {"service": {"name": service, "port": {"name": "http"}}}})
}

fn rule(host: &str, paths: &[Value]) -> Value {
    json!({"host": host, "http": {"paths": paths}})
}

fn class(name: &str, controller: &str, is_default: bool) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
        "metadata": {"name": name, "annotations": {"ingressclass.kubernetes.io/is-default-class": is_default.to_string()}},
        "spec": {"controller": controller},
    })
}

#[test]
fn path_types_are_what_they_say() {
    let mut world = World::new(Settings::default());
    let paths = [
        path("/exact", "Exact", "a"),
        path("/exact/", "Exact", "b"),
        path("/prefix", "Prefix", "c"),
        path("/slash/", "Prefix", "d"),
        path("/own/", "ImplementationSpecific", "e"),
        path("/prefix", "Exact", "f"),
        path("/", "Exact", "g"),
    ];
    world.put(ingress("front", 1, json!({"rules": [rule("h.com", &paths)]})));
    world.update();
    assert_eq!(world.sorted().1, [""; 0]);
    let rows = [
        ("/exact", Some(0)),
        ("/exact/", Some(1)),
        ("/exact/x", None),
        ("/exactly", None),
        ("/prefix", Some(5)),
        ("/prefix/", Some(2)),
        ("/prefix/x", Some(2)),
        ("/prefixed", None),
        ("/slash", Some(3)),
        ("/slash/", Some(3)),
        ("/slash/x", Some(3)),
        ("/own", None),
        ("/own/", Some(4)),
        ("/own/x", Some(4)),
        ("/", Some(6)),
        ("/x", None),
    ];
    for (path, index) in rows {
        let expected = index.map(|index: usize| format!("shop/front/0-{index}"));
        assert_eq!(world.answers("h.com", path), expected, "{path}");
    }
}

#[test]
fn ports_are_those_of_the_service() {
    let mut world = World::new(Settings::default());
    let mut service = service("web");
    service["spec"]["ports"] =
        json!([{"name": "http", "port": 80, "targetPort": 8080}, {"name": "admin", "port": 8080, "targetPort": 9090}]);
    world.put(service);
    let mut slice = slice("web", &["10.128.0.2"]);
    slice["ports"] = json!([{"name": "http", "port": 8080}, {"name": "admin", "port": 9090}]);
    world.put(slice);
    for (port, expected) in [
        (json!({"number": 80}), Some("10.128.0.2:8080")),
        (json!({"number": 8080}), Some("10.128.0.2:9090")),
        (json!({"name": "admin"}), Some("10.128.0.2:9090")),
        (json!({"number": 81}), None),
    ] {
        let mut path = path("/", "Prefix", "web");
        path["backend"]["service"]["port"] = port.clone();
        world.put(ingress("front", 1, json!({"rules": [rule("h.com", &[path])]})));
        world.update();
        let backend = world.backend("h.com", "/").expect("a backend");
        let found = backend.endpoints.first().map(|endpoint| endpoint.address.to_string());
        assert_eq!(found.as_deref(), expected, "{port}");
    }
}

#[test]
fn classes_say_whose_an_ingress_is() {
    let own = "openshift.io/ingress-to-route";
    // the Ingress's class, classes that there are; whether it is served
    let rows = [
        (None, vec![], true),
        (Some("public"), vec![], false),
        (Some("public"), vec![class("public", own, false)], true),
        (Some("public"), vec![class("public", "culvert/router", false)], true),
        (Some("public"), vec![class("public", "example.com/other", false)], false),
        (None, vec![class("other", "example.com/other", false)], true),
        (None, vec![class("other", "example.com/other", true)], false),
        (None, vec![class("public", own, true)], true),
    ];
    for (name, classes, is_served) in rows {
        let mut world = World::new(Settings::default());
        let rules = [rule("h.com", &[path("/", "Prefix", "web")])];
        world.put(ingress("front", 1, json!({"ingressClassName": name, "rules": rules})));
        world.update();
        // Classes may come later than what is of them.
        classes.iter().for_each(|class| world.put(class.clone()));
        world.update();
        assert_eq!(world.answers("h.com", "/").is_some(), is_served, "{name:?} {classes:?}");
    }
}

#[test]
fn tls_is_that_of_the_entry_for_the_host() {
    let termination = |value| ("route.openshift.io/termination", value);
    // spec.tls, an annotation; what comes of it
    let rows = [
        (json!([]), None, Termination::Plain),
        (json!([{"hosts": ["h.com"]}]), None, Termination::Edge),
        (json!([{"hosts": ["other.com"]}]), None, Termination::Plain),
        (json!([{}]), None, Termination::Edge),
        (json!([{}]), Some(termination("reencrypt")), Termination::Reencrypt),
        (json!([{}]), Some(termination("passthrough")), Termination::Passthrough),
        (json!([]), Some(termination("passthrough")), Termination::Passthrough),
        (json!([]), Some(termination("edge")), Termination::Plain),
        (json!([{}]), Some(termination("half")), Termination::Edge),
    ];
    for (tls, annotation, expected) in rows {
        let mut world = World::new(Settings::default());
        let rules = [rule("h.com", &[path("/", "Prefix", "web")])];
        let mut front = ingress("front", 1, json!({"tls": tls, "rules": rules}));
        if let Some((name, value)) = annotation {
            front = with_annotation(front, name, value);
        }
        world.put(front);
        world.update();
        let status = world.status("shop", "front/0-0");
        assert_eq!(status.admitted, Ok(()), "{tls} {annotation:?}");
        assert_eq!(status.termination, expected, "{tls} {annotation:?}");
        if expected != Termination::Plain {
            let backend = world.table.route("h.com", "/", false).expect("a redirect");
            assert!(backend.redirects() && backend.insecure == Insecure::Redirect);
        }
    }
}

#[test]
fn what_cannot_be_served_is_passed_over() {
    let mut world = World::new(Settings { allow_wildcards: true, ..Settings::default() });
    let bucket = json!({"path": "/b", "pathType": "Prefix", "backend": {"resource": {"kind": "Bucket", "name": "b"}}});
    let rules = json!([
        {"http": {"paths": [path("/", "Prefix", "web")]}},
        rule("h.com", &[bucket, path("/a", "Prefix", "web")]),
        rule("*.h.com", &[path("/", "Prefix", "web")]),
        {"host": "empty.com"},
    ]);
    let default = json!({"service": {"name": "web", "port": {"number": 80}}});
    world.put(ingress("front", 1, json!({"rules": rules, "defaultBackend": default})));
    world.update();
    assert_eq!(world.sorted().0, ["front/1-1", "front/2-0"]);
    assert_eq!(world.answers("x.h.com", "/").as_deref(), Some("shop/front/2-0"));
    assert_eq!(world.answers("h.com", "/"), None);
    // Its rules change, and then it goes.
    world.put(ingress("front", 1, json!({"rules": [rule("i.com", &[path("/", "Prefix", "web")])]})));
    world.update();
    assert_eq!(world.sorted().0, ["front/0-0"]);
    assert_eq!(world.answers("x.h.com", "/"), None);
    world.snapshot.ingresses.remove(&ObjectName::new("shop", "front"));
    world.update();
    assert_eq!((world.sorted(), world.table.hosts()), ((vec![], vec![]), 0));
}

#[test]
fn an_ingress_and_a_route_stand_in_the_order_of_their_age() {
    let mut world = World::new(Settings::default());
    world.put(ingress("front", 1, json!({"rules": [rule("h.com", &[path("/", "Prefix", "web")])]})));
    world.put(route("young", "h.com", 2, json!({})));
    world.update();
    assert_eq!(world.sorted(), (vec!["front/0-0".to_owned()], vec!["young".to_owned()]));
    // A controller has made a Route of the Ingress: that is what is served.
    let mut made = route("front-x7k2p", "h.com", 3, json!({}));
    made["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "front", "controller": true}]);
    world.delete_route("shop", "young");
    world.put(made);
    world.update();
    assert_eq!(world.sorted(), (vec!["front-x7k2p".to_owned()], vec![]));
    world.delete_route("shop", "front-x7k2p");
    world.update();
    assert_eq!(world.sorted(), (vec!["front/0-0".to_owned()], vec![]));
}

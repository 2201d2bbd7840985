use super::*;
use crate::model::{Kind, Object};
use serde_json::{Value, json};

fn parse(spec: Value) -> Result<Route, FieldError> {
    let route = json!({
        "apiVersion": "route.openshift.io/v1", "kind": "Route",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": spec,
    });
    Route::parse(&route.to_string(), "")
}

fn target(service: &str, weight: u16) -> RouteTarget {
    RouteTarget { service: service.into(), weight }
}

#[test]
fn every_field_is_read() {
    let route = json!({
        "apiVersion": "route.openshift.io/v1", "kind": "Route",
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "u1", "creationTimestamp": "2026-01-31T08:15:00Z",
            "labels": {"type": "public"},
            "annotations": {
                "haproxy.router.openshift.io/timeout": "5s", "router.openshift.io/cookie_name": "c",
                "router.culvert/send-proxy": "v2", "example.com/other": "x",
            },
            "ownerReferences": [
                {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "front", "controller": true},
            ],
        },
        "spec": {
            "host": "Www.Example.com", "subdomain": "www", "path": "/shop", "wildcardPolicy": "Subdomain",
            "to": {"kind": "Service", "name": "a", "weight": 0},
            "alternateBackends": [{"kind": "Service", "name": "b", "weight": 256}, {"name": "c"}],
            "port": {"targetPort": "http"},
            "tls": {
                "termination": "reencrypt", "insecureEdgeTerminationPolicy": "Redirect",
                "certificate": "CERT", "key": "KEY", "caCertificate": "CA", "destinationCACertificate": "DEST",
                "externalCertificate": {"name": "secret"},
            },
            "httpHeaders": {"actions": {
                "request": [{"name": "X-A", "action": {"type": "Set", "set": {"value": "1"}}}],
                "response": [{"name": "Server", "action": {"type": "Delete"}}],
            }},
        },
    });
    let Ok(Object::Route(route)) = Object::parse(Kind::Route, &route.to_string(), "") else {
        panic!("it is a Route");
    };
    let expected = Route {
        namespace: "shop".into(),
        name: "web".into(),
        uid: "u1".into(),
        labels: Labels::from([("type".into(), "public".into())]),
        annotations: Labels::from([
            ("haproxy.router.openshift.io/timeout".into(), "5s".into()),
            ("router.culvert/send-proxy".into(), "v2".into()),
            ("router.openshift.io/cookie_name".into(), "c".into()),
        ]),
        created: Some(Timestamp::try_from("2026-01-31T08:15:00Z".to_owned()).expect("a time")),
        ingress: Some("front".into()),
        host: "Www.Example.com".into(),
        subdomain: "www".into(),
        path: "/shop".into(),
        wildcard: WildcardPolicy::Subdomain,
        to: target("a", 0),
        alternates: vec![target("b", 256), target("c", 100)],
        target_port: Some("http".into()),
        tls: Some(RouteTls {
            termination: TlsTermination::Reencrypt,
            insecure: InsecurePolicy::Redirect,
            certificate: Some("CERT".into()),
            key: Some("KEY".into()),
            ca_certificate: Some("CA".into()),
            destination_ca: Some("DEST".into()),
            external: Some("secret".into()),
        }),
        request_headers: vec![HeaderAction { name: "X-A".into(), set: Some("1".into()) }],
        response_headers: vec![HeaderAction { name: "Server".into(), set: None }],
    };
    assert_eq!(*route, expected);
    let shown = format!("{route:?}");
    assert!(!shown.contains("KEY") && !shown.contains("CERT"), "a key is never shown: {shown}");
}

#[test]
fn what_is_not_said_has_the_meaning_that_the_api_gives_it() {
    let route = parse(json!({
        "to": {"name": "a"}, "host": null, "wildcardPolicy": "", "port": {"targetPort": 8080},
        "tls": {"termination": "edge", "insecureEdgeTerminationPolicy": "", "certificate": "", "externalCertificate": {}},
    }))
    .expect("a Route");
    assert_eq!(route.to, target("a", 100));
    assert_eq!(route.target_port.as_deref(), Some("8080"));
    assert_eq!(route.tls, Some(RouteTls::default()));
    let bare = Route { namespace: "shop".into(), name: "web".into(), to: target("a", 100), ..Route::default() };
    assert_eq!(parse(json!({"to": {"name": "a"}, "port": {"targetPort": 0}})), Ok(bare));
}

#[test]
fn faults_have_their_fields() {
    let actions: Vec<_> = (0..21).map(|n| json!({"name": format!("X-{n}"), "action": {"type": "Delete"}})).collect();
    let action = |action: Value| json!({"to": {"name": "a"}, "httpHeaders": {"actions": {"request": [action]}}});
    let rows = [
        (json!({}), "spec"),
        (json!({"to": {"name": "a", "kind": "Pod"}}), "spec.to.kind"),
        (json!({"to": {"name": "A"}}), "spec.to.name"),
        (json!({"to": {"name": "a", "weight": 257}}), "spec.to.weight"),
        (json!({"to": {"name": "a", "weight": -1}}), "spec.to.weight"),
        (json!({"to": {"name": "a"}, "path": "shop"}), "spec.path"),
        (json!({"to": {"name": "a"}, "path": "/a b"}), "spec.path"),
        (json!({"to": {"name": "a"}, "path": "/a?b"}), "spec.path"),
        (json!({"to": {"name": "a"}, "wildcardPolicy": "All"}), "spec.wildcardPolicy"),
        (json!({"to": {"name": "a"}, "port": {"targetPort": 65536}}), "spec.port.targetPort"),
        (json!({"to": {"name": "a"}, "port": {}}), "spec.port"),
        (json!({"to": {"name": "a"}, "tls": {}}), "spec.tls"),
        (json!({"to": {"name": "a"}, "tls": {"termination": "half"}}), "spec.tls.termination"),
        (
            json!({"to": {"name": "a"}, "tls": {"termination": "edge", "insecureEdgeTerminationPolicy": "Maybe"}}),
            "spec.tls.insecureEdgeTerminationPolicy",
        ),
        (
            json!({"to": {"name": "a"}, "alternateBackends": [{"name": "b"}, {"name": "c"}, {"name": "d"}, {"name": "e"}]}),
            "spec.alternateBackends",
        ),
        (
            json!({"to": {"name": "a"}, "alternateBackends": [{"name": "b"}, {"name": "a"}]}),
            "spec.alternateBackends[1].name",
        ),
        (
            json!({"to": {"name": "a"}, "httpHeaders": {"actions": {"response": actions}}}),
            "spec.httpHeaders.actions.response",
        ),
        (action(json!({"name": "X", "action": {"type": "Set"}})), "spec.httpHeaders.actions.request[0].action.set"),
        (
            action(json!({"name": "X", "action": {"type": "Delete", "set": {"value": "1"}}})),
            "spec.httpHeaders.actions.request[0].action.set",
        ),
        (action(json!({"name": "X", "action": {"type": "Add"}})), "spec.httpHeaders.actions.request[0].action.type"),
        (
            json!({"to": {"name": "a"}, "httpHeaders": {"actions": {"request": [
                {"name": "X-A", "action": {"type": "Delete"}}, {"name": "x-a", "action": {"type": "Delete"}},
            ]}}}),
            "spec.httpHeaders.actions.request[1].name",
        ),
    ];
    for (spec, field) in rows {
        match parse(spec.clone()) {
            Err(error) => assert_eq!(error.field, field, "{spec}: {}", error.message),
            Ok(_) => panic!("{spec} is taken"),
        }
    }
}

#[test]
fn times_are_in_one_form() {
    for (text, fits) in [
        ("2026-01-31T08:15:00Z", true),
        ("2026-01-31T08:15:00.5Z", false),
        ("2026-01-31T08:15:00+01:00", false),
        ("2026-01-31", false),
        ("yesterday", false),
    ] {
        assert_eq!(Timestamp::try_from(text.to_owned()).is_ok(), fits, "{text}");
    }
}

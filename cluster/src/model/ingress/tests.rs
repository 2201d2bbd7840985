use super::*;
use crate::model::{Kind, Object};
use serde_json::{Value, json};

fn parse(spec: Value) -> Result<Ingress, FieldError> {
    let ingress = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": "front", "namespace": "shop"},
        "spec": spec,
    });
    Ingress::parse(&ingress.to_string(), "")
}

fn path(path: &str, path_type: &str) -> Value {
    json!({"path": path, "pathType": path_type, "backend": {"service": {"name": "a", "port": {"number": 80}}}})
}

#[test]
fn every_field_is_read() {
    let ingress = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {
            "name": "front", "namespace": "shop", "uid": "u1", "creationTimestamp": "2026-01-31T08:15:00Z",
            "labels": {"type": "public"},
            "annotations": {
                "kubernetes.io/ingress.class": "old", "route.openshift.io/termination": "edge", "example.com/x": "y",
            },
        },
        "spec": {
            "defaultBackend": {"service": {"name": "d", "port": {"name": "http"}}},
            "rules": [
                {"host": "a.example.com", "http": {"paths": [path("/x", "Exact"), path("/y", "Prefix")]}},
                {"host": "*.example.com", "http": {"paths": [
                    {"pathType": "ImplementationSpecific", "backend": {"resource": {"kind": "Bucket", "name": "b"}}},
                ]}},
                {"http": null},
            ],
            "tls": [{"hosts": ["a.example.com"], "secretName": "pair"}, {}],
        },
    });
    let Ok(Object::Ingress(ingress)) = Object::parse(Kind::Ingress, &ingress.to_string(), "") else {
        panic!("it is an Ingress");
    };
    let backend = |port| Some(IngressBackend { service: "a".into(), port });
    let at = |path: &str, path_type, backend| IngressPath { path: path.into(), path_type, backend };
    let number = || backend(ServicePortRef::Number(80));
    let expected = Ingress {
        namespace: "shop".into(),
        name: "front".into(),
        uid: "u1".into(),
        labels: Labels::from([("type".into(), "public".into())]),
        annotations: Labels::from([("route.openshift.io/termination".into(), "edge".into())]),
        created: Some(Timestamp::try_from("2026-01-31T08:15:00Z".to_owned()).expect("a time")),
        class: Some("old".into()),
        rules: vec![
            IngressRule {
                host: Some("a.example.com".into()),
                paths: vec![at("/x", PathType::Exact, number()), at("/y", PathType::Prefix, number())],
            },
            IngressRule {
                host: Some("*.example.com".into()),
                paths: vec![at("", PathType::ImplementationSpecific, None)],
            },
            IngressRule::default(),
        ],
        tls: vec![
            IngressTls { hosts: vec!["a.example.com".into()], secret: Some("pair".into()) },
            IngressTls::default(),
        ],
        default_backend: Some(IngressBackend { service: "d".into(), port: ServicePortRef::Name("http".into()) }),
    };
    assert_eq!(*ingress, expected);
}

#[test]
fn the_field_for_the_class_comes_before_the_annotation() {
    let ingress = json!({
        "metadata": {"name": "front", "annotations": {"kubernetes.io/ingress.class": "old"}},
        "spec": {"ingressClassName": "new"},
    });
    assert_eq!(Ingress::parse(&ingress.to_string(), "").expect("an Ingress").class.as_deref(), Some("new"));
}

#[test]
fn faults_have_their_fields() {
    let rule = |path: Value| json!({"rules": [{"http": {"paths": [path]}}]});
    let backend = |port: Value| {
        rule(json!({"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "a", "port": port}}}))
    };
    let rows = [
        (json!({"rules": [{"host": "a_b"}]}), "spec.rules[0].host"),
        (json!({"rules": [{"host": "*"}]}), "spec.rules[0].host"),
        (rule(path("x", "Exact")), "spec.rules[0].http.paths[0].path"),
        (rule(path("", "Prefix")), "spec.rules[0].http.paths[0].path"),
        (rule(path("/a//b", "Prefix")), "spec.rules[0].http.paths[0].path"),
        (rule(path("/a/../b", "Exact")), "spec.rules[0].http.paths[0].path"),
        (rule(path("/a/..", "Exact")), "spec.rules[0].http.paths[0].path"),
        (rule(path("/a%2Fb", "Exact")), "spec.rules[0].http.paths[0].path"),
        (rule(path("/a b", "Exact")), "spec.rules[0].http.paths[0].path"),
        (rule(path("/", "Regex")), "spec.rules[0].http.paths[0].pathType"),
        (backend(json!({})), "spec.rules[0].http.paths[0].backend.service.port"),
        (backend(json!({"name": "a", "number": 1})), "spec.rules[0].http.paths[0].backend.service.port"),
        (backend(json!({"number": 65536})), "spec.rules[0].http.paths[0].backend.service.port.number"),
        (json!({"tls": [{"hosts": ["A"]}]}), "spec.tls[0].hosts[0]"),
        (json!({"ingressClassName": "A"}), "spec.ingressClassName"),
    ];
    for (spec, field) in rows {
        match parse(spec.clone()) {
            Err(error) => assert_eq!(error.field, field, "{spec}: {}", error.message),
            Ok(_) => panic!("{spec} is taken"),
        }
    }
}

#[test]
fn classes() {
    for (annotation, is_default) in
        [(json!({}), false), (json!({"ingressclass.kubernetes.io/is-default-class": "true"}), true)]
    {
        let class = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
            "metadata": {"name": "public", "annotations": annotation},
            "spec": {"controller": "openshift.io/ingress-to-route"},
        });
        let expected =
            IngressClass { name: "public".into(), controller: "openshift.io/ingress-to-route".into(), is_default };
        assert_eq!(IngressClass::parse(&class.to_string(), ""), Ok(expected));
    }
}

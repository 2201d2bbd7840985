//! Certificates, authorities and header fields.

use super::*;
use crate::table::{DestinationTrust, Name, Sni};
use rcgen::{CertificateParams, KeyPair};

/// A certificate that signed itself, and its key.
fn pair(name: &str) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new([name.to_owned()]).expect("a name");
    (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
}

fn secret(name: &str, secret_type: &str, data: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "shop"},
        "type": secret_type, "stringData": data,
    })
}

fn tls(termination: &str, more: Value) -> Value {
    let mut tls = json!({"termination": termination});
    merge(&mut tls, more);
    json!({"tls": tls})
}

/// Whether the certificate that is shown for `name` covers it.
fn shows(world: &World, name: &str) -> Option<bool> {
    match world.table.sni(name)? {
        Sni::Terminate(certificate) => Some(certificate.covers(name)),
        Sni::Passthrough(_) => panic!("{name} is passed through"),
    }
}

fn certificate(pair: &(String, String)) -> Arc<Certificate> {
    Certificate::read(pair.0.as_bytes(), Some(pair.1.as_bytes()), b"").unwrap_or_else(|error| panic!("{error}")).into()
}

#[test]
fn what_is_wrong_with_tls_is_told_in_the_words_of_the_reference() {
    let ((one, key), (two, _)) = (pair("a.com"), pair("b.com"));
    let field = |field: &str, what: &str, message: &str| {
        format!("spec.tls.{field}: Invalid value: \"redacted {what} data\": {message}")
    };
    let passthrough = "passthrough termination does not support certificates";
    let garbled = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    // spec.tls; the message, or its beginning
    let rows = [
        (tls("edge", json!({"certificate": one, "key": key})), None),
        (tls("edge", json!({"certificate": format!("{one}{key}")})), None),
        (tls("edge", json!({"certificate": one, "key": key, "caCertificate": one})), None),
        (
            tls("edge", json!({"certificate": one})),
            Some("spec.tls.key: Invalid value: \"\": no key specified".to_owned()),
        ),
        (tls("edge", json!({"certificate": two, "key": key})), Some(field("key", "key", "the key does not belong"))),
        (
            tls("edge", json!({"certificate": garbled, "key": key})),
            Some(field("certificate", "certificate", "the certificate cannot be read")),
        ),
        (
            tls("edge", json!({"certificate": one, "key": key, "caCertificate": two})),
            Some(field("certificate", "certificate", "error verifying certificate")),
        ),
        (
            tls("edge", json!({"caCertificate": "text"})),
            Some(field("caCertificate", "ca certificate", "failed to parse CA certificate")),
        ),
        (
            tls("edge", json!({"destinationCACertificate": one})),
            Some(field(
                "destinationCACertificate",
                "destination ca certificate",
                "edge termination does not support destination certificates",
            )),
        ),
        (tls("reencrypt", json!({"destinationCACertificate": one})), None),
        (
            tls("reencrypt", json!({"destinationCACertificate": garbled})),
            Some(field(
                "destinationCACertificate",
                "destination ca certificate",
                "failed to parse destination CA certificate",
            )),
        ),
        (tls("passthrough", json!({})), None),
        (tls("passthrough", json!({"insecureEdgeTerminationPolicy": "Redirect"})), None),
        (
            tls("passthrough", json!({"insecureEdgeTerminationPolicy": "Allow"})),
            Some("spec.tls.insecureEdgeTerminationPolicy: Invalid value: \"Allow\": invalid value for".to_owned()),
        ),
        (tls("passthrough", json!({"key": key})), Some(field("key", "key", passthrough))),
        (
            tls("passthrough", json!({"certificate": one, "key": key})),
            Some(format!(
                "[{}, {}]",
                field("certificate", "certificate", passthrough),
                field("key", "key", passthrough)
            )),
        ),
        (
            tls("passthrough", json!({"caCertificate": one})),
            Some(field("caCertificate", "ca certificate", passthrough)),
        ),
    ];
    for (spec, expected) in rows {
        for validation in [true, false] {
            let mut world = World::new(Settings { extended_validation: validation, ..Settings::default() });
            world.put(route("bad", "a.com", 1, spec.clone()));
            world.put(route("good", "b.com", 2, tls("edge", json!({"certificate": two, "key": pair("b.com").1}))));
            world.put(route("other", "c.com", 2, json!({})));
            world.update();
            assert_eq!(world.answers("c.com", "/").as_deref(), Some("shop/other"), "nobody else is held up");
            let destination = spec["tls"]["destinationCACertificate"] == garbled;
            let rejection = world.rejection("shop", "bad");
            match expected.as_ref().filter(|_| validation || destination) {
                Some(begin) => {
                    let (reason, message) = rejection.expect("a rejection");
                    assert_eq!(reason, Reason::ExtendedValidationFailed, "{message}");
                    assert!(message.starts_with(begin.as_str()), "{message:?} begins with {begin:?}");
                    assert!(!message.contains("BEGIN") && !message.contains("MII"), "{message}");
                }
                None => assert_eq!(rejection, None, "{spec}"),
            }
        }
    }
}

#[test]
fn passthrough_has_no_paths_and_no_actions() {
    let action = json!({"name": "X", "action": {"type": "Delete"}});
    let mut world = World::new(Settings::default());
    world.put(route("p", "a.com", 1, json!({"path": "/a", "tls": {"termination": "passthrough"}})));
    let actions = json!({"tls": {"termination": "passthrough"}, "httpHeaders": {"actions": {"request": [action]}}});
    world.put(route("h", "b.com", 1, actions));
    world.update();
    let told = |name: &str| world.rejection("shop", name).expect("a rejection").1;
    assert_eq!(told("p"), "spec.path: Invalid value: \"/a\": passthrough termination does not support paths");
    assert!(told("h").contains("passthrough termination does not support header actions"), "{}", told("h"));
}

#[test]
fn the_certificate_that_is_shown() {
    let mut world = World::new(Settings { allow_wildcards: true, ..Settings::default() });
    let inline = |name: &str| {
        let (certificate, key) = pair(name);
        json!({"certificate": certificate, "key": key})
    };
    world.put(route("own", "own.com", 1, tls("edge", inline("own.com"))));
    world.put(route("none", "none.com", 1, tls("edge", json!({}))));
    let mut later = tls("edge", inline("several.com"));
    later["path"] = json!("/later");
    world.put(route("bare", "several.com", 1, tls("edge", json!({}))));
    world.put(route("later", "several.com", 2, later));
    let mut wildcard = tls("reencrypt", inline("*.wild.com"));
    wildcard["wildcardPolicy"] = json!("Subdomain");
    world.put(route("wild", "any.wild.com", 1, wildcard));
    world.put(route("under", "under.wild.com", 2, tls("edge", json!({}))));
    world.put(route("plain", "plain.com", 1, json!({})));
    world.update();
    // a name; whether what is shown covers it, without and with a default certificate
    let rows = [
        ("own.com", Some(true), Some(true)),
        ("none.com", None, Some(false)),
        ("several.com", Some(true), Some(true)),
        ("x.wild.com", Some(true), Some(true)),
        ("under.wild.com", Some(true), Some(true)),
        ("x.y.wild.com", None, Some(false)),
        ("plain.com", None, Some(false)),
        ("unknown.com", None, Some(false)),
    ];
    for (name, without, _) in rows {
        assert_eq!(shows(&world, name), without, "{name}");
    }
    world.builder.set_default_certificate(Some(certificate(&pair("default.com"))));
    world.update();
    for (name, _, with) in rows {
        assert_eq!(shows(&world, name), with, "{name}");
    }
    let known = |name: &str| world.table.knows(name);
    assert!(
        known("own.com") && known("none.com") && known("x.wild.com") && !known("plain.com") && !known("unknown.com")
    );
}

#[test]
fn certificates_in_secrets() {
    let (certificate, key) = pair("a.com");
    let external = || tls("edge", json!({"externalCertificate": {"name": "pair"}}));
    let mut world = World::new(Settings::default());
    world.put(route("web", "a.com", 1, external()));
    world.update();
    let told = |world: &World| world.rejection("shop", "web");
    let failed = |message: &str| Some((Reason::ExternalCertificateValidationFailed, message.to_owned()));
    let missing = "spec.tls.externalCertificate: Not found: \"secrets \\\"pair\\\" not found\"";
    assert_eq!(told(&world), failed(missing));
    world.put(secret("pair", "Opaque", json!({"tls.crt": certificate, "tls.key": key})));
    world.update();
    let wrong = "spec.tls.externalCertificate: Invalid value: \"pair\": secret of type \"kubernetes.io/tls\" required";
    assert_eq!(told(&world), failed(wrong));
    world.put(secret("pair", "kubernetes.io/tls", json!({"tls.crt": certificate, "tls.key": key})));
    world.update();
    assert_eq!((told(&world), shows(&world, "a.com")), (None, Some(true)));
    // Another certificate is another one at once.
    let id = |world: &World| world.backend("a.com", "/").expect("a backend").certificate.as_ref().map(|it| it.id);
    let before = id(&world);
    let (renewed, new_key) = pair("a.com");
    world.put(secret("pair", "kubernetes.io/tls", json!({"tls.crt": renewed, "tls.key": new_key})));
    world.update();
    assert!(told(&world).is_none() && id(&world) != before);
    world.put(secret("pair", "kubernetes.io/tls", json!({"tls.crt": renewed, "tls.key": key})));
    world.update();
    assert_eq!(told(&world).expect("a rejection").0, Reason::ExtendedValidationFailed);
    world.put(secret("pair", "kubernetes.io/tls", json!({"tls.crt": renewed, "tls.key": new_key})));
    world.update();
    world.snapshot.secrets.remove(&ObjectName::new("shop", "pair"));
    world.update();
    let deleted = "secret \"pair\" deleted for route \"shop/web\"".to_owned();
    assert_eq!(told(&world), Some((Reason::ExternalCertificateSecretDeleted, deleted)));
    assert_eq!(world.answers("a.com", "/"), None);
    world.put(secret("pair", "kubernetes.io/tls", json!({"tls.crt": renewed, "tls.key": new_key})));
    world.update();
    assert_eq!(told(&world), None);
    // Switched off, the field says nothing.
    let mut world = World::new(Settings { external_certificates: false, ..Settings::default() });
    world.put(route("web", "a.com", 1, external()));
    world.update();
    assert_eq!((told(&world), shows(&world, "a.com")), (None, None));
}

#[test]
fn how_pods_prove_who_they_are() {
    let (authority, _) = pair("authority");
    let named = "router.culvert/destination-name";
    let trust = |world: &World| match world.backend("a.com", "/").expect("a backend").destination.clone() {
        DestinationTrust::Unverified => None,
        DestinationTrust::Authorities { pem, name } => Some((String::from_utf8(pem.to_vec()).expect("PEM"), name)),
    };
    let mut world = World::new(Settings::default());
    world.put(route("web", "a.com", 1, tls("reencrypt", json!({}))));
    world.update();
    assert_eq!(trust(&world), None);
    world.builder.set_service_authorities(Some("SERVICES".as_bytes().into()));
    world.update();
    assert_eq!(trust(&world), Some(("SERVICES".to_owned(), Some(Name::Service))));
    let own = route("web", "a.com", 1, tls("reencrypt", json!({"destinationCACertificate": authority})));
    world.put(own.clone());
    world.update();
    assert_eq!(trust(&world), Some((authority.clone(), None)), "as the reference: any name will do");
    world.put(with_annotation(own, named, "db.internal"));
    world.update();
    assert_eq!(trust(&world), Some((authority, Some(Name::Fixed("db.internal".into())))));
    world.put(route("web", "a.com", 1, tls("edge", json!({}))));
    world.update();
    assert_eq!(trust(&world), None);
}

#[test]
fn client_certificates_of_a_route_fail_closed() {
    let (authority, _) = pair("authority");
    let name = "router.culvert/client-ca-secret";
    let web = || with_annotation(route("web", "a.com", 1, tls("edge", json!({}))), name, "clients");
    let mut world = World::new(Settings::default());
    world.put(web());
    world.update();
    assert_eq!(world.answers("a.com", "/"), None, "without authorities nobody is let in");
    assert!(world.rejection("shop", "web").expect("a rejection").1.contains("secret \"clients\" is not there"));
    world.put(secret("clients", "Opaque", json!({"ca.crt": authority})));
    world.update();
    let backend = world.backend("a.com", "/").expect("a backend");
    let asked = backend.client_authority.as_ref().expect("an authority");
    assert!(asked.is_required && asked.pem == authority.as_bytes());
    assert_eq!(world.table.client_authority("a.com"), Some(asked));
    world.put(with_annotation(web(), "router.culvert/client-certificate", "optional"));
    world.update();
    let backend = world.backend("a.com", "/").expect("a backend");
    assert!(!backend.client_authority.as_ref().expect("an authority").is_required);
    for (spec, mode) in
        [(json!({}), "required"), (tls("passthrough", json!({})), "required"), (tls("edge", json!({})), "sometimes")]
    {
        let bad = with_annotation(route("web", "a.com", 1, spec), name, "clients");
        for validation in [true, false] {
            let mut world = World::new(Settings { extended_validation: validation, ..Settings::default() });
            world.put(secret("clients", "Opaque", json!({"ca.crt": authority})));
            world.put(with_annotation(bad.clone(), "router.culvert/client-certificate", mode));
            world.update();
            assert!(world.rejection("shop", "web").is_some(), "{bad}");
        }
    }
}

#[test]
fn header_actions_are_read_or_told() {
    let spec = |name: &str, value: &str| {
        let action = json!({"name": name, "action": {"type": "Set", "set": {"value": value}}});
        json!({"httpHeaders": {"actions": {"request": [action]}}})
    };
    let rows = [
        ("X-A", "%[req.hdr(Host),lower]", None),
        ("X-A", "%[src]", Some("spec.httpHeaders.actions.request[0].action.set.value: Invalid value")),
        ("X-A", "%[res.hdr(Host)]", Some("spec.httpHeaders.actions.request[0].action.set.value: Invalid value")),
        ("Cookie", "a", Some("spec.httpHeaders.actions.request[0].name: Invalid value: \"Cookie\"")),
        ("X A", "a", Some("spec.httpHeaders.actions.request[0].name: Invalid value: \"X A\"")),
    ];
    for (name, value, begin) in rows {
        let mut world = World::new(Settings::default());
        world.put(route("web", "a.com", 1, spec(name, value)));
        world.update();
        let message = world.rejection("shop", "web").map(|(_, message)| message);
        match begin {
            None => assert_eq!(world.backend("a.com", "/").expect("a backend").config.request_headers.len(), 1),
            Some(begin) => assert!(message.as_ref().is_some_and(|message| message.starts_with(begin)), "{message:?}"),
        }
    }
}

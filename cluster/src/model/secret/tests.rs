use super::*;
use serde_json::{Value, json};

fn parse(secret_type: &str, data: Value, string_data: Value) -> Result<Secret, FieldError> {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pair", "namespace": "shop"},
        "type": secret_type, "data": data, "stringData": string_data,
    });
    Secret::parse(&secret.to_string(), "")
}

fn text(value: Option<&Sensitive>) -> Option<&str> {
    value.map(|value| std::str::from_utf8(value.expose()).expect("text"))
}

#[test]
fn what_routers_read_of_a_secret() {
    let data = json!({"tls.crt": "Q0VSVA==", "tls.key": "S0VZ", "ca.crt": "Q0E=", "password": "c2VjcmV0"});
    let secret = parse(Secret::TLS, data, json!(null)).expect("a Secret");
    assert_eq!(text(secret.certificate.as_ref()), Some("CERT"));
    assert_eq!(text(secret.key.as_ref()), Some("KEY"));
    assert_eq!(secret.authorities.as_deref(), Some(&b"CA"[..]));
    assert_eq!(secret.key().to_string(), "shop/pair");
    let shown = format!("{secret:?}");
    assert!(!shown.contains("KEY") && !shown.contains("75, 69, 89"), "{shown}");
}

#[test]
fn plain_text_overwrites_data() {
    let (data, text_data) = (json!({"tls.crt": "Q0VSVA==", "tls.key": "S0VZ"}), json!({"tls.key": "OTHER", "x": "y"}));
    let secret = parse(Secret::TLS, data, text_data).expect("a Secret");
    assert_eq!(text(secret.key.as_ref()), Some("OTHER"));
    assert_eq!(text(secret.certificate.as_ref()), Some("CERT"));
}

#[test]
fn faults_never_repeat_the_data() {
    let rows = [
        (Secret::TLS, json!({"tls.crt": "Q0VSVA=="}), "data[tls.key]"),
        (Secret::TLS, json!({"tls.key": "S0VZ"}), "data[tls.crt]"),
        (Secret::TLS, json!({"tls.crt": "Q0VSVA==", "tls.key": "hush!"}), "data.tls.key"),
    ];
    for (secret_type, data, field) in rows {
        let error = parse(secret_type, data, json!({})).expect_err("a fault");
        assert_eq!(error.field, field);
        assert!(!error.message.contains("hush"), "{}", error.message);
    }
    let other = parse("Opaque", json!({"tls.crt": "Q0VSVA=="}), json!({})).expect("other types need not have both");
    assert!(other.key.is_none());
}

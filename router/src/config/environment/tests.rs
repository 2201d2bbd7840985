use super::*;
use crate::{
    config::{Capture, CaptureCookie, CookieMatch, HeaderCase},
    headers::{Action, Template},
};
use sdn_cluster::model::Labels;

fn read(variables: &[(&str, &str)]) -> (Settings, Vec<SettingsFault>) {
    let lookup =
        |name: &str| variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned());
    Settings::from_variables(&lookup)
}

fn good(variables: &[(&str, &str)]) -> Settings {
    let (settings, faults) = read(variables);
    assert_eq!(faults, [], "{variables:?}");
    settings
}

/// That a variable is told of, and what is taken instead.
fn faulty(variables: &[(&str, &str)], variable: &str, is_fatal: bool) {
    let (_, faults) = read(variables);
    let [fault] = &faults[..] else { panic!("{variables:?} makes {faults:?}") };
    assert_eq!((fault.variable, fault.is_fatal), (variable, is_fatal), "{fault}");
}

#[test]
fn without_variables_all_is_as_the_reference_has_it() {
    let settings = good(&[]);
    assert_eq!(format!("{settings:?}"), format!("{:?}", Settings::default()));
    assert_eq!((settings.http_port, settings.https_port, settings.stats_port), (80, 443, 1936));
    assert_eq!((settings.buffer_size, settings.max_rewrite), (32_768, 8_192));
    assert_eq!(settings.max_connections, Some(50_000));
    assert!(settings.mutual_tls.strips_headers && settings.http2 && settings.extended_validation);
    assert_eq!(format!("{:?}", good(&[("STATS_PORT", "")])), format!("{:?}", Settings::default()), "empty is none");
}

#[test]
fn times_have_their_variables() {
    type Row = (&'static str, fn(&Settings) -> Duration);
    let rows: [Row; 11] = [
        ("ROUTER_DEFAULT_CONNECT_TIMEOUT", |settings| settings.connect_timeout),
        ("ROUTER_DEFAULT_CLIENT_TIMEOUT", |settings| settings.client_timeout),
        ("ROUTER_CLIENT_FIN_TIMEOUT", |settings| settings.client_fin_timeout),
        ("ROUTER_DEFAULT_SERVER_TIMEOUT", |settings| settings.server_timeout),
        ("ROUTER_DEFAULT_SERVER_FIN_TIMEOUT", |settings| settings.server_fin_timeout),
        ("ROUTER_SLOWLORIS_TIMEOUT", |settings| settings.request_timeout),
        ("ROUTER_SLOWLORIS_HTTP_KEEPALIVE", |settings| settings.keep_alive_timeout),
        ("ROUTER_DEFAULT_TUNNEL_TIMEOUT", |settings| settings.tunnel_timeout),
        ("ROUTER_INSPECT_DELAY", |settings| settings.inspect_delay),
        ("ROUTER_BACKEND_CHECK_INTERVAL", |settings| settings.check_interval),
        ("ROUTER_GRACEFUL_SHUTDOWN_DELAY", |settings| settings.shutdown_delay),
    ];
    for (variable, setting) in rows {
        assert_eq!(setting(&good(&[(variable, "7s")])), Duration::from_secs(7), "{variable}");
        let (settings, faults) = read(&[(variable, "soon")]);
        assert_eq!(setting(&settings), setting(&Settings::default()), "{variable}");
        assert_eq!(faults.len(), 1, "{variable}");
    }
    let stop = |variables| good(variables).hard_stop_after;
    assert_eq!(stop(&[("ROUTER_HARD_STOP_AFTER", "1h")]), Some(Duration::from_secs(3600)));
    let both = [("ROUTER_HARD_STOP_AFTER", "1h"), ("ROUTER_MAX_SHUTDOWN_TIMEOUT", "1m")];
    assert_eq!(stop(&both), Some(Duration::from_secs(60)));
}

#[test]
fn flags_have_their_variables() {
    type Row = (&'static str, fn(&Settings) -> bool);
    let rows: [Row; 16] = [
        ("ROUTER_UPDATE_STATUS", |settings| settings.update_status),
        ("ROUTER_ALLOW_WILDCARD_ROUTES", |settings| settings.allow_wildcards),
        ("ROUTER_DISABLE_NAMESPACE_OWNERSHIP_CHECK", |settings| settings.share_hosts),
        ("EXTENDED_VALIDATION", |settings| settings.extended_validation),
        ("ROUTER_ENABLE_EXTERNAL_CERTIFICATE", |settings| settings.external_certificates),
        ("ROUTER_ABORT_ON_CLOSE", |settings| settings.abort_on_close),
        ("ROUTER_USE_PROXY_PROTOCOL", |settings| settings.proxy_protocol),
        ("ROUTER_BIND_PORTS_AFTER_SYNC", |settings| settings.bind_after_sync),
        ("ROUTER_STRICT_SNI", |settings| settings.strict_sni),
        ("ROUTER_DISABLE_HTTP2", |settings| !settings.http2),
        ("ROUTER_MUTUAL_TLS_HEADER_FILTER", |settings| settings.mutual_tls.strips_headers),
        ("ROUTER_IDLE_CLOSE_ON_RESPONSE", |settings| settings.idle_close_on_response),
        ("ROUTER_DONT_LOG_NULL", |settings| settings.omit_empty),
        ("ROUTER_HTTP_IGNORE_PROBES", |settings| settings.ignore_probes),
        ("ROUTER_ENABLE_COMPRESSION", |settings| !settings.compression.is_empty()),
        ("ROUTER_OVERRIDE_HOSTNAME", |settings| settings.override_hostname),
    ];
    for (variable, setting) in rows {
        let template = ("ROUTER_SUBDOMAIN", "${name}.example.com");
        for (value, expected) in [("true", true), ("1", true), ("false", false), ("F", false)] {
            assert_eq!(setting(&good(&[(variable, value), template])), expected, "{variable}={value}");
        }
        assert_eq!(read(&[(variable, "yes"), template]).1.len(), 1, "{variable}");
    }
}

#[test]
fn identity_and_selection() {
    let settings = good(&[
        ("ROUTER_SERVICE_NAME", "shard"),
        ("ROUTER_CANONICAL_HOSTNAME", "router.example.com"),
        ("ROUTER_SUBDOMAIN", "${name}-${namespace}.apps.example.com"),
        ("ROUTER_DOMAIN", "apps.example.com"),
        ("ROUTER_OVERRIDE_DOMAINS", "old.example.com, older.example.com"),
        ("ROUTER_ALLOWED_DOMAINS", "example.com,"),
        ("ROUTER_DENIED_DOMAINS", "secret.example.com"),
        ("ROUTE_LABELS", "type=public, tier in (a, b),!hidden,env!=test,owner"),
        ("ROUTE_FIELDS", "metadata.namespace!=kube-system"),
        ("NAMESPACE_LABELS", "zone notin (c)"),
        ("ROUTER_INGRESS_CLASS", "example.com/router"),
    ]);
    assert_eq!((&*settings.name, settings.canonical_hostname.as_deref()), ("shard", Some("router.example.com")));
    assert_eq!(settings.override_domains, ["old.example.com".into(), "older.example.com".into()]);
    assert_eq!(settings.allowed_domains, ["example.com".into()]);
    assert_eq!(settings.ingress_controllers, ["example.com/router".into()]);
    let labels = |pairs: &[(&str, &str)]| -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let fitting = labels(&[("type", "public"), ("tier", "a"), ("owner", "x")]);
    let picks = |labels: &Labels, namespace: &str, of_namespace: Option<&Labels>| {
        settings.selector.picks(namespace, "web", labels, of_namespace)
    };
    let none = Labels::new();
    assert!(picks(&fitting, "shop", Some(&none)));
    assert!(!picks(&fitting, "kube-system", Some(&none)));
    assert!(!picks(&fitting, "shop", None), "a namespace that is not known has no labels to speak of");
    assert!(!picks(&fitting, "shop", Some(&labels(&[("zone", "c")]))));
    for (key, value) in [("type", "private"), ("tier", "c"), ("hidden", ""), ("env", "test")] {
        let mut other = fitting.clone();
        other.insert(key.to_owned(), value.to_owned());
        assert!(!picks(&other, "shop", Some(&none)), "{key}={value}");
    }
    for labels in ["a=b=c", "a in b", "=b", "a has (b)", "in (a)"] {
        faulty(&[("ROUTE_LABELS", labels)], "ROUTE_LABELS", true);
    }
    faulty(&[("ROUTE_FIELDS", "spec.host=x")], "ROUTE_FIELDS", true);
    faulty(&[("NAMESPACE_LABELS", "a"), ("PROJECT_LABELS", "b")], "PROJECT_LABELS", true);
    assert!(good(&[("NAMESPACE_LABELS", "a"), ("PROJECT_LABELS", "*")]).selector.namespace_labels.is_some());
    faulty(&[("ROUTER_NAMESPACE", "shop"), ("NAMESPACE_LABELS", "b")], "NAMESPACE_LABELS", true);
    faulty(&[("ROUTER_OVERRIDE_HOSTNAME", "true")], "ROUTER_OVERRIDE_HOSTNAME", true);
    faulty(&[("ROUTER_CANONICAL_HOSTNAME", "192.0.2.1")], "ROUTER_CANONICAL_HOSTNAME", false);
}

#[test]
fn what_would_be_unsafe_is_refused() {
    for (variables, variable) in [
        (&[("ROUTER_CIPHERS", "old")][..], "ROUTER_CIPHERS"),
        (&[("SSL_MIN_VERSION", "TLSv1.1")], "SSL_MIN_VERSION"),
        (&[("SSL_MAX_VERSION", "TLSv1.0")], "SSL_MAX_VERSION"),
        (&[("SSL_MIN_VERSION", "TLSv1.3"), ("SSL_MAX_VERSION", "TLSv1.2")], "SSL_MAX_VERSION"),
        (&[("ROUTER_MUTUAL_TLS_AUTH", "yes")], "ROUTER_MUTUAL_TLS_AUTH"),
        (&[("ROUTER_BUF_SIZE", "8192")], "ROUTER_BUF_SIZE"),
        (&[("ROUTER_HTTP_REQUEST_HEADERS", "Cookie:x:Set")], "ROUTER_HTTP_REQUEST_HEADERS"),
        (&[("STATS_USERNAME_FILE", "/nowhere"), ("STATS_PASSWORD_FILE", "/dev/null")], "STATS_USERNAME_FILE"),
    ] {
        faulty(variables, variable, true);
    }
}

#[test]
fn tls() {
    let settings = good(&[
        ("SSL_MIN_VERSION", "TLSv1.3"),
        ("ROUTER_CIPHERS", "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384"),
        ("ROUTER_CIPHERSUITES", "TLS_AES_128_GCM_SHA256"),
        ("ROUTER_CURVES", "X25519:P-256"),
        ("DEFAULT_CERTIFICATE_DIR", "/etc/pki"),
        ("DEFAULT_DESTINATION_CA_PATH", "/ca.crt"),
        ("ROUTER_MUTUAL_TLS_AUTH", "optional"),
        ("ROUTER_MUTUAL_TLS_AUTH_CA", "/clients.crt"),
        ("ROUTER_MUTUAL_TLS_AUTH_CRL", "/clients.crl"),
        ("ROUTER_MUTUAL_TLS_AUTH_FILTER", "\"^/CN=a\""),
    ]);
    assert_eq!((settings.tls_min, settings.tls_max), (TlsVersion::V1_3, TlsVersion::V1_3));
    assert!(matches!(&settings.ciphers, Ciphers::List(list) if list.len() == 2));
    assert_eq!((settings.cipher_suites.len(), settings.curves.len()), (1, 2));
    assert_eq!(settings.default_certificate, Some("/etc/pki/tls.crt".into()));
    assert_eq!(settings.mutual_tls.mode, ClientAuth::Optional);
    assert_eq!(settings.mutual_tls.filter.as_deref(), Some("^/CN=a"));
    assert_eq!(good(&[("ROUTER_CIPHERS", "modern")]).ciphers, Ciphers::Modern);
}

#[test]
fn messages_and_logs() {
    let settings = good(&[
        (
            "ROUTER_HTTP_REQUEST_HEADERS",
            "X-Forwarded-Client-Cert:%25%7B%2BQ%7D%5Bssl_c_der%2Cbase64%5D:Set,X-Quoted:%27%22shouldn%27%5C%27%27t+break%22%27:Set,X-Powered-By:Delete",
        ),
        ("ROUTER_HTTP_RESPONSE_HEADERS", "X-Frame-Options:DENY:Set"),
        ("ROUTER_H1_CASE_ADJUST", "Host,X-Request-ID"),
        ("ROUTER_UNIQUE_ID_HEADER_NAME", "X-Request-Id"),
        ("ROUTER_UNIQUE_ID_FORMAT", "\"%{+X}o %ci\""),
        ("ROUTER_ENABLE_COMPRESSION", "true"),
        ("ROUTER_CAPTURE_HTTP_REQUEST_HEADERS", "Host:15,Referer:20"),
        ("ROUTER_CAPTURE_HTTP_COOKIE", "session=:32"),
        ("STATS_USERNAME", "admin"),
        ("STATS_PASSWORD", "hush"),
        ("ROUTER_MAX_CONNECTIONS", "auto"),
    ]);
    let set = |name: &str, value: &str| {
        let value = Template::parse(value, Direction::Request).expect("a value");
        Action::Set { name: name.into(), value }
    };
    let expected = [
        set("X-Forwarded-Client-Cert", "%{+Q}[ssl_c_der,base64]"),
        set("X-Quoted", "\"shouldn't break\""),
        Action::Delete { name: "X-Powered-By".into() },
    ];
    assert_eq!(settings.request_headers, expected);
    assert_eq!(settings.response_headers, [set("X-Frame-Options", "DENY")]);
    let case = |name: &str, written: &str| HeaderCase { name: name.into(), written: written.into() };
    assert_eq!(settings.header_case, [case("host", "Host"), case("x-request-id", "X-Request-ID")]);
    assert_eq!(settings.unique_id, Some(("X-Request-Id".into(), "%{+X}o %ci".into())));
    assert_eq!(settings.compression, ["text/html".into(), "text/plain".into(), "text/css".into()]);
    let capture = |name: &str, length| Capture { name: name.into(), length };
    assert_eq!(settings.capture_request, [capture("Host", 15), capture("Referer", 20)]);
    let cookie = CaptureCookie { name: CookieMatch::Exact("session".into()), length: 32 };
    assert_eq!(settings.capture_cookie, Some(cookie));
    let prefix = good(&[("ROUTER_CAPTURE_HTTP_COOKIE", "sess:8")]).capture_cookie.expect("a cookie");
    assert_eq!(prefix.name, CookieMatch::Prefix("sess".into()));
    assert_eq!(settings.max_connections, None);
    assert!(!format!("{settings:?}").contains("hush"), "passwords are not shown");
    assert_eq!(settings.stats_user.expect("credentials").password.as_str(), "hush");
    for (variable, value) in [
        ("ROUTER_CAPTURE_HTTP_REQUEST_HEADERS", "Host"),
        ("ROUTER_CAPTURE_HTTP_RESPONSE_HEADERS", "a b:1"),
        ("ROUTER_CAPTURE_HTTP_COOKIE", "a:x"),
        ("ROUTER_H1_CASE_ADJUST", "a b"),
        ("ROUTER_HTTP_RESPONSE_HEADERS", "X-A:1:Add"),
        ("ROUTER_HTTP_RESPONSE_HEADERS", "X-A:%zz:Set"),
        ("ROUTER_HTTP_RESPONSE_HEADERS", "X-A:%25%5Breq.hdr(a)%5D:Set"),
    ] {
        faulty(&[(variable, value)], variable, true);
    }
}

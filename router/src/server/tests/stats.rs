//! The port for health, metrics and statistics.

use std::{io::Write, net::SocketAddr, sync::atomic::Ordering::Relaxed};

use super::{
    tls::Authority,
    world::{Pod, World, connect, header, read_all, read_response},
};
use crate::{
    config::{Credentials, Settings},
    table::{Termination, sample::Sample},
};

fn ask(address: SocketAddr, path: &str, fields: &str) -> String {
    let mut stream = connect(address);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n").unwrap();
    read_all(&mut stream)
}

#[test]
fn tells_health_metrics_and_statistics_to_who_may_know() {
    let pod = Pod::saying("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    let user = Credentials { name: "admin".into(), password: "hush".to_owned().into() };
    let edge = Sample { host: "edge.example", termination: Termination::Edge, ..Sample::plain(pod.address) };
    let settings = Settings { stats_user: Some(user), ..Settings::default() };
    let world = World::start(settings, None, &[Sample::plain(pod.address), edge]);
    for _ in 0..3 {
        assert!(world.say("GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").ends_with("hello"));
    }
    world.say("GET / HTTP/1.1\r\nHost: nobody\r\nConnection: close\r\n\r\n");
    world.logged(4);
    assert!(ask(world.stats, "/healthz", "").ends_with("\r\n\r\nok\n"));
    assert!(ask(world.stats, "/healthz/ready", "").contains("HTTP/1.1 500 "), "not synced");
    world.server.as_ref().unwrap().shared().is_synced.store(true, Relaxed);
    let ready = ask(world.stats, "/healthz/ready", "");
    assert!(ready.contains("HTTP/1.1 200 ") && ready.contains("[+]has-synced ok\n"), "{ready}");

    for wrong in ["", "Authorization: Basic YWRtaW46d3Jvbmc=\r\n", "Authorization: Bearer wrong\r\n"] {
        let refused = ask(world.stats, "/metrics", wrong);
        assert!(refused.starts_with("HTTP/1.1 401 ") && header(&refused, "www-authenticate").is_some(), "{refused}");
    }
    let metrics = ask(world.stats, "/metrics", "Authorization: Basic YWRtaW46aHVzaA==\r\n");
    let labels = "backend=\"http\",namespace=\"default\",route=\"route0\"";
    for line in [
        "haproxy_up 1".to_owned(),
        format!("haproxy_backend_connections_total{{{labels}}} 3"),
        format!("haproxy_backend_http_responses_total{{{labels},code=\"2xx\"}} 3"),
        format!("haproxy_backend_up{{{labels}}} 1"),
        "haproxy_frontend_connections_total{frontend=\"public\"} 4".to_owned(),
        "haproxy_frontend_http_responses_total{frontend=\"public\",code=\"5xx\"} 1".to_owned(),
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    assert!(metrics.contains(&format!("haproxy_server_up{{server=\"{}\",namespace=\"default\",", pod.address)));

    let bearer = "Authorization: Bearer right\r\n";
    let report = ask(world.stats, "/stats.json?q=a.exam", bearer);
    let report: serde_json::Value = serde_json::from_str(report.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!((&report["found"], &report["routes"][0]["counted"]["requests"]), (&1.into(), &3.into()));
    assert_eq!(report["routes"][0]["endpoints"][0]["up"], true);
    assert!(ask(world.stats, "/", bearer).contains("<title>Culvert router</title>"));
    assert!(ask(world.stats, "/nothing", bearer).starts_with("HTTP/1.1 404 "));
}

/// One port for both: who begins with TLS gets TLS.
#[test]
fn speaks_tls_to_who_begins_with_it() {
    let authority = Authority::new();
    let world = World::start(Settings::default(), Some(authority.certificate(&["stats.example"])), &[]);
    let name = rustls::pki_types::ServerName::try_from("stats.example").unwrap();
    let session = rustls::ClientConnection::new(authority.client(&["http/1.1"], None), name).unwrap();
    let mut stream = rustls::StreamOwned::new(session, connect(world.stats));
    for _ in 0..2 {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert!(read_response(&mut stream).ends_with("ok\n"));
    }
    assert!(ask(world.stats, "/healthz", "").ends_with("ok\n"));
}

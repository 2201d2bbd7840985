use std::sync::Arc;

use axum::Router;
use sdn_cni::protocol::host_interface_name;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::api::{DropCount, EventLine, NodeRow, PodRow, Status};
use super::client::{Client, ClientError};
use super::testing::{DEADLINE, event, running, serve, starting};
use super::{health, serve_tcp};
use crate::cni::{Lease, Leases, LocalPod};

/// What a TCP address answers: status line and body.
async fn ask(router: Router, path: &str) -> (String, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(serve_tcp(listener, router));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    server.abort();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[tokio::test]
async fn a_starting_agent_says_what_it_waits_for() {
    let (agent, client, _directory) = serve(starting());
    let status: Status = client.get("/v1/status").await.unwrap();
    assert_eq!(status.waiting["node object"], "there is no Node n1");
    assert_eq!((status.node.as_str(), status.uplink, status.overlay, status.programs.len()), ("n1", None, None, 0));
    assert!(!status.capabilities.effective.is_empty() && status.unknown.is_empty());
    let error = client.get::<Vec<DropCount>>("/v1/drops").await.unwrap_err().to_string();
    assert_eq!(error, "ask the agent for /v1/drops: the dataplane is not loaded yet; see `sdnctl status`");
    assert_eq!(client.get::<Vec<PodRow>>("/v1/pods").await.unwrap(), []);

    let (status, body) = ask(health(Arc::clone(&agent)), "/readyz").await;
    assert_eq!(
        (status.as_str(), body.as_str()),
        ("HTTP/1.1 503 Service Unavailable", "node object: there is no Node n1\n")
    );
    let (status, body) = ask(health(agent), "/healthz").await;
    assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 200 OK", "ok\n"));
}

#[tokio::test]
async fn a_running_agent_shows_its_parts() {
    let (agent, client, _directory) = serve(running(false));
    let status: Status = client.get("/v1/status").await.unwrap();
    assert!(status.waiting.is_empty() && status.unknown.is_empty());
    let overlay = status.overlay.unwrap();
    assert_eq!((overlay.name.as_str(), overlay.mtu, overlay.port), ("culvert0", 1450, 4789));
    assert_eq!(status.cluster.problems, ["/m/a.yaml:7: Pod shop/web-2: spec.nodeName: is no name"]);
    assert_eq!(status.cluster.unused, ["v1 Secret (2, first in /m/b.yaml)"]);
    let nodes: Vec<NodeRow> = client.get("/v1/nodes").await.unwrap();
    assert_eq!(
        nodes.iter().map(|n| (n.name.as_str(), n.this, n.pods)).collect::<Vec<_>>(),
        [("n1", true, 2), ("n2", false, 1)]
    );
    let pods: Vec<PodRow> = client.get("/v1/pods?namespace=shop").await.unwrap();
    assert_eq!(pods.iter().map(|pod| pod.name.as_str()).collect::<Vec<_>>(), ["web-0", "web-1"]);
    assert_eq!(client.get::<Vec<DropCount>>("/v1/drops").await.unwrap()[0].packets, 7);
    let error = client.get::<Status>("/v2/status").await.unwrap_err().to_string();
    assert!(error.contains("there is nothing at this path"), "{error}");
    let (status, body) = ask(health(agent), "/readyz").await;
    assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 200 OK", "ready\n"));
}

#[tokio::test]
async fn what_cannot_be_read_is_named() {
    let (agent, client, _directory) = serve(running(true));
    let status: Status = client.get("/v1/status").await.unwrap();
    assert_eq!(status.unknown, ["read programs: it is broken", "read maps: it is broken"]);
    assert_eq!(status.apply.failures.len(), 1);
    let error = client.get::<Vec<DropCount>>("/v1/drops").await.unwrap_err().to_string();
    assert_eq!(error, "ask the agent for /v1/drops: read drops: it is broken");
    let (status, body) = ask(health(agent), "/metrics").await;
    assert_eq!(status, "HTTP/1.1 200 OK", "the rest of the metrics is there all the same");
    assert!(body.contains("culvert_apply_failures 1\n") && !body.contains("culvert_map_capacity"), "{body}");
}

#[tokio::test]
async fn events_come_as_they_happen() {
    let (agent, client, _directory) = serve(running(false));
    let events = &agent.dataplane.get().unwrap().events;
    let mut lines = client.lines("/v1/drops/events").await.unwrap();
    events.send(event("shop/web-0")).unwrap();
    let line: EventLine = timeout(DEADLINE, lines.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(line, EventLine::Event(event("shop/web-0")));
    // The fake keeps four; whoever is behind by more is told how many are gone.
    for number in 0..7 {
        events.send(event(&format!("shop/{number}"))).unwrap();
    }
    let line: EventLine = timeout(DEADLINE, lines.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(line, EventLine::Lost { lost: 3 });
    let line: EventLine = timeout(DEADLINE, lines.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(line, EventLine::Event(event("shop/3")));
}

#[tokio::test]
async fn leases_are_shown_with_their_pods_and_without() {
    let agent = running(false);
    let directory = tempfile::tempdir().unwrap();
    let leases = Leases::open(directory.path(), &["10.128.2.0/23".parse().unwrap()]).unwrap();
    let rows = [("shop", "web-0", "uid-web-0"), ("shop", "web-0", "uid-of-yesterday"), ("", "", "")];
    for (number, (namespace, name, uid)) in rows.into_iter().enumerate() {
        let reservation = leases.reserve().unwrap();
        let attachment = sdn_cni::Attachment { container_id: format!("container-{number}"), ifname: "eth0".to_owned() };
        let pod = LocalPod {
            container_id: attachment.container_id.clone(),
            ifname: attachment.ifname.clone(),
            netns: "/run/netns/x".into(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            addresses: reservation.addresses().to_vec(),
            mac: [0x0a, 0x58, 10, 128, 2, 2],
            host_interface: host_interface_name(&attachment),
            host_ifindex: 100 + u32::try_from(number).unwrap(),
            incarnation: 7,
            mtu: 1450,
        };
        let lease = Lease { pod: Arc::new(pod), network: "culvert".to_owned(), netns_device: 1, netns_inode: 1 };
        leases.commit(reservation, lease).unwrap();
    }
    agent.leases.set(leases).unwrap();
    let pods = agent.pods(None);
    let shown: Vec<_> =
        pods.iter().map(|p| (p.name.as_str(), p.uid.as_str(), p.local.as_ref().map(|l| l.host_ifindex))).collect();
    assert_eq!(
        shown,
        [
            ("proxy", "uid-proxy", None),
            ("web-0", "uid-web-0", Some(100)),
            ("web-1", "uid-web-1", None),
            ("container-2", "", Some(102)),
            ("web-0", "uid-of-yesterday", Some(101)),
        ]
    );
    assert_eq!(agent.pods(Some("shop")).len(), 3);
    let (_, body) = ask(health(Arc::new(agent)), "/metrics").await;
    assert!(body.contains("culvert_addresses{subnet=\"10.128.2.0/23\",state=\"used\"} 3\n"), "{body}");
}

#[tokio::test]
async fn metrics_are_openmetrics() {
    let (status, body) = ask(health(Arc::new(running(false))), "/metrics").await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    for line in [
        "culvert_ready 1",
        "culvert_snapshot_generation 12",
        "culvert_objects{kind=\"pod\"} 3",
        "culvert_source_problems 1",
        "culvert_cni_operations_total{operation=\"add\"} 0",
        "culvert_drop_packets_total{reason=\"spoofed_source\"} 7",
        "culvert_drop_bytes_total{reason=\"spoofed_source\"} 700",
        "culvert_forward_packets_total{hook=\"pod_out\",to=\"tunnel\"} 900",
        "culvert_program_runs_total{program=\"overlay_in\"} 1000",
        "culvert_program_seconds_total{program=\"overlay_in\"} 0.00015",
        "culvert_map_entries{map=\"PEERS_V4\"} 90",
        "culvert_map_capacity{map=\"EVENTS\"} 4096",
        "culvert_apply_seconds 0.001234",
        "# EOF",
    ] {
        assert!(body.lines().any(|found| found == line), "no line {line:?} in\n{body}");
    }
    assert!(!body.contains("culvert_map_entries{map=\"EVENTS\"}"), "what is not known is not shown");
    let described = body.lines().filter(|line| line.starts_with("# TYPE")).count();
    assert_eq!(described, body.lines().filter(|line| line.starts_with("# HELP")).count());
}

#[tokio::test]
async fn nobody_there_is_said_so() {
    let directory = tempfile::tempdir().unwrap();
    let client = Client::new(&directory.path().join("admin.sock"));
    let error = client.get::<Status>("/v1/status").await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }));
    assert!(error.to_string().contains("does sdn-agent run on this node?"), "{error}");
}

#[tokio::test]
async fn strange_requests_do_no_harm() {
    let agent = Arc::new(running(false));
    for (path, want) in [("/v1/status", "404"), ("/", "404"), ("/../../etc/passwd", "404"), ("/metrics?x=%00", "200")] {
        let (status, _) = ask(health(Arc::clone(&agent)), path).await;
        assert!(status.contains(want), "{path}: {status}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(serve_tcp(listener, health(agent)));
    for request in
        [&b"POST /readyz HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"[..], b"\0\0\0\r\n\r\n"]
    {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        timeout(DEADLINE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    }
    server.abort();
}

use super::*;
use crate::{
    config::{Config, Networks, TcpLimits},
    testing::{Known, cluster, config, decode, query, slice, text},
};
use hickory_proto::{op::Message, serialize::binary::BinEncodable};
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
};

/// A resolver on loopback sockets.
struct Server {
    handle: Handle<Known>,
    snapshots: watch::Sender<Snapshot>,
    udp: Vec<SocketAddr>,
    tcp: SocketAddr,
}

fn loopback() -> Config {
    let clients = ["127.0.0.0/8", "::1/128"].map(|network| network.parse().unwrap());
    Config { clients: Arc::new(Networks(clients.into())), ..config() }
}

impl Server {
    fn start(config: Config) -> Self {
        let (snapshots, receiver) = watch::channel(cluster());
        let udp: Vec<UdpSocket> = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), (Ipv6Addr::LOCALHOST, 0).into()]
            .into_iter()
            .map(|address| UdpSocket::bind(address).unwrap())
            .collect();
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addresses = udp.iter().map(|socket| socket.local_addr().unwrap()).collect();
        let tcp_address = tcp.local_addr().unwrap();
        // Each name is a miss of the cache: answers come later.
        let handle = start(config, Sockets { udp, tcp: vec![tcp] }, receiver, Known::new(false)).unwrap();
        Self { handle, snapshots, udp: addresses, tcp: tcp_address }
    }

    /// Waits until the resolver knows the cluster.
    async fn ready(config: Config) -> Self {
        let server = Self::start(config);
        while !server.handle.is_ready() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server
    }
}

fn client(server: SocketAddr) -> UdpSocket {
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::LOCALHOST, 0).into() } else { (Ipv6Addr::LOCALHOST, 0).into() };
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

fn exchange(socket: &UdpSocket, name: &str, rtype: &str) -> Message {
    socket.send(&query(name, rtype).to_bytes().unwrap()).unwrap();
    let mut reply = [0; 2048];
    let length = socket.recv(&mut reply).unwrap();
    decode(&reply[..length])
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

fn read_framed(stream: &mut TcpStream) -> Message {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).unwrap();
    decode(&message)
}

fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream
}

/// Whether the other side has closed; an error is that it did not within the timeout.
fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 16]) {
        Ok(length) => length == 0,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_on_every_socket() {
    let server = Server::ready(loopback()).await;
    for address in &server.udp {
        let socket = client(*address);
        let reply = exchange(&socket, "api.shop.svc.cluster.local.", "A");
        assert_eq!(text(&reply.answers), ["api.shop.svc.cluster.local. 5 A 172.30.0.20"]);
        // Others have to be asked first; the answer leaves by the same socket, else the client would not take it.
        assert_eq!(exchange(&socket, "www.example.com.", "A").answers.len(), 2);
        assert_eq!(exchange(&socket, "outside.shop.svc.cluster.local.", "A").answers.len(), 3);
    }
    server.handle.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_queries_at_once_each_get_their_own_answer() {
    let server = Server::ready(loopback()).await;
    let socket = client(server.udp[0]);
    for round in 0..20u16 {
        let names = [
            "api.shop.svc.cluster.local.",
            "www.example.com.",
            "db.shop.svc.cluster.local.",
            "no.shop.svc.cluster.local.",
        ];
        for id in 0..100u16 {
            let mut message = query(names[usize::from(id) % names.len()], "A");
            message.metadata.id = round * 100 + id;
            socket.send(&message.to_bytes().unwrap()).unwrap();
        }
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let mut reply = [0; 2048];
            let length = socket.recv(&mut reply).unwrap();
            let reply = decode(&reply[..length]);
            let name = names[usize::from(reply.metadata.id % 100) % names.len()];
            assert_eq!(reply.queries[0].name().to_ascii(), name);
            assert!(seen.insert(reply.metadata.id));
        }
    }
    server.handle.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_endpoint_is_answered_within_milliseconds() {
    let server = Server::ready(loopback()).await;
    let socket = client(server.udp[0]);
    let mut snapshot = cluster();
    let mut slowest = Duration::ZERO;
    for change in 0..200u32 {
        let address = Ipv4Addr::from(0x0a80_0900 + change).to_string();
        slice(&mut snapshot, "shop/down-1", "down", &[], &[&address]);
        let since = Instant::now();
        server.snapshots.send_replace(snapshot.clone());
        loop {
            let reply = exchange(&socket, "down.shop.svc.cluster.local.", "A");
            if reply.answers.first().is_some_and(|record| record.data.to_string() == address) {
                break;
            }
        }
        slowest = slowest.max(since.elapsed());
    }
    // Loosely: the benchmark has the number, on a quiet machine.
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    server.handle.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_not_ready_before_the_cluster_is_known() {
    let server = Server::ready(loopback()).await;
    server.snapshots.send_replace(Snapshot::default());
    while server.handle.is_ready() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(server.handle.is_healthy());
    server.snapshots.send_replace(cluster());
    while !server.handle.is_ready() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    server.handle.lameduck();
    assert!(server.handle.is_healthy() && !server.handle.is_ready());
    assert_eq!(exchange(&client(server.udp[0]), "api.shop.svc.cluster.local.", "A").answers.len(), 1);
    server.handle.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_outlive_the_resolver() {
    let (_snapshots, receiver) = watch::channel(cluster());
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    let kept = socket.try_clone().unwrap();
    let sockets = |socket| Sockets { udp: vec![socket], tcp: Vec::new() };
    let first = start(loopback(), sockets(socket), receiver.clone(), Known::new(true)).unwrap();
    first.stop().await;
    // What comes in between waits for the next.
    let asking = client(address);
    asking.send(&query("www.example.com.", "A").to_bytes().unwrap()).unwrap();
    let second = start(loopback(), sockets(kept), receiver, Known::new(true)).unwrap();
    let mut reply = [0; 2048];
    let length = asking.recv(&mut reply).unwrap();
    assert_eq!(decode(&reply[..length]).answers.len(), 2);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_carry_many_queries_and_answers_overtake() {
    let server = Server::ready(loopback()).await;
    let mut stream = connect(server.tcp);
    let mut sent = Vec::new();
    // The first has to be asked for, the second is known.
    for (id, name) in [(1, "slow.example.com."), (2, "api.shop.svc.cluster.local."), (3, "db.shop.svc.cluster.local.")]
    {
        let mut message = query(name, "A");
        message.metadata.id = id;
        sent.extend(framed(&message.to_bytes().unwrap()));
    }
    // In pieces, as the network may cut it.
    for part in sent.chunks(7) {
        stream.write_all(part).unwrap();
    }
    let mut ids = [(); 3].map(|()| read_framed(&mut stream).metadata.id);
    ids[..2].sort_unstable();
    assert_eq!(ids, [2, 3, 1]);
    drop(stream);
    server.handle.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_closes_its_side_gets_its_answers() {
    let server = Server::ready(loopback()).await;
    let mut stream = connect(server.tcp);
    stream.write_all(&framed(&query("www.example.com.", "A").to_bytes().unwrap())).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read_framed(&mut stream).answers.len(), 2);
    assert!(is_closed(&mut stream));
    server.handle.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_have_limits() {
    let tcp = TcpLimits {
        connections: 3,
        per_client: 2,
        idle: Duration::from_millis(300),
        read: Duration::from_millis(100),
        ..TcpLimits::default()
    };
    let server = Server::ready(Config { tcp, ..loopback() }).await;
    let ask = framed(&query("api.shop.svc.cluster.local.", "A").to_bytes().unwrap());
    let (mut one, mut two) = (connect(server.tcp), connect(server.tcp));
    for stream in [&mut one, &mut two] {
        stream.write_all(&ask).unwrap();
        assert_eq!(read_framed(stream).answers.len(), 1);
    }
    assert!(is_closed(&mut connect(server.tcp)), "a client has two");
    // Half a message, and nothing at all.
    one.write_all(&ask[..10]).unwrap();
    let since = Instant::now();
    assert!(is_closed(&mut one));
    assert!(since.elapsed() < Duration::from_millis(280), "half a message waits for its own time only");
    assert!(is_closed(&mut two), "idle");
    // Messages too short to be one end the connection.
    let mut short = connect(server.tcp);
    short.write_all(&[0, 3, 1, 2, 3]).unwrap();
    assert!(is_closed(&mut short));
    server.handle.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_not_listened_to() {
    let server = Server::ready(config()).await;
    assert!(is_closed(&mut connect(server.tcp)));
    let socket = client(server.udp[0]);
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    socket.send(&query("api.shop.svc.cluster.local.", "A").to_bytes().unwrap()).unwrap();
    assert!(socket.recv(&mut [0; 512]).is_err());
    server.handle.stop().await;
}

/// Panics when it is told who asks, once.
#[derive(Debug, Default)]
struct Faulty(AtomicBool);

impl crate::config::Clients for Faulty {
    fn admits(&self, _: IpAddr) -> bool {
        assert!(self.0.swap(true, Ordering::Relaxed), "made to panic by the test");
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_ends_one_batch_and_is_counted() {
    let server = Server::ready(Config { clients: Arc::new(Faulty::default()), ..loopback() }).await;
    let socket = client(server.udp[0]);
    socket.send(&query("api.shop.svc.cluster.local.", "A").to_bytes().unwrap()).unwrap();
    while server.handle.engine.shared.panics.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(exchange(&socket, "api.shop.svc.cluster.local.", "A").answers.len(), 1);
    assert!(server.handle.is_healthy());
    server.handle.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_have_the_names_that_dashboards_know() {
    let server = Server::ready(loopback()).await;
    let socket = client(server.udp[0]);
    exchange(&socket, "api.shop.svc.cluster.local.", "A");
    exchange(&socket, "no.shop.svc.cluster.local.", "AAAA");
    exchange(&socket, "www.example.com.", "A");
    let mut stream = connect(server.tcp);
    stream.write_all(&framed(&query("api.shop.svc.cluster.local.", "SRV").to_bytes().unwrap())).unwrap();
    read_framed(&mut stream);
    socket.send(b"short").unwrap();
    let mut registry = Registry::default();
    server.handle.register_metrics(&mut registry);
    let rows = [
        r#"coredns_dns_requests_total{server="dns://:53",zone="cluster.local.",view="",proto="udp",family="1",type="A"} 1"#,
        r#"coredns_dns_requests_total{server="dns://:53",zone="cluster.local.",view="",proto="tcp",family="1",type="SRV"} 1"#,
        r#"coredns_dns_requests_total{server="dns://:53",zone=".",view="",proto="udp",family="1",type="A"} 1"#,
        r#"coredns_dns_responses_total{server="dns://:53",zone="cluster.local.",view="",rcode="NXDOMAIN",plugin="kubernetes"} 1"#,
        r#"coredns_dns_responses_total{server="dns://:53",zone=".",view="",rcode="NOERROR",plugin="forward"} 1"#,
        r#"coredns_dns_request_duration_seconds_count{server="dns://:53",zone="cluster.local.",view=""} 2"#,
        r#"coredns_dns_request_duration_seconds_bucket{le="0.00025",server="dns://:53",zone="#,
        r#"coredns_dns_request_size_bytes_count{server="dns://:53",zone="cluster.local.",view="",proto="udp"} 2"#,
        r#"coredns_dns_response_size_bytes_count{server="dns://:53",zone=".",view="",proto="udp"} 1"#,
        "coredns_panics_total 0",
        r#"culvert_dns_dropped_total{reason="malformed"} 1"#,
        "culvert_dns_tcp_connections 1",
        "culvert_dns_index_update_seconds_count 1",
    ];
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let missing: Vec<_> = rows.iter().filter(|row| !text.contains(**row)).collect();
        if missing.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "{missing:#?} not in\n{text}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.handle.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn can_be_asked_from_within() {
    let server = Server::ready(loopback()).await;
    let message = query("www.example.com.", "A").to_bytes().unwrap();
    let reply = server.handle.ask(&message, "127.0.0.1".parse().unwrap()).await.unwrap();
    assert_eq!(decode(&reply).answers.len(), 2);
    assert_eq!(server.handle.ask(&message, "192.0.2.1".parse().unwrap()).await, None);
    assert_eq!(server.handle.sizes().0, 13);
    server.handle.stop().await;
}

#[tokio::test]
async fn names_that_are_none_are_refused() {
    let (_snapshots, receiver) = watch::channel(cluster());
    for zone in ["", "a..b", &"x".repeat(64), &"abcdefg.".repeat(25)] {
        let config = Config { zone: zone.to_owned(), ..loopback() };
        let result = start(config, Sockets::default(), receiver.clone(), Known::new(true));
        assert!(matches!(result, Err(Error::Name { .. })), "{zone:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_others_is_answered_before_the_end() {
    let server = Server::ready(loopback()).await;
    let socket = client(server.udp[0]);
    for _ in 0..50 {
        socket.send(&query("slow.example.com.", "A").to_bytes().unwrap()).unwrap();
    }
    // All have been taken when the last of the socket's queue is.
    exchange(&socket, "api.shop.svc.cluster.local.", "A");
    server.handle.stop().await;
    socket.set_nonblocking(true).unwrap();
    let left = (0..50).filter(|_| socket.recv(&mut [0; 512]).is_ok()).count();
    assert_eq!(left, 50);
}

//! HTTP/1.1 in, HTTP/1.1 to pods.

use std::{io::Write, net::Shutdown, thread, time::Duration};

use super::world::{Pod, World, connect, header, read_all, read_head, read_response};
use crate::{
    config::Settings,
    server::{Server, Start},
    table::{AppProtocol, Insecure, Termination, sample::Sample},
};

const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Pod: yes\r\n\r\nhello";

fn get(rest: &str) -> String {
    format!("GET /path?q=1 HTTP/1.1\r\nHost: A.example\r\n{rest}\r\n")
}

#[test]
fn brings_a_request_to_a_pod_and_its_response_back() {
    let pod = Pod::saying(HELLO);
    let world = World::plain(&[Sample::plain(pod.address)]);
    let response = world
        .say(&get("X-Client: yes\r\nProxy: evil\r\nX-SSL-Client-CN: me\r\nConnection: close, X-Gone\r\nX-Gone: 1\r\n"));
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n") && response.ends_with("\r\n\r\nhello"), "{response}");
    assert_eq!(header(&response, "x-pod").as_deref(), Some("yes"));
    assert_eq!(header(&response, "connection").as_deref(), Some("close"));
    let request = pod.last();
    assert!(request.starts_with("GET /path?q=1 HTTP/1.1\r\nHost: a.example\r\n"), "{request}");
    let field = |name| header(&request, name);
    assert_eq!(field("x-client").as_deref(), Some("yes"));
    for gone in ["proxy", "x-ssl-client-cn", "connection", "x-gone"] {
        assert_eq!(field(gone), None, "{gone}");
    }
    assert_eq!(field("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(field("x-forwarded-host").as_deref(), Some("a.example"));
    assert_eq!(field("x-forwarded-port"), Some(world.http.port().to_string()));
    assert_eq!(field("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(field("forwarded").as_deref(), Some("for=127.0.0.1;host=a.example;proto=http"));
    let cookie = header(&response, "set-cookie").unwrap();
    assert!(cookie.contains(&format!("=cookie{}; path=/; HttpOnly", pod.address.port())), "{cookie}");
    let line = world.logged(1).remove(0);
    assert!(
        line.contains(" public be_http:default:route0/pod:pod") && line.contains("\"GET /path?q=1 HTTP/1.1\""),
        "{line}"
    );
}

#[test]
fn keeps_connections_on_both_sides() {
    let pod = Pod::saying(HELLO);
    let world = World::plain(&[Sample::plain(pod.address)]);
    let mut stream = connect(world.http);
    for _ in 0..20 {
        stream.write_all(get("").as_bytes()).unwrap();
        let response = read_response(&mut stream);
        assert!(response.ends_with("hello") && header(&response, "connection").is_none(), "{response}");
    }
    // Several at once, one after another.
    stream.write_all(get("").repeat(3).as_bytes()).unwrap();
    (0..3).for_each(|_| assert!(read_response(&mut stream).ends_with("hello")));
    assert_eq!(*pod.connections.lock().unwrap(), 1);
}

#[test]
fn carries_bodies_of_every_framing_both_ways() {
    let pod = Pod::start(|request| {
        let body = request.split_once("\r\n\r\n").unwrap().1;
        let chunked = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\nX-Sum: 1\r\n\r\n",
            body.len()
        );
        match () {
            () if request.contains("X-Want: chunks") && !body.is_empty() => chunked,
            () if request.contains("X-Want: close") => format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}"),
            () => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
        }
    });
    let world = World::plain(&[Sample::plain(pod.address)]);
    let post = |fields: &str, body: &str| {
        world.say(&format!("POST / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n{fields}\r\n{body}"))
    };
    let large = "x".repeat(200_000);
    for body in ["hello", &large] {
        let length = format!("Content-Length: {}\r\n", body.len());
        let response = post(&length, body);
        assert_eq!(header(&response, "content-length"), Some(body.len().to_string()));
        assert!(response.ends_with(&format!("\r\n\r\n{body}")));
        // A body that ends with the pod's connection comes in chunks.
        let response = post(&format!("{length}X-Want: close\r\n"), body);
        assert_eq!(header(&response, "transfer-encoding").as_deref(), Some("chunked"));
        assert_eq!(unchunk(&response), body);
        let response = post(&format!("{length}X-Want: chunks\r\n"), body);
        assert!(response.ends_with("\r\n0\r\nX-Sum: 1\r\n\r\n") && unchunk(&response) == body);
    }
    // What comes in chunks goes in chunks, and extensions do not go at all.
    post("Transfer-Encoding: chunked\r\n", "3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n");
    let request = pod.last();
    assert_eq!(header(&request, "transfer-encoding").as_deref(), Some("chunked"));
    assert_eq!(unchunk(&request), "hello");
    assert!(!request.contains("a=b"));
}

/// The content of a chunked message.
fn unchunk(message: &str) -> String {
    let mut rest = message.split_once("\r\n\r\n").unwrap().1;
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n").unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return body;
        }
        body.push_str(&after[..size]);
        rest = &after[size + 2..];
    }
}

#[test]
fn sends_a_body_as_it_comes() {
    let pod = Pod::saying(HELLO);
    let world = World::plain(&[Sample::plain(pod.address)]);
    let mut stream = connect(world.http);
    let request = "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 6\r\n\r\nabcdef";
    for byte in request.as_bytes() {
        stream.write_all(&[*byte]).unwrap();
    }
    assert!(read_response(&mut stream).ends_with("hello"));
    assert!(pod.last().ends_with("\r\n\r\nabcdef"));
}

#[test]
fn waits_with_the_body_until_the_pod_wants_it() {
    let pod = Pod::raw(|stream, requests| {
        let head = read_head(stream);
        assert_eq!(header(&head, "expect").as_deref(), Some("100-continue"));
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        let mut body = [0; 5];
        std::io::Read::read_exact(stream, &mut body).unwrap();
        requests.lock().unwrap().push(String::from_utf8_lossy(&body).into());
        stream.write_all(HELLO.as_bytes()).unwrap();
    });
    let world = World::plain(&[Sample::plain(pod.address)]);
    let mut stream = connect(world.http);
    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        .unwrap();
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 100 Continue\r\n"));
    stream.write_all(b"ahead").unwrap();
    assert!(read_response(&mut stream).ends_with("hello"));
    assert_eq!(pod.last(), "ahead");
}

#[test]
fn speaks_http_1_0() {
    let pod = Pod::start(|request| match request.contains("X-Want: chunks") {
        true => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_owned(),
        false => HELLO.to_owned(),
    });
    let world = World::plain(&[Sample::plain(pod.address)]);
    let response = world.say("GET / HTTP/1.0\r\nHost: a.example\r\n\r\n");
    assert!(response.starts_with("HTTP/1.0 200 OK\r\n") && response.ends_with("hello"), "{response}");
    // No chunks for those who do not know them; the end of the connection is the body's.
    let response = world.say("GET / HTTP/1.0\r\nHost: a.example\r\nX-Want: chunks\r\n\r\n");
    assert!(response.ends_with("\r\n\r\nhello") && header(&response, "transfer-encoding").is_none(), "{response}");
    let mut stream = connect(world.http);
    for _ in 0..2 {
        stream.write_all(b"GET / HTTP/1.0\r\nHost: a.example\r\nConnection: keep-alive\r\n\r\n").unwrap();
        assert_eq!(header(&read_response(&mut stream), "connection").as_deref(), Some("keep-alive"));
    }
    assert!(pod.last().starts_with("GET / HTTP/1.1\r\n"));
}

#[test]
fn answers_head_and_statuses_without_bodies() {
    let pod = Pod::start(|request| match request {
        request if request.starts_with("HEAD") => "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n".to_owned(),
        request if request.contains("X-Want: 304") => {
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n".to_owned()
        }
        _ => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
    });
    let world = World::plain(&[Sample::plain(pod.address)]);
    let mut stream = connect(world.http);
    stream.write_all(b"HEAD / HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
    assert_eq!(header(&read_head(&mut stream), "content-length").as_deref(), Some("500"));
    stream.write_all(get("X-Want: 304\r\n").as_bytes()).unwrap();
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 304"));
    stream.write_all(get("").as_bytes()).unwrap();
    let head = read_head(&mut stream);
    assert!(head.starts_with("HTTP/1.1 204") && header(&head, "content-length").is_none(), "{head}");
    assert_eq!(*pod.connections.lock().unwrap(), 1);
}

#[test]
fn refuses_what_is_no_request_and_says_why() {
    let pod = Pod::saying(HELLO);
    let world = World::plain(&[Sample::plain(pod.address)]);
    let rows = [
        ("GET / HTTP/1.1\nHost: a.example\n\n", "400 Bad Request"),
        (
            "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "400 Bad Request",
        ),
        ("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n", "405 Method Not Allowed"),
        ("GET / HTTP/3.0\r\nHost: a.example\r\n\r\n", "505 HTTP Version Not Supported"),
        ("POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400 Bad Request"),
    ];
    for (request, status) in rows {
        let response = world.say(request);
        assert!(response.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request:?} was answered {response:?}");
        assert!(response.contains("<h1>") && header(&response, "connection").as_deref() == Some("close"));
    }
    assert!(pod.requests.lock().unwrap().is_empty());
    let lines = world.logged(rows.len());
    assert!(lines.iter().all(|line| line.contains(" PR")), "{lines:?}");
}

#[test]
fn answers_itself_where_no_route_or_pod_is() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let edge = Sample {
        host: "edge.example",
        termination: Termination::Edge,
        insecure: Insecure::Redirect,
        ..Sample::default()
    };
    let world = World::plain(&[Sample { host: "empty.example", ..Sample::default() }, edge, Sample::plain(gone)]);
    let get = |host: &str| world.say(&format!("GET /a?b HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
    for host in ["nobody.example", "empty.example"] {
        let response = get(host);
        assert!(
            response.starts_with("HTTP/1.1 503 ") && response.contains("Application is not available"),
            "{response}"
        );
    }
    let response = get("edge.example:8080");
    assert!(response.starts_with("HTTP/1.1 302 Found\r\n"), "{response}");
    assert_eq!(header(&response, "location").as_deref(), Some("https://edge.example/a?b"));
    assert_eq!(header(&response, "cache-control").as_deref(), Some("no-cache"));
    // Refused three times more, a second between: then nobody is there.
    let begun = std::time::Instant::now();
    assert!(get("a.example").starts_with("HTTP/1.1 503 "));
    assert!(begun.elapsed() > Duration::from_millis(2900), "after {:?}", begun.elapsed());
    assert!(world.logged(4)[3].contains(" SC"));
}

#[test]
fn goes_to_another_pod_when_one_is_gone() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let pod = Pod::saying(HELLO);
    let endpoints = vec![(gone, AppProtocol::Http1), (pod.address, AppProtocol::Http1)];
    let world = World::plain(&[Sample { endpoints, ..Sample::default() }]);
    for _ in 0..10 {
        assert!(world.say(&get("Connection: close\r\n")).ends_with("hello"));
    }
    // A cookie for the one that is gone does not help, and is replaced.
    let port = gone.port();
    let name =
        header(&world.say(&get("Connection: close\r\n")), "set-cookie").unwrap().split_once('=').unwrap().0.to_owned();
    let response = world.say(&get(&format!("Cookie: a=b; {name}=cookie{port}\r\nConnection: close\r\n")));
    assert!(header(&response, "set-cookie").unwrap().contains(&format!("=cookie{}", pod.address.port())));
    assert_eq!(header(&pod.last(), "cookie").as_deref(), Some("a=b"));
}

#[test]
fn sends_again_what_a_closed_connection_swallowed() {
    // Answers one request, and closes when the second has come: as a server does whose patience has just ended.
    let pod = Pod::raw(|stream, requests| {
        read_head(stream);
        requests.lock().unwrap().push(String::new());
        stream.write_all(HELLO.as_bytes()).unwrap();
        let mut byte = [0];
        let _ = std::io::Read::read(stream, &mut byte);
    });
    let world = World::plain(&[Sample::plain(pod.address)]);
    let mut stream = connect(world.http);
    for _ in 0..5 {
        stream.write_all(get("").as_bytes()).unwrap();
        assert!(read_response(&mut stream).ends_with("hello"));
    }
    // What may not be sent twice is not.
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert!(read_response(&mut stream).starts_with("HTTP/1.1 502 "));
    assert_eq!(pod.requests.lock().unwrap().len(), 5);
}

#[test]
fn gives_up_on_who_takes_too_long() {
    let silent = Pod::raw(|stream, _| {
        read_head(stream);
        thread::sleep(Duration::from_secs(3));
    });
    let annotations = vec![("haproxy.router.openshift.io/timeout", "200ms")];
    let settings = Settings {
        client_timeout: Duration::from_millis(300),
        request_timeout: Duration::from_millis(300),
        keep_alive_timeout: Duration::from_millis(300),
        ..Settings::default()
    };
    let patient = Sample { host: "patient.example", ..Sample::plain(silent.address) };
    let impatient = Sample { annotations, ..Sample::plain(silent.address) };
    let world = World::start(settings, None, &[impatient, patient]);
    assert!(world.say(&get("Connection: close\r\n")).starts_with("HTTP/1.1 504 "));
    // A body that does not come, for a pod that would wait for long.
    let begun = std::time::Instant::now();
    let response = world.say("POST / HTTP/1.1\r\nHost: patient.example\r\nContent-Length: 5\r\n\r\nab");
    assert!(response.starts_with("HTTP/1.1 408 ") && begun.elapsed() < Duration::from_secs(5), "{response}");
    // A head that does not end.
    assert!(world.say("GET / HTTP/1.1\r\nHost: a.exam").starts_with("HTTP/1.1 408 "));
    // Nothing at all is answered with nothing.
    assert_eq!(read_all(&mut connect(world.http)), "");
}

#[test]
fn upgrades_to_a_tunnel() {
    let pod = Pod::raw(|stream, requests| {
        requests.lock().unwrap().push(read_head(stream));
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\nfirst").unwrap();
        let mut bytes = [0; 4];
        std::io::Read::read_exact(stream, &mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
    });
    let world = World::plain(&[Sample::plain(pod.address)]);
    let mut stream = connect(world.http);
    stream.write_all(get("Connection: Upgrade\r\nUpgrade: websocket\r\n").as_bytes()).unwrap();
    let head = read_head(&mut stream);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(header(&head, "upgrade").as_deref(), Some("websocket"));
    assert_eq!(header(&head, "connection").as_deref(), Some("Upgrade"));
    stream.write_all(b"ping").unwrap();
    assert_eq!(read_all(&mut stream), "firstping");
    let request = pod.last();
    assert_eq!(
        (header(&request, "upgrade").as_deref(), header(&request, "connection").as_deref()),
        (Some("websocket"), Some("Upgrade"))
    );
    // h2c is not upgraded to.
    let plain = Pod::saying(HELLO);
    world.table.store(std::sync::Arc::new(crate::table::sample::table(
        Settings::default(),
        None,
        &[Sample::plain(plain.address)],
    )));
    assert!(
        world
            .say(&get("Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"))
            .ends_with("hello")
    );
    assert_eq!((header(&plain.last(), "upgrade"), header(&plain.last(), "http2-settings")), (None, None));
}

#[test]
fn drains_without_cutting_anybody() {
    let pod = Pod::start(|_| {
        thread::sleep(Duration::from_millis(300));
        HELLO.to_owned()
    });
    let mut world = World::plain(&[Sample::plain(pod.address)]);
    let (mut busy, mut idle) = (connect(world.http), connect(world.http));
    idle.write_all(get("").as_bytes()).unwrap();
    assert!(read_response(&mut idle).ends_with("hello"));
    busy.write_all(get("").as_bytes()).unwrap();
    thread::sleep(Duration::from_millis(50));
    let server = world.server.take().unwrap();
    let drained = thread::spawn(move || server.drain(Some(Duration::from_secs(5))));
    // The idle one ends at once; the busy one is told that it will.
    assert_eq!(read_all(&mut idle), "");
    let response = read_all(&mut busy);
    assert!(response.ends_with("hello") && header(&response, "connection").as_deref() == Some("close"), "{response}");
    busy.shutdown(Shutdown::Both).unwrap();
    drained.join().unwrap();
}

#[test]
fn hands_its_sockets_to_a_successor_without_a_failed_request() {
    let pod = Pod::saying(HELLO);
    let table: crate::table::SharedTable =
        std::sync::Arc::new(arc_swap::ArcSwap::from_pointee(crate::table::sample::table(
            Settings { threads: Some(2), ..Settings::default() },
            None,
            &[Sample::plain(pod.address)],
        )));
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let start = || {
        let http = vec![socket.try_clone().unwrap()];
        let (https, stats, sources) = (Vec::new(), Vec::new(), Vec::new());
        Server::start(Start { table: table.clone(), http, https, stats, sources, sink: None, authorize: None }).unwrap()
    };
    let is_over = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        let client = || {
            let (mut served, mut stream) = (0, connect(address));
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                stream.write_all(get("Connection: close\r\n").as_bytes()).unwrap();
                assert!(read_all(&mut stream).ends_with("hello"));
                served += 1;
                stream = connect(address);
            }
            served
        };
        let clients: Vec<_> = (0..3).map(|_| scope.spawn(client)).collect();
        let mut server = start();
        for _ in 0..5 {
            thread::sleep(Duration::from_millis(100));
            let successor = start();
            server.drain(Some(Duration::from_secs(5)));
            server = successor;
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        let served: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
        assert!(served > 50, "only {served}");
        server.drain(Some(Duration::from_secs(5)));
    });
}

#[test]
fn compresses_what_is_worth_it_for_who_takes_it() {
    let page = "<p>hello</p>\n".repeat(5000);
    let body = page.clone();
    let pod = Pod::start(move |request| {
        let kind = if request.contains("/image") { "image/png" } else { "text/html; charset=utf-8" };
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nETag: \"a\"\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    });
    let settings = Settings { compression: vec!["text/html".into(), "text/css".into()], ..Settings::default() };
    let world = World::start(settings, None, &[Sample::plain(pod.address)]);
    let ask = |path: &str, more: &[&str]| {
        let output = std::process::Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "10", "--include", "--header", "Host: a.example"])
            .args(more)
            .arg(format!("http://{}{path}", world.http))
            .output()
            .expect("curl is installed");
        String::from_utf8(output.stdout).unwrap()
    };
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let response = ask("/", &["--compressed", version]);
        assert_eq!(response.split_once("\r\n\r\n").unwrap().1, page);
        let field = |name| header(&response, name);
        assert_eq!((field("content-encoding").as_deref(), field("etag").as_deref()), (Some("gzip"), Some("W/\"a\"")));
        assert_eq!((field("vary").as_deref(), field("content-length")), (Some("Accept-Encoding"), None));
    }
    for response in [ask("/", &[]), ask("/image", &["--compressed"]), ask("/", &["--compressed", "--http1.0"])] {
        assert_eq!(header(&response, "content-encoding"), None);
        assert_eq!(header(&response, "etag").as_deref(), Some("\"a\""));
    }
    assert!(world.logged(5)[0].len() < 1025);
}

#[test]
fn connects_from_the_address_that_it_is_given() {
    let pod = Pod::raw(|stream, requests| {
        read_head(stream);
        requests.lock().unwrap().push(stream.peer_addr().unwrap().ip().to_string());
        stream.write_all(HELLO.as_bytes()).unwrap();
    });
    let routes = [Sample::plain(pod.address)];
    let table = crate::table::sample::table(Settings { threads: Some(1), ..Settings::default() }, None, &routes);
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let _server = Server::start(Start {
        table: std::sync::Arc::new(arc_swap::ArcSwap::from_pointee(table)),
        http: vec![socket],
        https: Vec::new(),
        stats: Vec::new(),
        sources: vec!["fd00::1".parse().unwrap(), "127.0.0.9".parse().unwrap()],
        sink: None,
        authorize: None,
    });
    let mut stream = connect(address);
    stream.write_all(get("").as_bytes()).unwrap();
    assert!(read_response(&mut stream).ends_with("hello"));
    assert_eq!(pod.last(), "127.0.0.9");
}

#[test]
fn holds_clients_to_allow_lists_and_limits() {
    let pod = Pod::saying(HELLO);
    let route = |host, annotations| Sample { host, annotations, ..Sample::plain(pod.address) };
    let prefix = |rest: &'static str| rest;
    let world = World::plain(&[
        route("open.example", vec![(prefix("haproxy.router.openshift.io/ip_allowlist"), "127.0.0.0/8")]),
        route("closed.example", vec![(prefix("haproxy.router.openshift.io/ip_allowlist"), "10.0.0.0/8 192.168.1.1")]),
        route(
            "limited.example",
            vec![
                ("haproxy.router.openshift.io/rate-limit-connections", "true"),
                ("haproxy.router.openshift.io/rate-limit-connections.rate-http", "3"),
            ],
        ),
    ]);
    let get = |host: &str| world.say(&format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
    assert!(get("open.example").starts_with("HTTP/1.1 200 "));
    assert!(get("closed.example").starts_with("HTTP/1.1 403 "));
    let statuses: Vec<String> = (0..5).map(|_| get("limited.example")[9..12].to_owned()).collect();
    assert_eq!(statuses, ["200", "200", "200", "429", "429"]);
}

/// One connection, many requests: for a look at what the router's thread does for each (`strace -f`).
#[test]
#[ignore = "measures nothing by itself"]
fn serves_many_on_one_connection() {
    let pod = Pod::saying(HELLO);
    let world = World::plain(&[Sample::plain(pod.address)]);
    let mut stream = connect(world.http);
    for _ in 0..2000 {
        stream.write_all(get("").as_bytes()).unwrap();
        assert!(read_response(&mut stream).ends_with("hello"));
    }
}

#[test]
fn takes_no_body_for_a_request() {
    let pod = Pod::saying(HELLO);
    let annotations = vec![("haproxy.router.openshift.io/ip_allowlist", "10.0.0.0/8")];
    let closed = Sample { host: "closed.example", annotations, ..Sample::plain(pod.address) };
    let world = World::plain(&[closed, Sample::plain(pod.address)]);
    let inner = get("X-Smuggled: yes\r\n");
    for framing in [
        format!("Content-Length: {}\r\n\r\n{inner}", inner.len()),
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len()),
    ] {
        // Refused without a look at the body, which is all there: what follows it is the next request.
        let mut stream = connect(world.http);
        let refused = format!("POST / HTTP/1.1\r\nHost: closed.example\r\n{framing}");
        stream.write_all((refused + &get("X-Honest: yes\r\nConnection: close\r\n")).as_bytes()).unwrap();
        assert!(read_response(&mut stream).starts_with("HTTP/1.1 403 "));
        assert!(read_all(&mut stream).ends_with("hello"));
        assert!(pod.last().contains("X-Honest: yes"));
        // Refused while the body is on its way: the connection ends.
        let mut stream = connect(world.http);
        stream.write_all(b"POST / HTTP/1.1\r\nHost: closed.example\r\nContent-Length: 500\r\n\r\nG").unwrap();
        let response = read_all(&mut stream);
        assert!(response.starts_with("HTTP/1.1 403 ") && header(&response, "connection").as_deref() == Some("close"));
    }
    assert!(pod.requests.lock().unwrap().iter().all(|request| !request.contains("Smuggled")));
}

#[test]
fn keeps_idle_connections_for_as_long_as_it_is_set() {
    let pod = Pod::saying(HELLO);
    let annotations = vec![("haproxy.router.openshift.io/timeout", "100ms")];
    let settings = Settings {
        request_timeout: Duration::from_millis(100),
        keep_alive_timeout: Duration::from_millis(600),
        ..Settings::default()
    };
    let world = World::start(settings, None, &[Sample { annotations, ..Sample::plain(pod.address) }]);
    let mut stream = connect(world.http);
    for _ in 0..2 {
        stream.write_all(get("").as_bytes()).unwrap();
        assert!(read_response(&mut stream).ends_with("hello"));
        thread::sleep(Duration::from_millis(300));
    }
    let begun = std::time::Instant::now();
    assert_eq!(read_all(&mut stream), "");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn takes_as_many_connections_as_are_allowed() {
    let pod = Pod::saying(HELLO);
    let settings = Settings { max_connections: Some(2), ..Settings::default() };
    let world = World::start(settings, None, &[Sample::plain(pod.address)]);
    let ask = |stream: &mut std::net::TcpStream| {
        stream.write_all(get("").as_bytes()).unwrap();
        read_response(stream).ends_with("hello")
    };
    let (mut one, mut two, mut three) = (connect(world.http), connect(world.http), connect(world.http));
    assert!(ask(&mut one) && ask(&mut two));
    three.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    three.write_all(get("").as_bytes()).unwrap();
    assert!(std::io::Read::read(&mut three, &mut [0]).is_err(), "it waits in the socket's queue");
    three.set_read_timeout(Some(super::world::PATIENCE)).unwrap();
    drop(one);
    assert!(read_response(&mut three).ends_with("hello"));
}

#[test]
fn leaves_out_endpoints_that_fail_their_checks() {
    let pod = Pod::saying(HELLO);
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (other, accepting) = (socket.local_addr().unwrap(), socket);
    let endpoints = vec![(other, AppProtocol::Http1), (pod.address, AppProtocol::Http1)];
    let annotations = vec![("router.openshift.io/haproxy.health.check.interval", "100ms")];
    let world = World::plain(&[Sample { endpoints, annotations, ..Sample::default() }]);
    let is_down = || {
        let table = world.table.load();
        let backend = table.backends().next().unwrap().clone();
        backend.endpoints.iter().find(|endpoint| endpoint.address == other).unwrap().state.is_down()
    };
    let becomes = |wanted: bool| {
        (0..100).any(|_| {
            thread::sleep(Duration::from_millis(100));
            is_down() == wanted
        })
    };
    thread::sleep(Duration::from_millis(700));
    assert!(!is_down());
    drop(accepting);
    assert!(becomes(true), "three failures in a row take it out");
    let _again = std::net::TcpListener::bind(other).unwrap();
    assert!(becomes(false), "two successes bring it back");
}

#[test]
fn holds_little_for_an_idle_connection() {
    let pod = Pod::saying(HELLO);
    let world = World::plain(&[Sample::plain(pod.address)]);
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    let open = |count: usize| -> Vec<_> {
        let ask = |_| {
            let mut stream = connect(world.http);
            stream.write_all(get("").as_bytes()).unwrap();
            assert!(read_response(&mut stream).ends_with("hello"));
            stream
        };
        (0..count).map(ask).collect()
    };
    let limit = nix::sys::resource::Resource::RLIMIT_NOFILE;
    let (_, hard) = nix::sys::resource::getrlimit(limit).unwrap();
    nix::sys::resource::setrlimit(limit, hard, hard).unwrap();
    let _warm = open(100);
    let before = resident();
    let idle = open(2000);
    let each = resident().saturating_sub(before) / idle.len();
    println!("{each} bytes of ours for an idle connection");
    assert!(each <= 12 * 1024, "{each} bytes");
}

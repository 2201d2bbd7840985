use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;
use crate::sandbox::Namespace;

fn who() -> Arc<Identity> {
    Arc::new(Identity { namespace: "shop".into(), pod: "web-1".into(), node: "node-1".into() })
}

/// A namespace with loopback only, and a runtime that serves there.
fn setting() -> (Sandbox, tokio::runtime::Runtime) {
    let sandbox = Sandbox::from(Namespace::new_net().unwrap());
    (sandbox, tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap())
}

fn read_response(reader: &mut impl BufRead) -> Answer {
    let mut length = None;
    for line in reader.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()) {
        let line = line.to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = Some(value.parse().unwrap());
        }
    }
    let mut body = vec![0; length.unwrap()];
    reader.read_exact(&mut body).unwrap();
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn http1_keeps_the_connection_and_says_what_it_saw() {
    let (sandbox, runtime) = setting();
    let _standin = StandIn::open(&sandbox, runtime.handle(), who(), Protocol::Tcp, 80).unwrap();
    for address in ["127.0.0.1", "::1"] {
        let address: IpAddr = address.parse().unwrap();
        let mut stream = sandbox.within(|| Ok(TcpStream::connect((address, 80))?)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let local = stream.local_addr().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        for (method, path, body) in [("GET", "/first?x=1", ""), ("POST", "/second", "hello")] {
            let length = body.len();
            let head =
                format!("{method} {path} HTTP/1.1\r\nHost: shop\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: {length}");
            write!(stream, "{head}\r\n\r\n{body}").unwrap();
            let answer = read_response(&mut reader);
            assert_eq!(answer.who, *who());
            assert_eq!((answer.client_address, answer.client_port), (local.ip(), local.port()));
            assert_eq!((answer.server_address, answer.server_port), (address, 80));
            let request = answer.request.unwrap();
            assert_eq!([&*request.version, &*request.method, &*request.path], ["HTTP/1.1", method, path]);
            assert_eq!(request.headers["x-a"], "1, 2");
        }
    }
}

#[test]
fn http2_with_prior_knowledge_is_answered_on_the_same_port() {
    let (sandbox, runtime) = setting();
    let _standin = StandIn::open(&sandbox, runtime.handle(), who(), Protocol::Tcp, 50051).unwrap();
    let stream = sandbox.within(|| Ok(TcpStream::connect(("127.0.0.1", 50051))?)).unwrap();
    stream.set_nonblocking(true).unwrap();
    let answer: Answer = runtime.block_on(async {
        let stream = TokioIo::new(tokio::net::TcpStream::from_std(stream).unwrap());
        let (mut client, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        let request = hyper::Request::get("http://shop/grpc.Service/Call").header("te", "trailers");
        let response = client.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
    });
    let request = answer.request.unwrap();
    assert_eq!([&*request.version, &*request.path], ["HTTP/2.0", "/grpc.Service/Call"]);
    assert_eq!(request.headers["te"], "trailers");
}

#[test]
fn a_datagram_is_answered_from_the_address_it_was_sent_to() {
    let (sandbox, runtime) = setting();
    let _standin = StandIn::open(&sandbox, runtime.handle(), who(), Protocol::Udp, 53).unwrap();
    // The kernel alone would answer from 127.0.0.1 to a client on 127.0.0.1.
    for (local, asked) in [("127.0.0.1", "127.0.0.99"), ("::1", "::1")] {
        let client = sandbox.within(|| Ok(UdpSocket::bind((local, 0))?)).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client.connect((asked, 53)).unwrap();
        client.send(b"who?").unwrap();
        let mut answer = [0; 1024];
        let length = client.recv(&mut answer).unwrap();
        let answer: Answer = serde_json::from_slice(&answer[..length]).unwrap();
        assert_eq!((answer.who, answer.request), ((*who()).clone(), None));
        assert_eq!(answer.client_port, client.local_addr().unwrap().port());
        assert_eq!((answer.server_address.to_string(), answer.server_port), (asked.to_string(), 53));
    }
}

#[test]
fn dropping_a_stand_in_closes_its_port_and_connections() {
    let (sandbox, runtime) = setting();
    let standin = StandIn::open(&sandbox, runtime.handle(), who(), Protocol::Tcp, 80).unwrap();
    let mut stream = sandbox.within(|| Ok(TcpStream::connect(("127.0.0.1", 80))?)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(stream, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    read_response(&mut BufReader::new(&stream));
    drop(standin);
    let ended = stream.read(&mut [0; 1]);
    assert!(matches!(ended, Ok(0)) || ended.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while sandbox.within(|| Ok(TcpStream::connect(("127.0.0.1", 80))?)).is_ok() {
        assert!(std::time::Instant::now() < deadline, "the port is still open");
    }
}

#[test]
fn sctp_is_refused_with_its_reason() {
    let (sandbox, runtime) = setting();
    let error = StandIn::open(&sandbox, runtime.handle(), who(), Protocol::Sctp, 5000).unwrap_err();
    assert!(error.to_string().contains("do not speak SCTP"), "{error}");
}

//! HTTP/2 from clients and to pods.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, thread, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::{
    tls::Authority,
    world::{Pod, World},
};
use crate::{
    config::Settings,
    table::{AppProtocol, DestinationTrust, Insecure, Name, Termination, sample::Sample},
};

type Sender = hyper::client::conn::http2::SendRequest<BoxBody<Bytes, Infallible>>;

/// A client's connection with HTTP/2, over TLS if there is a configuration for it.
async fn open(address: SocketAddr, tls: Option<(Arc<rustls::ClientConfig>, &'static str)>) -> Sender {
    let stream = TcpStream::connect(address).await.unwrap();
    match tls {
        None => begin(TokioIo::new(stream)).await,
        Some((config, name)) => {
            let stream =
                tokio_rustls::TlsConnector::from(config).connect(name.try_into().unwrap(), stream).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            begin(TokioIo::new(stream)).await
        }
    }
}

async fn begin(io: impl hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static) -> Sender {
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    sender
}

fn request(host: &str, body: &'static str) -> Request<BoxBody<Bytes, Infallible>> {
    let uri = format!("https://{host}/grpc.Service/Method?q");
    Request::post(uri).header("te", "trailers").body(Full::new(Bytes::from(body)).boxed()).unwrap()
}

/// A pod that speaks HTTP/2: it answers with what it got, and trailers. With `lives` each connection ends after so long.
fn h2_pod(tls: Option<Arc<rustls::ServerConfig>>, lives: Duration) -> SocketAddr {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    socket.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let socket = tokio::net::TcpListener::from_std(socket).unwrap();
            loop {
                let (stream, _) = socket.accept().await.unwrap();
                let tls = tls.clone();
                tokio::spawn(async move {
                    match tls {
                        None => answer(stream, lives).await,
                        Some(config) => {
                            answer(tokio_rustls::TlsAcceptor::from(config).accept(stream).await.unwrap(), lives).await
                        }
                    }
                });
            }
        });
    });
    address
}

async fn answer(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, lives: Duration) {
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let serving = server.serve_connection(TokioIo::new(stream), hyper::service::service_fn(echo));
    // Cut without a word when its time has come.
    let _ = tokio::time::timeout(lives, serving).await;
}

async fn echo(request: Request<Incoming>) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    assert_eq!(request.version(), Version::HTTP_2);
    let te = request.headers().get("te").cloned();
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    if let Some(sent) = body.trailers().and_then(|trailers| trailers.get("x-sent")) {
        trailers.insert("x-sent", sent.clone());
    }
    let frames = [Ok(Frame::data(body.to_bytes())), Ok(Frame::trailers(trailers))];
    let body = StreamBody::new(futures_util::stream::iter(frames)).boxed();
    let response = Response::builder().header("x-path", path).header("x-te", te.unwrap_or("none".parse().unwrap()));
    Ok(response.body(body).unwrap())
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), test).await.unwrap() });
}

#[test]
fn speaks_http2_to_clients_and_http1_to_pods() {
    let pod = Pod::saying(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: X-Gone\r\nX-Gone: 1\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n",
    );
    let authority = Authority::new();
    let certificate = Some(authority.certificate(&["a.example"]));
    let route = |host| Sample {
        host,
        termination: Termination::Edge,
        insecure: Insecure::Allow,
        certificate: certificate.clone(),
        ..Sample::plain(pod.address)
    };
    let other = Sample { certificate: Some(authority.certificate(&["b.example"])), ..route("b.example") };
    let world = World::start(Settings::default(), None, &[route("a.example"), other]);
    run(async {
        for tls in [None, Some((authority.client(&["h2", "http/1.1"], None), "a.example"))] {
            let is_secure = tls.is_some();
            let mut sender = open(if is_secure { world.https } else { world.http }, tls).await;
            let requests: Vec<_> =
                (0..20).map(|_| tokio::spawn(sender.send_request(request("a.example", "content")))).collect();
            for response in requests {
                let response = response.await.unwrap().unwrap();
                assert_eq!((response.status(), response.headers().get("x-gone")), (StatusCode::OK, None));
                let body = response.into_body().collect().await.unwrap();
                assert_eq!(body.trailers().unwrap()["x-sum"], "7");
                assert_eq!(body.to_bytes(), "hello");
            }
            let seen = pod.last();
            assert!(seen.starts_with("POST /grpc.Service/Method?q HTTP/1.1\r\nhost: a.example\r\n"), "{seen}");
            assert!(seen.ends_with("\r\n\r\ncontent") && seen.contains("TE: trailers"), "{seen}");
            assert_eq!(seen.contains("X-Forwarded-Proto-Version: h2"), is_secure);
            // Another certificate's host has to be asked for on a connection of its own; where there is no TLS, there is
            // nothing to say so.
            let status = sender.send_request(request("b.example", "")).await.unwrap().status();
            assert_eq!(status, if is_secure { StatusCode::MISDIRECTED_REQUEST } else { StatusCode::OK });
            let status = sender.send_request(request("nobody.test", "")).await.unwrap().status();
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        }
    });
}

#[test]
fn speaks_http2_to_pods_with_trailers_both_ways() {
    let pod = h2_pod(None, Duration::from_secs(60));
    let authority = Authority::new();
    let route = Sample {
        endpoints: vec![(pod, AppProtocol::H2c)],
        termination: Termination::Edge,
        certificate: Some(authority.certificate(&["a.example"])),
        destination: DestinationTrust::Unverified,
        ..Sample::default()
    };
    let world = World::start(Settings::default(), None, &[route]);
    run(async {
        let mut sender = open(world.https, Some((authority.client(&["h2"], None), "a.example"))).await;
        let large = Bytes::from(vec![b'x'; 300_000]);
        let mut sent = HeaderMap::new();
        sent.insert("x-sent", "yes".parse().unwrap());
        let frames = [Ok(Frame::data(large.clone())), Ok(Frame::trailers(sent))];
        let body = StreamBody::new(futures_util::stream::iter(frames)).boxed();
        let request =
            Request::post("https://a.example/grpc.Service/Method").header("te", "trailers").body(body).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["x-path"], "/grpc.Service/Method");
        assert_eq!(response.headers()["x-te"], "trailers");
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(body.trailers().unwrap()["x-sent"], "yes");
        assert_eq!(body.to_bytes(), large);
    });
}

#[test]
fn finds_out_by_alpn_that_pods_speak_http2_and_replaces_connections_that_end() {
    let authority = Authority::new();
    let (tls, plain) = (
        h2_pod(Some(authority.server(&["svc.default.svc"], &["h2", "http/1.1"])), Duration::from_millis(150)),
        h2_pod(None, Duration::from_millis(150)),
    );
    let reencrypt = Sample {
        host: "tls.example",
        endpoints: vec![(tls, AppProtocol::Http1)],
        termination: Termination::Reencrypt,
        insecure: Insecure::Allow,
        destination: DestinationTrust::Authorities {
            pem: authority.pem().into_bytes().into(),
            name: Some(Name::Service),
        },
        ..Sample::default()
    };
    let h2c = Sample { host: "plain.example", endpoints: vec![(plain, AppProtocol::H2c)], ..Sample::default() };
    let world = World::plain(&[reencrypt, h2c]);
    for host in ["tls.example", "plain.example"] {
        let mut stream = super::world::connect(world.http);
        for _ in 0..4 {
            let request = format!("POST /x HTTP/1.1\r\nHost: {host}\r\nTE: trailers\r\nContent-Length: 5\r\n\r\nhello");
            std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
            let head = super::world::read_head(&mut stream);
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("Transfer-Encoding: chunked"), "{head}");
            let mut rest = vec![0; "5\r\nhello\r\n0\r\ngrpc-status: 0\r\n\r\n".len()];
            std::io::Read::read_exact(&mut stream, &mut rest).unwrap();
            assert_eq!(String::from_utf8_lossy(&rest), "5\r\nhello\r\n0\r\ngrpc-status: 0\r\n\r\n");
            // Longer than the pod keeps a connection, every other time.
            thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn bounds_resets_and_survives_them() {
    let pod = Pod::raw(|_, _| thread::sleep(Duration::from_secs(2)));
    let world = World::plain(&[Sample::plain(pod.address)]);
    run(async {
        let stream = TcpStream::connect(world.http).await.unwrap();
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        let ended = tokio::spawn(connection);
        // Requests that are cancelled as soon as they are sent, until the router has enough of them.
        for _ in 0..5000 {
            let Ok(()) = std::future::poll_fn(|cx| sender.poll_ready(cx)).await else { break };
            let request = Request::get("http://a.example/").body(()).unwrap();
            let Ok((response, mut stream)) = sender.send_request(request, true) else { break };
            stream.send_reset(h2::Reason::CANCEL);
            drop(response);
            tokio::task::yield_now().await;
        }
        drop(sender);
        let _ = ended.await.unwrap();
        // Others are served.
        let answering = Pod::saying("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        world.table.store(Arc::new(crate::table::sample::table(
            Settings::default(),
            None,
            &[Sample::plain(answering.address)],
        )));
        let mut sender = open(world.http, None).await;
        assert_eq!(sender.send_request(request("a.example", "")).await.unwrap().status(), StatusCode::OK);
    });
}

#[test]
fn carries_websockets_over_http2() {
    let pod = Pod::raw(|stream, requests| {
        requests.lock().unwrap().push(super::world::read_head(stream));
        std::io::Write::write_all(stream, b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\nfirst").unwrap();
        let mut bytes = [0; 4];
        std::io::Read::read_exact(stream, &mut bytes).unwrap();
        std::io::Write::write_all(stream, &bytes).unwrap();
    });
    let world = World::plain(&[Sample::plain(pod.address)]);
    run(async {
        let stream = TcpStream::connect(world.http).await.unwrap();
        let (mut sender, mut connection) = h2::client::handshake(stream).await.unwrap();
        // The router's settings say that CONNECT may be extended.
        let mut ping = connection.ping_pong().unwrap();
        tokio::spawn(async move { drop(connection.await) });
        ping.ping(h2::Ping::opaque()).await.unwrap();
        assert!(sender.is_extended_connect_protocol_enabled());
        std::future::poll_fn(|cx| sender.poll_ready(cx)).await.unwrap();
        let mut request = Request::connect("http://a.example/chat").body(()).unwrap();
        request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        let (response, mut stream) = sender.send_request(request, false).unwrap();
        let response = response.await.unwrap();
        assert_eq!((response.status(), response.headers().get("connection")), (StatusCode::OK, None));
        stream.send_data(Bytes::from_static(b"ping"), false).unwrap();
        let mut body = response.into_body();
        let mut read = Vec::new();
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            read.extend_from_slice(&data);
        }
        assert_eq!(read, b"firstping");
        let seen = pod.last();
        assert!(seen.starts_with("GET /chat HTTP/1.1\r\n") && seen.contains("Upgrade: websocket\r\n"), "{seen}");
    });
}

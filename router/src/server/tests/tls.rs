//! TLS that ends at the router, goes through it, and begins at it.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    thread,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};

use super::world::{Pod, World, connect, header, read_all, read_head, read_response};
use crate::{
    config::{Ciphers, ClientAuth, Settings},
    table::{AppProtocol, Certificate, ClientAuthority, DestinationTrust, Insecure, Name, Termination, sample::Sample},
    tls::{Contexts, TlsFault, missing_suites},
};

/// An authority, and certificates of it.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "an authority");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Certificate and key, PEM.
    pub fn issue(&self, names: &[&str]) -> (String, String) {
        let params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    pub fn certificate(&self, names: &[&str]) -> Arc<Certificate> {
        let (certificate, key) = self.issue(names);
        Arc::new(Certificate::read(certificate.as_bytes(), Some(key.as_bytes()), b"").unwrap())
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }

    /// What a client that trusts this authority speaks TLS with.
    pub fn client(&self, protocols: &[&str], own: Option<(String, String)>) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(self.roots());
        let mut config = match own {
            Some((certificate, key)) => builder.with_client_auth_cert(vec![der(&certificate)], key_of(&key)).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// What a pod speaks TLS with.
    pub fn server(&self, names: &[&str], protocols: &[&str]) -> Arc<ServerConfig> {
        let (certificate, key) = self.issue(names);
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let mut config = builder.with_single_cert(vec![der(&certificate)], key_of(&key)).unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// A pod that speaks TLS, and HTTP/1.1 in it.
    fn pod(&self, names: &[&str], response: &'static str) -> Pod {
        let config = self.server(names, &[]);
        Pod::raw(move |stream, requests| {
            let session = ServerConnection::new(config.clone()).unwrap();
            let mut stream = StreamOwned::new(session, stream.try_clone().unwrap());
            loop {
                let mut byte = [0];
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    match stream.read(&mut byte) {
                        Ok(1) => head.push(byte[0] as char),
                        _ => return,
                    }
                }
                requests.lock().unwrap().push(head);
                stream.write_all(response.as_bytes()).unwrap();
            }
        })
    }
}

fn der(pem: &str) -> CertificateDer<'static> {
    rustls::pki_types::pem::PemObject::from_pem_slice(pem.as_bytes()).unwrap()
}

fn key_of(pem: &str) -> PrivateKeyDer<'static> {
    rustls::pki_types::pem::PemObject::from_pem_slice(pem.as_bytes()).unwrap()
}

/// A client's connection with TLS.
pub fn tls(world: &World, config: &Arc<ClientConfig>, name: &'static str) -> StreamOwned<ClientConnection, TcpStream> {
    let session = ClientConnection::new(config.clone(), ServerName::try_from(name).unwrap()).unwrap();
    StreamOwned::new(session, connect(world.https))
}

const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

fn get(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

fn edge(authority: &Authority, host: &'static str, pod: &Pod) -> Sample {
    let certificate = Some(authority.certificate(&[host]));
    Sample { host, termination: Termination::Edge, insecure: Insecure::None, certificate, ..Sample::plain(pod.address) }
}

#[test]
fn ends_the_tls_of_edge_routes() {
    let (authority, pod) = (Authority::new(), Pod::saying(HELLO));
    let hsts = ("haproxy.router.openshift.io/hsts_header", "max-age=31536000;includeSubDomains");
    let route = Sample { annotations: vec![hsts], ..edge(&authority, "a.example", &pod) };
    let default = Some(authority.certificate(&["default.example"]));
    let world = World::start(Settings::default(), default, &[route]);
    let mut stream = tls(&world, &authority.client(&["http/1.1"], None), "a.example");
    for _ in 0..3 {
        stream.write_all(get("a.example").as_bytes()).unwrap();
        let response = read_response(&mut stream);
        assert!(response.ends_with("hello"), "{response}");
        assert_eq!(
            header(&response, "strict-transport-security").as_deref(),
            Some("max-age=31536000;includeSubDomains")
        );
        assert!(header(&response, "set-cookie").unwrap().ends_with("; Secure; SameSite=None"));
    }
    assert_eq!(header(&pod.last(), "x-forwarded-proto").as_deref(), Some("https"));
    // On :80 it is not there, and by another name the default certificate says so.
    assert!(world.say(&get("a.example").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).contains(" 503 "));
    let mut stream = tls(&world, &authority.client(&[], None), "default.example");
    stream.write_all(get("a.example").as_bytes()).unwrap();
    assert!(read_response(&mut stream).ends_with("hello"), "HTTP/1.1 clients may ask for another host");
    let mut stream = tls(&world, &authority.client(&[], None), "other.example");
    let error = stream.write_all(get("a.example").as_bytes()).unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
}

#[test]
fn passes_through_whole_and_both_ways() {
    let authority = Authority::new();
    let pod = authority.pod(&["p.example"], HELLO);
    let exact = Pod::saying(HELLO);
    let wildcard = Sample { host: "*.example", termination: Termination::Passthrough, ..Sample::plain(pod.address) };
    let world = World::start(Settings::default(), None, &[wildcard, edge(&authority, "e.example", &exact)]);
    let mut stream = tls(&world, &authority.client(&[], None), "p.example");
    stream.write_all(get("p.example").as_bytes()).unwrap();
    assert!(read_response(&mut stream).ends_with("hello"));
    assert_eq!(header(&pod.last(), "x-forwarded-for"), None);
    drop(stream);
    assert!(world.logged(1)[0].contains(" public_ssl be_tcp:default:route0/pod:pod"), "{:?}", world.logged(1));
    // An exact host under the wildcard is its own.
    let mut stream = tls(&world, &authority.client(&[], None), "e.example");
    stream.write_all(get("e.example").as_bytes()).unwrap();
    assert!(read_response(&mut stream).ends_with("hello"));
    assert_eq!(exact.requests.lock().unwrap().len(), 1);
    // No route and no default certificate: told so.
    let mut stream = tls(&world, &authority.client(&[], None), "nobody.test");
    let error = stream.write_all(b"x").and_then(|()| stream.flush()).unwrap_err();
    assert!(error.to_string().contains("UnrecognisedName"), "{error}");
}

#[test]
fn lets_each_direction_of_a_passthrough_end_by_itself() {
    // A pod that reads to the end before it says anything: only a half-closed connection brings its answer.
    let pod = Pod::raw(|stream, requests| {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        requests.lock().unwrap().push(bytes.len().to_string());
        stream.write_all(&vec![b'y'; 300_000]).unwrap();
    });
    let world = World::start(
        Settings::default(),
        None,
        &[Sample { termination: Termination::Passthrough, ..Sample::plain(pod.address) }],
    );
    let authority = Authority::new();
    let mut session =
        ClientConnection::new(authority.client(&[], None), ServerName::try_from("a.example").unwrap()).unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    let mut stream = connect(world.https);
    // In pieces, with the rest after it.
    for piece in hello.chunks(50) {
        stream.write_all(piece).unwrap();
        thread::yield_now();
    }
    stream.write_all(&vec![b'x'; 500_000]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut stream).len(), 300_000);
    assert_eq!(pod.last(), (hello.len() + 500_000).to_string());
}

#[test]
fn begins_tls_to_pods_and_believes_only_whom_the_route_trusts() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let pod = authority.pod(&["svc.default.svc"], HELLO);
    let trust = |name| DestinationTrust::Authorities { pem: authority.pem().into_bytes().into(), name };
    let distrust = DestinationTrust::Authorities { pem: stranger.pem().into_bytes().into(), name: None };
    let route =
        |host, destination| Sample { termination: Termination::Reencrypt, destination, ..edge(&authority, host, &pod) };
    let world = World::start(
        Settings::default(),
        None,
        &[
            route("any.example", DestinationTrust::Unverified),
            route("ca.example", trust(None)),
            route("service.example", trust(Some(Name::Service))),
            route("fixed.example", trust(Some(Name::Fixed("other.test".into())))),
            route("stranger.example", distrust),
        ],
    );
    let client = authority.client(&[], None);
    let ask = |host: &'static str| {
        let mut stream = tls(&world, &client, host);
        stream.write_all(get(host).as_bytes()).unwrap();
        stream.write_all(get(host).as_bytes()).unwrap();
        [read_response(&mut stream), read_response(&mut stream)].map(|response| response[9..12].to_owned())
    };
    for host in ["any.example", "ca.example", "service.example"] {
        assert_eq!(ask(host), ["200", "200"], "{host}");
    }
    let before = *pod.connections.lock().unwrap();
    assert_eq!(before, 3, "each trust has connections of its own, kept");
    let ask = &ask;
    thread::scope(|scope| {
        for host in ["fixed.example", "stranger.example"] {
            scope.spawn(move || assert_eq!(ask(host)[0], "503", "{host}"));
        }
    });
}

#[test]
fn wants_the_client_certificates_of_routes() {
    let (authority, stranger, pod) = (Authority::new(), Authority::new(), Pod::saying(HELLO));
    let own = Arc::new(ClientAuthority { pem: authority.pem().into_bytes(), is_required: true });
    let locked = Sample { client_authority: Some(own), ..edge(&authority, "locked.example", &pod) };
    let world = World::start(Settings::default(), None, &[locked, edge(&authority, "open.example", &pod)]);
    let status = |config: &Arc<ClientConfig>, name, host: &str| {
        let mut stream = tls(&world, config, name);
        stream.write_all(get(host).as_bytes()).unwrap();
        read_head(&mut stream)[9..12].to_owned()
    };
    let without = authority.client(&[], None);
    let with = authority.client(&[], Some(authority.issue(&["me"])));
    assert_eq!(status(&with, "locked.example", "locked.example"), "200");
    assert_eq!(status(&without, "locked.example", "locked.example"), "403");
    // Verified by nobody on a connection for another host, whoever the client is.
    assert_eq!(status(&with, "open.example", "locked.example"), "421");
    assert_eq!(status(&with, "open.example", "open.example"), "200");
    // Somebody else's certificate ends the handshake.
    let other = authority.client(&[], Some(stranger.issue(&["me"])));
    let mut stream = tls(&world, &other, "locked.example");
    let _ = stream.write_all(get("locked.example").as_bytes());
    assert!(stream.read(&mut [0]).is_err());
}

#[test]
fn wants_client_certificates_of_everybody_and_tells_pods_about_them() {
    let (authority, pod) = (Authority::new(), Pod::saying(HELLO));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), authority.pem()).unwrap();
    let mut settings = Settings::default();
    settings.mutual_tls.mode = ClientAuth::Required;
    settings.mutual_tls.authorities = Some(file.path().into());
    // What the router's authority has verified does not satisfy a route that trusts another, nor one that trusts the same: its own
    // was not asked.
    let stranger = Authority::new();
    let own = |authority: &Authority| {
        Some(Arc::new(ClientAuthority { pem: authority.pem().into_bytes(), is_required: true }))
    };
    let foreign = Sample { client_authority: own(&stranger), ..edge(&authority, "foreign.example", &pod) };
    let world = World::start(settings, None, &[edge(&authority, "a.example", &pod), foreign]);
    let verified = authority.client(&[], Some(authority.issue(&["me.example"])));
    let mut stream = tls(&world, &verified, "foreign.example");
    stream.write_all(get("foreign.example").as_bytes()).unwrap();
    assert_eq!(&read_head(&mut stream)[9..12], "421");
    let mut stream = tls(&world, &verified, "a.example");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\nX-SSL-Client-CN: forged\r\n\r\n").unwrap();
    assert!(read_response(&mut stream).ends_with("hello"));
    let request = pod.last();
    let value = |name| header(&request, name).unwrap();
    assert_eq!(
        (value("x-ssl"), value("x-ssl-client-verify"), value("x-ssl-client-version")),
        ("1".into(), "0".into(), "\"3\"".into())
    );
    assert_eq!(value("x-ssl-issuer"), "\"/CN=an authority\"");
    assert_eq!(value("x-ssl-client-sha1").len(), 42);
    assert!(value("x-ssl-client-der").starts_with("\"MII") && value("x-ssl-client-notbefore").ends_with("Z\""));
    assert!(!request.contains("forged"));
    let mut stream = tls(&world, &authority.client(&[], None), "a.example");
    let _ = stream.write_all(get("a.example").as_bytes());
    assert!(stream.read(&mut [0]).is_err());
}

/// curl as a client of each termination, with both versions of HTTP.
#[test]
fn is_understood_by_curl() {
    let authority = Authority::new();
    let (pod, secure) = (Pod::saying(HELLO), authority.pod(&["p.example"], HELLO));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), authority.pem()).unwrap();
    let plain = Sample { host: "http.example", ..Sample::plain(pod.address) };
    let passthrough =
        Sample { host: "p.example", termination: Termination::Passthrough, ..Sample::plain(secure.address) };
    let own = Some(authority.certificate(&["r.example"]));
    let reencrypt = Sample {
        host: "r.example",
        termination: Termination::Reencrypt,
        certificate: own,
        ..Sample::plain(secure.address)
    };
    let world =
        World::start(Settings::default(), None, &[plain, edge(&authority, "e.example", &pod), passthrough, reencrypt]);
    let curl = |scheme: &str, host: &str, more: &[&str]| {
        let port = if scheme == "http" { world.http } else { world.https }.port();
        let output = std::process::Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "10", "--cacert"])
            .arg(file.path())
            .args(["--resolve", &format!("{host}:{port}:127.0.0.1"), "--write-out", " %{http_version} %{http_code}"])
            .args(more)
            .arg(format!("{scheme}://{host}:{port}/"))
            .output()
            .expect("curl is installed");
        assert!(output.status.success(), "{host}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(curl("http", "http.example", &[]), "hello 1.1 200");
    assert_eq!(curl("http", "http.example", &["--http1.0"]), "hello 1 200");
    assert_eq!(curl("http", "http.example", &["--http2-prior-knowledge"]), "hello 2 200");
    assert_eq!(curl("https", "e.example", &[]), "hello 2 200");
    assert_eq!(curl("https", "e.example", &["--http1.1", "--data", "x"]), "hello 1.1 200");
    assert_eq!(curl("https", "e.example", &["--tls-max", "1.2"]), "hello 2 200");
    assert_eq!(curl("https", "p.example", &[]), "hello 1.1 200");
    assert_eq!(curl("https", "r.example", &[]), "hello 2 200");
}

#[test]
fn holds_little_for_an_idle_connection() {
    let (authority, pod) = (Authority::new(), Pod::saying(HELLO));
    let world = World::start(Settings::default(), None, &[edge(&authority, "a.example", &pod)]);
    let config = authority.client(&["http/1.1"], None);
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    let open = |count: usize| -> Vec<_> {
        let ask = |_| {
            let mut stream = tls(&world, &config, "a.example");
            stream.write_all(get("a.example").as_bytes()).unwrap();
            assert!(read_response(&mut stream).ends_with("hello"));
            stream
        };
        (0..count).map(ask).collect()
    };
    let _warm = open(20);
    let before = resident();
    let idle = open(400);
    // The clients are in this process, too, and hold as much again.
    let each = resident().saturating_sub(before) / idle.len();
    println!("{each} bytes for both ends of an idle TLS connection");
    assert!(each <= 2 * 40 * 1024, "{each} bytes");
}

#[test]
fn says_at_start_what_it_cannot_do() {
    let list = |names: &[&str]| Settings {
        ciphers: Ciphers::List(names.iter().map(ToString::to_string).collect()),
        cipher_suites: vec!["TLS_AES_128_CCM_SHA256".to_owned()],
        ..Settings::default()
    };
    assert!(matches!(Contexts::new(&list(&["AES128-SHA", "DES-CBC3-SHA"])), Err(TlsFault::NoCipher(_))));
    assert!(Contexts::new(&list(&["AES128-SHA", "ECDHE-RSA-AES128-GCM-SHA256"])).is_ok());
    let groups = Settings { curves: vec!["P-521".to_owned()], ..Settings::default() };
    assert!(matches!(Contexts::new(&groups), Err(TlsFault::NoGroup(_))));
    let dhe = ["DHE-RSA-AES128-GCM-SHA256", "DHE-RSA-AES256-GCM-SHA384", "DHE-RSA-CHACHA20-POLY1305"];
    assert_eq!(missing_suites(&Settings::default()), dhe);
    let modern = Contexts::new(&Settings { ciphers: Ciphers::Modern, ..Settings::default() }).unwrap();
    assert_eq!(modern.profile().versions().len(), 1);
}

#[test]
fn tells_pods_about_clients_by_the_proxy_protocol_and_believes_balancers() {
    let pod = Pod::raw(|stream, requests| {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\n") {
            stream.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        requests.lock().unwrap().push(String::from_utf8(line).unwrap());
        read_head(stream);
        stream.write_all(HELLO.as_bytes()).unwrap();
    });
    let settings = Settings { proxy_protocol: true, ..Settings::default() };
    let route = Sample { annotations: vec![("router.culvert/send-proxy", "v1")], ..Sample::plain(pod.address) };
    assert_eq!(route.endpoints[0].1, AppProtocol::Http1);
    let world = World::start(settings, None, &[route]);
    let response = world.say(
        "PROXY TCP4 192.0.2.7 198.51.100.1 4711 80\r\nGET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n",
    );
    assert!(response.ends_with("hello"), "{response}");
    assert_eq!(pod.last(), "PROXY TCP4 192.0.2.7 198.51.100.1 4711 80\r\n");
    assert!(world.logged(1)[0].starts_with("192.0.2.7:4711 "));
    // Without it nobody is served.
    assert_eq!(world.say("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"), "");
}

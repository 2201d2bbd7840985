//! A router on loopback, pods behind it that say what they got, and clients that say what they like.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;

use crate::{
    config::Settings,
    server::{Server, Start},
    table::{Certificate, SharedTable, sample},
};

/// A router and where it listens.
pub struct World {
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub stats: SocketAddr,
    pub table: SharedTable,
    pub log: Arc<Mutex<Vec<String>>>,
    pub server: Option<Server>,
}

/// A pod that answers as it is told.
pub struct Pod {
    pub address: SocketAddr,
    /// Heads of requests, with their bodies.
    pub requests: Arc<Mutex<Vec<String>>>,
    /// Connections that were taken.
    pub connections: Arc<Mutex<usize>>,
}

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(10);

// === impl World ===

impl World {
    pub fn start(settings: Settings, certificate: Option<Arc<Certificate>>, routes: &[sample::Sample]) -> Self {
        let table: SharedTable = Arc::new(ArcSwap::from_pointee(sample::table(
            Settings { threads: Some(1), ..settings },
            certificate,
            routes,
        )));
        let sockets = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [http, https, stats] = sockets.each_ref().map(|socket| socket.local_addr().unwrap());
        let [http_socket, https_socket, stats_socket] = sockets;
        let log = Arc::<Mutex<Vec<String>>>::default();
        let sink = log.clone();
        let server = Server::start(Start {
            table: table.clone(),
            http: vec![http_socket],
            https: vec![https_socket],
            stats: vec![stats_socket],
            sources: Vec::new(),
            sink: Some(Arc::new(move |line| sink.lock().unwrap().push(line.to_owned()))),
            authorize: Some(Arc::new(|token| Box::pin(async move { token == "right" }))),
        });
        Self { http, https, stats, table, log, server: Some(server.unwrap()) }
    }

    /// With plain routes and settings that do not matter.
    pub fn plain(routes: &[sample::Sample]) -> Self {
        Self::start(Settings::default(), None, routes)
    }

    /// Says something on a new connection and reads to its end.
    pub fn say(&self, request: &str) -> String {
        let mut stream = connect(self.http);
        stream.write_all(request.as_bytes()).unwrap();
        read_all(&mut stream)
    }

    /// Waits for so many lines in the log.
    pub fn logged(&self, count: usize) -> Vec<String> {
        for _ in 0..500 {
            let lines = self.log.lock().unwrap().clone();
            if lines.len() >= count {
                return lines;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("there are only {:?}", self.log.lock().unwrap());
    }
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Reads to the end.
pub fn read_all(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads a response with Content-Length or without a body, and leaves what follows.
pub fn read_response(stream: &mut impl Read) -> String {
    let mut head = read_head(stream);
    let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    head.push_str(&String::from_utf8_lossy(&body));
    head
}

pub fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "the end after {:?}", String::from_utf8_lossy(&head));
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// The value of a field of a head.
pub fn header(head: &str, name: &str) -> Option<String> {
    let lines = head.split("\r\n\r\n").next().unwrap().lines().skip(1);
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    fields.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
}

// === impl Pod ===

impl Pod {
    /// A pod that answers each request with what `answer` makes of it, on as many connections as come.
    pub fn start(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self::raw(move |stream, requests| {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while let Some(request) = read_request(&mut reader) {
                let response = answer(&request);
                requests.lock().unwrap().push(request);
                stream.write_all(response.as_bytes()).unwrap();
                if response.is_empty() || response.contains("Connection: close") {
                    return;
                }
            }
        })
    }

    /// A pod that does with its connections what it likes.
    pub fn raw(serve: impl Fn(&mut TcpStream, &Mutex<Vec<String>>) + Send + Sync + 'static) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let (requests, connections) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<Mutex<usize>>::default());
        let (serve, told, counted) = (Arc::new(serve), requests.clone(), connections.clone());
        thread::spawn(move || {
            for stream in socket.incoming() {
                let (mut stream, serve, told) = (stream.unwrap(), serve.clone(), told.clone());
                *counted.lock().unwrap() += 1;
                thread::spawn(move || serve(&mut stream, &told));
            }
        });
        Self { address, requests, connections }
    }

    /// A pod that always says this.
    pub fn saying(response: &'static str) -> Self {
        Self::start(move |_| response.to_owned())
    }

    /// The last request.
    pub fn last(&self) -> String {
        self.requests.lock().unwrap().last().cloned().unwrap()
    }
}

/// Reads one request: head, and body by its length or in chunks.
pub fn read_request(reader: &mut impl BufRead) -> Option<String> {
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        if reader.read_line(&mut text).ok()? == 0 {
            return None;
        }
    }
    if header(&text, "transfer-encoding").is_some() {
        while !text.ends_with("\r\n0\r\n\r\n") {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            text.push_str(&line);
        }
    } else if let Some(length) = header(&text, "content-length") {
        let mut body = vec![0; length.parse().unwrap()];
        reader.read_exact(&mut body).ok()?;
        text.push_str(&String::from_utf8_lossy(&body));
    }
    Some(text)
}

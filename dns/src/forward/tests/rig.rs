//! Upstreams that do as they are told, clients, and records.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;

use crate::cache::Clock;
use crate::forward::wire::plain_name_end;
use crate::forward::{CachingForwarder, ForwardConfig, Forwarder as _, Question, UpstreamSource};

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(10);

/// What an upstream was asked.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) message: Message,
    pub(super) wire: Vec<u8>,
    pub(super) from: SocketAddr,
    pub(super) tcp: bool,
}

/// What an upstream sends back: any number of messages.
type Behaviour = Arc<dyn Fn(&Asked) -> Vec<Vec<u8>> + Send + Sync>;

/// An upstream, UDP and TCP on the same port. Ends when it is dropped.
pub(super) struct Fake {
    pub(super) address: SocketAddr,
    log: Arc<Mutex<Vec<Asked>>>,
    behaviour: Arc<Mutex<Behaviour>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Fake {
    pub(super) async fn start(behaviour: impl Fn(&Asked) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), behaviour).await
    }

    pub(super) async fn start_at(
        address: SocketAddr,
        behaviour: impl Fn(&Asked) -> Vec<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        // A port that is free for UDP may be in use for TCP.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind(address).await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let behaviour: Behaviour = Arc::new(behaviour);
        let (log, behaviour) = (Arc::new(Mutex::new(vec![])), Arc::new(Mutex::new(behaviour)));
        let tasks = vec![
            tokio::spawn(serve_udp(udp, log.clone(), behaviour.clone())),
            tokio::spawn(serve_tcp(tcp, log.clone(), behaviour.clone())),
        ];
        Self { address, log, behaviour, tasks }
    }

    /// From now on it does this.
    pub(super) fn now_does(&self, behaviour: impl Fn(&Asked) -> Vec<Vec<u8>> + Send + Sync + 'static) {
        *self.behaviour.lock().unwrap() = Arc::new(behaviour);
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.log.lock().unwrap().clone()
    }

    pub(super) fn count(&self) -> usize {
        self.log.lock().unwrap().len()
    }

    pub(super) async fn wait_until_asked(&self, count: usize) {
        wait_until(|| self.count() >= count).await;
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn serve_udp(socket: UdpSocket, log: Arc<Mutex<Vec<Asked>>>, behaviour: Arc<Mutex<Behaviour>>) {
    let mut buffer = [0; 4096];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        let wire = buffer[..length].to_vec();
        let asked = Asked { message: Message::from_vec(&wire).unwrap(), wire, from, tcp: false };
        log.lock().unwrap().push(asked.clone());
        let act = behaviour.lock().unwrap().clone();
        for message in act(&asked) {
            socket.send_to(&message, from).await.unwrap();
        }
    }
}

async fn serve_tcp(listener: TcpListener, log: Arc<Mutex<Vec<Asked>>>, behaviour: Arc<Mutex<Behaviour>>) {
    loop {
        let (mut stream, from) = listener.accept().await.unwrap();
        let Ok(length) = stream.read_u16().await else { continue };
        let mut wire = vec![0; usize::from(length)];
        stream.read_exact(&mut wire).await.unwrap();
        let asked = Asked { message: Message::from_vec(&wire).unwrap(), wire, from, tcp: true };
        log.lock().unwrap().push(asked.clone());
        let act = behaviour.lock().unwrap().clone();
        for message in act(&asked) {
            stream.write_u16(message.len() as u16).await.unwrap();
            stream.write_all(&message).await.unwrap();
        }
    }
}

/// Polls, with a deadline.
pub(super) async fn wait_until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("it did not come to that");
}

// === behaviours ===

pub(super) fn silence(_: &Asked) -> Vec<Vec<u8>> {
    vec![]
}

/// A response with what `fill` puts into it.
pub(super) fn response(asked: &Asked, fill: impl FnOnce(&mut Message)) -> Vec<Vec<u8>> {
    let mut message = Message::response(asked.message.metadata.id, OpCode::Query);
    message.metadata.recursion_desired = asked.message.metadata.recursion_desired;
    message.metadata.recursion_available = true;
    message.queries = asked.message.queries.clone();
    if asked.message.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        message.edns = Some(edns);
    }
    fill(&mut message);
    vec![message.to_vec().unwrap()]
}

/// One A record with this TTL and 192.0.2.`host`.
pub(super) fn address(host: u8, ttl: u32) -> impl Fn(&Asked) -> Vec<Vec<u8>> + Send + Sync + 'static {
    move |asked| {
        response(asked, |message| {
            message.add_answer(a(asked.name(), ttl, host));
        })
    }
}

/// No records, or no such name, with an SOA record.
pub(super) fn denial(
    code: ResponseCode,
    ttl: u32,
    minimum: u32,
) -> impl Fn(&Asked) -> Vec<Vec<u8>> + Send + Sync + 'static {
    move |asked| {
        response(asked, |message| {
            message.metadata.response_code = code;
            message.add_authority(soa("example.", ttl, minimum));
        })
    }
}

pub(super) fn failing(code: ResponseCode) -> impl Fn(&Asked) -> Vec<Vec<u8>> + Send + Sync + 'static {
    move |asked| response(asked, |message| message.metadata.response_code = code)
}

impl Asked {
    pub(super) fn name(&self) -> Name {
        self.message.queries[0].name.clone()
    }
}

// === records ===

pub(super) fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

pub(super) fn a(name: Name, ttl: u32, host: u8) -> Record {
    Record::from_rdata(name, ttl, RData::A(A::new(192, 0, 2, host)))
}

pub(super) fn aaaa(name: Name, ttl: u32, host: u16) -> Record {
    Record::from_rdata(name, ttl, RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host)))
}

pub(super) fn cname(name: Name, ttl: u32, target: &str) -> Record {
    Record::from_rdata(name, ttl, RData::CNAME(CNAME(self::name(target))))
}

pub(super) fn txt(name: Name, ttl: u32, text: String) -> Record {
    Record::from_rdata(name, ttl, RData::TXT(TXT::new(vec![text])))
}

pub(super) fn soa(zone: &str, ttl: u32, minimum: u32) -> Record {
    let data = SOA::new(name("ns.example."), name("admin.example."), 1, 7200, 1800, 86400, minimum);
    Record::from_rdata(name(zone), ttl, RData::SOA(data))
}

// === the forwarder ===

/// A forwarder whose clock a test moves.
pub(super) struct Rig {
    pub(super) forwarder: CachingForwarder,
    pub(super) clock: Clock,
    registry: Registry,
}

/// Quick to give up, and without probes that tests would have to count.
pub(super) fn config(upstreams: &[&Fake]) -> ForwardConfig {
    let addresses = upstreams.iter().map(|fake| fake.address).collect();
    ForwardConfig {
        timeout: Duration::from_millis(100),
        deadline: Duration::from_millis(500),
        probe_interval: Duration::from_millis(10),
        max_probe_interval: Duration::from_millis(40),
        detect_loops: false,
        ..ForwardConfig::new(UpstreamSource::Fixed(addresses))
    }
}

impl Rig {
    pub(super) fn new(config: ForwardConfig) -> Self {
        let (mut registry, clock) = (Registry::default(), Clock::start());
        let forwarder = CachingForwarder::with_clock(config, &mut registry, clock.clone()).unwrap();
        Self { forwarder, clock, registry }
    }

    pub(super) async fn resolve(&self, query: &Client) -> Message {
        let wire = self.forwarder.resolve(&query.wire(), 1232).await;
        query.check(&wire);
        Message::from_vec(&wire).unwrap()
    }

    /// From the cache; `None` if it is not there.
    pub(super) fn cached(&self, query: &Client) -> Option<Message> {
        self.cached_within(query, 1232)
    }

    pub(super) fn cached_within(&self, query: &Client, max_size: usize) -> Option<Message> {
        let (wire, mut out) = (query.wire(), b"what was there before".to_vec());
        let end = plain_name_end(&wire, 12).unwrap();
        let question = Question { name: &wire[12..end], rtype: query.rtype.into(), class: 1 };
        if !self.forwarder.answer_cached(&wire, &question, max_size, &mut out) {
            return None;
        }
        assert!(out.len() <= max_size);
        query.check(&out);
        Some(Message::from_vec(&out).unwrap())
    }

    /// The value of a line of the metrics, its labels included; 0 when there is none.
    pub(super) fn metric(&self, line: &str) -> f64 {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        let values: HashMap<&str, &str> = text.lines().filter_map(|line| line.rsplit_once(' ')).collect();
        values.get(line).map_or(0.0, |value| value.parse().unwrap())
    }
}

/// A client's query.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) name: &'static str,
    pub(super) rtype: RecordType,
    pub(super) id: u16,
    /// The UDP payload that it takes, and DO.
    pub(super) edns: Option<(u16, bool)>,
    pub(super) checking_disabled: bool,
    pub(super) authentic: bool,
    pub(super) recursion: bool,
}

impl Client {
    pub(super) fn asks(name: &'static str) -> Self {
        Self {
            name,
            rtype: RecordType::A,
            id: 4711,
            edns: None,
            checking_disabled: false,
            authentic: false,
            recursion: true,
        }
    }

    pub(super) fn for_type(self, rtype: RecordType) -> Self {
        Self { rtype, ..self }
    }

    pub(super) fn with_edns(self, dnssec_ok: bool) -> Self {
        Self { edns: Some((1232, dnssec_ok)), ..self }
    }

    pub(super) fn wire(&self) -> Vec<u8> {
        let mut message = Message::new(self.id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = self.recursion;
        message.metadata.checking_disabled = self.checking_disabled;
        message.metadata.authentic_data = self.authentic;
        message.add_query(Query::query(name(self.name), self.rtype));
        if let Some((payload, dnssec_ok)) = self.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(payload).set_dnssec_ok(dnssec_ok);
            message.edns = Some(edns);
        }
        message.to_vec().unwrap()
    }

    /// What holds for every response.
    pub(super) fn check(&self, wire: &[u8]) {
        let message = Message::from_vec(wire).unwrap();
        assert_eq!(message.metadata.id, self.id);
        assert_eq!(message.metadata.message_type, MessageType::Response);
        assert_eq!(message.metadata.recursion_desired, self.recursion);
        assert_eq!(message.metadata.checking_disabled, self.checking_disabled);
        assert!(message.metadata.recursion_available && !message.metadata.authoritative);
        assert_eq!(message.edns.is_some(), self.edns.is_some(), "an OPT record for who sends one");
        assert_eq!(message.edns.as_ref().map(|edns| edns.flags().dnssec_ok), self.edns.map(|(_, dnssec_ok)| dnssec_ok));
        // Names compare without regard to case, text does not.
        assert_eq!(message.queries[0].name.to_string(), self.name);
        assert_eq!(message.queries[0].query_type, self.rtype);
    }
}

/// The last byte of each address in the answer, and its TTL.
pub(super) fn hosts(message: &Message) -> Vec<(u8, u32)> {
    let of = |record: &Record| match &record.data {
        RData::A(address) => Some((address.octets()[3], record.ttl)),
        RData::AAAA(address) => Some((address.octets()[15], record.ttl)),
        _ => None,
    };
    message.answers.iter().filter_map(of).collect()
}

/// The Extended DNS Error of a response.
pub(super) fn extended_error(message: &Message) -> Option<u16> {
    use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
    match message.edns.as_ref()?.option(EdnsCode::from(15))? {
        EdnsOption::Unknown(15, data) => Some(u16::from_be_bytes([data[0], data[1]])),
        other => panic!("{other:?}"),
    }
}

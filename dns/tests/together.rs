//! The resolver with its own forwarder, through sockets: names of others are had from an upstream once, and then from
//! the cache, whether they are asked for as they are, at the end of an alias, or at the end of a search path.

#![expect(clippy::unwrap_used, reason = "what a test needs and does not get is its failure")]

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{CNAME, SOA},
    },
    serialize::binary::BinEncodable,
};
use prometheus_client::registry::Registry;
use sdn_cluster::{
    Snapshot,
    model::{Kind, Object},
};
use sdn_dns::{
    Clients, Config, Search, Sockets,
    forward::{CachingForwarder, ForwardConfig, UpstreamSource},
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr, UdpSocket},
    str::FromStr,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};
use tokio::sync::watch;

/// What the upstream was asked, and how often.
type Asked = Arc<Mutex<BTreeMap<(String, RecordType), usize>>>;

fn name(text: &str) -> Name {
    Name::from_str(text).unwrap()
}

/// An upstream that knows www.example.com, an alias of web.example.com with one address. It ends with the test.
fn upstream() -> (SocketAddr, Asked) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (address, asked) = (socket.local_addr().unwrap(), Asked::default());
    let notes = asked.clone();
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok((length, peer)) = socket.recv_from(&mut bytes) {
            let reply = upstream_reply(&Message::from_vec(&bytes[..length]).unwrap(), &notes);
            socket.send_to(&reply.to_bytes().unwrap(), peer).unwrap();
        }
    });
    (address, asked)
}

fn upstream_reply(query: &Message, asked: &Asked) -> Message {
    let question = query.queries[0].clone();
    let wanted = question.name().to_lowercase();
    *asked.lock().unwrap().entry((wanted.to_string(), question.query_type())).or_default() += 1;
    let mut reply = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    reply.metadata.recursion_available = true;
    reply.add_query(question.clone());
    let soa = SOA::new(name("ns.example.com."), name("admin.example.com."), 1, 60, 60, 60, 60);
    let soa = Record::from_rdata(name("example.com."), 60, RData::SOA(soa));
    if wanted == name("www.example.com.") {
        let (alias, target) = (name("www.example.com."), name("web.example.com."));
        reply.add_answer(Record::from_rdata(alias, 300, RData::CNAME(CNAME(target.clone()))));
        match question.query_type() {
            RecordType::A => {
                let address = RData::A("192.0.2.80".parse().unwrap());
                reply.add_answer(Record::from_rdata(target, 300, address));
            }
            _ => {
                reply.add_authority(soa);
            }
        }
    } else {
        reply.metadata.response_code = ResponseCode::NXDomain;
        reply.add_authority(soa);
    }
    if query.edns.is_some() {
        reply.set_edns(Edns::new());
    }
    reply
}

fn cluster() -> Snapshot {
    let mut all = Snapshot { synced: true, generation: 1, ..Snapshot::default() };
    let objects = [
        (Kind::Namespace, r#"{"metadata":{"name":"shop"}}"#),
        (
            Kind::Service,
            r#"{"metadata":{"namespace":"shop","name":"outside"},"spec":{"type":"ExternalName","externalName":"www.example.com"}}"#,
        ),
    ];
    for (kind, json) in objects {
        match Object::parse(kind, json, "").unwrap() {
            Object::Namespace(namespace) => drop(all.namespaces.insert(namespace.name.clone(), namespace)),
            Object::Service(service) => drop(all.services.insert(service.key(), service)),
            other => panic!("{other:?}"),
        }
    }
    all
}

/// Everybody who asks is a pod of this namespace.
#[derive(Debug)]
struct Shop;

impl Clients for Shop {
    fn admits(&self, address: IpAddr) -> bool {
        address.is_loopback()
    }

    fn namespace(&self, _: IpAddr) -> Option<Arc<str>> {
        Some("shop".into())
    }
}

fn ask(socket: &UdpSocket, text: &str, rtype: RecordType, edns: bool) -> Message {
    let mut query = Message::new(77, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name(text), rtype));
    if edns {
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        query.set_edns(edns);
    }
    socket.send(&query.to_bytes().unwrap()).unwrap();
    let mut bytes = [0; 4096];
    let length = socket.recv(&mut bytes).unwrap();
    let reply = Message::from_vec(&bytes[..length]).unwrap();
    assert_eq!((reply.metadata.id, reply.queries[0].name()), (77, &name(text)));
    assert_eq!(reply.edns.is_some(), edns, "{text}");
    reply
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_outside_is_asked_for_once_however_it_is_meant() {
    let (upstream, asked) = upstream();
    let forwarder = ForwardConfig { detect_loops: false, ..ForwardConfig::new(UpstreamSource::Fixed(vec![upstream])) };
    let forwarder = CachingForwarder::new(forwarder, &mut Registry::default()).unwrap();
    let config = Config {
        search: Some(Search { domains: vec!["corp.example".to_owned()] }),
        clients: Arc::new(Shop),
        ..Config::default()
    };
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(socket.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let (_snapshots, snapshots) = watch::channel(cluster());
    let resolver =
        sdn_dns::start(config, Sockets { udp: vec![socket], tcp: Vec::new() }, snapshots, forwarder).unwrap();
    while !resolver.is_ready() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The first round asks the upstream, the second has all in the cache; with and without EDNS.
    for edns in [true, false, true] {
        let names = [
            ("www.example.com.", 2),
            ("WWW.Example.com.", 2),
            ("outside.shop.svc.cluster.local.", 3),
            ("www.example.com.shop.svc.cluster.local.", 3),
        ];
        for (text, records) in names {
            let reply = ask(&client, text, RecordType::A, edns);
            assert_eq!(
                (reply.metadata.response_code, reply.answers.len()),
                (ResponseCode::NoError, records),
                "{reply}"
            );
            assert_eq!(reply.answers[records - 1].data.to_string(), "192.0.2.80");
            assert_eq!(reply.answers[records - 1].name, name("web.example.com."));
            let reply = ask(&client, text, RecordType::AAAA, edns);
            assert_eq!(
                (reply.metadata.response_code, reply.answers.len()),
                (ResponseCode::NoError, records - 1),
                "{reply}"
            );
            assert_eq!(reply.authorities.len(), 1, "{reply}");
        }
        let reply = ask(&client, "nobody.example.com.shop.svc.cluster.local.", RecordType::A, edns);
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(reply.authorities[0].name, name("cluster.local."));
    }
    let asked = std::mem::take(&mut *asked.lock().unwrap());
    assert!(asked.keys().all(|(text, _)| !text.contains("cluster.local")), "{asked:?}");
    for ((text, rtype), times) in &asked {
        assert_eq!(*times, 1, "{text} {rtype}");
    }
    // www.example.com, what the search path tried before it, and the two of the name that nobody has.
    assert_eq!(asked.len(), 2 + 2 + 2, "{asked:?}");
    resolver.stop().await;
}

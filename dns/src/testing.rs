//! What tests share: a small cluster, a forwarder that knows a few names, and questions asked of an engine without
//! sockets.

use crate::{
    config::{Config, Networks, PodNames, Search},
    engine::{Arrival, Engine, Handled, Workspace},
    forward::{Forwarder, Question},
    index::Builder,
    metrics::{Stats, Transport},
};
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, Record, RecordType},
    serialize::binary::BinEncodable,
};
use sdn_cluster::{
    Snapshot,
    model::{Kind, Object},
};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    str::FromStr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// Puts objects, written as the API has them, into a snapshot.
pub(crate) fn put(snapshot: &mut Snapshot, kind: Kind, json: &str) {
    match Object::parse(kind, json, "").unwrap_or_else(|error| panic!("{json}: {error:?}")) {
        Object::Node(node) => drop(snapshot.nodes.insert(node.name.clone(), node)),
        Object::Namespace(namespace) => drop(snapshot.namespaces.insert(namespace.name.clone(), namespace)),
        Object::Pod(pod, _) => drop(snapshot.pods.insert(pod.key(), pod)),
        Object::Service(service) => drop(snapshot.services.insert(service.key(), service)),
        Object::EndpointSlice(slice) => drop(snapshot.slices.insert(slice.key(), slice)),
        other => panic!("no place for {other:?}"),
    }
    snapshot.generation += 1;
}

/// A namespace.
pub(crate) fn namespace(snapshot: &mut Snapshot, name: &str) {
    put(snapshot, Kind::Namespace, &format!(r#"{{"metadata":{{"name":"{name}"}}}}"#));
}

/// A Service of this spec.
pub(crate) fn service(snapshot: &mut Snapshot, key: &str, spec: &str) {
    let (namespace, name) = key.split_once('/').unwrap();
    let json = format!(r#"{{"metadata":{{"namespace":"{namespace}","name":"{name}"}},"spec":{{{spec}}}}}"#);
    put(snapshot, Kind::Service, &json);
}

/// A slice of a Service: ports like `http/TCP/8080`, endpoints like `10.128.0.5`, `10.128.0.5=hostname` or `!10.128.0.5`
/// (not ready).
pub(crate) fn slice(snapshot: &mut Snapshot, key: &str, service: &str, ports: &[&str], endpoints: &[&str]) {
    let (namespace, name) = key.split_once('/').unwrap();
    let port = |port: &&str| {
        let [name, protocol, number] = port.split('/').collect::<Vec<_>>()[..] else { panic!("{port}") };
        let name = if name.is_empty() { String::new() } else { format!(r#""name":"{name}","#) };
        format!(r#"{{{name}"protocol":"{protocol}","port":{number}}}"#)
    };
    let endpoint = |text: &&str| {
        let ready = !text.starts_with('!');
        let text = text.trim_start_matches('!');
        let (address, hostname) = text.split_once('=').unwrap_or((text, ""));
        let hostname = if hostname.is_empty() { String::new() } else { format!(r#""hostname":"{hostname}","#) };
        let pod =
            format!(r#"{{"kind":"Pod","namespace":"{namespace}","name":"pod-{}"}}"#, address.replace(['.', ':'], "x"));
        format!(r#"{{{hostname}"addresses":["{address}"],"conditions":{{"ready":{ready}}},"targetRef":{pod}}}"#)
    };
    let family = if endpoints.iter().any(|endpoint| endpoint.contains(':')) { "IPv6" } else { "IPv4" };
    let join = |items: Vec<String>| items.join(",");
    let json = format!(
        r#"{{"metadata":{{"namespace":"{namespace}","name":"{name}","labels":{{"kubernetes.io/service-name":"{service}"}}}},
        "addressType":"{family}","ports":[{}],"endpoints":[{}]}}"#,
        join(ports.iter().map(port).collect()),
        join(endpoints.iter().map(endpoint).collect()),
    );
    put(snapshot, Kind::EndpointSlice, &json);
}

/// A pod with addresses.
pub(crate) fn pod(snapshot: &mut Snapshot, key: &str, addresses: &[&str], host_network: bool) {
    let (namespace, name) = key.split_once('/').unwrap();
    let ips: Vec<_> = addresses.iter().map(|address| format!(r#"{{"ip":"{address}"}}"#)).collect();
    let json = format!(
        r#"{{"metadata":{{"namespace":"{namespace}","name":"{name}"}},"spec":{{"hostNetwork":{host_network},"nodeName":"n1",
        "containers":[{{"name":"c"}}]}},"status":{{"phase":"Running","podIPs":[{}]}}}}"#,
        ips.join(",")
    );
    put(snapshot, Kind::Pod, &json);
}

/// The cluster that the tables ask about.
pub(crate) fn cluster() -> Snapshot {
    let mut all = Snapshot { synced: true, ..Snapshot::default() };
    for name in ["default", "shop", "empty", "web"] {
        namespace(&mut all, name);
    }
    let both =
        r#""clusterIPs":["172.30.0.20","fd02::20"],"ipFamilies":["IPv4","IPv6"],"ipFamilyPolicy":"PreferDualStack""#;
    service(
        &mut all,
        "shop/api",
        &format!(
            r#""clusterIP":"172.30.0.20",{both},"ports":[{{"name":"http","port":80}},{{"name":"dns","protocol":"UDP","port":53}}]"#
        ),
    );
    slice(
        &mut all,
        "shop/api-1",
        "api",
        &["http/TCP/8080", "dns/UDP/5353"],
        &["10.128.0.5", "10.128.0.6=east", "!10.128.0.7"],
    );
    slice(&mut all, "shop/api-2", "api", &["http/TCP/8080", "dns/UDP/5353"], &["fd01::5"]);
    service(&mut all, "shop/plain", r#""clusterIP":"172.30.0.21","clusterIPs":["172.30.0.21"],"ports":[{"port":80}]"#);
    service(
        &mut all,
        "shop/db",
        r#""clusterIP":"None","ports":[{"name":"sql","port":5432},{"name":"admin","port":9000}]"#,
    );
    slice(
        &mut all,
        "shop/db-1",
        "db",
        &["sql/TCP/5432", "admin/TCP/9000"],
        &["10.128.1.1=db-0", "10.128.1.2=db-1", "!10.128.1.3=db-2"],
    );
    slice(&mut all, "shop/db-2", "db", &["sql/TCP/5432", "admin/TCP/9000"], &["fd01::1:1=db-0", "fd01::1:0:0"]);
    service(&mut all, "shop/down", r#""clusterIP":"None","ports":[{"name":"sql","port":5432}]"#);
    slice(&mut all, "shop/down-1", "down", &["sql/TCP/5432"], &["!10.128.1.9"]);
    service(&mut all, "shop/bare", r#""clusterIP":"None""#);
    slice(&mut all, "shop/bare-1", "bare", &[], &["10.128.0.5"]);
    for (name, target) in [
        ("outside", "www.example.com"),
        ("inside", "api.shop.svc.cluster.local"),
        ("twice", "outside.shop.svc.cluster.local"),
        ("gone", "nobody.shop.svc.cluster.local"),
        ("broken", "broken.example.com"),
        ("loop-a", "loop-b.shop.svc.cluster.local"),
        ("loop-b", "loop-a.shop.svc.cluster.local"),
    ] {
        let spec = format!(r#""type":"ExternalName","externalName":"{target}","ports":[{{"name":"http","port":80}}]"#);
        service(&mut all, &format!("shop/{name}"), &spec);
    }
    service(
        &mut all,
        "default/kubernetes",
        r#""clusterIP":"172.30.0.1","clusterIPs":["172.30.0.1"],"ports":[{"name":"https","port":443}]"#,
    );
    pod(&mut all, "shop/client", &["10.128.2.2", "fd01::2:2"], false);
    pod(&mut all, "web/client", &["10.128.2.3"], false);
    pod(&mut all, "shop/agent", &["192.168.0.1"], true);
    all
}

/// A forwarder that knows a few names. Everything but `cached` is a miss of its cache.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known(Arc<KnownInner>);

#[derive(Debug, Default)]
struct KnownInner {
    records: Mutex<BTreeMap<String, Vec<Record>>>,
    cached: AtomicBool,
    asked: Mutex<Vec<String>>,
    times: AtomicUsize,
}

impl Known {
    /// Knows the address and an alias of it that end with others' names.
    pub(crate) fn new(cached: bool) -> Self {
        let known = Self::default();
        known.0.cached.store(cached, Ordering::Relaxed);
        known.add("www.example.com. 300 IN CNAME web.example.com.");
        known.add("www.example.com. 300 IN A 192.0.2.80");
        known.add("example.net. 60 IN A 192.0.2.1");
        known.add("intranet.corp.example. 60 IN A 192.0.2.2");
        known
    }

    /// Adds a record, written `name ttl IN type data`, with the names before it in the answer.
    pub(crate) fn add(&self, text: &str) {
        let [name, ttl, _, rtype, data] = text.split(' ').collect::<Vec<_>>()[..] else { panic!("{text}") };
        let data = match rtype {
            "A" => hickory_proto::rr::RData::A(data.parse().unwrap()),
            "CNAME" => hickory_proto::rr::RData::CNAME(hickory_proto::rr::rdata::CNAME(Name::from_str(data).unwrap())),
            _ => panic!("{text}"),
        };
        let mut records = self.0.records.lock().unwrap();
        let all = records.entry(name.to_owned()).or_default();
        // An address after an alias is the alias's.
        let owner = match all.last().map(|last| &last.data) {
            Some(hickory_proto::rr::RData::CNAME(target)) => target.0.clone(),
            _ => Name::from_str(name).unwrap(),
        };
        all.push(Record::from_rdata(owner, ttl.parse().unwrap(), data));
    }

    /// The names it was asked for.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.0.asked.lock().unwrap().clone()
    }

    /// What is known of the message's question: of `broken…` nothing but SERVFAIL.
    fn reply(&self, query: &[u8]) -> Vec<u8> {
        self.0.times.fetch_add(1, Ordering::Relaxed);
        let Ok(query) = Message::from_vec(query) else {
            let mut failed = Vec::new();
            crate::wire::failure(&mut failed, query, crate::wire::rcode::SERVFAIL, None, None);
            return failed;
        };
        let question = query.queries[0].clone();
        let name = question.name().to_lowercase();
        self.0.asked.lock().unwrap().push(name.to_string());
        let mut reply = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
        reply.metadata.recursion_available = true;
        reply.add_query(question.clone());
        reply.metadata.response_code = match self.0.records.lock().unwrap().get(&name.to_string()) {
            _ if name.to_string().starts_with("broken") => ResponseCode::ServFail,
            None => ResponseCode::NXDomain,
            Some(records) => {
                let fits = |record: &&Record| {
                    record.record_type() == question.query_type() || record.record_type() == RecordType::CNAME
                };
                reply.add_answers(records.iter().filter(fits).cloned());
                ResponseCode::NoError
            }
        };
        if query.edns.is_some() {
            reply.set_edns(Edns::new());
        }
        reply.to_bytes().unwrap()
    }
}

impl Forwarder for Known {
    fn answer_cached(&self, query: &[u8], question: &Question<'_>, _: usize, out: &mut Vec<u8>) -> bool {
        assert_eq!(question.class, 1);
        assert!(query[12..].starts_with(question.name));
        if !self.0.cached.load(Ordering::Relaxed) {
            return false;
        }
        *out = self.reply(query);
        true
    }

    async fn resolve(&self, query: &[u8], _: usize) -> Vec<u8> {
        if query[12..].starts_with(b"\x04slow") {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        self.reply(query)
    }
}

/// An engine without sockets.
pub(crate) struct Rig {
    pub(crate) engine: Engine<Known>,
    pub(crate) known: Known,
    builder: Builder,
    work: Workspace,
}

impl Rig {
    /// With the tables' cluster and configuration.
    pub(crate) fn new() -> Self {
        Self::with(&cluster(), config(), true)
    }

    pub(crate) fn with(snapshot: &Snapshot, config: Config, cached: bool) -> Self {
        let known = Known::new(cached);
        let naming = crate::server::naming(&config);
        let engine = crate::server::engine(config, &naming, known.clone()).unwrap();
        let mut rig = Self { engine, known, builder: Builder::new(naming), work: Workspace::new() };
        rig.update(snapshot);
        rig
    }

    /// Has the engine know another snapshot.
    pub(crate) fn update(&mut self, snapshot: &Snapshot) {
        self.engine.index.store(Arc::new(self.builder.update(snapshot)));
    }

    /// The response to a message, in its bytes.
    pub(crate) fn ask_bytes(&mut self, message: &[u8], client: &str, transport: Transport) -> Option<Vec<u8>> {
        let arrival = Arrival { message, client: client.parse::<IpAddr>().unwrap(), transport, at: 1 };
        let mut out = Vec::new();
        let index = self.engine.index.load_full();
        match self.engine.handle(&index, arrival, &mut self.work, &mut out, &Stats::default()) {
            Handled::Reply => Some(out),
            Handled::Silence => None,
            Handled::Later(later) => {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                Some(runtime.block_on(self.engine.answer_later(*later)))
            }
        }
    }

    /// As [`Rig::ask_bytes`], from the pod shop/client, keeping nothing.
    pub(crate) fn ask_harmless(&mut self, message: &[u8], transport: Transport) -> Option<Vec<u8>> {
        self.known.0.asked.lock().unwrap().clear();
        self.ask_bytes(message, "10.128.2.2", transport)
    }

    /// The response to a query of the pod shop/client over UDP.
    pub(crate) fn ask(&mut self, name: &str, rtype: &str) -> Message {
        self.ask_from("10.128.2.2", name, rtype)
    }

    pub(crate) fn ask_from(&mut self, client: &str, name: &str, rtype: &str) -> Message {
        let query = query(name, rtype);
        let reply = self.ask_bytes(&query.to_bytes().unwrap(), client, Transport::Udp);
        decode(&reply.unwrap_or_else(|| panic!("{name} {rtype}: no reply")))
    }
}

/// The tables' configuration.
pub(crate) fn config() -> Config {
    let networks = ["172.30.0.0/16", "fd02::/112", "10.128.0.0/14", "fd01::/48"];
    let clients = networks.iter().chain(&["192.168.0.1/32"]).map(|network| network.parse().unwrap()).collect();
    Config {
        addresses: vec!["172.30.0.10".parse().unwrap(), "fd02::a".parse().unwrap()],
        reverse: networks.iter().map(|network| network.parse().unwrap()).collect(),
        pod_names: PodNames::Insecure,
        search: Some(Search { domains: vec!["corp.example".to_owned()] }),
        clients: Arc::new(Networks(clients)),
        ..Config::default()
    }
}

/// A query as a client sends it.
pub(crate) fn query(name: &str, rtype: &str) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let rtype = match rtype.strip_prefix("TYPE") {
        Some(number) => RecordType::from(number.parse::<u16>().unwrap()),
        None => RecordType::from_str(rtype).unwrap(),
    };
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), rtype));
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    message.set_edns(edns);
    message
}

/// What a response says, if it is one that hickory reads to its end.
pub(crate) fn decode(reply: &[u8]) -> Message {
    let message = Message::from_vec(reply).unwrap_or_else(|error| panic!("{error}: {reply:?}"));
    assert_eq!(message.metadata.message_type, MessageType::Response);
    message
}

/// Records in text, in the order of the text: the resolver's is random.
pub(crate) fn text(records: &[Record]) -> Vec<String> {
    let mut text: Vec<_> = records
        .iter()
        .map(|record| format!("{} {} {} {}", record.name, record.ttl, record.record_type(), record.data))
        .collect();
    text.sort();
    text
}

//! A cluster that has everything names are made of, and some of it many times, by chance.

use rand::{RngExt as _, rngs::StdRng};
use sdn_cluster::{
    Snapshot,
    model::{Kind as ObjectKind, Object},
};
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// What there is.
#[derive(Debug)]
pub struct Cluster {
    pub namespaces: Vec<&'static str>,
    pub services: Vec<Service>,
    pub pods: Vec<Pod>,
}

#[derive(Debug)]
pub struct Service {
    pub namespace: &'static str,
    pub name: String,
    pub kind: Kind,
    pub ports: Vec<Port>,
    pub slices: Vec<Slice>,
}

#[derive(Debug)]
pub enum Kind {
    Cluster(Vec<IpAddr>),
    Headless,
    External(&'static str),
}

#[derive(Clone, Debug)]
pub struct Port {
    pub name: Option<&'static str>,
    pub protocol: &'static str,
    pub number: u16,
}

/// Endpoints of one family.
#[derive(Debug)]
pub struct Slice {
    pub ports: Vec<Port>,
    pub endpoints: Vec<Endpoint>,
}

#[derive(Debug)]
pub struct Endpoint {
    pub address: IpAddr,
    pub hostname: Option<String>,
    pub ready: bool,
}

#[derive(Debug)]
pub struct Pod {
    pub namespace: &'static str,
    pub addresses: [IpAddr; 2],
}

/// Three are called as the domains that names of the cluster are below, one has nothing in it.
const NAMESPACES: [&str; 7] = ["default", "shop", "bank", "svc", "pod", "dns", "empty"];

/// Where names that are aliases lead: out of the cluster, to its own names, nowhere, and to an alias again.
const ALIASES: [(&str, &str); 7] = [
    ("outside", "www.example.com"),
    ("missing", "nobody.example.com"),
    ("inside", "kubernetes.default.svc.cluster.local"),
    ("again", "inside.bank.svc.cluster.local"),
    ("nowhere", "nobody.shop.svc.cluster.local"),
    ("endless", "circle.bank.svc.cluster.local"),
    ("circle", "endless.bank.svc.cluster.local"),
];

const PORTS: [(&str, &str, u16); 5] =
    [("http", "TCP", 80), ("https", "TCP", 443), ("dns", "UDP", 53), ("dns-tcp", "TCP", 53), ("sig", "SCTP", 2905)];

// === impl Cluster ===

impl Cluster {
    /// So many Services of each kind, and what is always there.
    pub fn random(random: &mut StdRng, services: u16) -> Self {
        let pods: Vec<Pod> = (0..services * 4).map(|number| Pod::random(random, number)).collect();
        let mut all = vec![Service::kubernetes(), Service::stateful(&pods[0])];
        all.extend(ALIASES.map(|(name, target)| Service::alias(name, target)));
        for number in 0..services {
            let ip = vec![v4([172, 30, 1], number), v6(0xfd02, number)];
            let families = [ip[..1].to_vec(), ip[1..].to_vec(), ip.clone(), vec![ip[1], ip[0]]];
            let ips = families[random.random_range(0..families.len())].clone();
            all.push(Service::random(random, format!("api-{number}"), Kind::Cluster(ips), &pods));
            all.push(Service::random(random, format!("db-{number}"), Kind::Headless, &pods));
        }
        // A name that means something where it does not stand.
        for name in ["svc", "endpoints", "kubernetes", "ns"] {
            all.push(Service { namespace: "svc", ..Service::random(random, name.to_owned(), Kind::Headless, &pods) });
        }
        Self { namespaces: NAMESPACES.to_vec(), services: all, pods }
    }

    /// As the agent knows it.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot { synced: true, ..Snapshot::default() };
        for name in &self.namespaces {
            put(&mut snapshot, ObjectKind::Namespace, &format!(r#"{{"metadata":{{"name":"{name}"}}}}"#));
        }
        for service in &self.services {
            put(&mut snapshot, ObjectKind::Service, &service.json());
            for (number, slice) in service.slices.iter().enumerate() {
                put(&mut snapshot, ObjectKind::EndpointSlice, &slice.json(service, number));
            }
        }
        for (number, pod) in self.pods.iter().enumerate() {
            put(&mut snapshot, ObjectKind::Pod, &pod.json(number));
        }
        snapshot
    }
}

fn put(snapshot: &mut Snapshot, kind: ObjectKind, json: &str) {
    match Object::parse(kind, json, "").unwrap_or_else(|error| panic!("{json}: {error:?}")) {
        Object::Namespace(namespace) => drop(snapshot.namespaces.insert(namespace.name.clone(), namespace)),
        Object::Pod(pod, _) => drop(snapshot.pods.insert(pod.key(), pod)),
        Object::Service(service) => drop(snapshot.services.insert(service.key(), service)),
        Object::EndpointSlice(slice) => drop(snapshot.slices.insert(slice.key(), slice)),
        other => panic!("no place for {other:?}"),
    }
    snapshot.generation += 1;
}

fn v4(start: [u8; 3], number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(start[0], start[1], start[2] + high, low).into()
}

/// Some end with zeros: two colons at their end, and that no name may have.
fn v6(start: u16, number: u16) -> IpAddr {
    match number % 7 {
        6 => Ipv6Addr::new(start, 0, 0, number, 0, 0, 0, 0).into(),
        _ => Ipv6Addr::new(start, 0, 0, 0, 0, 0, 0, number + 1).into(),
    }
}

// === impl Service ===

impl Service {
    fn kubernetes() -> Self {
        let port = |number| Port { name: Some("https"), protocol: "TCP", number };
        let endpoint = Endpoint { address: v4([10, 128, 200], 5), hostname: None, ready: true };
        Self {
            namespace: "default",
            name: "kubernetes".to_owned(),
            kind: Kind::Cluster(vec![v4([172, 30, 0], 1)]),
            ports: vec![port(443)],
            slices: vec![Slice { ports: vec![port(6443)], endpoints: vec![endpoint] }],
        }
    }

    /// One pod with a name, in both families.
    fn stateful(pod: &Pod) -> Self {
        let endpoint = |address| Endpoint { address, hostname: Some("db-0".to_owned()), ready: true };
        let ports = vec![Port::numbered(0), Port::numbered(1)];
        let slice = |address| Slice { ports: ports.clone(), endpoints: vec![endpoint(address)] };
        let slices = pod.addresses.into_iter().map(slice).collect();
        Self { namespace: "shop", name: "stateful".to_owned(), kind: Kind::Headless, ports, slices }
    }

    fn alias(name: &str, target: &'static str) -> Self {
        let kind = Kind::External(target);
        Self { namespace: "bank", name: name.to_owned(), kind, ports: vec![], slices: vec![] }
    }

    fn random(random: &mut StdRng, name: String, kind: Kind, pods: &[Pod]) -> Self {
        let namespace = NAMESPACES[random.random_range(0..NAMESPACES.len() - 1)];
        let numbers: BTreeSet<usize> = (0..random.random_range(1..5)).map(|_| random.random_range(0..5)).collect();
        let mut ports: Vec<Port> = numbers.into_iter().map(Port::numbered).collect();
        match random.random_range(0..5) {
            // Only where it is the one port may it be without a name.
            0 => ports = vec![Port { name: None, ..ports[0].clone() }],
            1 if matches!(kind, Kind::Headless) => ports.clear(),
            _ => {}
        }
        let slices = Slice::random(random, &ports, pods);
        Self { namespace, name, kind, ports, slices }
    }

    fn json(&self) -> String {
        let meta = format!(r#""metadata":{{"namespace":"{}","name":"{}"}}"#, self.namespace, self.name);
        let ports = list(&self.ports, |port| port.json());
        let spec = match &self.kind {
            Kind::External(target) => format!(r#""type":"ExternalName","externalName":"{target}""#),
            Kind::Headless => format!(r#""clusterIP":"None","clusterIPs":["None"],"ports":[{ports}]"#),
            Kind::Cluster(ips) => {
                let texts = list(ips, |ip| format!("\"{ip}\""));
                let families = list(ips, |ip| format!("\"{}\"", family(*ip)));
                let first = ips[0];
                let policy = if ips.len() > 1 { "RequireDualStack" } else { "SingleStack" };
                format!(
                    r#""clusterIP":"{first}","clusterIPs":[{texts}],"ipFamilies":[{families}],"ipFamilyPolicy":"{policy}","ports":[{ports}]"#
                )
            }
        };
        format!(r#"{{{meta},"spec":{{{spec}}}}}"#)
    }
}

fn list<T>(items: &[T], json: impl Fn(&T) -> String) -> String {
    items.iter().map(json).collect::<Vec<_>>().join(",")
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

// === impl Port ===

impl Port {
    fn numbered(number: usize) -> Self {
        let (name, protocol, number) = PORTS[number];
        Self { name: Some(name), protocol, number }
    }

    fn json(&self) -> String {
        let name = self.name.map(|name| format!(r#""name":"{name}","#)).unwrap_or_default();
        format!(r#"{{{name}"protocol":"{}","port":{}}}"#, self.protocol, self.number)
    }
}

// === impl Slice ===

impl Slice {
    /// Of no to six pods, of one family or both, ready or not, some with names. The families may differ in numbers.
    fn random(random: &mut StdRng, ports: &[Port], pods: &[Pod]) -> Vec<Self> {
        let chosen: BTreeSet<usize> =
            (0..random.random_range(0..7)).map(|_| random.random_range(0..pods.len())).collect();
        let (mut slices, offset) = (Vec::new(), random.random_range(8000..8002));
        let families = [&[0][..], &[1], &[0, 1]][random.random_range(0..3)];
        // Two pods may have the same name, as those of two StatefulSets may.
        let names: Vec<(usize, Option<String>, bool)> = chosen
            .into_iter()
            .map(|pod| {
                let hostname = random.random_bool(0.4).then(|| format!("web-{}", random.random_range(0..9)));
                (pod, hostname, random.random_bool(0.85))
            })
            .collect();
        for family in families {
            let endpoint = |(pod, hostname, ready): &(usize, Option<String>, bool)| Endpoint {
                address: pods[*pod].addresses[*family],
                hostname: hostname.clone(),
                ready: *ready,
            };
            let number = |port: &Port| port.number + if *family == 0 { 8000 } else { offset };
            let ports = ports.iter().map(|port| Port { number: number(port), ..port.clone() }).collect();
            slices.push(Self { ports, endpoints: names.iter().map(endpoint).collect() });
        }
        slices.retain(|slice| !slice.endpoints.is_empty());
        slices
    }

    fn json(&self, service: &Service, number: usize) -> String {
        let (namespace, name) = (service.namespace, &service.name);
        let family = family(self.endpoints[0].address);
        let (ports, endpoints) = (list(&self.ports, Port::json), list(&self.endpoints, Endpoint::json));
        format!(
            r#"{{"metadata":{{"namespace":"{namespace}","name":"{name}-{number}","labels":{{"kubernetes.io/service-name":"{name}"}}}},
            "addressType":"{family}","ports":[{ports}],"endpoints":[{endpoints}]}}"#
        )
    }
}

// === impl Endpoint ===

impl Endpoint {
    fn json(&self) -> String {
        let hostname = self.hostname.as_ref().map(|name| format!(r#""hostname":"{name}","#)).unwrap_or_default();
        format!(r#"{{{hostname}"addresses":["{}"],"conditions":{{"ready":{}}}}}"#, self.address, self.ready)
    }
}

// === impl Pod ===

impl Pod {
    fn random(random: &mut StdRng, number: u16) -> Self {
        let namespace = NAMESPACES[random.random_range(0..NAMESPACES.len() - 1)];
        Self { namespace, addresses: [v4([10, 128, 0], number), v6(0xfd01, number)] }
    }

    fn json(&self, number: usize) -> String {
        let namespace = self.namespace;
        let ips = list(&self.addresses, |address| format!(r#"{{"ip":"{address}"}}"#));
        format!(
            r#"{{"metadata":{{"namespace":"{namespace}","name":"pod-{number}"}},"spec":{{"nodeName":"n1",
            "containers":[{{"name":"c"}}]}},"status":{{"phase":"Running","podIPs":[{ips}]}}}}"#
        )
    }
}

//! The cluster's names as zones, written down by the specification for a server that knows nothing of clusters.

use super::cluster::{Cluster, Endpoint, Kind, Port, Service};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// A zone's records by its name, both without the last dot.
pub type Zones = BTreeMap<String, BTreeSet<Record>>;

/// A line of a zone file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    pub owner: String,
    text: String,
}

/// Stands below names that exist without any below them. Nobody asks for it.
pub const HELD: &str = "held";
/// TTL of the cluster's records, and of the older names'.
const TTL: u32 = 5;
const LEGACY_TTL: u32 = 30;
/// The reverse zones, as they are cut between labels.
const REVERSE: [&str; 7] = [
    "30.172.in-addr.arpa",
    "128.10.in-addr.arpa",
    "129.10.in-addr.arpa",
    "130.10.in-addr.arpa",
    "131.10.in-addr.arpa",
    "1.0.d.f.ip6.arpa",
    "2.0.d.f.ip6.arpa",
];
/// The networks that they are of.
pub const NETWORKS: [&str; 4] = ["172.30.0.0/16", "10.128.0.0/14", "fd01::/16", "fd02::/16"];
/// The addresses of the DNS service.
pub const SERVERS: [&str; 2] = ["172.30.0.10", "fd02::a"];

// === impl Record ===

impl Record {
    /// The line.
    pub fn line(&self) -> String {
        format!("{}. {}\n", self.owner, self.text)
    }
}

/// All zones: the cluster's, those of addresses, and one of somebody else's.
pub fn zones(cluster: &Cluster) -> Zones {
    let mut writer = Writer::default();
    for zone in ["cluster.local", "example.com"].iter().chain(&REVERSE) {
        writer.apex(zone);
    }
    writer.add("dns-version.cluster.local", 28_800, "TXT \"1.1.0\"");
    for address in SERVERS {
        writer.address("ns.dns.cluster.local", TTL, address.parse().unwrap());
    }
    writer.add("www.example.com", 300, "CNAME web.example.com.");
    writer.add("web.example.com", 300, "A 192.0.2.80");
    // These four are there in an empty cluster, too.
    for name in ["svc", "pod", "endpoints", "dns"] {
        writer.add(&format!("{HELD}.{name}.cluster.local"), TTL, "TXT held");
    }
    for namespace in &cluster.namespaces {
        for below in ["", "svc.", "pod.", "endpoints."] {
            writer.add(&format!("{HELD}.{namespace}.{below}cluster.local"), TTL, "TXT held");
        }
    }
    for pod in &cluster.pods {
        for address in pod.addresses {
            // As it is written with the fewest letters; what ends with colons has no other name than that.
            let label = address.to_string().replace(['.', ':'], "-");
            writer.address(&format!("{label}.{}.pod.cluster.local", pod.namespace), TTL, address);
        }
    }
    for service in &cluster.services {
        writer.service(service);
    }
    writer.zones
}

#[derive(Default)]
struct Writer {
    zones: Zones,
}

impl Writer {
    fn add(&mut self, owner: &str, ttl: u32, text: &str) {
        let zone = self.zones.iter_mut().find(|(zone, _)| owner == *zone || owner.ends_with(&format!(".{zone}")));
        let (_, records) = zone.unwrap_or_else(|| panic!("no zone for {owner}"));
        records.insert(Record { owner: owner.to_owned(), text: format!("{ttl} {text}") });
    }

    fn address(&mut self, owner: &str, ttl: u32, address: IpAddr) {
        let rtype = if address.is_ipv4() { "A" } else { "AAAA" };
        self.add(owner, ttl, &format!("{rtype} {address}"));
    }

    fn apex(&mut self, zone: &str) {
        self.zones.insert(zone.to_owned(), BTreeSet::new());
        let soa = "SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5";
        self.add(zone, TTL, soa);
        self.add(zone, TTL, "NS ns.dns.cluster.local.");
    }

    fn service(&mut self, service: &Service) {
        let name = format!("{}.{}.svc.cluster.local", service.name, service.namespace);
        let legacy = format!("{}.{}.endpoints.cluster.local", service.name, service.namespace);
        let endpoints = Ready::of(service);
        match &service.kind {
            Kind::External(target) => return self.add(&name, TTL, &format!("CNAME {target}.")),
            Kind::Headless => endpoints.write(self, &name, &name, Style::Own),
            Kind::Cluster(ips) => {
                self.own_addresses(&name, &name, ips, &service.ports);
                if service.namespace == "default" && service.name == "kubernetes" {
                    // OpenShift's oldest name: it alone, and nothing below it.
                    let old = "openshift.default.svc.cluster.local";
                    ips.iter().for_each(|ip| self.address(old, TTL, *ip));
                    self.service_ports(old, &name, service.ports.iter());
                }
                for ip in ips {
                    self.add(&reverse(*ip), TTL, &format!("PTR {name}."));
                }
                endpoints.addresses_below(self, &name, Style::Own);
            }
        }
        endpoints.pointers(self, &name);
        endpoints.write(self, &legacy, &legacy, Style::Legacy);
        endpoints.write(self, &format!("_endpoints.{name}"), &legacy, Style::Legacy);
    }

    fn own_addresses(&mut self, name: &str, target: &str, ips: &[IpAddr], ports: &[Port]) {
        ips.iter().for_each(|ip| self.address(name, TTL, *ip));
        self.service_ports(name, target, ports.iter());
        for port in ports.iter().filter(|port| port.name.is_some()) {
            self.service_ports(&port.below(name), target, [port].into_iter());
        }
    }

    fn service_ports<'a>(&mut self, owner: &str, target: &str, ports: impl ExactSizeIterator<Item = &'a Port>) {
        let weight = 100 / ports.len().max(1);
        for port in ports {
            self.add(owner, TTL, &format!("SRV 0 {weight} {} {target}.", port.number));
        }
    }
}

impl Port {
    fn below(&self, name: &str) -> String {
        format!("_{}._{}.{name}", self.name.unwrap_or_default(), self.protocol.to_lowercase())
    }
}

/// How names of endpoints are made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Own,
    /// OpenShift 3's: other TTL, labels, and numbers in SRV.
    Legacy,
}

/// Endpoints that are ready, with their ports.
struct Ready<'a>(Vec<(&'a Endpoint, &'a [Port])>);

impl<'a> Ready<'a> {
    fn of(service: &'a Service) -> Self {
        let all = service.slices.iter().flat_map(|slice| slice.endpoints.iter().map(|one| (one, &slice.ports[..])));
        Self(all.filter(|(endpoint, _)| endpoint.ready).collect())
    }

    /// Addresses and ports at `name`, whose endpoints have their names below `parent`.
    fn write(&self, writer: &mut Writer, name: &str, parent: &str, style: Style) {
        for (endpoint, _) in &self.0 {
            writer.address(name, style.ttl(), endpoint.address);
        }
        self.addresses_below(writer, name, style);
        self.ports(writer, name, parent, style, |_| true);
        for port in self.0.iter().flat_map(|(_, ports)| *ports).filter(|port| port.name.is_some()) {
            let same = |other: &Port| (other.name, other.protocol) == (port.name, port.protocol);
            self.ports(writer, &port.below(name), parent, style, same);
        }
    }

    fn addresses_below(&self, writer: &mut Writer, name: &str, style: Style) {
        for (endpoint, _) in &self.0 {
            writer.address(&format!("{}.{name}", endpoint.label(style)), style.ttl(), endpoint.address);
        }
    }

    fn ports(&self, writer: &mut Writer, owner: &str, parent: &str, style: Style, wanted: impl Fn(&Port) -> bool) {
        let rows = || self.0.iter().flat_map(|(one, ports)| ports.iter().map(move |port| (one, port)));
        let rows = || rows().filter(|(_, port)| wanted(port));
        let numbers = match style {
            Style::Own => format!("0 {}", (100 / rows().count().max(1)).max(1)),
            Style::Legacy => "10 10".to_owned(),
        };
        for (endpoint, port) in rows() {
            let target = endpoint.label(style);
            writer.add(owner, style.ttl(), &format!("SRV {numbers} {} {target}.{parent}.", port.number));
        }
    }

    fn pointers(&self, writer: &mut Writer, name: &str) {
        for (endpoint, _) in &self.0 {
            writer.add(&reverse(endpoint.address), TTL, &format!("PTR {}.{name}.", endpoint.label(Style::Own)));
        }
    }
}

impl Style {
    fn ttl(self) -> u32 {
        if self == Self::Own { TTL } else { LEGACY_TTL }
    }
}

impl Endpoint {
    fn label(&self, style: Style) -> String {
        let text = self.address.to_string();
        match (&self.hostname, style) {
            (Some(name), _) => name.clone(),
            (None, Style::Own) if text.ends_with(':') => format!("{}0", text.replace(':', "-")),
            (None, Style::Own) => text.replace(['.', ':'], "-"),
            // FNV-1a.
            (None, Style::Legacy) => {
                let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(16_777_619);
                format!("{:x}", text.bytes().fold(2_166_136_261, step))
            }
        }
    }
}

/// The name that an address has in a reverse zone.
fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let nibbles = address.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}.")).collect::<String>() + "ip6.arpa"
        }
    }
}

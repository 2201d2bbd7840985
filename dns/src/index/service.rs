//! What is known of one Service: its records, encoded, and its endpoints.

use super::label::{Label, dashed_address, is_canonical, legacy_hash};
use crate::wire::{CLASS_IN, append_wire, rtype};
use sdn_cluster::model::{EndpointSlice, Protocol, Service, ServiceType};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

/// A record of type A from its type on: TYPE, CLASS, TTL, RDLENGTH, RDATA.
pub(crate) type Record4 = [u8; 14];

/// Likewise of type AAAA.
pub(crate) type Record6 = [u8; 26];

/// A Service and what stands behind it.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its name and its namespace's as labels.
    pub(crate) key: Arc<[u8]>,
    /// What its name leads to.
    pub(crate) kind: ServiceKind,
    /// The addresses of its name.
    pub(crate) addresses: Encoded,
    /// Its own ports: what SRV of a Service with an address of its own says.
    pub(crate) ports: Box<[Port]>,
    /// Its endpoints that are ready.
    pub(crate) endpoints: Endpoints,
}

/// What a Service's name leads to.
#[derive(Debug)]
pub(crate) enum ServiceKind {
    /// Its own addresses.
    Cluster,
    /// Its endpoints.
    Headless,
    /// Another name, in wire form.
    External(Box<[u8]>),
}

/// Addresses as records.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    pub(crate) v4: Box<[Record4]>,
    pub(crate) v6: Box<[Record6]>,
}

/// A port of a Service's own addresses.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

/// The endpoints of a Service that are ready.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    /// All, ordered by address; the same address twice only with different names.
    pub(crate) list: Box<[Endpoint]>,
    /// Indexes of those with a name, ordered by it.
    named: Box<[u32]>,
    /// What the older names call those without one, and their indexes.
    hashed: Box<[(u32, u32)]>,
    /// The ports they have.
    pub(crate) ports: Box<[EndpointPort]>,
}

/// One endpoint.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Endpoint {
    pub(crate) address: IpAddr,
    /// Its own name below the Service's. Without one it is called by its address.
    pub(crate) name: Option<Arc<str>>,
}

/// A port that endpoints have.
#[derive(Debug)]
pub(crate) struct EndpointPort {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) protocol: Protocol,
    /// Indexes of endpoints and the number each has for it.
    pub(crate) targets: Box<[(u32, u16)]>,
}

/// How names are made.
#[derive(Clone, Debug)]
pub(crate) struct Naming {
    /// TTL of records, in seconds.
    pub(crate) ttl: u32,
    /// An endpoint without a hostname is called as its pod.
    pub(crate) pod_names: bool,
    /// The namespaces that have names; `None` for all.
    pub(crate) namespaces: Option<Arc<BTreeSet<String>>>,
}

// === impl Entry ===

impl Entry {
    /// Encodes a Service. `None` when it has no names: an ExternalName that is not a name, or not one yet.
    pub(crate) fn new<'a>(
        key: Arc<[u8]>,
        service: &Service,
        slices: impl Iterator<Item = &'a Arc<EndpointSlice>>,
        naming: &Naming,
    ) -> Option<Self> {
        if service.service_type == ServiceType::ExternalName {
            let target = external_name(service)?;
            let kind = ServiceKind::External(target);
            return Some(Self {
                key,
                kind,
                addresses: Encoded::default(),
                ports: Box::default(),
                endpoints: Endpoints::default(),
            });
        }
        let endpoints = Endpoints::new(slices, naming);
        let (kind, addresses) = if service.headless {
            let mut addresses: Vec<_> = endpoints.list.iter().map(|endpoint| endpoint.address).collect();
            addresses.dedup();
            (ServiceKind::Headless, Encoded::new(&addresses, naming.ttl))
        } else {
            (ServiceKind::Cluster, Encoded::new(&service.cluster_ips, naming.ttl))
        };
        let port = |port: &sdn_cluster::model::ServicePort| Port {
            name: port.name.clone(),
            protocol: port.protocol,
            port: port.port,
        };
        let ports = if service.headless { Box::default() } else { service.ports.iter().map(port).collect() };
        Some(Self { key, kind, addresses, ports, endpoints })
    }
}

/// What an ExternalName stands for, in wire form; `None` for an address, which is not a name.
fn external_name(service: &Service) -> Option<Box<[u8]>> {
    let text = service.external_name.as_deref()?;
    let mut wire = Vec::with_capacity(text.len() + 2);
    let is_name = text.parse::<IpAddr>().is_err() && !text.is_empty() && append_wire(text, &mut wire);
    wire.push(0);
    (is_name && wire.len() <= crate::wire::MAX_NAME).then(|| wire.into())
}

// === impl Naming ===

impl Naming {
    /// Whether names of the namespace are given out.
    pub(super) fn exposes(&self, namespace: &str) -> bool {
        self.namespaces.as_ref().is_none_or(|namespaces| namespaces.contains(namespace))
    }
}

// === impl Encoded ===

impl Encoded {
    fn new(addresses: &[IpAddr], ttl: u32) -> Self {
        let v4 = |address: &IpAddr| if let IpAddr::V4(address) = address { Some(record4(*address, ttl)) } else { None };
        let v6 = |address: &IpAddr| if let IpAddr::V6(address) = address { Some(record6(*address, ttl)) } else { None };
        Self { v4: addresses.iter().filter_map(v4).collect(), v6: addresses.iter().filter_map(v6).collect() }
    }
}

impl Encoded {
    /// What they say.
    pub(crate) fn iter(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let v4 = self.v4.iter().map(|record| IpAddr::from([record[10], record[11], record[12], record[13]]));
        let v6 = self.v6.iter().filter_map(|record| <[u8; 16]>::try_from(&record[10..]).ok()).map(IpAddr::from);
        v4.chain(v6)
    }
}

/// A record of type A.
pub(crate) fn record4(address: Ipv4Addr, ttl: u32) -> Record4 {
    let mut record = [0; 14];
    record[..10].copy_from_slice(&fixed(rtype::A, ttl, 4));
    record[10..].copy_from_slice(&address.octets());
    record
}

/// A record of type AAAA.
pub(crate) fn record6(address: Ipv6Addr, ttl: u32) -> Record6 {
    let mut record = [0; 26];
    record[..10].copy_from_slice(&fixed(rtype::AAAA, ttl, 16));
    record[10..].copy_from_slice(&address.octets());
    record
}

fn fixed(rtype: u16, ttl: u32, length: u8) -> [u8; 10] {
    let ([a, b], [c, d], [e, f, g, h]) = (rtype.to_be_bytes(), CLASS_IN.to_be_bytes(), ttl.to_be_bytes());
    [a, b, c, d, e, f, g, h, 0, length]
}

// === impl Endpoints ===

impl Endpoints {
    fn new<'a>(slices: impl Iterator<Item = &'a Arc<EndpointSlice>>, naming: &Naming) -> Self {
        let mut found: BTreeMap<Endpoint, Vec<&EndpointSlice>> = BTreeMap::new();
        for slice in slices {
            for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.ready) {
                let pod = endpoint.pod.as_ref().map(|pod| &pod.name).filter(|name| naming.pod_names && is_label(name));
                let name = endpoint.hostname.as_ref().filter(|name| is_label(name)).or(pod).cloned();
                found.entry(Endpoint { address: endpoint.address, name }).or_default().push(slice);
            }
        }
        let ports = ports(found.values());
        let list: Box<[Endpoint]> = found.into_keys().collect();
        let indexes = || (0u32..).zip(&list);
        let mut named: Box<[u32]> =
            indexes().filter(|(_, endpoint)| endpoint.name.is_some()).map(|(index, _)| index).collect();
        named.sort_by_key(|index| list[*index as usize].lower_name());
        let unnamed = indexes().filter(|(_, endpoint)| endpoint.name.is_none());
        let mut hashed: Box<[(u32, u32)]> =
            unnamed.map(|(index, endpoint)| (legacy_hash(endpoint.address), index)).collect();
        hashed.sort_unstable();
        Self { list, named, hashed, ports }
    }

    /// The endpoints that have the name `label`, which is in lower case.
    pub(crate) fn with_name<'a>(&'a self, label: &'a [u8]) -> impl Iterator<Item = u32> + 'a {
        let by_name = |index: &u32| self.list[*index as usize].lower_name();
        let first = self.named.partition_point(|index| by_name(index).as_deref().map(str::as_bytes) < Some(label));
        let named = self.named[first..]
            .iter()
            .take_while(move |index| by_name(index).as_deref().map(str::as_bytes) == Some(label))
            .copied();
        let address = dashed_address(label).filter(|address| is_canonical(*address, label));
        let at = address.and_then(|address| self.at(address));
        named.chain(at)
    }

    /// The endpoints that the older names call `label`: as [`Endpoints::with_name`], but those without a name by the hash
    /// of their address.
    pub(crate) fn with_legacy_name<'a>(&'a self, label: &'a [u8]) -> impl Iterator<Item = u32> + 'a {
        let named = self.with_name(label).filter(|index| self.list[*index as usize].name.is_some());
        let hash = std::str::from_utf8(label).ok().and_then(|text| u32::from_str_radix(text, 16).ok());
        let hash = hash.filter(|hash| format!("{hash:x}").as_bytes() == label);
        let first = hash.map_or(self.hashed.len(), |hash| self.hashed.partition_point(|(own, _)| *own < hash));
        let hashed = self.hashed[first..].iter().take_while(move |(own, _)| Some(*own) == hash);
        named.chain(hashed.map(|(_, index)| *index))
    }

    /// The endpoints with an address.
    pub(crate) fn at_address(&self, address: IpAddr) -> impl Iterator<Item = &Endpoint> {
        let first = self.list.partition_point(|endpoint| endpoint.address < address);
        self.list[first..].iter().take_while(move |endpoint| endpoint.address == address)
    }

    /// The endpoint with an address and no name.
    fn at(&self, address: IpAddr) -> Option<u32> {
        // None comes before every name.
        let index = self.list.binary_search(&Endpoint { address, name: None }).ok()?;
        u32::try_from(index).ok()
    }
}

/// What tells ports apart: name and protocol.
type PortKey = (Option<Arc<str>>, Protocol);

/// The endpoints that have a port, by index, and the number each has for it.
type Targets = Vec<(u32, u16)>;

/// The ports of endpoints, which come in the order of their indexes, each with the slices it is in.
fn ports<'a>(endpoints: impl Iterator<Item = &'a Vec<&'a EndpointSlice>>) -> Box<[EndpointPort]> {
    let mut ports: BTreeMap<PortKey, Targets> = BTreeMap::new();
    for (index, slices) in (0u32..).zip(endpoints) {
        for port in slices.iter().flat_map(|slice| &slice.ports) {
            let Some(number) = port.port else { continue };
            ports.entry((port.name.clone(), port.protocol)).or_default().push((index, number));
        }
    }
    let port = |((name, protocol), mut targets): (PortKey, Targets)| {
        targets.sort_unstable();
        targets.dedup();
        EndpointPort { name, protocol, targets: targets.into() }
    };
    ports.into_iter().map(port).collect()
}

// === impl Endpoint ===

impl Endpoint {
    /// Its name as queries have it. Names of Kubernetes are in lower case already.
    fn lower_name(&self) -> Option<std::borrow::Cow<'_, str>> {
        let name = self.name.as_deref()?;
        Some(match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => name.to_ascii_lowercase().into(),
            false => name.into(),
        })
    }

    /// Writes the label it has below the Service's name, its length first.
    pub(crate) fn write_label(&self, out: &mut Label) {
        match (&self.name, self.address) {
            (Some(name), _) => out.set(name.bytes().map(|byte| byte.to_ascii_lowercase())),
            (None, address) => out.set_address(address),
        }
    }

    /// Writes the label that it has in the older names.
    pub(crate) fn write_legacy_label(&self, out: &mut Label) {
        match &self.name {
            Some(name) => out.set(name.bytes().map(|byte| byte.to_ascii_lowercase())),
            None => out.set_text(format_args!("{:x}", legacy_hash(self.address))),
        }
    }
}

fn is_label(name: &str) -> bool {
    (1..=63).contains(&name.len()) && !name.contains('.')
}

//! A cluster that exists on paper: the same names for every server.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::Result;
use sdn_cluster::Snapshot;
use sdn_cluster::model::{
    Endpoint, EndpointPort, EndpointSlice, IpFamily, Namespace, Protocol, Service, ServicePort, TargetPort,
};

use super::ENDPOINTS;
use super::load::Queries;
use crate::bench::statistics::Sequence;

/// Of every so many Services one is headless.
const HEADLESS: usize = 10;
const NAMESPACES: usize = 50;
/// Different queries in a run.
const QUERIES: usize = 20_000;

/// So many Services with ten endpoints each.
#[derive(Debug, Clone, Copy)]
pub struct Cluster {
    pub services: usize,
}

/// One name and its addresses.
pub struct Names {
    pub name: String,
    pub addresses: Vec<Ipv4Addr>,
}

impl Cluster {
    /// The Service of that number has no address of its own.
    pub fn is_headless(number: usize) -> bool {
        number.is_multiple_of(HEADLESS)
    }

    fn service_name(number: usize) -> (String, String) {
        (format!("ns-{}", number % NAMESPACES), format!("svc-{number}"))
    }

    /// Its name in DNS, without the last dot.
    pub fn domain(number: usize) -> String {
        let (namespace, name) = Self::service_name(number);
        format!("{name}.{namespace}.svc.cluster.local")
    }

    fn cluster_ip(number: usize) -> Ipv4Addr {
        Ipv4Addr::from_bits(0xac1e_0100 + number as u32)
    }

    fn endpoint(number: usize, index: usize) -> Ipv4Addr {
        Ipv4Addr::from_bits(0x0a80_0100 + (number * ENDPOINTS + index) as u32)
    }

    /// As the agent knows it.
    pub fn snapshot(self) -> Snapshot {
        let mut snapshot = Snapshot { synced: true, generation: 1, ..Snapshot::default() };
        for number in 0..NAMESPACES {
            let name: Arc<str> = format!("ns-{number}").into();
            snapshot.namespaces.insert(name.clone(), Arc::new(Namespace { name, ..Namespace::default() }));
        }
        for number in 0..self.services {
            let service = service(number);
            let slice = slice(number, (0..ENDPOINTS).map(|index| Self::endpoint(number, index)));
            snapshot.services.insert(service.key(), Arc::new(service));
            snapshot.slices.insert(slice.key(), Arc::new(slice));
        }
        snapshot
    }

    /// Every name with an address, as other servers are told.
    pub fn names(self) -> impl Iterator<Item = Names> {
        (0..self.services).flat_map(|number| {
            let name = Self::domain(number);
            let endpoints: Vec<Ipv4Addr> = (0..ENDPOINTS).map(|index| Self::endpoint(number, index)).collect();
            let own = if Self::is_headless(number) { endpoints.clone() } else { vec![Self::cluster_ip(number)] };
            let below = endpoints.into_iter().map({
                let name = name.clone();
                move |address| Names {
                    name: format!("{}.{name}", address.to_string().replace('.', "-")),
                    addresses: vec![address],
                }
            });
            [Names { name: name.clone(), addresses: own }].into_iter().chain(below).collect::<Vec<_>>()
        })
    }

    /// Of ten queries nine are for an address, one for one of the other family, which is not there.
    pub fn queries(self) -> Result<Queries> {
        let (mut sequence, mut text) = (Sequence::new(1), String::new());
        for index in 0..QUERIES {
            let rtype = if index % 10 == 9 { "AAAA" } else { "A" };
            writeln!(text, "{} {rtype}", Self::domain(sequence.below(self.services)))?;
        }
        Queries::new(&text)
    }
}

fn service(number: usize) -> Service {
    let (namespace, name) = Cluster::service_name(number);
    let headless = Cluster::is_headless(number);
    let port = ServicePort {
        name: Some("http".into()),
        protocol: Protocol::Tcp,
        port: 80,
        target: TargetPort::Number(8080),
        node_port: None,
        app_protocol: None,
    };
    Service {
        namespace: namespace.into(),
        name: name.into(),
        headless,
        cluster_ips: if headless { vec![] } else { vec![IpAddr::V4(Cluster::cluster_ip(number))] },
        families: vec![IpFamily::V4],
        ports: vec![port],
        ..Service::default()
    }
}

/// The endpoints of a Service.
pub fn slice(number: usize, addresses: impl Iterator<Item = Ipv4Addr>) -> EndpointSlice {
    let (namespace, service) = Cluster::service_name(number);
    let endpoint = |address| Endpoint {
        address: IpAddr::V4(address),
        ready: true,
        serving: true,
        terminating: false,
        hostname: None,
        node: None,
        zone: None,
        hints: None,
        pod: None,
    };
    let port =
        EndpointPort { name: Some("http".into()), protocol: Protocol::Tcp, port: Some(8080), app_protocol: None };
    EndpointSlice {
        namespace: namespace.into(),
        name: format!("{service}-1").into(),
        service: Some(service.into()),
        ports: vec![port],
        endpoints: addresses.map(endpoint).collect(),
        ..EndpointSlice::default()
    }
}

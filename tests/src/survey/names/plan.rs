//! Which names are asked for, and by whom.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Result;
use hickory_proto::rr::{Name, RecordType};
use sdn_cluster::Snapshot;
use sdn_cluster::model::{Endpoint, PodKey, Service, ServiceType};

use super::{NameCheck, NameExpected, NameKind, Place};
use crate::family::IpFamily;
use crate::lab::Lab;
use crate::nameserver::{KNOWN_NAME, UNKNOWN_NAME, known_address};
use crate::pod::Pod;
use crate::probe::names::Transport;

/// Services whose names are asked for, at most; there may be thousands.
const MOST_SERVICES: usize = 20;

/// The domain of the cluster's names.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// A pod that asks for names, the only one on its node.
pub struct Asker {
    pub pod: Arc<Pod>,
    pub place: Arc<Place>,
    /// The name servers in its resolv.conf.
    pub servers: Vec<IpAddr>,
}

/// A pod on every node, as far as there are pods that were given name servers of the cluster.
pub fn askers(lab: &Lab) -> Result<Vec<Asker>> {
    let mut askers = BTreeMap::new();
    for pod in lab.pods().into_iter().filter(|pod| pod.is_ready() && !pod.is_host_network()) {
        let (name, node) = (pod.key().to_string(), pod.node().name().to_owned());
        if askers.contains_key(&node) || !pod.has_names() {
            continue;
        }
        let (servers, sandbox) = (pod.name_servers()?, pod.sandbox()?);
        askers.insert(node.clone(), Asker { pod, place: Arc::new(Place { name, node, sandbox }), servers });
    }
    Ok(askers.into_values().collect())
}

/// All questions of a pod, over both transports to each of its name servers.
pub fn checks(lab: &Lab, asker: &Asker) -> Vec<NameCheck> {
    let questions = questions(&lab.cluster());
    let ask = |server: &IpAddr, over: Transport| {
        let server = *server;
        let check = move |(kind, name, record, expected): &(NameKind, String, RecordType, NameExpected)| NameCheck {
            kind: *kind,
            from: asker.place.clone(),
            server,
            over,
            name: name.clone(),
            record: *record,
            expected: expected.clone(),
        };
        questions.iter().map(check).collect::<Vec<_>>()
    };
    asker
        .servers
        .iter()
        .flat_map(|server| [Transport::Udp, Transport::Tcp].map(|over| ask(server, over)))
        .flatten()
        .collect()
}

/// A Service by a name without its domain, with the addresses that it leads to; and a name of the internet.
pub fn short_names(lab: &Lab, asker: &Asker) -> Vec<(String, BTreeSet<String>)> {
    let cluster = lab.cluster();
    let service = services(&cluster).find(|service| service.has_cluster_ips());
    let own = service.map(|service| {
        let same = service.namespace == asker.pod.key().namespace;
        let name = if same { service.name.to_string() } else { format!("{}.{}", service.name, service.namespace) };
        (name, service.cluster_ips.iter().map(ToString::to_string).collect())
    });
    let known = lab.family().each().iter().map(|family| known_address(*family).to_string()).collect();
    own.into_iter().chain([(KNOWN_NAME.to_owned(), known)]).collect()
}

/// A headless Service with at least two endpoints, and the pod that is one of them.
pub fn withdrawable(lab: &Lab) -> Option<(String, Arc<Pod>)> {
    let cluster = lab.cluster();
    services(&cluster).filter(|service| service.headless && !service.publish_not_ready).find_map(|service| {
        let pods: BTreeSet<&PodKey> =
            endpoints(&cluster, service).filter_map(|endpoint| endpoint.pod.as_ref()).collect();
        let pod = pods.first().filter(|_| pods.len() > 1)?;
        Some((name_of(service), lab.pod(&pod.to_string()).ok()?))
    })
}

fn questions(cluster: &Snapshot) -> Vec<(NameKind, String, RecordType, NameExpected)> {
    let mut questions = vec![];
    for service in services(cluster) {
        if service.has_cluster_ips() {
            of_service(service, &mut questions);
        } else if service.headless {
            of_headless(cluster, service, &mut questions);
        }
    }
    for family in [IpFamily::V4, IpFamily::V6] {
        let known = BTreeSet::from([known_address(family).to_string()]);
        let external = NameExpected::Records(known);
        questions.push((NameKind::External, KNOWN_NAME.to_owned(), address_record(family), external));
        let nobody = [UNKNOWN_NAME.to_owned(), format!("nobody.default.svc.{CLUSTER_DOMAIN}")];
        questions.extend(nobody.map(|name| (NameKind::Absent, name, address_record(family), NameExpected::Absent)));
    }
    questions
}

fn of_service(service: &Service, questions: &mut Vec<(NameKind, String, RecordType, NameExpected)>) {
    let name = name_of(service);
    for family in [IpFamily::V4, IpFamily::V6] {
        let own = service.cluster_ips.iter().filter(|address| IpFamily::of(**address) == family);
        let expected = NameExpected::Records(own.map(ToString::to_string).collect());
        questions.push((NameKind::Service, name.clone(), address_record(family), expected));
    }
    for port in &service.ports {
        let Some(port_name) = &port.name else { continue };
        let protocol = port.protocol.to_string().to_lowercase();
        let expected = NameExpected::Records([format!("{} {name}", port.port)].into());
        questions.push((NameKind::Port, format!("_{port_name}._{protocol}.{name}"), RecordType::SRV, expected));
    }
    for address in &service.cluster_ips {
        let expected = NameExpected::Records([name.clone()].into());
        questions.push((NameKind::Reverse, Name::from(*address).to_ascii(), RecordType::PTR, expected));
    }
}

fn of_headless(
    cluster: &Snapshot,
    service: &Service,
    questions: &mut Vec<(NameKind, String, RecordType, NameExpected)>,
) {
    let name = name_of(service);
    for family in [IpFamily::V4, IpFamily::V6] {
        let own = |host: Option<&str>| {
            let ready =
                endpoints(cluster, service).filter(|endpoint| host.is_none() || endpoint.hostname.as_deref() == host);
            let of_family = ready.filter(|endpoint| IpFamily::of(endpoint.address) == family);
            NameExpected::Records(of_family.map(|endpoint| endpoint.address.to_string()).collect())
        };
        let hosts: BTreeSet<_> = endpoints(cluster, service).filter_map(|endpoint| endpoint.hostname.clone()).collect();
        // Whether a name without any endpoint exists is for tests of the resolver.
        if endpoints(cluster, service).next().is_some() {
            questions.push((NameKind::Headless, name.clone(), address_record(family), own(None)));
        }
        for host in hosts {
            questions.push((NameKind::Host, format!("{host}.{name}"), address_record(family), own(Some(&host))));
        }
    }
}

fn services(cluster: &Snapshot) -> impl Iterator<Item = &Arc<Service>> {
    let known = cluster.services.values().filter(|service| service.service_type != ServiceType::ExternalName);
    known.take(MOST_SERVICES)
}

/// The ready endpoints of a Service.
fn endpoints<'a>(cluster: &'a Snapshot, service: &'a Service) -> impl Iterator<Item = &'a Endpoint> {
    let key = service.key();
    let slices = cluster.slices.values().filter(move |slice| slice.service_key().as_ref() == Some(&key));
    slices.flat_map(|slice| &slice.endpoints).filter(|endpoint| endpoint.ready)
}

fn name_of(service: &Service) -> String {
    format!("{}.{}.svc.{CLUSTER_DOMAIN}", service.name, service.namespace)
}

fn address_record(family: IpFamily) -> RecordType {
    match family {
        IpFamily::V4 => RecordType::A,
        IpFamily::V6 => RecordType::AAAA,
    }
}

//! Addresses and ports for Services, where no control plane assigns them; and the endpoints that manifests give.

mod ranges;

use super::{Note, uid};
use crate::{
    error::Error,
    model::{
        EndpointSlice, Endpoints, FamilyPolicy, Ingress, IpFamily, IpMode, Object, Protocol, Service, ServiceKey,
        ServicePort, ServiceType,
    },
    network,
};
use ipnet::IpNet;
use ranges::{AddressRange, PortRange};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    ops::RangeInclusive,
    sync::Arc,
};

/// The ranges that Services get their addresses and ports from. Checked when it is made.
#[derive(Clone, Debug)]
pub struct ServiceRanges {
    /// One of each family at most, the default family's first.
    networks: Vec<IpNet>,
    node_ports: RangeInclusive<u16>,
    lb_pool: Vec<IpNet>,
    lb_class: Option<Arc<str>>,
}

/// What [`derive_services`] made.
#[derive(Clone, Debug, Default)]
pub struct DerivedServices {
    /// The Services with all that is assigned. One that cannot be is not among them.
    pub services: Vec<Arc<Service>>,
    /// The slices that were given, and those that given Endpoints come to. Those of Services with a selector are made
    /// by [`super::endpoints::Deriver`].
    pub slices: Vec<Arc<EndpointSlice>>,
    /// What a person should know: Services that cannot be as they are, endpoints of no Service, addresses that were not
    /// to be had.
    pub notes: Vec<Note>,
}

/// The ports of nodes when none are configured.
pub const DEFAULT_NODE_PORTS: RangeInclusive<u16> = 30000..=32767;

/// Completes the Services of some manifests as a control plane would, and takes the endpoints that are given; other
/// objects are passed over.
///
/// Addresses and ports that a Service brings are kept. Whose are taken, or lie outside the ranges, or who asks for
/// families that the cluster has not, is left out with a note, as the API would refuse it; of two with one address the
/// first by namespace and name has it. What is assigned depends on the Service's name first of all, so that Services
/// that come and go hardly ever change another's.
pub fn derive_services<'a>(objects: impl IntoIterator<Item = &'a Object>, ranges: &ServiceRanges) -> DerivedServices {
    let mut services = BTreeMap::new();
    let (mut slices, mut endpoints) = (Vec::new(), Vec::new());
    for object in objects {
        match object {
            Object::Service(service) => drop(services.insert(service.key(), service.clone())),
            Object::EndpointSlice(slice) => slices.push(slice.clone()),
            Object::Endpoints(given) => endpoints.push(given.clone()),
            _ => {}
        }
    }
    let mut notes = Vec::new();
    let services = assign(services.into_values().collect(), ranges, &mut notes);
    let slices = given_slices(&services, slices, &endpoints, &mut notes);
    DerivedServices { services, slices, notes }
}

/// Gives every Service what it needs and has not; in the order of their keys, those that bring something first.
fn assign(services: Vec<Arc<Service>>, ranges: &ServiceRanges, notes: &mut Vec<Note>) -> Vec<Arc<Service>> {
    let mut taken = Taken::new(ranges);
    let mut kept = Vec::with_capacity(services.len());
    for service in services {
        let mut complete = Service::clone(&service);
        let result = set_families(&mut complete, ranges).and_then(|()| taken.keep(&complete));
        match result {
            Ok(()) => kept.push(complete),
            Err(message) => notes.push(refused(&service, &message)),
        }
    }
    let mut assigned = Vec::with_capacity(kept.len());
    for mut service in kept {
        match taken.complete(&mut service) {
            Ok(()) => {
                if let Err(message) = taken.balance(&mut service) {
                    notes.push(note(&service, message));
                }
                if service.uid.is_empty() {
                    service.uid = uid(&Object::Service(Arc::new(service.clone())).key(), "");
                }
                assigned.push(Arc::new(service));
            }
            Err(message) => {
                taken.release(&service);
                notes.push(refused(&service, &message));
            }
        }
    }
    assigned
}

/// Decides the families, as the API does.
fn set_families(service: &mut Service, ranges: &ServiceRanges) -> Result<(), String> {
    if service.service_type == ServiceType::ExternalName {
        service.families.clear();
        service.family_policy = None;
        return Ok(());
    }
    let is_free = service.headless && service.selector.is_empty();
    let policy = service.family_policy.unwrap_or(if is_free {
        // Whoever gives the endpoints may give them of both families, whatever the cluster has.
        FamilyPolicy::RequireDualStack
    } else {
        FamilyPolicy::SingleStack
    });
    let available: Vec<_> = ranges.networks.iter().map(|network| IpFamily::of(network.addr())).collect();
    if !is_free {
        if policy == FamilyPolicy::RequireDualStack && available.len() < 2 {
            return Err("ipFamilyPolicy RequireDualStack: the cluster has one family of service networks".to_owned());
        }
        if let Some(family) = service.families.iter().find(|family| !available.contains(family)) {
            return Err(format!("ipFamilies: the cluster has no service network of {family}"));
        }
    }
    if service.families.is_empty() {
        service.families.extend(available.first());
    }
    let both = is_free || available.len() == 2;
    if let [only] = service.families[..]
        && both
        && policy != FamilyPolicy::SingleStack
    {
        service.families.push(only.other());
    }
    service.family_policy = Some(policy);
    Ok(())
}

/// What is in use, and by whom.
struct Taken<'a> {
    ranges: &'a ServiceRanges,
    networks: Vec<AddressRange>,
    pools: Vec<AddressRange>,
    ports: PortRange,
    addresses: HashMap<IpAddr, ServiceKey>,
    node_ports: HashMap<(Protocol, u16), ServiceKey>,
    balanced: HashMap<IpAddr, ServiceKey>,
}

impl<'a> Taken<'a> {
    fn new(ranges: &'a ServiceRanges) -> Self {
        Self {
            ranges,
            networks: ranges.networks.iter().map(|network| AddressRange::of_services(*network)).collect(),
            pools: ranges.lb_pool.iter().map(|pool| AddressRange::of_pool(*pool)).collect(),
            ports: PortRange::new(ranges.node_ports.clone()),
            addresses: HashMap::new(),
            node_ports: HashMap::new(),
            balanced: HashMap::new(),
        }
    }

    /// Takes what a Service brings: all of it or, where something is in the way, nothing.
    fn keep(&mut self, service: &Service) -> Result<(), String> {
        for address in &service.cluster_ips {
            if !self.networks.iter().any(|network| network.contains(*address)) {
                return Err(format!("clusterIP {address} is in none of the service networks"));
            }
            if let Some(other) = self.addresses.get(address) {
                return Err(format!("clusterIP {address} is Service {other}'s"));
            }
        }
        let mut own = BTreeSet::new();
        for (protocol, port) in given_ports(service) {
            if !self.ports.contains(port) {
                let (first, last) = (self.ranges.node_ports.start(), self.ranges.node_ports.end());
                return Err(format!("nodePort {port} is not within {first}-{last}"));
            }
            if let Some(other) = self.node_ports.get(&(protocol, port)) {
                return Err(format!("nodePort {port}/{protocol} is Service {other}'s"));
            }
            if !own.insert((protocol, port)) {
                return Err(format!("nodePort {port}/{protocol} is there twice"));
            }
        }
        let key = service.key();
        self.addresses.extend(service.cluster_ips.iter().map(|address| (*address, key.clone())));
        self.node_ports.extend(own.into_iter().map(|port| (port, key.clone())));
        for ingress in &service.ingress {
            // Several Services may share an address from outside: what a load balancer gave is not ours to judge.
            self.balanced.entry(ingress.address).or_insert_with(|| key.clone());
        }
        Ok(())
    }

    /// Assigns what is missing within the cluster.
    fn complete(&mut self, service: &mut Service) -> Result<(), String> {
        let key = service.key();
        if service.has_cluster_ips() {
            for family in service.families.iter().skip(service.cluster_ips.len()).copied().collect::<Vec<_>>() {
                let network = self.networks.iter().find(|network| network.family() == family);
                let free = |address: &IpAddr| !self.addresses.contains_key(address);
                let address = network.and_then(|network| network.pick(&key.to_string(), free));
                let address = address.ok_or_else(|| format!("no {family} address is left in the service network"))?;
                self.addresses.insert(address, key.clone());
                service.cluster_ips.push(address);
            }
        }
        let wants_ports = service.has_node_ports();
        for port in service.ports.iter_mut().filter(|port| wants_ports && port.node_port.is_none()) {
            // Without the protocol: one port of two protocols, as that of DNS, gets one node port.
            port.node_port = Some(self.take_port(&key, port.protocol, &port.port.to_string())?);
        }
        if service.has_health_check() && service.health_check_node_port.is_none() {
            service.health_check_node_port = Some(self.take_port(&key, Protocol::Tcp, "health")?);
        }
        Ok(())
    }

    fn take_port(&mut self, key: &ServiceKey, protocol: Protocol, seed: &str) -> Result<u16, String> {
        let free = |port: u16| !self.node_ports.contains_key(&(protocol, port));
        let port = self.ports.pick(&format!("{key}#{seed}"), free);
        let port = port.ok_or_else(|| format!("no node port of {protocol} is left"))?;
        self.node_ports.insert((protocol, port), key.clone());
        Ok(port)
    }

    /// Gives a load balancer's Service an address of the pool for each of its families that the pool has, unless it has
    /// any already or wants another's load balancer.
    fn balance(&mut self, service: &mut Service) -> Result<(), String> {
        let is_ours = service.load_balancer_class == self.ranges.lb_class;
        if service.service_type != ServiceType::LoadBalancer || !is_ours || !service.ingress.is_empty() {
            return Ok(());
        }
        for family in &service.families {
            let free = |address: &IpAddr| !self.balanced.contains_key(address);
            let pools = self.pools.iter().filter(|pool| pool.family() == *family);
            if let Some(address) = pools.filter_map(|pool| pool.lowest(free)).next() {
                self.balanced.insert(address, service.key());
                service.ingress.push(Ingress { address, mode: IpMode::Vip });
            }
        }
        match (service.ingress.is_empty(), self.pools.is_empty()) {
            (false, _) => Ok(()),
            (true, true) => Err("no address for outside: there is no pool of load balancer addresses".to_owned()),
            (true, false) => Err("no address for outside is left in the load balancer pool".to_owned()),
        }
    }

    fn release(&mut self, service: &Service) {
        let key = service.key();
        for address in &service.cluster_ips {
            self.addresses.remove(address);
        }
        for port in given_ports(service) {
            self.node_ports.remove(&port);
        }
        self.balanced.retain(|_, owner| *owner != key);
    }
}

/// The ports of nodes that a Service has.
fn given_ports(service: &Service) -> impl Iterator<Item = (Protocol, u16)> {
    let port = |port: &ServicePort| port.node_port.map(|number| (port.protocol, number));
    let health = service.health_check_node_port.map(|number| (Protocol::Tcp, number));
    service.ports.iter().filter_map(port).chain(health)
}

/// The slices that are given. What another cluster's controllers made is not: it is made anew, from selectors and from
/// Endpoints.
fn given_slices(
    services: &[Arc<Service>],
    slices: Vec<Arc<EndpointSlice>>,
    endpoints: &[Arc<Endpoints>],
    notes: &mut Vec<Note>,
) -> Vec<Arc<EndpointSlice>> {
    let services: BTreeMap<ServiceKey, &Arc<Service>> =
        services.iter().map(|service| (service.key(), service)).collect();
    let mut given = BTreeMap::new();
    let mut mirrored = BTreeSet::new();
    for endpoints in endpoints {
        let key = ServiceKey::new(endpoints.namespace.clone(), endpoints.name.clone());
        match services.get(&key) {
            Some(service) if service.selector.is_empty() => {
                mirrored.insert(key);
                let own = endpoints.slices.iter().map(|slice| (slice.key(), Arc::new(slice.clone())));
                given.extend(own);
            }
            // What a selector comes to is what counts, as a control plane would write over it.
            Some(_) => {}
            None if endpoints.slices.is_empty() => {}
            None => {
                let object = Object::Endpoints(endpoints.clone()).key();
                notes.push(Note { object, message: "not used: there is no Service of its name".to_owned() });
            }
        }
    }
    for slice in slices {
        let service = slice.service_key();
        let has_selector =
            service.as_ref().and_then(|key| services.get(key)).is_some_and(|service| !service.selector.is_empty());
        let is_stale = match slice.managed_by.as_deref() {
            Some(EndpointSlice::CONTROLLER) => has_selector,
            Some(EndpointSlice::MIRRORING_CONTROLLER) => service.is_some_and(|key| mirrored.contains(&key)),
            _ => false,
        };
        if !is_stale {
            given.insert(slice.key(), slice);
        }
    }
    given.into_values().collect()
}

fn note(service: &Service, message: String) -> Note {
    Note { object: Object::Service(Arc::new(service.clone())).key(), message }
}

fn refused(service: &Service, message: &str) -> Note {
    note(service, format!("refused: {message}"))
}

// === impl ServiceRanges ===

impl ServiceRanges {
    /// The service networks, one or two of different families; the first one's is the family of Services that ask for
    /// none.
    pub fn new(networks: Vec<IpNet>) -> Result<Self, Error> {
        let fault = |given: &str, reason: String| Error::ServiceRange { given: given.to_owned(), reason };
        let Some(first) = networks.first() else {
            return Err(fault("", "there is no service network; give one, or one of each family".to_owned()));
        };
        for network in &networks {
            let longest = if matches!(network, IpNet::V4(_)) { 30 } else { 126 };
            if *network != network.trunc() {
                let reason = format!("has host bits set: the network is {}", network.trunc());
                return Err(fault(&network.to_string(), reason));
            }
            if network.prefix_len() > longest {
                return Err(fault(&network.to_string(), format!("is too small: at most /{longest}")));
            }
            network::check_special(*network).map_err(|reason| fault(&network.to_string(), reason))?;
        }
        let same = networks[1..].iter().find(|other| IpFamily::of(other.addr()) == IpFamily::of(first.addr()));
        if let Some(other) = same.or(networks.get(2)) {
            return Err(fault(&other.to_string(), "there is a service network of its family already".to_owned()));
        }
        Ok(Self { networks, node_ports: DEFAULT_NODE_PORTS, lb_pool: Vec::new(), lb_class: None })
    }

    /// With other ports of nodes than [`DEFAULT_NODE_PORTS`].
    pub fn node_ports(self, node_ports: RangeInclusive<u16>) -> Result<Self, Error> {
        if node_ports.is_empty() || *node_ports.start() == 0 {
            let given = format!("{}-{}", node_ports.start(), node_ports.end());
            return Err(Error::ServiceRange { given, reason: "is no range of ports".to_owned() });
        }
        Ok(Self { node_ports, ..self })
    }

    /// With a pool that Services of type LoadBalancer get their addresses from; without the network and broadcast
    /// addresses of its ranges.
    pub fn lb_pool(self, lb_pool: Vec<IpNet>) -> Result<Self, Error> {
        for pool in &lb_pool {
            let fault = |reason| Error::ServiceRange { given: pool.to_string(), reason };
            if *pool != pool.trunc() {
                return Err(fault(format!("has host bits set: the range is {}", pool.trunc())));
            }
            network::check_special(*pool).map_err(fault)?;
            if let Some(network) = self.networks.iter().find(|network| network::overlap(**network, *pool)) {
                return Err(fault(format!("overlaps the service network {network}")));
            }
        }
        Ok(Self { lb_pool, ..self })
    }

    /// With the class of load balancers (spec.loadBalancerClass) that the pool is for; without one it is for Services
    /// that name none.
    pub fn lb_class(self, class: Option<Arc<str>>) -> Self {
        Self { lb_class: class, ..self }
    }

    /// The service networks.
    pub fn networks(&self) -> &[IpNet] {
        &self.networks
    }
}

impl Default for ServiceRanges {
    /// 172.30.0.0/16 and fd02::/112, the first one's family by default, and no pool.
    fn default() -> Self {
        Self {
            networks: network::DEFAULT_SERVICES.into(),
            node_ports: DEFAULT_NODE_PORTS,
            lb_pool: Vec::new(),
            lb_class: None,
        }
    }
}

#[cfg(test)]
mod tests;

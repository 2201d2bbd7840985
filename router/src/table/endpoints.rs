//! The endpoints of a route: addresses of pods that are ready, each with its share.

use super::{AppProtocol, BackendState, Endpoint, Termination};
use crate::{
    admission::{Claim, PortChoice},
    cookie,
};
use sdn_cluster::model::{
    EndpointPort, EndpointSlice, Protocol, Service, ServiceKey, ServicePort, TargetPort, ingress::ServicePortRef,
};
use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

/// What a route's endpoints come to.
pub(super) struct Found {
    pub endpoints: Vec<Endpoint>,
    pub is_idled: bool,
}

/// A Service with its slices.
pub(super) struct Target<'a> {
    pub key: ServiceKey,
    /// spec.to.weight or that of an alternate.
    pub weight: u16,
    pub service: Option<&'a Arc<Service>>,
    pub slices: Vec<&'a Arc<EndpointSlice>>,
}

/// The largest weight that one endpoint gets: sums of all stay far from overflowing.
const MAX_WEIGHT: u128 = 1 << 16;

/// The endpoints behind `targets`, in their order, and by address.
pub(super) fn find(claim: &Claim, targets: &[Target<'_>], state: &BackendState) -> Found {
    let (mut endpoints, mut groups, mut is_idled) = (Vec::new(), Vec::new(), false);
    for target in targets {
        // Nobody can come back to what passthrough does not choose: there are no cookies.
        if target.weight == 0 && claim.termination() == Termination::Passthrough {
            continue;
        }
        let mut own = of_target(claim, target, state);
        if own.is_empty() {
            own.extend(sleeping(claim, target, state));
            is_idled |= !own.is_empty();
        }
        groups.push((u128::from(target.weight), own.len()));
        endpoints.append(&mut own);
    }
    let weights = weights(&groups);
    let counts = groups.iter().zip(weights).flat_map(|((_, count), weight)| std::iter::repeat_n(weight, *count));
    for (endpoint, weight) in endpoints.iter_mut().zip(counts) {
        endpoint.weight = weight;
    }
    Found { endpoints, is_idled }
}

/// What one endpoint of each group weighs, so that the groups have exactly the shares of their weights: small numbers,
/// unless they cannot be. A group is a weight and how many endpoints share it.
pub(super) fn weights(groups: &[(u128, usize)]) -> Vec<u32> {
    let active = groups.iter().filter(|(weight, count)| *weight > 0 && *count > 0);
    let common = active.clone().fold(1, |multiple, (_, count)| lcm(multiple, *count as u128));
    let exact = |(weight, count): &(u128, usize)| if *count == 0 { 0 } else { weight * (common / *count as u128) };
    let divisor = active.fold(0, |divisor, group| gcd(divisor, exact(group))).max(1);
    let largest = groups.iter().map(exact).max().unwrap_or(0) / divisor;
    let scaled = |group: &(u128, usize)| {
        let weight = exact(group) / divisor;
        // Only what is too fine to be told exactly is rounded; nobody who has a share is left without.
        let weight =
            if largest > MAX_WEIGHT { (weight * MAX_WEIGHT / largest).max(u128::from(weight > 0)) } else { weight };
        u32::try_from(weight).unwrap_or(u32::MAX)
    };
    groups.iter().map(scaled).collect()
}

/// The weights added up, in their order, and a step that leads once through all shares before it comes back, never
/// staying near: about the golden ratio of the sum.
pub(super) fn shares(endpoints: &[Endpoint]) -> (Vec<u64>, u64) {
    let mut sum = 0;
    let shares: Vec<u64> = endpoints
        .iter()
        .map(|endpoint| {
            sum += u64::from(endpoint.weight);
            sum
        })
        .collect();
    let golden = (sum as f64 * 0.618_033_988_749_895) as u64;
    let is_coprime = |step: &u64| gcd(u128::from(*step), u128::from(sum)) == 1;
    (shares, (golden.max(1)..).find(is_coprime).unwrap_or(1))
}

fn gcd(one: u128, other: u128) -> u128 {
    if other == 0 { one } else { gcd(other, one % other) }
}

/// Zero counts as one: a group whose endpoints do not matter.
fn lcm(one: u128, other: u128) -> u128 {
    one / gcd(one, other.max(1)) * other.max(1)
}

fn of_target(claim: &Claim, target: &Target<'_>, state: &BackendState) -> Vec<Endpoint> {
    let (mut endpoints, mut seen) = (Vec::new(), HashSet::new());
    for slice in &target.slices {
        for port in slice.ports.iter().filter(|port| port.protocol == Protocol::Tcp) {
            let Some(number) = port.port.filter(|number| is_chosen(claim, target, port, *number)) else { continue };
            for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.ready) {
                if is_restricted(endpoint.address) {
                    continue;
                }
                let address = SocketAddr::new(endpoint.address, number);
                let pod = endpoint.pod.as_ref().map(|pod| pod.name.clone());
                let name = port.name.clone().unwrap_or_default();
                let protocol = protocol_of(claim, port.app_protocol.as_deref());
                let found = made(address, pod, &target.key, name, protocol, state);
                if seen.insert(found.cookie.clone()) {
                    endpoints.push(found);
                }
            }
        }
    }
    endpoints.sort_by_key(|endpoint| endpoint.address);
    endpoints
}

fn made(
    address: SocketAddr,
    pod: Option<Arc<str>>,
    service: &ServiceKey,
    port: Arc<str>,
    protocol: AppProtocol,
    state: &BackendState,
) -> Endpoint {
    let cookie = cookie::value(pod.as_deref(), &service.name, &port, address);
    let state = state.endpoint(&cookie);
    Endpoint { address, weight: 0, protocol, pod, service: service.name.clone(), port, cookie, state }
}

/// Over TLS it is for ALPN to settle what is spoken.
fn protocol_of(claim: &Claim, app_protocol: Option<&str>) -> AppProtocol {
    let is_plain = matches!(claim.termination(), Termination::Plain | Termination::Edge);
    match app_protocol {
        Some("h2c" | "kubernetes.io/h2c") if is_plain => AppProtocol::H2c,
        _ => AppProtocol::Http1,
    }
}

fn is_chosen(claim: &Claim, target: &Target<'_>, port: &EndpointPort, number: u16) -> bool {
    match &claim.port {
        PortChoice::All => true,
        PortChoice::Endpoint(wanted) => port.name.as_ref() == Some(wanted) || number.to_string() == **wanted,
        PortChoice::Service(wanted) => {
            let service_port = target.service.and_then(|service| service_port(service, wanted));
            service_port.is_some_and(|service_port| service_port.name == port.name)
        }
    }
}

fn service_port<'a>(service: &'a Service, wanted: &ServicePortRef) -> Option<&'a ServicePort> {
    service.ports.iter().find(|port| match wanted {
        ServicePortRef::Number(number) => port.port == *number,
        ServicePortRef::Name(name) => port.name.as_ref() == Some(name),
    })
}

/// The one endpoint of a Service that sleeps: its own address, where whoever wakes it listens.
fn sleeping(claim: &Claim, target: &Target<'_>, state: &BackendState) -> Option<Endpoint> {
    let service = target.service.filter(|service| service.idled)?;
    let address = *service.cluster_ips.first()?;
    let mut ports = service.ports.iter().filter(|port| port.protocol == Protocol::Tcp);
    let port = match &claim.port {
        PortChoice::All => ports.next(),
        PortChoice::Service(wanted) => service_port(service, wanted),
        PortChoice::Endpoint(wanted) => ports.find(|port| {
            let target_number = matches!(port.target, TargetPort::Number(number) if number.to_string() == **wanted);
            target_number || port.name.as_ref() == Some(wanted) || port.port.to_string() == **wanted
        }),
    }?;
    let address = SocketAddr::new(address, port.port);
    let protocol = protocol_of(claim, port.app_protocol.as_deref());
    Some(made(address, None, &target.key, port.name.clone().unwrap_or_default(), protocol, state))
}

/// Addresses that no pod has, and behind which something listens that must not be reached from outside: the router's own
/// node, metadata services of clouds. Who may write EndpointSlices must not get there through the router.
pub(super) fn is_restricted(address: IpAddr) -> bool {
    const AZURE_METADATA: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);
    const AWS_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match address {
        IpAddr::V4(v4) => {
            v4.is_loopback()
                || v4.is_link_local()
                || v4.octets()[0] == 0
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4 == AZURE_METADATA
        }
        IpAddr::V6(v6) => {
            // `::ffff:a.b.c.d`, and the older `::a.b.c.d`, which has `::` and `::1` among it.
            if let Some(v4) = v6.to_ipv4() {
                return is_restricted(v4.into());
            }
            v6.is_unicast_link_local() || v6.is_multicast() || v6 == AWS_METADATA
        }
    }
}

#[cfg(test)]
mod tests;

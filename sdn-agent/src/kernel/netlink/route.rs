//! `ip route`

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nix::errno::Errno;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use super::{Netlink, NetlinkError, absent_is_done, failed};

/// The number that marks routes as ours, so that they are removed by it and nobody else's are. Not in use by anyone in
/// iproute2's `rt_protos` or in FRRouting.
pub const ROUTE_PROTOCOL: u8 = 67;

/// A route of the main table, straight to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Route {
    /// Where to.
    pub destination: IpNet,
    /// Index of the device.
    pub ifindex: u32,
    /// Source address of packets that have none yet.
    pub source: Option<IpAddr>,
}

/// A route as the kernel has it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) route: Route,
    pub(super) protocol: RouteProtocol,
    pub(super) metric: u32,
}

impl Netlink {
    /// `ip route show proto 67`, IPv4 and IPv6: the routes that we made.
    pub async fn list_own_routes(&self) -> Result<Vec<Route>, NetlinkError> {
        let mut own = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let found = self.list_routes(family).await?;
            own.extend(
                found.iter().filter(|found| u8::from(found.protocol) == ROUTE_PROTOCOL).map(|found| found.route),
            );
        }
        Ok(own)
    }

    /// `ip route replace DESTINATION dev INDEX src SOURCE proto 67`
    pub async fn replace_route(&self, route: &Route) -> Result<(), NetlinkError> {
        let replaced = self.handle.route().add(message(route)).replace().execute().await;
        replaced.map_err(|error| {
            failed(format!("set the route to {} by device {}", route.destination, route.ifindex), error)
        })
    }

    /// `ip route del DESTINATION dev INDEX proto 67`; one that is gone is no error.
    pub async fn del_route(&self, route: &Route) -> Result<(), NetlinkError> {
        let deleted = self.handle.route().del(message(route)).execute().await;
        absent_is_done(deleted, || format!("delete the route to {}", route.destination), Errno::ESRCH)
    }

    /// Unicast routes of the main table.
    pub(super) async fn list_routes(&self, family: AddressFamily) -> Result<Vec<Found>, NetlinkError> {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        let routes = self.handle.route().get(request).execute();
        let found: Result<Vec<Option<Found>>, _> = routes.map_ok(|message| found(&message)).try_collect().await;
        match found {
            Ok(found) => Ok(found.into_iter().flatten().collect()),
            Err(error) => match failed("list routes".to_owned(), error) {
                // A kernel without IPv6 has no routes of it.
                NetlinkError::Refused { errno: Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT, .. } => Ok(Vec::new()),
                error => Err(error),
            },
        }
    }
}

pub(super) fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

pub(super) fn message(route: &Route) -> RouteMessage {
    let protocol = RouteProtocol::Other(ROUTE_PROTOCOL);
    match route.destination {
        IpNet::V4(net) => {
            let builder = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(net.addr(), net.prefix_len())
                .output_interface(route.ifindex)
                .protocol(protocol)
                .scope(RouteScope::Link);
            match route.source {
                Some(IpAddr::V4(source)) => builder.pref_source(source).build(),
                _ => builder.build(),
            }
        }
        IpNet::V6(net) => {
            let builder = RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(net.addr(), net.prefix_len())
                .output_interface(route.ifindex)
                .protocol(protocol);
            match route.source {
                Some(IpAddr::V6(source)) => builder.pref_source(source).build(),
                _ => builder.build(),
            }
        }
    }
}

fn found(message: &RouteMessage) -> Option<Found> {
    let header = &message.header;
    let mut table = u32::from(header.table);
    let (mut destination, mut ifindex, mut source, mut metric) = (None, None, None, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = address_of(address),
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::PrefSource(address) => source = address_of(address),
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Table(number) => table = *number,
            // Of several next hops the first stands for all: the uplink is one device.
            RouteAttribute::MultiPath(hops) => ifindex = hops.first().map(|hop| hop.interface_index),
            _ => {}
        }
    }
    if table != u32::from(RouteHeader::RT_TABLE_MAIN) || header.kind != RouteType::Unicast {
        return None;
    }
    let length = header.destination_prefix_length;
    let destination = match destination {
        Some(address) => IpNet::new(address, length).ok()?,
        None if header.address_family == AddressFamily::Inet => Ipv4Net::default().into(),
        None => Ipv6Net::default().into(),
    };
    Some(Found { route: Route { destination, ifindex: ifindex?, source }, protocol: header.protocol, metric })
}

fn address_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

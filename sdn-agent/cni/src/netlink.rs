//! What the plugin asks of the kernel, one request a method, named as `ip` names them.
//!
//! Requests are made and answered one after the other, so a plain blocking socket does: no task, no runtime, no wake-up between two
//! of a pod's dozen requests. A socket belongs to the network namespace of the thread that makes it, wherever it is used later.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::RawFd;

use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage, State,
};
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::sys::Socket;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};
use thiserror::Error;

use crate::mac::MacAddr;

/// Longest alias of an interface that the kernel takes, in bytes (IFALIASZ less its end).
const ALIAS_MAX: usize = 255;

/// Links, addresses, neighbours and routes of one network namespace.
#[derive(Debug)]
pub struct Links {
    socket: Socket,
    sequence: u32,
}

/// A link as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its Ethernet address, if it has one.
    pub mac: Option<MacAddr>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Is it up (by its administrator, whatever its carrier)?
    pub up: bool,
    /// Does it forward: up, with a carrier, and the kernel has drawn its conclusions from that?
    pub operational: bool,
    /// Is it an end of a veth?
    pub veth: bool,
    /// Index of the link below, for a veth that of its other end.
    pub peer: Option<u32>,
}

/// An address as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The address.
    pub address: IpAddr,
    /// Is it not usable yet?
    pub tentative: bool,
}

/// One end of a veth to be made.
#[derive(Clone, Copy, Debug)]
pub struct VethEnd<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its Ethernet address.
    pub mac: MacAddr,
}

/// A route of the main table, as far as Culvert looks at one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination.
    pub destination: IpNet,
    /// Next hop; none for a destination on the link.
    pub gateway: Option<IpAddr>,
    /// Index of the interface.
    pub interface: u32,
}

/// The kernel refused something.
#[derive(Debug, Error)]
#[error("{operation} {object}: {source}{}", hint(source))]
pub struct LinkError {
    operation: &'static str,
    object: String,
    source: io::Error,
}

// === impl Links ===

impl Links {
    /// Of the calling thread's network namespace.
    pub fn connect() -> Result<Self, LinkError> {
        let failed = |source| LinkError { operation: "opening", object: "a netlink socket".into(), source };
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed)?;
        socket.bind_auto().map_err(failed)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The link of this name.
    pub fn get_link(&mut self, name: &str) -> Result<Option<Link>, LinkError> {
        let message = LinkUnspec::new_with_name(name).build();
        match self.request(Message::GetLink(message), NLM_F_ACK) {
            Ok(answers) => Ok(answers.into_iter().find_map(link_of)),
            Err(e) if is(&e, Errno::ENODEV) => Ok(None),
            Err(source) => Err(LinkError { operation: "looking for interface", object: name.into(), source }),
        }
    }

    /// Makes a veth: one end here, the other at once in the network namespace behind a descriptor. Both are down.
    pub fn add_veth(&mut self, here: VethEnd<'_>, there: VethEnd<'_>, netns: RawFd, mtu: u32) -> Result<(), LinkError> {
        let peer = LinkMessageBuilder::<LinkUnspec>::new().name(there.name).mtu(mtu);
        let peer = peer.address(there.mac.0.to_vec()).setns_by_fd(netns).build();
        let message = LinkVeth::new(here.name, there.name).mtu(mtu).address(here.mac.0.to_vec());
        let message = message.set_info_data(InfoData::Veth(InfoVeth::Peer(peer))).build();
        let added = self.request(Message::NewLink(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
        done(added, "adding veth", || format!("{} with peer {}", here.name, there.name))
    }

    /// Gives a link an alias, for people, and keeps the kernel from giving it an IPv6 link-local address.
    pub fn set_quiet(&mut self, index: u32, alias: &str) -> Result<(), LinkError> {
        let end = (0..=ALIAS_MAX.min(alias.len())).rev().find(|end| alias.is_char_boundary(*end)).unwrap_or(0);
        let aliased = LinkUnspec::new_with_index(index).alias(&alias[..end]).build();
        let none = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
        let mut quiet = aliased.clone();
        quiet.attributes.push(LinkAttribute::AfSpecUnspec(vec![none]));
        let set = match self.request(Message::SetLink(quiet), NLM_F_ACK) {
            // A kernel without IPv6 gives no such address anyway.
            Err(e) if is(&e, Errno::EAFNOSUPPORT) => self.request(Message::SetLink(aliased), NLM_F_ACK),
            set => set,
        };
        done(set, "setting alias and addrgenmode of interface", || format!("number {index}"))
    }

    /// `ip link set INDEX up`
    pub fn set_up(&mut self, index: u32) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_index(index).up().build();
        let up = self.request(Message::SetLink(message), NLM_F_ACK);
        done(up, "bringing up interface", || format!("number {index}"))
    }

    /// Deletes the link of this name, with a veth its other end. False if there is none.
    pub fn delete_link(&mut self, name: &str) -> Result<bool, LinkError> {
        let message = LinkUnspec::new_with_name(name).build();
        match self.request(Message::DelLink(message), NLM_F_ACK) {
            Ok(_) => Ok(true),
            Err(e) if is(&e, Errno::ENODEV) => Ok(false),
            Err(source) => Err(LinkError { operation: "deleting interface", object: name.into(), source }),
        }
    }

    /// Adds a /32 or /128, usable at once: no duplicate address detection.
    pub fn add_address(&mut self, index: u32, address: IpAddr) -> Result<(), LinkError> {
        let mut message = AddressMessage::default();
        message.header.family = family(address);
        message.header.prefix_len = bits(address);
        message.header.index = index;
        message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
        if address.is_ipv6() {
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        let added = self.request(Message::NewAddress(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE);
        done(added, "adding address", || format!("{address} to interface number {index}"))
    }

    /// Adds a neighbour for good.
    pub fn add_neighbour(&mut self, index: u32, address: IpAddr, mac: MacAddr) -> Result<(), LinkError> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = index;
        message.header.state = NeighbourState::Permanent;
        message.attributes =
            vec![NeighbourAttribute::Destination(address.into()), NeighbourAttribute::LinkLayerAddress(mac.0.to_vec())];
        let added = self.request(Message::NewNeighbour(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE);
        done(added, "adding neighbour", || format!("{address} at {mac} on interface number {index}"))
    }

    /// Adds a route to the main table; without a gateway the destination is on the link.
    pub fn add_route(&mut self, route: &Route) -> Result<(), LinkError> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(route.destination.addr());
        message.header.destination_prefix_length = route.destination.prefix_len();
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Boot;
        message.header.kind = RouteType::Unicast;
        message.header.scope = if route.gateway.is_some() { RouteScope::Universe } else { RouteScope::Link };
        message.attributes.push(RouteAttribute::Destination(route.destination.addr().into()));
        message.attributes.extend(route.gateway.map(|gateway| RouteAttribute::Gateway(gateway.into())));
        message.attributes.push(RouteAttribute::Oif(route.interface));
        let added = self.request(Message::NewRoute(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
        done(added, "adding route", || route.to_string())
    }

    /// The addresses of a link.
    pub fn list_addresses(&mut self, index: u32) -> Result<Vec<Address>, LinkError> {
        let answers = self.dump(Message::GetAddress(AddressMessage::default()));
        let answers =
            answers.map_err(|source| LinkError { operation: "listing", object: "addresses".into(), source })?;
        let of_link = |answer: Message| match answer {
            Message::NewAddress(message) if message.header.index == index => address_of(message),
            _ => None,
        };
        Ok(answers.into_iter().filter_map(of_link).collect())
    }

    /// The unicast routes of the main table, both families.
    pub fn list_routes(&mut self) -> Result<Vec<Route>, LinkError> {
        let answers = self.dump(Message::GetRoute(RouteMessage::default()));
        let answers = answers.map_err(|source| LinkError { operation: "listing", object: "routes".into(), source })?;
        Ok(answers.into_iter().filter_map(route_of).collect())
    }

    /// A dump that changed underneath is made again, a few times: the netns of a pod is quiet.
    fn dump(&mut self, message: Message) -> io::Result<Vec<Message>> {
        for _ in 0..5 {
            match self.request(message.clone(), NLM_F_DUMP) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                answers => return answers,
            }
        }
        Err(io::Error::new(io::ErrorKind::Interrupted, "they change all the time"))
    }

    /// One request and its answers, up to the kernel's acknowledgement or the end of the dump.
    fn request(&mut self, message: Message, flags: u16) -> io::Result<Vec<Message>> {
        self.sequence += 1;
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut answers = Answers { sequence: self.sequence, messages: Vec::new(), interrupted: false };
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            if answers.take(&datagram)? {
                return Ok(answers.messages);
            }
        }
    }
}

/// What the kernel has answered to a request so far.
struct Answers {
    sequence: u32,
    messages: Vec<Message>,
    /// A dump changed underneath.
    interrupted: bool,
}

// === impl Answers ===

impl Answers {
    /// Takes the messages of a datagram. True when the answer is complete.
    fn take(&mut self, mut datagram: &[u8]) -> io::Result<bool> {
        while !datagram.is_empty() {
            let answer = NetlinkMessage::<Message>::deserialize(datagram).map_err(io::Error::other)?;
            let length = (answer.header.length as usize).next_multiple_of(4);
            datagram = datagram.get(length..).unwrap_or_default();
            if answer.header.sequence_number != self.sequence {
                continue;
            }
            self.interrupted |= answer.header.flags & NLM_F_DUMP_INTR != 0;
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => self.messages.push(message),
                NetlinkPayload::Error(error) => match error.code {
                    None => return Ok(true),
                    Some(code) => return Err(io::Error::from_raw_os_error(-code.get())),
                },
                NetlinkPayload::Done(_) if self.interrupted => return Err(io::ErrorKind::Interrupted.into()),
                NetlinkPayload::Done(_) => return Ok(true),
                _ => {}
            }
        }
        Ok(false)
    }
}

// === impl Route ===

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.destination)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        write!(f, " on interface number {}", self.interface)
    }
}

// === impl LinkError ===

impl LinkError {
    /// Is a name or an object in the way?
    pub fn is_exists(&self) -> bool {
        is(&self.source, Errno::EEXIST)
    }
}

/// The likely cause, where the error's own text does not say it.
fn hint(source: &io::Error) -> &'static str {
    match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM) => "; the process needs CAP_NET_ADMIN in the network namespace's user namespace",
        Some(Errno::ENETDOWN) => "; the interface went down meanwhile: another program manages the pod's interfaces",
        Some(Errno::ENODEV) => {
            "; the interface vanished meanwhile: the network namespace is being removed, or a DEL came"
        }
        Some(Errno::EOPNOTSUPP) => "; the kernel lacks support for it (CONFIG_VETH, CONFIG_IPV6)",
        _ => "",
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}

fn done(
    result: io::Result<Vec<Message>>,
    operation: &'static str,
    object: impl FnOnce() -> String,
) -> Result<(), LinkError> {
    result.map(drop).map_err(|source| LinkError { operation, object: object(), source })
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn ip(address: RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(address.into()),
        RouteAddress::Inet6(address) => Some(address.into()),
        _ => None,
    }
}

fn link_of(answer: Message) -> Option<Link> {
    let Message::NewLink(LinkMessage { header, attributes, .. }) = answer else { return None };
    let up = header.flags.contains(LinkFlags::Up);
    let mut link = Link { index: header.index, mac: None, mtu: 0, up, operational: false, veth: false, peer: None };
    for attribute in attributes {
        match attribute {
            LinkAttribute::Address(address) => link.mac = address.try_into().ok().map(MacAddr),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::OperState(state) => link.operational = state == State::Up,
            LinkAttribute::Link(peer) => link.peer = Some(peer),
            LinkAttribute::LinkInfo(infos) => link.veth = infos.contains(&LinkInfo::Kind(InfoKind::Veth)),
            _ => {}
        }
    }
    Some(link)
}

fn address_of(message: AddressMessage) -> Option<Address> {
    let mut tentative = message.header.flags.contains(AddressHeaderFlags::Tentative);
    let mut address = None;
    for attribute in message.attributes {
        match attribute {
            AddressAttribute::Address(found) => address = Some(found),
            AddressAttribute::Flags(flags) => tentative = flags.contains(AddressFlags::Tentative),
            _ => {}
        }
    }
    Some(Address { address: address?, tentative })
}

fn route_of(answer: Message) -> Option<Route> {
    let Message::NewRoute(RouteMessage { header, attributes, .. }) = answer else { return None };
    if header.table != RouteHeader::RT_TABLE_MAIN || header.kind != RouteType::Unicast {
        return None;
    }
    let everywhere: IpAddr = match header.address_family {
        AddressFamily::Inet => std::net::Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let (mut destination, mut gateway, mut interface) = (everywhere, None, None);
    for attribute in attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address)?,
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::Oif(index) => interface = Some(index),
            _ => {}
        }
    }
    let destination = IpNet::new(destination, header.destination_prefix_length).ok()?;
    Some(Route { destination, gateway, interface: interface? })
}

//! Packets described, and the bytes they are. A description says only what differs from an ordinary packet; lengths and checksums
//! follow from it, so the expected packet is the sent one with the same change.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sdn_common::Mac;
use sdn_common::wire::GATEWAY_MAC;

use super::checksum::{internet, pseudo_header};
use super::world::{Actor, Family};

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMPV6: u8 = 58;
pub const SCTP: u8 = 132;
/// Generic routing encapsulation: a protocol without ports.
pub const GRE: u8 = 47;

/// TCP flags (RFC 9293 §3.1).
pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;

/// Length of an Ethernet header.
pub const ETHERNET: usize = 14;

/// Ports of ordinary packets.
pub const CLIENT: u16 = 40001;
pub const SERVER: u16 = 80;

/// An IP packet in an Ethernet frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub to: Mac,
    pub from: Mac,
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Type of service or traffic class.
    pub tos: u8,
    /// Identification of an IPv4 packet.
    pub id: u16,
    /// IPv4 options: a multiple of four bytes.
    pub options: Vec<u8>,
    /// IPv6 extension headers.
    pub extensions: Vec<Extension>,
    pub fragment: Option<Fragment>,
    pub body: Body,
    /// Bytes written over the finished packet, checksums untouched.
    lies: Vec<(usize, Vec<u8>)>,
    /// The frame is cut, or filled with zeroes, to this length.
    len: Option<usize>,
}

/// An IPv6 extension header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Its number.
    pub kind: u8,
    /// All of it but the first byte, which says what follows.
    pub rest: Vec<u8>,
}

/// A piece of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    pub id: u32,
    /// In bytes.
    pub offset: u16,
    /// More of them follow.
    pub more: bool,
}

/// What the packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Tcp { source: u16, destination: u16, flags: u8, options: Vec<u8>, data: Vec<u8> },
    Udp { source: u16, destination: u16, checksum: bool, data: Vec<u8> },
    Sctp { source: u16, destination: u16, data: Vec<u8> },
    Icmp { kind: u8, code: u8, rest: [u8; 4], data: Vec<u8> },
    Raw { protocol: u8, data: Vec<u8> },
}

/// An ARP packet (RFC 826) in an Ethernet frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    pub to: Mac,
    pub from: Mac,
    /// 1 asks, 2 answers.
    pub operation: u16,
    pub sender_mac: Mac,
    pub sender: Ipv4Addr,
    pub target_mac: Mac,
    pub target: Ipv4Addr,
}

// === Ordinary packets ===

pub fn udp(from: Actor, to: Actor) -> Packet {
    Packet::new(from, to, Body::Udp { source: CLIENT, destination: SERVER, checksum: true, data: b"culvert!".to_vec() })
}

pub fn tcp(from: Actor, to: Actor, flags: u8) -> Packet {
    let data = if flags & SYN == 0 { b"culvert!".to_vec() } else { Vec::new() };
    Packet::new(from, to, Body::Tcp { source: CLIENT, destination: SERVER, flags, options: Vec::new(), data })
}

/// An acknowledgement with so many bytes of TCP options.
pub fn tcp_with_options(from: Actor, to: Actor, options: usize) -> Packet {
    let (flags, options, data) = (ACK, vec![1; options], b"culvert!".to_vec());
    Packet::new(from, to, Body::Tcp { source: CLIENT, destination: SERVER, flags, options, data })
}

/// The other end's TCP packet: ports swapped.
pub fn tcp_back(from: Actor, to: Actor, flags: u8) -> Packet {
    tcp(from, to, flags).ports(SERVER, CLIENT)
}

/// The other end's UDP packet: ports swapped.
pub fn udp_back(from: Actor, to: Actor) -> Packet {
    udp(from, to).ports(SERVER, CLIENT)
}

pub fn sctp(from: Actor, to: Actor) -> Packet {
    Packet::new(from, to, Body::Sctp { source: CLIENT, destination: SERVER, data: vec![0; 16] })
}

pub fn raw(from: Actor, to: Actor, protocol: u8) -> Packet {
    Packet::new(from, to, Body::Raw { protocol, data: b"neither ports nor checksum".to_vec() })
}

/// An ICMP message, of the addresses' family.
pub fn icmp(from: Actor, to: Actor, kind: u8, code: u8, rest: [u8; 4]) -> Packet {
    Packet::new(from, to, Body::Icmp { kind, code, rest, data: b"culvert!".to_vec() })
}

/// Echo request, identifier [`CLIENT`].
pub fn echo(from: Actor, to: Actor) -> Packet {
    icmp(from, to, if from.address.is_ipv6() { 128 } else { 8 }, 0, [0, 0, 0, 1]).ports(CLIENT, CLIENT)
}

/// The answer to it.
pub fn echo_reply(from: Actor, to: Actor) -> Packet {
    icmp(from, to, if from.address.is_ipv6() { 129 } else { 0 }, 0, [0, 0, 0, 1]).ports(CLIENT, CLIENT)
}

/// ICMP errors as both families know them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    Net,
    Host,
    Port,
    TooBig(u16),
    TimeExceeded,
}

/// An ICMP error about a packet, quoting all of it.
pub fn error(from: Actor, to: Actor, error: Error, about: &Packet) -> Packet {
    error_quoting(from, to, error, about.bytes()[ETHERNET..].to_vec())
}

/// An ICMP error with these bytes as its quote.
pub fn error_quoting(from: Actor, to: Actor, error: Error, quote: Vec<u8>) -> Packet {
    let (kind, code, value) = match (error, from.address.is_ipv6()) {
        (Error::Net, false) => (3, 0, 0),
        (Error::Net, true) => (1, 0, 0),
        (Error::Host, false) => (3, 1, 0),
        (Error::Host, true) => (1, 3, 0),
        (Error::Port, false) => (3, 3, 0),
        (Error::Port, true) => (1, 4, 0),
        (Error::TooBig(mtu), false) => (3, 4, mtu),
        (Error::TooBig(mtu), true) => (2, 0, mtu),
        (Error::TimeExceeded, false) => (11, 0, 0),
        (Error::TimeExceeded, true) => (3, 0, 0),
    };
    Packet::new(from, to, Body::Icmp { kind, code, rest: u32::from(value).to_be_bytes(), data: quote })
}

/// A neighbour solicitation for an address, to its group, with the sender's MAC (RFC 4861 §4.3).
pub fn solicitation(from: Actor, target: Actor) -> Packet {
    let IpAddr::V6(address) = target.address else { panic!("neighbour discovery is IPv6") };
    let [.., a, b, c] = address.octets();
    let mut group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0];
    group[13..].copy_from_slice(&[a, b, c]);
    let data = [&address.octets()[..], &[1, 1], &from.mac].concat();
    icmp(from, target.at(IpAddr::from(group)), 135, 0, [0; 4]).ttl(255).data(data)
}

/// A neighbour advertisement "router, solicited, override" for an address (RFC 4861 §4.4).
pub fn neighbour_advertisement(from: Actor, to: Actor, target: Actor, mac: Mac) -> Packet {
    let IpAddr::V6(address) = target.address else { panic!("neighbour discovery is IPv6") };
    icmp(from, to, 136, 0, [0xe0, 0, 0, 0]).ttl(255).data([&address.octets()[..], &[2, 1], &mac].concat())
}

/// A pod asks by ARP for `target`, calling itself `sender`.
pub fn arp_request(pod: Actor, sender: Actor, target: Actor) -> Arp {
    let v4 = |actor: Actor| match actor.address {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => panic!("ARP for {address}"),
    };
    Arp {
        to: [0xff; 6],
        from: pod.mac,
        operation: 1,
        sender_mac: pod.mac,
        sender: v4(sender),
        target_mac: [0; 6],
        target: v4(target),
    }
}

// === impl Packet ===

impl Packet {
    pub fn new(from: Actor, to: Actor, body: Body) -> Self {
        Self {
            to: from.next_hop(),
            from: from.mac,
            source: from.address,
            destination: to.address,
            ttl: 64,
            tos: 0,
            id: 0x1234,
            options: Vec::new(),
            extensions: Vec::new(),
            fragment: None,
            body,
            lies: Vec::new(),
            len: None,
        }
    }

    // --- what differs ---

    pub fn macs(self, to: Mac, from: Mac) -> Self {
        Self { to, from, ..self }
    }

    pub fn with_mac(self, from: Mac) -> Self {
        Self { from, ..self }
    }

    pub fn ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    pub fn body(self, body: Body) -> Self {
        Self { body, ..self }
    }

    /// One hop further.
    pub fn hop(self) -> Self {
        let ttl = self.ttl - 1;
        self.ttl(ttl)
    }

    pub fn tos(self, tos: u8) -> Self {
        Self { tos, ..self }
    }

    pub fn id(self, id: u16) -> Self {
        Self { id, ..self }
    }

    pub fn source(self, source: IpAddr) -> Self {
        Self { source, ..self }
    }

    pub fn destination(self, destination: IpAddr) -> Self {
        Self { destination, ..self }
    }

    /// From another address and port; of an echo, with another identifier.
    pub fn translate_source(self, to: Actor, port: u16) -> Self {
        let (_, destination) = self.flow_ports();
        let destination = if self.is_icmp() { port } else { destination };
        self.source(to.address).ports(port, destination)
    }

    /// To another address and port; of an echo, with another identifier.
    pub fn translate_destination(self, to: Actor, port: u16) -> Self {
        let (source, _) = self.flow_ports();
        let source = if self.is_icmp() { port } else { source };
        self.destination(to.address).ports(source, port)
    }

    pub fn options(self, options: &[u8]) -> Self {
        assert!(options.len().is_multiple_of(4));
        Self { options: options.to_vec(), ..self }
    }

    pub fn extensions(self, extensions: &[Extension]) -> Self {
        Self { extensions: extensions.to_vec(), ..self }
    }

    pub fn fragment(self, id: u32, offset: u16, more: bool) -> Self {
        Self { fragment: Some(Fragment { id, offset, more }), ..self }
    }

    /// Source and destination port; of ICMP, the second is not there and the first is the identifier.
    pub fn ports(mut self, from: u16, to: u16) -> Self {
        match &mut self.body {
            Body::Tcp { source, destination, .. }
            | Body::Udp { source, destination, .. }
            | Body::Sctp { source, destination, .. } => (*source, *destination) = (from, to),
            Body::Icmp { rest, .. } => rest[..2].copy_from_slice(&from.to_be_bytes()),
            Body::Raw { .. } => {}
        }
        self
    }

    /// With the UDP checksum 0: none.
    pub fn without_checksum(mut self) -> Self {
        if let Body::Udp { checksum, .. } = &mut self.body {
            *checksum = false;
        }
        self
    }

    pub fn data(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        match &mut self.body {
            Body::Tcp { data, .. }
            | Body::Udp { data, .. }
            | Body::Sctp { data, .. }
            | Body::Icmp { data, .. }
            | Body::Raw { data, .. } => *data = bytes.into(),
        }
        self
    }

    /// So much data that the IP packet has `len` bytes.
    pub fn filled_to(self, len: usize) -> Self {
        let empty = self.clone().data([]).bytes().len() - ETHERNET;
        self.data((0..len - empty).map(|i| i as u8).collect::<Vec<u8>>())
    }

    /// Writes over the finished packet; the offset counts from the Ethernet header.
    pub fn lie(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.lies.push((offset, bytes.to_vec()));
        self
    }

    /// Writes over the finished packet; the offset counts from the transport header.
    pub fn lie_in_transport(self, offset: usize, bytes: &[u8]) -> Self {
        let transport = ETHERNET + self.header_len();
        self.lie(transport + offset, bytes)
    }

    /// Cuts the frame, or fills it up with zeroes. No length within it changes.
    pub fn frame_len(self, len: usize) -> Self {
        Self { len: Some(len), ..self }
    }

    // --- what it is ---

    pub fn is_v6(&self) -> bool {
        self.source.is_ipv6()
    }

    fn is_icmp(&self) -> bool {
        matches!(self.body, Body::Icmp { .. })
    }

    /// Source and destination port as flows know them.
    pub fn flow_ports(&self) -> (u16, u16) {
        match &self.body {
            Body::Tcp { source, destination, .. }
            | Body::Udp { source, destination, .. }
            | Body::Sctp { source, destination, .. } => (*source, *destination),
            Body::Icmp { kind: 0 | 8 | 128 | 129, rest: [a, b, _, _], .. } => {
                let id = u16::from_be_bytes([*a, *b]);
                (id, id)
            }
            Body::Icmp { .. } | Body::Raw { .. } => (0, 0),
        }
    }

    pub fn protocol(&self) -> u8 {
        match &self.body {
            Body::Tcp { .. } => TCP,
            Body::Udp { .. } => UDP,
            Body::Sctp { .. } => SCTP,
            Body::Icmp { .. } if self.is_v6() => ICMPV6,
            Body::Icmp { .. } => ICMP,
            Body::Raw { protocol, .. } => *protocol,
        }
    }

    /// Bytes of the IP header, options and extension headers included.
    pub fn header_len(&self) -> usize {
        if !self.is_v6() {
            return 20 + self.options.len();
        }
        let extensions: usize = self.extensions.iter().map(|extension| extension.rest.len() + 1).sum();
        40 + extensions + if self.fragment.is_some() { 8 } else { 0 }
    }

    /// The datagram in pieces, cut behind these lengths of its payload.
    pub fn pieces(&self, id: u32, lengths: &[usize]) -> Vec<Self> {
        let (whole, protocol) = (self.transport(), self.protocol());
        let mut offset = 0;
        let ends = lengths.iter().scan(0, |end, len| {
            *end += len;
            Some(*end)
        });
        ends.chain([whole.len()])
            .map(|end| {
                let body = Body::Raw { protocol, data: whole[offset..end].to_vec() };
                let piece = Self { body, ..self.clone() }.fragment(id, offset as u16, end < whole.len());
                offset = end;
                piece
            })
            .collect()
    }

    // --- its bytes ---

    pub fn bytes(&self) -> Vec<u8> {
        let transport = self.transport();
        let ethertype: u16 = if self.is_v6() { 0x86dd } else { 0x0800 };
        let mut bytes = [&self.to[..], &self.from[..], &ethertype.to_be_bytes()].concat();
        bytes.extend(match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => self.header_v4(source, destination, transport.len()),
            (IpAddr::V6(source), IpAddr::V6(destination)) => self.header_v6(source, destination, transport.len()),
            (source, destination) => panic!("one packet from {source} to {destination}"),
        });
        bytes.extend(transport);
        for (offset, lie) in &self.lies {
            bytes[*offset..*offset + lie.len()].copy_from_slice(lie);
        }
        bytes.resize(self.len.unwrap_or(bytes.len()), 0);
        bytes
    }

    fn header_v4(&self, source: Ipv4Addr, destination: Ipv4Addr, payload: usize) -> Vec<u8> {
        let len = 20 + self.options.len();
        let (id, flags) = match self.fragment {
            Some(Fragment { id, offset, more }) => (id as u16, (offset / 8) | if more { 0x2000 } else { 0 }),
            None => (self.id, 0),
        };
        let mut header = vec![0x40 | (len / 4) as u8, self.tos];
        header.extend(((len + payload) as u16).to_be_bytes());
        header.extend(id.to_be_bytes());
        header.extend(flags.to_be_bytes());
        header.extend([self.ttl, self.protocol(), 0, 0]);
        header.extend(source.octets());
        header.extend(destination.octets());
        header.extend(&self.options);
        let checksum = internet(&header, 0);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        header
    }

    fn header_v6(&self, source: Ipv6Addr, destination: Ipv6Addr, payload: usize) -> Vec<u8> {
        let mut chain: Vec<(u8, Vec<u8>)> =
            self.extensions.iter().map(|extension| (extension.kind, extension.rest.clone())).collect();
        if let Some(Fragment { id, offset, more }) = self.fragment {
            let [a, b] = (offset | u16::from(more)).to_be_bytes();
            let [c, d, e, f] = id.to_be_bytes();
            chain.push((44, vec![0, a, b, c, d, e, f]));
        }
        let payload = payload + self.header_len() - 40;
        let mut header = vec![0x60 | self.tos >> 4, self.tos << 4, 0, 0];
        header.extend((payload as u16).to_be_bytes());
        header.extend([chain.first().map_or(self.protocol(), |(kind, _)| *kind), self.ttl]);
        header.extend(source.octets());
        header.extend(destination.octets());
        for (i, (_, rest)) in chain.iter().enumerate() {
            header.push(chain.get(i + 1).map_or(self.protocol(), |(kind, _)| *kind));
            header.extend(rest);
        }
        header
    }

    /// The transport header and what follows, with its checksum.
    pub fn transport(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let checksum_at = match &self.body {
            Body::Tcp { source, destination, flags, options, data } => {
                bytes.extend([source.to_be_bytes(), destination.to_be_bytes()].concat());
                bytes.extend([
                    0,
                    0,
                    0,
                    1,
                    0,
                    0,
                    0,
                    2,
                    ((5 + options.len() / 4) << 4) as u8,
                    *flags,
                    0xff,
                    0xff,
                    0,
                    0,
                    0,
                    0,
                ]);
                bytes.extend(options);
                bytes.extend(data);
                Some(16)
            }
            Body::Udp { source, destination, checksum, data } => {
                let len = 8 + data.len() as u16;
                bytes.extend([*source, *destination, len, 0].map(u16::to_be_bytes).concat());
                bytes.extend(data);
                checksum.then_some(6)
            }
            Body::Sctp { source, destination, data } => {
                bytes.extend([source.to_be_bytes(), destination.to_be_bytes()].concat());
                bytes.extend([0; 8]);
                bytes.extend(data);
                None
            }
            Body::Icmp { kind, code, rest, data } => {
                bytes.extend([*kind, *code, 0, 0]);
                bytes.extend(rest);
                bytes.extend(data);
                Some(2)
            }
            Body::Raw { data, .. } => {
                bytes.extend(data);
                None
            }
        };
        if let Some(at) = checksum_at {
            let seed = match self.protocol() {
                ICMP => 0,
                protocol => pseudo_header(self.source, self.destination, protocol, bytes.len()),
            };
            let sum = internet(&bytes, seed);
            // A UDP checksum that comes out as 0, which means none, is sent as its other form (RFC 768).
            let sum = if sum == 0 && self.protocol() == UDP { 0xffff } else { sum };
            bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        bytes
    }
}

// === impl Extension ===

impl Extension {
    /// Hop-by-hop options with nothing but padding, eight bytes.
    pub fn hop_by_hop() -> Self {
        Self { kind: 0, rest: vec![0, 1, 4, 0, 0, 0, 0] }
    }

    /// Destination options with nothing but padding, of a multiple of eight bytes.
    pub fn destination_options(len: usize) -> Self {
        let mut rest = vec![(len / 8 - 1) as u8, 1, (len - 4) as u8];
        rest.resize(len - 1, 0);
        Self { kind: 60, rest }
    }

    /// A routing header with no addresses.
    pub fn routing(segments_left: u8) -> Self {
        Self { kind: 43, rest: vec![0, 0, segments_left, 0, 0, 0, 0] }
    }

    /// An authentication header with a check value of twelve bytes (RFC 4302): the only one measured in words of four.
    pub fn authentication() -> Self {
        let mut rest = vec![4, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1];
        rest.resize(23, 0xaa);
        Self { kind: 51, rest }
    }

    /// A mobility header (RFC 6275).
    pub fn mobility() -> Self {
        Self { kind: 135, rest: vec![0, 0, 0, 0, 0, 0, 0] }
    }
}

// === impl Arp ===

impl Arp {
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = [&self.to[..], &self.from[..], &[8, 6, 0, 1, 8, 0, 6, 4]].concat();
        bytes.extend(self.operation.to_be_bytes());
        bytes.extend([&self.sender_mac[..], &self.sender.octets(), &self.target_mac, &self.target.octets()].concat());
        bytes
    }
}

/// What can be put on a wire.
pub trait Bytes {
    fn to_bytes(&self) -> Vec<u8>;
}

impl Bytes for Packet {
    fn to_bytes(&self) -> Vec<u8> {
        self.bytes()
    }
}

impl Bytes for Arp {
    fn to_bytes(&self) -> Vec<u8> {
        self.bytes()
    }
}

impl Bytes for Vec<u8> {
    fn to_bytes(&self) -> Vec<u8> {
        self.clone()
    }
}

/// What the programs answer a pod: an ICMP error from its node about a packet as it was sent. The header is 20 or 40 bytes, and
/// 28 or 48 bytes are quoted.
pub fn answer(family: Family, node: Actor, pod: Actor, about: Error, packet: Packet) -> Packet {
    let quoted = family.pick(28, 48);
    let quote = packet.bytes()[ETHERNET..ETHERNET + quoted].to_vec();
    let answer = error_quoting(node, pod, about, quote).macs(packet.from, GATEWAY_MAC);
    family.pick(answer.clone().tos(0xc0).id(0), answer)
}

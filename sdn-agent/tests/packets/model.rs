//! The programs once more, as plain Rust and as slow as it likes: what becomes of a packet of which no flow is known, in the world
//! of the tables. Written from the design, to be compared with the programs on packets that nobody thought of.

use std::net::IpAddr;

use sdn_common::Reason::{self, *};
use sdn_common::wire::{Kind, Sender};
use sdn_common::{Forward, Hook, Node};

use crate::harness::world::{self, UPLINK, VXLAN};
use crate::harness::*;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Drop(Reason),
    /// How, to which device, to which node.
    Forward(Forward, u32, u32),
}

type Judged<T> = Result<T, Reason>;

/// Who is behind an address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Pod(Actor),
    /// This node.
    Host,
    /// A pod or an address of another node.
    Remote {
        node: u32,
        machine: bool,
    },
    Outside,
}

/// A packet as far as it could be read.
struct Read {
    family: Family,
    source: IpAddr,
    destination: IpAddr,
    ttl: u8,
    protocol: u8,
    /// Offset of this fragment, and whether more follow.
    offset: usize,
    more: bool,
    transport: usize,
    transport_len: usize,
    end: usize,
    ports: (u16, u16),
    icmp: Option<u8>,
}

/// What the program at `at` is to do with a frame.
pub fn judge(at: &At, frame: &[u8]) -> Fate {
    if at.hook == Hook::OverlayIn && at.tunnel.is_none() {
        return Fate::Forward(Forward::Host, 0, 0);
    }
    let judged = match (u16::from_be_bytes([frame[12], frame[13]]), at.hook) {
        (0x0800, _) => packet(at, frame, Family::V4),
        (0x86dd, _) => packet(at, frame, Family::V6),
        (_, Hook::UplinkIn | Hook::UplinkXdp) => Ok(Fate::Forward(Forward::Pass, 0, 0)),
        (0x0806, Hook::PodOut) => arp(at, frame),
        _ => Err(UnsupportedEthertype),
    };
    judged.unwrap_or_else(Fate::Drop)
}

fn packet(at: &At, frame: &[u8], family: Family) -> Judged<Fate> {
    match at.hook {
        Hook::PodOut => pod_out(at, frame, &read(frame, family, at)?),
        Hook::OverlayIn => overlay_in(at, frame, &read(frame, family, at)?),
        Hook::HostOut => host_out(at, &read(frame, family, at)?),
        Hook::UplinkIn => uplink_in(at, frame, family),
        Hook::UplinkXdp => underlay(frame, family),
    }
}

// === The hooks ===

fn pod_out(at: &At, frame: &[u8], packet: &Read) -> Judged<Fate> {
    if let Some(fate) = discovery(at, frame, packet)? {
        return Ok(fate);
    }
    reach(packet)?;
    let sender = endpoint(packet.source).filter(|pod| pod.ifindex == at.ifindex).ok_or(SpoofedAddress)?;
    if sender.mac != frame[6..12] {
        return Err(SpoofedMac);
    }
    follow(packet)?;
    opens(packet)?;
    let to = locate(packet.destination)?;
    if to == Place::Outside && !matches!((packet.protocol, packet.is_echo()), (TCP | UDP, _) | (_, true)) {
        return Err(MasqueradeUnsupported);
    }
    let machine = matches!(to, Place::Host | Place::Remote { machine: true, .. });
    if machine && packet.protocol == TCP && matches!(packet.ports.1, 22623 | 22624) {
        return Err(MachineConfig);
    }
    let vxlan = packet.protocol == UDP && packet.ports.1 == 4789;
    if to == Place::Host {
        return if vxlan { Err(PodVxlan) } else { Ok(Fate::Forward(Forward::Host, VXLAN, 0)) };
    }
    if packet.ip_len(at) > usize::from(MTU) {
        return Err(TooBig);
    }
    if packet.ttl <= 1 {
        return Err(TtlExpired);
    }
    match to {
        Place::Pod(pod) => Ok(Fate::Forward(Forward::Pod, pod.ifindex, 0)),
        _ if vxlan => Err(PodVxlan),
        Place::Remote { node: 4, .. } => Err(UnreachableNode),
        Place::Remote { node, .. } => Ok(Fate::Forward(Forward::Tunnel, VXLAN, node)),
        _ => Ok(Fate::Forward(Forward::Outside, UPLINK, 0)),
    }
}

fn overlay_in(at: &At, frame: &[u8], packet: &Read) -> Judged<Fate> {
    if packet.ttl == 0 {
        return Err(TtlExpired);
    }
    believe(at, frame, packet)?;
    follow(packet)?;
    opens(packet)?;
    match locate(packet.destination)? {
        Place::Pod(pod) => Ok(Fate::Forward(Forward::Pod, pod.ifindex, 0)),
        Place::Host => Ok(Fate::Forward(Forward::Host, 0, 0)),
        _ => Err(TunnelNotLocal),
    }
}

fn host_out(at: &At, packet: &Read) -> Judged<Fate> {
    reach(packet)?;
    follow(packet)?;
    let own = match locate(packet.source) {
        Ok(Place::Host) => true,
        Ok(Place::Outside) => false,
        _ => return Err(ForeignSource),
    };
    opens(packet)?;
    match locate(packet.destination)? {
        Place::Pod(pod) => Ok(Fate::Forward(Forward::Pod, pod.ifindex, 0)),
        Place::Remote { .. } if !own || at.ingress != 0 => Err(ForeignSource),
        Place::Remote { node: 4, .. } => Err(UnreachableNode),
        Place::Remote { node, .. } => Ok(Fate::Forward(Forward::Tunnel, 0, node)),
        Place::Host | Place::Outside => Err(UnknownDestination),
    }
}

fn uplink_in(at: &At, frame: &[u8], family: Family) -> Judged<Fate> {
    let pass = underlay(frame, family)?;
    let Ok(packet) = read(frame, family, at) else {
        return Ok(pass);
    };
    let ours = packet.destination == Cast::of(family).node_uplink.address && follow(&packet).is_ok();
    let to_range = matches!(packet.protocol, TCP | UDP) && packet.ports.1 == PORT;
    if ours && to_range { Err(NoFlow) } else { Ok(pass) }
}

/// What is known of a packet by its addresses alone.
fn underlay(frame: &[u8], family: Family) -> Judged<Fate> {
    let (source, destination) = addresses(frame, family);
    if in_cluster(source) || in_cluster(destination) {
        return Err(UplinkForged);
    }
    if is_loopback(source) { Err(UplinkLoopback) } else { Ok(Fate::Forward(Forward::Pass, 0, 0)) }
}

// === What the hooks have in common ===

/// A packet of no known flow may open one, unless it answers something.
fn opens(packet: &Read) -> Judged<()> {
    let errors = packet.family.pick(&[3, 4, 11, 12][..], &[1, 2, 3, 4]);
    match packet.icmp {
        Some(kind) if errors.contains(&kind) => Err(IcmpUnrelated),
        Some(kind) if kind == packet.family.pick(0, 129) => Err(NoFlow),
        _ => Ok(()),
    }
}

/// The first fragment of a datagram is remembered; any other has none that it could follow.
fn follow(packet: &Read) -> Judged<()> {
    let len = packet.end - packet.transport;
    match (packet.offset, packet.more) {
        (0, false) => Ok(()),
        (_, true) if !len.is_multiple_of(8) => Err(Malformed),
        (offset, _) if offset + len > 0xffff => Err(Malformed),
        (0, true) => Ok(()),
        _ => Err(FragmentOutOfOrder),
    }
}

/// Where nobody's packet goes.
fn reach(packet: &Read) -> Judged<()> {
    let to = packet.destination;
    let (group, link_local) = match to {
        IpAddr::V4(to) => (to.is_multicast() || to.is_broadcast(), to.is_link_local()),
        IpAddr::V6(to) => (to.is_multicast(), to.is_unicast_link_local()),
    };
    if group {
        return Err(Multicast);
    }
    if is_loopback(to) || to.is_unspecified() {
        return Err(UnknownDestination);
    }
    if !link_local {
        return Ok(());
    }
    // The ports of later fragments are not known here.
    let dns = packet.offset == 0 && matches!(packet.protocol, TCP | UDP) && packet.ports.1 == 53;
    match to == IpAddr::from([169, 254, 169, 254]) {
        true if dns => Ok(()),
        true => Err(Metadata),
        false => Err(LinkLocal),
    }
}

/// Whether a tunnelled packet's source is what its tunnel and its inner header say.
fn believe(at: &At, frame: &[u8], packet: &Read) -> Judged<()> {
    let tunnel = at.tunnel.expect("a packet out of the tunnel");
    let node = [2, 3, 6].into_iter().find(|node| world::tunnel(*node) == tunnel.from).ok_or(TunnelUnknownNode)?;
    if tunnel.vni != 0 {
        return Err(TunnelVni);
    }
    let mac = frame[6..12].try_into().expect("six bytes");
    let sender = Sender::parse(mac).ok_or(TunnelKind)?;
    let cast = Cast::of(packet.family);
    match cast.peers().into_iter().find(|peer| peer.address == packet.source) {
        Some(peer) if peer.node != node || (peer.incarnation == 0) != (sender.kind == Kind::Node) => {
            Err(TunnelForeignSource)
        }
        Some(peer) if peer.incarnation != sender.value => Err(StalePeer),
        Some(_) => Ok(()),
        None if sender.kind == Kind::Pod && subnet(packet.source) == Some(node) => Ok(()),
        None => Err(TunnelForeignSource),
    }
}

/// Whether an address belongs to the node whose tunnel this is.
pub fn is_of_tunnel(address: IpAddr, by: Tunnel) -> bool {
    let node = [2, 3, 6].into_iter().find(|node| world::tunnel(*node) == by.from);
    let casts = Family::BOTH.map(Cast::of);
    let known = casts.iter().flat_map(Cast::peers).find(|peer| peer.address == address).map(|peer| peer.node);
    node.is_some() && by.vni == 0 && known.or(subnet(address)) == node
}

fn endpoint(address: IpAddr) -> Option<Actor> {
    let casts = Family::BOTH.map(Cast::of);
    casts.iter().flat_map(Cast::pods).find(|pod| pod.address == address)
}

fn locate(address: IpAddr) -> Judged<Place> {
    let casts = Family::BOTH.map(Cast::of);
    if let Some(pod) = endpoint(address) {
        return Ok(Place::Pod(pod));
    }
    if let Some(peer) = casts.iter().flat_map(Cast::peers).find(|peer| peer.address == address) {
        let machine = peer.incarnation == 0;
        return Ok(if peer.node == Node::SELF { Place::Host } else { Place::Remote { node: peer.node, machine } });
    }
    if !in_cluster(address) {
        return Ok(Place::Outside);
    }
    match subnet(address) {
        // Who it is is not known, so it may be the machine.
        Some(node) if node != Node::SELF => Ok(Place::Remote { node, machine: true }),
        _ => Err(UnknownDestination),
    }
}

/// Whether an address is of the cluster network.
pub fn in_cluster(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[0] == 10 && address.octets()[1] & 0xfc == 128,
        IpAddr::V6(address) => address.segments()[..3] == [0xfd01, 0, 0],
    }
}

/// The node of a host subnet.
fn subnet(address: IpAddr) -> Option<u32> {
    if !in_cluster(address) {
        return None;
    }
    let number = match address {
        IpAddr::V4(address) if address.octets()[1] == 128 => u16::from(address.octets()[2] & 0xfe),
        IpAddr::V4(_) => return None,
        IpAddr::V6(address) => address.segments()[3],
    };
    [(0, 0), (2, 2), (4, 3), (8, 4), (12, 6)].into_iter().find(|(n, _)| *n == number).map(|(_, node)| node)
}

fn is_loopback(address: IpAddr) -> bool {
    address.is_loopback()
}

// === Neighbours ===

fn arp(at: &At, frame: &[u8]) -> Judged<Fate> {
    let frame = frame.get(..42).ok_or(Malformed)?;
    if frame[14..20] != [0, 1, 8, 0, 6, 4] {
        return Err(Malformed);
    }
    let address = |at: usize| IpAddr::from([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
    let (sender, target) = (address(28), address(38));
    let own = |pod: &Actor| pod.ifindex == at.ifindex && pod.mac == frame[22..28] && pod.mac == frame[6..12];
    if !sender.is_unspecified() && endpoint(sender).filter(own).is_none() {
        return Err(SpoofedNeighbour);
    }
    if frame[20..22] != [0, 1] || target != IpAddr::from([169, 254, 1, 1]) {
        return Err(NeighbourUnknown);
    }
    Ok(Fate::Forward(Forward::Answer, at.ifindex, 0))
}

fn discovery(at: &At, frame: &[u8], packet: &Read) -> Judged<Option<Fate>> {
    let Some(kind) = packet.icmp else { return Ok(None) };
    let own_source = || match packet.source {
        IpAddr::V6(source) if source.is_unspecified() || source.is_unicast_link_local() => Ok(()),
        source => match endpoint(source) {
            Some(pod) if pod.ifindex == at.ifindex && pod.mac == frame[6..12] => Ok(()),
            _ => Err(SpoofedNeighbour),
        },
    };
    match (packet.family, kind) {
        (Family::V4, 5) | (Family::V6, 134 | 137) => Err(RouterImpersonation),
        (Family::V6, 133) => Err(NeighbourUnknown),
        (Family::V6, 136) => own_source().and(Err(NeighbourUnknown)),
        (Family::V6, 135) => {
            own_source()?;
            let target = frame.get(packet.transport + 8..packet.transport + 24).ok_or(Malformed)?;
            if packet.ttl != 255 || packet.transport != ETHERNET + 40 {
                return Err(Malformed);
            }
            if target != sdn_common::wire::GATEWAY_V6 || packet.source.is_unspecified() {
                return Err(NeighbourUnknown);
            }
            Ok(Some(Fate::Forward(Forward::Answer, at.ifindex, 0)))
        }
        _ => Ok(None),
    }
}

// === Reading ===

fn addresses(frame: &[u8], family: Family) -> (IpAddr, IpAddr) {
    fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
        bytes[..N].try_into().expect("as many bytes")
    }
    match family {
        Family::V4 => (array::<4>(&frame[26..]).into(), array::<4>(&frame[30..]).into()),
        Family::V6 => (array::<16>(&frame[22..]).into(), array::<16>(&frame[38..]).into()),
    }
}

fn read(frame: &[u8], family: Family, at: &At) -> Judged<Read> {
    let (source, destination) = addresses(frame, family);
    let ip = &frame[ETHERNET..];
    let mut packet = Read {
        family,
        source,
        destination,
        ttl: family.pick(ip[8], ip[7]),
        protocol: family.pick(ip[9], ip[6]),
        offset: 0,
        more: false,
        transport: ETHERNET + 40,
        transport_len: 0,
        end: 0,
        ports: (0, 0),
        icmp: None,
    };
    match family {
        Family::V4 => packet.read_v4(frame)?,
        Family::V6 => packet.read_v6(frame)?,
    }
    if packet.offset == 0 {
        packet.read_transport(frame, at)?;
    }
    Ok(packet)
}

fn half(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}

impl Read {
    fn read_v4(&mut self, frame: &[u8]) -> Judged<()> {
        let ip = &frame[ETHERNET..];
        let (header, total) = (usize::from(ip[0] & 15) * 4, half(ip, 2));
        if ip[0] >> 4 != 4 || header < 20 || total < header || ip.len() < total {
            return Err(Malformed);
        }
        let fragment = half(ip, 6);
        (self.offset, self.more) = ((fragment & 0x1fff) * 8, fragment & 0x2000 != 0);
        (self.transport, self.end) = (ETHERNET + header, ETHERNET + total);
        Ok(())
    }

    fn read_v6(&mut self, frame: &[u8]) -> Judged<()> {
        self.end = ETHERNET + 40 + half(frame, ETHERNET + 4);
        if frame[ETHERNET] >> 4 != 6 || self.end > frame.len() {
            return Err(Malformed);
        }
        let mut first = false;
        for count in 0.. {
            if !matches!(self.protocol, 0 | 43 | 44 | 51 | 60 | 135) || self.offset != 0 {
                return Ok(());
            }
            if count == 6 {
                return Err(ExtensionHeaders);
            }
            let header = frame.get(self.transport..self.transport + 8).ok_or(Malformed)?;
            let len = match self.protocol {
                44 if first => return Err(ExtensionHeaders),
                44 => {
                    (self.offset, self.more) = (half(header, 2) & 0xfff8, header[3] & 1 != 0);
                    first = self.offset == 0 && self.more;
                    8
                }
                43 if header[3] != 0 => return Err(ExtensionHeaders),
                51 => (usize::from(header[1]) + 2) * 4,
                _ => (usize::from(header[1]) + 1) * 8,
            };
            self.protocol = header[0];
            self.transport += len;
            if self.transport > self.end {
                return Err(if first { FragmentTiny } else { Malformed });
            }
        }
        Ok(())
    }

    fn read_transport(&mut self, frame: &[u8], at: &At) -> Judged<()> {
        let (least, icmp) = match (self.protocol, self.family) {
            (TCP, _) => (20, false),
            (UDP, _) => (8, false),
            (SCTP, _) => (12, false),
            (ICMP, Family::V4) | (ICMPV6, Family::V6) => (8, true),
            _ => return Ok(()),
        };
        let short = if self.more { FragmentTiny } else { Malformed };
        self.transport_len = least;
        if self.transport + least > self.end {
            return Err(short);
        }
        let header = &frame[self.transport..];
        if icmp {
            self.icmp = Some(header[0]);
            return Ok(());
        }
        self.ports = (half(header, 0) as u16, half(header, 2) as u16);
        if self.protocol == TCP {
            self.transport_len = usize::from(header[12] >> 4) * 4;
            if self.transport + self.transport_len > self.end {
                return Err(short);
            }
            let flags = header[13];
            let contradiction = flags & SYN != 0 && flags & (FIN | RST) != 0;
            if self.transport_len < 20 || flags & (SYN | FIN | RST | ACK) == 0 || contradiction {
                return Err(Malformed);
            }
        }
        if self.protocol == UDP {
            let len = half(header, 4);
            let whole = !self.more && at.gso.is_none();
            if len < 8 || (whole && self.transport + len > self.end) {
                return Err(Malformed);
            }
        }
        Ok(())
    }

    fn is_echo(&self) -> bool {
        self.icmp == Some(self.family.pick(8, 128))
    }

    /// Bytes of the IP packet, or of each that it will become.
    fn ip_len(&self, at: &At) -> usize {
        match at.gso {
            Some((segment, _)) => self.transport + self.transport_len + segment as usize - ETHERNET,
            None => self.end - ETHERNET,
        }
    }
}

//! Sets of records of one name, in random order, each member as likely to be first as any other.

use super::{Answerer, Current, Scratch};
use crate::{
    index::{Encoded, Endpoints, Entry, Index, Label, Owner, record4, record6},
    name::View,
    random::Random,
    records::{Records, is_port},
    wire::{NameAt, Section, Writer, rtype},
};
use sdn_cluster::model::Protocol;
use std::{net::IpAddr, sync::Arc};

/// What OpenShift 3 said of its names: TTL in seconds, priority and weight of SRV.
const LEGACY_TTL: u32 = 30;
const LEGACY_PRIORITY: u16 = 10;
const LEGACY_WEIGHT: u16 = 10;

/// More records than these no message holds: the least takes 16 bytes of 65,535.
const MAX_RECORDS: u32 = 4096;

/// Where answers go.
type To<'a, 'o> = (NameAt, &'a mut Writer<'o>, &'a mut Scratch);

impl Answerer {
    /// Writes records; false when there are none of the type that is asked for.
    pub(super) fn rows(
        &self,
        index: &Index,
        current: Current<'_>,
        records: Records<'_>,
        writer: &mut Writer<'_>,
        scratch: &mut Scratch,
    ) -> bool {
        let rtype = current.rtype;
        let to = (current.at, writer, scratch);
        match records {
            Records::Addresses(encoded) => addresses(encoded, rtype, to),
            Records::Address(address) => single(&[address], rtype, self.ttl, to),
            Records::Server => single(&self.addresses, rtype, self.ttl, to),
            Records::Endpoints(endpoints, view, label) => self.endpoints(endpoints, view, label, rtype, to),
            Records::ServicePorts(entry, port) => self.service_ports(entry, port, to),
            Records::EndpointPorts(entry, view, port) => self.endpoint_ports(entry, view, port, to),
            Records::Pointers(owner, services, address) => self.pointers(index, owner, services, address, to),
            Records::Soa | Records::Ns | Records::Version | Records::Hinfo => false,
        }
    }

    /// Addresses of endpoints that are not encoded.
    fn endpoints(
        &self,
        endpoints: &Endpoints,
        view: View,
        label: Option<&[u8]>,
        rtype: u16,
        (at, writer, scratch): To<'_, '_>,
    ) -> bool {
        let ttl = self.ttl_of(view);
        let address = |index: &u32| endpoints.list[*index as usize].address;
        let order = &mut scratch.order;
        order.clear();
        let fits = |index: &u32| address(index).is_ipv4() == (rtype == rtype::A);
        match (label, view) {
            (None, _) => order.extend((0..).zip(&endpoints.list).map(|(index, _)| index).filter(fits)),
            (Some(label), View::Service) => order.extend(endpoints.with_name(label).filter(fits)),
            (Some(label), View::Endpoints) => order.extend(endpoints.with_legacy_name(label).filter(fits)),
        }
        order.dedup_by_key(|index| address(index));
        scratch.random.shuffle(order);
        for index in &*order {
            if !self::address(address(index), ttl, Section::Answer, at, writer) {
                break;
            }
        }
        !order.is_empty()
    }

    /// SRV records of a Service's own addresses, and these.
    fn service_ports(
        &self,
        entry: &Entry,
        wanted: Option<(&[u8], Protocol)>,
        (at, writer, scratch): To<'_, '_>,
    ) -> bool {
        let ports = || entry.ports.iter().filter(|port| is_port(&port.name, port.protocol, wanted));
        let weight = weight(ports().count());
        let mut target = None;
        for port in ports() {
            let head = srv_head(0, weight, port.port);
            let rdata: [&[u8]; 3] = [&head, &entry.key, &self.authority.zones.services];
            let Some(rdata) = writer.rdata(Section::Answer, at, rtype::SRV, self.ttl, &rdata) else { return true };
            target = target.or(NameAt::new(rdata + head.len()));
        }
        if let Some(target) = target {
            write_encoded(&entry.addresses.v4, Section::Additional, target, writer, scratch);
            write_encoded(&entry.addresses.v6, Section::Additional, target, writer, scratch);
        }
        target.is_some()
    }

    /// SRV records of endpoints, and their addresses.
    fn endpoint_ports(
        &self,
        entry: &Entry,
        view: View,
        wanted: Option<(&[u8], Protocol)>,
        (at, writer, scratch): To<'_, '_>,
    ) -> bool {
        let ports = || entry.endpoints.ports.iter().filter(|port| is_port(&port.name, port.protocol, wanted));
        let all = ports().map(|port| port.targets.len()).sum();
        let (priority, weight) = match view {
            View::Service => (0, weight(all)),
            View::Endpoints => (LEGACY_PRIORITY, LEGACY_WEIGHT),
        };
        scratch.targets.clear();
        for port in ports() {
            sample(port.targets.len(), &mut scratch.order, &mut scratch.random);
            for index in &scratch.order {
                let (endpoint, number) = port.targets[*index as usize];
                let head = srv_head(priority, weight, number);
                let Some(target) = self.srv(entry, view, endpoint, head, at, writer) else { return true };
                scratch.targets.extend(NameAt::new(target).map(|target| (endpoint, target)));
            }
        }
        // Several ports of one endpoint name it several times.
        scratch.targets.sort_unstable_by_key(|(endpoint, _)| *endpoint);
        scratch.targets.dedup_by_key(|(endpoint, _)| *endpoint);
        for (endpoint, target) in &scratch.targets {
            let own = entry.endpoints.list[*endpoint as usize].address;
            if !address(own, self.ttl_of(view), Section::Additional, *target, writer) {
                break;
            }
        }
        all > 0
    }

    /// One SRV record of an endpoint; where its target stands.
    fn srv(
        &self,
        entry: &Entry,
        view: View,
        endpoint: u32,
        head: [u8; 6],
        at: NameAt,
        writer: &mut Writer<'_>,
    ) -> Option<usize> {
        let endpoint = &entry.endpoints.list[endpoint as usize];
        let mut label = Label::new();
        let zone = match view {
            View::Service => {
                endpoint.write_label(&mut label);
                &self.authority.zones.services
            }
            View::Endpoints => {
                endpoint.write_legacy_label(&mut label);
                &self.authority.zones.endpoints
            }
        };
        // Not compressed (RFC 2782).
        let rdata: [&[u8]; 4] = [&head, label.wire(), &entry.key, zone];
        let rdata = writer.rdata(Section::Answer, at, rtype::SRV, self.ttl_of(view), &rdata)?;
        Some(rdata + head.len())
    }

    /// The names of an address: Services', or one endpoint's a Service.
    fn pointers(
        &self,
        index: &Index,
        owner: Owner,
        services: &[Arc<[u8]>],
        address: IpAddr,
        (at, writer, scratch): To<'_, '_>,
    ) -> bool {
        sample(services.len(), &mut scratch.order, &mut scratch.random);
        for service in scratch.order.iter().map(|index| &services[*index as usize]) {
            let mut label = Label::new();
            let mut endpoint: &[u8] = &[];
            if owner == Owner::Endpoint {
                // The last of them has a name if any has.
                let own = index.service(service).and_then(|entry| entry.endpoints.at_address(address).last());
                let Some(own) = own else { continue };
                own.write_label(&mut label);
                endpoint = label.wire();
            }
            let rdata: [&[u8]; 3] = [endpoint, service, &self.authority.zones.services];
            if writer.rdata(Section::Answer, at, rtype::PTR, self.ttl, &rdata).is_none() {
                break;
            }
        }
        true
    }

    fn ttl_of(&self, view: View) -> u32 {
        match view {
            View::Service => self.ttl,
            View::Endpoints => LEGACY_TTL,
        }
    }
}

/// Encoded addresses of the type that is asked for.
fn addresses(encoded: &Encoded, rtype: u16, (at, writer, scratch): To<'_, '_>) -> bool {
    match rtype {
        rtype::A => write_encoded(&encoded.v4, Section::Answer, at, writer, scratch),
        _ => write_encoded(&encoded.v6, Section::Answer, at, writer, scratch),
    }
}

/// Few addresses, of which those of the type count.
fn single(all: &[IpAddr], rtype: u16, ttl: u32, (at, writer, _): To<'_, '_>) -> bool {
    let mut any = false;
    for own in all.iter().filter(|address| address.is_ipv4() == (rtype == rtype::A)) {
        any = true;
        address(*own, ttl, Section::Answer, at, writer);
    }
    any
}

/// Writes encoded records in random order, as far as there is room; false when there are none.
fn write_encoded<const N: usize>(
    records: &[[u8; N]],
    section: Section,
    at: NameAt,
    writer: &mut Writer<'_>,
    scratch: &mut Scratch,
) -> bool {
    if let [one] = records {
        writer.record(section, at, &[one]);
        return true;
    }
    sample(records.len(), &mut scratch.order, &mut scratch.random);
    for index in &scratch.order {
        if !writer.record(section, at, &[&records[*index as usize]]) {
            break;
        }
    }
    !records.is_empty()
}

/// Writes the record of an address; false when there is no room.
pub(super) fn address(address: IpAddr, ttl: u32, section: Section, at: NameAt, writer: &mut Writer<'_>) -> bool {
    match address {
        IpAddr::V4(address) => writer.record(section, at, &[&record4(address, ttl)]),
        IpAddr::V6(address) => writer.record(section, at, &[&record6(address, ttl)]),
    }
}

/// Indexes below `count` in random order: all of them, or as many as a message may hold, from a random one on.
fn sample(count: usize, order: &mut Vec<u32>, random: &mut Random) {
    order.clear();
    let Ok(count @ 1..) = u32::try_from(count) else { return };
    if count <= MAX_RECORDS {
        order.extend(0..count);
    } else {
        let start = random.below(count);
        order.extend((0..MAX_RECORDS).map(|index| (u64::from(start) + u64::from(index)) % u64::from(count)).map(
            // Less than the count, which has 32 bits.
            |index| u32::try_from(index).unwrap_or_default(),
        ));
    }
    random.shuffle(order);
}

/// The weight of one of `count` SRV records: together they come to 100, if each is to have any.
fn weight(count: usize) -> u16 {
    u16::try_from(100 / count.max(1)).unwrap_or_default().max(1)
}

/// Priority, weight and port.
fn srv_head(priority: u16, weight: u16, port: u16) -> [u8; 6] {
    let ([a, b], [c, d], [e, f]) = (priority.to_be_bytes(), weight.to_be_bytes(), port.to_be_bytes());
    [a, b, c, d, e, f]
}

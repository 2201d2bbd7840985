//! What is known of a name: which records, or why none.

use crate::{
    config::PodNames,
    index::{Encoded, Endpoints, Entry, Index, Owner, ServiceKind, dashed_address},
    name::{Meaning, Part, View},
    wire::rtype,
    zone::Place,
};
use sdn_cluster::model::Protocol;
use std::{net::IpAddr, sync::Arc};

/// What there is for a name and a type.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found<'i> {
    /// The name does not exist.
    Missing,
    /// The name exists without records of this type.
    Empty {
        /// It has records of other types: it is not only there for what is below it.
        leaf: bool,
    },
    /// The name is another one's alias, in wire form.
    Alias(&'i [u8]),
    /// These.
    Records(Records<'i>),
}

/// Records of one name and type.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Records<'i> {
    /// The zone's SOA.
    Soa,
    /// The zone's NS.
    Ns,
    /// The addresses of the name server.
    Server,
    /// The version of the specification.
    Version,
    /// What ANY gets (RFC 8482 section 4.2).
    Hinfo,
    /// Addresses as they were encoded.
    Addresses(&'i Encoded),
    /// One address.
    Address(IpAddr),
    /// The addresses of endpoints: all, or those that the label names.
    Endpoints(&'i Endpoints, View, Option<&'i [u8]>),
    /// The ports of a Service's own addresses: all, or the one of this name and protocol.
    ServicePorts(&'i Entry, Option<(&'i [u8], Protocol)>),
    /// The ports of a Service's endpoints, likewise.
    EndpointPorts(&'i Entry, View, Option<(&'i [u8], Protocol)>),
    /// The names of an address.
    Pointers(Owner, &'i [Arc<[u8]>], IpAddr),
}

/// What is asked of the index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lookup<'i> {
    /// What is known.
    pub(crate) index: &'i Index,
    /// Which pods have names.
    pub(crate) pod_names: PodNames,
    /// A Service with an address of its own, but no endpoint that is ready, has no name.
    pub(crate) ignore_empty_services: bool,
    /// QTYPE.
    pub(crate) rtype: u16,
}

/// The alias that OpenShift 3 kept for its oldest name.
const OPENSHIFT: &[u8] = b"\x09openshift\x07default";
const KUBERNETES: &[u8] = b"\x0akubernetes\x07default";

impl<'i> Lookup<'i> {
    /// What there is for a name in the cluster's domain.
    pub(crate) fn cluster(self, meaning: Meaning<'i>) -> Found<'i> {
        self.any(match meaning {
            Meaning::Apex => self.apex(),
            Meaning::Version => self.only(rtype::TXT, Records::Version),
            Meaning::Server => self.address_types(Records::Server),
            Meaning::Container => Found::Empty { leaf: false },
            Meaning::Namespace(label) => self.namespace(label),
            Meaning::Service(key, view, part) => self.service(key, view, part),
            Meaning::Pod(namespace, label) => self.pod(namespace, label),
            Meaning::Unknown => Found::Missing,
        })
    }

    /// What there is for a name in a reverse zone.
    pub(crate) fn reverse(self, place: Place) -> Found<'i> {
        self.any(match place {
            Place::Apex => self.apex(),
            Place::Nowhere => Found::Missing,
            Place::Range(first, last) if self.index.has_names_between(first, last) => Found::Empty { leaf: false },
            Place::Range(..) => Found::Missing,
            Place::Address(address) => match self.index.services_at(address) {
                (Owner::Nobody, _) => Found::Missing,
                (owner, services) => self.only(rtype::PTR, Records::Pointers(owner, services, address)),
            },
        })
    }

    /// ANY gets one small record wherever there is a name.
    fn any(self, found: Found<'i>) -> Found<'i> {
        match found {
            Found::Missing => found,
            _ if self.rtype == rtype::ANY => Found::Records(Records::Hinfo),
            _ => found,
        }
    }

    fn apex(self) -> Found<'i> {
        match self.rtype {
            rtype::SOA => Found::Records(Records::Soa),
            rtype::NS => Found::Records(Records::Ns),
            _ => Found::Empty { leaf: true },
        }
    }

    fn only(self, rtype: u16, records: Records<'i>) -> Found<'i> {
        if self.rtype == rtype { Found::Records(records) } else { Found::Empty { leaf: true } }
    }

    /// Records of addresses: which of them fit the type, the answer sees.
    fn address_types(self, records: Records<'i>) -> Found<'i> {
        match self.rtype {
            rtype::A | rtype::AAAA => Found::Records(records),
            _ => Found::Empty { leaf: true },
        }
    }

    fn namespace(self, label: &[u8]) -> Found<'i> {
        if self.index.has_namespace(label) { Found::Empty { leaf: false } } else { Found::Missing }
    }

    /// A pod's name says its address; whether that counts is configured.
    fn pod(self, namespace: &[u8], label: &[u8]) -> Found<'i> {
        let Some(address) = dashed_address(label) else { return Found::Missing };
        let exists = match self.pod_names {
            PodNames::Disabled => false,
            PodNames::Insecure => self.index.has_namespace(namespace),
            PodNames::Verified => self.index.has_pod(namespace, address),
        };
        if exists { self.address_types(Records::Address(address)) } else { Found::Missing }
    }

    fn service(self, key: &[u8], view: View, part: Part<'i>) -> Found<'i> {
        let entry = match self.index.service(key) {
            Some(entry) => entry,
            None if key == OPENSHIFT && (view, part) == (View::Service, Part::Whole) => {
                match self.index.service(KUBERNETES) {
                    Some(entry) => entry,
                    None => return Found::Missing,
                }
            }
            None => return Found::Missing,
        };
        match (&entry.kind, view, part) {
            (ServiceKind::External(target), View::Service, Part::Whole) => Found::Alias(target),
            (ServiceKind::External(_), ..) => Found::Missing,
            (ServiceKind::Cluster, ..) if self.ignore_empty_services && entry.endpoints.list.is_empty() => {
                Found::Missing
            }
            (ServiceKind::Cluster, View::Service, Part::Whole) => self.cluster_service(entry),
            (_, _, Part::Whole) => self.headless(entry, view),
            (_, _, Part::Label([b'_', protocol @ ..])) => self.protocol(entry, view, protocol),
            (_, _, Part::Label(label)) => self.endpoint(entry, view, label),
            (_, _, Part::Port(port, protocol)) => self.port(entry, view, port, protocol),
        }
    }

    /// A Service with addresses of its own has them whether or not anybody is behind them, if not configured otherwise.
    fn cluster_service(self, entry: &'i Entry) -> Found<'i> {
        match self.rtype {
            rtype::A | rtype::AAAA => Found::Records(Records::Addresses(&entry.addresses)),
            rtype::SRV if !entry.ports.is_empty() => Found::Records(Records::ServicePorts(entry, None)),
            _ => Found::Empty { leaf: true },
        }
    }

    /// A name that leads to endpoints exists while one is ready.
    fn headless(self, entry: &'i Entry, view: View) -> Found<'i> {
        if entry.endpoints.list.is_empty() {
            return Found::Missing;
        }
        match self.rtype {
            rtype::A | rtype::AAAA if view == View::Service => Found::Records(Records::Addresses(&entry.addresses)),
            rtype::A | rtype::AAAA => Found::Records(Records::Endpoints(&entry.endpoints, view, None)),
            rtype::SRV => Found::Records(Records::EndpointPorts(entry, view, None)),
            _ => Found::Empty { leaf: true },
        }
    }

    fn endpoint(self, entry: &'i Entry, view: View, label: &'i [u8]) -> Found<'i> {
        let exists = match view {
            View::Service => entry.endpoints.with_name(label).next().is_some(),
            View::Endpoints => entry.endpoints.with_legacy_name(label).next().is_some(),
        };
        if !exists {
            return Found::Missing;
        }
        self.address_types(Records::Endpoints(&entry.endpoints, view, Some(label)))
    }

    /// The name that those of a protocol's ports are below exists with them (RFC 8020).
    fn protocol(self, entry: &'i Entry, view: View, protocol: &[u8]) -> Found<'i> {
        let Some(protocol) = parse_protocol(protocol) else { return Found::Missing };
        let exists = if has_own_ports(entry, view) {
            entry.ports.iter().any(|port| port.name.is_some() && port.protocol == protocol)
        } else {
            entry.endpoints.ports.iter().any(|port| port.name.is_some() && port.protocol == protocol)
        };
        if exists { Found::Empty { leaf: false } } else { Found::Missing }
    }

    fn port(self, entry: &'i Entry, view: View, name: &'i [u8], protocol: &[u8]) -> Found<'i> {
        let Some(protocol) = parse_protocol(protocol) else { return Found::Missing };
        let wanted = Some((name, protocol));
        let (exists, records) = if has_own_ports(entry, view) {
            let exists = entry.ports.iter().any(|port| is_port(&port.name, port.protocol, wanted));
            (exists, Records::ServicePorts(entry, wanted))
        } else {
            let exists = entry.endpoints.ports.iter().any(|port| is_port(&port.name, port.protocol, wanted));
            (exists, Records::EndpointPorts(entry, view, wanted))
        };
        if exists { self.only(rtype::SRV, records) } else { Found::Missing }
    }
}

/// Whether SRV leads to the Service's own addresses.
fn has_own_ports(entry: &Entry, view: View) -> bool {
    view == View::Service && matches!(entry.kind, ServiceKind::Cluster)
}

/// Whether a port is the one that is wanted; all are when none is.
pub(crate) fn is_port(name: &Option<Arc<str>>, protocol: Protocol, wanted: Option<(&[u8], Protocol)>) -> bool {
    wanted.is_none_or(|(wanted, of)| {
        protocol == of && name.as_ref().is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(wanted))
    })
}

fn parse_protocol(label: &[u8]) -> Option<Protocol> {
    match label {
        b"tcp" => Some(Protocol::Tcp),
        b"udp" => Some(Protocol::Udp),
        b"sctp" => Some(Protocol::Sctp),
        _ => None,
    }
}

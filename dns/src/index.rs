//! What the cluster's names lead to, as it is at one moment: immutable, shared in most of its parts with the one before.

mod build;
mod label;
mod service;

use crate::wire::{MAX_NAME, Name};
use sdn_cluster::model::PodKey;
use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

pub(crate) use build::Builder;
pub(crate) use label::{Label, dashed_address};
pub(crate) use service::{Encoded, Endpoints, Entry, Naming, ServiceKind, record4, record6};

/// All that is known. A clone is a few reference counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    /// Services by their names' and namespaces' labels.
    services: imbl::HashMap<Arc<[u8]>, Arc<Entry>>,
    /// Namespaces by their labels.
    namespaces: imbl::HashMap<Arc<[u8]>, Namespace>,
    /// The Services that own an address.
    cluster_ips: imbl::OrdMap<u128, Few<Arc<[u8]>>>,
    /// The Services that an address is an endpoint of.
    endpoints: imbl::OrdMap<u128, Few<Arc<[u8]>>>,
    /// The pods that have an address.
    pods: imbl::OrdMap<u128, Few<PodAt>>,
    /// Seconds since 1970 of the last change.
    pub(crate) serial: u32,
    /// The source was read to its end once. Before that, what is not here may exist.
    pub(crate) synced: bool,
}

/// Why a namespace exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Namespace {
    /// There is an object.
    declared: bool,
    /// So many Services are in there.
    services: usize,
}

/// A pod where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodAt {
    key: PodKey,
    /// It is in its node's network: the address is not its own.
    host_network: bool,
}

/// One value, mostly.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Few<T> {
    One(T),
    Many(Arc<[T]>),
}

// === impl Index ===

impl Index {
    /// The Service whose name's and namespace's labels these are.
    pub(crate) fn service(&self, key: &[u8]) -> Option<&Arc<Entry>> {
        self.services.get(key)
    }

    /// Whether a namespace of this label, its length first, exists.
    pub(crate) fn has_namespace(&self, label: &[u8]) -> bool {
        self.namespaces.contains_key(label)
    }

    /// Whether it holds anything at all: from the source, or from what was kept of it.
    pub(crate) fn is_empty(&self) -> bool {
        self.services.is_empty() && self.namespaces.is_empty()
    }

    /// The Services that own the address; without any, those that have it as an endpoint.
    pub(crate) fn services_at(&self, address: IpAddr) -> (Owner, &[Arc<[u8]>]) {
        let key = address_key(address);
        match (self.cluster_ips.get(&key), self.endpoints.get(&key)) {
            (Some(owners), _) => (Owner::Service, owners.as_slice()),
            (None, Some(owners)) => (Owner::Endpoint, owners.as_slice()),
            (None, None) => (Owner::Nobody, &[]),
        }
    }

    /// Whether any address from `first` to `last` has a name.
    pub(crate) fn has_names_between(&self, first: IpAddr, last: IpAddr) -> bool {
        let range = address_key(first)..=address_key(last);
        self.cluster_ips.range(range.clone()).next().is_some() || self.endpoints.range(range).next().is_some()
    }

    /// Whether a pod of the namespace, a label with its length, has the address.
    pub(crate) fn has_pod(&self, namespace: &[u8], address: IpAddr) -> bool {
        let pods = self.pods.get(&address_key(address)).map_or(&[][..], Few::as_slice);
        pods.iter().any(|pod| namespace.get(1..).is_some_and(|name| name == pod.key.namespace.as_bytes()))
    }

    /// The namespace of the pod that the address belongs to. None for addresses of nodes.
    pub(crate) fn namespace_of(&self, address: IpAddr) -> Option<&Arc<str>> {
        let pods = self.pods.get(&address_key(address)).map_or(&[][..], Few::as_slice);
        // A node's address is that of all pods in its network: none may be taken for the one that asks.
        let [pod] = pods else { return None };
        (!pod.host_network).then_some(&pod.key.namespace)
    }

    /// How many Services and endpoints there are.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.services.len(), self.endpoints.len())
    }
}

/// Whose an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A Service's own.
    Service,
    /// An endpoint's.
    Endpoint,
    /// No name leads there.
    Nobody,
}

/// Addresses of both families in one order: those of IPv4 as mapped ones.
pub(crate) fn address_key(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().into(),
        IpAddr::V6(address) => Ipv6Addr::into(address),
    }
}

/// The labels of a Service's name: its own and its namespace's.
fn service_labels(namespace: &str, name: &str) -> Option<Arc<[u8]>> {
    let mut wire = Vec::with_capacity(namespace.len() + name.len() + 2);
    append_label(name, &mut wire)?;
    append_label(namespace, &mut wire)?;
    Some(wire.into())
}

/// The label of a namespace.
fn namespace_label(name: &str) -> Option<Arc<[u8]>> {
    let mut wire = Vec::with_capacity(name.len() + 1);
    append_label(name, &mut wire)?;
    Some(wire.into())
}

/// What is no label has no name in DNS; the API lets none pass.
fn append_label(label: &str, wire: &mut Vec<u8>) -> Option<()> {
    let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
    wire.push(length);
    wire.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
    Some(())
}

// === impl Few ===

impl<T> Few<T> {
    fn as_slice(&self) -> &[T] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

impl<T: Clone + PartialEq> Few<T> {
    /// With one value more, if it is not there yet.
    fn with(this: Option<&Self>, value: T) -> Self {
        match this {
            None => Self::One(value),
            Some(few) if few.as_slice().contains(&value) => few.clone(),
            Some(few) => Self::Many(few.as_slice().iter().cloned().chain([value]).collect()),
        }
    }

    /// Without a value; `None` when none is left.
    fn without(&self, value: &T) -> Option<Self> {
        let left: Vec<T> = self.as_slice().iter().filter(|own| *own != value).cloned().collect();
        match <[T; 1]>::try_from(left) {
            Ok([one]) => Some(Self::One(one)),
            Err(left) if left.is_empty() => None,
            Err(left) => Some(Self::Many(left.into())),
        }
    }
}

/// The zones' names, made once.
#[derive(Debug)]
pub(crate) struct Zones {
    /// The cluster's domain.
    pub(crate) cluster: Name,
    /// `svc` and what follows: the end of every Service's name.
    pub(crate) services: Box<[u8]>,
    /// `endpoints` likewise, of OpenShift 3.
    pub(crate) endpoints: Box<[u8]>,
}

impl Zones {
    /// The zones of a cluster with this domain.
    pub(crate) fn new(cluster: Name) -> Option<Self> {
        let below = |label: &[u8]| {
            let wire: Box<[u8]> = label.iter().chain(cluster.wire()).copied().collect();
            // A Service's name of two labels must fit before it.
            (wire.len() + 2 * 64 <= MAX_NAME).then_some(wire)
        };
        Some(Self { services: below(b"\x03svc")?, endpoints: below(b"\x09endpoints")?, cluster })
    }
}

#[cfg(test)]
mod tests;

//! What a name in the cluster's domain means, by its labels alone.

use crate::wire::Name;

/// What a name means. Whether it exists, the index knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning<'n> {
    /// The domain itself.
    Apex,
    /// `dns-version`.
    Version,
    /// `ns.dns`, the name server.
    Server,
    /// A name that only has others below it.
    Container,
    /// Below which all of a namespace's are: the namespace's label, its length first.
    Namespace(&'n [u8]),
    /// A Service, or what is below it: the labels of its name and namespace.
    Service(&'n [u8], View, Part<'n>),
    /// A pod: its namespace's label, its length first, and its own.
    Pod(&'n [u8], &'n [u8]),
    /// Nothing.
    Unknown,
}

/// How a Service is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// As Kubernetes names it, below `svc`.
    Service,
    /// As OpenShift 3 did, below `endpoints`: always its endpoints.
    Endpoints,
}

/// What of a Service a name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'n> {
    /// The Service itself.
    Whole,
    /// One of its endpoints, or the protocol that names of ports are below.
    Label(&'n [u8]),
    /// A port: its name and protocol, without underscores.
    Port(&'n [u8], &'n [u8]),
}

/// What the first `depth` labels of `name` mean in the cluster's domain.
pub(crate) fn meaning(name: &Name, depth: usize) -> Meaning<'_> {
    let Some(last) = depth.checked_sub(1) else { return Meaning::Apex };
    match (name.label(last), last) {
        (b"svc", 0) | (b"endpoints", 0) | (b"pod", 0) | (b"dns", 0) => Meaning::Container,
        (b"dns-version", 0) => Meaning::Version,
        // The name of a namespace, which OpenShift 3 documents.
        (_, 0) => Meaning::Namespace(name.slice(0, 1)),
        (b"dns", 1) if name.label(0) == b"ns" => Meaning::Server,
        (b"svc" | b"endpoints" | b"pod", 1) => Meaning::Namespace(name.slice(0, 1)),
        (b"pod", 2) => Meaning::Pod(name.slice(1, 2), name.label(0)),
        (b"svc", _) => below_service(name, last),
        (b"endpoints", _) => below(name, last, View::Endpoints, last - 2),
        _ => Meaning::Unknown,
    }
}

/// What is below `svc`, the label number `svc`.
fn below_service(name: &Name, svc: usize) -> Meaning<'_> {
    match svc - 2 {
        // `_endpoints.name.namespace.svc` is `name.namespace.endpoints`.
        parts @ 1.. if name.label(parts - 1) == b"_endpoints" => below(name, svc, View::Endpoints, parts - 1),
        parts => below(name, svc, View::Service, parts),
    }
}

/// What the first `parts` labels mean of the Service whose namespace comes before the label number `kind`.
fn below(name: &Name, kind: usize, view: View, parts: usize) -> Meaning<'_> {
    let part = match parts {
        0 => Part::Whole,
        1 => Part::Label(name.label(0)),
        2 => match (name.label(0), name.label(1)) {
            ([b'_', port @ ..], [b'_', protocol @ ..]) => Part::Port(port, protocol),
            _ => return Meaning::Unknown,
        },
        _ => return Meaning::Unknown,
    };
    Meaning::Service(name.slice(kind - 2, kind), view, part)
}

//! What can go wrong as a whole. What is wrong with a single object is a [`crate::source::Problem`] instead.

use std::{io, net::IpAddr, path::PathBuf};

/// An operation of this crate failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The manifests are not there.
    #[error("cannot open the manifests at {path}: {source} (is the path right, and readable for this user?)")]
    OpenManifests {
        /// What was to be opened.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A cluster network that cannot be used.
    #[error("cluster network {given:?}: {reason}")]
    ClusterNetwork {
        /// As it was written.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A range for Services that cannot be used.
    #[error("range for Services {given:?}: {reason}")]
    ServiceRange {
        /// As it was given.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Two address ranges that must be apart are not.
    #[error("{one} overlaps {other}: packets for one would be taken for the other's; choose another range")]
    Overlap {
        /// The range, with what it is for.
        one: String,
        /// The other.
        other: String,
    },
    /// No host subnet is left for a node.
    #[error(
        "no host subnet left for node {node}: all {subnets} /{host_prefix} of cluster network {network} are taken; \
         widen it or use smaller host subnets"
    )]
    SubnetsExhausted {
        /// The node.
        node: String,
        /// The last network that was tried.
        network: String,
        /// Its host prefix.
        host_prefix: u8,
        /// How many it has.
        subnets: u128,
    },
    /// A node's own host subnet cannot stay.
    #[error("node {node} has the host subnet {subnet}, which {reason}")]
    HostSubnet {
        /// The node.
        node: String,
        /// Its subnet (spec.podCIDRs).
        subnet: String,
        /// Why not.
        reason: String,
    },
    /// No address is left for a pod.
    #[error("no address left for pod {pod} in host subnet {subnet} of node {node}")]
    AddressesExhausted {
        /// The pod, namespace/name.
        pod: String,
        /// Its node.
        node: String,
        /// The node's host subnet.
        subnet: String,
    },
    /// Two pods claim one address.
    #[error("pods {one} and {other} both have the address {address}")]
    AddressTaken {
        /// The pod that came first.
        one: String,
        /// The other.
        other: String,
        /// What both have.
        address: IpAddr,
    },
    /// More pods than anybody means.
    #[error("{count} pods, at most {limit} are made; the largest workload is {largest}")]
    TooManyPods {
        /// How many there would be.
        count: usize,
        /// The limit.
        limit: usize,
        /// The workload with the most.
        largest: String,
    },
    /// Nobody can run pods.
    #[error("there are pods to place but no nodes")]
    NoNodes,
    /// A file could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A saved snapshot that is not one.
    #[error("{path} is not a saved snapshot: {reason}")]
    SavedSnapshot {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

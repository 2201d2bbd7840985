//! The wire protocol between the plugin and the agent: JSON, one message a line, over the agent's unix socket.
//!
//! Each line is `{"protocol":1,"message":…}` and at most [`MAX_MESSAGE`] bytes long. One connection carries one operation:
//!
//! ```text
//! ADD    → Add      ← Prepared   (an address is reserved; the plugin makes the veth)
//!        → Commit   ← Done       (the lease is on disk and the kernel forwards for the pod)
//! DEL    → Del      ← Done
//! CHECK  → Check    ← Checked    (what the pod's side has to look like)
//! GC     → Gc       ← Done
//! STATUS → Status   ← Done
//! ```
//!
//! Any answer may be a [`Failure`] instead. An ADD whose connection is lost before Done is rolled back by both sides.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::mac::MacAddr;

/// The protocol's version. It changes when an old peer could misunderstand a message; new optional fields do not change it.
pub const PROTOCOL_VERSION: u32 = 1;

/// Longest message in bytes, newline included. GC lists each attachment of the node, at about 120 bytes.
pub const MAX_MESSAGE: usize = 1 << 20;

/// One attachment of a container to the network. It is what CNI calls the tuple (CNI_CONTAINERID, CNI_IFNAME).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attachment {
    /// The runtime's id of the container (of the pod's sandbox).
    pub container_id: String,
    /// The interface's name in the container, `eth0` for pods.
    pub ifname: String,
}

/// The container's network namespace: its path and the identity of what was found there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Netns {
    /// The path given by the runtime (CNI_NETNS), as seen by the runtime.
    pub path: PathBuf,
    /// `st_dev` of the namespace's file.
    pub device: u64,
    /// `st_ino` of the namespace's file: the namespace's own number.
    pub inode: u64,
}

/// The Kubernetes pod of a container (K8S_POD_NAMESPACE, K8S_POD_NAME and K8S_POD_UID in CNI_ARGS).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodIdentity {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's uid; empty if the runtime does not say it.
    #[serde(default)]
    pub uid: String,
}

/// What the plugin asks of the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Reserve addresses for an attachment.
    Add(AddRequest),
    /// The veth of the connection's Add is there; connect it.
    Commit(CommitRequest),
    /// Take the attachment away and give its addresses back. Missing things are no error.
    Del(DelRequest),
    /// Compare the attachment with what the agent and the kernel have.
    Check(CheckRequest),
    /// Remove every attachment that is not listed.
    Gc(GcRequest),
    /// Can ADD be served?
    Status,
}

/// First message of an ADD.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AddRequest {
    /// Whom it is for.
    #[serde(flatten)]
    pub attachment: Attachment,
    /// Name of the network configuration. GC is for one network.
    pub network: String,
    /// The container's network namespace.
    pub netns: Netns,
    /// The Kubernetes pod, if the container belongs to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodIdentity>,
    /// `runtimeConfig` of the network configuration, unchanged. The agent refuses a capability that it cannot honour.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub runtime_config: serde_json::Map<String, serde_json::Value>,
}

/// Second message of an ADD.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRequest {
    /// Index of the host end in the agent's network namespace.
    pub host_ifindex: u32,
}

/// Message of a DEL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelRequest {
    /// Which one.
    #[serde(flatten)]
    pub attachment: Attachment,
}

/// Message of a CHECK.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRequest {
    /// Which one.
    #[serde(flatten)]
    pub attachment: Attachment,
    /// The container's network namespace.
    pub netns: Netns,
    /// The container's addresses according to the runtime's `prevResult`.
    pub addresses: Vec<IpAddr>,
}

/// Message of a GC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcRequest {
    /// Name of the network configuration; attachments of others are left alone.
    pub network: String,
    /// The attachments that the runtime still knows.
    pub valid: Vec<Attachment>,
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// To Add: make this, then commit.
    Prepared(Prepared),
    /// To Check: the agent's side is as it should be; this is how the pod's side has to look.
    Checked(PodInterface),
    /// To Commit, Del, Gc and Status: it is so.
    Done,
    /// To anything: it is not, and why.
    Failure(Failure),
}

/// Answer to Add.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// What the plugin makes.
    pub interface: PodInterface,
    /// The attachment has been committed before (a retry whose answer was lost): a veth as described may be there already, and is ours.
    pub existing: bool,
}

/// A pod's veth as it has to be, both ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodInterface {
    /// The pod's addresses, at most one a family, IPv4 first. Each is a /32 or /128 in the pod.
    pub addresses: Vec<IpAddr>,
    /// The gateway of each family in use: 169.254.1.1 and fe80::1.
    pub gateways: Vec<IpAddr>,
    /// MAC of the pod's end.
    pub mac: MacAddr,
    /// MTU of both ends, in bytes.
    pub mtu: u32,
    /// Name of the host end.
    pub host_interface: String,
    /// MAC of the host end: the gateway's.
    pub host_mac: MacAddr,
    /// The pod's routes besides the link-scope route to the IPv4 gateway.
    pub routes: Vec<PodRoute>,
    /// The resolver configuration to report to the runtime.
    pub dns: Dns,
}

/// A route in the pod, through a gateway on its own interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRoute {
    /// Destination.
    pub destination: IpNet,
    /// Next hop, one of [`PodInterface::gateways`].
    pub gateway: IpAddr,
}

/// Resolver configuration, in the form of a CNI result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Addresses of name servers, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Search domains, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options of the resolver.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// An operation that failed, with the code that the plugin gives to the runtime (see [`code`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Error)]
#[error("{message}{}{details}", if details.is_empty() { "" } else { ": " })]
pub struct Failure {
    /// CNI error code.
    pub code: u32,
    /// One line: operation and object.
    pub message: String,
    /// The cause, and what to do about it.
    #[serde(default)]
    pub details: String,
}

/// CNI error codes. 1 to 99 are the spec's, from 100 on they are Culvert's own.
pub mod code {
    /// The configuration's cniVersion is not supported, or does not have the command.
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    /// The configuration asks for something that Culvert does not do; the message names key and value.
    pub const UNSUPPORTED_FIELD: u32 = 2;
    /// The container is not known; the runtime need not clean up.
    pub const UNKNOWN_CONTAINER: u32 = 3;
    /// An environment variable is missing or invalid; the message names it.
    pub const INVALID_ENVIRONMENT: u32 = 4;
    /// Reading or writing failed.
    pub const IO_FAILURE: u32 = 5;
    /// The configuration is not JSON, or not of the right shape.
    pub const DECODING_FAILURE: u32 = 6;
    /// The configuration is not valid.
    pub const INVALID_CONFIG: u32 = 7;
    /// CNI_NETNS is no usable network namespace.
    pub const INVALID_NETNS: u32 = 8;
    /// It will work later: the agent is absent or not ready.
    pub const TRY_AGAIN_LATER: u32 = 11;
    /// STATUS: ADD cannot be served.
    pub const NOT_AVAILABLE: u32 = 50;
    /// A step in the kernel failed: the veth, its addresses or its routes.
    pub const KERNEL: u32 = 100;
    /// The node's host subnet has no free address.
    pub const ADDRESSES_EXHAUSTED: u32 = 101;
    /// CHECK found a difference.
    pub const CHECK_FAILED: u32 = 102;
    /// The interface is there already, and is not ours.
    pub const INTERFACE_EXISTS: u32 = 103;
    /// The dataplane did not take the pod.
    pub const DATAPLANE: u32 = 104;
    /// The lease could not be written or removed.
    pub const LEASE_STORAGE: u32 = 105;
    /// The other side speaks another protocol, or broke it.
    pub const PROTOCOL: u32 = 106;
}

/// A line that is no message of this protocol.
#[derive(Debug, Error)]
pub enum ProtocolError {
    /// Longer than [`MAX_MESSAGE`].
    #[error("reading a message: longer than {MAX_MESSAGE} bytes")]
    TooLong,
    /// Another version.
    #[error(
        "reading a message: its protocol is {theirs}, ours is {PROTOCOL_VERSION}; plugin and agent are of different releases"
    )]
    Version {
        /// The peer's version.
        theirs: u32,
    },
    /// No JSON, or not of the expected shape.
    #[error("reading a message: {0}")]
    Malformed(#[source] serde_json::Error),
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    protocol: u32,
    message: T,
}

/// Only the version: read first, because a later version's message may have any shape.
#[derive(Deserialize)]
struct Head {
    protocol: u32,
}

/// The message as a line, with its newline.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, ProtocolError> {
    let envelope = Envelope { protocol: PROTOCOL_VERSION, message };
    let mut line = serde_json::to_vec(&envelope).map_err(ProtocolError::Malformed)?;
    line.push(b'\n');
    if line.len() > MAX_MESSAGE { Err(ProtocolError::TooLong) } else { Ok(line) }
}

/// The message in a line, whose newline may be missing.
pub fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<T, ProtocolError> {
    if line.len() > MAX_MESSAGE {
        return Err(ProtocolError::TooLong);
    }
    let head: Head = serde_json::from_slice(line).map_err(ProtocolError::Malformed)?;
    if head.protocol != PROTOCOL_VERSION {
        return Err(ProtocolError::Version { theirs: head.protocol });
    }
    let envelope: Envelope<T> = serde_json::from_slice(line).map_err(ProtocolError::Malformed)?;
    Ok(envelope.message)
}

/// Name of the host end of an attachment's veth: `cv` and 12 hexadecimal digits. Plugin and agent derive it alone, so that either can
/// find the interface without the other.
pub fn host_interface_name(attachment: &Attachment) -> String {
    // FNV-1a, 64 bits, folded to 48: stable across releases, which a HashMap's hasher is not.
    let text = attachment.container_id.bytes().chain([b'/']).chain(attachment.ifname.bytes());
    let hash =
        text.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("cv{:012x}", (hash ^ (hash >> 48)) & 0xffff_ffff_ffff)
}

// === impl Attachment ===

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of container {}", self.ifname, self.container_id)
    }
}

// === impl Failure ===

impl Failure {
    /// A failure; `message` says operation and object, `details` the cause.
    pub fn new(code: u32, message: impl Into<String>, details: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: details.into() }
    }
}

#[cfg(test)]
mod tests;

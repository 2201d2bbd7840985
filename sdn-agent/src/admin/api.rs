//! What the admin socket says, in JSON: written by the agent, read by sdnctl.
//!
//! Fields are only ever added: an older sdnctl ignores what it does not know, a newer one takes defaults for what is absent.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// One eBPF program of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgramStatus {
    /// Its name, which is its hook's.
    pub name: String,
    /// Kernel's program id, as `bpftool prog` shows it.
    pub id: u32,
    /// Where it is attached: a device or a hook.
    pub attached_to: Vec<String>,
    /// How often it ran; only counted while `kernel.bpf_stats_enabled` is on.
    pub run_count: u64,
    /// Time spent in it, in nanoseconds; only counted while `kernel.bpf_stats_enabled` is on.
    pub run_time_ns: u64,
}

/// One map of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MapStatus {
    /// Name in the contract.
    pub name: String,
    /// Version of its layout.
    pub version: u32,
    /// Entries in use; `None` where the kernel cannot tell cheaply.
    pub entries: Option<u64>,
    /// Entries it has room for.
    pub capacity: u64,
    /// Size in the kernel in bytes.
    pub memory: u64,
}

/// Which way a packet went, seen from the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the pod.
    Egress,
    /// To the pod.
    Ingress,
}

/// One row of the kernel's exact drop counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DropCount {
    /// Reason's name in the contract, as `spoofed_source`.
    pub reason: String,
    /// One sentence about it.
    pub description: String,
    /// `namespace/name` of the local pod concerned, or what else stands in its place, as `node`.
    pub endpoint: String,
    /// Seen from the endpoint.
    pub direction: Direction,
    /// The other side as far as it is known: `namespace/name`, an address, or `unknown`.
    pub peer: String,
    /// Packets.
    pub packets: u64,
    /// Bytes of these packets.
    pub bytes: u64,
}

/// One example of a dropped packet. Rate-limited per endpoint: an example, never a count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DropEvent {
    /// Milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// Reason's name in the contract.
    pub reason: String,
    /// `namespace/name` of the local pod concerned, or what else stands in its place.
    pub endpoint: String,
    /// Seen from the endpoint.
    pub direction: Direction,
    /// Source address of the packet, where it had one.
    pub source: Option<IpAddr>,
    /// Destination address of the packet, where it had one.
    pub destination: Option<IpAddr>,
    /// Protocol's name or number.
    pub protocol: String,
    /// Source port, host byte order.
    pub source_port: Option<u16>,
    /// Destination port, host byte order.
    pub destination_port: Option<u16>,
    /// Bytes of the packet.
    pub length: u32,
}

/// The uplink as the agent sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UplinkStatus {
    /// Device name.
    pub name: String,
    /// Interface index.
    pub ifindex: u32,
    /// MTU in bytes.
    pub mtu: u32,
    /// Its addresses of global scope.
    pub addresses: Vec<IpNet>,
    /// Whether it is up and has carrier.
    pub running: bool,
}

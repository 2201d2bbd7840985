//! What the admin socket says, in JSON: written by the agent, read by sdnctl.
//!
//! Fields are only ever added: an older sdnctl ignores what it does not know, a newer one takes defaults for what is absent.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::kernel::capabilities::Held;

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

/// `sdnctl dns stats`: cluster DNS on this node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DnsStats {
    /// Whether it knows the cluster.
    pub ready: bool,
    /// Domain of the cluster's names.
    pub domain: String,
    /// Where it is asked.
    pub addresses: Vec<IpAddr>,
    /// Services that have names.
    pub services: usize,
    /// Addresses of endpoints that have names.
    pub endpoints: usize,
    /// Who is asked for all other names.
    pub upstreams: Vec<UpstreamRow>,
    /// Counters that are not zero, as at /metrics: CoreDNS's names where it has them.
    pub counters: BTreeMap<String, u64>,
}

/// An upstream of cluster DNS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpstreamRow {
    /// Its address and port.
    pub address: String,
    /// Why it is left alone; `None`: it is asked.
    pub problem: Option<String>,
}

/// `sdnctl dns query`: what was asked, in order, and what the last of it was answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DnsAnswer {
    /// The names that were asked for: those of the search path come first, as in a pod.
    pub asked: Vec<String>,
    /// As whom.
    pub client: Option<IpAddr>,
    /// The response code of the last one.
    pub code: String,
    /// Whether the answer is of the cluster's own names.
    pub authoritative: bool,
    /// Records, in the form of a zone file.
    pub records: Vec<String>,
    /// Time that all of it took in the resolver, in microseconds.
    pub took_micros: u64,
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
    /// The rule of a policy that decided, as `shop/web ingress[2]`, or the policy that isolates, as `shop/web ingress isolation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
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
    /// The rule of a policy that decided, or the policy that isolates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
}

/// What the last pass of apply left in the kernel, and what it could not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ApplyStatus {
    /// Passes made since the agent started.
    pub passes: u64,
    /// The generation of the snapshot that the last pass was made for.
    pub generation: u64,
    /// A complete snapshot has been applied.
    pub synced: bool,
    /// The programs have their settings and are on the VXLAN device and the uplink.
    pub forwarding: bool,
    /// Map entries and links written since the agent started.
    pub writes: u64,
    /// Time that the last pass took, from reading the change to the last write, in microseconds.
    pub took_micros: u64,
    /// What the kernel refused and is being asked again.
    pub failures: Vec<String>,
    /// Objects of the cluster that cannot be used as they are.
    pub problems: Vec<String>,
    /// What of the policies found no room, and what that means.
    pub conditions: Vec<ConditionRow>,
    /// Different peers that policies can tell apart.
    pub identities: usize,
    /// Policy sets of this node's pods.
    pub policy_sets: usize,
}

/// Something of the policies that found no room.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConditionRow {
    /// `SetTooLarge`, `IdentitiesExhausted` or `BlocksExhausted`.
    pub kind: String,
    /// The policies concerned, as `namespace/name`; none where it concerns any.
    pub policies: Vec<String>,
    /// What it means, for people.
    pub message: String,
}

/// A row of `sdnctl policy get`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRow {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The pods that it selects: `podSelector`, as the API writes it.
    pub pod_selector: serde_json::Value,
    /// Rules for ingress; absent where it does not isolate for it.
    pub ingress: Option<usize>,
    /// Rules for egress; absent where it does not isolate for it.
    pub egress: Option<usize>,
    /// Pods of the cluster that it selects, `namespace/name`.
    pub pods: Vec<String>,
    /// Those of them that are on this node.
    pub here: usize,
    /// What is wrong with it, by field. Such a policy isolates what it validly selects.
    pub problems: Vec<String>,
    /// What found no room.
    pub conditions: Vec<String>,
}

/// `sdnctl policy explain`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyExplanation {
    /// `namespace/name` of the pod.
    pub pod: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// What is always let through, whatever policies say.
    pub always: Vec<String>,
    /// Into the pod; absent where nothing isolates it.
    pub ingress: Option<Vec<RuleRow>>,
    /// Out of the pod.
    pub egress: Option<Vec<RuleRow>>,
    /// What found no room, or is wrong with the policies that select it.
    pub notes: Vec<String>,
}

/// A rule of a policy that isolates a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RuleRow {
    /// `shop/web`
    pub policy: String,
    /// Index into its list of rules; absent where it has none: it isolates and admits nothing.
    pub rule: Option<usize>,
    /// Whom it admits, as the policy says it.
    pub peers: Vec<String>,
    /// Pods that these are now, `namespace/name`; absent where a rule is not about pods.
    pub matches: Option<Vec<String>>,
    /// Which ports: `80/TCP`, `http/TCP (8080)`, `all`.
    pub ports: Vec<String>,
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

/// A host subnet and how full it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubnetStatus {
    /// The host subnet.
    pub subnet: IpNet,
    /// Addresses in use.
    pub used: u64,
    /// Addresses that a pod could get.
    pub free: u64,
}

/// The overlay's device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OverlayStatus {
    /// Device name.
    pub name: String,
    /// Interface index.
    pub ifindex: u32,
    /// UDP port.
    pub port: u16,
    /// MTU inside the tunnel in bytes: that of pods.
    pub mtu: u32,
}

/// What the agent knows of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterStatus {
    /// The source was read to its end. Until then this is the last snapshot on disk.
    pub synced: bool,
    /// Grows with every change.
    pub generation: u64,
    /// Nodes.
    pub nodes: usize,
    /// Namespaces.
    pub namespaces: usize,
    /// Pods.
    pub pods: usize,
    /// What is wrong at the source, with file, line and field.
    pub problems: Vec<String>,
    /// Kinds at the source that are not used, with their number.
    pub unused: Vec<String>,
}

/// `sdnctl status`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// The agent's version.
    pub version: String,
    /// Seconds since the role started.
    pub uptime_seconds: u64,
    /// Process id of the role.
    pub pid: u32,
    /// Resident memory of the role and of its keeper, in bytes.
    pub resident_bytes: Vec<u64>,
    /// Name of the Node object that it serves.
    pub node: String,
    /// Stages that are waited for, and why; empty: the agent is ready.
    pub waiting: BTreeMap<String, String>,
    /// The node's host subnets.
    pub subnets: Vec<SubnetStatus>,
    /// The uplink; absent until there is one.
    pub uplink: Option<UplinkStatus>,
    /// Why there is no uplink at the moment, if so.
    pub uplink_problem: Option<String>,
    /// The overlay's device; absent until it is made.
    pub overlay: Option<OverlayStatus>,
    /// Source ports of masqueraded traffic; absent when it is off.
    pub masquerade: Option<String>,
    /// Pods of this node with a lease.
    pub local_pods: usize,
    /// Lease files that could not be read and were put aside.
    pub quarantined_leases: Vec<String>,
    /// The cluster.
    pub cluster: ClusterStatus,
    /// What is applied.
    pub apply: ApplyStatus,
    /// Capabilities that the role really holds.
    pub capabilities: Held,
    /// eBPF programs.
    pub programs: Vec<ProgramStatus>,
    /// eBPF maps.
    pub maps: Vec<MapStatus>,
    /// What could not be found out for this status.
    pub unknown: Vec<String>,
}

/// A row of `sdnctl get pods`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodRow {
    /// Namespace; empty for a container that is no Kubernetes pod.
    pub namespace: String,
    /// Name; the container's id where it is no Kubernetes pod.
    pub name: String,
    /// metadata.uid
    pub uid: String,
    /// The node it is bound to.
    pub node: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// status.phase
    pub phase: String,
    /// Its Ready condition.
    pub ready: bool,
    /// It uses the node's own network.
    pub host_network: bool,
    /// What this node knows of it, if it is attached here.
    pub local: Option<LocalPodRow>,
}

/// A pod that is attached to this node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LocalPodRow {
    /// The runtime's id of the container.
    pub container_id: String,
    /// Path of its network namespace.
    pub netns: PathBuf,
    /// Name of the host end of its veth.
    pub host_interface: String,
    /// Index of the host end.
    pub host_ifindex: u32,
    /// MAC of the pod's end.
    pub mac: String,
    /// MTU of both ends in bytes.
    pub mtu: u32,
    /// Which life of its addresses this is.
    pub incarnation: u32,
}

/// A row of `sdnctl get nodes`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeRow {
    /// Name.
    pub name: String,
    /// metadata.uid
    pub uid: String,
    /// Zone.
    pub zone: Option<String>,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// Its host subnets.
    pub subnets: Vec<IpNet>,
    /// No new pods are placed on it.
    pub unschedulable: bool,
    /// Pods bound to it.
    pub pods: usize,
    /// The agent that answers serves this one.
    pub this: bool,
}

/// An error, in the body of an answer that is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// What was tried, on what, and the likely cause.
    pub error: String,
}

/// A line of the stream of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EventLine {
    /// So many were lost, because this client reads too slowly.
    Lost {
        /// How many.
        lost: u64,
    },
    /// One event.
    Event(DropEvent),
}

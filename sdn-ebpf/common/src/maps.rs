//! Every map: name, version of its layout, key, value, capacity, who writes and who reads it.
//!
//! The statics in `sdn-ebpf/src/maps.rs` take capacity and flags from here; a test compares the object's definitions with
//! this table, and the loader compares each pinned map with it before anything is loaded (decision 13 of the design).

use core::mem::size_of;

use crate::{
    Addr4, Addr6, Author, AuthorName, Counter, DropKey, Endpoint, Flow, FlowKey, Fragment, FragmentKey, Identity,
    Masquerade, MasqueradeKey, Node, NodeState, Peer, Rule, RuleKey,
    event::{Clock, EventBudget, FORWARDS_LEN, SCRATCH_LEN, Scratch, Verdict},
    reason::DROP_TOTALS_LEN,
};

/// Pods of one node.
pub const ENDPOINTS: u32 = 4_096;
/// Pods and node addresses of the whole cluster, per family.
pub const PEERS: u32 = 262_144;
/// Nodes of the cluster.
pub const NODES: u32 = 8_192;
/// Host subnets, per family.
pub const SUBNETS: u32 = 16_384;
/// Answered flows, per family.
pub const FLOWS: u32 = 131_072;
/// Flows not answered yet, per family.
pub const NEW_FLOWS: u32 = 16_384;
/// Datagrams whose fragments are under way, per family.
pub const FRAGMENTS: u32 = 4_096;
/// Masqueraded flows, per family.
pub const MASQUERADES: u32 = 65_536;
/// Entries of all policy sets of this node.
pub const POLICY_RULES: u32 = 262_144;
/// Blocks of addresses outside the cluster that policies ask about, per family.
pub const CIDRS: u32 = 65_536;
/// Rules of policies that have a number.
pub const AUTHORS: u32 = 65_536;
/// Combinations of reason, endpoint, direction, peer and author that drops are counted under.
pub const DROPS: u32 = 16_384;
/// Endpoints with a budget of events.
pub const EVENT_BUDGETS: u32 = 4_096;
/// Bytes of the ring buffer of events.
pub const EVENTS: u32 = 256 * 1024;

/// `BPF_F_NO_PREALLOC` (include/uapi/linux/bpf.h): memory is taken by entry. For large maps that are mostly empty.
pub const NO_PREALLOC: u32 = 1;

/// Kinds of maps, by their number in `enum bpf_map_type`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// `BPF_MAP_TYPE_HASH`
    Hash = 1,
    /// `BPF_MAP_TYPE_ARRAY`
    Array = 2,
    /// `BPF_MAP_TYPE_PERCPU_HASH`
    PerCpuHash = 5,
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`
    PerCpuArray = 6,
    /// `BPF_MAP_TYPE_LRU_HASH`
    LruHash = 9,
    /// `BPF_MAP_TYPE_LPM_TRIE`
    LpmTrie = 11,
    /// `BPF_MAP_TYPE_RINGBUF`
    RingBuf = 27,
}

/// Who writes or reads a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// The programs.
    Kernel,
    /// The agent.
    Agent,
    /// Both; the comment at the struct says how they keep out of each other's way.
    Both,
}

/// A map of the contract.
#[derive(Clone, Copy, Debug)]
pub struct MapSpec {
    /// Name of the static and, with the version, of the pin.
    pub name: &'static str,
    /// Version of the layout of key and value. A new one comes with a conversion from the one before.
    pub version: u32,
    /// Its type.
    pub kind: MapKind,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Entries (of a ring buffer: bytes).
    pub capacity: u32,
    /// `map_flags`
    pub flags: u32,
    /// Who writes it.
    pub writer: Party,
    /// Who reads it.
    pub reader: Party,
    /// Kept across restarts. What is not pinned belongs to the programs loaded together.
    pub pinned: bool,
}

/// Layout of the maps of flows.
pub const FLOWS_VERSION: u32 = if cfg!(feature = "layout-next") { 2 } else { 1 };

/// The maps.
pub const MAPS: &[MapSpec] = &[
    MapSpec::new::<u32, NodeState>("NODE_STATE", MapKind::Array, 1, Party::Agent, Party::Kernel),
    MapSpec::new::<u32, u64>("HEARTBEAT", MapKind::Array, 1, Party::Agent, Party::Kernel),
    MapSpec::new::<u32, Node>("NODES", MapKind::Array, NODES, Party::Agent, Party::Kernel),
    MapSpec::new::<Addr6, u32>("TUNNELS", MapKind::Hash, 2 * NODES, Party::Agent, Party::Kernel).sparse(),
    MapSpec::new::<[u8; 8], u32>("SUBNETS_V4", MapKind::LpmTrie, SUBNETS, Party::Agent, Party::Kernel).sparse(),
    MapSpec::new::<[u8; 20], u32>("SUBNETS_V6", MapKind::LpmTrie, SUBNETS, Party::Agent, Party::Kernel).sparse(),
    MapSpec::new::<Addr4, Endpoint>("ENDPOINTS_V4", MapKind::Hash, ENDPOINTS, Party::Agent, Party::Kernel),
    MapSpec::new::<Addr6, Endpoint>("ENDPOINTS_V6", MapKind::Hash, ENDPOINTS, Party::Agent, Party::Kernel),
    MapSpec::new::<Addr4, Peer>("PEERS_V4", MapKind::Hash, PEERS, Party::Agent, Party::Kernel).sparse(),
    MapSpec::new::<Addr6, Peer>("PEERS_V6", MapKind::Hash, PEERS, Party::Agent, Party::Kernel).sparse(),
    MapSpec::new::<FlowKey<Addr4>, Flow>("FLOWS_V4", MapKind::LruHash, FLOWS, Party::Both, Party::Both)
        .version(FLOWS_VERSION),
    MapSpec::new::<FlowKey<Addr6>, Flow>("FLOWS_V6", MapKind::LruHash, FLOWS, Party::Both, Party::Both)
        .version(FLOWS_VERSION),
    MapSpec::new::<FlowKey<Addr4>, Flow>("NEW_FLOWS_V4", MapKind::LruHash, NEW_FLOWS, Party::Both, Party::Both)
        .version(FLOWS_VERSION),
    MapSpec::new::<FlowKey<Addr6>, Flow>("NEW_FLOWS_V6", MapKind::LruHash, NEW_FLOWS, Party::Both, Party::Both)
        .version(FLOWS_VERSION),
    MapSpec::new::<FragmentKey<Addr4>, Fragment>(
        "FRAGMENTS_V4",
        MapKind::LruHash,
        FRAGMENTS,
        Party::Kernel,
        Party::Kernel,
    ),
    MapSpec::new::<FragmentKey<Addr6>, Fragment>(
        "FRAGMENTS_V6",
        MapKind::LruHash,
        FRAGMENTS,
        Party::Kernel,
        Party::Kernel,
    ),
    MapSpec::new::<MasqueradeKey<Addr4>, Masquerade<Addr4>>(
        "MASQUERADE_V4",
        MapKind::Hash,
        MASQUERADES,
        Party::Both,
        Party::Both,
    )
    .sparse(),
    MapSpec::new::<MasqueradeKey<Addr6>, Masquerade<Addr6>>(
        "MASQUERADE_V6",
        MapKind::Hash,
        MASQUERADES,
        Party::Both,
        Party::Both,
    )
    .sparse(),
    MapSpec::new::<RuleKey, Rule>("POLICY_RULES", MapKind::Hash, POLICY_RULES, Party::Agent, Party::Kernel).sparse(),
    MapSpec::new::<[u8; 8], Identity>("CIDRS_V4", MapKind::LpmTrie, CIDRS, Party::Agent, Party::Kernel).sparse(),
    MapSpec::new::<[u8; 20], Identity>("CIDRS_V6", MapKind::LpmTrie, CIDRS, Party::Agent, Party::Kernel).sparse(),
    MapSpec::new::<Author, AuthorName>("AUTHORS", MapKind::Hash, AUTHORS, Party::Agent, Party::Agent).sparse(),
    MapSpec::new::<DropKey, Counter>("DROPS", MapKind::PerCpuHash, DROPS, Party::Kernel, Party::Agent).sparse(),
    MapSpec::new::<u32, Counter>("DROP_TOTALS", MapKind::PerCpuArray, DROP_TOTALS_LEN, Party::Kernel, Party::Agent),
    // Version 1 ended with the entries of `uplink_in`.
    MapSpec::new::<u32, Counter>("FORWARDS", MapKind::PerCpuArray, FORWARDS_LEN, Party::Kernel, Party::Agent)
        .version(2),
    MapSpec::ring("EVENTS", EVENTS),
    MapSpec::new::<u32, EventBudget>("EVENT_BUDGETS", MapKind::LruHash, EVENT_BUDGETS, Party::Kernel, Party::Kernel)
        .transient(),
    MapSpec::new::<u32, Scratch>("SCRATCH", MapKind::PerCpuArray, SCRATCH_LEN, Party::Kernel, Party::Kernel)
        .transient(),
    MapSpec::new::<u32, Clock>("CLOCK", MapKind::Array, 1, Party::Kernel, Party::Agent).transient(),
    MapSpec::new::<u32, Verdict>("LAST_VERDICT", MapKind::PerCpuArray, 1, Party::Kernel, Party::Agent).transient(),
];

impl MapSpec {
    const fn new<K, V>(name: &'static str, kind: MapKind, capacity: u32, writer: Party, reader: Party) -> Self {
        let (key_size, value_size) = (size_of::<K>() as u32, size_of::<V>() as u32);
        Self { name, version: 1, kind, key_size, value_size, capacity, flags: 0, writer, reader, pinned: true }
    }

    const fn ring(name: &'static str, bytes: u32) -> Self {
        let (kind, writer, reader) = (MapKind::RingBuf, Party::Kernel, Party::Agent);
        Self {
            name,
            version: 1,
            kind,
            key_size: 0,
            value_size: 0,
            capacity: bytes,
            flags: 0,
            writer,
            reader,
            pinned: true,
        }
    }

    const fn sparse(self) -> Self {
        Self { flags: NO_PREALLOC, ..self }
    }

    const fn version(self, version: u32) -> Self {
        Self { version, ..self }
    }

    const fn transient(self) -> Self {
        Self { pinned: false, ..self }
    }

    /// The map with this name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        MAPS.iter().find(|spec| spec.name == name)
    }
}

//! The map statics. Capacity and flags come from the contract; who writes and reads each map stands there too.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf},
};
use sdn_common::{
    Addr4, Addr6, Author, AuthorName, Counter, DropKey, Endpoint, Flow, FlowKey, Fragment, FragmentKey, Identity,
    Masquerade, MasqueradeKey, Node, NodeState, Peer, Rule, RuleKey,
    event::{Clock, EventBudget, FORWARDS_LEN, SCRATCH_LEN, Scratch, Verdict},
    maps,
    reason::DROP_TOTALS_LEN,
};

#[map]
pub static NODE_STATE: Array<NodeState> = Array::with_max_entries(1, 0);
#[map]
pub static HEARTBEAT: Array<u64> = Array::with_max_entries(1, 0);
#[map]
pub static NODES: Array<Node> = Array::with_max_entries(maps::NODES, 0);
#[map]
pub static TUNNELS: HashMap<Addr6, u32> = HashMap::with_max_entries(2 * maps::NODES, maps::NO_PREALLOC);

#[map]
pub static SUBNETS_V4: LpmTrie<Addr4, u32> = LpmTrie::with_max_entries(maps::SUBNETS, maps::NO_PREALLOC);
#[map]
pub static SUBNETS_V6: LpmTrie<Addr6, u32> = LpmTrie::with_max_entries(maps::SUBNETS, maps::NO_PREALLOC);

#[map]
pub static ENDPOINTS_V4: HashMap<Addr4, Endpoint> = HashMap::with_max_entries(maps::ENDPOINTS, 0);
#[map]
pub static ENDPOINTS_V6: HashMap<Addr6, Endpoint> = HashMap::with_max_entries(maps::ENDPOINTS, 0);

#[map]
pub static PEERS_V4: HashMap<Addr4, Peer> = HashMap::with_max_entries(maps::PEERS, maps::NO_PREALLOC);
#[map]
pub static PEERS_V6: HashMap<Addr6, Peer> = HashMap::with_max_entries(maps::PEERS, maps::NO_PREALLOC);

#[map]
pub static FLOWS_V4: LruHashMap<FlowKey<Addr4>, Flow> = LruHashMap::with_max_entries(maps::FLOWS, 0);
#[map]
pub static FLOWS_V6: LruHashMap<FlowKey<Addr6>, Flow> = LruHashMap::with_max_entries(maps::FLOWS, 0);
#[map]
pub static NEW_FLOWS_V4: LruHashMap<FlowKey<Addr4>, Flow> = LruHashMap::with_max_entries(maps::NEW_FLOWS, 0);
#[map]
pub static NEW_FLOWS_V6: LruHashMap<FlowKey<Addr6>, Flow> = LruHashMap::with_max_entries(maps::NEW_FLOWS, 0);

#[map]
pub static FRAGMENTS_V4: LruHashMap<FragmentKey<Addr4>, Fragment> = LruHashMap::with_max_entries(maps::FRAGMENTS, 0);
#[map]
pub static FRAGMENTS_V6: LruHashMap<FragmentKey<Addr6>, Fragment> = LruHashMap::with_max_entries(maps::FRAGMENTS, 0);

#[map]
pub static MASQUERADE_V4: HashMap<MasqueradeKey<Addr4>, Masquerade<Addr4>> =
    HashMap::with_max_entries(maps::MASQUERADES, maps::NO_PREALLOC);
#[map]
pub static MASQUERADE_V6: HashMap<MasqueradeKey<Addr6>, Masquerade<Addr6>> =
    HashMap::with_max_entries(maps::MASQUERADES, maps::NO_PREALLOC);

#[map]
pub static POLICY_RULES: HashMap<RuleKey, Rule> = HashMap::with_max_entries(maps::POLICY_RULES, maps::NO_PREALLOC);
#[map]
pub static CIDRS_V4: LpmTrie<Addr4, Identity> = LpmTrie::with_max_entries(maps::CIDRS, maps::NO_PREALLOC);
#[map]
pub static CIDRS_V6: LpmTrie<Addr6, Identity> = LpmTrie::with_max_entries(maps::CIDRS, maps::NO_PREALLOC);
/// No program asks for it: it is loaded, pinned and compared with the others.
#[map]
pub static AUTHORS: HashMap<Author, AuthorName> = HashMap::with_max_entries(maps::AUTHORS, maps::NO_PREALLOC);

#[map]
pub static DROPS: PerCpuHashMap<DropKey, Counter> = PerCpuHashMap::with_max_entries(maps::DROPS, maps::NO_PREALLOC);
#[map]
pub static DROP_TOTALS: PerCpuArray<Counter> = PerCpuArray::with_max_entries(DROP_TOTALS_LEN, 0);
#[map]
pub static FORWARDS: PerCpuArray<Counter> = PerCpuArray::with_max_entries(FORWARDS_LEN, 0);
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(maps::EVENTS, 0);
#[map]
pub static EVENT_BUDGETS: LruHashMap<u32, EventBudget> = LruHashMap::with_max_entries(maps::EVENT_BUDGETS, 0);
#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(SCRATCH_LEN, 0);
#[map]
pub static CLOCK: Array<Clock> = Array::with_max_entries(1, 0);
#[map]
pub static LAST_VERDICT: PerCpuArray<Verdict> = PerCpuArray::with_max_entries(1, 0);

//! What apply writes, one entry at a time, and the kernel it writes to.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use sdn_common::{Addr4, Addr6, Author, AuthorName, Endpoint, Hook, Identity, Node, NodeState, Peer, Rule, RuleKey};

use crate::family::{Cidr, Family, unmapped};
use crate::kernel::bpf::{Dataplane, Device, PinDirectory, Table, TableError};
use crate::plan::policy::Authorship;

/// One entry to be written, or to be removed where it has no value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    State(NodeState),
    Node(u32, Option<Node>),
    Tunnel(Addr6, Option<u32>),
    SubnetV4(Cidr<Addr4>, Option<u32>),
    SubnetV6(Cidr<Addr6>, Option<u32>),
    EndpointV4(Addr4, Option<Endpoint>),
    EndpointV6(Addr6, Option<Endpoint>),
    PeerV4(Addr4, Option<Peer>),
    PeerV6(Addr6, Option<Peer>),
    Author(Author, Option<Arc<Authorship>>),
    Rule(RuleKey, Option<Rule>),
    BlockV4(Cidr<Addr4>, Option<Identity>),
    BlockV6(Cidr<Addr6>, Option<Identity>),
    Link((Hook, u32), Option<Device>),
}

/// What takes the changes. The real one is [`Tables`]; tests have one that fails on demand.
pub(super) trait Kernel {
    /// Makes one change. An entry that is to go may be gone.
    fn write(&mut self, change: &Change) -> Result<(), Refused>;

    /// Returns when no program runs any more that was running before.
    fn grace_period(&mut self) -> impl Future<Output = Result<(), Refused>> + Send + 'static;
}

/// The kernel did not take a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) cause: String,
    /// The map has no room: nothing but removing other entries helps.
    pub(super) full: bool,
}

/// The maps that apply writes.
#[derive(Debug)]
pub(super) struct Tables {
    dataplane: Dataplane,
    pub(super) state: Table<u32, NodeState>,
    pub(super) nodes: Table<u32, Node>,
    pub(super) tunnels: Table<Addr6, u32>,
    pub(super) authors: Table<Author, AuthorName>,
    pub(super) rules: Table<RuleKey, Rule>,
    pub(super) v4: FamilyTables<Addr4>,
    pub(super) v6: FamilyTables<Addr6>,
}

/// The maps of one family.
#[derive(Debug)]
pub(super) struct FamilyTables<A> {
    pub(super) subnets: Table<Cidr<A>, u32>,
    pub(super) endpoints: Table<A, Endpoint>,
    pub(super) peers: Table<A, Peer>,
    pub(super) blocks: Table<Cidr<A>, Identity>,
}

// === impl Tables ===

impl Tables {
    pub(super) fn open(dataplane: Dataplane) -> Result<Self, TableError> {
        let pins = dataplane.pins();
        Ok(Self {
            state: Table::open(pins, "NODE_STATE")?,
            nodes: Table::open(pins, "NODES")?,
            tunnels: Table::open(pins, "TUNNELS")?,
            authors: Table::open(pins, "AUTHORS")?,
            rules: Table::open(pins, "POLICY_RULES")?,
            v4: FamilyTables {
                subnets: Table::open(pins, "SUBNETS_V4")?,
                endpoints: Table::open(pins, "ENDPOINTS_V4")?,
                peers: Table::open(pins, "PEERS_V4")?,
                blocks: Table::open(pins, "CIDRS_V4")?,
            },
            v6: FamilyTables {
                subnets: Table::open(pins, "SUBNETS_V6")?,
                endpoints: Table::open(pins, "ENDPOINTS_V6")?,
                peers: Table::open(pins, "PEERS_V6")?,
                blocks: Table::open(pins, "CIDRS_V6")?,
            },
            dataplane,
        })
    }

    pub(super) fn dataplane(&self) -> &Dataplane {
        &self.dataplane
    }
}

impl Kernel for Tables {
    fn write(&mut self, change: &Change) -> Result<(), Refused> {
        match change {
            Change::State(state) => self.state.insert(&0, state)?,
            // An array's entries cannot be removed: an unused one is zero.
            Change::Node(index, node) => self.nodes.insert(index, &node.unwrap_or_default())?,
            Change::Tunnel(from, index) => put(&self.tunnels, from, index.as_ref())?,
            Change::SubnetV4(subnet, index) => put(&self.v4.subnets, subnet, index.as_ref())?,
            Change::SubnetV6(subnet, index) => put(&self.v6.subnets, subnet, index.as_ref())?,
            Change::EndpointV4(address, endpoint) => put(&self.v4.endpoints, address, endpoint.as_ref())?,
            Change::EndpointV6(address, endpoint) => put(&self.v6.endpoints, address, endpoint.as_ref())?,
            Change::PeerV4(address, peer) => put(&self.v4.peers, address, peer.as_ref())?,
            Change::PeerV6(address, peer) => put(&self.v6.peers, address, peer.as_ref())?,
            Change::Author(author, name) => {
                put(&self.authors, author, name.as_deref().map(Authorship::to_kernel).as_ref())?;
            }
            Change::Rule(key, rule) => put(&self.rules, key, rule.as_ref())?,
            Change::BlockV4(block, identity) => put(&self.v4.blocks, block, identity.as_ref())?,
            Change::BlockV6(block, identity) => put(&self.v6.blocks, block, identity.as_ref())?,
            Change::Link((hook, _), Some(device)) => self.dataplane.attach(*hook, device).map_err(other)?,
            Change::Link((hook, ifindex), None) => self.dataplane.detach(*hook, *ifindex).map_err(other)?,
        }
        Ok(())
    }

    fn grace_period(&mut self) -> impl Future<Output = Result<(), Refused>> + Send + 'static {
        // Tens of milliseconds, in the kernel: not on the thread that everything else runs on.
        let waiting = tokio::task::spawn_blocking(crate::kernel::bpf::raw::wait_grace_period);
        async move {
            let waited = waiting.await.map_err(|error| other(error.to_string()))?;
            waited.map_err(|error| other(format!("membarrier: {error}")))
        }
    }
}

fn put<K: crate::kernel::bpf::table::Key, V: aya::Pod>(
    table: &Table<K, V>,
    key: &K,
    value: Option<&V>,
) -> Result<(), TableError> {
    match value {
        Some(value) => table.insert(key, value),
        None => table.remove(key).map(drop),
    }
}

impl From<TableError> for Refused {
    fn from(error: TableError) -> Self {
        Self { full: error.is_full(), cause: error.to_string() }
    }
}

fn other(error: impl fmt::Display) -> Refused {
    Refused { cause: error.to_string(), full: false }
}

// === impl Change ===

/// What each family's changes are called.
pub(super) trait Changes: Family {
    fn subnet(subnet: Cidr<Self>, index: Option<u32>) -> Change;
    fn endpoint(address: Self, endpoint: Option<Endpoint>) -> Change;
    fn peer(address: Self, peer: Option<Peer>) -> Change;
    fn block(block: Cidr<Self>, identity: Option<Identity>) -> Change;
}

impl Changes for Addr4 {
    fn subnet(subnet: Cidr<Self>, index: Option<u32>) -> Change {
        Change::SubnetV4(subnet, index)
    }

    fn endpoint(address: Self, endpoint: Option<Endpoint>) -> Change {
        Change::EndpointV4(address, endpoint)
    }

    fn peer(address: Self, peer: Option<Peer>) -> Change {
        Change::PeerV4(address, peer)
    }

    fn block(block: Cidr<Self>, identity: Option<Identity>) -> Change {
        Change::BlockV4(block, identity)
    }
}

impl Changes for Addr6 {
    fn subnet(subnet: Cidr<Self>, index: Option<u32>) -> Change {
        Change::SubnetV6(subnet, index)
    }

    fn endpoint(address: Self, endpoint: Option<Endpoint>) -> Change {
        Change::EndpointV6(address, endpoint)
    }

    fn peer(address: Self, peer: Option<Peer>) -> Change {
        Change::PeerV6(address, peer)
    }

    fn block(block: Cidr<Self>, identity: Option<Identity>) -> Change {
        Change::BlockV6(block, identity)
    }
}

/// What is changed, for people: `peer 10.128.2.9`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(_) => write!(f, "settings of this node"),
            Self::Node(index, _) => write!(f, "node number {index}"),
            Self::Tunnel(from, _) => write!(f, "tunnel from {}", unmapped(*from)),
            Self::SubnetV4(subnet, _) => write!(f, "host subnet {subnet}"),
            Self::SubnetV6(subnet, _) => write!(f, "host subnet {subnet}"),
            Self::EndpointV4(address, _) => write!(f, "endpoint {}", address.ip()),
            Self::EndpointV6(address, _) => write!(f, "endpoint {}", address.ip()),
            Self::PeerV4(address, _) => write!(f, "peer {}", address.ip()),
            Self::PeerV6(address, _) => write!(f, "peer {}", address.ip()),
            Self::Author(_, Some(name)) => write!(f, "author {name}"),
            Self::Author(author, None) => write!(f, "author {}", author.0),
            Self::Rule(key, _) => write!(f, "rule of {}", crate::kernel::bpf::table::Key::describe(key)),
            Self::BlockV4(block, _) => write!(f, "block {block}"),
            Self::BlockV6(block, _) => write!(f, "block {block}"),
            Self::Link((hook, _), Some(device)) => write!(f, "program {} on {}", hook.program(), device.name),
            Self::Link((hook, ifindex), None) => write!(f, "program {} on interface {ifindex}", hook.program()),
        }
    }
}

/// Whether the kernel still has what attach left for a pod's address.
pub(super) fn endpoint_of<A: Family + crate::kernel::bpf::table::Key>(
    pins: &PinDirectory,
    address: A,
) -> Result<Option<Endpoint>, TableError> {
    Table::<A, Endpoint>::open(pins, &format!("ENDPOINTS_{}", A::SUFFIX))?.lookup(&address)
}

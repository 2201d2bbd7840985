//! Wanted minus actual: one pass, in the order that keeps every reference in the kernel true.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;
use sdn_common::{
    Addr4, Addr6, Author, Endpoint, Flow, FlowKey, Hook, Identity, Node, NodeState, Peer, Rule, RuleKey, SetId,
};
use tokio::time::Instant;

use super::Failing;
use super::column::{Column, Pass, Retry};
use super::kernel::{Change, Changes, FamilyTables, Kernel, Tables};
use crate::family::{Cidr, Family};
use crate::kernel::bpf::raw::Cursor;
use crate::kernel::bpf::table::Key;
use crate::kernel::bpf::{Device, Table, TableError};
use crate::plan::policy::{Authorship, Holder, Seed};
use crate::plan::{Addresses, Indices, Plan, Wanted};

/// What the kernel holds, as far as apply wrote it or found it.
#[derive(Debug)]
pub(super) struct Actual {
    state: State,
    nodes: Column<u32, Node>,
    tunnels: Column<Addr6, u32>,
    v4: FamilyActual<Addr4>,
    v6: FamilyActual<Addr6>,
    pub(super) links: Column<(Hook, u32), Device>,
    authors: Column<Author, Arc<Authorship>>,
    rules: Column<RuleKey, Rule>,
    /// Entries of sets that no endpoint has any more, and of identities that no address has: running programs may.
    left: Vec<RuleKey>,
    /// Those of them that wait for the grace period that is running.
    doomed: Vec<RuleKey>,
    /// What the flows remember of an earlier agent's numbers: the greatest.
    remembered: Remembered,
    /// Numbers of nodes cannot be freed: the kernel does not say when old programs have ended.
    grace: Option<Retry<()>>,
}

/// One family's entries.
#[derive(Debug)]
pub(super) struct FamilyActual<A: Ord> {
    subnets: Column<Cidr<A>, u32>,
    pub(super) endpoints: Column<A, Endpoint>,
    peers: Column<A, Peer>,
    blocks: Column<Cidr<A>, Identity>,
}

/// The greatest numbers that flows were found to have: as good as any in the maps that say what they mean.
#[derive(Clone, Copy, Debug, Default)]
struct Remembered {
    set: SetId,
    identity: Identity,
    author: Author,
}

/// The node's settings, which hold the epoch.
#[derive(Debug)]
struct State {
    /// As the kernel has them; `None` where they were never written.
    actual: Option<NodeState>,
    /// The epoch has to move although the kernel refused to when it was asked.
    owed: bool,
    failing: Option<Retry<NodeState>>,
}

/// How many entries of each kind the kernel holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// Nodes with a tunnel address, this one included.
    pub nodes: usize,
    /// Addresses that tunnels come from.
    pub tunnels: usize,
    /// Host subnets of both families.
    pub subnets: [usize; 2],
    /// Addresses of this node's pods, of both families.
    pub endpoints: [usize; 2],
    /// Addresses of everybody else, of both families.
    pub peers: [usize; 2],
    /// Entries of policy sets.
    pub rules: usize,
    /// Rules of policies that have a name.
    pub authors: usize,
    /// Blocks of addresses outside that policies ask about, of both families.
    pub blocks: [usize; 2],
}

// === impl Actual ===

impl Actual {
    /// Reads back what the maps hold, so that a start writes only what differs.
    pub(super) fn read(tables: &Tables) -> Result<Self, TableError> {
        let nodes = tables.nodes.entries()?.into_iter().filter(|(_, node)| *node != Node::default());
        let attached = tables.dataplane().attachments().unwrap_or_default();
        // What links are there is known by hook and index; the name is what it is wanted by.
        let device = |ifindex| Device { name: String::new(), ifindex };
        let links = attached.into_iter().map(|(hook, ifindex)| ((hook, ifindex), device(ifindex)));
        let authors = tables.authors.entries()?.into_iter();
        let authors = authors.filter_map(|(author, name)| Some((author, Arc::new(Authorship::from_kernel(&name)?))));
        let state = tables.state.lookup(&0)?.filter(|state| *state != NodeState::default());
        Ok(Self {
            state: State { actual: state, owed: false, failing: None },
            nodes: Column::new(nodes, Change::Node),
            tunnels: Column::new(tables.tunnels.entries()?, Change::Tunnel),
            v4: FamilyActual::read(&tables.v4)?,
            v6: FamilyActual::read(&tables.v6)?,
            links: Column::apart(links, Change::Link),
            authors: Column::apart(authors, Change::Author),
            rules: Column::apart(tables.rules.entries()?, Change::Rule),
            left: Vec::new(),
            doomed: Vec::new(),
            remembered: Remembered::read(tables)?,
            grace: None,
        })
    }

    /// Nothing, as on a node that was just started.
    #[cfg(test)]
    pub(super) fn empty() -> Self {
        Self {
            state: State { actual: None, owed: false, failing: None },
            nodes: Column::new([], Change::Node),
            tunnels: Column::new([], Change::Tunnel),
            v4: FamilyActual::empty(),
            v6: FamilyActual::empty(),
            links: Column::apart([], Change::Link),
            authors: Column::apart([], Change::Author),
            rules: Column::apart([], Change::Rule),
            left: Vec::new(),
            doomed: Vec::new(),
            remembered: Remembered::default(),
            grace: None,
        }
    }

    /// The numbers of nodes that the kernel's maps use.
    pub(super) fn indices(&self) -> Indices {
        let tunnels = self.tunnels.actual().values().copied();
        let v4 = self.v4.indices();
        let v6 = self.v6.indices();
        let referred: BTreeSet<u32> = tunnels.chain(v4).chain(v6).collect();
        Indices::seeded(self.nodes.actual().iter().map(|(index, node)| (*index, *node)), referred)
    }

    /// The numbers of policies that the kernel's maps use.
    pub(super) fn seed(&self) -> Seed {
        let rules = self.rules.actual();
        let sets = rules.keys().map(|key| key.set).chain(self.v4.sets()).chain(self.v6.sets());
        let set = sets.fold(self.remembered.set, SetId::max);
        let holders: BTreeMap<Holder, Identity> = self.v4.holders().chain(self.v6.holders()).collect();
        let identities = rules.keys().map(|key| key.peer).chain(holders.values().copied());
        let identity = identities.fold(self.remembered.identity, Identity::max);
        let author = self.authors.actual().keys().copied().fold(self.remembered.author, Author::max);
        let authors = self.authors.actual().iter();
        Seed {
            next_set: SetId(set.0.saturating_add(1)),
            next_identity: Identity(identity.0.saturating_add(1)),
            next_author: Author(author.0.saturating_add(1)),
            authors: authors.map(|(author, name)| (*author, Authorship::clone(name))).collect(),
            holders,
        }
    }

    /// Whether the programs have their settings, without which they drop everything.
    pub(super) fn has_state(&self) -> bool {
        self.state.actual.is_some()
    }

    /// The epoch that the programs see.
    pub(super) fn epoch(&self) -> u32 {
        self.state.actual.map_or(0, |state| state.epoch)
    }

    pub(super) fn entries(&self) -> Entries {
        Entries {
            nodes: self.nodes.actual().len(),
            tunnels: self.tunnels.actual().len(),
            subnets: [self.v4.subnets.actual().len(), self.v6.subnets.actual().len()],
            endpoints: [self.v4.endpoints.actual().len(), self.v6.endpoints.actual().len()],
            peers: [self.v4.peers.actual().len(), self.v6.peers.actual().len()],
            rules: self.rules.actual().len(),
            authors: self.authors.actual().len(),
            blocks: [self.v4.blocks.actual().len(), self.v6.blocks.actual().len()],
        }
    }

    /// The endpoint that the kernel holds for an address.
    pub(super) fn endpoint(&self, address: std::net::IpAddr) -> Option<Endpoint> {
        let v4 = Addr4::from_ip(address).and_then(|address| self.v4.endpoints.actual().get(&address));
        v4.or_else(|| self.v6.endpoints.actual().get(&Addr6::from_ip(address)?)).copied()
    }

    /// Why the kernel refused the endpoint of an address.
    pub(super) fn endpoint_failure(&self, address: std::net::IpAddr) -> Option<Failing> {
        let v4 = Addr4::from_ip(address).and_then(|address| self.v4.endpoints.failure(&address));
        v4.or_else(|| self.v6.endpoints.failure(&Addr6::from_ip(address)?))
    }

    /// All that the kernel refused.
    pub(super) fn failures(&self) -> Vec<Failing> {
        let state = self.state.failing.iter().map(Retry::failing);
        let grace = self.grace.iter().map(Retry::failing);
        state
            .chain(self.nodes.failures())
            .chain(self.tunnels.failures())
            .chain(self.v4.failures())
            .chain(self.v6.failures())
            .chain(self.links.failures())
            .chain(self.authors.failures())
            .chain(self.rules.failures())
            .chain(grace)
            .collect()
    }

    /// When something refused is to be tried again.
    pub(super) fn due(&self) -> Option<Instant> {
        let columns = [self.nodes.due(), self.tunnels.due(), self.v4.due(), self.v6.due(), self.links.due()];
        let columns = columns.into_iter().chain([self.authors.due(), self.rules.due()]);
        let single = [self.state.failing.as_ref().map(Retry::due), self.grace.as_ref().map(Retry::due)];
        columns.chain(single).flatten().min()
    }

    // === The pass ===

    /// Makes the kernel hold what the plan wants, by way of its steps. What the kernel refuses stays to be tried again and stops
    /// nothing else. Returns how many entries were written.
    pub(super) async fn converge(&mut self, plan: &mut Plan, kernel: &mut impl Kernel, now: Instant) -> u64 {
        let mut pass = Pass::new(now, plan.is_complete());
        for step in plan.take_steps() {
            if pass.complete {
                self.write_all(&step, kernel, &mut pass).await;
            }
        }
        let wanted = self.respecting_earlier(plan.wanted(), &pass);
        self.write_all(&wanted, kernel, &mut pass).await;
        // No program on a device before it has its settings: without them it drops everything.
        if self.has_state() {
            self.links.put(&wanted.links, kernel, &mut pass).await;
        }
        self.v4.endpoints.remove(&wanted.v4.endpoints, kernel, &mut pass).await;
        self.v6.endpoints.remove(&wanted.v6.endpoints, kernel, &mut pass).await;
        if pass.complete {
            self.v4.remove(&wanted.v4, &wanted.policies.cidrs_v4, kernel, &mut pass).await;
            self.v6.remove(&wanted.v6, &wanted.policies.cidrs_v6, kernel, &mut pass).await;
            self.tunnels.remove(&wanted.tunnels, kernel, &mut pass).await;
        }
        self.state.write(None, kernel, &mut pass);
        if self.has_state() {
            self.links.remove(&wanted.links, kernel, &mut pass).await;
        }
        if pass.complete {
            self.left = self.rules.leave(&wanted.policies.rules);
            self.authors.remove(&wanted.policies.authors, kernel, &mut pass).await;
            self.release_nodes(plan, kernel, &mut pass).await;
        }
        pass.writes
    }

    /// What is referred to, then who is who, then what refers to sets; and flows look again.
    async fn write_all(&mut self, wanted: &Wanted, kernel: &mut impl Kernel, pass: &mut Pass) {
        self.authors.add(&wanted.policies.authors, kernel, pass).await;
        self.rules.add(&wanted.policies.rules, kernel, pass).await;
        self.write_cluster(wanted, kernel, pass).await;
        self.v4.endpoints.put(&wanted.v4.endpoints, kernel, pass).await;
        self.v6.endpoints.put(&wanted.v6.endpoints, kernel, pass).await;
        self.state.write(wanted.state, kernel, pass);
    }

    /// What is wanted, but that pods keep what filters them until the policies are known. New ones have what is known so far.
    fn respecting_earlier(&self, wanted: &Wanted, pass: &Pass) -> Wanted {
        let mut wanted = wanted.clone();
        if !pass.complete {
            self.v4.keep_filters(&mut wanted.v4.endpoints);
            self.v6.keep_filters(&mut wanted.v6.endpoints);
        }
        wanted
    }

    /// Begins to collect what is left of sets and identities that nothing refers to any more: whether a grace period is to be
    /// waited for.
    pub(super) fn begin_collecting(&mut self) -> bool {
        let referring = self.v4.filters_are_clean() && self.v6.filters_are_clean() && !self.state.owed;
        if self.left.is_empty() || !self.doomed.is_empty() || !referring {
            return false;
        }
        self.doomed = std::mem::take(&mut self.left);
        true
    }

    /// Ends that: removes what no running program can hold any more. Returns how many entries were removed.
    pub(super) async fn collect(&mut self, plan: &Plan, kernel: &mut impl Kernel, now: Instant) -> u64 {
        let mut pass = Pass::new(now, plan.is_complete());
        let doomed = std::mem::take(&mut self.doomed);
        let wanted = plan.wanted().policies.rules.clone();
        self.rules.remove_keys(&doomed, &wanted, kernel, &mut pass).await;
        self.left = self.rules.leave(&wanted);
        pass.writes
    }

    /// The grace period did not come: what was to be removed stays, and is tried with the next pass.
    pub(super) fn spare(&mut self) {
        self.doomed.clear();
    }

    /// What the cluster says, nodes before what refers to them.
    async fn write_cluster(&mut self, wanted: &Wanted, kernel: &mut impl Kernel, pass: &mut Pass) {
        if pass.complete {
            self.nodes.put(&wanted.nodes, kernel, pass).await;
            self.tunnels.put(&wanted.tunnels, kernel, pass).await;
            self.v4.put(&wanted.v4, &wanted.policies.cidrs_v4, kernel, pass).await;
            self.v6.put(&wanted.v6, &wanted.policies.cidrs_v6, kernel, pass).await;
        } else {
            self.nodes.add(&wanted.nodes, kernel, pass).await;
            self.tunnels.add(&wanted.tunnels, kernel, pass).await;
            self.v4.add(&wanted.v4, &wanted.policies.cidrs_v4, kernel, pass).await;
            self.v6.add(&wanted.v6, &wanted.policies.cidrs_v6, kernel, pass).await;
        }
    }

    /// Nodes that are gone: nothing refers to them any more, and flows look again since the epoch moved. When no program runs
    /// that was running before that, their numbers are free.
    async fn release_nodes(&mut self, plan: &mut Plan, kernel: &mut impl Kernel, pass: &mut Pass) {
        let wanted = &plan.wanted().nodes.clone();
        let reserved: Vec<u32> = plan.reserved().collect();
        let unused = self.nodes.actual().keys().any(|index| !wanted.contains_key(index));
        let referring = self.tunnels.is_clean() && self.v4.is_clean() && self.v6.is_clean() && !self.state.owed;
        if (reserved.is_empty() && !unused) || !referring {
            return;
        }
        if self.grace.as_ref().is_some_and(|retry| retry.due() > pass.now) {
            return;
        }
        if let Err(refused) = kernel.grace_period().await {
            let attempts = self.grace.as_ref().map_or(0, Retry::attempts);
            let change = Change::Node(reserved.first().copied().unwrap_or_default(), None);
            self.grace = Some(Retry::new(None, &change, refused, attempts + 1, pass.now));
            return;
        }
        self.grace = None;
        self.nodes.remove(wanted, kernel, pass).await;
        for index in reserved.into_iter().filter(|index| !self.nodes.actual().contains_key(index)) {
            plan.release(index);
        }
    }
}

/// Flows look at their pods' sets with each packet; of what else an endpoint says they keep a copy.
fn alters_flows(old: Option<&Endpoint>, new: Option<&Endpoint>) -> bool {
    let kept =
        |endpoint: &Endpoint| (endpoint.ifindex, endpoint.incarnation, endpoint.identity, endpoint.flags, endpoint.mac);
    old.is_some() && old.map(kept) != new.map(kept)
}

// === impl Remembered ===

impl Remembered {
    /// A set or identity that is in no other map may still be in a flow, and must not be given again.
    fn read(tables: &Tables) -> Result<Self, TableError> {
        let mut found = Self::default();
        let pins = tables.dataplane().pins();
        for name in ["FLOWS_V4", "NEW_FLOWS_V4"] {
            found.look_through(&Table::<FlowKey<Addr4>, Flow>::open(pins, name)?)?;
        }
        for name in ["FLOWS_V6", "NEW_FLOWS_V6"] {
            found.look_through(&Table::<FlowKey<Addr6>, Flow>::open(pins, name)?)?;
        }
        Ok(found)
    }

    fn look_through<K: Key>(&mut self, flows: &Table<K, Flow>) -> Result<(), TableError> {
        let mut cursor = Cursor::default();
        while !cursor.ended() {
            for (_, flow) in flows.next_chunk(&mut cursor)? {
                self.set = flow.sets.into_iter().fold(self.set, SetId::max);
                self.author = flow.authors.into_iter().fold(self.author, Author::max);
                self.identity = flow.sides.into_iter().fold(self.identity, |most, side| most.max(side.identity));
            }
        }
        Ok(())
    }
}

// === impl FamilyActual ===

impl<A: Changes> FamilyActual<A> {
    fn read(tables: &FamilyTables<A>) -> Result<Self, TableError>
    where
        A: Key,
        Cidr<A>: Key,
    {
        Ok(Self {
            subnets: Column::new(tables.subnets.entries()?, A::subnet),
            endpoints: Column::altering(tables.endpoints.entries()?, A::endpoint, alters_flows),
            peers: Column::new(tables.peers.entries()?, A::peer),
            blocks: Column::altering(tables.blocks.entries()?, A::block, |_, _| true),
        })
    }

    #[cfg(test)]
    fn empty() -> Self {
        Self {
            subnets: Column::new([], A::subnet),
            endpoints: Column::altering([], A::endpoint, alters_flows),
            peers: Column::new([], A::peer),
            blocks: Column::altering([], A::block, |_, _| true),
        }
    }

    fn indices(&self) -> impl Iterator<Item = u32> {
        self.subnets.actual().values().copied().chain(self.peers.actual().values().map(|peer| peer.node))
    }

    async fn add(
        &mut self,
        wanted: &Addresses<A>,
        blocks: &OrdMap<Cidr<A>, Identity>,
        kernel: &mut impl Kernel,
        pass: &mut Pass,
    ) {
        self.blocks.add(blocks, kernel, pass).await;
        self.subnets.add(&wanted.subnets, kernel, pass).await;
        self.peers.add(&wanted.peers, kernel, pass).await;
    }

    async fn put(
        &mut self,
        wanted: &Addresses<A>,
        blocks: &OrdMap<Cidr<A>, Identity>,
        kernel: &mut impl Kernel,
        pass: &mut Pass,
    ) {
        self.blocks.put(blocks, kernel, pass).await;
        self.subnets.put(&wanted.subnets, kernel, pass).await;
        self.peers.put(&wanted.peers, kernel, pass).await;
    }

    async fn remove(
        &mut self,
        wanted: &Addresses<A>,
        blocks: &OrdMap<Cidr<A>, Identity>,
        kernel: &mut impl Kernel,
        pass: &mut Pass,
    ) {
        self.blocks.remove(blocks, kernel, pass).await;
        self.peers.remove(&wanted.peers, kernel, pass).await;
        self.subnets.remove(&wanted.subnets, kernel, pass).await;
    }

    fn is_clean(&self) -> bool {
        self.subnets.is_clean() && self.peers.is_clean()
    }

    /// Whether all that refers to sets and identities says what it should.
    fn filters_are_clean(&self) -> bool {
        self.endpoints.is_clean() && self.peers.is_clean() && self.blocks.is_clean()
    }

    fn failures(&self) -> impl Iterator<Item = Failing> {
        let blocks = self.blocks.failures();
        self.subnets.failures().chain(self.endpoints.failures()).chain(self.peers.failures()).chain(blocks)
    }

    fn due(&self) -> Option<Instant> {
        [self.subnets.due(), self.endpoints.due(), self.peers.due(), self.blocks.due()].into_iter().flatten().min()
    }

    /// The sets that endpoints have.
    fn sets(&self) -> impl Iterator<Item = SetId> {
        self.endpoints.actual().values().flat_map(|endpoint| [endpoint.egress.id, endpoint.ingress.id])
    }

    /// Who has which identity.
    fn holders(&self) -> impl Iterator<Item = (Holder, Identity)> {
        let endpoints = self.endpoints.actual().iter().map(|(address, endpoint)| (address.ip(), endpoint.identity));
        let peers = self.peers.actual().iter().map(|(address, peer)| (address.ip(), peer.identity));
        let addresses = endpoints.chain(peers).map(|(address, identity)| (Holder::Address(address), identity));
        let blocks = self.blocks.actual().iter();
        addresses.chain(blocks.filter_map(|(block, identity)| Some((Holder::Block(block.net()?), *identity))))
    }

    /// Leaves pods that are there with the identity and the sets that they have.
    fn keep_filters(&self, wanted: &mut OrdMap<A, Endpoint>) {
        for (address, held) in self.endpoints.actual() {
            if let Some(endpoint) = wanted.get(address)
                && (endpoint.ifindex, endpoint.incarnation) == (held.ifindex, held.incarnation)
            {
                let Endpoint { identity, egress, ingress, .. } = *held;
                let kept = Endpoint { identity, egress, ingress, ..*endpoint };
                wanted.insert(*address, kept);
            }
        }
    }
}

// === impl State ===

impl State {
    /// Writes the settings if they differ, and moves the epoch if something that was there before has changed. `None` leaves the
    /// settings as they are.
    fn write(&mut self, wanted: Option<NodeState>, kernel: &mut impl Kernel, pass: &mut Pass) {
        self.owed |= std::mem::take(&mut pass.altered);
        let same = |wanted: NodeState| self.actual.is_some_and(|actual| NodeState { epoch: 0, ..actual } == wanted);
        let Some(next) = wanted.filter(|wanted| !same(*wanted)).or(self.actual.filter(|_| self.owed)) else {
            // Without settings no program has looked at anything yet.
            self.owed = false;
            if wanted.is_some() {
                // What was refused is not wished for any more.
                self.failing = None;
            }
            return;
        };
        let next = NodeState { epoch: self.actual.map_or(0, |actual| actual.epoch).wrapping_add(1), ..next };
        if self.failing.as_ref().is_some_and(|retry| retry.due() > pass.now && retry.attempts() > 0) {
            return;
        }
        let change = Change::State(next);
        pass.writes += 1;
        match kernel.write(&change) {
            Ok(()) => {
                self.actual = Some(next);
                self.owed = false;
                self.failing = None;
            }
            Err(refused) => {
                let attempts = self.failing.as_ref().map_or(0, Retry::attempts);
                self.failing = Some(Retry::new(Some(next), &change, refused, attempts + 1, pass.now));
            }
        }
    }
}

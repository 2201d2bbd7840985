//! NetworkPolicy: who is who ([`facts`](self::facts)), and what may be, as tables that a packet only looks up.
//!
//! A peer's *identity* stands for everything that a policy can ask about it; equal answers share a number. A *set* is a function
//! from (identity, protocol, port) to verdict and author; pods share one where their policies and named ports agree. Both are kept
//! up as the cluster changes, at a cost that follows the change.
//!
//! A change of policies and a change of who is who never reach the kernel in one step, because an old set knows nothing of a new
//! identity, nor can an old identity answer what a new set asks. The order is:
//!
//! 1. what is newly asked, and what is new about pods: identities move, under the sets that are there, each of which learns first
//!    what it says of the new ones;
//! 2. sets: policies and the labels of namespaces; and endpoints of new pods;
//! 3. what is asked no more: identities that differed in nothing else become one.

mod authors;
mod blocks;
mod compile;
mod condition;
mod definition;
mod evaluate;
mod facts;
mod identities;
mod ports;
mod sets;
mod subjects;
mod terms;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use imbl::OrdMap;
use ipnet::IpNet;
use sdn_cluster::Snapshot;
use sdn_cluster::model::{NetworkPolicy, Pod, PodKey, PolicyKey};
use sdn_cluster::snapshot::changes;
use sdn_cni::Attachment;
use sdn_common::{Addr4, Addr6, Author, Identity, Rule, RuleKey, SetId, SetRef};

use crate::cni::LocalPod;
use crate::family::{Cidr, Family};

pub use authors::Authorship;
pub use condition::{Condition, Limits};
pub use evaluate::{Answer, Evaluator, Packet};
pub(crate) use facts::{Who, Words};
pub(crate) use identities::Holder;
pub use sets::TooLarge;

use authors::Authors;
use definition::Workshop;
use facts::{Facts, Vocabulary};
use identities::Identities;
use sets::{Sets, Slot};
use subjects::Subjects;
use terms::{Namespaces, Terms};

/// Numbers that are taken, as an earlier agent left them in the kernel.
#[derive(Clone, Debug, Default)]
pub struct Seed {
    /// Greater than every number of a set that was ever given.
    pub next_set: SetId,
    /// Likewise of identities.
    pub next_identity: Identity,
    /// Likewise of authors.
    pub next_author: Author,
    /// The authors that have names.
    pub authors: Vec<(Author, Authorship)>,
    /// The identities of addresses, and of blocks of addresses outside.
    pub(crate) holders: BTreeMap<Holder, Identity>,
}

/// What the kernel is to hold of policies, besides what addresses refer to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantedPolicies {
    /// Entries of sets.
    pub rules: OrdMap<RuleKey, Rule>,
    /// Names of authors.
    pub authors: OrdMap<Author, Arc<Authorship>>,
    /// Blocks of IPv4 addresses outside the cluster.
    pub cidrs_v4: OrdMap<Cidr<Addr4>, Identity>,
    /// Blocks of IPv6 addresses outside the cluster.
    pub cidrs_v6: OrdMap<Cidr<Addr6>, Identity>,
}

/// Pods of this node, by their leases.
type Locals = OrdMap<Attachment, Arc<LocalPod>>;

/// The policies of the cluster as this node needs them.
#[derive(Clone, Debug)]
pub(super) struct Policies {
    vocabulary: Vocabulary,
    identities: Identities,
    terms: Terms,
    authors: Authors,
    sets: Sets,
    subjects: Subjects,
    /// The namespaces that the sets were made for.
    namespaces: Namespaces,
    /// Policies whose words are still kept.
    leaving: Vec<Arc<NetworkPolicy>>,
    cidrs_v4: OrdMap<Cidr<Addr4>, Identity>,
    cidrs_v6: OrdMap<Cidr<Addr6>, Identity>,
    limits: Limits,
}

// === impl Policies ===

impl Policies {
    pub(super) fn new(seed: Seed, limits: Limits) -> Self {
        let mut policies = Self {
            vocabulary: Vocabulary::new(limits.blocks),
            identities: Identities::new(seed.next_identity, limits.identities, seed.holders),
            terms: Terms::default(),
            authors: Authors::new(seed.next_author, limits.authors, seed.authors),
            sets: Sets::new(seed.next_set, limits),
            subjects: Subjects::default(),
            namespaces: Namespaces::default(),
            leaving: Vec::new(),
            cidrs_v4: OrdMap::new(),
            cidrs_v6: OrdMap::new(),
            limits,
        };
        policies.settle();
        policies
    }

    /// What a plan from nothing has to know of this one.
    pub(super) fn seed(&self) -> Seed {
        let authors = self.authors.names().iter().map(|(number, name)| (*number, Authorship::clone(name)));
        Seed {
            next_set: self.sets.next(),
            next_identity: self.identities.next(),
            next_author: self.authors.next(),
            authors: authors.collect(),
            holders: self.identities.holders().clone(),
        }
    }

    /// How much there is room for.
    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    // === Who is who ===

    /// Hears of the policies of a newer snapshot. Returns what is asked that was not before.
    pub(super) fn hear(&mut self, old: &Snapshot, new: &Snapshot) -> Words {
        let mut words = Words::default();
        for change in changes(&old.policies, &new.policies) {
            let (gone, come) = super::sides(change);
            if let Some(policy) = come {
                self.vocabulary.add(policy, &mut words);
            }
            self.leaving.extend(gone.cloned());
        }
        words
    }

    /// Ends what is asked no more. Returns it.
    pub(super) fn forget(&mut self) -> Words {
        let mut gone = Words::default();
        for policy in std::mem::take(&mut self.leaving) {
            self.vocabulary.remove(&policy, &mut gone);
        }
        gone
    }

    /// Whether one of these words can be asked about a pod.
    pub(super) fn concerns(words: &Words, pod: &Pod) -> bool {
        Vocabulary::concerns(words, pod)
    }

    /// What can be asked about a pod.
    pub(super) fn who(&self, pod: &Pod) -> Who {
        self.vocabulary.who(pod)
    }

    /// What can be asked about a pod of this node.
    pub(super) fn who_here(&self, pod: &LocalPod, snapshot: &Snapshot) -> Who {
        subjects::object(pod, snapshot).map_or_else(|| self.vocabulary.stranger(), |object| self.vocabulary.who(object))
    }

    /// The identity of an address; whether it is another than before. Nobody's address has none.
    pub(super) fn identify(&mut self, address: IpAddr, who: Option<Who>) -> Identity {
        let facts = who.map(|who| Facts::new(who, self.vocabulary.blocks.around(address)));
        self.identities.assign(Holder::Address(address), facts)
    }

    /// Follows the CIDR blocks in use: those that are new or gone, and those around which or in which they are.
    /// Returns whether there were any.
    pub(super) fn follow_blocks(&mut self, changed: &[IpNet]) -> bool {
        let blocks = &self.vocabulary.blocks;
        let touched: BTreeSet<IpNet> =
            changed.iter().flat_map(|block| blocks.within(*block)).chain(changed.iter().copied()).collect();
        for block in touched {
            let chain = self.vocabulary.blocks.contains(block).then(|| self.vocabulary.blocks.around_network(block));
            let facts = chain.map(|blocks| Facts::new(Who::Outside, blocks));
            let there = facts.is_some();
            let identity = self.identities.assign(Holder::Block(block), facts);
            put(&mut self.cidrs_v4, block, there.then_some(identity));
            put(&mut self.cidrs_v6, block, there.then_some(identity));
        }
        !changed.is_empty()
    }

    /// The identity that an address has.
    pub(super) fn identity(&self, address: IpAddr) -> Option<Identity> {
        self.identities.of(Holder::Address(address))
    }

    /// The addresses of a pod that is on this node.
    pub(super) fn addresses_here(&self, pod: &PodKey) -> impl Iterator<Item = IpAddr> {
        self.subjects
            .of(pod)
            .filter_map(|attachment| self.subjects.get(attachment))
            .flat_map(|subject| subject.pod.addresses.clone())
    }

    /// Gives blocks that found no room the room that there is now; whether there was any. [`Policies::redefine_all`] has to follow.
    pub(super) fn readmit_blocks(&mut self, new: &mut Words) -> bool {
        !self.vocabulary.refused.is_empty() && self.vocabulary.readmit(new)
    }

    /// The addresses that found no identity, and would now.
    pub(super) fn readmit_addresses(&mut self, new: &mut Words) -> BTreeSet<IpAddr> {
        let mut addresses = BTreeSet::new();
        for holder in self.identities.readmitted() {
            match holder {
                Holder::Address(address) => drop(addresses.insert(address)),
                Holder::Block(block) => new.blocks.push(block),
            }
        }
        addresses
    }

    /// Tells terms and sets of identities that came and went. Returns whether there were any.
    pub(super) fn settle(&mut self) -> bool {
        let (born, died) = self.identities.changes();
        for identity in &born {
            let Some(facts) = self.identities.facts(*identity) else { continue };
            self.terms.add(*identity, facts, &self.namespaces);
            self.sets.add_identity(*identity, facts, &self.terms);
        }
        for (identity, facts) in &died {
            self.sets.remove_identity(*identity, self.terms.of(*identity));
            self.terms.remove(*identity, facts);
        }
        !born.is_empty() || !died.is_empty()
    }

    /// Every number from here on is a new one.
    pub(super) fn end_adoption(&mut self) {
        self.identities.end_adoption();
    }

    // === What may be ===

    /// What an endpoint knows of its sets, egress and ingress. `None` for a pod that is new: its policies are not settled yet.
    pub(super) fn references(&self, attachment: &Attachment) -> Option<[SetRef; 2]> {
        let subject = self.subjects.get(attachment)?;
        Some(subject.slots.map(|slot| slot.map_or_else(SetRef::default, |slot| self.sets.reference(slot))))
    }

    /// Follows policies, namespaces and this node's pods. Returns the pods whose sets are others than before.
    pub(super) fn follow_sets(
        &mut self,
        old: &Snapshot,
        new: &Snapshot,
        locals: [&Locals; 2],
        own: &BTreeSet<IpAddr>,
    ) -> BTreeSet<Attachment> {
        let mut rematched = self.relabel(new);
        rematched.append(&mut self.readdress(own));
        let (mut stale, edited) = self.reselect(old, new);
        let mut moved = BTreeSet::new();
        for change in changes(locals[0], locals[1]) {
            let (gone, come) = super::sides(change);
            if let (Some(pod), None) = (gone, come) {
                stale.remove(&pod.attachment());
                let slots = self.subjects.remove(&pod.attachment());
                slots.into_iter().flatten().for_each(|slot| self.leave(slot, new));
            }
            if let Some(pod) = come {
                self.subjects.add(pod.clone());
                self.subjects.select(&pod.attachment(), new);
                stale.insert(pod.attachment());
                moved.insert(pod.attachment());
            }
        }
        self.redefine(&rematched, &edited, new);
        for attachment in &stale {
            self.resettle(attachment, new, &mut moved);
        }
        moved.append(&mut self.reopen());
        moved
    }

    /// Rules that were left out because of blocks without room come back.
    pub(super) fn redefine_all(&mut self, snapshot: &Snapshot) {
        let all: BTreeSet<Slot> = self.sets.slots().map(|(slot, _)| slot).collect();
        self.redefine(&all, &BTreeSet::new(), snapshot);
    }

    /// Gives sets that found no room the room that there is now. Returns the pods whose sets are others since this was last asked.
    pub(super) fn reopen(&mut self) -> BTreeSet<Attachment> {
        self.sets.reopen();
        let slots = self.sets.moved();
        let using = |slot: &Option<Slot>| slot.is_some_and(|slot| slots.contains(&slot));
        if slots.is_empty() {
            return BTreeSet::new();
        }
        let concerned = self.subjects.iter().filter(|(_, subject)| subject.slots.iter().any(using));
        concerned.map(|(attachment, _)| attachment.clone()).collect()
    }

    /// What the kernel is to hold.
    pub(super) fn wanted(&self) -> WantedPolicies {
        WantedPolicies {
            rules: self.sets.rules().clone(),
            authors: self.authors.names().clone(),
            cidrs_v4: self.cidrs_v4.clone(),
            cidrs_v6: self.cidrs_v6.clone(),
        }
    }

    /// What found no room.
    pub(super) fn conditions(&self) -> impl Iterator<Item = Condition> {
        let sets = self.sets.too_large().map(Condition::SetTooLarge);
        let refused = self.identities.refused();
        let identities = (refused > 0).then_some(Condition::IdentitiesExhausted(refused));
        let refused = self.vocabulary.refused.len();
        let blocks = (refused > 0).then_some(Condition::BlocksExhausted(refused));
        sets.chain(identities).chain(blocks)
    }

    /// How many identities there are.
    pub(super) fn identity_count(&self) -> usize {
        self.identities.len()
    }

    /// How many sets there are.
    pub(super) fn set_count(&self) -> usize {
        self.sets.slots().count()
    }

    /// Namespaces with other labels: the sets whose peers are others now.
    fn relabel(&mut self, new: &Snapshot) -> BTreeSet<Slot> {
        let changed: Vec<Arc<str>> =
            changes(&self.namespaces, &new.namespaces).map(|change| super::key(&change).clone()).collect();
        if changed.is_empty() {
            return BTreeSet::new();
        }
        self.namespaces = new.namespaces.clone();
        let terms = self.terms.relabel(&changed, &self.identities, &self.namespaces);
        self.sets.using(&terms)
    }

    /// This node's own addresses, and the blocks that they are in: the sets whose peers are others now.
    fn readdress(&mut self, own: &BTreeSet<IpAddr>) -> BTreeSet<Slot> {
        let new = Facts::of_this_node(own, &self.vocabulary.blocks);
        let Some(old) = self.identities.set_host(new.clone()) else { return BTreeSet::new() };
        let terms = self.terms.change(Identity::HOST, &old, &new, &self.namespaces);
        self.sets.using(&terms)
    }

    /// Pods and policies that are others than they were: the pods whose policies are to be looked at, and the edited policies.
    fn reselect(&mut self, old: &Snapshot, new: &Snapshot) -> (BTreeSet<Attachment>, BTreeSet<PolicyKey>) {
        let (mut stale, mut edited) = (BTreeSet::new(), BTreeSet::new());
        for change in new.pod_changes(old) {
            let attachments: Vec<Attachment> = self.subjects.of(super::key(&change)).cloned().collect();
            for attachment in attachments {
                self.subjects.select(&attachment, new);
                stale.insert(attachment);
            }
        }
        for change in new.policy_changes(old) {
            let key = super::key(&change).clone();
            let (before, now) = super::sides(change);
            let attachments: Vec<Attachment> = self.subjects.in_namespace(&key.namespace).cloned().collect();
            let names_changed = ingress_names(before) != ingress_names(now);
            for attachment in attachments {
                if self.subjects.reselect(&attachment, &key.name, now.map(AsRef::as_ref), new) || names_changed {
                    stale.insert(attachment);
                }
            }
            edited.insert(key);
        }
        if old.synced != new.synced {
            stale.extend(self.subjects.iter().map(|(attachment, _)| attachment.clone()));
        }
        (stale, edited)
    }

    /// Makes sets anew: those whose peers are others, and those of policies that were edited.
    fn redefine(&mut self, rematched: &BTreeSet<Slot>, edited: &BTreeSet<PolicyKey>, new: &Snapshot) {
        let of_edited = |key: &sets::SetKey| {
            let named = |policy: &PolicyKey| {
                policy.namespace == key.namespace && key.policies.binary_search(&policy.name).is_ok()
            };
            !key.closed && edited.iter().any(named)
        };
        let slots = self.sets.slots().filter(|(slot, key)| rematched.contains(slot) || of_edited(key));
        let slots: Vec<(Slot, Arc<sets::SetKey>)> = slots.map(|(slot, key)| (slot, key.clone())).collect();
        for (slot, key) in slots {
            let (mut workshop, sets) = self.workshop(new);
            let definition = workshop.define(&key);
            let rematched = rematched.contains(&slot);
            if let Some(old) = sets.redefine(slot, definition, workshop.terms, workshop.identities, rematched) {
                workshop.release(&old);
            }
        }
    }

    /// Puts a pod into the sets that are its own now.
    fn resettle(&mut self, attachment: &Attachment, new: &Snapshot, moved: &mut BTreeSet<Attachment>) {
        let Some(before) = self.subjects.get(attachment).map(|subject| subject.slots) else { return };
        let mut slots = before;
        for (index, slot) in slots.iter_mut().enumerate() {
            let key = self.subjects.set_key(attachment, index, new);
            if slot.and_then(|slot| self.sets.key(slot)).map(AsRef::as_ref) == key.as_ref() {
                continue;
            }
            // The new one first: what both use stays.
            let next = key.map(|key| self.join(key, new));
            if let Some(slot) = std::mem::replace(slot, next) {
                self.leave(slot, new);
            }
        }
        if slots != before {
            self.subjects.set_slots(attachment, slots);
            moved.insert(attachment.clone());
        }
    }

    fn join(&mut self, key: sets::SetKey, new: &Snapshot) -> Slot {
        if let Some(slot) = self.sets.join(&key) {
            return slot;
        }
        let (mut workshop, sets) = self.workshop(new);
        let definition = workshop.define(&key);
        sets.create(key, definition, workshop.terms, workshop.identities)
    }

    fn leave(&mut self, slot: Slot, new: &Snapshot) {
        let (mut workshop, sets) = self.workshop(new);
        if let Some(definition) = sets.leave(slot) {
            workshop.release(&definition);
        }
    }

    fn workshop<'a>(&'a mut self, snapshot: &'a Snapshot) -> (Workshop<'a>, &'a mut Sets) {
        let Self { vocabulary, identities, terms, authors, sets, namespaces, .. } = self;
        (Workshop { snapshot, namespaces, vocabulary, identities, terms, authors }, sets)
    }
}

/// The names that a policy's ingress rules ask the pods' ports by.
fn ingress_names(policy: Option<&Arc<NetworkPolicy>>) -> BTreeSet<&Arc<str>> {
    let rules = policy.and_then(|policy| policy.ingress.as_ref()).into_iter().flatten();
    rules.flat_map(facts::names).map(|(name, _)| name).collect()
}

fn put<A: Family>(cidrs: &mut OrdMap<Cidr<A>, Identity>, block: IpNet, identity: Option<Identity>) {
    if let Some(key) = Cidr::from_net(block) {
        super::set(cidrs, key, identity);
    }
}

#[cfg(test)]
pub(crate) mod tests;

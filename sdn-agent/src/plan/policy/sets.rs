//! Compiled sets: who shares which, what is in each, and what of it the kernel is to hold.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use imbl::OrdMap;
use sdn_cluster::verdict::Direction;
use sdn_common::{Author, Identity, Rule, RuleKey, SetId, SetRef};

use super::Limits;
use super::compile::{self, Applied, Entry, Ports, TierRule};
use super::facts::{Facts, NamedPort};
use super::identities::Identities;
use super::ports::Block;
use super::terms::{TermId, Terms};

/// What a set is made for. Pods that agree in it share the set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SetKey {
    pub(super) namespace: Arc<str>,
    pub(super) direction: Direction,
    /// The policies that isolate, in the order of their names.
    pub(super) policies: Vec<Arc<str>>,
    /// What the pods' own ports are called, where the policies' rules ask: for ingress only.
    pub(super) ports: Vec<NamedPort>,
    /// Nothing is admitted: of the pods too little is known to say which policies select them.
    pub(super) closed: bool,
}

/// Where a set is kept in this plan; its number in the kernel changes with what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot(u32);

/// What a set says: tiers, with peers as terms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Definition {
    /// Rules with their tier, in order.
    pub(super) rules: Vec<(usize, TierRule<Peers>)>,
    /// Who isolates in each tier.
    pub(super) isolations: Vec<Option<Author>>,
}

/// Which peers a rule of a set is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Peers {
    Any,
    /// Those that match one of these; none: nobody.
    Terms(Vec<TermId>),
}

/// All sets.
#[derive(Clone, Debug)]
pub(super) struct Sets {
    slots: BTreeMap<Slot, Set>,
    by_key: BTreeMap<Arc<SetKey>, Slot>,
    by_term: BTreeMap<TermId, BTreeSet<Slot>>,
    next_slot: u32,
    next: u32,
    limits: Limits,
    used: usize,
    used_by: BTreeMap<Arc<str>, usize>,
    /// Slots whose reference has changed since it was last asked for.
    moved: BTreeSet<Slot>,
    rules: OrdMap<RuleKey, Rule>,
}

#[derive(Clone, Debug)]
struct Set {
    key: Arc<SetKey>,
    id: SetId,
    users: u32,
    definition: Arc<Definition>,
    by_term: BTreeMap<TermId, Vec<usize>>,
    any: Arc<[Entry]>,
    rows: BTreeMap<Identity, Arc<[Entry]>>,
    /// Entries by what they follow from.
    memo: HashMap<Signature, Arc<[Entry]>>,
    shapes: u64,
    /// Entries that it has, or would have.
    size: usize,
    fits: bool,
}

/// The rules that hold for a peer beside those for any, and what its named ports mean where rules ask.
type Signature = (Vec<usize>, Vec<NamedPort>);

/// A set that found no room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// The namespace of its policies.
    pub namespace: Arc<str>,
    /// Their direction.
    pub direction: Direction,
    /// The policies.
    pub policies: Vec<Arc<str>>,
    /// Entries that it would need.
    pub needed: usize,
    /// Entries that there were for it.
    pub room: usize,
}

// === impl Sets ===

impl Sets {
    /// `next` is greater than all numbers that were ever given.
    pub(super) fn new(next: SetId, limits: Limits) -> Self {
        Self {
            slots: BTreeMap::new(),
            by_key: BTreeMap::new(),
            by_term: BTreeMap::new(),
            next_slot: 0,
            next: next.0.max(SetId::FIRST.0),
            limits,
            used: 0,
            used_by: BTreeMap::new(),
            moved: BTreeSet::new(),
            rules: OrdMap::new(),
        }
    }

    /// The slot of a set that exists, with one more user.
    pub(super) fn join(&mut self, key: &SetKey) -> Option<Slot> {
        let slot = *self.by_key.get(key)?;
        if let Some(set) = self.slots.get_mut(&slot) {
            set.users += 1;
        }
        Some(slot)
    }

    /// A new set with its first user.
    pub(super) fn create(
        &mut self,
        key: SetKey,
        definition: Definition,
        terms: &Terms,
        identities: &Identities,
    ) -> Slot {
        let (slot, key) = (Slot(self.next_slot), Arc::new(key));
        self.next_slot += 1;
        let set = Set::new(key.clone(), definition, terms, identities);
        self.by_key.insert(key, slot);
        self.enter(slot, set);
        slot
    }

    /// One user less. Returns what the set said if that was the last: its terms and authors are to be released.
    pub(super) fn leave(&mut self, slot: Slot) -> Option<Arc<Definition>> {
        let set = self.slots.get_mut(&slot)?;
        set.users -= 1;
        if set.users > 0 {
            return None;
        }
        let set = self.withdraw(slot)?;
        self.by_key.remove(&set.key);
        self.moved.remove(&slot);
        Some(set.definition)
    }

    /// Gives a set another content, under another number. Returns the definition that is to be released: the old one, or if
    /// nothing differs the new one. `rematched`: its terms match other peers than they did.
    pub(super) fn redefine(
        &mut self,
        slot: Slot,
        definition: Definition,
        terms: &Terms,
        identities: &Identities,
        rematched: bool,
    ) -> Option<Arc<Definition>> {
        let set = self.slots.get(&slot)?;
        if !rematched && *set.definition == definition {
            return Some(Arc::new(definition));
        }
        let old = self.withdraw(slot)?;
        let set = Set { users: old.users, ..Set::new(old.key, definition, terms, identities) };
        self.enter(slot, set);
        Some(old.definition)
    }

    /// Adds the entries that an identity that was never seen before has in each set. Nobody has that identity yet in the kernel,
    /// so no set says anything else than it did.
    pub(super) fn add_identity(&mut self, identity: Identity, facts: &Facts, terms: &Terms) {
        let slots: BTreeSet<Slot> =
            terms.of(identity).filter_map(|term| self.by_term.get(&term)).flatten().copied().collect();
        for slot in slots {
            let Some(set) = self.slots.get_mut(&slot) else { continue };
            let Some(entries) = set.row(facts, terms.of(identity)) else { continue };
            set.size += entries.len();
            set.rows.insert(identity, entries.clone());
            if !set.fits {
                continue;
            }
            let (id, added) = (set.id, entries.len());
            if self.room(slot) < added {
                self.close(slot);
                continue;
            }
            self.count(slot, added);
            self.rules.extend(keyed(id, identity, &entries));
        }
    }

    /// Forgets an identity that nobody has any more.
    pub(super) fn remove_identity(&mut self, identity: Identity, matched: impl Iterator<Item = TermId>) {
        let slots: BTreeSet<Slot> = matched.filter_map(|term| self.by_term.get(&term)).flatten().copied().collect();
        for slot in slots {
            let Some(set) = self.slots.get_mut(&slot) else { continue };
            let Some(entries) = set.rows.remove(&identity) else { continue };
            set.size -= entries.len();
            if set.fits {
                let id = set.id;
                for (key, _) in keyed(id, identity, &entries) {
                    self.rules.remove(&key);
                }
                self.discount(slot, entries.len());
            }
        }
    }

    /// What an endpoint knows of a set.
    pub(super) fn reference(&self, slot: Slot) -> SetRef {
        let Some(set) = self.slots.get(&slot) else { return SetRef::default() };
        let default_author = set.definition.isolations.iter().flatten().next().copied().unwrap_or_default();
        SetRef { id: set.id, default_author, shapes: if set.fits { set.shapes } else { 0 } }
    }

    /// The sets that use one of these terms.
    pub(super) fn using(&self, terms: &BTreeSet<TermId>) -> BTreeSet<Slot> {
        terms.iter().filter_map(|term| self.by_term.get(term)).flatten().copied().collect()
    }

    /// What a set was made for.
    pub(super) fn key(&self, slot: Slot) -> Option<&Arc<SetKey>> {
        self.slots.get(&slot).map(|set| &set.key)
    }

    /// All slots.
    pub(super) fn slots(&self) -> impl Iterator<Item = (Slot, &Arc<SetKey>)> {
        self.slots.iter().map(|(slot, set)| (*slot, &set.key))
    }

    /// Sets that found no room, and would now, get it.
    pub(super) fn reopen(&mut self) {
        let closed: Vec<Slot> = self.slots.iter().filter(|(_, set)| !set.fits).map(|(slot, _)| *slot).collect();
        for slot in closed {
            let Some(set) = self.slots.get(&slot) else { continue };
            if set.size <= self.room(slot)
                && let Some(set) = self.withdraw(slot)
            {
                self.enter(slot, set);
            }
        }
    }

    /// Slots whose reference changed since the last call.
    pub(super) fn moved(&mut self) -> BTreeSet<Slot> {
        std::mem::take(&mut self.moved)
    }

    /// What the kernel is to hold.
    pub(super) fn rules(&self) -> &OrdMap<RuleKey, Rule> {
        &self.rules
    }

    /// Sets that found no room.
    pub(super) fn too_large(&self) -> impl Iterator<Item = TooLarge> {
        self.slots.iter().filter(|(_, set)| !set.fits).map(|(slot, set)| TooLarge {
            namespace: set.key.namespace.clone(),
            direction: set.key.direction,
            policies: set.key.policies.clone(),
            needed: set.size,
            room: self.room(*slot),
        })
    }

    /// The next number.
    pub(super) fn next(&self) -> SetId {
        SetId(self.next)
    }

    // === Room and numbers ===

    /// Takes a set in under a new number, closed if there is no room for it.
    fn enter(&mut self, slot: Slot, mut set: Set) {
        set.id = SetId(self.next);
        // 2³² sets take years of edits, a hundred a second.
        self.next = self.next.saturating_add(1);
        for term in set.by_term.keys() {
            self.by_term.entry(*term).or_default().insert(slot);
        }
        let size = set.size;
        set.fits = false;
        self.slots.insert(slot, set);
        self.moved.insert(slot);
        if size > self.room(slot) {
            return;
        }
        self.count(slot, size);
        if let Some(set) = self.slots.get_mut(&slot) {
            set.fits = true;
            self.rules.extend(set.entries());
        }
    }

    /// Takes a set out with all its entries.
    fn withdraw(&mut self, slot: Slot) -> Option<Set> {
        let set = self.slots.remove(&slot)?;
        for term in set.by_term.keys() {
            if let Some(slots) = self.by_term.get_mut(term) {
                slots.remove(&slot);
                if slots.is_empty() {
                    self.by_term.remove(term);
                }
            }
        }
        if set.fits {
            for (key, _) in set.entries() {
                self.rules.remove(&key);
            }
            self.give_back(&set.key.namespace, set.size);
        }
        Some(set)
    }

    /// A set has outgrown its room.
    fn close(&mut self, slot: Slot) {
        let Some(set) = self.slots.get_mut(&slot) else { return };
        let set_id = set.id;
        set.fits = false;
        set.id = SetId(self.next);
        self.next = self.next.saturating_add(1);
        let namespace = set.key.namespace.clone();
        let first = RuleKey { set: set_id, ..RuleKey::default() };
        let held: Vec<RuleKey> =
            self.rules.range(first..).map(|(key, _)| *key).take_while(|key| key.set == set_id).collect();
        for key in &held {
            self.rules.remove(key);
        }
        self.give_back(&namespace, held.len());
        self.moved.insert(slot);
    }

    /// Entries that a set may still have.
    fn room(&self, slot: Slot) -> usize {
        let Some(set) = self.slots.get(&slot) else { return 0 };
        let used_by = self.used_by.get(&set.key.namespace).copied().unwrap_or_default();
        let of_namespace = self.limits.rules_of_namespace.saturating_sub(used_by);
        of_namespace.min(self.limits.rules.saturating_sub(self.used))
    }

    fn count(&mut self, slot: Slot, entries: usize) {
        let Some(set) = self.slots.get(&slot) else { return };
        self.used += entries;
        *self.used_by.entry(set.key.namespace.clone()).or_default() += entries;
    }

    fn discount(&mut self, slot: Slot, entries: usize) {
        let Some(namespace) = self.slots.get(&slot).map(|set| set.key.namespace.clone()) else { return };
        self.give_back(&namespace, entries);
    }

    fn give_back(&mut self, namespace: &Arc<str>, entries: usize) {
        self.used -= entries;
        if let Some(used) = self.used_by.get_mut(namespace) {
            *used -= entries;
            if *used == 0 {
                self.used_by.remove(namespace);
            }
        }
    }
}

// === impl Set ===

impl Set {
    fn new(key: Arc<SetKey>, definition: Definition, terms: &Terms, identities: &Identities) -> Self {
        let mut by_term = BTreeMap::<TermId, Vec<usize>>::new();
        for (index, (_, rule)) in definition.rules.iter().enumerate() {
            if let Peers::Terms(ids) = &rule.peers {
                ids.iter().for_each(|id| by_term.entry(*id).or_default().push(index));
            }
        }
        let any: Vec<Applied> = applied(&definition, &[], &[]).collect();
        let any: Arc<[Entry]> = compile::for_any(&any, &definition.isolations).into();
        let shapes = compile::shapes_under_any(&any) | shapes(&definition);
        let size = any.len();
        let definition = Arc::new(definition);
        let (rows, memo) = (BTreeMap::new(), HashMap::new());
        let mut set =
            Self { key, id: SetId::NONE, users: 1, definition, by_term, any, rows, memo, shapes, size, fits: false };
        let matching: BTreeSet<Identity> = set.by_term.keys().flat_map(|term| terms.matching(*term)).collect();
        for identity in matching {
            let Some(facts) = identities.facts(identity) else { continue };
            if let Some(entries) = set.row(facts, terms.of(identity)) {
                set.size += entries.len();
                set.rows.insert(identity, entries);
            }
        }
        set
    }

    /// The entries of an identity; `None` where those for any peer say it all.
    fn row(&mut self, facts: &Facts, matched: impl Iterator<Item = TermId>) -> Option<Arc<[Entry]>> {
        let mut rules: Vec<usize> = matched.filter_map(|term| self.by_term.get(&term)).flatten().copied().collect();
        rules.sort_unstable();
        rules.dedup();
        let asks = |(name, protocol, _): &NamedPort| {
            let is_asked = |index: &usize| match &self.definition.rules[*index].1.ports {
                Ports::Named(asked, of) => asked == name && of == protocol,
                Ports::Blocks(_) => false,
            };
            rules.iter().any(is_asked)
        };
        let ports: Vec<NamedPort> = facts.ports().iter().filter(|port| asks(port)).cloned().collect();
        let signature = (rules, ports);
        let entries = match self.memo.get(&signature) {
            Some(entries) => entries.clone(),
            None => {
                let holding: Vec<Applied> = applied(&self.definition, &signature.0, &signature.1).collect();
                let entries: Arc<[Entry]> = compile::for_peer(&holding, &self.definition.isolations).into();
                if self.memo.len() > 64 + 2 * self.rows.len() {
                    self.memo.clear();
                }
                self.memo.insert(signature, entries.clone());
                entries
            }
        };
        (!entries.is_empty()).then_some(entries)
    }

    fn entries(&self) -> impl Iterator<Item = (RuleKey, Rule)> {
        let rows = self.rows.iter().flat_map(|(identity, entries)| keyed(self.id, *identity, entries));
        keyed(self.id, Identity::ANY, &self.any).chain(rows)
    }
}

fn keyed(id: SetId, peer: Identity, entries: &[Entry]) -> impl Iterator<Item = (RuleKey, Rule)> {
    entries.iter().map(move |entry| (entry.block.key(id, peer), entry.rule))
}

/// The rules that hold for a peer, in order: those for any, and these.
fn applied<'a>(
    definition: &'a Definition,
    holding: &[usize],
    ports: &[NamedPort],
) -> impl Iterator<Item = Applied<'a>> {
    let rules = definition.rules.iter().enumerate();
    let held = rules.filter(|(index, (_, rule))| rule.peers == Peers::Any || holding.binary_search(index).is_ok());
    held.map(|(_, (tier, rule))| Applied {
        tier: *tier,
        action: rule.action,
        author: rule.author,
        any: rule.peers == Peers::Any,
        blocks: match &rule.ports {
            Ports::Blocks(blocks) => blocks.into(),
            Ports::Named(name, protocol) => {
                let meant = ports.iter().filter(|(known, of, _)| known == name && of == protocol);
                meant.map(|(_, protocol, port)| Block::port(*protocol, *port)).collect::<Vec<_>>().into()
            }
        },
    })
}

fn shapes(definition: &Definition) -> u64 {
    let (mut specific, mut any) = (Vec::new(), Vec::new());
    for (_, rule) in &definition.rules {
        let to = if rule.peers == Peers::Any { &mut any } else { &mut specific };
        match &rule.ports {
            Ports::Blocks(blocks) => to.extend(blocks),
            // Some port, whichever: all of them have one shape.
            Ports::Named(_, protocol) => to.push(Block::port(*protocol, 0)),
        }
    }
    compile::shapes_under_identities(&specific, &any)
}

//! Peers as policies describe them, each held against each identity once, however many rules use it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;
use ipnet::IpNet;
use sdn_cluster::model::{IpBlock, LabelSelector, Labels, Namespace, Protocol};
use sdn_common::Identity;

use super::facts::{Facts, Who};

/// Number of a term, in this plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TermId(u32);

/// A description of peers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Term {
    /// Pods of one namespace.
    Pods(Arc<str>, LabelSelector),
    /// All pods of namespaces, and nodes where one of them stands for these.
    Namespaces(LabelSelector),
    /// Pods of namespaces.
    PodsIn(LabelSelector, LabelSelector),
    /// Addresses.
    Block(IpBlock),
    /// Pods that have a port of this name and protocol.
    Named(Arc<str>, Protocol),
}

/// The terms in use.
#[derive(Clone, Debug, Default)]
pub(super) struct Terms {
    ids: BTreeMap<Term, TermId>,
    known: BTreeMap<TermId, Known>,
    next: u32,
    /// Where to look for the terms that an identity may match.
    in_namespace: BTreeMap<Arc<str>, BTreeSet<TermId>>,
    wide: BTreeSet<TermId>,
    by_block: BTreeMap<IpNet, BTreeSet<TermId>>,
    /// Identities of pods, by namespace, and of nodes.
    pods: BTreeMap<Arc<str>, BTreeSet<Identity>>,
    hosts: BTreeSet<Identity>,
    /// Identities by the blocks around them.
    around: BTreeMap<IpNet, BTreeSet<Identity>>,
    /// What each identity matches.
    matches: BTreeMap<Identity, BTreeSet<TermId>>,
}

#[derive(Clone, Debug)]
struct Known {
    term: Term,
    uses: u32,
    matches: BTreeSet<Identity>,
}

/// The namespaces of the cluster.
pub(super) type Namespaces = OrdMap<Arc<str>, Arc<Namespace>>;

// === impl Terms ===

impl Terms {
    /// One more use of a term.
    pub(super) fn acquire(&mut self, term: &Term, identities: &impl Meanings, namespaces: &Namespaces) -> TermId {
        if let Some(id) = self.ids.get(term) {
            if let Some(known) = self.known.get_mut(id) {
                known.uses += 1;
            }
            return *id;
        }
        let id = TermId(self.next);
        self.next += 1;
        let matches = self.search(term, identities, namespaces);
        for identity in &matches {
            self.matches.entry(*identity).or_default().insert(id);
        }
        self.index(term, |ids| {
            ids.insert(id);
        });
        self.ids.insert(term.clone(), id);
        self.known.insert(id, Known { term: term.clone(), uses: 1, matches });
        id
    }

    /// One use less.
    pub(super) fn release(&mut self, id: TermId) {
        let Some(known) = self.known.get_mut(&id) else { return };
        known.uses -= 1;
        if known.uses > 0 {
            return;
        }
        let Some(Known { term, matches, .. }) = self.known.remove(&id) else { return };
        for identity in matches {
            if let Some(terms) = self.matches.get_mut(&identity) {
                terms.remove(&id);
            }
        }
        self.ids.remove(&term);
        self.index(&term, |ids| {
            ids.remove(&id);
        });
    }

    /// Takes note of an identity.
    pub(super) fn add(&mut self, identity: Identity, facts: &Facts, namespaces: &Namespaces) {
        match &facts.who {
            Who::Pod(pod) => drop(self.pods.entry(pod.namespace.clone()).or_default().insert(identity)),
            Who::Host { .. } => drop(self.hosts.insert(identity)),
            Who::Unknown | Who::Outside | Who::AnyPod => {}
        }
        for block in facts.blocks.iter() {
            self.around.entry(*block).or_default().insert(identity);
        }
        let mut matched = BTreeSet::new();
        for id in self.candidates(facts) {
            if let Some(known) = self.known.get_mut(&id)
                && known.term.matches(facts, namespaces)
            {
                known.matches.insert(identity);
                matched.insert(id);
            }
        }
        self.matches.insert(identity, matched);
    }

    /// An identity that nobody has any more.
    pub(super) fn remove(&mut self, identity: Identity, facts: &Facts) {
        for id in self.matches.remove(&identity).unwrap_or_default() {
            if let Some(known) = self.known.get_mut(&id) {
                known.matches.remove(&identity);
            }
        }
        if let Who::Pod(pod) = &facts.who {
            take_out(&mut self.pods, &pod.namespace, &identity);
        }
        self.hosts.remove(&identity);
        for block in facts.blocks.iter() {
            take_out(&mut self.around, block, &identity);
        }
    }

    /// The terms that an identity matches.
    pub(super) fn of(&self, identity: Identity) -> impl Iterator<Item = TermId> {
        self.matches.get(&identity).into_iter().flatten().copied()
    }

    /// The identities that match a term.
    pub(super) fn matching(&self, id: TermId) -> impl Iterator<Item = Identity> {
        self.known.get(&id).into_iter().flat_map(|known| &known.matches).copied()
    }

    /// An identity means something else than it did. Returns the terms that it matches now and did not, or the other way round.
    pub(super) fn change(
        &mut self,
        identity: Identity,
        old: &Facts,
        new: &Facts,
        namespaces: &Namespaces,
    ) -> BTreeSet<TermId> {
        let before: BTreeSet<TermId> = self.of(identity).collect();
        self.remove(identity, old);
        self.add(identity, new, namespaces);
        let after: BTreeSet<TermId> = self.of(identity).collect();
        before.symmetric_difference(&after).copied().collect()
    }

    /// Namespaces have other labels. Returns the terms that match other identities now.
    pub(super) fn relabel(
        &mut self,
        changed: &[Arc<str>],
        identities: &impl Meanings,
        namespaces: &Namespaces,
    ) -> BTreeSet<TermId> {
        let pods = changed.iter().filter_map(|namespace| self.pods.get(namespace)).flatten();
        let concerned: Vec<Identity> = pods.chain(&self.hosts).copied().collect();
        let mut moved = BTreeSet::new();
        for id in &self.wide {
            let Some(known) = self.known.get_mut(id) else { continue };
            for identity in &concerned {
                let matches = identities.facts(*identity).is_some_and(|facts| known.term.matches(facts, namespaces));
                let changed = if matches { known.matches.insert(*identity) } else { known.matches.remove(identity) };
                if changed {
                    moved.insert(*id);
                    let terms = self.matches.entry(*identity).or_default();
                    if matches {
                        terms.insert(*id)
                    } else {
                        terms.remove(id)
                    };
                }
            }
        }
        moved
    }

    fn index(&mut self, term: &Term, change: impl FnOnce(&mut BTreeSet<TermId>)) {
        match term {
            Term::Pods(namespace, _) => at(&mut self.in_namespace, namespace, change),
            Term::Block(block) => at(&mut self.by_block, &block.cidr, change),
            Term::Namespaces(_) | Term::PodsIn(..) | Term::Named(..) => change(&mut self.wide),
        }
    }

    /// The terms that facts may match.
    fn candidates(&self, facts: &Facts) -> Vec<TermId> {
        let namespace = match &facts.who {
            Who::Pod(pod) => self.in_namespace.get(&pod.namespace),
            _ => None,
        };
        let wide = matches!(facts.who, Who::Pod(_) | Who::Host { .. }).then_some(&self.wide);
        let blocks = facts.blocks.iter().filter_map(|block| self.by_block.get(block));
        namespace.into_iter().chain(wide).chain(blocks).flatten().copied().collect()
    }

    /// The identities that a term matches, looked for where they can be.
    fn search(&self, term: &Term, identities: &impl Meanings, namespaces: &Namespaces) -> BTreeSet<Identity> {
        let in_namespaces = |selector: &LabelSelector| {
            let selected =
                |name: &Arc<str>| namespaces.get(name).is_some_and(|namespace| selector.matches(&namespace.labels));
            let selected = self.pods.iter().filter(move |(name, _)| selected(name));
            selected.flat_map(|(_, identities)| identities.iter().copied()).collect::<Vec<_>>()
        };
        let candidates: Vec<Identity> = match term {
            Term::Pods(namespace, _) => self.pods.get(namespace).into_iter().flatten().copied().collect(),
            Term::Namespaces(selector) => {
                in_namespaces(selector).into_iter().chain(self.hosts.iter().copied()).collect()
            }
            Term::PodsIn(selector, _) => in_namespaces(selector),
            Term::Block(block) => self.around.get(&block.cidr).into_iter().flatten().copied().collect(),
            Term::Named(..) => self.pods.values().flatten().copied().collect(),
        };
        let matches =
            |identity: &Identity| identities.facts(*identity).is_some_and(|facts| term.matches(facts, namespaces));
        candidates.into_iter().filter(matches).collect()
    }
}

fn at<K: Ord + Clone>(map: &mut BTreeMap<K, BTreeSet<TermId>>, key: &K, change: impl FnOnce(&mut BTreeSet<TermId>)) {
    let ids = map.entry(key.clone()).or_default();
    change(ids);
    if ids.is_empty() {
        map.remove(key);
    }
}

fn take_out<K: Ord>(map: &mut BTreeMap<K, BTreeSet<Identity>>, key: &K, identity: &Identity) {
    let Some(identities) = map.get_mut(key) else { return };
    identities.remove(identity);
    if identities.is_empty() {
        map.remove(key);
    }
}

/// What identities mean.
pub(super) trait Meanings {
    /// The facts behind a number.
    fn facts(&self, identity: Identity) -> Option<&Facts>;
}

impl Meanings for super::identities::Identities {
    fn facts(&self, identity: Identity) -> Option<&Facts> {
        self.facts(identity)
    }
}

// === impl Term ===

impl Term {
    /// Whether the term is about whoever has these facts.
    fn matches(&self, facts: &Facts, namespaces: &Namespaces) -> bool {
        let labels_of = |name: &Arc<str>| namespaces.get(name).map(|namespace| &namespace.labels);
        let selects =
            |selector: &LabelSelector, labels: Option<&Labels>| labels.is_some_and(|labels| selector.matches(labels));
        match (self, &facts.who) {
            (Self::Pods(namespace, pods), Who::Pod(pod)) => pod.namespace == *namespace && pods.matches(&pod.labels),
            (Self::Namespaces(selector), Who::Pod(pod)) => selects(selector, labels_of(&pod.namespace)),
            (Self::Namespaces(selector), Who::Host { .. }) => {
                let standing = namespaces.values().filter(|namespace| namespace.stands_for_hosts());
                standing.into_iter().any(|namespace| selector.matches(&namespace.labels))
            }
            (Self::PodsIn(selector, pods), Who::Pod(pod)) => {
                selects(selector, labels_of(&pod.namespace)) && pods.matches(&pod.labels)
            }
            (Self::Named(name, protocol), Who::Pod(pod)) => {
                pod.ports.iter().any(|(known, of, _)| known == name && of == protocol)
            }
            (Self::Block(block), _) => {
                let excepted = |except: &IpNet| facts.blocks.contains(except) || facts.partly.contains(except);
                facts.blocks.contains(&block.cidr) && !block.except.iter().any(excepted)
            }
            _ => false,
        }
    }
}

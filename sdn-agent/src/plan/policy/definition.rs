//! NetworkPolicies as the one tier that isolates: "isolated by default, admitted by any rule".

use std::sync::Arc;

use sdn_cluster::Snapshot;
use sdn_cluster::model::{NetworkPolicy, Peer, PolicyKey, PortMatch, Rule, Scope};
use sdn_cluster::verdict::Direction;
use sdn_common::Author;

use super::authors::{Authors, Authorship};
use super::compile::{Action, Ports, TierRule};
use super::facts::{NamedPort, Vocabulary, names};
use super::identities::Identities;
use super::ports::Block;
use super::sets::{Definition, Peers, SetKey};
use super::terms::{Namespaces, Term, Terms};

/// What definitions are made with.
pub(super) struct Workshop<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) namespaces: &'a Namespaces,
    pub(super) vocabulary: &'a Vocabulary,
    pub(super) identities: &'a Identities,
    pub(super) terms: &'a mut Terms,
    pub(super) authors: &'a mut Authors,
}

// === impl Workshop ===

impl Workshop<'_> {
    /// What a set says. Uses terms and authors, until [`Workshop::release`].
    pub(super) fn define(&mut self, key: &SetKey) -> Definition {
        let mut definition = Definition::default();
        let isolating = key.policies.first().map(|name| self.author(key, name, None));
        definition.isolations = vec![Some(isolating.unwrap_or_default())];
        if key.closed {
            return definition;
        }
        let snapshot = self.snapshot;
        for name in &key.policies {
            let Some(policy) = snapshot.policies.get(&PolicyKey::new(key.namespace.clone(), name.clone())) else {
                continue;
            };
            for (index, rule) in key.direction.rules(policy).unwrap_or_default().iter().enumerate() {
                self.add_rule(&mut definition, key, policy, index, rule);
            }
        }
        definition
    }

    /// Ends what a definition uses.
    pub(super) fn release(&mut self, definition: &Definition) {
        for (_, rule) in &definition.rules {
            self.authors.release(rule.author);
            if let Peers::Terms(ids) = &rule.peers {
                ids.iter().for_each(|id| self.terms.release(*id));
            }
        }
        definition.isolations.iter().flatten().for_each(|author| self.authors.release(*author));
    }

    fn add_rule(&mut self, to: &mut Definition, key: &SetKey, policy: &NetworkPolicy, index: usize, rule: &Rule) {
        if rule.admits_nothing() {
            return;
        }
        let number = u16::try_from(index).unwrap_or(u16::MAX - 1);
        let blocks = blocks(rule, &key.ports, key.direction);
        if !blocks.is_empty() {
            let (author, peers) = (self.author(key, &policy.name, Some(number)), self.peers(policy, rule, None));
            to.rules.push((0, TierRule { peers, action: Action::Allow, author, ports: Ports::Blocks(blocks) }));
        }
        if key.direction == Direction::Egress {
            // What a name means depends on the peer.
            for named in names(rule) {
                let (author, peers) =
                    (self.author(key, &policy.name, Some(number)), self.peers(policy, rule, Some(named)));
                let ports = Ports::Named(named.0.clone(), named.1);
                to.rules.push((0, TierRule { peers, action: Action::Allow, author, ports }));
            }
        }
    }

    /// The peers of a rule. Where its ports go by a name, anybody is whoever has a port of that name.
    fn peers(
        &mut self,
        policy: &NetworkPolicy,
        rule: &Rule,
        named: Option<(&Arc<str>, sdn_cluster::model::Protocol)>,
    ) -> Peers {
        let terms: Vec<Term> = match (&rule.peers, named) {
            (Scope::Everything, None) => return Peers::Any,
            (Scope::Everything, Some((name, protocol))) => vec![Term::Named(name.clone(), protocol)],
            (Scope::Only(peers), _) => peers.iter().filter_map(|peer| self.term(policy, peer)).collect(),
        };
        Peers::Terms(terms.iter().map(|term| self.terms.acquire(term, self.identities, self.namespaces)).collect())
    }

    fn term(&self, policy: &NetworkPolicy, peer: &Peer) -> Option<Term> {
        Some(match peer {
            Peer::Pods(pods) => Term::Pods(policy.namespace.clone(), pods.clone()),
            Peer::Namespaces(namespaces) => Term::Namespaces(namespaces.clone()),
            Peer::PodsIn { namespaces, pods } => Term::PodsIn(namespaces.clone(), pods.clone()),
            Peer::Block(block) => {
                // Of an exception that found no room it cannot be told who is excepted: the block admits nobody then.
                let known = |net: &ipnet::IpNet| !self.vocabulary.refused.contains_key(net);
                if !block.except.iter().all(known) {
                    return None;
                }
                Term::Block(block.clone())
            }
        })
    }

    fn author(&mut self, key: &SetKey, policy: &Arc<str>, rule: Option<u16>) -> Author {
        let policy = PolicyKey { namespace: key.namespace.clone(), name: policy.clone() };
        self.authors.acquire(Authorship { policy, direction: key.direction, rule })
    }
}

/// The ports of a rule that mean the same whoever the peer is.
fn blocks(rule: &Rule, own: &[NamedPort], direction: Direction) -> Vec<Block> {
    let Scope::Only(ports) = &rule.ports else { return vec![Block::ALL] };
    let mut blocks = Vec::new();
    for port in ports {
        match &port.port {
            PortMatch::Any => blocks.push(Block::protocol(port.protocol)),
            PortMatch::Numbers { first, last } => blocks.extend(Block::range(port.protocol, *first..=*last)),
            PortMatch::Name(name) if direction == Direction::Ingress => {
                let meant = own.iter().filter(|(known, of, _)| known == name && *of == port.protocol);
                blocks.extend(meant.map(|(_, protocol, port)| Block::port(*protocol, *port)));
            }
            PortMatch::Name(_) => {}
        }
    }
    blocks
}

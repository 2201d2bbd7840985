//! Numbers of facts. Equal facts share a number; a number is never given again; facts that nobody has any more lose theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use sdn_common::Identity;

use super::facts::Facts;

/// Which facts have which number, and who has them.
#[derive(Clone, Debug)]
pub(super) struct Identities {
    numbers: BTreeMap<Facts, Identity>,
    known: BTreeMap<Identity, Known>,
    holders: BTreeMap<Holder, Identity>,
    /// What the kernel was found to hold: a number that still means what it meant is kept.
    adopted: BTreeMap<Holder, Identity>,
    /// Those of them that were given.
    spent: BTreeSet<Identity>,
    next: u32,
    /// Most numbers in use.
    most: usize,
    /// Holders for which there was no number.
    refused: BTreeMap<Holder, Facts>,
    born: Vec<Identity>,
    died: Vec<(Identity, Facts)>,
}

/// What has an identity: an address of the cluster, or a block of addresses outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Holder {
    Address(IpAddr),
    Block(IpNet),
}

#[derive(Clone, Debug)]
struct Known {
    facts: Facts,
    holders: u32,
}

// === impl Identities ===

impl Identities {
    /// `next` is a number greater than all that were ever given.
    pub(super) fn new(next: Identity, most: usize, adopted: BTreeMap<Holder, Identity>) -> Self {
        let mut identities = Self {
            numbers: BTreeMap::new(),
            known: BTreeMap::new(),
            holders: BTreeMap::new(),
            adopted,
            spent: BTreeSet::new(),
            next: next.0.max(Identity::FIRST.0),
            most,
            refused: BTreeMap::new(),
            born: Vec::new(),
            died: Vec::new(),
        };
        for (number, facts) in Facts::all_fixed() {
            identities.known.insert(number, Known { facts, holders: 1 });
            identities.born.push(number);
        }
        identities
    }

    /// The number of what is known about a holder. Without facts it has none.
    pub(super) fn assign(&mut self, holder: Holder, facts: Option<Facts>) -> Identity {
        let number = facts.map(|facts| self.take(holder, facts));
        let before = match number {
            Some(number) => self.holders.insert(holder, number),
            None => {
                self.refused.remove(&holder);
                self.holders.remove(&holder)
            }
        };
        if let Some(before) = before {
            self.release(before);
        }
        number.unwrap_or_default()
    }

    /// Other facts for this node's own number. Returns those that it had, if they differ.
    pub(super) fn set_host(&mut self, facts: Facts) -> Option<Facts> {
        let known = self.known.get_mut(&Identity::HOST)?;
        (known.facts != facts).then(|| std::mem::replace(&mut known.facts, facts))
    }

    /// The number that a holder has.
    pub(super) fn of(&self, holder: Holder) -> Option<Identity> {
        self.holders.get(&holder).copied()
    }

    /// What a number means.
    pub(super) fn facts(&self, number: Identity) -> Option<&Facts> {
        self.known.get(&number).map(|known| &known.facts)
    }

    /// How many are in use, the fixed ones included.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// How many holders found no number.
    pub(super) fn refused(&self) -> usize {
        self.refused.len()
    }

    /// Holders that found no number, as many as there is room for now.
    pub(super) fn readmitted(&self) -> Vec<Holder> {
        let room = self.most.saturating_sub(self.known.len());
        self.refused.keys().take(room).copied().collect()
    }

    /// Numbers that came into use since the last call, and that went out of it; none of them in both.
    pub(super) fn changes(&mut self) -> (Vec<Identity>, Vec<(Identity, Facts)>) {
        let born =
            std::mem::take(&mut self.born).into_iter().filter(|number| self.known.contains_key(number)).collect();
        (born, std::mem::take(&mut self.died))
    }

    /// From here on every number is a new one: what the kernel was found to hold has found its holders.
    pub(super) fn end_adoption(&mut self) {
        self.adopted.clear();
        self.spent.clear();
    }

    /// The next number.
    pub(super) fn next(&self) -> Identity {
        Identity(self.next)
    }

    /// Who has which number.
    pub(super) fn holders(&self) -> &BTreeMap<Holder, Identity> {
        &self.holders
    }

    fn take(&mut self, holder: Holder, facts: Facts) -> Identity {
        let found = facts.fixed().or_else(|| self.numbers.get(&facts).copied());
        let number = match found {
            Some(number) => number,
            None if self.known.len() >= self.most || self.next == u32::MAX => {
                self.refused.insert(holder, facts);
                return self.hold(Identity::UNKNOWN);
            }
            None => self.give(holder, facts),
        };
        self.refused.remove(&holder);
        self.hold(number)
    }

    fn hold(&mut self, number: Identity) -> Identity {
        if let Some(known) = self.known.get_mut(&number) {
            known.holders += 1;
        }
        number
    }

    fn give(&mut self, holder: Holder, facts: Facts) -> Identity {
        let adopted = self.adopted.remove(&holder);
        // Once only: given up, it is as used up as any other.
        let adopted = adopted.filter(|number| *number >= Identity::FIRST && self.spent.insert(*number));
        let number = adopted.unwrap_or_else(|| {
            let number = Identity(self.next);
            self.next += 1;
            number
        });
        self.numbers.insert(facts.clone(), number);
        self.known.insert(number, Known { facts, holders: 0 });
        self.born.push(number);
        number
    }

    fn release(&mut self, number: Identity) {
        let Some(known) = self.known.get_mut(&number) else { return };
        known.holders -= 1;
        if known.holders == 0
            && let Some(known) = self.known.remove(&number)
        {
            self.numbers.remove(&known.facts);
            // One that never came to be known outside is neither born nor dead.
            match self.born.iter().position(|born| *born == number) {
                Some(place) => drop(self.born.swap_remove(place)),
                None => self.died.push((number, known.facts)),
            }
        }
    }
}

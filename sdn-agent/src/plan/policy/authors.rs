//! Numbers of policies' rules, by which drops and flows name who decided.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use imbl::OrdMap;
use sdn_cluster::model::PolicyKey;
use sdn_cluster::verdict::Direction;
use sdn_common::{Author, AuthorName};

/// Who decides: a rule of a policy, or the policy itself, which isolates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Authorship {
    /// The policy.
    pub policy: PolicyKey,
    /// Of its two lists of rules, which.
    pub direction: Direction,
    /// Index into the list; `None`: no rule, the policy isolates what it selects.
    pub rule: Option<u16>,
}

/// The numbers given out. A number outlives its use, because what it decided is still being counted and asked about: the oldest
/// unused ones go when room is needed.
#[derive(Clone, Debug)]
pub(super) struct Authors {
    numbers: BTreeMap<Arc<Authorship>, Author>,
    names: OrdMap<Author, Arc<Authorship>>,
    uses: BTreeMap<Author, u32>,
    unused: BTreeSet<Author>,
    next: u32,
    most: usize,
}

// === impl Authors ===

impl Authors {
    /// Takes over what an earlier agent gave out. `next` is greater than all of it.
    pub(super) fn new(next: Author, most: usize, earlier: impl IntoIterator<Item = (Author, Authorship)>) -> Self {
        let names: OrdMap<Author, Arc<Authorship>> =
            earlier.into_iter().map(|(number, name)| (number, Arc::new(name))).collect();
        let numbers = names.iter().map(|(number, name)| (name.clone(), *number)).collect();
        let unused = names.keys().copied().collect();
        Self { numbers, names, uses: BTreeMap::new(), unused, next: next.0.max(Author::FIRST.0), most }
    }

    /// One more use of an author. Nobody's number where there is none left: what is decided stays right, only its name is missing.
    pub(super) fn acquire(&mut self, name: Authorship) -> Author {
        let number = match self.numbers.get(&name) {
            Some(number) => *number,
            None => match self.give(name) {
                Some(number) => number,
                None => return Author::NONE,
            },
        };
        *self.uses.entry(number).or_default() += 1;
        self.unused.remove(&number);
        number
    }

    /// One use less.
    pub(super) fn release(&mut self, number: Author) {
        let Some(uses) = self.uses.get_mut(&number) else { return };
        *uses -= 1;
        if *uses == 0 {
            self.uses.remove(&number);
            self.unused.insert(number);
        }
    }

    /// What the kernel is to know.
    pub(super) fn names(&self) -> &OrdMap<Author, Arc<Authorship>> {
        &self.names
    }

    /// The next number.
    pub(super) fn next(&self) -> Author {
        Author(self.next)
    }

    fn give(&mut self, name: Authorship) -> Option<Author> {
        if self.names.len() >= self.most {
            let oldest = self.unused.pop_first()?;
            if let Some(name) = self.names.remove(&oldest) {
                self.numbers.remove(&name);
            }
        }
        let number = Author(self.next);
        self.next = self.next.checked_add(1)?;
        let name = Arc::new(name);
        self.numbers.insert(name.clone(), number);
        self.names.insert(number, name);
        Some(number)
    }
}

// === impl Authorship ===

impl Authorship {
    /// As the kernel keeps it.
    pub fn to_kernel(&self) -> AuthorName {
        let mut name = AuthorName { kind: AuthorName::NETWORK_POLICY, ..AuthorName::default() };
        copy(&mut name.namespace, &self.policy.namespace);
        copy(&mut name.name, &self.policy.name);
        name.direction = direction(self.direction) as u8;
        name.rule = self.rule.unwrap_or(AuthorName::ISOLATION);
        name
    }

    /// Read back; `None` for what no agent of this version writes.
    pub fn from_kernel(name: &AuthorName) -> Option<Self> {
        let directions = [Direction::Ingress, Direction::Egress];
        let found = directions.into_iter().find(|known| direction(*known) as u8 == name.direction)?;
        let rule = Some(name.rule).filter(|rule| *rule != AuthorName::ISOLATION);
        let policy = PolicyKey::new(text(&name.namespace)?, text(&name.name)?);
        (name.kind == AuthorName::NETWORK_POLICY).then_some(Self { policy, direction: found, rule })
    }
}

impl fmt::Display for Authorship {
    /// `shop/web ingress[2]`, or `shop/web ingress isolation`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = match self.direction {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        };
        match self.rule {
            Some(rule) => write!(f, "{} {direction}[{rule}]", self.policy),
            None => write!(f, "{} {direction} isolation", self.policy),
        }
    }
}

/// The direction as the kernel numbers it.
pub(super) fn direction(direction: Direction) -> sdn_common::Direction {
    match direction {
        Direction::Ingress => sdn_common::Direction::Ingress,
        Direction::Egress => sdn_common::Direction::Egress,
    }
}

/// Names are no longer than the API lets them be; a longer one is cut, so that the rest can still be read.
fn copy(to: &mut [u8], text: &str) {
    let len = text.floor_char_boundary(to.len() - 1);
    to[..len].copy_from_slice(&text.as_bytes()[..len]);
}

fn text(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(&bytes[..end]).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn author(name: &str, rule: Option<u16>) -> Authorship {
        Authorship { policy: PolicyKey::new("shop", name), direction: Direction::Egress, rule }
    }

    #[test]
    fn names_come_back_from_the_kernel() {
        let longest = "n".repeat(253);
        for (name, rule) in [("web", Some(0)), ("web", None), (longest.as_str(), Some(65_534))] {
            let author = author(name, rule);
            assert_eq!(Authorship::from_kernel(&author.to_kernel()), Some(author));
        }
        assert_eq!(Authorship::from_kernel(&AuthorName::default()), None);
        assert_eq!(author("web", Some(2)).to_string(), "shop/web egress[2]");
        assert_eq!(author("web", None).to_string(), "shop/web egress isolation");
    }

    #[test]
    fn a_number_stays_until_its_room_is_needed() {
        let mut authors = Authors::new(Author(7), 2, []);
        let one = authors.acquire(author("a", None));
        let two = authors.acquire(author("b", None));
        assert_eq!((one, two), (Author(7), Author(8)));
        assert_eq!(authors.acquire(author("c", None)), Author::NONE, "both are in use");
        authors.release(one);
        assert_eq!(authors.acquire(author("a", None)), one, "unused, still known");
        authors.release(one);
        assert_eq!(authors.acquire(author("c", None)), Author(9), "never a number again");
        assert_eq!(authors.names().keys().copied().collect::<Vec<_>>(), [two, Author(9)]);
    }

    #[test]
    fn an_earlier_agents_numbers_are_kept() {
        let mut authors = Authors::new(Author(5), 9, [(Author(4), author("a", Some(1)))]);
        assert_eq!(authors.acquire(author("a", Some(1))), Author(4));
        assert_eq!(authors.acquire(author("a", Some(2))), Author(5));
    }
}

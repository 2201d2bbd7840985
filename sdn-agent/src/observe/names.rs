//! Which pod an interface index meant, and which policy an author's number: drops are counted by number, and people ask for names,
//! also those of pods that are gone.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use imbl::OrdMap;
use sdn_common::Author;

use crate::plan::policy::Authorship;

/// Pods that are gone whose names are kept.
const GONE: usize = 1024;

/// Names of local pods by the index of their host interface. Shared: apply tells, observers ask.
#[derive(Clone, Debug, Default)]
pub struct Names(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    present: HashMap<u32, String>,
    gone: HashMap<u32, String>,
    /// Indices of `gone`, the longest gone first.
    order: VecDeque<u32>,
    authors: OrdMap<Author, Arc<Authorship>>,
}

// === impl Names ===

impl Names {
    /// A pod has come.
    pub fn add(&self, ifindex: u32, name: String) {
        self.lock().present.insert(ifindex, name);
    }

    /// A pod has gone. Its name is remembered for a while.
    pub fn remove(&self, ifindex: u32) {
        let mut state = self.lock();
        let Some(name) = state.present.remove(&ifindex) else { return };
        if state.gone.insert(ifindex, name).is_none() {
            state.order.push_back(ifindex);
        }
        if state.order.len() > GONE
            && let Some(oldest) = state.order.pop_front()
        {
            state.gone.remove(&oldest);
        }
    }

    /// The pod behind an index, the present one before one that is gone. Index 0 is what concerns no pod of this node.
    pub fn resolve(&self, ifindex: u32) -> String {
        if ifindex == 0 {
            return "node".to_owned();
        }
        let state = self.lock();
        let name = state.present.get(&ifindex).or_else(|| state.gone.get(&ifindex));
        name.cloned().unwrap_or_else(|| format!("interface {ifindex} (gone)"))
    }

    /// The names that authors have from now on.
    pub fn set_authors(&self, authors: OrdMap<Author, Arc<Authorship>>) {
        self.lock().authors = authors;
    }

    /// The policy and rule behind an author: `shop/web ingress[2]`. `None` for nobody.
    pub fn author(&self, author: Author) -> Option<String> {
        if author == Author::NONE {
            return None;
        }
        let name = self.lock().authors.get(&author).map(ToString::to_string);
        Some(name.unwrap_or_else(|| format!("policy rule {} (gone)", author.0)))
    }

    /// Whether a pod has this index now.
    pub fn is_present(&self, ifindex: u32) -> bool {
        self.lock().present.contains_key(&ifindex)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that panics happens while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use sdn_cluster::model::PolicyKey;
    use sdn_cluster::verdict::Direction;

    use super::*;

    #[test]
    fn authors_are_named_as_long_as_they_are_known() {
        let names = Names::default();
        let author = Authorship { policy: PolicyKey::new("shop", "web"), direction: Direction::Ingress, rule: Some(2) };
        names.set_authors([(Author(7), Arc::new(author))].into_iter().collect());
        let rows = [(0, None), (7, Some("shop/web ingress[2]")), (8, Some("policy rule 8 (gone)"))];
        for (number, expected) in rows {
            assert_eq!(names.author(Author(number)).as_deref(), expected, "{number}");
        }
    }

    #[test]
    fn names_outlive_their_pods_for_a_while() {
        let names = Names::default();
        names.add(7, "shop/cart".to_owned());
        assert!(names.is_present(7));
        names.remove(7);
        names.remove(7);
        assert!(!names.is_present(7));
        assert_eq!([0, 7, 9].map(|index| names.resolve(index)), ["node", "shop/cart", "interface 9 (gone)"]);
        for index in 100..100 + GONE as u32 {
            names.add(index, "other".to_owned());
            names.remove(index);
        }
        assert_eq!(names.resolve(7), "interface 7 (gone)");
        names.add(100, "new".to_owned());
        assert_eq!(names.resolve(100), "new");
    }
}

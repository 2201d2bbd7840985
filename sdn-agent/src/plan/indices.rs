//! Numbers of nodes: what maps and flows call a node by. They mean something on this node only.
//!
//! A number stays a node's as long as the node is known. After that it is reserved until apply says that no map refers to it and
//! no running program can hold it any more; only then may another node have it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sdn_common::{Addr6, Node, maps};

/// Which node has which number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indices {
    assigned: BTreeMap<Arc<str>, u32>,
    /// All that may not be given out: the assigned and the reserved ones.
    in_use: BTreeSet<u32>,
    /// Still in the kernel's maps, but no known node's.
    reserved: BTreeSet<u32>,
    /// Of the reserved ones, those of which the tunnel address is known: an earlier agent's.
    by_tunnel: BTreeMap<Addr6, u32>,
}

impl Indices {
    /// Takes over the numbers that an earlier agent gave out: those of the map `NODES`, and whatever else the maps refer to (a
    /// node without a tunnel address is not in `NODES`).
    pub fn seeded(nodes: impl IntoIterator<Item = (u32, Node)>, referred: impl IntoIterator<Item = u32>) -> Self {
        let mut indices = Self::default();
        for (index, node) in nodes {
            if index != Node::SELF && node.flags & Node::VALID != 0 {
                indices.reserved.insert(index);
                indices.by_tunnel.insert(node.tunnel, index);
            }
        }
        indices.reserved.extend(referred.into_iter().filter(|index| *index != Node::SELF));
        indices.in_use = indices.reserved.clone();
        indices
    }

    /// The node's number: the one it has, or the one that an earlier agent gave to its tunnel address, or a free one. `None`
    /// if there is none left.
    pub(super) fn assign(&mut self, name: &Arc<str>, tunnel: Option<Addr6>) -> Option<u32> {
        if let Some(index) = self.assigned.get(name) {
            return Some(*index);
        }
        let index = match tunnel.and_then(|tunnel| self.by_tunnel.remove(&tunnel)) {
            Some(index) => {
                self.reserved.remove(&index);
                index
            }
            None => self.lowest_free()?,
        };
        self.assigned.insert(name.clone(), index);
        self.in_use.insert(index);
        Some(index)
    }

    /// Reserves the numbers of nodes that are not among those named.
    pub(super) fn retain(&mut self, is_known: impl Fn(&str) -> bool) {
        let gone = self.assigned.extract_if(.., |name, _| !is_known(name));
        self.reserved.extend(gone.map(|(_, index)| index));
    }

    /// Frees a number: nothing in the kernel refers to it any more.
    pub fn release(&mut self, index: u32) {
        if self.reserved.remove(&index) {
            self.in_use.remove(&index);
        }
        self.by_tunnel.retain(|_, held| *held != index);
    }

    /// Numbers that wait for [`Indices::release`].
    pub fn reserved(&self) -> impl Iterator<Item = u32> {
        self.reserved.iter().copied()
    }

    fn lowest_free(&self) -> Option<u32> {
        // The first gap in what is in use.
        let free = (1..).zip(&self.in_use).find_map(|(free, used)| (*used != free).then_some(free));
        let free = free.unwrap_or(1 + self.in_use.len() as u32);
        (free < maps::NODES).then_some(free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Arc<str> {
        Arc::from(text)
    }

    fn tunnel(last: u32) -> Addr6 {
        Addr6([0, 0, 0, last])
    }

    #[test]
    fn a_number_is_not_given_again_before_it_is_released() {
        let mut indices = Indices::default();
        assert_eq!(indices.assign(&name("a"), None), Some(1));
        assert_eq!(indices.assign(&name("b"), None), Some(2));
        indices.retain(|name| name == "b");
        assert_eq!(indices.assign(&name("c"), None), Some(3));
        assert_eq!(indices.reserved().collect::<Vec<_>>(), [1]);
        indices.release(1);
        assert_eq!(indices.assign(&name("d"), None), Some(1));
        assert_eq!(indices.assign(&name("b"), None), Some(2), "a known node keeps its own");
    }

    #[test]
    fn an_earlier_agents_numbers_are_found_by_tunnel_address() {
        let valid = |tunnel| Node { tunnel, flags: Node::VALID };
        let free = Node { tunnel: tunnel(9), flags: 0 };
        let seeds = [(0, valid(tunnel(1))), (1, valid(tunnel(2))), (2, valid(tunnel(3))), (3, free)];
        let mut indices = Indices::seeded(seeds, [2, 0, 3]);
        assert_eq!(indices.assign(&name("late"), Some(tunnel(7))), Some(4), "1 to 3 are taken");
        assert_eq!(indices.assign(&name("b"), Some(tunnel(3))), Some(2));
        assert_eq!(indices.reserved().collect::<Vec<_>>(), [1, 3]);
        indices.release(1);
        assert_eq!(indices.assign(&name("a"), Some(tunnel(2))), Some(1), "free, so the lowest");
    }

    #[test]
    fn there_is_an_end() {
        let mut indices = Indices::default();
        for number in 1..maps::NODES {
            assert_eq!(indices.assign(&name(&format!("node-{number}")), None), Some(number));
        }
        assert_eq!(indices.assign(&name("one-too-many"), None), None);
    }
}

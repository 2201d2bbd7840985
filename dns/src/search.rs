//! Search paths completed here, so that a name costs a pod one query and not one for each of its search domains.
//!
//! With `ndots:5` a pod asks for `www.example.com` as `www.example.com.NAMESPACE.svc.ZONE` first. Where that does not
//! exist, what comes next is known: the other search domains, at last the name itself. The first that exists is the
//! answer, as an alias. The asking pod's own namespace decides, so that it is never another's search path: this node
//! gave the pod its address.

use crate::{
    answer::Answerer,
    index::Index,
    records::Found,
    wire::{Name, rtype},
    zone::Zone,
};
use arc_swap::ArcSwap;

/// How search paths go on after the cluster's domains.
#[derive(Debug)]
pub(crate) struct Search {
    /// The node's own search domains.
    pub(crate) domains: ArcSwap<Vec<Name>>,
}

/// A name that a search path made: so many of its labels are what was meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Searched {
    labels: usize,
}

impl Search {
    /// Whether a name that does not exist is what the search path of a pod in this namespace makes first.
    pub(crate) fn recognize(
        &self,
        answerer: &Answerer,
        index: &Index,
        name: &Name,
        rtype: u16,
        namespace: &str,
    ) -> Option<Searched> {
        let Zone::Cluster(depth) = answerer.authority.zone_of(name) else { return None };
        let labels = depth.checked_sub(2).filter(|labels| *labels > 0)?;
        let is_first = name.label(labels + 1) == b"svc" && name.label(labels) == namespace.as_bytes();
        // A Service that has no address now has not become a name on the internet.
        let is_service = labels == 1 && index.service(name.slice(0, 2)).is_some();
        (is_first && !is_service && rtype != rtype::ANY && index.synced).then_some(Searched { labels })
    }

    /// What the search path leads to in the cluster's own domains.
    pub(crate) fn in_cluster(
        &self,
        answerer: &Answerer,
        index: &Index,
        name: &Name,
        rtype: u16,
        searched: Searched,
    ) -> Option<Name> {
        let zones = &answerer.authority.zones;
        let candidates = [&*zones.services, zones.cluster.wire()].map(|suffix| name.joined(searched.labels, suffix));
        candidates.into_iter().flatten().find(|candidate| {
            let found = answerer.find(index, candidate, rtype);
            matches!(found, Some((_, Found::Records(_) | Found::Alias(_) | Found::Empty { leaf: true })))
        })
    }

    /// The names outside that the search path leads to, in its order, from the one number `first` on.
    pub(crate) fn outside(
        &self,
        answerer: &Answerer,
        name: &Name,
        searched: Searched,
        first: usize,
    ) -> Option<(usize, Name)> {
        let domains = self.domains.load();
        let is_outside = |name: &Name| answerer.authority.zone_of(name) == Zone::Elsewhere;
        let labels = searched.labels;
        // Names of one label are not asked for as they are: there are none.
        let itself = (labels > 1).then(|| name.joined(labels, &[0])).flatten();
        let made = domains.iter().map(|domain| name.joined(labels, domain.wire())).chain([itself]);
        let mut made = made.enumerate().skip(first).filter_map(|(number, name)| Some((number, name?)));
        made.find(|(_, name)| is_outside(name))
    }
}

#[cfg(test)]
mod tests;

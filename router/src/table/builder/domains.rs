//! Claims by host, in the order of their age, and hosts by domain: what can collide stands together.

use crate::admission::{Claim, HostKey};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// All claims with a valid host.
#[derive(Default)]
pub(super) struct Domains {
    hosts: HashMap<HostKey, Vec<Arc<Claim>>>,
    /// The hosts of each domain, its wildcard among them.
    domains: HashMap<Arc<str>, BTreeSet<HostKey>>,
}

// === impl Domains ===

impl Domains {
    pub fn insert(&mut self, claim: Arc<Claim>) {
        let key = claim.host_key();
        self.domains.entry(claim.domain().into()).or_default().insert(key.clone());
        let claims = self.hosts.entry(key).or_default();
        let place = claims.partition_point(|other| other.age(&claim).is_lt());
        claims.insert(place, claim);
    }

    /// Whether it was there.
    pub fn remove(&mut self, claim: &Claim) -> bool {
        let key = claim.host_key();
        let Some(claims) = self.hosts.get_mut(&key) else { return false };
        let count = claims.len();
        claims.retain(|other| other.id != claim.id);
        let was_there = claims.len() < count;
        if claims.is_empty() {
            self.hosts.remove(&key);
            if let Some(hosts) = self.domains.get_mut(claim.domain()) {
                hosts.remove(&key);
                if hosts.is_empty() {
                    self.domains.remove(claim.domain());
                }
            }
        }
        was_there
    }

    /// The claims to one host, the oldest first.
    pub fn claims_of(&self, key: &HostKey) -> impl Iterator<Item = &Arc<Claim>> {
        self.hosts.get(key).into_iter().flatten()
    }

    /// What must be judged together because of these hosts: the claims to each, or, where a domain has (or had) a
    /// wildcard, all those to the domain.
    pub fn groups(&self, touched: &BTreeSet<HostKey>) -> Vec<Vec<Arc<Claim>>> {
        let mut whole: BTreeSet<Arc<str>> = BTreeSet::new();
        let mut groups = Vec::new();
        for key in touched {
            let domain = domain_of(key);
            let wildcard = HostKey { name: domain.into(), is_wildcard: true };
            if key.is_wildcard || self.hosts.contains_key(&wildcard) {
                whole.insert(domain.into());
            } else {
                groups.push(self.claims_of(key).cloned().collect());
            }
        }
        for domain in whole {
            let hosts = self.domains.get(&domain).into_iter().flatten();
            let mut claims: Vec<_> = hosts.flat_map(|key| self.claims_of(key)).cloned().collect();
            claims.sort_by(|one, other| one.age(other));
            groups.push(claims);
        }
        groups
    }
}

fn domain_of(key: &HostKey) -> &str {
    if key.is_wildcard { &key.name } else { key.name.split_once('.').map_or("", |(_, domain)| domain) }
}

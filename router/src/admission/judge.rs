//! Who owns a host. The oldest claim to a host gives it to its namespace; within that, paths are given to the oldest.

use super::{Claim, HostKey, Reason, Rejection};
use crate::table::Termination;
use std::{collections::HashMap, sync::Arc};

/// What became of a claim: it holds, or an older one is in its way.
pub(crate) type Verdict = Result<(), Conflict>;

/// An older claim that is in the way.
#[derive(Clone, Debug)]
pub(crate) struct Conflict {
    /// Whose.
    pub owner: Arc<Claim>,
    /// A wildcard is in the way of a host, or the other way round.
    pub is_across: bool,
}

/// Judges claims, which come in the order of their age. All claims that can collide must be among them: those to one
/// host, or, where there are wildcards, all those to a domain. Every claim's host is valid.
pub(crate) fn judge(claims: &[Arc<Claim>], share_hosts: bool) -> Vec<Verdict> {
    let mut holders: HashMap<HostKey, Holders<'_>> = HashMap::new();
    // Who holds a wildcard, and who holds hosts: within one domain.
    let (mut wildcards, mut hosts): (Vec<&Arc<Claim>>, Vec<&Arc<Claim>>) = Default::default();
    let mut verdicts = Vec::with_capacity(claims.len());
    for claim in claims {
        let same = holders.entry(claim.host_key()).or_default();
        let across = if claim.is_wildcard { &hosts } else { &wildcards };
        let foreign = |other: &&&Arc<Claim>| !share_hosts && other.id.namespace != claim.id.namespace;
        let conflict = |owner: &Arc<Claim>, is_across| Conflict { owner: owner.clone(), is_across };
        let verdict = if let Some(owner) = same.first.iter().find(foreign).or(same.in_the_way(claim).as_ref()) {
            Err(conflict(owner, false))
        } else if let Some(owner) = across.iter().find(foreign) {
            Err(conflict(owner, true))
        } else {
            same.add(claim);
            // One of each namespace tells what the others would.
            let own = if claim.is_wildcard { &mut wildcards } else { &mut hosts };
            if !own.iter().any(|other| other.id.namespace == claim.id.namespace) {
                own.push(claim);
            }
            Ok(())
        };
        verdicts.push(verdict);
    }
    verdicts
}

/// The claims to one host that hold.
#[derive(Default)]
struct Holders<'a> {
    /// The oldest: unless hosts are shared, all are of its namespace.
    first: Option<&'a Arc<Claim>>,
    /// By path, and whether only that is meant.
    paths: HashMap<(&'a str, bool), &'a Arc<Claim>>,
    /// The one that passes TLS through.
    passthrough: Option<&'a Arc<Claim>>,
    /// The oldest with TLS.
    tls: Option<&'a Arc<Claim>>,
}

// === impl Holders ===

impl<'a> Holders<'a> {
    /// Who holds what `claim` wants: the same path, or, where one of the two passes TLS through, all TLS of the host.
    fn in_the_way(&self, claim: &Claim) -> Option<&'a Arc<Claim>> {
        let of_path = self.paths.get(&(claim.path(), claim.is_exact)).copied();
        of_path.or(match claim.termination() {
            Termination::Plain => None,
            Termination::Passthrough => self.tls,
            Termination::Edge | Termination::Reencrypt => self.passthrough,
        })
    }

    fn add(&mut self, claim: &'a Arc<Claim>) {
        self.first.get_or_insert(claim);
        self.paths.insert((claim.path(), claim.is_exact), claim);
        match claim.termination() {
            Termination::Plain => return,
            Termination::Passthrough => self.passthrough = Some(claim),
            Termination::Edge | Termination::Reencrypt => {}
        }
        self.tls.get_or_insert(claim);
    }
}

// === impl Conflict ===

impl Conflict {
    /// What the loser is told. `was_admitted`: it held until the older claim came.
    pub fn rejection(&self, loser: &Claim, was_admitted: bool, allow_wildcards: bool) -> Rejection {
        let (owner, host) = (&self.owner, &loser.host);
        let is_foreign = owner.id.namespace != loser.id.namespace;
        let message = if is_foreign && (self.is_across || allow_wildcards) {
            format!("a route in another namespace holds host {host}")
        } else if was_admitted {
            format!("replaced by older route {}", owner.id.name)
        } else if is_foreign {
            format!("a route in another namespace holds {host} and is older than {}", loser.id.name)
        } else {
            format!("route {} already exposes {host} and is older", owner.id.name)
        };
        Rejection::new(Reason::HostAlreadyClaimed, message)
    }
}

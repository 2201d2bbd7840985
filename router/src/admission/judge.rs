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
    let mut holders: HashMap<HostKey, Vec<&Arc<Claim>>> = HashMap::new();
    // Who holds a wildcard, and who holds hosts: within one domain.
    let (mut wildcards, mut hosts): (Vec<&Arc<Claim>>, Vec<&Arc<Claim>>) = Default::default();
    let mut verdicts = Vec::with_capacity(claims.len());
    for claim in claims {
        let same = holders.entry(claim.host_key()).or_default();
        let across = if claim.is_wildcard { &hosts } else { &wildcards };
        let foreign = |other: &&&Arc<Claim>| !share_hosts && other.id.namespace != claim.id.namespace;
        let conflict = |owner: &Arc<Claim>, is_across| Conflict { owner: owner.clone(), is_across };
        let verdict = if let Some(owner) = same.iter().find(|other| foreign(other) || collide(claim, other)) {
            Err(conflict(owner, false))
        } else if let Some(owner) = across.iter().find(foreign) {
            Err(conflict(owner, true))
        } else {
            same.push(claim);
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

/// Whether two claims of one namespace to one host cannot both hold: they have the same path, or one passes TLS through,
/// which is for the whole host.
fn collide(one: &Claim, other: &Claim) -> bool {
    let (mine, others) = (one.termination(), other.termination());
    let both_tls = mine != Termination::Plain && others != Termination::Plain;
    let passthrough = mine == Termination::Passthrough || others == Termination::Passthrough;
    (one.path() == other.path() && one.is_exact == other.is_exact) || (both_tls && passthrough)
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

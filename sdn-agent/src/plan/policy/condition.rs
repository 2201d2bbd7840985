//! How much there is room for, and what found none.

use std::fmt;
use std::sync::Arc;

use sdn_cluster::model::PolicyKey;
use sdn_cluster::verdict::Direction;
use sdn_common::maps;

use super::sets::TooLarge;

/// How much there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries of all sets: half of what the kernel's map takes, so that a set and its successor fit side by side.
    pub rules: usize,
    /// Entries of the sets of one namespace's policies.
    pub rules_of_namespace: usize,
    /// Identities.
    pub identities: usize,
    /// CIDR blocks, per family.
    pub blocks: usize,
    /// Rules of policies that have a name.
    pub authors: usize,
}

/// Something that found no room, and what that means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// A set has more entries than there is room for: nothing passes the pods that it isolates.
    SetTooLarge(TooLarge),
    /// There are more different peers than numbers: this many addresses are matched by rules for anybody only.
    IdentitiesExhausted(usize),
    /// There are more CIDR blocks than the kernel's tries take: this many admit nobody.
    BlocksExhausted(usize),
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        // What is new is written before what is old goes, so that a map is never filled to its brim.
        let most = |capacity: u32| capacity as usize / 16 * 15;
        let rules = maps::POLICY_RULES as usize / 2;
        Self {
            rules,
            rules_of_namespace: rules / 2,
            identities: 65_536,
            blocks: most(maps::CIDRS),
            authors: most(maps::AUTHORS),
        }
    }
}

// === impl Condition ===

impl Condition {
    /// Every kind, as metrics and commands call it.
    pub const KINDS: [&str; 3] = ["SetTooLarge", "IdentitiesExhausted", "BlocksExhausted"];

    /// Its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::SetTooLarge(_) => Self::KINDS[0],
            Self::IdentitiesExhausted(_) => Self::KINDS[1],
            Self::BlocksExhausted(_) => Self::KINDS[2],
        }
    }

    /// The policies that it is about; none where it concerns all.
    pub fn policies(&self) -> impl Iterator<Item = PolicyKey> {
        let too_large = match self {
            Self::SetTooLarge(set) => Some(set),
            Self::IdentitiesExhausted(_) | Self::BlocksExhausted(_) => None,
        };
        let key = |set: &TooLarge, name: &Arc<str>| PolicyKey::new(set.namespace.clone(), name.clone());
        too_large.into_iter().flat_map(move |set| set.policies.iter().map(move |name| key(set, name)))
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetTooLarge(TooLarge { namespace, direction, policies, needed, room }) => {
                let direction = match direction {
                    Direction::Ingress => "ingress",
                    Direction::Egress => "egress",
                };
                let policies = policies.join(", ");
                write!(
                    f,
                    "policies {policies} of namespace {namespace} need {needed} entries for {direction}, and there is room for {room}: \
                     nothing passes the pods that they isolate"
                )
            }
            Self::IdentitiesExhausted(addresses) => write!(
                f,
                "policies tell more peers apart than there are numbers for: {addresses} addresses are admitted only where anybody is"
            ),
            Self::BlocksExhausted(blocks) => {
                write!(
                    f,
                    "policies name more CIDR blocks than there is room for: rules admit nobody by {blocks} of them"
                )
            }
        }
    }
}

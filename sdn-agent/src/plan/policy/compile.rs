//! The compiler: ordered tiers of rules that allow, deny or pass become one function from (protocol, port) to verdict and author,
//! for one peer.
//!
//! Each block that a rule names is looked at once, from the outermost inwards. What it says is settled by the rules that hold for
//! all of it, tier by tier, and an entry is written where that differs from what a look-up would find otherwise: in the nearest
//! entry around it, or, where the peer has none, in the entries for any peer. So an any-peer rule stands beside a peer's own
//! entries exactly where those would hide it.

use sdn_common::{Author, Rule, SetRef};

use super::ports::Block;

/// What a rule does with what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(test), expect(dead_code, reason = "NetworkPolicy only allows; the tiers around it deny and pass"))]
pub(crate) enum Action {
    Allow,
    Deny,
    /// The rest of this tier is not asked.
    Pass,
}

/// A rule of a tier. The first of a tier's rules that matches decides, unless it passes; where none matches, the next tier is
/// asked. Of tiers at most one isolates: where none of its rules matches, the answer is no, and that is the set's default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TierRule<P> {
    /// The peers that it is about.
    pub(crate) peers: P,
    pub(crate) action: Action,
    pub(crate) author: Author,
    pub(crate) ports: Ports,
}

/// Which protocols and ports a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ports {
    /// These.
    Blocks(Vec<Block>),
    /// Those that the destination, which is the peer, calls so.
    Named(std::sync::Arc<str>, sdn_cluster::model::Protocol),
}

/// A rule that holds for the peer at hand.
#[derive(Clone, Debug)]
pub(crate) struct Applied<'a> {
    pub(crate) tier: usize,
    pub(crate) action: Action,
    pub(crate) author: Author,
    pub(crate) blocks: std::borrow::Cow<'a, [Block]>,
    /// It holds for any peer.
    pub(crate) any: bool,
}

/// An entry of a set for one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) block: Block,
    pub(crate) rule: Rule,
}

/// What is asked of the tiers besides their rules: who isolates in each.
pub(crate) type Isolations = [Option<Author>];

/// What a block's packets get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// No rule decides, and a tier isolates.
    Default,
    Decided(Rule),
}

/// A block around the one at hand.
struct Around {
    block: Block,
    /// Rules whose block it is.
    rules: Vec<usize>,
    /// What the nearest entry says; `None` where the peer has no entry so far.
    entry: Option<Outcome>,
}

/// The entries for any peer, from the rules that hold for any.
pub(crate) fn for_any(rules: &[Applied], isolations: &Isolations) -> Vec<Entry> {
    entries(rules, isolations, Some(Outcome::Default))
}

/// A peer's own entries. `rules` are all that hold for it in their order, those for any peer among them.
pub(crate) fn for_peer(rules: &[Applied], isolations: &Isolations) -> Vec<Entry> {
    entries(rules, isolations, None)
}

/// Which shapes the entries under identities can have, whoever matches. A rule for any peer gives its shapes only within a block
/// of another rule: elsewhere it is found under any.
pub(crate) fn shapes_under_identities(specific: &[Block], any: &[Block]) -> u64 {
    let hidden = any.iter().filter(|block| specific.iter().any(|outer| outer != *block && outer.contains(**block)));
    let bits: u64 = specific.iter().chain(hidden).fold(0, |bits, block| bits | block.shape());
    bits << SetRef::UNDER_IDENTITY
}

/// Which shapes the entries under any have.
pub(crate) fn shapes_under_any(entries: &[Entry]) -> u64 {
    entries.iter().fold(0, |bits, entry| bits | entry.block.shape()) << SetRef::UNDER_ANY
}

/// `base` is what is found without an entry; `None`: what those for any peer say.
fn entries(rules: &[Applied], isolations: &Isolations, base: Option<Outcome>) -> Vec<Entry> {
    let default = isolations.iter().flatten().next().copied().unwrap_or_default();
    let mut named: Vec<(Block, usize)> = rules
        .iter()
        .enumerate()
        .flat_map(|(index, rule)| rule.blocks.iter().map(move |block| (*block, index)))
        .collect();
    // What holds everywhere is said even where no rule does: a set that does not isolate allows.
    named.push((Block::ALL, usize::MAX));
    named.sort_unstable();
    let (mut entries, mut around) = (Vec::new(), Vec::<Around>::new());
    for group in named.chunk_by(|one, other| one.0 == other.0) {
        let block = group[0].0;
        while around.last().is_some_and(|outer| !outer.block.contains(block)) {
            around.pop();
        }
        let own: Vec<usize> = group.iter().map(|(_, index)| *index).filter(|index| *index != usize::MAX).collect();
        let mut active: Vec<usize> = around.iter().flat_map(|outer| &outer.rules).chain(&own).copied().collect();
        active.sort_unstable();
        let outcome = decide(&active, rules, isolations, false);
        let nearest = around.last().map_or(base, |outer| outer.entry);
        let found = nearest.unwrap_or_else(|| decide(&active, rules, isolations, true));
        let differs = outcome != found;
        if differs {
            entries.push(Entry { block, rule: outcome.rule(default) });
        }
        let entry = if differs { Some(outcome) } else { nearest };
        around.push(Around { block, rules: own, entry });
    }
    entries
}

/// What the rules that hold say together; with `any_only` what those for any peer say.
fn decide(active: &[usize], rules: &[Applied], isolations: &Isolations, any_only: bool) -> Outcome {
    for (tier, isolation) in isolations.iter().enumerate() {
        let first = active.iter().map(|index| &rules[*index]).find(|rule| rule.tier == tier && (rule.any || !any_only));
        let verdict = match first.map(|rule| rule.action) {
            Some(Action::Allow) => Rule::ALLOW,
            Some(Action::Deny) => Rule::DENY,
            None if isolation.is_some() => return Outcome::Default,
            Some(Action::Pass) | None => continue,
        };
        return Outcome::Decided(Rule { author: first.map_or(Author::NONE, |rule| rule.author), verdict });
    }
    Outcome::Decided(Rule { author: Author::NONE, verdict: Rule::ALLOW })
}

// === impl Outcome ===

impl Outcome {
    fn rule(self, default: Author) -> Rule {
        match self {
            Self::Default => Rule { author: default, verdict: Rule::DENY },
            Self::Decided(rule) => rule,
        }
    }
}

#[cfg(test)]
mod tests;

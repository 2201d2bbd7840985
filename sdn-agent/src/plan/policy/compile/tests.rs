use proptest::collection::vec;
use proptest::prelude::*;
use sdn_cluster::model::Protocol;

use super::*;

fn allow(author: u32) -> Rule {
    Rule { author: Author(author), verdict: Rule::ALLOW }
}

fn deny(author: u32) -> Rule {
    Rule { author: Author(author), verdict: Rule::DENY }
}

fn applied(tier: usize, action: Action, author: u32, any: bool, blocks: &[Block]) -> Applied<'static> {
    Applied { tier, action, author: Author(author), blocks: blocks.to_vec().into(), any }
}

fn tcp(port: u16) -> Block {
    Block::port(Protocol::Tcp, port)
}

/// The first hit, as a packet finds it.
fn look_up(peer: &[Entry], any: &[Entry], point: Block) -> Option<Rule> {
    let longest = |entries: &[Entry]| entries.iter().rfind(|entry| entry.block.contains(point)).map(|entry| entry.rule);
    longest(peer).or_else(|| longest(any))
}

/// The rules read as they are meant, for one point.
fn read(rules: &[Applied], isolations: &Isolations, point: Block) -> Rule {
    for (tier, isolation) in isolations.iter().enumerate() {
        let holds = |rule: &&Applied| rule.tier == tier && rule.blocks.iter().any(|block| block.contains(point));
        match (rules.iter().find(holds), isolation) {
            (Some(Applied { action: Action::Allow, author, .. }), _) => return allow(author.0),
            (Some(Applied { action: Action::Deny, author, .. }), _) => return deny(author.0),
            (Some(_), _) | (None, None) => {}
            (None, Some(author)) => return deny(author.0),
        }
    }
    allow(0)
}

#[test]
fn a_peers_entries_beside_those_for_any() {
    let isolated = [Some(Author(9))];
    let (all, web) = ([Block::ALL], [tcp(80)]);
    // (rules, entries of the peer, entries for any)
    type Row<'a> = (&'a str, Vec<Applied<'a>>, Vec<(Block, Rule)>, Vec<(Block, Rule)>);
    let rule = |author, any, blocks: &[Block]| applied(0, Action::Allow, author, any, blocks);
    let rows: [Row; 7] = [
        ("nothing", vec![], vec![], vec![]),
        ("any alone", vec![rule(1, true, &web)], vec![], vec![(tcp(80), allow(1))]),
        ("the peer's alone", vec![rule(1, false, &all)], vec![(Block::ALL, allow(1))], vec![]),
        (
            "one for any that the peer's would hide",
            vec![rule(1, true, &web), rule(2, false, &all)],
            vec![(Block::ALL, allow(2)), (tcp(80), allow(1))],
            vec![(tcp(80), allow(1))],
        ),
        (
            "the peer's comes first",
            vec![rule(1, false, &all), rule(2, true, &web)],
            vec![(Block::ALL, allow(1))],
            vec![(tcp(80), allow(2))],
        ),
        (
            "any's around the peer's",
            vec![rule(1, false, &web), rule(2, true, &all)],
            vec![(tcp(80), allow(1))],
            vec![(Block::ALL, allow(2))],
        ),
        (
            "any's first around the peer's",
            vec![rule(1, true, &all), rule(2, false, &web)],
            vec![],
            vec![(Block::ALL, allow(1))],
        ),
    ];
    for (name, rules, peer, any) in rows {
        let found = |entries: Vec<Entry>| entries.iter().map(|entry| (entry.block, entry.rule)).collect::<Vec<_>>();
        assert_eq!(found(for_peer(&rules, &isolated)), peer, "{name}: peer");
        let for_all: Vec<Applied> = rules.iter().filter(|rule| rule.any).cloned().collect();
        assert_eq!(found(for_any(&for_all, &isolated)), any, "{name}: any");
    }
}

#[test]
fn a_set_that_does_not_isolate_allows() {
    let rules = [applied(0, Action::Deny, 1, true, &[tcp(25)])];
    let entries = for_any(&rules, &[None]);
    let found: Vec<_> = entries.iter().map(|entry| (entry.block, entry.rule)).collect();
    assert_eq!(found, [(Block::ALL, allow(0)), (tcp(25), deny(1))]);
}

fn block() -> impl Strategy<Value = Block> {
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
    (0..6_u8, protocol, 0..64_u16, 0..40_u16).prop_map(|(kind, protocol, first, more)| match kind {
        0 => Block::ALL,
        1 => Block::protocol(protocol),
        2 | 3 => Block::port(protocol, first),
        _ => Block::range(protocol, first..=first + more)[0],
    })
}

fn rules() -> impl Strategy<Value = Vec<Applied<'static>>> {
    let action = prop_oneof![3 => Just(Action::Allow), 2 => Just(Action::Deny), 1 => Just(Action::Pass)];
    let rule = (0..3_usize, action, any::<bool>(), vec(block(), 0..4));
    vec(rule, 0..10).prop_map(|mut rules| {
        rules.sort_by_key(|rule| rule.0);
        let number = |(index, (tier, action, any, blocks)): (u32, (usize, Action, bool, Vec<Block>))| {
            applied(tier, action, index, any, &blocks)
        };
        (1..).zip(rules).map(number).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_found_is_what_the_rules_say(rules in rules(), isolating in 0..4_usize) {
        let mut isolations = [None; 3];
        if let Some(isolation) = isolations.get_mut(isolating) {
            *isolation = Some(Author(99));
        }
        let any: Vec<Applied> = rules.iter().filter(|rule| rule.any).cloned().collect();
        let (of_peer, of_any) = (for_peer(&rules, &isolations), for_any(&any, &isolations));
        let default = deny(isolations.iter().flatten().next().map_or(0, |author| author.0));
        let specific: Vec<Block> = rules.iter().filter(|rule| !rule.any).flat_map(|rule| rule.blocks.to_vec()).collect();
        let general: Vec<Block> = any.iter().flat_map(|rule| rule.blocks.to_vec()).collect();
        let shapes = shapes_under_identities(&specific, &general);
        for entry in &of_peer {
            prop_assert!(shapes & entry.block.shape() != 0, "{:?} is looked up", entry);
        }
        let ports = (0..110_u16).flat_map(|port| [tcp(port), Block::port(Protocol::Udp, port)]);
        for point in ports.chain([Block::port(Protocol::Sctp, 5)]) {
            let found = look_up(&of_peer, &of_any, point).unwrap_or(default);
            prop_assert_eq!(found, read(&rules, &isolations, point), "peer at {:?}", point);
            let found = look_up(&[], &of_any, point).unwrap_or(default);
            prop_assert_eq!(found, read(&any, &isolations, point), "any at {:?}", point);
        }
    }
}

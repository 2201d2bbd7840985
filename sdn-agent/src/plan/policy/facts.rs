//! Everything that a policy can ask about a peer, and nothing else.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use sdn_cluster::model::{LabelSelector, NetworkPolicy, Peer, Pod, PolicyPort, PortMatch, Protocol, Rule, Scope};
use sdn_cluster::verdict::Direction;
use sdn_common::Identity;

use super::blocks::{Blocks, Chain};

/// A port by its name: the name, the protocol it is for, and what it means.
pub(super) type NamedPort = (Arc<str>, Protocol, u16);

/// What policies can ask about an address: equal facts share an identity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Facts {
    pub(super) who: Who,
    /// The blocks in use that contain the address.
    pub(super) blocks: Chain,
    /// Blocks that contain some of the addresses that these facts are about and not all of them: this node's own, which share one
    /// number, because by it the programs know what the node's own sockets send.
    pub(super) partly: Chain,
}

/// Who is behind an address, as far as policies ask.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Who {
    /// A pod of which no object is known (yet): nothing but its address can be asked about it.
    Unknown,
    /// A node, or a pod in its network.
    Host {
        /// This node.
        own: bool,
    },
    /// Nobody of the cluster.
    Outside,
    /// A pod, while no policy asks anything about pods.
    AnyPod,
    /// A pod.
    Pod(Arc<PodFacts>),
}

/// What policies can ask about a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PodFacts {
    pub(super) namespace: Arc<str>,
    /// Of its labels those that a policy's peers ask for, sorted.
    pub(super) labels: sdn_cluster::model::Labels,
    /// Of its named ports those that a policy's egress rules name, sorted.
    pub(super) ports: Vec<NamedPort>,
}

/// The words that the policies of the cluster use: what they can ask. Counted, so that a word goes with its last use.
#[derive(Clone, Debug, Default)]
pub(super) struct Vocabulary {
    /// Peers that ask about pods at all.
    pods: u32,
    labels: BTreeMap<String, u32>,
    ports: BTreeMap<Arc<str>, u32>,
    pub(super) blocks: Blocks,
    /// Most blocks of a family.
    most_blocks: usize,
    /// Blocks that found no room, with the number of their uses.
    pub(super) refused: BTreeMap<ipnet::IpNet, u32>,
}

/// What is asked that was not before, or is not any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Words {
    /// All pods: whether anything is asked about them at all.
    pub(crate) pods: bool,
    /// Keys of labels.
    pub(crate) labels: Vec<String>,
    /// Names of ports.
    pub(crate) ports: Vec<Arc<str>>,
    /// Blocks.
    pub(crate) blocks: Vec<ipnet::IpNet>,
}

/// One word.
enum Word<'a> {
    Pods,
    Label(&'a str),
    Port(&'a Arc<str>),
    Block(ipnet::IpNet),
}

// === impl Facts ===

impl Facts {
    /// What is known of one address.
    pub(super) fn new(who: Who, blocks: Chain) -> Self {
        Self { who, blocks, partly: Chain::default() }
    }

    /// What is known of all of this node's addresses together.
    pub(super) fn of_this_node(addresses: &BTreeSet<IpAddr>, blocks: &Blocks) -> Self {
        let (mut all, mut some) = (BTreeSet::new(), BTreeSet::new());
        let chains: Vec<Chain> = addresses.iter().map(|address| blocks.around(*address)).collect();
        for block in chains.iter().flat_map(|chain| chain.iter()) {
            let whole = chains.iter().all(|chain| chain.contains(block));
            if whole {
                all.insert(*block)
            } else {
                some.insert(*block)
            };
        }
        Self { who: Who::Host { own: true }, blocks: all.into_iter().collect(), partly: some.into_iter().collect() }
    }

    /// The fixed number of facts that need no other.
    pub(super) fn fixed(&self) -> Option<Identity> {
        if self.who == (Who::Host { own: true }) {
            return Some(Identity::HOST);
        }
        if !self.blocks.is_empty() {
            return None;
        }
        match self.who {
            Who::Unknown => Some(Identity::UNKNOWN),
            Who::Host { .. } => Some(Identity::NODE),
            Who::Outside => Some(Identity::OUTSIDE),
            Who::AnyPod => Some(Identity::POD),
            Who::Pod(_) => None,
        }
    }

    /// All facts with fixed numbers.
    pub(super) fn all_fixed() -> impl Iterator<Item = (Identity, Self)> {
        let all = [Who::Unknown, Who::Host { own: true }, Who::Host { own: false }, Who::Outside, Who::AnyPod];
        all.into_iter().filter_map(|who| {
            let facts = Self::new(who, Chain::default());
            Some((facts.fixed()?, facts))
        })
    }

    /// The pod's named ports.
    pub(super) fn ports(&self) -> &[NamedPort] {
        match &self.who {
            Who::Pod(pod) => &pod.ports,
            _ => &[],
        }
    }
}

// === impl Vocabulary ===

impl Vocabulary {
    /// No words. There is room for this many blocks of a family.
    pub(super) fn new(most_blocks: usize) -> Self {
        Self { most_blocks, ..Self::default() }
    }

    /// What can be asked about a pod with these labels and ports.
    pub(super) fn who(&self, pod: &Pod) -> Who {
        if self.pods == 0 {
            return Who::AnyPod;
        }
        let asked = pod.labels.iter().filter(|(key, _)| self.labels.contains_key(*key));
        let labels = asked.map(|(key, value)| (key.clone(), value.clone())).collect();
        let ports = named_ports(pod, |name| self.ports.contains_key(name));
        Who::Pod(Arc::new(PodFacts { namespace: pod.namespace.clone(), labels, ports }))
    }

    /// What can be asked about a pod of which there is no object.
    pub(super) fn stranger(&self) -> Who {
        if self.pods == 0 { Who::AnyPod } else { Who::Unknown }
    }

    /// Whether one of these words can be asked about a pod.
    pub(super) fn concerns(words: &Words, pod: &Pod) -> bool {
        words.pods
            || words.labels.iter().any(|key| pod.labels.contains_key(key))
            || pod.ports.iter().any(|port| port.name.as_ref().is_some_and(|name| words.ports.contains(name)))
    }

    /// Adds a policy's words.
    pub(super) fn add(&mut self, policy: &NetworkPolicy, new: &mut Words) {
        words(policy, &mut |word| match word {
            Word::Pods => {
                self.pods += 1;
                new.pods |= self.pods == 1;
            }
            Word::Label(key) => match self.labels.get_mut(key) {
                Some(uses) => *uses += 1,
                None => {
                    self.labels.insert(key.to_owned(), 1);
                    new.labels.push(key.to_owned());
                }
            },
            Word::Port(name) => {
                let uses = self.ports.entry(name.clone()).or_default();
                *uses += 1;
                if *uses == 1 {
                    new.ports.push(name.clone());
                }
            }
            Word::Block(block) => self.add_block(block, new),
        });
    }

    /// Takes a policy's words away. Returns those that nobody uses any more.
    pub(super) fn remove(&mut self, policy: &NetworkPolicy, gone: &mut Words) {
        words(policy, &mut |word| match word {
            Word::Pods => {
                self.pods -= 1;
                gone.pods |= self.pods == 0;
            }
            Word::Label(key) => {
                if release(&mut self.labels, key) {
                    gone.labels.push(key.to_owned());
                }
            }
            Word::Port(name) => {
                if release(&mut self.ports, name) {
                    gone.ports.push(name.clone());
                }
            }
            Word::Block(block) => {
                if !release(&mut self.refused, &block) && self.blocks.remove(block) {
                    gone.blocks.push(block);
                }
            }
        });
    }

    /// Blocks that found no room and would now.
    pub(super) fn readmit(&mut self, new: &mut Words) -> bool {
        let room = |blocks: &Blocks, block: &ipnet::IpNet| blocks.count(block.addr().is_ipv6()) < self.most_blocks;
        let mut readmitted = false;
        while let Some((block, uses)) = self.refused.iter().find(|(block, _)| room(&self.blocks, block)) {
            let (block, uses) = (*block, *uses);
            for _ in 0..uses {
                self.blocks.add(block);
            }
            self.refused.remove(&block);
            new.blocks.push(block);
            readmitted = true;
        }
        readmitted
    }

    fn add_block(&mut self, block: ipnet::IpNet, new: &mut Words) {
        let full = self.blocks.count(block.addr().is_ipv6()) >= self.most_blocks;
        if full && !self.blocks.contains(block) {
            *self.refused.entry(block).or_default() += 1;
        } else if self.blocks.add(block) {
            new.blocks.push(block);
        }
    }
}

/// One use less; whether it was the last. False also where there was none.
fn release<K: Ord + Borrow<Q>, Q: Ord + ?Sized>(uses: &mut BTreeMap<K, u32>, word: &Q) -> bool {
    let Some(count) = uses.get_mut(word) else { return false };
    *count -= 1;
    let last = *count == 0;
    if last {
        uses.remove(word);
    }
    last
}

/// Every word of a policy's rules. Its podSelector asks about its own pods, not about peers.
fn words(policy: &NetworkPolicy, found: &mut impl FnMut(Word)) {
    for direction in [Direction::Ingress, Direction::Egress] {
        for rule in direction.rules(policy).unwrap_or_default() {
            if let Scope::Only(peers) = &rule.peers {
                peers.iter().for_each(|peer| words_of_peer(peer, found));
            }
            if direction == Direction::Egress {
                for (name, _) in names(rule) {
                    found(Word::Pods);
                    found(Word::Port(name));
                }
            }
        }
    }
}

fn words_of_peer(peer: &Peer, found: &mut impl FnMut(Word)) {
    match peer {
        Peer::Pods(pods) => words_of_selector(pods, found),
        // Namespaces are asked by their own labels, which each peer's namespace leads to.
        Peer::Namespaces(_) => found(Word::Pods),
        Peer::PodsIn { pods, .. } => words_of_selector(pods, found),
        Peer::Block(block) => {
            found(Word::Block(block.cidr));
            block.except.iter().for_each(|except| found(Word::Block(*except)));
        }
    }
}

fn words_of_selector(selector: &LabelSelector, found: &mut impl FnMut(Word)) {
    found(Word::Pods);
    selector.labels.keys().for_each(|key| found(Word::Label(key)));
    selector.expressions.iter().for_each(|expression| found(Word::Label(&expression.key)));
}

/// The names that a rule's ports go by.
pub(super) fn names(rule: &Rule) -> impl Iterator<Item = (&Arc<str>, Protocol)> {
    let ports: &[PolicyPort] = match &rule.ports {
        Scope::Only(ports) => ports,
        Scope::Everything => &[],
    };
    ports.iter().filter_map(|port| match &port.port {
        PortMatch::Name(name) => Some((name, port.protocol)),
        _ => None,
    })
}

/// The pod's ports with one of the names asked for, sorted, each once.
pub(super) fn named_ports(pod: &Pod, asked: impl Fn(&str) -> bool) -> Vec<NamedPort> {
    let named = pod.ports.iter().filter_map(|port| Some((port.name.clone()?, port.protocol, port.port)));
    let mut ports: Vec<NamedPort> = named.filter(|(name, ..)| asked(name)).collect();
    ports.sort();
    ports.dedup();
    ports
}

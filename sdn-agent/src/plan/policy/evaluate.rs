//! The compiled form, asked as the programs ask it: for those who want an answer without a packet, and for tests of the compiler.

use std::net::IpAddr;

use imbl::OrdMap;
use ipnet::IpNet;
use sdn_common::{Addr4, Addr6, Author, Endpoint, Identity, Node, Peer, Rule, RuleKey, SetId, SetRef};

use crate::family::{Cidr, Family};
use crate::plan::{Addresses, Wanted};

/// The first packet of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Who opens the flow.
    pub from: IpAddr,
    /// To whom: an address of a pod or a node, or one outside, after translation.
    pub to: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Destination port; 0 where the protocol has none.
    pub port: u16,
}

/// What one side of a flow says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The end is no pod of this node: nothing is asked here.
    NotHere,
    /// The pod talks to itself.
    Itself,
    /// This node's own sockets get in.
    OwnNode,
    /// No policy isolates the pod.
    NotIsolated,
    /// A set decides.
    Decided {
        /// Whether it may be.
        allowed: bool,
        /// Who says so.
        author: Author,
    },
}

/// What a node would decide that holds this.
#[derive(Clone, Copy, Debug)]
pub struct Evaluator<'a> {
    /// What the kernel is to hold.
    pub wanted: &'a Wanted,
    /// The networks of the cluster.
    pub cluster_networks: &'a [IpNet],
}

/// An end of a flow.
#[derive(Clone, Copy, Debug)]
struct End {
    identity: Identity,
    endpoint: Option<Endpoint>,
    own_node: bool,
}

// === impl Evaluator ===

impl Evaluator<'_> {
    /// What the source's side and the destination's side say.
    pub fn judge(&self, packet: &Packet) -> [Answer; 2] {
        let (from, to) = (self.end(packet.from), self.end(packet.to));
        let egress = self.side(from.endpoint, to, packet, |endpoint| endpoint.egress);
        let ingress = match to.endpoint {
            Some(_) if from.own_node => Answer::OwnNode,
            endpoint => self.side(endpoint, from, packet, |endpoint| endpoint.ingress),
        };
        [egress, ingress]
    }

    /// What a set says of a peer.
    pub fn decide(&self, set: SetRef, peer: Identity, protocol: u8, port: u16) -> Rule {
        let shapes = (0..RuleKey::SHAPES).map(|step| match step {
            // From the longest prefix to the shortest, then whatever the protocol.
            0..=16 => 16 - step,
            _ => RuleKey::ANY_PROTOCOL_SHAPE,
        });
        for (peer, first_bit) in [(peer, SetRef::UNDER_IDENTITY), (Identity::ANY, SetRef::UNDER_ANY)] {
            for shape in shapes.clone().filter(|shape| set.shapes & (1 << (first_bit + shape)) != 0) {
                if let Some(rule) = self.wanted.policies.rules.get(&RuleKey::at(set.id, peer, protocol, port, shape)) {
                    return *rule;
                }
            }
        }
        Rule { author: set.default_author, verdict: Rule::DENY }
    }

    /// The identity of an address.
    pub fn identity(&self, address: IpAddr) -> Identity {
        self.end(address).identity
    }

    fn side(&self, subject: Option<Endpoint>, peer: End, packet: &Packet, set: fn(&Endpoint) -> SetRef) -> Answer {
        let Some(endpoint) = subject else { return Answer::NotHere };
        let same = |other: Endpoint| (other.ifindex, other.incarnation) == (endpoint.ifindex, endpoint.incarnation);
        if peer.endpoint.is_some_and(same) {
            return Answer::Itself;
        }
        let set = set(&endpoint);
        if set.id == SetId::NONE {
            return Answer::NotIsolated;
        }
        let rule = self.decide(set, peer.identity, packet.protocol, packet.port);
        Answer::Decided { allowed: rule.verdict == Rule::ALLOW, author: rule.author }
    }

    fn end(&self, address: IpAddr) -> End {
        match (Addr4::from_ip(address), Addr6::from_ip(address)) {
            (Some(v4), _) => self.end_of(&self.wanted.v4, &self.wanted.policies.cidrs_v4, v4, address),
            (_, Some(v6)) => self.end_of(&self.wanted.v6, &self.wanted.policies.cidrs_v6, v6, address),
            (None, None) => End { identity: Identity::UNKNOWN, endpoint: None, own_node: false },
        }
    }

    fn end_of<A: Family>(
        &self,
        addresses: &Addresses<A>,
        cidrs: &OrdMap<Cidr<A>, Identity>,
        address: A,
        ip: IpAddr,
    ) -> End {
        if let Some(endpoint) = addresses.endpoints.get(&address) {
            return End { identity: endpoint.identity, endpoint: Some(*endpoint), own_node: false };
        }
        if let Some(Peer { node, incarnation, identity, .. }) = addresses.peers.get(&address) {
            return End { identity: *identity, endpoint: None, own_node: *node == Node::SELF && *incarnation == 0 };
        }
        let outside = !self.cluster_networks.iter().any(|network| network.contains(&ip));
        let lengths = (0..=A::BITS as u8).rev();
        let found = lengths
            .filter_map(|length| Cidr::from_net(IpNet::new(ip, length).ok()?.trunc()))
            .find_map(|cidr| cidrs.get(&cidr));
        let identity = found.copied().unwrap_or(Identity::OUTSIDE);
        End { identity: if outside { identity } else { Identity::UNKNOWN }, endpoint: None, own_node: false }
    }
}

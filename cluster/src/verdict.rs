//! NetworkPolicy read literally: whether one new connection between two ends is allowed, and who says so.
//!
//! This is the yardstick for what compiles policies: it reads the text of the API anew for every question, and knows
//! nothing of identities, sets or tries. Texts in quotes are the API's own descriptions of its fields.
//!
//! Where that text leaves a choice, Culvert's is:
//!
//! - An ipBlock matches addresses, pods' as well as others'.
//! - Pods in their node's network cannot be told from the node: they are nodes. Policies do not apply to them, and their
//!   ports have no names. As peers they match ipBlocks by address, and a namespaceSelector without a podSelector when it
//!   selects a namespace that [stands for them](Namespace::stands_for_hosts).
//! - A pod's own node always gets in, with what its own sockets send (kubelet's probes); a pod's way out to its node is
//!   subject to policy.
//! - ICMP has no ports: a rule without ports admits it, a rule with some does not.
//! - Of a namespace that is not in the snapshot no labels are known, so that no namespaceSelector selects it; and of an
//!   unknown pod nothing is, so that it may neither send nor receive.
//!
//! Answers belong to the connection (replies and related ICMP errors follow it), and destinations are real ones, after a
//! Service's translation.

use crate::{
    control,
    model::{Labels, Namespace, NetworkPolicy, Peer, Pod, PodKey, PolicyKey, PolicyPort, PortMatch, Protocol, Rule},
    snapshot::Snapshot,
};
use std::{fmt, net::IpAddr, sync::Arc};

/// A new connection, or the first packet of something that has none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Who opens it.
    pub from: End,
    /// To whom.
    pub to: End,
    /// Which of their addresses pods use: this one's are what an ipBlock is held against.
    pub family: Family,
    /// What is sent.
    pub traffic: Traffic,
}

/// An end of a flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// A pod of the snapshot.
    Pod(PodKey),
    /// A node's own sockets: what a node merely forwards for others comes from an address.
    Node {
        /// The node.
        name: Arc<str>,
        /// Which of its addresses it uses.
        address: IpAddr,
    },
    /// An address of neither, outside of the cluster.
    Address(IpAddr),
}

/// The version of the Internet Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What a flow carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Traffic {
    /// A transport protocol with ports.
    Port {
        /// The protocol.
        protocol: Protocol,
        /// The destination's port.
        port: u16,
    },
    /// ICMP or, over IPv6, ICMPv6: an echo request.
    Icmp,
}

/// What the policies say of a flow. It passes when both sides allow it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Verdict {
    /// The destination's side.
    pub ingress: Decision,
    /// The source's side.
    pub egress: Decision,
}

/// One side's answer with its author.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Decision {
    /// The end is no pod that policies apply to: an outside address, a node, a pod in its node's network.
    NotSubject,
    /// No policy selects the pod for this direction: "traffic is allowed to a pod if there are no NetworkPolicies
    /// selecting the pod".
    NotIsolated,
    /// The pod talks to itself, which it cannot forbid.
    Itself,
    /// The pod's own node gets in.
    OwnNode,
    /// A rule admits it.
    Admitted {
        /// The first policy with such a rule, in the order of names.
        policy: PolicyKey,
        /// Its first such rule: the index in spec.ingress or spec.egress.
        rule: usize,
    },
    /// Policies isolate the pod and none admits it.
    Isolated {
        /// The first of the policies that do, in the order of names.
        by: PolicyKey,
    },
    /// The pod is not in the snapshot.
    Unknown,
}

/// A direction, seen from the pod that a policy applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Into the pod.
    Ingress,
    /// Out of the pod.
    Egress,
}

/// What the snapshot knows of an end.
#[derive(Clone, Copy)]
enum Party<'a> {
    Pod { pod: &'a Pod, namespace: Option<&'a Labels>, address: Option<IpAddr> },
    Host { node: Option<&'a str>, address: Option<IpAddr> },
    Outside(IpAddr),
    Unknown,
}

/// A flow with its ends looked up.
struct Question<'a> {
    snapshot: &'a Snapshot,
    from: Party<'a>,
    to: Party<'a>,
    traffic: Traffic,
}

/// What the policies of `snapshot` say of `flow`.
pub fn verdict(snapshot: &Snapshot, flow: &Flow) -> Verdict {
    let (from, to) = (Party::of(snapshot, &flow.from, flow.family), Party::of(snapshot, &flow.to, flow.family));
    let question = Question { snapshot, from, to, traffic: flow.traffic };
    Verdict { ingress: question.decide(Direction::Ingress), egress: question.decide(Direction::Egress) }
}

// === impl Question ===

impl Question<'_> {
    /// "Traffic is allowed to a pod if there are no NetworkPolicies selecting the pod (and cluster policy otherwise
    /// allows the traffic), OR if the traffic source is the pod's local node, OR if the traffic matches at least one
    /// ingress rule across all of the NetworkPolicy objects whose podSelector matches the pod." And of egress: "outgoing
    /// traffic is allowed if there are no NetworkPolicies selecting the pod, OR if the traffic matches at least one
    /// egress rule across all of the NetworkPolicy objects whose podSelector matches the pod."
    fn decide(&self, direction: Direction) -> Decision {
        let (subject, peer) = match direction {
            Direction::Ingress => (self.to, self.from),
            Direction::Egress => (self.from, self.to),
        };
        let pod = match subject {
            Party::Pod { pod, .. } => pod,
            Party::Host { .. } | Party::Outside(_) => return Decision::NotSubject,
            Party::Unknown => return Decision::Unknown,
        };
        match peer {
            Party::Pod { pod: other, .. } if pod.key() == other.key() => return Decision::Itself,
            Party::Host { node: Some(node), .. }
                if direction == Direction::Ingress && pod.node.as_deref() == Some(node) =>
            {
                return Decision::OwnNode;
            }
            _ => {}
        }
        let mut by = None;
        for policy in
            self.snapshot.policies_in(&pod.namespace).filter(|policy| policy.pod_selector.matches(&pod.labels))
        {
            let Some(rules) = direction.rules(policy) else { continue };
            if let Some(rule) = rules.iter().position(|rule| self.admits(policy, rule, peer)) {
                return Decision::Admitted { policy: policy.key(), rule };
            }
            by.get_or_insert_with(|| policy.key());
        }
        by.map_or(Decision::NotIsolated, |by| Decision::Isolated { by })
    }

    /// "The traffic must match both ports and from" (or to).
    fn admits(&self, policy: &NetworkPolicy, rule: &Rule, peer: Party) -> bool {
        rule.peers.admits(|wanted| self.is_peer(policy, wanted, peer)) && rule.ports.admits(|port| self.is_port(port))
    }

    fn is_peer(&self, policy: &NetworkPolicy, wanted: &Peer, peer: Party) -> bool {
        match (wanted, peer) {
            // "Otherwise it selects the pods matching podSelector in the policy's own namespace."
            (Peer::Pods(pods), Party::Pod { pod, .. }) => {
                pod.namespace == policy.namespace && pods.matches(&pod.labels)
            }
            // "Otherwise it selects all pods in the namespaces selected by namespaceSelector."
            (Peer::Namespaces(namespaces), Party::Pod { namespace, .. }) => {
                namespace.is_some_and(|labels| namespaces.matches(labels))
            }
            (Peer::Namespaces(namespaces), Party::Host { .. }) => {
                let stands_for_hosts = |namespace: &&Arc<Namespace>| namespace.stands_for_hosts();
                let mut standing = self.snapshot.namespaces.values().filter(stands_for_hosts);
                standing.any(|namespace| namespaces.matches(&namespace.labels))
            }
            // "If namespaceSelector is also set, then the NetworkPolicyPeer as a whole selects the pods matching
            // podSelector in the namespaces selected by namespaceSelector."
            (Peer::PodsIn { namespaces, pods }, Party::Pod { pod, namespace, .. }) => {
                namespace.is_some_and(|labels| namespaces.matches(labels)) && pods.matches(&pod.labels)
            }
            // "ipBlock defines policy on a particular IPBlock."
            (Peer::Block(block), peer) => peer.address().is_some_and(|address| block.contains(address)),
            _ => false,
        }
    }

    fn is_port(&self, wanted: &PolicyPort) -> bool {
        let Traffic::Port { protocol, port } = self.traffic else { return false };
        if wanted.protocol != protocol {
            return false;
        }
        match &wanted.port {
            PortMatch::Any => true,
            PortMatch::Numbers { first, last } => (*first..=*last).contains(&port),
            // "This can either be a numerical or named port on a pod": the destination, in both directions.
            PortMatch::Name(name) => match self.to {
                Party::Pod { pod, .. } => pod.ports.iter().any(|declared| {
                    declared.name.as_ref() == Some(name) && (declared.protocol, declared.port) == (protocol, port)
                }),
                _ => false,
            },
        }
    }
}

// === impl Party ===

impl<'a> Party<'a> {
    fn of(snapshot: &'a Snapshot, end: &'a End, family: Family) -> Self {
        match end {
            End::Address(address) => Self::Outside(*address),
            End::Node { name, address } => Self::Host { node: Some(name), address: Some(*address) },
            End::Pod(key) => {
                let Some(pod) = snapshot.pods.get(key) else { return Self::Unknown };
                let address = pod.addresses.iter().copied().find(|address| Family::of(*address) == family);
                if pod.host_network {
                    return Self::Host { node: pod.node.as_deref(), address };
                }
                let namespace = snapshot.namespaces.get(&pod.namespace).map(|namespace| &namespace.labels);
                Self::Pod { pod, namespace, address }
            }
        }
    }

    fn address(self) -> Option<IpAddr> {
        match self {
            Self::Pod { address, .. } | Self::Host { address, .. } => address,
            Self::Outside(address) => Some(address),
            Self::Unknown => None,
        }
    }
}

// === impl End ===

impl End {
    /// Whose an address is: a pod's (not one that has ended), a node's, or nobody's. Nodes have the addresses of their
    /// status and the first host of each of their host subnets. Looks at all pods.
    pub fn at(snapshot: &Snapshot, address: IpAddr) -> Self {
        let is_there = |pod: &&Arc<Pod>| !pod.host_network && !pod.ended() && pod.addresses.contains(&address);
        if let Some(pod) = snapshot.pods.values().find(is_there) {
            return Self::Pod(pod.key());
        }
        let node = snapshot.nodes.values().find(|node| {
            let mut own = node.subnets.iter().filter_map(|subnet| control::reserved_hosts(*subnet).nth(1));
            node.addresses.contains(&address) || own.any(|own| own == address)
        });
        node.map_or(Self::Address(address), |node| Self::Node { name: node.name.clone(), address })
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(key) => key.fmt(f),
            Self::Node { name, address } => write!(f, "node {name} ({address})"),
            Self::Address(address) => address.fmt(f),
        }
    }
}

// === impl Family ===

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

// === impl Traffic ===

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port { protocol, port } => write!(f, "{port}/{protocol}"),
            Self::Icmp => f.write_str("ICMP"),
        }
    }
}

// === impl Verdict ===

impl Verdict {
    /// Whether the destination's side lets it in.
    pub fn ingress_allowed(&self) -> bool {
        self.ingress.is_allowed()
    }

    /// Whether the source's side lets it out.
    pub fn egress_allowed(&self) -> bool {
        self.egress.is_allowed()
    }

    /// Whether it passes.
    pub fn allowed(&self) -> bool {
        self.ingress_allowed() && self.egress_allowed()
    }
}

// === impl Decision ===

impl Decision {
    /// Whether this side allows it.
    pub fn is_allowed(&self) -> bool {
        !matches!(self, Self::Isolated { .. } | Self::Unknown)
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSubject => f.write_str("not subject to policy"),
            Self::NotIsolated => f.write_str("not isolated"),
            Self::Itself => f.write_str("a pod reaches itself"),
            Self::OwnNode => f.write_str("the pod's own node"),
            Self::Admitted { policy, rule } => write!(f, "admitted by {policy}, rule {rule}"),
            Self::Isolated { by } => write!(f, "isolated by {by}"),
            Self::Unknown => f.write_str("no such pod"),
        }
    }
}

// === impl Direction ===

impl Direction {
    /// The rules of `policy` for this direction; `None` where it does not isolate for it.
    pub fn rules(self, policy: &NetworkPolicy) -> Option<&[Rule]> {
        match self {
            Self::Ingress => policy.ingress.as_deref(),
            Self::Egress => policy.egress.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests;

//! NetworkPolicies (networking.k8s.io/v1, formerly extensions/v1beta1).
//!
//! What the API server would refuse is found while a policy is read, and is told with its field. Such a policy is not
//! passed over, which would open what it was written to close: it isolates the pods that it validly selects, and a rule
//! with a fault in it admits nothing. Only where it cannot be told which pods are meant (podSelector) is the object
//! rejected as a whole.

mod wire;

use super::{object::FieldError, pod::Protocol, selector::LabelSelector};
use ipnet::IpNet;
use serde_json::{Map, Value, json};
use std::{fmt, net::IpAddr, sync::Arc};

/// A policy: "what network traffic is allowed for a set of Pods".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkPolicy {
    /// metadata.namespace: the pods it selects are in there.
    pub namespace: Arc<str>,
    /// metadata.name.
    pub name: Arc<str>,
    /// metadata.uid; empty when the object carries none.
    pub uid: Arc<str>,
    /// spec.podSelector: the pods it applies to. Absent is the same as empty: all of the namespace.
    pub pod_selector: LabelSelector,
    /// spec.ingress, by the same indices; `None` when policyTypes, as the API defaults it, has no Ingress. The pods are
    /// isolated for ingress when this is `Some`, and with no rules in it nothing is admitted.
    pub ingress: Option<Vec<Rule>>,
    /// spec.egress, likewise.
    pub egress: Option<Vec<Rule>>,
    /// What is wrong with it; `None` for a policy that the API server would take.
    pub invalid: Option<Arc<Invalid>>,
}

/// What a policy is called: unique among those that exist at one time. Ordered by namespace first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyKey {
    /// metadata.namespace.
    pub namespace: Arc<str>,
    /// metadata.name.
    pub name: Arc<str>,
}

/// What is wrong with a policy, and how it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The fields that are wrong and why, at least one. Lines are not kept, see [`super::Object::faults`].
    pub problems: Vec<FieldError>,
    /// spec as it was written (JSON), so that whoever reads the policy from us finds the same problems.
    pub spec: Arc<str>,
}

/// One way in or out: traffic that "matches both ports and from" (or to).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// from or to: "items in this list are combined using a logical OR operation. If this field is empty or missing,
    /// this rule matches all sources (traffic not restricted by source)".
    pub peers: Scope<Peer>,
    /// ports: "each item in this list is combined using a logical OR. If this field is empty or missing, this rule
    /// matches all ports (traffic not restricted by port)".
    pub ports: Scope<PolicyPort>,
}

/// What a list of a rule restricts it to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope<T> {
    /// The list is absent or empty: no restriction.
    Everything,
    /// One of these must match. None at all: the rule is invalid and admits nothing.
    Only(Vec<T>),
}

/// "A peer to allow traffic to/from. Only certain combinations of fields are allowed": these.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// podSelector alone: "the pods matching podSelector in the policy's own namespace".
    Pods(LabelSelector),
    /// namespaceSelector alone: "all pods in the namespaces selected by namespaceSelector". As OpenShift has it, also
    /// nodes, see [`crate::verdict`].
    Namespaces(LabelSelector),
    /// Both: "the pods matching podSelector in the namespaces selected by namespaceSelector".
    PodsIn {
        /// namespaceSelector.
        namespaces: LabelSelector,
        /// podSelector.
        pods: LabelSelector,
    },
    /// ipBlock: "if this field is set then neither of the other fields can be".
    Block(IpBlock),
}

/// "A particular CIDR that is allowed to the pods matched by a policy's podSelector. The except entry describes CIDRs
/// that should not be included within this rule."
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpBlock {
    /// cidr, without host bits.
    pub cidr: IpNet,
    /// except: each inside `cidr` and smaller, without host bits.
    pub except: Vec<IpNet>,
}

/// One entry of a rule's ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyPort {
    /// "TCP, UDP, or SCTP. If not specified, this field defaults to TCP."
    pub protocol: Protocol,
    /// port, with endPort.
    pub port: PortMatch,
}

/// Which ports of its protocol a [`PolicyPort`] means.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortMatch {
    /// "If this field is not provided, this matches all port names and numbers."
    Any,
    /// A number, or with endPort "the range of ports from port to endPort", both of them included.
    Numbers {
        /// port, 1 to 65535.
        first: u16,
        /// endPort, or the same; never less than `first`.
        last: u16,
    },
    /// "Named port on a pod": each pod says by its containers' ports what it means there, for each protocol.
    Name(Arc<str>),
}

// === impl NetworkPolicy ===

impl NetworkPolicy {
    /// Its namespace and name.
    pub fn key(&self) -> PolicyKey {
        PolicyKey { namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// What is wrong with it, by field; nothing for a valid one.
    pub fn problems(&self) -> &[FieldError] {
        self.invalid.as_ref().map_or(&[], |invalid| &invalid.problems)
    }

    /// The policy as JSON. One that is invalid has its spec as it was written.
    pub fn to_json(&self) -> Value {
        let mut metadata = json!({"namespace": self.namespace, "name": self.name});
        if !self.uid.is_empty() {
            metadata["uid"] = json!(self.uid);
        }
        let written = self.invalid.as_ref().and_then(|invalid| serde_json::from_str(&invalid.spec).ok());
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": metadata,
            "spec": written.unwrap_or_else(|| self.spec()),
        })
    }

    fn spec(&self) -> Value {
        let mut spec = json!({"podSelector": self.pod_selector.to_json(), "policyTypes": []});
        let directions = [("Ingress", "ingress", "from", &self.ingress), ("Egress", "egress", "to", &self.egress)];
        for (policy_type, field, peers, rules) in directions {
            if let (Some(rules), Value::Array(types)) = (rules, &mut spec["policyTypes"]) {
                types.push(json!(policy_type));
                spec[field] = rules.iter().map(|rule| rule.to_json(peers)).collect();
            }
        }
        spec
    }
}

// === impl PolicyKey ===

impl PolicyKey {
    /// The key of the policy `name` in `namespace`.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

// === impl Rule ===

impl Rule {
    /// A rule that admits nothing: what an invalid one is read as.
    pub const fn nothing() -> Self {
        Self { peers: Scope::Only(Vec::new()), ports: Scope::Only(Vec::new()) }
    }

    /// Whether it can admit nothing, because it is invalid.
    pub fn admits_nothing(&self) -> bool {
        self.peers.is_nothing() || self.ports.is_nothing()
    }

    fn to_json(&self, peers_field: &str) -> Value {
        let mut json = Map::new();
        if let Scope::Only(peers) = &self.peers {
            json.insert(peers_field.to_owned(), peers.iter().map(Peer::to_json).collect());
        }
        if let Scope::Only(ports) = &self.ports {
            json.insert("ports".to_owned(), ports.iter().map(PolicyPort::to_json).collect());
        }
        Value::Object(json)
    }
}

// === impl Scope ===

impl<T> Scope<T> {
    /// Whether everything matches, or one of the list does by `matches`.
    pub fn admits(&self, matches: impl FnMut(&T) -> bool) -> bool {
        match self {
            Self::Everything => true,
            Self::Only(items) => items.iter().any(matches),
        }
    }

    fn is_nothing(&self) -> bool {
        matches!(self, Self::Only(items) if items.is_empty())
    }
}

/// As the API reads a list: empty and absent are one.
impl<T> From<Vec<T>> for Scope<T> {
    fn from(items: Vec<T>) -> Self {
        if items.is_empty() { Self::Everything } else { Self::Only(items) }
    }
}

// === impl Peer ===

impl Peer {
    fn to_json(&self) -> Value {
        match self {
            Self::Pods(pods) => json!({"podSelector": pods.to_json()}),
            Self::Namespaces(namespaces) => json!({"namespaceSelector": namespaces.to_json()}),
            Self::PodsIn { namespaces, pods } => {
                json!({"namespaceSelector": namespaces.to_json(), "podSelector": pods.to_json()})
            }
            Self::Block(block) => json!({"ipBlock": block.to_json()}),
        }
    }
}

// === impl IpBlock ===

impl IpBlock {
    /// Whether it has `address`: inside the CIDR and in none of the exceptions.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.cidr.contains(&address) && !self.except.iter().any(|except| except.contains(&address))
    }

    fn to_json(&self) -> Value {
        if self.except.is_empty() {
            json!({"cidr": self.cidr})
        } else {
            json!({"cidr": self.cidr, "except": self.except})
        }
    }
}

// === impl PolicyPort ===

impl PolicyPort {
    fn to_json(&self) -> Value {
        let mut json = json!({"protocol": self.protocol});
        match &self.port {
            PortMatch::Any => {}
            PortMatch::Numbers { first, last } => {
                json["port"] = json!(first);
                if last != first {
                    json["endPort"] = json!(last);
                }
            }
            PortMatch::Name(name) => json["port"] = json!(name),
        }
        json
    }
}

#[cfg(test)]
mod tests;

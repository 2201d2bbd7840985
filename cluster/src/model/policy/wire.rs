//! A policy as it is written. Rules are read one by one, so that one with a fault in it spoils no other.

use super::{Invalid, IpBlock, NetworkPolicy, Peer, PolicyPort, PortMatch, Rule};
use crate::model::{
    object::{self, FieldError},
    pod::Protocol,
    selector::LabelSelector,
    wire::{DnsSubdomain, Mapping, Meta, PortName, or_default},
};
use ipnet::IpNet;
use serde::{
    Deserialize, Deserializer,
    de::{self, Unexpected, Visitor},
};
use serde_json::{Value, value::RawValue};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU16,
    sync::Arc,
};

#[derive(Deserialize)]
struct Wire<'a> {
    metadata: Meta<DnsSubdomain>,
    #[serde(borrow, default)]
    spec: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    #[serde(default, deserialize_with = "or_default")]
    pod_selector: LabelSelector,
    #[serde(borrow, default)]
    policy_types: Option<&'a RawValue>,
    #[serde(borrow, default)]
    ingress: Option<&'a RawValue>,
    #[serde(borrow, default)]
    egress: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct IngressRule {
    #[serde(default, deserialize_with = "or_default")]
    from: Vec<Peer>,
    #[serde(default, deserialize_with = "or_default")]
    ports: Vec<PolicyPort>,
}

#[derive(Deserialize)]
struct EgressRule {
    #[serde(default, deserialize_with = "or_default")]
    to: Vec<Peer>,
    #[serde(default, deserialize_with = "or_default")]
    ports: Vec<PolicyPort>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawPeer {
    pod_selector: Option<LabelSelector>,
    namespace_selector: Option<LabelSelector>,
    ip_block: Option<IpBlock>,
}

#[derive(Deserialize)]
struct RawBlock {
    cidr: Cidr,
    #[serde(default, deserialize_with = "or_default")]
    except: Vec<Cidr>,
}

/// A CIDR as an ipBlock takes it.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct Cidr(IpNet);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawPort {
    protocol: Option<Protocol>,
    port: Option<NumberOrName>,
    end_port: Option<NonZeroU16>,
}

enum NumberOrName {
    Number(u16),
    Name(Arc<str>),
}

/// A policy's direction.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
enum PolicyType {
    Ingress,
    Egress,
}

/// The policy's JSON, and what was found wrong in it so far.
struct Reader<'a> {
    json: &'a str,
    problems: Vec<FieldError>,
}

// === impl NetworkPolicy ===

impl NetworkPolicy {
    /// Reads a policy; what is wrong with one that is taken all the same is told beside it, with lines.
    pub(in crate::model) fn parse(json: &str, seed: &str) -> Result<(Self, Vec<FieldError>), FieldError> {
        let Wire { metadata, spec: written } = object::decode(json)?;
        let (namespace, name, uid) = (metadata.namespace(), metadata.name(seed)?, metadata.uid());
        let mut reader = Reader { json, problems: Vec::new() };
        let written = written.map_or("{}", RawValue::get);
        let Mapping(spec): Mapping<Spec> = reader.part(written, "spec")?;
        let (ingress, egress) = reader.policy_types(&spec);
        let ingress_rules = reader.rules(spec.ingress, PolicyType::Ingress);
        let egress_rules = reader.rules(spec.egress, PolicyType::Egress);
        let problems = reader.problems;
        let policy = Self {
            namespace,
            name,
            uid,
            pod_selector: spec.pod_selector,
            ingress: ingress.then_some(ingress_rules),
            egress: egress.then_some(egress_rules),
            invalid: Invalid::new(&problems, written)?,
        };
        Ok((policy, problems))
    }
}

impl Invalid {
    fn new(problems: &[FieldError], spec: &str) -> Result<Option<Arc<Self>>, FieldError> {
        if problems.is_empty() {
            return Ok(None);
        }
        // Compact, and the same however it was laid out.
        let spec: Value = object::decode(spec).map_err(|error| error.within("spec", 0))?;
        let problems = problems.iter().map(|problem| FieldError { line: None, ..problem.clone() }).collect();
        Ok(Some(Arc::new(Self { problems, spec: spec.to_string().into() })))
    }
}

// === impl Reader ===

impl<'a> Reader<'a> {
    /// Reads a part of the policy, which must be a mapping or a sequence as `T` wants it.
    fn part<T: Deserialize<'a>>(&self, part: &'a str, field: &str) -> Result<T, FieldError> {
        object::decode(part).map_err(|error| error.within(field, self.lines_before(part)))
    }

    /// Whether the policy isolates for ingress and for egress: "if this field is not specified, it will default based on
    /// the existence of ingress or egress rules; policies that contain an egress section are assumed to affect egress,
    /// and all policies (whether or not they contain an ingress section) are assumed to affect ingress". The API server
    /// takes an empty egress section for none, and an empty list of types for an absent one.
    ///
    /// Where a type is wrong both what is right and what the default would be are isolated.
    fn policy_types(&mut self, spec: &Spec<'a>) -> (bool, bool) {
        let field = "spec.policyTypes";
        let mut problems = Vec::new();
        let written = spec.policy_types.map_or(Ok(Vec::new()), |types| self.part::<Vec<&RawValue>>(types.get(), field));
        let written = written.unwrap_or_else(|error| {
            problems.push(error);
            Vec::new()
        });
        if written.len() > 2 {
            let line = written.first().map(|first| self.lines_before(first.get()) + 1);
            let message = format!("{} policy types, at most two can be given", written.len());
            problems.push(FieldError { line, field: field.to_owned(), message });
        }
        let mut types = Vec::new();
        for (index, one) in written.iter().enumerate() {
            match self.part(one.get(), &format!("{field}[{index}]")) {
                Ok(one) => types.push(one),
                Err(error) => problems.push(error),
            }
        }
        if types.is_empty() || !problems.is_empty() {
            types.push(PolicyType::Ingress);
            if spec.egress.is_some_and(|egress| !is_empty_sequence(egress)) {
                types.push(PolicyType::Egress);
            }
        }
        self.problems.append(&mut problems);
        (types.contains(&PolicyType::Ingress), types.contains(&PolicyType::Egress))
    }

    fn rules(&mut self, written: Option<&'a RawValue>, direction: PolicyType) -> Vec<Rule> {
        let field = direction.field();
        let Some(written) = written else { return Vec::new() };
        let written: Vec<&RawValue> = match self.part(written.get(), field) {
            Ok(written) => written,
            Err(error) => {
                self.problems.push(error);
                return Vec::new();
            }
        };
        let rule = |(index, rule): (usize, &&'a RawValue)| {
            let field = format!("{field}[{index}]");
            let rule = match direction {
                PolicyType::Ingress => self.part(rule.get(), &field).map(|Mapping::<IngressRule>(rule)| rule.into()),
                PolicyType::Egress => self.part(rule.get(), &field).map(|Mapping::<EgressRule>(rule)| rule.into()),
            };
            rule.unwrap_or_else(|error| {
                self.problems.push(error);
                Rule::nothing()
            })
        };
        written.iter().enumerate().map(rule).collect()
    }

    /// How many lines stand before `part`, which was borrowed from the policy's JSON.
    fn lines_before(&self, part: &str) -> usize {
        let offset = (part.as_ptr() as usize).saturating_sub(self.json.as_ptr() as usize).min(self.json.len());
        self.json.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count()
    }
}

/// Borrowed parts have no space around them, but may have some inside.
fn is_empty_sequence(part: &RawValue) -> bool {
    let inner = part.get().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.is_some_and(|inner| inner.trim().is_empty())
}

impl PolicyType {
    fn field(self) -> &'static str {
        match self {
            Self::Ingress => "spec.ingress",
            Self::Egress => "spec.egress",
        }
    }
}

impl From<IngressRule> for Rule {
    fn from(IngressRule { from, ports }: IngressRule) -> Self {
        Self { peers: from.into(), ports: ports.into() }
    }
}

impl From<EgressRule> for Rule {
    fn from(EgressRule { to, ports }: EgressRule) -> Self {
        Self { peers: to.into(), ports: ports.into() }
    }
}

// === impl Peer ===

impl TryFrom<Mapping<RawPeer>> for Peer {
    type Error = &'static str;

    fn try_from(Mapping(peer): Mapping<RawPeer>) -> Result<Self, Self::Error> {
        match (peer.pod_selector, peer.namespace_selector, peer.ip_block) {
            (None, None, None) => Err("a peer needs a podSelector, a namespaceSelector or an ipBlock"),
            (None, None, Some(block)) => Ok(Self::Block(block)),
            (_, _, Some(_)) => Err("an ipBlock stands alone, without a podSelector or namespaceSelector beside it"),
            (Some(pods), None, None) => Ok(Self::Pods(pods)),
            (None, Some(namespaces), None) => Ok(Self::Namespaces(namespaces)),
            (Some(pods), Some(namespaces), None) => Ok(Self::PodsIn { namespaces, pods }),
        }
    }
}

impl<'de> Deserialize<'de> for Peer {
    fn deserialize<D: Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        Mapping::<RawPeer>::deserialize(decoder)?.try_into().map_err(de::Error::custom)
    }
}

// === impl IpBlock ===

impl TryFrom<Mapping<RawBlock>> for IpBlock {
    type Error = String;

    /// An exception must be "a strict subset of cidr".
    fn try_from(Mapping(RawBlock { cidr: Cidr(cidr), except }): Mapping<RawBlock>) -> Result<Self, String> {
        let except: Vec<IpNet> = except.into_iter().map(|Cidr(except)| except).collect();
        let outside = |except: &&IpNet| !cidr.contains(*except) || cidr.prefix_len() >= except.prefix_len();
        match except.iter().enumerate().find(|(_, except)| outside(except)) {
            Some((index, outside)) => Err(format!("except[{index}], {outside}, is not a part of cidr, {cidr}")),
            None => Ok(Self { cidr, except }),
        }
    }
}

impl<'de> Deserialize<'de> for IpBlock {
    fn deserialize<D: Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        Mapping::<RawBlock>::deserialize(decoder)?.try_into().map_err(de::Error::custom)
    }
}

// === impl Cidr ===

/// As the API server reads it (ParseCIDRSloppy): host bits are cut off, numbers may begin with zeros and are decimal all
/// the same, an IPv4-mapped block is the IPv4 block.
impl TryFrom<String> for Cidr {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let fault = || format!("{text:?} is not a CIDR like 10.0.0.0/8 or fd00::/8");
        let (address, prefix) = text.split_once('/').ok_or_else(fault)?;
        let address = parse_address(address).ok_or_else(fault)?;
        let prefix = parse_number(prefix).ok_or_else(fault)?;
        let (address, prefix) = match address {
            IpAddr::V6(v6) if prefix >= 96 => {
                v6.to_ipv4_mapped().map_or((address, prefix), |v4| (v4.into(), prefix - 96))
            }
            _ => (address, prefix),
        };
        IpNet::new(address, prefix).map(|cidr| Self(cidr.trunc())).map_err(|_| fault())
    }
}

fn parse_address(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return text.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    let octets: Option<Vec<u8>> = text.split('.').map(parse_number).collect();
    let octets: [u8; 4] = octets?.try_into().ok()?;
    Some(Ipv4Addr::from(octets).into())
}

/// Decimal digits only: no sign, no space.
fn parse_number(text: &str) -> Option<u8> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

// === impl PolicyPort ===

impl TryFrom<Mapping<RawPort>> for PolicyPort {
    type Error = String;

    fn try_from(Mapping(RawPort { protocol, port, end_port }): Mapping<RawPort>) -> Result<Self, String> {
        let port = match (port, end_port.map(NonZeroU16::get)) {
            (None, None) => PortMatch::Any,
            (None, Some(_)) => return Err("endPort needs a port that the range begins with".to_owned()),
            (Some(NumberOrName::Name(name)), None) => PortMatch::Name(name),
            (Some(NumberOrName::Name(name)), Some(_)) => {
                return Err(format!("endPort goes with a number, not with the name {name:?}"));
            }
            (Some(NumberOrName::Number(first)), last) => {
                let last = last.unwrap_or(first);
                if last < first {
                    return Err(format!("endPort {last} is less than port {first}"));
                }
                PortMatch::Numbers { first, last }
            }
        };
        Ok(Self { protocol: protocol.unwrap_or_default(), port })
    }
}

impl<'de> Deserialize<'de> for PolicyPort {
    fn deserialize<D: Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        Mapping::<RawPort>::deserialize(decoder)?.try_into().map_err(de::Error::custom)
    }
}

// === impl NumberOrName ===

impl<'de> Deserialize<'de> for NumberOrName {
    fn deserialize<D: Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        decoder.deserialize_any(NumberOrNameVisitor)
    }
}

struct NumberOrNameVisitor;

impl Visitor<'_> for NumberOrNameVisitor {
    type Value = NumberOrName;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the number of a port, 1 to 65535, or its name")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<NumberOrName, E> {
        match u16::try_from(number) {
            Ok(port) if port > 0 => Ok(NumberOrName::Number(port)),
            _ => Err(E::invalid_value(Unexpected::Unsigned(number), &self)),
        }
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<NumberOrName, E> {
        // Only negative ones come here.
        Err(E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<NumberOrName, E> {
        PortName::try_from(name.to_owned()).map(|name| NumberOrName::Name(name.0)).map_err(E::custom)
    }
}

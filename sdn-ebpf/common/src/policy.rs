//! NetworkPolicy as the programs know it: compiled sets, their rules, and who wrote them (decisions 3 to 8 of the design).
//!
//! A set is a function (peer's identity, protocol, port) → verdict and author. What tiers, priorities and lists say together is
//! resolved by the compiler; a packet only looks up. An endpoint refers to one set a direction; sets are never changed, a
//! new one takes a new number.

use crate::{Identity, plain};

/// Number of a compiled set on this node. Never reused, so a number is a generation as well. 0: not isolated.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetId(pub u32);

impl SetId {
    /// No policy isolates the endpoint in this direction.
    pub const NONE: Self = Self(0);
    /// The first number that is given out.
    pub const FIRST: Self = Self(1);
}

/// Number of a rule of a policy on this node, for counts and explanations. Map `AUTHORS` has its name. 0: nobody.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Author(pub u32);

impl Author {
    /// No policy decided.
    pub const NONE: Self = Self(0);
    /// The first number that is given out.
    pub const FIRST: Self = Self(1);
}

/// What an endpoint knows of the set that filters it in one direction. All zero: everything is allowed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetRef {
    /// The set.
    pub id: SetId,
    /// Who isolates: the author of a denial that no rule decides.
    pub default_author: Author,
    /// Which kinds of entries the set has: bits of [`SetRef::UNDER_IDENTITY`] and [`SetRef::UNDER_ANY`]. Others are not looked up.
    pub shapes: u64,
}

impl SetRef {
    /// From this bit on: entries under identities, by shape (see [`RuleKey::shape`]).
    pub const UNDER_IDENTITY: u32 = 0;
    /// From this bit on: entries under [`Identity::ANY`], by shape.
    pub const UNDER_ANY: u32 = 32;
}

/// An entry of a set. Map `POLICY_RULES`.
///
/// A packet is looked up under its peer's identity, then under [`Identity::ANY`]; under each with the prefixes from long to short,
/// then whatever the protocol. The first hit decides.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleKey {
    /// The set that it belongs to.
    pub set: SetId,
    /// The other end.
    pub peer: Identity,
    /// Destination port of the flow's first packet, in host order; bits beyond the prefix are zero. 0 where the protocol has none.
    pub port: u16,
    /// IP protocol number; 0 with [`RuleKey::ANY_PROTOCOL`].
    pub protocol: u8,
    /// Leading bits of the port that count (0 to 16), or [`RuleKey::ANY_PROTOCOL`].
    pub prefix: u8,
}

impl RuleKey {
    /// Value of [`RuleKey::prefix`] for an entry of whatever protocol and port.
    pub const ANY_PROTOCOL: u8 = 255;
    /// Shapes an entry can have: a prefix, or any protocol.
    pub const SHAPES: u32 = 18;
    /// The shape of [`RuleKey::ANY_PROTOCOL`].
    pub const ANY_PROTOCOL_SHAPE: u32 = 17;

    /// Bit number within [`SetRef::shapes`], to be added to [`SetRef::UNDER_IDENTITY`] or [`SetRef::UNDER_ANY`].
    #[must_use]
    pub const fn shape(&self) -> u32 {
        if self.prefix == Self::ANY_PROTOCOL { Self::ANY_PROTOCOL_SHAPE } else { self.prefix as u32 }
    }

    /// The key that a packet has in a shape.
    #[inline(always)]
    #[must_use]
    pub const fn at(set: SetId, peer: Identity, protocol: u8, port: u16, shape: u32) -> Self {
        if shape >= Self::ANY_PROTOCOL_SHAPE {
            return Self { set, peer, port: 0, protocol: 0, prefix: Self::ANY_PROTOCOL };
        }
        // Shifted in 32 bits: a prefix of 0 keeps nothing.
        let mask = (0xffff_0000_u32 >> shape) as u16;
        Self { set, peer, port: port & mask, protocol, prefix: shape as u8 }
    }
}

/// What an entry says. Value of map `POLICY_RULES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Who says it.
    pub author: Author,
    /// [`Rule::DENY`] or [`Rule::ALLOW`].
    pub verdict: u32,
}

impl Rule {
    /// The flow may not be.
    pub const DENY: u32 = 0;
    /// The flow may be.
    pub const ALLOW: u32 = 1;
}

/// A rule's name, kept in the kernel so that a new agent can name what the one before it numbered. Map `AUTHORS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthorName {
    /// Namespace of the policy, UTF-8, zeroes behind it (at most 63 bytes: RFC 1123 label).
    pub namespace: [u8; 64],
    /// Its name (at most 253 bytes: RFC 1123 subdomain).
    pub name: [u8; 256],
    /// [`AuthorName::NETWORK_POLICY`] ….
    pub kind: u8,
    /// [`Direction`](crate::Direction).
    pub direction: u8,
    /// Index into the policy's list of rules of that direction, or [`AuthorName::ISOLATION`].
    pub rule: u16,
}

impl AuthorName {
    /// A NetworkPolicy of networking.k8s.io.
    pub const NETWORK_POLICY: u8 = 1;
    /// Not a rule: the policy as such, which isolates what it selects.
    pub const ISOLATION: u16 = u16::MAX;
}

impl Default for AuthorName {
    fn default() -> Self {
        Self { namespace: [0; 64], name: [0; 256], kind: 0, direction: 0, rule: 0 }
    }
}

plain!(SetId = 4, Author = 4, SetRef = 16, RuleKey = 12, Rule = 8, AuthorName = 324);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_keeps_the_leading_bits_of_the_port() {
        let at = |shape| RuleKey::at(SetId(7), Identity(300), 6, 0b1010_1010_1111_0001, shape);
        assert_eq!(at(16).port, 0b1010_1010_1111_0001);
        assert_eq!(at(9).port, 0b1010_1010_1000_0000);
        assert_eq!((at(0).port, at(0).protocol, at(0).prefix), (0, 6, 0));
        let any = at(RuleKey::ANY_PROTOCOL_SHAPE);
        assert_eq!((any.port, any.protocol, any.prefix), (0, 0, RuleKey::ANY_PROTOCOL));
        for shape in 0..RuleKey::SHAPES {
            assert_eq!(at(shape).shape(), shape);
        }
    }
}

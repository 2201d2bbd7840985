//! Protocols and ports as blocks that lie within each other or apart, never across: what a rule's key can say.

use std::ops::RangeInclusive;

use sdn_cluster::model::Protocol;
use sdn_common::{Identity, RuleKey, SetId};

/// Any protocol, or one protocol's ports that agree in their leading bits. Ordered so that whatever contains another comes
/// before it, with nothing between them that does not lie in the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Block {
    /// IP protocol number; 0, which is before all others, for any protocol.
    protocol: u8,
    port: u16,
    /// Leading bits of the port that count.
    prefix: u8,
}

// === impl Block ===

impl Block {
    /// Whatever protocol and port.
    pub(crate) const ALL: Self = Self { protocol: 0, port: 0, prefix: 0 };

    /// All ports of a protocol.
    pub(crate) const fn protocol(protocol: Protocol) -> Self {
        Self { protocol: number(protocol), port: 0, prefix: 0 }
    }

    /// One port.
    pub(crate) const fn port(protocol: Protocol, port: u16) -> Self {
        Self { protocol: number(protocol), port, prefix: 16 }
    }

    /// A range of ports in as few blocks as there can be: at most 30.
    pub(crate) fn range(protocol: Protocol, ports: RangeInclusive<u16>) -> Vec<Self> {
        let (mut first, end) = (u32::from(*ports.start()), u32::from(*ports.end()) + 1);
        let mut blocks = Vec::new();
        while first < end {
            // As large as its first port allows, and as the rest of the range does.
            let aligned = if first == 0 { 16 } else { first.trailing_zeros() };
            let fitting = (end - first).ilog2();
            let bits = aligned.min(fitting);
            let port = u16::try_from(first).expect("below the end, which is at most 65,536");
            blocks.push(Self { protocol: number(protocol), port, prefix: (16 - bits) as u8 });
            first += 1 << bits;
        }
        blocks
    }

    /// Whether all of `other` lies in it.
    pub(crate) fn contains(self, other: Self) -> bool {
        if self.protocol == 0 {
            return true;
        }
        let mask = (0xffff_0000_u32 >> self.prefix) as u16;
        self.protocol == other.protocol && self.prefix <= other.prefix && other.port & mask == self.port
    }

    /// The key of a set's entry for it.
    pub(crate) fn key(self, set: SetId, peer: Identity) -> RuleKey {
        let prefix = if self.protocol == 0 { RuleKey::ANY_PROTOCOL } else { self.prefix };
        RuleKey { set, peer, port: self.port, protocol: self.protocol, prefix }
    }

    /// Its bit among the shapes of a set.
    pub(crate) fn shape(self) -> u64 {
        1 << self.key(SetId::NONE, Identity::ANY).shape()
    }
}

/// The IP protocol's number.
pub(crate) const fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_become_the_fewest_blocks() {
        // (first, last, blocks as port/prefix)
        type Row = (u16, u16, &'static [(u16, u8)]);
        let rows: [Row; 9] = [
            (80, 80, &[(80, 16)]),
            (80, 81, &[(80, 15)]),
            (81, 82, &[(81, 16), (82, 16)]),
            (0, 65535, &[(0, 0)]),
            (1, 3, &[(1, 16), (2, 15)]),
            (32768, 65535, &[(32768, 1)]),
            (65535, 65535, &[(65535, 16)]),
            (8000, 8999, &[(8000, 10), (8064, 9), (8192, 7), (8704, 8), (8960, 11), (8992, 13)]),
            (0, 0, &[(0, 16)]),
        ];
        for (first, last, expected) in rows {
            let blocks = Block::range(Protocol::Tcp, first..=last);
            let found: Vec<_> = blocks.iter().map(|block| (block.port, block.prefix)).collect();
            assert_eq!(found, expected, "{first}-{last}");
        }
        assert_eq!(Block::range(Protocol::Udp, 1..=65534).len(), 30, "the worst there is");
    }

    #[test]
    fn ranges_hold_exactly_their_ports() {
        for (first, last) in [(1, 65535), (1, 65534), (5, 77), (1023, 1025), (30000, 32767), (443, 443)] {
            let blocks = Block::range(Protocol::Sctp, first..=last);
            for port in 0..=u16::MAX {
                let holds = blocks.iter().filter(|block| block.contains(Block::port(Protocol::Sctp, port))).count();
                assert_eq!(holds, usize::from((first..=last).contains(&port)), "{port} in {first}-{last}");
            }
        }
    }

    #[test]
    fn what_contains_comes_first() {
        let tcp = Block::protocol(Protocol::Tcp);
        let mut blocks = vec![tcp, Block::ALL, Block::protocol(Protocol::Udp)];
        blocks.extend(Block::range(Protocol::Tcp, 8000..=8999));
        blocks.push(Block::port(Protocol::Tcp, 8192));
        blocks.sort();
        for (index, outer) in blocks.iter().enumerate() {
            assert!(blocks[..index].iter().all(|earlier| !outer.contains(*earlier)), "{outer:?}");
        }
        assert!(Block::ALL.contains(tcp) && !tcp.contains(Block::ALL));
        assert!(!tcp.contains(Block::port(Protocol::Udp, 80)));
    }
}

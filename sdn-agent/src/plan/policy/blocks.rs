//! CIDR blocks in use: those that a policy names, as a range or as an exception to one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

/// All blocks in use that contain an address, in their order.
pub(super) type Chain = Arc<[IpNet]>;

/// The blocks in use.
#[derive(Clone, Debug, Default)]
pub(super) struct Blocks {
    /// Each with the number of its uses.
    uses: BTreeMap<IpNet, u32>,
    /// Prefix lengths in use and by how many blocks: IPv4, IPv6.
    lengths: [BTreeMap<u8, u32>; 2],
    empty: Chain,
}

// === impl Blocks ===

impl Blocks {
    /// One more use; whether the block is new.
    pub(super) fn add(&mut self, block: IpNet) -> bool {
        let uses = self.uses.entry(block).or_default();
        *uses += 1;
        let new = *uses == 1;
        if new {
            *self.lengths[family(block.addr())].entry(block.prefix_len()).or_default() += 1;
        }
        new
    }

    /// One use less; whether it was the last.
    pub(super) fn remove(&mut self, block: IpNet) -> bool {
        let Some(uses) = self.uses.get_mut(&block) else { return false };
        *uses -= 1;
        if *uses > 0 {
            return false;
        }
        self.uses.remove(&block);
        let lengths = &mut self.lengths[family(block.addr())];
        if let Some(count) = lengths.get_mut(&block.prefix_len()) {
            *count -= 1;
            if *count == 0 {
                lengths.remove(&block.prefix_len());
            }
        }
        true
    }

    pub(super) fn contains(&self, block: IpNet) -> bool {
        self.uses.contains_key(&block)
    }

    /// How many there are of the family of `block`.
    pub(super) fn count(&self, v6: bool) -> usize {
        self.lengths[usize::from(v6)].values().map(|count| *count as usize).sum()
    }

    /// The blocks that contain an address.
    pub(super) fn around(&self, address: IpAddr) -> Chain {
        self.chain(address, if address.is_ipv4() { 32 } else { 128 })
    }

    /// The blocks that contain a network, itself among them if it is one.
    pub(super) fn around_network(&self, network: IpNet) -> Chain {
        self.chain(network.network(), network.prefix_len())
    }

    /// The blocks that lie in a network, itself among them if it is one.
    pub(super) fn within(&self, network: IpNet) -> impl Iterator<Item = IpNet> {
        // Networks are ordered by address, then by length: whatever lies in one has an address in it.
        let inside = move |block: &IpNet| network.contains(block);
        let first = IpNet::new_assert(network.network(), 0);
        let to = network.broadcast();
        self.uses.range(first..).map(|(block, _)| *block).take_while(move |block| block.network() <= to).filter(inside)
    }

    fn chain(&self, address: IpAddr, longest: u8) -> Chain {
        let lengths = self.lengths[family(address)].keys().take_while(|length| **length <= longest);
        let around =
            |length: &u8| Some(IpNet::new(address, *length).ok()?.trunc()).filter(|block| self.contains(*block));
        let mut chain = lengths.filter_map(around).peekable();
        if chain.peek().is_none() { self.empty.clone() } else { chain.collect() }
    }
}

fn family(address: IpAddr) -> usize {
    usize::from(address.is_ipv6())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn chains_are_what_contains() {
        let mut blocks = Blocks::default();
        let all =
            ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "10.2.0.0/16", "::/0", "fd01::/48", "fd01::/64"];
        for text in all {
            assert!(blocks.add(net(text)), "{text}");
        }
        assert!(!blocks.add(net("10.0.0.0/8")));
        let rows = [
            ("10.1.2.3", vec!["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32"]),
            ("10.1.2.4", vec!["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16"]),
            ("10.2.0.1", vec!["0.0.0.0/0", "10.0.0.0/8", "10.2.0.0/16"]),
            ("192.0.2.1", vec!["0.0.0.0/0"]),
            ("fd01::1", vec!["::/0", "fd01::/48", "fd01::/64"]),
            ("fd01:0:0:1::1", vec!["::/0", "fd01::/48"]),
            ("2001:db8::1", vec!["::/0"]),
        ];
        for (address, expected) in rows {
            let chain = blocks.around(address.parse().unwrap());
            assert_eq!(chain.iter().map(ToString::to_string).collect::<Vec<_>>(), expected, "{address}");
            for text in all {
                let contains = net(text).contains(&address.parse::<IpAddr>().unwrap());
                assert_eq!(chain.contains(&net(text)), contains, "{address} in {text}");
            }
        }
        assert_eq!(blocks.around_network(net("10.1.0.0/16")).len(), 3);
        assert_eq!(blocks.around_network(net("10.1.0.0/15")).len(), 2);
        for outer in all {
            let expected: Vec<_> = all.into_iter().map(net).filter(|inner| net(outer).contains(inner)).collect();
            let mut found: Vec<_> = blocks.within(net(outer)).collect();
            found.sort_by_key(|found| all.iter().position(|text| net(text) == *found));
            assert_eq!(found, expected, "within {outer}");
        }
        assert_eq!((blocks.count(false), blocks.count(true)), (5, 3));
    }

    #[test]
    fn a_block_is_in_use_until_its_last_use_ends() {
        let mut blocks = Blocks::default();
        let block = net("10.0.0.0/8");
        assert!(blocks.add(block) && !blocks.add(block));
        assert!(!blocks.remove(block) && blocks.contains(block));
        assert!(blocks.remove(block) && !blocks.contains(block) && !blocks.remove(block));
        assert!(blocks.around("10.0.0.1".parse().unwrap()).is_empty());
        assert_eq!(blocks.count(false), 0);
    }
}

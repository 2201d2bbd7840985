//! Addresses, ports and prefixes as they stand in packets and map keys.

use crate::plain;

/// A 16-bit number in network byte order: ports, ICMP identifiers, EtherTypes.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Be16(pub u16);

/// An IPv4 address: its four bytes as on the wire, read as one word of the host.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Addr4(pub u32);

/// An IPv6 address: its sixteen bytes as on the wire, read as four words of the host.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Addr6(pub [u32; 4]);

/// An Ethernet address.
pub type Mac = [u8; 6];

/// A network: an address and a mask, both in wire order. The zero prefix of length 0 is `empty`, which contains nothing:
/// unused slots of [`crate::FamilyState::cluster`] are empty.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefix<A> {
    /// The network's address, host bits zero.
    pub address: A,
    /// The mask: ones for the prefix. All zeroes marks an unused slot.
    pub mask: A,
}

plain!(Be16 = 2, Addr4 = 4, Addr6 = 16, Prefix<Addr4> = 8, Prefix<Addr6> = 32);

/// What both families' addresses can do, for code that is written once.
pub trait Address: Copy + Default + PartialEq + PartialOrd + 'static {
    /// Bytes of the address on the wire.
    const LEN: usize;
    /// Bits of the address: the longest prefix.
    const BITS: u32;

    /// Both bit by bit.
    fn and(self, mask: Self) -> Self;
    /// No bit set: the unspecified address, or an empty mask.
    fn is_zero(self) -> bool;
    /// A source that never comes over a wire: 127.0.0.0/8 (RFC 1122 §3.2.1.3), ::1 (RFC 4291 §2.5.3).
    fn is_loopback(self) -> bool;
    /// Multicast or, for IPv4, limited broadcast: 224.0.0.0/4 and 255.255.255.255, ff00::/8.
    fn is_multicast(self) -> bool;
    /// Link-local, never forwarded: 169.254.0.0/16 (RFC 3927), fe80::/10 (RFC 4291).
    fn is_link_local(self) -> bool;
    /// The address in 16 bytes, an IPv4 address in its mapped form (RFC 4291 §2.5.5.2).
    fn mapped(self) -> Addr6;
}

// === impl Be16 ===

impl Be16 {
    /// From a number of the host.
    pub const fn new(native: u16) -> Self {
        Self(native.to_be())
    }

    /// The number in host order.
    pub const fn native(self) -> u16 {
        u16::from_be(self.0)
    }
}

// === impl Addr4 ===

impl Addr4 {
    /// From the four bytes as written: `[10, 128, 0, 1]`.
    pub const fn new(bytes: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(bytes))
    }

    /// The four bytes as written.
    pub const fn bytes(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }

    const fn masked(self, mask: [u8; 4]) -> u32 {
        self.0 & u32::from_ne_bytes(mask)
    }
}

impl Address for Addr4 {
    const LEN: usize = 4;
    const BITS: u32 = 32;

    #[inline(always)]
    fn and(self, mask: Self) -> Self {
        Self(self.0 & mask.0)
    }

    #[inline(always)]
    fn is_zero(self) -> bool {
        self.0 == 0
    }

    #[inline(always)]
    fn is_loopback(self) -> bool {
        self.masked([255, 0, 0, 0]) == u32::from_ne_bytes([127, 0, 0, 0])
    }

    #[inline(always)]
    fn is_multicast(self) -> bool {
        self.masked([240, 0, 0, 0]) == u32::from_ne_bytes([224, 0, 0, 0]) || self.0 == u32::MAX
    }

    #[inline(always)]
    fn is_link_local(self) -> bool {
        self.masked([255, 255, 0, 0]) == u32::from_ne_bytes([169, 254, 0, 0])
    }

    #[inline(always)]
    fn mapped(self) -> Addr6 {
        Addr6([0, 0, u32::from_ne_bytes([0, 0, 0xff, 0xff]), self.0])
    }
}

// === impl Addr6 ===

impl Addr6 {
    /// From the sixteen bytes as written.
    pub const fn new(b: [u8; 16]) -> Self {
        Self([
            u32::from_ne_bytes([b[0], b[1], b[2], b[3]]),
            u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
            u32::from_ne_bytes([b[8], b[9], b[10], b[11]]),
            u32::from_ne_bytes([b[12], b[13], b[14], b[15]]),
        ])
    }

    /// The sixteen bytes as written.
    pub const fn bytes(self) -> [u8; 16] {
        let [a, b, c, d] =
            [self.0[0].to_ne_bytes(), self.0[1].to_ne_bytes(), self.0[2].to_ne_bytes(), self.0[3].to_ne_bytes()];
        [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]]
    }

    const fn first_masked(self, mask: [u8; 4]) -> u32 {
        self.0[0] & u32::from_ne_bytes(mask)
    }
}

impl Address for Addr6 {
    const LEN: usize = 16;
    const BITS: u32 = 128;

    #[inline(always)]
    fn and(self, mask: Self) -> Self {
        let ([a, b, c, d], m) = (self.0, mask.0);
        Self([a & m[0], b & m[1], c & m[2], d & m[3]])
    }

    #[inline(always)]
    fn is_zero(self) -> bool {
        self.0[0] | self.0[1] | self.0[2] | self.0[3] == 0
    }

    #[inline(always)]
    fn is_loopback(self) -> bool {
        self.0[0] | self.0[1] | self.0[2] == 0 && self.0[3] == u32::from_ne_bytes([0, 0, 0, 1])
    }

    #[inline(always)]
    fn is_multicast(self) -> bool {
        self.first_masked([255, 0, 0, 0]) == u32::from_ne_bytes([0xff, 0, 0, 0])
    }

    #[inline(always)]
    fn is_link_local(self) -> bool {
        self.first_masked([0xff, 0xc0, 0, 0]) == u32::from_ne_bytes([0xfe, 0x80, 0, 0])
    }

    #[inline(always)]
    fn mapped(self) -> Addr6 {
        self
    }
}

// === impl Prefix ===

impl<A: Address> Prefix<A> {
    /// Whether the network contains the address. An unused slot contains none.
    #[inline(always)]
    pub fn contains(&self, address: A) -> bool {
        !self.mask.is_zero() && address.and(self.mask) == self.address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v6(s: &str) -> Addr6 {
        Addr6::new(s.parse::<core::net::Ipv6Addr>().unwrap().octets())
    }

    #[test]
    fn addresses_of_special_use() {
        // (address, loopback, multicast, link-local)
        let v4 = [
            ([127, 0, 0, 1], true, false, false),
            ([127, 255, 255, 255], true, false, false),
            ([128, 0, 0, 1], false, false, false),
            ([224, 0, 0, 1], false, true, false),
            ([239, 255, 0, 1], false, true, false),
            ([240, 0, 0, 1], false, false, false),
            ([255, 255, 255, 255], false, true, false),
            ([169, 254, 169, 254], false, false, true),
            ([169, 253, 0, 1], false, false, false),
        ];
        for (bytes, loopback, multicast, link_local) in v4 {
            let a = Addr4::new(bytes);
            assert_eq!(
                (a.is_loopback(), a.is_multicast(), a.is_link_local()),
                (loopback, multicast, link_local),
                "{bytes:?}"
            );
        }
        let v6_rows = [
            ("::1", true, false, false),
            ("::2", false, false, false),
            ("1::1", false, false, false),
            ("ff02::1", false, true, false),
            ("fe80::1", false, false, true),
            ("febf::1", false, false, true),
            ("fec0::1", false, false, false),
            ("fd01::1", false, false, false),
        ];
        for (text, loopback, multicast, link_local) in v6_rows {
            let a = v6(text);
            assert_eq!(
                (a.is_loopback(), a.is_multicast(), a.is_link_local()),
                (loopback, multicast, link_local),
                "{text}"
            );
        }
    }

    #[test]
    fn a_prefix_contains_its_addresses_and_an_unused_slot_none() {
        let p = Prefix { address: Addr4::new([10, 128, 0, 0]), mask: Addr4::new([255, 252, 0, 0]) };
        assert!(p.contains(Addr4::new([10, 131, 255, 255])));
        assert!(!p.contains(Addr4::new([10, 132, 0, 0])));
        assert!(!Prefix::<Addr4>::default().contains(Addr4::default()));
        let p = Prefix { address: v6("fd01::"), mask: v6("ffff:ffff:ffff::") };
        assert!(p.contains(v6("fd01:0:0:ffff::9")));
        assert!(!p.contains(v6("fd01:0:1::9")));
    }

    #[test]
    fn bytes_come_back_as_they_were() {
        assert_eq!(v6("fd01::12:3").bytes(), "fd01::12:3".parse::<core::net::Ipv6Addr>().unwrap().octets());
        assert_eq!(Addr4::new([1, 2, 3, 4]).mapped().bytes()[10..], [0xff, 0xff, 1, 2, 3, 4]);
        assert_eq!(Be16::new(4789).0.to_ne_bytes(), [0x12, 0xb5]);
    }
}

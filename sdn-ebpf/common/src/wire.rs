//! What one dataplane tells another: the inner Ethernet header of a tunnelled packet, which a routed overlay does not use.
//!
//! The source address is `02`, the kind, and 32 bits whose meaning depends on the kind, in network byte order. The first octet
//! marks a locally administered unicast address (IEEE 802 §8.4), so no device that sees the frame takes it for a vendor's.
//! The destination address is [`TUNNEL_DESTINATION`] for the kinds known today.

use crate::Mac;

/// First octet of every inner source address.
pub const MARK: u8 = 0x02;

/// Destination address of kinds `Node` and `Pod`, and the VXLAN device's own on every node, so that the stack takes what comes
/// for its own. The programs do not look at it.
pub const TUNNEL_DESTINATION: Mac = [MARK, 0, 0, 0, 0, 1];

/// VXLAN network identifier of all traffic until projects have their own.
pub const VNI: u32 = 0;

/// Address of the host's end of every pod's veth, which pods know as their gateway's. 0a:58 marks addresses made of an IP
/// address; this one is 169.254.1.1's.
pub const GATEWAY_MAC: Mac = [0x0a, 0x58, 169, 254, 1, 1];
/// The gateway that pods of IPv4 know.
pub const GATEWAY_V4: [u8; 4] = [169, 254, 1, 1];
/// The gateway that pods of IPv6 know: fe80::1.
pub const GATEWAY_V6: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// Kinds of tunnelled packets, with the version of their meaning: the high half of the octet is the version. A kind that a
/// node does not know is dropped and counted, so a later version can be told from an earlier one.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// From the sending node itself, from one of its own addresses. The 32 bits are 0.
    Node = 0x10,
    /// From a pod of the sending node. The 32 bits are its incarnation.
    Pod = 0x11,
}

/// The inner source address, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Which kind of packet.
    pub kind: Kind,
    /// The kind's 32 bits, in host order.
    pub value: u32,
}

impl Sender {
    /// The source address to write.
    #[inline(always)]
    #[must_use]
    pub const fn mac(self) -> Mac {
        let v = self.value.to_be_bytes();
        [MARK, self.kind as u8, v[0], v[1], v[2], v[3]]
    }

    /// Reads a source address; `None` if it is of no kind known here.
    #[inline(always)]
    #[must_use]
    pub const fn parse(mac: Mac) -> Option<Self> {
        let value = u32::from_be_bytes([mac[2], mac[3], mac[4], mac[5]]);
        match (mac[0], mac[1]) {
            (MARK, 0x10) if value == 0 => Some(Self { kind: Kind::Node, value }),
            (MARK, 0x11) if value != 0 => Some(Self { kind: Kind::Pod, value }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_round_trip_and_nothing_else_parses() {
        for sender in [Sender { kind: Kind::Node, value: 0 }, Sender { kind: Kind::Pod, value: 0xdead_beef }] {
            assert_eq!(Sender::parse(sender.mac()), Some(sender));
        }
        for foreign in [
            [0; 6],
            [2, 0x12, 0, 0, 0, 1],
            [2, 0x21, 0, 0, 0, 1],
            [0, 0x11, 0, 0, 0, 1],
            [2, 0x11, 0, 0, 0, 0],
            [2, 0x10, 0, 0, 0, 7],
        ] {
            assert_eq!(Sender::parse(foreign), None, "{foreign:?}");
        }
    }
}

//! Connection tracking: one entry a flow, found from either direction with one look-up.
//!
//! The key has no direction: the smaller end comes first. [`Way`] says which end sent the packet at hand.

use crate::{Addr4, Addr6, Address, Author, Be16, Identity, SetId, plain};

/// Both ends of a flow, the smaller (address, port) first. For ICMP echo both ports are the identifier; for protocols without
/// ports both are 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowKey<A> {
    /// The smaller end's address.
    pub low: A,
    /// The greater end's address.
    pub high: A,
    /// The smaller end's port.
    pub low_port: Be16,
    /// The greater end's port.
    pub high_port: Be16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub _pad: [u8; 3],
}

/// Which end of a [`FlowKey`] sent a packet.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The end that comes first in the key.
    FromLow = 0,
    /// The other.
    FromHigh = 1,
}

/// What is known of one end of a flow, as of [`Flow::epoch`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// [`Node::SELF`](crate::Node::SELF), [`Node::OUTSIDE`](crate::Node::OUTSIDE) or an index into `NODES`.
    pub node: u32,
    /// Which pod; 0 for a node or an outside address, and for an address in the cluster network that is not known.
    pub incarnation: u32,
    /// What policies know it by.
    pub identity: Identity,
}

/// The state of a flow. Maps `NEW_FLOWS_*` until the first reply, then `FLOWS_*`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// `jiffies` of the last packet in either direction.
    pub last_seen: u64,
    /// Bits of [`Flow::OPENED_FROM_HIGH`] ….
    pub state: u32,
    /// [`NodeState::epoch`](crate::NodeState::epoch) when the sides were last looked up. An older one: look again.
    pub epoch: u32,
    /// By [`Way`]: the low end, the high end.
    pub sides: [Side; 2],
    /// The node's port that stands for the pod's outside; 0 where the flow is not masqueraded.
    pub masquerade_port: Be16,
    /// Zero.
    pub _pad: [u16; 3],
    /// The sets that admitted the flow: what filters egress of the end that opened it, and ingress of the end that answers, each
    /// where that end is a pod of this node. A pod that has another set by now: the flow is judged again.
    pub sets: [SetId; 2],
    /// The rules that admitted it, in the same order.
    pub authors: [Author; 2],
    /// Zero. Stands in the next layout only, which exists to test the conversion from one layout to the next.
    #[cfg(feature = "layout-next")]
    pub _next: u64,
}

#[cfg(not(feature = "layout-next"))]
plain!(Flow = 64);
#[cfg(feature = "layout-next")]
plain!(Flow = 72, v1::Flow = 64);
plain!(FlowKey<Addr4> = 16, FlowKey<Addr6> = 40, Side = 12);

/// Idle time after which the sweep removes a flow, by the state it is in, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A TCP flow without a reply yet.
    pub tcp_opening: u32,
    /// An answered TCP flow. Longer than the two hours after which Linux sends its first keep-alive.
    pub tcp_established: u32,
    /// TCP after one FIN.
    pub tcp_half_closed: u32,
    /// TCP after both FINs or a reset.
    pub tcp_closed: u32,
    /// UDP without a reply.
    pub udp_unanswered: u32,
    /// UDP with one.
    pub udp: u32,
    /// ICMP echo.
    pub icmp: u32,
    /// Everything else.
    pub other: u32,
}

impl Timeouts {
    /// The defaults (reference: Cilium's 8,000 s for established TCP, the kernel's half-closed 120 s).
    pub const DEFAULT: Self = Self {
        tcp_opening: 60,
        tcp_established: 8_000,
        tcp_half_closed: 120,
        tcp_closed: 10,
        udp_unanswered: 30,
        udp: 120,
        icmp: 30,
        other: 600,
    };

    /// How long a flow of this protocol in this state may be idle, in seconds.
    #[must_use]
    pub const fn of(&self, protocol: u8, state: u32) -> u32 {
        let fins = state & (Flow::FIN_FROM_LOW | Flow::FIN_FROM_HIGH);
        match protocol {
            6 if state & Flow::RESET != 0 || fins == (Flow::FIN_FROM_LOW | Flow::FIN_FROM_HIGH) => self.tcp_closed,
            6 if fins != 0 => self.tcp_half_closed,
            6 if state & Flow::REPLIED == 0 => self.tcp_opening,
            6 => self.tcp_established,
            17 if state & Flow::REPLIED == 0 => self.udp_unanswered,
            17 => self.udp,
            1 | 58 => self.icmp,
            _ => self.other,
        }
    }
}

impl<A: Address> FlowKey<A> {
    /// The key of a packet's flow, and which end sent it.
    #[inline(always)]
    pub fn new(source: (A, Be16), destination: (A, Be16), protocol: u8) -> (Self, Way) {
        let (low, high, way) = if source <= destination {
            (source, destination, Way::FromLow)
        } else {
            (destination, source, Way::FromHigh)
        };
        let key = Self { low: low.0, high: high.0, low_port: low.1, high_port: high.1, protocol, _pad: [0; 3] };
        (key, way)
    }
}

impl Way {
    /// The other way.
    #[inline(always)]
    #[must_use]
    pub const fn reverse(self) -> Self {
        match self {
            Self::FromLow => Self::FromHigh,
            Self::FromHigh => Self::FromLow,
        }
    }
}

impl Flow {
    /// The high end sent the first packet.
    pub const OPENED_FROM_HIGH: u32 = 1 << 0;
    /// The end that did not send the first packet has answered.
    pub const REPLIED: u32 = 1 << 1;
    /// The low end has sent a FIN.
    pub const FIN_FROM_LOW: u32 = 1 << 2;
    /// The high end has sent a FIN.
    pub const FIN_FROM_HIGH: u32 = 1 << 3;
    /// Either end has sent a reset.
    pub const RESET: u32 = 1 << 4;
    /// A TCP flow whose first packet seen was not a SYN.
    pub const MIDSTREAM: u32 = 1 << 5;

    /// What opened it the node forwards for somebody else: no local socket's.
    pub const RELAYED: u32 = 1 << 6;

    /// Which way the first packet went.
    #[inline(always)]
    #[must_use]
    pub const fn opened(&self) -> Way {
        if self.state & Self::OPENED_FROM_HIGH == 0 { Way::FromLow } else { Way::FromHigh }
    }

    /// A TCP flow that has ended: a new SYN between the same ports opens another.
    #[inline(always)]
    #[must_use]
    pub const fn closed(&self) -> bool {
        const BOTH: u32 = Flow::FIN_FROM_LOW | Flow::FIN_FROM_HIGH;
        self.state & Self::RESET != 0 || self.state & BOTH == BOTH
    }
}

/// The layout before this one, kept for the conversion.
#[cfg(feature = "layout-next")]
pub mod v1 {
    use super::{Author, Be16, SetId, Side};

    /// [`Flow`](super::Flow) as it was in version 1.
    #[repr(C)]
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Flow {
        /// See the present layout.
        pub last_seen: u64,
        /// See the present layout.
        pub state: u32,
        /// See the present layout.
        pub epoch: u32,
        /// See the present layout.
        pub sides: [Side; 2],
        /// See the present layout.
        pub masquerade_port: Be16,
        /// Zero.
        pub _pad: [u16; 3],
        /// See the present layout.
        pub sets: [SetId; 2],
        /// See the present layout.
        pub authors: [Author; 2],
    }

    impl From<Flow> for super::Flow {
        fn from(old: Flow) -> Self {
            let Flow { last_seen, state, epoch, sides, masquerade_port, _pad, sets, authors } = old;
            Self { last_seen, state, epoch, sides, masquerade_port, _pad, sets, authors, _next: 0 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_have_one_key() {
        let (a, b) = ((Addr4::new([10, 128, 0, 2]), Be16::new(40000)), (Addr4::new([10, 128, 2, 9]), Be16::new(80)));
        let (there, way) = FlowKey::new(a, b, 6);
        let (back, reply_way) = FlowKey::new(b, a, 6);
        assert_eq!(there, back);
        assert_eq!(way.reverse(), reply_way);
        // One address, two ports: the ports decide.
        let (c, d) = ((a.0, Be16::new(1)), (a.0, Be16::new(2)));
        assert_eq!(FlowKey::new(c, d, 17).0, FlowKey::new(d, c, 17).0);
        assert_ne!(FlowKey::new(a, b, 6).0, FlowKey::new(a, b, 17).0);
    }

    #[test]
    fn lifetimes_by_protocol_and_state() {
        let t = Timeouts::DEFAULT;
        let both = Flow::FIN_FROM_LOW | Flow::FIN_FROM_HIGH;
        let rows = [
            (6, 0, t.tcp_opening),
            (6, Flow::REPLIED, t.tcp_established),
            (6, Flow::REPLIED | Flow::FIN_FROM_LOW, t.tcp_half_closed),
            (6, Flow::REPLIED | both, t.tcp_closed),
            (6, Flow::RESET, t.tcp_closed),
            (17, 0, t.udp_unanswered),
            (17, Flow::REPLIED, t.udp),
            (1, Flow::REPLIED, t.icmp),
            (58, 0, t.icmp),
            (132, Flow::REPLIED, t.other),
        ];
        for (protocol, state, seconds) in rows {
            assert_eq!(t.of(protocol, state), seconds, "protocol {protocol} state {state:#b}");
        }
    }
}

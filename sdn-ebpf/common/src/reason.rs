//! Why packets are dropped. Numbered once, never reused: events, metrics and people's dashboards keep them.

/// Writes the enum and its table from one list, so that neither can miss a reason.
macro_rules! reasons {
    ($($name:ident = $number:literal, $label:literal, $text:literal;)+) => {
        /// Why a packet was dropped.
        #[repr(u16)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $(#[doc = $text] $name = $number,)+
        }

        impl Reason {
            /// Every reason, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The name used by metrics and commands.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }

            /// What happened, for people.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// The reason with this number.
            #[must_use]
            pub const fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

reasons! {
    Malformed = 1, "malformed", "A header is cut short or contradicts itself.";
    UnsupportedEthertype = 2, "unsupported_ethertype", "Neither IPv4, IPv6 nor ARP.";
    ExtensionHeaders = 3, "extension_headers", "Too many IPv6 extension headers, or one that may not be forwarded.";
    FragmentTiny = 4, "fragment_tiny", "The first fragment does not hold the whole transport header.";
    FragmentOutOfOrder = 5, "fragment_out_of_order", "A fragment whose predecessor was not seen.";
    FragmentOverlap = 6, "fragment_overlap", "A fragment that repeats bytes already seen.";
    FragmentExcess = 7, "fragment_excess", "More fragments of one datagram than are let through.";
    SpoofedAddress = 8, "spoofed_address", "A pod sent from an address that is not its own.";
    SpoofedMac = 9, "spoofed_mac", "A pod sent from a MAC address that is not its own.";
    SpoofedNeighbour = 10, "spoofed_neighbour", "A pod claimed another's address in ARP or neighbour discovery.";
    RouterImpersonation = 11, "router_impersonation", "A pod sent a router advertisement or a redirect.";
    NeighbourUnknown = 12, "neighbour_unknown", "ARP or neighbour discovery for something other than the gateway.";
    Multicast = 13, "multicast", "Multicast or broadcast, which the overlay does not carry.";
    Metadata = 14, "metadata", "The cloud's metadata address, which pods may not reach.";
    MachineConfig = 15, "machine_config", "A port of the machine configuration server, which pods may not reach.";
    PodVxlan = 16, "pod_vxlan", "A pod sent to the port of the tunnel.";
    TtlExpired = 17, "ttl_expired", "The time to live or hop limit ran out.";
    TooBig = 18, "too_big", "Larger than the tunnel carries.";
    UnknownDestination = 19, "unknown_destination", "An address in the cluster network that no node has.";
    NoFlow = 20, "no_flow", "A packet in the middle of a flow that is not known.";
    FlowsFull = 21, "flows_full", "The table of flows took no new entry.";
    MasqueradeExhausted = 22, "masquerade_exhausted", "No free port to stand for the pod toward this destination.";
    MasqueradeUnsupported = 23, "masquerade_unsupported", "A protocol that cannot be masqueraded.";
    NoOutside = 24, "no_outside", "The node has no way outside for this family, or masquerade is off.";
    TunnelUnknownNode = 25, "tunnel_unknown_node", "A tunnelled packet from an address that is no node's.";
    TunnelVni = 26, "tunnel_vni", "A tunnelled packet of an unknown VXLAN network.";
    TunnelKind = 27, "tunnel_kind", "A tunnelled packet of an unknown kind or version.";
    TunnelForeignSource = 28, "tunnel_foreign_source", "A tunnelled packet whose inner source is not the sending node's.";
    StalePeer = 29, "stale_peer", "Sent by another pod than the one this node knows at that address.";
    TunnelNotLocal = 30, "tunnel_not_local", "A tunnelled packet for an address that is not on this node.";
    UplinkForged = 31, "uplink_forged", "A packet from the uplink with an address of the cluster network.";
    UplinkLoopback = 32, "uplink_loopback", "A packet from the uplink with a loopback source.";
    IcmpUnrelated = 33, "icmp_unrelated", "An ICMP error about no known flow.";
    ForeignSource = 34, "foreign_source", "Forwarded by this node for somebody else to another node's pod.";
    UnreachableNode = 35, "unreachable_node", "The node of the destination has no tunnel address of this node's kind.";
    HelperFailed = 36, "helper_failed", "A kernel helper refused; the packet could not be changed.";
    LinkLocal = 37, "link_local", "A link-local address, which is not forwarded.";
    NotReady = 38, "not_ready", "The programs have not been given the node's settings.";
    PolicyEgress = 39, "policy_egress", "A policy of the sending pod does not allow it.";
    PolicyIngress = 40, "policy_ingress", "A policy of the receiving pod does not allow it.";
}

/// Entries of `DROP_TOTALS`: every reason's number is an index.
pub const DROP_TOTALS_LEN: u32 = 64;

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn numbers_and_labels_are_unique_and_fit() {
        let labels: BTreeSet<_> = Reason::ALL.iter().map(|r| r.label()).collect();
        assert_eq!(labels.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert!(u32::from(*reason as u16) < DROP_TOTALS_LEN);
            assert_eq!(Reason::from_number(*reason as u16), Some(*reason));
        }
        assert_eq!(Reason::from_number(0), None);
    }
}

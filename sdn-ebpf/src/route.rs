//! The last stage: the packet goes to the pod, the node, the tunnel or the outside.

use aya_ebpf::{
    bindings::BPF_F_INGRESS,
    helpers::{bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer},
};
use sdn_common::{Address, Endpoint, Forward, Hook, Node, NodeState, Reason, Side, wire};

use crate::{
    encap,
    family::{Family, IpHeader},
    frame::{ETHERNET, Frame, Skb},
    hook, icmp, nat, origin,
    packet::Packet,
    verdict::{End, Sent, Stage},
};

/// Whether this packet's end is the node itself: its own addresses, which are no pod's.
#[inline(always)]
pub fn is_host(side: &Side) -> bool {
    side.node == Node::SELF && side.incarnation == 0
}

/// Takes one hop off a packet that is forwarded (RFC 1812 §5.3.1, RFC 8200 §3).
#[inline(always)]
pub fn hop<F: Family>(packet: &mut Packet<F>) -> Stage<()> {
    let ttl = packet.head.ip.ttl();
    if ttl <= 1 {
        return Err(End::reject(Reason::TtlExpired, icmp::Error::TimeExceeded));
    }
    packet.head.ip.set_ttl(ttl - 1);
    Ok(())
}

/// Refuses what the tunnel would not carry. A GSO packet is measured by the segments it will become. IPv4 without "don't
/// fragment" is told as well: a BPF program cannot cut a packet, and senders heed the answer.
#[inline(always)]
pub fn fits<F: Family>(skb: Skb, packet: &Packet<F>) -> Stage<()> {
    let segment = skb.segment();
    let len =
        if segment == 0 { packet.end - ETHERNET } else { packet.transport + packet.transport_len - ETHERNET + segment };
    if len > hook::state()?.mtu {
        return Err(End::reject(Reason::TooBig, icmp::Error::TooBig));
    }
    Ok(())
}

/// Into a pod of this node.
#[inline(always)]
pub fn to_pod<F: Family>(skb: Skb, packet: &mut Packet<F>, receiver: Option<&Endpoint>) -> Stage<Sent> {
    let Some(endpoint) = receiver else {
        return Err(End::drop(Reason::UnknownDestination));
    };
    // The flow's other end was another pod: until the epoch moves, nothing reaches the new one by the old flow.
    if endpoint.incarnation != packet.to.incarnation {
        return Err(End::drop(Reason::StalePeer));
    }
    packet.head.to = endpoint.mac;
    packet.head.from = wire::GATEWAY_MAC;
    packet.write_head(skb)?;
    Ok(enter(packet.hook, endpoint))
}

/// `bpf_redirect_peer` spares the pod's packet a queue, but exists on ingress only: from egress it is dropped without a word
/// (net/core/filter.c, skb_do_redirect). Through the veth's own queue goes also what a bandwidth limit shapes.
#[inline(always)]
fn enter(hook: Hook, endpoint: &Endpoint) -> Sent {
    let direct = !matches!(hook, Hook::HostOut) && endpoint.flags & Endpoint::SHAPED == 0;
    // SAFETY: plain numbers.
    let action =
        unsafe { if direct { bpf_redirect_peer(endpoint.ifindex, 0) } else { bpf_redirect(endpoint.ifindex, 0) } };
    Sent::redirect(Forward::Pod, action, endpoint.ifindex)
}

/// To the node's own stack, from a pod. By way of the VXLAN device's ingress: there the stack's reverse path filter finds the
/// cluster network, whatever `rp_filter` says of the veth. `overlay_in` knows the packet by its lack of a tunnel key.
#[inline(always)]
pub fn to_host() -> Stage<Sent> {
    let ifindex = hook::state()?.vxlan_ifindex;
    // SAFETY: plain numbers.
    let action = unsafe { bpf_redirect(ifindex, u64::from(BPF_F_INGRESS)) };
    Ok(Sent::redirect(Forward::Host, action, ifindex))
}

/// Into the tunnel, from a pod.
#[inline(always)]
pub fn to_node<F: Family>(skb: Skb, packet: &mut Packet<F>, node: u32, sender: wire::Sender) -> Stage<Sent> {
    packet.head.to = wire::TUNNEL_DESTINATION;
    packet.head.from = sender.mac();
    packet.write_head(skb)?;
    encap::key(skb, node)?;
    let ifindex = hook::state()?.vxlan_ifindex;
    // SAFETY: plain numbers.
    let action = unsafe { bpf_redirect(ifindex, 0) };
    Ok(Sent { node, ..Sent::redirect(Forward::Tunnel, action, ifindex) })
}

/// To the outside, from the node's address. The kernel finds the next hop's MAC; no forwarding needs to be enabled.
#[inline(always)]
pub fn to_outside<F: Family>(skb: Skb, packet: &mut Packet<F>) -> Stage<Sent> {
    let state = hook::state()?;
    let local = F::state(state).masquerade;
    if state.flags & NodeState::MASQUERADE == 0 || local.is_zero() || state.uplink_ifindex == 0 {
        return Err(End::reject(Reason::NoOutside, icmp::Error::NetUnreachable));
    }
    // Of the tuple that leaves only the source is still to change: refused here, the packet is reported as the pod's.
    origin::tunnel_port(packet)?;
    // An error's quote was translated with its flow; it has no port of its own. Neither has a later fragment.
    let port = if packet.is_icmp_error() { packet.source_port } else { packet.masquerade_port };
    nat::rewrite(skb, packet, &nat::Translation { end: nat::End::Source, address: local, port })?;
    packet.write_addresses(skb)?;
    // SAFETY: plain numbers; no parameters: the kernel routes by the packet's destination.
    let action = unsafe { bpf_redirect_neigh(state.uplink_ifindex, core::ptr::null_mut(), 0, 0) };
    Ok(Sent::redirect(Forward::Outside, action, state.uplink_ifindex))
}

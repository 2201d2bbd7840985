//! The tunnel: where a packet goes is told to the VXLAN device, where it came from is read from it.

use core::mem::{size_of, zeroed};

use aya_ebpf::{
    bindings::{BPF_F_TUNINFO_IPV6, BPF_F_ZERO_CSUM_TX, bpf_tunnel_key},
    helpers::{bpf_skb_get_tunnel_key, bpf_skb_set_tunnel_key},
};
use sdn_common::{Addr4, Addr6, Address, Node, Reason, wire};

use crate::{
    frame::{Skb, helper},
    maps,
    verdict::{End, Stage},
};

/// Hop limit of the outer header.
const TTL: u8 = 64;

const KEY_LEN: u32 = size_of::<bpf_tunnel_key>() as u32;

/// Where a tunnelled packet came from.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Tunnel {
    /// The outer source; IPv4 in its mapped form.
    pub from: Addr6,
    pub vni: u32,
}

/// The node behind an index, if it is there.
#[inline(always)]
pub fn node(index: u32) -> Option<&'static Node> {
    match maps::NODES.get(index) {
        Some(node) if node.flags & Node::VALID != 0 => Some(node),
        _ => None,
    }
}

/// Addresses the packet to a node's end of the tunnel.
#[inline(always)]
pub fn key(skb: Skb, index: u32) -> Stage<()> {
    let Some(node) = node(index) else {
        return Err(End::drop(Reason::UnreachableNode));
    };
    // SAFETY: integers.
    let mut key: bpf_tunnel_key = unsafe { zeroed() };
    key.tunnel_id = wire::VNI;
    key.tunnel_ttl = TTL;
    // A zero outer checksum is allowed over IPv4 (RFC 7348 §5). Over IPv6 the receiver drops it unless told otherwise.
    let flags = if node.flags & Node::TUNNEL_V6 != 0 {
        key.__bindgen_anon_1.remote_ipv6 = node.tunnel.0;
        u64::from(BPF_F_TUNINFO_IPV6)
    } else {
        // Host order for IPv4, network order for IPv6: so the helper wants it.
        key.__bindgen_anon_1.remote_ipv4 = u32::from_be(node.tunnel.0[3]);
        u64::from(BPF_F_ZERO_CSUM_TX)
    };
    // SAFETY: the key has the length given.
    helper(unsafe { bpf_skb_set_tunnel_key(skb.raw(), &raw mut key, KEY_LEN, flags) })
}

/// Whether the packet came by a tunnel, and by which.
#[inline(never)]
pub fn tunnel(skb: Skb, tunnel: &mut Tunnel) -> bool {
    // SAFETY: integers.
    let mut key: bpf_tunnel_key = unsafe { zeroed() };
    // SAFETY: the key has the length given. So below.
    if unsafe { bpf_skb_get_tunnel_key(skb.raw(), &raw mut key, KEY_LEN, 0) } == 0 {
        // SAFETY: the helper filled the IPv4 form.
        let from = Addr4(unsafe { key.__bindgen_anon_1.remote_ipv4 }.to_be()).mapped();
        *tunnel = Tunnel { from, vni: key.tunnel_id };
        return true;
    }
    // SAFETY: see above.
    if unsafe { bpf_skb_get_tunnel_key(skb.raw(), &raw mut key, KEY_LEN, u64::from(BPF_F_TUNINFO_IPV6)) } == 0 {
        // SAFETY: the helper filled the IPv6 form.
        let from = Addr6(unsafe { key.__bindgen_anon_1.remote_ipv6 });
        *tunnel = Tunnel { from, vni: key.tunnel_id };
        return true;
    }
    false
}

/// Whether the packet has been given a tunnel already.
#[inline(always)]
pub fn addressed(skb: Skb) -> bool {
    tunnel(skb, &mut Tunnel::default())
}

/// Gives a packet of a test run the tunnel that its control buffer describes: VNI, flag for IPv6, then the sender's address.
/// `get` returns as remote what `set` was given as local.
#[inline(never)]
pub fn pretend(skb: Skb) -> Stage<()> {
    // SAFETY: integers.
    let mut key: bpf_tunnel_key = unsafe { zeroed() };
    key.tunnel_id = skb.cb::<0>();
    key.tunnel_ttl = TTL;
    let last = skb.cb::<4>();
    let flags = if skb.cb::<1>() == 1 {
        key.__bindgen_anon_3.local_ipv6 = [skb.cb::<2>(), skb.cb::<3>(), 0, last];
        u64::from(BPF_F_TUNINFO_IPV6)
    } else {
        key.__bindgen_anon_3.local_ipv4 = last;
        0
    };
    // SAFETY: the key has the length given.
    helper(unsafe { bpf_skb_set_tunnel_key(skb.raw(), &raw mut key, KEY_LEN, flags) })
}

//! The kernel side of Culvert: entry points of the programs, a few lines each. See [`hook`] for what they do.
#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![cfg_attr(
    target_arch = "bpf",
    expect(missing_docs, reason = "nothing here is called from outside; the modules say what is in them")
)]
#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a key or value that is handed over itself is copied to the stack, of which there are 512 bytes"
)]

mod checksum;
mod conntrack;
mod encap;
mod family;
mod fragment;
mod frame;
mod hook;
mod icmp;
mod maps;
mod masquerade;
mod nat;
mod neighbour;
mod origin;
mod packet;
mod parse;
mod policy;
mod related;
mod resolver;
mod route;
mod trust;
mod verdict;

use aya_ebpf::{
    EbpfContext,
    bindings::{TC_ACT_OK, TC_ACT_SHOT},
    helpers::{bpf_jiffies64, bpf_ktime_get_ns},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use sdn_common::event::Clock;

use frame::{Skb, Xdp};

/// TCX ingress of the host's end of a pod's veth.
#[classifier]
pub fn pod_out(ctx: TcContext) -> i32 {
    hook::pod_out::run(Skb::new(ctx.as_ptr().cast()))
}

/// TCX ingress of the VXLAN device.
#[classifier]
pub fn overlay_in(ctx: TcContext) -> i32 {
    hook::overlay_in::run(Skb::new(ctx.as_ptr().cast()))
}

/// TCX egress of the VXLAN device.
#[classifier]
pub fn host_out(ctx: TcContext) -> i32 {
    hook::host_out::run(Skb::new(ctx.as_ptr().cast()))
}

/// TCX ingress of the uplink.
#[classifier]
pub fn uplink_in(ctx: TcContext) -> i32 {
    hook::uplink_in::run(Skb::new(ctx.as_ptr().cast()))
}

/// XDP of the uplink, where it is asked for. It takes packets in several buffers: devices with large frames want that of a program.
#[xdp(frags)]
pub fn uplink_xdp(ctx: XdpContext) -> u32 {
    hook::uplink_xdp::run(Xdp::new(ctx.as_ptr().cast()))
}

/// Never attached: run by the agent to read `jiffies` beside a clock it knows.
#[classifier]
pub fn clock(_: TcContext) -> i32 {
    // SAFETY: no arguments, no effects.
    let now = unsafe { Clock { jiffies: bpf_jiffies64(), nanoseconds: bpf_ktime_get_ns() } };
    match maps::CLOCK.set(0, now, 0) {
        Ok(()) => TC_ACT_OK,
        Err(_) => TC_ACT_SHOT,
    }
}

/// Never attached: a test run of `overlay_in` has no tunnel, so this gives it one from the control buffer first.
#[classifier]
pub fn overlay_in_test(ctx: TcContext) -> i32 {
    let skb = Skb::new(ctx.as_ptr().cast());
    match encap::pretend(skb) {
        Ok(()) => hook::overlay_in::run(skb),
        Err(_) => TC_ACT_SHOT,
    }
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The programs have no panicking path: the verifier would refuse one.
    loop {}
}

//! `uplink_xdp`: what comes from the underlay, before the kernel has made a socket buffer of it. Forged packets go nowhere; whatever
//! is left goes on to `uplink_in`, which checks the same once more: a node need not have this program.

use sdn_common::Hook;

use crate::{
    family::{Family, IpHeader, V4, V6},
    frame::{Frame, Xdp},
    origin,
    packet::{Head, Packet},
    parse,
    verdict::{self, Stage},
};

pub fn run(xdp: Xdp) -> u32 {
    let action = match xdp.ethertype() {
        V4::ETHERTYPE if forged::<V4>(xdp) => journey::<V4>(xdp),
        V6::ETHERTYPE if forged::<V6>(xdp) => journey::<V6>(xdp),
        _ => verdict::pass(xdp, Hook::UplinkXdp),
    };
    action.cast_unsigned()
}

/// Whether the addresses are such as may not come from there: for most packets they are not, and nothing else is looked at.
#[inline(always)]
fn forged<F: Family>(xdp: Xdp) -> bool {
    let mut head = Head::<F::Header>::default();
    head.read(&xdp).is_ok() && origin::underlay::<F>(*head.ip.source(), *head.ip.destination()).is_err()
}

#[inline(never)]
fn journey<F: Family>(xdp: Xdp) -> i32 {
    let Some(packet) = Packet::<F>::begin(Hook::UplinkXdp) else {
        return verdict::not_ready(xdp, Hook::UplinkXdp, 0);
    };
    let end = stages(xdp, packet);
    verdict::leave_judged(xdp, packet, end)
}

#[inline(always)]
fn stages<F: Family>(xdp: Xdp, packet: &mut Packet<F>) -> Stage<()> {
    // What cannot be parsed is judged by its addresses all the same.
    let _ = parse::headers(&xdp, packet);
    origin::underlay::<F>(packet.source(), packet.destination())
}

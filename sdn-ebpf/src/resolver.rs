//! Cluster DNS is asked at one address that every node has, so that a question goes to the resolver beside it, untranslated.
//! Where that one does not beat, questions go to another node's until it does.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use sdn_common::{Address, Node, NodeState, Side};

use crate::{family::Family, hook, maps, packet::Packet, route, verdict::Stage};

/// Without a beat for so long, in nanoseconds, the resolver is gone.
const SILENCE: u64 = 1_000_000_000;

/// Where the packet really goes: to [`Packet::to`], unless that is this node's resolver and it is gone.
#[inline(always)]
pub fn stand_in<F: Family>(packet: &Packet<F>) -> Stage<Side> {
    let to = packet.to;
    if !route::is_host(&to) {
        return Ok(to);
    }
    let state = hook::state()?;
    if !is_resolver::<F>(state, packet.destination()) || state.stand_in == Node::SELF || beats() {
        return Ok(to);
    }
    Ok(Side { node: state.stand_in, ..to })
}

/// Whether it is the address of cluster DNS.
#[inline(always)]
pub fn is_resolver<F: Family>(state: &NodeState, address: F::Address) -> bool {
    let resolver = F::state(state).resolver;
    address == resolver && !resolver.is_zero()
}

#[inline(always)]
fn beats() -> bool {
    let Some(&beat) = maps::HEARTBEAT.get(0) else {
        return false;
    };
    // SAFETY: no arguments, no effects.
    let now = unsafe { bpf_ktime_get_ns() };
    // A beat that came after the clock was read is no silence.
    now.saturating_sub(beat) < SILENCE
}

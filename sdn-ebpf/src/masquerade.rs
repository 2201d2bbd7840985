//! Ports that stand for pods outside.

use aya_ebpf::{cty::c_void, helpers::generated::bpf_loop};
use sdn_common::{Address, Be16, Masquerade, MasqueradeKey, NodeState, Reason};

use crate::{
    family::{Family, protocol},
    hook, icmp,
    packet::Packet,
    verdict::{End, Stage},
};

/// Ports tried before the range counts as exhausted toward a destination: where nine of ten are taken, one search in a thousand
/// fails. A range no larger than this is searched whole. The flow decides which ports are tried, so it finds its own again if
/// the flow was forgotten and the port was not.
const TRIES: u32 = 64;

/// `BPF_NOEXIST`: two CPUs cannot take one port.
const NO_EXIST: u64 = 1;

/// Finds the port that stands for a pod's flow to the outside, taking it if need be. [`Packet::masquerade_port`] is the one that
/// the flow had, if it had one.
#[inline(never)]
pub fn port_for<F: Family>(packet: &mut Packet<F>) -> Stage<()> {
    let state = hook::state()?;
    let local = F::state(state).masquerade;
    if state.flags & NodeState::MASQUERADE == 0 || local.is_zero() || state.uplink_ifindex == 0 {
        return Err(End::reject(Reason::NoOutside, icmp::Error::NetUnreachable));
    }
    // SCTP's checksum covers its ports but no helper computes it; others have no ports to tell flows apart.
    let echo = packet.is_echo();
    if !(echo || matches!(packet.protocol, protocol::TCP | protocol::UDP)) {
        return Err(End::drop(Reason::MasqueradeUnsupported));
    }
    packet.pod = Masquerade { pod: packet.source(), port: packet.source_port, _pad: 0 };
    packet.outside = MasqueradeKey {
        remote: packet.destination(),
        local,
        remote_port: if echo { Be16(0) } else { packet.destination_port },
        local_port: Be16(0),
        protocol: packet.protocol,
        _pad: [0; 3],
    };
    let first = u32::from(state.masquerade_first);
    let range = u32::from(state.masquerade_last).wrapping_sub(first).wrapping_add(1) & 0xffff;
    if range == 0 {
        return Err(End::drop(Reason::MasqueradeExhausted));
    }
    if keeps(packet, first, range) {
        return Ok(());
    }
    let mut search = Search { hash: spread(packet), packet, first, range, found: false };
    // SAFETY: the callback is of the type that the helper calls, and the search outlives the call.
    unsafe { bpf_loop(TRIES, attempt::<F> as *mut c_void, (&raw mut search).cast(), 0) };
    if !search.found {
        return Err(End::drop(Reason::MasqueradeExhausted));
    }
    search.packet.masquerade_port = search.packet.outside.local_port;
    Ok(())
}

/// Whether the flow has a port that is still its own: the outside knows the flow by it, whatever port is free by now.
#[inline(always)]
fn keeps<F: Family>(packet: &mut Packet<F>, first: u32, range: u32) -> bool {
    let port = packet.masquerade_port;
    packet.outside.local_port = port;
    port.0 != 0 && u32::from(port.native()).wrapping_sub(first) < range && take(packet)
}

/// A search for a port, as `bpf_loop` carries it from one try to the next. The helper and not a loop: the verifier follows a
/// loop through every turn (400,000 instructions for 64), and the helper's callback once.
struct Search<'a, F: Family> {
    packet: &'a mut Packet<F>,
    first: u32,
    range: u32,
    hash: u32,
    found: bool,
}

/// One try. 1 ends the loop.
extern "C" fn attempt<F: Family>(_: u64, search: *mut Search<'_, F>) -> i64 {
    // SAFETY: `port_for` passes its own search.
    let search = unsafe { &mut *search };
    // The range was found not to be empty; the compiler and the verifier do not know.
    let offset = search.hash.checked_rem(search.range).unwrap_or(0);
    search.packet.outside.local_port = Be16::new((search.first + offset) as u16);
    search.found = take(search.packet);
    search.hash =
        if search.range <= TRIES { offset + 1 } else { search.hash.wrapping_mul(0x9e37_79b1).wrapping_add(1) };
    i64::from(search.found)
}

/// Takes a port, or finds that the flow has it already.
#[inline(always)]
fn take<F: Family>(packet: &Packet<F>) -> bool {
    // SAFETY: the entry is valid while the program runs; entries are never changed, only added and removed.
    match unsafe { F::masquerade().get(&packet.outside) } {
        Some(owner) => owner.pod == packet.pod.pod && owner.port == packet.pod.port,
        None => F::masquerade().insert(&packet.outside, &packet.pod, NO_EXIST).is_ok(),
    }
}

/// Where the search for a port begins.
#[inline(always)]
fn spread<F: Family>(packet: &Packet<F>) -> u32 {
    let (from, to) = (packet.source().mapped().0, packet.destination().mapped().0);
    let ports = u32::from(packet.source_port.0) << 16 | u32::from(packet.destination_port.0);
    let mut hash = ports ^ u32::from(packet.protocol);
    // A multiplication by an odd constant and a shift per word: cheap, and enough to tell neighbours apart.
    for word in [from[0], from[1], from[2], from[3], to[0], to[1], to[2], to[3]] {
        hash = (hash ^ word).wrapping_mul(0x9e37_79b1);
        hash ^= hash >> 15;
    }
    hash
}

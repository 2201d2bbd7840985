//! Ports that stand for pods outside.

use sdn_common::{Address, Be16, Masquerade, MasqueradeKey, NodeState, Reason};

use crate::{
    family::{Family, protocol},
    hook,
    packet::Packet,
    verdict::{End, Stage},
};

/// Ports tried before the range counts as exhausted toward a destination: where nine of ten are taken, one search in a thousand
/// fails. A range no larger than this is searched whole. The flow decides which ports are tried, so it finds its own again if
/// the flow was forgotten and the port was not.
const TRIES: u32 = 64;

/// `BPF_NOEXIST`: two CPUs cannot take one port.
const NO_EXIST: u64 = 1;

/// The port that stands for a pod's flow to the outside, taken if need be. 0 for later fragments, which have none.
#[inline(never)]
pub fn port_for<F: Family>(packet: &Packet<F>) -> Stage<Be16> {
    let state = hook::state()?;
    let local = F::state(state).masquerade;
    if state.flags & NodeState::MASQUERADE == 0 || local.is_zero() || state.uplink_ifindex == 0 {
        return Err(End::drop(Reason::NoOutside));
    }
    // SCTP's checksum covers its ports but no helper computes it; others have no ports to tell flows apart.
    let echo = packet.is_echo();
    if !(echo || matches!(packet.protocol, protocol::TCP | protocol::UDP)) {
        return Err(End::drop(Reason::MasqueradeUnsupported));
    }
    let pod = Masquerade { pod: packet.source(), port: packet.source_port, _pad: 0 };
    let mut key = MasqueradeKey {
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
    let mut hash = spread::<F>(packet);
    for _ in 0..TRIES {
        key.local_port = Be16::new((first + hash % range) as u16);
        if take::<F>(&key, &pod) {
            return Ok(key.local_port);
        }
        hash = if range <= TRIES { hash % range + 1 } else { hash.wrapping_mul(0x9e37_79b1).wrapping_add(1) };
    }
    Err(End::drop(Reason::MasqueradeExhausted))
}

/// Takes a port, or finds that the flow has it already.
#[inline(always)]
fn take<F: Family>(key: &MasqueradeKey<F::Address>, pod: &Masquerade<F::Address>) -> bool {
    // SAFETY: the entry is valid while the program runs; entries are never changed, only added and removed.
    match unsafe { F::masquerade().get(key) } {
        Some(owner) => owner.pod == pod.pod && owner.port == pod.port,
        None => F::masquerade().insert(key, pod, NO_EXIST).is_ok(),
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

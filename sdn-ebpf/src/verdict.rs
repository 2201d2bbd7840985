//! The one way out. A journey ends in a [`Stage`]; here it is counted, reported and becomes the program's action.

use core::{hint::cold_path, num::NonZeroU32};

use aya_ebpf::{Global, bindings::TC_ACT_OK, helpers::bpf_jiffies64};
use sdn_common::{
    Address, Author, Counter, Direction, DropKey, Event, Forward, Hook, Identity, Reason,
    event::{EventBudget, FORWARD_KINDS, Verdict},
};

use crate::{
    family::Family,
    frame::{Frame, Skb},
    hook, icmp, maps,
    packet::Packet,
};

/// 1: write each decision to `LAST_VERDICT`. Set at load by tests; the verifier removes the branch where it is 0.
#[unsafe(no_mangle)]
static RECORD: Global<u32> = Global::new(0);

/// A stage's outcome: go on with `T`, or the journey ends here.
pub type Stage<T> = Result<T, End>;

/// How a journey ends before its last stage: dropped, for a reason, and the sender told or not.
///
/// One word and never zero, so that a `Stage<()>` is a register. A result of several fields is written through a pointer that
/// the compiler leaves in register 0, and the verifier refuses that: "cannot return stack pointer to the caller". For the same
/// reason functions that are not inlined leave what they find in the packet.
#[derive(Clone, Copy)]
pub struct End(NonZeroU32);

/// How a journey ends in its last stage.
///
/// `repr(C)` puts first what `Result` marks its variants by. The kernel refuses the type information of an object that has such
/// a mark elsewhere ("UNION (anon) … Invalid member bits_offset"), and with it goes that of every function.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Sent {
    pub forward: Forward,
    pub action: i32,
    /// Device that it goes to; 0 for none.
    pub ifindex: u32,
    /// Node that the tunnel leads to; 0 for none.
    pub node: u32,
}

impl End {
    #[inline(always)]
    pub const fn drop(reason: Reason) -> Self {
        Self::reject(reason, icmp::Error::None)
    }

    /// Dropped, and the sender is told by ICMP.
    #[inline(always)]
    pub const fn reject(reason: Reason, answer: icmp::Error) -> Self {
        // Keeps what drops out of the way of what goes through: fewer lines of the instruction cache for every packet.
        cold_path();
        match NonZeroU32::new(reason as u32 | (answer as u32) << 16) {
            Some(word) => Self(word),
            // No reason is 0.
            None => Self(NonZeroU32::MIN),
        }
    }

    /// A stage's outcome as one word, for functions that can answer with nothing else: 0 goes on.
    #[inline(always)]
    pub fn word(end: Stage<()>) -> u32 {
        match end {
            Ok(()) => 0,
            Err(end) => end.0.get(),
        }
    }

    /// Back from [`End::word`].
    #[inline(always)]
    pub fn from_word(word: u32) -> Stage<()> {
        match NonZeroU32::new(word) {
            None => Ok(()),
            Some(word) => Err(Self(word)),
        }
    }

    /// Number of the reason.
    #[inline(always)]
    fn reason(self) -> u16 {
        self.0.get() as u16
    }

    #[inline(always)]
    fn answer(self) -> u8 {
        (self.0.get() >> 16) as u8
    }
}

impl Sent {
    /// Left to the kernel as it is.
    pub const PASS: Self = Self { forward: Forward::Pass, action: TC_ACT_OK, ifindex: 0, node: 0 };

    /// To the node's own stack.
    pub const HOST: Self = Self { forward: Forward::Host, ..Self::PASS };

    /// Into the tunnel, by the device at whose egress the packet is.
    pub const TUNNEL: Self = Self { forward: Forward::Tunnel, ..Self::PASS };

    /// Sent on by a redirect helper, whose answer is the action.
    #[inline(always)]
    pub const fn redirect(forward: Forward, action: i64, ifindex: u32) -> Self {
        Self { forward, action: action as i32, ifindex, node: 0 }
    }
}

/// Ends the journey of an IP packet.
#[inline(always)]
pub fn leave<F: Family>(skb: Skb, packet: &Packet<F>, end: Stage<Sent>) -> i32 {
    match end {
        Ok(sent) => forward(skb, packet.hook, sent),
        Err(end) => {
            let action = refuse(skb, packet, end.reason());
            match icmp::Error::from_number(end.answer()) {
                Some(error) => icmp::answer(skb, packet, error),
                None => action,
            }
        }
    }
}

/// Ends the journey of an IP packet that nothing but judging was to be done with.
#[inline(always)]
pub fn leave_judged<F: Family, T: Frame>(frame: T, packet: &Packet<F>, end: Stage<()>) -> i32 {
    match end {
        Ok(()) => pass(frame, packet.hook),
        Err(end) => refuse(frame, packet, end.reason()),
    }
}

/// Ends the journey of anything else.
#[inline(never)]
pub fn leave_other(skb: Skb, hook: Hook, endpoint: u32, end: Stage<Sent>) -> i32 {
    match end {
        Ok(sent) => forward(skb, hook, sent),
        Err(end) => refuse_other(skb, hook, endpoint, end.reason()),
    }
}

/// Ends the journey of a packet that is left to the kernel at first sight.
#[inline(always)]
pub fn pass<T: Frame>(frame: T, hook: Hook) -> i32 {
    forward(frame, hook, Sent::PASS);
    T::PASS
}

/// Ends the journey of a packet that cannot be judged yet.
#[inline(never)]
pub fn not_ready<T: Frame>(frame: T, hook: Hook, endpoint: u32) -> i32 {
    refuse_other(frame, hook, endpoint, Reason::NotReady as u16)
}

#[inline(always)]
fn forward<T: Frame>(frame: T, hook: Hook, sent: Sent) -> i32 {
    count_forward(frame, hook, sent.forward);
    record(Verdict { reason: 0, forward: sent.forward as u32, ifindex: sent.ifindex, node: sent.node });
    sent.action
}

/// Counts what was not dropped, or what answers a drop.
#[inline(always)]
pub fn count_forward<T: Frame>(frame: T, hook: Hook, forward: Forward) {
    add(maps::FORWARDS.get_ptr_mut(hook as u32 * FORWARD_KINDS + forward as u32), frame.len());
}

/// Drops a packet that was not parsed.
#[inline(always)]
fn refuse_other<T: Frame>(frame: T, hook: Hook, endpoint: u32, reason: u16) -> i32 {
    let event =
        Event { key: key(hook, endpoint, reason), len: frame.len(), ethertype: frame.ethertype(), ..Event::default() };
    report(&event);
    T::DROP
}

/// Drops a packet that was parsed, as far as it was.
#[inline(never)]
fn refuse<F: Family, T: Frame>(frame: T, packet: &Packet<F>, reason: u16) -> i32 {
    let event = Event {
        key: DropKey { peer: packet.peer, author: packet.author, ..key(packet.hook, packet.endpoint, reason) },
        source: packet.source().mapped(),
        destination: packet.destination().mapped(),
        source_port: packet.source_port,
        destination_port: packet.destination_port,
        len: frame.len(),
        ethertype: F::ETHERTYPE,
        protocol: packet.protocol,
        _pad: [0; 5],
    };
    report(&event);
    T::DROP
}

#[inline(always)]
fn key(hook: Hook, endpoint: u32, reason: u16) -> DropKey {
    let direction = match hook {
        // A policy's direction is that of the flow, from the view of the pod that it isolates.
        _ if reason == Reason::PolicyEgress as u16 => Direction::Egress,
        _ if reason == Reason::PolicyIngress as u16 => Direction::Ingress,
        Hook::PodOut | Hook::HostOut => Direction::Egress,
        Hook::OverlayIn | Hook::UplinkIn | Hook::UplinkXdp => Direction::Ingress,
    };
    let (peer, author) = (Identity::UNKNOWN, Author::NONE);
    DropKey { reason, direction: direction as u8, hook: hook as u8, endpoint, peer, author }
}

/// Counts a drop exactly and, within the endpoint's budget, shows it as an example.
#[inline(never)]
fn report(event: &Event) {
    let reason = u32::from(event.key.reason);
    add(maps::DROP_TOTALS.get_ptr_mut(reason), event.len);
    record(Verdict { reason, forward: 0, ifindex: 0, node: 0 });
    if let Some(counter) = maps::DROPS.get_ptr_mut(event.key) {
        add(Some(counter), event.len);
    } else {
        // Full: the total above has it, and the difference shows. The first packet of a key counts on this CPU only, as all do.
        let _ = maps::DROPS.insert(event.key, Counter { packets: 1, bytes: u64::from(event.len) }, 0);
    }
    if affordable(event.key.endpoint) {
        // A full ring loses the example, never the count.
        let _ = maps::EVENTS.output::<Event>(event, 0);
    }
    note(event);
}

/// Whether the endpoint may cause another event in this second.
#[inline(always)]
fn affordable(endpoint: u32) -> bool {
    let Ok(state) = hook::state() else {
        return false;
    };
    if state.hz == 0 {
        return false;
    }
    // SAFETY: no arguments, no effects.
    let second = unsafe { bpf_jiffies64() } / u64::from(state.hz);
    let Some(budget) = maps::EVENT_BUDGETS.get_ptr_mut(endpoint) else {
        return maps::EVENT_BUDGETS.insert(endpoint, EventBudget { second, used: 1 }, 0).is_ok();
    };
    // SAFETY: the entry is valid while the program runs. Another CPU may write it as well: a few events more or less.
    let budget = unsafe { &mut *budget };
    if budget.second != second {
        *budget = EventBudget { second, used: 0 };
    }
    budget.used += 1;
    budget.used <= u64::from(state.events_per_second)
}

#[inline(always)]
fn add(counter: Option<*mut Counter>, len: u32) {
    if let Some(counter) = counter {
        // SAFETY: an entry of a per-CPU map; programs of one hook do not interrupt each other on a CPU.
        let counter = unsafe { &mut *counter };
        counter.packets += 1;
        counter.bytes += u64::from(len);
    }
}

#[inline(always)]
fn record(verdict: Verdict) {
    if RECORD.load() != 0
        && let Some(slot) = maps::LAST_VERDICT.get_ptr_mut(0)
    {
        // SAFETY: as in `add`.
        unsafe { *slot = verdict };
    }
}

#[cfg(feature = "log")]
#[inline(always)]
fn note(event: &Event) {
    aya_log_ebpf::debug!(
        // The macro wants a program's context and does nothing with it.
        &(),
        "hook {} drops {}: protocol {} from port {} to port {}, {} bytes, endpoint {}",
        event.key.hook,
        event.key.reason,
        event.protocol,
        event.source_port.native(),
        event.destination_port.native(),
        event.len,
        event.key.endpoint
    );
}

#[cfg(not(feature = "log"))]
#[inline(always)]
fn note(_: &Event) {}

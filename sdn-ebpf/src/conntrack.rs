//! Connection tracking: which flow a packet belongs to, and where its other end is.
//!
//! A flow remembers both ends as they were at an epoch of the node. As long as the epoch stands, a packet of a known flow
//! needs no other look-up for its remote end; when it has moved, both ends are looked up once more.

use aya_ebpf::helpers::bpf_jiffies64;
use sdn_common::{Endpoint, Flow, FlowKey, Identity, Node, Reason, Side, Way};

use crate::{
    family::{Family, IpHeader, protocol},
    hook, origin,
    packet::{Packet, tcp},
    policy,
    verdict::{End, Stage},
};

/// A packet's place in the table of flows.
pub struct Lookup {
    pub way: Way,
    pub flow: Option<*mut Flow>,
    /// The entry is in the table of flows not answered yet.
    pub unanswered: bool,
}

/// Finds the flow of a packet.
#[inline(always)]
pub fn find<F: Family>(packet: &mut Packet<F>) -> Lookup {
    let (key, way) = FlowKey::new(
        (packet.source(), packet.source_port),
        (packet.destination(), packet.destination_port),
        packet.protocol,
    );
    packet.key = key;
    look_up(packet, way)
}

/// Finds the flow of [`Packet::key`]: among the answered ones first, because most packets belong to those.
#[inline(always)]
pub fn look_up<F: Family>(packet: &Packet<F>, way: Way) -> Lookup {
    if let Some(flow) = F::flows().get_ptr_mut(&packet.key) {
        return Lookup { way, flow: Some(flow), unanswered: false };
    }
    let flow = F::new_flows().get_ptr_mut(&packet.key);
    Lookup { way, flow, unanswered: flow.is_some() }
}

/// What a hook says of a flow that is new to it, or whose ends were looked up again: may it be, and by which port of the node
/// is it known outside? Reads [`Packet::from`] and [`Packet::to`], sets [`Packet::masquerade_port`]. Policies were asked before.
pub trait Admit<F: Family> {
    /// What comes by this hook only answers: a flow that is not known was opened by the other end, and one that has ended, or of
    /// which an end is somebody else by now, does not begin again.
    const ANSWERS: bool = false;

    fn admit(packet: &mut Packet<F>) -> Stage<()>;
}

/// Takes the packet from [`Packet::from`], which is `sender` where it is a pod of this node, into its flow, opening one where
/// there is none, and sets [`Packet::to`]. Answers with that end where it is a pod of this node.
#[inline(always)]
pub fn track<F: Family, H: Admit<F>>(
    packet: &mut Packet<F>,
    found: &Lookup,
    sender: Option<&'static Endpoint>,
) -> Stage<Option<&'static Endpoint>> {
    let Some(flow) = found.flow else {
        open::<F, H>(packet, found.way)?;
        return Ok(receiver(packet, &packet.to));
    };
    // SAFETY: the entry is valid while the program runs. Another CPU may change it as well; what can be lost by that is a bit
    // of state, which costs a longer timeout.
    let flow = unsafe { &mut *flow };
    let mut receiver_now = receiver(packet, &sent_by(flow, found.way.reverse()));
    let [egress, ingress] = match found.way == flow.opened() {
        true => policy::sets(sender, receiver_now),
        false => policy::sets(receiver_now, sender),
    };
    let judged = flow.sets[0] == egress && flow.sets[1] == ingress && flow.epoch == hook::state()?.epoch;
    if !judged || reopens(packet, flow) || !same(&sent_by(flow, found.way), &packet.from) {
        review::<F, H>(packet, found.way, flow)?;
        receiver_now = receiver(packet, &packet.to);
    }
    advance(packet, found, flow);
    packet.to = sent_by(flow, found.way.reverse());
    packet.masquerade_port = flow.masquerade_port;
    if found.unanswered && flow.state & Flow::REPLIED != 0 {
        promote(packet, flow);
    }
    Ok(receiver_now)
}

/// The pod of this node that the packet is for, if it is for one.
#[inline(always)]
pub fn receiver<F: Family>(packet: &Packet<F>, to: &Side) -> Option<&'static Endpoint> {
    pod::<F>(to, packet.head.ip.destination())
}

/// An end of a flow as a pod of this node, if it is one.
#[inline(always)]
pub fn pod<F: Family>(side: &Side, address: &F::Address) -> Option<&'static Endpoint> {
    if side.node == Node::SELF && side.incarnation != 0 { origin::endpoint::<F>(address) } else { None }
}

/// The end that sends when a packet goes this way. Spelled out: an index would be a computed stack or map offset.
#[inline(always)]
pub fn sent_by(flow: &Flow, way: Way) -> Side {
    match way {
        Way::FromLow => flow.sides[0],
        Way::FromHigh => flow.sides[1],
    }
}

/// Whether two views of an end mean the same pod or node.
#[inline(always)]
pub fn same(a: &Side, b: &Side) -> bool {
    a.node == b.node && a.incarnation == b.incarnation
}

/// Whether a packet opens a new connection between the ports of one that has ended.
#[inline(always)]
fn reopens<F: Family>(packet: &Packet<F>, flow: &Flow) -> bool {
    packet.tcp_flags & (tcp::SYN | tcp::ACK) == tcp::SYN && flow.closed()
}

/// The first packet of a flow.
#[inline(never)]
fn open<F: Family, H: Admit<F>>(packet: &mut Packet<F>, way: Way) -> Stage<()> {
    // An answer to a question that nobody asked, or whose asker is forgotten.
    if packet.is_echo_reply() {
        return Err(End::drop(Reason::NoFlow));
    }
    packet.to = origin::locate::<F>(packet.head.ip.destination())?;
    if H::ANSWERS {
        packet.from = origin::outside::<F>(packet.source());
    }
    packet.backwards = H::ANSWERS;
    packet.midstream = !H::ANSWERS && policy::midstream(packet);
    packet.relayed = packet.forwarded;
    policy::judge(packet)?;
    H::admit(packet)?;
    let flow = fresh(packet, way)?;
    F::new_flows().insert(&packet.key, flow, 0).map_err(|_| End::drop(Reason::FlowsFull))
}

/// A flow whose ends have to be looked up again. If either is somebody else now, it is another flow.
#[inline(never)]
fn review<F: Family, H: Admit<F>>(packet: &mut Packet<F>, way: Way, flow: &mut Flow) -> Stage<()> {
    let (old_from, old_to) = (sent_by(flow, way), sent_by(flow, way.reverse()));
    packet.to = origin::locate::<F>(packet.head.ip.destination())?;
    // What came by the node's stack goes back by it: `host_out` says so of sources that the cluster does not know.
    if packet.to.node == Node::OUTSIDE && old_to.node == Node::SELF && old_to.incarnation == 0 {
        packet.to = old_to;
    }
    let other = reopens(packet, flow) || replaced(&old_from, &packet.from) || replaced(&old_to, &packet.to);
    if other && H::ANSWERS {
        return Err(End::drop(Reason::NoFlow));
    }
    if H::ANSWERS {
        packet.from = origin::outside::<F>(packet.source());
    }
    packet.backwards = !other && flow.opened() != way;
    packet.midstream = other && policy::midstream(packet);
    packet.relayed = if other { packet.forwarded } else { flow.state & Flow::RELAYED != 0 };
    policy::judge(packet)?;
    packet.masquerade_port = flow.masquerade_port;
    H::admit(packet)?;
    let renewed = fresh(packet, way)?;
    if other {
        *flow = renewed;
        return Ok(());
    }
    flow.sides = renewed.sides;
    flow.epoch = renewed.epoch;
    flow.masquerade_port = renewed.masquerade_port;
    flow.sets = renewed.sets;
    flow.authors = renewed.authors;
    Ok(())
}

/// Whether an end is another pod or node now. One that is not known (any more) is nobody else.
#[inline(always)]
fn replaced(old: &Side, new: &Side) -> bool {
    let unknown = new.incarnation == 0 && new.identity == Identity::UNKNOWN;
    old.node != new.node || (old.incarnation != new.incarnation && old.incarnation != 0 && !unknown)
}

#[inline(always)]
fn fresh<F: Family>(packet: &Packet<F>, way: Way) -> Stage<Flow> {
    let mut flow = Flow {
        // SAFETY: no arguments, no effects.
        last_seen: unsafe { bpf_jiffies64() },
        state: first_state(packet),
        epoch: hook::state()?.epoch,
        sides: [packet.from, packet.to],
        masquerade_port: packet.masquerade_port,
        sets: packet.sets,
        authors: packet.authors,
        ..Flow::default()
    };
    if matches!(way, Way::FromHigh) {
        flow.sides = [packet.to, packet.from];
    }
    // The one that answers is at hand.
    if packet.backwards {
        flow.state |= Flow::REPLIED;
    }
    if matches!(way, Way::FromHigh) != packet.backwards {
        flow.state |= Flow::OPENED_FROM_HIGH;
    }
    if packet.relayed {
        flow.state |= Flow::RELAYED;
    }
    Ok(flow)
}

/// What the first packet says of the flow. TCP that does not begin with a SYN was there before us, or was forgotten.
#[inline(always)]
fn first_state<F: Family>(packet: &Packet<F>) -> u32 {
    if packet.protocol != protocol::TCP || packet.tcp_flags & (tcp::SYN | tcp::ACK) == tcp::SYN {
        return 0;
    }
    if packet.tcp_flags & tcp::RST != 0 { Flow::MIDSTREAM | Flow::RESET } else { Flow::MIDSTREAM }
}

/// What a packet of a known flow changes. Written only where it differs: an unchanged line stays shared between CPUs.
#[inline(always)]
fn advance<F: Family>(packet: &Packet<F>, found: &Lookup, flow: &mut Flow) {
    // SAFETY: no arguments, no effects.
    let now = unsafe { bpf_jiffies64() };
    if flow.last_seen != now {
        flow.last_seen = now;
    }
    let mut state = flow.state;
    if found.way != flow.opened() {
        state |= Flow::REPLIED;
    }
    if packet.tcp_flags & (tcp::FIN | tcp::RST) != 0 {
        state |= match (packet.tcp_flags & tcp::RST != 0, found.way) {
            (true, _) => Flow::RESET,
            (false, Way::FromLow) => Flow::FIN_FROM_LOW,
            (false, Way::FromHigh) => Flow::FIN_FROM_HIGH,
        };
    }
    if state != flow.state {
        flow.state = state;
    }
}

/// Moves a flow to the table of answered ones. Where that takes no more, it stays where it is.
#[inline(never)]
fn promote<F: Family>(packet: &Packet<F>, flow: &Flow) {
    if F::flows().insert(&packet.key, flow, 0).is_ok() {
        let _ = F::new_flows().remove(&packet.key);
    }
}

//! Rows: what is there, packets in, verdicts and packets out.
//!
//! A row is a list of steps, run in order against the same flows. Most have one: a packet and what becomes of it. The expected
//! packet is derived from the sent one where a rule says how (delivery writes the pod's MAC, a pod's packet loses a hop); where
//! something else changes, the row says into what.

use std::collections::BTreeMap;
use std::fmt::Write;

use sdn_common::event::{DropKey, Verdict};
use sdn_common::wire::{GATEWAY_MAC, TUNNEL_DESTINATION};
use sdn_common::{Counter, Direction, Forward, Hook, Reason};

use super::bench::{At, Bench, Outcome, Totals, Tunnel};
use super::packet::{Bytes, Packet};
use super::sandbox;
use super::world::{self, Actor, Cast, Family};

/// `TC_ACT_OK`, `TC_ACT_SHOT` and `TC_ACT_REDIRECT` (include/uapi/linux/pkt_cls.h).
const OK: i32 = 0;
const SHOT: i32 = 2;
const REDIRECT: i32 = 7;
/// `XDP_DROP` and `XDP_PASS` (include/uapi/linux/bpf.h).
const XDP_DROP: i32 = 1;
const XDP_PASS: i32 = 2;

/// A row of a table.
pub struct Row {
    pub name: &'static str,
    steps: Vec<Step>,
}

/// A row whose last packet waits for its verdict.
#[must_use]
pub struct Sent {
    row: Row,
    at: At,
    bytes: Vec<u8>,
    /// The packet, if it is one that a rule can be applied to.
    packet: Option<Packet>,
}

/// Says what is not as it should be.
type Look = Box<dyn Fn(&mut Bench) -> Result<(), String> + Send>;

enum Step {
    /// Something changes.
    Given(Box<dyn Fn(&mut Bench) + Send>),
    /// Something is looked at.
    Check(Look),
    /// A packet.
    Packet { at: At, bytes: Vec<u8>, expected: Expected },
}

/// What becomes of a packet.
#[derive(Clone, Debug)]
enum Expected {
    /// Dropped, and the sender told by this packet or not at all.
    Drop(Reason, Option<Vec<u8>>),
    /// Sent on.
    Forward { forward: Forward, action: i32, ifindex: u32, node: u32, bytes: Vec<u8> },
}

/// The rows of a table, for a family.
pub type Table = fn(Family, Cast) -> Vec<Row>;

/// Runs a table in both families. All rows are run before it fails.
pub fn run(table: Table) {
    sandbox::bench(move |bench| {
        let mut failures = String::new();
        for family in Family::BOTH {
            for row in table(family, Cast::of(family)) {
                bench.reset();
                if let Err(failure) = row.run(bench) {
                    let _ = writeln!(failures, "{family:?}, {}: {failure}", row.name);
                }
            }
        }
        assert!(failures.is_empty(), "rows that fail:\n{failures}");
    });
}

// === impl Row ===

impl Row {
    pub fn of(name: &'static str) -> Self {
        Self { name, steps: Vec::new() }
    }

    /// Changes the world or the flows; the next row finds the world as it was.
    pub fn given(mut self, change: impl Fn(&mut Bench) + Send + 'static) -> Self {
        self.steps.push(Step::Given(Box::new(change)));
        self
    }

    /// Looks at something, and says what is not as it should be.
    pub fn check(mut self, look: impl Fn(&mut Bench) -> Result<(), String> + Send + 'static) -> Self {
        self.steps.push(Step::Check(Box::new(look)));
        self
    }

    /// The flow of this packet is so; see [`Bench::describe_flow`].
    pub fn flow(self, packet: &Packet, expected: &'static str) -> Self {
        let packet = packet.clone();
        self.check(move |bench| match bench.describe_flow(&packet) {
            found if found == expected => Ok(()),
            found => Err(format!("the flow is {found:?} instead of {expected:?}")),
        })
    }

    /// A pod sends a packet.
    pub fn pod(self, pod: Actor, packet: Packet) -> Sent {
        self.sent(At::pod(pod.ifindex), packet)
    }

    /// A pod sends a packet that stands for several.
    pub fn pod_gso(self, pod: Actor, packet: Packet, segment: u32, segments: u32) -> Sent {
        self.sent(At { gso: Some((segment, segments)), ..At::pod(pod.ifindex) }, packet)
    }

    /// A pod sends something that is no IP packet.
    pub fn pod_frame(self, pod: Actor, frame: &impl Bytes) -> Sent {
        Sent { row: self, at: At::pod(pod.ifindex), bytes: frame.to_bytes(), packet: None }
    }

    /// A packet comes out of the tunnel, from the node of `sender`.
    pub fn tunnel(self, sender: Actor, packet: Packet) -> Sent {
        self.sent(At::overlay(Some(Tunnel { from: world::tunnel(sender.node), vni: 0 })), packet)
    }

    /// A packet comes out of a tunnel.
    pub fn tunnel_by(self, tunnel: Tunnel, packet: Packet) -> Sent {
        self.sent(At::overlay(Some(tunnel)), packet)
    }

    /// A frame comes out of the tunnel, from the node of `sender`.
    pub fn tunnel_frame(self, sender: Actor, frame: &impl Bytes) -> Sent {
        let at = At::overlay(Some(Tunnel { from: world::tunnel(sender.node), vni: 0 }));
        Sent { row: self, at, bytes: frame.to_bytes(), packet: None }
    }

    /// A local socket sends a packet to the cluster network.
    pub fn host(self, packet: Packet) -> Sent {
        self.sent(At::host(0), packet)
    }

    /// The node forwards a packet to the cluster network that came in by its uplink.
    pub fn forwarded(self, packet: Packet) -> Sent {
        self.sent(At::host(world::UPLINK), packet)
    }

    /// A packet comes in by the uplink.
    pub fn uplink(self, packet: Packet) -> Sent {
        self.sent(At::uplink(), packet)
    }

    /// A packet anywhere.
    pub fn at(self, at: At, packet: Packet) -> Sent {
        self.sent(at, packet)
    }

    /// A frame anywhere.
    pub fn frame(self, at: At, frame: &impl Bytes) -> Sent {
        Sent { row: self, at, bytes: frame.to_bytes(), packet: None }
    }

    fn sent(self, at: At, packet: Packet) -> Sent {
        Sent { row: self, at, bytes: packet.bytes(), packet: Some(packet) }
    }

    /// The reasons that the row shows.
    pub fn reasons(&self) -> impl Iterator<Item = Reason> {
        self.steps.iter().filter_map(|step| match step {
            Step::Packet { expected: Expected::Drop(reason, _), .. } => Some(*reason),
            _ => None,
        })
    }

    fn run(&self, bench: &mut Bench) -> Result<(), String> {
        for (number, step) in self.steps.iter().enumerate() {
            match step {
                Step::Given(change) => {
                    bench.touch();
                    change(bench);
                }
                Step::Check(look) => look(bench).map_err(|failure| format!("step {}: {failure}", number + 1))?,
                Step::Packet { at, bytes, expected } => {
                    let outcome = bench.run(at, bytes);
                    expected
                        .compare(at, bytes, &outcome)
                        .map_err(|failure| format!("step {} at {}: {failure}", number + 1, at.hook.program()))?;
                }
            }
        }
        Ok(())
    }
}

// === impl Sent ===

impl Sent {
    /// It is dropped and nobody is told.
    pub fn drops(self, reason: Reason) -> Row {
        self.expect(Expected::Drop(reason, None))
    }

    /// It is dropped and its sender gets this packet.
    pub fn answers(self, reason: Reason, answer: &Packet) -> Row {
        self.expect(Expected::Drop(reason, Some(answer.bytes())))
    }

    /// It is answered with this frame.
    pub fn replies(self, reply: &impl Bytes) -> Row {
        let (ifindex, bytes) = (self.at.ifindex, reply.to_bytes());
        self.expect(Expected::Forward { forward: Forward::Answer, action: REDIRECT, ifindex, node: 0, bytes })
    }

    /// A pod of this node gets it, with MACs and hop limit as the rules say.
    pub fn reaches(self, pod: Actor) -> Row {
        let packet = self.packet().clone();
        self.reaches_as(pod, packet)
    }

    /// A pod of this node gets this packet, with MACs and hop limit as the rules say.
    pub fn reaches_as(self, pod: Actor, packet: Packet) -> Row {
        let hops = matches!(self.at.hook, Hook::PodOut | Hook::UplinkIn);
        let packet = if hops { packet.hop() } else { packet };
        let bytes = packet.macs(pod.mac, GATEWAY_MAC).bytes();
        let ifindex = pod.ifindex;
        self.expect(Expected::Forward { forward: Forward::Pod, action: REDIRECT, ifindex, node: 0, bytes })
    }

    /// It goes into the tunnel to the node of `to`; the inner source address says who sent it.
    pub fn tunnels(self, from: Actor, to: Actor) -> Row {
        use sdn_common::wire::{Kind, Sender};
        let packet = self.packet().clone();
        let pod = self.at.hook == Hook::PodOut;
        let kind = if pod { Kind::Pod } else { Kind::Node };
        let mac = Sender { kind, value: if pod { from.incarnation } else { 0 } }.mac();
        let packet = if pod { packet.hop() } else { packet };
        let bytes = packet.macs(TUNNEL_DESTINATION, mac).bytes();
        // At the device's own egress it goes on by itself.
        let (action, ifindex) = if pod { (REDIRECT, world::VXLAN) } else { (OK, 0) };
        self.expect(Expected::Forward { forward: Forward::Tunnel, action, ifindex, node: to.node, bytes })
    }

    /// The node's own stack gets it, unchanged.
    pub fn reaches_host(self) -> Row {
        let bytes = self.bytes.clone();
        // From a pod it goes by the VXLAN device.
        let (action, ifindex) = if self.at.hook == Hook::PodOut { (REDIRECT, world::VXLAN) } else { (OK, 0) };
        self.expect(Expected::Forward { forward: Forward::Host, action, ifindex, node: 0, bytes })
    }

    /// It leaves by the uplink as this packet.
    pub fn leaves_as(self, packet: &Packet) -> Row {
        let bytes = packet.clone().hop().bytes();
        let (forward, action) = (Forward::Outside, REDIRECT);
        self.expect(Expected::Forward { forward, action, ifindex: world::UPLINK, node: 0, bytes })
    }

    /// It is left to the kernel as it is.
    pub fn passes(self) -> Row {
        let bytes = self.bytes.clone();
        self.expect(Expected::Forward { forward: Forward::Pass, action: OK, ifindex: 0, node: 0, bytes })
    }

    fn packet(&self) -> &Packet {
        self.packet.as_ref().expect("a row whose frame is an IP packet")
    }

    fn expect(self, expected: Expected) -> Row {
        let Self { mut row, at, bytes, .. } = self;
        row.steps.push(Step::Packet { at, bytes, expected });
        row
    }
}

// === impl Expected ===

impl Expected {
    /// Verdict, action, packet, and each counter.
    fn compare(&self, at: &At, sent: &[u8], outcome: &Outcome) -> Result<(), String> {
        let (verdict, action, bytes) = match self {
            Self::Drop(reason, answer) => {
                let verdict = Verdict { reason: *reason as u32, ..Verdict::default() };
                let action = if answer.is_some() { REDIRECT } else { SHOT };
                (verdict, action, answer.as_ref())
            }
            Self::Forward { forward, action, ifindex, node, bytes } => {
                let verdict = Verdict { reason: 0, forward: *forward as u32, ifindex: *ifindex, node: *node };
                (verdict, *action, Some(bytes))
            }
        };
        if outcome.verdict != verdict {
            return Err(format!("{} instead of {}", name(&outcome.verdict), name(&verdict)));
        }
        let action = match (at.hook, action) {
            (Hook::UplinkXdp, OK) => XDP_PASS,
            (Hook::UplinkXdp, SHOT) => XDP_DROP,
            _ => action,
        };
        if outcome.action != action {
            return Err(format!("{}, but action {} instead of {action}", name(&verdict), outcome.action));
        }
        if let Some(bytes) = bytes {
            compare_bytes(&outcome.bytes, bytes)?;
        }
        let (counted, keyed) = self.counted(at, sent.len(), outcome.bytes.len());
        if outcome.counted != counted {
            return Err(format!("counted {:?} instead of {counted:?}", outcome.counted));
        }
        // The peer is another matter: how far the packet came decides whether it is known. What a policy refuses is counted under the
        // pod that the policy is about, which rows of policies say.
        let by_policy =
            |key: &DropKey| [Reason::PolicyEgress, Reason::PolicyIngress].map(|r| r as u16).contains(&key.reason);
        let common = |key: &DropKey| match keyed.keys().next().filter(|_| by_policy(key)) {
            Some(expected) => DropKey { endpoint: expected.endpoint, direction: expected.direction, ..*key },
            None => *key,
        };
        let found: BTreeMap<DropKey, Counter> = outcome
            .keyed
            .iter()
            .map(|(key, counter)| {
                (DropKey { peer: Default::default(), author: Default::default(), ..common(key) }, *counter)
            })
            .collect();
        if found != keyed {
            return Err(format!("counted under {found:?} instead of {keyed:?}"));
        }
        Ok(())
    }

    /// One packet, under the reason or the way it went. A packet sent on counts with the length that it came to have.
    fn counted(&self, at: &At, sent: usize, left: usize) -> (Totals, BTreeMap<DropKey, Counter>) {
        match self {
            Self::Drop(reason, answer) => {
                let totals = Totals::one_drop(*reason, sent);
                let totals = match answer {
                    Some(_) => totals.and_forward(at.hook, Forward::Answer, left),
                    None => totals,
                };
                let direction = match at.hook {
                    Hook::PodOut | Hook::HostOut => Direction::Egress,
                    Hook::OverlayIn | Hook::UplinkIn | Hook::UplinkXdp => Direction::Ingress,
                };
                let key = DropKey {
                    reason: *reason as u16,
                    direction: direction as u8,
                    hook: at.hook as u8,
                    endpoint: if at.hook == Hook::PodOut { at.ifindex } else { 0 },
                    ..DropKey::default()
                };
                let counter = Counter { packets: 1, bytes: sent as u64 };
                (totals, BTreeMap::from([(key, counter)]))
            }
            Self::Forward { forward, .. } => (Totals::default().and_forward(at.hook, *forward, left), BTreeMap::new()),
        }
    }
}

fn compare_bytes(found: &[u8], expected: &[u8]) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    let differs = |i: &usize| found.get(*i) != expected.get(*i);
    let places: Vec<usize> = (0..found.len().max(expected.len())).filter(differs).collect();
    let dump = |bytes: &[u8]| {
        bytes.chunks(16).fold(String::new(), |mut text, line| {
            let _ = write!(text, "\n        {line:02x?}");
            text
        })
    };
    Err(format!(
        "another packet, at offsets {places:?}\n      found {}\n      instead of {}",
        dump(found),
        dump(expected)
    ))
}

/// A verdict in words.
fn name(verdict: &Verdict) -> String {
    if verdict.reason != 0 {
        let reason = u16::try_from(verdict.reason).ok().and_then(Reason::from_number);
        return reason.map_or_else(|| format!("{verdict:?}"), |reason| format!("drop {}", reason.label()));
    }
    let forward = match verdict.forward {
        0 => "pass",
        1 => "to a pod",
        2 => "into the tunnel",
        3 => "to the node",
        4 => "to the outside",
        5 => "answer",
        _ => "nowhere",
    };
    format!("{forward} (device {}, node {})", verdict.ifindex, verdict.node)
}

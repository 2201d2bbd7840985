//! The sweep: flows that were idle for too long are removed, and ports that stand for flows that are gone.
//!
//! The programs stamp flows and never remove them; the tables evict what is oldest when they are full, whatever it is. So this
//! task walks them every few seconds, in steps of a fraction of a millisecond.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use sdn_common::flow::Timeouts;
use sdn_common::{Addr4, Addr6, Flow, FlowKey, Masquerade, MasqueradeKey};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::ConntrackTimeouts;
use crate::family::Family;
use crate::kernel::bpf::raw::Cursor;
use crate::kernel::bpf::table::Key;
use crate::kernel::bpf::{Clock, PinDirectory, Table, TableError};

/// Between the ends of two sweeps.
pub const INTERVAL: Duration = Duration::from_secs(5);

/// What the sweep is started with.
#[derive(Clone, Debug)]
pub struct Start {
    /// Where the maps are.
    pub pins: PinDirectory,
    /// The kernel's clock.
    pub clock: Clock,
    /// How long flows may be idle.
    pub timeouts: Timeouts,
    /// Between the ends of two sweeps: [`INTERVAL`] outside of tests.
    pub interval: Duration,
}

/// What the last sweep found, and what all of them removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Sweeps since this agent started.
    pub sweeps: u64,
    /// Flows that were answered, IPv4 and IPv6: the fill of `FLOWS_*`.
    pub flows: [u64; 2],
    /// Flows that were not answered yet: the fill of `NEW_FLOWS_*`.
    pub new_flows: [u64; 2],
    /// Ports that stand for pods outside: the fill of `MASQUERADE_*`.
    pub masquerades: [u64; 2],
    /// Flows removed since this agent started.
    pub expired: u64,
    /// Ports freed since this agent started.
    pub freed: u64,
    /// Time that the last sweep took, waits for others included.
    pub took: Duration,
}

/// Starts the task. It ends when the last receiver is dropped.
pub fn spawn(start: Start) -> Result<(watch::Receiver<Swept>, JoinHandle<()>), TableError> {
    let mut sweeper = Sweeper::open(&start)?;
    let (sender, receiver) = watch::channel(Swept::default());
    let task = tokio::spawn(async move {
        loop {
            tokio::select! {
                () = sender.closed() => return,
                () = tokio::time::sleep(start.interval) => {}
            }
            match sweeper.sweep().await {
                Ok(()) => drop(sender.send_replace(sweeper.swept)),
                Err(error) => tracing::error!(%error, "sweeping flows; it will be tried again"),
            }
        }
    });
    Ok((receiver, task))
}

impl From<&ConntrackTimeouts> for Timeouts {
    fn from(config: &ConntrackTimeouts) -> Self {
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        Self {
            tcp_opening: seconds(config.tcp_opening),
            tcp_established: seconds(config.tcp_established),
            tcp_half_closed: seconds(config.tcp_half_closed),
            tcp_closed: seconds(config.tcp_closed),
            udp_unanswered: seconds(config.udp_unanswered),
            udp: seconds(config.udp),
            icmp: seconds(config.icmp),
            other: seconds(config.other),
        }
    }
}

struct Sweeper {
    clock: Clock,
    timeouts: Timeouts,
    v4: FamilySweeper<Addr4>,
    v6: FamilySweeper<Addr6>,
    swept: Swept,
}

struct FamilySweeper<A> {
    flows: Table<FlowKey<A>, Flow>,
    new_flows: Table<FlowKey<A>, Flow>,
    masquerade: Table<MasqueradeKey<A>, Masquerade<A>>,
    /// Ports that had no flow at the last sweep. A program takes the port first and opens the flow then, so one look is not
    /// enough.
    suspects: HashSet<MasqueradeKey<A>>,
}

/// What one sweep found in one family.
#[derive(Default)]
struct Found {
    flows: u64,
    new_flows: u64,
    masquerades: u64,
    expired: u64,
    freed: u64,
}

// === impl Sweeper ===

impl Sweeper {
    fn open(start: &Start) -> Result<Self, TableError> {
        let v4 = FamilySweeper::open(&start.pins)?;
        let v6 = FamilySweeper::open(&start.pins)?;
        Ok(Self { clock: start.clock, timeouts: start.timeouts, v4, v6, swept: Swept::default() })
    }

    async fn sweep(&mut self) -> Result<(), TableError> {
        let began = Instant::now();
        let v4 = self.v4.sweep(&self.clock, &self.timeouts).await?;
        let v6 = self.v6.sweep(&self.clock, &self.timeouts).await?;
        self.swept = Swept {
            sweeps: self.swept.sweeps + 1,
            flows: [v4.flows, v6.flows],
            new_flows: [v4.new_flows, v6.new_flows],
            masquerades: [v4.masquerades, v6.masquerades],
            expired: self.swept.expired + v4.expired + v6.expired,
            freed: self.swept.freed + v4.freed + v6.freed,
            took: began.elapsed(),
        };
        Ok(())
    }
}

// === impl FamilySweeper ===

impl<A> FamilySweeper<A>
where
    A: Family,
    FlowKey<A>: Key,
    MasqueradeKey<A>: Key,
    Masquerade<A>: aya::Pod,
{
    fn open(pins: &PinDirectory) -> Result<Self, TableError> {
        let name = |map: &str| format!("{map}_{}", A::SUFFIX);
        Ok(Self {
            flows: Table::open(pins, &name("FLOWS"))?,
            new_flows: Table::open(pins, &name("NEW_FLOWS"))?,
            masquerade: Table::open(pins, &name("MASQUERADE"))?,
            suspects: HashSet::new(),
        })
    }

    async fn sweep(&mut self, clock: &Clock, timeouts: &Timeouts) -> Result<Found, TableError> {
        let mut found = Found::default();
        (found.flows, found.expired) = expire(&self.flows, clock, timeouts).await?;
        let (new_flows, expired) = expire(&self.new_flows, clock, timeouts).await?;
        (found.new_flows, found.expired) = (new_flows, found.expired + expired);
        (found.masquerades, found.freed) = self.free_ports().await?;
        Ok(found)
    }

    /// Frees ports that have had no flow for two sweeps. Returns how many are left, and how many were freed.
    async fn free_ports(&mut self) -> Result<(u64, u64), TableError> {
        let (mut cursor, mut left, mut freed, mut suspects) = (Cursor::default(), 0, 0, HashSet::new());
        while !cursor.ended() {
            for (key, pod) in self.masquerade.next_chunk(&mut cursor)? {
                left += 1;
                if self.has_flow(&key, &pod)? {
                    continue;
                }
                if !self.suspects.contains(&key) {
                    suspects.insert(key);
                } else if self.free(&key, &pod)? {
                    (left, freed) = (left - 1, freed + 1);
                }
            }
            tokio::task::yield_now().await;
        }
        self.suspects = suspects;
        Ok((left, freed))
    }

    /// Removes a port, unless a flow took it up in that very moment: the program that opened it found the port still there.
    fn free(&self, key: &MasqueradeKey<A>, pod: &Masquerade<A>) -> Result<bool, TableError> {
        if !self.masquerade.remove(key)? {
            return Ok(false);
        }
        if self.has_flow(key, pod)? {
            self.masquerade.insert_absent(key, pod)?;
            return Ok(false);
        }
        Ok(true)
    }

    /// Whether the flow that a port stands for is known, and known to use it.
    fn has_flow(&self, key: &MasqueradeKey<A>, pod: &Masquerade<A>) -> Result<bool, TableError> {
        let flow_key = flow_of(key, pod);
        let flow = match self.flows.lookup(&flow_key)? {
            Some(flow) => Some(flow),
            None => self.new_flows.lookup(&flow_key)?,
        };
        Ok(flow.is_some_and(|flow| flow.masquerade_port == key.local_port))
    }
}

/// The flow between the pod and the outside, as the pod's side sees it.
fn flow_of<A: Family>(key: &MasqueradeKey<A>, pod: &Masquerade<A>) -> FlowKey<A> {
    const ICMP: u8 = 1;
    const ICMPV6: u8 = 58;
    // Both ends of an echo are its identifier, which no port of the outside's stands for.
    let remote_port = if matches!(key.protocol, ICMP | ICMPV6) { pod.port } else { key.remote_port };
    FlowKey::new((pod.pod, pod.port), (key.remote, remote_port), key.protocol).0
}

/// Removes flows that were idle for too long. Returns how many are left, and how many were removed.
async fn expire<K: Key + Protocol>(
    table: &Table<K, Flow>,
    clock: &Clock,
    timeouts: &Timeouts,
) -> Result<(u64, u64), TableError> {
    let (mut cursor, mut left, mut removed) = (Cursor::default(), 0, 0);
    while !cursor.ended() {
        let chunk = table.next_chunk(&mut cursor)?;
        let now = clock.jiffies();
        for (key, flow) in chunk {
            let is_idle = |flow: &Flow| {
                let limit = u64::from(timeouts.of(key.protocol(), flow.state)) * u64::from(clock.hz());
                now.saturating_sub(flow.last_seen) > limit
            };
            // A second look: since the chunk was read the flow may have seen a packet.
            if is_idle(&flow) && table.lookup(&key)?.is_some_and(|flow| is_idle(&flow)) && table.remove(&key)? {
                removed += 1;
            } else {
                left += 1;
            }
        }
        tokio::task::yield_now().await;
    }
    Ok((left, removed))
}

trait Protocol {
    fn protocol(&self) -> u8;
}

impl<A> Protocol for FlowKey<A> {
    fn protocol(&self) -> u8 {
        self.protocol
    }
}

#[cfg(test)]
mod tests;

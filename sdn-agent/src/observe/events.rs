//! Examples of drops, as the programs report them: rate-limited per endpoint in the kernel, so an example and never a count.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use sdn_common::{Addr6, Event};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use super::ObserveError;
use super::drops::{direction, reason_texts};
use super::names::Names;
use crate::admin::api::DropEvent;
use crate::family::unmapped;
use crate::kernel::bpf::ring::Ring;
use crate::kernel::bpf::{PinDirectory, raw};

/// Events that a slow reader may be behind before it loses the oldest.
const BACKLOG: usize = 1024;
/// Events handled before others on the thread have their turn.
const TURN: usize = 64;

/// Where events come out.
#[derive(Clone, Debug)]
pub struct Events {
    sender: broadcast::Sender<DropEvent>,
    seen: Arc<AtomicU64>,
}

/// Starts the task that reads the ring; a ring has one reader.
pub fn spawn(pins: &PinDirectory, names: Names) -> Result<(Events, JoinHandle<()>), ObserveError> {
    let fail = |error: io::Error| ObserveError { object: "map EVENTS".to_owned(), cause: error.to_string() };
    let ring = Ring::open(pins, "EVENTS").map_err(fail)?;
    let events = Events { sender: broadcast::Sender::new(BACKLOG), seen: Arc::default() };
    let task = tokio::spawn(read(ring, names, events.clone()));
    Ok((events, task))
}

// === impl Events ===

impl Events {
    /// Events from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<DropEvent> {
        self.sender.subscribe()
    }

    /// Events that the programs have reported since this agent started.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    fn take(&self, record: &[u8], names: &Names) {
        if record.len() < size_of::<Event>() {
            return;
        }
        self.seen.fetch_add(1, Ordering::Relaxed);
        // Nobody listens, as a rule: then nothing is resolved either.
        if self.sender.receiver_count() > 0 {
            // The last listener may have left since.
            let _ = self.sender.send(describe(&raw::read(record), names));
        }
    }
}

async fn read(mut ring: Ring, names: Names, events: Events) {
    loop {
        if let Err(error) = ring.read(TURN, |record| events.take(record, &names)).await {
            // The descriptor is open and a ring's: this cannot go on, but nothing else depends on it.
            tracing::error!(%error, "reading events of drops has ended");
            return;
        }
    }
}

fn describe(event: &Event, names: &Names) -> DropEvent {
    let is_parsed = event.source != Addr6::default() || event.destination != Addr6::default();
    let address = |address: Addr6| -> Option<IpAddr> { is_parsed.then(|| unmapped(address)) };
    let port = |port: sdn_common::Be16| Some(port.native()).filter(|port| *port != 0);
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    DropEvent {
        time_ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
        reason: reason_texts(event.key.reason).0,
        endpoint: names.resolve(event.key.endpoint),
        direction: direction(event.key.direction),
        source: address(event.source),
        destination: address(event.destination),
        protocol: protocol(event),
        source_port: port(event.source_port),
        destination_port: port(event.destination_port),
        length: event.len,
        author: names.author(event.key.author),
    }
}

/// The protocol's name as people say it; the EtherType where the packet is not IP.
fn protocol(event: &Event) -> String {
    match (event.ethertype.native(), event.protocol) {
        (0x0806, _) => "arp".to_owned(),
        (0x0800 | 0x86dd, 1) => "icmp".to_owned(),
        (0x0800 | 0x86dd, 6) => "tcp".to_owned(),
        (0x0800 | 0x86dd, 17) => "udp".to_owned(),
        (0x0800 | 0x86dd, 58) => "icmpv6".to_owned(),
        (0x0800 | 0x86dd, 132) => "sctp".to_owned(),
        (0x0800 | 0x86dd, number) => number.to_string(),
        (ethertype, _) => format!("ethertype {ethertype:#06x}"),
    }
}

#[cfg(test)]
mod tests;

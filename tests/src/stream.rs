//! Streams of numbered messages between two sandboxes, to count what is lost while something is done to the network.
//!
//! Every message is echoed, so that both directions count. A message that a receiving socket had no room for was not lost by
//! the network: those are counted apart, from the kernel's own counters.

mod datagram;
mod tally;
mod tcp;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::sandbox::Sandbox;
use tally::Tally;

/// How long after the last message its echo may come.
const GRACE: Duration = Duration::from_secs(3);

/// How often threads that wait for messages look whether they should end.
const TICK: Duration = Duration::from_millis(50);

/// What carries a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// One TCP connection.
    Tcp,
    /// UDP datagrams from one socket to another.
    Udp,
    /// ICMP echo, answered by the kernel.
    Ping,
}

/// A running stream; dropping it ends it.
#[derive(Debug)]
pub struct Stream {
    carrier: Carrier,
    target: IpAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What became of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What carried it.
    pub carrier: Carrier,
    /// Where to.
    pub target: IpAddr,
    /// Messages sent.
    pub sent: u64,
    /// Different messages whose echo came back.
    pub echoed: u64,
    /// Echoes that came more than once.
    pub repeated: u64,
    /// Echoes that came after one of a later message.
    pub reordered: u64,
    /// Messages and echoes for which a receiving socket had no room.
    pub overflowed: u64,
    /// The longest time from one echo to the next.
    pub longest_silence: Duration,
    /// Why it ended before it was asked to.
    pub broken: Option<String>,
}

/// What the threads of a stream have in common.
#[derive(Debug, Default)]
struct Shared {
    sent: AtomicU64,
    tally: Mutex<Tally>,
    /// The sender is to end.
    no_more: AtomicBool,
    /// All are to end.
    over: AtomicBool,
}

// === impl Stream ===

impl Stream {
    /// Starts to send `rate` messages a second from `from` to `target`, an address of `to`.
    pub fn start(carrier: Carrier, from: &Sandbox, to: &Sandbox, target: IpAddr, rate: u32) -> Result<Self> {
        let shared = Arc::<Shared>::default();
        let interval = Duration::from_secs(1) / rate.max(1);
        let threads = match carrier {
            Carrier::Tcp => tcp::start(from, to, target, interval, &shared),
            Carrier::Udp => datagram::start_udp(from, to, target, interval, &shared),
            Carrier::Ping => datagram::start_ping(from, target, interval, &shared),
        };
        let threads = threads.with_context(|| format!("start a stream of {carrier} to {target}"))?;
        Ok(Self { carrier, target, shared, threads })
    }

    /// How many messages have been sent so far.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Stops sending, waits for the last echoes and counts; of all streams at the same time.
    pub fn finish_all(streams: impl IntoIterator<Item = Self>) -> Vec<Report> {
        let streams: Vec<_> = streams.into_iter().collect();
        streams.iter().for_each(|stream| stream.shared.no_more.store(true, Ordering::Relaxed));
        let deadline = Instant::now() + GRACE;
        // Senders may still be at their last messages.
        thread::sleep(TICK);
        streams.into_iter().map(|stream| stream.finish_by(deadline)).collect()
    }

    /// Stops sending, waits for the last echoes and counts.
    pub fn finish(self) -> Report {
        // One in, one out.
        Self::finish_all([self]).remove(0)
    }

    fn finish_by(mut self, deadline: Instant) -> Report {
        while self.shared.tally().echoed() < self.sent() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        self.end();
        let tally = self.shared.tally();
        Report {
            carrier: self.carrier,
            target: self.target,
            sent: self.sent(),
            echoed: tally.echoed(),
            repeated: tally.repeated,
            reordered: tally.reordered,
            overflowed: tally.overflowed,
            longest_silence: tally.longest_silence,
            broken: tally.broken.clone(),
        }
    }

    fn end(&mut self) {
        self.shared.no_more.store(true, Ordering::Relaxed);
        self.shared.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.end();
    }
}

// === impl Report ===

impl Report {
    /// Messages whose echo never came although every socket had room: lost by the network.
    pub fn lost(&self) -> u64 {
        (self.sent - self.echoed).saturating_sub(self.overflowed)
    }

    /// Whether nothing was lost and nothing broke.
    pub fn is_whole(&self) -> bool {
        self.sent > 0 && self.lost() == 0 && self.broken.is_none()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { carrier, target, sent, echoed, repeated, reordered, overflowed, .. } = self;
        write!(f, "{carrier} to {target}: {sent} sent, {echoed} echoed, {} lost", self.lost())?;
        write!(f, ", {overflowed} overflowed, {repeated} repeated, {reordered} reordered")?;
        write!(f, ", longest silence {} ms", self.longest_silence.as_millis())?;
        self.broken.as_ref().map_or(Ok(()), |broken| write!(f, ", broken: {broken}"))
    }
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Ping => "ping",
        })
    }
}

// === impl Shared ===

impl Shared {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Writes down why the stream is broken; the first reason counts.
    fn break_off(&self, operation: &str, error: &io::Error) {
        // What ends at the end is not broken.
        if !self.is_over() {
            self.tally().broken.get_or_insert_with(|| format!("{operation}: {error}"));
        }
    }

    /// Calls `send` with the numbers 0, 1, 2 …, one each `interval`, until it fails or enough is sent.
    fn pace(&self, interval: Duration, mut send: impl FnMut(u64) -> io::Result<()>) {
        let mut due = Instant::now();
        for number in 0.. {
            if self.no_more.load(Ordering::Relaxed) {
                return;
            }
            if let Err(error) = send(number) {
                return self.break_off("send", &error);
            }
            self.sent.store(number + 1, Ordering::Relaxed);
            // What is late because this thread did not run is made up for.
            due += interval;
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
}

/// Whether an error of a socket with a time limit only says that nothing came.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(run).context("start a thread of a stream")
}

#[cfg(test)]
mod tests;

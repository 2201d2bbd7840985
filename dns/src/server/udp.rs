//! UDP: a thread a socket, which takes what is there, answers it, and sends all of that at once.

use super::{
    Begun, PanicGuard, STOP_PATIENCE,
    batch::{BATCH, Received, Replies},
    socket_error,
};
use crate::{
    engine::{Arrival, Engine, Handled, Later, Workspace},
    error::Error,
    forward::Forwarder,
    metrics::{Stats, Transport, ZoneLabel},
};
use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, SockaddrStorage, sendto},
};
use std::{
    convert::Infallible,
    net::UdpSocket,
    os::fd::AsRawFd,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    thread::{self, JoinHandle},
    time::Instant,
};
use tokio::{runtime, sync::mpsc};

/// A socket's thread.
struct Worker<F> {
    socket: Arc<UdpSocket>,
    engine: Arc<Engine<F>>,
    stats: Arc<Stats>,
    runtime: runtime::Handle,
    /// Held by every query that waits for others.
    wait: mpsc::Sender<Infallible>,
}

/// Starts the thread of a socket.
pub(super) fn start<F: Forwarder>(
    number: usize,
    socket: UdpSocket,
    engine: Arc<Engine<F>>,
    stats: Arc<Stats>,
    wait: mpsc::Sender<Infallible>,
    begun: Begun,
) -> Result<JoinHandle<()>, Error> {
    // The thread waits in the one call that takes messages; the timeout is for it to see that it is to end.
    let prepared = socket
        .set_nonblocking(false)
        .and_then(|()| socket.set_read_timeout(Some(STOP_PATIENCE)))
        .and_then(|()| socket.set_write_timeout(Some(STOP_PATIENCE)));
    prepared.map_err(|source| socket_error("UDP", socket.local_addr(), source))?;
    let runtime = runtime::Handle::current();
    let worker = Worker { socket: Arc::new(socket), engine, stats, runtime, wait };
    let run = move || {
        worker.runtime.block_on(begun.wait());
        // What a message did to this thread ends with it: the next one begins with nothing of it.
        while catch_unwind(AssertUnwindSafe(|| worker.run())).is_err() {
            worker.engine.shared.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!(socket = ?worker.socket.local_addr(), "a thread of the resolver panicked; starting another");
        }
    };
    let thread = thread::Builder::new().name(format!("dns-udp-{number}"));
    thread.spawn(run).map_err(|source| Error::Thread { source })
}

impl<F: Forwarder> Worker<F> {
    fn run(&self) {
        let mut received = Received::new();
        let mut replies = Replies::new();
        let mut work = Workspace::new();
        while !self.engine.shared.stopping.load(Ordering::Relaxed) {
            match received.receive(&self.socket) {
                Ok(count) => self.answer(&received, count, &mut replies, &mut work),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                // What a client's host said of an earlier reply, and a moment without memory: both pass.
                Err(error) => {
                    tracing::debug!(%error, "cannot receive queries");
                    thread::yield_now();
                }
            }
        }
    }

    /// Answers what came. The index is loaded once for all of it.
    fn answer(&self, received: &Received, count: usize, replies: &mut Replies, work: &mut Workspace) {
        let (since, at) = (Instant::now(), self.engine.now());
        let index = self.engine.index.load();
        let mut zones = [ZoneLabel::Cluster; BATCH];
        let mut answered = 0;
        for (message, client, peer) in received.iter(count) {
            let arrival = Arrival { message, client, transport: Transport::Udp, at };
            match self.engine.handle(&index, arrival, work, replies.next(), &self.stats) {
                Handled::Reply => {
                    zones[answered] = work.zone();
                    answered += 1;
                    replies.push(peer);
                }
                Handled::Silence => {}
                Handled::Later(later) => self.answer_later(*later, peer),
            }
        }
        let lost = replies.send(&self.socket);
        self.stats.took(since.elapsed(), &zones[..answered]);
        if lost > 0 {
            self.engine.shared.unsent.fetch_add(lost, Ordering::Relaxed);
        }
    }

    /// Has a query answered that others have to be asked for.
    fn answer_later(&self, later: Later, peer: SockaddrStorage) {
        let (engine, socket, wait) = (self.engine.clone(), self.socket.clone(), self.wait.clone());
        self.runtime.spawn(async move {
            let _guard = PanicGuard(&engine.shared);
            let reply = engine.answer_later(later).await;
            let flags = MsgFlags::MSG_DONTWAIT;
            if !reply.is_empty() && sendto(socket.as_raw_fd(), &reply, &peer, flags).is_err() {
                engine.shared.unsent.fetch_add(1, Ordering::Relaxed);
            }
            drop(wait);
        });
    }
}

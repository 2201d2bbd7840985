//! The router as it runs: one thread a core, each with a runtime, buffers and connections of its own.

mod buffer;
mod core;
mod deadline;

#[cfg(test)]
mod tests;

use std::{
    io,
    net::{IpAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use thiserror::Error;
use tokio::{
    runtime::{Builder, LocalOptions},
    sync::{Semaphore, watch},
    task::spawn_local,
};

pub use self::core::{Core, Place};
pub use buffer::{Buffer, Pool};
pub use deadline::Deadline;

use crate::{
    connect::health,
    listen::{self, Door},
    log::{Log, Sink},
    respond::Pages,
    stats::{self, Authorize, Totals},
    table::SharedTable,
    tls::{Contexts, TlsFault},
};

/// What a router is started with.
pub struct Start {
    /// The table in force: swapped by whoever makes tables.
    pub table: SharedTable,
    /// Sockets for requests without TLS, listening: one for all cores, or one each (SO_REUSEPORT).
    pub http: Vec<TcpListener>,
    /// Sockets for TLS, likewise.
    pub https: Vec<TcpListener>,
    /// Sockets for health, metrics and statistics.
    pub stats: Vec<TcpListener>,
    /// Addresses that pods are connected to from, at most one of each family; none: the kernel chooses.
    pub sources: Vec<IpAddr>,
    /// Where access is logged besides what the settings say.
    pub sink: Option<Sink>,
    /// Who may see statistics besides the user that the settings name; `None`: nobody.
    pub authorize: Option<Authorize>,
}

/// A running router.
pub struct Server {
    shared: Arc<Shared>,
    phase: watch::Sender<Phase>,
    threads: Vec<thread::JoinHandle<()>>,
}

/// What all cores have.
pub struct Shared {
    /// The table in force.
    pub table: SharedTable,
    /// Bytes of a buffer.
    pub buffer_size: usize,
    /// Bytes that a head may have.
    pub head_limit: usize,
    /// The router's own answers.
    pub pages: Pages,
    /// For handshakes with clients.
    pub tls: Contexts,
    /// Addresses that pods are connected to from.
    pub sources: Vec<IpAddr>,
    /// What is counted for the router as a whole.
    pub stats: Totals,
    /// Where access is logged.
    pub log: Log,
    /// All routes are known: set by whoever makes tables.
    pub is_synced: AtomicBool,
    /// Told to stop: not ready for more.
    pub is_stopping: AtomicBool,
    /// Who may see statistics besides the user that the settings name.
    pub authorize: Option<Authorize>,
    /// When the router was started.
    pub started: Instant,
}

/// Why a router does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The settings for TLS.
    #[error(transparent)]
    Tls(#[from] TlsFault),
    /// A runtime or a socket.
    #[error("starting the router's threads: {0}")]
    Io(#[from] io::Error),
    /// The settings for the log.
    #[error("starting the access log: {0}")]
    Log(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    Draining,
    Stopped,
}

/// Between two looks at idle connections to pods.
const SWEEP: Duration = Duration::from_secs(1);
/// Between two looks at whether the last connection has ended.
const LOOK: Duration = Duration::from_millis(20);

// === impl Server ===

impl Server {
    /// Starts all threads. They serve as soon as this returns.
    pub fn start(start: Start) -> Result<Self, StartError> {
        let settings = start.table.load().settings.clone();
        let threads = match settings.threads {
            Some(threads) => threads.max(1) as usize,
            None => thread::available_parallelism().map_or(1, usize::from),
        };
        let shared = Arc::new(Shared {
            buffer_size: settings.buffer_size.max(4096),
            head_limit: settings.buffer_size.saturating_sub(settings.max_rewrite).max(2048),
            pages: Pages::read(&settings),
            tls: Contexts::new(&settings)?,
            sources: start.sources,
            authorize: start.authorize,
            stats: Totals::default(),
            log: Log::new(&settings, start.sink).map_err(StartError::Log)?,
            is_synced: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
            started: Instant::now(),
            table: start.table,
        });
        let (phase, _) = watch::channel(Phase::Serving);
        let limit = settings.max_connections.map(|limit| Arc::new(Semaphore::new(limit as usize)));
        let mut server = Self { shared, phase, threads: Vec::new() };
        for index in 0..threads {
            let part = |sockets: &[TcpListener]| part(sockets, index, threads);
            let sockets = Sockets { http: part(&start.http)?, https: part(&start.https)?, stats: part(&start.stats)? };
            server.spawn(index, sockets, limit.clone())?;
        }
        Ok(server)
    }

    fn spawn(&mut self, index: usize, sockets: Sockets, limit: Option<Arc<Semaphore>>) -> io::Result<()> {
        let (shared, phase) = (self.shared.clone(), self.phase.subscribe());
        let runtime = || Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = thread::Builder::new().name(format!("router-{index}")).spawn(move || match runtime() {
            Ok(runtime) => runtime.block_on(run(shared, index, sockets, limit, phase, ready)),
            Err(error) => drop(ready.send(Err(error))),
        })?;
        self.threads.push(thread);
        is_ready.recv().unwrap_or_else(|_| Err(io::Error::other("a thread ended at its start")))
    }

    /// What all cores have.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Takes no new connections, and ends those there are with their next response, or when `patience` is over. Blocks
    /// until then. The sockets stay open for a successor who has them too.
    pub fn drain(mut self, patience: Option<Duration>) {
        self.shared.is_stopping.store(true, Relaxed);
        self.phase.send_replace(Phase::Draining);
        let begun = Instant::now();
        while self.threads.iter().any(|thread| !thread.is_finished()) {
            if patience.is_some_and(|patience| begun.elapsed() >= patience) {
                self.phase.send_replace(Phase::Stopped);
                break;
            }
            thread::sleep(LOOK);
        }
        self.join();
    }

    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the router panicked");
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.phase.send_replace(Phase::Stopped);
        self.join();
    }
}

/// The sockets of one core.
struct Sockets {
    http: Vec<TcpListener>,
    https: Vec<TcpListener>,
    stats: Vec<TcpListener>,
}

/// A core's part of the sockets: its own where there are enough, else all of them with the others.
fn part(sockets: &[TcpListener], index: usize, cores: usize) -> io::Result<Vec<TcpListener>> {
    let own = |place: usize| sockets.len() < cores || place % cores == index;
    let part = sockets.iter().enumerate().filter(|(place, _)| own(*place));
    part.map(|(_, socket)| socket.try_clone()).collect()
}

/// What a core does.
async fn run(
    shared: Arc<Shared>,
    index: usize,
    sockets: Sockets,
    limit: Option<Arc<Semaphore>>,
    mut phase: watch::Receiver<Phase>,
    ready: std::sync::mpsc::Sender<io::Result<()>>,
) {
    let seed = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(std::process::id());
    let core = Core::new(shared, seed);
    let mut doors = Vec::new();
    let result = open_doors(&core, sockets, limit, &mut doors);
    let failed = result.is_err();
    if ready.send(result).is_err() || failed {
        return;
    }
    let sweeper = core.clone();
    spawn_local(async move {
        loop {
            tokio::time::sleep(SWEEP).await;
            sweeper.upstreams.sweep(Instant::now());
            sweeper.http2.sweep(Instant::now());
        }
    });
    if index == 0 {
        spawn_local(health::check(core.clone()));
    }
    // Both end as well when the server is dropped.
    let _ = phase.wait_for(|phase| *phase != Phase::Serving).await;
    for door in doors {
        door.abort();
    }
    core.drain();
    let stopped = async { drop(phase.wait_for(|phase| *phase == Phase::Stopped).await) };
    let emptied = async {
        while core.connections() > 0 {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        () = stopped => {}
        () = emptied => {}
    }
}

fn open_doors(
    core: &std::rc::Rc<Core>,
    sockets: Sockets,
    limit: Option<Arc<Semaphore>>,
    doors: &mut Vec<tokio::task::JoinHandle<()>>,
) -> io::Result<()> {
    for (sockets, door) in [(sockets.http, Door::Http), (sockets.https, Door::Https)] {
        for socket in sockets {
            doors.push(spawn_local(listen::accept(core.clone(), listener(socket)?, door, limit.clone())));
        }
    }
    for socket in sockets.stats {
        // Not a door that closes: while draining somebody asks whether we are ready.
        spawn_local(stats::serve(core.clone(), listener(socket)?));
    }
    Ok(())
}

fn listener(socket: TcpListener) -> io::Result<tokio::net::TcpListener> {
    socket.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(socket)
}

//! The sockets, and what runs on them: a thread a UDP socket, tasks for connections, a thread for the index.

mod batch;
mod tcp;
mod udp;

use crate::{
    answer::Answerer,
    config::{Config, Search as SearchConfig},
    engine::{Arrival, Engine, Handled, Workspace},
    error::Error,
    forward::Forwarder,
    index::{Builder, Index, Naming, Zones},
    limit::Limiter,
    metrics::{Collect, DURATIONS, Shared, Stats, Transport},
    search::Search,
    wire::Name,
    zone::Authority,
};
use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use sdn_cluster::Snapshot;
use std::{
    convert::Infallible,
    io,
    net::{IpAddr, TcpListener, UdpSocket},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tokio::{
    runtime,
    sync::{Mutex as AsyncMutex, mpsc, watch},
    task::JoinSet,
};

/// The sockets to answer on: bound by whoever may, and handed over.
#[derive(Debug, Default)]
pub struct Sockets {
    /// UDP. Each gets a thread; several of one address (SO_REUSEPORT) share its load.
    pub udp: Vec<UdpSocket>,
    /// TCP, listening.
    pub tcp: Vec<TcpListener>,
}

/// The resolver at work. Dropped, it stops at once; see [`Handle::stop`].
#[derive(Debug)]
pub struct Handle<F> {
    engine: Arc<Engine<F>>,
    collect: Arc<Collect>,
    stop: watch::Sender<bool>,
    lameduck: AtomicBool,
    /// Ends when the last query over UDP that waits for others is answered.
    waiting: AsyncMutex<mpsc::Receiver<Infallible>>,
    /// Taken by whoever stops the resolver.
    threads: Mutex<Vec<JoinHandle<()>>>,
    tasks: AsyncMutex<JoinSet<()>>,
}

/// How long queries that wait for others are waited for in turn. Clients give up after five seconds.
const DRAIN: Duration = Duration::from_secs(5);

/// Longer than this no thread takes to see that it is to end.
const STOP_PATIENCE: Duration = Duration::from_millis(200);

/// Starts to answer. To be called in a tokio runtime, on which connections are served and upstreams asked.
///
/// Until `snapshots` has one that is complete, names of the cluster that are not known are SERVFAIL.
pub fn start<F: Forwarder>(
    config: Config,
    sockets: Sockets,
    snapshots: watch::Receiver<Snapshot>,
    forwarder: F,
) -> Result<Handle<F>, Error> {
    let naming = naming(&config);
    let tcp_limits = config.tcp;
    let engine = Arc::new(engine(config, &naming, forwarder)?);
    let (stop, stopped) = watch::channel(false);
    let stats: Vec<Arc<Stats>> = sockets.udp.iter().map(|_| Arc::default()).collect();
    let zone = engine.answerer.authority.zones.cluster.to_string();
    let collect = Arc::new(Collect { shared: engine.shared.clone(), threads: stats.clone(), zone });
    let (wait, waiting) = mpsc::channel(1);
    let (lameduck, waiting) = (AtomicBool::new(false), AsyncMutex::new(waiting));
    let mut handle =
        Handle { engine, collect, stop, lameduck, waiting, threads: Mutex::default(), tasks: AsyncMutex::default() };
    let (engine, tasks) = (&handle.engine, handle.tasks.get_mut());
    let threads = handle.threads.get_mut().unwrap_or_else(PoisonError::into_inner);
    let (begin, begun) = watch::channel(false);
    let begun = Begun(begun);
    threads.push(start_index(engine, naming, snapshots, stopped.clone(), begin)?);
    for (number, (socket, stats)) in sockets.udp.into_iter().zip(stats).enumerate() {
        threads.push(udp::start(number, socket, engine.clone(), stats, wait.clone(), begun.clone())?);
    }
    for listener in sockets.tcp {
        let serving = tcp::serve(listener, engine.clone(), tcp_limits, stopped.clone(), begun.clone())?;
        tasks.spawn(serving);
    }
    Ok(handle)
}

/// How long questions may wait in the sockets until all of the cluster was read: an answer that is late is better than
/// SERVFAIL. A resolver that takes its sockets over from another finds questions in them.
const FIRST_INDEX: Duration = Duration::from_millis(500);

/// Whether there was an index of all of the cluster.
#[derive(Clone)]
struct Begun(watch::Receiver<bool>);

/// The longest TTL that CoreDNS's kubernetes plugin allows.
const MAX_TTL: u32 = 3600;

/// How names are made, as configured.
pub(crate) fn naming(config: &Config) -> Naming {
    Naming {
        ttl: config.ttl.min(MAX_TTL),
        pod_names: config.endpoint_pod_names,
        namespaces: config.namespaces.clone().map(Arc::new),
    }
}

pub(crate) fn engine<F: Forwarder>(config: Config, naming: &Naming, forwarder: F) -> Result<Engine<F>, Error> {
    let cluster = name(&config.zone)?;
    let zones = Zones::new(cluster).ok_or_else(|| Error::Name { name: config.zone.clone() })?;
    let search = config.search.as_ref().map(domains).transpose()?;
    Ok(Engine {
        answerer: Answerer {
            authority: Authority::new(zones, &config.reverse),
            pod_names: config.pod_names,
            ignore_empty_services: config.ignore_empty_services,
            ttl: naming.ttl,
            addresses: config.addresses.into(),
        },
        index: ArcSwap::from_pointee(Index::default()),
        forwarder,
        search: search.map(|domains| Search { domains: ArcSwap::from_pointee(domains) }),
        clients: config.clients,
        limiter: config.rate.map(Limiter::new),
        shared: Arc::default(),
        log_queries: AtomicBool::new(false),
    })
}

fn domains(search: &SearchConfig) -> Result<Vec<Name>, Error> {
    search.domains.iter().map(|domain| name(domain)).collect()
}

fn name(text: &str) -> Result<Name, Error> {
    Name::from_text(text).filter(|name| name.labels() > 0).ok_or_else(|| Error::Name { name: text.to_owned() })
}

/// Starts the thread that keeps the index up to date: its own, so that neither building one delays others' tasks, nor
/// they it.
fn start_index<F: Forwarder>(
    engine: &Arc<Engine<F>>,
    naming: Naming,
    snapshots: watch::Receiver<Snapshot>,
    stopped: watch::Receiver<bool>,
    begin: watch::Sender<bool>,
) -> Result<JoinHandle<()>, Error> {
    let (engine, runtime) = (engine.clone(), runtime::Handle::current());
    let run = move || {
        // After a panic all is built anew.
        let once = || keep_index(&engine, naming.clone(), snapshots.clone(), stopped.clone(), &begin, &runtime);
        while catch_unwind(AssertUnwindSafe(once)).is_err() {
            engine.shared.panics.fetch_add(1, Ordering::Relaxed);
            thread::sleep(STOP_PATIENCE);
        }
    };
    thread::Builder::new().name("dns-index".to_owned()).spawn(run).map_err(|source| Error::Thread { source })
}

fn keep_index<F: Forwarder>(
    engine: &Engine<F>,
    naming: Naming,
    mut snapshots: watch::Receiver<Snapshot>,
    mut stopped: watch::Receiver<bool>,
    begin: &watch::Sender<bool>,
    runtime: &runtime::Handle,
) {
    let mut builder = Builder::new(naming);
    loop {
        let snapshot = snapshots.borrow_and_update().clone();
        let since = Instant::now();
        engine.index.store(Arc::new(builder.update(&snapshot)));
        let nanos = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        engine.shared.updates.observe(&DURATIONS, nanos, 1);
        if snapshot.synced {
            begin.send_replace(true);
        }
        let changed = runtime.block_on(async {
            tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => false,
                changed = snapshots.changed() => changed.is_ok(),
            }
        });
        if !changed {
            return;
        }
    }
}

// === impl Begun ===

impl Begun {
    /// Waits for it, as long as one may.
    async fn wait(mut self) {
        // In time or not: what is known then counts.
        drop(tokio::time::timeout(FIRST_INDEX, self.0.wait_for(|begun| *begun)).await);
    }
}

// === impl Handle ===

impl<F: Forwarder> Handle<F> {
    /// Gives the metrics out, under CoreDNS's names.
    pub fn register_metrics(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.collect.clone()));
    }

    /// Whether queries are answered: what `/health` says. True until the resolver has stopped, while it is a lame duck
    /// too.
    pub fn is_healthy(&self) -> bool {
        self.threads().iter().all(|thread| !thread.is_finished())
    }

    /// Whether queries should be sent here: what `/ready` says. False before the cluster is known, and for a lame duck.
    pub fn is_ready(&self) -> bool {
        self.is_healthy() && !self.lameduck.load(Ordering::Relaxed) && self.engine.index.load().synced
    }

    /// Goes on answering, but is no longer ready: others are to be asked from now on.
    pub fn lameduck(&self) {
        self.lameduck.store(true, Ordering::Relaxed);
    }

    /// Has every query logged, target `sdn_dns::query`, or no longer.
    pub fn log_queries(&self, wanted: bool) {
        self.engine.log_queries.store(wanted, Ordering::Relaxed);
    }

    /// Services, and addresses of endpoints, that have names now.
    pub fn sizes(&self) -> (usize, usize) {
        self.engine.index.load().sizes()
    }

    /// Sets the search domains that pods have after the cluster's: the node's, which may change. Without search paths in
    /// the configuration they are not used.
    pub fn set_search_domains(&self, search: &SearchConfig) -> Result<(), Error> {
        let names = domains(search)?;
        if let Some(search) = &self.engine.search {
            search.domains.store(Arc::new(names));
        }
        Ok(())
    }

    /// Answers a message as if `client` had sent it, over TCP: nothing is cut. `None` where it would get no answer.
    pub async fn ask(&self, message: &[u8], client: IpAddr) -> Option<Vec<u8>> {
        let engine = &self.engine;
        let arrival = Arrival { message, client, transport: Transport::Tcp, at: engine.now() };
        let mut out = Vec::new();
        let index = engine.index.load_full();
        let handled = engine.handle(&index, arrival, &mut Workspace::new(), &mut out, &engine.shared.stats);
        match handled {
            Handled::Reply => Some(out),
            Handled::Silence => None,
            Handled::Later(later) => Some(engine.answer_later(*later).await),
        }
    }

    /// Stops: queries that have come are answered, connections are closed when theirs are. What comes from now on waits in the
    /// sockets for whoever has them next.
    pub async fn stop(&self) {
        self.lameduck();
        self.signal_stop();
        let mut tasks = self.tasks.lock().await;
        while tasks.join_next().await.is_some() {}
        let threads = std::mem::take(&mut *self.threads());
        let joined = tokio::task::spawn_blocking(|| threads.into_iter().for_each(|thread| drop(thread.join())));
        if joined.await.is_err() {
            tracing::warn!("a thread of the resolver could not be waited for");
        }
        // Nothing is ever sent: this ends with the last sender.
        if tokio::time::timeout(DRAIN, self.waiting.lock().await.recv()).await.is_err() {
            tracing::warn!("queries were not answered before the resolver stopped: upstreams did not answer in time");
        }
    }
}

impl<F> Handle<F> {
    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal_stop(&self) {
        self.engine.shared.stopping.store(true, Ordering::Relaxed);
        self.stop.send_replace(true);
    }
}

impl<F> Drop for Handle<F> {
    fn drop(&mut self) {
        self.signal_stop();
    }
}

fn socket_error(transport: &'static str, address: io::Result<std::net::SocketAddr>, source: io::Error) -> Error {
    let address = address.map_or_else(|_| "(unknown)".to_owned(), |address| address.to_string());
    Error::Socket { transport, address, source }
}

/// Counts the end of a task that panicked.
struct PanicGuard<'a>(&'a Shared);

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.panics.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;

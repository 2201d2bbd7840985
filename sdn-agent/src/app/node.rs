//! The node role: what is started, with what, in which order.
//!
//! ```text
//! doors → capabilities → writer lock → this machine → cluster → node and uplink → culvert0 → leases → DNS → programs → apply → CNI
//! ```
//!
//! It ends in the reverse order, and leaves the dataplane behind: pinned, attached, forwarding. What is not reached yet is said by
//! the readiness, at /readyz and by `sdnctl status`, and is waited for; what cannot be got over ends the role, and the keeper
//! starts the next one.

mod derive;
mod install;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use nix::sys::prctl;
use sdn_cluster::source::manifests::{self, Missing};
use sdn_cluster::{Cluster, Snapshot, snapshot, store};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use super::keeper::{ADMIN, CNI, METRICS, dns_names};
use super::lock::{LockError, WriterLock};
use super::overlay::OverlayKeeper;
use super::readiness::Readiness;
use super::resolver::{self, Resolver, ResolverError};
use super::tasks::Tasks;
use super::{logging, stage};
use crate::admin::{self, Agent};
use crate::apply::{self, Handle, StartError};
use crate::cni::server::{Limits, PodDns};
use crate::cni::{LeaseError, Leases, Server, ServerConfig};
use crate::config::{Config, ConfigError};
use crate::keeper::{Inherited, KeeperError};
use crate::kernel::bpf::{Dataplane, OpenError, Options, PinDirectory, PinError};
use crate::kernel::capabilities::{self, CapabilityError, KEPT};
use crate::kernel::memory;
use crate::kernel::netlink::{Netlink, NetlinkError, follow_uplink};
use crate::plan::Settings;
use crate::preflight::{self, Unfit};
use derive::Derived;

/// Threads for what blocks: leases are written and synced to disk there. One grows for a moment under a burst of ADDs.
const BLOCKING_THREADS: usize = 4;
/// An idle one's stack and allocator arena are given back soon.
const BLOCKING_IDLE: Duration = Duration::from_secs(2);
/// Between two writes of the last snapshot.
const SAVE_PAUSE: Duration = Duration::from_secs(5);

/// What ends a node role that nobody has asked to end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration lacks what a node needs.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The keeper's sockets are not as expected.
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    /// The runtime, its signals or its sockets cannot be set up.
    #[error("{operation}: {cause}")]
    Process {
        /// What was tried.
        operation: &'static str,
        /// What the system said.
        cause: io::Error,
    },
    /// A capability is missing, or the others could not be given up.
    #[error(transparent)]
    Capabilities(#[from] CapabilityError),
    /// The pin directory cannot be used.
    #[error(transparent)]
    Pins(#[from] PinError),
    /// The writer lock cannot be had.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// This machine cannot be a node.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The source cannot be opened.
    #[error(transparent)]
    Cluster(#[from] sdn_cluster::Error),
    /// rtnetlink cannot be used.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The programs cannot be loaded.
    #[error(transparent)]
    Dataplane(#[from] OpenError),
    /// The leases cannot be read.
    #[error(transparent)]
    Leases(#[from] LeaseError),
    /// Cluster DNS cannot be started.
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    /// The apply loop cannot be started.
    #[error(transparent)]
    Apply(#[from] StartError),
}

/// The sockets that the keeper passes.
struct Sockets {
    cni: std::os::unix::net::UnixListener,
    admin: std::os::unix::net::UnixListener,
    metrics: std::net::TcpListener,
    dns: sdn_dns::Sockets,
}

/// A node role that serves: dropping it ends it.
struct Node {
    server: Server<Handle>,
    resolver: Option<Arc<Resolver>>,
    tasks: Tasks,
    _lock: WriterLock,
}

/// Runs the role until it is asked to end.
pub fn run(config: Config) -> ExitCode {
    logging::start(&config.log);
    match run_role(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run_role(config: Config) -> Result<(), Error> {
    memory::keep_one_arena();
    let mut inherited = Inherited::take()?;
    // Started through /proc/self/exe, it would be called "exe".
    let _ = prctl::set_name(c"sdn-agent");
    let mut dns = sdn_dns::Sockets::default();
    for (udp, tcp) in config.dns.addresses.iter().map(|address| dns_names(*address)) {
        dns.udp.push(inherited.udp(udp)?);
        dns.tcp.push(inherited.tcp(tcp)?);
    }
    let sockets =
        Sockets { cni: inherited.unix(CNI)?, admin: inherited.unix(ADMIN)?, metrics: inherited.tcp(METRICS)?, dns };
    capabilities::require(&KEPT)?;
    capabilities::reduce_to(&KEPT)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(BLOCKING_IDLE)
        .build()
        .map_err(failed("start the runtime"))?;
    let outcome = runtime.block_on(serve(Arc::new(config), sockets));
    // What still blocks there may be cut off anywhere: leases survive even a SIGKILL.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

fn failed(operation: &'static str) -> impl Fn(io::Error) -> Error {
    move |cause| Error::Process { operation, cause }
}

/// The doors first, so that they can say what the rest waits for; then the rest.
async fn serve(config: Arc<Config>, sockets: Sockets) -> Result<(), Error> {
    let mut stop = stop_signal()?;
    let agent = Arc::new(Agent::new(Arc::clone(&config), Readiness::waiting_for(&stage::ALL)));
    let mut doors = JoinSet::new();
    let admin = UnixListener::from_std(sockets.admin).map_err(failed("listen on the admin socket"))?;
    doors.spawn(admin::serve_unix(admin, admin::admin(Arc::clone(&agent))));
    let metrics = TcpListener::from_std(sockets.metrics).map_err(failed("listen on the metrics address"))?;
    doors.spawn(admin::serve_tcp(metrics, admin::health(Arc::clone(&agent))));
    let cni = UnixListener::from_std(sockets.cni).map_err(failed("listen on the CNI socket"))?;
    let node = tokio::select! {
        started = start(&config, &agent, sockets.dns) => started?,
        _ = stop.wait_for(|stop| *stop) => return Ok(()),
    };
    memory::trim_heap();
    tracing::info!(node = config.node_name, "serving");
    node.serve(cni, stop).await;
    tracing::info!("ending; what is in the kernel goes on forwarding");
    Ok(())
}

/// Becomes true at SIGTERM or SIGINT.
fn stop_signal() -> Result<watch::Receiver<bool>, Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(failed("listen for SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed("listen for SIGINT"))?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        sender.send_replace(true);
        // Kept, so that the receivers see the value and not the end of the channel.
        sender.closed().await;
    });
    Ok(receiver)
}

/// The plan. Each line needs what the ones above it have made.
async fn start(config: &Arc<Config>, agent: &Arc<Agent<Handle>>, dns: sdn_dns::Sockets) -> Result<Node, Error> {
    let readiness = &agent.readiness;
    let tasks = Tasks::new();
    let pins = PinDirectory::prepare(&config.paths.bpffs)?;
    let lock = WriterLock::take(&config.paths.bpffs).await?;
    preflight::require(config)?;
    readiness.reached(stage::MACHINE);

    let cluster = open_cluster(config, &tasks).await?;
    let _ = agent.cluster.set(cluster.clone());
    let netlink = Netlink::open()?;
    let (node, uplink) = tokio::join!(
        derive::own_node(cluster.snapshots.clone(), config, readiness, &tasks),
        follow_uplink(config.uplink.clone(), |why| readiness.blocked(stage::UPLINK, why)),
    );
    let (uplink, following) = uplink?;
    tasks.spawn(following);
    let _ = agent.uplink.set(uplink.clone());
    derive::keep_apart(&uplink, config, readiness, &tasks).await;

    let overlay = OverlayKeeper {
        netlink,
        config: Arc::clone(config),
        node: node.clone(),
        uplink: uplink.uplink.clone(),
        changes: uplink.changes.clone(),
        readiness: readiness.clone(),
        stage: stage::OVERLAY,
    };
    let overlay = overlay.start(&tasks).await;
    let _ = agent.overlay.set(overlay.clone());
    let Derived { subnets, mtu } = derive::follow(node, uplink.uplink.clone(), config, &tasks);
    let _ = agent.mtu.set(mtu.clone());

    let leases = Leases::open(&config.paths.leases(), &subnets.borrow())?;
    let _ = agent.leases.set(leases.clone());
    // Before the programs, whose loading takes the kernel a second or two: the ones that run send questions here all the time.
    let resolver = match config.dns.addresses.is_empty() {
        true => None,
        false => Some(Resolver::start(resolver::Start {
            config,
            sockets: dns,
            snapshots: cluster.snapshots.clone(),
            leases: leases.clone(),
            own: uplink.uplink.borrow().addresses.iter().map(IpNet::addr).collect(),
            pins: pins.clone(),
        })?),
    };
    if let Some(resolver) = &resolver {
        let _ = agent.resolver.set(Arc::clone(resolver));
    }
    let dataplane = open_dataplane(config, pins).await?;
    let (handle, applying) = apply::spawn(apply::Start {
        dataplane,
        settings: Settings::from(config.as_ref()),
        timeouts: (&config.conntrack).into(),
        snapshots: cluster.snapshots.clone(),
        uplink: uplink.uplink,
        vxlan: overlay,
        pods: leases.pods(),
    })?;
    let _ = agent.dataplane.set(handle.clone());
    tasks.spawn(async move {
        // It ends with the last handle. If it panics, so does this: nothing would be applied any more.
        if let Err(Ok(panic)) = applying.await.map_err(JoinError::try_into_panic) {
            std::panic::resume_unwind(panic);
        }
    });

    let cluster_snapshots = cluster.snapshots;
    let forwarding = derive::forwarding(&handle, readiness, &tasks);
    let pod_dns: PodDns = resolver.as_ref().map_or_else(
        || -> PodDns { Arc::new(|_, _| sdn_cni::protocol::Dns::default()) },
        |resolver| resolver.pod_dns(config),
    );
    let server = ServerConfig {
        subnets,
        mtu,
        readiness: forwarding.clone(),
        dns: pod_dns,
        pod_known: Some(derive::pod_known(cluster_snapshots)),
        limits: Limits::default(),
    };
    let server = Server::new(leases, Arc::new(handle), server, Arc::clone(&agent.counters));
    install::spawn(config, forwarding, readiness, &tasks);
    Ok(Node { server, resolver, tasks, _lock: lock })
}

/// Loads the programs, beside what else the role does meanwhile.
async fn open_dataplane(config: &Config, pins: PinDirectory) -> Result<Dataplane, Error> {
    let options = Options { pins, record: false, xdp: config.uplink_xdp.unwrap_or_default() };
    let opened = tokio::task::spawn_blocking(move || Dataplane::open(&options)).await;
    // Only a panic ends the task otherwise.
    Ok(opened.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?)
}

/// The cluster as the manifests have it, and until they are read as it was last known.
async fn open_cluster(config: &Config, tasks: &Tasks) -> Result<Cluster, Error> {
    let options = manifests::Options { missing: Missing::Wait, ..manifests::Options::default() };
    let source = manifests::open(config.source()?, options).await?;
    let path = config.paths.last_snapshot();
    if let Err(error) = std::fs::create_dir_all(&config.paths.state) {
        tracing::warn!(%error, path = %config.paths.state.display(), "cannot make the state directory");
    }
    let last = Snapshot::load(&path).unwrap_or_else(|error| {
        tracing::warn!(%error, "starting without the last snapshot");
        None
    });
    let cluster = store::spawn_from(source, last.unwrap_or_default());
    tasks.spawn(snapshot::keep_saved(cluster.snapshots.clone(), path, SAVE_PAUSE));
    Ok(cluster)
}

// === impl Node ===

impl Node {
    /// Serves the CNI plugin until it is time to stop, and finishes what is under way.
    async fn serve(self, listener: UnixListener, mut stop: watch::Receiver<bool>) {
        let asked = async move { drop(stop.wait_for(|stop| *stop).await) };
        tokio::select! {
            () = self.server.run(listener, asked) => {}
            () = self.tasks.failed() => tracing::error!("a part of the role has failed: starting over"),
        }
        if let Some(resolver) = self.resolver {
            resolver.stop().await;
        }
    }
}

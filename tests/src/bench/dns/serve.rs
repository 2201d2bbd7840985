//! Our resolver in a process of its own: what the benchmark starts, and what changes endpoints when it is told to.

use std::io::{BufRead as _, stdin};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use prometheus_client::registry::Registry;
use sdn_cluster::Snapshot;
use sdn_dns::forward::{CachingForwarder, ForwardConfig, UpstreamSource};
use sdn_dns::{Config, Sockets};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::ENDPOINTS;
use super::cluster::{Cluster, slice};
use super::server::{CLIENTS, addresses, query};
use crate::bench::placement::stay_on;
use crate::bench::statistics::Sequence;

/// A change that is not seen after this is lost.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two changes.
const PAUSE: Duration = Duration::from_micros(500);

/// What is served.
#[derive(Debug, Clone, clap::Args)]
pub struct Serve {
    /// Services of the cluster
    #[arg(long)]
    services: usize,
    /// Port on 127.0.0.1
    #[arg(long)]
    port: u16,
    /// Who knows all other names
    #[arg(long)]
    upstream: SocketAddr,
}

/// What changes came to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// From the new snapshot to the first answer with it, in microseconds, the way of query and answer included.
    pub microseconds: Vec<f64>,
    /// Answers that were neither the old nor the new one.
    pub wrong: u64,
}

/// Serves until standard input ends. Each line is answered with a line: `change N` with what came of N changes.
pub fn run(arguments: &Serve) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.context("start a runtime")?;
    let _entered = runtime.enter();
    let mut snapshot = Cluster { services: arguments.services }.snapshot();
    let (sender, receiver) = watch::channel(snapshot.clone());
    let forwarder = CachingForwarder::new(forward_config(arguments.upstream), &mut Registry::default());
    let address: SocketAddr = (Ipv4Addr::LOCALHOST, arguments.port).into();
    let sockets = Sockets {
        udp: vec![UdpSocket::bind(address).with_context(|| format!("bind UDP to {address}"))?],
        tcp: vec![TcpListener::bind(address).with_context(|| format!("bind TCP to {address}"))?],
    };
    let config = Config { addresses: vec![IpAddr::V4(Ipv4Addr::new(172, 30, 0, 10))], ..Config::default() };
    let handle = sdn_dns::start(config, sockets, receiver, forwarder.context("start the forwarder")?);
    let handle = handle.context("start the resolver")?;
    for line in stdin().lock().lines() {
        let line = line.context("read what is wanted")?;
        match line.strip_prefix("change ") {
            Some(count) => {
                let count = count.parse().with_context(|| format!("understand {line:?}"))?;
                let seen = change(address, &mut snapshot, &sender, arguments.services, count)?;
                println!("{}", serde_json::to_string(&seen)?);
            }
            None => println!("ready: {}", handle.is_ready()),
        }
    }
    Ok(())
}

/// The upstream's TTL of zero means zero, as it does for the others.
fn forward_config(upstream: SocketAddr) -> ForwardConfig {
    let mut config = ForwardConfig::new(UpstreamSource::Fixed(vec![upstream]));
    config.cache.positive.min = Duration::ZERO;
    config.cache.positive.max = Duration::from_secs(3600);
    config
}

/// Changes an endpoint of a headless Service, waits until the answer has it, and so on, `count` times.
fn change(
    server: SocketAddr,
    snapshot: &mut Snapshot,
    sender: &watch::Sender<Snapshot>,
    services: usize,
    count: usize,
) -> Result<Seen> {
    // Where other clients are: their processor is not the server's.
    let changes = thread::scope(|scope| {
        let work = scope.spawn(|| {
            stay_on(CLIENTS)?;
            let (mut sequence, mut seen) = (Sequence::new(7), Seen::default());
            let headless: Vec<usize> = (0..services).filter(|number| Cluster::is_headless(*number)).collect();
            for number in 0..count {
                let service = headless[sequence.below(headless.len())];
                // Addresses that no other endpoint has, of a change that no other is.
                let fresh =
                    |index: usize| Ipv4Addr::from_bits(0x0ac8_0000 + ((number * ENDPOINTS + index) % 0xf_ffff) as u32);
                let new = slice(service, (0..ENDPOINTS).map(fresh));
                let old = snapshot.slices.insert(new.key(), Arc::new(new.clone()));
                snapshot.generation += 1;
                let old = sorted(old.iter().flat_map(|slice| &slice.endpoints).map(|endpoint| endpoint.address));
                let wanted = sorted(new.endpoints.iter().map(|endpoint| endpoint.address));
                let since = Instant::now();
                sender.send_replace(snapshot.clone());
                seen.wrong += wait(server, service, &old, &wanted, since)?;
                seen.microseconds.push(since.elapsed().as_secs_f64() * 1e6);
                thread::sleep(PAUSE);
            }
            Ok(seen)
        });
        work.join()
    });
    changes.map_err(|_| anyhow::anyhow!("the thread that changes endpoints panicked"))?
}

/// Asks until the answer is the new one; returns how many were neither the new nor the old.
fn wait(server: SocketAddr, service: usize, old: &[IpAddr], new: &[IpAddr], since: Instant) -> Result<u64> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("open a client's socket")?;
    socket.connect(server).context("connect a client's socket")?;
    socket.set_read_timeout(Some(Duration::from_secs(1))).context("limit a client's wait")?;
    let (query, mut buffer, mut wrong) = (query(&Cluster::domain(service)), [0; 1500], 0);
    while since.elapsed() < PATIENCE {
        socket.send(&query).context("ask")?;
        let length = socket.recv(&mut buffer).context("wait for an answer")?;
        let found = sorted(addresses(&buffer[..length], query.len())?.into_iter().map(IpAddr::V4));
        if found == new {
            return Ok(wrong);
        }
        wrong += u64::from(found != old);
    }
    bail!("the endpoints of {} are not seen after {PATIENCE:?}", Cluster::domain(service))
}

fn sorted(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = addresses.collect();
    addresses.sort_unstable();
    addresses
}

//! Connections to pods: one that is idle, or a new one; another endpoint when one does not answer.

pub mod health;
mod idle;

use std::{io, net::SocketAddr, sync::Arc, time::Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::{io::AsyncWriteExt, net::TcpSocket, time::timeout};
use tokio_rustls::TlsConnector;

pub use idle::{Key, Upstreams};

use crate::{
    balance::{BalanceInput, choose_other},
    forward::Begun,
    http1::Framing,
    proxy_protocol,
    server::Core,
    session::{Answer, Client, Connection, End, Exchange, Io, Side, Stop},
    table::{AppProtocol, Backend, Endpoint, Termination},
    tls::Destination,
};

/// A connection to a pod that is ready for a request.
pub enum Upstream {
    /// Of HTTP/1.1: this request's own until it has ended.
    Http1(Io, Key),
    /// Of HTTP/2: others use it too.
    Http2(SendRequest<Bytes>, Key),
}

/// Connections that are tried after the first (HAProxy's `retries`).
const RETRIES: u8 = 3;
/// Before the same endpoint is tried again.
const TURNAROUND: std::time::Duration = std::time::Duration::from_secs(1);

/// Finds a place at an endpoint and a connection to it. Where one cannot be connected to, others are tried first; the
/// same one again after a second.
pub async fn open(core: &Core, client: &Client, exchange: &mut Exchange) -> Result<Upstream, Stop> {
    let backend = exchange.backend.clone().ok_or_else(|| Stop::from(no_server()))?;
    let mut failed: Vec<usize> = Vec::new();
    loop {
        let place = enter(core, client, exchange, &backend, &mut failed).await?;
        let endpoint = &backend.endpoints[place];
        match connect(core, client, exchange, &backend, endpoint).await {
            Ok(upstream) => {
                exchange.times.connected = Some(Instant::now());
                return Ok(upstream);
            }
            Err(error) => {
                tracing::debug!(%error, endpoint = %endpoint.address, route = %backend.id, "connecting to a pod");
                endpoint.state.counters.connection_errors.add(1);
                backend.state.counters.connection_errors.add(1);
                exchange.guards.endpoint = None;
                exchange.reason = Some(format!("connecting to {}: {error}", endpoint.address));
                failed.push(place);
            }
        }
        if exchange.retries == RETRIES {
            return Err(no_server().into());
        }
        exchange.retries += 1;
    }
}

/// Chooses an endpoint that was not tried, or after a while one that was, and waits for a place at it.
async fn enter(
    core: &Core,
    client: &Client,
    exchange: &mut Exchange,
    backend: &Backend,
    failed: &mut Vec<usize>,
) -> Result<usize, Stop> {
    let begun = Instant::now();
    loop {
        let input = BalanceInput {
            client: client.connection.client.ip(),
            cookie: exchange.cookie.as_deref(),
            random: core.random(),
        };
        let Some(place) = choose_other(backend, &input, &|place| failed.contains(&place)) else {
            if failed.is_empty() {
                return Err(no_server().into());
            }
            failed.clear();
            tokio::time::sleep(TURNAROUND).await;
            continue;
        };
        let state = &backend.endpoints[place].state;
        if let Some(active) = state.try_enter(backend.config.pod_connections) {
            exchange.redispatched |= exchange.endpoint.is_some_and(|before| before != place);
            exchange.endpoint = Some(place);
            exchange.guards.endpoint = Some(active);
            exchange.times.queued =
                Some(if exchange.retries == 0 { exchange.times.head.max(begun) } else { Instant::now() });
            return Ok(place);
        }
        let left = backend.config.timeouts.connect.saturating_sub(begun.elapsed());
        // Another may take the place that becomes free, so this one looks again.
        if timeout(left, state.freed.notified()).await.is_err() {
            return Err(Answer::new(503, End::QueueTimeout).because("no endpoint had a place in time").into());
        }
    }
}

async fn connect(
    core: &Core,
    client: &Client,
    exchange: &mut Exchange,
    backend: &Backend,
    endpoint: &Endpoint,
) -> io::Result<Upstream> {
    let secure = match backend.termination {
        Termination::Reencrypt => {
            let service = format!("{}.{}.svc", endpoint.service, backend.id.namespace);
            let upgrades = exchange.request.upgrade.is_some();
            Some(core.destinations.find(&backend.destination, &service, upgrades)?)
        }
        _ => None,
    };
    if backend.termination == Termination::Passthrough {
        let opened = open_new(core, &client.connection, backend, endpoint, None);
        let (io, _) = timeout(backend.config.timeouts.connect, opened).await.map_err(|_| io::ErrorKind::TimedOut)??;
        return Ok(Upstream::Http1(io, Key { address: endpoint.address, tls: Key::UNSHARED }));
    }
    let key = Key { address: endpoint.address, tls: secure.as_ref().map_or(0, |secure| secure.id) };
    let proxied = backend.config.send_proxy.is_some();
    if !proxied {
        if let Some(requests) = core.http2.find(&key, exchange.times.begun) {
            exchange.reused = true;
            return Ok(Upstream::Http2(requests, key));
        }
        if let Some(io) = core.upstreams.take(&key, exchange.times.begun, exchange.is_repeatable()) {
            exchange.reused = true;
            return Ok(Upstream::Http1(io, key));
        }
    }
    exchange.reused = false;
    let opened = open_new(core, &client.connection, backend, endpoint, secure);
    let (io, is_h2) = timeout(backend.config.timeouts.connect, opened).await.map_err(|_| io::ErrorKind::TimedOut)??;
    // A connection that told its pod about one client is not used for another.
    let key = if proxied { Key { address: endpoint.address, tls: Key::UNSHARED } } else { key };
    match is_h2 {
        true => Ok(Upstream::Http2(core.http2.begin(&key, io, exchange.times.begun).await?, key)),
        false => Ok(Upstream::Http1(io, key)),
    }
}

/// A new connection, and whether HTTP/2 is to be spoken on it.
async fn open_new(
    core: &Core,
    client: &Connection,
    backend: &Backend,
    endpoint: &Endpoint,
    secure: Option<Destination>,
) -> io::Result<(Io, bool)> {
    let mut stream = dial(core, endpoint.address).await?;
    if let Some(version) = backend.config.send_proxy {
        let mut header = Vec::new();
        proxy_protocol::write(&mut header, version, client.client, client.local);
        stream.write_all(&header).await?;
    }
    let Some(secure) = secure else { return Ok((Io::Plain(stream), endpoint.protocol == AppProtocol::H2c)) };
    let stream = TlsConnector::from(Arc::clone(&secure.config)).connect(secure.name, stream).await?;
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok((Io::Client(Box::new(stream)), is_h2))
}

/// Connects, from the router's own address if it has one of that family.
pub async fn dial(core: &Core, address: SocketAddr) -> io::Result<tokio::net::TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = core.shared.sources.iter().find(|source| source.is_ipv4() == address.is_ipv4()) {
        // The port is chosen with the destination known: one port of ours serves many of theirs.
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(SocketAddr::new(*source, 0))?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Keeps the connection of a request that has ended, if it may be used again. `sent`: the request went out whole.
pub fn finish(core: &Core, begun: Begun, exchange: &Exchange, sent: bool) {
    let Side::Http1(side) = begun.side else { return };
    let response = &exchange.response;
    let keeps = sent
        && begun.key.tls != Key::UNSHARED
        && response.persistence.persists(response.version)
        && response.framing != Framing::Close
        && side.buffer.is_empty();
    if keeps {
        core.upstreams.give(begun.key, side.io, Instant::now());
    }
}

/// The connection has ended: no other request is to find it.
pub fn forget(core: &Core, begun: &Begun) {
    if matches!(begun.side, Side::Http2(_)) {
        core.http2.forget(&begun.key);
    }
}

fn no_server() -> Answer {
    Answer::new(503, End::NoServer)
}

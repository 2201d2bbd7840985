//! Connections are taken on the sockets that were handed over, as many as the operator allows, and say who they are for
//! with the PROXY protocol if a load balancer stands before us.

use std::{
    future::poll_fn,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_local,
};

use crate::{
    journey, proxy_protocol,
    server::{Buffer, Core, Deadline},
    session::{Connection, Io},
};

/// What a listening socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// Requests without TLS (:80).
    Http,
    /// TLS (:443).
    Https,
}

/// A connection that was just taken.
pub struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    door: Door,
    at: Instant,
    permit: Option<OwnedSemaphorePermit>,
}

/// A connection whose client is known.
pub struct Identified {
    /// The connection.
    pub io: Io,
    /// What was read of it.
    pub buffer: Buffer,
    /// Who, and where to.
    pub connection: Connection,
    /// What it came in by.
    pub door: Door,
    /// Counts it, until dropped.
    pub permit: Option<OwnedSemaphorePermit>,
}

/// After an error that says that descriptors or memory are short.
const PAUSE: Duration = Duration::from_millis(50);

/// Takes connections until draining begins.
pub async fn accept(core: Rc<Core>, listener: TcpListener, door: Door, limit: Option<Arc<Semaphore>>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                core.shared.stats.accepted(door);
                let (place, waits, at) = (core.place(), limit.clone(), Instant::now());
                spawn_local(async move {
                    let permit = match waits {
                        Some(limit) => limit.acquire_owned().await.ok(),
                        None => None,
                    };
                    journey::connection(&place, Accepted { stream, peer, door, at, permit }).await;
                });
                // What is beyond the limit waits in the socket's queue, as with HAProxy's maxconn; but for one or two that
                // were taken, and are served in their turn even if draining begins.
                if let Some(limit) = &limit {
                    drop(limit.acquire().await);
                }
            }
            Err(error) => {
                tracing::warn!(%error, ?door, "accepting a connection; trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Finds out who the client is. `None`: the connection is of no use.
pub async fn identify(core: &Core, accepted: Accepted) -> Option<Identified> {
    let Accepted { stream, peer, door, at, permit } = accepted;
    let local = stream.local_addr().ok()?;
    stream.set_nodelay(true).ok()?;
    let mut connection =
        Connection { client: canonical(peer), local: canonical(local), accepted: at, tls: None, permit: None };
    let (mut io, mut buffer) = (Io::Plain(stream), Buffer::new(&core.pool));
    let settings = core.table().settings.clone();
    if settings.proxy_protocol {
        let read = read_proxied(&mut io, &mut buffer, at, settings.inspect_delay).await;
        match read {
            Ok(proxied) => {
                buffer.consume(proxied.length);
                if let Some((client, local)) = proxied.addresses {
                    (connection.client, connection.local) = (canonical(client), canonical(local));
                }
            }
            Err(fault) => {
                tracing::debug!(%peer, fault, "refusing a connection");
                core.shared.stats.denied(door);
                return None;
            }
        }
    }
    Some(Identified { io, buffer, connection, door, permit })
}

/// Reads a PROXY header, which must come first and soon.
async fn read_proxied(
    io: &mut Io,
    buffer: &mut Buffer,
    now: Instant,
    patience: Duration,
) -> Result<proxy_protocol::Proxied, String> {
    let mut deadline = Deadline::new(now, patience);
    loop {
        if !buffer.is_empty()
            && let Some(proxied) = proxy_protocol::read(buffer.filled()).map_err(|fault| fault.to_string())?
        {
            return Ok(proxied);
        }
        if !more(io, buffer, &mut deadline).await {
            return Err("the connection ended, or took too long, within its PROXY header".to_owned());
        }
    }
}

/// Reads more; false when there is no more, or not in time.
pub(crate) async fn more(io: &mut Io, buffer: &mut Buffer, deadline: &mut Deadline) -> bool {
    poll_fn(|cx| match buffer.poll_fill(cx, io) {
        Poll::Ready(count) => Poll::Ready(count.is_ok_and(|count| count > 0)),
        Poll::Pending => deadline.poll_passed(cx).map(|()| false),
    })
    .await
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

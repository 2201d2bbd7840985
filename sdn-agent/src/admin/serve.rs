//! HTTP/1 over a unix socket and over TCP: few connections, small buffers, slow peers cut off.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

/// Connections served at the same time by one door; more wait in its queue.
const CONNECTIONS: usize = 32;
/// A request's head has to be there by then; an idle connection is closed.
const HEAD: Duration = Duration::from_secs(10);
/// hyper's buffers: its own default grows to 400 KiB a connection.
const BUFFER: usize = 16 * 1024;
/// After an accept that failed, as for want of descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// A socket that connections come from.
trait Door: Send + Sync {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection; `None` if it was refused.
    fn accept(&self) -> impl Future<Output = io::Result<Option<Self::Stream>>> + Send;
}

impl Door for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<Option<UnixStream>> {
        let (stream, _) = self.accept().await?;
        Ok(admit(&stream).then_some(stream))
    }
}

impl Door for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<Option<TcpStream>> {
        Ok(Some(self.accept().await?.0))
    }
}

/// Serves a unix socket to root and to this process' own user, until it is dropped.
pub async fn serve_unix(listener: UnixListener, router: Router) {
    serve(listener, router).await;
}

/// Serves a TCP socket to everybody, until it is dropped.
pub async fn serve_tcp(listener: TcpListener, router: Router) {
    serve(listener, router).await;
}

async fn serve(door: impl Door, router: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
        match Door::accept(&door).await {
            Ok(Some(stream)) => drop(connections.spawn(connection(stream, router.clone(), place))),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection<S>(stream: S, router: Router, place: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(BUFFER);
    let served = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
    drop(place);
}

/// Only root and our own user may ask: mode 0600 says it already, unless somebody changed it.
fn admit(stream: &UnixStream) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == 0 || peer.uid() == own => true,
        Ok(peer) => {
            tracing::warn!(uid = peer.uid(), pid = ?peer.pid(), "refused a user at the admin socket");
            false
        }
        Err(error) => {
            tracing::warn!(%error, "cannot tell who connects to the admin socket");
            false
        }
    }
}

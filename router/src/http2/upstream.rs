//! Connections to pods that speak HTTP/2: one for each pod and core, which all requests share.

use std::{
    cell::RefCell,
    collections::HashMap,
    future::poll_fn,
    io,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Uri};

use super::{Stream, fields};
use crate::{connect::Key, session::Io};

/// The connections of a core.
#[derive(Default)]
pub struct Upstreams {
    open: Rc<RefCell<HashMap<Key, Open>>>,
}

struct Open {
    requests: SendRequest<Bytes>,
    used: Instant,
    /// Which of the connections under this key.
    number: u64,
}

/// What a stream may send ahead of what is read of it, and a connection likewise.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// How long one is kept that nobody uses.
const PATIENCE: Duration = Duration::from_secs(30);

// === impl Upstreams ===

impl Upstreams {
    /// The connection to use for another request, if one is open.
    pub fn find(&self, key: &Key, now: Instant) -> Option<SendRequest<Bytes>> {
        let mut open = self.open.borrow_mut();
        let found = open.get_mut(key)?;
        found.used = now;
        Some(found.requests.clone())
    }

    /// Forgets a connection that takes no more requests.
    pub fn forget(&self, key: &Key) {
        self.open.borrow_mut().remove(key);
    }

    /// Forgets those that were not used for long: each ends when its last request has.
    pub fn sweep(&self, now: Instant) {
        self.open.borrow_mut().retain(|_, open| now.saturating_duration_since(open.used) < PATIENCE);
    }

    /// Begins to speak HTTP/2 on a new connection, and keeps it for others.
    pub async fn begin(&self, key: &Key, io: Io, now: Instant) -> io::Result<SendRequest<Bytes>> {
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .enable_push(false)
            .max_header_list_size(64 * 1024);
        let (requests, connection) = builder.handshake(io).await.map_err(io::Error::other)?;
        let number = self.open.borrow().get(key).map_or(0, |open| open.number + 1);
        let (all, own) = (self.open.clone(), key.clone());
        // It ends when the pod closes, or when the last request has ended and nobody can begin another.
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an HTTP/2 connection to a pod has ended");
            }
            let mut all = all.borrow_mut();
            if all.get(&own).is_some_and(|open| open.number == number) {
                all.remove(&own);
            }
        });
        if key.tls != Key::UNSHARED {
            self.open.borrow_mut().insert(key.clone(), Open { requests: requests.clone(), used: now, number });
        }
        Ok(requests)
    }
}

/// Sends a request whose head was written as that of HTTP/1; `ended`: without content.
pub async fn send(
    mut requests: SendRequest<Bytes>,
    head: &[u8],
    authority: &str,
    is_secure: bool,
    ended: bool,
) -> io::Result<Stream> {
    let request = request_of(head, authority, is_secure)?;
    poll_fn(|cx| requests.poll_ready(cx)).await.map_err(io::Error::other)?;
    let (response, stream) = requests.send_request(request, ended).map_err(io::Error::other)?;
    Ok(Stream::to_pod(response, stream, ended))
}

fn request_of(head: &[u8], authority: &str, is_secure: bool) -> io::Result<Request<()>> {
    let line = memchr::memchr(b'\n', head).map_or(head.len(), |end| end + 1);
    let mut words = head[..line].split(|byte| *byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let uri = Uri::builder().scheme(if is_secure { "https" } else { "http" }).authority(authority);
    let uri = uri.path_and_query(target).build().map_err(io::Error::other)?;
    let mut request = Request::new(());
    *request.method_mut() = http::Method::from_bytes(method).map_err(io::Error::other)?;
    *request.uri_mut() = uri;
    *request.version_mut() = http::Version::HTTP_2;
    *request.headers_mut() = fields(&head[line..]);
    Ok(request)
}

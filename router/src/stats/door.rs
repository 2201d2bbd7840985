//! The port for health, metrics and statistics: HTTP and TLS on the same socket, told apart by the first byte.

use std::{
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use tokio::{
    net::{TcpListener, TcpStream},
    task::spawn_local,
};
use zeroize::Zeroizing;

use super::{metrics, report};
use crate::{
    http1::Known,
    listen::more,
    respond,
    server::{Buffer, Core, Deadline, Place},
    session::{Client, Connection, Exchange, Io, Next, Unopened},
    sni::{self, Terminated},
    tls,
};

/// Says whether who has this bearer token may see statistics: the agent asks the API server (TokenReview, then
/// SubjectAccessReview for `get` on `routers/metrics` of route.openshift.io).
pub type Authorize = Arc<dyn Fn(String) -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// For a connection's first byte, and between requests.
const PATIENCE: Duration = Duration::from_secs(30);
const PAGE: &str = include_str!("page.html");
const TEXT: &str = "text/plain; charset=utf-8";

/// An answer of this port.
struct Told {
    status: u16,
    content_type: &'static str,
    body: String,
}

/// Answers until the runtime ends.
pub async fn serve(core: Rc<Core>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let place = core.place();
                spawn_local(async move { connection(&place, stream).await });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection for statistics; trying again");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// `None` when the connection is of no use.
async fn connection(place: &Place, stream: TcpStream) -> Option<()> {
    let core = place.core();
    let now = Instant::now();
    let connection = Connection {
        client: stream.peer_addr().ok()?,
        local: stream.local_addr().ok()?,
        accepted: now,
        tls: None,
        permit: None,
    };
    let (mut io, mut buffer) = (Io::Plain(stream), Buffer::new(&core.pool));
    let mut deadline = Deadline::new(now, PATIENCE);
    if !more(&mut io, &mut buffer, &mut deadline).await {
        return None;
    }
    let is_tls = buffer.filled().first() == Some(&22);
    let unopened = match io {
        Io::Plain(stream) if is_tls => {
            let certificate = core.table().default_certificate.clone()?;
            let first = buffer.filled().to_vec();
            let name = sni::read(&first).ok().flatten().and_then(|hello| hello.name);
            tls::terminate(
                core,
                Terminated { stream, first, connection, name, certificate, authority: None, permit: None },
            )
            .await?
        }
        io => Unopened { io, buffer, connection, permit: None },
    };
    let Unopened { io, buffer, connection, .. } = unopened;
    let mut client = Client::http1(io, buffer, Rc::new(connection), now, PATIENCE);
    requests(place, &mut client).await;
    client.close().await;
    Some(())
}

async fn requests(place: &Place, client: &mut Client) {
    let core = place.core();
    while let Next::Request(mut exchange) = client.next(place).await {
        let told = answer(core, &exchange).await;
        let keeps = client.keeps(core, &exchange);
        let challenge = [
            ("Content-Type", told.content_type),
            ("Cache-Control", "no-store"),
            ("WWW-Authenticate", "Basic realm=\"router\""),
        ];
        let fields = if told.status == 401 { &challenge[..] } else { &challenge[..2] };
        let taken = respond::say(client, &mut exchange, told.status, fields, told.body.as_bytes(), keeps).await;
        core.recycle(exchange);
        if !taken || !keeps {
            return;
        }
        client.deadline.set(Instant::now(), PATIENCE);
    }
}

async fn answer(core: &Core, exchange: &Exchange) -> Told {
    let (head, request) = (&exchange.head, &exchange.request);
    if !matches!(request.method.of(head), b"GET" | b"HEAD") {
        return Told::text(405, "only GET\n");
    }
    let path = request.path(head);
    match path {
        "/healthz" | "/_______internal_router_healthz" => return Told::text(200, "ok\n"),
        "/healthz/ready" => return ready(core),
        _ => {}
    }
    if !is_allowed(core, exchange).await {
        return Told::text(401, "statistics are for who may see them: a user with a password, or a token\n");
    }
    let query = request.target.text(head).split_once('?').map_or("", |(_, query)| query);
    match path {
        "/metrics" => Told { status: 200, content_type: "text/plain; version=0.0.4", body: metrics::write(core) },
        "/stats.json" => Told { status: 200, content_type: "application/json", body: report::json(core, query) },
        "/" | "/stats" => Told { status: 200, content_type: "text/html; charset=utf-8", body: PAGE.to_owned() },
        _ => Told::text(404, "there are /healthz, /healthz/ready, /metrics and /stats\n"),
    }
}

/// As the reference's probes are: each check in a line, and what fails fails all.
fn ready(core: &Core) -> Told {
    let shared = &core.shared;
    let checks = [
        ("backend-http", true),
        ("has-synced", shared.is_synced.load(Relaxed)),
        ("process-running", !shared.is_stopping.load(Relaxed) && !core.is_draining()),
    ];
    let lines: String = checks
        .iter()
        .map(|(name, ok)| format!("[{}]{name} {}\n", if *ok { '+' } else { '-' }, if *ok { "ok" } else { "failed" }))
        .collect();
    let ok = checks.iter().all(|(_, ok)| *ok);
    Told::text(
        if ok { 200 } else { 500 },
        &(lines + if ok { "healthz check passed\n" } else { "healthz check failed\n" }),
    )
}

async fn is_allowed(core: &Core, exchange: &Exchange) -> bool {
    let fields = exchange.request.fields.iter().filter(|field| field.known == Known::Other);
    let mut named = fields.filter(|field| field.name.of(&exchange.head).eq_ignore_ascii_case(b"authorization"));
    let Some((scheme, given)) = named.next().and_then(|field| field.value.text(&exchange.head).split_once(' ')) else {
        return false;
    };
    if scheme.eq_ignore_ascii_case("bearer") {
        let Some(authorize) = &core.shared.authorize else { return false };
        return authorize(given.trim().to_owned()).await;
    }
    let Some(user) = core.table().settings.stats_user.clone() else { return false };
    let expected = Zeroizing::new(STANDARD.encode(format!("{}:{}", user.name, *user.password)));
    scheme.eq_ignore_ascii_case("basic") && is_equal(given.trim().as_bytes(), expected.as_bytes())
}

/// Takes the same time wherever they differ.
fn is_equal(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |different, (one, other)| different | (one ^ other)) == 0
}

// === impl Told ===

impl Told {
    fn text(status: u16, body: &str) -> Self {
        Self { status, content_type: TEXT, body: body.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares() {
        assert!(is_equal(b"same", b"same") && !is_equal(b"same", b"sane") && !is_equal(b"same", b"sam"));
        assert!(is_equal(b"", b"") && !is_equal(b"", b"a"));
    }
}

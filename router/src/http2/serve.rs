//! Clients that speak HTTP/2.

use std::{cell::Cell, future::poll_fn, rc::Rc, task::Context, time::Instant};

use bytes::Bytes;
use h2::{RecvStream, ext::Protocol, server::SendResponse};
use http::{Method, Request};

use super::{Stream, write_fields};
use crate::{
    http1::{Known, Refusal, field},
    journey,
    server::{Core, Deadline, Place},
    session::{Answer, Client, Connection, End, Exchange, Io, Side},
};

/// Streams that a client may have open at a time: HAProxy's `tune.h2.max-concurrent-streams`.
const MAX_STREAMS: u32 = 100;
/// Streams that a client may have reset while we still work on them, before the connection is ended (CVE-2023-44487).
const MAX_RESETS: usize = 50;
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 512 * 1024;

/// Serves the requests of a connection until it ends.
pub async fn serve(io: Io, connection: Rc<Connection>, place: &Place) {
    if let Err(error) = serve_streams(io, connection, place).await {
        tracing::debug!(%error, "a client's HTTP/2 connection has ended");
    }
}

async fn serve_streams(io: Io, connection: Rc<Connection>, place: &Place) -> Result<(), h2::Error> {
    let core = place.core();
    let mut streams = builder(core).handshake::<_, Bytes>(io).await?;
    let patience = core.table().settings.keep_alive_timeout;
    let mut idle = Deadline::new(Instant::now(), patience);
    let (mut is_ending, mut requests) = (false, 0);
    let in_flight = Rc::new(Cell::new(0_usize));
    loop {
        let accepted = poll_fn(|cx: &mut Context<'_>| {
            if !is_ending && core.is_draining() {
                is_ending = true;
                streams.graceful_shutdown();
            }
            let accepted = streams.poll_accept(cx);
            if accepted.is_pending() {
                place.sleep(cx.waker());
                if !is_ending && in_flight.get() == 0 && idle.poll_passed(cx).is_ready() {
                    is_ending = true;
                    streams.graceful_shutdown();
                    return streams.poll_accept(cx).map(|stream| stream.transpose());
                }
            }
            accepted.map(|stream| stream.transpose())
        });
        let Some((request, respond)) = accepted.await? else { return Ok(()) };
        let now = Instant::now();
        idle.set(now, patience);
        requests += 1;
        let (core, connection, in_flight) = (core.clone(), connection.clone(), in_flight.clone());
        in_flight.update(|count| count + 1);
        tokio::task::spawn_local(async move {
            serve_one(&core, connection, request, respond, requests, now).await;
            in_flight.update(|count| count - 1);
        });
    }
}

fn builder(core: &Core) -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(core.shared.head_limit as u32)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(64 * 1024)
        .max_concurrent_reset_streams(MAX_RESETS)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(Some(MAX_RESETS))
        .enable_connect_protocol();
    builder
}

async fn serve_one(
    core: &Rc<Core>,
    connection: Rc<Connection>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    requests: u64,
    now: Instant,
) {
    let mut exchange = core.exchange(now);
    let refused = read_head(&mut exchange, &request).err();
    let stream = Stream::from_client(request.into_body(), respond);
    let deadline = Deadline::new(now, core.table().settings.client_timeout);
    let mut client = Client { side: Side::Http2(Box::new(stream)), connection, deadline, requests };
    match refused {
        None => drop(journey::request(core, &mut client, &mut exchange).await),
        Some(refusal) => {
            let answer = Answer::new(refusal.status(), End::BadRequest).because(refusal);
            journey::refuse(core, &mut client, &mut exchange, answer).await;
        }
    }
    core.recycle(exchange);
}

/// Writes a head as that of HTTP/1, and has it read by the codec.
fn read_head(exchange: &mut Exchange, request: &Request<RecvStream>) -> Result<(), Refusal> {
    let out = &mut exchange.head;
    let protocol = request.extensions().get::<Protocol>();
    let is_tunnel = request.method() == Method::CONNECT;
    if is_tunnel && protocol.is_none_or(|protocol| protocol.as_str() != "websocket") {
        return Err(Refusal::Connect);
    }
    let uri = request.uri();
    let method = if is_tunnel { "GET" } else { request.method().as_str() };
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
    if let Some(authority) = authority {
        field(out, b"host", authority);
    }
    // Host beside an equal :authority says nothing new; another one makes the request malformed (RFC 9113 §8.3.1).
    let host = request.headers().get(http::header::HOST).map(|host| host.as_bytes());
    let is_same = host.zip(authority).is_some_and(|(host, authority)| host.eq_ignore_ascii_case(authority));
    write_fields(out, request.headers(), |known| known == Known::Host && is_same);
    if is_tunnel {
        // The pod is asked as HTTP/1 does (RFC 8441 §5): the key only has to be one.
        let upgrade = b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
        out.extend_from_slice(upgrade);
    } else if !request.body().is_end_stream() && !request.headers().contains_key(http::header::CONTENT_LENGTH) {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
    let end = out.len();
    exchange.is_tunnel = is_tunnel;
    exchange.request.parse(&mut exchange.head, 0, end)
}

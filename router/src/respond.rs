//! Responses: waited for while the request goes out, and brought to the client with what the route adds; or the
//! router's own where there is none.

mod compress;
mod page;
mod tunnel;

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

pub use compress::Squeeze;
pub use page::{Pages, refuse, say};
pub use tunnel::tunnel;

use crate::{
    config::Settings,
    forward::{Scene, act, adjust_case, write_length},
    http1::{self, Framing, Known, Refusal, Scan, Scanned, Version, field},
    server::Core,
    session::{Answer, Client, End, Exchange, PassFault, Side, Stop, poll_pass},
    table::{Backend, Termination},
};

/// What is known of a request's way out while its response is waited for.
#[derive(Debug, Default)]
pub struct Progress {
    /// The request is with the pod, or as much as it takes.
    request_done: bool,
    /// The pod took no more of it: its connection is of no use after the response.
    request_failed: bool,
    scan: Scan,
    /// Bytes that had moved when the deadline was last set, and whose turn it was then.
    seen: (u64, Turn),
}

/// Whom the next byte is awaited of, or taken by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Turn {
    #[default]
    Nobody,
    Client,
    Pod,
}

/// How long each side may be silent.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// The client.
    pub client: Duration,
    /// The pod.
    pub pod: Duration,
}

/// How the wait for a response ended.
pub enum Awaited {
    /// Its head is in the exchange; interim ones were passed on.
    Head,
    /// The connection was one that the pod had closed: the request may be sent once more.
    Stale,
}

// === impl Progress ===

impl Progress {
    /// Somebody has as long as they have from now on, if something moved or it has become another's turn.
    #[inline]
    fn note(&mut self, client: &mut Client, moved: u64, turn: Turn, patience: Patience) {
        if self.seen != (moved, turn) {
            self.seen = (moved, turn);
            client.deadline.set(Instant::now(), if turn == Turn::Client { patience.client } else { patience.pod });
        }
    }
}

/// Sends the request and waits for the head of its response.
pub async fn await_head(
    core: &Core,
    client: &mut Client,
    pod: &mut Side,
    exchange: &mut Exchange,
    progress: &mut Progress,
    patience: Patience,
) -> Result<Awaited, Stop> {
    client.deadline.set(exchange.times.connected.unwrap_or(exchange.times.head), patience.pod);
    progress.seen.1 = Turn::Pod;
    loop {
        let limit = core.shared.head_limit;
        match poll_fn(|cx| poll_head(cx, client, pod, exchange, progress, limit, patience)).await {
            Ok(()) => {}
            Err(stop) => return if is_stale(exchange, &stop) { Ok(Awaited::Stale) } else { Err(stop) },
        }
        exchange.times.answered = Some(Instant::now());
        if !exchange.response.is_interim() {
            return Ok(Awaited::Head);
        }
        pass_interim(client, exchange).await?;
        progress.scan = Scan::default();
    }
}

/// A pooled connection that ended before a byte of the response came.
fn is_stale(exchange: &Exchange, stop: &Stop) -> bool {
    let gone = matches!(stop, Stop::Answer(answer) if answer.end == End::ServerGone);
    gone && exchange.reused && exchange.is_repeatable() && exchange.answer.is_empty()
}

fn poll_head(
    cx: &mut Context<'_>,
    client: &mut Client,
    pod: &mut Side,
    exchange: &mut Exchange,
    progress: &mut Progress,
    limit: usize,
    patience: Patience,
) -> Poll<Result<(), Stop>> {
    let mut waits_for_client = false;
    if !progress.request_done {
        match poll_pass(cx, &mut client.side, pod, &mut exchange.up) {
            Poll::Ready(Ok(())) => progress.request_done = true,
            // A pod that answers before it has read everything may close: what it said is still to be had.
            Poll::Ready(Err(PassFault::To(_))) => (progress.request_done, progress.request_failed) = (true, true),
            Poll::Ready(Err(PassFault::From(error))) => return Poll::Ready(Err(client_gone(error))),
            Poll::Ready(Err(PassFault::Refused(refusal))) => return Poll::Ready(Err(bad_body(refusal))),
            Poll::Pending => waits_for_client = client.side.content().is_empty(),
        }
    }
    let head = match pod {
        Side::Http1(side) => poll_http1_head(cx, side, exchange, &mut progress.scan, limit),
        Side::Http2(stream) => {
            let head = stream.poll_answer(cx, &mut exchange.answer);
            head.map(|head| head.map_err(|error| server_gone(&error)))
        }
    };
    if head.is_ready() {
        return head.map(|head| head.and_then(|()| parse(pod, exchange)));
    }
    if let Side::Http2(stream) = &mut client.side
        && stream.poll_cancelled(cx).is_ready()
    {
        return Poll::Ready(Err(Stop::Abort(End::ClientGone)));
    }
    let turn = if waits_for_client { Turn::Client } else { Turn::Pod };
    progress.note(client, exchange.up.written, turn, patience);
    ready!(client.deadline.poll_passed(cx));
    Poll::Ready(Err(match waits_for_client {
        true => Answer::new(408, End::ClientTimeout).closing().into(),
        false => Answer::new(504, End::ServerTimeout).into(),
    }))
}

/// Reads until the head is whole, and takes it out.
fn poll_http1_head(
    cx: &mut Context<'_>,
    side: &mut crate::session::Http1,
    exchange: &mut Exchange,
    scan: &mut Scan,
    limit: usize,
) -> Poll<Result<(), Stop>> {
    loop {
        if !side.buffer.is_empty() {
            match scan.scan(side.buffer.filled(), limit) {
                Ok(Scanned::Partial) => {}
                Ok(Scanned::Complete { start, end }) => {
                    exchange.answer.clear();
                    exchange.answer.extend_from_slice(side.buffer.part(start..end));
                    side.buffer.consume(end);
                    return Poll::Ready(Ok(()));
                }
                Err(refusal) => return Poll::Ready(Err(bad_response(refusal))),
            }
        }
        match ready!(side.buffer.poll_fill(cx, &mut side.io)) {
            Ok(0) => return Poll::Ready(Err(server_gone(&io::ErrorKind::UnexpectedEof.into()))),
            Ok(_) => {}
            Err(error) => return Poll::Ready(Err(server_gone(&error))),
        }
    }
}

fn parse(pod: &mut Side, exchange: &mut Exchange) -> Result<(), Stop> {
    let to_head = exchange.request.is_head(&exchange.head);
    let Exchange { answer, response, request, .. } = exchange;
    response.parse(answer, 0, answer.len(), to_head).map_err(bad_response)?;
    if response.status == 101 && request.upgrade.is_none() {
        return Err(Answer::new(502, End::BadResponse).because("the pod upgrades though nobody asked").into());
    }
    match pod {
        Side::Http1(side) => side.begin_body(response.framing).map_err(bad_response),
        Side::Http2(_) => Ok(()),
    }
}

/// Brings an interim response to a client that knows them (not HTTP/1.0).
async fn pass_interim(client: &mut Client, exchange: &mut Exchange) -> Result<(), Stop> {
    if exchange.request.version == Version::Http10 {
        return Ok(());
    }
    let Exchange { answer, response, down, .. } = exchange;
    down.clear();
    http1::status_line(&mut down.before, Version::Http11, response.status, response.reason.of(answer));
    for one in response.fields.iter().filter(|one| !one.known.is_hop_by_hop()) {
        field(&mut down.before, one.name.of(answer), one.value.of(answer));
    }
    down.before.extend_from_slice(b"\r\n");
    let gone = |_| Stop::Abort(End::ClientGone);
    if let Side::Http2(stream) = &mut client.side {
        return stream.send_interim(response.status, &down.before).map_err(gone);
    }
    poll_fn(|cx| client.side.poll_send(cx, down, &[], false, &[])).await.map(drop).map_err(gone)
}

/// Writes the head of the response that the client gets; whether its connection is used on.
pub fn begin(settings: &Settings, client: &Client, exchange: &mut Exchange, keeps: bool) -> bool {
    let Some(backend) = exchange.backend.clone() else { return false };
    let is_http1 = matches!(client.side, Side::Http1(_));
    let secured = client.connection.tls.as_deref();
    let cookie = new_cookie(exchange, &backend);
    exchange.status = exchange.response.status;
    let Exchange { head, answer, response, request, down, .. } = exchange;
    let squeezes = compress::is_wanted(&settings.compression, request, head, response, answer);
    down.clear();
    let out = &mut down.before;
    let framing = if squeezes { Framing::Chunked } else { framing_to(request.version, response.framing) };
    let keeps = keeps && framing != Framing::Close;
    http1::status_line(out, request.version, response.status, response.reason.of(answer));
    write_fields(out, response, answer, backend.config.hsts.as_deref().filter(|_| secured.is_some()), squeezes);
    if let Some(cookie) = cookie {
        field(out, b"Set-Cookie", cookie.as_bytes());
        if is_cacheable(response) {
            field(out, b"Cache-Control", b"private");
        }
    }
    let client_certificate = secured.and_then(|secured| secured.client_certificate.as_deref());
    act(out, &backend.config.response_headers, &Scene { client_certificate });
    match framing {
        Framing::Chunked if is_http1 => field(out, b"Transfer-Encoding", b"chunked"),
        Framing::Length(length) => write_length(out, length),
        // What a HEAD request or 304 is told about; and that there is nothing, where there could be.
        Framing::Empty => match response.length {
            Some(length) if response.status >= 200 && response.status != 204 => write_length(out, length),
            _ => {}
        },
        Framing::Chunked | Framing::Close => {}
    }
    if is_http1 {
        write_connection(out, request, response.status, response.value(answer, Known::Upgrade), keeps);
        adjust_case(out, &settings.header_case);
    }
    out.extend_from_slice(b"\r\n");
    down.chunked = is_http1 && framing == Framing::Chunked;
    exchange.squeeze = squeezes.then(Box::default);
    keeps
}

/// The pod's fields, but for those of its connection, and what the router says in their place.
fn write_fields(out: &mut Vec<u8>, response: &http1::Response, answer: &[u8], hsts: Option<&str>, squeezes: bool) {
    let nominated = |name: &[u8]| response.nominated.iter().any(|span| span.of(answer).eq_ignore_ascii_case(name));
    for one in &response.fields {
        let (name, value) = (one.name.of(answer), one.value.of(answer));
        let dropped = one.known.is_hop_by_hop()
            || (one.known == Known::StrictTransportSecurity && hsts.is_some())
            || (!response.nominated.is_empty() && nominated(name));
        match one.known {
            _ if dropped => {}
            Known::Etag if squeezes => field(out, name, &compress::weak(value)),
            _ => field(out, name, value),
        }
    }
    if squeezes {
        field(out, b"Content-Encoding", b"gzip");
        field(out, b"Vary", b"Accept-Encoding");
    }
    if let Some(hsts) = hsts {
        field(out, b"Strict-Transport-Security", hsts.as_bytes());
    }
}

/// How a body is framed for the client: HTTP/1.0 knows no chunks, and what ends with the pod's connection need not end
/// the client's.
fn framing_to(version: Version, framing: Framing) -> Framing {
    match (framing, version) {
        (Framing::Close | Framing::Chunked, Version::Http10) => Framing::Close,
        (Framing::Close, Version::Http11) => Framing::Chunked,
        (framing, _) => framing,
    }
}

/// What the client is told about its connection.
fn write_connection(out: &mut Vec<u8>, request: &http1::Request, status: u16, upgrade: Option<&[u8]>, keeps: bool) {
    match (status, upgrade) {
        (101, Some(upgrade)) => {
            field(out, b"Connection", b"Upgrade");
            field(out, b"Upgrade", upgrade);
        }
        _ if !keeps && request.version == Version::Http11 => field(out, b"Connection", b"close"),
        _ if keeps && request.version == Version::Http10 => field(out, b"Connection", b"keep-alive"),
        _ => {}
    }
}

/// The affinity cookie, if the client has to be told another than it sent.
fn new_cookie(exchange: &Exchange, backend: &Backend) -> Option<String> {
    let wanted = backend.config.cookie.as_ref().filter(|_| backend.termination != Termination::Passthrough)?;
    let endpoint = exchange.chosen()?;
    let has_it = exchange.cookie.as_deref() == Some(&*endpoint.cookie);
    (!has_it && exchange.response.status != 101).then(|| wanted.set(&endpoint.cookie))
}

/// A cache might keep it, with the cookie in it (HAProxy's `nocache`).
fn is_cacheable(response: &http1::Response) -> bool {
    response
        .fields
        .iter()
        .any(|field| matches!(field.known, Known::CacheControl | Known::Expires | Known::Etag | Known::LastModified))
}

/// Brings the response to the client, while what is left of the request goes on. Whether the request went out whole.
pub async fn until_end(
    client: &mut Client,
    pod: &mut Side,
    exchange: &mut Exchange,
    progress: &mut Progress,
    patience: Patience,
) -> Result<bool, Stop> {
    if exchange.status == 101 {
        return send_switch(client, exchange).await.map(|()| true);
    }
    if let Side::Http2(stream) = &mut client.side {
        let ended = pod.is_last() && pod.content().is_empty() && pod.trailers().is_empty();
        let sent = stream.send_head(exchange.status, &exchange.down.before, ended);
        sent.map_err(|_| Stop::Abort(End::ClientGoneLate))?;
        exchange.down.written += exchange.down.before.len() as u64;
        exchange.down.before.clear();
    }
    poll_fn(|cx| poll_end(cx, client, pod, exchange, progress, patience)).await?;
    Ok(progress.request_done && !progress.request_failed)
}

/// The head after which the connection is a tunnel: for HTTP/2 that is a 200 (RFC 8441 §5).
async fn send_switch(client: &mut Client, exchange: &mut Exchange) -> Result<(), Stop> {
    let gone = |_| Stop::Abort(End::ClientGoneLate);
    if let Side::Http2(stream) = &mut client.side {
        return stream.send_head(200, &exchange.down.before, false).map_err(gone);
    }
    poll_fn(|cx| client.side.poll_send(cx, &mut exchange.down, &[], false, &[])).await.map(drop).map_err(gone)
}

fn poll_end(
    cx: &mut Context<'_>,
    client: &mut Client,
    pod: &mut Side,
    exchange: &mut Exchange,
    progress: &mut Progress,
    patience: Patience,
) -> Poll<Result<(), Stop>> {
    if !progress.request_done
        && let Poll::Ready(result) = poll_pass(cx, &mut client.side, pod, &mut exchange.up)
    {
        match result {
            Ok(()) => progress.request_done = true,
            Err(PassFault::To(_)) => (progress.request_done, progress.request_failed) = (true, true),
            Err(PassFault::From(_) | PassFault::Refused(_)) => {
                return Poll::Ready(Err(Stop::Abort(End::ClientGoneLate)));
            }
        }
    }
    let passed = match &mut exchange.squeeze {
        None => poll_pass(cx, pod, &mut client.side, &mut exchange.down),
        Some(squeeze) => squeeze.poll_pass(cx, pod, &mut client.side, &mut exchange.down),
    };
    match passed {
        Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
        Poll::Ready(Err(PassFault::To(_))) => return Poll::Ready(Err(Stop::Abort(End::ClientGoneLate))),
        Poll::Ready(Err(PassFault::From(_))) => return Poll::Ready(Err(Stop::Abort(End::ServerGoneLate))),
        Poll::Ready(Err(PassFault::Refused(_))) => return Poll::Ready(Err(Stop::Abort(End::BadResponse))),
        Poll::Pending => {}
    }
    let waits_for_pod = pod.content().is_empty();
    let turn = if waits_for_pod { Turn::Pod } else { Turn::Client };
    progress.note(client, exchange.down.written + exchange.up.written, turn, patience);
    ready!(client.deadline.poll_passed(cx));
    Poll::Ready(Err(Stop::Abort(if waits_for_pod { End::ServerGoneLate } else { End::ClientGoneLate })))
}

fn client_gone(error: io::Error) -> Stop {
    tracing::debug!(%error, "a client went away within its request");
    Stop::Abort(End::ClientGone)
}

fn bad_body(refusal: Refusal) -> Stop {
    Answer::new(refusal.status(), End::BadRequest).closing().because(refusal).into()
}

fn bad_response(refusal: Refusal) -> Stop {
    Answer::new(502, End::BadResponse).because(refusal).into()
}

fn server_gone(error: &io::Error) -> Stop {
    Answer::new(502, End::ServerGone).because(format!("the pod closed before its response: {error}")).into()
}

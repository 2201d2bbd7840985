//! Requests as pods get them: the client's, with what its route and the router set, take away and add.

mod edit;

use std::{io::Write, net::IpAddr};

use crate::{
    config::{Forwarded, RouteConfig, Settings},
    connect::{Key, Upstream},
    cookie,
    http1::{self, Field, Framing, Known, field},
    http2,
    server::{Buffer, Core},
    session::{Answer, Client, End, Exchange, Http1, Side, Stop},
    table::{Backend, Termination},
};

pub(crate) use edit::{Scene, act, adjust_case};

/// The pod's side of a request, and what its connection is kept under.
pub struct Begun {
    /// The side.
    pub side: Side,
    /// For keeping the connection.
    pub key: Key,
}

/// Begins to send a request: its head is written, or handed to HTTP/2. `None`: the connection had ended before, so another
/// one is to be taken.
pub async fn begin(
    core: &Core,
    settings: &Settings,
    client: &Client,
    exchange: &mut Exchange,
    upstream: Upstream,
) -> Result<Option<Begun>, Stop> {
    let Some(backend) = exchange.backend.clone() else { return Err(Answer::new(503, End::NoServer).into()) };
    exchange.up.clear();
    write_head(settings, client, exchange, &backend);
    match upstream {
        Upstream::Http1(io, key) => {
            exchange.up.chunked = exchange.request.framing == Framing::Chunked;
            Ok(Some(Begun { side: Side::Http1(Http1::new(io, Buffer::new(&core.pool))), key }))
        }
        Upstream::Http2(requests, key) => {
            let authority = exchange.request.host.text(&exchange.head);
            let is_secure = backend.termination == Termination::Reencrypt;
            let ended = exchange.request.framing.is_empty();
            match http2::send(requests, &exchange.up.before, authority, is_secure, ended).await {
                Ok(stream) => Ok(Some(Begun { side: Side::Http2(Box::new(stream)), key })),
                Err(error) => {
                    core.http2.forget(&key);
                    if exchange.reused {
                        return Ok(None);
                    }
                    Err(Answer::new(502, End::ServerGone).because(error).into())
                }
            }
        }
    }
}

/// Writes the head of the request that a pod gets.
fn write_head(settings: &Settings, client: &Client, exchange: &mut Exchange, backend: &Backend) {
    let Exchange { head, request, up, .. } = exchange;
    let (config, out) = (&*backend.config, &mut up.before);
    let target = request.target.of(head);
    match &config.rewrite {
        Some(rewrite) => {
            let path = rewrite.apply(request.path(head));
            let query = memchr::memchr(b'?', target).map_or(&b""[..], |at| &target[at..]);
            http1::request_line(out, request.method.of(head), &[path.as_bytes(), query].concat());
        }
        None => http1::request_line(out, request.method.of(head), target),
    }
    let is_secure = client.connection.tls.is_some();
    // Only the router says X-SSL: without TLS always, with it unless the operator wants it otherwise.
    let strips_ssl = !is_secure || settings.mutual_tls.strips_headers;
    let nominated = |name: &[u8]| request.nominated.iter().any(|span| span.of(head).eq_ignore_ascii_case(name));
    for one in &request.fields {
        let name = one.name.of(head);
        let dropped = one.known.is_hop_by_hop()
            || (one.known.is_client_certificate() && strips_ssl)
            || (config.forwarded == Forwarded::Replace && one.known.is_about_the_client())
            || (!request.nominated.is_empty() && one.known != Known::Host && nominated(name));
        if dropped {
            continue;
        }
        match (one.known, &config.cookie) {
            (Known::Cookie, Some(own)) => write_cookie(out, name, one.value.of(head), &own.name),
            _ => field(out, name, one.value.of(head)),
        }
    }
    if let Some(secured) = &client.connection.tls {
        out.extend_from_slice(&secured.client_fields);
    }
    write_framing(out, request.framing, &request.fields);
    write_hops(out, request, head);
    write_forwarded(out, config, client, request.host.of(head), &request.fields);
    let scene =
        Scene { client_certificate: client.connection.tls.as_ref().and_then(|tls| tls.client_certificate.as_deref()) };
    act(out, &config.request_headers, &scene);
    if config.adjust_case {
        adjust_case(out, &settings.header_case);
    }
    out.extend_from_slice(b"\r\n");
}

/// Without the cookie that is between the client and the router.
fn write_cookie(out: &mut Vec<u8>, name: &[u8], value: &[u8], own: &str) {
    match std::str::from_utf8(value).ok().map(|text| cookie::strip(text, own)) {
        Some(Some(rest)) => field(out, name, rest.as_bytes()),
        Some(None) => {}
        // Not text, so the cookie that is looked for cannot be told from what surrounds it.
        None => field(out, name, value),
    }
}

fn write_framing(out: &mut Vec<u8>, framing: Framing, fields: &[Field]) {
    match framing {
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::Length(length) => write_length(out, length),
        // An empty body that was announced is announced: some servers want it of POST.
        Framing::Empty if fields.iter().any(|field| field.known == Known::ContentLength) => write_length(out, 0),
        Framing::Empty | Framing::Close => {}
    }
}

pub(crate) fn write_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    http1::decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

/// What holds for the connection to the pod.
fn write_hops(out: &mut Vec<u8>, request: &http1::Request, head: &[u8]) {
    let mut te = request.fields.iter().filter(|field| field.known == Known::Te);
    if te.any(|field| http1::elements(field.value.of(head)).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))) {
        field(out, b"TE", b"trailers");
        field(out, b"Connection", if request.upgrade.is_some() { b"TE, Upgrade" } else { b"TE" });
    } else if request.upgrade.is_some() {
        field(out, b"Connection", b"Upgrade");
    }
    if let Some(upgrade) = request.upgrade {
        field(out, b"Upgrade", upgrade.of(head));
    }
}

/// Who the client is, in the mode of the route (reference: set-forwarded-headers).
fn write_forwarded(out: &mut Vec<u8>, config: &RouteConfig, client: &Client, host: &[u8], fields: &[Field]) {
    if config.forwarded == Forwarded::Never {
        return;
    }
    let connection = &client.connection;
    let has = |known| fields.iter().any(|field| field.known == known);
    let wants = |known| config.forwarded != Forwarded::IfNone || !has(known);
    let ip = connection.client.ip().to_canonical();
    let proto = if connection.tls.is_some() { "https" } else { "http" };
    if wants(Known::XForwardedFor) {
        line(out, format_args!("X-Forwarded-For: {ip}\r\n"));
    }
    if wants(Known::XForwardedHost) {
        field(out, b"X-Forwarded-Host", host);
    }
    if wants(Known::XForwardedPort) {
        line(out, format_args!("X-Forwarded-Port: {}\r\n", connection.local.port()));
    }
    if wants(Known::XForwardedProto) {
        field(out, b"X-Forwarded-Proto", proto.as_bytes());
    }
    if connection.tls.as_ref().is_some_and(|tls| tls.is_h2) && wants(Known::XForwardedProtoVersion) {
        field(out, b"X-Forwarded-Proto-Version", b"h2");
    }
    if wants(Known::Forwarded) {
        match ip {
            IpAddr::V4(ip) => line(out, format_args!("Forwarded: for={ip};host=")),
            IpAddr::V6(ip) => line(out, format_args!("Forwarded: for=\"[{ip}]\";host=")),
        }
        out.extend_from_slice(host);
        line(out, format_args!(";proto={proto}\r\n"));
    }
}

fn line(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a vector does not fail");
}

//! Whose a request is, and what its route demands of those who ask.

use std::sync::Arc;

use crate::{
    cookie,
    http1::Known,
    session::{Answer, Client, End, Exchange, Secured, Stop},
    table::{Backend, Sni, Table},
};

/// Finds the route of a request in the table and holds the client to it.
#[inline]
pub fn find(table: &Table, client: &Client, exchange: &mut Exchange) -> Result<(), Stop> {
    let secured = client.connection.tls.as_deref();
    let (host, path) = (exchange.host(), exchange.request.path(&exchange.head));
    let Some(backend) = table.route(host, path, secured.is_some()) else {
        if let Some(secured) = secured.filter(|secured| is_misdirected(table, secured, host)) {
            return Err(misdirected(secured, host));
        }
        let status = if table.settings.page_404.is_some() { 404 } else { 503 };
        return Err(Answer::new(status, End::NoServer).because("no route for this host and path").into());
    };
    if secured.is_none() && backend.redirects() {
        return Err(redirect(exchange));
    }
    if let Some(secured) = secured {
        check_connection(table, secured, &backend, host)?;
    }
    exchange.cookie = affinity(exchange, &backend);
    exchange.backend = Some(backend);
    hold(client, exchange)
}

/// Holds a client to its route's allow-list and limits.
#[inline]
pub fn hold(client: &Client, exchange: &mut Exchange) -> Result<(), Stop> {
    let Some(backend) = &exchange.backend else { return Ok(()) };
    let address = client.connection.client.ip();
    if !backend.config.allow.admits(address) {
        let reason = format!("{address} is not in the route's allow-list");
        return Err(Answer::new(403, End::Rule).because(reason).into());
    }
    exchange.guards.backend = Some(backend.state.enter());
    let now = exchange.times.begun;
    match backend.config.limits.as_ref().map(|limits| backend.state.limiter().admit(limits, address, now)) {
        Some(Err(limit)) => {
            Err(Answer::new(429, End::Rule).because(format!("{address} met the limit {limit:?}")).into())
        }
        Some(Ok(permit)) => {
            exchange.guards.permit = Some(permit);
            Ok(())
        }
        None => Ok(()),
    }
}

/// What the cookie of the route says, if the client sent it.
fn affinity(exchange: &Exchange, backend: &Backend) -> Option<String> {
    let wanted = backend.config.cookie.as_ref()?;
    let fields = exchange.request.fields.iter().filter(|field| field.known == Known::Cookie);
    let mut values = fields.filter_map(|field| std::str::from_utf8(field.value.of(&exchange.head)).ok());
    values.find_map(|value| cookie::find(value, &wanted.name)).map(str::to_owned)
}

/// To the same place over TLS.
fn redirect(exchange: &Exchange) -> Stop {
    let (host, target) = (exchange.request.host.text(&exchange.head), exchange.request.target.text(&exchange.head));
    let host = match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    };
    let slash = if target.starts_with('/') { "" } else { "/" };
    let target = if target == "*" { "" } else { target };
    let location = Some(format!("https://{host}{slash}{target}"));
    Answer { location, ..Answer::new(302, End::Rule) }.into()
}

/// Whether this connection may have requests for this route.
fn check_connection(table: &Table, secured: &Secured, backend: &Backend, host: &str) -> Result<(), Stop> {
    if is_misdirected(table, secured, host) {
        return Err(misdirected(secured, host));
    }
    let Some(wanted) = &backend.client_authority else { return Ok(()) };
    if secured.authority.as_ref() != Some(wanted) {
        return Err(misdirected(secured, host));
    }
    if wanted.is_required && secured.client_certificate.is_none() {
        return Err(Answer::new(403, End::Rule).because("the route wants a client certificate").into());
    }
    Ok(())
}

/// Browsers send requests for all names of a certificate on one connection of HTTP/2. Those whose own connection would be
/// shown another certificate, or go to a pod as it is, have to be sent on one of their own (RFC 9110 §15.5.20).
fn is_misdirected(table: &Table, secured: &Secured, host: &str) -> bool {
    if !secured.is_h2 || secured.name.as_deref() == Some(host) || secured.name.is_none() {
        return false;
    }
    match table.sni(host) {
        Some(Sni::Passthrough(_)) => true,
        Some(Sni::Terminate(own)) => !Arc::ptr_eq(&own, &secured.certificate) || !own.covers(host),
        None => false,
    }
}

fn misdirected(secured: &Secured, host: &str) -> Stop {
    let name = secured.name.as_deref().unwrap_or("no name");
    Answer::new(421, End::Rule).because(format!("{host} was asked for on a connection for {name}")).into()
}

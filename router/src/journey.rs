//! The journey of a connection and of its requests: each stage once, in order. A stage does its part and returns; none
//! calls the next.

use std::rc::Rc;

use crate::{
    admit, connect,
    connect::Upstream,
    forward, http2, listen, log,
    respond::{self, Awaited, Patience, Progress},
    route,
    server::{Buffer, Core, Place},
    session::{self, Answer, Client, Exchange, Next, Side, Stop},
    sni, tls,
};

/// What becomes of a client's connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It is used for the next one.
    Kept,
    /// It ends.
    Closed,
}

/// A connection, from its first byte to its last.
pub async fn connection(place: &Place, accepted: listen::Accepted) {
    let core = place.core();
    let Some(identified) = listen::identify(core, accepted).await else { return };
    let Some(destined) = sni::destination(core, identified).await else { return };
    let terminated = match destined {
        sni::Destined::Pod(passed) => return passthrough(core, passed).await,
        sni::Destined::Here(hello) => tls::terminate(core, hello).await,
        sni::Destined::Plain(opened) => Some(opened),
    };
    let Some(opened) = terminated else { return };
    match session::open(core, opened).await {
        Some(session::Opened::Http1(mut client)) => requests(place, &mut client).await,
        Some(session::Opened::Http2(io, connection)) => http2::serve(io, connection, place).await,
        None => {}
    }
}

/// A connection whose bytes go to a pod as they are.
async fn passthrough(core: &Rc<Core>, passed: sni::Passthrough) {
    let (mut client, mut exchange) = session::pass(core, passed);
    let result = passthrough_stages(core, &mut client, &mut exchange).await;
    if let Err(Stop::Abort(end)) = result {
        exchange.end = end;
    } else if let Err(Stop::Answer(answer)) = result {
        (exchange.end, exchange.reason) = (answer.end, answer.reason.or(exchange.reason.take()));
    }
    log::write(core, &client, &mut exchange);
    core.recycle(exchange);
}

async fn passthrough_stages(core: &Rc<Core>, client: &mut Client, exchange: &mut Exchange) -> Result<(), Stop> {
    route::hold(client, exchange)?;
    let upstream = connect::open(core, client, exchange).await?;
    let Upstream::Http1(io, _) = upstream else { return Ok(()) };
    let mut pod = Side::Http1(session::Http1::new(io, Buffer::new(&core.pool)));
    let settings = core.table().settings.clone();
    respond::tunnel(&settings, client, &mut pod, exchange).await
}

/// The requests of a connection with HTTP/1, one after another.
async fn requests(place: &Place, client: &mut Client) {
    let core = place.core();
    loop {
        let (exchange, after) = match client.next(place).await {
            Next::Request(mut exchange) => {
                let after = request(core, client, &mut exchange).await;
                (exchange, after)
            }
            Next::Refused(mut exchange, answer) => {
                refuse(core, client, &mut exchange, answer).await;
                (exchange, After::Closed)
            }
            Next::Closed => return,
        };
        core.recycle(exchange);
        if after == After::Closed {
            return client.close().await;
        }
    }
}

/// A request, from its head to the last byte of its response.
pub async fn request(core: &Rc<Core>, client: &mut Client, exchange: &mut Exchange) -> After {
    let after = match stages(core, client, exchange).await {
        Ok(after) => after,
        Err(Stop::Answer(answer)) => {
            let keeps = !answer.close && client.keeps(core, exchange);
            let taken = respond::refuse(core, client, exchange, &answer, keeps).await;
            if taken && keeps { After::Kept } else { After::Closed }
        }
        Err(Stop::Abort(end)) => {
            exchange.end = end;
            After::Closed
        }
    };
    log::write(core, client, exchange);
    after
}

/// A request that is none, or not to be taken.
pub async fn refuse(core: &Rc<Core>, client: &mut Client, exchange: &mut Exchange, answer: Answer) {
    respond::refuse(core, client, exchange, &answer, false).await;
    log::write(core, client, exchange);
}

async fn stages(core: &Rc<Core>, client: &mut Client, exchange: &mut Exchange) -> Result<After, Stop> {
    let table = core.table();
    admit::request(client, exchange)?;
    route::find(&table, client, exchange)?;
    let settings = table.settings.clone();
    drop(table);
    let patience = Patience { client: settings.client_timeout, pod: exchange.patience() };
    loop {
        // balance is a part of connect: another endpoint is chosen when one cannot be connected to.
        let upstream: Upstream = connect::open(core, client, exchange).await?;
        let Some(mut begun) = forward::begin(core, &settings, client, exchange, upstream).await? else { continue };
        let mut progress = Progress::default();
        match respond::await_head(core, client, &mut begun.side, exchange, &mut progress, patience).await? {
            Awaited::Stale => {
                connect::forget(core, &begun);
                continue;
            }
            Awaited::Head => {}
        }
        let keeps = client.keeps(core, exchange);
        let keeps = respond::begin(&settings, client, exchange, keeps);
        let sent = respond::until_end(client, &mut begun.side, exchange, &mut progress, patience).await?;
        if exchange.response.status == 101 {
            respond::tunnel(&settings, client, &mut begun.side, exchange).await?;
            return Ok(After::Closed);
        }
        connect::finish(core, begun, exchange, sent);
        return Ok(if keeps && sent { After::Kept } else { After::Closed });
    }
}

//! Connections that speak HTTP: requests are made of their bytes, one after another (HTTP/1) or beside each other
//! (HTTP/2), and refused where they are not requests.

mod exchange;
mod io;
mod side;

use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

pub use exchange::{Answer, Connection, End, Exchange, Guards, Secured, Stop, Times};
pub use io::{Io, Replay};
pub(crate) use side::trailer_fields;
pub use side::{Http1, PassFault, Sent, Side, Writer, poll_pass};

use tokio::sync::OwnedSemaphorePermit;

use crate::{
    http1::{Refusal, Scan, Scanned},
    listen::more,
    server::{Buffer, Core, Deadline, Place},
    sni::Passthrough,
};

/// A client: a connection with HTTP/1, or a stream of one with HTTP/2.
pub struct Client {
    /// Its side of requests.
    pub side: Side,
    /// What is known of its connection.
    pub connection: Rc<Connection>,
    /// What it waits for ends then.
    pub deadline: Deadline,
    /// Requests that the connection has had.
    pub requests: u64,
}

/// What a connection with HTTP/1 begins its next request with.
pub enum Next {
    /// A head was read, and parsed.
    Request(Box<Exchange>),
    /// Bytes that are no request, or too few for too long: to be answered, and the connection ends.
    Refused(Box<Exchange>, Answer),
    /// There is none.
    Closed,
}

/// A connection that HTTP is about to be spoken on.
pub struct Unopened {
    /// The connection.
    pub io: Io,
    /// What was read of it.
    pub buffer: Buffer,
    /// What is known of it.
    pub connection: Connection,
    /// Counts it, until dropped.
    pub permit: Option<OwnedSemaphorePermit>,
}

/// A connection whose HTTP is known.
pub enum Opened {
    /// HTTP/1.
    Http1(Client),
    /// HTTP/2.
    Http2(Io, Rc<Connection>),
}

/// What HTTP/2 begins with (RFC 9113 §3.4): no method of HTTP/1 is called like that.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What of a request is read and thrown away, so that the client reads why it was refused before its connection ends.
const LINGER: (Duration, usize) = (Duration::from_secs(1), 256 * 1024);

/// Finds out which HTTP a client speaks: by ALPN, else by what it says first. `None`: it says nothing.
pub async fn open(core: &Core, unopened: Unopened) -> Option<Opened> {
    let Unopened { mut io, mut buffer, connection, permit } = unopened;
    let settings = core.table().settings.clone();
    let connection = Rc::new(Connection { permit: permit.map(Rc::new), ..connection });
    if let Some(secured) = &connection.tls {
        if secured.is_h2 {
            return Some(Opened::Http2(io, connection));
        }
    } else if settings.http2 {
        let mut deadline = Deadline::new(connection.accepted, settings.request_timeout);
        while buffer.len() < PREFACE.len() && PREFACE.starts_with(buffer.filled()) {
            if !more(&mut io, &mut buffer, &mut deadline).await {
                return None;
            }
        }
        if buffer.filled().starts_with(PREFACE)
            && let Io::Plain(stream) = io
        {
            return Some(Opened::Http2(
                Io::Replay(Box::new(Replay::new(buffer.filled().to_vec(), stream))),
                connection,
            ));
        }
    }
    Some(Opened::Http1(Client::http1(io, buffer, connection, Instant::now(), settings.request_timeout)))
}

/// A connection whose bytes go to a pod as they are, as if it were one request.
pub fn pass(core: &Core, passed: Passthrough) -> (Client, Box<Exchange>) {
    let Passthrough { io, buffer, connection, backend, permit } = passed;
    let mut exchange = core.exchange(connection.accepted);
    exchange.times.head = Instant::now();
    exchange.backend = Some(backend);
    let patience = core.table().settings.client_timeout;
    let accepted = connection.accepted;
    let connection = Rc::new(Connection { permit: permit.map(Rc::new), ..connection });
    (Client::http1(io, buffer, connection, accepted, patience), exchange)
}

// === impl Client ===

impl Client {
    /// A client with HTTP/1, of whose bytes `buffer` was read.
    pub fn http1(io: Io, buffer: Buffer, connection: Rc<Connection>, now: Instant, patience: Duration) -> Self {
        let deadline = Deadline::new(now, patience);
        Self { side: Side::Http1(Http1::new(io, buffer)), connection, deadline, requests: 0 }
    }

    /// Waits for the next request's head. Idle, nothing is held but the connection itself.
    pub async fn next(&mut self, place: &Place) -> Next {
        let core = place.core().clone();
        let mut scan = Scan::default();
        if let Side::Http1(side) = &mut self.side
            && self.requests > 0
        {
            side.end_body();
            self.deadline.set(Instant::now(), core.table().settings.keep_alive_timeout);
        }
        let begun = poll_fn(|cx| self.poll_begun(cx, place, &core)).await;
        if !begun {
            return Next::Closed;
        }
        let now = Instant::now();
        let mut exchange = core.exchange(now);
        let timeout = core.table().settings.request_timeout;
        let limit = core.shared.head_limit;
        let head = match self.scan(&mut scan, limit) {
            // Nearly always all of it came at once: no timer is touched.
            Ok(Scanned::Partial) => {
                self.deadline.set(now, timeout);
                poll_fn(|cx| self.poll_head(cx, &mut scan, limit)).await
            }
            other => Head::from(other),
        };
        self.requests += 1;
        match head {
            Head::Whole { start, end } => self.parse(exchange, start, end),
            Head::Refused(refusal) => refused(exchange, refusal),
            Head::TooSlow => {
                exchange.times.head = Instant::now();
                Next::Refused(exchange, Answer::new(408, End::ClientTimeout).closing())
            }
            Head::Gone => Next::Closed,
        }
    }

    /// Whether bytes came before the connection ended, was idle too long, or is to end because of draining.
    fn poll_begun(&mut self, cx: &mut Context<'_>, place: &Place, core: &Core) -> Poll<bool> {
        let Side::Http1(side) = &mut self.side else { return Poll::Ready(false) };
        if !side.buffer.is_empty() {
            return Poll::Ready(true);
        }
        match side.buffer.poll_fill(cx, &mut side.io) {
            Poll::Ready(result) => return Poll::Ready(result.is_ok_and(|count| count > 0)),
            // A connection that has had no request yet may have one on its way.
            Poll::Pending if core.is_draining() && self.requests > 0 => return Poll::Ready(false),
            Poll::Pending => {}
        }
        place.sleep(cx.waker());
        ready!(self.deadline.poll_passed(cx));
        Poll::Ready(false)
    }

    /// Whether the connection may have another request after this one, as far as the client's side goes.
    pub fn keeps(&self, core: &Core, exchange: &Exchange) -> bool {
        let request = &exchange.request;
        request.persistence.persists(request.version) && !core.is_draining() && self.side.is_last()
    }

    /// Ends the connection so that what was sent last arrives: a reset would overtake it if there is more to read.
    pub async fn close(&mut self) {
        let Side::Http1(side) = &mut self.side else { return };
        let (patience, mut left) = LINGER;
        self.deadline.set(Instant::now(), patience);
        let deadline = &mut self.deadline;
        side.buffer.clear();
        poll_fn(|cx| {
            // What is not sent by then is lost.
            let _ = ready!(side.io.poll_end(cx));
            Poll::Ready(())
        })
        .await;
        poll_fn(|cx| {
            loop {
                match side.buffer.poll_fill(cx, &mut side.io) {
                    Poll::Ready(Ok(count)) if count > 0 && left > count => left -= count,
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return deadline.poll_passed(cx),
                }
                side.buffer.clear();
            }
        })
        .await;
    }

    fn scan(&mut self, scan: &mut Scan, limit: usize) -> Result<Scanned, Refusal> {
        match &self.side {
            Side::Http1(side) => scan.scan(side.buffer.filled(), limit),
            Side::Http2(_) => Ok(Scanned::Partial),
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, scan: &mut Scan, limit: usize) -> Poll<Head> {
        loop {
            let Side::Http1(side) = &mut self.side else { return Poll::Ready(Head::Gone) };
            match side.buffer.poll_fill(cx, &mut side.io) {
                Poll::Ready(Ok(count)) if count > 0 => {}
                Poll::Ready(_) => return Poll::Ready(Head::Gone),
                Poll::Pending if self.deadline.poll_passed(cx).is_ready() => return Poll::Ready(Head::TooSlow),
                Poll::Pending => return Poll::Pending,
            }
            match self.scan(scan, limit) {
                Ok(Scanned::Partial) => {}
                other => return Poll::Ready(Head::from(other)),
            }
        }
    }

    /// Takes the head out of the buffer, and begins the body.
    fn parse(&mut self, mut exchange: Box<Exchange>, start: usize, end: usize) -> Next {
        let Side::Http1(side) = &mut self.side else { return Next::Closed };
        let Exchange { head, request, .. } = &mut *exchange;
        head.extend_from_slice(side.buffer.part(start..end));
        side.buffer.consume(end);
        let parsed = request.parse(head, 0, end - start).and_then(|()| side.begin_body(request.framing));
        match parsed {
            Ok(()) => Next::Request(exchange),
            Err(refusal) => refused(exchange, refusal),
        }
    }
}

/// How the wait for a head ended.
enum Head {
    Whole { start: usize, end: usize },
    Refused(Refusal),
    TooSlow,
    Gone,
}

impl From<Result<Scanned, Refusal>> for Head {
    fn from(scanned: Result<Scanned, Refusal>) -> Self {
        match scanned {
            Ok(Scanned::Complete { start, end }) => Self::Whole { start, end },
            Ok(Scanned::Partial) => Self::Gone,
            Err(refusal) => Self::Refused(refusal),
        }
    }
}

fn refused(exchange: Box<Exchange>, refusal: Refusal) -> Next {
    Next::Refused(exchange, Answer::new(refusal.status(), End::BadRequest).closing().because(refusal))
}

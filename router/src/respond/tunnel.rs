//! Upgraded connections: bytes both ways, until both sides have ended.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll, ready},
    time::Instant,
};

use crate::{
    config::Settings,
    http1::Framing,
    session::{Client, End, Exchange, PassFault, Side, Stop, Writer, poll_pass},
};

/// One direction of a tunnel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Open,
    /// All was passed on; the end has to get out.
    Ending,
    Ended,
}

/// Passes bytes both ways. Each side may end before the other; then the other has little time to.
pub async fn tunnel(
    settings: &Settings,
    client: &mut Client,
    pod: &mut Side,
    exchange: &mut Exchange,
) -> Result<(), Stop> {
    let patience = exchange.backend.as_ref().map_or(settings.tunnel_timeout, |backend| backend.config.timeouts.tunnel);
    for side in [&mut client.side, pod] {
        if let Side::Http1(side) = side {
            side.begin_body(Framing::Close).map_err(|_| Stop::Abort(End::BadRequest))?;
        }
    }
    exchange.up.clear();
    let written = exchange.down.written;
    exchange.down.clear();
    exchange.down.written = written;
    client.deadline.set(Instant::now(), patience);
    let fin = (settings.server_fin_timeout, settings.client_fin_timeout);
    let (mut up, mut down, mut seen) = (Direction::Open, Direction::Open, 0);
    poll_fn(|cx| {
        let before = (up, down);
        let gone = poll_direction(cx, &mut client.side, pod, &mut exchange.up, &mut up);
        if let Poll::Ready(Err(_)) = gone {
            return Poll::Ready(Err(Stop::Abort(End::ClientGoneLate)));
        }
        if let Poll::Ready(Err(_)) = poll_direction(cx, pod, &mut client.side, &mut exchange.down, &mut down) {
            return Poll::Ready(Err(Stop::Abort(End::ServerGoneLate)));
        }
        if (up, down) == (Direction::Ended, Direction::Ended) {
            return Poll::Ready(Ok(()));
        }
        let moved = exchange.up.written + exchange.down.written;
        if moved != seen || before != (up, down) {
            seen = moved;
            let patience = match (up, down) {
                (Direction::Open, Direction::Open) => patience,
                (Direction::Open, _) => fin.1,
                _ => fin.0,
            };
            client.deadline.set(Instant::now(), patience);
        }
        ready!(client.deadline.poll_passed(cx));
        Poll::Ready(Err(Stop::Abort(End::ClientGoneLate)))
    })
    .await
}

fn poll_direction(
    cx: &mut Context<'_>,
    from: &mut Side,
    to: &mut Side,
    writer: &mut Writer,
    direction: &mut Direction,
) -> Poll<io::Result<()>> {
    if *direction == Direction::Open {
        match ready!(poll_pass(cx, from, to, writer)) {
            Ok(()) => *direction = Direction::Ending,
            Err(PassFault::From(error) | PassFault::To(error)) => return Poll::Ready(Err(error)),
            Err(PassFault::Refused(refusal)) => return Poll::Ready(Err(io::Error::other(refusal))),
        }
    }
    if *direction == Direction::Ending {
        if let Side::Http1(side) = to {
            ready!(side.io.poll_end(cx))?;
        }
        *direction = Direction::Ended;
    }
    Poll::Ready(Ok(()))
}

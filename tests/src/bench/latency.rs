//! TCP request and response: 64 bytes there, 64 bytes back, one at a time.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::contest::Pair;
use super::placement::{self, Processor};
use super::statistics::percentile;

/// Bytes of a request and of a response.
const MESSAGE: usize = 64;

/// How long one answer may take before the network counts as broken.
const PATIENCE: Duration = Duration::from_secs(5);

/// Round trips before it counts: sockets, caches and the processors' clocks settle.
const WARM_UP: usize = 1000;

/// Times of round trips, microseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latency {
    /// Half of them took no longer.
    pub median: f64,
    /// All but one of a hundred took no longer.
    pub p99: f64,
}

/// Makes so many round trips. Client and server are on processors of their own, or share one: then nobody has to be woken on
/// an idle processor, and what is left is the way itself.
pub fn measure(pair: &Pair, round_trips: usize, places: [Processor; 2]) -> Result<Latency> {
    let (client, server) = connect(pair).with_context(|| format!("connect to {}", pair.target))?;
    thread::scope(|scope| {
        let server = scope.spawn(move || {
            placement::stay_on(places[1])?;
            answer(server)
        });
        let client = scope.spawn(move || {
            placement::stay_on(places[0])?;
            ask(client, round_trips)
        });
        let asked = client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let answered = server.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let times = asked.with_context(|| format!("request and response with {}", pair.target))?;
        answered?;
        // There is at least one round trip.
        Ok(Latency {
            median: percentile(&times, 50.0).context("no round trips")?,
            p99: percentile(&times, 99.0).context("no round trips")?,
        })
    })
}

fn connect(pair: &Pair) -> Result<(TcpStream, TcpStream)> {
    let listener = pair.server.within(|| Ok(TcpListener::bind((pair.target, 0))?))?;
    let port = listener.local_addr()?.port();
    let client =
        pair.client.within(|| Ok(TcpStream::connect_timeout(&SocketAddr::new(pair.target, port), PATIENCE)?))?;
    let (server, _) = listener.accept()?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
    }
    Ok((client, server))
}

fn ask(mut stream: TcpStream, round_trips: usize) -> Result<Vec<f64>> {
    let mut message = [0; MESSAGE];
    let mut times = Vec::with_capacity(round_trips);
    for round_trip in 0..round_trips + WARM_UP {
        let start = Instant::now();
        stream.write_all(&message).context("send")?;
        stream.read_exact(&mut message).context("receive")?;
        if round_trip >= WARM_UP {
            times.push(start.elapsed().as_nanos() as f64 / 1000.0);
        }
    }
    Ok(times)
}

/// Answers until the client hangs up.
fn answer(mut stream: TcpStream) -> Result<()> {
    let mut message = [0; MESSAGE];
    while stream.read_exact(&mut message).is_ok() {
        stream.write_all(&message).context("answer")?;
    }
    Ok(())
}

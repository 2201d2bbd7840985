//! What happened: counted for the router, the route and the endpoint, and written as a line where access is logged.

mod format;

pub use format::{backend_name, server_name};

use std::{net::UdpSocket, os::unix::net::UnixDatagram, sync::Arc, time::Instant};

use format::Format;

use crate::{
    config::Settings,
    listen::Door,
    server::Core,
    session::{Client, End, Exchange},
    stats::Counters,
    table::Termination,
};

/// Takes a line.
pub type Sink = Arc<dyn Fn(&str) + Send + Sync>;

/// Where access is logged, and how.
pub struct Log {
    sinks: Vec<Sink>,
    format: Format,
    max_length: usize,
}

// === impl Log ===

impl Log {
    /// As the settings have it; `sink` takes lines besides.
    pub fn new(settings: &Settings, sink: Option<Sink>) -> Result<Self, String> {
        let format = Format::parse(settings.log_format.as_deref())?;
        let syslog = settings.log_address.as_deref().map(|address| syslog(address, settings)).transpose()?;
        Ok(Self { sinks: sink.into_iter().chain(syslog).collect(), format, max_length: settings.log_max_length })
    }

    /// Somebody reads it.
    pub fn is_on(&self) -> bool {
        !self.sinks.is_empty()
    }
}

/// Counts a request that has ended, and logs it.
pub fn write(core: &Core, client: &Client, exchange: &mut Exchange) {
    let now = Instant::now();
    let shared = &core.shared;
    let door = if client.connection.tls.is_some() || is_passthrough(exchange) { Door::Https } else { Door::Http };
    count(shared.stats.requests(door), exchange, now);
    if let Some(backend) = &exchange.backend {
        count(&backend.state.counters, exchange, now);
    }
    if let Some(endpoint) = exchange.chosen() {
        count(&endpoint.state.counters, exchange, now);
    }
    if shared.log.is_on() {
        let mut line = shared.log.format.line(core, client, exchange, now);
        if let Some((end, _)) = line.char_indices().find(|(at, _)| *at >= shared.log.max_length) {
            line.truncate(end);
        }
        shared.log.sinks.iter().for_each(|sink| sink(&line));
    }
}

fn is_passthrough(exchange: &Exchange) -> bool {
    exchange.backend.as_ref().is_some_and(|backend| backend.termination == Termination::Passthrough)
}

fn count(counters: &Counters, exchange: &Exchange, now: Instant) {
    let times = &exchange.times;
    counters.requests.add(1);
    counters.bytes_in.add(exchange.head.len() as u64 + exchange.up.written);
    counters.bytes_out.add(exchange.down.written);
    counters.retries.add(exchange.retries.into());
    counters.redispatches.add(exchange.redispatched.into());
    let class = usize::from(exchange.status / 100);
    counters.responses[if (1..=5).contains(&class) { class } else { 0 }].add(1);
    Counters::time(&counters.queue, times.queue());
    Counters::time(&counters.connect, times.connect());
    Counters::time(&counters.response, times.response());
    Counters::time(&counters.total, Some(now - times.begun));
    match exchange.end {
        End::Normal => {}
        End::ServerTimeout | End::ServerGone | End::BadResponse | End::ServerGoneLate => {
            counters.response_errors.add(1)
        }
        End::Rule | End::BadRequest if exchange.status >= 400 => counters.denied.add(1),
        _ => {}
    }
}

/// A sink that speaks syslog (RFC 3164, as HAProxy): to `host:port` over UDP, or a unix socket's path.
fn syslog(address: &str, settings: &Settings) -> Result<Sink, String> {
    let priority = facility(&settings.log_facility) * 8 + 6;
    let tag = format!("haproxy[{}]: ", std::process::id());
    let frame = move |line: &str| format!("<{priority}>{} {tag}{line}\n", format::syslog_time());
    if address.starts_with('/') {
        let (socket, path) = (UnixDatagram::unbound().map_err(|error| error.to_string())?, address.to_owned());
        socket.set_nonblocking(true).map_err(|error| error.to_string())?;
        // A log that nobody takes must not hold up requests.
        return Ok(Arc::new(move |line| drop(socket.send_to(frame(line).as_bytes(), &path))));
    }
    let with_port = if address.contains("]:") || address.matches(':').count() == 1 {
        address.to_owned()
    } else {
        format!("{address}:514")
    };
    let local = if with_port.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let open = || -> std::io::Result<UdpSocket> {
        let socket = UdpSocket::bind(local)?;
        socket.set_nonblocking(true)?;
        socket.connect(&with_port)?;
        Ok(socket)
    };
    let socket = open().map_err(|error| format!("ROUTER_SYSLOG_ADDRESS {address}: {error}"))?;
    Ok(Arc::new(move |line| drop(socket.send(frame(line).as_bytes()))))
}

/// The number of a facility (RFC 3164 §4.1.1); local1 for unknown ones.
fn facility(name: &str) -> u8 {
    const NAMES: [&str; 24] = [
        "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "auth2", "ftp", "ntp",
        "audit", "alert", "cron2", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
    ];
    NAMES.iter().position(|known| *known == name).unwrap_or(17) as u8
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("sinks", &self.sinks.len()).finish_non_exhaustive()
    }
}

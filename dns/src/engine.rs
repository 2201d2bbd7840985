//! What a message comes to, whichever way it came: an answer now, one later, or none.

mod elsewhere;

use crate::{
    answer::{Answerer, Outcome, Scratch},
    config::Clients,
    forward::Forwarder,
    index::Index,
    limit::Limiter,
    metrics::{Dropped, Observed, Shared, Stats, Transport, ZoneLabel},
    search::Search,
    wire::{Edns, MAX_TCP, Parsed, Query, failure, parse, rcode, rtype},
    zone::Zone,
};
use arc_swap::ArcSwap;
use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

pub(crate) use elsewhere::Later;

/// All that answers; shared by every thread and task.
#[derive(Debug)]
pub(crate) struct Engine<F> {
    pub(crate) answerer: Answerer,
    pub(crate) index: ArcSwap<Index>,
    pub(crate) forwarder: F,
    pub(crate) search: Option<Search>,
    pub(crate) clients: Arc<dyn Clients>,
    pub(crate) limiter: Option<Limiter>,
    pub(crate) shared: Arc<Shared>,
    /// Every query is logged.
    pub(crate) log_queries: AtomicBool,
}

/// A message and where it came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival<'a> {
    pub(crate) message: &'a [u8],
    pub(crate) client: IpAddr,
    pub(crate) transport: Transport,
    /// [`Limiter::now`] when it came, where there is a limiter.
    pub(crate) at: u64,
}

/// What became of a message.
#[derive(Debug)]
pub(crate) enum Handled {
    /// The response is written.
    Reply,
    /// There is none.
    Silence,
    /// Others have to be asked first.
    Later(Box<Later>),
}

/// What is needed again and again, kept so that nothing is allocated.
#[derive(Debug)]
pub(crate) struct Workspace {
    scratch: Scratch,
    inner: Vec<u8>,
    reply: Vec<u8>,
    zone: ZoneLabel,
}

impl<F: Forwarder> Engine<F> {
    /// Handles a message. A reply is in `out`.
    pub(crate) fn handle(
        &self,
        index: &Arc<Index>,
        arrival: Arrival<'_>,
        work: &mut Workspace,
        out: &mut Vec<u8>,
        stats: &Stats,
    ) -> Handled {
        if !self.clients.admits(arrival.client) {
            return dropped(stats, Dropped::Client);
        }
        if self.limiter.as_ref().is_some_and(|limiter| !limiter.admits(arrival.client, arrival.at)) {
            return dropped(stats, Dropped::Rate);
        }
        let query = match parse(arrival.message) {
            Parsed::Query(query) => query,
            Parsed::Fail { rcode, question_end, edns } => {
                work.zone = ZoneLabel::Root;
                failure(out, arrival.message, rcode, question_end, edns);
                let observed = Observed::failed(arrival.transport, arrival.client, arrival.message.len(), out);
                stats.observe(observed);
                return Handled::Reply;
            }
            Parsed::Drop => return dropped(stats, Dropped::Malformed),
        };
        let max_size = match arrival.transport {
            Transport::Udp => Edns::udp_limit(query.edns),
            Transport::Tcp => MAX_TCP,
        };
        let since = self.log_queries.load(Ordering::Relaxed).then(Instant::now);
        let handled = self.answer(index, &query, arrival.client, max_size, work, out);
        match handled {
            Handled::Later(mut later) => {
                later.arrived(arrival);
                Handled::Later(later)
            }
            handled => {
                let zone = self.zone_label(&query);
                work.zone = zone;
                stats.observe(Observed::answered(&arrival, &query, zone, out));
                if let Some(since) = since {
                    self.log(&arrival, &query, out, since.elapsed());
                }
                handled
            }
        }
    }

    /// Writes the answer to a query, if it can be had at once.
    fn answer(
        &self,
        index: &Arc<Index>,
        query: &Query<'_>,
        client: IpAddr,
        max_size: usize,
        work: &mut Workspace,
        out: &mut Vec<u8>,
    ) -> Handled {
        match self.answerer.answer(index, query, max_size, out, &mut work.scratch) {
            Outcome::Answered => Handled::Reply,
            Outcome::Missing => self.complete(index, query, client, max_size, work, out),
            Outcome::Alias(alias) => self.finish_alias(query, alias, max_size, work, out),
            Outcome::Elsewhere if query.rtype == rtype::ANY => {
                self.answerer.answer_any(query, max_size, out);
                Handled::Reply
            }
            Outcome::Elsewhere => {
                if self.forwarder.answer_cached(query.message, &query.question(), max_size, out) {
                    return Handled::Reply;
                }
                Handled::Later(Later::whole(max_size))
            }
        }
    }

    /// Whose names the metrics count a query to.
    pub(crate) fn zone_label(&self, query: &Query<'_>) -> ZoneLabel {
        match self.answerer.authority.zone_of(&query.name) {
            Zone::Elsewhere => ZoneLabel::Root,
            _ => ZoneLabel::Cluster,
        }
    }

    /// Logs a query, if that is wanted.
    pub(crate) fn log(&self, arrival: &Arrival<'_>, query: &Query<'_>, reply: &[u8], took: Duration) {
        if !self.log_queries.load(Ordering::Relaxed) {
            return;
        }
        let rcode = reply.get(3).map_or(rcode::SERVFAIL, |byte| u16::from(byte & 0xf));
        tracing::info!(
            target: "sdn_dns::query",
            client = %arrival.client,
            transport = arrival.transport.as_str(),
            name = %query.name,
            rtype = query.rtype,
            rcode,
            size = reply.len(),
            took_us = took.as_micros(),
            "query"
        );
    }

    /// The time for [`Arrival::at`].
    pub(crate) fn now(&self) -> u64 {
        self.limiter.as_ref().map_or(0, Limiter::now)
    }
}

fn dropped(stats: &Stats, reason: Dropped) -> Handled {
    stats.drop_query(reason);
    Handled::Silence
}

// === impl Workspace ===

impl Workspace {
    pub(crate) fn new() -> Self {
        Self { scratch: Scratch::new(), inner: Vec::new(), reply: Vec::new(), zone: ZoneLabel::Root }
    }

    /// Whose name the last query that was answered asked for.
    pub(crate) fn zone(&self) -> ZoneLabel {
        self.zone
    }
}

#[cfg(test)]
mod tests;

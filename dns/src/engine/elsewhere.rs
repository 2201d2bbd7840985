//! Questions whose answers are had elsewhere: whole, at the end of aliases, or at the end of a search path.

use super::{Arrival, Engine, Handled, Workspace};
use crate::{
    answer::{Alias, Outcome},
    forward::{Forwarder, Question},
    index::Index,
    metrics::{Observed, Transport},
    search::Searched,
    wire::{CLASS_IN, HEADER, Name, NameAt, Parsed, Query, Writer, flag, parse, rcode, splice, u16_at},
};
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Instant,
};

/// A query that is answered when others have answered theirs.
#[derive(Debug)]
pub(crate) struct Later {
    message: Vec<u8>,
    client: IpAddr,
    transport: Transport,
    since: Instant,
    max_size: usize,
    rest: Rest,
}

/// What is left to be asked.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "what it is in is in a box")]
enum Rest {
    /// The query as it is.
    Whole,
    /// Where aliases lead; the message so far.
    Alias(Alias, Vec<u8>),
    /// What a search path leads to, from this name on; else the name does not exist, as the message says.
    Search(Searched, usize, Vec<u8>),
}

/// What a reply means to a search path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Adopted {
    /// The name exists: the answer is written.
    Answer,
    /// It does not: the next one's turn.
    Missing,
    /// Nobody knows.
    Failed,
}

// === impl Engine ===

impl<F: Forwarder> Engine<F> {
    /// Completes the search path of the client for a name that does not exist, as `out` says.
    pub(super) fn complete(
        &self,
        index: &Arc<Index>,
        query: &Query<'_>,
        client: IpAddr,
        max_size: usize,
        work: &mut Workspace,
        out: &mut Vec<u8>,
    ) -> Handled {
        let Some(search) = &self.search else { return Handled::Reply };
        let own = self.clients.namespace(client);
        let Some(namespace) = own.as_ref().or_else(|| index.namespace_of(client)) else { return Handled::Reply };
        let Some(searched) = search.recognize(&self.answerer, index, &query.name, query.rtype, namespace) else {
            return Handled::Reply;
        };
        if let Some(name) = search.in_cluster(&self.answerer, index, &query.name, query.rtype, searched) {
            return match self.answerer.answer_as(index, query, &name, max_size, out, &mut work.scratch) {
                Outcome::Alias(alias) => self.finish_alias(query, alias, max_size, work, out),
                _ => Handled::Reply,
            };
        }
        let mut first = 0;
        while let Some((number, name)) = search.outside(&self.answerer, &query.name, searched, first) {
            first = number + 1;
            inner_query(query, &name, &mut work.inner);
            let size = inner_size(query, &name, max_size);
            let question = Question { name: name.wire(), rtype: query.rtype, class: CLASS_IN };
            if !self.forwarder.answer_cached(&work.inner, &question, size, &mut work.reply) {
                let rest = Rest::Search(searched, number, out.clone());
                return Handled::Later(Later::new(max_size, rest));
            }
            match self.adopt(query, &name, &work.reply, max_size, &mut work.inner) {
                Adopted::Answer => {
                    std::mem::swap(out, &mut work.inner);
                    return Handled::Reply;
                }
                Adopted::Missing => {}
                Adopted::Failed => return Handled::Reply,
            }
        }
        Handled::Reply
    }

    /// Writes the end of aliases, if it can be had at once; `out` has the aliases.
    pub(super) fn finish_alias(
        &self,
        query: &Query<'_>,
        alias: Alias,
        max_size: usize,
        work: &mut Workspace,
        out: &mut Vec<u8>,
    ) -> Handled {
        inner_query(query, &alias.name, &mut work.inner);
        let size = alias_size(&alias, out, max_size);
        let question = Question { name: alias.name.wire(), rtype: query.rtype, class: CLASS_IN };
        if !self.forwarder.answer_cached(&work.inner, &question, size, &mut work.reply) {
            return Handled::Later(Later::new(max_size, Rest::Alias(alias, out.clone())));
        }
        append(query, &alias, &work.reply, max_size, out);
        Handled::Reply
    }

    /// Answers a query that had to wait.
    pub(crate) async fn answer_later(&self, later: Later) -> Vec<u8> {
        let Later { message, client, transport, since, max_size, rest } = later;
        let Parsed::Query(query) = parse(&message) else { return Vec::new() };
        let out = match rest {
            Rest::Whole => self.forwarder.resolve(query.message, max_size).await,
            Rest::Alias(alias, mut out) => {
                let mut inner = Vec::new();
                inner_query(&query, &alias.name, &mut inner);
                let reply = self.forwarder.resolve(&inner, alias_size(&alias, &out, max_size)).await;
                append(&query, &alias, &reply, max_size, &mut out);
                out
            }
            Rest::Search(searched, first, missing) => {
                self.search_later(&query, searched, first, missing, max_size).await
            }
        };
        let arrival = Arrival { message: &message, client, transport, at: 0 };
        let observed = Observed::answered(&arrival, &query, self.zone_label(&query), &out);
        self.shared.stats.observe(observed);
        self.shared.stats.took(since.elapsed(), &[observed.zone]);
        self.log(&arrival, &query, &out, since.elapsed());
        out
    }

    /// The first that exists of what a search path leads to, from the name number `first` on; else `missing`.
    async fn search_later(
        &self,
        query: &Query<'_>,
        searched: Searched,
        mut first: usize,
        missing: Vec<u8>,
        max_size: usize,
    ) -> Vec<u8> {
        let Some(search) = &self.search else { return missing };
        let mut inner = Vec::new();
        while let Some((number, name)) = search.outside(&self.answerer, &query.name, searched, first) {
            first = number + 1;
            inner_query(query, &name, &mut inner);
            let reply = self.forwarder.resolve(&inner, inner_size(query, &name, max_size)).await;
            let mut out = Vec::new();
            match self.adopt(query, &name, &reply, max_size, &mut out) {
                Adopted::Answer => return out,
                Adopted::Missing => {}
                // That the first name does not exist is true: the client asks on by itself, and hears what is wrong.
                Adopted::Failed => break,
            }
        }
        missing
    }

    /// Writes that the name that was asked for is an alias of `name`, and what `reply` says of that.
    fn adopt(&self, query: &Query<'_>, name: &Name, reply: &[u8], max_size: usize, out: &mut Vec<u8>) -> Adopted {
        match u16_at(reply, 2).map(|flags| flags & flag::RCODE) {
            Some(rcode::NOERROR) => {}
            Some(rcode::NXDOMAIN) => return Adopted::Missing,
            _ => return Adopted::Failed,
        }
        let mut writer = Writer::new(out, query.head(), query.edns, max_size);
        let Some(at) = self.answerer.alias(&mut writer, NameAt::QUESTION, name.wire()) else { return Adopted::Failed };
        let Some(spliced) = splice(out, at, reply, [1, 0, 0]) else { return Adopted::Failed };
        let writer = Writer::resume(out, query.edns, max_size, spliced.counts);
        writer.finish(spliced.rcode, spliced.truncated | flag::AUTHORITATIVE);
        Adopted::Answer
    }
}

/// Appends what `reply` says of the name that aliases lead to. Without a reply that can be used the aliases stand, with
/// the code that says that their end is not known.
fn append(query: &Query<'_>, alias: &Alias, reply: &[u8], max_size: usize, out: &mut Vec<u8>) {
    let aliases = [alias.aliases, 0, 0];
    let (rcode, also, counts) = match splice(out, alias.at, reply, aliases) {
        Some(spliced) => (spliced.rcode, spliced.truncated, spliced.counts),
        None => (rcode::SERVFAIL, 0, aliases),
    };
    Writer::resume(out, query.edns, max_size, counts).finish(rcode, also | flag::AUTHORITATIVE);
}

/// Writes the same query for another name.
fn inner_query(query: &Query<'_>, name: &Name, out: &mut Vec<u8>) {
    let asked = u16_at(query.message, 2).unwrap_or_default();
    let flags = (asked & flag::CHECKING_DISABLED) | flag::RECURSION_DESIRED;
    out.clear();
    out.extend_from_slice(&query.message[..2]);
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, u8::from(query.edns.is_some())]);
    out.extend_from_slice(name.wire());
    out.extend_from_slice(&query.rtype.to_be_bytes());
    out.extend_from_slice(&query.class.to_be_bytes());
    if let Some(edns) = query.edns {
        out.extend_from_slice(&edns.request());
    }
}

/// How large the reply to the query for `name` may be, so that it fits behind an alias for it.
fn inner_size(query: &Query<'_>, name: &Name, max_size: usize) -> usize {
    // The alias: a reference, ten bytes, the name.
    let draft = query.head().len() + 12 + name.wire().len();
    max_size.saturating_sub(draft - (HEADER + name.wire().len() + 4))
}

/// How large the reply may be that goes behind the aliases in `draft`.
fn alias_size(alias: &Alias, draft: &[u8], max_size: usize) -> usize {
    max_size.saturating_sub(draft.len() - (HEADER + alias.name.wire().len() + 4))
}

// === impl Later ===

impl Later {
    /// The whole query is somebody else's to answer.
    pub(super) fn whole(max_size: usize) -> Box<Self> {
        Self::new(max_size, Rest::Whole)
    }

    fn new(max_size: usize, rest: Rest) -> Box<Self> {
        let client = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let message = Vec::new();
        Box::new(Self { message, client, transport: Transport::Udp, since: Instant::now(), max_size, rest })
    }

    /// Keeps the query and where it came from.
    pub(super) fn arrived(&mut self, arrival: Arrival<'_>) {
        self.message = arrival.message.to_vec();
        (self.client, self.transport) = (arrival.client, arrival.transport);
    }
}

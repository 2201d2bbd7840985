//! The message: what was found, in random order, behind the aliases that led there.

mod rows;

use crate::{
    config::PodNames,
    index::Index,
    name,
    random::Random,
    records::{Found, Lookup, Records},
    wire::{Name, NameAt, Query, Section, Writer, flag, rcode, rtype},
    zone::{Authority, Zone},
};

/// Answers for the cluster's names, the same for all queries.
#[derive(Debug)]
pub(crate) struct Answerer {
    pub(crate) authority: Authority,
    pub(crate) pod_names: PodNames,
    /// A Service with an address of its own, but no endpoint that is ready, has no name.
    pub(crate) ignore_empty_services: bool,
    /// TTL of what is not encoded before, and of negative answers.
    pub(crate) ttl: u32,
    /// Where the NS record leads.
    pub(crate) addresses: Box<[std::net::IpAddr]>,
}

/// What became of a query.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it stays on the stack; a box would be allocated")]
pub(crate) enum Outcome {
    /// The answer is written.
    Answered,
    /// The name is not ours.
    Elsewhere,
    /// The aliases are written; where they lead is not ours.
    Alias(Alias),
    /// The name does not exist (which is written).
    Missing,
}

/// Aliases that end with somebody else's name.
#[derive(Clone, Debug)]
pub(crate) struct Alias {
    /// The name they end with.
    pub(crate) name: Name,
    /// Where it stands in the message.
    pub(crate) at: NameAt,
    /// How many records were written.
    pub(crate) aliases: u16,
}

/// What is needed again and again, kept so that nothing is allocated.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) random: Random,
    order: Vec<u32>,
    targets: Vec<(u32, NameAt)>,
}

/// A name on the way through aliases, and where it stands in the message.
#[derive(Clone, Copy)]
struct Current<'n> {
    name: &'n Name,
    zone: Zone,
    at: NameAt,
    rtype: u16,
}

/// How many aliases are followed.
const MAX_ALIASES: u16 = 10;

/// TTL of the version's record, as the specification has it.
const VERSION_TTL: u32 = 28_800;

/// What ANY says instead of everything (RFC 8482 section 4.2).
const HINFO: &[u8] = b"\x07RFC8482\x00";

impl Answerer {
    /// Writes the answer to a query for a name of the cluster's.
    pub(crate) fn answer(
        &self,
        index: &Index,
        query: &Query<'_>,
        max_size: usize,
        out: &mut Vec<u8>,
        scratch: &mut Scratch,
    ) -> Outcome {
        let zone = self.authority.zone_of(&query.name);
        if zone == Zone::Elsewhere {
            return Outcome::Elsewhere;
        }
        let writer = Writer::new(out, query.head(), query.edns, max_size);
        let current = Current { name: &query.name, zone, at: NameAt::QUESTION, rtype: query.rtype };
        self.follow(index, current, writer, scratch)
    }

    /// What there is for a name, if it is ours.
    pub(crate) fn find<'i>(&self, index: &'i Index, name: &'i Name, rtype: u16) -> Option<(Zone, Found<'i>)> {
        let (pod_names, ignore_empty_services) = (self.pod_names, self.ignore_empty_services);
        let lookup = Lookup { index, pod_names, ignore_empty_services, rtype };
        let zone = self.authority.zone_of(name);
        let found = match zone {
            Zone::Cluster(depth) => lookup.cluster(name::meaning(name, depth)),
            Zone::Reverse(_, place) => lookup.reverse(place),
            Zone::Elsewhere => return None,
        };
        Some((zone, found))
    }

    /// Writes an alias of the question's name, which does not exist itself, for a name of ours, and then what there is
    /// for that.
    pub(crate) fn answer_as(
        &self,
        index: &Index,
        query: &Query<'_>,
        name: &Name,
        max_size: usize,
        out: &mut Vec<u8>,
        scratch: &mut Scratch,
    ) -> Outcome {
        let mut writer = Writer::new(out, query.head(), query.edns, max_size);
        let zone = self.authority.zone_of(name);
        let at = self.alias(&mut writer, NameAt::QUESTION, name.wire());
        match at {
            Some(at) => self.follow(index, Current { name, zone, at, rtype: query.rtype }, writer, scratch),
            None => {
                writer.finish(rcode::NOERROR, flag::AUTHORITATIVE);
                Outcome::Answered
            }
        }
    }

    /// Writes what ANY gets for a name that is not ours: nobody is asked (RFC 8482), so that the answer is never larger.
    pub(crate) fn answer_any(&self, query: &Query<'_>, max_size: usize, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out, query.head(), query.edns, max_size);
        writer.rdata(Section::Answer, NameAt::QUESTION, rtype::HINFO, self.ttl, &[HINFO]);
        writer.finish(rcode::NOERROR, 0);
    }

    /// Follows aliases from a name of ours and writes what is at their end.
    fn follow(&self, index: &Index, first: Current<'_>, mut writer: Writer<'_>, scratch: &mut Scratch) -> Outcome {
        let rtype = first.rtype;
        let mut name = first.name.clone();
        let mut at = first.at;
        for _ in 0..=MAX_ALIASES {
            let Some((zone, found)) = self.find(index, &name, rtype) else {
                return Outcome::Alias(Alias { name, at, aliases: writer.counts()[0] });
            };
            let current = Current { name: &name, zone, at, rtype };
            let target = match self.write(index, current, found, writer, scratch) {
                Written::Alias(target, back) => {
                    writer = back;
                    target
                }
                // Where an alias leads is no longer a question of search paths.
                Written::Whole(Outcome::Missing) if at != NameAt::QUESTION => return Outcome::Answered,
                Written::Whole(outcome) => return outcome,
            };
            if rtype == rtype::CNAME {
                break;
            }
            (name, at) = target;
        }
        let rcode = if rtype == rtype::CNAME { rcode::NOERROR } else { rcode::SERVFAIL };
        writer.finish(rcode, flag::AUTHORITATIVE);
        Outcome::Answered
    }

    /// Writes what was found for a name.
    fn write<'o>(
        &self,
        index: &Index,
        current: Current<'_>,
        found: Found<'_>,
        mut writer: Writer<'o>,
        scratch: &mut Scratch,
    ) -> Written<'o> {
        // Before everything was read once, what is not here may be there: that is no answer.
        let is_known = index.synced || !matches!(found, Found::Missing) && !index.is_empty();
        let (rcode, outcome) = match found {
            _ if !is_known => (rcode::SERVFAIL, Outcome::Answered),
            Found::Missing => {
                self.soa(index, current, Section::Authority, &mut writer);
                (rcode::NXDOMAIN, Outcome::Missing)
            }
            Found::Empty { .. } => {
                self.soa(index, current, Section::Authority, &mut writer);
                (rcode::NOERROR, Outcome::Answered)
            }
            Found::Records(records) => {
                if !self.records(index, current, records, &mut writer, scratch) {
                    self.soa(index, current, Section::Authority, &mut writer);
                }
                (rcode::NOERROR, Outcome::Answered)
            }
            Found::Alias(target) => {
                if let (Some(at), Some(name)) = (self.alias(&mut writer, current.at, target), Name::parse(target)) {
                    return Written::Alias((name, at), writer);
                }
                // No room for more: the client comes again over TCP.
                (rcode::NOERROR, Outcome::Answered)
            }
        };
        writer.finish(rcode, flag::AUTHORITATIVE);
        Written::Whole(outcome)
    }

    /// Writes that `owner` is an alias of `target`; where that stands.
    pub(crate) fn alias(&self, writer: &mut Writer<'_>, owner: NameAt, target: &[u8]) -> Option<NameAt> {
        writer.rdata(Section::Answer, owner, rtype::CNAME, self.ttl, &[target]).and_then(NameAt::new)
    }

    /// Writes the SOA record of the zone that a name is in.
    fn soa(&self, index: &Index, current: Current<'_>, section: Section, writer: &mut Writer<'_>) {
        const REFRESH_RETRY_EXPIRE: [u8; 12] = [0, 0, 0x1c, 0x20, 0, 0, 0x07, 0x08, 0, 1, 0x51, 0x80];
        let (Zone::Cluster(depth) | Zone::Reverse(depth, _)) = current.zone else { return };
        let Some(apex) = current.at.skip(current.name.start(depth)) else { return };
        let pointer = apex.pointer();
        let cluster = match current.zone {
            Zone::Cluster(_) => &pointer[..],
            _ => self.authority.zones.cluster.wire(),
        };
        let (serial, minimum) = (index.serial.to_be_bytes(), self.ttl.to_be_bytes());
        let rdata: [&[u8]; 7] =
            [b"\x02ns\x03dns", cluster, b"\x0ahostmaster", cluster, &serial, &REFRESH_RETRY_EXPIRE, &minimum];
        writer.rdata(section, apex, rtype::SOA, self.ttl, &rdata);
    }

    /// Writes records; false when there are none of the type.
    fn records(
        &self,
        index: &Index,
        current: Current<'_>,
        records: Records<'_>,
        writer: &mut Writer<'_>,
        scratch: &mut Scratch,
    ) -> bool {
        match records {
            Records::Soa => self.soa(index, current, Section::Answer, writer),
            Records::Ns => self.name_server(current, writer),
            Records::Version => {
                writer.rdata(Section::Answer, current.at, rtype::TXT, VERSION_TTL, &[b"\x051.1.0"]);
            }
            Records::Hinfo => {
                writer.rdata(Section::Answer, current.at, rtype::HINFO, self.ttl, &[HINFO]);
            }
            _ => return self.rows(index, current, records, writer, scratch),
        }
        true
    }

    /// Writes the NS record and where that server is.
    fn name_server(&self, current: Current<'_>, writer: &mut Writer<'_>) {
        let server: [&[u8]; 2] = [b"\x02ns\x03dns", self.authority.zones.cluster.wire()];
        let at = writer.rdata(Section::Answer, current.at, rtype::NS, self.ttl, &server);
        if let Some(at) = at.and_then(NameAt::new) {
            for address in &self.addresses {
                rows::address(*address, self.ttl, Section::Additional, at, writer);
            }
        }
    }
}

/// What [`Answerer::write`] did.
enum Written<'o> {
    /// An alias of this name, which stands there; the message goes on.
    Alias((Name, NameAt), Writer<'o>),
    /// The whole message.
    Whole(Outcome),
}

// === impl Scratch ===

impl Scratch {
    pub(crate) fn new() -> Self {
        Self { random: Random::new(), order: Vec::new(), targets: Vec::new() }
    }
}

#[cfg(test)]
mod tests;

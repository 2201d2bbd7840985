//! For how long an answer is kept.

use super::entry::{Content, Kind};
use super::{Bounds, CacheConfig};
use crate::forward::wire::rcode;

/// What an answer is, and the seconds for which it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lifetime {
    pub(super) kind: Kind,
    pub(super) seconds: u32,
    /// No record's TTL is told to be longer.
    pub(super) max_ttl: u32,
}

/// RFC 2181 section 5.4 and RFC 2308; `None`: an answer for those who wait for it, and for nobody else.
pub(super) fn of(content: &Content, config: &CacheConfig) -> Option<Lifetime> {
    let bounded = |kind, bounds: Bounds, ttl: u32| {
        let seconds = bounds.clamp(ttl);
        // A zero TTL with no lower bound: for this one transaction.
        (seconds > 0).then_some(Lifetime { kind, seconds, max_ttl: bounds.clamp(u32::MAX) })
    };
    match (content.rcode, content.has_answer) {
        (rcode::NOERROR, true) => bounded(Kind::Success, config.positive, content.min_ttl?),
        (rcode::NOERROR | rcode::NXDOMAIN, _) => {
            // Section 5: without an SOA nothing says for how long, and it may be a referral.
            let soa = content.soa?;
            let ttl = soa.ttl.min(soa.minimum).min(content.min_ttl?);
            let lifetime = bounded(Kind::Denial, config.negative, ttl)?;
            Some(Lifetime { max_ttl: lifetime.seconds, ..lifetime })
        }
        (rcode::SERVFAIL, _) => {
            let seconds = u32::try_from(config.failure.as_secs()).unwrap_or(u32::MAX).clamp(1, 300);
            Some(Lifetime { kind: Kind::Failure, seconds, max_ttl: seconds })
        }
        _ => None,
    }
}

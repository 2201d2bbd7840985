//! How soon a changed endpoint is in the answer, while others ask.

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::load::{Load, Queries, Running};
use super::serve::Seen;
use super::server::Server;
use crate::bench::statistics::percentile;
use crate::events::Interrupt;

/// Changes between two looks at the wish to stop.
const CHUNK: usize = 500;
/// Queries a second meanwhile.
const PACE: u32 = 5_000;

/// What was seen of changes under load.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Changes {
    pub services: usize,
    pub count: usize,
    /// From the new snapshot to the first answer with it; microseconds.
    pub median: f64,
    pub p99: f64,
    pub max: f64,
    /// Answers that were neither the old nor the new one.
    pub wrong: u64,
    /// Queries of others meanwhile, those without an answer, and those that were told of a failure.
    pub queries: u64,
    pub lost: u64,
    pub failed: u64,
}

/// Changes endpoints of random headless Services one after the other.
pub fn measure(
    server: &mut Server,
    services: usize,
    queries: &Queries,
    count: usize,
    interrupt: &Interrupt,
) -> Result<Changes> {
    let load = Running::start(server, queries, Load::endless(PACE))?;
    let mut seen = Seen::default();
    while seen.microseconds.len() < count {
        interrupt.check()?;
        let line = server.converse(&format!("change {}", CHUNK.min(count - seen.microseconds.len())))?;
        let more: Seen = serde_json::from_str(&line).context("understand what came of changes")?;
        seen.microseconds.extend(more.microseconds);
        seen.wrong += more.wrong;
    }
    let outcome = load.interrupt()?;
    let of = |percent| percentile(&seen.microseconds, percent).context("no changes");
    Ok(Changes {
        services,
        count,
        median: of(50.0)?,
        p99: of(99.0)?,
        max: of(100.0)?,
        wrong: seen.wrong,
        queries: outcome.completed,
        lost: outcome.lost,
        failed: outcome.failures(),
    })
}

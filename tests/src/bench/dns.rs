//! `bench dns`: the node's resolver against Knot, dnsmasq and unbound with the same names.
//!
//! All servers are up side by side on one processor and asked in turn by dnsperf on the other, so that whatever else happens
//! to the machine happens to all.

mod change;
mod cluster;
mod load;
mod report;
mod rivals;
pub mod serve;
mod server;
mod upstream;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use self::cluster::Cluster;
use self::load::{Load, Outcome, Queries};
use self::report::{Comparison, Memory, Quantity};
use self::rivals::Rival;
use self::server::Server;
use self::upstream::Upstream;
use super::report::Machine;
use crate::events::Interrupt;

pub use self::report::Report;

/// Endpoints of each Service.
const ENDPOINTS: usize = 10;

/// What latency is measured under: queries a second that none of the servers has trouble with.
const PACE: u32 = 10_000;

/// How to measure.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How often the servers take turns.
    pub rounds: usize,
    /// Of one run.
    pub time: Duration,
    /// Services, with ten endpoints each: all is measured for each of these numbers.
    pub services: Vec<usize>,
    /// Changes whose way to the answer is timed.
    pub changes: usize,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Workload {
    /// Names of the cluster: addresses of Services, of the endpoints of headless ones, and addresses that are not there.
    Own,
    /// Names of others that were asked for before.
    Cached,
    /// Names of others that nobody may keep.
    Forwarded,
}

/// What each round has given, by server: ours first.
type Series = BTreeMap<(usize, Workload, Quantity), BTreeMap<Option<Rival>, Vec<f64>>>;

/// Measures, telling `progress` how far it is.
pub fn run(settings: &Settings, interrupt: &Interrupt, progress: impl Fn(&str)) -> Result<Report> {
    let mut report = Report::new(Machine::look()?, settings);
    let mut series = Series::new();
    let upstream = Upstream::start()?;
    let base = Server::ours(0, upstream.address())?.resident()?;
    for (number, services) in settings.services.iter().copied().enumerate() {
        progress(&format!("starting the servers, with {services} Services and {} endpoints", services * ENDPOINTS));
        let cluster = Cluster { services };
        let mut ours = Server::ours(services, upstream.address())?;
        let rivals = Rival::ALL.map(|rival| rival.start(cluster, upstream.address()).map(|server| (rival, server)));
        let rivals = rivals.into_iter().collect::<Result<Vec<_>>>()?;
        report.memory.push(Memory::of(services, &ours, base, &rivals)?);
        let stage = Stage { settings, services, ours: &ours, rivals: &rivals, interrupt };
        stage.compare(Workload::Own, &cluster.queries()?, &mut series, &progress)?;
        // What others know does not depend on how many Services there are.
        if number == 0 {
            stage.compare(Workload::Cached, &upstream::cached_names()?, &mut series, &progress)?;
            stage.compare(Workload::Forwarded, &upstream::forwarded_names()?, &mut series, &progress)?;
        }
        progress(&format!("changing endpoints {} times under load", settings.changes));
        report.changes.push(change::measure(&mut ours, services, &cluster.queries()?, settings.changes, interrupt)?);
    }
    report.comparisons = Comparison::all(series);
    Ok(report)
}

/// The servers of one size.
struct Stage<'a> {
    settings: &'a Settings,
    services: usize,
    ours: &'a Server,
    rivals: &'a [(Rival, Server)],
    interrupt: &'a Interrupt,
}

impl Stage<'_> {
    /// Lets the servers take turns.
    fn compare(
        &self,
        workload: Workload,
        queries: &Queries,
        series: &mut Series,
        progress: &impl Fn(&str),
    ) -> Result<()> {
        let others = self.rivals.iter().filter(|(rival, _)| rival.takes(workload));
        let mut servers: Vec<(Option<Rival>, &Server)> = vec![(None, self.ours)];
        servers.extend(others.map(|(rival, server)| (Some(*rival), server)));
        for (_, server) in servers.iter().filter(|_| workload == Workload::Cached) {
            load::run(server, queries, Load::once())?;
        }
        let start = Instant::now();
        for round in 0..self.settings.rounds {
            // Who begins takes turns as well.
            servers.rotate_left(1);
            for (rival, server) in &servers {
                self.interrupt.check()?;
                let name = rival.map_or("ours", Rival::name);
                let failed = || format!("round {} of {workload:?} names, {name}", round + 1);
                for (quantity, value) in self.measure(server, workload, queries).with_context(failed)? {
                    let key = (self.services, workload, quantity);
                    series.entry(key).or_default().entry(*rival).or_default().push(value);
                }
            }
            let elapsed = start.elapsed().as_secs();
            progress(&format!(
                "{workload:?} names: round {} of {}, after {elapsed} s",
                round + 1,
                self.settings.rounds
            ));
        }
        Ok(())
    }

    fn measure(&self, server: &Server, workload: Workload, queries: &Queries) -> Result<Vec<(Quantity, f64)>> {
        let full = self.run(server, queries, Load::full(self.settings.time))?;
        let mut found =
            vec![(Quantity::CpuPerQuery, full.cpu_per_query), (Quantity::QueriesPerSecond, full.queries_per_second)];
        if workload != Workload::Forwarded {
            let paced = self.run(server, queries, Load::paced(PACE, self.settings.time))?;
            found.push((Quantity::PacedCpuPerQuery, paced.cpu_per_query));
            found.push((Quantity::LatencyMedian, paced.latency(50.0).context("no latencies")?));
            found.push((Quantity::LatencyP99, paced.latency(99.0).context("no latencies")?));
        }
        Ok(found)
    }

    fn run(&self, server: &Server, queries: &Queries, load: Load) -> Result<Outcome> {
        let outcome = load::run(server, queries, load)?;
        outcome.expect_answers(load)?;
        Ok(outcome)
    }
}

//! What the benchmark has found, for people and for programs.

use std::fmt;

use anyhow::Result;
use serde::{Serialize, Serializer};

use super::change::Changes;
use super::rivals::Rival;
use super::server::Server;
use super::{ENDPOINTS, PACE, Series, Settings, Workload};
use crate::bench::report::{Machine, Target, yes_no};
use crate::bench::statistics::{Ratio, median};
use crate::table::Table;

const MEBIBYTE: f64 = (1 << 20) as f64;

/// Everything that one run has found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    machine: Machine,
    rounds: usize,
    seconds: f64,
    /// Ours against each of the others.
    pub comparisons: Vec<Comparison>,
    /// What is resident before the first query.
    pub memory: Vec<Memory>,
    /// Changes under load.
    pub changes: Vec<Changes>,
}

/// What is compared. In the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantity {
    /// The server's time for a query under full load; nanoseconds.
    CpuPerQuery,
    /// Answered under full load.
    QueriesPerSecond,
    /// The server's time for a query at a pace that all keep up with; nanoseconds.
    PacedCpuPerQuery,
    /// At that pace; microseconds.
    LatencyMedian,
    /// At that pace, all but one of a hundred; microseconds.
    LatencyP99,
}

/// A quantity: ours against a rival's.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    services: usize,
    workload: Workload,
    quantity: Quantity,
    rival: Rival,
    /// Of each round.
    ours: Vec<f64>,
    theirs: Vec<f64>,
    ours_median: f64,
    theirs_median: f64,
    #[serde(flatten)]
    ratio: Ratio,
    target: Option<Target>,
    met: Option<bool>,
}

/// Resident memory of every server with so many Services; bytes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    services: usize,
    ours: u64,
    /// Ours with no Services at all: the program, and what the cache has set aside.
    ours_empty: u64,
    theirs: Vec<(Rival, u64)>,
}

// === impl Report ===

impl Report {
    /// A report without results.
    pub fn new(machine: Machine, settings: &Settings) -> Self {
        Self {
            machine,
            rounds: settings.rounds,
            seconds: settings.time.as_secs_f64(),
            comparisons: vec![],
            memory: vec![],
            changes: vec![],
        }
    }

    fn table(&self) -> Table {
        let mut table = Table::new(["WHAT", "RIVAL", "OURS", "THEIRS", "RATIO (95 %)", "TARGET", "MET"]);
        self.comparisons.iter().for_each(|comparison| table.row(comparison.cells()));
        self.memory.iter().flat_map(Memory::rows).for_each(|row| table.row(row));
        self.changes.iter().flat_map(change_rows).for_each(|row| table.row(row));
        table
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { machine, rounds, seconds, .. } = self;
        writeln!(f, "{machine}")?;
        writeln!(
            f,
            "medians of {rounds} interleaved rounds, {seconds} s each; servers on one processor, dnsperf on another"
        )?;
        writeln!(f, "CPU: time that the server's threads ran, kernel included; latency at {PACE} queries/s")?;
        write!(f, "\n{}", self.table())
    }
}

// === impl Comparison ===

impl Comparison {
    /// Everything that the rounds have given.
    pub fn all(series: Series) -> Vec<Self> {
        let mut all = vec![];
        for ((services, workload, quantity), mut found) in series {
            let ours = found.remove(&None).unwrap_or_default();
            let rivals = found.into_iter().filter_map(|(rival, theirs)| Some((rival?, theirs)));
            all.extend(rivals.filter_map(|(rival, theirs)| {
                let ratio = Ratio::of_medians(&ours, &theirs)?;
                let (ours_median, theirs_median) = (median(&ours)?, median(&theirs)?);
                let target = target(workload, quantity, rival);
                let met = target.map(|target| target.is_met(ours_median, ratio));
                let ours = ours.clone();
                Some(Self {
                    services,
                    workload,
                    quantity,
                    rival,
                    ours,
                    theirs,
                    ours_median,
                    theirs_median,
                    ratio,
                    target,
                    met,
                })
            }));
        }
        all
    }

    fn cells(&self) -> [String; 7] {
        let what = match self.workload {
            Workload::Own => format!("{}, own names, {} Services", self.quantity, self.services),
            Workload::Cached => format!("{}, cached names", self.quantity),
            Workload::Forwarded => format!("{}, forwarded names", self.quantity),
        };
        let Ratio { ratio, low, high } = self.ratio;
        [
            what,
            self.rival.name().to_owned(),
            self.quantity.show(self.ours_median),
            self.quantity.show(self.theirs_median),
            format!("{ratio:.2} ({low:.2}–{high:.2})"),
            self.target.map_or(String::new(), |target| target.to_string()),
            yes_no(self.met),
        ]
    }
}

/// CPU per query at most 0.9 times Knot's and dnsmasq's.
fn target(workload: Workload, quantity: Quantity, rival: Rival) -> Option<Target> {
    let counts = workload == Workload::Own && quantity == Quantity::CpuPerQuery && rival != Rival::Unbound;
    counts.then_some(Target::RatioAtMost(0.9))
}

// === impl Quantity ===

impl Quantity {
    fn show(self, value: f64) -> String {
        match self {
            Self::CpuPerQuery | Self::PacedCpuPerQuery => format!("{:.2} µs", value / 1e3),
            Self::QueriesPerSecond => format!("{:.1} k/s", value / 1e3),
            Self::LatencyMedian | Self::LatencyP99 => format!("{value:.0} µs"),
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CpuPerQuery => "CPU per query",
            Self::QueriesPerSecond => "queries per second",
            Self::PacedCpuPerQuery => "CPU per query, paced",
            Self::LatencyMedian => "latency, median",
            Self::LatencyP99 => "latency, p99",
        })
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

// === impl Memory ===

impl Memory {
    /// Of all servers as they are now; `empty`: ours without Services.
    pub fn of(services: usize, ours: &Server, empty: u64, rivals: &[(Rival, Server)]) -> Result<Self> {
        let theirs = rivals.iter().map(|(rival, server)| Ok((*rival, server.resident()?)));
        Ok(Self { services, ours: ours.resident()?, ours_empty: empty, theirs: theirs.collect::<Result<_>>()? })
    }

    fn rows(&self) -> Vec<[String; 7]> {
        let show = |bytes: f64| format!("{:.1} MiB", bytes / MEBIBYTE);
        let (services, endpoints) = (self.services, self.services * ENDPOINTS);
        let more = self.ours.saturating_sub(self.ours_empty) as f64;
        let limit = Target::AtMost(60.0);
        let mut rows = vec![[
            format!("memory for {services} Services, {endpoints} endpoints, their objects included"),
            String::new(),
            show(more),
            String::new(),
            String::new(),
            format!("{limit} MiB"),
            yes_no(Some(more <= 60.0 * MEBIBYTE)),
        ]];
        rows.extend(self.theirs.iter().map(|(rival, bytes)| {
            let ratio = format!("{:.2}", self.ours as f64 / *bytes as f64);
            let what = format!("resident, {services} Services");
            [
                what,
                rival.name().to_owned(),
                show(self.ours as f64),
                show(*bytes as f64),
                ratio,
                String::new(),
                String::new(),
            ]
        }));
        rows
    }
}

fn change_rows(changes: &Changes) -> [[String; 7]; 3] {
    let row = |what: String, ours: String, target: &str, met: Option<bool>| {
        [what, String::new(), ours, String::new(), String::new(), target.to_owned(), yes_no(met)]
    };
    let Changes { services, count, median, p99, wrong, queries, lost, failed, .. } = changes;
    let milliseconds = |value: f64| format!("{:.2} ms", value / 1e3);
    let bad = wrong + lost + failed;
    [
        row(format!("change to answer, median of {count}, {services} Services"), milliseconds(*median), "", None),
        row(format!("change to answer, p99, {services} Services"), milliseconds(*p99), "≤ 5 ms", Some(*p99 <= 5e3)),
        row(format!("wrong, failed or lost of {queries} queries meanwhile"), bad.to_string(), "0", Some(bad == 0)),
    ]
}

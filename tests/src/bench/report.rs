//! What a benchmark has found, for people and for programs.

use std::fmt;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Serialize, Serializer};

use super::agent::AgentCost;
use super::contest::{Path, UNDERLAY_MTU};
use super::cpu::{self, Unit};
use super::pods::Settings;
use super::programs::{ProgramCost, ProgramCosts, Traffic};
use super::statistics::{Ratio, median};
use crate::family::IpFamily;
use crate::table::Table;

/// How long the machine is watched before it is used.
const LOOK: Duration = Duration::from_secs(1);

/// A machine that others use more than this is not quiet.
const BUSY: f64 = 0.1;

/// Everything that one run has found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    machine: Machine,
    family: IpFamily,
    rounds: usize,
    seconds: f64,
    round_trips: usize,
    underlay_mtu: u32,
    /// Ours were the kernel's own devices as well.
    against_itself: bool,
    /// The unit of effort.
    effort: Unit,
    /// Ours against theirs.
    pub comparisons: Vec<Comparison>,
    /// Time in our programs.
    pub programs: Option<ProgramCosts>,
    /// Memory, and time of ADDs.
    pub agent: Option<AgentCost>,
}

/// Where it was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    kernel: String,
    processor: String,
    processors: usize,
    /// The part of the processors' time that others used just before.
    busy: f64,
}

/// What is compared. In the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantity {
    /// TCP, bits per second.
    Throughput {
        /// Connections at once.
        streams: u32,
    },
    /// Of the TCP throughput.
    EffortPerByte {
        /// Connections at once.
        streams: u32,
    },
    /// TCP request and response, microseconds, client and server on a processor each.
    LatencyApart,
    /// The same: all but one of a hundred.
    LatencyApartP99,
    /// The same, client and server on the same processor.
    LatencyTogether,
    /// The same: all but one of a hundred.
    LatencyTogetherP99,
    /// UDP of 64 bytes, received per second.
    DatagramRate,
    /// Of the UDP packets received.
    EffortPerDatagram,
    /// UDP packets received of those sent, per cent.
    DatagramsArrived,
}

/// A quantity on a path: ours against theirs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    path: Path,
    quantity: Quantity,
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

/// What must be reached.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// Surely more: the lower bound of the ratio is above this.
    LowerBoundAbove(f64),
    /// The ratio is at most this.
    RatioAtMost(f64),
    /// Not surely more: the lower bound of the ratio is at most this. For what a few disturbed round trips decide.
    LowerBoundAtMost(f64),
    /// The value is at most this.
    AtMost(f64),
}

// === impl Report ===

impl Report {
    /// A report without results.
    pub fn new(machine: Machine, settings: &Settings, effort: Unit) -> Self {
        Self {
            machine,
            family: settings.family,
            rounds: settings.rounds,
            seconds: settings.time.as_secs_f64(),
            round_trips: settings.round_trips,
            underlay_mtu: UNDERLAY_MTU,
            against_itself: settings.against_itself,
            effort,
            comparisons: vec![],
            programs: None,
            agent: None,
        }
    }

    /// One table: what, ours, theirs, ratio, target, and whether that is met.
    fn table(&self) -> Table {
        let mut table = Table::new(["WHAT", "OURS", "THEIRS", "RATIO (95 %)", "TARGET", "MET"]);
        for comparison in &self.comparisons {
            table.row(comparison.cells(self.effort));
        }
        for cost in self.programs.iter().flat_map(|costs| &costs.programs) {
            table.row(self.program_cells(cost));
        }
        if let Some(agent) = &self.agent {
            agent_rows(agent).into_iter().for_each(|row| table.row(row));
        }
        table
    }

    fn program_cells(&self, cost: &ProgramCost) -> [String; 6] {
        // The target is for IPv4; IPv6 has none.
        let target = program_target(&cost.program, cost.traffic).filter(|_| self.family == IpFamily::V4);
        let what = format!("{}, {}", cost.program, cost.traffic.describe());
        single_row(what, cost.nanoseconds, |value| format!("{value:.0} ns"), target)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}; {} only, underlay MTU {}", self.machine, self.family, UNDERLAY_MTU)?;
        if !self.comparisons.is_empty() {
            let (rounds, seconds) = (self.rounds, self.seconds);
            writeln!(f, "medians of {rounds} interleaved rounds, {seconds} s each; theirs: {}", self.theirs())?;
            writeln!(f, "{}", self.effort_explained())?;
        }
        if let Some(costs) = &self.programs {
            let (flows, empty) = (costs.flows, costs.empty_nanoseconds);
            writeln!(f, "programs: {flows} UDP flows in random order, less the {empty:.0} ns of an empty program")?;
        }
        write!(f, "\n{}", self.table())
    }
}

impl Report {
    fn theirs(&self) -> String {
        let [near, far] = Path::ALL.map(Path::peer);
        format!("{near} (same node), {far} (across); ours{}", if self.against_itself { ": the same" } else { ": pods" })
    }

    fn effort_explained(&self) -> &'static str {
        match self.effort {
            Unit::Cycles => "cycles: of all processors, user space and whatever else runs included",
            Unit::Nanoseconds => {
                "CPU ns: no processor here counts cycles, so this is time that was neither idle nor stolen, of all \
                 processors, user space and whatever else runs included"
            }
        }
    }
}

fn agent_rows(agent: &AgentCost) -> [[String; 6]; 4] {
    let mebibytes = |value: f64| format!("{:.1} MiB", value / f64::from(1 << 20));
    let milliseconds = |value: f64| format!("{value:.1} ms");
    let memory = |bytes: u64| bytes as f64;
    let pods = agent.pods;
    [
        single_row(
            format!("CNI ADD, {pods} in turn, median"),
            agent.add_median,
            milliseconds,
            Some(Target::AtMost(25.0)),
        ),
        single_row(format!("CNI ADD, {pods} in turn, p99"), agent.add_p99, milliseconds, None),
        single_row(
            format!("agent with {pods} pods, resident"),
            memory(agent.memory.resident),
            mebibytes,
            Some(Target::AtMost(f64::from(30 << 20))),
        ),
        single_row(
            format!("agent with {pods} pods, shared pages once"),
            memory(agent.memory.proportional),
            mebibytes,
            None,
        ),
    ]
}

fn single_row(what: String, value: f64, show: impl Fn(f64) -> String, target: Option<Target>) -> [String; 6] {
    let (limit, met) = match target {
        Some(Target::AtMost(limit)) => (format!("≤ {}", show(limit)), yes_no(Some(value <= limit))),
        _ => (String::new(), yes_no(None)),
    };
    [what, show(value), String::new(), String::new(), limit, met]
}

pub(super) fn yes_no(met: Option<bool>) -> String {
    met.map_or("", |met| if met { "yes" } else { "NO" }).into()
}

/// What an established packet may take.
fn program_target(program: &str, traffic: Traffic) -> Option<Target> {
    match (program, traffic) {
        ("pod_out", Traffic::SameNode | Traffic::Across) => Some(Target::AtMost(200.0)),
        ("overlay_in", Traffic::Across) => Some(Target::AtMost(150.0)),
        _ => None,
    }
}

// === impl Comparison ===

impl Comparison {
    /// Compares what the rounds have given; `None` without rounds.
    pub fn new((path, quantity): (Path, Quantity), ours: Vec<f64>, theirs: Vec<f64>) -> Option<Self> {
        let ratio = Ratio::of_medians(&ours, &theirs)?;
        let target = quantity.target(path);
        let (ours_median, theirs_median) = (median(&ours)?, median(&theirs)?);
        let met = target.map(|target| target.is_met(ours_median, ratio));
        Some(Self { path, quantity, ours, theirs, ours_median, theirs_median, ratio, target, met })
    }

    fn cells(&self, effort: Unit) -> [String; 6] {
        let what = format!("{}, {}", self.quantity, self.path.describe());
        let show = |value| self.quantity.show(value, effort);
        let Ratio { ratio, low, high } = self.ratio;
        let ratio = format!("{ratio:.2} ({low:.2}–{high:.2})");
        let target = self.target.map_or(String::new(), |target| target.to_string());
        [what, show(self.ours_median), show(self.theirs_median), ratio, target, yes_no(self.met)]
    }
}

impl Target {
    /// Whether a median and its ratio reach it.
    pub(super) fn is_met(self, ours: f64, ratio: Ratio) -> bool {
        match self {
            Self::LowerBoundAbove(limit) => ratio.low > limit,
            Self::RatioAtMost(limit) => ratio.ratio <= limit,
            Self::LowerBoundAtMost(limit) => ratio.low <= limit,
            Self::AtMost(limit) => ours <= limit,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LowerBoundAbove(limit) => write!(f, "surely > {limit}"),
            Self::LowerBoundAtMost(limit) => write!(f, "not surely > {limit}"),
            Self::RatioAtMost(limit) | Self::AtMost(limit) => write!(f, "≤ {limit}"),
        }
    }
}

// === impl Quantity ===

impl Quantity {
    fn target(self, path: Path) -> Option<Target> {
        match self {
            Self::Throughput { .. } => Some(Target::LowerBoundAbove(1.0)),
            Self::EffortPerByte { .. } => Some(Target::RatioAtMost(match path {
                Path::SameNode => 0.95,
                Path::Across => 0.87,
            })),
            Self::LatencyApart | Self::LatencyTogether => Some(Target::RatioAtMost(1.0)),
            Self::LatencyApartP99 | Self::LatencyTogetherP99 => Some(Target::LowerBoundAtMost(1.0)),
            Self::DatagramRate | Self::EffortPerDatagram | Self::DatagramsArrived => None,
        }
    }

    fn show(self, value: f64, effort: Unit) -> String {
        match self {
            Self::Throughput { .. } => format!("{:.2} Gbit/s", value / 1e9),
            Self::EffortPerByte { .. } => format!("{value:.3} {effort}/B"),
            Self::LatencyApart | Self::LatencyApartP99 | Self::LatencyTogether | Self::LatencyTogetherP99 => {
                format!("{value:.1} µs")
            }
            Self::DatagramRate => format!("{:.0} k/s", value / 1000.0),
            Self::EffortPerDatagram => format!("{value:.0} {effort}"),
            Self::DatagramsArrived => format!("{value:.1} %"),
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Throughput { streams: 1 } => f.write_str("TCP, 1 stream"),
            Self::Throughput { streams } => write!(f, "TCP, {streams} streams"),
            Self::EffortPerByte { streams: 1 } => f.write_str("effort per byte, 1 stream"),
            Self::EffortPerByte { streams } => write!(f, "effort per byte, {streams} streams"),
            Self::LatencyApart => f.write_str("TCP round trip, two CPUs, median"),
            Self::LatencyApartP99 => f.write_str("TCP round trip, two CPUs, p99"),
            Self::LatencyTogether => f.write_str("TCP round trip, one CPU, median"),
            Self::LatencyTogetherP99 => f.write_str("TCP round trip, one CPU, p99"),
            Self::DatagramRate => f.write_str("UDP of 64 bytes received"),
            Self::EffortPerDatagram => f.write_str("effort per UDP packet"),
            Self::DatagramsArrived => f.write_str("UDP packets that arrived"),
        }
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

// === impl Machine ===

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel, processor, processors, busy } = self;
        if *busy > BUSY {
            let percent = busy * 100.0;
            writeln!(
                f,
                "NOT QUIET: others used {percent:.0} % of the machine when this began; the numbers mean little"
            )?;
        }
        write!(f, "Linux {kernel}, {processors} × {processor}")
    }
}

impl Machine {
    /// Looks.
    pub fn look() -> Result<Self> {
        let read = |path: &str| fs::read_to_string(path).with_context(|| format!("read {path}"));
        let processors = read("/proc/cpuinfo")?;
        let models: Vec<&str> =
            processors.lines().filter_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1)).collect();
        Ok(Self {
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            // Other architectures have no such line.
            processor: models.first().map_or("processor", |model| model.trim()).to_owned(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            busy: cpu::busy(LOOK)?,
        })
    }
}

//! `bench pods`: pods of a lab against the kernel's bridge (same node) and its bridge and VXLAN device (across nodes).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use super::agent;
use super::contest::{self, Contestant, Pair, Path};
use super::cpu::Meter;
use super::placement::{APART, TOGETHER};
use super::programs::{self, Plan, ProgramCosts};
use super::report::{Comparison, Machine, Quantity, Report};
use super::{datagrams, latency, throughput};
use crate::events::Interrupt;
use crate::family::IpFamily;
use crate::lab::Lab;

/// Names of the labs.
const LAB: &str = "bench-pods";
const AGENT_LAB: &str = "bench-agent";

/// Time of one round of one program's traffic: a hundred thousand packets.
const PROGRAM_TIME: Duration = Duration::from_secs(1);

/// How to measure.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Of pods and underlay.
    pub family: IpFamily,
    /// How often ours and theirs take turns.
    pub rounds: usize,
    /// Of one run of bulk traffic.
    pub time: Duration,
    /// Requests and responses of one run.
    pub round_trips: usize,
    /// Flows at the same time while programs are timed.
    pub flows: usize,
    /// Pods that are added one after the other.
    pub pods: usize,
    /// What to measure.
    pub parts: Vec<Part>,
    /// Theirs in the place of ours: what noise alone makes of the ratios.
    pub against_itself: bool,
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// TCP throughput with 1 and 8 streams, and effort per byte
    Throughput,
    /// TCP request and response
    Latency,
    /// Small UDP packets per second, and effort per packet
    Datagrams,
    /// Nanoseconds per packet of each eBPF program
    Programs,
    /// The agent's memory, and the time of CNI ADDs
    Agent,
}

/// Measures, telling `progress` how far it is.
pub fn run(settings: &Settings, interrupt: &Interrupt, progress: impl Fn(&str)) -> Result<Report> {
    let meter = Meter::open()?;
    let mut report = Report::new(Machine::look()?, settings, meter.unit());
    if settings.parts.iter().any(|part| *part != Part::Agent) {
        progress("bringing up two nodes of ours and two of theirs");
        let theirs = Contestant::peers(settings.family).context("bring up the kernel's own devices")?;
        let lab = (!settings.against_itself).then(|| contest::lab(LAB, settings.family, interrupt)).transpose()?;
        let ours = match &lab {
            Some(lab) => Contestant::lab(lab, settings.family)?,
            None => Contestant::peers(settings.family)?,
        };
        report.comparisons = compare(settings, &ours, &theirs, &meter, interrupt, &progress)?;
        if let Some(lab) = lab.as_ref().filter(|_| settings.measures(Part::Programs)) {
            report.programs = Some(time_programs(settings, lab, &ours, &theirs, interrupt, &progress)?);
        }
    }
    if settings.measures(Part::Agent) && !settings.against_itself {
        progress(&format!("adding {} pods to one node, one after the other", settings.pods));
        report.agent = Some(agent::measure(AGENT_LAB, settings.family, settings.pods, interrupt)?);
    }
    Ok(report)
}

impl Settings {
    fn measures(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }
}

/// What each round has given: ours and theirs.
type Series = BTreeMap<(Path, Quantity), [Vec<f64>; 2]>;

fn compare(
    settings: &Settings,
    ours: &Contestant,
    theirs: &Contestant,
    meter: &Meter,
    interrupt: &Interrupt,
    progress: impl Fn(&str),
) -> Result<Vec<Comparison>> {
    let tests: Vec<Test> = Test::ALL.into_iter().filter(|test| settings.measures(test.part())).collect();
    let mut series = Series::new();
    let start = Instant::now();
    for round in 0..if tests.is_empty() { 0 } else { settings.rounds } {
        for (path, test) in Path::ALL.into_iter().flat_map(|path| tests.iter().map(move |test| (path, test))) {
            // Who begins takes turns as well: the machine may be warmer, or a neighbour busier, for the second.
            for turn in [round % 2, (round + 1) % 2] {
                interrupt.check()?;
                let (contestant, name) = [(ours, "ours"), (theirs, path.peer())][turn];
                let values = test.run(contestant.pair(path), settings, meter);
                let failed = || format!("round {} of {name}, {}", round + 1, path.describe());
                for (quantity, value) in values.with_context(failed)? {
                    series.entry((path, quantity)).or_default()[turn].push(value);
                }
            }
        }
        progress(&format!("round {} of {}, after {} s", round + 1, settings.rounds, start.elapsed().as_secs()));
    }
    Ok(series.into_iter().filter_map(|(key, [ours, theirs])| Comparison::new(key, ours, theirs)).collect())
}

fn time_programs(
    settings: &Settings,
    lab: &Lab,
    ours: &Contestant,
    theirs: &Contestant,
    interrupt: &Interrupt,
    progress: impl Fn(&str),
) -> Result<ProgramCosts> {
    progress(&format!("timing the programs under {} flows", settings.flows));
    let plan = Plan { rounds: settings.rounds, time: PROGRAM_TIME.min(settings.time), flows: settings.flows };
    programs::measure(lab, ours, theirs, settings.family, plan, interrupt)
}

/// What is done in a round.
#[derive(Debug, Clone, Copy)]
enum Test {
    Throughput { streams: u32 },
    Latency,
    Datagrams,
}

impl Test {
    const ALL: [Self; 4] =
        [Self::Throughput { streams: 1 }, Self::Throughput { streams: 8 }, Self::Latency, Self::Datagrams];

    fn part(self) -> Part {
        match self {
            Self::Throughput { .. } => Part::Throughput,
            Self::Latency => Part::Latency,
            Self::Datagrams => Part::Datagrams,
        }
    }

    fn run(self, pair: &Pair, settings: &Settings, meter: &Meter) -> Result<Vec<(Quantity, f64)>> {
        Ok(match self {
            Self::Throughput { streams } => {
                let run = throughput::measure(pair, streams, settings.time, meter)?;
                vec![
                    (Quantity::Throughput { streams }, run.bits_per_second),
                    (Quantity::EffortPerByte { streams }, run.effort_per_byte),
                ]
            }
            Self::Latency => {
                let apart = latency::measure(pair, settings.round_trips, APART)?;
                let together = latency::measure(pair, settings.round_trips, TOGETHER)?;
                vec![
                    (Quantity::LatencyApart, apart.median),
                    (Quantity::LatencyApartP99, apart.p99),
                    (Quantity::LatencyTogether, together.median),
                    (Quantity::LatencyTogetherP99, together.p99),
                ]
            }
            Self::Datagrams => {
                let run = datagrams::measure(pair, settings.time, meter)?;
                vec![
                    (Quantity::DatagramRate, run.received_per_second),
                    (Quantity::EffortPerDatagram, run.effort_per_packet),
                    (Quantity::DatagramsArrived, run.arrived * 100.0),
                ]
            }
        })
    }
}

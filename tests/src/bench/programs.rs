//! Nanoseconds a packet spends in each of our programs, under real traffic of many flows.
//!
//! The kernel's own account (`BPF_ENABLE_STATS`) holds its two looks at the clock besides; an empty program on a plain veth has
//! nothing but those, and is measured in the same round.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::contest::{Contestant, Pair, Path};
use super::flows::Flows;
use super::kernel::{EmptyProgram, RunStatistics, Runs};
use super::statistics::{median, percentile};
use crate::events::Interrupt;
use crate::family::IpFamily;
use crate::lab::Lab;
use crate::node::Node;

/// Interface of every pod.
const POD_INTERFACE: &str = "eth0";

/// A program that ran less often than this in a round did so by chance.
const FEWEST_RUNS: u64 = 1000;

/// What traffic passed the programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Traffic {
    /// Pod to pod of the same node.
    SameNode,
    /// Pod to pod of another node.
    Across,
    /// A node to another node's pod.
    FromNode,
    /// Pod to the outside, masqueraded.
    Outside,
}

/// What a program takes for a packet of some traffic.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgramCost {
    /// The program.
    pub program: String,
    /// The traffic.
    pub traffic: Traffic,
    /// Nanoseconds a run, less those of the empty program: the median of the rounds.
    pub nanoseconds: f64,
    /// The least and the most of all rounds.
    pub range: [f64; 2],
    /// Runs in all rounds.
    pub runs: u64,
}

/// All programs under all traffic.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgramCosts {
    /// Flows at the same time.
    pub flows: usize,
    /// Nanoseconds a run of the empty program: the median of the rounds.
    pub empty_nanoseconds: f64,
    /// The programs.
    pub programs: Vec<ProgramCost>,
}

/// One round's costs, and runs.
type Samples = BTreeMap<(Traffic, String), Vec<(f64, u64)>>;

impl Traffic {
    const ALL: [Self; 4] = [Self::SameNode, Self::Across, Self::FromNode, Self::Outside];

    /// For people.
    pub fn describe(self) -> &'static str {
        match self {
            Self::SameNode => "pod to pod, same node",
            Self::Across => "pod to pod, across nodes",
            Self::FromNode => "node to pod, across nodes",
            Self::Outside => "pod to outside",
        }
    }

    fn pair(self, lab: &Lab, ours: &Contestant, family: IpFamily) -> Result<Pair> {
        Ok(match self {
            Self::SameNode => ours.pair(Path::SameNode).clone(),
            Self::Across => ours.pair(Path::Across).clone(),
            Self::FromNode => {
                let client = lab.node("node-1")?.sandbox().clone();
                Pair { client, ..ours.pair(Path::Across).clone() }
            }
            Self::Outside => {
                let (server, target) = (lab.outside().sandbox().clone(), lab.outside().address(family));
                Pair { server, target, ..ours.pair(Path::SameNode).clone() }
            }
        })
    }
}

/// How long, and how much.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Rounds.
    pub rounds: usize,
    /// Of each kind of traffic in a round.
    pub time: Duration,
    /// Flows at the same time.
    pub flows: usize,
}

/// Measures under each kind of traffic.
pub fn measure(
    lab: &Lab,
    ours: &Contestant,
    theirs: &Contestant,
    family: IpFamily,
    plan: Plan,
    interrupt: &Interrupt,
) -> Result<ProgramCosts> {
    let Plan { rounds, time, flows: count } = plan;
    let _statistics = RunStatistics::enable()?;
    let plain = theirs.pair(Path::SameNode);
    let empty_program = plain.server.within(|| EmptyProgram::attach(POD_INTERFACE))?;
    let (mut samples, mut empties) = (Samples::new(), vec![]);
    for _ in 0..rounds {
        let empty = {
            let before = empty_program.runs()?;
            Flows::open(plain, count)?.run(time)?;
            empty_program.runs()?.since(before).mean().context("the empty program did not run")?
        };
        empties.push(empty);
        for traffic in Traffic::ALL {
            interrupt.check()?;
            let pair = traffic.pair(lab, ours, family)?;
            let mut flows = Flows::open(&pair, count).with_context(|| format!("traffic {}", traffic.describe()))?;
            let before = runs_of(lab.nodes())?;
            flows.run(time).with_context(|| format!("traffic {}", traffic.describe()))?;
            for (program, after) in runs_of(lab.nodes())? {
                let runs = after.since(before.get(&program).copied().unwrap_or_default());
                if let Some(mean) = runs.mean().filter(|_| runs.count >= FEWEST_RUNS) {
                    samples.entry((traffic, program)).or_default().push((mean - empty, runs.count));
                }
            }
        }
    }
    Ok(ProgramCosts {
        flows: count,
        empty_nanoseconds: median(&empties).context("no rounds")?,
        programs: samples.into_iter().filter_map(|(key, samples)| ProgramCost::of(key, &samples)).collect(),
    })
}

impl ProgramCost {
    fn of((traffic, program): (Traffic, String), samples: &[(f64, u64)]) -> Option<Self> {
        let costs: Vec<f64> = samples.iter().map(|(cost, _)| *cost).collect();
        let runs = samples.iter().map(|(_, runs)| runs).sum();
        let range = [percentile(&costs, 0.0)?, percentile(&costs, 100.0)?];
        Some(Self { program, traffic, nanoseconds: median(&costs)?, range, runs })
    }
}

// === impl Runs ===

impl Runs {
    fn since(self, before: Self) -> Self {
        Self {
            count: self.count.saturating_sub(before.count),
            nanoseconds: self.nanoseconds.saturating_sub(before.nanoseconds),
        }
    }

    fn mean(self) -> Option<f64> {
        (self.count > 0).then(|| self.nanoseconds as f64 / self.count as f64)
    }
}

/// The part of `sdnctl status -o json` that is needed here.
#[derive(Debug, Deserialize)]
struct Status {
    programs: Vec<Program>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Program {
    name: String,
    run_count: u64,
    run_time_ns: u64,
}

/// What the agents say of their programs, all nodes together.
fn runs_of(nodes: &[std::sync::Arc<Node>]) -> Result<BTreeMap<String, Runs>> {
    let mut sum = BTreeMap::<String, Runs>::new();
    for node in nodes {
        let printed = node.sdnctl(&["status", "-o", "json"])?;
        let status: Status = serde_json::from_str(&printed)
            .with_context(|| format!("understand what sdnctl status -o json says on {}", node.name()))?;
        for Program { name, run_count, run_time_ns } in status.programs {
            let runs = sum.entry(name).or_default();
            (runs.count, runs.nanoseconds) = (runs.count + run_count, runs.nanoseconds + run_time_ns);
        }
    }
    Ok(sum)
}

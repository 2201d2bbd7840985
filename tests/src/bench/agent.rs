//! What the agent costs: time of CNI ADDs, and memory when all pods are there.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::unistd::Pid;
use serde::Serialize;

use super::contest::families;
use super::statistics::percentile;
use crate::agent::Agent;
use crate::events::Interrupt;
use crate::family::IpFamily;
use crate::lab::Lab;
use crate::pod::PodSpec;

/// The node that has all the pods.
const NODE: &str = "node-1";

/// How long the agent has to come to rest before its memory is looked at.
const REST: Duration = Duration::from_secs(2);

/// What was seen of the agent of a node that pods were added to one after the other.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentCost {
    /// Pods of the node.
    pub pods: usize,
    /// Half of the ADDs took no longer; milliseconds from the plugin's start to its end.
    pub add_median: f64,
    /// All but one of a hundred took no longer; milliseconds.
    pub add_p99: f64,
    /// Resident memory of keeper and role; bytes.
    pub memory: Memory,
    /// The same before the first pod.
    pub memory_without_pods: Memory,
}

/// Memory of all processes of an agent, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// What is resident, pages of several processes counted for each (`VmRSS`).
    pub resident: u64,
    /// What is resident, pages of several processes shared out among them (`Pss`).
    pub proportional: u64,
}

/// Adds `pods` pods to a fresh node, one after the other.
pub fn measure(name: &str, family: IpFamily, pods: usize, interrupt: &Interrupt) -> Result<AgentCost> {
    let lab = Lab::builder(name).nodes(2).family(families(family)).until(interrupt).start()?;
    let agent = lab.node(NODE)?.agent();
    thread::sleep(REST);
    let memory_without_pods = Memory::of(agent)?;
    let mut times = Vec::with_capacity(pods);
    for number in 1..=pods {
        interrupt.check()?;
        let pod = lab.add_pod(PodSpec::new(&format!("pod-{number}")).on(NODE))?;
        let took = pod.added_in().context("a pod that no plugin has added")?;
        times.push(took.as_secs_f64() * 1000.0);
    }
    thread::sleep(REST);
    Ok(AgentCost {
        pods,
        add_median: percentile(&times, 50.0).context("no pods")?,
        add_p99: percentile(&times, 99.0).context("no pods")?,
        memory: Memory::of(agent)?,
        memory_without_pods,
    })
}

impl Memory {
    fn of(agent: &Agent) -> Result<Self> {
        let mut sum = Self::default();
        for process in agent.processes() {
            sum.resident += kibibytes(process, "status", "VmRSS:")? * 1024;
            sum.proportional += kibibytes(process, "smaps_rollup", "Pss:")? * 1024;
        }
        Ok(sum)
    }
}

/// A field of a file of a process, in KiB.
pub(super) fn kibibytes(process: Pid, file: &str, field: &str) -> Result<u64> {
    let path = format!("/proc/{process}/{file}");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB")?.parse().ok());
    value.with_context(|| format!("find {field} in {path}"))
}

//! `sdn-lab status`

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{OutputFormat, StatusArgs};
use crate::record::{Phase, Record};
use crate::state::{self, LabDir};
use crate::table::Table;

/// A lab as `status -o json` shows it.
#[derive(Serialize)]
struct Shown {
    /// Whether its owner lives; what a dead one left can be removed with `sdn-lab down`.
    alive: bool,
    #[serde(flatten)]
    record: Record,
}

pub fn run(arguments: &StatusArgs) -> Result<u8> {
    let records = match &arguments.lab.name {
        Some(_) => vec![arguments.lab.find()?.1],
        None => all()?,
    };
    let labs: Vec<_> = records.into_iter().map(|record| Shown { alive: record.owner.is_alive(), record }).collect();
    match arguments.output {
        OutputFormat::Json => println!("{}", serde_json::to_string_pretty(&labs).context("write JSON")?),
        OutputFormat::Table if labs.is_empty() => println!("no lab is up"),
        OutputFormat::Table => labs.iter().for_each(|lab| println!("{}", describe(lab))),
    }
    Ok(0)
}

fn all() -> Result<Vec<Record>> {
    let records = state::names().into_iter().map(|name| LabDir::new(&name)?.record());
    // One without a record is just being made or removed.
    records.filter_map(Result::transpose).collect()
}

fn describe(lab: &Shown) -> String {
    let Record { name, owner, phase, nodes, pods, .. } = &lab.record;
    let phase = match (lab.alive, phase) {
        (false, _) => format!("left behind by a process that has ended: `sdn-lab down --name {name}` removes it"),
        (true, Phase::Starting) => format!("starting, held by process {}", owner.pid),
        (true, Phase::Ready) => format!("up, held by process {}", owner.pid),
        (true, Phase::Stopping) => "being taken down".into(),
    };
    let mut node_table = Table::new(["NODE", "ADDRESSES", "HOST SUBNETS", "AGENT", "RESTARTS"]);
    for (name, node) in nodes {
        let agent = node.agent.map_or("not running".into(), |pid| format!("process {pid}"));
        node_table.row([
            name.clone(),
            joined(&node.host.addresses),
            joined(&node.subnets),
            agent,
            node.restarts.to_string(),
        ]);
    }
    let mut pod_table = Table::new(["POD", "NODE", "ADDRESSES", "READY", "SERVED", "PROBLEMS"]);
    for (name, pod) in pods {
        let ready = if pod.ready { "yes" } else { "no" };
        let [served, problems] = [&pod.served, &pod.problems].map(|words| words.join(", "));
        pod_table.row([name.clone(), pod.node.clone(), joined(&pod.addresses), ready.into(), served, problems]);
    }
    format!("lab {name}: {phase}\n\n{node_table}\n\n{pod_table}\n")
}

fn joined<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

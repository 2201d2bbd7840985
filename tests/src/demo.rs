//! The demo: a cluster comes up, everything that ought to reach each other does, and what must not get through is dropped.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

use anyhow::Result;

use crate::family::IpFamily;
use crate::lab::Lab;
use crate::probe::names::Transport;
use crate::survey::names::{NameKind, Names, Withdrawal};
use crate::survey::{self, Count, Path, Survey};
use crate::table::Table;

/// Faults that are told one by one; there may be thousands of the same.
const MOST_FAULTS: usize = 40;

/// Questions to a row's cell: TCP, UDP, ping.
const KINDS: [&str; 3] = ["TCP", "UDP", "PING"];

/// Surveys a lab that is up and tells what it found; whether all was as expected.
pub fn show(lab: &Lab) -> Result<bool> {
    println!("{}", describe(lab));
    let began = Instant::now();
    let survey = survey::survey(lab, show_progress)?;
    println!("{} questions asked in {:.1} s\n", survey.checked.len(), began.elapsed().as_secs_f32());
    println!("{}\n", paths_table(&survey));
    println!("{}\n", drops_table(&survey));
    let names = survey::names::survey(lab)?;
    show_names(&names);
    let mut faults = survey.faults();
    faults.extend(names.faults());
    for fault in faults.iter().take(MOST_FAULTS) {
        println!("NOT AS EXPECTED  {fault}");
    }
    if faults.len() > MOST_FAULTS {
        println!("… and {} more", faults.len() - MOST_FAULTS);
    }
    let unready = unready_pods(lab);
    unready.iter().for_each(|line| println!("NOT READY  {line}"));
    let well = faults.is_empty() && unready.is_empty();
    println!("{}", if well { "every path is as expected" } else { "not every path is as expected" });
    Ok(well)
}

/// What one can try with a lab that stays up.
pub fn suggestions(lab: &Lab) -> String {
    let name = lab.name();
    let pods = lab.pods();
    let of = |index: usize| pods.get(index % pods.len().max(1)).map_or("POD".into(), |pod| pod.key().to_string());
    let target = pods.last().and_then(|pod| {
        let (_, port) = *pod.served().first()?;
        Some(std::net::SocketAddr::new(*pod.addresses().first()?, port))
    });
    let target = target.map_or("ADDRESS:PORT".into(), |target| target.to_string());
    let node = lab.nodes().first().map_or("node-1", |node| node.name());
    format!(
        "the lab '{name}' stays up until Ctrl-C or `sdn-lab down --name {name}`. Try, in another terminal:\n  \
         sdn-lab status --name {name}\n  \
         sdn-lab exec --name {name} {} -- curl -s http://{target}/\n  \
         sdn-lab exec --name {name} {} -- ip address\n  \
         sdn-lab exec --name {name} node/{node} -- sdnctl status\n  \
         sdn-lab exec --name {name} node/{node} -- sdnctl drops\n  \
         sdn-lab exec --name {name} underlay -- tcpdump -ni br0 udp port 4789",
        of(0),
        of(1),
    )
}

fn describe(lab: &Lab) -> String {
    let mut table = Table::new(["NODE", "ADDRESSES", "HOST SUBNETS", "PODS"]);
    for node in lab.nodes() {
        let pods = lab.pods().iter().filter(|pod| pod.node().name() == node.name()).count();
        table.row([node.name().to_owned(), joined(node.addresses()), joined(&node.object().subnets), pods.to_string()]);
    }
    format!("\n{table}\n")
}

fn paths_table(survey: &Survey) -> Table {
    let mut rows: BTreeMap<(Path, IpFamily), BTreeMap<&str, Count>> = BTreeMap::new();
    for ((path, family, kind), count) in survey.counts() {
        rows.entry((path, family)).or_default().insert(kind, count);
    }
    let mut table = Table::new(["PATH", "FAMILY", "TCP", "UDP", "PING", "EXPECTED", "RESULT"]);
    for ((path, family), counts) in rows {
        let cell = |kind| counts.get(kind).map_or("-".into(), |count| format!("{}/{}", count.well, count.tried));
        let [tcp, udp, ping] = KINDS.map(cell);
        let result = if survey.is_well(path, family) { "ok" } else { "FAILED" };
        table.row([path.to_string(), family.to_string(), tcp, udp, ping, path.expectation().into(), result.into()]);
    }
    table
}

fn show_names(names: &Names) {
    if names.checked.is_empty() {
        println!("no name was asked for: no pod was told of a name server\n");
        return;
    }
    println!("{}\n", names_table(names));
    let well = names.resolved.iter().filter(|resolution| resolution.fault.is_none()).count();
    println!("getaddrinfo in pods: {well} of {} names found", names.resolved.len());
    for Withdrawal { endpoint, name, node, took } in &names.withdrawn {
        let took = took.map_or("not gone".into(), |took| format!("gone {:.0} ms later", took.as_secs_f64() * 1e3));
        println!("{endpoint} stopped being ready: from {name}, as asked for on {node}, it was {took}");
    }
    println!();
}

fn names_table(names: &Names) -> Table {
    let mut rows: BTreeMap<(NameKind, IpFamily), BTreeMap<Transport, Count>> = BTreeMap::new();
    for ((kind, family, over), count) in names.counts() {
        rows.entry((kind, family)).or_default().insert(over, count);
    }
    let mut table = Table::new(["NAME", "SERVER", "UDP", "TCP", "EXPECTED", "RESULT"]);
    for ((kind, family), counts) in rows {
        let cell = |over| counts.get(&over).map_or("-".into(), |count| format!("{}/{}", count.well, count.tried));
        let [udp, tcp] = [Transport::Udp, Transport::Tcp].map(cell);
        let result = if counts.values().all(|count| count.well == count.tried) { "ok" } else { "FAILED" };
        table.row([kind.to_string(), family.to_string(), udp, tcp, kind.expectation().into(), result.into()]);
    }
    table
}

fn drops_table(survey: &Survey) -> Table {
    let mut table = Table::new(["DROPPED BECAUSE", "PACKETS", "NODES", "WHAT IT MEANS"]);
    for (reason, count) in survey.drops_after.iter() {
        let nodes = count.packets.iter().filter(|(_, packets)| **packets > 0).count();
        table.row([reason.to_owned(), count.total().to_string(), nodes.to_string(), count.description.clone()]);
    }
    table
}

fn unready_pods(lab: &Lab) -> Vec<String> {
    let pods = lab.pods().into_iter().filter(|pod| !pod.is_ready() || !pod.problems().is_empty());
    pods.map(|pod| format!("{}: {}", pod.key(), pod.problems().join("; "))).collect()
}

fn show_progress(done: usize, total: usize) {
    // One line that counts for people, some lines for logs.
    if std::io::stdout().is_terminal() {
        print!("\rasking {done}/{total} ");
        std::io::stdout().flush().ok();
    } else if done == total || done.is_multiple_of((total / 4).max(1)) {
        println!("asked {done}/{total}");
    }
    if done == total && std::io::stdout().is_terminal() {
        print!("\r");
    }
}

fn joined<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

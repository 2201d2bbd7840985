//! The metrics, read at the moment they are asked for: nothing is counted twice, and nothing is counted that nobody reads.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::{Dataplane, Packets};
use crate::admin::Agent;
use crate::admin::agent::resident_bytes;
use crate::admin::api::ApplyStatus;
use crate::cni::{Counters, Leases};
use crate::plan::policy::Condition;

/// Every metric's name begins so.
const PREFIX: &str = "culvert";

/// Labels of one row.
type Labels = Vec<(&'static str, String)>;

/// A number as it is written.
#[derive(Debug, Clone, Copy)]
enum Value {
    Whole(u64),
    Real(f64),
}

/// One metric with all its rows.
#[derive(Debug)]
struct Metric {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    rows: Vec<(Labels, Value)>,
}

/// All metrics at one moment.
#[derive(Debug, Default)]
struct Sample(Vec<Metric>);

/// The last line of an OpenMetrics text.
const END: &str = "# EOF\n";

/// All metrics in the OpenMetrics text format.
pub async fn text<D: Dataplane>(agent: &Agent<D>) -> String {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Sample::take(agent).await));
    let mut text = String::new();
    // Writing to a String fails only if one of the values' own code does, and these are numbers.
    if let Err(error) = encode(&mut text, &registry) {
        tracing::error!(%error, "cannot write the metrics");
    }
    if let Some(resolver) = agent.resolver.get() {
        // One text has one end (OpenMetrics 1.0, "# EOF"). The resolver's names are those of CoreDNS, without our prefix.
        text.truncate(text.strip_suffix(END).unwrap_or(&text).len());
        text.push_str(&resolver.metrics());
    }
    text
}

// === impl Sample ===

impl Sample {
    async fn take<D: Dataplane>(agent: &Agent<D>) -> Self {
        let mut sample = Self::default();
        sample.add_process(agent);
        sample.add_cluster(agent);
        if let Some(leases) = agent.leases.get() {
            sample.add_addresses(leases);
        }
        sample.add_cni(&agent.counters);
        if let Some(dataplane) = agent.dataplane.get() {
            sample.add_apply(dataplane);
            sample.add_policies(&dataplane.applied());
            sample.add_counts(dataplane);
            sample.add_programs(dataplane);
            sample.add_maps(dataplane).await;
        }
        sample
    }

    fn gauge(&mut self, name: &'static str, help: &'static str, rows: Vec<(Labels, Value)>) {
        self.0.push(Metric { name, help, kind: MetricType::Gauge, rows });
    }

    fn counter(&mut self, name: &'static str, help: &'static str, rows: Vec<(Labels, Value)>) {
        self.0.push(Metric { name, help, kind: MetricType::Counter, rows });
    }

    fn add_process<D: Dataplane>(&mut self, agent: &Agent<D>) {
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("node", agent.config.node_name.clone())];
        self.gauge("build_info", "Version and node of the agent; always 1.", vec![(version, Value::Whole(1))]);
        let waiting = agent.readiness.waiting();
        self.gauge("ready", "Whether the agent is ready.", one(u64::from(waiting.is_empty())));
        self.gauge(
            "uptime_seconds",
            "Time since the role started.",
            vec![(Vec::new(), Value::Real(agent.started.elapsed().as_secs_f64()))],
        );
        let processes = ["role", "keeper"].into_iter().zip(resident_bytes());
        let rows = processes.map(|(process, bytes)| (vec![("process", process.to_owned())], Value::Whole(bytes)));
        self.gauge("resident_memory_bytes", "Resident memory of the agent's processes.", rows.collect());
    }

    fn add_cluster<D: Dataplane>(&mut self, agent: &Agent<D>) {
        let Some(cluster) = agent.cluster.get() else { return };
        let snapshot = cluster.snapshots.borrow().clone();
        self.gauge("snapshot_generation", "Grows with every change of the cluster.", one(snapshot.generation));
        let help = "Whether the source was read to its end; else the last snapshot on disk is in use.";
        self.gauge("snapshot_synced", help, one(u64::from(snapshot.synced)));
        let objects =
            [("node", snapshot.nodes.len()), ("namespace", snapshot.namespaces.len()), ("pod", snapshot.pods.len())];
        let rows = objects.map(|(kind, count)| (vec![("kind", kind.to_owned())], Value::Whole(count as u64)));
        self.gauge("objects", "Objects of the cluster.", rows.into());
        let problems = cluster.problems.borrow().len();
        self.gauge("source_problems", "Objects or files at the source that cannot be used.", one(problems as u64));
    }

    fn add_addresses(&mut self, leases: &Leases) {
        let mut rows = Vec::new();
        for usage in leases.usage() {
            for (state, count) in [("used", usage.used), ("free", usage.free)] {
                rows.push((
                    vec![("subnet", usage.subnet.to_string()), ("state", state.to_owned())],
                    Value::Whole(count),
                ));
            }
        }
        self.gauge("addresses", "Addresses of the node's host subnets.", rows);
        self.gauge("local_pods", "Pods attached to this node.", one(leases.pods().len() as u64));
        let quarantined = leases.quarantined().len();
        self.gauge(
            "quarantined_leases",
            "Lease files that could not be read and were put aside.",
            one(quarantined as u64),
        );
    }

    fn add_cni(&mut self, counters: &Counters) {
        let read = |counter: &AtomicU64| Value::Whole(counter.load(Ordering::Relaxed));
        let operations =
            [("add", &counters.adds), ("del", &counters.dels), ("check", &counters.checks), ("gc", &counters.gcs)];
        let rows = operations.map(|(name, counter)| (vec![("operation", name.to_owned())], read(counter)));
        self.counter("cni_operations", "Operations of the CNI plugin that succeeded.", rows.into());
        let seconds = counters.add_micros.load(Ordering::Relaxed) as f64 / 1e6;
        let help = "Time of the ADDs that succeeded, from the first message to the answer.";
        self.counter("cni_add_seconds", help, vec![(Vec::new(), Value::Real(seconds))]);
        let failures = counters.failures().map(|(code, count)| (vec![("code", code.to_string())], Value::Whole(count)));
        self.counter("cni_failures", "Operations that failed, by CNI error code; 0 is any other.", failures.collect());
        let single = |counter| vec![(Vec::new(), read(counter))];
        self.counter(
            "cni_rollbacks",
            "ADDs undone because the plugin failed or went away.",
            single(&counters.rollbacks),
        );
        let help = "Leases taken back because their container was gone without a DEL.";
        self.counter("cni_reclaimed", help, single(&counters.reclaimed));
        self.counter("cni_strangers", "Connections refused because of their user.", single(&counters.strangers));
    }

    fn add_apply(&mut self, dataplane: &impl Dataplane) {
        let applied = dataplane.applied();
        self.counter("apply_passes", "Passes that made the kernel agree with the plan.", one(applied.passes));
        self.counter("apply_writes", "Map entries and links written.", one(applied.writes));
        self.gauge("apply_generation", "Snapshot that the last pass was made for.", one(applied.generation));
        self.gauge(
            "apply_seconds",
            "Time that the last pass took.",
            vec![(Vec::new(), Value::Real(applied.took_micros as f64 / 1e6))],
        );
        let help = "Entries that the kernel refused and is being asked again.";
        self.gauge("apply_failures", help, one(applied.failures.len() as u64));
        let help = "Objects of the cluster that cannot be used as they are.";
        self.gauge("apply_problems", help, one(applied.problems.len() as u64));
        let help = "Whether the programs have their settings and are on the VXLAN device and the uplink.";
        self.gauge("forwarding", help, one(u64::from(applied.forwarding)));
    }

    fn add_counts(&mut self, dataplane: &impl Dataplane) {
        let counts = match dataplane.counts() {
            Ok(counts) => counts,
            Err(error) => return tracing::warn!(%error, "metrics without the programs' counts"),
        };
        let drop_rows = |value: fn(&Packets) -> u64| {
            let row = |(reason, packets): &(&str, Packets)| {
                (vec![("reason", (*reason).to_owned())], Value::Whole(value(packets)))
            };
            counts.drops.iter().map(row).collect()
        };
        self.counter("drop_packets", "Packets dropped, by reason; exact.", drop_rows(|packets| packets.packets));
        self.counter("drop_bytes", "Bytes of the packets dropped, by reason.", drop_rows(|packets| packets.bytes));
        let forward_rows = |value: fn(&Packets) -> u64| {
            let row = |(hook, to, packets): &(&str, &str, Packets)| {
                (vec![("hook", (*hook).to_owned()), ("to", (*to).to_owned())], Value::Whole(value(packets)))
            };
            counts.forwards.iter().map(row).collect()
        };
        let help = "Packets not dropped, by hook and by where they went.";
        self.counter("forward_packets", help, forward_rows(|packets| packets.packets));
        let help = "Bytes of the packets not dropped, by hook and by where they went.";
        self.counter("forward_bytes", help, forward_rows(|packets| packets.bytes));
        self.counter("drop_events", "Example events of drops.", one(counts.events));
        self.counter("flows_expired", "Flows removed because they were idle.", one(counts.expired_flows));
        self.counter("masquerade_ports_freed", "Masquerading ports of flows that are gone.", one(counts.freed_ports));
    }

    fn add_policies(&mut self, applied: &ApplyStatus) {
        self.gauge(
            "policy_identities",
            "Different peers that policies can tell apart.",
            one(applied.identities as u64),
        );
        self.gauge("policy_sets", "Compiled policy sets of this node's pods.", one(applied.policy_sets as u64));
        let count = |kind: &str| applied.conditions.iter().filter(|condition| condition.kind == kind).count() as u64;
        let rows = Condition::KINDS.map(|kind| (vec![("condition", kind.to_owned())], Value::Whole(count(kind))));
        self.gauge("policy_conditions", "What of the policies found no room; see `sdnctl policy get`.", rows.into());
    }

    fn add_programs(&mut self, dataplane: &impl Dataplane) {
        let programs = match dataplane.programs() {
            Ok(programs) => programs,
            Err(error) => return tracing::warn!(%error, "metrics without programs"),
        };
        let label = |name: &str| vec![("program", name.to_owned())];
        let runs = programs.iter().map(|program| (label(&program.name), Value::Whole(program.run_count)));
        let help = "Runs of our eBPF programs; counted only while kernel.bpf_stats_enabled is on.";
        self.counter("program_runs", help, runs.collect());
        let seconds = programs.iter().map(|p| (label(&p.name), Value::Real(p.run_time_ns as f64 / 1e9)));
        let help = "Time spent in our eBPF programs; counted only while kernel.bpf_stats_enabled is on.";
        self.counter("program_seconds", help, seconds.collect());
    }

    async fn add_maps(&mut self, dataplane: &impl Dataplane) {
        let maps = match dataplane.maps().await {
            Ok(maps) => maps,
            Err(error) => return tracing::warn!(%error, "metrics without maps"),
        };
        let label = |name: &str| vec![("map", name.to_owned())];
        let entries = maps.iter().filter_map(|map| Some((label(&map.name), Value::Whole(map.entries?))));
        self.gauge("map_entries", "Entries of our eBPF maps, where they are known.", entries.collect());
        let capacity = maps.iter().map(|map| (label(&map.name), Value::Whole(map.capacity)));
        self.gauge("map_capacity", "Entries that our eBPF maps have room for.", capacity.collect());
        let memory = maps.iter().map(|map| (label(&map.name), Value::Whole(map.memory)));
        self.gauge("map_memory_bytes", "Kernel memory of our eBPF maps.", memory.collect());
    }
}

fn one(value: u64) -> Vec<(Labels, Value)> {
    vec![(Vec::new(), Value::Whole(value))]
}

impl Collector for Sample {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        for Metric { name, help, kind, rows } in &self.0 {
            let mut metric = encoder.encode_descriptor(name, help.trim_end_matches('.'), None, *kind)?;
            for (labels, value) in rows {
                if labels.is_empty() {
                    value.encode(&mut metric, *kind)?;
                } else {
                    value.encode(&mut metric.encode_family(labels)?, *kind)?;
                }
            }
        }
        Ok(())
    }
}

// === impl Value ===

impl Value {
    fn encode(self, encoder: &mut MetricEncoder<'_>, kind: MetricType) -> fmt::Result {
        match (kind, self) {
            (MetricType::Counter, Self::Whole(value)) => encoder.encode_counter::<NoLabelSet, _, u64>(&value, None),
            (MetricType::Counter, Self::Real(value)) => encoder.encode_counter::<NoLabelSet, _, f64>(&value, None),
            (_, Self::Whole(value)) => encoder.encode_gauge(&value),
            (_, Self::Real(value)) => encoder.encode_gauge(&value),
        }
    }
}

//! What the rest of the agent sees of the dataplane: pods come and go through it, and its counts come out of it.

use std::sync::Arc;

use sdn_common::{Addr4, Addr6, Counter, Endpoint, Hook};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::kernel::endpoint_of;
use super::{Applied, Command, refused};
use crate::admin::api::{ApplyStatus, ConditionRow, DropCount, DropEvent, MapStatus, ProgramStatus};
use crate::cni::{AttachError, LocalPod, PodNetwork};
use crate::family::Family;
use crate::kernel::bpf::{PinDirectory, ProgramReport, Programs, ReportError, TableError, report};
use crate::observe::drops::Drops;
use crate::observe::events::Events;
use crate::observe::sweep::Swept;
use crate::observe::{self, Counts, ObserveError, Packets};
use crate::plan::policy::Condition;

/// The dataplane's handle. Cheap to clone; when the last one is dropped the loop ends.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) applied: watch::Receiver<Applied>,
    pub(super) swept: watch::Receiver<Swept>,
    pub(super) drops: Drops,
    pub(super) events: Events,
    pub(super) programs: Programs,
    pub(super) pins: PinDirectory,
}

// === impl Handle ===

impl Handle {
    /// What the kernel holds, after each pass.
    pub fn applied(&self) -> watch::Receiver<Applied> {
        self.applied.clone()
    }

    /// What the last sweep found.
    pub fn swept(&self) -> Swept {
        *self.swept.borrow()
    }

    /// What the kernel says of each program.
    pub fn program_reports(&self) -> Result<Vec<ProgramReport>, ReportError> {
        self.programs.report()
    }

    async fn ask(
        &self,
        operation: &'static str,
        pod: &LocalPod,
        command: impl FnOnce(oneshot::Sender<Result<(), AttachError>>) -> Command,
    ) -> Result<(), AttachError> {
        let ended = || refused(operation, pod.to_string(), "the dataplane's loop has ended".to_owned(), true);
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    fn check_now(&self, pod: &LocalPod) -> Result<(), AttachError> {
        let differs = |object: String, cause: String| Err(refused("check", object, cause, false));
        for address in &pod.addresses {
            let found: Result<Option<Endpoint>, TableError> = match (Addr4::from_ip(*address), Addr6::from_ip(*address))
            {
                (Some(address), _) => endpoint_of(&self.pins, address),
                (_, Some(address)) => endpoint_of(&self.pins, address),
                (None, None) => Ok(None),
            };
            let found =
                found.map_err(|error| refused("check", format!("endpoint {address}"), error.to_string(), true))?;
            match found {
                None => return differs(format!("endpoint {address}"), "the kernel does not have it".to_owned()),
                Some(found)
                    if (found.ifindex, found.incarnation, found.mac)
                        != (pod.host_ifindex, pod.incarnation, pod.mac) =>
                {
                    return differs(format!("endpoint {address}"), "the kernel has another pod's".to_owned());
                }
                Some(_) => {}
            }
        }
        if !self.pins.link(Hook::PodOut, pod.host_ifindex).exists() {
            let object = format!("program pod_out on {}", pod.host_interface);
            return differs(object, "it is not attached".to_owned());
        }
        Ok(())
    }
}

impl PodNetwork for Handle {
    async fn attach(&self, pod: Arc<LocalPod>) -> Result<(), AttachError> {
        self.ask("attach", &pod.clone(), |reply| Command::Attach(pod, reply)).await
    }

    async fn detach(&self, pod: Arc<LocalPod>) -> Result<(), AttachError> {
        self.ask("detach", &pod.clone(), |reply| Command::Detach(pod, reply)).await
    }

    async fn check(&self, pod: Arc<LocalPod>) -> Result<(), AttachError> {
        self.check_now(&pod)
    }
}

impl observe::Dataplane for Handle {
    fn programs(&self) -> Result<Vec<ProgramStatus>, ObserveError> {
        let links = self.pins.inspect_links().map_err(|error| unreadable("links", &error))?.links;
        let device = |ifindex: u32| nix::net::if_::if_indextoname(ifindex).ok()?.into_string().ok();
        let attached_to = |program: &str| {
            let here = links.iter().filter(|(hook, _)| hook.program() == program);
            here.map(|(_, ifindex)| device(*ifindex).unwrap_or_else(|| format!("interface {ifindex}"))).collect()
        };
        let reports = self.programs.report().map_err(|error| unreadable("programs", &error))?;
        let status = |report: ProgramReport| ProgramStatus {
            attached_to: attached_to(&report.name),
            name: report.name,
            id: report.id,
            run_count: report.run_count,
            run_time_ns: report.run_time_ns,
        };
        Ok(reports.into_iter().map(status).collect())
    }

    async fn maps(&self) -> Result<Vec<MapStatus>, ObserveError> {
        let (entries, swept) = (self.applied.borrow().entries, self.swept());
        let reports = report::maps(&self.pins).map_err(|error| unreadable("maps", &error))?;
        let status = |report: report::MapReport| MapStatus {
            name: report.spec.name.to_owned(),
            version: report.spec.version,
            entries: fill(report.spec.name, &entries, &swept),
            capacity: u64::from(report.spec.capacity),
            memory: report.memory,
        };
        Ok(reports.into_iter().map(status).collect())
    }

    async fn drops(&self) -> Result<Vec<DropCount>, ObserveError> {
        self.drops.rows().map_err(|error| unreadable("drops", &error))
    }

    fn events(&self) -> broadcast::Receiver<DropEvent> {
        self.events.subscribe()
    }

    fn applied(&self) -> ApplyStatus {
        let applied = self.applied.borrow();
        let failure = |failing: &super::Failing| {
            format!("{}: {} (asked {} times)", failing.object, failing.cause, failing.attempts)
        };
        ApplyStatus {
            passes: applied.passes,
            generation: applied.generation,
            synced: applied.synced,
            forwarding: applied.forwarding,
            writes: applied.writes,
            took_micros: u64::try_from(applied.took.as_micros()).unwrap_or(u64::MAX),
            failures: applied.failures.iter().map(failure).collect(),
            problems: applied.problems.iter().map(|problem| format!("{}: {}", problem.object, problem.cause)).collect(),
            conditions: applied.conditions.iter().map(condition).collect(),
            identities: applied.policies.0,
            policy_sets: applied.policies.1,
        }
    }

    fn counts(&self) -> Result<Counts, ObserveError> {
        let unreadable = |error: TableError| unreadable("counts", &error);
        let packets = |count: Counter| Packets { packets: count.packets, bytes: count.bytes };
        let swept = self.swept();
        Ok(Counts {
            drops: self.drops.totals().map_err(unreadable)?.into_iter().map(|(r, c)| (r.label(), packets(c))).collect(),
            forwards: (self.drops.forwards().map_err(unreadable)?.into_iter())
                .map(|forward| (forward.hook, forward.forward, packets(forward.count)))
                .collect(),
            events: self.events.seen(),
            expired_flows: swept.expired,
            freed_ports: swept.freed,
        })
    }
}

/// Entries in use: what apply wrote and what the sweep counted. Walking a table for an answer would cost more than it says.
fn fill(map: &str, entries: &super::Entries, swept: &Swept) -> Option<u64> {
    let applied = |count: usize| Some(count as u64);
    let counted = |count: u64| Some(count).filter(|_| swept.sweeps > 0);
    match map {
        "NODES" => applied(entries.nodes),
        "TUNNELS" => applied(entries.tunnels),
        "SUBNETS_V4" => applied(entries.subnets[0]),
        "SUBNETS_V6" => applied(entries.subnets[1]),
        "ENDPOINTS_V4" => applied(entries.endpoints[0]),
        "ENDPOINTS_V6" => applied(entries.endpoints[1]),
        "PEERS_V4" => applied(entries.peers[0]),
        "PEERS_V6" => applied(entries.peers[1]),
        "POLICY_RULES" => applied(entries.rules),
        "AUTHORS" => applied(entries.authors),
        "CIDRS_V4" => applied(entries.blocks[0]),
        "CIDRS_V6" => applied(entries.blocks[1]),
        "FLOWS_V4" => counted(swept.flows[0]),
        "FLOWS_V6" => counted(swept.flows[1]),
        "NEW_FLOWS_V4" => counted(swept.new_flows[0]),
        "NEW_FLOWS_V6" => counted(swept.new_flows[1]),
        "MASQUERADE_V4" => counted(swept.masquerades[0]),
        "MASQUERADE_V6" => counted(swept.masquerades[1]),
        _ => None,
    }
}

fn condition(condition: &Condition) -> ConditionRow {
    ConditionRow {
        kind: condition.kind().to_owned(),
        policies: condition.policies().map(|policy| policy.to_string()).collect(),
        message: condition.to_string(),
    }
}

fn unreadable(object: &str, error: &impl std::fmt::Display) -> ObserveError {
    ObserveError { object: object.to_owned(), cause: error.to_string() }
}

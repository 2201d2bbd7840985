//! The loop that makes the kernel hold what the plan wants: wanted minus actual, ordered, retried.
//!
//! One task owns the maps and the programs. It hears of new snapshots, of the uplink, and of pods that come and go; each time it
//! updates the plan and makes one pass ([`converge`]). What it wrote it remembers, and what it found at its start it has read
//! back, so a pass writes only what differs and a start disturbs nothing. What the kernel refuses is visible in [`Applied`] and
//! is tried again, and nothing else waits for it.

mod column;
mod converge;
mod handle;
mod kernel;

use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;
use sdn_cluster::Snapshot;
use sdn_cni::Attachment;
use sdn_common::Hook;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use crate::cni::{AttachError, LocalPod};
use crate::kernel::bpf::{Clock, Dataplane, Device, TableError};
use crate::kernel::netlink::Uplink;
use crate::observe::names::Names;
use crate::observe::{ObserveError, drops, events, sweep};
use crate::plan::policy::Condition;
use crate::plan::{Inputs, Plan, Problem, Settings};

pub use converge::Entries;
pub use handle::Handle;

use converge::Actual;
use kernel::{Kernel, Refused, Tables};

/// Between two passes for what was refused, whatever is due: a pass walks what has not settled.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Between two looks at the links: a program that somebody took off its hook is put back. A look costs a few microseconds a link.
const VERIFY: Duration = Duration::from_secs(60);
/// Pods that may wait for their turn before whoever brings another one waits.
const QUEUE: usize = 64;

/// What [`spawn`] is given.
#[derive(Debug)]
pub struct Start {
    /// The programs, loaded.
    pub dataplane: Dataplane,
    /// What of the configuration the plan depends on.
    pub settings: Settings,
    /// How long flows may be idle.
    pub timeouts: sdn_common::flow::Timeouts,
    /// The cluster.
    pub snapshots: watch::Receiver<Snapshot>,
    /// The device that leads outside.
    pub uplink: watch::Receiver<Uplink>,
    /// The VXLAN device.
    pub vxlan: watch::Receiver<Device>,
    /// Pods of this node as the leases know them. All of them: whatever else the kernel has is taken for gone.
    pub pods: Vec<Arc<LocalPod>>,
}

/// What the kernel holds, as of the last pass.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// Passes made.
    pub passes: u64,
    /// The generation of the snapshot that the last pass was made for.
    pub generation: u64,
    /// A snapshot that was complete has been applied: pods reach what the cluster has.
    pub synced: bool,
    /// The programs have their settings and are on the VXLAN device and the uplink.
    pub forwarding: bool,
    /// The epoch that the programs see.
    pub epoch: u32,
    /// Entries in the kernel.
    pub entries: Entries,
    /// Entries written since this agent started.
    pub writes: u64,
    /// Time that the last pass took, from reading the change to the last write.
    pub took: Duration,
    /// What the kernel refused and will be asked again.
    pub failures: Arc<[Failing]>,
    /// Objects of the cluster that cannot be used as they are.
    pub problems: Arc<[Problem]>,
    /// What of the policies found no room.
    pub conditions: Arc<[Condition]>,
    /// Different peers that policies can tell apart, and policy sets of this node's pods.
    pub policies: (usize, usize),
}

/// What the kernel refused and will be asked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// `peer 10.128.2.9`, `program pod_out on cv0123456789ab`
    pub object: String,
    /// What it said.
    pub cause: String,
    /// How often it was asked.
    pub attempts: u32,
}

/// What the task is asked to do.
#[derive(Debug)]
enum Command {
    Attach(Arc<LocalPod>, oneshot::Sender<Result<(), AttachError>>),
    Detach(Arc<LocalPod>, oneshot::Sender<Result<(), AttachError>>),
}

/// Nothing could be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A map could not be opened or read back.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The events could not be opened.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The programs' own log, of a build that has one, could not be read.
    #[cfg(feature = "ebpf-log")]
    #[error(transparent)]
    Logging(#[from] crate::kernel::bpf::logging::LoggingError),
}

/// Starts the loop, the sweep of flows and the reading of events. Needs a tokio runtime. All of them end when the last handle is
/// dropped; what is in the kernel stays and forwards on.
pub fn spawn(start: Start) -> Result<(Handle, JoinHandle<()>), StartError> {
    let Start { dataplane, settings, timeouts, snapshots, uplink, vxlan, pods } = start;
    let names = Names::default();
    let (pins, programs, clock) = (dataplane.pins().clone(), dataplane.programs().clone(), dataplane.clock());
    let tables = Tables::open(dataplane)?;
    let actual = Actual::read(&tables)?;
    let drops = drops::Drops::open(&pins, names.clone())?;
    let (events, reader) = events::spawn(&pins, names.clone())?;
    #[cfg(feature = "ebpf-log")]
    let logs = crate::kernel::bpf::logging::spawn(&programs)?;
    let (swept, _) = sweep::spawn(sweep::Start { pins: pins.clone(), clock, timeouts, interval: sweep::INTERVAL })?;
    let (commands, queue) = mpsc::channel(QUEUE);
    let sources = Sources { snapshots, uplink, vxlan };
    let task = Task::new(tables, actual, sources, settings, clock, pods, names);
    let applied = task.applied.subscribe();
    let task = tokio::spawn(async move {
        task.run(queue).await;
        reader.abort();
        #[cfg(feature = "ebpf-log")]
        logs.abort();
    });
    Ok((Handle { commands, applied, swept, drops, events, programs, pins }, task))
}

/// What the task watches.
#[derive(Debug)]
struct Sources {
    snapshots: watch::Receiver<Snapshot>,
    uplink: watch::Receiver<Uplink>,
    vxlan: watch::Receiver<Device>,
}

/// The task that owns the kernel's state.
#[derive(Debug)]
struct Task<K> {
    kernel: K,
    actual: Actual,
    plan: Plan,
    sources: Sources,
    names: Names,
    applied: watch::Sender<Applied>,
    /// Sets that were replaced wait for it.
    grace: Option<JoinHandle<Result<(), Refused>>>,
}

// === impl Task ===

impl<K: Kernel> Task<K> {
    fn new(
        kernel: K,
        actual: Actual,
        mut sources: Sources,
        settings: Settings,
        clock: Clock,
        pods: Vec<Arc<LocalPod>>,
        names: Names,
    ) -> Self {
        for pod in &pods {
            names.add(pod.host_ifindex, pod_name(pod));
        }
        let inputs = Inputs {
            settings: Arc::new(settings),
            uplink: Arc::new(sources.uplink.borrow_and_update().clone()),
            vxlan: sources.vxlan.borrow_and_update().clone(),
            hz: clock.hz(),
            snapshot: sources.snapshots.borrow_and_update().clone(),
            pods: pods.into_iter().map(|pod| (pod.attachment(), pod)).collect(),
        };
        let plan = Plan::new(inputs, actual.indices(), actual.seed());
        Self { kernel, actual, plan, sources, names, applied: watch::Sender::default(), grace: None }
    }

    async fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        self.pass(Instant::now()).await;
        let mut verify = tokio::time::interval_at(Instant::now() + VERIFY, VERIFY);
        verify.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let earliest = Instant::now() + RETRY_PAUSE;
            let retry = self.actual.due().map(|due| due.max(earliest));
            let retry = async {
                match retry {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                command = queue.recv() => match command {
                    Some(command) => self.obey(command).await,
                    None => return,
                },
                () = self.sources.changed() => self.follow(|_| {}).await,
                () = retry => self.pass(Instant::now()).await,
                waited = over(&mut self.grace) => self.collect(waited).await,
                _ = verify.tick() => {
                    self.actual.links.doubt_all();
                    self.pass(Instant::now()).await;
                }
            }
        }
    }

    /// Removes what is left of replaced sets, when no program can be in the middle of them.
    async fn collect(&mut self, waited: Result<(), Refused>) {
        self.grace = None;
        match waited {
            Ok(()) => {
                let removed = self.actual.collect(&self.plan, &mut self.kernel, Instant::now()).await;
                let entries = self.actual.entries();
                self.applied
                    .send_modify(|applied| (applied.writes, applied.entries) = (applied.writes + removed, entries));
                self.begin_collecting();
            }
            Err(refused) => {
                tracing::warn!("replaced policy sets stay until the next change: {}", refused.cause);
                self.actual.spare();
            }
        }
    }

    fn begin_collecting(&mut self) {
        if self.grace.is_none() && self.actual.begin_collecting() {
            self.grace = Some(tokio::spawn(self.kernel.grace_period()));
        }
    }

    async fn obey(&mut self, command: Command) {
        // Whoever asked may have gone; what was done stays done.
        match command {
            Command::Attach(pod, reply) => drop(reply.send(self.attach(pod).await)),
            Command::Detach(pod, reply) => drop(reply.send(self.detach(&pod).await)),
        }
    }

    async fn attach(&mut self, pod: Arc<LocalPod>) -> Result<(), AttachError> {
        if !self.actual.has_state() {
            // What the programs need may have arrived with the pod.
            self.follow(|_| {}).await;
        }
        if !self.actual.has_state() {
            let cause = "the cluster's objects have not been read yet".to_owned();
            return Err(refused("attach", pod.to_string(), cause, true));
        }
        let earlier = self.plan.inputs().pods.get(&pod.attachment()).cloned();
        // An interface may have been made anew under its old index.
        self.actual.links.doubt(&(Hook::PodOut, pod.host_ifindex));
        self.follow(|pods| drop(pods.insert(pod.attachment(), pod.clone()))).await;
        match self.missing(&pod) {
            None => {
                self.names.add(pod.host_ifindex, pod_name(&pod));
                Ok(())
            }
            Some(error) => {
                // Undone, so that the pod is known as long as its lease is and no longer.
                self.follow(|pods| match earlier {
                    Some(earlier) => drop(pods.insert(pod.attachment(), earlier)),
                    None => drop(pods.remove(&pod.attachment())),
                })
                .await;
                Err(error)
            }
        }
    }

    async fn detach(&mut self, pod: &LocalPod) -> Result<(), AttachError> {
        self.follow(|pods| drop(pods.remove(&pod.attachment()))).await;
        let used = self.plan.inputs().pods.values().any(|other| other.host_ifindex == pod.host_ifindex);
        if !used {
            self.names.remove(pod.host_ifindex);
        }
        let left = pod.addresses.iter().find_map(|address| {
            let endpoint = self.actual.endpoint(*address)?;
            // The address may be another pod's by now.
            (endpoint.ifindex == pod.host_ifindex && endpoint.incarnation == pod.incarnation && !used)
                .then(|| self.actual.endpoint_failure(*address))
        });
        let link = self.actual.links.failure(&(Hook::PodOut, pod.host_ifindex)).filter(|_| !used);
        match left.flatten().or(link) {
            None => Ok(()),
            Some(failing) => Err(refused("detach", failing.object, failing.cause, true)),
        }
    }

    /// Makes a pass for all that is new, and for a change of this node's pods.
    async fn follow(&mut self, change: impl FnOnce(&mut OrdMap<Attachment, Arc<LocalPod>>)) {
        let began = Instant::now();
        let mut inputs = self.sources.read(self.plan.inputs());
        change(&mut inputs.pods);
        self.plan.update(inputs);
        self.pass(began).await;
    }

    /// What the kernel does not have of a pod that should be attached.
    fn missing(&self, pod: &LocalPod) -> Option<AttachError> {
        for address in &pod.addresses {
            let found = self.actual.endpoint(*address);
            if found.is_some_and(|found| found.ifindex == pod.host_ifindex && found.incarnation == pod.incarnation) {
                continue;
            }
            let failing = self.actual.endpoint_failure(*address);
            return Some(match failing {
                Some(failing) => refused("attach", failing.object, failing.cause, true),
                None => refused("attach", format!("{pod} with {address}"), self.objection(pod), false),
            });
        }
        let link = self.actual.links.failure(&(Hook::PodOut, pod.host_ifindex));
        link.map(|failing| refused("attach", failing.object, failing.cause, false))
    }

    /// Why the plan does not want a pod's endpoint.
    fn objection(&self, pod: &LocalPod) -> String {
        let name = pod.to_string();
        let problem = self.plan.problems().find(|problem| problem.object == name);
        problem.map_or_else(|| "the address is not to be used".to_owned(), |problem| problem.cause)
    }

    async fn pass(&mut self, began: Instant) {
        let writes = self.actual.converge(&mut self.plan, &mut self.kernel, Instant::now()).await;
        self.begin_collecting();
        let failures: Arc<[Failing]> = self.actual.failures().into();
        let (problems, conditions) = (self.problems(), self.conditions());
        self.names.set_authors(self.plan.wanted().policies.authors.clone());
        let policies = self.plan.policy_counts();
        let (inputs, actual, complete) = (self.plan.inputs(), &self.actual, self.plan.is_complete());
        let devices = [
            (Hook::OverlayIn, inputs.vxlan.ifindex),
            (Hook::HostOut, inputs.vxlan.ifindex),
            (Hook::UplinkIn, inputs.uplink.ifindex),
        ];
        let forwarding = actual.has_state() && devices.iter().all(|link| actual.links.actual().contains_key(link));
        self.applied.send_modify(|applied| {
            *applied = Applied {
                passes: applied.passes + 1,
                generation: inputs.snapshot.generation,
                synced: applied.synced || complete,
                forwarding,
                epoch: actual.epoch(),
                entries: actual.entries(),
                writes: applied.writes + writes,
                took: began.elapsed(),
                failures,
                problems,
                conditions,
                policies,
            };
        });
    }

    /// What found no room; each new one is logged once.
    fn conditions(&self) -> Arc<[Condition]> {
        let known = self.applied.borrow().conditions.clone();
        let conditions: Vec<Condition> = self.plan.conditions().collect();
        if *known == *conditions {
            return known;
        }
        for condition in conditions.iter().filter(|condition| !known.contains(condition)) {
            tracing::warn!("{condition}");
        }
        conditions.into()
    }

    /// The plan's problems; each new one is logged once.
    fn problems(&self) -> Arc<[Problem]> {
        let problems: Vec<Problem> = self.plan.problems().collect();
        let known = self.applied.borrow().problems.clone();
        if *known == *problems {
            return known;
        }
        for problem in problems.iter().filter(|problem| !known.contains(problem)) {
            tracing::warn!("{} is not used as it is: {}", problem.object, problem.cause);
        }
        problems.into()
    }
}

// === impl Sources ===

impl Sources {
    /// Waits until one of them has something new. One whose sender is gone never has.
    async fn changed(&mut self) {
        async fn of<T>(receiver: &mut watch::Receiver<T>) {
            if receiver.changed().await.is_err() {
                std::future::pending().await
            }
        }
        tokio::select! {
            () = of(&mut self.snapshots) => {}
            () = of(&mut self.uplink) => {}
            () = of(&mut self.vxlan) => {}
        }
    }

    /// The inputs with what is new.
    fn read(&mut self, old: &Inputs) -> Inputs {
        let uplink = self.uplink.borrow_and_update();
        let uplink = if *uplink == *old.uplink { old.uplink.clone() } else { Arc::new(uplink.clone()) };
        Inputs {
            snapshot: self.snapshots.borrow_and_update().clone(),
            vxlan: self.vxlan.borrow_and_update().clone(),
            uplink,
            ..old.clone()
        }
    }
}

/// When a grace period is over; never where none is waited for.
async fn over(grace: &mut Option<JoinHandle<Result<(), Refused>>>) -> Result<(), Refused> {
    match grace {
        Some(waiting) => waiting.await.unwrap_or_else(|error| Err(Refused { cause: error.to_string(), full: false })),
        None => std::future::pending().await,
    }
}

/// `namespace/name`, or the container where there is no pod.
fn pod_name(pod: &LocalPod) -> String {
    if pod.name.is_empty() { pod.to_string() } else { format!("{}/{}", pod.namespace, pod.name) }
}

fn refused(operation: &'static str, object: String, cause: String, transient: bool) -> AttachError {
    AttachError { operation, object, cause, transient }
}

#[cfg(test)]
mod tests;

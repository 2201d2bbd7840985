//! The kubelet's part: brings placed pods up and down, and publishes what became of them.

pub(crate) mod runtime;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use sdn_cluster::Snapshot;
use sdn_cluster::control::ControlPlane;
use sdn_cluster::control::publish::Publisher;
use sdn_cluster::control::services::ServiceRanges;
use sdn_cluster::model::{Kind, Object, ObjectKey, PodPhase};
use sdn_cluster::source::ObjectChange;
use tokio::runtime::Handle;

use crate::events::Events;
use crate::kubelet::runtime::PodSandbox;
use crate::pod::Pod;
use crate::sandbox::Sandbox;
use crate::standin::{Identity, StandIn};

/// First and longest pause before a pod that did not come up is tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// One kubelet serves all nodes of a lab.
#[derive(Debug)]
pub(crate) struct Kubelet {
    pub plugin: PathBuf,
    pub publisher: Publisher,
    /// What follows from what is published, and is published with it.
    pub plane: Mutex<ControlPlane>,
    /// Where Services get their addresses from.
    pub ranges: ServiceRanges,
    pub runtime: Handle,
    pub events: Arc<Events>,
    /// Pods that are brought up at the same time.
    pub parallel: usize,
}

impl Kubelet {
    /// Publishes an object as it is, and what follows from it.
    pub fn publish(&self, object: &Object) -> Result<()> {
        let key = object.key();
        self.change(ObjectChange::Put(object.clone())).with_context(|| format!("publish {key:?}"))
    }

    /// Takes an object back, and what was there because of it.
    pub fn unpublish(&self, key: ObjectKey) -> Result<()> {
        let told = format!("un-publish {key:?}");
        self.change(ObjectChange::Delete(key)).context(told)
    }

    /// All that is published.
    pub fn cluster(&self) -> Snapshot {
        self.plane.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).cluster().clone()
    }

    fn change(&self, change: ObjectChange) -> Result<()> {
        // Written under the lock, so that what came later stands in the end.
        let mut plane = self.plane.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        Ok(plane.update(change).iter().try_for_each(|change| self.publisher.apply(change))?)
    }

    /// Brings all `pods` up, several at once, each tried again until `deadline`. `settled` is told of each with its outcome.
    pub fn bring_up_all(
        &self,
        pods: &[Arc<Pod>],
        deadline: Instant,
        settled: impl Fn(&Pod, &Result<()>) + Sync,
    ) -> Vec<anyhow::Error> {
        let queue = Mutex::new(pods.iter().collect::<VecDeque<_>>());
        let failures = Mutex::new(vec![]);
        let next = || queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop_front();
        thread::scope(|scope| {
            for _ in 0..self.parallel.min(pods.len()) {
                scope.spawn(|| {
                    while let Some(pod) = next() {
                        let outcome = self.bring_up(pod, deadline);
                        settled(pod, &outcome);
                        let failure = outcome.err();
                        failures.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).extend(failure);
                    }
                });
            }
        });
        failures.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Brings `pod` up; tried again until `deadline`.
    pub fn bring_up(&self, pod: &Pod, deadline: Instant) -> Result<()> {
        // Bound before it is started, as by a scheduler: the agent may look it up when the plugin asks.
        self.publish(&Object::Pod(pod.object(), None))?;
        let mut pause = FIRST_PAUSE;
        loop {
            self.events.interrupt().check()?;
            match self.try_bring_up(pod) {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() + pause >= deadline => {
                    pod.state().problems.push(format!("{error:#}"));
                    return Err(error.context(format!("start the pod {}", pod.key())));
                }
                Err(error) => self.events.happened(&pod.key().to_string(), format_args!("tried in vain: {error:#}")),
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Takes `pod` down and un-publishes it. Goes on after failures, of which the first is told.
    pub fn take_down(&self, pod: &Pod) -> Result<()> {
        let object = pod.object();
        let network = {
            let mut state = pod.state();
            state.clear();
            state.network.take()
        };
        let removed = network.map_or(Ok(()), |network| network.remove(&self.plugin, pod.node(), &object));
        let key = ObjectKey { kind: Kind::Pod, namespace: object.namespace.clone(), name: object.name.clone() };
        let deleted = self.unpublish(key);
        self.events.happened(&pod.key().to_string(), "gone");
        removed.and(deleted).with_context(|| format!("remove the pod {}", pod.key()))
    }

    /// CNI CHECK of `pod`; pods on the host's network have nothing to check.
    pub fn check(&self, pod: &Pod) -> Result<()> {
        let object = pod.object();
        let state = pod.state();
        state.network.as_ref().map_or(Ok(()), |network| network.check(&self.plugin, pod.node(), &object))
    }

    fn try_bring_up(&self, pod: &Pod) -> Result<()> {
        let object = pod.object();
        let (addresses, sandbox) = if object.host_network {
            (pod.node().addresses().to_vec(), pod.node().sandbox().clone())
        } else {
            let network = PodSandbox::create(&self.plugin, pod.node(), &object)?;
            let made = (network.addresses().to_vec(), network.sandbox().clone());
            pod.state().network = Some(network);
            made
        };
        let (stand_ins, problems) = self.serve(pod, &sandbox);
        let object = {
            let mut state = pod.state();
            (state.sandbox, state.stand_ins, state.problems) = (Some(sandbox), stand_ins, problems);
            let object = Arc::make_mut(&mut state.object);
            (object.addresses, object.phase, object.ready) = (addresses, PodPhase::Running, true);
            state.object.clone()
        };
        self.events
            .happened(&pod.key().to_string(), format_args!("up on {} at {:?}", pod.node().name(), object.addresses));
        self.publish(&Object::Pod(object, None))
    }

    /// Opens the declared ports. One that cannot be opened is a problem of the pod, as a crashing container would be.
    fn serve(&self, pod: &Pod, sandbox: &Sandbox) -> (Vec<StandIn>, Vec<String>) {
        let who = Arc::new(Identity {
            namespace: pod.key().namespace.to_string(),
            pod: pod.key().name.to_string(),
            node: pod.node().name().to_owned(),
        });
        let mut ports: Vec<_> = pod.object().ports.iter().map(|port| (port.protocol, port.port)).collect();
        ports.sort();
        ports.dedup();
        let opened: Vec<_> = ports
            .into_iter()
            .map(|(protocol, port)| StandIn::open(sandbox, &self.runtime, who.clone(), protocol, port))
            .collect();
        let (served, failed): (Vec<_>, Vec<_>) = opened.into_iter().partition(Result::is_ok);
        let problems = failed.into_iter().filter_map(|failure| Some(format!("{:#}", failure.err()?))).collect();
        (served.into_iter().flatten().collect(), problems)
    }
}

//! A running lab.

mod objects;
mod outside;
mod premises;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sdn_cluster::Snapshot;
use sdn_cluster::control;
use sdn_cluster::model::{self, Labels, Namespace, Object, PodKey, Protocol};
use tokio::runtime::Runtime;

use crate::builder::{LabBuilder, Wanted};
use crate::events::Progress;
use crate::family::Family;
use crate::kubelet::Kubelet;
use crate::node::Node;
use crate::pod::{Pod, PodSpec, parse_key};
use crate::record::{Owner, Phase, Record};
use crate::standin::{Identity, StandIn};
use crate::state::LabDir;
use crate::underlay::Underlay;

pub use outside::{OUTSIDE_TCP, OUTSIDE_UDP, Outside};
pub(crate) use premises::Premises;

/// The port on which nodes answer for themselves, TCP and UDP.
pub const NODE_PORT: u16 = 10080;

/// Ports of OpenShift's machine configuration server. Nodes answer there, so that it shows when a pod gets through.
pub const MACHINE_CONFIG_PORTS: [u16; 2] = [22623, 22624];

/// A cluster of namespaces. It ends, and leaves nothing behind, when it is dropped.
pub struct Lab {
    family: Family,
    underlay: Underlay,
    outside: Outside,
    nodes: Vec<Arc<Node>>,
    pods: Mutex<BTreeMap<PodKey, Arc<Pod>>>,
    namespaces: Mutex<BTreeMap<Arc<str>, Arc<Namespace>>>,
    kubelet: Kubelet,
    notes: Vec<String>,
    phase: Mutex<Phase>,
    turn: AtomicUsize,
    admitted: AtomicUsize,
    premises: Premises,
    runtime: Option<Runtime>,
}

impl Lab {
    /// Describes a lab called `name`. Labs of different names do not disturb each other.
    pub fn builder(name: &str) -> LabBuilder {
        LabBuilder::new(name)
    }

    pub(crate) fn new(
        family: Family,
        premises: Premises,
        runtime: Runtime,
        underlay: Underlay,
        outside: Outside,
        nodes: Vec<Arc<Node>>,
        kubelet: Kubelet,
    ) -> Self {
        let (pods, namespaces, phase) = (Mutex::default(), Mutex::default(), Mutex::new(Phase::Starting));
        let (notes, turn, admitted, runtime) = (vec![], AtomicUsize::new(0), AtomicUsize::new(0), Some(runtime));
        Self {
            family,
            underlay,
            outside,
            nodes,
            pods,
            namespaces,
            kubelet,
            notes,
            phase,
            turn,
            admitted,
            premises,
            runtime,
        }
    }

    // === What there is ===

    /// Its name.
    pub fn name(&self) -> &str {
        self.dir().name()
    }

    /// Where its state is.
    pub fn dir(&self) -> &LabDir {
        self.premises.dir()
    }

    /// The families of its pods and its underlay.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Its nodes.
    pub fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Result<&Arc<Node>> {
        let found = self.nodes.iter().find(|node| node.name() == name);
        found.with_context(|| format!("the lab '{}' has no node {name}", self.name()))
    }

    /// The outside host.
    pub fn outside(&self) -> &Outside {
        &self.outside
    }

    /// The bridge between the nodes.
    pub fn underlay(&self) -> &Underlay {
        &self.underlay
    }

    /// All pods, by namespace and name.
    pub fn pods(&self) -> Vec<Arc<Pod>> {
        self.pods_by_key().values().cloned().collect()
    }

    /// The pod `namespace/name`, or the pod of that name in `default`.
    pub fn pod(&self, name: &str) -> Result<Arc<Pod>> {
        let found = self.pods_by_key().get(&parse_key(name)).cloned();
        found.with_context(|| format!("the lab '{}' has no pod {name}", self.name()))
    }

    /// All that the agents see.
    pub fn cluster(&self) -> Snapshot {
        self.kubelet.cluster()
    }

    /// What a person should know about how it came up.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Runs `sdnctl` with these arguments on a node; its standard output.
    pub fn sdnctl(&self, node: &str, arguments: &[&str]) -> Result<String> {
        self.node(node)?.sdnctl(arguments)
    }

    // === What can be changed ===

    /// Brings one more pod up.
    pub fn add_pod(&self, spec: PodSpec) -> Result<Arc<Pod>> {
        let mut added = self.add_pods([spec])?;
        added.pop().context("add a pod")
    }

    /// Brings more pods up, several at once, for at most a minute.
    pub fn add_pods(&self, specs: impl IntoIterator<Item = PodSpec>) -> Result<Vec<Arc<Pod>>> {
        let pods = specs.into_iter().map(|spec| self.admit(spec.pod)).collect::<Result<Vec<_>>>()?;
        self.bring_up(&pods)?;
        Ok(pods)
    }

    /// Takes a pod down.
    pub fn delete_pod(&self, name: &str) -> Result<()> {
        let pod = self.pod(name)?;
        let outcome = self.kubelet.take_down(&pod);
        self.pods_by_key().remove(pod.key());
        outcome.and(self.save())
    }

    /// Gives a pod other labels.
    pub fn relabel(&self, name: &str, labels: impl IntoIterator<Item = (&'static str, &'static str)>) -> Result<()> {
        let labels: Labels = labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        let object = self.pod(name)?.update(|pod| pod.labels = labels);
        self.kubelet.publish(&Object::Pod(object, None))
    }

    /// Makes a namespace, or gives it other labels.
    pub fn put_namespace(&self, namespace: Arc<Namespace>) -> Result<()> {
        self.kubelet.publish(&Object::Namespace(namespace.clone()))?;
        self.namespaces().insert(namespace.name.clone(), namespace);
        Ok(())
    }

    /// CNI CHECK of a pod.
    pub fn check_pod(&self, name: &str) -> Result<()> {
        self.kubelet.check(&*self.pod(name)?)
    }

    /// Ends the lab and tells what could not be removed.
    pub fn stop(mut self) -> Result<()> {
        self.end()
    }

    /// Writes the record that `sdn-lab status` and `exec` read.
    pub fn save(&self) -> Result<()> {
        // Under the lock, so that an older record never replaces a newer one.
        let phase = self.phase.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let record = Record {
            name: self.name().to_owned(),
            owner: Owner::this_process(),
            phase: *phase,
            nodes: self.nodes.iter().map(|node| (node.name().to_owned(), node.record())).collect(),
            pods: self.pods().iter().map(|pod| (pod.key().to_string(), pod.record())).collect(),
            outside: self.outside.record(),
        };
        record.write(&self.dir().record_file())
    }

    // === How it comes up ===

    /// Publishes the cluster before any agent looks; pods are only taken in.
    pub(crate) fn publish(&mut self, Wanted { derived, notes }: Wanted) -> Result<()> {
        for note in &notes {
            self.kubelet.events.progress(&Progress::Note(note.clone()));
        }
        self.notes = notes;
        for node in &derived.nodes {
            self.kubelet.publish(&Object::Node(node.clone()))?;
        }
        for namespace in &derived.namespaces {
            self.put_namespace(namespace.clone())?;
        }
        for policy in &derived.policies {
            self.kubelet.publish(&Object::NetworkPolicy(policy.clone()))?;
        }
        self.publish_services(&derived)?;
        for pod in &derived.pods {
            match &pod.node {
                Some(_) => drop(self.admit((**pod).clone())?),
                // Told in the notes; the agents see it as Pending.
                None => self.kubelet.publish(&Object::Pod(pod.clone(), None))?,
            }
        }
        self.save()
    }

    /// Starts all agents, and waits until they are ready.
    pub(crate) fn start_agents(&self, patience: Duration) -> Result<()> {
        for node in &self.nodes {
            node.agent().start()?;
            self.serve_node(node)?;
        }
        self.save()?;
        let ready = AtomicUsize::new(0);
        let total = self.nodes.len();
        thread::scope(|scope| {
            let await_one = |node: &Arc<Node>| {
                node.agent().wait_ready(patience)?;
                let ready = ready.fetch_add(1, Ordering::Relaxed) + 1;
                self.kubelet.events.progress(&Progress::AgentReady { node: node.name().to_owned(), ready, total });
                Ok(())
            };
            let waits: Vec<_> = self.nodes.iter().map(|node| scope.spawn(move || await_one(node))).collect();
            waits.into_iter().try_for_each(|wait| wait.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }

    /// Brings up all pods that were taken in; the failures.
    pub(crate) fn start_pods(&self, deadline: Instant) -> Vec<anyhow::Error> {
        let pods = self.pods();
        let (settled, ready) = (AtomicUsize::new(0), AtomicUsize::new(0));
        self.kubelet.bring_up_all(&pods, deadline, |_, outcome| {
            let ready = ready.fetch_add(outcome.is_ok().into(), Ordering::Relaxed) + usize::from(outcome.is_ok());
            let settled = settled.fetch_add(1, Ordering::Relaxed) + 1;
            self.kubelet.events.progress(&Progress::PodSettled { ready, settled, total: pods.len() });
        })
    }

    /// Marks the start as done.
    pub(crate) fn settle(&self) -> Result<()> {
        self.set_phase(Phase::Ready)
    }

    fn bring_up(&self, pods: &[Arc<Pod>]) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let failures = self.kubelet.bring_up_all(pods, deadline, |_, _| ());
        self.save()?;
        failures.into_iter().next().map_or(Ok(()), Err)
    }

    /// Takes a pod in, on its node or the next one in turn. It is not up yet.
    fn admit(&self, mut object: model::Pod) -> Result<Arc<Pod>> {
        let node = match &object.node {
            Some(name) => self.node(name)?,
            None => &self.nodes[self.turn.fetch_add(1, Ordering::Relaxed) % self.nodes.len()],
        };
        object.node = Some(node.name().into());
        let namespace = object.namespace.clone();
        if !self.namespaces().contains_key(&namespace) {
            self.put_namespace(Arc::new(new_namespace(namespace)))?;
        }
        if object.uid.is_empty() {
            // Another one each time: a pod that comes after one of its name is not that pod.
            let count = self.admitted.fetch_add(1, Ordering::Relaxed);
            object.uid = control::uid(&Object::Pod(Arc::new(object.clone()), None).key(), &count.to_string());
        }
        let pod = Arc::new(Pod::new(Arc::new(object), node.clone()));
        let mut pods = self.pods_by_key();
        ensure!(!pods.contains_key(pod.key()), "the lab '{}' has a pod {} already", self.name(), pod.key());
        pods.insert(pod.key().clone(), pod.clone());
        Ok(pod)
    }

    /// A node's own servers: something for pods to reach, and something that they must not.
    fn serve_node(&self, node: &Node) -> Result<()> {
        let who =
            Arc::new(Identity { namespace: String::new(), pod: node.name().to_owned(), node: node.name().to_owned() });
        let tcp = [NODE_PORT].into_iter().chain(MACHINE_CONFIG_PORTS).map(|port| (Protocol::Tcp, port));
        for (protocol, port) in tcp.chain([(Protocol::Udp, NODE_PORT)]) {
            let runtime = &self.kubelet.runtime;
            node.keep_stand_in(StandIn::open(node.sandbox(), runtime, who.clone(), protocol, port)?);
        }
        Ok(())
    }

    fn set_phase(&self, phase: Phase) -> Result<()> {
        *self.phase.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = phase;
        self.save()
    }

    fn end(&mut self) -> Result<()> {
        let Some(runtime) = self.runtime.take() else { return Ok(()) };
        self.set_phase(Phase::Stopping).ok();
        for node in &self.nodes {
            node.agent().set_restart(false);
        }
        if thread::panicking() {
            self.tell_last_words();
        }
        // Waits for the stand-ins: their sockets would keep the pods' networks alive.
        runtime.shutdown_timeout(Duration::from_secs(5));
        self.premises.close()
    }

    /// A test has failed: what the agents said last may tell why, and is about to be removed.
    fn tell_last_words(&self) {
        for node in &self.nodes {
            eprintln!("{}: {}", node.name(), node.agent().last_words());
        }
    }

    fn pods_by_key(&self) -> MutexGuard<'_, BTreeMap<PodKey, Arc<Pod>>> {
        self.pods.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn namespaces(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<Namespace>>> {
        self.namespaces.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A namespace as the API makes it.
fn new_namespace(name: Arc<str>) -> Namespace {
    let labels = Labels::from([(Namespace::NAME_LABEL.to_owned(), name.to_string())]);
    let mut namespace = Namespace { name, labels, ..Namespace::default() };
    namespace.uid = control::uid(&Object::Namespace(Arc::new(namespace.clone())).key(), "");
    namespace
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error:#}");
        }
    }
}

impl std::fmt::Debug for Lab {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lab").field("name", &self.name()).finish_non_exhaustive()
    }
}

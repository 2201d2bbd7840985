//! How a lab is described, and the order in which it comes up.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use ipnet::IpNet;
use sdn_cluster::control::publish::Publisher;
use sdn_cluster::control::services::ServiceRanges;
use sdn_cluster::control::{self, ControlPlane, Derived};
use sdn_cluster::model::{Kind, Node as NodeObject, Object, Service};
use sdn_cluster::network::{ClusterNetwork, ClusterNetworks, DEFAULT_SERVICES};
use sdn_cluster::source::manifests;

use crate::agent::AgentCommand;
use crate::events::{Events, Interrupt, Progress, Watcher};
use crate::family::{Family, IpFamily};
use crate::kubelet::Kubelet;
use crate::lab::{Lab, Outside, Premises};
use crate::node::{Node, NodeParts};
use crate::pod::PodSpec;
use crate::programs::Programs;
use crate::state::LabDir;
use crate::underlay::{Host, Underlay};

/// Cluster networks where nothing else is asked for.
const CLUSTER_NETWORKS: [&str; 2] = ["10.128.0.0/14,23", "fd01::/48,64"];

/// MTU of the uplinks where nothing else is asked for, bytes.
const UNDERLAY_MTU: u32 = 1500;

/// Describes a lab; [`LabBuilder::start`] brings it up.
pub struct LabBuilder {
    name: String,
    nodes: Option<usize>,
    family: Family,
    underlay_mtu: u32,
    networks: Vec<ClusterNetwork>,
    service_networks: Vec<IpNet>,
    manifests: Vec<PathBuf>,
    texts: Vec<String>,
    pods: Vec<PodSpec>,
    agents: bool,
    agent_program: Option<PathBuf>,
    plugin_program: Option<PathBuf>,
    agent_arguments: Vec<String>,
    agent_environment: Vec<(String, String)>,
    parallel: usize,
    patience: Duration,
    require_ready: bool,
    watcher: Option<Watcher>,
    interrupt: Interrupt,
}

/// What a lab is to run.
pub(crate) struct Wanted {
    pub derived: Derived,
    /// What a person should know about it.
    pub notes: Vec<String>,
}

impl LabBuilder {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            nodes: None,
            family: Family::default(),
            underlay_mtu: UNDERLAY_MTU,
            networks: vec![],
            service_networks: vec![],
            manifests: vec![],
            texts: vec![],
            pods: vec![],
            agents: true,
            agent_program: None,
            plugin_program: None,
            agent_arguments: vec![],
            agent_environment: vec![],
            parallel: 8,
            patience: Duration::from_secs(60),
            require_ready: true,
            watcher: None,
            interrupt: Interrupt::default(),
        }
    }

    /// So many nodes (3 if not said), called node-1, node-2 … Nodes among the manifests take their place.
    pub fn nodes(mut self, count: usize) -> Self {
        self.nodes = Some(count);
        self
    }

    /// The families of pods and underlay; both if not said.
    pub fn family(mut self, family: Family) -> Self {
        self.family = family;
        self
    }

    /// MTU of all uplinks in bytes, 1500 if not said.
    pub fn underlay_mtu(mut self, mtu: u32) -> Self {
        self.underlay_mtu = mtu;
        self
    }

    /// A cluster network in place of the default of its family.
    pub fn cluster_network(mut self, network: ClusterNetwork) -> Self {
        self.networks.push(network);
        self
    }

    /// A service network in place of the default of its family.
    pub fn service_network(mut self, network: IpNet) -> Self {
        self.service_networks.push(network);
        self
    }

    /// A file or directory of manifests to run; may be said several times.
    pub fn manifests(mut self, path: impl Into<PathBuf>) -> Self {
        self.manifests.push(path.into());
        self
    }

    /// Manifests as text, like `{apiVersion: v1, kind: Service, …}`; may be said several times.
    pub fn yaml(mut self, text: &str) -> Self {
        self.texts.push(text.into());
        self
    }

    /// A pod to run; may be said several times.
    pub fn pod(mut self, pod: PodSpec) -> Self {
        self.pods.push(pod);
        self
    }

    /// No agents: nodes with an underlay, pods on the host's network or connected by another plugin.
    pub fn without_agents(mut self) -> Self {
        self.agents = false;
        self
    }

    /// This `sdn-agent` in place of the one beside the running program.
    pub fn agent_program(mut self, program: impl Into<PathBuf>) -> Self {
        self.agent_program = Some(program.into());
        self
    }

    /// This CNI plugin in place of `sdn-cni`.
    pub fn plugin_program(mut self, program: impl Into<PathBuf>) -> Self {
        self.plugin_program = Some(program.into());
        self
    }

    /// A further argument for `sdn-agent node`.
    pub fn agent_argument(mut self, argument: &str) -> Self {
        self.agent_arguments.push(argument.into());
        self
    }

    /// A variable in the agents' environment.
    pub fn agent_environment(mut self, name: &str, value: &str) -> Self {
        self.agent_environment.push((name.into(), value.into()));
        self
    }

    /// So many pods are brought up at the same time; 8 if not said.
    pub fn parallel(mut self, count: usize) -> Self {
        self.parallel = count.max(1);
        self
    }

    /// How long agents, and then pods, may take to become ready; a minute each if not said.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Come up even if pods do not: they are told as notes. Without this it is an error.
    pub fn tolerate_unready(mut self) -> Self {
        self.require_ready = false;
        self
    }

    /// Tells `watcher` how far the start has come.
    pub fn on_progress(mut self, watcher: impl Fn(&Progress) + Send + Sync + 'static) -> Self {
        self.watcher = Some(Box::new(watcher));
        self
    }

    /// Gives the start up when `interrupt` is requested.
    pub fn until(mut self, interrupt: &Interrupt) -> Self {
        self.interrupt = interrupt.clone();
        self
    }

    /// Brings the lab up. On failure nothing is left of it.
    pub fn start(mut self) -> Result<Lab> {
        let wanted = self.derive()?;
        let programs = self.find_programs()?;
        let premises = Premises::claim(&LabDir::new(&self.name)?, &programs.lab)?;
        let events = Arc::new(Events::begin(&premises.dir().events(), self.watcher.take(), self.interrupt.clone())?);
        let mut lab = self.build(premises, &programs, events, &wanted)?;
        lab.publish(wanted)?;
        if self.agents {
            lab.start_agents(self.patience)?;
        }
        let failures = lab.start_pods(Instant::now() + self.patience);
        self.interrupt.check()?;
        lab.settle()?;
        if self.require_ready && !failures.is_empty() {
            let reasons: Vec<String> = failures.iter().map(|failure| format!("{failure:#}")).collect();
            bail!("{} pods of the lab '{}' do not come up:\n  {}", reasons.len(), self.name, reasons.join("\n  "));
        }
        Ok(lab)
    }

    /// What a control plane would make of the manifests.
    fn derive(&self) -> Result<Wanted> {
        let networks = self.cluster_networks()?;
        let (mut objects, mut notes) = read_manifests(&self.manifests)?;
        for text in &self.texts {
            let (more, faults) = read_text(text)?;
            objects.extend(more);
            notes.extend(faults);
        }
        objects.extend(self.pods.iter().map(|spec| Object::Pod(Arc::new(spec.pod.clone()), None)));
        let on_underlay = self.place_nodes(&mut objects, &mut notes)?;
        let derived = control::derive(objects, on_underlay, &networks, &self.service_ranges()?)
            .context("derive the cluster's objects")?;
        notes.extend(derived.notes.iter().map(ToString::to_string));
        Ok(Wanted { derived, notes })
    }

    /// Gives every node its addresses on the underlay: those among `objects` in place, else new ones which are returned.
    fn place_nodes(&self, objects: &mut [Object], notes: &mut Vec<String>) -> Result<Vec<NodeObject>> {
        let mut placed = 0;
        for object in objects {
            if let Object::Node(node) = object {
                placed += 1;
                Arc::make_mut(node).addresses = Host::Node(placed).addresses(self.family);
            }
        }
        if placed > 0 {
            if self.nodes.is_some_and(|count| count != placed) {
                notes.push(format!("the manifests have {placed} nodes: these are used"));
            }
            return Ok(vec![]);
        }
        let count = self.nodes.unwrap_or(3);
        ensure!(count > 0, "a lab has at least one node");
        let mut nodes = control::nodes(count);
        for (index, node) in nodes.iter_mut().enumerate() {
            node.addresses = Host::Node(index + 1).addresses(self.family);
        }
        Ok(nodes)
    }

    /// One cluster network of each family in use.
    fn cluster_networks(&self) -> Result<ClusterNetworks> {
        let defaults: Vec<ClusterNetwork> =
            CLUSTER_NETWORKS.iter().map(|text| text.parse()).collect::<Result<_, _>>().context("default networks")?;
        let of = |wanted: IpFamily| {
            let family = move |network: &&ClusterNetwork| IpFamily::of(network.cidr().addr()) == wanted;
            let given = self.networks.iter().find(family);
            given.or(defaults.iter().find(family)).copied().with_context(|| format!("find an {wanted} cluster network"))
        };
        let networks = self.family.each().iter().copied().map(of).collect::<Result<Vec<_>>>()?;
        let underlay = self.family.each().iter().map(|family| Host::Outside.address(*family).trunc());
        let mut apart: Vec<_> = underlay.map(|network| ("the lab's underlay", network)).collect();
        apart.extend(self.service_ranges()?.networks().iter().map(|network| ("the service network", *network)));
        Ok(ClusterNetworks::new(networks, &apart)?)
    }

    /// One service network of each family in use.
    fn service_ranges(&self) -> Result<ServiceRanges> {
        let of = |wanted: &IpFamily| {
            let mut networks = self.service_networks.iter().chain(&DEFAULT_SERVICES);
            networks.find(|network| IpFamily::of(network.addr()) == *wanted).copied()
        };
        Ok(ServiceRanges::new(self.family.each().iter().filter_map(of).collect())?)
    }

    fn find_programs(&self) -> Result<Programs> {
        let mut programs = if self.agents { Programs::find()? } else { Programs::only_lab()? };
        programs.agent = self.agent_program.clone().unwrap_or(programs.agent);
        programs.cni = self.plugin_program.clone().unwrap_or(programs.cni);
        Ok(programs)
    }

    /// Makes underlay, outside host and nodes; nothing runs yet.
    fn build(&self, premises: Premises, programs: &Programs, events: Arc<Events>, wanted: &Wanted) -> Result<Lab> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("stand-ins")
            .enable_all()
            .build()
            .context("start the lab's runtime")?;
        let underlay = Underlay::new(self.family, self.underlay_mtu)?;
        premises.keep("underlay.net", underlay.switch().net())?;
        let outside = Outside::make(&premises, &underlay, self.family, runtime.handle())?;
        let mut nodes = vec![];
        for (index, object) in wanted.derived.nodes.iter().enumerate() {
            self.interrupt.check()?;
            let agent = self.agent_command(programs, premises.dir(), object);
            let parts = NodeParts { claim: premises.held()?, underlay: &underlay, programs, events: &events, agent };
            let node = Node::make(index + 1, object.clone(), parts);
            nodes.push(Arc::new(node.with_context(|| format!("make the node {}", object.name))?));
        }
        events.progress(&Progress::NodesUp(nodes.len()));
        let publisher = Publisher::new(premises.dir().manifests()).context("publish the cluster's objects")?;
        let kubelet = Kubelet {
            plugin: programs.cni.clone(),
            publisher,
            plane: Mutex::new(ControlPlane::default()),
            ranges: self.service_ranges()?,
            runtime: runtime.handle().clone(),
            events,
            parallel: self.parallel,
        };
        Ok(Lab::new(self.family, premises, runtime, underlay, outside, nodes, kubelet))
    }

    fn agent_command(&self, programs: &Programs, lab: &LabDir, node: &NodeObject) -> AgentCommand {
        let mut arguments = vec!["node".into(), "--node-name".into(), node.name.to_string()];
        arguments.extend(["--manifests".into(), path_text(&lab.manifests())]);
        for network in self.cluster_networks().iter().flat_map(ClusterNetworks::iter) {
            arguments.extend(["--cluster-network".into(), network.to_string()]);
        }
        for network in self.service_ranges().iter().flat_map(ServiceRanges::networks) {
            arguments.extend(["--service-network".into(), network.to_string()]);
        }
        arguments.extend(self.agent_arguments.iter().cloned());
        AgentCommand { program: programs.agent.clone(), arguments, environment: self.agent_environment.clone() }
    }
}

/// The objects of all manifests, and what a person should know about what was not understood.
fn read_manifests(paths: &[PathBuf]) -> Result<(Vec<Object>, Vec<String>)> {
    let (mut objects, mut notes) = (vec![], vec![]);
    for path in paths {
        let contents =
            manifests::read(path, Kind::ALL).with_context(|| format!("read the manifests {}", path.display()))?;
        objects.extend(contents.objects);
        notes.extend(contents.problems.iter().map(|problem| format!("rejected: {problem}")));
        notes
            .extend(contents.unused.iter().map(|unused| format!("not used: {} of kind {}", unused.count, unused.kind)));
    }
    Ok((objects, notes))
}

/// The same of a text.
fn read_text(text: &str) -> Result<(Vec<Object>, Vec<String>)> {
    let directory = tempfile::tempdir().context("make a directory for manifests")?;
    let file = directory.path().join("manifests.yaml");
    std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    read_manifests(&[file])
}

/// Manifests that are added to a running lab.
pub(crate) enum Added<'a> {
    /// In a file or directory.
    At(&'a Path),
    /// As text.
    Text(&'a str),
}

/// What a control plane would make of manifests that are added to a running lab, which has `nodes` and `services`.
pub(crate) fn derive_on(
    added: &Added<'_>,
    nodes: &[Arc<Node>],
    services: impl IntoIterator<Item = Arc<Service>>,
    ranges: &ServiceRanges,
) -> Result<Wanted> {
    let (mut objects, mut notes) = match added {
        Added::At(path) => read_manifests(&[(*path).to_owned()])?,
        Added::Text(text) => read_text(text)?,
    };
    objects.retain(|object| !matches!(object, Object::Node(_)));
    let new: BTreeSet<_> = objects.iter().map(Object::key).collect();
    // What there is keeps its addresses, and is only replaced by what has its name.
    let kept = services.into_iter().map(Object::Service).filter(|service| !new.contains(&service.key()));
    objects.extend(kept);
    let nodes = nodes.iter().map(|node| (**node.object()).clone()).collect();
    let derived = control::derive(objects, nodes, &ClusterNetworks::new(vec![], &[])?, ranges)?;
    notes.extend(derived.notes.iter().map(ToString::to_string));
    Ok(Wanted { derived, notes })
}

fn path_text(path: &Path) -> String {
    // Made of a constant and a checked name.
    path.to_str().expect("a lab's paths are ASCII").to_owned()
}

//! Pods: what a test or a person does with one.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::process::Output;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context as _, Result};
use sdn_cluster::model::{self, ContainerPort, Labels, PodKey, PodPhase, Protocol};

use crate::family::IpFamily;
use crate::kubelet::runtime::PodSandbox;
use crate::node::filesystem::RESOLV_CONF;
use crate::node::{Node, command_of, stdout_of};
use crate::record::PodRecord;
use crate::sandbox::Sandbox;
use crate::standin::StandIn;

/// A pod that a test makes up, for [`crate::LabBuilder::pod`] and [`crate::Lab::add_pod`].
#[derive(Debug, Clone)]
pub struct PodSpec {
    pub(crate) pod: model::Pod,
}

/// A pod of a lab, up or on its way.
#[derive(Debug)]
pub struct Pod {
    key: PodKey,
    node: Arc<Node>,
    state: Mutex<PodState>,
}

/// What changes about a pod.
#[derive(Debug)]
pub(crate) struct PodState {
    /// As published.
    pub object: Arc<model::Pod>,
    /// Its own network; none on the host's.
    pub network: Option<PodSandbox>,
    /// Where its processes run; none while it is not up.
    pub sandbox: Option<Sandbox>,
    pub stand_ins: Vec<StandIn>,
    /// What does not work, for people.
    pub problems: Vec<String>,
}

// === impl PodSpec ===

impl PodSpec {
    /// A pod called `name`, which is `namespace/name` or a name in the namespace `default`.
    pub fn new(name: &str) -> Self {
        let PodKey { namespace, name } = parse_key(name);
        Self { pod: model::Pod { namespace, name, ..model::Pod::default() } }
    }

    /// On this node; without it they take turns.
    pub fn on(mut self, node: &str) -> Self {
        self.pod.node = Some(node.into());
        self
    }

    /// With a TCP port that is served.
    pub fn tcp(self, port: u16) -> Self {
        self.port(Protocol::Tcp, port)
    }

    /// With a UDP port that is served.
    pub fn udp(self, port: u16) -> Self {
        self.port(Protocol::Udp, port)
    }

    /// With a declared port.
    pub fn port(mut self, protocol: Protocol, port: u16) -> Self {
        self.pod.ports.push(ContainerPort { name: None, port, protocol, host_port: None });
        self
    }

    /// With a label.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.pod.labels.insert(key.into(), value.into());
        self
    }

    /// With this uid in place of one of its own.
    pub fn uid(mut self, uid: &str) -> Self {
        self.pod.uid = uid.into();
        self
    }

    /// In its node's network.
    pub fn host_network(mut self) -> Self {
        self.pod.host_network = true;
        self
    }
}

/// `namespace/name`, or a name in `default`.
pub(crate) fn parse_key(name: &str) -> PodKey {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    PodKey::new(namespace, name)
}

// === impl Pod ===

impl Pod {
    pub(crate) fn new(object: Arc<model::Pod>, node: Arc<Node>) -> Self {
        let key = object.key();
        let state = PodState { object, network: None, sandbox: None, stand_ins: vec![], problems: vec![] };
        Self { key, node, state: Mutex::new(state) }
    }

    /// Namespace and name.
    pub fn key(&self) -> &PodKey {
        &self.key
    }

    /// Its node.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// The Pod object that the agents see.
    pub fn object(&self) -> Arc<model::Pod> {
        self.state().object.clone()
    }

    /// Its addresses, IPv4 first; none while it is not up.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.state().object.addresses.clone()
    }

    /// Its address of one family.
    pub fn address(&self, family: IpFamily) -> Option<IpAddr> {
        self.addresses().into_iter().find(|address| IpFamily::of(*address) == family)
    }

    /// Its labels.
    pub fn labels(&self) -> Labels {
        self.state().object.labels.clone()
    }

    /// Whether it lives in its node's network.
    pub fn is_host_network(&self) -> bool {
        self.state().object.host_network
    }

    /// Whether it is up and served.
    pub fn is_ready(&self) -> bool {
        self.state().object.ready
    }

    /// What does not work about it, for people.
    pub fn problems(&self) -> Vec<String> {
        self.state().problems.clone()
    }

    /// The ports on which a stand-in answers for it.
    pub fn served(&self) -> Vec<(Protocol, u16)> {
        self.state().stand_ins.iter().map(|stand_in| (stand_in.protocol(), stand_in.port())).collect()
    }

    /// The runtime's id of its sandbox; none on the host's network.
    pub fn container_id(&self) -> Option<String> {
        self.state().network.as_ref().map(|network| network.container_id().to_owned())
    }

    /// How long CNI ADD took for it; none on the host's network.
    pub fn added_in(&self) -> Option<Duration> {
        self.state().network.as_ref().map(|network| network.added_in())
    }

    /// Its network, its node's file systems, its cgroup.
    pub fn sandbox(&self) -> Result<Sandbox> {
        self.state().sandbox.clone().with_context(|| format!("the pod {} is not up", self.key))
    }

    /// Runs `visit` on a thread in its network.
    pub fn within<T: Send>(&self, visit: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.sandbox()?.within(visit)
    }

    /// Runs a command in it.
    pub fn exec<S: AsRef<OsStr>>(&self, command: impl IntoIterator<Item = S>) -> Result<Output> {
        self.sandbox()?.output(&mut command_of(command)?)
    }

    /// Runs a command in it, which must end well; its standard output.
    pub fn run<S: AsRef<OsStr>>(&self, command: impl IntoIterator<Item = S>) -> Result<String> {
        stdout_of(&self.exec(command)?).with_context(|| format!("in the pod {}", self.key))
    }

    /// Whether its CNI result said who knows names, so that it does not ask those whom its node asks.
    pub fn has_names(&self) -> bool {
        self.state().network.as_ref().is_some_and(|network| network.mount_file().is_some())
    }

    /// The name servers in its `/etc/resolv.conf`, in their order.
    pub fn name_servers(&self) -> Result<Vec<IpAddr>> {
        let text = self.within(|| std::fs::read_to_string(RESOLV_CONF).context("read a pod's resolv.conf"))?;
        let servers = text.lines().filter_map(|line| line.strip_prefix("nameserver "));
        servers.map(|server| server.parse().with_context(|| format!("understand the name server {server}"))).collect()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, PodState> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Changes the object and returns the new one.
    pub(crate) fn update(&self, change: impl FnOnce(&mut model::Pod)) -> Arc<model::Pod> {
        let mut state = self.state();
        change(Arc::make_mut(&mut state.object));
        state.object.clone()
    }

    /// What other processes know of it.
    pub(crate) fn record(&self) -> PodRecord {
        let served = self.served().into_iter().map(|(protocol, port)| format!("{port}/{protocol}")).collect();
        let state = self.state();
        let cgroup = state.sandbox.as_ref().and_then(Sandbox::cgroup);
        PodRecord {
            node: self.node.name().to_owned(),
            addresses: state.object.addresses.clone(),
            host_network: state.object.host_network,
            ready: state.object.ready,
            net: state.network.as_ref().map(|network| network.file().to_owned()),
            mount: state.network.as_ref().and_then(|network| network.mount_file()).map(std::path::Path::to_owned),
            cgroup: cgroup.map(|cgroup| cgroup.path().to_owned()).unwrap_or_default(),
            served,
            problems: state.problems.clone(),
        }
    }
}

impl PodState {
    /// Forgets everything that was up.
    pub(crate) fn clear(&mut self) {
        self.stand_ins.clear();
        self.sandbox = None;
        let object = Arc::make_mut(&mut self.object);
        object.addresses.clear();
        object.ready = false;
        object.phase = PodPhase::Pending;
    }
}

//! Nodes: a network namespace on the underlay, file systems, a cgroup and an agent each.

pub(crate) mod filesystem;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use sdn_cluster::model;

use crate::agent::{Agent, AgentCommand};
use crate::cgroup::Cgroup;
use crate::events::Events;
use crate::family::IpFamily;
use crate::programs::Programs;
use crate::record::{HostRecord, NodeRecord};
use crate::sandbox::{Namespace, Sandbox};
use crate::standin::StandIn;
use crate::state::Claim;
use crate::underlay::Underlay;

/// A node of a lab.
#[derive(Debug)]
pub struct Node {
    object: Arc<model::Node>,
    cgroup: Cgroup,
    sandbox: Sandbox,
    agent: Agent,
    sdnctl: PathBuf,
    files: Files,
    stand_ins: std::sync::Mutex<Vec<StandIn>>,
}

/// Where the node's namespaces can be found by other processes.
#[derive(Debug)]
struct Files {
    net: PathBuf,
    mount: PathBuf,
}

/// What a node is made with.
pub(crate) struct NodeParts<'a> {
    pub claim: &'a Claim,
    pub underlay: &'a Underlay,
    pub programs: &'a Programs,
    pub events: &'a Arc<Events>,
    pub agent: AgentCommand,
}

// === impl Node ===

impl Node {
    /// Makes the node number `index` (from 1); its agent is not started.
    pub(crate) fn make(index: usize, object: Arc<model::Node>, parts: NodeParts<'_>) -> Result<Self> {
        let name = object.name.clone();
        let lab = parts.claim.dir();
        let cgroup = lab.cgroup()?.child(&name)?;
        let net = parts.underlay.add_node(index)?;
        let mount = filesystem::make(lab, &net, &cgroup, &parts.underlay.resolv_conf())?;
        let files = Files {
            net: parts.claim.keep_namespace(&format!("{name}.net"), &net)?,
            mount: parts.claim.keep_namespace(&format!("{name}.mnt"), &mount)?,
        };
        let sandbox = Sandbox::new(net, mount, cgroup.child("host")?);
        let log = lab.logs().join(format!("{name}.log"));
        let agent =
            Agent::new(&name, sandbox.in_cgroup(cgroup.child("agent")?), log, parts.agent, parts.events.clone());
        let sdnctl = parts.programs.sdnctl.clone();
        Ok(Self { object, cgroup, sandbox, agent, sdnctl, files, stand_ins: Default::default() })
    }

    /// metadata.name.
    pub fn name(&self) -> &str {
        &self.object.name
    }

    /// The Node object that the agents see.
    pub fn object(&self) -> &Arc<model::Node> {
        &self.object
    }

    /// Its addresses on the underlay.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.object.addresses
    }

    /// Its address of one family on the underlay.
    pub fn address(&self, family: IpFamily) -> Option<IpAddr> {
        self.addresses().iter().copied().find(|address| IpFamily::of(*address) == family)
    }

    /// Its own address in the cluster network: the first host of its host subnet.
    pub fn cluster_address(&self, family: IpFamily) -> Option<IpAddr> {
        let subnet = self.object.subnets.iter().find(|subnet| IpFamily::of(subnet.addr()) == family)?;
        Some(match subnet {
            IpNet::V4(subnet) => std::net::Ipv4Addr::from(u32::from(subnet.network()) + 1).into(),
            IpNet::V6(subnet) => std::net::Ipv6Addr::from(u128::from(subnet.network()) + 1).into(),
        })
    }

    /// Its network, file systems and the cgroup for what runs on it beside agent and pods.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Its agent.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Runs a command on the node.
    pub fn exec<S: AsRef<OsStr>>(&self, command: impl IntoIterator<Item = S>) -> Result<Output> {
        self.sandbox.output(&mut command_of(command)?)
    }

    /// Runs `sdnctl` with these arguments on the node; its standard output.
    pub fn sdnctl(&self, arguments: &[&str]) -> Result<String> {
        let output = self.sandbox.output(Command::new(&self.sdnctl).args(arguments))?;
        stdout_of(&output).with_context(|| format!("sdnctl {} on {}", arguments.join(" "), self.name()))
    }

    /// A file of the node's `/var/lib/culvert`, `/run/culvert` and so on, as text.
    pub fn read_file(&self, path: &Path) -> Result<String> {
        self.sandbox.within(|| fs::read_to_string(path).with_context(|| format!("read {}", path.display())))
    }

    /// The sandbox of a pod on it, whose network namespace is `net`, and whose cgroup is called `name`.
    pub(crate) fn pod_sandbox(&self, net: Namespace, name: &str) -> Result<Sandbox> {
        // Every node's sandbox has a mount namespace; without one, files would be the machine's.
        let mount = self.sandbox.mount().context("a node without a mount namespace")?;
        Ok(Sandbox::new(net, mount.clone(), self.cgroup.child("pods")?.child(name)?))
    }

    /// Shows a pod's network namespace on the node, where container runtimes put it.
    pub(crate) fn bind_netns(&self, name: &str, net: &Namespace) -> Result<PathBuf> {
        let file = Path::new(filesystem::NETNS_DIR).join(name);
        self.sandbox.within(|| {
            File::create_new(&file).with_context(|| format!("make {}", file.display()))?;
            mount(Some(&net.path()), &file, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .with_context(|| format!("bind a network namespace to {}", file.display()))
        })?;
        Ok(file)
    }

    /// Takes it away again.
    pub(crate) fn unbind_netns(&self, file: &Path) -> Result<()> {
        self.sandbox.within(|| {
            umount2(file, MntFlags::MNT_DETACH).with_context(|| format!("unmount {}", file.display()))?;
            fs::remove_file(file).with_context(|| format!("remove {}", file.display()))
        })
    }

    /// Keeps a stand-in of the node's own until the node goes.
    pub(crate) fn keep_stand_in(&self, stand_in: StandIn) {
        self.stand_ins.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(stand_in);
    }

    /// What other processes know of it.
    pub(crate) fn record(&self) -> NodeRecord {
        let cgroup = self.sandbox.cgroup().map(|cgroup| cgroup.path().to_owned()).unwrap_or_default();
        NodeRecord {
            host: HostRecord { net: self.files.net.clone(), cgroup, addresses: self.object.addresses.clone() },
            mount: self.files.mount.clone(),
            subnets: self.object.subnets.clone(),
            agent: self.agent.keeper().map(|pid| pid.as_raw().cast_unsigned()),
            restarts: self.agent.restarts(),
            log: self.agent.log().to_owned(),
        }
    }
}

/// A command from its words.
pub(crate) fn command_of<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Result<Command> {
    let mut words = words.into_iter();
    let program = words.next().context("run a command without a name")?;
    let mut command = Command::new(program.as_ref());
    command.args(words.map(|word| word.as_ref().to_owned()));
    Ok(command)
}

/// The standard output of a command that ended well; else an error with what it said.
pub fn stdout_of(output: &Output) -> Result<String> {
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{}: {}{}", output.status, complained.trim(), said.trim());
    Ok(said.into_owned())
}

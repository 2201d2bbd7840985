//! The record of a lab: what `status`, `exec` and `down` of another process know of it.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A lab as it was when the record was last written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The lab's name.
    pub name: String,
    /// The process that holds it up.
    pub owner: Owner,
    /// How far it has come.
    pub phase: Phase,
    /// By name.
    pub nodes: BTreeMap<String, NodeRecord>,
    /// By `namespace/name`.
    pub pods: BTreeMap<String, PodRecord>,
    /// The outside host's namespace and addresses.
    pub outside: HostRecord,
}

/// A process, told from later ones of the same number by when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Process id.
    pub pid: u32,
    /// Field `starttime` of `/proc/PID/stat`, clock ticks since boot.
    pub started: u64,
}

/// How far a lab has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Nodes or pods are being made.
    Starting,
    /// All pods that could be started are up.
    Ready,
    /// It is being taken down.
    Stopping,
}

/// A host of the lab: the outside, or what a node has in common with it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HostRecord {
    /// Its network namespace's file.
    pub net: PathBuf,
    /// Its cgroup's directory.
    pub cgroup: PathBuf,
    /// Where others reach it.
    pub addresses: Vec<IpAddr>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its network, its processes, its addresses on the underlay.
    #[serde(flatten)]
    pub host: HostRecord,
    /// Its mount namespace's file.
    pub mount: PathBuf,
    /// Its host subnets.
    pub subnets: Vec<IpNet>,
    /// Process id of the agent's keeper, if it runs.
    pub agent: Option<u32>,
    /// How often the lab had to start the agent again.
    pub restarts: u32,
    /// What the agent prints.
    pub log: PathBuf,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodRecord {
    /// The node that it is placed on.
    pub node: String,
    /// Its addresses; the node's for a pod on the host's network.
    pub addresses: Vec<IpAddr>,
    /// Whether it shares its node's network.
    pub host_network: bool,
    /// Whether it has its network and its ports are served.
    pub ready: bool,
    /// Its network namespace's file, in its node's mount namespace; none on the host's network.
    pub net: Option<PathBuf>,
    /// Its mount namespace's file, there too; none if it has its node's file systems.
    #[serde(default)]
    pub mount: Option<PathBuf>,
    /// Its cgroup's directory.
    pub cgroup: PathBuf,
    /// The ports on which a stand-in answers, as `80/TCP`.
    pub served: Vec<String>,
    /// What does not work, for people.
    pub problems: Vec<String>,
}

// === impl Record ===

impl Record {
    /// Replaces the file in one step, so that a reader never sees half of it.
    pub fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).context("write a lab's record")?;
        replace_file(file, &text)
    }
}

/// Writes a file beside `file` and renames it over it.
pub(crate) fn replace_file(file: &Path, text: &[u8]) -> Result<()> {
    let fresh = file.with_extension("new");
    fs::write(&fresh, text).with_context(|| format!("write {}", fresh.display()))?;
    fs::rename(&fresh, file).with_context(|| format!("replace {}", file.display()))
}

// === impl Owner ===

impl Owner {
    /// This process.
    pub fn this_process() -> Self {
        let pid = std::process::id();
        Self { pid, started: start_time(pid).unwrap_or_default() }
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        start_time(self.pid) == Some(self.started)
    }
}

/// When a process that is not a zombie started, in clock ticks since boot.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command in brackets, which may itself hold spaces and brackets.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    (state != "Z").then(|| fields.nth(18)?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_told_from_a_later_process_of_its_number() {
        let this = Owner::this_process();
        assert!(this.started > 0 && this.is_alive());
        assert!(!Owner { started: this.started - 1, ..this }.is_alive());
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let child_id = child.id();
        let other = Owner { pid: child_id, started: start_time(child_id).unwrap() };
        assert!(other.is_alive());
        child.kill().unwrap();
        while other.is_alive() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!other.is_alive(), "neither a zombie nor a process that is gone");
    }
}

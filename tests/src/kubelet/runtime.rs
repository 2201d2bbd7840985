//! The container runtime's part: pod sandboxes, and the CNI plugin called as the specification has it (1.1.0).

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use ipnet::IpNet;
use sdn_cluster::model;
use serde::Deserialize;
use serde_json::json;

use crate::node::Node;
use crate::node::filesystem::{self, PodFiles};
use crate::sandbox::Sandbox;
use crate::underlay::new_pod_namespace;

/// The interface of every pod.
pub const IFNAME: &str = "eth0";

/// Where CNI plugins are on a node.
const CNI_PATH: &str = "/opt/cni/bin";

/// A pod's sandbox on its node: the network namespace which the plugin has connected.
#[derive(Debug)]
pub struct PodSandbox {
    container_id: String,
    file: PathBuf,
    sandbox: Sandbox,
    /// Its file systems; its node's if `None`.
    files: Option<PodFiles>,
    /// The result of ADD, which the plugin wants to see again.
    result: serde_json::Value,
    addresses: Vec<IpAddr>,
    /// What ADD has taken.
    added_in: Duration,
}

/// One attachment, as the plugin is told of it.
struct Attachment<'a> {
    plugin: &'a Path,
    node: &'a Node,
    container_id: &'a str,
    netns: &'a Path,
    pod: &'a model::Pod,
}

/// The part of a plugin's result that the kubelet needs.
#[derive(Debug, Deserialize)]
struct CniResult {
    #[serde(default)]
    ips: Vec<CniAddress>,
    #[serde(default)]
    dns: Dns,
}

/// How names are resolved in a pod: the field `dns` of a plugin's result.
#[derive(Debug, Default, Deserialize)]
struct Dns {
    #[serde(default)]
    nameservers: Vec<IpAddr>,
    domain: Option<String>,
    #[serde(default)]
    search: Vec<String>,
    #[serde(default)]
    options: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct CniAddress {
    address: IpNet,
}

/// What a plugin prints when it fails.
#[derive(Debug, Deserialize)]
struct CniError {
    code: u32,
    msg: String,
    #[serde(default)]
    details: String,
}

// === impl PodSandbox ===

impl PodSandbox {
    /// Makes the sandbox of `pod` on `node` and has `plugin` connect it. Nothing is left of it on failure.
    pub fn create(plugin: &Path, node: &Node, pod: &model::Pod) -> Result<Self> {
        let container_id = new_container_id();
        let net = new_pod_namespace()?;
        let sandbox = node.pod_sandbox(net.clone(), &format!("{}_{}", pod.namespace, pod.name))?;
        // The name that containerd gives.
        let file = node.bind_netns(&format!("cni-{}", &container_id[..16]), &net)?;
        let mut made = Self {
            container_id,
            file,
            sandbox,
            files: None,
            result: json!(null),
            addresses: vec![],
            added_in: Duration::ZERO,
        };
        match made.connect(plugin, node, pod) {
            Ok(()) => Ok(made),
            Err(error) => {
                made.remove(plugin, node, pod).ok();
                Err(error)
            }
        }
    }

    /// Has the plugin disconnect it, ends its processes and removes it; goes on after a failure, of which the first is told.
    pub fn remove(&self, plugin: &Path, node: &Node, pod: &model::Pod) -> Result<()> {
        let cgroup = self.sandbox.cgroup();
        let ended = cgroup.map_or(Ok(()), |cgroup| cgroup.kill());
        let disconnected = self.attachment(plugin, node, pod).call("DEL", &configuration());
        let unbound = node.unbind_netns(&self.file);
        let forgotten = self.files.as_ref().map_or(Ok(()), |files| filesystem::remove_for_pod(node.sandbox(), files));
        let removed = cgroup.map_or(Ok(()), |cgroup| cgroup.remove());
        ended.and(disconnected.map(drop)).and(unbound).and(forgotten).and(removed)
    }

    /// CNI CHECK.
    pub fn check(&self, plugin: &Path, node: &Node, pod: &model::Pod) -> Result<()> {
        let mut configuration = configuration();
        configuration["prevResult"] = self.result.clone();
        self.attachment(plugin, node, pod).call("CHECK", &configuration).map(drop)
    }

    /// The runtime's id of it.
    pub fn container_id(&self) -> &str {
        &self.container_id
    }

    /// The addresses that the plugin reported.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// How long the plugin took to connect it: the process from its start to its end.
    pub fn added_in(&self) -> Duration {
        self.added_in
    }

    /// Its network namespace's file, on its node.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Its mount namespace's file, on its node; none if it has its node's.
    pub fn mount_file(&self) -> Option<&Path> {
        self.files.as_ref().map(|files| files.file.as_path())
    }

    /// Its namespaces and cgroup.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    fn connect(&mut self, plugin: &Path, node: &Node, pod: &model::Pod) -> Result<()> {
        let start = Instant::now();
        let printed = self.attachment(plugin, node, pod).call("ADD", &configuration())?;
        self.added_in = start.elapsed();
        self.result = serde_json::from_slice(&printed).context("understand the plugin's result")?;
        let result = CniResult::deserialize(&self.result).context("understand the plugin's result")?;
        self.addresses = result.ips.into_iter().map(|ip| ip.address.addr()).collect();
        ensure!(!self.addresses.is_empty(), "the plugin reports no addresses: {}", self.result);
        // As kubelet does for pods of dnsPolicy Default: without servers of their own they have their node's.
        if !result.dns.nameservers.is_empty() {
            let files = filesystem::make_for_pod(node.sandbox(), &self.container_id, &result.dns.resolv_conf())?;
            self.sandbox = self.sandbox.in_mount(files.mount.clone());
            self.files = Some(files);
        }
        Ok(())
    }

    fn attachment<'a>(&'a self, plugin: &'a Path, node: &'a Node, pod: &'a model::Pod) -> Attachment<'a> {
        Attachment { plugin, node, container_id: &self.container_id, netns: &self.file, pod }
    }
}

// === impl Dns ===

impl Dns {
    /// As resolv.conf(5) has it, in the order in which kubelet writes it.
    fn resolv_conf(&self) -> String {
        let list = |keyword: &str, words: &[String]| {
            if words.is_empty() { String::new() } else { format!("{keyword} {}\n", words.join(" ")) }
        };
        let servers = self.nameservers.iter().map(|server| format!("nameserver {server}\n"));
        // Of domain and search the later one counts.
        let domain = self.domain.as_slice();
        list("domain", domain)
            + &list("search", &self.search)
            + &servers.collect::<String>()
            + &list("options", &self.options)
    }
}

// === impl Attachment ===

impl Attachment<'_> {
    fn call(&self, verb: &str, configuration: &serde_json::Value) -> Result<Vec<u8>> {
        let model::Pod { namespace, name, uid, .. } = self.pod;
        let id = self.container_id;
        let arguments = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_INFRA_CONTAINER_ID={id};K8S_POD_UID={uid}"
        );
        let mut command = Command::new(self.plugin);
        command.env("CNI_COMMAND", verb).env("CNI_CONTAINERID", id).env("CNI_NETNS", self.netns);
        command.env("CNI_IFNAME", IFNAME).env("CNI_ARGS", arguments).env("CNI_PATH", CNI_PATH);
        let output = self.node.sandbox().output_with_input(&mut command, configuration.to_string().as_bytes())?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        match serde_json::from_slice(&output.stdout) {
            Ok(CniError { code, msg, details }) => {
                bail!("CNI {verb} fails with code {code}: {msg} {details} {complaint}")
            }
            Err(_) => bail!("CNI {verb}: the plugin ends with {}: {complaint}", output.status),
        }
    }
}

/// What the plugin reads: its part of the network's configuration list.
fn configuration() -> serde_json::Value {
    json!({ "cniVersion": "1.1.0", "name": "culvert", "type": "sdn-cni" })
}

/// 64 hexadecimal digits, as container runtimes have them; never the same again on this machine.
fn new_container_id() -> String {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let count = MADE.fetch_add(1, Ordering::Relaxed);
    // The count first: its digits are the ones that short forms of the id keep.
    let digest = (count ^ u64::from(std::process::id()) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{digest:016x}{count:016x}{now:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_ids_are_long_and_differ_at_the_front() {
        let ids: std::collections::BTreeSet<_> = (0..1000).map(|_| new_container_id()).collect();
        assert!(ids.iter().all(|id| id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())));
        assert_eq!(ids.iter().map(|id| id[..16].to_owned()).collect::<std::collections::BTreeSet<_>>().len(), 1000);
    }

    #[test]
    fn results_and_errors_of_plugins_are_understood() {
        let result =
            r#"{"cniVersion":"1.1.0","ips":[{"address":"10.128.0.2/32","interface":1},{"address":"fd01::2/128"}]}"#;
        let result: CniResult = serde_json::from_str(result).unwrap();
        assert_eq!(
            result.ips.iter().map(|ip| ip.address.to_string()).collect::<Vec<_>>(),
            ["10.128.0.2/32", "fd01::2/128"]
        );
        let result = r#"{"ips":[],"dns":{"nameservers":["172.30.0.10","fd02::a"],"domain":"x","search":["a.svc","svc"],"options":["ndots:5"]}}"#;
        let result: CniResult = serde_json::from_str(result).unwrap();
        let text = "domain x\nsearch a.svc svc\nnameserver 172.30.0.10\nnameserver fd02::a\noptions ndots:5\n";
        assert_eq!((result.dns.resolv_conf().as_str(), Dns::default().resolv_conf().as_str()), (text, ""));
        let error: CniError = serde_json::from_str(r#"{"cniVersion":"1.1.0","code":11,"msg":"try again"}"#).unwrap();
        assert_eq!((error.code, &*error.msg, &*error.details), (11, "try again", ""));
    }
}

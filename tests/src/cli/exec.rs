//! `sdn-lab exec`

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::ExecArgs;
use crate::cgroup::Cgroup;
use crate::record::{HostRecord, NodeRecord, PodRecord, Record};
use crate::sandbox::{Namespace, Sandbox};
use crate::state::LabDir;

/// What `exec` enters.
#[derive(Debug, PartialEq)]
enum Target<'a> {
    Pod(&'a str, &'a PodRecord),
    Node(&'a NodeRecord),
    Outside(&'a HostRecord),
    Underlay,
}

pub fn run(arguments: &ExecArgs) -> Result<u8> {
    let (lab, record) = arguments.lab.find()?;
    let target = find(&record, arguments.namespace.as_deref(), &arguments.target)?;
    let sandbox = sandbox(&lab, &record, &target)?;
    let (program, rest) = arguments.command.split_first().context("run a command without a name")?;
    // This process becomes the command, so terminal, signals and exit code are the command's own.
    Err(sandbox.exec(Command::new(program).args(rest).env("PATH", search_path()?)))
}

/// Where commands are looked for: among the programs of this build first, so that `sdnctl` needs no path.
fn search_path() -> Result<OsString> {
    let this = env::current_exe().context("find the running program")?;
    let given = env::var_os("PATH").unwrap_or_default();
    let places = this.parent().map(Path::to_owned).into_iter().chain(env::split_paths(&given));
    env::join_paths(places).context("put the search path together")
}

fn find<'a>(record: &'a Record, namespace: Option<&str>, target: &str) -> Result<Target<'a>> {
    if let Some(name) = target.strip_prefix("node/") {
        let names = || record.nodes.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let node = record.nodes.get(name).with_context(|| format!("no node '{name}': there are {}", names()))?;
        return Ok(Target::Node(node));
    }
    if namespace.is_none() {
        match target {
            "outside" => return Ok(Target::Outside(&record.outside)),
            "underlay" => return Ok(Target::Underlay),
            _ => {}
        }
    }
    let wanted = namespace.map_or(target.to_owned(), |namespace| format!("{namespace}/{target}"));
    // The whole name first: "web" may also be the beginning of "web-2".
    let whole = |key: &str| key == wanted || (namespace.is_none() && key.split('/').nth(1) == Some(target));
    let begins = |key: &str| {
        key.starts_with(&wanted)
            || (namespace.is_none() && key.split('/').nth(1).is_some_and(|name| name.starts_with(target)))
    };
    for fits in [&whole as &dyn Fn(&str) -> bool, &begins] {
        let found: Vec<_> = record.pods.iter().filter(|(key, _)| fits(key)).collect();
        match found[..] {
            [] => {}
            [(key, pod)] => return Ok(Target::Pod(key, pod)),
            _ => {
                bail!("'{target}' may be {}", found.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>().join(", "))
            }
        }
    }
    bail!("no pod '{wanted}' in the lab '{}': see `sdn-lab status --name {}`", record.name, record.name)
}

fn sandbox(lab: &LabDir, record: &Record, target: &Target<'_>) -> Result<Sandbox> {
    match target {
        Target::Underlay => Ok(Namespace::open(&lab.namespaces().join("underlay.net"))?.into()),
        Target::Outside(host) => Ok(Sandbox::from(Namespace::open(&host.net)?).in_cgroup(Cgroup::at(&host.cgroup)?)),
        Target::Node(node) => node_sandbox(node, &node.host.cgroup),
        Target::Pod(key, pod) => {
            let node = record.nodes.get(&pod.node).with_context(|| format!("find the node of the pod {key}"))?;
            if pod.host_network {
                return node_sandbox(node, &node.host.cgroup);
            }
            let Some(net) = &pod.net else {
                bail!("the pod {key} is not up: {}", pod.problems.join("; "));
            };
            // The files are in its node's mount namespace only.
            let node = node_sandbox(node, &pod.cgroup)?;
            let pod_net = node.in_net(node.within(|| Namespace::open(net))?);
            let Some(mount) = &pod.mount else { return Ok(pod_net) };
            Ok(pod_net.in_mount(node.within(|| Namespace::open(mount))?))
        }
    }
}

fn node_sandbox(node: &NodeRecord, cgroup: &Path) -> Result<Sandbox> {
    Ok(Sandbox::new(Namespace::open(&node.host.net)?, Namespace::open(&node.mount)?, Cgroup::at(cgroup)?))
}

#[cfg(test)]
mod tests;

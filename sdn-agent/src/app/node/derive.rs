//! What the role's parts need, followed from what is known: the node's own object, its subnets, the MTU, whether pods can come.

use std::sync::Arc;

use ipnet::IpNet;
use sdn_cluster::Snapshot;
use sdn_cluster::model::{Node, PodKey};
use sdn_cni::protocol::PodIdentity;
use tokio::sync::watch;

use crate::app::readiness::Readiness;
use crate::app::stage;
use crate::app::tasks::Tasks;
use crate::apply::Handle;
use crate::cni;
use crate::config::Config;
use crate::kernel::netlink::{Following, Uplink};
use crate::plan::tunnel_mtu;

/// What follows from node and uplink.
pub(super) struct Derived {
    /// The node's host subnets.
    pub(super) subnets: watch::Receiver<Vec<IpNet>>,
    /// MTU of pods in bytes.
    pub(super) mtu: watch::Receiver<u32>,
}

/// This node's object, as soon as there is one with a host subnet, and followed from then on; the last one stays when it goes.
pub(super) async fn own_node(
    mut snapshots: watch::Receiver<Snapshot>,
    config: &Arc<Config>,
    readiness: &Readiness,
    tasks: &Tasks,
) -> watch::Receiver<Arc<Node>> {
    let (config, readiness) = (Arc::clone(config), readiness.clone());
    let first = loop {
        match look(&snapshots.borrow_and_update(), &config) {
            Ok(node) => break node,
            Err(why) => readiness.blocked(stage::NODE, why),
        }
        if snapshots.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    readiness.reached(stage::NODE);
    let sender = watch::Sender::new(first);
    let receiver = sender.subscribe();
    tasks.spawn(async move {
        while snapshots.changed().await.is_ok() && !sender.is_closed() {
            let found = look(&snapshots.borrow_and_update(), &config);
            readiness.set(stage::NODE, found.as_ref().err().cloned());
            if let Ok(node) = found {
                sender.send_if_modified(|last| std::mem::replace(last, Arc::clone(&node)) != node);
            }
        }
    });
    receiver
}

fn look(snapshot: &Snapshot, config: &Config) -> Result<Arc<Node>, String> {
    let name = config.node_name.as_str();
    let source = || config.manifests.as_deref().map_or_else(String::new, |path| path.display().to_string());
    match snapshot.nodes.get(name) {
        Some(node) if !node.subnets.is_empty() => Ok(Arc::clone(node)),
        Some(_) => Err(format!("Node {name} has no host subnet (spec.podCIDRs) yet")),
        None if snapshot.synced => {
            Err(format!("there is no Node {name} in {} (is --node-name the name of the object?)", source()))
        }
        None => Err(format!("{} has not been read to its end yet", source())),
    }
}

/// Waits until no cluster network overlaps a network of the uplink: traffic of one would be taken for the other's. Watched from then on.
pub(super) async fn keep_apart(following: &Following, config: &Arc<Config>, readiness: &Readiness, tasks: &Tasks) {
    readiness.reached(stage::UPLINK);
    let (mut uplink, mut problem) = (following.uplink.clone(), following.problem.clone());
    let (config, readiness) = (Arc::clone(config), readiness.clone());
    while !check_apart(&uplink.borrow_and_update(), &config, &readiness) {
        // Its sender lives as long as this receiver.
        let _ = uplink.changed().await;
    }
    tasks.spawn(async move {
        loop {
            tokio::select! {
                Ok(()) = uplink.changed() => drop(check_apart(&uplink.borrow_and_update(), &config, &readiness)),
                Ok(()) = problem.changed() => readiness.set(stage::UPLINK, problem.borrow_and_update().clone()),
                else => return,
            }
        }
    });
}

fn check_apart(uplink: &Uplink, config: &Config, readiness: &Readiness) -> bool {
    let what = format!("network of uplink {}", uplink.name);
    let networks: Vec<(&str, IpNet)> = uplink.addresses.iter().map(|net| (what.as_str(), net.trunc())).collect();
    let apart = config.cluster_networks.check_apart(&networks);
    readiness.set(stage::NETWORKS, apart.as_ref().err().map(ToString::to_string));
    apart.is_ok()
}

/// Subnets and MTU, followed.
pub(super) fn follow(
    mut node: watch::Receiver<Arc<Node>>,
    mut uplink: watch::Receiver<Uplink>,
    config: &Arc<Config>,
    tasks: &Tasks,
) -> Derived {
    let config = Arc::clone(config);
    let derive =
        move |node: &Node, uplink: &Uplink| (node.subnets.clone(), tunnel_mtu(config.tunnel.mtu, Some(node), uplink));
    let (subnets, mtu) = derive(&node.borrow_and_update(), &uplink.borrow_and_update());
    let (subnets, mtu) = (watch::Sender::new(subnets), watch::Sender::new(mtu));
    let derived = Derived { subnets: subnets.subscribe(), mtu: mtu.subscribe() };
    tasks.spawn(async move {
        loop {
            tokio::select! {
                Ok(()) = node.changed() => {}
                Ok(()) = uplink.changed() => {}
                else => return,
            }
            let (new_subnets, new_mtu) = derive(&node.borrow_and_update(), &uplink.borrow_and_update());
            subnets.send_if_modified(|last| std::mem::replace(last, new_subnets.clone()) != new_subnets);
            mtu.send_if_modified(|last| std::mem::replace(last, new_mtu) != new_mtu);
        }
    });
    derived
}

/// Waits until a pod's object is known, where it matters: which policies select it is asked by its labels. Where its namespace has
/// none, or the cluster is not read to its end and may not be for long, it is taken as it is; the plan isolates what it cannot tell.
pub(super) fn pod_known(snapshots: watch::Receiver<Snapshot>) -> cni::PodKnown {
    Arc::new(move |pod| {
        let mut snapshots = snapshots.clone();
        Box::pin(async move {
            let known = snapshots.wait_for(|snapshot| is_known(snapshot, &pod)).await;
            known.map(drop).map_err(|_| "the agent is ending".to_owned())
        })
    })
}

fn is_known(snapshot: &Snapshot, pod: &PodIdentity) -> bool {
    let object = snapshot.pods.get(&PodKey::new(pod.namespace.as_str(), pod.name.as_str()));
    let is_it = object.is_some_and(|object| pod.uid.is_empty() || *object.uid == *pod.uid);
    is_it || !snapshot.synced || snapshot.policies_in(&pod.namespace).next().is_none()
}

/// Whether pods can come: when the programs have their settings and are attached.
pub(super) fn forwarding(handle: &Handle, readiness: &Readiness, tasks: &Tasks) -> watch::Receiver<cni::Readiness> {
    let mut applied = handle.applied();
    let readiness = readiness.clone();
    let sender = watch::Sender::new(cni::Readiness::NotReady("the dataplane is starting".to_owned()));
    let receiver = sender.subscribe();
    tasks.spawn(async move {
        loop {
            let blocked = {
                let applied = applied.borrow_and_update();
                let why = || match applied.failures.first() {
                    Some(failing) => format!("{}: {}", failing.object, failing.cause),
                    None => "the programs do not have their settings yet".to_owned(),
                };
                (!applied.forwarding).then(why)
            };
            readiness.set(stage::DATAPLANE, blocked.clone());
            sender.send_replace(blocked.map_or(cni::Readiness::Ready, cni::Readiness::NotReady));
            if applied.changed().await.is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests;

//! DEL, CHECK, GC and STATUS, and what it takes to let a pod go.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::net::if_::if_nametoindex;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::{info, warn};

use sdn_cni::Attachment;
use sdn_cni::netlink::Links;
use sdn_cni::protocol::{CheckRequest, DelRequest, Failure, GcRequest, Response, code};

use super::Shared;
use super::add::{attach_failure, lease_failure};
use super::attachments::Visit;
use super::connection::Connection;
use crate::cni::leases::{Lease, LeaseError};
use crate::cni::pod::{LocalPod, PodNetwork};

/// Why blocking work always comes to an end of its own.
const NO_PANIC: &str = "blocking work does not panic, and the runtime outlives its server";

// === impl Shared ===

impl<N: PodNetwork> Shared<N> {
    pub(super) async fn del(&self, connection: &mut Connection, request: DelRequest) -> Result<(), Failure> {
        let attachment = &request.attachment;
        self.attachments.cancel_adds(attachment);
        let mut visit = self.attachments.visit(attachment);
        self.turn(&mut visit, "DEL", attachment).await?;
        if let Some(lease) = self.leases.find(attachment) {
            // The plugin removes the interface before it asks. If it gave up waiting and the interface is there again, the container
            // has been added anew since, and this DEL is not meant for it.
            if connection.is_closed() && is_host_interface_there(&lease.pod) {
                warn!(pod = %lease.pod, "ignoring a DEL whose plugin has gone: the pod was added again");
                return Ok(());
            }
            self.release(&lease.pod).await?;
            info!(pod = %lease.pod, addresses = ?lease.pod.addresses, "pod removed");
        }
        self.counters.dels.fetch_add(1, Ordering::Relaxed);
        // A plugin that did not wait was going to say Done all the same.
        let _ = connection.send(Response::Done).await;
        Ok(())
    }

    pub(super) async fn check(&self, connection: &mut Connection, request: CheckRequest) -> Result<(), Failure> {
        let attachment = &request.attachment;
        let mut visit = self.attachments.visit(attachment);
        self.turn(&mut visit, "CHECK", attachment).await?;
        let what = || format!("CHECK of {attachment}");
        let Some(lease) = self.leases.find(attachment) else {
            return Err(Failure::new(
                code::CHECK_FAILED,
                what(),
                "it has no lease: it was never added, or removed since",
            ));
        };
        if let Some(difference) = difference(&lease, &request) {
            return Err(Failure::new(code::CHECK_FAILED, what(), difference));
        }
        self.network.check(lease.pod.clone()).await.map_err(|e| attach_failure(what(), &e))?;
        let mut interface =
            self.interface(&lease.pod.namespace, &lease.pod.addresses, lease.pod.host_interface.clone());
        // The uplink's MTU may have changed since; a pod keeps the one it started with.
        interface.mtu = lease.pod.mtu;
        self.counters.checks.fetch_add(1, Ordering::Relaxed);
        let _ = connection.send(Response::Checked(interface)).await;
        Ok(())
    }

    pub(super) async fn gc(&self, connection: &mut Connection, request: GcRequest) -> Result<(), Failure> {
        let valid: HashSet<Attachment> = request.valid.into_iter().collect();
        let stale = |lease: &Lease| lease.network == request.network && !valid.contains(&lease.pod.attachment());
        let mut failures = Vec::new();
        for lease in self.leases.all().into_iter().filter(stale) {
            // The runtime promised that nothing else is going on. If it is, the attachment is not stale.
            let mut visit = self.attachments.visit(&lease.pod.attachment());
            if !visit.try_turn() {
                continue;
            }
            match self.release(&lease.pod).await {
                Ok(()) => {
                    info!(pod = %lease.pod, addresses = ?lease.pod.addresses, "pod removed: the runtime does not know it")
                }
                Err(failure) => failures.push(failure.to_string()),
            }
        }
        if !failures.is_empty() {
            let what = format!("GC: {} attachments could not be removed", failures.len());
            return Err(Failure::new(code::DATAPLANE, what, failures.join("; ")));
        }
        self.counters.gcs.fetch_add(1, Ordering::Relaxed);
        let _ = connection.send(Response::Done).await;
        Ok(())
    }

    pub(super) async fn status(&self, connection: &mut Connection) -> Result<(), Failure> {
        let cause = self.unready().or_else(|| {
            let full = self.leases.check_free();
            full.err().map(|e| e.to_string())
        });
        if let Some(cause) = cause {
            return Err(Failure::new(code::NOT_AVAILABLE, "STATUS: pods cannot be added now", cause));
        }
        let _ = connection.send(Response::Done).await;
        Ok(())
    }

    /// Lets a pod go: interface, dataplane, lease, in this order. Can be repeated from any point. The caller has the attachment's turn.
    pub(super) async fn release(&self, pod: &Arc<LocalPod>) -> Result<(), Failure> {
        let what = || format!("removing {pod} ({})", pod.attachment());
        self.remove_host_interface(&pod.host_interface).await?;
        self.network.detach(pod.clone()).await.map_err(|e| attach_failure(what(), &e))?;
        let leases = self.leases.clone();
        let attachment = pod.attachment();
        let freed = self.on_disk(move || leases.free(&attachment)).await;
        freed.map(drop).map_err(|e| lease_failure(what(), &e))
    }

    /// Removes a veth by its host end, if it is there. With it goes the pod's end.
    pub(super) async fn remove_host_interface(&self, name: &str) -> Result<(), Failure> {
        let owned = name.to_owned();
        // Deleting a device waits for an RCU grace period.
        let removed = spawn_blocking(move || Links::connect()?.delete_link(&owned)).await.expect(NO_PANIC);
        removed
            .map(drop)
            .map_err(|e| Failure::new(code::KERNEL, format!("removing host interface {name}"), e.to_string()))
    }

    /// Runs something that waits for the disk where it holds up nobody.
    pub(super) async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, LeaseError> + Send + 'static,
    ) -> Result<T, LeaseError> {
        spawn_blocking(work).await.expect(NO_PANIC)
    }

    /// Waits until earlier operations on the attachment are over, within limits.
    pub(super) async fn turn(
        &self,
        visit: &mut Visit,
        operation: &str,
        attachment: &Attachment,
    ) -> Result<(), Failure> {
        let patience = self.config.limits.turn;
        timeout(patience, visit.turn()).await.map_err(|_| {
            let cause = format!("an earlier operation on it has not ended within {} s", patience.as_secs());
            Failure::new(code::TRY_AGAIN_LATER, format!("{operation} of {attachment}"), cause)
        })
    }
}

/// Is the very interface of this pod there?
pub(super) fn is_host_interface_there(pod: &LocalPod) -> bool {
    if_nametoindex(pod.host_interface.as_str()).is_ok()
}

/// What the runtime or the kernel has otherwise than the lease.
fn difference(lease: &Lease, request: &CheckRequest) -> Option<String> {
    let pod = &lease.pod;
    if (lease.netns_device, lease.netns_inode) != (request.netns.device, request.netns.inode) {
        return Some(format!("{} is not the network namespace it was added in", request.netns.path.display()));
    }
    if let Some(missing) = pod.addresses.iter().find(|address| !request.addresses.contains(address)) {
        return Some(format!("its lease has {missing}, which prevResult does not list"));
    }
    match if_nametoindex(pod.host_interface.as_str()) {
        Ok(index) if index == pod.host_ifindex => None,
        Ok(index) => Some(format!(
            "{} has index {index}, it was {}: somebody made it again",
            pod.host_interface, pod.host_ifindex
        )),
        Err(_) => Some(format!("host interface {} is missing", pod.host_interface)),
    }
}

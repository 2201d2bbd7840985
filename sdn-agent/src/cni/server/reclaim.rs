//! Leases outlive their pods when a DEL is lost: the runtime crashed, or the agent was away. Here they are found and taken back.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use nix::net::if_::if_nametoindex;
use nix::sys::statfs::{FsType, statfs};
use tracing::{info, warn};

use super::Shared;
use super::operations::is_host_interface_there;
use crate::cni::leases::Lease;
use crate::cni::pod::PodNetwork;

/// File system type of namespaces (`NSFS_MAGIC` in linux/magic.h).
const NSFS: FsType = FsType(0x6e73_6673);

// === impl Shared ===

impl<N: PodNetwork> Shared<N> {
    /// What a starting agent owes the pods that are there: the kernel's state may be of before, or be lost.
    pub(super) async fn resume(&self) {
        self.reclaim().await;
        for pod in self.leases.pods() {
            self.unattached().push(pod.attachment());
        }
        self.attach_again().await;
    }

    /// Takes back what nobody uses, and tries again what failed.
    pub(super) async fn reclaim(&self) {
        for lease in self.leases.all() {
            self.reclaim_lease(lease).await;
        }
        for quarantined in self.leases.quarantined() {
            // Its network namespace is unknown. Without the veth, whoever had the addresses cannot send from them.
            let Some(interface) = &quarantined.host_interface else { continue };
            if if_nametoindex(interface.as_str()).is_ok() {
                continue;
            }
            let leases = self.leases.clone();
            let file = quarantined.file.clone();
            match self.on_disk(move || leases.release_quarantined(&file)).await {
                Ok(()) => {
                    info!(file = %quarantined.file.display(), "quarantined lease taken back: its interface is gone")
                }
                Err(error) => warn!(%error, "taking back a quarantined lease"),
            }
        }
        self.attach_again().await;
    }

    async fn reclaim_lease(&self, lease: Lease) {
        let vanished = |lease: &Lease| is_netns_gone(lease) && !is_host_interface_there(&lease.pod);
        if !vanished(&lease) {
            return;
        }
        let attachment = lease.pod.attachment();
        let mut visit = self.attachments.visit(&attachment);
        // Whoever has the turn is adding or removing it; both know better. And it may have ended before ours began.
        if !visit.try_turn() || self.leases.find(&attachment).as_ref() != Some(&lease) {
            return;
        }
        match self.release(&lease.pod).await {
            Ok(()) => {
                self.counters.reclaimed.fetch_add(1, Ordering::Relaxed);
                info!(pod = %lease.pod, addresses = ?lease.pod.addresses, "lease taken back: container and interface are gone");
            }
            Err(failure) => warn!(%failure, "taking back a lease; will be tried again"),
        }
    }

    async fn attach_again(&self) {
        let unattached = std::mem::take(&mut *self.unattached());
        for attachment in unattached {
            let mut visit = self.attachments.visit(&attachment);
            visit.turn().await;
            let Some(lease) = self.leases.find(&attachment) else { continue };
            if !is_host_interface_there(&lease.pod) {
                // Its container lives on without an interface; CHECK tells the runtime, and DEL is on it to ask for.
                warn!(pod = %lease.pod, interface = lease.pod.host_interface, "not attached: the interface is gone");
            } else if let Err(error) = self.network.attach(lease.pod.clone()).await {
                warn!(pod = %lease.pod, %error, "attaching a pod again; will be tried again");
                self.unattached().push(attachment);
            }
        }
    }

    fn unattached(&self) -> std::sync::MutexGuard<'_, Vec<sdn_cni::Attachment>> {
        self.unattached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Is the path no network namespace any more, or another one?
fn is_netns_gone(lease: &Lease) -> bool {
    let path: &Path = &lease.pod.netns;
    let is_namespace = statfs(path).is_ok_and(|found| found.filesystem_type() == NSFS);
    let same = std::fs::metadata(path)
        .is_ok_and(|found| found.dev() == lease.netns_device && found.ino() == lease.netns_inode);
    !(is_namespace && same)
}

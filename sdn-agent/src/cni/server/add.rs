//! ADD: from the plugin's first message to Done, and the way back from every point between.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tokio::time::timeout;
use tracing::{info, warn};

use sdn_cni::MacAddr;
use sdn_cni::mac::GATEWAY_MAC;
use sdn_cni::protocol::{
    AddRequest, CommitRequest, Failure, PodIdentity, PodInterface, PodRoute, Prepared, Request, Response, code,
    host_interface_name,
};

use super::super::leases::{Lease, LeaseError, Reservation};
use super::super::pod::{AttachError, LocalPod, PodNetwork};
use super::attachments::{Cancellation, Visit};
use super::connection::Connection;
use super::{Shared, gateway_of};

/// Whose addresses an ADD works with.
enum Claim {
    /// Just reserved; they go back if the ADD fails.
    New(Reservation),
    /// Those of the attachment's own lease: the runtime asks again, its answer was lost. They stay whatever happens.
    Again(Lease),
}

// === impl Shared ===

impl<N: PodNetwork> Shared<N> {
    pub(super) async fn add(&self, connection: &mut Connection, request: AddRequest) -> Result<(), Failure> {
        let start = Instant::now();
        refuse_unsupported(&request)?;
        let mut visit = self.attachments.visit(&request.attachment);
        let mut cancellation = visit.cancellation();
        // Up to Commit nothing is lost by leaving at any point: what was reserved is given back by its destructor.
        let prepared = tokio::select! {
            biased;
            () = cancellation.cancelled() => Err(cancelled(&request)),
            prepared = self.prepare(connection, &mut visit, &request) => prepared,
        };
        let (claim, interface, commit) = prepared.inspect_err(|_| self.rolled_back())?;
        // From here on it runs to its end: disk and kernel are changed step by step, and undone step by step.
        let pod = Arc::new(local_pod(&request, &interface, &commit));
        let done = self.commit(connection, &cancellation, &request, claim, pod.clone()).await;
        done.inspect_err(|_| self.rolled_back())?;
        self.counters.count_add(start.elapsed());
        info!(%pod, addresses = ?pod.addresses, interface = pod.host_interface, "pod added");
        Ok(())
    }

    /// Everything until the plugin has made the veth.
    async fn prepare(
        &self,
        connection: &mut Connection,
        visit: &mut Visit,
        request: &AddRequest,
    ) -> Result<(Claim, PodInterface, CommitRequest), Failure> {
        tokio::select! {
            () = connection.closed() => return Err(gone(request)),
            turn = self.turn(visit, "ADD", &request.attachment) => turn?,
        }
        tokio::select! {
            () = connection.closed() => return Err(gone(request)),
            known = self.wait_for_pod(request) => known?,
        }
        let claim = self.claim(request)?;
        let namespace = request.pod.as_ref().map_or("", |pod| pod.namespace.as_str());
        let interface = self.interface(namespace, claim.addresses(), host_interface_name(&request.attachment));
        let prepared = Prepared { interface: interface.clone(), existing: matches!(claim, Claim::Again(_)) };
        connection.send(Response::Prepared(prepared)).await.map_err(|_| gone(request))?;
        let commit = self.await_commit(connection, request).await;
        if commit.is_err() && matches!(claim, Claim::New(_)) {
            // A killed plugin leaves its veth behind.
            self.remove_host_interface(&interface.host_interface).await?;
        }
        Ok((claim, interface, commit?))
    }

    async fn wait_for_pod(&self, request: &AddRequest) -> Result<(), Failure> {
        let (Some(known), Some(pod)) = (&self.config.pod_known, &request.pod) else { return Ok(()) };
        let patience = self.config.limits.pod_known;
        let cause = match timeout(patience, known(pod.clone())).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(cause)) => cause,
            Err(_) => format!(
                "its Pod object has not been seen within {} s; is the API server reachable?",
                patience.as_secs()
            ),
        };
        let what = format!("ADD of {} for pod {}/{}", request.attachment, pod.namespace, pod.name);
        Err(Failure::new(code::TRY_AGAIN_LATER, what, cause))
    }

    fn claim(&self, request: &AddRequest) -> Result<Claim, Failure> {
        let what = || format!("ADD of {}", request.attachment);
        if let Some(cause) = self.unready() {
            return Err(Failure::new(code::TRY_AGAIN_LATER, what(), cause));
        }
        if let Some(lease) = self.leases.find(&request.attachment) {
            return Ok(Claim::Again(lease));
        }
        self.leases.reserve().map(Claim::New).map_err(|e| lease_failure(what(), &e))
    }

    async fn await_commit(&self, connection: &mut Connection, request: &AddRequest) -> Result<CommitRequest, Failure> {
        match connection.receive(self.config.limits.commit).await? {
            Some(Request::Commit(commit)) => Ok(commit),
            Some(_) => Err(Failure::new(
                code::PROTOCOL,
                format!("ADD of {}", request.attachment),
                "the plugin sent something else than Commit; plugin and agent are of different releases",
            )),
            None => Err(gone(request)),
        }
    }

    /// Lease to disk, pod to the dataplane, Done to the plugin; or none of them.
    async fn commit(
        &self,
        connection: &mut Connection,
        cancellation: &Cancellation,
        request: &AddRequest,
        claim: Claim,
        pod: Arc<LocalPod>,
    ) -> Result<(), Failure> {
        let what = || format!("ADD of {}", request.attachment);
        let lease = Lease {
            pod: pod.clone(),
            network: request.network.clone(),
            netns_device: request.netns.device,
            netns_inode: request.netns.inode,
        };
        let again = matches!(claim, Claim::Again(_));
        let leases = self.leases.clone();
        let stored = self.on_disk(move || match claim {
            Claim::New(reservation) => leases.commit(reservation, lease),
            Claim::Again(_) => leases.update(lease),
        });
        let outcome = match stored.await {
            Err(e) => Err(lease_failure(what(), &e)),
            Ok(()) => match self.network.attach(pod.clone()).await {
                Err(e) => Err(attach_failure(what(), &e)),
                Ok(()) if cancellation.is_cancelled() => Err(cancelled(request)),
                Ok(()) => connection.send(Response::Done).await.map_err(|_| gone(request)),
            },
        };
        if outcome.is_err() && !again {
            self.undo(&pod).await;
        }
        outcome
    }

    /// Undoes a commit, as far as it came. What cannot be undone stays leased, so that no other pod gets the addresses; the DEL
    /// that has to follow a failed ADD tries again.
    async fn undo(&self, pod: &Arc<LocalPod>) {
        let undone = if self.leases.find(&pod.attachment()).is_some() {
            self.release(pod).await
        } else {
            self.remove_host_interface(&pod.host_interface).await
        };
        if let Err(failure) = undone {
            warn!(%pod, %failure, "undoing an ADD");
        }
    }

    fn rolled_back(&self) {
        self.counters.rollbacks.fetch_add(1, Ordering::Relaxed);
    }

    /// What the pod's interface has to look like.
    pub(super) fn interface(&self, namespace: &str, addresses: &[IpAddr], host_interface: String) -> PodInterface {
        let gateways: Vec<IpAddr> = addresses.iter().map(gateway_of).collect();
        let default = |gateway: &IpAddr| PodRoute { destination: everywhere(gateway), gateway: *gateway };
        PodInterface {
            addresses: addresses.to_vec(),
            mac: addresses.first().map_or(GATEWAY_MAC, |first| MacAddr::of_pod(*first)),
            mtu: *self.config.mtu.borrow(),
            host_interface,
            host_mac: GATEWAY_MAC,
            routes: gateways.iter().map(default).collect(),
            gateways,
            dns: (self.config.dns)(namespace, addresses),
        }
    }
}

impl Claim {
    fn addresses(&self) -> &[IpAddr] {
        match self {
            Self::New(reservation) => reservation.addresses(),
            Self::Again(lease) => &lease.pod.addresses,
        }
    }
}

fn local_pod(request: &AddRequest, interface: &PodInterface, commit: &CommitRequest) -> LocalPod {
    let unknown = PodIdentity { namespace: String::new(), name: String::new(), uid: String::new() };
    let PodIdentity { namespace, name, uid } = request.pod.clone().unwrap_or(unknown);
    let life = if uid.is_empty() { &request.attachment.container_id } else { &uid };
    LocalPod {
        incarnation: sdn_common::incarnation(life),
        container_id: request.attachment.container_id.clone(),
        ifname: request.attachment.ifname.clone(),
        netns: request.netns.path.clone(),
        namespace,
        name,
        uid,
        addresses: interface.addresses.clone(),
        mac: interface.mac.0,
        host_interface: interface.host_interface.clone(),
        host_ifindex: commit.host_ifindex,
        mtu: interface.mtu,
    }
}

/// Capabilities are promises: one that is asked for and not kept is an error, not a shrug.
fn refuse_unsupported(request: &AddRequest) -> Result<(), Failure> {
    let Some((key, value)) = request.runtime_config.iter().find(|(_, value)| !value.is_null()) else { return Ok(()) };
    let message = format!("ADD of {}: unsupported field runtimeConfig.{key} = {value}", request.attachment);
    Err(Failure::new(code::UNSUPPORTED_FIELD, message, "take the capability out of the network configuration"))
}

fn everywhere(gateway: &IpAddr) -> IpNet {
    if gateway.is_ipv4() { IpNet::V4(Ipv4Net::default()) } else { IpNet::V6(Ipv6Net::default()) }
}

fn gone(request: &AddRequest) -> Failure {
    let cause = "the plugin went away before it was done; it was probably killed by a timeout of the runtime";
    Failure::new(code::TRY_AGAIN_LATER, format!("ADD of {}", request.attachment), cause)
}

fn cancelled(request: &AddRequest) -> Failure {
    let cause = "the runtime asked for its DEL meanwhile";
    Failure::new(code::TRY_AGAIN_LATER, format!("ADD of {}", request.attachment), cause)
}

pub(super) fn lease_failure(what: String, error: &LeaseError) -> Failure {
    let code = match error {
        LeaseError::NoSubnet => code::TRY_AGAIN_LATER,
        LeaseError::Exhausted { .. } => code::ADDRESSES_EXHAUSTED,
        LeaseError::NameTaken { .. } | LeaseError::Io { .. } | LeaseError::Locked { .. } => code::LEASE_STORAGE,
    };
    Failure::new(code, what, error.to_string())
}

pub(super) fn attach_failure(what: String, error: &AttachError) -> Failure {
    let code = if error.transient { code::TRY_AGAIN_LATER } else { code::DATAPLANE };
    Failure::new(code, what, error.to_string())
}

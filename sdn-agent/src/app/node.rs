//! The node role: what is started, with what, in which order.
//!
//! # What the role gives to the dataplane, and what it asks of it
//!
//! In this order, on one thread (a `current_thread` runtime), holding CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON only:
//!
//! 1. `kernel::bpf::Dataplane::open(bpf::Start { config: &Config, node: &Node, uplink: &Uplink, vxlan_ifindex: u32 })`
//!    loads, converts and pins, attaches to culvert0 and the uplink. The writer lock is held already (an flock on the pin
//!    directory itself, `config.paths.bpffs`).
//! 2. `apply::spawn(apply::Start { dataplane, config: Arc<Config>, node_name, snapshots: watch::Receiver<Snapshot>,
//!    uplink: watch::Receiver<Uplink>, vxlan_ifindex })` starts the loop that makes the kernel agree with each snapshot and
//!    uplink, and returns a handle which implements `cni::PodNetwork` and [`crate::observe::Dataplane`].
//! 3. At a graceful stop the handle is dropped; everything stays pinned and forwards on.
//!
//! culvert0, its addresses, MTU and routes, and sysctls of our own devices belong to the role (`kernel::netlink`,
//! `kernel::sysctl`); TCX programs, maps and links belong to the dataplane.

use std::process::ExitCode;

use crate::config::Config;

/// Runs the role until it is asked to end.
pub fn run(config: Config) -> ExitCode {
    let _ = config;
    ExitCode::FAILURE
}

//! Pods come and go here: the agent's side of the CNI plugin, and the node's address management.
//!
//! The plugin asks over `cni.sock` ([`server`]); an address is reserved, the plugin makes the veth, the lease goes to disk
//! ([`leases`]), and the dataplane takes the pod ([`pod::PodNetwork`]). The leases are the truth about the node's pods: they survive
//! every restart, and whoever starts reads them first.

pub mod counters;
pub mod install;
pub mod leases;
pub mod pod;
pub mod server;

pub use counters::Counters;
pub use leases::{Lease, LeaseError, Leases};
pub use pod::{AttachError, LocalPod, PodNetwork};
pub use server::{PodKnown, Readiness, Server, ServerConfig};

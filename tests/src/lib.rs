//! Clusters of network namespaces on one machine.

mod cgroup;
pub mod family;
mod netlink;
mod node;
pub mod record;
pub mod sandbox;
pub mod standin;
pub mod state;
pub mod underlay;

//! What the cluster looks like.
//!
//! Objects are read once at the door ([`source`]), as types of our own ([`model`]); one task owns them ([`store`]);
//! everybody else reads immutable snapshots ([`snapshot`]). [`control`] is what a control plane would do, as pure
//! functions: workloads become pods, pods get nodes, nodes get host subnets. [`verdict`] says what policies allow. [`network`] has the address ranges that
//! all of it is made of.
//!
//! ```no_run
//! # async fn example() -> Result<(), sdn_cluster::Error> {
//! use sdn_cluster::{source::manifests, store};
//!
//! let source = manifests::open("/etc/culvert/manifests", manifests::Options::default()).await?;
//! let mut cluster = store::spawn(source);
//! cluster.synced().await;
//! println!("{} pods", cluster.snapshot().pods.len());
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

pub mod control;
mod error;
pub mod model;
pub mod network;
mod replace;
pub mod snapshot;
pub mod source;
pub mod store;
pub mod verdict;

pub use error::Error;
pub use network::{ClusterNetwork, ClusterNetworks};
pub use snapshot::{Change, Snapshot};
pub use store::Cluster;

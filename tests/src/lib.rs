//! Clusters of network namespaces on one machine: for tests, for the demo and benchmarks, and for people (`sdn-lab up`).
//!
//! A lab is an underlay, an outside host beyond it, and nodes: each a network namespace with file systems and a cgroup of its
//! own and a real agent. A pod is a network namespace which the real CNI plugin has connected; stand-ins answer on the ports
//! that it declares. Nothing of a lab is in the machine's own network, and nothing is left when it ends.
//!
//! ```no_run
//! use sdn_lab::{Lab, PodSpec};
//!
//! let lab = Lab::builder("two-pods").nodes(2)
//!     .pod(PodSpec::new("client").on("node-1"))
//!     .pod(PodSpec::new("server").on("node-2").tcp(80))
//!     .start()?;
//! let server = lab.pod("server")?.addresses()[0];
//! println!("{}", lab.pod("client")?.run(["curl", "-s", &format!("http://{server}/")])?);
//! # anyhow::Ok(())
//! ```

#![deny(unsafe_code)]

pub mod agent;
mod bench;
mod builder;
mod cgroup;
pub mod cli;
mod demo;
pub mod events;
pub mod family;
mod kubelet;
pub mod lab;
pub mod machine;
pub mod nameserver;
mod netlink;
pub mod node;
pub mod peers;
pub mod pod;
pub mod probe;
pub mod programs;
pub mod queries;
pub mod reaper;
pub mod record;
pub mod sandbox;
pub mod standin;
pub mod state;
pub mod stream;
pub mod survey;
mod table;
pub mod underlay;

pub use builder::LabBuilder;
pub use family::{Family, IpFamily};
pub use lab::Lab;
pub use node::Node;
pub use pod::{Pod, PodSpec};

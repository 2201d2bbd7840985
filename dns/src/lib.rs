//! Cluster DNS on every node: the records of the cluster from an index of its own, everything else from upstreams.
//!
//! A query's journey, in the order in which the modules below do their part:
//!
//! ```text
//! server → zone → name → records → answer
//! ```
//!
//! - **server** takes messages from the sockets it was given, many with one system call, and parses them in place.
//! - **zone** says whose the name is: the cluster's, a reverse zone's of its networks, or somebody else's.
//! - **name** says what a name of the cluster's means: a Service, one of its ports, an endpoint, a pod.
//! - **records** finds in the index what is known of it.
//! - **answer** writes the message: what the index has encoded before, with the query's id, case, and a random order.
//!
//! What is not the cluster's goes to the [`forward`]er. A query loads the index once, at its start.
//!
//! ```no_run
//! # async fn example(
//! #     snapshots: tokio::sync::watch::Receiver<sdn_cluster::Snapshot>,
//! #     forwarder: impl sdn_dns::forward::Forwarder,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! use sdn_dns::{Config, Sockets};
//! use std::net::{TcpListener, UdpSocket};
//!
//! let (udp, tcp) = (vec![UdpSocket::bind("127.0.0.1:5353")?], vec![TcpListener::bind("127.0.0.1:5353")?]);
//! let resolver = sdn_dns::start(Config::default(), Sockets { udp, tcp }, snapshots, forwarder)?;
//! tokio::signal::ctrl_c().await?;
//! resolver.stop().await;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod answer;
mod cache;
mod config;
mod engine;
mod error;
pub mod forward;
mod index;
mod limit;
mod metrics;
mod name;
mod random;
mod records;
mod search;
mod server;
#[cfg(test)]
mod testing;
mod wire;
mod zone;

pub use config::{Clients, Config, Networks, PodNames, Rate, Search, TcpLimits};
pub use error::Error;
pub use server::{Handle, Sockets, start};

//! The CNI plugin `sdn-cni` as a library: what it says to the container runtime (CNI spec 1.1.0), what it says to the agent, and
//! the pod's side of the veth.
//!
//! One invocation is one short process:
//!
//! ```text
//! environment + stdin → command → agent (addresses) → veth and pod netns → agent (dataplane) → result on stdout
//! ```
//!
//! The agent uses this crate for the wire protocol ([`protocol`]) and for the names and addresses both sides must agree on.
#![forbid(unsafe_code)]

pub mod client;
pub mod commands;
pub mod config;
pub mod environment;
pub mod mac;
pub mod netlink;
pub mod netns;
pub mod protocol;
pub mod result;
pub mod veth;

pub use mac::MacAddr;
pub use protocol::Attachment;

//! The agent's doors: an admin socket for sdnctl, and a read-only TCP address for health and metrics.
//!
//! ```text
//! admin.sock   GET /v1/status  /v1/pods  /v1/nodes  /v1/drops  /v1/drops/events      JSON, see [`api`]
//!              GET /v1/dns  /v1/dns/query   PUT /v1/dns/log
//! TCP          GET /healthz  /readyz  /metrics
//! ```

pub mod agent;
pub mod api;
pub mod client;
mod dns;
mod policies;
mod routes;
mod serve;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use agent::Agent;
pub use routes::{admin, health};
pub use serve::{serve_tcp, serve_unix};

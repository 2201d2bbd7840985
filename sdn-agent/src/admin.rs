//! The agent's doors: an admin socket for sdnctl, and a read-only TCP address for health and metrics.

pub mod api;

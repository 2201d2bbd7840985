//! The forwarder against upstreams on loopback that do what a row of a table says.

mod asking;
mod configuration;
mod health;
mod hostile;
mod keeping;
mod rig;

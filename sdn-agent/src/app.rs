//! Processes and roles: each file is one plan, top to bottom.

pub mod node;

//! Processes and roles: each file is one plan, top to bottom.

pub mod command;
pub mod keeper;
pub mod logging;
pub mod node;

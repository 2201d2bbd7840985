//! Processes and roles: each file is one plan, top to bottom, with the pieces that only it needs beside it.

pub mod command;
pub mod keeper;
pub mod lock;
pub mod logging;
pub mod node;
pub mod overlay;
pub mod readiness;
pub mod resolver;
pub mod stage;
pub mod tasks;

//! Nodes.
mod filesystem;

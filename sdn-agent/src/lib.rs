//! Culvert's node agent. The binaries are thin: everything is here, so that tests can start a daemon inside a namespace.
//!
//! An object's journey passes `plan` → `apply` → `kernel`; `observe` is the way back; `cni` admits pods; `app` says what is
//! started, with what, in which order; `admin` and `sdnctl` are the two ends of the socket that people use.

pub mod admin;
pub mod app;
pub mod apply;
pub mod cni;
pub mod config;
pub mod family;
pub mod keeper;
pub mod kernel;
pub mod observe;
pub mod plan;
pub mod preflight;
pub mod sdnctl;
pub mod terminal;

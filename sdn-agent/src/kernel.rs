//! The agent's hands in the kernel, named verb_noun as the kernel and `ip` say it. User space's `unsafe` is here and nowhere else.

pub mod bpf;
pub mod capabilities;
pub mod descriptors;
pub mod memory;
pub mod netlink;
pub mod sysctl;

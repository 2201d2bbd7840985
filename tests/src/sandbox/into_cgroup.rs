//! Unsafe code: a child puts itself into its cgroup between fork and exec.
//!
//! Doing it from outside, after the start, would leave a moment in which the child's own children are elsewhere.

use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Makes `command`'s process join the cgroup whose `cgroup.procs` file is `procs`, before it runs anything.
pub fn start_in(command: &mut Command, procs: OwnedFd) {
    let join = move || nix::unistd::write(&procs, b"0").map(drop).map_err(std::io::Error::from);
    // SAFETY: `join` runs in the child of a process with many threads, so it may only do what is async-signal-safe: it
    // makes one write(2) to a descriptor opened before the fork, and turns errno into an error without allocating.
    unsafe {
        command.pre_exec(join);
    }
}

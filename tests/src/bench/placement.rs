//! Threads that stay on one processor.

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// A processor by its number.
pub type Processor = usize;

/// Client and server side by side on the first two processors.
pub const APART: [Processor; 2] = [0, 1];

/// Client and server on the same processor.
pub const TOGETHER: [Processor; 2] = [0, 0];

/// Keeps the calling thread on `processor`.
pub fn stay_on(processor: Processor) -> Result<()> {
    let mut only = CpuSet::new();
    only.set(processor).with_context(|| format!("name processor {processor}"))?;
    sched_setaffinity(Pid::from_raw(0), &only)
        .with_context(|| format!("stay on processor {processor}: benchmarks need two of them"))
}

//! Benchmarks: `sdn-lab bench NAME`, or `cargo xtask bench NAME`, which builds what would be shipped first.
//!
//! Ours and theirs are up side by side on the same kind of underlay, and take turns round by round, so that whatever else
//! happens to the machine happens to both.

mod agent;
mod contest;
mod cpu;
mod datagrams;
pub mod dns;
mod flows;
#[expect(unsafe_code, reason = "perf_event_open and bpf have no safe wrapper here")]
mod kernel;
mod latency;
mod placement;
pub mod pods;
mod programs;
mod report;
mod statistics;
mod throughput;

//! What is counted, and the port that tells it (1936): health, metrics with the names of HAProxy's exporter, and a page
//! for people.

mod counters;
mod door;
mod metrics;
mod report;

pub use counters::{Count, Counters, Snapshot, Totals};
pub use door::{Authorize, serve};

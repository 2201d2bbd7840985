//! The way back: what the kernel counted and reported, as numbers and events that people can read.

pub mod drops;
pub mod events;
pub mod metrics;
pub mod names;
pub mod sweep;

use std::future::Future;

use tokio::sync::broadcast;

use crate::admin::api::{ApplyStatus, DropCount, DropEvent, MapStatus, ProgramStatus};

/// What the admin socket and the metrics ask of the dataplane. Implemented by what `apply::spawn` returns.
pub trait Dataplane: Send + Sync + 'static {
    /// Our programs with their run counts.
    fn programs(&self) -> Result<Vec<ProgramStatus>, ObserveError>;
    /// Our maps with their fill levels.
    fn maps(&self) -> impl Future<Output = Result<Vec<MapStatus>, ObserveError>> + Send;
    /// The exact drop counts, with names as of the last snapshot.
    fn drops(&self) -> impl Future<Output = Result<Vec<DropCount>, ObserveError>> + Send;
    /// Example events from now on. A slow reader loses the oldest, never blocks the writer.
    fn events(&self) -> broadcast::Receiver<DropEvent>;
    /// What the last pass of apply left in the kernel, and what it could not.
    fn applied(&self) -> ApplyStatus;
    /// Sums for the metrics.
    fn counts(&self) -> Result<Counts, ObserveError>;
}

/// Sums that never decrease while the node is up, unless said otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets dropped, by the reason's name.
    pub drops: Vec<(&'static str, Packets)>,
    /// Packets not dropped, by hook and by where they went.
    pub forwards: Vec<(&'static str, &'static str, Packets)>,
    /// Example events of drops since this agent started.
    pub events: u64,
    /// Flows removed by the sweep since this agent started.
    pub expired_flows: u64,
    /// Masquerading ports freed by the sweep since this agent started.
    pub freed_ports: u64,
}

/// Packets, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Packets {
    /// How many.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Something of the dataplane could not be read.
#[derive(Debug, thiserror::Error)]
#[error("read {object}: {cause}")]
pub struct ObserveError {
    /// Map or program, by name.
    pub object: String,
    /// What the kernel said.
    pub cause: String,
}

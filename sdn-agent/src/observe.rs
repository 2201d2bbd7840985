//! The way back: what the kernel counted and reported, as numbers and events that people can read.

pub mod drops;
pub mod events;
pub mod metrics;
pub mod names;
pub mod sweep;

use std::future::Future;

use tokio::sync::broadcast;

use crate::admin::api::{DropCount, DropEvent, MapStatus, ProgramStatus};

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
    /// What could not be applied at the last try and is being retried; empty when the kernel agrees with the snapshot.
    fn failures(&self) -> Vec<String>;
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

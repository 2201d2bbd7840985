//! A ring buffer that programs write and one task reads.

use std::io;

use aya::maps::{Map, MapData, RingBuf};
use sdn_common::maps::MapSpec;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::pins::PinDirectory;
use super::raw;

/// The reading end of a ring buffer.
#[expect(missing_debug_implementations, reason = "aya's ring has none")]
pub struct Ring(AsyncFd<RingBuf<MapData>>);

impl Ring {
    /// Opens the ring of this name. Needs a tokio runtime. A ring has one reader: what it reads is gone.
    pub fn open(pins: &PinDirectory, name: &str) -> io::Result<Self> {
        let spec = MapSpec::find(name)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the contract has no ring of this name"))?;
        let map = MapData::from_pin(pins.map(spec)).and_then(Map::from_map_data).map_err(raw::into_io)?;
        let ring = RingBuf::try_from(map).map_err(raw::into_io)?;
        // SAFETY: the ring owns its descriptor, open and unchanged until it is dropped, and nothing replaces the ring in here.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
        Ok(Self(ring.map_err(io::Error::from)?))
    }

    /// Waits for records and hands over at most `limit` of them, so that a flood leaves room for others on the thread.
    pub async fn read(&mut self, limit: usize, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        let mut ready = self.0.readable_mut().await?;
        for _ in 0..limit {
            let Some(record) = ready.get_inner_mut().next() else {
                ready.clear_ready();
                return Ok(());
            };
            take(&record);
        }
        drop(ready);
        tokio::task::yield_now().await;
        Ok(())
    }
}

//! The kernel's `jiffies`, read from user space: the programs stamp flows with them, because they cost nothing.

use std::time::{Duration, Instant};

use aya::maps::Array;
use aya::programs::SchedClassifier;
use aya::{Ebpf, TestRun, TestRunOptions};
use sdn_common::event;

/// The program that writes `CLOCK`. It is never attached: it is run for its answer.
pub(super) const PROGRAM: &str = "clock";
/// What `CONFIG_HZ` can be (kernel/Kconfig.hz).
const RATES: [u32; 4] = [100, 250, 300, 1000];
/// Apart enough that an error of one tick at either end cannot confuse two rates.
const APART: Duration = Duration::from_millis(100);

/// `jiffies` at one moment, and how fast they run. Both clocks stop while the machine sleeps, so one reading lasts.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    jiffies: u64,
    at: Instant,
    hz: u32,
}

/// The kernel's clock could not be read.
#[derive(Debug, thiserror::Error)]
#[error("run program clock to read the kernel's jiffies: {0}")]
pub struct ClockError(String);

impl Clock {
    /// Reads the clock. `known` is the rate that an earlier start found; without it two readings are made, 100 ms apart.
    pub(super) fn calibrate(object: &mut Ebpf, known: Option<u32>) -> Result<Self, ClockError> {
        let first = read(object)?;
        if let Some(hz) = known {
            return Ok(Self { jiffies: first.jiffies, at: Instant::now(), hz });
        }
        std::thread::sleep(APART);
        let second = read(object)?;
        let (ticks, nanoseconds) = (second.jiffies - first.jiffies, second.nanoseconds - first.nanoseconds);
        Ok(Self { jiffies: second.jiffies, at: Instant::now(), hz: rate(ticks, nanoseconds) })
    }

    /// A clock that shows `jiffies` now.
    #[cfg(test)]
    pub(crate) fn showing(jiffies: u64, hz: u32) -> Self {
        Self { jiffies, at: Instant::now(), hz }
    }

    /// `jiffies` now, give or take one.
    pub fn jiffies(&self) -> u64 {
        let ticks = self.at.elapsed().as_nanos() * u128::from(self.hz) / 1_000_000_000;
        self.jiffies + u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    /// `jiffies` per second: the kernel's `CONFIG_HZ`.
    pub fn hz(&self) -> u32 {
        self.hz
    }
}

/// The rate nearest to what was measured.
fn rate(ticks: u64, nanoseconds: u64) -> u32 {
    let measured = ticks.saturating_mul(1_000_000_000) / nanoseconds.max(1);
    let distance = |rate: &u32| u64::from(*rate).abs_diff(measured);
    RATES.into_iter().min_by_key(distance).expect("there are rates")
}

fn read(object: &mut Ebpf) -> Result<event::Clock, ClockError> {
    let fail = |cause: &dyn std::fmt::Display| ClockError(cause.to_string());
    let program: &mut SchedClassifier = object
        .program_mut(PROGRAM)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| fail(&"the kernel object has no such program"))?;
    // The smallest packet that a test run takes: one Ethernet header.
    let packet = [0_u8; 14];
    program.test_run(TestRunOptions { data_in: Some(&packet), ..Default::default() }).map_err(|error| fail(&error))?;
    let map = object.map("CLOCK").ok_or_else(|| fail(&"the kernel object has no map CLOCK"))?;
    let clock = Array::<_, event::Clock>::try_from(map).map_err(|error| fail(&error))?;
    clock.get(&0, 0).map_err(|error| fail(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_rates_snap_to_those_that_exist() {
        let rows = [(10, 100), (11, 100), (24, 250), (26, 250), (29, 300), (31, 300), (100, 1000), (101, 1000)];
        for (ticks, hz) in rows {
            assert_eq!(rate(ticks, 100_000_000), hz, "{ticks} ticks in 100 ms");
        }
        // A sleep that took longer than asked for.
        assert_eq!(rate(250, 1_003_000_000), 250);
    }

    #[test]
    fn jiffies_go_on_from_the_reading() {
        let clock = Clock { jiffies: 5_000, at: Instant::now() - Duration::from_secs(2), hz: 250 };
        assert!((5_500..5_510).contains(&clock.jiffies()), "{}", clock.jiffies());
    }
}

//! What the whole machine spends while something runs: cycles, or where the processor does not count them, time.
//!
//! Nothing is subtracted: user space of the programs that make the traffic, kernel, interrupts, and whatever else runs on the
//! machine are in it. Both contestants have the same of that.

use std::fmt;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::unistd::{SysconfVar, sysconf};
use serde::Serialize;

use super::kernel::Cycles;

/// In which unit effort is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Unit {
    /// Cycles of all processors, by their own counters.
    Cycles,
    /// Nanoseconds in which processors were neither idle nor taken away by a hypervisor, of all processors together.
    Nanoseconds,
}

/// Measures the machine's effort.
#[derive(Debug)]
pub struct Meter {
    /// One of each processor; empty where they do not count.
    cycles: Vec<Cycles>,
}

/// The meter's state at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    at: Instant,
    counted: f64,
}

/// Time in which processors did nothing for anyone here, in the kernel's ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Idle {
    processors: u32,
    ticks: u64,
}

// === impl Meter ===

impl Meter {
    /// Counts cycles if all processors can, else time.
    pub fn open() -> Result<Self> {
        let processors = i32::try_from(Idle::read()?.processors).context("count the processors")?;
        let cycles = (0..processors).map(Cycles::count_on).collect::<Result<Vec<_>>>();
        Ok(Self { cycles: cycles.unwrap_or_default() })
    }

    /// Of what it measures.
    pub fn unit(&self) -> Unit {
        if self.cycles.is_empty() { Unit::Nanoseconds } else { Unit::Cycles }
    }

    /// Begins to measure.
    pub fn start(&self) -> Result<Reading> {
        Ok(Reading { counted: self.count()?, at: Instant::now() })
    }

    /// Effort since `start`, in [`Self::unit`].
    pub fn since(&self, start: Reading) -> Result<f64> {
        let counted = self.count()? - start.counted;
        Ok(match self.unit() {
            Unit::Cycles => counted,
            // What was counted is the opposite of effort.
            Unit::Nanoseconds => {
                let all = start.at.elapsed().as_nanos() as f64 * f64::from(Idle::read()?.processors);
                (all - counted).max(0.0)
            }
        })
    }

    fn count(&self) -> Result<f64> {
        if self.cycles.is_empty() {
            return Idle::read()?.nanoseconds();
        }
        let counts = self.cycles.iter().map(|counter| Ok(counter.read()? as f64));
        counts.sum()
    }
}

/// The part of the processors' time that is in use now, while nothing is measured: watched for `time`.
pub fn busy(time: Duration) -> Result<f64> {
    let time_meter = Meter { cycles: vec![] };
    let start = time_meter.start()?;
    thread::sleep(time);
    let busy = time_meter.since(start)?;
    Ok(busy / (start.at.elapsed().as_nanos() as f64 * f64::from(Idle::read()?.processors)))
}

impl Idle {
    fn nanoseconds(self) -> Result<f64> {
        let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().context("ask for the length of a tick")?;
        Ok(self.ticks as f64 * 1e9 / per_second as f64)
    }

    fn read() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
        Self::parse(&text).context("understand /proc/stat")
    }

    /// Idle time is exact on kernels without ticks while idle; times of work are samples, which is why they are not used.
    fn parse(text: &str) -> Option<Self> {
        let processors = text.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count();
        let all = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
        // user nice system idle iowait irq softirq steal (proc_stat(5))
        let columns: Vec<u64> = all.split_whitespace().map_while(|column| column.parse().ok()).collect();
        let ticks = columns.get(3)? + columns.get(4)? + columns.get(7)?;
        Some(Self { processors: u32::try_from(processors).ok()?, ticks })
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Cycles => "cycles",
            Self::Nanoseconds => "CPU ns",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn idle_stolen_and_waiting_time_are_no_effort() {
        let text = "cpu  100 1 20 3000 400 5 6 70000 8 9\ncpu0 1 2 3\ncpu1 1 2 3\nintr 4\n";
        assert_eq!(Idle::parse(text), Some(Idle { processors: 2, ticks: 73_400 }));
        assert_eq!(Idle::parse("intr 4\n"), None);
    }

    #[test]
    fn work_is_noticed() {
        let meter = Meter { cycles: vec![] };
        let start = meter.start().unwrap();
        while start.at.elapsed() < Duration::from_millis(200) {
            std::hint::spin_loop();
        }
        let effort = meter.since(start).unwrap();
        // Less than the whole if a hypervisor took the processor away.
        assert!(effort > 50e6, "{effort} ns");
    }
}

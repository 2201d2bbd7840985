//! dnsperf: who asks.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::NamedTempFile;

use super::server::{CLIENTS, Server};
use crate::bench::placement::stay_on;
use crate::bench::statistics::percentile;

/// Queries that wait for an answer at the same time.
const OUTSTANDING: &str = "100";
/// Sockets that queries come from.
const SOCKETS: &str = "10";
/// After this a query is lost; seconds.
const TIMEOUT: &str = "2";
/// A run that nothing else ends.
const ENDLESS: Duration = Duration::from_secs(3600);

/// A file of queries.
#[derive(Debug)]
pub struct Queries(NamedTempFile);

/// How to ask.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    time: Duration,
    /// Queries a second; `None` for as many as are answered.
    pace: Option<u32>,
    /// Each query once.
    once: bool,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    pub completed: u64,
    pub lost: u64,
    /// Answers by response code.
    pub codes: BTreeMap<String, u64>,
    pub queries_per_second: f64,
    /// The server's time for one query in nanoseconds.
    pub cpu_per_query: f64,
    /// Microseconds; only of a paced load.
    latencies: Vec<f64>,
}

/// dnsperf while it asks.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// What it says: a file, because a reader would run beside the server, line by line.
    output: NamedTempFile,
}

// === impl Queries ===

impl Queries {
    /// A line each: a name and a type.
    pub fn new(text: &str) -> Result<Self> {
        let file = NamedTempFile::new().context("make a file of queries")?;
        std::fs::write(file.path(), text).context("write the queries")?;
        Ok(Self(file))
    }
}

// === impl Load ===

impl Load {
    pub fn full(time: Duration) -> Self {
        Self { time, pace: None, once: false }
    }

    pub fn paced(pace: u32, time: Duration) -> Self {
        Self { time, pace: Some(pace), once: false }
    }

    pub fn once() -> Self {
        Self { time: ENDLESS, pace: None, once: true }
    }

    pub fn endless(pace: u32) -> Self {
        Self { time: ENDLESS, pace: Some(pace), once: false }
    }
}

/// Asks, and reads the server's clock before and after.
pub fn run(server: &Server, queries: &Queries, load: Load) -> Result<Outcome> {
    let before = server.cpu_time()?;
    let mut outcome = Running::start(server, queries, load)?.end()?;
    let spent = server.cpu_time()?.saturating_sub(before);
    outcome.cpu_per_query = spent as f64 / outcome.completed.max(1) as f64;
    Ok(outcome)
}

// === impl Running ===

impl Running {
    pub fn start(server: &Server, queries: &Queries, load: Load) -> Result<Self> {
        let mut command = Command::new("dnsperf");
        let port = server.address().port().to_string();
        command.args([
            "-s",
            "127.0.0.1",
            "-p",
            &port,
            "-T",
            "1",
            "-c",
            SOCKETS,
            "-q",
            OUTSTANDING,
            "-t",
            TIMEOUT,
            "-W",
        ]);
        command.arg("-d").arg(queries.0.path()).args(["-l", &load.time.as_secs().max(1).to_string()]);
        if let Some(pace) = load.pace {
            // Each answer is a line with its latency.
            command.args(["-Q", &pace.to_string(), "-v"]);
        }
        if load.once {
            command.args(["-n", "1"]);
        }
        let output = NamedTempFile::new().context("make a file for what dnsperf says")?;
        let file = output.reopen().context("open the file for what dnsperf says")?;
        command.stdin(Stdio::null()).stdout(file);
        let started = thread::spawn(move || {
            stay_on(CLIENTS)?;
            command.spawn().context("start dnsperf (Debian package dnsperf)")
        });
        let child = started.join().map_err(|_| anyhow::anyhow!("the thread that starts dnsperf panicked"))??;
        Ok(Self { child, output })
    }

    /// Has it end, as Ctrl-C does: it says what it found so far.
    pub fn interrupt(self) -> Result<Outcome> {
        let pid = i32::try_from(self.child.id()).context("a process id")?;
        kill(Pid::from_raw(pid), Signal::SIGINT).context("end dnsperf")?;
        self.end()
    }

    fn end(mut self) -> Result<Outcome> {
        let status = self.child.wait().context("wait for dnsperf")?;
        ensure!(status.success(), "dnsperf has failed: {status}");
        let text = std::fs::read_to_string(self.output.path()).context("read what dnsperf says")?;
        Outcome::parse(&text).context("understand what dnsperf says")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended by itself cannot be killed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

// === impl Outcome ===

impl Outcome {
    /// The smallest latency that is not exceeded by `percent` of all; microseconds.
    pub fn latency(&self, percent: f64) -> Option<f64> {
        percentile(&self.latencies, percent)
    }

    /// Answers that say that something is wrong.
    pub fn failures(&self) -> u64 {
        self.codes.iter().filter(|(code, _)| *code != "NOERROR").map(|(_, count)| count).sum()
    }

    /// A server that fails or drops has not done the same work. What comes too fast may be dropped.
    pub fn expect_answers(&self, load: Load) -> Result<()> {
        ensure!(self.completed > 0, "no answers at all");
        ensure!(self.failures() == 0, "answers with other codes than NOERROR: {:?}", self.codes);
        ensure!(self.lost == 0 || load.pace.is_none(), "{} of {} queries without an answer", self.lost, self.completed);
        Ok(())
    }

    fn parse(text: &str) -> Option<Self> {
        let mut found = Self::default();
        for line in text.lines() {
            if let Some(answer) = line.strip_prefix("> ") {
                // The code, name, type, and seconds.
                let seconds: Option<f64> = answer.split_whitespace().nth(3).and_then(|last| last.parse().ok());
                found.latencies.extend(seconds.map(|seconds| seconds * 1e6));
                continue;
            }
            let Some((what, value)) = line.trim().split_once(':') else { continue };
            let first = || value.split_whitespace().next();
            match what {
                "Queries completed" => found.completed = first()?.parse().ok()?,
                "Queries lost" => found.lost = first()?.parse().ok()?,
                "Queries per second" => found.queries_per_second = first()?.parse().ok()?,
                "Response codes" => {
                    for code in value.split(',') {
                        let mut words = code.split_whitespace();
                        if let (Some(name), Some(count)) = (words.next(), words.next()) {
                            found.codes.insert(name.to_owned(), count.parse().ok()?);
                        }
                    }
                }
                _ => {}
            }
        }
        (found.completed > 0 || found.lost > 0).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dnsperf_says_is_understood() {
        let text = "\
[Status] Sending queries (to 127.0.0.1:5300)
> NOERROR a.example A 0.000250
> NXDOMAIN b.example A 0.001000
Statistics:

  Queries sent:         4
  Queries completed:    3 (75.00%)
  Queries lost:         1 (25.00%)

  Response codes:       NOERROR 2 (66.67%), NXDOMAIN 1 (33.33%)
  Average packet size:  request 40, response 56
  Run time (s):         1.000100
  Queries per second:   29.9
";
        let found = Outcome::parse(text).unwrap();
        assert_eq!((found.completed, found.lost, found.failures()), (3, 1, 1));
        assert_eq!(found.codes["NOERROR"], 2);
        assert_eq!((found.latency(50.0), found.latency(99.0)), (Some(250.0), Some(1000.0)));
        assert!((found.queries_per_second - 29.9).abs() < 1e-9);
        assert!(found.expect_answers(Load::once()).is_err());
        assert!(Outcome::parse("dnsperf: unknown option").is_none());
    }
}

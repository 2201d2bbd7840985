//! TCP throughput by iperf3, and what a byte costs.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::contest::Pair;
use super::cpu::Meter;
use crate::sandbox::Sandbox;

/// How long beyond its time iperf3 may take: connecting, exchanging results.
const GRACE: Duration = Duration::from_secs(10);

/// How long a server may take until it listens.
const START_DEADLINE: Duration = Duration::from_secs(5);

/// What came of one run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Throughput {
    /// Received by the server's application, bits per second.
    pub bits_per_second: f64,
    /// The whole machine's effort for a byte received, in the meter's unit.
    pub effort_per_byte: f64,
}

/// Sends for `time` over so many connections at once.
pub fn measure(pair: &Pair, streams: u32, time: Duration, meter: &Meter) -> Result<Throughput> {
    let server = Server::start(&pair.server)?;
    let start = meter.start()?;
    let printed = run_client(pair, streams, time)?;
    let effort = meter.since(start)?;
    drop(server);
    let received = parse(&printed)?;
    ensure!(received.bytes > 0, "iperf3 to {} received nothing", pair.target);
    Ok(Throughput { bits_per_second: received.bits_per_second, effort_per_byte: effort / received.bytes as f64 })
}

/// An iperf3 server for one client; it is ended when dropped.
struct Server(Child);

impl Server {
    fn start(sandbox: &Sandbox) -> Result<Self> {
        let mut command = Command::new("iperf3");
        command.args(["--server", "--one-off", "--interval", "0", "--forceflush"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut server = Self(sandbox.spawn(&mut command)?);
        server.await_listening().context("start an iperf3 server")?;
        Ok(server)
    }

    /// It says so. Trying to connect would end it: it serves one client.
    fn await_listening(&mut self) -> Result<()> {
        let mut output = self.0.stdout.take().context("an iperf3 without standard output")?;
        let deadline = Instant::now() + START_DEADLINE;
        let (mut said, mut piece) = (String::new(), [0; 512]);
        while !said.contains("listening") {
            let length = output.read(&mut piece).context("read what it says")?;
            ensure!(length > 0 && Instant::now() < deadline, "it does not listen: {said}");
            said += &String::from_utf8_lossy(&piece[..length]);
        }
        // What it has still to say fits into the pipe, which stays open so that it can.
        self.0.stdout = Some(output);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It ends by itself after its client; one without a client does not.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn run_client(pair: &Pair, streams: u32, time: Duration) -> Result<String> {
    let mut command = Command::new("iperf3");
    command.args(["--client", &pair.target.to_string(), "--json", "--interval", "0", "--connect-timeout", "3000"]);
    command.args(["--time", &time.as_secs().max(1).to_string(), "--parallel", &streams.to_string()]);
    // Sender and receiver each on a processor: where they share one is luck, and a round's luck is not what is measured.
    command.args(["--affinity", "0,1"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut client = pair.client.spawn(&mut command).context("is iperf3 installed? `cargo xtask bench` does that")?;
    let deadline = Instant::now() + time + GRACE;
    while client.try_wait().context("wait for iperf3")?.is_none() {
        if Instant::now() > deadline {
            client.kill().ok();
            client.wait().ok();
            bail!("iperf3 to {} does not end: traffic has stopped", pair.target);
        }
        thread::sleep(Duration::from_millis(10));
    }
    // With a total only, what it prints fits into the pipe.
    let output = client.wait_with_output().context("read from iperf3")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[derive(Debug, Deserialize)]
struct Printed {
    #[serde(default)]
    end: End,
    error: Option<String>,
}

#[derive(Debug, Deserialize, Default)]
struct End {
    sum_received: Option<Received>,
}

#[derive(Debug, Deserialize)]
struct Received {
    bytes: u64,
    bits_per_second: f64,
}

fn parse(printed: &str) -> Result<Received> {
    let result: Printed = serde_json::from_str(printed).with_context(|| format!("understand iperf3: {printed}"))?;
    match (result.error, result.end.sum_received) {
        (Some(error), _) => bail!("iperf3: {error}"),
        (None, Some(received)) => Ok(received),
        (None, None) => bail!("iperf3 tells no sum of what was received: {printed}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_errors_of_iperf3_are_understood() {
        let good = r#"{"end": {"sum_received": {"seconds": 1, "bytes": 125000000, "bits_per_second": 1e9}}}"#;
        let received = parse(good).unwrap();
        assert_eq!((received.bytes, received.bits_per_second), (125_000_000, 1e9));
        let bad = r#"{"end": {}, "error": "unable to connect to server: Connection refused"}"#;
        assert!(parse(bad).unwrap_err().to_string().contains("Connection refused"));
        assert!(parse("{}").is_err() && parse("iperf3: no").is_err());
    }
}

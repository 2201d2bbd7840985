//! What can be seen of an agent from outside: its processes, their memory, its health.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::unistd::Pid;

use super::Agent;

/// Where an agent answers about its health and its metrics, inside its node.
pub const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9420);

/// How long one question about its health may take.
const PATIENCE: Duration = Duration::from_secs(2);

impl Agent {
    /// All its processes.
    pub fn processes(&self) -> Vec<Pid> {
        self.0.sandbox.cgroup().map_or_else(Vec::new, |cgroup| cgroup.pids())
    }

    /// The current keeper's child, if it lives.
    pub fn role(&self) -> Option<Pid> {
        let keeper = self.keeper()?;
        let is_dead = |pid| status_field(pid, "status", "State:").is_none_or(|state| state.starts_with(['Z', 'X']));
        self.processes().into_iter().find(|pid| parent(*pid) == Some(keeper) && !is_dead(*pid))
    }

    /// Resident memory of all its processes in bytes; pages that they share are counted once (proportionally).
    pub fn resident_memory(&self) -> u64 {
        self.processes().into_iter().filter_map(proportional_memory).sum()
    }

    /// Waits until `/readyz` says yes, at most `patience`.
    pub fn wait_ready(&self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let reason = match self.get("/readyz") {
                Ok((200, _)) => return Ok(()),
                Ok((code, body)) => format!("/readyz answers {code}: {}", body.trim()),
                Err(error) => format!("{error:#}"),
            };
            self.0.events.interrupt().check()?;
            if Instant::now() > deadline {
                bail!("the agent of {} is not ready: {reason}; its log ends: {}", self.0.node, self.last_words());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Its metrics in Prometheus' text format.
    pub fn metrics(&self) -> Result<String> {
        match self.get("/metrics")? {
            (200, body) => Ok(body),
            (code, body) => bail!("/metrics of {} answers {code}: {body}", self.0.node),
        }
    }

    /// Asks its health endpoint; status and body.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        self.0.sandbox.within(|| {
            let mut stream =
                TcpStream::connect_timeout(&METRICS, PATIENCE).context("connect to the agent's health port")?;
            stream.set_read_timeout(Some(PATIENCE))?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: {METRICS}\r\nConnection: close\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text).context("read from the agent's health port")?;
            parse_response(&text).with_context(|| format!("understand the answer to {path}"))
        })
    }
}

fn parse_response(text: &str) -> Option<(u16, String)> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let code = head.split(' ').nth(1)?.parse().ok()?;
    Some((code, body.to_owned()))
}

fn parent(pid: Pid) -> Option<Pid> {
    status_field(pid, "status", "PPid:")?.parse().ok().map(Pid::from_raw)
}

fn proportional_memory(pid: Pid) -> Option<u64> {
    let kibibytes: u64 = status_field(pid, "smaps_rollup", "Pss:")?.strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

fn status_field(pid: Pid, file: &str, field: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    text.lines().find_map(|line| Some(line.strip_prefix(field)?.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_split_into_status_and_body() {
        let text = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 3\r\n\r\nno\n";
        assert_eq!(parse_response(text), Some((503, "no\n".into())));
        assert_eq!(parse_response("garbage"), None);
    }

    #[test]
    fn parents_and_memory_are_read() {
        let this = nix::unistd::getpid();
        assert_eq!(parent(this), Some(nix::unistd::getppid()));
        assert!(proportional_memory(this).unwrap() > 100 << 10);
    }
}

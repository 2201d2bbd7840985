//! Many established flows at once: UDP requests and their responses, in random order.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::contest::Pair;
use super::placement::{self, APART};
use super::statistics::Sequence;

/// Requests on their way at the same time: few enough for every socket buffer, enough that nobody has to be woken for each.
const IN_FLIGHT: usize = 32;

/// How long a response may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often the server looks whether it should end.
const TICK: Duration = Duration::from_millis(50);

/// Descriptors that the process needs beside one for each flow.
const OTHER_DESCRIPTORS: u64 = 1024;

/// Flows between a pair, each of them answered at least twice.
#[derive(Debug)]
pub struct Flows {
    clients: Vec<UdpSocket>,
    sequence: Sequence,
    over: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Flows {
    /// Opens `count` flows and has the server answer on each.
    pub fn open(pair: &Pair, count: usize) -> Result<Self> {
        allow_descriptors(count as u64 + OTHER_DESCRIPTORS)?;
        let socket = pair.server.within(|| Ok(UdpSocket::bind((pair.target, 0))?)).context("open a UDP server")?;
        let target = SocketAddr::new(pair.target, socket.local_addr()?.port());
        let clients = pair.client.within(|| (0..count).map(|_| client_of(target)).collect::<Result<Vec<_>>>())?;
        let over = Arc::<AtomicBool>::default();
        let mut flows = Self { clients, sequence: Sequence::new(1), server: Some(serve(socket, over.clone())?), over };
        // The first answer makes a flow an established one, the second finds it so.
        for _ in 0..2 {
            flows.pass()?;
        }
        Ok(flows)
    }

    /// Requests on all flows, again and again in another order, for at least `time`.
    pub fn run(&mut self, time: Duration) -> Result<()> {
        thread::scope(|scope| {
            let visit = scope.spawn(|| {
                placement::stay_on(APART[0])?;
                let deadline = Instant::now() + time;
                while Instant::now() < deadline {
                    self.pass()?;
                }
                Ok(())
            });
            visit.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// One request and response on each flow.
    fn pass(&mut self) -> Result<()> {
        self.sequence.shuffle(&mut self.clients);
        let mut message = [0; 64];
        for some in self.clients.chunks(IN_FLIGHT) {
            for client in some {
                client.send(&message).context("send a request")?;
            }
            for client in some {
                client.recv(&mut message).context("wait for a response: a packet is lost")?;
            }
        }
        Ok(())
    }
}

impl Drop for Flows {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(server) = self.server.take() {
            server.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    }
}

fn client_of(target: SocketAddr) -> Result<UdpSocket> {
    let local: SocketAddr = if target.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
    let socket = UdpSocket::bind(local).context("open a UDP client")?;
    socket.connect(target).with_context(|| format!("connect a UDP client to {target}"))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Sends everything back where it came from until it is over.
fn serve(socket: UdpSocket, over: Arc<AtomicBool>) -> Result<JoinHandle<()>> {
    socket.set_read_timeout(Some(TICK))?;
    let answer = move || {
        // Where it cannot, times are a little longer; the clients need not know.
        placement::stay_on(APART[1]).ok();
        let mut message = [0; 2048];
        while !over.load(Ordering::Relaxed) {
            if let Ok((length, from)) = socket.recv_from(&mut message) {
                // What is lost here is missed by the client.
                socket.send_to(&message[..length], from).ok();
            }
        }
    };
    thread::Builder::new().name("echo".into()).spawn(answer).context("start a thread for a UDP server")
}

/// Raises this process's limit of open files.
fn allow_descriptors(count: u64) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("ask how many files may be open")?;
    if soft >= count {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, count.min(hard), hard)
        .with_context(|| format!("allow this process {count} open files"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::contest::{Contestant, Path};
    use crate::bench::kernel::{EmptyProgram, RunStatistics};
    use crate::family::IpFamily;

    #[test]
    fn each_flow_asks_in_each_pass() {
        let contestant = Contestant::peers(IpFamily::V4).unwrap();
        let pair = contestant.pair(Path::SameNode);
        let _statistics = RunStatistics::enable().unwrap();
        let empty = pair.server.within(|| EmptyProgram::attach("eth0")).unwrap();
        let mut flows = Flows::open(pair, 100).unwrap();
        flows.pass().unwrap();
        let runs = empty.runs().unwrap().count;
        // Three passes, and the odd ARP packet.
        assert!((300..310).contains(&runs), "{runs}");
        drop(flows);
    }
}

//! Many established flows at once: UDP requests and their responses, in random order.
//!
//! A flow is a pair of ports, so that a few sockets on both sides make many flows: what a thousand sockets would do to the
//! processor's caches is not what is looked for.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::contest::Pair;
use super::placement::{self, APART};
use super::statistics::Sequence;
use crate::sandbox::Sandbox;

/// Ports on which the server answers.
const SERVERS: usize = 25;

/// Requests on their way at the same time: few enough for every socket buffer, enough that nobody has to be woken for each.
const IN_FLIGHT: usize = 32;

/// How long a response may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often the server looks whether it should end, milliseconds.
const TICK: u16 = 50;

/// Flows between a pair, each of them answered at least twice.
#[derive(Debug)]
pub struct Flows {
    clients: Vec<UdpSocket>,
    /// Which client asks whom.
    flows: Vec<(usize, SocketAddr)>,
    sequence: Sequence,
    over: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Flows {
    /// Opens `count` flows and has the server answer on each.
    pub fn open(pair: &Pair, count: usize) -> Result<Self> {
        let any = if pair.target.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let servers = open(&pair.server, SERVERS, pair.target)?;
        let clients = open(&pair.client, count.div_ceil(SERVERS), any)?;
        clients.iter().try_for_each(|client| client.set_read_timeout(Some(PATIENCE)))?;
        let targets = servers.iter().map(UdpSocket::local_addr).collect::<Result<Vec<_>, _>>()?;
        let pairs = (0..clients.len()).flat_map(|client| targets.iter().map(move |target| (client, *target)));
        let flows = pairs.take(count).collect();
        let over = Arc::<AtomicBool>::default();
        let server = Some(serve(servers, over.clone())?);
        let mut flows = Self { clients, flows, sequence: Sequence::new(1), over, server };
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
        self.sequence.shuffle(&mut self.flows);
        let mut message = [0; 64];
        for some in self.flows.chunks(IN_FLIGHT) {
            for (client, target) in some {
                self.clients[*client].send_to(&message, target).context("send a request")?;
            }
            // Which of a client's flows an answer is for does not matter: it gets as many as it has asked for.
            for (client, _) in some {
                self.clients[*client].recv(&mut message).context("wait for a response: a packet is lost")?;
            }
        }
        Ok(())
    }
}

fn open(place: &Sandbox, count: usize, address: IpAddr) -> Result<Vec<UdpSocket>> {
    place.within(|| (0..count).map(|_| UdpSocket::bind((address, 0)).context("open a UDP socket")).collect())
}

impl Drop for Flows {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(server) = self.server.take() {
            server.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    }
}

/// Sends everything back where it came from until it is over.
fn serve(sockets: Vec<UdpSocket>, over: Arc<AtomicBool>) -> Result<JoinHandle<()>> {
    sockets.iter().try_for_each(|socket| socket.set_nonblocking(true))?;
    let answer = move || {
        // Where it cannot, times are a little longer; the clients need not know.
        placement::stay_on(APART[1]).ok();
        let mut waiting: Vec<_> = sockets.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
        let mut message = [0; 2048];
        while !over.load(Ordering::Relaxed) {
            // Interrupted or not: who has nothing is asked in vain.
            poll(&mut waiting, PollTimeout::from(TICK)).ok();
            for (socket, waiting) in sockets.iter().zip(&waiting) {
                while waiting.any() == Some(true)
                    && let Ok((length, from)) = socket.recv_from(&mut message)
                {
                    // What is lost here is missed by the client.
                    socket.send_to(&message[..length], from).ok();
                }
            }
        }
    };
    thread::Builder::new().name("echo".into()).spawn(answer).context("start a thread for a UDP server")
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

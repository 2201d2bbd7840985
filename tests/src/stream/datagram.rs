//! Numbered datagrams and pings.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::socket::{setsockopt, sockopt};

use super::{Shared, TICK, is_timeout, spawn};
use crate::probe::{echo_request, echo_socket, read_echo_reply, unspecified};
use crate::sandbox::Sandbox;

/// Room of a receiving socket in bytes: some seconds of a thousand small datagrams each.
const RECEIVE_BUFFER: usize = 16 << 20;

/// A socket, and where the kernel counts what it had no room for.
struct Counted {
    socket: UdpSocket,
    sandbox: Sandbox,
    /// Files of `/proc/net` with a line for it.
    tables: [&'static str; 2],
}

pub fn start_udp(
    from: &Sandbox,
    to: &Sandbox,
    target: IpAddr,
    interval: Duration,
    shared: &Arc<Shared>,
) -> Result<Vec<JoinHandle<()>>> {
    let server = Counted::open(to, ["udp", "udp6"], || UdpSocket::bind(SocketAddr::new(target, 0)))?;
    let port = server.socket.local_addr().context("read a socket's port")?;
    let client = Counted::open(from, ["udp", "udp6"], || UdpSocket::bind((unspecified(target), 0)))?;
    // Connected, so that ICMP errors come back as what they are.
    from.within(|| client.socket.connect(port).context("connect a UDP socket"))?;
    let sender = client.socket.try_clone().context("share a socket")?;
    let [sending, reading, echoing] = std::array::from_fn(|_| shared.clone());
    Ok(vec![
        spawn("stream-echo", move || echo(&server, &echoing))?,
        spawn("stream-read", move || read(&client, &reading, |message| Some(message)))?,
        spawn("stream-send", move || {
            sending.pace(interval, |number| sender.send(&number.to_be_bytes()).map(drop));
        })?,
    ])
}

pub fn start_ping(
    from: &Sandbox,
    target: IpAddr,
    interval: Duration,
    shared: &Arc<Shared>,
) -> Result<Vec<JoinHandle<()>>> {
    let client = Counted::open(from, ["icmp", "icmp6"], || echo_socket(target))?;
    client.socket.set_nonblocking(false).context("make an ICMP socket blocking")?;
    let sender = client.socket.try_clone().context("share a socket")?;
    let [sending, reading] = std::array::from_fn(|_| shared.clone());
    let send = move |number: u64| {
        // The header's number has 16 bits only and comes around: the whole one is in the payload.
        let [.., high, low] = number.to_be_bytes();
        let request = echo_request(target, u16::from_be_bytes([high, low]), &number.to_be_bytes());
        sender.send_to(&request, SocketAddr::new(target, 0)).map(drop)
    };
    Ok(vec![
        spawn("stream-read", move || read(&client, &reading, |message| read_echo_reply(target, message)))?,
        spawn("stream-send", move || sending.pace(interval, send))?,
    ])
}

/// Counts what comes back, of which `payload` finds the number.
fn read(client: &Counted, shared: &Shared, payload: impl Fn(&[u8]) -> Option<&[u8]>) {
    client.receive_each(shared, |message, _| {
        if let Some(Ok(number)) = payload(message).map(<[u8; size_of::<u64>()]>::try_from) {
            shared.tally().count(u64::from_be_bytes(number), Instant::now());
        }
        Ok(())
    });
}

fn echo(server: &Counted, shared: &Shared) {
    server.receive_each(shared, |message, client| server.socket.send_to(message, client).map(drop));
}

// === impl Counted ===

impl Counted {
    fn open(
        sandbox: &Sandbox,
        tables: [&'static str; 2],
        open: impl FnOnce() -> io::Result<UdpSocket> + Send,
    ) -> Result<Self> {
        let socket = sandbox.within(|| open().context("open a socket"))?;
        setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).context("enlarge a receive buffer")?;
        socket.set_read_timeout(Some(TICK)).context("limit the time of reads")?;
        Ok(Self { socket, sandbox: sandbox.clone(), tables })
    }

    /// Does `handle` with each datagram until the stream is over or broken, and then counts what there was no room for.
    fn receive_each(&self, shared: &Shared, mut handle: impl FnMut(&[u8], SocketAddr) -> io::Result<()>) {
        let mut buffer = [0; 2048];
        while !shared.is_over() {
            let received = self.socket.recv_from(&mut buffer);
            match received.and_then(|(length, from)| handle(&buffer[..length], from)) {
                Ok(()) => {}
                Err(error) if is_timeout(&error) => {}
                Err(error) => {
                    shared.break_off("receive", &error);
                    break;
                }
            }
        }
        match self.overflowed() {
            Ok(count) => shared.tally().overflowed += count,
            Err(error) => drop(shared.tally().broken.get_or_insert_with(|| format!("{error:#}"))),
        }
    }

    /// The kernel's count for this socket.
    fn overflowed(&self) -> Result<u64> {
        // An ICMP socket's port is its echo identifier.
        let port = self.socket.local_addr().context("read a socket's port")?.port();
        self.sandbox.within(|| {
            let counts = self.tables.iter().map(|table| {
                let file = format!("/proc/thread-self/net/{table}");
                fs::read_to_string(&file).map(|text| drops(&text, port)).with_context(|| format!("read {file}"))
            });
            counts.sum()
        })
    }
}

/// The last column of the lines of local port `port` in a `/proc/net` table of sockets.
fn drops(table: &str, port: u16) -> u64 {
    let local = format!(":{port:04X}");
    let lines =
        table.lines().filter(|line| line.split_whitespace().nth(1).is_some_and(|field| field.ends_with(&local)));
    lines.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_those_of_the_port() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
             1: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0 7\n\
             2: 0100007F:1F90 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 2 2 0 3\n";
        assert_eq!((drops(table, 53), drops(table, 8080), drops(table, 1)), (7, 3, 0));
    }
}

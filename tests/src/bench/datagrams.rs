//! Small UDP packets as fast as one sender can: how many arrive, and what one costs.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg, setsockopt, sockopt};

use super::contest::Pair;
use super::cpu::Meter;
use super::placement::{self, APART};

/// Bytes of a datagram.
const PAYLOAD: usize = 64;

/// Datagrams handed to the kernel, or taken from it, in one call: so that system calls are a small part of the work.
const BATCH: usize = 64;

/// Room for what arrives while the receiver is away, bytes.
const RECEIVE_BUFFER: usize = 16 << 20;

/// How often a receiver that hears nothing looks whether it is over.
const TICK: Duration = Duration::from_millis(20);

/// What came of one run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Datagrams received per second.
    pub received_per_second: f64,
    /// The whole machine's effort for a datagram received, in the meter's unit.
    pub effort_per_packet: f64,
    /// Of all sent, those that were received.
    pub arrived: f64,
}

/// Sends for `time`.
pub fn measure(pair: &Pair, time: Duration, meter: &Meter) -> Result<Rate> {
    let (sender, receiver) = connect(pair).with_context(|| format!("open UDP sockets to {}", pair.target))?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            placement::stay_on(APART[1])?;
            receive(&receiver, &over)
        });
        let sending = scope.spawn(|| {
            placement::stay_on(APART[0])?;
            send(&sender, time)
        });
        let (start, began) = (meter.start()?, Instant::now());
        let sent = sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let (effort, took) = (meter.since(start), began.elapsed());
        // What is on its way still arrives; the receiver ends when it hears nothing any more.
        over.store(true, Ordering::Relaxed);
        let received = receiving.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let (sent, effort) = (sent?, effort?);
        ensure!(received > 0, "of {sent} datagrams to {} none arrived", pair.target);
        Ok(Rate {
            received_per_second: received as f64 / took.as_secs_f64(),
            effort_per_packet: effort / received as f64,
            arrived: received as f64 / sent as f64,
        })
    })
}

fn connect(pair: &Pair) -> Result<(UdpSocket, UdpSocket)> {
    let receiver = pair.server.within(|| Ok(UdpSocket::bind((pair.target, 0))?))?;
    receiver.set_read_timeout(Some(TICK))?;
    setsockopt(&receiver, sockopt::RcvBufForce, &RECEIVE_BUFFER).context("enlarge a receive buffer")?;
    let port = receiver.local_addr()?.port();
    let sender = pair.client.within(|| {
        let local: SocketAddr = if pair.target.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
        let socket = UdpSocket::bind(local)?;
        socket.connect((pair.target, port))?;
        Ok(socket)
    })?;
    Ok((sender, receiver))
}

/// Returns how many the kernel has taken.
fn send(socket: &UdpSocket, time: Duration) -> Result<u64> {
    let payload = [0x55; PAYLOAD];
    let messages = [[IoSlice::new(&payload)]; BATCH];
    let addresses: [Option<SockaddrStorage>; BATCH] = [None; BATCH];
    let deadline = Instant::now() + time;
    let mut sent = 0;
    while Instant::now() < deadline {
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
        let no_control: [nix::sys::socket::ControlMessage<'_>; 0] = [];
        match sendmmsg(socket.as_raw_fd(), &mut headers, &messages, addresses, no_control, MsgFlags::empty()) {
            Ok(results) => sent += results.count() as u64,
            // The device's queue is full, or the pod is told of a route: it goes on.
            Err(Errno::ENOBUFS | Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => return Err(error).context("send datagrams"),
        }
    }
    Ok(sent)
}

/// Returns how many there were, when it is over and nothing comes any more.
fn receive(socket: &UdpSocket, over: &AtomicBool) -> Result<u64> {
    let mut buffers = [[0; PAYLOAD]; BATCH];
    let mut received = 0;
    loop {
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
        let mut messages: Vec<_> = buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
        match recvmmsg(socket.as_raw_fd(), &mut headers, messages.iter_mut(), MsgFlags::MSG_WAITFORONE, None) {
            Ok(results) => received += results.count() as u64,
            Err(Errno::EAGAIN) if over.load(Ordering::Relaxed) => return Ok(received),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => return Err(error).context("receive datagrams"),
        }
    }
}

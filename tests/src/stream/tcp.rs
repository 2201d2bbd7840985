//! Numbered messages over one TCP connection.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::{Shared, TICK, is_timeout, spawn};
use crate::sandbox::Sandbox;

const MESSAGE: usize = size_of::<u64>();

/// How long a connection may take to come about, and a write to be taken by the kernel.
const PATIENCE: Duration = Duration::from_secs(10);

pub fn start(
    from: &Sandbox,
    to: &Sandbox,
    target: IpAddr,
    interval: Duration,
    shared: &Arc<Shared>,
) -> Result<Vec<JoinHandle<()>>> {
    let listener = to.within(|| TcpListener::bind(SocketAddr::new(target, 0)).context("listen"))?;
    let port = listener.local_addr().context("read a listener's port")?;
    let stream = from.within(|| TcpStream::connect_timeout(&port, PATIENCE).context("connect"))?;
    let (peer, _) = listener.accept().context("accept")?;
    for end in [&stream, &peer] {
        end.set_nodelay(true).context("set TCP_NODELAY")?;
        end.set_read_timeout(Some(TICK)).context("limit the time of reads")?;
        end.set_write_timeout(Some(PATIENCE)).context("limit the time of writes")?;
    }
    let mut writer = stream.try_clone().context("share a connection")?;
    let [sending, reading, echoing] = std::array::from_fn(|_| shared.clone());
    Ok(vec![
        spawn("stream-echo", move || echo(peer, &echoing))?,
        spawn("stream-read", move || read(stream, &reading))?,
        spawn("stream-send", move || sending.pace(interval, |number| writer.write_all(&number.to_be_bytes())))?,
    ])
}

fn read(mut stream: TcpStream, shared: &Shared) {
    while let Some(message) = receive(&mut stream, shared) {
        shared.tally().count(u64::from_be_bytes(message), Instant::now());
    }
}

fn echo(mut stream: TcpStream, shared: &Shared) {
    while let Some(message) = receive(&mut stream, shared) {
        if let Err(error) = stream.write_all(&message) {
            return shared.break_off("echo", &error);
        }
    }
}

/// The next message; `None` when the stream is over or broken.
fn receive(stream: &mut TcpStream, shared: &Shared) -> Option<[u8; MESSAGE]> {
    let (mut message, mut filled) = ([0; MESSAGE], 0);
    while filled < MESSAGE {
        if shared.is_over() {
            return None;
        }
        match stream.read(&mut message[filled..]) {
            Ok(0) => {
                shared.break_off("receive", &io::ErrorKind::UnexpectedEof.into());
                return None;
            }
            Ok(length) => filled += length,
            Err(error) if is_timeout(&error) => {}
            Err(error) => {
                shared.break_off("receive", &error);
                return None;
            }
        }
    }
    Some(message)
}

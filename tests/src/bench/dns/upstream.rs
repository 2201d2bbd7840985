//! Who knows the names of others: a thread on the processor of those who ask.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::load::Queries;
use super::server::CLIENTS;
use crate::bench::placement::stay_on;

/// Names that are asked for again and again.
const CACHED: usize = 1_000;
/// Names that are asked for once in a run.
const FORWARDED: usize = 20_000;
/// Ends names that may be kept. All others have a TTL of zero.
const KEPT: &str = "kept.example.com";
const HEADER: usize = 12;

/// Answers everything.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    /// Starts to answer.
    pub fn start() -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("open the upstream's socket")?;
        // To see the wish to stop.
        socket.set_read_timeout(Some(Duration::from_millis(100))).context("limit the upstream's wait")?;
        let (address, stop) =
            (socket.local_addr().context("find the upstream's port")?, Arc::new(AtomicBool::new(false)));
        let wish = stop.clone();
        let thread = thread::Builder::new().name("upstream".into()).spawn(move || {
            if let Err(error) = stay_on(CLIENTS).and_then(|()| serve(&socket, &wish)) {
                eprintln!("the upstream has ended: {error:#}");
            }
        });
        Ok(Self { address, stop, thread: Some(thread.context("start the upstream")?) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn serve(socket: &UdpSocket, stop: &AtomicBool) -> Result<()> {
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        // Nobody asks, or a server that asked has ended.
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        if let Some(answer) = answer(&buffer[..length]) {
            socket.send_to(&answer, from).context("answer as the upstream")?;
        }
    }
    Ok(())
}

/// One address for whatever is asked for.
fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let mut end = HEADER;
    while *query.get(end)? != 0 {
        end += 1 + usize::from(query[end]);
    }
    let name = &query[HEADER..end];
    let suffix = b"\x04kept\x07example\x03com";
    let ttl: u32 = if name.to_ascii_lowercase().ends_with(suffix) { 86_400 } else { 0 };
    let mut answer = query.get(..end + 5)?.to_vec();
    // A response, recursion available, one answer and nothing else.
    answer[2] |= 0x80;
    answer[3] = 0x80;
    answer[6..HEADER].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
    answer.extend([0xc0, 0x0c, 0, 1, 0, 1]);
    answer.extend(ttl.to_be_bytes());
    answer.extend([0, 4, 192, 0, 2, 1]);
    Some(answer)
}

/// Queries for names that servers may keep.
pub fn cached_names() -> Result<Queries> {
    names(CACHED, KEPT)
}

/// Queries for names that they may not.
pub fn forwarded_names() -> Result<Queries> {
    names(FORWARDED, "fresh.example.com")
}

fn names(count: usize, suffix: &str) -> Result<Queries> {
    let mut text = String::new();
    for index in 0..count {
        writeln!(text, "name-{index}.{suffix} A")?;
    }
    Queries::new(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_repeats_the_question_and_says_for_how_long() {
        for (name, ttl) in
            [(&b"\x01a\x04kept\x07example\x03com\0"[..], 86_400_u32), (b"\x01a\x05fresh\x07example\x03com\0", 0)]
        {
            let query = [&[7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], name, &[0, 1, 0, 1]].concat();
            let answer = answer(&query).unwrap();
            assert_eq!(answer[..4], [7, 9, 0x81, 0x80]);
            assert_eq!(answer[HEADER..query.len()], query[HEADER..]);
            assert_eq!(answer[query.len() + 6..query.len() + 10], ttl.to_be_bytes());
        }
        assert_eq!(answer(&[0; 5]), None);
        assert_eq!(answer(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]), None);
    }
}

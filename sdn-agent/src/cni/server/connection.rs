//! A plugin's connection: messages in, messages out, and whether the plugin is still there.

use std::future::pending;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use sdn_cni::protocol::{Failure, MAX_MESSAGE, Response, code, decode, encode};

/// A plugin that does not take its answer is given up after this.
const SEND: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Connection {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

// === impl Connection ===

impl Connection {
    pub fn new(stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self { reader: BufReader::new(reader), writer }
    }

    /// The next message; None when the plugin has gone.
    pub async fn receive<T: DeserializeOwned>(&mut self, patience: Duration) -> Result<Option<T>, Failure> {
        let line = match timeout(patience, self.line()).await {
            Ok(Ok(line)) => line,
            Ok(Err(_)) => return Ok(None),
            Err(_) => {
                let cause = format!("nothing came for {} s; the plugin may be stuck", patience.as_secs());
                return Err(Failure::new(code::TRY_AGAIN_LATER, "waiting for the CNI plugin's message", cause));
            }
        };
        if line.is_empty() {
            return Ok(None);
        }
        let message = decode(&line);
        message.map(Some).map_err(|e| Failure::new(code::PROTOCOL, "understanding the CNI plugin", e.to_string()))
    }

    /// A line with its end, one byte more than a message may have, or what came before the plugin went.
    async fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        loop {
            let available = self.reader.fill_buf().await?;
            let end = available.iter().position(|byte| *byte == b'\n').map(|end| end + 1);
            let taken = end.unwrap_or(available.len());
            let eof = taken == 0;
            line.extend_from_slice(&available[..taken]);
            self.reader.consume(taken);
            if end.is_some() || line.len() > MAX_MESSAGE {
                return Ok(line);
            }
            if eof {
                // Half a message is none: it may lack what matters.
                return Ok(Vec::new());
            }
        }
    }

    /// Returns when the plugin has gone. It has nothing to say while this is asked.
    pub async fn closed(&mut self) {
        match self.reader.fill_buf().await {
            Ok([]) | Err(_) => {}
            Ok(_) => pending().await,
        }
    }

    /// Has the plugin gone already? Asked of the socket itself: the runtime may not have heard yet.
    pub fn is_closed(&self) -> bool {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        let socket = self.reader.get_ref().as_ref().as_fd().as_raw_fd();
        self.reader.buffer().is_empty() && matches!(recv(socket, &mut [0], flags), Ok(0) | Err(Errno::ECONNRESET))
    }

    pub async fn send(&mut self, response: Response) -> io::Result<()> {
        self.write(&response).await
    }

    /// Says that it failed; the plugin may be gone, which is no further failure.
    pub async fn fail(&mut self, failure: Failure) {
        let _ = self.write(&Response::Failure(failure)).await;
    }

    async fn write<T: Serialize>(&mut self, message: &T) -> io::Result<()> {
        let line = encode(message).map_err(io::Error::other)?;
        timeout(SEND, self.writer.write_all(&line)).await?
    }
}

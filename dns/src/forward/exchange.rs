//! One question to one upstream: by UDP, by TCP where that does not do.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{sleep, timeout};

use super::query::{Request, Sent};
use super::reply::{Rejection, Reply};
use crate::cache::Content;

/// The largest datagram that is read: an upstream may ignore what we say we take.
const MAX_DATAGRAM: usize = 4096;

/// A datagram may be lost: it is sent again after this, and after twice the time each time after.
const FIRST_RESEND: Duration = Duration::from_millis(400);

/// How to ask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) time: Duration,
    pub(crate) force_tcp: bool,
    pub(crate) random_case: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    #[error("no answer within {0:?}: it is down, or packets are lost")]
    Timeout(Duration),
    #[error("{operation}: {source}")]
    Unreachable { operation: &'static str, source: io::Error },
    /// Nothing that the upstream could help.
    #[error("{operation}: {source}: this machine has no more of it")]
    Local { operation: &'static str, source: io::Error },
    #[error("the reply makes no sense: {0}")]
    Reply(#[from] Rejection),
    #[error("the reply is truncated, even by TCP")]
    Truncated,
}

impl ExchangeError {
    /// Whether it speaks against the upstream's health. A useless reply is a sign of life.
    pub(crate) fn is_failure(&self) -> bool {
        matches!(self, Self::Timeout(_) | Self::Unreachable { .. })
    }
}

/// Asks until there is a reply or the time is over.
pub(crate) async fn exchange(
    upstream: SocketAddr,
    request: &Request,
    manner: Manner,
) -> Result<Content, ExchangeError> {
    let whole = async {
        match ask(upstream, &request.message(manner.random_case, true), manner.force_tcp).await? {
            Reply::Answer(content) => Ok(content),
            Reply::Truncated => Err(ExchangeError::Truncated),
            Reply::NoEdns => {
                match ask(upstream, &request.message(manner.random_case, false), manner.force_tcp).await? {
                    Reply::Answer(content) => Ok(content),
                    Reply::Truncated | Reply::NoEdns => Err(ExchangeError::Truncated),
                }
            }
        }
    };
    timeout(manner.time, whole).await.unwrap_or(Err(ExchangeError::Timeout(manner.time)))
}

async fn ask(upstream: SocketAddr, sent: &Sent, force_tcp: bool) -> Result<Reply, ExchangeError> {
    if !force_tcp {
        match ask_by_udp(upstream, sent).await? {
            Reply::Truncated => {}
            reply => return Ok(reply),
        }
    }
    ask_by_tcp(upstream, sent).await
}

/// A socket for this question alone: the kernel chooses its port at random, gives us only what comes from the upstream's
/// address and port, and tells when nobody listens there.
async fn ask_by_udp(upstream: SocketAddr, sent: &Sent) -> Result<Reply, ExchangeError> {
    let any: SocketAddr = match upstream {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await.map_err(failed("open a UDP socket"))?;
    socket.connect(upstream).await.map_err(failed("connect a UDP socket"))?;
    socket.send(&sent.message).await.map_err(failed("send the query"))?;
    let (mut buffer, mut patience) = (vec![0; MAX_DATAGRAM], FIRST_RESEND);
    loop {
        let received = tokio::select! {
            received = socket.recv(&mut buffer) => received,
            () = sleep(patience) => {
                socket.send(&sent.message).await.map_err(failed("send the query again"))?;
                patience *= 2;
                continue;
            }
        };
        let length = received.map_err(failed("receive the reply"))?;
        match Reply::read(buffer[..length].to_vec(), sent) {
            // Whoever guesses ports and ids must not end the wait for the true one.
            Err(Rejection::Foreign) => {}
            reply => return Ok(reply?),
        }
    }
}

async fn ask_by_tcp(upstream: SocketAddr, sent: &Sent) -> Result<Reply, ExchangeError> {
    let mut stream = TcpStream::connect(upstream).await.map_err(failed("connect by TCP"))?;
    // With one write its length is in the same segment, as RFC 7766 section 8 asks.
    let length = u16::try_from(sent.message.len()).map_err(|_| Rejection::Malformed)?;
    let framed = [&length.to_be_bytes()[..], &sent.message].concat();
    stream.write_all(&framed).await.map_err(failed("send the query by TCP"))?;
    let length = stream.read_u16().await.map_err(failed("receive the reply by TCP"))?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await.map_err(failed("receive the reply by TCP"))?;
    Ok(Reply::read(message, sent)?)
}

/// Whose fault an error is. What this machine has run out of speaks against nobody else.
fn failed(operation: &'static str) -> impl Fn(io::Error) -> ExchangeError {
    use nix::errno::Errno;
    move |source| match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM | Errno::EADDRNOTAVAIL) => {
            ExchangeError::Local { operation, source }
        }
        _ => ExchangeError::Unreachable { operation, source },
    }
}

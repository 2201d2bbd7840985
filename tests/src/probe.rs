//! Questions over the network: is it there, and who answers?
//!
//! Each is one try, to be made on a thread inside a network namespace (see [`crate::sandbox::Sandbox::within_async`]), so that a
//! lost packet shows.

pub mod names;
mod ping;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::standin::Answer;

pub use ping::ping;
pub(crate) use ping::{echo_request, echo_socket, read_echo_reply};

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// What the stand-in said; none for a ping.
    pub answer: Option<Answer>,
    /// From the first packet to the whole answer.
    pub took: Duration,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Nothing came within this time.
    Silence(Duration),
    /// Somebody or the kernel said no: refused, unreachable, reset.
    Refused(String),
    /// Something came that no stand-in says.
    Nonsense(String),
}

/// What came of a question.
pub type Outcome = Result<Reply, Failure>;

/// HTTP/1.1 GET to a stand-in.
pub async fn http(target: SocketAddr, patience: Duration) -> Outcome {
    let ask = async {
        let mut stream = TcpStream::connect(target).await?;
        let request = format!("GET / HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut response = vec![];
        stream.read_to_end(&mut response).await?;
        Ok(response)
    };
    let (response, took) = timed(ask, patience).await?;
    let body = response.windows(4).position(|window| window == b"\r\n\r\n").map(|end| &response[end + 4..]);
    let answer =
        body.filter(|_| response.starts_with(b"HTTP/1.1 200 ")).and_then(|body| serde_json::from_slice(body).ok());
    answer.map(|answer| Reply { answer: Some(answer), took }).ok_or_else(|| Failure::nonsense(&response))
}

/// A datagram to a stand-in.
pub async fn datagram(target: SocketAddr, patience: Duration) -> Outcome {
    let ask = async {
        let socket = UdpSocket::bind((unspecified(target.ip()), 0)).await?;
        socket.connect(target).await?;
        socket.send(b"who?").await?;
        let mut answer = [0; 2048];
        let length = socket.recv(&mut answer).await?;
        Ok(answer[..length].to_vec())
    };
    let (response, took) = timed(ask, patience).await?;
    let answer = serde_json::from_slice(&response).map_err(|_| Failure::nonsense(&response))?;
    Ok(Reply { answer: Some(answer), took })
}

/// Sends a datagram as if it came from `source`, whoever has that address. No answer is expected.
pub async fn forged_datagram(source: IpAddr, target: SocketAddr) -> io::Result<()> {
    let socket = nix::sys::socket::socket(
        if source.is_ipv4() { nix::sys::socket::AddressFamily::Inet } else { nix::sys::socket::AddressFamily::Inet6 },
        nix::sys::socket::SockType::Datagram,
        nix::sys::socket::SockFlag::SOCK_NONBLOCK | nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // The IPv4 option also is the one for IPv6 sockets.
    setsockopt(&socket.as_fd(), sockopt::IpTransparent, &true)?;
    let address = nix::sys::socket::SockaddrStorage::from(SocketAddr::new(source, 0));
    nix::sys::socket::bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &address)?;
    let socket = UdpSocket::from_std(socket.into())?;
    socket.send_to(b"forged", target).await.map(drop)
}

/// The address from which the kernel may choose any.
pub(crate) fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

async fn timed<T>(ask: impl Future<Output = io::Result<T>>, patience: Duration) -> Result<(T, Duration), Failure> {
    let began = Instant::now();
    match timeout(patience, ask).await {
        Err(_) => Err(Failure::Silence(patience)),
        Ok(Err(error)) => Err(Failure::Refused(error.to_string())),
        Ok(Ok(answer)) => Ok((answer, began.elapsed())),
    }
}

// === impl Failure ===

impl Failure {
    fn nonsense(bytes: &[u8]) -> Self {
        let start = &bytes[..bytes.len().min(80)];
        Self::Nonsense(String::from_utf8_lossy(start).into_owned())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silence(patience) => write!(f, "no answer in {} s", patience.as_secs_f32()),
            Self::Refused(reason) => f.write_str(reason),
            Self::Nonsense(text) => write!(f, "an answer that no stand-in gives: {text:?}"),
        }
    }
}

//! ICMP echo through the kernel's unprivileged ICMP sockets, which do the demultiplexing and the checksums.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::{Failure, Outcome, Reply, timed};

/// Bytes before the payload: type, code, checksum, identifier, sequence number.
const HEADER: usize = 8;

/// One echo request.
pub async fn ping(target: IpAddr, patience: Duration) -> Outcome {
    let ask = async {
        let socket = tokio::net::UdpSocket::from_std(echo_socket(target)?)?;
        socket.send_to(&echo_request(target, 1, b"culvert"), SocketAddr::new(target, 0)).await?;
        let mut reply = [0; 256];
        let length = socket.recv(&mut reply).await?;
        Ok(reply[..length].to_vec())
    };
    let (reply, took) = timed(ask, patience).await?;
    match read_echo_reply(target, &reply) {
        Some(b"culvert") => Ok(Reply { answer: None, took }),
        _ => Err(Failure::nonsense(&reply)),
    }
}

/// A non-blocking ICMP socket for echo to the family of `target`. It is one of datagrams, so a UDP socket's methods fit it.
pub(crate) fn echo_socket(target: IpAddr) -> io::Result<UdpSocket> {
    let (family, protocol) = match target {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    Ok(socket(family, SockType::Datagram, flags, protocol)?.into())
}

/// The message; the kernel fills in checksum and identifier.
pub(crate) fn echo_request(target: IpAddr, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let kind = if target.is_ipv4() { 8 } else { 128 };
    let [high, low] = sequence.to_be_bytes();
    [&[kind, 0, 0, 0, 0, 0, high, low], payload].concat()
}

/// The payload of an echo reply; `None` for any other message.
pub(crate) fn read_echo_reply(target: IpAddr, message: &[u8]) -> Option<&[u8]> {
    let kind = if target.is_ipv4() { 0 } else { 129 };
    (message.first() == Some(&kind)).then(|| message.get(HEADER..))?
}

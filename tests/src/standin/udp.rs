//! Datagrams, each answered from the address that it was sent to.
//!
//! A host has several addresses; without the look at IPV6_PKTINFO the kernel would answer from the one that it prefers.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result};
use nix::libc::in6_pktinfo;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, sendmsg, setsockopt, sockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::Ends;

/// A datagram received: from whom, and at which of our addresses.
struct Received {
    text: Vec<u8>,
    client: SockaddrIn6,
    at: in6_pktinfo,
}

/// Answers on `socket`, which is an IPv6 one, what `answer` makes of each datagram, until the task is aborted.
pub fn serve(
    socket: std::net::UdpSocket,
    runtime: &Handle,
    answer: impl Fn(&[u8], Ends) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> Result<JoinHandle<()>> {
    socket.set_nonblocking(true).context("make a UDP socket non-blocking")?;
    setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true).context("ask for IPV6_PKTINFO")?;
    let port = socket.local_addr().context("read a UDP socket's port")?.port();
    let _inside = runtime.enter();
    let socket = UdpSocket::from_std(socket).context("hand a UDP socket to the runtime")?;
    Ok(runtime.spawn(converse(socket, port, answer)))
}

async fn converse(socket: UdpSocket, port: u16, answer: impl Fn(&[u8], Ends) -> Option<Vec<u8>>) {
    loop {
        // Errors of earlier answers (a client that is gone, no route back) come back here: they concern one client only.
        let Ok(received) = socket.async_io(Interest::READABLE, || receive(&socket)).await else { continue };
        let asked = std::net::Ipv6Addr::from(received.at.ipi6_addr.s6_addr);
        let ends = Ends {
            client: SocketAddr::from((received.client.ip(), received.client.port())),
            server: SocketAddr::from((asked, port)),
        };
        let Some(answer) = answer(&received.text, ends) else { continue };
        socket.async_io(Interest::WRITABLE, || send(&socket, &received, &answer)).await.ok();
    }
}

fn receive(socket: &UdpSocket) -> io::Result<Received> {
    let mut datagram = [0; 2048];
    let mut parts = [IoSliceMut::new(&mut datagram)];
    let mut control = nix::cmsg_space!(in6_pktinfo);
    let message = recvmsg::<SockaddrIn6>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
    let at = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(info),
        _ => None,
    });
    let (client, length) = (message.address, message.bytes);
    match (client, at) {
        (Some(client), Some(at)) => Ok(Received { text: datagram[..length].to_vec(), client, at }),
        _ => Err(io::Error::other("a datagram without its addresses")),
    }
}

fn send(socket: &UdpSocket, received: &Received, answer: &[u8]) -> io::Result<()> {
    // Interface 0: the way back is the routing table's business, as for any server.
    let from = in6_pktinfo { ipi6_ifindex: 0, ..received.at };
    let control = [ControlMessage::Ipv6PacketInfo(&from)];
    sendmsg(socket.as_raw_fd(), &[IoSlice::new(answer)], &control, MsgFlags::MSG_DONTWAIT, Some(&received.client))?;
    Ok(())
}

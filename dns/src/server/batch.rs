//! Many datagrams with one system call, both ways.

use nix::{
    errno::Errno,
    sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrLike, SockaddrStorage, recvmmsg, sendmmsg},
};
use std::{
    array,
    io::{IoSlice, IoSliceMut},
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
};

/// Datagrams at a time.
pub(super) const BATCH: usize = 32;

/// Longer queries there are not: OPT with its options stays below what we say we take.
const MAX_QUERY: usize = 2048;

/// What came with one call.
pub(super) struct Received {
    headers: MultiHeaders<SockaddrStorage>,
    buffers: Box<[[u8; MAX_QUERY]; BATCH]>,
    found: [Option<(usize, SockaddrStorage)>; BATCH],
}

/// What is to go with one call.
pub(super) struct Replies {
    headers: MultiHeaders<SockaddrStorage>,
    messages: [Vec<u8>; BATCH],
    peers: [Option<SockaddrStorage>; BATCH],
    count: usize,
}

// === impl Received ===

impl Received {
    pub(super) fn new() -> Self {
        Self {
            headers: MultiHeaders::preallocate(BATCH, None),
            buffers: Box::new([[0; MAX_QUERY]; BATCH]),
            found: [None; BATCH],
        }
    }

    /// Waits for datagrams and takes all that are there; how many. An error where the socket's timeout has passed, too.
    pub(super) fn receive(&mut self, socket: &UdpSocket) -> Result<usize, Errno> {
        let mut buffers = self.buffers.iter_mut();
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
            array::from_fn(|_| [IoSliceMut::new(buffers.next().map_or(&mut [][..], |buffer| &mut buffer[..]))]);
        let flags = MsgFlags::MSG_WAITFORONE;
        let results = recvmmsg(socket.as_raw_fd(), &mut self.headers, slices.iter_mut(), flags, None)?;
        let mut count = 0;
        for (found, result) in self.found.iter_mut().zip(results) {
            let is_whole = !result.flags.contains(MsgFlags::MSG_TRUNC);
            *found = result.address.filter(|_| is_whole).map(|address| (result.bytes, address));
            count += 1;
        }
        Ok(count)
    }

    /// The datagrams and who sent them. Those that were too long, and those without a port to answer to, are left out.
    pub(super) fn iter(&self, count: usize) -> impl Iterator<Item = (&[u8], IpAddr, SockaddrStorage)> {
        self.found[..count].iter().zip(&*self.buffers).filter_map(|(found, buffer)| {
            let (length, peer) = (*found)?;
            let address = socket_addr(&peer).filter(|address| address.port() != 0)?;
            // Of a socket for both families, IPv4 comes mapped.
            Some((buffer.get(..length)?, address.ip().to_canonical(), peer))
        })
    }
}

// === impl Replies ===

impl Replies {
    pub(super) fn new() -> Self {
        Self {
            headers: MultiHeaders::preallocate(BATCH, None),
            messages: array::from_fn(|_| Vec::with_capacity(crate::wire::MAX_UDP)),
            peers: [None; BATCH],
            count: 0,
        }
    }

    /// Where the next reply is to be written.
    pub(super) fn next(&mut self) -> &mut Vec<u8> {
        &mut self.messages[self.count]
    }

    /// What was written goes to `peer`.
    pub(super) fn push(&mut self, peer: SockaddrStorage) {
        self.peers[self.count] = Some(peer);
        self.count += 1;
    }

    /// Sends them all; how many the kernel did not take.
    pub(super) fn send(&mut self, socket: &UdpSocket) -> u64 {
        let count = std::mem::take(&mut self.count);
        let (mut sent, mut lost) = (0, 0);
        while sent < count {
            match self.send_from(socket, sent, count) {
                // The queue stayed full for the socket's timeout: the others would only wait as long again.
                Err(Errno::EAGAIN) => return lost + (count - sent) as u64,
                Ok(0) | Err(_) => {
                    // The first of them cannot be sent: the others may.
                    (sent, lost) = (sent + 1, lost + 1);
                }
                Ok(more) => sent += more,
            }
        }
        lost
    }

    fn send_from(&mut self, socket: &UdpSocket, first: usize, end: usize) -> Result<usize, Errno> {
        const NO_CONTROL: [ControlMessage<'static>; 0] = [];
        let slices: [[IoSlice<'_>; 1]; BATCH] = array::from_fn(|index| [IoSlice::new(&self.messages[index])]);
        let (slices, peers) = (&slices[first..end], &self.peers[first..end]);
        let flags = MsgFlags::empty();
        let sent = sendmmsg(socket.as_raw_fd(), &mut self.headers, slices, peers, NO_CONTROL, flags)?;
        Ok(sent.count())
    }
}

/// An address of ours from the system's.
pub(super) fn socket_addr(address: &SockaddrStorage) -> Option<SocketAddr> {
    match address.family()? {
        nix::sys::socket::AddressFamily::Inet => {
            address.as_sockaddr_in().map(|address| SocketAddr::V4((*address).into()))
        }
        _ => address.as_sockaddr_in6().map(|address| SocketAddr::V6((*address).into())),
    }
}

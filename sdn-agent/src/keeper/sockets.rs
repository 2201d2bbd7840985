//! Listening sockets: opened with mode 0600, recognised when they are passed on.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;
use nix::sys::stat::{Mode, umask};
use socket2::{Domain, Socket, Type};

use super::KeeperError;

/// Where a socket listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A path.
    Unix(PathBuf),
    /// An address and a port; port 0 lets the kernel choose one.
    Tcp(SocketAddr),
    /// TCP at an address that the machine may not have yet (`IP_FREEBIND`, ip(7)).
    FutureTcp(SocketAddr),
    /// UDP at such an address.
    FutureUdp(SocketAddr),
}

/// Open descriptors by name. Listening sockets, and beside them the lock of the run directory.
#[derive(Debug, Default)]
pub struct Sockets(BTreeMap<String, OwnedFd>);

impl Address {
    /// Listens here. A unix socket's file that nobody listens behind is replaced; anything else in its place is left alone.
    pub(super) fn listen(&self) -> Result<OwnedFd, KeeperError> {
        let failed = |cause| KeeperError::Listen { address: self.clone(), cause };
        match self {
            Self::Tcp(address) => TcpListener::bind(address).map(OwnedFd::from).map_err(failed),
            Self::FutureTcp(address) => future(*address, Type::STREAM).map_err(failed),
            Self::FutureUdp(address) => future(*address, Type::DGRAM).map_err(failed),
            Self::Unix(path) => {
                match is_stale(path).map_err(failed)? {
                    None => {}
                    Some(true) => std::fs::remove_file(path).map_err(failed)?,
                    Some(false) => return Err(KeeperError::Taken { address: self.clone() }),
                }
                bind_private(path).map(OwnedFd::from).map_err(failed)
            }
        }
    }

    /// Whether `socket`, which somebody passed to us, listens here, so that it need not be opened again.
    pub(super) fn is_of(&self, socket: BorrowedFd<'_>) -> bool {
        let Ok(copy) = socket.try_clone_to_owned() else { return false };
        match self {
            Self::Tcp(address) => TcpListener::from(copy).local_addr().is_ok_and(|bound| {
                bound.ip() == address.ip() && (address.port() == 0 || bound.port() == address.port())
            }),
            Self::FutureTcp(address) => TcpListener::from(copy).local_addr().is_ok_and(|bound| bound == *address),
            Self::FutureUdp(address) => UdpSocket::from(copy).local_addr().is_ok_and(|bound| bound == *address),
            Self::Unix(path) => {
                let bound = UnixListener::from(copy).local_addr();
                // A socket whose file was removed cannot be reached any more.
                bound.is_ok_and(|bound| bound.as_pathname() == Some(path)) && is_socket(path)
            }
        }
    }
}

/// Bytes of datagrams that wait while a role is replaced.
const WAITING: usize = 4 << 20;
/// Connections that do.
const BACKLOG: i32 = 1024;

fn future(address: SocketAddr, kind: Type) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    } else {
        socket.set_freebind_v4(true)?;
    }
    if kind == Type::STREAM {
        // Connections of a role before this one may still be closing.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
    } else {
        // Beyond net.core.rmem_max where that is allowed.
        if setsockopt(&socket, RcvBufForce, &WAITING).is_err() {
            socket.set_recv_buffer_size(WAITING)?;
        }
        socket.bind(&address.into())?;
    }
    Ok(socket.into())
}

/// `None`: nothing is there. Else whether it is a socket behind which nobody listens.
fn is_stale(path: &Path) -> io::Result<Option<bool>> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "a file that is no socket is in the way"));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Ok(Some(false)),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(Some(true)),
        // A full backlog is somebody's, too; other errors say nothing about staleness.
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Some(false)),
        Err(error) => Err(error),
    }
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

/// Binds with mode 0600 from the first moment: a later chmod would leave a gap. The umask is the process', and a keeper has one thread.
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let before = umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    umask(before);
    listener
}

// === impl Sockets ===

impl Sockets {
    pub(super) fn insert(&mut self, name: impl Into<String>, socket: OwnedFd) {
        self.0.insert(name.into(), socket);
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<OwnedFd> {
        self.0.remove(name)
    }

    /// The socket of a name.
    pub fn find(&self, name: &str) -> Option<BorrowedFd<'_>> {
        self.0.get(name).map(AsFd::as_fd)
    }

    /// All of them, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        self.0.iter().map(|(name, socket)| (name.as_str(), socket.as_fd()))
    }
}

impl FromIterator<(String, OwnedFd)> for Sockets {
    fn from_iter<T: IntoIterator<Item = (String, OwnedFd)>>(named: T) -> Self {
        Self(named.into_iter().collect())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Tcp(address) | Self::FutureTcp(address) => address.fmt(f),
            Self::FutureUdp(address) => write!(f, "{address} (UDP)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn unix_sockets_are_private_and_replace_stale_ones() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let address = Address::Unix(path.clone());
        let first = address.listen().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(address.listen(), Err(KeeperError::Taken { .. })), "somebody listens");
        drop(first);
        let second = address.listen().expect("a stale socket is replaced");
        assert!(address.is_of(second.as_fd()));
        assert!(!Address::Unix(directory.path().join("b.sock")).is_of(second.as_fd()));
        std::fs::remove_file(&path).unwrap();
        assert!(!address.is_of(second.as_fd()), "nobody can reach a socket without its file");
        std::fs::write(&path, "data").unwrap();
        let error = address.listen().unwrap_err().to_string();
        assert!(error.ends_with("a file that is no socket is in the way"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"data");
    }

    #[test]
    fn sockets_wait_at_addresses_that_are_still_to_come() {
        for address in ["192.0.2.53:5353", "[2001:db8::53]:5353"].map(|text| text.parse::<SocketAddr>().unwrap()) {
            let other = SocketAddr::new(address.ip(), 5454);
            let udp = Address::FutureUdp(address).listen().unwrap();
            assert!(Address::FutureUdp(address).is_of(udp.as_fd()));
            assert!(!Address::FutureUdp(other).is_of(udp.as_fd()));
            let tcp = Address::FutureTcp(address).listen().unwrap();
            assert!(Address::FutureTcp(address).is_of(tcp.as_fd()));
            assert!(!Address::FutureTcp(other).is_of(tcp.as_fd()));
            assert!(matches!(Address::FutureUdp(address).listen(), Err(KeeperError::Listen { .. })), "it is taken");
        }
    }

    #[test]
    fn tcp_sockets_are_recognised() {
        let any = Address::Tcp("127.0.0.1:0".parse().unwrap());
        let socket = any.listen().unwrap();
        assert!(any.is_of(socket.as_fd()));
        let bound = TcpListener::from(socket.try_clone().unwrap()).local_addr().unwrap();
        assert!(Address::Tcp(bound).is_of(socket.as_fd()));
        assert!(!Address::Tcp(SocketAddr::new(bound.ip(), 1)).is_of(socket.as_fd()));
        assert!(!Address::Tcp("127.0.0.2:0".parse().unwrap()).is_of(socket.as_fd()));
        assert!(matches!(Address::Tcp(bound).listen(), Err(KeeperError::Listen { .. })));
    }
}

//! The role's side of the keeper's gift: sockets by name.

use std::collections::BTreeMap;
use std::env;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Pid, getppid};

use super::KeeperError;
use crate::kernel::descriptors;

/// `NAME=DESCRIPTOR,…`: the sockets that the role inherits.
pub(super) const SOCKETS_VARIABLE: &str = "CULVERT_ROLE_SOCKETS";
/// The keeper's process id: a role whose parent is another one has lost its keeper already.
pub(super) const KEEPER_VARIABLE: &str = "CULVERT_ROLE_KEEPER";

/// What a role got from its keeper.
#[derive(Debug)]
pub struct Inherited {
    sockets: BTreeMap<String, OwnedFd>,
}

impl Inherited {
    /// Whether this process was started by a keeper, as its role.
    pub fn is_role() -> bool {
        env::var_os(SOCKETS_VARIABLE).is_some()
    }

    /// Takes over the sockets, ties this process' life to the keeper's and puts the signal mask in order. To be called once, first of
    /// all, while there is one thread.
    pub fn take() -> Result<Self, KeeperError> {
        follow_keeper(env::var(KEEPER_VARIABLE).ok())?;
        // The keeper blocks the signals that it reads from a descriptor, and a child inherits that.
        SigSet::empty()
            .thread_set_mask()
            .map_err(|errno| KeeperError::Process { operation: "unblock signals", cause: errno.into() })?;
        Self::parse(&env::var(SOCKETS_VARIABLE).unwrap_or_default())
    }

    fn parse(list: &str) -> Result<Self, KeeperError> {
        let mut sockets = BTreeMap::new();
        for item in list.split(',').filter(|item| !item.is_empty()) {
            let (name, number) = item.split_once('=').unwrap_or((item, ""));
            let wrong = |cause: String| KeeperError::Inherit { name: name.to_owned(), cause };
            let number = number.parse().map_err(|_| wrong(format!("{number:?} is no descriptor")))?;
            let socket = descriptors::adopt(number).map_err(|errno| wrong(format!("descriptor {number}: {errno}")))?;
            fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
                .map_err(|errno| wrong(format!("descriptor {}: {errno}", socket.as_raw_fd())))?;
            sockets.insert(name.to_owned(), socket);
        }
        Ok(Self { sockets })
    }

    /// The unix socket of a name; every name can be had once.
    pub fn unix(&mut self, name: &str) -> Result<UnixListener, KeeperError> {
        let listener = UnixListener::from(self.remove(name)?);
        listener.set_nonblocking(true).map_err(|cause| no_listener(name, &cause))?;
        Ok(listener)
    }

    /// The TCP socket of a name; every name can be had once.
    pub fn tcp(&mut self, name: &str) -> Result<TcpListener, KeeperError> {
        let listener = TcpListener::from(self.remove(name)?);
        listener.set_nonblocking(true).map_err(|cause| no_listener(name, &cause))?;
        Ok(listener)
    }

    /// The UDP socket of a name; every name can be had once.
    pub fn udp(&mut self, name: &str) -> Result<UdpSocket, KeeperError> {
        self.remove(name).map(UdpSocket::from)
    }

    fn remove(&mut self, name: &str) -> Result<OwnedFd, KeeperError> {
        self.sockets.remove(name).ok_or_else(|| KeeperError::Inherit {
            name: name.to_owned(),
            cause: "the keeper did not pass it".to_owned(),
        })
    }
}

fn no_listener(name: &str, cause: &std::io::Error) -> KeeperError {
    KeeperError::Inherit { name: name.to_owned(), cause: cause.to_string() }
}

/// Dies with the keeper. The kernel's promise holds from the call on; a keeper that died before it shows in the parent's id.
fn follow_keeper(keeper: Option<String>) -> Result<(), KeeperError> {
    let Some(keeper) = keeper.and_then(|pid| pid.parse().ok()).map(Pid::from_raw) else { return Ok(()) };
    let failed = |cause| KeeperError::Process { operation: "follow the keeper", cause };
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|errno| failed(errno.into()))?;
    if getppid() == keeper {
        return Ok(());
    }
    Err(failed(std::io::Error::other(format!("process {keeper}, which started this one, is gone"))))
}

#[cfg(test)]
mod tests {
    use std::os::fd::IntoRawFd;

    use super::*;

    #[test]
    fn lists_are_checked() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let mut inherited = Inherited::parse(&format!("metrics={}", socket.into_raw_fd())).unwrap();
        assert_eq!(inherited.tcp("metrics").unwrap().local_addr().unwrap(), address);
        let again = inherited.tcp("metrics").unwrap_err().to_string();
        assert!(again.contains("metrics: the keeper did not pass it"), "{again}");

        assert!(Inherited::parse("").unwrap().sockets.is_empty());
        for (list, want) in [
            ("cni", "inherited socket cni: \"\" is no descriptor"),
            ("cni=x", "inherited socket cni: \"x\" is no descriptor"),
            ("cni=-1", "inherited socket cni: descriptor -1: EBADF"),
            ("cni=1000000", "inherited socket cni: descriptor 1000000: EBADF"),
        ] {
            let error = Inherited::parse(list).unwrap_err().to_string();
            assert!(error.contains(want), "{list}: {error}");
        }
    }
}

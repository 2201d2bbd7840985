//! Ownership of file descriptors that arrive as bare numbers: inherited from the keeper, or received over a unix socket.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

/// Takes over descriptor `number`, which the caller was told by whoever opened it for this process (the keeper, through the
/// environment, or the kernel, in an SCM_RIGHTS message). It is checked to be open; each number may be adopted once.
pub fn adopt(number: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: F_GETFD has no side effect and works on any number; an unopened one gives EBADF.
    let open = unsafe { libc::fcntl(number, libc::F_GETFD) };
    Errno::result(open)?;
    // SAFETY: the descriptor is open, and by this function's contract nothing else in the process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

//! The container's network namespace, and how to be in it for a moment.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{FsType, fstatfs};
use thiserror::Error;

use crate::protocol::Netns;

/// File system type of namespaces (`NSFS_MAGIC` in linux/magic.h).
const NSFS: FsType = FsType(0x6e73_6673);

/// An open network namespace. It lives at least as long as this, whatever becomes of its path.
#[derive(Debug)]
pub struct OpenNetns {
    path: PathBuf,
    file: File,
    device: u64,
    inode: u64,
}

/// A network namespace could not be opened or entered.
#[derive(Debug, Error)]
pub enum NetnsError {
    /// There is nothing at the path.
    #[error(
        "opening network namespace {path}: there is none; the container is gone, or the path is of another mount namespace"
    )]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// There is something else at the path.
    #[error(
        "opening network namespace {path}: it is no network namespace; was it unmounted because the container is gone?"
    )]
    NotNamespace {
        /// The path.
        path: PathBuf,
    },
    /// Opening failed otherwise.
    #[error("opening network namespace {path}: {source}")]
    Open {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Entering failed.
    #[error("entering network namespace {path}: {source}; it needs CAP_SYS_ADMIN")]
    Enter {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

// === impl OpenNetns ===

impl OpenNetns {
    /// Opens the namespace at a path, such as /run/netns/NAME or /proc/PID/ns/net.
    pub fn open(path: &Path) -> Result<Self, NetnsError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => NetnsError::Missing { path: path.into() },
            _ => NetnsError::Open { path: path.into(), source },
        };
        let file = File::open(path).map_err(failed)?;
        let found = fstatfs(&file).map_err(|e| failed(e.into()))?;
        // Below /proc a namespace's link names its kind, `net:[4026531840]`; a bind mount has a path instead, and is believed.
        let target = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(failed)?;
        let other_kind = target.is_relative() && !target.to_string_lossy().starts_with("net:[");
        if found.filesystem_type() != NSFS || other_kind {
            return Err(NetnsError::NotNamespace { path: path.into() });
        }
        let metadata = file.metadata().map_err(failed)?;
        Ok(Self { path: path.into(), device: metadata.dev(), inode: metadata.ino(), file })
    }

    /// Is it the namespace that the calling thread is in?
    pub fn is_own(&self) -> bool {
        let own = std::fs::metadata("/proc/thread-self/ns/net");
        own.is_ok_and(|own| (own.dev(), own.ino()) == (self.device, self.inode))
    }

    /// Path and identity, for the agent.
    pub fn identity(&self) -> Netns {
        Netns { path: self.path.clone(), device: self.device, inode: self.inode }
    }

    /// Runs something inside, on a thread of its own: no other thread ever changes its namespace.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        let failed = |source| NetnsError::Enter { path: self.path.clone(), source };
        thread::scope(|scope| {
            let inside = move || {
                setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET).map_err(|e| failed(e.into()))?;
                Ok(work())
            };
            let thread = thread::Builder::new().name("netns".into()).spawn_scoped(scope, inside).map_err(failed)?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl AsRawFd for OpenNetns {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

// === impl NetnsError ===

impl NetnsError {
    /// Is there no such namespace (any more)?
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::NotNamespace { .. })
    }
}

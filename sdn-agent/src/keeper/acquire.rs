//! How a keeper comes by its sockets: from the one that runs already, else by opening them.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::handover;
use super::{Address, GRACE, KeeperError, Sockets};

/// Name of the socket that the keeper itself listens on.
pub(super) const KEEPER: &str = "keeper";
/// Name of the run directory's lock among the sockets.
const LOCK: &str = "lock";

/// How long to wait for a keeper that is just ending, and gives its role all of its grace.
const PATIENCE: Duration = GRACE.saturating_add(Duration::from_secs(5));
/// How long a killed keeper's role may hold its copies of the sockets: it is being killed, too.
const ROLE_PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(20);

/// The sockets that a keeper holds.
#[derive(Debug, Clone)]
pub struct Doors {
    /// Directory of keeper.sock and of the lock.
    pub run: PathBuf,
    /// Name and address of each socket that the role serves.
    pub role: Vec<(&'static str, Address)>,
}

/// Takes the sockets over from the keeper that runs in the same directory, or opens them where none runs.
pub fn acquire(doors: &Doors) -> Result<Sockets, KeeperError> {
    let run_failed = |cause| KeeperError::RunDirectory { path: doors.run.clone(), cause };
    DirBuilder::new().recursive(true).mode(0o755).create(&doors.run).map_err(run_failed)?;
    let path = doors.run.join("keeper.sock");
    let deadline = Instant::now() + PATIENCE;
    loop {
        match handover::take(&path) {
            Ok(Some((sockets, stream))) => {
                let sockets = complete(sockets, doors)?;
                handover::confirm(stream).map_err(|error| take_over_failed(&path, &error))?;
                tracing::info!("took the sockets over from the keeper that ran before");
                return Ok(sockets);
            }
            Ok(None) => {}
            // A keeper that ends while it is asked leaves nothing to take: look again.
            Err(error) if Instant::now() >= deadline => return Err(take_over_failed(&path, &error)),
            Err(error) => tracing::debug!(%error, "the running keeper did not give its sockets yet"),
        }
        if let Some(lock) = try_lock(&doors.run).map_err(run_failed)? {
            let locked = [(LOCK.to_owned(), lock)].into_iter().collect();
            return complete(locked, doors);
        }
        if Instant::now() >= deadline {
            let cause = io::Error::new(io::ErrorKind::WouldBlock, "another keeper holds its lock but does not answer");
            return Err(run_failed(cause));
        }
        sleep(PAUSE);
    }
}

fn take_over_failed(path: &Path, error: &io::Error) -> KeeperError {
    KeeperError::TakeOver { path: path.to_owned(), cause: error.to_string() }
}

/// Keeps what is wanted of what was passed, and opens the rest. Nothing is kept that listens elsewhere than it should now.
fn complete(mut passed: Sockets, doors: &Doors) -> Result<Sockets, KeeperError> {
    let keeper = (KEEPER, Address::Unix(doors.run.join("keeper.sock")));
    let mut sockets = Sockets::default();
    for (name, address) in doors.role.iter().chain([&keeper]) {
        let socket = match passed.remove(name).filter(|socket| address.is_of(socket.as_fd())) {
            Some(socket) => socket,
            None => listen_soon(address)?,
        };
        sockets.insert(*name, socket);
    }
    let lock = match passed.remove(LOCK) {
        Some(lock) => Some(lock),
        None => try_lock(&doors.run).map_err(|cause| KeeperError::RunDirectory { path: doors.run.clone(), cause })?,
    };
    if let Some(lock) = lock {
        sockets.insert(LOCK, lock);
    }
    Ok(sockets)
}

/// Listens, and waits for a killed keeper's role, which may hold its copy of the old socket for a moment longer.
fn listen_soon(address: &Address) -> Result<OwnedFd, KeeperError> {
    let deadline = Instant::now() + ROLE_PATIENCE;
    loop {
        match address.listen() {
            Err(KeeperError::Taken { .. }) if Instant::now() < deadline => {}
            Err(KeeperError::Listen { cause, .. })
                if cause.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {}
            done => return done,
        }
        sleep(PAUSE);
    }
}

/// The lock is the open directory's own: it lives as long as any copy of the descriptor, and goes where the descriptor is passed.
fn try_lock(run: &Path) -> io::Result<Option<OwnedFd>> {
    let directory = File::open(run)?;
    match directory.try_lock() {
        Ok(()) => Ok(Some(directory.into())),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

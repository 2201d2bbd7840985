//! The writer lock: one agent at a time changes what is pinned.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often to look whether the lock is free. The old agent is ending, as a rule, which takes it milliseconds.
const PAUSE: Duration = Duration::from_millis(20);
/// After so many looks somebody is told.
const PATIENCE: u32 = 100;

/// The lock, held as long as this value lives.
#[derive(Debug)]
pub struct WriterLock {
    _directory: File,
}

/// The lock cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("lock pin directory {}: {cause}", path.display())]
pub struct LockError {
    path: PathBuf,
    cause: io::Error,
}

impl WriterLock {
    /// Waits until no other agent holds it. It is an flock on the pin directory itself: whoever writes there meets it, whatever its run
    /// directory is, and a process that dies gives it up.
    pub async fn take(directory: &Path) -> Result<Self, LockError> {
        let failed = |cause| LockError { path: directory.to_owned(), cause };
        let file = File::open(directory).map_err(failed)?;
        let mut looks = 0_u32;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _directory: file }),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
                Err(TryLockError::WouldBlock) => {}
            }
            looks = looks.saturating_add(1);
            if looks == PATIENCE {
                tracing::warn!(path = %directory.display(), "waiting for another agent to give up the writer lock");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = WriterLock::take(directory.path()).await.unwrap();
        let second = WriterLock::take(directory.path());
        tokio::pin!(second);
        tokio::time::timeout(3 * PAUSE, &mut second).await.expect_err("the first one holds it");
        drop(first);
        tokio::time::timeout(Duration::from_secs(5), second).await.expect("free now").unwrap();
        let error = WriterLock::take(&directory.path().join("none")).await.unwrap_err().to_string();
        assert!(error.starts_with("lock pin directory ") && error.contains("none: No such file"), "{error}");
    }
}

//! Files written so that nobody ever reads half of one.

use crate::error::Error;
use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

/// Whether a file's contents must survive a crash of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// They are made anew after one.
    Volatile,
    /// They must be there, the old or the new.
    Durable,
}

/// Puts a file with these contents in the place of whatever is at `path`, by renaming. The temporary file is hidden,
/// which readers of manifests pass over.
pub(crate) fn replace_file(path: &Path, contents: &[u8], mode: u32, durability: Durability) -> Result<(), Error> {
    let result = write(path, contents, mode, durability);
    result.map_err(|source| Error::Write { path: path.to_owned(), source })
}

fn write(path: &Path, contents: &[u8], mode: u32, durability: Durability) -> io::Result<()> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    // The file's own name is left out, which may be as long as names can be.
    let temporary = directory.join(format!(".new-{}-{number}", std::process::id()));
    let result = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        // Whatever the umask says, and also when a file of a process that died was there.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(contents)?;
        if durability == Durability::Durable {
            file.sync_all()?;
        }
        fs::rename(&temporary, path)?;
        if durability == Durability::Durable {
            fs::File::open(directory)?.sync_all()?;
        }
        Ok(())
    })();
    if result.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.json");
        for (contents, mode) in [("one", 0o600), ("two", 0o644)] {
            replace_file(&path, contents.as_bytes(), mode, Durability::Durable).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("read"), contents);
            assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, mode);
        }
        fs::create_dir(directory.path().join("taken")).expect("made");
        let error =
            replace_file(&directory.path().join("taken"), b"x", 0o600, Durability::Volatile).expect_err("a directory");
        assert!(error.to_string().contains("taken"), "{error}");
        assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 2, "no temporary files");
    }
}

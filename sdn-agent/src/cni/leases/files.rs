//! Leases on disk: one file a lease, and the order in which addresses were given back.
//!
//! ```text
//! leases/10.128.2.5_fd01:0:0:1::5_cv0123456789ab.json        a lease; the name says what it holds, should the content be lost
//! leases/10.128.2.6_cv3456789abcde.json.bad                  one that could not be read
//! leases/.new-…                                              one being written; of no meaning
//! leases/freed                                               an address a line, given back longest ago first
//! leases/lock                                                locked by the one agent that may write here
//! ```
//!
//! A lease file appears by rename and disappears by unlink, so at every moment a lease is there whole or not at all. `freed` only
//! decides which free address is next; losing its end, or all of it, never hands out an address twice.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::{Lease, LeaseError, Quarantined};
use crate::cni::pod::LocalPod;

/// Version of a lease file's content.
const VERSION: u32 = 1;

const LEASE: &str = ".json";
const BAD: &str = ".json.bad";
const NEW: &str = ".new-";
const FREED: &str = "freed";
pub(super) const LOCK: &str = "lock";

/// The directory of leases, held by this process alone.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    /// The directory itself, to make renames and unlinks in it durable.
    handle: File,
    _lock: Flock<File>,
}

/// The file `freed`.
#[derive(Debug)]
pub(super) struct FreedLog {
    path: PathBuf,
    file: File,
    /// Lines in the file.
    lines: usize,
}

/// What was found on disk.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub leases: Vec<Lease>,
    pub quarantined: Vec<Quarantined>,
    /// Oldest first; an address may be there several times, the last one counts.
    pub freed: Vec<IpAddr>,
}

#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    network: String,
    netns_device: u64,
    netns_inode: u64,
    pod: LocalPod,
}

// === impl Files ===

impl Files {
    /// Opens the directory, makes it where there is none, and takes it for this process.
    pub fn open(dir: &Path) -> Result<Self, LeaseError> {
        let failed = |operation, path: &Path, source| LeaseError::Io { operation, path: path.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| failed("making", dir, e))?;
        let handle = File::open(dir).map_err(|e| failed("opening", dir, e))?;
        let path = dir.join(LOCK);
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.map_err(|e| failed("opening", &path, e))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            nix::errno::Errno::EWOULDBLOCK => LeaseError::Locked { dir: dir.to_owned() },
            errno => failed("locking", &path, errno.into()),
        })?;
        Ok(Self { dir: dir.to_owned(), handle, _lock: lock })
    }

    /// Reads everything. What cannot be read is renamed, so that it is looked at once, and stays on disk for people.
    pub fn read(&self) -> Result<Found, LeaseError> {
        let failed = |source| LeaseError::Io { operation: "listing", path: self.dir.clone(), source };
        let mut found = Found::default();
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            names.push(entry.map_err(failed)?.file_name());
        }
        names.sort();
        for name in names {
            let Some(name) = name.to_str() else { continue };
            if name.starts_with(NEW) {
                // Best effort: it means nothing, and the next start tries again.
                let _ = fs::remove_file(self.dir.join(name));
            } else if name.ends_with(BAD) {
                found.quarantined.push(self.quarantined(name, "quarantined earlier".into()));
            } else if name.ends_with(LEASE) {
                self.read_lease(name, &mut found);
            }
        }
        found.freed = self.read_freed();
        Ok(found)
    }

    fn read_lease(&self, name: &str, found: &mut Found) {
        let lease = self.parse_lease(name).and_then(|lease| match conflict(&lease, &found.leases) {
            None => Ok(lease),
            Some(conflict) => Err(conflict),
        });
        match lease {
            Ok(lease) => found.leases.push(lease),
            Err(problem) => {
                let bad = format!("{name}.bad");
                let name = match fs::rename(self.dir.join(name), self.dir.join(&bad)) {
                    Ok(()) => &bad,
                    Err(_) => name,
                };
                found.quarantined.push(self.quarantined(name, problem));
            }
        }
    }

    fn parse_lease(&self, name: &str) -> Result<Lease, String> {
        let text = fs::read(self.dir.join(name)).map_err(|e| format!("cannot be read: {e}"))?;
        let content: Content = serde_json::from_slice(&text).map_err(|e| {
            let cause = if text.is_empty() || text.iter().all(|byte| *byte == 0) { "empty" } else { "damaged" };
            format!("is {cause}, probably by a crash of the machine: {e}")
        })?;
        if content.version != VERSION {
            return Err(format!("has version {}, this agent knows {VERSION}", content.version));
        }
        let Content { network, netns_device, netns_inode, pod, .. } = content;
        let lease = Lease { pod: Arc::new(pod), network, netns_device, netns_inode };
        let expected = file_name(&lease.pod);
        if expected == name { Ok(lease) } else { Err(format!("has the content of {expected}")) }
    }

    fn quarantined(&self, name: &str, problem: String) -> Quarantined {
        let (addresses, host_interface) = parse_name(name);
        Quarantined { file: self.dir.join(name), addresses, host_interface, problem }
    }

    /// Writes a lease; it is on disk when this returns.
    /// After an error it may be there or not.
    pub fn write(&self, lease: &Lease) -> Result<(), LeaseError> {
        let name = file_name(&lease.pod);
        let path = self.dir.join(&name);
        let content = Content {
            version: VERSION,
            network: lease.network.clone(),
            netns_device: lease.netns_device,
            netns_inode: lease.netns_inode,
            pod: LocalPod::clone(&lease.pod),
        };
        let text = serde_json::to_vec_pretty(&content).map_err(|e| LeaseError::io("encoding", &path, e.into()))?;
        let new = self.dir.join(format!("{NEW}{name}"));
        replace(&new, &path, &text).inspect_err(|_| {
            let _ = fs::remove_file(&new);
        })?;
        self.sync("writing", &path)
    }

    /// Removes a lease's file; it is gone from the disk when this returns. A missing one is no error.
    pub fn remove(&self, pod: &LocalPod) -> Result<(), LeaseError> {
        self.remove_path(&self.dir.join(file_name(pod)))
    }

    pub fn remove_path(&self, path: &Path) -> Result<(), LeaseError> {
        match fs::remove_file(path) {
            Ok(()) => self.sync("removing", path),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(LeaseError::io("removing", path, e)),
        }
    }

    fn sync(&self, operation: &'static str, path: &Path) -> Result<(), LeaseError> {
        self.handle.sync_all().map_err(|e| LeaseError::io(operation, path, e))
    }

    /// A bad file costs the order, nothing else, so it is not an error.
    fn read_freed(&self) -> Vec<IpAddr> {
        let text = fs::read(self.dir.join(FREED)).unwrap_or_default();
        // A line without its end may be the beginning of another address.
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines = text[..whole].split(|byte| *byte == b'\n');
        lines.filter_map(|line| std::str::from_utf8(line).ok()?.parse().ok()).collect()
    }

    /// Starts `freed` afresh with these addresses, and opens it for more.
    pub fn write_freed(&self, addresses: impl Iterator<Item = IpAddr>) -> Result<FreedLog, LeaseError> {
        let mut text = String::new();
        let mut lines = 0;
        for address in addresses {
            text.push_str(&format!("{address}\n"));
            lines += 1;
        }
        let path = self.dir.join(FREED);
        replace(&self.dir.join(format!("{NEW}{FREED}")), &path, text.as_bytes())?;
        self.sync("writing", &path)?;
        let file = OpenOptions::new().append(true).open(&path).map_err(|e| LeaseError::io("opening", &path, e))?;
        Ok(FreedLog { path, file, lines })
    }
}

// === impl FreedLog ===

impl FreedLog {
    /// Adds addresses at the end, all or, should the machine stop, a part of them. In the page cache when this returns.
    pub fn append(&mut self, addresses: &[IpAddr]) -> Result<(), LeaseError> {
        let text: String = addresses.iter().map(|address| format!("{address}\n")).collect();
        self.lines += addresses.len();
        self.file.write_all(text.as_bytes()).map_err(|e| LeaseError::io("writing", &self.path, e))
    }

    /// Makes what was added durable.
    pub fn sync(&self) -> Result<(), LeaseError> {
        self.file.sync_data().map_err(|e| LeaseError::io("writing", &self.path, e))
    }

    /// Is most of the file out of date, if `live` addresses are in the order now?
    pub fn is_stale(&self, live: usize) -> bool {
        self.lines > 2 * live + 1024
    }
}

/// `new` with this content, flushed, then renamed to `path`. The directory is not flushed.
fn replace(new: &Path, path: &Path, content: &[u8]) -> Result<(), LeaseError> {
    let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(new);
    let mut file = file.map_err(|e| LeaseError::io("making", new, e))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(|e| LeaseError::io("writing", new, e))?;
    fs::rename(new, path).map_err(|e| LeaseError::io("writing", path, e))
}

fn file_name(pod: &LocalPod) -> String {
    let addresses: String = pod.addresses.iter().map(|address| format!("{address}_")).collect();
    format!("{addresses}{}{LEASE}", pod.host_interface)
}

/// What a lease file's name says, as far as it can be read.
fn parse_name(name: &str) -> (Vec<IpAddr>, Option<String>) {
    let stem = name.strip_suffix(BAD).or(name.strip_suffix(LEASE)).unwrap_or(name);
    let mut addresses = Vec::new();
    let mut interface = None;
    for part in stem.split('_') {
        match part.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => interface = Some(part.to_owned()).filter(|part| part.starts_with("cv")),
        }
    }
    (addresses, interface)
}

/// Why a lease cannot stand beside the others.
fn conflict(lease: &Lease, others: &[Lease]) -> Option<String> {
    let addresses: HashSet<&IpAddr> = lease.pod.addresses.iter().collect();
    others.iter().find_map(|other| {
        if other.pod.attachment() == lease.pod.attachment() {
            return Some(format!(
                "is a second lease of {}, which {} has already",
                lease.pod.attachment(),
                file_name(&other.pod)
            ));
        }
        let shared = other.pod.addresses.iter().find(|address| addresses.contains(address))?;
        Some(format!("holds {shared}, which {} has already", file_name(&other.pod)))
    })
}

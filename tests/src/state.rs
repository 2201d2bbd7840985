//! What a lab keeps on the machine: `/run/culvert-lab/NAME`, its cgroup, and who may touch them.
//!
//! The owner of a lab holds a lock on its directory for as long as it lives. Whoever gets the lock of a lab finds its owner
//! dead, and may remove what is left: the next `up` of that name, `down`, or the reaper that each owner starts beside itself.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::cgroup::Cgroup;
use crate::record::{Owner, Record};

/// Where labs keep their state.
pub const ROOT: &str = "/run/culvert-lab";

/// How long the removal of a dead owner's lab by somebody else may take.
pub(crate) const REMOVAL_DEADLINE: Duration = Duration::from_secs(30);

/// The places that belong to the lab of one name.
#[derive(Debug, Clone)]
pub struct LabDir {
    name: String,
    path: PathBuf,
}

/// The right to a lab's places; given up when dropped.
#[derive(Debug)]
pub struct Claim {
    dir: LabDir,
    // Held for its lock only.
    _lock: Flock<File>,
}

/// Why a lab could not be claimed.
enum Refusal {
    /// Its owner lives.
    Owned(Option<Owner>),
    /// The directory was removed by somebody else in the meantime.
    Vanished,
}

/// The names of all labs of which something exists.
pub fn names() -> Vec<String> {
    let entries = fs::read_dir(ROOT).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

// === impl LabDir ===

impl LabDir {
    /// The places of the lab called `name`, which becomes part of file names and cgroups.
    pub fn new(name: &str) -> Result<Self> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
        ensure!(
            !name.is_empty() && name.len() <= 60 && name.bytes().all(plain) && !name.starts_with('-'),
            "'{name}' cannot be a lab's name: at most 60 of a-z, 0-9, '-' and '_', not starting with '-'"
        );
        Ok(Self { name: name.into(), path: Path::new(ROOT).join(name) })
    }

    /// The lab's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole of its state.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the agents watch: derived Nodes, Namespaces and Pods.
    pub fn manifests(&self) -> PathBuf {
        self.path.join("manifests")
    }

    /// One log a node, with everything that its agents print.
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// Namespace files, on a mount of their own so that one unmount releases them all.
    pub fn namespaces(&self) -> PathBuf {
        self.path.join("ns")
    }

    /// What happened, a line each.
    pub fn events(&self) -> PathBuf {
        self.path.join("events.log")
    }

    /// The record which other commands read.
    pub fn record_file(&self) -> PathBuf {
        self.path.join("lab.json")
    }

    /// The record, if the lab exists.
    pub fn record(&self) -> Result<Option<Record>> {
        let file = self.record_file();
        match fs::read(&file) {
            Ok(text) => {
                Ok(Some(serde_json::from_slice(&text).with_context(|| format!("understand {}", file.display()))?))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", file.display())),
        }
    }

    /// The cgroup of the whole lab, whether or not it exists.
    pub fn cgroup(&self) -> Result<Cgroup> {
        Cgroup::at(Path::new(&format!("culvert-lab-{}", self.name)))
    }

    /// Whether anything of the lab exists.
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Makes the lab ours: fresh, after removal of what a dead owner left.
    pub fn claim(&self) -> Result<Claim> {
        let deadline = Instant::now() + REMOVAL_DEADLINE;
        loop {
            match self.try_claim()? {
                Ok(claim) if claim.is_fresh()? => return claim.furnish(),
                Ok(claim) => claim.remove()?,
                Err(Refusal::Vanished) => {}
                Err(Refusal::Owned(owner)) => {
                    let alive = owner.as_ref().is_some_and(Owner::is_alive);
                    if alive || Instant::now() > deadline {
                        let pid = owner.map_or("?".into(), |owner| owner.pid.to_string());
                        bail!("the lab '{}' is up (process {pid}): choose another name or take it down", self.name);
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }

    /// Removes what a dead owner left; false if there is nothing or the owner lives.
    pub fn remove_stale(&self) -> Result<bool> {
        if !self.exists() {
            return Ok(false);
        }
        match self.try_claim()? {
            Ok(claim) => claim.remove().map(|()| true),
            Err(_) => Ok(false),
        }
    }

    fn try_claim(&self) -> Result<Result<Claim, Refusal>> {
        fs::create_dir_all(&self.path).with_context(|| format!("make {} (labs need root)", self.path.display()))?;
        let Ok(directory) = File::open(&self.path) else { return Ok(Err(Refusal::Vanished)) };
        let lock = match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => return Ok(Err(Refusal::Owned(self.record()?.map(|record| record.owner)))),
            Err((_, error)) => return Err(error).with_context(|| format!("lock {}", self.path.display())),
        };
        // The one who held the lock before may have removed the directory: then this lock is of nothing.
        let same = fs::metadata(&self.path).is_ok_and(|now| lock.metadata().is_ok_and(|then| then.ino() == now.ino()));
        Ok(if same { Ok(Claim { dir: self.clone(), _lock: lock }) } else { Err(Refusal::Vanished) })
    }
}

// === impl Claim ===

impl Claim {
    /// The places claimed.
    pub fn dir(&self) -> &LabDir {
        &self.dir
    }

    fn is_fresh(&self) -> Result<bool> {
        let mut entries = fs::read_dir(&self.dir.path).with_context(|| format!("read {}", self.dir.path.display()))?;
        Ok(entries.next().is_none() && !self.dir.cgroup()?.exists())
    }

    /// Makes the empty rooms of a new lab.
    fn furnish(self) -> Result<Self> {
        for room in [self.dir.manifests(), self.dir.logs(), self.dir.namespaces()] {
            fs::create_dir(&room).with_context(|| format!("make {}", room.display()))?;
        }
        let namespaces = self.dir.namespaces();
        mount(Some("culvert-lab"), &namespaces, Some("tmpfs"), MsFlags::empty(), Some("mode=700"))
            .with_context(|| format!("mount {}", namespaces.display()))?;
        // The kernel binds a mount namespace's file only to a private mount.
        mount(None::<&str>, &namespaces, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>)
            .with_context(|| format!("make {} private", namespaces.display()))?;
        self.dir.cgroup()?.create()?;
        Ok(self)
    }

    /// Keeps a namespace alive under a file name of the lab, until the lab is removed.
    pub fn keep_namespace(&self, name: &str, namespace: &crate::sandbox::Namespace) -> Result<PathBuf> {
        let file = self.dir.namespaces().join(name);
        File::create_new(&file).with_context(|| format!("make {}", file.display()))?;
        mount(Some(&namespace.path()), &file, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("bind a namespace to {}", file.display()))?;
        Ok(file)
    }

    /// Removes the lab: processes, mounts, cgroups, files. Goes on after a failure, and tells all of them at the end.
    pub fn remove(self) -> Result<()> {
        let cgroup = self.dir.cgroup()?;
        let steps = [cgroup.kill(), unmount_all(&self.dir.namespaces()), cgroup.remove(), remove_tree(&self.dir.path)];
        let failures: Vec<String> = steps.into_iter().filter_map(Result::err).map(|e| format!("{e:#}")).collect();
        // Fails as long as there are other labs.
        fs::remove_dir(ROOT).ok();
        ensure!(failures.is_empty(), "remove the lab '{}': {}", self.dir.name, failures.join("; "));
        Ok(())
    }
}

/// Unmounts `path`, with all that is mounted below, as many times as it is mounted.
fn unmount_all(path: &Path) -> Result<()> {
    loop {
        match umount2(path, MntFlags::MNT_DETACH) {
            Ok(()) => {}
            // Not a mount point (any more), or not there.
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("unmount {}", path.display())),
        }
    }
}

fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

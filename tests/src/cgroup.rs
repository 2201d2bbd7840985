//! cgroups (version 2) of a lab: one for the lab, in it one for each node, in that the agent's and one for each pod.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long killed processes may take to be gone.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// A directory of the cgroup2 file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// The cgroup at `path` below the machine's cgroup2 mount, whether or not it exists.
    pub fn at(path: &Path) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
        let Some(root) = mount_point(&mounts) else {
            bail!("no cgroup2 file system is mounted: try `mount -t cgroup2 none /sys/fs/cgroup`")
        };
        Ok(Self { path: root.join(path) })
    }

    /// Makes it, if it is absent.
    pub fn create(&self) -> Result<()> {
        fs::create_dir_all(&self.path).with_context(|| format!("make the cgroup {}", self.path.display()))
    }

    /// A cgroup inside this one; made if it is absent.
    pub fn child(&self, name: &str) -> Result<Self> {
        let child = Self { path: self.path.join(name) };
        child.create()?;
        Ok(child)
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it exists.
    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Its `cgroup.procs`, open for writing: whoever writes "0" there joins.
    pub fn procs(&self) -> Result<OwnedFd> {
        let path = self.path.join("cgroup.procs");
        let file: File =
            OpenOptions::new().write(true).open(&path).with_context(|| format!("open {}", path.display()))?;
        Ok(file.into())
    }

    /// Moves the calling process into it.
    pub fn join(&self) -> Result<()> {
        let procs = self.procs()?;
        nix::unistd::write(&procs, b"0").with_context(|| format!("join the cgroup {}", self.path.display()))?;
        Ok(())
    }

    /// The processes directly in it.
    pub fn pids(&self) -> Vec<Pid> {
        let listed = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        // 0 stands for a process that this pid namespace cannot see.
        listed.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).map(Pid::from_raw).collect()
    }

    /// Kills everything in it and below, and waits until it is gone. An absent cgroup has nothing to kill.
    pub fn kill(&self) -> Result<()> {
        let deadline = Instant::now() + KILL_DEADLINE;
        while self.exists() && self.is_populated() {
            if Instant::now() > deadline {
                bail!("processes in {} do not end: one may hang in the kernel", self.path.display());
            }
            self.kill_once();
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Removes it with all below, which must hold no processes any more. An absent cgroup is fine.
    pub fn remove(&self) -> Result<()> {
        for child in self.children() {
            child.remove()?;
        }
        let deadline = Instant::now() + KILL_DEADLINE;
        loop {
            match fs::remove_dir(&self.path) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                // A process that has ended may still be counted for a moment.
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("remove the cgroup {}", self.path.display()));
                }
            }
        }
    }

    fn is_populated(&self) -> bool {
        let events = fs::read_to_string(self.path.join("cgroup.events")).unwrap_or_default();
        events.lines().any(|line| line == "populated 1")
    }

    fn kill_once(&self) {
        // `cgroup.kill` exists since Linux 5.14.
        if fs::write(self.path.join("cgroup.kill"), "1").is_err() {
            self.children().iter().for_each(Self::kill_once);
            for pid in self.pids() {
                // It may have ended by itself since it was listed.
                kill(pid, Signal::SIGKILL).ok();
            }
        }
    }

    fn children(&self) -> Vec<Self> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).map(|path| Self { path }).collect()
    }
}

/// The first mount point of type cgroup2 in the text of `/proc/self/mountinfo`.
fn mount_point(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup2 ").then(|| place.split(' ').nth(4).map(PathBuf::from))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup2_is_found_in_both_layouts() {
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                      40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:5 - cgroup2 cgroup2 rw\n";
        let unified = "29 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(mount_point(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(mount_point(unified), Some("/sys/fs/cgroup".into()));
        assert_eq!(mount_point("22 1 0:20 / /sys rw - sysfs sysfs rw\n"), None);
    }
}

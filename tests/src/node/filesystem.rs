//! A node's file systems: the machine's, with the places that belong to a node made its own.
//!
//! Everything here lives in the node's mount namespace and ends with it; on the machine no directory is made and no file
//! is changed.

use std::fs::{self, File};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::cgroup::Cgroup;
use crate::sandbox::{Namespace, Sandbox};
use crate::state::{LabDir, ROOT};

/// Trees that a node writes to: it gets a copy on write of each.
const COPIED: [&str; 3] = ["/etc", "/opt", "/var/lib"];

/// Places in them that begin empty, whatever the machine has there (it may be a node of a real cluster).
const EMPTY: [&str; 3] = ["/etc/cni", "/opt/cni", "/var/lib/culvert"];

/// Where a node keeps its pods' network namespaces, as container runtimes do.
pub const NETNS_DIR: &str = "/run/netns";

/// Where the written parts of the copied trees are.
const WRITTEN: &str = "/run/node";

/// Makes the mount namespace of a node whose network namespace is `net` and whose cgroup is `cgroup`.
pub fn make(lab: &LabDir, net: &Namespace, cgroup: &Cgroup) -> Result<Namespace> {
    // A sysfs shows the devices of the network namespace of whoever mounts it: so from inside.
    Sandbox::from(net.clone()).within(|| {
        unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
        attach(None, Path::new("/"), MsFlags::MS_REC | MsFlags::MS_PRIVATE).context("make all mounts private")?;
        forget_labs()?;
        mount_sys(cgroup)?;
        mount_run(lab)?;
        copy_on_write()?;
        Namespace::open(Path::new("/proc/thread-self/ns/mnt"))
    })
}

/// Unmounts what labs (this one and others) keep their namespaces on: copies of those mounts would keep them alive.
fn forget_labs() -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    let inside: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    for place in inside.into_iter().filter(|place| Path::new(place).starts_with(ROOT)) {
        // One that was below another is gone with it.
        umount2(place, MntFlags::MNT_DETACH).ok();
    }
    Ok(())
}

/// /sys of the node's network, its own cgroup in the place of the machine's root, its own bpffs.
fn mount_sys(cgroup: &Cgroup) -> Result<()> {
    let directory = File::open(cgroup.path()).with_context(|| format!("open {}", cgroup.path().display()))?;
    let directory = OwnedFd::from(directory);
    mount_new("sysfs", Path::new("/sys"), None)?;
    let source = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    attach(Some(&source), Path::new("/sys/fs/cgroup"), MsFlags::MS_BIND).context("show the node its cgroup")?;
    mount_new("bpf", Path::new("/sys/fs/bpf"), Some("mode=700"))
}

/// An empty /run, in which the lab's manifests can be read where they are on the machine.
fn mount_run(lab: &LabDir) -> Result<()> {
    let manifests = lab.manifests();
    let published = File::open(&manifests).with_context(|| format!("open {}", manifests.display()))?;
    let published = OwnedFd::from(published);
    mount_new("tmpfs", Path::new("/run"), Some("mode=755"))?;
    for place in [manifests.as_path(), Path::new(NETNS_DIR), Path::new("/run/lock"), Path::new("/run/culvert")] {
        make_dir(place)?;
    }
    let source = PathBuf::from(format!("/proc/self/fd/{}", published.as_raw_fd()));
    attach(Some(&source), &manifests, MsFlags::MS_BIND)?;
    attach(None, &manifests, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY)
        .context("make the manifests read-only for the node")
}

/// What the node writes below the copied trees goes to memory.
fn copy_on_write() -> Result<()> {
    for tree in COPIED.map(Path::new).into_iter().filter(|tree| tree.is_dir()) {
        let own = Path::new(WRITTEN).join(tree.strip_prefix("/").unwrap_or(tree));
        let (upper, work) = (own.join("written"), own.join("work"));
        make_dir(&upper)?;
        make_dir(&work)?;
        let layers = format!("lowerdir={},upperdir={},workdir={}", tree.display(), upper.display(), work.display());
        mount_new("overlay", tree, Some(&layers)).context("a lab needs overlayfs in the kernel")?;
    }
    for place in EMPTY.map(Path::new) {
        make_dir(place)?;
        mount_new("tmpfs", place, Some("mode=755"))?;
    }
    Ok(())
}

fn mount_new(kind: &str, place: &Path, options: Option<&str>) -> Result<()> {
    mount(Some(kind), place, Some(kind), MsFlags::empty(), options)
        .with_context(|| format!("mount {kind} on {} for a node", place.display()))
}

fn attach(source: Option<&Path>, place: &Path, flags: MsFlags) -> Result<()> {
    mount(source, place, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("mount on {} for a node", place.display()))
}

fn make_dir(place: &Path) -> Result<()> {
    fs::create_dir_all(place).with_context(|| format!("make {} for a node", place.display()))
}

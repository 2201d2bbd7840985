//! A node's file systems: the machine's, with the places that belong to a node made its own.
//!
//! Everything here lives in the node's mount namespace and ends with it; on the machine no directory is made and no file
//! is changed.

use std::fs::{self, File};
use std::io;
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

/// Where a node keeps what its pods have of their own, a directory each.
const PODS: &str = "/run/pods";

/// Where everybody looks for name servers.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What a pod has of its own on its node.
#[derive(Debug)]
pub struct PodFiles {
    /// Its mount namespace.
    pub mount: Namespace,
    /// A file of it, in the node's mount namespace.
    pub file: PathBuf,
}

/// Makes the mount namespace of a node whose network namespace is `net` and whose cgroup is `cgroup`. Names are resolved
/// there as `resolv_conf` says.
pub fn make(lab: &LabDir, net: &Namespace, cgroup: &Cgroup, resolv_conf: &str) -> Result<Namespace> {
    // A sysfs shows the devices of the network namespace of whoever mounts it: so from inside.
    Sandbox::from(net.clone()).within(|| {
        unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
        attach(None, Path::new("/"), MsFlags::MS_REC | MsFlags::MS_PRIVATE).context("make all mounts private")?;
        forget_labs()?;
        mount_sys(cgroup)?;
        mount_run(lab)?;
        copy_on_write()?;
        replace_resolv_conf(resolv_conf)?;
        Namespace::open(Path::new("/proc/thread-self/ns/mnt"))
    })
}

/// Makes the file systems of the pod whose sandbox is called `id`: those of `node` with another resolv.conf. Nothing is
/// left of them on failure.
pub fn make_for_pod(node: &Sandbox, id: &str, resolv_conf: &str) -> Result<PodFiles> {
    let place = Path::new(PODS).join(id);
    let (text, file) = (place.join("resolv.conf"), place.join("mnt"));
    let made = node.within(|| {
        make_dir(&place)?;
        fs::write(&text, resolv_conf).with_context(|| format!("write {}", text.display()))?;
        File::create_new(&file).with_context(|| format!("make {}", file.display()))?;
        unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
        // With them the networks of all pods of the node would live as long as this one.
        umount2(NETNS_DIR, MntFlags::MNT_DETACH).context("forget the networks of other pods")?;
        attach(Some(&text), Path::new(RESOLV_CONF), MsFlags::MS_BIND)?;
        Namespace::open(Path::new("/proc/thread-self/ns/mnt"))
    });
    let kept = made.and_then(|mount| {
        node.within(|| attach(Some(&mount.path()), &file, MsFlags::MS_BIND))?;
        Ok(mount)
    });
    match kept {
        Ok(mount) => Ok(PodFiles { mount, file }),
        Err(error) => {
            node.within(|| Ok(fs::remove_dir_all(&place)?)).ok();
            Err(error)
        }
    }
}

/// Takes them away again.
pub fn remove_for_pod(node: &Sandbox, files: &PodFiles) -> Result<()> {
    node.within(|| {
        umount2(&files.file, MntFlags::MNT_DETACH).with_context(|| format!("unmount {}", files.file.display()))?;
        let place = files.file.parent().context("a pod's files without a directory")?;
        fs::remove_dir_all(place).with_context(|| format!("remove {}", place.display()))
    })
}

/// On machines it often is a link into /run, or mounted there by somebody.
fn replace_resolv_conf(text: &str) -> Result<()> {
    match fs::remove_file(RESOLV_CONF) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).context("remove the machine's resolv.conf"),
        _ => fs::write(RESOLV_CONF, text).context("write the node's resolv.conf"),
    }
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
    let places = [NETNS_DIR, PODS, "/run/lock", "/run/culvert"].map(Path::new);
    for place in places.into_iter().chain([manifests.as_path()]) {
        make_dir(place)?;
    }
    // On a mount of its own, so that one unmount forgets all.
    mount_new("tmpfs", Path::new(NETNS_DIR), Some("mode=755"))?;
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

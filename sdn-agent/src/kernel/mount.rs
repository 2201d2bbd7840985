//! The bpffs: the file system whose files are pinned maps and links.

use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

/// Where the kernel offers a mount point of its own for it.
const KERNEL_MOUNT_POINT: &str = "/sys/fs/bpf";

/// The bpffs is absent and could not be mounted.
#[derive(Debug, thiserror::Error)]
#[error("mount a bpffs at {}: {cause} (mount it before, with `mount -t bpf bpf {}`)", path.display(), path.display())]
pub struct MountError {
    /// Mount point.
    pub path: PathBuf,
    /// What the system said.
    pub cause: io::Error,
}

/// Whether `path`, or the nearest directory above it that exists, lies in a bpffs.
pub fn is_bpffs(path: &Path) -> io::Result<bool> {
    let existing = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    Ok(statfs(existing)?.filesystem_type() == BPF_FS_MAGIC)
}

/// Mounts a bpffs where `path` needs one, unless it is there. Returns the mount point if it was mounted now.
pub fn mount_bpffs(path: &Path) -> Result<Option<PathBuf>, MountError> {
    let point = if path.starts_with(KERNEL_MOUNT_POINT) { Path::new(KERNEL_MOUNT_POINT) } else { path };
    let failed = |cause| MountError { path: point.to_owned(), cause };
    if is_bpffs(path).map_err(failed)? {
        return Ok(None);
    }
    if point == path {
        std::fs::create_dir_all(path).map_err(failed)?;
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), point, Some("bpf"), flags, Some("mode=0700")).map_err(|errno| failed(errno.into()))?;
    Ok(Some(point.to_owned()))
}

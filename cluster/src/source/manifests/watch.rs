//! Being told by the kernel (inotify) that files change.

use super::files::{self, Place};
use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor},
};
use std::{
    collections::{BTreeSet, HashMap},
    ffi::OsStr,
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, RawFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::io::unix::AsyncFd;

/// What must be looked at again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Dirty {
    /// These files.
    Files(BTreeSet<PathBuf>),
    /// All of it, directories included.
    Everything,
}

/// The places that are watched.
#[derive(Debug)]
pub(super) struct Watches {
    inotify: Arc<Inotify>,
    places: HashMap<WatchDescriptor, Vec<Place>>,
    /// Some place could not be watched, so that somebody has to go and look.
    pub incomplete: bool,
}

/// What the kernel tells.
#[derive(Debug)]
pub(super) struct Events(AsyncFd<Descriptor>);

/// Keeps the one descriptor open that it names.
#[derive(Debug)]
struct Descriptor(Arc<Inotify>);

/// Begins to watch nothing. An error means that the kernel has no inotify for us (any more).
pub(super) fn start() -> io::Result<(Watches, Events)> {
    let inotify = Arc::new(Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?);
    #[expect(
        deprecated,
        reason = "its unsafe successor asks that the descriptor stays the same and open, which Descriptor sees to"
    )]
    let events = Events(AsyncFd::new(Descriptor(inotify.clone()))?);
    Ok((Watches { inotify, places: HashMap::new(), incomplete: false }, events))
}

// === impl Watches ===

impl Watches {
    /// Looks around with `look`, watching the places that it names and no others from now on.
    pub fn renew<T>(&mut self, look: impl FnOnce(&mut dyn FnMut(Place)) -> T) -> T {
        let old = std::mem::take(&mut self.places);
        self.incomplete = false;
        let result = look(&mut |place| self.add(place));
        for descriptor in old.into_keys().filter(|descriptor| !self.places.contains_key(descriptor)) {
            // Fails when the directory is gone, and its watch with it.
            let _ = self.inotify.rm_watch(descriptor);
        }
        result
    }

    /// What `events` mean; `None` when they mean nothing.
    pub fn judge(&self, events: Vec<InotifyEvent>) -> Option<Dirty> {
        let mut dirty = None;
        for event in events {
            merge(&mut dirty, self.judge_one(&event));
        }
        dirty
    }

    fn add(&mut self, place: Place) {
        let directory = match &place {
            Place::Directory(path) => path,
            // The parent of a mere name is the working directory.
            Place::Name(path) => match path.parent() {
                Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
                Some(parent) => parent,
                None => return,
            },
        };
        let mask = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        match self.inotify.add_watch(directory, mask) {
            Ok(descriptor) => self.places.entry(descriptor).or_default().push(place),
            Err(error) => {
                let directory = directory.display();
                tracing::debug!(%directory, %error, "cannot watch a directory, looking at it now and then");
                self.incomplete = true;
            }
        }
    }

    fn judge_one(&self, event: &InotifyEvent) -> Option<Dirty> {
        let lost = AddWatchFlags::IN_Q_OVERFLOW
            | AddWatchFlags::IN_UNMOUNT
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF;
        if event.mask.intersects(lost) {
            return Some(Dirty::Everything);
        }
        let name = event.name.as_deref()?;
        let mut dirty = None;
        for place in self.places.get(&event.wd)? {
            let change = match place {
                Place::Name(path) if path.file_name() == Some(name) && !is_begun(path, event.mask) => {
                    Some(Dirty::Everything)
                }
                Place::Name(_) => None,
                Place::Directory(directory) => judge_entry(directory, name, event.mask),
            };
            merge(&mut dirty, change);
        }
        dirty
    }
}

/// What a change of the entry `name` of a directory of manifests means.
fn judge_entry(directory: &Path, name: &OsStr, mask: AddWatchFlags) -> Option<Dirty> {
    let path = directory.join(name);
    // Mounted ConfigMaps and Secrets are replaced by renaming the link `..data`.
    if name.as_encoded_bytes().starts_with(b"..") {
        return Some(Dirty::Everything);
    }
    if files::is_hidden(&path) {
        return None;
    }
    if mask.contains(AddWatchFlags::IN_ISDIR) {
        return Some(Dirty::Everything);
    }
    if files::is_manifest(&path) {
        return (!is_begun(&path, mask)).then(|| Dirty::Files([path].into()));
    }
    // Not ours, unless it is a symbolic link to a directory.
    let may_be_directory = path.extension().is_none() && !mask.contains(AddWatchFlags::IN_CLOSE_WRITE);
    may_be_directory.then_some(Dirty::Everything)
}

/// Whether a file was just created, and so is empty: what is written into it makes the next event. Links are complete.
fn is_begun(path: &Path, mask: AddWatchFlags) -> bool {
    let is_complete = |file: fs::Metadata| !file.is_file() || file.nlink() > 1;
    mask.contains(AddWatchFlags::IN_CREATE) && !fs::symlink_metadata(path).is_ok_and(is_complete)
}

/// Adds what else must be looked at.
pub(super) fn merge(dirty: &mut Option<Dirty>, more: Option<Dirty>) {
    match (dirty, more) {
        (_, None) | (Some(Dirty::Everything), _) => {}
        (Some(Dirty::Files(files)), Some(Dirty::Files(more))) => files.extend(more),
        (dirty, more) => *dirty = more,
    }
}

// === impl Events ===

impl Events {
    /// Waits for events.
    pub async fn next(&self) -> io::Result<Vec<InotifyEvent>> {
        loop {
            let mut guard = self.0.readable().await?;
            match guard.get_inner().0.read_events() {
                Ok(events) => return Ok(events),
                Err(Errno::EAGAIN) => guard.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

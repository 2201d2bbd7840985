//! A file or a directory of manifests (YAML or JSON), watched for changes.
//!
//! A directory is read with what is below it: files named `*.yaml`, `*.yml` and `*.json`, in the order of their paths,
//! hidden ones left out. A file may have several documents, and lists of objects.
//!
//! - An object that is wrong rejects only itself, and is a [`Problem`] as long as it is there.
//! - An object whose document turns bad stays as it last was. So does everything when a file, or all of it, cannot be
//!   read: the network of running pods must outlive a slip in an editor. Only what is taken away is gone.
//! - Of two objects with one name the first counts, in the order of paths and lines.
//! - Kinds that are not wanted or not known are listed once.

mod decode;
mod document;
mod files;
mod reader;
mod tree;
mod watch;
mod yaml;

use super::{Problem, Source, UnusedKind, Update};
use crate::{
    error::Error,
    model::{Kind, Object},
};
use reader::Reader;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use watch::{Dirty, Events};

/// Where the kernel tells what changes, everything is looked at once in so many polls all the same: file systems that
/// are shared with another kernel do not tell.
const POLLS_WHEN_TOLD: u32 = 60;

/// Changes that go on without a pause make an update after so many debounces at the latest.
const MAX_DEBOUNCES: u32 = 10;

/// How manifests are read.
#[derive(Clone, Debug)]
pub struct Options {
    /// The kinds of objects that are wanted; others are listed as unused.
    pub kinds: BTreeSet<Kind>,
    /// What to do when the path does not exist (yet).
    pub missing: Missing,
    /// How long to wait after a change for the next one, so that several make one update.
    pub debounce: Duration,
    /// How often to look where the kernel cannot tell.
    pub poll: Duration,
    /// Whether to let the kernel tell; otherwise it is polled.
    pub inotify: bool,
}

/// What [`open`] does when there is nothing at the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Fail.
    Fail,
    /// Wait for it: the absence is a problem that stays visible, and nothing is synced until it is there.
    Wait,
}

/// Everything that is in some manifests at one moment.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// The good objects, in the order of files and documents.
    pub objects: Vec<Object>,
    /// What was rejected.
    pub problems: Vec<Problem>,
    /// What was passed over.
    pub unused: Vec<UnusedKind>,
}

/// Opened manifests: a [`Source`].
#[derive(Debug)]
pub struct Manifests {
    path: PathBuf,
    options: Options,
    /// `None` only while it is at work in another thread.
    reader: Option<Reader>,
    events: Option<Events>,
    /// What the opening found.
    first: Option<Update>,
    /// When everything was last looked at.
    looked: Instant,
}

/// Opens a file or a directory of manifests and begins to watch it. The first [`Update`] has everything that is there.
pub async fn open(path: impl Into<PathBuf>, options: Options) -> Result<Manifests, Error> {
    let path = path.into();
    if options.missing == Missing::Fail {
        fs::metadata(&path).map_err(|source| Error::OpenManifests { path: path.clone(), source })?;
    }
    let (watches, events) = if options.inotify {
        watch::start()
            .inspect_err(|error| tracing::warn!(%error, "no inotify: looking at the manifests now and then"))
            .ok()
            .unzip()
    } else {
        (None, None)
    };
    let reader = Some(Reader::new(path.clone(), options.kinds.clone(), watches));
    let mut manifests = Manifests { path, options, reader, events, first: None, looked: Instant::now() };
    manifests.first = manifests.refresh(Dirty::Everything).await;
    Ok(manifests)
}

/// Reads a file or a directory of manifests once.
pub fn read(path: impl AsRef<Path>, kinds: impl IntoIterator<Item = Kind>) -> Result<Contents, Error> {
    let path = path.as_ref();
    fs::metadata(path).map_err(|source| Error::OpenManifests { path: path.to_owned(), source })?;
    let mut reader = Reader::new(path.to_owned(), kinds.into_iter().collect(), None);
    reader.refresh(&Dirty::Everything);
    Ok(Contents { objects: reader.objects(), problems: reader.problems(), unused: reader.unused() })
}

// === impl Options ===

impl Options {
    /// The default options with these kinds.
    pub fn kinds(kinds: impl IntoIterator<Item = Kind>) -> Self {
        Self { kinds: kinds.into_iter().collect(), ..Self::default() }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            kinds: Kind::DERIVED.into(),
            missing: Missing::Fail,
            debounce: Duration::from_millis(50),
            poll: Duration::from_secs(1),
            inotify: true,
        }
    }
}

// === impl Manifests ===

impl Manifests {
    /// The path they were opened at.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what may have changed, in a thread that may block. `None` when that thread died or the runtime ends.
    async fn refresh(&mut self, dirty: Dirty) -> Option<Update> {
        let mut reader = self.reader.take()?;
        if dirty == Dirty::Everything {
            self.looked = Instant::now();
        }
        let work = tokio::task::spawn_blocking(move || {
            let update = reader.refresh(&dirty);
            (reader, update)
        });
        match work.await {
            Ok((reader, update)) => {
                self.reader = Some(reader);
                Some(update)
            }
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "reading manifests failed");
                None
            }
        }
    }

    /// Waits until something may have changed.
    async fn changed(&mut self) -> Option<Dirty> {
        let must_poll = self.reader.as_ref()?.must_poll();
        let pause = if must_poll { self.options.poll } else { self.options.poll * POLLS_WHEN_TOLD };
        let look = self.looked + pause;
        let mut dirty = None;
        while dirty.is_none() {
            tokio::select! {
                told = self.told() => dirty = told,
                () = sleep_until(look) => dirty = Some(Dirty::Everything),
            }
        }
        self.debounce(&mut dirty).await;
        dirty
    }

    /// Gathers what follows closely.
    async fn debounce(&mut self, dirty: &mut Option<Dirty>) {
        let latest = Instant::now() + self.options.debounce * MAX_DEBOUNCES;
        while self.events.is_some() && Instant::now() < latest {
            match timeout(self.options.debounce, self.told()).await {
                Ok(more) => watch::merge(dirty, more),
                Err(_) => break,
            }
        }
    }

    /// What the kernel tells next; for ever silent where it does not.
    async fn told(&mut self) -> Option<Dirty> {
        let (Some(events), Some(reader)) = (&self.events, &self.reader) else { return std::future::pending().await };
        match events.next().await {
            Ok(events) => reader.watches.as_ref()?.judge(events),
            Err(error) => {
                let path = self.path.display();
                tracing::warn!(%path, %error, "inotify failed: looking at the manifests now and then");
                self.events = None;
                if let Some(reader) = &mut self.reader {
                    reader.watches = None;
                }
                // Not in a hurry: whatever broke may be broken for long.
                sleep(self.options.poll).await;
                Some(Dirty::Everything)
            }
        }
    }
}

impl Source for Manifests {
    async fn next(&mut self) -> Option<Update> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let was_synced = self.reader.as_ref()?.synced;
        loop {
            let dirty = self.changed().await?;
            let update = self.refresh(dirty).await?;
            if update.synced != was_synced || !update.is_empty() {
                return Some(update);
            }
        }
    }
}

#[cfg(test)]
mod tests;

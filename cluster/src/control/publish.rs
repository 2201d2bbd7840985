//! Objects written back as Kubernetes would write them, into a directory that agents watch.

use super::Derived;
use crate::{
    error::Error,
    model::{Kind, Object, ObjectKey, meta},
    replace::{Durability, replace_file},
    source::ObjectChange,
};
use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

/// A directory of published objects: one file an object in a folder a kind, each replaced by renaming, so that a reader
/// never sees half of one and a change costs as much as what changed.
///
/// ```text
/// nodes/node-1.json   namespaces/shop.json   pods/shop_web-0.json   networkpolicies/shop_web.json
/// services/shop_web.json   endpointslices/shop_web-2b7kd.json
/// ```
#[derive(Debug)]
pub struct Publisher {
    directory: PathBuf,
}

/// File names may have 255 bytes; longer names of objects are cut and told apart by a hash.
const MAX_NAME: usize = 200;

impl Publisher {
    /// Publishes into `directory`, which is made if need be. What is there already stays until [`Publisher::replace`].
    pub fn new(directory: impl Into<PathBuf>) -> Result<Self, Error> {
        let publisher = Self { directory: directory.into() };
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_derived()) {
            let folder = publisher.folder(kind);
            fs::create_dir_all(&folder).map_err(|source| Error::Write { path: folder, source })?;
        }
        Ok(publisher)
    }

    /// Where it publishes.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes all of `derived` and removes whatever else was published. What has not changed is left alone.
    pub fn replace(&self, derived: &Derived) -> Result<(), Error> {
        let mut written = BTreeSet::new();
        for object in derived.objects() {
            self.put(&object)?;
            written.insert(self.path(&object.key()));
        }
        let mut kinds = Kind::ALL.into_iter().filter(|kind| kind.is_derived());
        kinds.try_for_each(|kind| self.remove_others(&self.folder(kind), &written))
    }

    /// Publishes one change.
    pub fn apply(&self, change: &ObjectChange) -> Result<(), Error> {
        match change {
            ObjectChange::Put(object) => self.put(object),
            ObjectChange::Delete(key) => self.delete(key),
        }
    }

    /// Writes one object, unless it is there as it is. Workloads are not published: pods are made of them.
    pub fn put(&self, object: &Object) -> Result<(), Error> {
        let Some(json) = object.to_json() else { return Ok(()) };
        let path = self.path(&object.key());
        let contents = format!("{json:#}\n");
        if fs::read(&path).is_ok_and(|there| there == contents.as_bytes()) {
            return Ok(());
        }
        replace_file(&path, contents.as_bytes(), 0o644, Durability::Volatile)
    }

    /// Removes one object; nothing happens when it is not there.
    pub fn delete(&self, key: &ObjectKey) -> Result<(), Error> {
        remove(&self.path(key))
    }

    fn remove_others(&self, folder: &Path, written: &BTreeSet<PathBuf>) -> Result<(), Error> {
        let fault = |source| Error::Read { path: folder.to_owned(), source };
        for entry in fs::read_dir(folder).map_err(fault)? {
            let path = entry.map_err(fault)?.path();
            if !written.contains(&path) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    fn folder(&self, kind: Kind) -> PathBuf {
        let name = kind.as_str().to_lowercase();
        self.directory.join(match name.strip_suffix('y') {
            Some(stem) => format!("{stem}ies"),
            None => name + "s",
        })
    }

    /// Names have no '_', so that it parts namespace and name beyond doubt.
    fn path(&self, key: &ObjectKey) -> PathBuf {
        let mut name =
            if key.namespace.is_empty() { key.name.to_string() } else { format!("{}_{}", key.namespace, key.name) };
        if name.len() > MAX_NAME {
            let hash = meta::fnv1a(name.as_bytes());
            name = format!("{}_{hash:016x}", &name[..name.floor_char_boundary(MAX_NAME)]);
        }
        self.folder(key.kind).join(OsString::from(name + ".json"))
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Write { path: path.to_owned(), source }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;

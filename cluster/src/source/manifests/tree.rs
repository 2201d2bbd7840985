//! What all files together say. A file is parsed when it changed; what follows for the whole is worked out from that.

use super::decode::{ApiKind, Found, Parsed, Rejected, Unused};
use crate::{
    model::{Object, ObjectKey},
    source::{ObjectChange, Problem, UnusedKind},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

/// The objects of all files. Where two files have the same object, the first file's counts.
#[derive(Debug, Default)]
pub(super) struct Tree {
    files: BTreeMap<Arc<Path>, File>,
    /// The files that have an object, in their order: the first one's counts.
    owners: BTreeMap<ObjectKey, BTreeSet<Arc<Path>>>,
    /// The objects that more than one file has.
    contested: BTreeSet<ObjectKey>,
    /// The files that have problems or unused kinds, so that listing them needs no walk over all.
    remarkable: BTreeSet<Arc<Path>>,
}

#[derive(Debug, Default)]
struct File {
    objects: BTreeMap<ObjectKey, Found>,
    problems: Vec<Problem>,
    unused: BTreeMap<ApiKind, Unused>,
}

impl Tree {
    /// Takes the new contents of a file and says what changed for the whole.
    ///
    /// An object whose document turned bad stays as it last was, beside the problem: a slip in an editor must not take
    /// a running pod's network away. Where it cannot be told which object a broken document was, all of the file's
    /// objects that are not there any more stay, until the document is put right or removed.
    pub fn put(&mut self, path: &Path, parsed: Parsed) -> Vec<ObjectChange> {
        let file = self.merge(path, parsed);
        self.replace(path, Some(file))
    }

    /// Notes that a file cannot be read. Its objects stay as they last were.
    pub fn fail(&mut self, path: &Path, message: &str) -> Vec<ObjectChange> {
        let file = self.files.remove(path).unwrap_or_default();
        let problem = Problem::of_file(path, message);
        let file = File { problems: vec![problem], ..file };
        self.files.insert(path.into(), file);
        self.remarkable.insert(path.into());
        Vec::new()
    }

    /// Forgets a file.
    pub fn remove(&mut self, path: &Path) -> Vec<ObjectChange> {
        self.replace(path, None)
    }

    /// The files it has.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(|path| &**path)
    }

    /// All that is wrong, in the order of files and lines.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<_> = self
            .remarkable
            .iter()
            .filter_map(|path| self.files.get(path))
            .flat_map(|file| file.problems.clone())
            .collect();
        for key in &self.contested {
            let owners = self.owners.get(key).into_iter().flatten();
            let places: Vec<_> =
                owners.filter_map(|path| Some((path, self.files.get(path)?.objects.get(key)?.line))).collect();
            if let Some(((first, first_line), others)) = places.split_first() {
                problems.extend(others.iter().map(|(path, line)| {
                    let message = format!("already defined at {}:{first_line}; that one counts", first.display());
                    Problem { message, ..Problem::of_object(path, *line, key) }
                }));
            }
        }
        problems.sort();
        problems
    }

    /// The kinds that are there but not used, each once.
    pub fn unused(&self) -> Vec<UnusedKind> {
        let mut kinds: BTreeMap<&ApiKind, UnusedKind> = BTreeMap::new();
        for path in &self.remarkable {
            for (api_kind, unused) in self.files.get(path).into_iter().flat_map(|file| &file.unused) {
                let first = || UnusedKind {
                    api_version: api_kind.api_version.clone(),
                    kind: api_kind.kind.clone(),
                    count: 0,
                    file: path.to_path_buf(),
                    line: unused.line,
                };
                kinds.entry(api_kind).or_insert_with(first).count += unused.count;
            }
        }
        kinds.into_values().collect()
    }

    /// The objects that count, in the order of files and lines.
    pub fn objects(&self) -> Vec<Object> {
        let mut objects = Vec::with_capacity(self.owners.len());
        for (path, file) in &self.files {
            let mut own: Vec<_> = file.objects.iter().filter(|(key, _)| self.owner(key) == Some(path)).collect();
            own.sort_by_key(|(_, found)| found.line);
            objects.extend(own.into_iter().map(|(_, found)| found.object.clone()));
        }
        objects
    }

    /// What a file is now, given what was read of it and what it was.
    fn merge(&self, path: &Path, parsed: Parsed) -> File {
        let mut file = File { unused: parsed.unused, ..File::default() };
        for found in parsed.found {
            let key = found.object.key();
            if let Some(first) = file.objects.get(&key) {
                let message = format!("already defined in line {}; that one counts", first.line);
                file.problems.push(Problem { message, ..Problem::of_object(path, found.line, &key) });
            } else {
                file.objects.insert(key, found);
            }
        }
        let stale = self.files.get(path).into_iter().flat_map(|old| &old.objects).filter(|(key, _)| {
            let may_be = |rejected: &Rejected| rejected.key.as_ref().is_none_or(|rejected| rejected == *key);
            !file.objects.contains_key(key) && parsed.rejected.iter().any(may_be)
        });
        let stale: Vec<_> = stale.map(|(key, found)| (key.clone(), found.clone())).collect();
        file.objects.extend(stale);
        file.problems.extend(parsed.rejected.into_iter().map(|rejected| Problem {
            file: path.to_owned(),
            line: rejected.line,
            field: rejected.field,
            object: rejected.object,
            message: rejected.message,
        }));
        file
    }

    /// Puts `file` in the place of what was there, and says what changed.
    fn replace(&mut self, path: &Path, file: Option<File>) -> Vec<ObjectChange> {
        let path: Arc<Path> = path.into();
        let old = self.files.get(&path);
        let (old_objects, new_objects) = (old.map(|old| &old.objects), file.as_ref().map(|file| &file.objects));
        let keys = old_objects.into_iter().chain(new_objects).flat_map(BTreeMap::keys);
        let before: BTreeMap<ObjectKey, Option<Object>> =
            keys.map(|key| (key.clone(), self.object(key).cloned())).collect();
        for key in before.keys() {
            let owners = self.owners.entry(key.clone()).or_default();
            if new_objects.is_some_and(|objects| objects.contains_key(key)) {
                owners.insert(path.clone());
            } else {
                owners.remove(&path);
            }
            match owners.len() {
                0 => drop(self.owners.remove(key)),
                1 => drop(self.contested.remove(key)),
                _ => drop(self.contested.insert(key.clone())),
            }
        }
        match file {
            Some(file) if file.problems.is_empty() && file.unused.is_empty() => {
                self.remarkable.remove(&path);
                self.files.insert(path, file);
            }
            Some(file) => {
                self.remarkable.insert(path.clone());
                self.files.insert(path, file);
            }
            None => {
                self.remarkable.remove(&path);
                self.files.remove(&path);
            }
        }
        before.into_iter().filter_map(|(key, before)| change(key.clone(), before.as_ref(), self.object(&key))).collect()
    }

    fn owner(&self, key: &ObjectKey) -> Option<&Arc<Path>> {
        self.owners.get(key)?.first()
    }

    fn object(&self, key: &ObjectKey) -> Option<&Object> {
        Some(&self.files.get(self.owner(key)?)?.objects.get(key)?.object)
    }
}

fn change(key: ObjectKey, before: Option<&Object>, after: Option<&Object>) -> Option<ObjectChange> {
    match (before, after) {
        (Some(_), None) => Some(ObjectChange::Delete(key)),
        (before, Some(after)) if before != Some(after) => Some(ObjectChange::Put(after.clone())),
        _ => None,
    }
}

// === impl Problem ===

impl Problem {
    /// A problem of a file as a whole.
    pub(super) fn of_file(file: &Path, message: &str) -> Self {
        Self {
            file: PathBuf::from(file),
            line: 0,
            field: String::new(),
            object: String::new(),
            message: message.to_owned(),
        }
    }

    fn of_object(file: &Path, line: usize, key: &ObjectKey) -> Self {
        Self { line, object: key.to_string(), ..Self::of_file(file, "") }
    }
}

#[cfg(test)]
mod tests;

//! Reading what changed below a path. All of it blocks: it runs where that is allowed.

use super::{
    document::Format,
    files::{self, Listing, Place, Stamp},
    tree::Tree,
    watch::{Dirty, Watches},
};
use crate::{
    model::{Kind, Object},
    source::{ObjectChange, Problem, UnusedKind, Update},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

/// While files vanish between being listed and being read, somebody is replacing them: a moment later there is a whole
/// again.
const REPLACING: Duration = Duration::from_millis(20);
const MAX_RETRIES: u32 = 25;

/// What was read, and what is needed to read only what changed.
#[derive(Debug)]
pub(super) struct Reader {
    root: PathBuf,
    kinds: BTreeSet<Kind>,
    tree: Tree,
    stamps: BTreeMap<PathBuf, Stamp>,
    /// What is wrong with the root or places below it, rather than with what stands in files.
    faults: Vec<Problem>,
    /// It was read to its end once.
    pub synced: bool,
    last_problems: Arc<[Problem]>,
    last_unused: Arc<[UnusedKind]>,
    /// What tells about changes; without it somebody has to go and look.
    pub watches: Option<Watches>,
}

impl Reader {
    pub fn new(root: PathBuf, kinds: BTreeSet<Kind>, watches: Option<Watches>) -> Self {
        Self {
            root,
            kinds,
            tree: Tree::default(),
            stamps: BTreeMap::new(),
            faults: Vec::new(),
            synced: false,
            last_problems: Arc::default(),
            last_unused: Arc::default(),
            watches,
        }
    }

    /// Reads what may have changed, and says what did.
    pub fn refresh(&mut self, dirty: &Dirty) -> Update {
        let mut changes = Vec::new();
        let complete = match dirty {
            Dirty::Files(files) => files.iter().try_for_each(|file| self.read_or_forget(file, &mut changes)),
            Dirty::Everything => Err(Vanished),
        };
        for _ in 0..MAX_RETRIES {
            if complete.is_ok() || self.look_around(&mut changes).is_ok() {
                break;
            }
            thread::sleep(REPLACING);
        }
        self.update(changes)
    }

    /// All good objects.
    pub fn objects(&self) -> Vec<Object> {
        self.tree.objects()
    }

    /// All that is wrong.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = self.tree.problems();
        problems.extend(self.faults.iter().cloned());
        problems.sort();
        problems
    }

    /// The kinds that are not used.
    pub fn unused(&self) -> Vec<UnusedKind> {
        self.tree.unused()
    }

    /// Whether changes may go untold.
    pub fn must_poll(&self) -> bool {
        self.watches.as_ref().is_none_or(|watches| watches.incomplete) || !self.faults.is_empty()
    }

    /// Lists everything and reads the files whose stamps changed.
    fn look_around(&mut self, changes: &mut Vec<ObjectChange>) -> Result<(), Vanished> {
        let root = self.root.clone();
        let look = |watch: &mut dyn FnMut(Place)| files::list(&root, watch);
        let listing = match &mut self.watches {
            Some(watches) => watches.renew(look),
            None => look(&mut |_| {}),
        };
        let listing = match listing {
            Ok(listing) => listing,
            Err(error) => {
                // What was there stays: with its source away a cluster goes on as it was.
                self.faults = vec![Problem::of_file(&root, &format!("cannot be read, the last state stays: {error}"))];
                return Ok(());
            }
        };
        self.faults = listing.faults.iter().map(|(path, fault)| Problem::of_file(path, fault)).collect();
        for (path, stamp) in &listing.files {
            if self.stamps.get(path) != Some(stamp) {
                self.read(path, changes)?;
            }
        }
        self.forget_absent(&listing, changes);
        self.synced = true;
        Ok(())
    }

    /// Forgets the files that are no longer there. Those in places that cannot be looked at may be.
    fn forget_absent(&mut self, listing: &Listing, changes: &mut Vec<ObjectChange>) {
        let is_hidden_by_fault = |path: &Path| listing.faults.iter().any(|(fault, _)| path.starts_with(fault));
        let absent = self.tree.paths().filter(|path| !listing.files.contains_key(*path) && !is_hidden_by_fault(path));
        for path in absent.map(Path::to_owned).collect::<Vec<_>>() {
            self.forget(&path, changes);
        }
    }

    /// Reads a file that was named, or forgets it when it alone is gone. When its directory is gone too, more has
    /// happened.
    fn read_or_forget(&mut self, path: &Path, changes: &mut Vec<ObjectChange>) -> Result<(), Vanished> {
        match self.read(path, changes) {
            Err(Vanished) if path.parent().is_some_and(Path::is_dir) => {
                self.forget(path, changes);
                Ok(())
            }
            result => result,
        }
    }

    fn forget(&mut self, path: &Path, changes: &mut Vec<ObjectChange>) {
        self.stamps.remove(path);
        changes.extend(self.tree.remove(path));
    }

    fn read(&mut self, path: &Path, changes: &mut Vec<ObjectChange>) -> Result<(), Vanished> {
        match files::read(path) {
            Ok((bytes, stamp)) => {
                if stamp.is_fresh() {
                    self.stamps.remove(path);
                } else {
                    self.stamps.insert(path.to_owned(), stamp);
                }
                let is_json = path.extension().is_some_and(|end| end == "json");
                let format = if is_json { Format::Json } else { Format::Yaml };
                let seed = path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy();
                changes.extend(self.tree.put(path, &bytes, format, &self.kinds, &seed));
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Vanished),
            Err(error) => {
                self.stamps.remove(path);
                changes.extend(self.tree.fail(path, &format!("cannot be read, its last state stays: {error}")));
                Ok(())
            }
        }
    }

    fn update(&mut self, changes: Vec<ObjectChange>) -> Update {
        let (problems, unused): (Arc<[_]>, Arc<[_]>) = (self.problems().into(), self.unused().into());
        let update = Update {
            changes,
            synced: self.synced,
            problems: (problems != self.last_problems).then(|| problems.clone()),
            unused: (unused != self.last_unused).then(|| unused.clone()),
        };
        (self.last_problems, self.last_unused) = (problems, unused);
        update
    }
}

/// A file that was named is not there.
struct Vanished;

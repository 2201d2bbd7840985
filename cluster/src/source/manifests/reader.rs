//! Reading what changed below a path. All of it blocks: it runs where that is allowed.

use super::{
    decode::{self, Parsed},
    document::Format,
    files::{self, Listing, Stamp},
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
    /// What the root led to when everything was last looked at.
    identity: Option<(u64, u64)>,
    /// It was read to its end once.
    pub synced: bool,
    last_problems: Arc<[Problem]>,
    last_unused: Arc<[UnusedKind]>,
    /// What tells about changes; without it somebody has to go and look.
    pub watches: Option<Watches>,
}

/// Everything, as it was listed and read, not applied yet.
struct Look {
    listing: Listing,
    readings: Vec<Reading>,
    /// It was the same before and after.
    is_settled: bool,
}

/// A file as it was read, or why it could not be.
struct Reading {
    path: PathBuf,
    result: Result<(Parsed, Stamp), String>,
}

impl Reader {
    pub fn new(root: PathBuf, kinds: BTreeSet<Kind>, watches: Option<Watches>) -> Self {
        Self {
            root,
            kinds,
            tree: Tree::default(),
            stamps: BTreeMap::new(),
            faults: Vec::new(),
            identity: None,
            synced: false,
            last_problems: Arc::default(),
            last_unused: Arc::default(),
            watches,
        }
    }

    /// Reads what may have changed, and says what did.
    pub fn refresh(&mut self, dirty: &Dirty) -> Update {
        let named = match dirty {
            Dirty::Files(files) => self.read_named(files),
            Dirty::Everything => None,
        };
        let changes = named.unwrap_or_else(|| self.look_around());
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

    /// Reads these files only. `None` when more has happened: the root is another one, or a file is gone with its directory.
    fn read_named(&mut self, files: &BTreeSet<PathBuf>) -> Option<Vec<ObjectChange>> {
        let (mut readings, mut gone) = (Vec::new(), Vec::new());
        for path in files {
            match self.read(path) {
                Some(reading) => readings.push(reading),
                None if path.parent().is_some_and(Path::is_dir) => gone.push(path),
                None => return None,
            }
        }
        if self.identity.is_none() || files::identity_of(&self.root) != self.identity {
            return None;
        }
        let mut changes = Vec::new();
        readings.into_iter().for_each(|reading| self.apply(reading, &mut changes));
        gone.into_iter().for_each(|path| self.forget(path, &mut changes));
        Some(changes)
    }

    /// Lists everything and reads the files whose stamps changed. Nothing is applied before all of it was read and still is as
    /// it was listed: half of one state and half of another is no state of the cluster.
    fn look_around(&mut self) -> Vec<ObjectChange> {
        let mut patience = MAX_RETRIES;
        loop {
            let identity = files::identity_of(&self.root);
            let look = self.list().and_then(|listing| self.read_changed(listing));
            let is_settled = match &look {
                Ok(look) => look.is_settled && files::identity_of(&self.root) == identity,
                // At first nobody replaces what was never there.
                Err(error) => !(self.synced && error.kind() == io::ErrorKind::NotFound),
            };
            if is_settled || patience == 0 {
                self.identity = identity;
                return match look {
                    Ok(look) => self.apply_look(look),
                    Err(error) => self.lose_root(&error),
                };
            }
            patience -= 1;
            thread::sleep(REPLACING);
        }
    }

    fn list(&mut self) -> io::Result<Listing> {
        let root = &self.root;
        match &mut self.watches {
            Some(watches) => watches.renew(|watch| files::list(root, watch)),
            None => files::list(root, &mut |_| {}),
        }
    }

    fn read_changed(&self, listing: Listing) -> io::Result<Look> {
        let changed = listing.files.iter().filter(|(path, stamp)| self.stamps.get(*path) != Some(stamp));
        let readings: Vec<_> = changed.map(|(path, _)| self.read(path)).collect();
        let again = files::list(&self.root, &mut |_| {})?;
        let is_settled = again.files == listing.files && readings.iter().all(Option::is_some);
        Ok(Look { listing, readings: readings.into_iter().flatten().collect(), is_settled })
    }

    fn apply_look(&mut self, look: Look) -> Vec<ObjectChange> {
        let mut changes = Vec::new();
        self.faults = look.listing.faults.iter().map(|(path, fault)| Problem::of_file(path, fault)).collect();
        look.readings.into_iter().for_each(|reading| self.apply(reading, &mut changes));
        self.forget_absent(&look.listing, &mut changes);
        self.synced = true;
        changes
    }

    /// What was there stays: with its source away a cluster goes on as it was.
    fn lose_root(&mut self, error: &io::Error) -> Vec<ObjectChange> {
        self.faults = vec![Problem::of_file(&self.root, &format!("cannot be read, the last state stays: {error}"))];
        Vec::new()
    }

    /// Forgets the files that are no longer there. Those in places that cannot be looked at may be.
    fn forget_absent(&mut self, listing: &Listing, changes: &mut Vec<ObjectChange>) {
        let is_hidden_by_fault = |path: &Path| listing.faults.iter().any(|(fault, _)| path.starts_with(fault));
        let absent = self.tree.paths().filter(|path| !listing.files.contains_key(*path) && !is_hidden_by_fault(path));
        for path in absent.map(Path::to_owned).collect::<Vec<_>>() {
            self.forget(&path, changes);
        }
    }

    fn forget(&mut self, path: &Path, changes: &mut Vec<ObjectChange>) {
        self.stamps.remove(path);
        changes.extend(self.tree.remove(path));
    }

    /// Reads a file; `None` when it is not there.
    fn read(&self, path: &Path) -> Option<Reading> {
        let result = match files::read(path) {
            Ok((bytes, stamp)) => {
                let is_json = path.extension().is_some_and(|end| end == "json");
                let format = if is_json { Format::Json } else { Format::Yaml };
                let seed = path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy();
                let parsed = decode::parse(&bytes, format, &self.kinds, &seed);
                parsed.map(|parsed| (parsed, stamp)).map_err(|error| error.to_string())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => Err(error.to_string()),
        };
        Some(Reading { path: path.to_owned(), result })
    }

    fn apply(&mut self, Reading { path, result }: Reading, changes: &mut Vec<ObjectChange>) {
        match result {
            Ok((parsed, stamp)) => {
                if stamp.is_fresh() {
                    self.stamps.remove(&path);
                } else {
                    self.stamps.insert(path.clone(), stamp);
                }
                changes.extend(self.tree.put(&path, parsed));
            }
            Err(error) => {
                self.stamps.remove(&path);
                changes.extend(self.tree.fail(&path, &format!("cannot be read, its last state stays: {error}")));
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

//! The files below a path: which there are, and whether one changed since it was read.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// A larger file is refused.
pub(super) const MAX_FILE_BYTES: u64 = 64 << 20;

/// Deeper directories are refused.
const MAX_DEPTH: usize = 16;

/// Everything below a path.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// The files of manifests, in the order in which they are read.
    pub files: BTreeMap<PathBuf, Stamp>,
    /// What could not be looked at, and why.
    pub faults: Vec<(PathBuf, String)>,
}

/// Where changes are to be looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A directory of manifests: whatever comes, goes or changes in it.
    Directory(PathBuf),
    /// One name, wherever it is: a file, directory or symbolic link that may be replaced by another.
    Name(PathBuf),
}

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Lists `root` (a file or a directory), telling `watch` every place before it is read, so that no change falls
/// between.
pub(super) fn list(root: &Path, watch: &mut dyn FnMut(Place)) -> io::Result<Listing> {
    // The root may be replaced, and so may symbolic links on the way to it.
    for path in root.ancestors().filter(|path| *path == root || is_link(path)) {
        watch_name(path, watch);
    }
    let mut listing = Listing::default();
    let metadata = fs::metadata(root)?;
    if metadata.is_dir() {
        // The root must be readable; what is wrong further down concerns that place only.
        directory(root, &mut vec![identity(&metadata)], watch, &mut listing)?;
    } else {
        listing.files.insert(root.to_owned(), Stamp::of(&metadata));
    }
    Ok(listing)
}

/// Whether a file of this name in a directory is one of manifests.
pub(super) fn is_manifest(path: &Path) -> bool {
    !is_hidden(path) && path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|ours| end == *ours))
}

/// Whether a path's last part begins with a dot: editors' and our own temporary files do, and the innards of mounted
/// ConfigMaps.
pub(super) fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// Reads a file, with the stamp it had before.
pub(super) fn read(path: &Path) -> io::Result<(Vec<u8>, Stamp)> {
    let metadata = fs::metadata(path)?;
    let too_large = |bytes: u64| {
        let message = format!("{bytes} bytes, at most {MAX_FILE_BYTES} are taken: split it");
        io::Error::new(io::ErrorKind::FileTooLarge, message)
    };
    if metadata.len() > MAX_FILE_BYTES {
        return Err(too_large(metadata.len()));
    }
    let mut bytes = Vec::new();
    // A pipe says 0 bytes and a file may grow while it is read: the limit holds for what comes.
    io::Read::read_to_end(&mut io::Read::take(fs::File::open(path)?, MAX_FILE_BYTES + 1), &mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(too_large(bytes.len() as u64));
    }
    Ok((bytes, Stamp::of(&metadata)))
}

fn directory(
    path: &Path,
    above: &mut Vec<(u64, u64)>,
    watch: &mut dyn FnMut(Place),
    listing: &mut Listing,
) -> io::Result<()> {
    watch(Place::Directory(path.to_owned()));
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        if is_hidden(&path) {
            continue;
        }
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => subdirectory(&path, &metadata, above, watch, listing),
            Ok(metadata) if is_manifest(&path) && metadata.is_file() => {
                if is_link(&path) {
                    watch_name(&path, watch);
                }
                listing.files.insert(path, Stamp::of(&metadata));
            }
            Ok(_) => {}
            // Gone since it was listed, or a link to nowhere: the first needs no word, the second gets one if it is
            // ours.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if is_manifest(&path) && fs::symlink_metadata(&path).is_ok() {
                    listing.faults.push((path, "a symbolic link to nowhere".to_owned()));
                }
            }
            Err(error) => listing.faults.push((path, error.to_string())),
        }
    }
    Ok(())
}

fn subdirectory(
    path: &Path,
    metadata: &fs::Metadata,
    above: &mut Vec<(u64, u64)>,
    watch: &mut dyn FnMut(Place),
    listing: &mut Listing,
) {
    let fault = if above.contains(&identity(metadata)) {
        Some("a directory inside itself (a symbolic link?)".to_owned())
    } else if above.len() >= MAX_DEPTH {
        Some(format!("directories nested deeper than {MAX_DEPTH}"))
    } else {
        above.push(identity(metadata));
        let result = directory(path, above, watch, listing);
        above.pop();
        result.err().filter(|error| error.kind() != io::ErrorKind::NotFound).map(|error| error.to_string())
    };
    listing.faults.extend(fault.map(|fault| (path.to_owned(), fault)));
}

/// Watches a name, and what it leads to if it is a symbolic link.
fn watch_name(path: &Path, watch: &mut dyn FnMut(Place)) {
    watch(Place::Name(path.to_owned()));
    if is_link(path)
        && let Ok(target) = fs::canonicalize(path)
    {
        watch(Place::Name(target));
    }
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink())
}

/// What a path leads to at the moment.
pub(super) fn identity_of(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().as_ref().map(identity)
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

// === impl Stamp ===

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether the file was changed so recently that it could change again without its stamp showing it: file systems
    /// stamp with the clock's tick, 1 to 10 ms.
    pub fn is_fresh(&self) -> bool {
        let Ok(now) = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) else { return true };
        let changed = Duration::new(self.changed.0.max(0) as u64, self.changed.1.max(0) as u32);
        now.saturating_sub(changed) < Duration::from_millis(50)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// The files, the faults and the directories of manifests, all relative.
    fn names(root: &Path) -> (Vec<String>, Vec<String>, Vec<String>) {
        let relative = |path: &Path| path.strip_prefix(root).expect("below the root").display().to_string();
        let mut directories = Vec::new();
        let listing = list(root, &mut |place| {
            if let Place::Directory(path) = place {
                directories.push(relative(&path));
            }
        });
        let listing = listing.expect("listed");
        directories.sort();
        let mut faults: Vec<_> =
            listing.faults.iter().map(|(path, fault)| format!("{}: {fault}", relative(path))).collect();
        faults.sort();
        (listing.files.keys().map(|path| relative(path)).collect(), faults, directories)
    }

    #[test]
    fn manifests_are_found_in_order() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path();
        for directory in ["b/c", ".hidden", "empty"] {
            fs::create_dir_all(root.join(directory)).expect("made");
        }
        for file in ["z.yaml", "a.yml", "b/c/x.json", "b.json", "note.txt", ".swp.yaml", "a.yaml~", ".hidden/a.yaml"] {
            fs::write(root.join(file), "").expect("written");
        }
        symlink("z.yaml", root.join("link.yaml")).expect("linked");
        symlink("nowhere", root.join("dead.yaml")).expect("linked");
        symlink("..", root.join("b/loop")).expect("linked");
        let (files, faults, directories) = names(root);
        assert_eq!(files, ["a.yml", "b/c/x.json", "b.json", "link.yaml", "z.yaml"]);
        assert_eq!(
            faults,
            ["b/loop: a directory inside itself (a symbolic link?)", "dead.yaml: a symbolic link to nowhere"]
        );
        assert_eq!(directories, ["", "b", "b/c", "empty"]);
        assert_eq!(names(&root.join("z.yaml")).0, [""], "a file is its own only manifest, whatever it is called");
    }

    #[test]
    fn large_files_and_missing_roots_are_refused() {
        let root = tempfile::tempdir().expect("a directory");
        let large = root.path().join("large.yaml");
        fs::File::create(&large).and_then(|file| file.set_len(MAX_FILE_BYTES + 1)).expect("made");
        assert_eq!(read(&large).expect_err("too large").kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read(Path::new("/dev/zero")).expect_err("endless").kind(), io::ErrorKind::FileTooLarge);
        assert!(list(&root.path().join("absent"), &mut |_| {}).is_err());
    }

    #[test]
    fn a_stamp_shows_a_change() {
        let root = tempfile::tempdir().expect("a directory");
        let (file, other) = (root.path().join("a.yaml"), root.path().join("b"));
        fs::write(&file, "one").expect("written");
        let (bytes, before) = read(&file).expect("read");
        assert_eq!((bytes.as_slice(), before.is_fresh()), (&b"one"[..], true));
        fs::write(&other, "two").expect("written");
        fs::rename(&other, &file).expect("renamed");
        assert_ne!(read(&file).expect("read").1, before);
    }
}

//! The pin directory: what outlives the agent, and whether it is what this agent expects.
//!
//! ```text
//! /sys/fs/bpf/culvert/maps/PEERS_V4_v1       name and version of the layout
//! /sys/fs/bpf/culvert/links/pod_out-17       hook and interface index
//! ```

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use aya::maps::MapInfo;
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use sdn_common::Hook;
use sdn_common::maps::{MAPS, MapSpec};

use super::raw::{self, RawMap};

/// Where maps and links are pinned. Cheap to clone: whoever needs a map opens it by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinDirectory {
    root: PathBuf,
}

/// What the pin directory holds, compared with the contract.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pinned {
    /// Maps of the contract in the version of this agent; each was compared.
    pub current: Vec<&'static str>,
    /// Maps of the contract in other versions, by name: `(version, path)`, the newest first.
    pub other: BTreeMap<&'static str, Vec<(u32, PathBuf)>>,
    /// What is no map of the contract, or none that is pinned.
    pub foreign: Vec<PathBuf>,
}

/// The links that the pin directory holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PinnedLinks {
    /// By hook and interface index.
    pub links: Vec<(Hook, u32)>,
    /// What is no link of a hook that this agent knows.
    pub foreign: Vec<PathBuf>,
}

/// A property of a map that the kernel was told when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Its type, a number of `enum bpf_map_type`.
    Type,
    /// Bytes of a key.
    KeySize,
    /// Bytes of a value.
    ValueSize,
    /// Capacity.
    MaxEntries,
    /// `map_flags`
    Flags,
}

/// The pin directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// There is no bpffs at the place, and none could be mounted.
    #[error("mount a bpffs on {}: {source}; mount one there (mount -t bpf), or run with CAP_SYS_ADMIN", path.display())]
    Mount {
        /// The parent of the pin directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something in the directory could not be read, made or removed.
    #[error("{operation} {}: {source}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A pinned map is not what its name and version promise. Using it would corrupt kernel memory.
    #[error(
        "pinned map {}: its {field} is {found}, this agent's {map} version {version} has {expected}; nothing was loaded. \
         Another build made it under the same version: run that build, or remove the pin (flows then start afresh)",
        path.display()
    )]
    Mismatch {
        /// Name in the contract.
        map: &'static str,
        /// Version that the pin claims.
        version: u32,
        /// The pin.
        path: PathBuf,
        /// What differs.
        field: Field,
        /// As the contract, or a conversion, has it.
        expected: u32,
        /// As the kernel says.
        found: u32,
    },
}

/// What a map has to be like to be opened as what its pin says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Its type, a number of `enum bpf_map_type`.
    pub kind: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Capacity; `None` where any will do.
    pub capacity: Option<u32>,
    /// `map_flags`
    pub flags: u32,
}

// === impl PinDirectory ===

impl PinDirectory {
    /// Makes the directory, and the bpffs it has to be in: mounts one on its parent where there is none. Needs CAP_SYS_ADMIN
    /// for that, and only for that.
    pub fn prepare(root: &Path) -> Result<Self, PinError> {
        let parent = root.parent().unwrap_or(root);
        make_directory(parent)?;
        if !(is_bpffs(parent)? || root.exists() && is_bpffs(root)?) {
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RELATIME;
            mount(Some("bpf"), parent, Some("bpf"), flags, Some("mode=0700"))
                .map_err(|errno| PinError::Mount { path: parent.to_owned(), source: errno.into() })?;
        }
        let pins = Self { root: root.to_owned() };
        for directory in [pins.root.clone(), pins.maps(), pins.links()] {
            make_directory(&directory)?;
        }
        Ok(pins)
    }

    /// The directory of maps.
    pub fn maps(&self) -> PathBuf {
        self.root.join("maps")
    }

    /// The directory of links.
    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// The pin of a map of the contract.
    pub fn map(&self, spec: &MapSpec) -> PathBuf {
        self.map_version(spec.name, spec.version)
    }

    /// The pin of a map in any version.
    pub fn map_version(&self, name: &str, version: u32) -> PathBuf {
        self.maps().join(format!("{name}_v{version}"))
    }

    /// The pin of a link.
    pub fn link(&self, hook: Hook, ifindex: u32) -> PathBuf {
        self.links().join(format!("{}-{ifindex}", hook.program()))
    }

    /// Opens a map of the contract in this agent's version.
    pub fn open_map(&self, name: &str) -> io::Result<RawMap> {
        let spec = MapSpec::find(name).filter(|spec| spec.pinned).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "the contract has no pinned map of this name")
        })?;
        RawMap::from_pin(&self.map(spec))
    }

    /// What is pinned, each map in this agent's version compared with the contract. Changes nothing.
    pub fn inspect(&self) -> Result<Pinned, PinError> {
        let mut pinned = Pinned::default();
        for path in list(&self.maps())? {
            match path.file_name().and_then(parse_map) {
                Some((spec, version)) if version == spec.version => {
                    Layout::of(spec).compare(spec.name, version, &path)?;
                    pinned.current.push(spec.name);
                }
                Some((spec, version)) => pinned.other.entry(spec.name).or_default().push((version, path)),
                None => pinned.foreign.push(path),
            }
        }
        pinned.current.sort_unstable();
        for versions in pinned.other.values_mut() {
            versions.sort_unstable_by_key(|(version, _)| std::cmp::Reverse(*version));
        }
        Ok(pinned)
    }

    /// The pinned links by hook and interface, and what else lies in their directory.
    pub fn inspect_links(&self) -> Result<PinnedLinks, PinError> {
        let mut pinned = PinnedLinks::default();
        for path in list(&self.links())? {
            match path.file_name().and_then(parse_link) {
                Some(link) => pinned.links.push(link),
                None => pinned.foreign.push(path),
            }
        }
        pinned.links.sort_unstable();
        Ok(pinned)
    }
}

/// Removes a pin; it may be gone already.
pub fn unpin(path: &Path) -> Result<(), PinError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(PinError::File { operation: "remove", path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

fn list(directory: &Path) -> Result<Vec<PathBuf>, PinError> {
    let fail = |source| PinError::File { operation: "list", path: directory.to_owned(), source };
    fs::read_dir(directory).map_err(fail)?.map(|entry| entry.map(|entry| entry.path()).map_err(fail)).collect()
}

fn make_directory(path: &Path) -> Result<(), PinError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| PinError::File {
        operation: "make directory",
        path: path.to_owned(),
        source,
    })
}

fn is_bpffs(path: &Path) -> Result<bool, PinError> {
    let found = statfs(path).map_err(|errno| PinError::File {
        operation: "find the file system of",
        path: path.to_owned(),
        source: errno.into(),
    })?;
    Ok(found.filesystem_type() == BPF_FS_MAGIC)
}

/// `PEERS_V4_v1`: a map of the contract and a version.
fn parse_map(name: &OsStr) -> Option<(&'static MapSpec, u32)> {
    let (name, version) = name.to_str()?.rsplit_once("_v")?;
    let spec = MAPS.iter().find(|spec| spec.name == name && spec.pinned)?;
    Some((spec, version.parse().ok()?))
}

/// `pod_out-17`: a hook and an interface index.
fn parse_link(name: &OsStr) -> Option<(Hook, u32)> {
    let (program, ifindex) = name.to_str()?.rsplit_once('-')?;
    let hook = Hook::ALL.into_iter().find(|hook| hook.program() == program)?;
    Some((hook, ifindex.parse().ok()?))
}

// === impl Layout ===

impl Layout {
    /// What the contract says of a map.
    pub fn of(spec: &MapSpec) -> Self {
        let MapSpec { kind, key_size, value_size, capacity, flags, .. } = *spec;
        Self { kind: kind as u32, key_size, value_size, capacity: Some(capacity), flags }
    }

    /// Refuses the map pinned at `path` if it differs in anything.
    pub fn compare(&self, map: &'static str, version: u32, path: &Path) -> Result<(), PinError> {
        let read = |error| PinError::File { operation: "read", path: path.to_owned(), source: raw::into_io(error) };
        let info = MapInfo::from_pin(path).map_err(read)?;
        let kind = info.map_type().map_err(read)? as u32;
        let fields = [
            (Field::Type, self.kind, kind),
            (Field::KeySize, self.key_size, info.key_size()),
            (Field::ValueSize, self.value_size, info.value_size()),
            (Field::MaxEntries, self.capacity.unwrap_or(info.max_entries()), info.max_entries()),
            (Field::Flags, self.flags, info.map_flags()),
        ];
        match fields.into_iter().find(|(_, expected, found)| expected != found) {
            None => Ok(()),
            Some((field, expected, found)) => {
                Err(PinError::Mismatch { map, version, path: path.to_owned(), field, expected, found })
            }
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Type => "type",
            Self::KeySize => "key size",
            Self::ValueSize => "value size",
            Self::MaxEntries => "capacity",
            Self::Flags => "flags",
        })
    }
}

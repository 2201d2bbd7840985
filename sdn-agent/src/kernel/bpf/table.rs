//! Maps with types. Whoever opens one says its name and types; what does not fit the pinned map is an error, never a guess.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::net::IpAddr;

use aya::Pod;
use sdn_common::{Addr4, Addr6, Author, Be16, Counter, DropKey, FlowKey, Identity, MasqueradeKey, RuleKey};

use super::pins::PinDirectory;
use super::raw::{self, Cursor, RawMap, Update};
use crate::family::{Cidr, Family};

/// Entries that one walk's step reads: small enough to be a fraction of a millisecond.
pub const CHUNK: u32 = 1024;

/// A key that an error can name.
pub trait Key: Pod {
    /// The key for people.
    fn describe(&self) -> String;
}

/// A pinned map whose entries are a `K` and a `V` each.
#[derive(Debug)]
pub struct Table<K, V> {
    name: String,
    raw: RawMap,
    types: PhantomData<fn(K) -> V>,
}

/// Something could not be done with an entry of a map, or with the map.
#[derive(Debug, thiserror::Error)]
#[error("{operation} map {map}{}: {}", on(key), cause_of(cause))]
pub struct TableError {
    /// What was tried.
    pub operation: &'static str,
    /// On which map.
    pub map: String,
    /// On which entry; `None` for the map as such.
    pub key: Option<String>,
    /// What the kernel said.
    #[source]
    pub cause: io::Error,
}

// === impl Table ===

impl<K: Key, V: Pod> Table<K, V> {
    /// Opens the map of this name in the version of this agent.
    pub fn open(pins: &PinDirectory, name: &str) -> Result<Self, TableError> {
        let fail = |cause| TableError { operation: "open", map: name.to_owned(), key: None, cause };
        let raw = pins.open_map(name).map_err(fail)?;
        let (found, wanted) = ((raw.key_size(), raw.value_size()), (size_of::<K>(), size_of::<V>()));
        if found != wanted {
            let cause = format!("its key and value have {found:?} bytes, {wanted:?} are wanted");
            return Err(fail(io::Error::new(io::ErrorKind::InvalidData, cause)));
        }
        Ok(Self { name: name.to_owned(), raw, types: PhantomData })
    }

    /// The entry under `key`, of the first CPU where there are several.
    pub fn lookup(&self, key: &K) -> Result<Option<V>, TableError> {
        let found = self.raw.lookup(raw::bytes_of(key)).map_err(|cause| self.fail("look up in", Some(key), cause))?;
        Ok(found.map(|bytes| raw::read(&bytes)))
    }

    /// Writes an entry, over one that is there.
    pub fn insert(&self, key: &K, value: &V) -> Result<(), TableError> {
        self.raw
            .update(raw::bytes_of(key), raw::bytes_of(value), Update::Any)
            .map_err(|cause| self.fail("write to", Some(key), cause))
    }

    /// Writes an entry unless there is one; false if there is.
    pub fn insert_absent(&self, key: &K, value: &V) -> Result<bool, TableError> {
        match self.raw.update(raw::bytes_of(key), raw::bytes_of(value), Update::Absent) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(cause) => Err(self.fail("write to", Some(key), cause)),
        }
    }

    /// Removes an entry; false if there was none.
    pub fn remove(&self, key: &K) -> Result<bool, TableError> {
        self.raw.delete(raw::bytes_of(key)).map_err(|cause| self.fail("remove from", Some(key), cause))
    }

    /// The next entries of a walk, at most [`CHUNK`]; of the first CPU where there are several.
    pub fn next_chunk(&self, cursor: &mut Cursor) -> Result<Vec<(K, V)>, TableError> {
        self.chunk(cursor, raw::read)
    }

    /// All entries.
    pub fn entries(&self) -> Result<Vec<(K, V)>, TableError> {
        self.collect(raw::read)
    }

    fn collect<T>(&self, value: impl Fn(&[u8]) -> T) -> Result<Vec<(K, T)>, TableError> {
        let (mut cursor, mut entries) = (Cursor::default(), Vec::new());
        while !cursor.ended() {
            entries.extend(self.chunk(&mut cursor, &value)?);
        }
        Ok(entries)
    }

    fn chunk<T>(&self, cursor: &mut Cursor, value: impl Fn(&[u8]) -> T) -> Result<Vec<(K, T)>, TableError> {
        let batch = self.raw.next_batch(cursor, CHUNK).map_err(|cause| self.fail("walk through", None, cause))?;
        Ok(batch.iter().map(|(key, bytes)| (raw::read(key), value(bytes))).collect())
    }

    fn fail(&self, operation: &'static str, key: Option<&K>, cause: io::Error) -> TableError {
        TableError { operation, map: self.name.clone(), key: key.map(Key::describe), cause }
    }
}

impl<K: Key> Table<K, Counter> {
    /// All counters of a per-CPU map, each summed over the CPUs.
    pub fn sums(&self) -> Result<Vec<(K, Counter)>, TableError> {
        self.collect(sum)
    }
}

/// Values of several CPUs are padded to 8 bytes each, and a counter has 16.
fn sum(bytes: &[u8]) -> Counter {
    let counters = bytes.chunks_exact(size_of::<Counter>()).map(raw::read::<Counter>);
    counters.fold(Counter::default(), |a, b| Counter { packets: a.packets + b.packets, bytes: a.bytes + b.bytes })
}

// === impl TableError ===

impl TableError {
    /// Whether the map had no room: nothing but removing other entries helps.
    pub fn is_full(&self) -> bool {
        // Hash maps say E2BIG, tries ENOSPC.
        matches!(self.cause.raw_os_error(), Some(libc::E2BIG | libc::ENOSPC))
    }
}

fn on(key: &Option<String>) -> impl fmt::Display {
    key.as_ref().map(|key| format!(" entry {key}")).unwrap_or_default()
}

fn cause_of(cause: &io::Error) -> String {
    match cause.raw_os_error() {
        Some(libc::E2BIG | libc::ENOSPC) => "the map is full".to_owned(),
        Some(libc::ENOMEM) => "the kernel has no memory for another entry".to_owned(),
        Some(libc::EPERM) => format!("{cause}; it takes CAP_BPF and CAP_NET_ADMIN"),
        _ => cause.to_string(),
    }
}

// === impl Key ===

impl Key for u32 {
    fn describe(&self) -> String {
        self.to_string()
    }
}

impl Key for Addr4 {
    fn describe(&self) -> String {
        self.ip().to_string()
    }
}

impl Key for Addr6 {
    fn describe(&self) -> String {
        // TUNNELS keeps IPv4 addresses in their mapped form, which is theirs alone.
        self.ip().to_canonical().to_string()
    }
}

// SAFETY: repr(C) of a u32 and an address made of u32s: plain bytes without padding.
unsafe impl Pod for Cidr<Addr4> {}
// SAFETY: as above.
unsafe impl Pod for Cidr<Addr6> {}

impl<A: Family> Key for Cidr<A>
where
    Self: Pod,
{
    fn describe(&self) -> String {
        self.to_string()
    }
}

impl<A: Family> Key for FlowKey<A>
where
    Self: Pod,
{
    fn describe(&self) -> String {
        let Self { low, high, low_port, high_port, protocol, .. } = *self;
        format!("{} ↔ {} protocol {protocol}", end(low.ip(), low_port), end(high.ip(), high_port))
    }
}

impl<A: Family> Key for MasqueradeKey<A>
where
    Self: Pod,
{
    fn describe(&self) -> String {
        let Self { local, remote, local_port, remote_port, protocol, .. } = *self;
        format!("{} → {} protocol {protocol}", end(local.ip(), local_port), end(remote.ip(), remote_port))
    }
}

impl Key for RuleKey {
    fn describe(&self) -> String {
        let Self { set, peer, port, protocol, prefix } = *self;
        let peer = if peer == Identity::ANY { "anybody".to_owned() } else { format!("identity {}", peer.0) };
        match prefix {
            Self::ANY_PROTOCOL => format!("set {}, {peer}", set.0),
            _ => format!("set {}, {peer}, protocol {protocol}, ports {port}/{prefix}", set.0),
        }
    }
}

impl Key for Author {
    fn describe(&self) -> String {
        self.0.to_string()
    }
}

impl Key for DropKey {
    fn describe(&self) -> String {
        format!("{self:?}")
    }
}

fn end(address: IpAddr, port: Be16) -> String {
    std::net::SocketAddr::new(address, port.native()).to_string()
}

//! Maps as the kernel sees them: bytes for bytes, many entries a call. Typed access is built on this in [`super::table`].
//!
//! aya has no batch calls, and walking a table of flows key by key starts over whenever the kernel has evicted the key at hand.
//! It also trusts the sizes of whoever opens a map; here they come from the map itself, so a wrong one cannot be expressed.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use aya::Pod;
use aya::maps::{MapData, MapError, MapInfo};
use sdn_common::maps::MapKind;

/// How often a step of a walk is tried while the map is busy.
const ATTEMPTS: u32 = 8;

/// Commands of bpf(2), `enum bpf_cmd` in include/uapi/linux/bpf.h.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Command {
    LookupElem = 1,
    UpdateElem = 2,
    DeleteElem = 3,
    LookupBatch = 24,
}

/// When [`RawMap::update`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Update {
    /// Whether or not the key is there: `BPF_ANY`.
    Any = 0,
    /// Only if the key is not there: `BPF_NOEXIST`.
    Absent = 1,
}

/// An open map, with the sizes the kernel gives for it.
#[derive(Debug)]
pub struct RawMap {
    data: MapData,
    key_size: usize,
    value_size: usize,
    /// Bytes that a value takes in a call: for per-CPU maps one value a possible CPU, each padded to 8 bytes.
    stride: usize,
}

/// Where a walk over a map is. A walk may be interrupted at will: entries that stay are seen, entries that come or go meanwhile
/// may or may not be.
#[derive(Debug)]
pub struct Cursor {
    position: Vec<u8>,
    state: CursorState,
}

#[derive(Debug, PartialEq, Eq)]
enum CursorState {
    Begin,
    Within,
    End,
}

/// Some entries of a map, as bytes.
#[derive(Debug, Default)]
pub struct Batch {
    keys: Vec<u8>,
    values: Vec<u8>,
    key_size: usize,
    stride: usize,
}

/// `struct { … } batch` of `union bpf_attr`.
#[repr(C)]
struct BatchAttributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// The anonymous struct of `BPF_MAP_*_ELEM` in `union bpf_attr`.
#[repr(C)]
struct ElemAttributes {
    map_fd: u32,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

// === impl RawMap ===

impl RawMap {
    /// Opens the map pinned at `path`.
    pub fn from_pin(path: &Path) -> io::Result<Self> {
        MapData::from_pin(path).and_then(Self::from_data).map_err(into_io)
    }

    /// Takes an open map.
    pub fn from_data(data: MapData) -> Result<Self, MapError> {
        let info = data.info()?;
        let (key_size, value_size) = (info.key_size() as usize, info.value_size() as usize);
        let stride = if is_per_cpu(&info)? {
            let cpus = aya::util::nr_cpus().map_err(|(_, error)| MapError::IoError(error))?;
            value_size.next_multiple_of(8) * cpus
        } else {
            value_size
        };
        Ok(Self { data, key_size, value_size, stride })
    }

    /// Bytes of a key.
    pub fn key_size(&self) -> usize {
        self.key_size
    }

    /// Bytes of a value, of one CPU where there are several.
    pub fn value_size(&self) -> usize {
        self.value_size
    }

    /// Bytes of a value as [`RawMap::lookup`] returns it: of all CPUs, where there are several.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The map's descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.data.fd().as_fd()
    }

    /// The value under `key`.
    pub fn lookup(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut value = vec![0; self.stride];
        match self.element(Command::LookupElem, key, value.as_mut_ptr() as u64, 0) {
            Ok(()) => Ok(Some(value)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes an entry: one value of [`RawMap::stride`] bytes.
    pub fn update(&self, key: &[u8], value: &[u8], when: Update) -> io::Result<()> {
        if value.len() != self.stride {
            return Err(wrong_size("value", value.len(), self.stride));
        }
        self.element(Command::UpdateElem, key, value.as_ptr() as u64, when as u64)
    }

    /// Removes an entry; false if there was none.
    pub fn delete(&self, key: &[u8]) -> io::Result<bool> {
        match self.element(Command::DeleteElem, key, 0, 0) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The next entries, at most `limit` of them; none when the walk is over.
    pub fn next_batch(&self, cursor: &mut Cursor, limit: u32) -> io::Result<Batch> {
        if cursor.state == CursorState::End {
            return Ok(Batch::default());
        }
        // Hash maps keep a bucket's number (4 bytes) in the cursor, the others the last key.
        cursor.position.resize(self.key_size.max(4), 0);
        let mut next = vec![0_u8; cursor.position.len()];
        let mut keys = vec![0; self.key_size * limit as usize];
        let mut values = vec![0; self.stride * limit as usize];
        let begin = cursor.state == CursorState::Begin;
        let mut attributes = BatchAttributes {
            in_batch: if begin { 0 } else { cursor.position.as_ptr() as u64 },
            out_batch: next.as_mut_ptr() as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: limit,
            map_fd: self.raw_fd(),
            elem_flags: 0,
            flags: 0,
        };
        let mut attempts = 0;
        let result = loop {
            attributes.count = limit;
            // SAFETY: the descriptor is a map's whose key and value sizes the kernel told us; all four buffers are alive across
            // the call and hold what it may write: `limit` keys, `limit` values, and a cursor of max(key size, 4) bytes.
            let result = unsafe { bpf(Command::LookupBatch, &mut attributes) };
            attempts += 1;
            // A bucket's lock was not to be had (kernel/bpf/hashtab.c, htab_lock_bucket): a program holds it for nanoseconds.
            let busy = |error: &io::Error| {
                matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN | libc::EDEADLK | libc::ETIMEDOUT))
            };
            if attempts == ATTEMPTS || !result.as_ref().is_err_and(busy) {
                break result;
            }
        };
        cursor.state = match result {
            Ok(()) => CursorState::Within,
            // The last entries come together with ENOENT.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => CursorState::End,
            Err(error) => return Err(error),
        };
        cursor.position = next;
        keys.truncate(self.key_size * attributes.count as usize);
        values.truncate(self.stride * attributes.count as usize);
        Ok(Batch { keys, values, key_size: self.key_size, stride: self.stride })
    }

    fn element(&self, command: Command, key: &[u8], value: u64, flags: u64) -> io::Result<()> {
        if key.len() != self.key_size {
            return Err(wrong_size("key", key.len(), self.key_size));
        }
        let mut attributes = ElemAttributes { map_fd: self.raw_fd(), _pad: 0, key: key.as_ptr() as u64, value, flags };
        // SAFETY: `key` has the map's key size (tested above), `value` is a buffer of the map's stride (by the two callers that pass
        // one; deletion reads none), and both outlive the call.
        unsafe { bpf(command, &mut attributes) }
    }

    fn raw_fd(&self) -> u32 {
        self.fd().as_raw_fd().cast_unsigned()
    }
}

// === impl Cursor ===

impl Default for Cursor {
    fn default() -> Self {
        Self { position: Vec::new(), state: CursorState::Begin }
    }
}

impl Cursor {
    /// Whether the walk has come to its end.
    pub fn ended(&self) -> bool {
        self.state == CursorState::End
    }
}

// === impl Batch ===

impl Batch {
    /// Each entry's key and value.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        // A ring buffer has neither and is never walked; chunks of 0 would panic.
        self.keys.chunks_exact(self.key_size.max(1)).zip(self.values.chunks_exact(self.stride.max(1)))
    }
}

// === Plain bytes ===

/// The bytes of a plain value.
pub fn bytes_of<T: Pod>(value: &T) -> &[u8] {
    // SAFETY: `Pod` promises plain bytes; the contract's types are asserted to have no padding.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// A plain value from its bytes, wherever they lie.
///
/// # Panics
/// If there are fewer bytes than the type has.
pub fn read<T: Pod>(bytes: &[u8]) -> T {
    assert!(bytes.len() >= size_of::<T>(), "{} bytes for a type of {}", bytes.len(), size_of::<T>());
    // SAFETY: the bytes are there (asserted), need no alignment here, and `Pod` promises that any of them make a value.
    unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) }
}

// === The kernel ===

/// # Safety
/// `attributes` must be what the command reads, and every pointer in it valid for what the command does with it.
unsafe fn bpf<T>(command: Command, attributes: &mut T) -> io::Result<()> {
    // SAFETY: the caller's promise; the size given is the struct's.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command as u32, std::ptr::from_mut(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Waits until no program runs any more that was running when this was called (an RCU grace period; tens of milliseconds). What
/// an entry said before that may then be forgotten.
pub fn wait_grace_period() -> io::Result<()> {
    // include/uapi/linux/membarrier.h: MEMBARRIER_CMD_GLOBAL is synchronize_rcu(), and programs run inside RCU.
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: the call takes three numbers and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn wrong_size(what: &str, found: usize, wanted: usize) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("a {what} of {found} bytes where the kernel takes {wanted}"))
}

fn is_per_cpu(info: &MapInfo) -> Result<bool, MapError> {
    let kind = info.map_type()? as u32;
    Ok(kind == MapKind::PerCpuArray as u32 || kind == MapKind::PerCpuHash as u32)
}

/// What the system said, without aya's wrapping.
pub(super) fn into_io(error: MapError) -> io::Error {
    match error {
        MapError::SyscallError(error) => error.io_error,
        MapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}

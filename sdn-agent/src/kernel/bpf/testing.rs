//! Tests with the real kernel: a thread in network and mount namespaces of its own, with a bpffs that ends with it.

use std::fs;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::thread;

use aya::maps::MapData;
use aya::programs::links::{FdLink, PinnedLink};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use sdn_common::Hook;

use super::pins::{Layout, PinDirectory};
use super::{Dataplane, Device, Options, XdpMode};

/// Runs a test in namespaces of its own. The thread's end is the namespaces' end, and with them the pins' and the devices'.
///
/// # Panics
/// If the test does, or without root: a test that quietly does nothing is worse than one that fails.
pub(crate) fn sandbox(test: impl FnOnce(PinDirectory) + Send + 'static) {
    let result = thread::Builder::new().name("sandbox".to_owned()).spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
            .expect("namespaces of the test's own, which takes root");
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
            .expect("a mount namespace of the test's own");
        let directory = tempfile::tempdir().expect("a temporary directory");
        ip("link set lo up");
        let parent = directory.path().join("bpf");
        test(PinDirectory::prepare(&parent.join("culvert")).expect("a pin directory"));
        nix::mount::umount(&parent).expect("the test's bpffs, which nobody holds any more");
    });
    if let Err(panic) = result.expect("a thread").join() {
        std::panic::resume_unwind(panic);
    }
}

pub(crate) fn open(pins: &PinDirectory) -> Dataplane {
    open_with_xdp(pins, XdpMode::Generic)
}

pub(crate) fn open_with_xdp(pins: &PinDirectory, xdp: XdpMode) -> Dataplane {
    Dataplane::open(&Options { pins: pins.clone(), record: false, xdp }).unwrap_or_else(|error| panic!("{error}"))
}

/// `ip ARGUMENTS`
pub(crate) fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("the command ip");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A pair of interfaces of which the first is the host's end.
pub(crate) fn veth(name: &str) -> Device {
    ip(&format!("link add {name} type veth peer name {name}-p"));
    device(name)
}

pub(crate) fn device(name: &str) -> Device {
    Device { name: name.to_owned(), ifindex: nix::net::if_::if_nametoindex(name).expect("the device") }
}

/// Makes a map and pins it.
pub(crate) fn pin_map(layout: Layout, path: &Path) {
    /// The beginning of the attributes of `BPF_MAP_CREATE`.
    #[repr(C)]
    struct Attributes {
        kind: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        flags: u32,
    }
    let Layout { kind, key_size, value_size, capacity, flags } = layout;
    let attributes = Attributes { kind, key_size, value_size, max_entries: capacity.expect("a capacity"), flags };
    // SAFETY: BPF_MAP_CREATE (0) reads as many bytes as it is told of, all of them plain numbers.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, 0, &raw const attributes, size_of::<Attributes>()) };
    assert!(fd >= 0, "create a map of {layout:?}: {}", std::io::Error::last_os_error());
    // SAFETY: the kernel just gave us this descriptor.
    let fd = unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).expect("a descriptor")) };
    MapData::from_fd(fd).expect("a map").pin(path).expect("a pin");
}

/// Numbers of a pinned link and of the program that it runs.
pub(crate) fn link_ids(pins: &PinDirectory, hook: Hook, ifindex: u32) -> Option<(u32, u32)> {
    let path = pins.link(hook, ifindex);
    let link = FdLink::from(PinnedLink::from_pin(path).ok()?);
    let info = link.info().expect("what the kernel says of a link");
    Some((info.id(), info.program_id()))
}

/// Names in a directory, sorted.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("the directory");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect();
    names.sort();
    names
}

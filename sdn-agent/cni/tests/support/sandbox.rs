//! Network namespaces for tests: one that plays the node, with any number of pods'.
//!
//! A test's body runs on a thread with a network and a mount namespace of its own, so nothing of it is seen outside and nothing is
//! left behind, whatever becomes of the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

use sdn_cni::netlink::Links;
use sdn_cni::netns::OpenNetns;

const NOTHING: Option<&str> = None;

/// A node's namespaces, entered.
pub struct Sandbox {
    dir: tempfile::TempDir,
}

/// A pod's network namespace, bound to a path as container runtimes do, until it is dropped.
pub struct PodNetns {
    path: PathBuf,
}

// === impl Sandbox ===

impl Sandbox {
    /// Runs a test's body in a sandbox.
    pub fn run(body: impl FnOnce(&Sandbox) + Send + 'static) {
        assert!(geteuid().is_root(), "this test makes network namespaces, so it has to run as root");
        // Not on the test's own thread, which may be the process's main one.
        let inside = move || {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("unshare");
            mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING).expect("make / private");
            let mut links = Links::connect().unwrap();
            let loopback = links.get_link("lo").unwrap().expect("lo");
            links.set_up(loopback.index).unwrap();
            let sandbox = Sandbox { dir: tempfile::tempdir().expect("tempdir") };
            body(&sandbox);
        };
        let name = thread::current().name().unwrap_or("sandbox").to_owned();
        let thread = thread::Builder::new().name(name).spawn(inside).expect("thread");
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }

    /// A directory that goes with the sandbox.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A fresh network namespace.
    pub fn pod(&self, name: &str) -> PodNetns {
        let path = self.dir().join(name);
        fs::write(&path, "").expect("mount point");
        let made = thread::scope(|scope| {
            let make = || {
                unshare(CloneFlags::CLONE_NEWNET)?;
                mount(Some("/proc/thread-self/ns/net"), &path, NOTHING, MsFlags::MS_BIND, NOTHING)
            };
            scope.spawn(make).join().expect("the thread only makes system calls")
        });
        made.expect("network namespace");
        PodNetns { path }
    }
}

// === impl PodNetns ===

impl PodNetns {
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn open(&self) -> OpenNetns {
        OpenNetns::open(&self.path).unwrap()
    }

    /// Links and routes inside.
    pub fn links(&self) -> Links {
        self.open().run(Links::connect).unwrap().unwrap()
    }
}

impl Drop for PodNetns {
    fn drop(&mut self) {
        // A test may have unmounted it already.
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
        let _ = fs::remove_file(&self.path);
    }
}

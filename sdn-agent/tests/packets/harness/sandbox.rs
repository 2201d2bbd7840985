//! Threads in namespaces of their own, with the devices that the tables name. They end, and with them all that was made.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::{LazyLock, Mutex, PoisonError, mpsc};
use std::thread;

use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};

use super::bench::{Bench, Setup};
use super::world::DEVICES;

/// Something to do with programs that tests share, in the thread that loaded them.
type Job = Box<dyn FnOnce(&mut Bench) + Send>;

/// The way to that thread. Loading takes half a second, running a packet some microseconds.
struct Shared(LazyLock<Mutex<mpsc::Sender<Job>>>);

static ORDINARY: Shared = Shared(LazyLock::new(|| Shared::start(Setup::default())));
static SMALL: Shared =
    Shared(LazyLock::new(|| Shared::start(Setup { capacities: SMALL_MAPS.to_vec(), ..Setup::default() })));

/// Capacities that a test can exhaust.
pub const SMALL_MAPS: [(&str, u32); 10] = [
    ("FLOWS_V4", 128),
    ("FLOWS_V6", 128),
    ("NEW_FLOWS_V4", 128),
    ("NEW_FLOWS_V6", 128),
    ("FRAGMENTS_V4", 128),
    ("FRAGMENTS_V6", 128),
    ("MASQUERADE_V4", 4),
    ("MASQUERADE_V6", 4),
    ("DROPS", 2),
    ("EVENTS", 4096),
];

/// Runs a test against programs that tests share, one at a time.
///
/// # Panics
/// If the test does, or without root: a test that quietly does nothing is worse than one that fails.
pub fn bench(test: impl FnOnce(&mut Bench) + Send + 'static) {
    ORDINARY.run(test);
}

/// The same, where maps have the capacities of [`SMALL_MAPS`].
pub fn small_bench(test: impl FnOnce(&mut Bench) + Send + 'static) {
    SMALL.run(test);
}

impl Shared {
    fn start(setup: Setup) -> Mutex<mpsc::Sender<Job>> {
        let (sender, jobs) = mpsc::channel::<Job>();
        spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace of the tests' own; run them as root");
            make_devices();
            let mut bench = Bench::load(&setup);
            jobs.into_iter().for_each(|job| job(&mut bench));
        });
        Mutex::new(sender)
    }

    fn run(&self, test: impl FnOnce(&mut Bench) + Send + 'static) {
        let (done, result) = mpsc::channel::<Result<(), Box<dyn Any + Send>>>();
        let job: Job = Box::new(move |bench| {
            bench.touch();
            bench.reset();
            // Whoever asked is waiting.
            let _ = done.send(catch_unwind(AssertUnwindSafe(|| test(bench))));
        });
        // The lock is poisoned by no more than a panic between here and the next line. If the thread has ended, the answer says so.
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).send(job);
        match result.recv() {
            Ok(Ok(())) => {}
            Ok(Err(panic)) => fail(panic),
            Err(_) => panic!(
                "the programs could not be loaded, which takes root; the output of another test that failed says why"
            ),
        }
    }
}

/// Runs a test in namespaces of its own, with the devices and with a bpffs at the path that it is given.
///
/// # Panics
/// As [`bench`].
pub fn sandbox(test: impl FnOnce(&Path) + Send + 'static) {
    let thread = spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
            .expect("namespaces of the test's own; run it as root");
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("mounts of the test's own");
        let directory = tempfile::tempdir().expect("a temporary directory");
        mount(Some("bpf"), directory.path(), Some("bpf"), MsFlags::empty(), none).expect("a bpffs");
        make_devices();
        test(directory.path());
        umount(directory.path()).expect("the bpffs, which nobody holds any more");
    });
    if let Err(panic) = thread.join() {
        resume_unwind(panic);
    }
}

/// Fails with another thread's words: what that one printed does not stand with this test.
fn fail(panic: Box<dyn Any + Send>) -> ! {
    match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(words), _) => panic!("{words}"),
        (_, Some(words)) => panic!("{words}"),
        _ => resume_unwind(panic),
    }
}

fn spawn(run: impl FnOnce() + Send + 'static) -> thread::JoinHandle<()> {
    thread::Builder::new().name("sandbox".to_owned()).spawn(run).expect("a thread")
}

/// The devices of the tables. A test run needs them only to exist: nothing is sent.
fn make_devices() {
    for ifindex in DEVICES {
        ip(&format!("link add index {ifindex} name d{ifindex} type veth peer name p{ifindex}"));
    }
}

/// `ip ARGUMENTS`
pub fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("the command ip");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

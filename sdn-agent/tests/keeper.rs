//! The keeper with real processes: what happens to sockets, roles and waiting connections when something is killed or replaced.
//!
//! The role is this test program itself, told to run [`role`], which answers each connection with its process id.

#![expect(clippy::unwrap_used, reason = "in a test, unwrap is an assertion")]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sdn_agent::keeper::Inherited;

const DEADLINE: Duration = Duration::from_secs(20);

/// A run directory, a pin directory and a free port: what two keepers share that follow each other.
struct Place {
    directory: tempfile::TempDir,
    metrics: SocketAddr,
}

/// A keeper's process, killed with its role when the test is over.
struct Keeper(Child);

impl Place {
    fn new() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self { directory: tempfile::tempdir().unwrap(), metrics: free }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join("run").join(name)
    }

    /// Starts a keeper whose role behaves as `how`.
    fn start(&self, how: &str) -> Keeper {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sdn-agent"));
        let directory = self.directory.path();
        command
            .args([
                "node",
                "--node-name",
                "test",
                "--log-level",
                "debug",
                "--metrics-address",
                &self.metrics.to_string(),
            ])
            .args([Path::new("--run-dir"), &directory.join("run"), Path::new("--bpffs"), &directory.join("bpf/pins")])
            .arg("--role-command")
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "role", "--ignored", "--nocapture", "--test-threads=1"])
            .env("TEST_ROLE", how)
            .env("TEST_STARTS", directory.join("starts"))
            .stdout(Stdio::null())
            .stderr(File::options().create(true).append(true).open(directory.join("log")).unwrap());
        Keeper(command.spawn().unwrap())
    }

    /// What the role behind a unix socket says: its process id and its parent's.
    fn ask(&self, name: &str) -> Option<(i32, i32)> {
        answer(UnixStream::connect(self.path(name)).ok()?)
    }

    /// Waits until a role answers that `wanted` accepts.
    fn wait_for(&self, wanted: impl Fn((i32, i32)) -> bool) -> (i32, i32) {
        let start = Instant::now();
        loop {
            if let Some(found) = self.ask("cni.sock").filter(|found| wanted(*found)) {
                return found;
            }
            let log = || std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            assert!(start.elapsed() < DEADLINE, "no such role answers; the keepers said\n{}", log());
            sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.directory.path().join("bpf"), nix::mount::MntFlags::MNT_DETACH);
    }
}

fn answer(mut stream: impl Read) -> Option<(i32, i32)> {
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (role, keeper) = text.trim().split_once(' ')?;
    Some((role.parse().ok()?, keeper.parse().ok()?))
}

impl Keeper {
    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Its exit code; `None` for a signal.
    fn ended(&mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < DEADLINE, "the keeper does not end");
            sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // The role follows by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_gone(pid: i32) -> bool {
    let start = Instant::now();
    while Path::new(&format!("/proc/{pid}/stat")).exists() {
        if start.elapsed() > DEADLINE {
            return false;
        }
        sleep(Duration::from_millis(5));
    }
    true
}

/// Stops a process, and waits until it stands still: a signal that it got later could be handled first.
fn halt(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    let start = Instant::now();
    while !std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") T ") {
        assert!(start.elapsed() < DEADLINE, "process {pid} does not stop");
        sleep(Duration::from_millis(1));
    }
}

/// Not a test: the role that the tests' keepers run.
#[test]
#[ignore = "not a test: run by the keepers of the other tests, as their role"]
fn role() {
    let how = std::env::var("TEST_ROLE").unwrap();
    let mut inherited = Inherited::take().unwrap();
    if how == "dies" {
        let starts = std::env::var_os("TEST_STARTS").unwrap();
        File::options().create(true).append(true).open(starts).unwrap().write_all(b".").unwrap();
        std::process::exit(3);
    }
    let listeners = [inherited.unix("cni").unwrap(), inherited.unix("admin").unwrap()];
    let metrics = inherited.tcp("metrics").unwrap();
    let text = format!("{} {}\n", std::process::id(), nix::unistd::getppid());
    loop {
        for listener in &listeners {
            if let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.write_all(text.as_bytes());
            }
        }
        if let Ok((mut stream, _)) = metrics.accept() {
            let _ = stream.write_all(text.as_bytes());
        }
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_role_serves_all_sockets_and_ends_with_its_keeper() {
    let place = Place::new();
    let mut keeper = place.start("serves");
    let (role, parent) = place.wait_for(|_| true);
    assert_eq!(parent, keeper.pid());
    assert_eq!(place.ask("admin.sock"), Some((role, parent)));
    assert_eq!(answer(TcpStream::connect(place.metrics).unwrap()), Some((role, parent)));
    for name in ["cni.sock", "admin.sock", "keeper.sock"] {
        let mode = std::fs::metadata(place.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    keeper.signal(Signal::SIGTERM);
    assert_eq!(keeper.ended(), Some(0));
    assert!(is_gone(role));
    assert_eq!(std::fs::read_dir(place.path("")).unwrap().count(), 0, "a graceful end leaves no sockets");
}

#[test]
fn a_killed_roles_successor_answers_what_was_waiting() {
    let place = Place::new();
    let keeper = place.start("serves");
    let (first, _) = place.wait_for(|_| true);
    // Stopped, it accepts nothing: the connections wait in the sockets.
    halt(first);
    let waiting =
        [UnixStream::connect(place.path("cni.sock")).unwrap(), UnixStream::connect(place.path("admin.sock")).unwrap()];
    let waiting_tcp = TcpStream::connect(place.metrics).unwrap();
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    let killed = Instant::now();
    for stream in waiting {
        let (second, parent) = answer(stream).expect("the successor answers");
        assert!(second != first && parent == keeper.pid());
    }
    assert!(killed.elapsed() < Duration::from_secs(1), "the first restart is immediate, took {:?}", killed.elapsed());
    assert!(answer(waiting_tcp).is_some());
}

#[test]
fn a_dead_keepers_role_dies_too_and_a_new_keeper_starts_over() {
    let place = Place::new();
    let keeper = place.start("serves");
    let (first, _) = place.wait_for(|_| true);
    keeper.signal(Signal::SIGKILL);
    let second = place.start("serves");
    let (role, _) = place.wait_for(|(_, parent)| parent == second.pid());
    assert!(role != first && is_gone(first), "the first keeper's role has gone with it");
}

#[test]
fn a_new_keeper_takes_over_without_losing_what_waits() {
    let place = Place::new();
    let mut old = place.start("serves");
    let (first, _) = place.wait_for(|_| true);
    halt(first);
    let waiting = UnixStream::connect(place.path("cni.sock")).unwrap();
    let waiting_tcp = TcpStream::connect(place.metrics).unwrap();
    let inode = |name: &str| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(place.path(name)).unwrap());
    let before: Vec<u64> = ["cni.sock", "admin.sock", "keeper.sock"].map(inode).to_vec();

    let mut new = place.start("serves");
    // The old role was stopped, so it takes no SIGTERM: the hand-over must not hang on it for longer than its grace.
    sleep(Duration::from_millis(300));
    kill(Pid::from_raw(first), Signal::SIGCONT).unwrap();
    assert_eq!(old.ended(), Some(0), "the old keeper ends as asked");
    assert!(is_gone(first), "the old role ended before the sockets were passed");
    for found in [answer(waiting).expect("waits since before"), answer(waiting_tcp).expect("waits since before")] {
        assert!(found.1 == new.pid() || found.0 == first, "{found:?}");
    }
    place.wait_for(|(_, parent)| parent == new.pid());
    assert_eq!(before, ["cni.sock", "admin.sock", "keeper.sock"].map(inode).to_vec(), "passed, not made anew");

    // And once more, from the one that has taken over: also its lock and its own socket were passed.
    let third = place.start("serves");
    place.wait_for(|(_, parent)| parent == third.pid());
    assert_eq!(new.ended(), Some(0));
}

#[test]
fn connections_made_all_through_upgrades_and_kills_are_answered() {
    let place = Place::new();
    let mut keepers = vec![place.start("serves")];
    place.wait_for(|_| true);
    let path = place.path("cni.sock");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let client = std::thread::spawn(move || {
        let (mut asked, mut lost) = (0, 0);
        while stopped.try_recv().is_err() {
            let stream = UnixStream::connect(&path).expect("somebody listens at every moment");
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            asked += 1;
            // Only what a killed role had accepted already may be lost; here it answers at once, so almost never.
            lost += usize::from(answer(stream).is_none());
        }
        (asked, lost)
    });
    for _ in 0..4 {
        let (role, _) = place.wait_for(|_| true);
        kill(Pid::from_raw(role), Signal::SIGKILL).unwrap();
        place.wait_for(|(now, _)| now != role);
        let new = place.start("serves");
        place.wait_for(|(_, parent)| parent == new.pid());
        keepers.push(new);
        sleep(Duration::from_millis(200));
    }
    stop.send(()).unwrap();
    let (asked, lost) = client.join().unwrap();
    assert!(asked > 20, "the client was busy: {asked}");
    assert!(lost <= 4, "{lost} of {asked} connections were not answered, with 4 kills");
    for old in &mut keepers[..4] {
        assert_eq!(old.ended(), Some(0));
    }
}

#[test]
fn a_new_keeper_killed_in_the_middle_leaves_the_old_one_serving() {
    let place = Place::new();
    let old = place.start("serves");
    let (first, _) = place.wait_for(|_| true);
    // A new keeper that asks, and is gone before it confirms.
    let mut stream = UnixStream::connect(place.path("keeper.sock")).unwrap();
    stream.write_all(b"culvert-keeper 1 take\n").unwrap();
    drop(stream);
    let (second, parent) = place.wait_for(|(role, _)| role != first);
    assert_eq!(parent, old.pid());

    // One that asks nonsense, and one that says nothing, change nothing.
    UnixStream::connect(place.path("keeper.sock")).unwrap().write_all(b"GET / HTTP/1.1\r\n\r\n      ").unwrap();
    drop(UnixStream::connect(place.path("keeper.sock")).unwrap());
    assert_eq!(place.wait_for(|_| true).0, second);
}

#[test]
fn signals_restart_and_end() {
    let place = Place::new();
    let mut keeper = place.start("serves");
    let (first, _) = place.wait_for(|_| true);
    keeper.signal(Signal::SIGHUP);
    let (second, parent) = place.wait_for(|(role, _)| role != first);
    assert_eq!(parent, keeper.pid());
    keeper.signal(Signal::SIGINT);
    assert_eq!(keeper.ended(), Some(0));
    assert!(is_gone(second));
}

#[test]
fn a_role_that_does_not_end_is_killed_by_a_second_signal() {
    let place = Place::new();
    let mut keeper = place.start("serves");
    let (role, _) = place.wait_for(|_| true);
    halt(role);
    keeper.signal(Signal::SIGTERM);
    sleep(Duration::from_millis(300));
    assert!(keeper.0.try_wait().unwrap().is_none(), "it waits for its role");
    keeper.signal(Signal::SIGTERM);
    assert_eq!(keeper.ended(), Some(0));
    assert!(is_gone(role));
}

#[test]
fn a_role_that_always_dies_is_not_started_in_a_loop() {
    let place = Place::new();
    let mut keeper = place.start("dies");
    sleep(Duration::from_secs(2));
    let starts = std::fs::metadata(place.directory.path().join("starts")).unwrap().len();
    assert!((2..=6).contains(&starts), "after waits of 0, 250, 500, 1000 ms five starts are due, not {starts}");
    // The sockets are there and take connections for whichever role survives.
    UnixStream::connect(place.path("cni.sock")).unwrap();
    keeper.signal(Signal::SIGTERM);
    assert_eq!(keeper.ended(), Some(0));
}

#[test]
fn a_strange_listener_is_not_pushed_aside() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("")).unwrap();
    let _stranger = UnixListener::bind(place.path("cni.sock")).unwrap();
    let mut keeper = place.start("serves");
    assert_eq!(keeper.ended(), Some(1));
    UnixStream::connect(place.path("cni.sock")).expect("the stranger still listens");
}

#[test]
fn keepers_hold_no_more_than_they_name() {
    let place = Place::new();
    let keeper = place.start("serves");
    let (role, _) = place.wait_for(|_| true);
    for pid in [keeper.pid(), role] {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim().to_owned();
        // CAP_NET_ADMIN is 12, CAP_PERFMON 38, CAP_BPF 39.
        for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
            assert_eq!(field(set), "000000c000001000", "{set} of {pid}");
        }
        assert_eq!((field("CapAmb:").as_str(), field("NoNewPrivs:").as_str()), ("0000000000000000", "1"));
        let resident: u64 = field("VmRSS:").trim_end_matches(" kB").parse().unwrap();
        println!("{pid} resident {resident} kB");
    }
}

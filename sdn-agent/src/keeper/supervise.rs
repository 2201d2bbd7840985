//! The keeper's loop: one role is kept alive until somebody says stop, or takes over.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::acquire::KEEPER;
use super::backoff::Backoff;
use super::role::Role;
use super::{Address, Doors, GRACE, KeeperError, RoleCommand, Sockets, handover};

/// Why a keeper ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to, by SIGTERM or SIGINT.
    Asked,
    /// A newer keeper has its sockets.
    HandedOver,
}

/// What the keeper is up to.
#[derive(Debug)]
enum Intent {
    /// Keep a role running.
    Keep,
    /// End when the role has ended.
    Quit,
    /// Give the sockets to whoever is on this connection when the role has ended.
    HandOver(UnixStream),
}

/// The role as it is now.
#[derive(Debug)]
enum State {
    /// None runs; the next one starts then.
    Down { start: Instant },
    /// It runs.
    Up(Role),
    /// It was asked to end and is killed at the deadline.
    Ending(Role, Instant),
}

struct Keeper<'a> {
    sockets: &'a Sockets,
    doors: &'a Doors,
    command: &'a RoleCommand,
    intent: Intent,
    state: State,
    backoff: Backoff,
}

/// Runs the role until the keeper is asked to end or has handed over. The calling thread must be the process' only one: signals are
/// blocked in it, and the role dies with it.
pub fn supervise(sockets: &Sockets, doors: &Doors, command: &RoleCommand) -> Result<Ended, KeeperError> {
    let signals = open_signals().map_err(|errno| failed("take signals from a descriptor", errno.into()))?;
    let listener = listener(sockets)?;
    let state = State::Down { start: Instant::now() };
    let mut keeper = Keeper { sockets, doors, command, intent: Intent::Keep, state, backoff: Backoff::default() };
    loop {
        keeper.advance();
        if let Some(ended) = keeper.ended() {
            if ended == Ended::Asked {
                remove_socket_files(doors);
            }
            return Ok(ended);
        }
        wait(&signals, &listener, keeper.timeout())?;
        while let Ok(Some(info)) = signals.read_signal() {
            keeper.on_signal(info.ssi_signo);
        }
        if let Ok((stream, _)) = listener.accept() {
            keeper.on_request(stream);
        }
    }
}

fn failed(operation: &'static str, cause: io::Error) -> KeeperError {
    KeeperError::Process { operation, cause }
}

fn open_signals() -> nix::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD] {
        set.add(signal);
    }
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

fn listener(sockets: &Sockets) -> Result<UnixListener, KeeperError> {
    let missing = || KeeperError::Inherit { name: KEEPER.to_owned(), cause: "it is not open".to_owned() };
    let copy = sockets.find(KEEPER).ok_or_else(missing)?.try_clone_to_owned();
    let listener = copy.map(UnixListener::from).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    listener.map_err(|cause| failed("listen for a new keeper", cause))
}

fn wait(signals: &SignalFd, listener: &UnixListener, timeout: Option<Duration>) -> Result<(), KeeperError> {
    let mut descriptors =
        [PollFd::new(signals.as_fd(), PollFlags::POLLIN), PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    // Rounded up, or the last millisecond would be spent in a busy loop.
    let timeout = timeout.map_or(PollTimeout::NONE, |timeout| {
        PollTimeout::try_from(timeout + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
    });
    match poll(&mut descriptors, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(failed("wait for events", errno.into())),
    }
}

/// So that whoever connects to an agent that was ended on purpose is told at once that there is none.
fn remove_socket_files(doors: &Doors) {
    let own = [Address::Unix(doors.run.join("keeper.sock"))];
    for address in doors.role.iter().map(|(_, address)| address).chain(&own) {
        if let Address::Unix(path) = address
            && let Err(error) = std::fs::remove_file(path)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %path.display(), "cannot remove a socket");
        }
    }
}

// === impl Keeper ===

impl Keeper<'_> {
    /// Does what is due: start a role, kill one, give the sockets away.
    fn advance(&mut self) {
        match (&self.state, &self.intent) {
            (State::Down { start }, Intent::Keep) if *start <= Instant::now() => self.start(),
            (State::Down { .. }, Intent::HandOver(stream)) => {
                if let Err(error) = handover::give(stream, self.sockets) {
                    tracing::warn!(%error, "the new keeper did not take the sockets; going on");
                    self.intent = Intent::Keep;
                    self.start();
                }
            }
            (State::Ending(role, deadline), _) if *deadline <= Instant::now() => {
                tracing::warn!(pid = role.pid().as_raw(), "the role did not end in time: killing it");
                role.signal(Signal::SIGKILL);
                self.push_deadline();
            }
            _ => {}
        }
    }

    /// Whether all is done. The hand-over itself has been done by [`Self::advance`], which else changed the intent.
    fn ended(&self) -> Option<Ended> {
        match (&self.state, &self.intent) {
            (State::Down { .. }, Intent::Quit) => Some(Ended::Asked),
            (State::Down { .. }, Intent::HandOver(_)) => Some(Ended::HandedOver),
            _ => None,
        }
    }

    /// How long there is nothing to do unless something happens.
    fn timeout(&self) -> Option<Duration> {
        match &self.state {
            State::Down { start } => Some(start.saturating_duration_since(Instant::now())),
            State::Ending(_, deadline) => Some(deadline.saturating_duration_since(Instant::now())),
            State::Up(_) => None,
        }
    }

    fn start(&mut self) {
        let names: Vec<&str> = self.doors.role.iter().map(|(name, _)| *name).collect();
        match self.command.spawn(self.sockets, &names) {
            Ok(role) => {
                tracing::info!(pid = role.pid().as_raw(), "started the role");
                self.state = State::Up(role);
            }
            Err(error) => {
                let wait = self.backoff.after(Duration::ZERO);
                tracing::error!(%error, program = %self.command.program.display(), ?wait, "cannot start the role");
                self.state = State::Down { start: Instant::now() + wait };
            }
        }
    }

    fn on_signal(&mut self, number: u32) {
        match i32::try_from(number).ok().and_then(|number| Signal::try_from(number).ok()) {
            Some(Signal::SIGCHLD) => self.reap(),
            Some(Signal::SIGHUP) => match self.state {
                State::Down { .. } => self.state = State::Down { start: Instant::now() },
                _ => self.end_role("asked to restart it"),
            },
            Some(signal) => {
                // A connection of a new keeper is closed by this: it finds nobody and opens the sockets itself.
                let again = matches!(std::mem::replace(&mut self.intent, Intent::Quit), Intent::Quit);
                match &self.state {
                    State::Ending(role, _) if again => role.signal(Signal::SIGKILL),
                    _ => self.end_role(signal.as_str()),
                }
            }
            None => {}
        }
    }

    fn on_request(&mut self, stream: UnixStream) {
        if !matches!(self.intent, Intent::Keep) {
            // Whoever comes second asks again, and finds the first.
            return;
        }
        match handover::read_request(&stream) {
            Ok(()) => {
                self.intent = Intent::HandOver(stream);
                self.end_role("a new keeper takes over");
            }
            Err(error) => tracing::warn!(%error, "refused a request for the sockets"),
        }
    }

    fn end_role(&mut self, why: &str) {
        let down = State::Down { start: Instant::now() };
        self.state = match std::mem::replace(&mut self.state, down) {
            State::Up(role) => {
                tracing::info!(pid = role.pid().as_raw(), why, "ending the role");
                role.signal(Signal::SIGTERM);
                State::Ending(role, Instant::now() + GRACE)
            }
            other => other,
        };
    }

    fn push_deadline(&mut self) {
        if let State::Ending(_, deadline) = &mut self.state {
            *deadline = Instant::now() + GRACE;
        }
    }

    /// Reaps every child that has ended. As the first process of a container the keeper inherits strangers' children too.
    fn reap(&mut self) {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(status) => self.on_exit(status),
                Err(Errno::EINTR) => {}
                Err(errno) => return tracing::warn!(%errno, "cannot wait for the role"),
            }
        }
    }

    fn on_exit(&mut self, status: WaitStatus) {
        let (role, asked) = match &self.state {
            State::Up(role) => (role, false),
            State::Ending(role, _) => (role, true),
            State::Down { .. } => return,
        };
        if status.pid() != Some(role.pid()) {
            return;
        }
        let (pid, lived) = (role.pid().as_raw(), role.lived());
        let wait = if asked { Duration::ZERO } else { self.backoff.after(lived) };
        if asked {
            tracing::info!(pid, status = %describe(status), "the role has ended");
        } else {
            tracing::error!(pid, status = %describe(status), ?lived, restart_in = ?wait, "the role has died");
        }
        self.state = State::Down { start: Instant::now() + wait };
    }
}

fn describe(status: WaitStatus) -> String {
    match status {
        WaitStatus::Exited(_, code) => format!("code {code}"),
        WaitStatus::Signaled(_, signal, _) => format!("signal {signal}"),
        other => format!("{other:?}"),
    }
}

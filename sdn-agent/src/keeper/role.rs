//! The role as a child process.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Sockets;
use super::inherited::{KEEPER_VARIABLE, SOCKETS_VARIABLE};

/// How the role is started.
#[derive(Debug, Clone)]
pub struct RoleCommand {
    /// File to execute.
    pub program: OsString,
    /// Its arguments, without the program's name.
    pub arguments: Vec<OsString>,
}

/// A role that runs, or ran and was not reaped yet: its process id cannot belong to anyone else.
#[derive(Debug)]
pub(super) struct Role {
    pid: Pid,
    started: Instant,
}

impl RoleCommand {
    /// This very program with the arguments that it was started with. Through /proc/self/exe it stays the same file when the one on
    /// disk is replaced: keeper and role are always of one version.
    pub fn itself() -> Self {
        Self { program: "/proc/self/exe".into(), arguments: std::env::args_os().skip(1).collect() }
    }

    /// Another program, with its arguments.
    pub fn other(command: Vec<String>) -> Self {
        let mut words = command.into_iter().map(OsString::from);
        Self { program: words.next().unwrap_or_default(), arguments: words.collect() }
    }

    /// Starts the role with the sockets of these names, which the environment tells it by their numbers.
    pub(super) fn spawn(&self, sockets: &Sockets, names: &[&str]) -> io::Result<Role> {
        let passed: Vec<(&str, BorrowedFd<'_>)> =
            names.iter().filter_map(|name| sockets.find(name).map(|socket| (*name, socket))).collect();
        let list: Vec<String> = passed.iter().map(|(name, socket)| format!("{name}={}", socket.as_raw_fd())).collect();
        let inherit = |flags| passed.iter().try_for_each(|(_, fd)| fcntl(fd, FcntlArg::F_SETFD(flags)).map(drop));
        inherit(FdFlag::empty())?;
        let child = Command::new(&self.program)
            .arg0("sdn-agent")
            .args(&self.arguments)
            .env(SOCKETS_VARIABLE, list.join(","))
            .env(KEEPER_VARIABLE, std::process::id().to_string())
            .stdin(Stdio::null())
            .spawn();
        inherit(FdFlag::FD_CLOEXEC)?;
        let pid = i32::try_from(child?.id()).map_err(io::Error::other)?;
        Ok(Role { pid: Pid::from_raw(pid), started: Instant::now() })
    }
}

impl Role {
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    pub(super) fn lived(&self) -> Duration {
        self.started.elapsed()
    }

    /// Sends a signal. One that has ended already but was not reaped takes it without effect.
    pub(super) fn signal(&self, signal: Signal) {
        if let Err(errno) = kill(self.pid, signal)
            && errno != Errno::ESRCH
        {
            tracing::warn!(pid = self.pid.as_raw(), %signal, %errno, "cannot signal the role");
        }
    }
}

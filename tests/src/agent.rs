//! The agent of a node, run as a DaemonSet's pod is: started again when its keeper ends, unless a test wants otherwise.
//!
//! Each keeper has a thread that waits for its end. A keeper that has ended is reaped only under the state's lock, so that a
//! process id found in the state always is that keeper's.

mod inspect;

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use crate::events::Events;
use crate::sandbox::Sandbox;

/// A keeper that ran less than this is started again with a growing delay.
const STABLE: Duration = Duration::from_secs(10);

/// First delay before a keeper is started again; doubled up to [`LONGEST_DELAY`].
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// How long an agent may take to end when it is asked to.
const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// How long a new keeper may take to take over from the old one.
const HANDOVER_DEADLINE: Duration = Duration::from_secs(30);

/// How an agent is started.
#[derive(Debug, Clone)]
pub struct AgentCommand {
    /// `sdn-agent`, or another build of it.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Added to the environment of the lab's process, of which `CULVERT_…` is taken away.
    pub environment: Vec<(String, String)>,
}

/// A node's agent. Clones are the same agent.
#[derive(Debug, Clone)]
pub struct Agent(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    node: String,
    sandbox: Sandbox,
    log: PathBuf,
    events: Arc<Events>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    command: AgentCommand,
    /// Start a keeper again when the last one ends.
    restart: bool,
    /// Running keepers, the current one last.
    keepers: Vec<Keeper>,
    /// Keepers started so far.
    started: u32,
    /// Keepers started because one had ended by itself.
    restarts: u32,
    delay: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Keeper {
    number: u32,
    pid: Pid,
    since: Instant,
}

impl Agent {
    /// An agent which is not started yet, to run in `sandbox` and print into `log`.
    pub fn new(node: &str, sandbox: Sandbox, log: PathBuf, command: AgentCommand, events: Arc<Events>) -> Self {
        let state = State { command, restart: true, keepers: vec![], started: 0, restarts: 0, delay: FIRST_DELAY };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Self(Arc::new(Shared { node: node.into(), sandbox, log, events, state, changed }))
    }

    /// Starts it; nothing happens if it runs.
    pub fn start(&self) -> Result<()> {
        let mut state = self.state();
        state.restart = true;
        if state.keepers.is_empty() { self.start_keeper(&mut state) } else { Ok(()) }
    }

    /// Whether the lab starts it again when it ends by itself.
    pub fn set_restart(&self, restart: bool) {
        self.state().restart = restart;
        self.0.changed.notify_all();
    }

    /// The current keeper's process id.
    pub fn keeper(&self) -> Option<Pid> {
        self.state().keepers.last().map(|keeper| keeper.pid)
    }

    /// How often it was started because it had ended by itself.
    pub fn restarts(&self) -> u32 {
        self.state().restarts
    }

    /// Where everything that it prints goes.
    pub fn log(&self) -> &Path {
        &self.0.log
    }

    /// SIGKILLs the keeper, leaving its children to their fate. Returns its process id.
    pub fn kill_keeper(&self) -> Result<Pid> {
        let state = self.state();
        let Some(keeper) = state.keepers.last() else { bail!("the agent of {} does not run", self.0.node) };
        kill(keeper.pid, Signal::SIGKILL).with_context(|| format!("kill the keeper of {}", self.0.node))?;
        self.0.events.happened(&self.0.node, format_args!("killed the keeper {}", keeper.pid));
        Ok(keeper.pid)
    }

    /// SIGKILLs the role, the keeper's child. Returns its process id.
    pub fn kill_role(&self) -> Result<Pid> {
        let Some(role) = self.role() else { bail!("the agent of {} has no running role", self.0.node) };
        kill(role, Signal::SIGKILL).with_context(|| format!("kill the role of {}", self.0.node))?;
        self.0.events.happened(&self.0.node, format_args!("killed the role {role}"));
        Ok(role)
    }

    /// Starts `program` beside the running keeper, which hands over and ends. On failure the old one goes on.
    pub fn replace(&self, program: &Path) -> Result<()> {
        let mut state = self.state();
        ensure!(!state.keepers.is_empty(), "the agent of {} does not run: nothing to take over from", self.0.node);
        let older = std::mem::replace(&mut state.command.program, program.to_owned());
        if let Err(error) = self.start_keeper(&mut state) {
            state.command.program = older;
            return Err(error);
        }
        let number = state.started;
        let mut state = self.wait_while(state, HANDOVER_DEADLINE, |state| {
            state.keepers.len() > 1 && state.keepers.iter().any(|keeper| keeper.number == number)
        });
        if matches!(state.keepers[..], [keeper] if keeper.number == number) {
            return Ok(());
        }
        state.command.program = older;
        bail!("{} did not take over from the old keeper on {}: {}", program.display(), self.0.node, self.last_words())
    }

    /// Asks it to end (SIGTERM) and waits; it is not started again.
    pub fn stop(&self) -> Result<()> {
        let mut state = self.state();
        state.restart = false;
        for keeper in &state.keepers {
            // It may have ended, unreaped.
            kill(keeper.pid, Signal::SIGTERM).ok();
        }
        let state = self.wait_while(state, STOP_DEADLINE, |state| !state.keepers.is_empty());
        let words = || self.last_words();
        ensure!(state.keepers.is_empty(), "the agent of {} does not end on SIGTERM: {}", self.0.node, words());
        Ok(())
    }

    /// The last lines of its log, for messages.
    pub fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.0.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        if lines.is_empty() {
            return "it printed nothing".into();
        }
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way through a change.
        self.0.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Waits as long as `condition` holds, but not longer than `patience`.
    fn wait_while<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        patience: Duration,
        condition: impl FnMut(&mut State) -> bool,
    ) -> MutexGuard<'a, State> {
        let waited = self.0.changed.wait_timeout_while(state, patience, condition);
        waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0
    }

    fn start_keeper(&self, state: &mut State) -> Result<()> {
        let child = self.0.sandbox.spawn(&mut self.command(&state.command)?)?;
        let pid = Pid::from_raw(child.id().cast_signed());
        state.started += 1;
        state.keepers.push(Keeper { number: state.started, pid, since: Instant::now() });
        self.0.events.happened(&self.0.node, format_args!("started the agent, keeper {pid}"));
        let (agent, number) = (self.clone(), state.started);
        thread::Builder::new()
            .name(format!("keeper-{pid}"))
            .spawn(move || agent.await_end(number, child))
            .context("start a thread for a keeper")?;
        self.0.changed.notify_all();
        Ok(())
    }

    fn command(&self, given: &AgentCommand) -> Result<Command> {
        let log = OpenOptions::new().create(true).append(true).open(&self.0.log);
        let log = log.with_context(|| format!("open {}", self.0.log.display()))?;
        let mut command = Command::new(&given.program);
        command.args(&given.arguments).stdin(Stdio::null());
        command.stdout(log.try_clone().context("share the agent's log")?).stderr(log);
        // What the lab's user has set for an agent of his own is not for these.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"CULVERT_")) {
            command.env_remove(name);
        }
        command.envs(given.environment.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }

    fn await_end(&self, number: u32, mut child: Child) {
        let pid = Pid::from_raw(child.id().cast_signed());
        // Only looks: the process id stays taken until the keeper is out of the state.
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        while waitid(Id::Pid(pid), look) == Err(Errno::EINTR) {}
        let mut state = self.state();
        let Some(place) = state.keepers.iter().position(|keeper| keeper.number == number) else { return };
        let keeper = state.keepers.remove(place);
        let status = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        self.0.events.happened(&self.0.node, format_args!("keeper {pid} ended: {status}"));
        self.0.changed.notify_all();
        let was_last = state.keepers.is_empty();
        if was_last && state.restart {
            self.restart_after_delay(state, keeper);
        }
    }

    fn restart_after_delay(&self, mut state: MutexGuard<'_, State>, ended: Keeper) {
        let delay = if ended.since.elapsed() >= STABLE { FIRST_DELAY } else { state.delay };
        state.delay = (delay * 2).min(LONGEST_DELAY);
        let mut state = self.wait_while(state, delay, |state| state.restart && state.keepers.is_empty());
        if state.restart && state.keepers.is_empty() {
            state.restarts += 1;
            if let Err(error) = self.start_keeper(&mut state) {
                self.0.events.happened(&self.0.node, format_args!("cannot start the agent again: {error:#}"));
            }
        }
    }
}

#[cfg(test)]
mod tests;

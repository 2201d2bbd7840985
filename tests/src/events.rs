//! What happens in a lab: a line each in its `events.log`, and to whoever asked for progress.

use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

/// How far the start of a lab has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The underlay and this many nodes are there.
    NodesUp(usize),
    /// One more agent is ready.
    AgentReady {
        /// Its node.
        node: String,
        /// Agents that are ready.
        ready: usize,
        /// All agents.
        total: usize,
    },
    /// One more pod is ready, or has been given up.
    PodSettled {
        /// Pods that are ready.
        ready: usize,
        /// Pods that have been tried.
        settled: usize,
        /// All pods.
        total: usize,
    },
    /// Something that a person should know.
    Note(String),
}

/// Told about the progress of a lab, from several threads.
pub type Watcher = Box<dyn Fn(&Progress) + Send + Sync>;

/// The wish that a lab which is coming up stops doing so. Clones are the same wish.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

/// The log and the watcher.
pub struct Events {
    began: Instant,
    log: Mutex<File>,
    watcher: Option<Watcher>,
    interrupt: Interrupt,
}

// === impl Interrupt ===

impl Interrupt {
    /// Makes the wish.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was made.
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// An error if it was made.
    pub fn check(&self) -> Result<()> {
        ensure!(!self.is_requested(), "interrupted");
        Ok(())
    }
}

// === impl Events ===

impl Events {
    /// Begins the log at `file`.
    pub fn begin(file: &Path, watcher: Option<Watcher>, interrupt: Interrupt) -> Result<Self> {
        let log = File::create(file).with_context(|| format!("make {}", file.display()))?;
        Ok(Self { began: Instant::now(), log: Mutex::new(log), watcher, interrupt })
    }

    /// Whether whoever wanted the lab does not want it any more.
    pub fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// Writes down that `what` happened to `whom`.
    pub fn happened(&self, whom: &str, what: impl fmt::Display) {
        let line = format!("{:9.3} {whom}: {what}\n", self.began.elapsed().as_secs_f64());
        // A log that cannot be written (its lab is being removed) is no reason to fail what it is about.
        self.log.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).write_all(line.as_bytes()).ok();
    }

    /// Writes progress down and passes it on.
    pub fn progress(&self, progress: &Progress) {
        self.happened("lab", progress);
        if let Some(watcher) = &self.watcher {
            watcher(progress);
        }
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodesUp(count) => write!(f, "{count} nodes up"),
            Self::AgentReady { node, ready, total } => write!(f, "agents ready {ready}/{total} ({node})"),
            Self::PodSettled { ready, settled, total } => match settled - ready {
                0 => write!(f, "pods ready {ready}/{total}"),
                failed => write!(f, "pods ready {ready}/{total}, {failed} failed"),
            },
            Self::Note(note) => f.write_str(note),
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("began", &self.began).finish_non_exhaustive()
    }
}

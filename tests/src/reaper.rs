//! The reaper: a process beside each owner of a lab, which removes the lab when its owner dies without having done so.
//!
//! It waits for the end of its standard input, whose other side only the owner holds: whichever way the owner ends, the
//! kernel closes it.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::state::{LabDir, REMOVAL_DEADLINE};

/// The subcommand of `sdn-lab` that is the reaper; for nobody else to call.
pub const SUBCOMMAND: &str = "reap";

/// A running reaper.
#[derive(Debug)]
pub struct Reaper {
    child: Child,
}

impl Reaper {
    /// Starts `program` (`sdn-lab`) as the reaper of `lab`.
    pub fn start(program: &Path, lab: &LabDir) -> Result<Self> {
        let mut command = Command::new(program);
        let owner = std::process::id().to_string();
        command.args([SUBCOMMAND, lab.name(), &owner]).stdin(Stdio::piped());
        // Whoever reads what the owner says must not wait for the reaper's end too.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        // Not in the owner's process group: a Ctrl-C meant for the owner must not end it.
        let child = command.process_group(0).spawn().with_context(|| format!("start {}", program.display()))?;
        Ok(Self { child })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tells it that the lab has been removed, or must be now, and waits for its end.
    pub fn dismiss(mut self) {
        drop(self.child.stdin.take());
        // It has nothing to say: what could go wrong went wrong with the removal.
        self.child.wait().ok();
    }
}

/// What the reaper of the lab `name` of the process `owner` does.
pub fn run(name: &str, owner: u32) -> Result<()> {
    let lab = LabDir::new(name)?;
    // An error here would mean the same as the end: nobody holds the other side.
    std::io::stdin().read_to_end(&mut Vec::new()).ok();
    let deadline = Instant::now() + REMOVAL_DEADLINE;
    // A process that is ending closes this pipe a moment before it gives up its lock.
    while lab.exists() && !lab.remove_stale()? && Instant::now() < deadline {
        if lab.record()?.is_some_and(|record| record.owner.pid != owner) {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

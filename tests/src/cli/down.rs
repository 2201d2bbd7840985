//! `sdn-lab down`

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::DownArgs;
use crate::record::Owner;
use crate::state::{self, LabDir};

/// How long an owner may take to take its lab down before it is killed, and its reaper after that.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn run(arguments: &DownArgs) -> Result<u8> {
    let names = match (&arguments.lab.name, arguments.all) {
        (Some(name), _) => vec![name.clone()],
        (None, true) => state::names(),
        (None, false) => match state::names() {
            several if several.len() > 1 => {
                bail!("several labs are up, say which with --name, or --all: {}", several.join(", "))
            }
            names => names,
        },
    };
    if names.is_empty() {
        println!("no lab is up");
    }
    for name in names {
        take_down(&LabDir::new(&name)?)?;
    }
    Ok(0)
}

fn take_down(lab: &LabDir) -> Result<()> {
    let name = lab.name();
    if !lab.exists() {
        bail!("no lab '{name}' is up: see `sdn-lab status`");
    }
    if lab.remove_stale()? {
        println!("removed what was left of the lab '{name}'");
        return Ok(());
    }
    let owner = lab.record()?.map(|record| record.owner);
    // Politely first; a killed owner's lab is removed by its reaper.
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        if let Some(owner) = owner.filter(Owner::is_alive) {
            kill(Pid::from_raw(owner.pid.cast_signed()), signal)
                .with_context(|| format!("end process {}, which holds the lab '{name}'", owner.pid))?;
        }
        if is_gone(lab, owner)? {
            println!("took the lab '{name}' down");
            return Ok(());
        }
    }
    bail!("the lab '{name}' does not go away: see {}", lab.path().display())
}

/// Waits until somebody has removed the lab; does it if its owner ends without.
fn is_gone(lab: &LabDir, owner: Option<Owner>) -> Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if !lab.exists() || lab.remove_stale()? {
            return Ok(true);
        }
        // Taken down and brought up again by somebody else.
        if lab.record()?.is_some_and(|record| owner.is_some_and(|owner| record.owner != owner)) {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(false)
}

//! What a lab could leave behind on a machine, looked at before and after: for tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// How long what a lab was made of may take to be gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// What there is at one moment.
#[derive(Debug, PartialEq, Eq)]
pub struct Machine {
    /// Interfaces, addresses and routes of the machine's own network.
    network: String,
    /// Places that labs and agents use.
    places: BTreeSet<&'static str>,
}

/// Where a lab's or an agent's files would be if they came to be on the machine.
const PLACES: [&str; 8] = [
    "/etc/cni",
    "/opt/cni",
    "/run/culvert",
    "/run/netns",
    "/sys/fs/bpf/culvert",
    "/var/lib/culvert",
    "/var/run/netns",
    "/etc/culvert",
];

impl Machine {
    /// Looks.
    pub fn look() -> Result<Self> {
        let network = [&["-brief", "address"][..], &["route"], &["-6", "route"]].map(ip);
        let network = network.into_iter().collect::<Result<Vec<_>>>()?.concat();
        let places = PLACES.into_iter().filter(|place| Path::new(place).exists()).collect();
        Ok(Self { network, places })
    }

    /// What is different now, apart from `lab`, and what there is of `lab`. Waits a little for what ends on its own time.
    pub fn changes_after(&self, lab: &str) -> Result<Vec<String>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let changes = self.changes(lab)?;
            if changes.is_empty() || Instant::now() > deadline {
                return Ok(changes);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn changes(&self, lab: &str) -> Result<Vec<String>> {
        let now = Self::look()?;
        let mut changes = traces(lab)?;
        changes.extend(now.places.symmetric_difference(&self.places).map(|place| format!("{place} came or went")));
        if now.network != self.network {
            changes.push(format!("the machine's network was\n{}and is\n{}", self.network, now.network));
        }
        Ok(changes)
    }
}

fn ip(arguments: &[&str]) -> Result<String> {
    let output = Command::new("ip").args(arguments).output().context("run ip (package iproute2)")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whatever carries the name of `lab`: directories, mounts, cgroups, processes.
pub fn traces(lab: &str) -> Result<Vec<String>> {
    let directory = format!("/run/culvert-lab/{lab}");
    let mut found: Vec<String> = Path::new(&directory).exists().then(|| directory.clone()).into_iter().collect();
    let cgroups = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(|root| format!("{root}/culvert-lab-{lab}"));
    found.extend(cgroups.into_iter().filter(|cgroup| Path::new(cgroup).exists()));
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    found.extend(mounts.lines().filter(|mount| mount.contains(&directory)).map(Into::into));
    for process in fs::read_dir("/proc").context("read /proc")?.flatten() {
        // A process that has just ended has no files any more, and one that its parent has not yet looked after no command line.
        let read = |file| fs::read_to_string(process.path().join(file)).unwrap_or_default();
        let command = read("cmdline");
        let inside = !command.is_empty() && read("cgroup").contains(&format!("culvert-lab-{lab}/"));
        if inside || command.contains(&format!("reap\0{lab}\0")) {
            found.push(format!("{} {}", process.path().display(), command.replace('\0', " ")));
        }
    }
    Ok(found)
}

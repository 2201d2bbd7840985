//! `sdn-lab up`

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::interrupts::{self, INTERRUPTED};
use super::{ClusterArgs, UpArgs};
use crate::builder::LabBuilder;
use crate::events::{Interrupt, Progress};
use crate::lab::Lab;

pub fn run(arguments: &UpArgs) -> Result<u8> {
    if arguments.detach {
        return start_in_background();
    }
    if arguments.in_background {
        // Its terminal may go away, and Ctrl-C there is for others.
        nix::unistd::setsid().context("leave the terminal")?;
    }
    let interrupt = Interrupt::default();
    let interrupted = interrupts::listen(&interrupt)?;
    let mut builder = arguments.cluster.describe(&arguments.name).until(&interrupt).on_progress(print_progress);
    if !arguments.wait {
        builder = builder.tolerate_unready();
    }
    let lab = match builder.start() {
        Ok(lab) => lab,
        Err(_) if interrupt.is_requested() => return Ok(INTERRUPTED),
        Err(error) => return Err(error),
    };
    println!("{}", greeting(&lab, arguments.in_background));
    if arguments.in_background {
        close_terminal(&lab)?;
    }
    interrupted.recv().context("wait for Ctrl-C")?;
    println!("taking the lab '{}' down", lab.name());
    lab.stop().map(|()| 0)
}

impl ClusterArgs {
    pub(super) fn describe(&self, name: &str) -> LabBuilder {
        let mut builder = Lab::builder(name).family(self.family.family()).patience(Duration::from_secs(self.timeout));
        if let Some(nodes) = self.nodes {
            builder = builder.nodes(nodes.into());
        }
        if let Some(filter) = &self.log_level {
            builder = builder.agent_environment("CULVERT_LOG_LEVEL", filter);
        }
        self.filename.iter().fold(builder, |builder, path| builder.manifests(path))
    }
}

pub(super) fn print_progress(progress: &Progress) {
    match progress {
        // Of two hundred pods, not every one needs a line.
        Progress::PodSettled { settled, total, .. } if settled != total && settled % (total / 10).max(1) != 0 => {}
        progress => println!("{progress}"),
    }
}

fn greeting(lab: &Lab, in_background: bool) -> String {
    let pods = lab.pods();
    let ready = pods.iter().filter(|pod| pod.is_ready()).count();
    let nodes = lab.nodes().len();
    let name = lab.name();
    let end = if in_background { format!("sdn-lab down --name {name}") } else { "Ctrl-C".into() };
    let example = pods.first().map_or("node/node-1".into(), |pod| pod.key().to_string());
    let mut text = format!("the lab '{name}' is up: {nodes} nodes, {ready} of {} pods\n", pods.len());
    for pod in pods.iter().filter(|pod| !pod.problems().is_empty()) {
        text += &format!("  {}: {}\n", pod.key(), pod.problems().join("; "));
    }
    text + &format!(
        "try: sdn-lab status --name {name} | sdn-lab exec --name {name} {example} -- ip address | end it: {end}"
    )
}

/// Starts the same command as a daemon, shows what it says until the lab is up, and leaves it.
fn start_in_background() -> Result<u8> {
    let this = std::env::current_exe().context("find the running program")?;
    let arguments = std::env::args_os().skip(1).filter(|argument| argument != "--detach" && argument != "-d");
    let mut command = Command::new(this);
    command.args(arguments).arg("--in-background").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("start a process in the background")?;
    if let Some(said) = child.stdout.take() {
        for line in BufReader::new(said).lines() {
            println!("{}", line.context("read from the process in the background")?);
        }
    }
    // It closes its output when the lab is up, or by ending.
    std::thread::sleep(Duration::from_millis(50));
    let ended = child.try_wait().context("look after the process in the background")?;
    Ok(ended.map_or(0, |status| status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// What is still to be said goes to a log of the lab.
fn close_terminal(lab: &Lab) -> Result<()> {
    std::io::stdout().flush().ok();
    let path = lab.dir().logs().join("lab.log");
    let log = OpenOptions::new().create(true).append(true).open(&path);
    let log = log.with_context(|| format!("open {}", path.display()))?;
    nix::unistd::dup2_stdout(&log).context("redirect standard output")?;
    nix::unistd::dup2_stderr(&log).context("redirect standard error")
}

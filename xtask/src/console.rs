//! What people see: steps with elapsed times, and tables. Colour and moving lines only on a terminal.

use std::env;
use std::fmt;
use std::io::{self, BufRead, BufReader, IsTerminal, PipeReader, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often a step without a terminal says that it is still at work.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// How long output may arrive after the process that wrote it has ended: then someone else holds its pipe.
const AFTERMATH: Duration = Duration::from_secs(2);
/// How often a moving line is drawn.
const REDRAW: Duration = Duration::from_millis(100);

/// How much of a failed command's output is shown.
const LAST_LINES: usize = 30;

/// A meaning, not a colour.
#[derive(Clone, Copy)]
pub enum Tone {
    Good,
    Bad,
    Careful,
    Quiet,
    Strong,
}

/// One piece of work that takes a while: announced, kept alive, and closed with its time.
pub struct Step {
    label: String,
    started: Instant,
    spoken: Instant,
}

/// How a process ended, and all that it wrote.
pub struct Finished {
    pub status: ExitStatus,
    pub lines: Vec<String>,
    /// A process that it started outlives it and holds its output.
    pub left_running: bool,
}

/// Rows of text in columns, the first left-aligned, the others right-aligned.
pub struct Table {
    rows: Vec<Vec<String>>,
}

// === impl Step ===

impl Step {
    pub fn start(label: impl Into<String>) -> Self {
        let step = Self { label: label.into(), started: Instant::now(), spoken: Instant::now() };
        step.show("");
        step
    }

    /// Says what is being done right now.
    pub fn progress(&mut self, detail: &str) {
        let pause = if live() { REDRAW } else { HEARTBEAT };
        if self.spoken.elapsed() < pause {
            return;
        }
        self.spoken = Instant::now();
        if live() {
            self.show(detail);
        } else {
            println!("{} … {} {detail}", self.label, Elapsed(self.started.elapsed()));
        }
    }

    pub fn done(self, outcome: &str) {
        self.close(Tone::Good, "ok", outcome);
    }

    pub fn failed(self, outcome: &str) {
        self.close(Tone::Bad, "failed", outcome);
    }

    /// There was nothing to do, and nothing is said.
    pub fn discard(self) {
        if live() {
            print!("\r\x1b[2K");
        }
    }

    /// Neither done nor failed, for a reason outside of the work.
    pub fn undecided(self, reason: &str) {
        self.close(Tone::Careful, "undecided", reason);
    }

    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn show(&self, detail: &str) {
        if live() {
            let line = format!("{} … {} {detail}", self.label, Elapsed(self.started.elapsed()));
            let line: String = line.chars().filter(|c| !c.is_control()).collect();
            // Without wrapping, the terminal itself cuts what is too long.
            print!("\r\x1b[2K\x1b[?7l{line}\x1b[?7h");
            flush();
        }
    }

    fn close(self, tone: Tone, word: &str, outcome: &str) {
        if live() {
            print!("\r\x1b[2K");
        }
        let time = paint(Tone::Quiet, Elapsed(self.started.elapsed()));
        println!("{} {} {time}{}{outcome}", paint(tone, word), self.label, if outcome.is_empty() { "" } else { "  " });
    }
}

/// Runs a command as a step of its own, quietly; when it fails, its last words are shown.
pub fn quietly(label: &str, command: &mut Command) -> Result<()> {
    let mut step = Step::start(label);
    let Finished { status, lines, .. } = watch(&mut step, command, |line| Some(line.trim().to_owned()))?;
    if status.success() {
        step.done("");
        return Ok(());
    }
    step.failed(&status.to_string());
    for line in lines.iter().skip(lines.len().saturating_sub(LAST_LINES)) {
        say(Tone::Quiet, format!("    {line}"));
    }
    bail!("{label} failed ({status}); its last words are above")
}

/// Runs a command, showing the last line that it wrote as progress. Its output is returned, not printed.
pub fn watch(step: &mut Step, command: &mut Command, describe: impl Fn(&str) -> Option<String>) -> Result<Finished> {
    let name = command.get_program().to_string_lossy().into_owned();
    let (reader, writer) = io::pipe().context("cannot make a pipe")?;
    command.stdin(Stdio::null()).stderr(writer.try_clone().context("cannot duplicate a pipe")?).stdout(writer);
    let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
    // The command holds the pipe's other end for as long as it lives, which is longer than its child does.
    command.stdout(Stdio::null()).stderr(Stdio::null());

    let lines_read = read_lines(reader);
    let mut lines = Vec::new();
    let mut detail = String::new();
    let mut ended: Option<(ExitStatus, Instant)> = None;
    let left_running = loop {
        match lines_read.recv_timeout(REDRAW) {
            Ok(line) => {
                detail = describe(&line).unwrap_or(detail);
                lines.push(line);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break false,
        }
        step.progress(&detail);
        if ended.is_none() {
            let status = child.try_wait().with_context(|| format!("cannot wait for {name}"))?;
            ended = status.map(|status| (status, Instant::now()));
        }
        if ended.is_some_and(|(_, at)| at.elapsed() > AFTERMATH) {
            break true;
        }
    };
    let status = child.wait().with_context(|| format!("cannot wait for {name}"))?;
    Ok(Finished { status, lines, left_running })
}

/// Lines of a pipe, read by a thread of their own that ends with the pipe.
fn read_lines(reader: PipeReader) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

// === impl Table ===

impl Table {
    pub fn new<const N: usize>(header: [&str; N]) -> Self {
        Self { rows: vec![header.map(str::to_owned).to_vec()] }
    }

    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    /// Prints the table; `tone` colours whole rows, numbered from 0 without the header.
    pub fn print(&self, tone: impl Fn(usize) -> Option<Tone>) {
        for (number, line) in self.lines().iter().enumerate() {
            match number.checked_sub(1) {
                None => println!("{}", paint(Tone::Strong, line)),
                Some(row) => match tone(row) {
                    Some(tone) => println!("{}", paint(tone, line)),
                    None => println!("{line}"),
                },
            }
        }
    }

    fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }
}

/// A duration as people say it: tenths of a second below a minute.
pub struct Elapsed(pub Duration);

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let text = match seconds {
            0..60 => format!("{:.1} s", self.0.as_secs_f64()),
            _ => format!("{} min {:02} s", seconds / 60, seconds % 60),
        };
        f.pad(&text)
    }
}

/// A heading above the steps of one task.
pub fn heading(text: &str) {
    println!("{}", paint(Tone::Strong, text));
}

/// A line of its own in a tone.
pub fn say(tone: Tone, text: impl fmt::Display) {
    println!("{}", paint(tone, text));
}

/// The end of a task that could not do its work: what, and the chain of causes.
pub fn error(error: &anyhow::Error) {
    flush();
    eprintln!("{}: {error:#}", paint(Tone::Bad, "error"));
}

fn paint(tone: Tone, text: impl fmt::Display) -> String {
    if !coloured() {
        return text.to_string();
    }
    let code = match tone {
        Tone::Good => "32",
        Tone::Bad => "1;31",
        Tone::Careful => "33",
        Tone::Quiet => "2",
        Tone::Strong => "1",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

fn coloured() -> bool {
    env::var_os("NO_COLOR").is_none() && io::stdout().is_terminal()
}

/// Whether a line can be drawn over.
fn live() -> bool {
    io::stdout().is_terminal() && env::var_os("TERM").is_some_and(|terminal| terminal != "dumb")
}

fn flush() {
    // A closed standard output is noticed by the next println.
    let _ = io::stdout().flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["suite", "passed"]);
        table.row(["sdn-cluster".into(), "7".into()]);
        table.row(["é".into(), "1234567".into()]);
        assert_eq!(table.lines(), ["suite         passed", "sdn-cluster        7", "é            1234567"]);
    }

    #[test]
    fn elapsed_is_exact_below_a_minute_and_short_above() {
        assert_eq!(Elapsed(Duration::from_millis(1250)).to_string(), "1.2 s");
        assert_eq!(Elapsed(Duration::from_secs(125)).to_string(), "2 min 05 s");
    }

    #[test]
    fn a_watched_command_gives_its_status_and_both_streams() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let finished = watch(&mut Step::start("sh"), &mut command, |_| None).expect("sh runs");
        assert_eq!(finished.status.code(), Some(3));
        let mut lines = finished.lines;
        lines.sort();
        assert_eq!(lines, ["err", "out"]);
        assert!(!finished.left_running);
    }

    #[test]
    fn a_process_left_behind_does_not_hold_up_the_watch() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 20 & echo done"]);
        let started = Instant::now();
        let finished = watch(&mut Step::start("sh"), &mut command, |_| None).expect("sh runs");
        assert!(finished.left_running);
        assert_eq!(finished.lines, ["done"]);
        assert!(started.elapsed() < Duration::from_secs(15));
    }
}

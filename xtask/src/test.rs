//! `cargo xtask test`: set up, build, run every suite as root, count.
//!
//! The test executables are run one by one, not by `cargo test`: the build stays an ordinary user's, only the tests are
//! root's; each suite's output goes to a file; and a test that cannot run here counts as skipped instead of as passed.

mod libtest;
mod programs;
mod suite;

use std::env;
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::build::{Profile, Workspace};
use crate::console::{self, Elapsed, Table, Tone};
use crate::privilege::Privilege;
use crate::setup::{self, Purpose};
use suite::{Conditions, Outcome, Suite};

/// Read by tests that are quick by default and thorough when asked.
const LONG: &str = "CULVERT_TEST_LONG";
/// Read by tests that sample: the same seed gives the same samples.
const SEED: &str = "CULVERT_TEST_SEED";
/// The same for property tests.
const PROPTEST_SEED: &str = "PROPTEST_RNG_SEED";
/// Where the lab finds sdn-agent, sdnctl and sdn-cni.
const BINARIES: &str = "CULVERT_BIN_DIR";

#[derive(Args)]
pub struct Arguments {
    /// Also what takes minutes: soak tests, many more samples
    #[arg(long)]
    long: bool,
    /// Only suites whose name contains this, and of the others only tests whose name does
    filter: Option<String>,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let started = Instant::now();
    setup::ensure(Purpose::Test)?;
    let workspace = Workspace::find()?;
    workspace.build_layout_next(Profile::Dev)?;
    let (binaries, messages) = workspace.build_with_tests()?;
    let suites = suite::suites(&messages, &workspace);

    let privilege = Privilege::find("to make network namespaces and to load eBPF programs")?;
    let seed = seed()?;
    let mut variables = vec![
        (SEED, seed.to_string()),
        (PROPTEST_SEED, seed.to_string()),
        (BINARIES, binaries.directory().display().to_string()),
    ];
    if arguments.long {
        variables.push((LONG, "1".into()));
    }
    let conditions =
        Conditions { privilege, variables, filter: arguments.filter.clone(), logs: workspace.results("test")? };
    console::heading(&format!("testing ({SEED}={seed} repeats the samples)"));
    let outcomes = run_suites(&suites, &conditions)?;

    print_skips(&outcomes);
    print_failures(&outcomes, &conditions);
    print_suites(&outcomes);
    programs::print(outcomes.iter().flat_map(|outcome| &outcome.programs));
    println!();
    console::say(Tone::Quiet, format!("after {}", Elapsed(started.elapsed())));
    conclude(&outcomes, arguments)
}

fn run_suites(suites: &[Suite], conditions: &Conditions) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for suite in suites {
        outcomes.extend(suite.run(conditions)?);
    }
    Ok(outcomes)
}

fn print_skips(outcomes: &[Outcome]) {
    for outcome in outcomes {
        for skip in &outcome.report.skips {
            console::say(Tone::Careful, format!("skipped: {} {}: {}", outcome.suite, skip.test, skip.reason));
        }
    }
}

fn print_failures(outcomes: &[Outcome], conditions: &Conditions) {
    for outcome in outcomes {
        for failure in &outcome.report.failures {
            println!();
            console::say(Tone::Bad, format!("failed: {} {}", outcome.suite, failure.test));
            for line in &failure.output {
                println!("    {line}");
            }
        }
        if outcome.failed() > 0 {
            console::say(Tone::Quiet, format!("all of its output: {}", conditions.log(&outcome.suite).display()));
        }
    }
}

fn print_suites(outcomes: &[Outcome]) {
    println!();
    let mut table = Table::new(["suite", "passed", "failed", "skipped", "time"]);
    for outcome in outcomes {
        let counts = [outcome.passed(), outcome.failed(), outcome.skipped()].map(|count| count.to_string());
        let [passed, failed, skipped] = counts;
        table.row([outcome.suite.clone(), passed, failed, skipped, Elapsed(outcome.time).to_string()]);
    }
    table.print(|row| outcomes.get(row).filter(|outcome| outcome.failed() > 0).map(|_| Tone::Bad));
}

/// The last line is made for machines: nothing but the three counts.
fn conclude(outcomes: &[Outcome], arguments: &Arguments) -> Result<ExitCode> {
    let sum = |count: fn(&Outcome) -> usize| outcomes.iter().map(count).sum::<usize>();
    let (passed, failed, skipped) = (sum(Outcome::passed), sum(Outcome::failed), sum(Outcome::skipped));
    if let (0, Some(filter)) = (passed + failed + skipped, &arguments.filter) {
        bail!("no suite and no test has {filter:?} in its name");
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The caller's, to repeat a run, or a fresh one.
fn seed() -> Result<u64> {
    match env::var(SEED) {
        Ok(text) => text.parse().with_context(|| format!("{SEED}={text} is not a number")),
        // Any number that differs between runs does; nanoseconds within the second are enough to sample by.
        Err(_) => Ok(SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| u64::from(since.subsec_nanos()))),
    }
}

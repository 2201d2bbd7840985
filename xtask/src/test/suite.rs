//! Suites: the test executables of the workspace, and how one is run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::libtest::{self, Failure, Report};
use super::programs::{self, Program};
use crate::build::{self, Workspace};
use crate::console::{self, Step};
use crate::privilege::Privilege;

/// Something that runs tests.
pub struct Suite {
    /// `sdn-cluster` for the unit tests of a crate, `sdn-lab::pods` for a file of its tests folder.
    name: String,
    runner: Runner,
}

enum Runner {
    /// A test executable; started, as cargo does, in its package's folder.
    Executable { path: PathBuf, package: PathBuf },
    /// The examples in doc comments, which rustdoc compiles and runs itself.
    Doctests { workspace: PathBuf },
}

/// What all suites run under.
pub struct Conditions {
    pub privilege: Privilege,
    pub variables: Vec<(&'static str, String)>,
    pub filter: Option<String>,
    /// Where the outputs go.
    pub logs: PathBuf,
}

/// How a suite went.
pub struct Outcome {
    pub suite: String,
    pub report: Report,
    pub programs: Vec<Program>,
    pub time: Duration,
}

/// A line of `cargo test --message-format=json` that tells of something compiled.
#[derive(Deserialize)]
struct Artifact {
    reason: String,
    #[serde(default)]
    manifest_path: PathBuf,
    #[serde(default)]
    target: Target,
    #[serde(default)]
    profile: ArtifactProfile,
    executable: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize, Default)]
struct ArtifactProfile {
    test: bool,
}

/// What cargo says that it has compiled. Unit tests first: they are the quickest to say what is wrong.
pub fn suites(messages: &str, workspace: &Workspace) -> Vec<Suite> {
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str(line).ok());
    let mut suites: Vec<Suite> = artifacts.filter_map(Suite::from_artifact).collect();
    suites.sort_by(|a, b| (a.name.contains("::"), &a.name).cmp(&(b.name.contains("::"), &b.name)));
    suites.push(Suite { name: "doc-tests".into(), runner: Runner::Doctests { workspace: workspace.root.clone() } });
    suites
}

// === impl Suite ===

impl Suite {
    fn from_artifact(artifact: Artifact) -> Option<Self> {
        if artifact.reason != "compiler-artifact" || !artifact.profile.test {
            return None;
        }
        let path = artifact.executable?;
        let package = artifact.manifest_path.parent()?.to_owned();
        let manifest = fs::read_to_string(&artifact.manifest_path).ok()?;
        let name = suite_name(package_name(&manifest)?, &artifact.target);
        Some(Self { name, runner: Runner::Executable { path, package } })
    }

    /// Nothing, when the filter leaves nothing of it.
    pub fn run(&self, conditions: &Conditions) -> Result<Option<Outcome>> {
        if !self.may_match(conditions) {
            return Ok(None);
        }
        let mut step = Step::start(&self.name);
        let mut command = self.command(conditions);
        let finished = console::watch(&mut step, &mut command, libtest::describe)?;
        let log = conditions.log(&self.name);
        fs::write(&log, finished.lines.join("\n")).with_context(|| format!("cannot write {}", log.display()))?;

        let mut report = Report::read(&finished.lines);
        report.add_untold_failure(finished.status, &finished.lines);
        if finished.left_running {
            report.add_failure("leaves a process behind that holds its output", &[]);
        }
        let programs = programs::read(&finished.lines);
        let outcome = Outcome { suite: self.name.clone(), report, programs, time: step.elapsed() };
        if outcome.passed() + outcome.failed() + outcome.skipped() == 0 {
            step.discard();
            return Ok(None);
        }
        let text = outcome.summary();
        match outcome.failed() {
            0 => step.done(&text),
            _ => step.failed(&text),
        }
        Ok(Some(outcome))
    }

    /// Compiling all documentation to find no example of that name takes longer than all else.
    fn may_match(&self, conditions: &Conditions) -> bool {
        let by_name = |filter: &String| self.name.contains(filter.as_str());
        matches!(self.runner, Runner::Executable { .. }) || conditions.filter.as_ref().is_none_or(by_name)
    }

    fn command(&self, conditions: &Conditions) -> Command {
        let mut command = match &self.runner {
            Runner::Executable { path, package } => {
                let mut variables = conditions.variables.clone();
                variables.push(("CARGO_MANIFEST_DIR", package.display().to_string()));
                let mut command = conditions.privilege.command(path, &variables);
                command.current_dir(package).arg("--show-output");
                command
            }
            Runner::Doctests { workspace } => {
                let mut command = build::cargo_command("test", workspace);
                command.args(["--doc", "--quiet", "--"]);
                command
            }
        };
        // A suite that is asked for by name runs as a whole.
        command.args(conditions.filter.iter().filter(|filter| !self.name.contains(filter.as_str())));
        command
    }
}

/// The unit tests of a library have their package's name; what else there is stands behind it.
fn suite_name(package: &str, target: &Target) -> String {
    let is = |kind: &str| target.kind.iter().any(|other| other == kind);
    match target.name.as_str() {
        _ if is("lib") => package.to_owned(),
        name if is("bin") && name == package => format!("{package} (main)"),
        name => format!("{package}::{name}"),
    }
}

/// The name in the `[package]` section of a manifest.
fn package_name(manifest: &str) -> Option<&str> {
    let (_, package) = manifest.split_once("[package]")?;
    let line = package.lines().find_map(|line| line.trim().strip_prefix("name"))?;
    Some(line.trim_start_matches([' ', '=']).trim().trim_matches('"'))
}

// === impl Report, Outcome, Conditions ===

impl Report {
    /// An executable that did not come to its end, or whose exit code contradicts its counts, has failed.
    fn add_untold_failure(&mut self, status: ExitStatus, lines: &[String]) {
        let credible = self.complete && status.success() == (self.failed == 0);
        if !credible {
            let last = &lines[lines.len().saturating_sub(20)..];
            self.add_failure(&format!("did not come to its end: {status}"), last);
        }
    }

    fn add_failure(&mut self, what: &str, output: &[String]) {
        self.failed += 1;
        self.failures.push(Failure { test: what.to_owned(), output: output.to_vec() });
    }
}

impl Outcome {
    pub fn passed(&self) -> usize {
        self.report.passed.saturating_sub(self.report.self_skipped())
    }

    pub fn failed(&self) -> usize {
        self.report.failed
    }

    pub fn skipped(&self) -> usize {
        self.report.skips.len()
    }

    fn summary(&self) -> String {
        let mut parts = vec![format!("{} passed", self.passed())];
        parts.extend(Some(self.failed()).filter(|&count| count > 0).map(|count| format!("{count} failed")));
        parts.extend(Some(self.skipped()).filter(|&count| count > 0).map(|count| format!("{count} skipped")));
        parts.join(", ")
    }
}

impl Conditions {
    /// All that a suite wrote.
    pub fn log(&self, suite: &str) -> PathBuf {
        let name: String = suite.chars().map(|c| if c.is_alphanumeric() || c == '-' { c } else { '_' }).collect();
        Path::new(&self.logs).join(format!("{name}.log"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn target(name: &str, kind: &str) -> Target {
        Target { name: name.into(), kind: vec![kind.into()] }
    }

    #[test]
    fn suites_are_named_after_package_and_file() {
        assert_eq!(suite_name("sdn-cluster", &target("sdn_cluster", "lib")), "sdn-cluster");
        assert_eq!(suite_name("sdn-cni", &target("sdn-cni", "bin")), "sdn-cni (main)");
        assert_eq!(suite_name("sdn-lab", &target("pods", "test")), "sdn-lab::pods");
        assert_eq!(package_name("[package]\nname = \"sdn-lab\"\n"), Some("sdn-lab"));
    }

    #[test]
    fn an_executable_that_dies_has_failed_whatever_it_counted() {
        let rows = [
            // complete, failed, wait status (exit code in the second byte, else a signal) → failures
            (true, 0, 0, 0),
            (true, 2, 101 << 8, 2),
            (false, 0, 11, 1),
            (false, 0, 0, 1),
            (true, 0, 101 << 8, 1),
        ];
        for (complete, failed, status, expected) in rows {
            let mut report = Report { complete, failed, ..Report::default() };
            report.add_untold_failure(ExitStatus::from_raw(status), &["last words".into()]);
            assert_eq!(report.failed, expected, "complete {complete}, failed {failed}, status {status}");
        }
    }

    #[test]
    fn a_test_that_skips_itself_is_not_passed() {
        let skips = vec![libtest::Skip { test: "a".into(), reason: "b".into() }];
        let report = Report { passed: 3, skips, complete: true, ..Report::default() };
        let outcome = Outcome { suite: "x".into(), report, programs: Vec::new(), time: Duration::ZERO };
        assert_eq!((outcome.passed(), outcome.failed(), outcome.skipped()), (2, 0, 1));
    }

    #[test]
    fn messages_about_test_executables_become_suites() {
        let directory = env!("CARGO_MANIFEST_DIR");
        let line = format!(
            r#"{{"reason":"compiler-artifact","manifest_path":"{directory}/Cargo.toml","target":{{"name":"xtask","kind":["bin"]}},
                "profile":{{"test":true}},"executable":"/x/xtask-123"}}"#
        );
        let suite = Suite::from_artifact(serde_json::from_str(&line).expect("the message parses"));
        assert_eq!(suite.expect("it is a suite").name, "xtask (main)");
        let other: Artifact = serde_json::from_str(r#"{"reason":"build-finished"}"#).expect("other messages parse");
        assert!(Suite::from_artifact(other).is_none());
    }
}

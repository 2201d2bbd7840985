//! Reads what Rust's test harness prints. Its JSON is for nightly compilers only; its text has been stable for years.

/// The beginning of a reason to be ignored that is none to be counted.
const NOT_A_TEST: &str = "not a test";

/// What one test executable reports.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Of the harness: it counts a test that skips itself as passed.
    pub passed: usize,
    pub failed: usize,
    pub ignored: usize,
    /// Of those ignored, what is not a test.
    pub helpers: usize,
    pub failures: Vec<Failure>,
    pub skips: Vec<Skip>,
    /// The summary was seen: the executable came to its end.
    pub complete: bool,
}

/// A failed test and what it wrote.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    pub test: String,
    pub output: Vec<String>,
}

/// A test that could not run here. It says so by printing `skipped: REASON` and returning.
#[derive(Debug, PartialEq, Eq)]
pub struct Skip {
    pub test: String,
    pub reason: String,
}

/// Where in the output a line is. `--show-output` prints the output of all tests at the end, in two sections.
enum Section {
    Progress,
    Successes,
    Failures,
}

impl Report {
    pub fn read(lines: &[String]) -> Self {
        let mut report = Self::default();
        let mut section = Section::Progress;
        let mut test = None;
        for line in lines {
            match line.as_str() {
                "successes:" => (section, test) = (Section::Successes, None),
                "failures:" => (section, test) = (Section::Failures, None),
                _ if report.read_summary(line) => (section, test) = (Section::Progress, None),
                _ => report.read_output(line, &section, &mut test),
            }
        }
        report
    }

    /// `test result: ok. 3 passed; 0 failed; 1 ignored; …`, perhaps behind what a process wrote without a line's end.
    fn read_summary(&mut self, line: &str) -> bool {
        let Some((_, counts)) = line.split_once("test result: ") else { return false };
        let count = |word: &str| {
            counts.split([';', '.']).find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok()).unwrap_or(0)
        };
        self.passed += count("passed");
        self.failed += count("failed");
        self.ignored += count("ignored");
        self.complete = true;
        true
    }

    fn read_output(&mut self, line: &str, section: &Section, test: &mut Option<String>) {
        let header = line.strip_prefix("---- ").and_then(|line| line.strip_suffix(" stdout ----"));
        match (section, header) {
            (Section::Progress, _) => self.read_ignored(line),
            (Section::Successes, Some(name)) => *test = Some(name.to_owned()),
            (Section::Failures, Some(name)) => {
                self.failures.push(Failure { test: name.to_owned(), output: Vec::new() });
                *test = Some(name.to_owned());
            }
            (Section::Successes, None) => self.read_skip(line, test),
            (Section::Failures, None) => {
                if let (Some(_), Some(failure)) = (&test, self.failures.last_mut()) {
                    failure.output.push(line.to_owned());
                }
            }
        }
    }

    /// `test NAME ... ignored, REASON`. What a test starts as a process of its own is kept among the tests to be found in
    /// the executable, but is none: its reason begins with `not a test`.
    fn read_ignored(&mut self, line: &str) {
        let Some((test, outcome)) = line.strip_prefix("test ").and_then(|line| line.split_once(" ... ")) else {
            return;
        };
        if let Some(reason) = outcome.strip_prefix("ignored") {
            let reason = reason.trim_start_matches(", ");
            if reason.starts_with(NOT_A_TEST) {
                self.helpers += 1;
                return;
            }
            let reason = if reason.is_empty() { "ignored" } else { reason };
            self.skips.push(Skip { test: test.to_owned(), reason: reason.to_owned() });
        }
    }

    fn read_skip(&mut self, line: &str, test: &mut Option<String>) {
        // One skip a test, however often it says so.
        if let (Some(name), Some(reason)) = (&test, line.strip_prefix("skipped: ")) {
            self.skips.push(Skip { test: name.clone(), reason: reason.to_owned() });
            *test = None;
        }
    }

    /// Tests that skipped themselves, which the harness counts as passed.
    pub fn self_skipped(&self) -> usize {
        self.skips.len().saturating_sub(self.ignored.saturating_sub(self.helpers))
    }
}

/// What is going on, for the line that shows progress: the name of the test that just ended.
pub fn describe(line: &str) -> Option<String> {
    let (test, _) = line.strip_prefix("test ")?.split_once(" ... ")?;
    Some(test.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
running 6 tests
test a::ignored ... ignored, needs a second machine
test a::started_by_fine ... ignored, not a test: what fine starts
test a::fine ... ok
test a::skips ... ok
test a::breaks ... FAILED
test a::dies ... FAILED

successes:

---- a::skips stdout ----
looking for a table
skipped: no conformance table beside the repository
skipped: said twice


successes:
    a::fine
    a::skips

failures:

---- a::breaks stdout ----

thread 'a::breaks' panicked at src/x.rs:1:1:
left is not right

---- a::dies stdout ----
oh


failures:
    a::breaks
    a::dies

noise test result: FAILED. 2 passed; 2 failed; 2 ignored; 0 measured; 3 filtered out; finished in 0.00s
";

    fn read(text: &str) -> Report {
        Report::read(&text.lines().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn counts_failures_and_skips_are_read() {
        let report = read(OUTPUT);
        assert_eq!((report.passed, report.failed, report.ignored), (2, 2, 2));
        assert!(report.complete);
        assert_eq!((report.helpers, report.self_skipped()), (1, 1));
        let skips: Vec<_> = report.skips.iter().map(|skip| (skip.test.as_str(), skip.reason.as_str())).collect();
        let expected =
            [("a::ignored", "needs a second machine"), ("a::skips", "no conformance table beside the repository")];
        assert_eq!(skips, expected);
        let failures: Vec<_> = report.failures.iter().map(|failure| failure.test.as_str()).collect();
        assert_eq!(failures, ["a::breaks", "a::dies"]);
        assert!(report.failures[0].output.iter().any(|line| line == "left is not right"));
        assert!(report.failures[1].output.iter().any(|line| line == "oh"));
    }

    #[test]
    fn output_without_a_summary_is_incomplete() {
        assert!(!read("running 1 test\nSegmentation fault\n").complete);
    }

    #[test]
    fn several_executables_in_one_output_add_up() {
        let line = "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        assert_eq!(read(&line.repeat(3)).passed, 6);
    }

    #[test]
    fn progress_names_the_test() {
        assert_eq!(describe("test a::fine ... ok").as_deref(), Some("a::fine"));
        assert_eq!(describe("running 5 tests"), None);
    }
}

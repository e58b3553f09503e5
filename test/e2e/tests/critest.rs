//! The published conformance suites against husk: critest, and crictl's own end-to-end suite.
//!
//! What each may skip is said here, so that a new skip is a failure.

use std::process::Command;

use husk_e2e::run;

/// What a suite counted, and the specs it skipped for a reason of the node's or the runtime's.
#[derive(Debug)]
struct Summary {
    passed: usize,
    failed: usize,
    skipped: Vec<String>,
}

fn count(line: &str, word: &str) -> usize {
    let before = line.split(word).next().unwrap_or_default();
    let number = before.split_whitespace().last().and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("no number of {word} in {line:?}"))
}

/// Runs a script of hack/ that ends with the counts of a suite.
fn suite(script: &str, arguments: &[&str]) -> Summary {
    let output = run(Command::new(husk_e2e::root().join(script)).args(arguments)).success();
    let counts = output.lines().rfind(|line| line.contains(" Passed")).expect("the suite's counts");
    println!("{script} {arguments:?}: {counts}");
    Summary {
        passed: count(counts, " Passed"),
        failed: count(counts, " Failed"),
        skipped: output.lines().filter(|line| line.starts_with("SKIPPED")).map(str::to_owned).collect(),
    }
}

impl Summary {
    /// The specs that this node can run passed; AppArmor's, which need a kernel with it, are the only ones that may skip.
    fn assert_all_but_apparmor(&self) {
        assert_eq!(self.failed, 0, "{self:?}");
        assert!(self.skipped.iter().all(|skip| skip.contains("[k8s.io] AppArmor")), "{:?}", self.skipped);
        assert_eq!(self.passed + self.skipped.len(), VALIDATION_SPECS, "{self:?}");
    }
}

/// critest v1.37.0 without its benchmarks.
const VALIDATION_SPECS: usize = 137;

#[test]
fn critest_passes_with_streams_over_spdy() {
    suite("hack/critest", &[]).assert_all_but_apparmor();
}

#[test]
fn critest_passes_four_specs_at_a_time_with_streams_over_websocket() {
    suite("hack/critest", &["--parallel", "4", "--websocket"]).assert_all_but_apparmor();
}

#[test]
fn crictls_own_suite_passes_without_a_skip() {
    let summary = suite("hack/crictl-suite", &["--no-skip"]);
    assert_eq!((summary.passed, summary.failed), (35, 0), "{summary:?}");
}

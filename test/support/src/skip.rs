//! The one way for a test not to run.
//!
//! Every reason is on the list of docs/testing.md with the number of tests that it keeps from running on CI's node;
//! `hack/test` counts, prints, and fails when there are more. test/tidy compares the list with the code.

use std::{
    env,
    fs::OpenOptions,
    io::{self, Write},
    thread,
};

/// The file that skips are counted in, a line each.
const COUNTED_IN: &str = "HUSK_TEST_SKIPS";

/// Says that this test does not run and what it would need, past the harness, which keeps what passing tests print to
/// itself. `needs` is a literal that stands in the list of docs/testing.md.
///
/// # Panics
/// When the file that `HUSK_TEST_SKIPS` names cannot be written: a skip that nobody counts is none.
pub fn skip(needs: &'static str) {
    let thread = thread::current();
    let test = thread.name().unwrap_or("a test");
    // Nobody to tell is no reason to fail.
    let _ = writeln!(io::stderr(), "SKIPPED: {test} needs {needs}");
    if let Some(path) = env::var_os(COUNTED_IN) {
        let file = OpenOptions::new().create(true).append(true).open(path);
        // One write, so that lines of different processes stay apart.
        file.and_then(|mut file| file.write_all(format!("{needs}\t{test}\n").as_bytes()))
            .expect("count a skip");
    }
}

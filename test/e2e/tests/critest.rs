//! The published conformance suite, the contexts that this version promises, without a skip.

use std::process::Command;

use husk_e2e::run;

/// Headings of critest's specs (regular expressions). What is absent here: streaming, user namespaces,
/// SupplementalGroupsPolicy, recursive read-only mounts and AppArmor, which are not part of this version's promise.
const FOCUS: &[&str] = &[
    r"Container runtime should support (basic operations|adding volume|log)",
    "Container Mount Propagation",
    "Container OOM",
    "Idempotence",
    "Image Manager",
    "Image Consistency",
    "Image Identifier",
    "Multiple Containers",
    r"Networking runtime",
    r"PodSandbox runtime should support (basic|sysctls)",
    "Runtime info",
    "Security Context (NamespaceOption|bucket|SeccompProfilePath|NoNewPrivs)",
];

#[test]
fn critest_passes_the_promised_contexts_without_a_skip() {
    let script = husk_e2e::root().join("hack/critest");
    let focus = FOCUS.join("|");
    let output = run(Command::new(script).arg("--no-skip").arg(focus)).success();
    let summary = output.lines().rfind(|line| line.contains("Passed")).expect("critest's summary line");
    println!("{summary}");
    assert!(summary.contains("0 Failed"), "{summary}");
}

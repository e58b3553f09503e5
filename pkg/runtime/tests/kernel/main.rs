//! The runtime against the kernel: real namespaces, mounts, users and filters, with a root filesystem of busybox.
//!
//! Needs root and a static busybox. Each case runs in a process of its own, cloned from this single-threaded one.

mod basics;
mod confinement;
mod exec;
mod failures;
mod follows;
mod locks;
mod mounts;
mod redirects;
mod runner;
mod tracers;
mod userns;
mod users;
mod world;

fn main() -> std::process::ExitCode {
    let cases = [
        basics::CASES,
        mounts::CASES,
        follows::CASES,
        confinement::CASES,
        users::CASES,
        exec::CASES,
        failures::CASES,
        userns::CASES,
        locks::CASES,
        redirects::CASES,
        tracers::CASES,
    ];
    runner::main(&cases.concat())
}

//! Errors as the client is told them.

use std::{error::Error as StdError, io};

use husk_model::{Classify, Kind};
use husk_proto::podmon::{self, error::Code};
use husk_runtime::{Failure, Step};
use rustix::io::Errno;

/// Why a call failed: the protocol's error.
pub type Fault = podmon::Error;

/// Result of a call.
pub type Outcome<T> = Result<T, Fault>;

/// A fault without a kernel error.
pub fn fault(code: Code, step: impl Into<String>) -> Fault {
    Fault { code: code.into(), step: step.into(), ..Fault::default() }
}

/// A fault of the kernel while doing `step` to `object`.
pub fn os_fault(step: &str, object: impl Into<String>, error: &io::Error) -> Fault {
    let errno = error.raw_os_error().unwrap_or(0);
    let detail = if errno == 0 { error.to_string() } else { String::new() };
    Fault { code: code_of(errno).into(), step: step.into(), object: object.into(), errno, detail }
}

/// A fault from a crate's error: its own words are the step, its causes the detail, the kernel's number the errno.
pub fn fault_of(error: &(dyn StdError + 'static)) -> Fault {
    let mut result = fault(Code::Internal, error.to_string());
    let mut detail = Vec::new();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let errno = inner
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error)
            .or_else(|| inner.downcast_ref::<Errno>().map(|errno| errno.raw_os_error()));
        match errno {
            Some(errno) => result.errno = errno,
            None => detail.push(inner.to_string()),
        }
        cause = inner.source();
    }
    result.detail = detail.join(": ");
    result.code = match error.downcast_ref::<husk_cgroup::Error>() {
        Some(error) => code_of_kind(error.kind()),
        None => code_of(result.errno),
    }
    .into();
    result
}

/// A fault from what a child reported. What the image or the request got wrong is told apart from what the node did.
pub fn fault_of_failure(failure: Failure) -> Fault {
    let theirs = matches!(failure.errno, 0 | 2 | 8 | 13 | 20 | 21 | 40);
    let code = match failure.step {
        Step::Lookup | Step::Execute | Step::ResolveUser if theirs => Code::InvalidArgument,
        Step::Source | Step::WorkDir if theirs => Code::FailedPrecondition,
        // A profile that is not loaded, a context that the policy does not have.
        Step::Label if matches!(failure.errno, 2 | 22) => Code::InvalidArgument,
        // What the kernel did not refuse, but the request and the image contradict each other.
        Step::Mount if failure.errno == 0 => Code::InvalidArgument,
        Step::Sysctl | Step::Hostname | Step::Rlimit if failure.errno != 12 => Code::InvalidArgument,
        _ => code_of(failure.errno),
    };
    let (detail, errno) = match failure.step {
        Step::Lookup => (in_gos_words(&failure), 0),
        _ => (failure.detail, failure.errno),
    };
    Fault { code: code.into(), step: failure.step.as_str().into(), object: failure.object, errno, detail }
}

/// Why there is nothing to execute, to the letter as runc says it: people and their tools look for
/// `exec: "x": stat x: no such file or directory` in a container's status.
fn in_gos_words(failure: &Failure) -> String {
    if failure.errno == 0 {
        return failure.detail.clone();
    }
    format!("{}: {}", failure.detail, husk_sys::reason_in_sentence(failure.errno))
}

/// One line for the exit record and the monitor's own log.
pub fn describe(fault: &Fault) -> String {
    let mut text = fault.step.clone();
    for part in [&fault.object, &fault.detail] {
        if !part.is_empty() {
            text.push(' ');
            text.push_str(part);
        }
    }
    if fault.errno != 0 {
        text.push_str(": ");
        text.push_str(&husk_sys::reason(fault.errno));
    }
    text
}

/// 0, for errors that are not the kernel's, is allowed.
fn code_of(errno: i32) -> Code {
    if errno == 0 {
        return Code::Internal;
    }
    match Errno::from_raw_os_error(errno) {
        Errno::NOMEM | Errno::MFILE | Errno::NFILE | Errno::NOSPC | Errno::AGAIN | Errno::DQUOT => {
            Code::ResourceExhausted
        }
        Errno::INVAL | Errno::RANGE | Errno::NAMETOOLONG => Code::InvalidArgument,
        _ => Code::Internal,
    }
}

/// Of a crate that knows whose fault it is.
fn code_of_kind(kind: Kind) -> Code {
    match kind {
        Kind::InvalidArgument => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::FailedPrecondition => Code::FailedPrecondition,
        Kind::ResourceExhausted => Code::ResourceExhausted,
        Kind::DeadlineExceeded => Code::DeadlineExceeded,
        Kind::Unimplemented => Code::Unimplemented,
        _ => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_command_is_the_callers_fault_and_a_failed_mount_the_nodes() {
        let failure = |step, errno| Failure { step, object: "/x".into(), errno, detail: String::new() };
        assert_eq!(fault_of_failure(failure(Step::Lookup, 2)).code(), Code::InvalidArgument);
        assert_eq!(fault_of_failure(failure(Step::Source, 2)).code(), Code::FailedPrecondition);
        assert_eq!(fault_of_failure(failure(Step::Mount, 2)).code(), Code::Internal);
        assert_eq!(fault_of_failure(failure(Step::Execute, 12)).code(), Code::ResourceExhausted);
        assert_eq!(fault_of_failure(failure(Step::Died, 0)).code(), Code::Internal);
        assert_eq!(fault_of_failure(failure(Step::Mount, 0)).code(), Code::InvalidArgument);
        let error = husk_cgroup::Error::MemoryBelowUsage { limit: 1, usage: 2 };
        assert_eq!(fault_of(&error).code(), Code::FailedPrecondition);
    }

    #[test]
    fn a_command_that_is_not_there_is_told_in_runcs_words() {
        for (detail, errno, told) in [
            ("exec: \"/x\": stat /x", 2, "exec: \"/x\": stat /x: no such file or directory"),
            ("exec: \"/x\"", 21, "exec: \"/x\": is a directory"),
            ("exec: \"/x\"", 13, "exec: \"/x\": permission denied"),
            (
                "exec: \"x\": executable file not found in $PATH",
                0,
                "exec: \"x\": executable file not found in $PATH",
            ),
        ] {
            let failure = Failure { step: Step::Lookup, object: String::new(), errno, detail: detail.into() };
            let fault = fault_of_failure(failure);
            assert_eq!(describe(&fault), format!("find executable {told}"));
            assert_eq!(fault.code(), Code::InvalidArgument);
        }
    }

    #[test]
    fn the_kernels_number_is_found_behind_an_error_chain() {
        #[derive(Debug, thiserror::Error)]
        #[error("write cpu.max of /a")]
        struct Outer(#[source] io::Error);
        let fault = fault_of(&Outer(io::Error::from_raw_os_error(22)));
        assert_eq!(fault.code(), Code::InvalidArgument);
        assert_eq!(describe(&fault), "write cpu.max of /a: Invalid argument");
    }
}

//! Errors as the client is told them.

use std::{error::Error as StdError, io};

use husk_model::Classify;
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
pub fn os_fault(step: impl Into<String>, object: impl Into<String>, error: &io::Error) -> Fault {
    let errno = Errno::from_io_error(error);
    let detail = if errno.is_none() { error.to_string() } else { String::new() };
    Fault { object: object.into(), errno: number(errno), detail, ..fault(code_of(errno), step) }
}

/// A fault from a crate's error: its own words are the step, its causes the detail, the kernel's number the errno.
pub fn fault_of(error: &(dyn StdError + 'static)) -> Fault {
    let (mut errno, mut detail) = (None, Vec::new());
    let mut cause = error.source();
    while let Some(inner) = cause {
        match errno_of(inner) {
            Some(found) => errno = Some(found),
            None => detail.push(inner.to_string()),
        }
        cause = inner.source();
    }
    let code = match error.downcast_ref::<husk_cgroup::Error>() {
        Some(error) => error.kind().into(),
        None => code_of(errno),
    };
    Fault { errno: number(errno), detail: detail.join(": "), ..fault(code, error.to_string()) }
}

fn errno_of(cause: &(dyn StdError + 'static)) -> Option<Errno> {
    let of_std = cause.downcast_ref::<io::Error>().and_then(Errno::from_io_error);
    of_std.or_else(|| cause.downcast_ref::<Errno>().copied())
}

/// A fault from what a child reported.
pub fn fault_of_failure(failure: Failure) -> Fault {
    let code = Code::from(failure.kind());
    let (detail, errno) = match failure.step {
        Step::Lookup => (in_gos_words(&failure), None),
        _ => (failure.detail, failure.errno),
    };
    Fault { object: failure.object, errno: number(errno), detail, ..fault(code, failure.step.as_str()) }
}

/// Why there is nothing to execute, to the letter as runc says it: people and their tools look for
/// `exec: "x": stat x: no such file or directory` in a container's status.
fn in_gos_words(failure: &Failure) -> String {
    match failure.errno {
        Some(errno) => {
            format!("{}: {}", failure.detail, husk_sys::reason_in_sentence(errno.raw_os_error()))
        }
        None => failure.detail.clone(),
    }
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

/// Of a call that the kernel refused, if it was the kernel.
fn code_of(errno: Option<Errno>) -> Code {
    husk_runtime::blame(errno).kind().into()
}

/// The protocol's form of an errno: 0 is none.
fn number(errno: Option<Errno>) -> i32 {
    errno.map_or(0, Errno::raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_has_the_kind_of_what_caused_it() {
        let failure = |step, errno| Failure { step, object: "/x".into(), errno, detail: String::new() };
        let fault = fault_of_failure(failure(Step::Source, Some(Errno::NOENT)));
        assert_eq!((fault.code(), fault.errno), (Code::FailedPrecondition, 2));
        assert_eq!(fault_of_failure(failure(Step::Died, None)).code(), Code::Internal);
        let error = husk_cgroup::Error::MemoryBelowUsage { limit: 1, usage: 2 };
        assert_eq!(fault_of(&error).code(), Code::FailedPrecondition);
    }

    #[test]
    fn a_command_that_is_not_there_is_told_in_runcs_words() {
        for (detail, errno, told) in [
            ("exec: \"/x\": stat /x", Some(Errno::NOENT), "exec: \"/x\": stat /x: no such file or directory"),
            ("exec: \"/x\"", Some(Errno::ISDIR), "exec: \"/x\": is a directory"),
            ("exec: \"/x\"", Some(Errno::ACCESS), "exec: \"/x\": permission denied"),
            (
                "exec: \"x\": executable file not found in $PATH",
                None,
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

//! A compiled filter.

use oci_spec::runtime::LinuxSeccompFilterFlag;

/// A filter ready for seccomp(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    pub(crate) bytes: Vec<u8>,
    pub(crate) flags: u32,
    pub(crate) unknown: Vec<String>,
}

impl Program {
    /// The packed `struct sock_filter[]`, in the byte order of this machine.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// `SECCOMP_FILTER_FLAG_*` to load it with.
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// Number of instructions.
    pub fn len(&self) -> usize {
        self.bytes.len() / 8
    }

    /// Never true: a filter has an instruction at least.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Names of the profile that are no syscall of any architecture husk knows. They are ignored, as in runc; in a
    /// profile that denies by name that may not be what its author meant.
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }
}

/// The kernel's values (linux/seccomp.h). TSYNC is left out: the filter is loaded by a process with one thread.
/// Without any word of the profile, SPEC_ALLOW is set as runc does: the speculation barrier it avoids protects the
/// container from itself only.
pub(crate) fn flags(flags: Option<&[LinuxSeccompFilterFlag]>) -> u32 {
    const LOG: u32 = 1 << 1;
    const SPEC_ALLOW: u32 = 1 << 2;
    let Some(flags) = flags else {
        return SPEC_ALLOW;
    };
    flags.iter().fold(0, |bits, flag| {
        bits | match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => SPEC_ALLOW,
            // The latter is only for filters with a listener, which have it set besides.
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync
            | LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
        }
    })
}

//! The kernel: version, system calls, seccomp, and what we may do.

use husk_node::KernelVersion;
use rustix::{
    fs::{Mode, OFlags, ResolveFlags, openat2},
    io::Errno,
    process::{Pid, PidfdFlags, getpid, pidfd_open},
};

use crate::{Check, words::read};

/// mount_setattr(2), with which read-only mounts are made so.
const NEEDED: KernelVersion = KernelVersion::new(5, 12);
/// Overlays with mapped layers.
const WANTED: KernelVersion = KernelVersion::new(5, 19);

const UPGRADE: &str =
    "install a kernel of a supported distribution (Linux 5.19 or later; 6.1 and 6.18 are tested)";
const NO_POD: &str = "no pod can be started";

pub(crate) fn checks() -> Vec<Check> {
    vec![version(), calls(), mounts(), seccomp(), capabilities()]
}

fn version() -> Check {
    let found = format!("Linux {}", husk_node::kernel_release());
    match KernelVersion::running() {
        version if version >= WANTED => Check::ok("kernel", found),
        version if version >= NEEDED => {
            Check::warning("kernel", found, "pods with hostUsers: false are refused", UPGRADE)
        }
        _ => Check::missing("kernel", found, NO_POD, UPGRADE),
    }
}

/// A sandbox around huskd (an old container runtime's seccomp profile, say) may lack calls that the kernel has.
fn calls() -> Check {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let own: Pid = getpid();
    let tries = [
        ("openat2", openat2(rustix::fs::CWD, "/", flags, Mode::empty(), resolve).map(drop)),
        ("pidfd_open", pidfd_open(own, PidfdFlags::empty()).map(drop)),
    ];
    let refused: Vec<String> = tries
        .into_iter()
        .filter_map(|(name, result)| result.err().map(|errno: Errno| format!("{name}: {errno}")))
        .collect();
    match refused.is_empty() {
        true => Check::ok("system calls", "openat2, pidfd_open"),
        false => Check::missing(
            "system calls",
            refused.join("; "),
            NO_POD,
            "a newer kernel, or a seccomp profile around huskd that allows them",
        ),
    }
}

/// Clones a mount and makes the copy read-only; it is attached nowhere and ends with its descriptor.
fn mounts() -> Check {
    use husk_sys::mount::{Attr, Change, change, clone_path};
    let tried =
        clone_path("/", false).and_then(|mount| change(&mount, true, Change::set(Attr::MOUNT_ATTR_RDONLY)));
    match tried {
        Ok(()) => Check::ok("mounts", "a mount was cloned and made read-only"),
        Err(error) => Check::missing("mounts", error.to_string(), NO_POD, "run as root, with CAP_SYS_ADMIN"),
    }
}

fn seccomp() -> Check {
    match husk_sys::seccomp::is_supported() {
        true => Check::ok("seccomp", "filters are supported"),
        false => Check::missing(
            "seccomp",
            "the kernel takes no filters",
            "containers under RuntimeDefault, which is the default, cannot start",
            "a kernel with CONFIG_SECCOMP_FILTER",
        ),
    }
}

/// Bits of capability sets (linux/capability.h) that huskd or its monitors use, beside those every root has.
const CAPABILITIES: [(u32, &str, bool); 7] = [
    (0, "CAP_CHOWN", true),
    (7, "CAP_SETUID", true),
    (12, "CAP_NET_ADMIN", true),
    (21, "CAP_SYS_ADMIN", true),
    (19, "CAP_SYS_PTRACE", true),
    (27, "CAP_MKNOD", true),
    (24, "CAP_SYS_RESOURCE", false),
];

fn capabilities() -> Check {
    let status = read("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    let lacking = |needed: bool| -> Vec<&str> {
        let lacks = |(bit, _, need): &&(u32, &str, bool)| *need == needed && set & (1 << bit) == 0;
        CAPABILITIES.iter().filter(lacks).map(|(_, name, _)| *name).collect()
    };
    let remedy =
        "run huskd as root of the node, without CapabilityBoundingSet= or a container that takes it away";
    let (missing, wanted) = (lacking(true), lacking(false));
    if !missing.is_empty() {
        return Check::missing("capabilities", format!("without {}", missing.join(", ")), NO_POD, remedy);
    }
    if !wanted.is_empty() {
        return Check::warning(
            "capabilities",
            format!("without {}", wanted.join(", ")),
            "OOM scores below the daemon's own and limits above its hard ones cannot be given to containers",
            remedy,
        );
    }
    Check::ok("capabilities", "all that is needed")
}

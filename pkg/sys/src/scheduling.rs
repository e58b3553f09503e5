//! Scheduler, I/O priority, personality and memory policy of the calling thread.

use crate::{
    Result,
    error::{Named, check},
};

/// Of sched_setattr(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// -20 to 19.
    pub nice: i32,
    /// 1 to 99 for the policies of real time.
    pub priority: u32,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub runtime: u64,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub deadline: u64,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub period: u64,
}

/// The kernel's struct sched_attr, as of Linux 3.14 (`SCHED_ATTR_SIZE_VER0`).
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Sets how the calling thread is scheduled.
///
/// # Errors
/// `EPERM` without CAP_SYS_NICE, `EINVAL` for values that do not fit the policy.
pub fn set_scheduler(wanted: Attributes) -> Result<()> {
    let Attributes { policy, flags, nice, priority, runtime, deadline, period } = wanted;
    let attr = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        policy,
        flags,
        nice,
        priority,
        runtime,
        deadline,
        period,
    };
    // SAFETY: the kernel reads `size` bytes of the structure, which is that long and lives across the call.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) })
        .named("sched_setattr", || format!("{wanted:?}"))
        .map(drop)
}

/// Sets the I/O priority of the calling thread: class (`IOPRIO_CLASS_*`) and level, 0 to 7.
///
/// # Errors
/// `EPERM` for the class of real time without CAP_SYS_ADMIN or CAP_SYS_NICE.
pub fn set_io_priority(class: u8, level: u16) -> Result<()> {
    const WHO_PROCESS: libc::c_long = 1;
    const CLASS_SHIFT: u32 = 13;
    let priority = (libc::c_long::from(class) << CLASS_SHIFT) | libc::c_long::from(level);
    // SAFETY: numbers only.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, priority) })
        .named("ioprio_set", || format!("class {class}, level {level}"))
        .map(drop)
}

/// Sets the execution domain (`PER_*`) of the calling thread.
///
/// # Errors
/// Those of personality(2).
pub fn set_personality(domain: u64) -> Result<()> {
    // SAFETY: a number only.
    check(unsafe { libc::syscall(libc::SYS_personality, domain) })
        .named("personality", || format!("{domain:#x}"))
        .map(drop)
}

/// Sets where memory comes from that the calling thread, and what it executes, will ask for: `MPOL_*` with its `MPOL_F_*`, and a bit for
/// each node, the lowest first.
///
/// # Errors
/// `EINVAL` for nodes that do not fit the mode, or of which the thread may use none; `ENOSYS` without CONFIG_NUMA.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<()> {
    // The kernel takes one off the number of bits (mm/mempolicy.c, get_nodes).
    let bits = nodes.len() * u64::BITS as usize + usize::from(!nodes.is_empty());
    let mask = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: `nodes` has the bits that the call is told of, less the one that the kernel takes off, and lives across it; without a
    // node the number is 0 and nothing is read.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, libc::c_long::from(mode), mask, bits) })
        .named("set_mempolicy", || format!("mode {mode:#x}, nodes {nodes:x?}"))
        .map(drop)
}

//! husk's default profile (`RuntimeDefault`): the calls that containerd's default allows, by the same conditions.
//!
//! Everything else fails with EPERM, and calls newer than the list with ENOSYS, so that libc falls back. Changes from
//! containerd's: the address families of socket(2) are compared as the kernel does, in 32 bits, and x32 is not allowed.

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompBuilder,
    LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};

use super::Context;
use crate::{Error, Family, Result};

/// Allowed for everybody.
const ALLOWED: &str = "\
    _llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown \
    chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 \
    clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 \
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old \
    eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate \
    fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr \
    flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate \
    ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat get_robust_list \
    get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 \
    getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid \
    getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday \
    getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch \
    io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get \
    ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 \
    lgetxattr link linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr \
    lsm_get_self_attr lsm_list_modules lsm_set_self_attr lstat lstat64 madvise map_shadow_stack membarrier \
    memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect \
    mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 \
    mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at \
    nanosleep newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc \
    pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease \
    process_vm_readv process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 read \
    readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages \
    removexattr removexattrat rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending \
    rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 \
    rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr \
    sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity \
    sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop \
    semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area \
    set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer \
    setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 \
    setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown \
    sigaltstack signalfd signalfd4 sigprocmask sigreturn socketpair splice stat stat64 statfs \
    statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time \
    timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 \
    timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate \
    truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork \
    vmsplice wait4 waitid waitpid write writev";

/// Allowed on one family of architectures only.
const ALLOWED_X86: &str = "arch_prctl modify_ldt";
const ALLOWED_ARM: &str =
    "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls";

/// Allowed with a capability.
const BY_CAPABILITY: [(&str, &str); 14] = [
    ("DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr \
         move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount \
         umount2 unshare",
    ),
    ("SYS_BOOT", "reboot"),
    ("SYS_CHROOT", "chroot"),
    ("SYS_MODULE", "delete_module init_module finit_module"),
    ("SYS_PACCT", "acct"),
    ("SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("SYS_RAWIO", "iopl ioperm"),
    ("SYS_TIME", "settimeofday stime clock_settime clock_settime64"),
    ("SYS_TTY_CONFIG", "vhangup"),
    ("SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("SYSLOG", "syslog"),
    ("BPF", "bpf"),
    ("PERFMON", "perf_event_open"),
];

/// The `CLONE_NEW*` flags of mount, cgroup, uts, ipc, user, pid and network namespaces (linux/sched.h).
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;
/// The Linux, 32-bit, uname-2.6 and both personalities, and the query (personality(2)).
const PERSONALITIES: [u64; 5] = [0x0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// The kernel crypto API (CVE-2026-31431) and the hypervisor's sockets: both reach past the pod.
const REFUSED_FAMILIES: [u64; 2] = [AF_ALG, AF_VSOCK];
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;
/// Call number of socket(2) in socketcall(2) of 32-bit architectures (linux/net.h). The family is behind a pointer, where no
/// filter sees it, so that one call is refused; since Linux 4.3 those have socket(2) as well. What is done with a socket that
/// somebody has is not.
const SOCKETCALL_SOCKET: u64 = 1;
const ENOSYS: u32 = 38;

/// The default profile for a process with the capabilities of `context`.
///
/// # Errors
/// [`Error::Invalid`] never occurs for the lists above; the builders' types ask for it.
pub fn runtime_default(context: &Context) -> Result<LinuxSeccomp> {
    let mut syscalls = vec![allow(ALLOWED)?];
    syscalls.push(allow(match context.family {
        Family::X86 => ALLOWED_X86,
        Family::Arm => ALLOWED_ARM,
    })?);
    for (capability, names) in BY_CAPABILITY {
        if context.has(capability) {
            syscalls.push(allow(names)?);
        }
    }
    for value in PERSONALITIES {
        syscalls.push(rule("personality", LinuxSeccompAction::ScmpActAllow, None, Some(low_equals(value)?))?);
    }
    for family in REFUSED_FAMILIES {
        syscalls.push(rule("socket", LinuxSeccompAction::ScmpActErrno, None, Some(low_equals(family)?))?);
    }
    syscalls.push(allow("socket")?);
    let multiplexed = low_equals(SOCKETCALL_SOCKET)?;
    syscalls.push(rule("socketcall", LinuxSeccompAction::ScmpActErrno, Some(ENOSYS), Some(multiplexed))?);
    syscalls.push(allow("socketcall")?);
    if !context.has("SYS_ADMIN") {
        let no_namespace = arg(LinuxSeccompOperator::ScmpCmpMaskedEq, NAMESPACE_FLAGS, Some(0))?;
        syscalls.push(rule("clone", LinuxSeccompAction::ScmpActAllow, None, Some(no_namespace))?);
        // Its flags are behind a pointer. ENOSYS makes libc use clone(2).
        syscalls.push(rule("clone3", LinuxSeccompAction::ScmpActErrno, Some(ENOSYS), None)?);
    }
    LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .architectures(context.family.usual())
        .syscalls(syscalls)
        .build()
        .map_err(|err| Error::Invalid(err.to_string()))
}

fn allow(names: &str) -> Result<LinuxSyscall> {
    rule(names, LinuxSeccompAction::ScmpActAllow, None, None)
}

fn rule(
    names: &str,
    action: LinuxSeccompAction,
    errno: Option<u32>,
    arg: Option<LinuxSeccompArg>,
) -> Result<LinuxSyscall> {
    let names: Vec<String> = names.split_ascii_whitespace().map(str::to_owned).collect();
    let mut rule = LinuxSyscallBuilder::default().names(names).action(action);
    if let Some(errno) = errno {
        rule = rule.errno_ret(errno);
    }
    if let Some(arg) = arg {
        rule = rule.args(vec![arg]);
    }
    rule.build().map_err(|err| Error::Invalid(err.to_string()))
}

/// Whether the first argument is `value` as an `int`. The kernel drops the high half of such an argument, so a 64-bit
/// comparison would let `value` with some bit set above pass as another one.
fn low_equals(value: u64) -> Result<LinuxSeccompArg> {
    arg(LinuxSeccompOperator::ScmpCmpMaskedEq, 0xffff_ffff, Some(value))
}

fn arg(op: LinuxSeccompOperator, value: u64, value_two: Option<u64>) -> Result<LinuxSeccompArg> {
    let mut arg = LinuxSeccompArgBuilder::default().index(0usize).op(op).value(value);
    if let Some(value_two) = value_two {
        arg = arg.value_two(value_two);
    }
    arg.build().map_err(|err| Error::Invalid(err.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table;

    #[test]
    fn every_name_of_the_lists_is_a_syscall() {
        let by_capability = BY_CAPABILITY.iter().map(|(_, names)| *names);
        for names in [ALLOWED, ALLOWED_X86, ALLOWED_ARM].into_iter().chain(by_capability) {
            for name in names.split_ascii_whitespace() {
                assert!(table::is_known(name), "{name}");
            }
        }
    }

    #[test]
    fn what_reaches_past_the_container_is_not_allowed_without_its_capability() {
        let context = Context::of(Family::X86, ["CHOWN", "NET_RAW", "KILL"], "6.1");
        let profile = runtime_default(&context).unwrap();
        let allowed: Vec<&str> = profile
            .syscalls()
            .iter()
            .flatten()
            .filter(|rule| rule.action() == LinuxSeccompAction::ScmpActAllow && rule.args().is_none())
            .flat_map(|rule| rule.names().iter().map(String::as_str))
            .collect();
        for name in [
            "mount",
            "bpf",
            "unshare",
            "setns",
            "clone",
            "clone3",
            "keyctl",
            "add_key",
            "userfaultfd",
            "kexec_load",
            "io_uring_setup",
            "io_uring_enter",
            "open_by_handle_at",
            "init_module",
            "perf_event_open",
            "reboot",
            "swapon",
            "pivot_root",
            "personality",
        ] {
            assert!(!allowed.contains(&name), "{name}");
        }
    }
}

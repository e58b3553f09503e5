//! seccomp(2): loading a compiled filter.

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd},
};

/// One BPF instruction as the kernel wants it (`struct sock_filter`): 8 bytes, native byte order.
pub const INSN_SIZE: usize = 8;
/// Longest filter the kernel takes (`BPF_MAXINSNS`).
pub const MAX_INSNS: usize = 4096;

/// Applies a filter to the calling thread and what it will execute. It can't be taken back.
///
/// `program` is a packed `struct sock_filter[]`, `flags` are `SECCOMP_FILTER_FLAG_*` that return no descriptor.
///
/// # Errors
/// EACCES without no_new_privs and without CAP_SYS_ADMIN, EINVAL for a malformed program or an unknown flag, ENOMEM when
/// the filters of a process become too long together.
pub fn load(program: &[u8], flags: u32) -> io::Result<()> {
    match set_filter(program, flags)? {
        0 => Ok(()),
        // With TSYNC a positive result is the id of a thread that could not follow.
        _ => Err(io::Error::from_raw_os_error(libc::ESRCH)),
    }
}

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`: the filter has calls that wait for whoever holds its listener.
pub const NEW_LISTENER: u32 = 1 << 3;

/// As [`load`], and returns the listener. Whoever holds it decides on the calls that the filter leaves to it; when nobody does any more,
/// they fail with ENOSYS.
///
/// # Errors
/// As [`load`]; EBUSY when a filter of the thread has a listener already.
pub fn load_listening(program: &[u8], flags: u32) -> io::Result<OwnedFd> {
    let fd = set_filter(program, flags | NEW_LISTENER)?;
    let fd = i32::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: with NEW_LISTENER, which is among the flags above, a result that is no error is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The kernel's answer, which is not negative.
fn set_filter(program: &[u8], flags: u32) -> io::Result<libc::c_long> {
    let count = program.len() / INSN_SIZE;
    if !program.len().is_multiple_of(INSN_SIZE) || count == 0 || count > MAX_INSNS {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // A byte slice may have any address; the kernel copies, but a reference to sock_filter must be aligned.
    let filter: Vec<libc::sock_filter> = program
        .chunks_exact(INSN_SIZE)
        .map(|insn| libc::sock_filter {
            code: u16::from_ne_bytes([insn[0], insn[1]]),
            jt: insn[2],
            jf: insn[3],
            k: u32::from_ne_bytes([insn[4], insn[5], insn[6], insn[7]]),
        })
        .collect();
    let fprog = libc::sock_fprog { len: count as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: `fprog` points to `count` instructions of `filter`, checked above to fit `len`; both live until the call
    // returns, and the kernel only reads them.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, std::ptr::from_ref(&fprog))
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Whether the kernel can run filters at all (`CONFIG_SECCOMP_FILTER`).
pub fn is_supported() -> bool {
    let action: u32 = libc::SECCOMP_RET_ERRNO;
    // SAFETY: SECCOMP_GET_ACTION_AVAIL reads one u32 through the pointer, which is alive here.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, std::ptr::from_ref(&action))
    };
    result == 0
}

/// What a child of ours calls from the moment its filter is loaded until execve: capability sets, the clone of a successor, the
/// report, the wait at the gate, finding the executable, saying why it is not there; and what the allocator and the C library
/// do meanwhile.
const START: &[libc::c_long] = &[
    libc::SYS_brk,
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_execve,
    libc::SYS_exit_group,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fcntl,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_ioctl,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_newfstatat,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_read,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sendmsg,
    libc::SYS_setsid,
    libc::SYS_statx,
    libc::SYS_umask,
    libc::SYS_write,
];

#[cfg(target_arch = "x86_64")]
const NATIVE: Option<u32> = Some(0xc000_003e);
#[cfg(target_arch = "aarch64")]
const NATIVE: Option<u32> = Some(0xc000_00b7);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const NATIVE: Option<u32> = None;

/// Whether a child of ours can load this filter before it waits at its gate, and still start its program. A filter that
/// forbids something on the way (few do) is loaded right before execve instead.
pub fn permits_start(program: &[u8]) -> bool {
    let plain = START.iter().all(|&number| allows(program, number, 0));
    plain && allows(program, libc::SYS_clone, crate::clone::SIBLING)
}

/// What a filter says to a native call whose first argument is `first`, the others 0. Any instruction that our compiler
/// does not emit counts as a no.
fn allows(program: &[u8], number: libc::c_long, first: u64) -> bool {
    const LOAD: u16 = 0x20;
    const AND: u16 = 0x54;
    const JUMP: u16 = 0x05;
    const RETURN: u16 = 0x06;
    let Some(arch) = NATIVE else { return false };
    // struct sock_filter, struct seccomp_data (linux/filter.h, linux/seccomp.h), little endian like both architectures.
    let data = |offset: u32| match offset {
        0 => Some(number as u32),
        4 => Some(arch),
        16 => Some(first as u32),
        20 => Some((first >> 32) as u32),
        8 | 12 | 24..=60 if offset.is_multiple_of(4) => Some(0),
        _ => None,
    };
    let (mut at, mut value) = (0_usize, 0_u32);
    // Jumps only go forward, so this ends.
    while let Some(&[c0, c1, yes, no, k0, k1, k2, k3]) =
        program.get(at * INSN_SIZE..).and_then(|rest| rest.first_chunk())
    {
        let (code, k) = (u16::from_ne_bytes([c0, c1]), u32::from_ne_bytes([k0, k1, k2, k3]));
        at += 1;
        let holds = match code {
            LOAD => match data(k) {
                Some(loaded) => {
                    value = loaded;
                    continue;
                }
                None => return false,
            },
            AND => {
                value &= k;
                continue;
            }
            JUMP => {
                at = at.saturating_add(k as usize);
                continue;
            }
            RETURN => {
                let action = k & libc::SECCOMP_RET_ACTION_FULL;
                return action == libc::SECCOMP_RET_ALLOW || action == libc::SECCOMP_RET_LOG;
            }
            0x15 => value == k,
            0x25 => value > k,
            0x35 => value >= k,
            0x45 => value & k != 0,
            _ => return false,
        };
        at += usize::from(if holds { yes } else { no });
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | 1;

    fn program(instructions: &[(u16, u8, u8, u32)]) -> Vec<u8> {
        let bytes = |&(code, yes, no, k): &(u16, u8, u8, u32)| {
            let [c0, c1] = code.to_ne_bytes();
            let [k0, k1, k2, k3] = k.to_ne_bytes();
            [c0, c1, yes, no, k0, k1, k2, k3]
        };
        instructions.iter().flat_map(bytes).collect()
    }

    #[test]
    fn a_filter_that_forbids_something_on_the_way_is_told_from_one_that_does_not() {
        let but = |number: libc::c_long| {
            program(&[(0x20, 0, 0, 0), (0x15, 0, 1, number as u32), (6, 0, 0, REFUSE), (6, 0, 0, ALLOW)])
        };
        assert!(permits_start(&but(libc::SYS_mkdirat)));
        for number in [libc::SYS_clone, libc::SYS_sendmsg, libc::SYS_capset, libc::SYS_execve] {
            assert!(!permits_start(&but(number)), "{number}");
        }
        assert!(!permits_start(&program(&[(6, 0, 0, REFUSE)])));
        assert!(permits_start(&program(&[(6, 0, 0, libc::SECCOMP_RET_LOG)])));
    }

    #[test]
    fn arguments_of_clone_are_looked_at() {
        // Refuses clone with CLONE_PARENT, by a mask.
        let number = libc::SYS_clone as u32;
        let masked = program(&[
            (0x20, 0, 0, 0),
            (0x15, 0, 4, number),
            (0x20, 0, 0, 16),
            (0x54, 0, 0, libc::CLONE_PARENT as u32),
            (0x15, 1, 0, 0),
            (6, 0, 0, REFUSE),
            (6, 0, 0, ALLOW),
        ]);
        assert!(!permits_start(&masked));
    }

    #[test]
    fn malformed_programs_permit_nothing() {
        for bytes in [vec![], vec![1, 2, 3], program(&[(0x20, 0, 0, 7)]), program(&[(5, 0, 0, u32::MAX)])] {
            assert!(!permits_start(&bytes));
        }
    }
}

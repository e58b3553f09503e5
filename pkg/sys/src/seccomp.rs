//! seccomp(2): loading a compiled filter.

use std::io;

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
    match result {
        0 => Ok(()),
        // With TSYNC a positive result is the id of a thread that could not follow.
        1.. => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        _ => Err(io::Error::last_os_error()),
    }
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

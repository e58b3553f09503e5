//! bpf(2) for cgroup device programs: load, attach, replace, query.
//!
//! The program itself is made by `pkg/cgroup`; this module only knows the call. Layouts are those of `union bpf_attr`
//! in linux/bpf.h, whose members never move: a shorter attribute is the same as one padded with zeros.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;

const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 1 << 1;
const REPLACE: u32 = 1 << 2;

/// The kernel holds at most this many programs per group and type (`BPF_CGROUP_MAX_PROGS`).
const MAX_PROGS: usize = 64;

/// A failed bpf(2) command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program was refused; the verifier's words follow.
    #[error("bpf(BPF_PROG_LOAD, CGROUP_DEVICE): {log}")]
    Load {
        /// End of the verifier's log; empty when it wrote none.
        log: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// Another command failed.
    #[error("bpf({command})")]
    Command {
        /// The command as the manual page names it.
        command: &'static str,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

/// One instruction, laid out as `struct bpf_insn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Insn {
    /// Operation.
    pub code: u8,
    /// Destination register in the low four bits, source register in the high four (little endian machines).
    pub regs: u8,
    /// Jump or memory offset.
    pub off: i16,
    /// Immediate operand.
    pub imm: i32,
}

#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct IdAttr {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// Loads a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`. It lives as long as the descriptor or an attachment.
///
/// # Errors
/// [`Error::Load`] with the verifier's log; EPERM without CAP_BPF or CAP_SYS_ADMIN.
pub fn load_cgroup_device(program: &[Insn]) -> Result<OwnedFd, Error> {
    let license = c"Apache-2.0";
    let mut attr = LoadAttr {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).unwrap_or(u32::MAX),
        insns: program.as_ptr().addr() as u64,
        license: license.as_ptr().addr() as u64,
        prog_name: *b"husk_devices\0\0\0\0",
        ..LoadAttr::default()
    };
    // SAFETY: LoadAttr is the prefix of bpf_attr that BPF_PROG_LOAD reads; `insns` points to `insn_cnt` instructions
    // of `program` (or the count is refused as too large) and `license` to a NUL-terminated literal, both alive here.
    let first = unsafe { bpf(PROG_LOAD, &mut attr) };
    if let Ok(fd) = first {
        // SAFETY: BPF_PROG_LOAD returned a new descriptor that nobody else owns.
        return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    // Once more for the log: asking for it always would cost the verifier's printing at each load.
    let mut log = vec![0u8; 16 * 1024];
    attr.log_level = 1;
    attr.log_size = log.len() as u32;
    attr.log_buf = log.as_mut_ptr().addr() as u64;
    // SAFETY: as above, and `log_buf` points to `log_size` writable bytes of `log`, which is alive here.
    match unsafe { bpf(PROG_LOAD, &mut attr) } {
        // SAFETY: BPF_PROG_LOAD returned a new descriptor that nobody else owns.
        Ok(fd) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        Err(source) => Err(Error::Load { log: log_tail(&log), source }),
    }
}

/// Attaches a device program to a group of the v2 tree, in place of `replace` if that is given. Device programs of
/// ancestors go on to apply.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN and CAP_BPF, or when an ancestor's program forbids others.
pub fn attach_cgroup_device(
    cgroup: impl AsFd,
    program: impl AsFd,
    replace: Option<BorrowedFd<'_>>,
) -> Result<(), Error> {
    let mut attr = AttachAttr {
        target_fd: raw(cgroup.as_fd()),
        attach_bpf_fd: raw(program.as_fd()),
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: if replace.is_some() { ALLOW_MULTI | REPLACE } else { ALLOW_MULTI },
        replace_bpf_fd: replace.map_or(0, raw),
    };
    // SAFETY: AttachAttr is the prefix of bpf_attr that BPF_PROG_ATTACH reads; it holds no pointer.
    unsafe { bpf(PROG_ATTACH, &mut attr) }
        .map(drop)
        .map_err(|source| Error::Command { command: "BPF_PROG_ATTACH", source })
}

/// Detaches a device program from a group.
///
/// # Errors
/// ENOENT when it is not attached there.
pub fn detach_cgroup_device(cgroup: impl AsFd, program: impl AsFd) -> Result<(), Error> {
    let mut attr = AttachAttr {
        target_fd: raw(cgroup.as_fd()),
        attach_bpf_fd: raw(program.as_fd()),
        attach_type: ATTACH_CGROUP_DEVICE,
        ..AttachAttr::default()
    };
    // SAFETY: AttachAttr is the prefix of bpf_attr that BPF_PROG_DETACH reads; it holds no pointer.
    unsafe { bpf(PROG_DETACH, &mut attr) }
        .map(drop)
        .map_err(|source| Error::Command { command: "BPF_PROG_DETACH", source })
}

/// The device programs attached to this very group (not its ancestors).
///
/// # Errors
/// The kernel refused the query; a program that was detached meanwhile is left out.
pub fn cgroup_device_programs(cgroup: impl AsFd) -> Result<Vec<OwnedFd>, Error> {
    let mut ids = [0u32; MAX_PROGS];
    let mut attr = QueryAttr {
        target_fd: raw(cgroup.as_fd()),
        attach_type: ATTACH_CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr().addr() as u64,
        prog_cnt: ids.len() as u32,
        ..QueryAttr::default()
    };
    // SAFETY: QueryAttr is the prefix of bpf_attr that BPF_PROG_QUERY reads and writes; `prog_ids` points to
    // `prog_cnt` writable u32 of `ids`, which is alive here.
    unsafe { bpf(PROG_QUERY, &mut attr) }
        .map_err(|source| Error::Command { command: "BPF_PROG_QUERY", source })?;
    let count = (attr.prog_cnt as usize).min(ids.len());
    let mut programs = Vec::with_capacity(count);
    for id in &ids[..count] {
        let mut attr = IdAttr { id: *id, ..IdAttr::default() };
        // SAFETY: IdAttr is the prefix of bpf_attr that BPF_PROG_GET_FD_BY_ID reads; it holds no pointer.
        match unsafe { bpf(PROG_GET_FD_BY_ID, &mut attr) } {
            // SAFETY: BPF_PROG_GET_FD_BY_ID returned a new descriptor that nobody else owns.
            Ok(fd) => programs.push(unsafe { OwnedFd::from_raw_fd(fd) }),
            Err(err) if err.raw_os_error() == Some(libc::ENOENT) => {}
            Err(source) => return Err(Error::Command { command: "BPF_PROG_GET_FD_BY_ID", source }),
        }
    }
    Ok(programs)
}

/// # Safety
/// `attr` must be laid out as the member of `union bpf_attr` for `command`, and its pointers must be valid for what
/// that command reads and writes.
unsafe fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<i32> {
    // SAFETY: `attr` is a live exclusive reference and its exact size is passed; its content is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    // A borrowed descriptor is never negative.
    fd.as_raw_fd().unsigned_abs()
}

fn log_tail(log: &[u8]) -> String {
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    String::from_utf8_lossy(&log[end.saturating_sub(600)..end]).trim().to_owned()
}

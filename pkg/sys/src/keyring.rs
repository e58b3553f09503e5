//! Session keyrings (keyrings(7)).

use rustix::io::Errno;

use crate::{
    Result,
    error::{Named, check},
};

/// Joins a new session keyring without a name, which nobody else can join: what is executed from here possesses no key that
/// whoever started us does. A kernel without keys has nothing to possess.
///
/// # Errors
/// `EDQUOT` when the user has too many keys.
pub fn join_new_session() -> Result<()> {
    let name: *const libc::c_char = std::ptr::null();
    // SAFETY: a null name is what asks for an anonymous keyring; no memory of ours is read or written.
    match check(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, name) }) {
        Err(Errno::NOSYS) => Ok(()),
        other => other.named("keyctl", || "KEYCTL_JOIN_SESSION_KEYRING, NULL".into()).map(drop),
    }
}

/// Adds a key to the session keyring that only its possessors may do anything with.
///
/// # Errors
/// Those of add_key(2) and keyctl(2).
pub fn add_possessed(description: &std::ffi::CStr, payload: &[u8]) -> Result<()> {
    /// All that a possessor may do, nothing for anybody else (KEY_POS_ALL).
    const POSSESSOR: libc::c_ulong = 0x3f00_0000;
    // SAFETY: both strings end in NUL, and the kernel reads `payload.len()` bytes of the payload, which is alive.
    let key = check(unsafe {
        libc::syscall(
            libc::SYS_add_key,
            c"user".as_ptr(),
            description.as_ptr(),
            payload.as_ptr(),
            payload.len(),
            libc::KEY_SPEC_SESSION_KEYRING,
        )
    })
    .named("add_key", || format!("user, {description:?}"))?;
    // SAFETY: numbers only.
    check(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_SETPERM, key, POSSESSOR) })
        .named("keyctl", || "KEYCTL_SETPERM".into())
        .map(drop)
}

//! Taking the program that we run out of the containers' reach.
//!
//! Before its own program is executed, a container's process is a copy of us: `/proc/self/exe` is the node's husk-oci. An image whose
//! program is a script for that interpreter would run it again, and another process of the container would open it for writing
//! (CVE-2019-5736). So what clones containers runs from a read-only mount of its own, or a sealed copy, that nobody can execute a
//! second time (`husk_sys::program`): it starts itself anew from there.

use std::{
    ffi::{CString, OsString},
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::Path,
};

use husk_sys::exec::StringArray;
use rustix::process::DumpableBehavior;

/// Says that we were started anew, and from which descriptor.
const LENT: &str = "--lent-program=";
/// The commands that clone a process into a container.
const CLONERS: [&str; 3] = ["create", "run", "exec"];

/// Starts us anew if we are to clone a container, and finishes that if we were: then `arguments` are as they were given.
///
/// # Errors
/// Those of making the mount or the copy, and of executing it.
pub(crate) fn settle(arguments: &mut Vec<OsString>) -> io::Result<()> {
    // Our memory and /proc entries are nobody's business.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let marked = arguments.get(1).and_then(|first| first.to_str()?.strip_prefix(LENT));
    if let Some(fd) = marked.map(|number| number.parse::<i32>().map_err(io::Error::other)).transpose()? {
        arguments.remove(1);
        rustix::thread::set_name(c"husk-oci")?;
        return husk_sys::program::withdraw(reopened(fd)?).map_err(io::Error::other);
    }
    if !arguments.iter().any(|word| CLONERS.iter().any(|command| word == command)) {
        return Ok(());
    }
    let lent = husk_sys::program::lend(Path::new("/proc/self/exe")).map_err(io::Error::other)?;
    // Not at a number that a caller's descriptors are counted from.
    let lent = rustix::io::fcntl_dupfd_cloexec(&lent, HIGH).map_err(io::Error::from)?;
    let kept: OwnedFd = husk_sys::fds::inheritable(&lent, HIGH).map_err(io::Error::other)?;
    let mut again = arguments.clone();
    again.insert(1, format!("{LENT}{}", kept.as_raw_fd()).into());
    let string = |bytes: Vec<u8>| CString::new(bytes).map_err(io::Error::other);
    let words = again.into_iter().map(|word| string(word.into_vec())).collect::<io::Result<Vec<_>>>()?;
    let environment =
        std::env::vars_os().map(|(name, value)| string([name.as_bytes(), b"=", value.as_bytes()].concat()));
    let environment = environment.collect::<io::Result<Vec<_>>>()?;
    Err(husk_sys::exec::fexecve(&lent, &StringArray::new(words), &StringArray::new(environment)).into())
}

/// Above what anybody passes to a container.
const HIGH: i32 = 200;

/// The descriptor that we were started from. Somebody who says a number that is none of ours is told so by the kernel.
fn reopened(fd: i32) -> io::Result<OwnedFd> {
    husk_sys::fds::adopt(fd).map_err(io::Error::other)
}

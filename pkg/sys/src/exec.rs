//! execve with everything prepared.

use std::{
    ffi::{CStr, CString},
    os::fd::{AsFd, AsRawFd},
    ptr,
};

use rustix::io::Errno;

use crate::error::check;

/// A NULL-terminated array of C strings, as execve wants it.
#[derive(Debug)]
pub struct StringArray {
    strings: Vec<CString>,
}

impl StringArray {
    /// Takes the strings over.
    pub fn new(strings: Vec<CString>) -> Self {
        Self { strings }
    }

    fn pointers(&self) -> Vec<*const libc::c_char> {
        self.strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
    }
}

/// Becomes the program at `path`. Returns only to say why not.
pub fn execve(path: &CStr, arguments: &StringArray, environment: &StringArray) -> Errno {
    let (argv, envp) = (arguments.pointers(), environment.pointers());
    // SAFETY: path is NUL-terminated; both arrays end in NULL and point into strings borrowed for the whole call.
    failure(unsafe { libc::syscall(libc::SYS_execve, path.as_ptr(), argv.as_ptr(), envp.as_ptr()) })
}

/// Becomes the program open at `file` (which may be close-on-exec unless it is a script). Returns only to say why not.
pub fn fexecve(file: impl AsFd, arguments: &StringArray, environment: &StringArray) -> Errno {
    let (argv, envp) = (arguments.pointers(), environment.pointers());
    // SAFETY: as in `execve`; the path is a constant empty C string.
    failure(unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_fd().as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    })
}

fn failure(result: libc::c_long) -> Errno {
    check(result).err().unwrap_or(Errno::IO)
}

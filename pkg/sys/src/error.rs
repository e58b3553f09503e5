//! System call errors that read like a line of strace.

use std::fmt;

use rustix::io::Errno;

/// Result of a system call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed system call: `openat2(root, "etc/passwd") = ENOENT`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    call: &'static str,
    arguments: String,
    errno: Errno,
    note: String,
}

impl Error {
    /// Describes a failed call.
    pub fn new(call: &'static str, arguments: impl Into<String>, errno: Errno) -> Self {
        Self { call, arguments: arguments.into(), errno, note: String::new() }
    }

    /// Adds what else is known: the kernel's own message.
    #[must_use]
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// The kernel's error number.
    pub const fn errno(&self) -> Errno {
        self.errno
    }

    /// The call as text, without the outcome.
    pub fn call(&self) -> String {
        let mut text = format!("{}({})", self.call, self.arguments);
        if !self.note.is_empty() {
            text.push_str(": ");
            text.push_str(&self.note);
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.call(), self.errno)
    }
}

/// Names a failing call.
pub(crate) trait Named<T> {
    fn named(self, call: &'static str, arguments: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Named<T> for rustix::io::Result<T> {
    fn named(self, call: &'static str, arguments: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error::new(call, arguments(), errno))
    }
}

/// Result of a raw system call made through libc.
pub(crate) fn check(result: libc::c_long) -> rustix::io::Result<libc::c_long> {
    if result == -1 {
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
        return Err(Errno::from_raw_os_error(errno));
    }
    Ok(result)
}

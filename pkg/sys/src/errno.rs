//! Error numbers of the kernel: how they read, and what they say of a call.

use std::io;

use rustix::io::Errno;

/// The kernel's words for an error number: `No such file or directory`.
pub fn reason(errno: i32) -> String {
    // std adds "(os error N)", which tells a reader nothing more.
    let text = io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// The same as Go's runtimes say it, within a sentence: `no such file or directory`.
pub fn reason_in_sentence(errno: i32) -> String {
    let mut text = reason(errno);
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    text
}

/// What the kernel had against a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// What a path in it leads to: nothing, something of the wrong kind, or something one may not use.
    Path,
    /// A value in it, which is not of the form or the size that there is.
    Value,
    /// Nothing: the node has no more of what it takes.
    Exhausted,
    /// Something else.
    Other,
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::ISDIR | Errno::LOOP | Errno::ACCESS | Errno::NOEXEC => {
                Self::Path
            }
            Errno::INVAL | Errno::RANGE | Errno::NAMETOOLONG => Self::Value,
            Errno::NOMEM | Errno::MFILE | Errno::NFILE | Errno::NOSPC | Errno::AGAIN | Errno::DQUOT => {
                Self::Exhausted
            }
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_the_kernels_words_without_its_number() {
        assert_eq!(reason(libc::ENOENT), "No such file or directory");
        assert_eq!(reason_in_sentence(libc::EISDIR), "is a directory");
    }
}

//! Finding the executable as execvp(3) does, and saying what is wrong in the words kubelet users know.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self, Access, AtFlags, CWD, FileType},
    io::Errno,
};

use crate::{Failure, Step};

/// The path to execute for `name`, as the calling process (already the container's user, in its working directory)
/// sees it.
pub(crate) fn executable(name: &str, search: &[u8]) -> Result<PathBuf, Failure> {
    let fail = |errno: Option<Errno>, text: &str| Failure {
        step: Step::Lookup,
        object: String::new(),
        errno,
        detail: format!("exec: {name:?}{text}"),
    };
    if name.contains('/') {
        return match check(Path::new(name)) {
            Ok(()) => Ok(name.into()),
            Err(errno @ (Errno::NOENT | Errno::NOTDIR)) => Err(fail(Some(errno), &format!(": stat {name}"))),
            Err(errno) => Err(fail(Some(errno), "")),
        };
    }
    let mut denied = None;
    for directory in search.split(|&byte| byte == b':') {
        let directory = if directory.is_empty() { b"." } else { directory };
        let candidate = Path::new(OsStr::from_bytes(directory)).join(name);
        match check(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::ACCESS) => denied = Some(Errno::ACCESS),
            Err(_) => {}
        }
    }
    match denied {
        Some(errno) => Err(fail(Some(errno), "")),
        None => Err(fail(None, ": executable file not found in $PATH")),
    }
}

/// Why execve refused a file that was there and executable.
pub(crate) fn execve_failure(path: &Path, errno: Errno) -> Failure {
    let detail = match errno {
        Errno::NOENT => "the interpreter or dynamic loader it names is missing",
        Errno::NOEXEC => "it is neither a program for this architecture nor a script with #!",
        _ => "",
    };
    Failure {
        step: Step::Execute,
        object: path.display().to_string(),
        errno: Some(errno),
        detail: detail.to_owned(),
    }
}

fn check(path: &Path) -> Result<(), Errno> {
    let stat = fs::stat(path)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    // The effective ids are the container's; a root without CAP_DAC_OVERRIDE is refused like anybody.
    match fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        // A kernel or filter without faccessat2: execve will tell.
        Err(Errno::NOSYS | Errno::PERM) => Ok(()),
        other => other,
    }
}

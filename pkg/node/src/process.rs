//! Processes by identity: a pid alone may have been given to another one, a pid with its start time has not.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::OwnedFd,
};

use husk_model::Process;
use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// Which process has this pid now.
///
/// # Errors
/// `NotFound` when there is none, or those of reading `/proc/<pid>/stat`.
pub fn identify(pid: u32) -> io::Result<Process> {
    let (_, start_time) = stat(pid)?;
    Ok(Process { pid, start_time })
}

/// Whether this very process exists and is not a zombie.
pub fn is_alive(process: Process) -> bool {
    matches!(stat(process.pid), Ok((state, start_time)) if start_time == process.start_time && state != 'Z')
}

/// A descriptor of this very process.
///
/// # Errors
/// `NotFound` when it has ended, or those of pidfd_open(2).
pub fn open(process: Process) -> io::Result<OwnedFd> {
    let gone = || io::Error::from(io::ErrorKind::NotFound);
    let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw).ok_or_else(gone)?;
    match pidfd_open(pid, PidfdFlags::empty()) {
        // Checked after it was opened, so it is this process's descriptor, and not that of another one with its number.
        Ok(pidfd) if is_alive(process) => Ok(pidfd),
        Ok(_) | Err(Errno::SRCH) => Err(gone()),
        Err(errno) => Err(errno.into()),
    }
}

/// Kills this very process. One that has ended is fine.
///
/// # Errors
/// Those of pidfd_open(2) and pidfd_send_signal(2).
pub fn kill(process: Process) -> io::Result<()> {
    let pidfd = match open(process) {
        Ok(pidfd) => pidfd,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    match pidfd_send_signal(pidfd, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Longest line that the kernel writes: 52 fields, most of at most 20 digits.
const STAT: usize = 2048;

/// State letter and start time of a process.
fn stat(pid: u32) -> io::Result<(char, u64)> {
    let mut bytes = Vec::with_capacity(512);
    File::open(format!("/proc/{pid}/stat"))?.take(STAT as u64).read_to_end(&mut bytes)?;
    // A process may call itself anything (prctl(2), PR_SET_NAME).
    parse_stat(&String::from_utf8_lossy(&bytes))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unexpected /proc/<pid>/stat"))
}

/// The command name (field 2) may hold spaces and parentheses, so fields are counted from the last `)`.
fn parse_stat(text: &str) -> Option<(char, u64)> {
    let mut rest = text[text.rfind(')')? + 1..].split_ascii_whitespace();
    let state = rest.next()?.chars().next()?;
    // Field 3 is taken; field 22 is the 19th after it.
    Some((state, rest.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A shell that runs `script` and has said a word, and lives until its standard input is closed.
    fn shell(script: &str) -> Child {
        let mut child = Command::new("sh")
            .args(["-c", &format!("{script}; echo done; read line")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdout.take().unwrap().read_exact(&mut [0; 5]).unwrap();
        child
    }

    #[test]
    fn the_start_time_is_found_behind_a_hostile_command_name() {
        let text = "7 (a) R 1) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 99 1";
        assert_eq!(parse_stat(text), Some(('S', 4242)));
    }

    #[test]
    fn a_name_that_is_no_text_hides_no_process() {
        let mut child = shell("printf 'caf\\351' > /proc/$$/comm");
        assert!(identify(child.id()).is_ok());
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn this_process_is_alive_and_one_with_another_start_time_is_not() {
        let own = identify(std::process::id()).unwrap();
        let other = Process { start_time: own.start_time + 1, ..own };
        assert!(is_alive(own) && open(own).is_ok());
        assert!(!is_alive(other));
        assert_eq!(open(other).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn only_the_very_process_is_killed() {
        let mut child = shell("true");
        let process = identify(child.id()).unwrap();
        kill(Process { start_time: process.start_time + 1, ..process }).unwrap();
        assert!(is_alive(process));
        kill(process).unwrap();
        child.wait().unwrap();
        assert!(!is_alive(process));
        kill(process).unwrap();
    }
}

//! Standing by: a monitor that is started before its pod is wanted, so that the pod need not wait for it.
//!
//! It has done all that it does for any pod and waits on a socket for its pod's directory, listening socket and log
//! (`AdoptPod` of the protocol). Until then it is the daemon's: when the daemon ends, however it does, the socket ends too,
//! and so does the monitor.

use std::{
    fs::File,
    io,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, fs::FileExt},
    },
    path::{Path, PathBuf},
};

use husk_cgroup::Hierarchy;
use husk_proto::podmon::{AdoptPod, request::Call};
use rustix::net::{SendFlags, send};

use crate::{
    frame::{Inbox, Received},
    journal::journal,
};

/// Where a pod's directory is, and how its monitor is spoken to.
#[derive(Debug)]
pub struct Pod {
    pub dir: PathBuf,
    pub listener: OwnedFd,
}

/// Size of a read: no longer than an `AdoptPod` is.
const SCRATCH: usize = 8 << 10;
/// Field 48 of `/proc/<pid>/stat`: where in our memory the command line begins (proc_pid_stat(5)). Counted from the third one.
const ARG_START: usize = 48 - 3;

/// Does what can be done without a pod. Returns the node's cgroups; that they cannot be found shows again, and is reported,
/// when a pod needs them.
pub fn prepare() -> io::Result<Option<Hierarchy>> {
    // For people: this one belongs to no pod.
    rustix::thread::set_name(c"husk-standby")?;
    husk_runtime::prepare();
    Ok(Hierarchy::detect().ok())
}

/// Waits for a pod; `None` when the daemon wants none any more. `placeholder` is what the command line has in its place.
pub fn await_pod(daemon: &OwnedFd, placeholder: &Path) -> io::Result<Option<Pod>> {
    // One that has a pod waiting already does not listen.
    let _ = send(daemon, &[0], SendFlags::NOSIGNAL);
    let (mut inbox, mut scratch) = (Inbox::default(), [0; SCRATCH]);
    loop {
        if let Some(request) = inbox.next()? {
            let refused = || io::Error::new(io::ErrorKind::InvalidData, "the daemon did not give us a pod");
            let Some(Call::AdoptPod(AdoptPod { pod_dir })) = request.call else { return Err(refused()) };
            let (listener, log) = inbox.take_fd().zip(inbox.take_fd()).ok_or_else(refused)?;
            rustix::stdio::dup2_stderr(log)?;
            let pod = Pod { dir: pod_dir.into(), listener };
            show(placeholder, &pod.dir);
            rustix::thread::set_name(c"husk-podmon")?;
            return Ok(Some(pod));
        }
        if inbox.receive(daemon, &mut scratch)? == Received::End {
            return Ok(None);
        }
    }
}

/// Writes the pod's directory into our command line, where `ps` shows and the daemon reads whose monitor this is.
fn show(placeholder: &Path, dir: &Path) {
    if let Err(error) = overwrite_argument(placeholder.as_os_str().as_bytes(), dir.as_os_str().as_bytes()) {
        journal!("show {} in the command line: {error}", dir.display());
    }
}

fn overwrite_argument(old: &[u8], new: &[u8]) -> io::Result<()> {
    let no_place = || io::Error::other("there is no place for it");
    let line = std::fs::read("/proc/self/cmdline")?;
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // Behind the name, which may contain anything.
    let (_, fields) = stat.rsplit_once(") ").ok_or_else(no_place)?;
    let start: u64 =
        fields.split(' ').nth(ARG_START).and_then(|field| field.parse().ok()).ok_or_else(no_place)?;
    let place = argument(&line, old).filter(|_| old.len() == new.len()).ok_or_else(no_place)?;
    File::options().write(true).open("/proc/self/mem")?.write_all_at(new, start + place as u64)
}

/// Where in a command line an argument begins.
fn argument(line: &[u8], wanted: &[u8]) -> Option<usize> {
    let mut begin = 0;
    for word in line.split(|byte| *byte == 0) {
        if word == wanted {
            return Some(begin);
        }
        begin += word.len() + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_is_found_whole() {
        let line = b"husk-podmon\0--state-dir\0/p\0--pause\0/pause\0";
        assert_eq!(argument(line, b"/p"), Some(24));
        assert_eq!(argument(line, b"/pause"), Some(35));
        assert_eq!(argument(line, b"/paus"), None);
    }
}

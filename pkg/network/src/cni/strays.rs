//! Plugins that outlived those who waited for them: started by a daemon that was killed, or left in sessions of their own
//! by a plugin that hung.
//!
//! A DEL beside an ADD that still runs would be overtaken by it, and what the ADD makes last would stay for ever. Plugins
//! and their children are known by `CNI_CONTAINERID` in their environment, whatever group they are in. A container that
//! puts the id of a pod there only marks itself: nobody knows the id of a pod that is not made yet.

use std::{
    collections::HashSet,
    fs,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use husk_model::PodSandboxId;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// How long the killed are waited for. One in uninterruptible sleep may stay longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Kills every process that works for one of these pods, and waits until they are gone. Returns how many there were. Blocks.
pub(super) fn kill(pods: &HashSet<PodSandboxId>) -> usize {
    let strays: Vec<OwnedFd> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw))
        .filter_map(|pid| stray(pid, pods))
        .collect();
    for stray in &strays {
        // Fails only for one that has ended.
        let _ = pidfd_send_signal(stray, Signal::KILL);
    }
    let deadline = Instant::now() + PATIENCE;
    for stray in &strays {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout =
            Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: i64::from(left.subsec_nanos()) };
        let _ = poll(&mut [PollFd::new(&stray.as_fd(), PollFlags::IN)], Some(&timeout));
    }
    strays.len()
}

/// The process, if it works for one of these pods. It is opened before it is looked at, so no other one is meant later.
fn stray(pid: Pid, pods: &HashSet<PodSandboxId>) -> Option<OwnedFd> {
    if pid.as_raw_nonzero().get() == std::process::id().cast_signed() {
        return None;
    }
    let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).ok()?;
    let id =
        environment.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(b"CNI_CONTAINERID="))?;
    let id: PodSandboxId = std::str::from_utf8(id).ok()?.parse().ok()?;
    pods.contains(&id).then_some(process)
}

#[cfg(test)]
mod tests {
    use std::{
        process::{Command, Stdio},
        time::Duration,
    };

    use super::*;

    #[test]
    fn who_works_for_a_pod_is_killed_in_whatever_session_and_nobody_else() {
        let (ours, other) = (PodSandboxId::generate(), PodSandboxId::generate());
        let start = |id: &PodSandboxId| {
            let mut command = Command::new("setsid");
            command.args(["sleep", "1000"]).env("CNI_CONTAINERID", id.as_str()).stdin(Stdio::null());
            command.spawn().unwrap()
        };
        let (mut stray, mut innocent) = (start(&ours), start(&other));
        // Its environment is that of `sleep` once it has executed.
        let executed = |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap().trim() == "sleep";
        husk_test_support::eventually("both sleep", Duration::from_secs(10), || {
            (executed(stray.id()) && executed(innocent.id())).then_some(())
        });
        assert_eq!(kill(&HashSet::from([ours.clone()])), 1);
        assert!(!stray.wait().unwrap().success());
        assert!(innocent.try_wait().unwrap().is_none(), "another pod's plugin runs on");
        innocent.kill().unwrap();
        innocent.wait().unwrap();
        assert_eq!(kill(&HashSet::from([ours])), 0);
    }
}

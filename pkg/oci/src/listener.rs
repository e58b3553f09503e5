//! The listener of a seccomp filter, on its way to the agent that decides on what the filter leaves to it (OCI runtime-spec,
//! config-linux: Seccomp, `listenerPath`; runtime-linux: The Container Process State).

use std::{
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
};

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction};

use crate::{Error, Record, Result, Status, example::OCI_VERSION, socket};

/// Where the listener of a container's filter goes.
#[derive(Debug)]
pub(crate) struct Agent {
    path: PathBuf,
    metadata: String,
}

impl Agent {
    /// The agent of a profile; `None` for one that leaves nothing to a listener, whatever path it names.
    ///
    /// # Errors
    /// [`Error::Invalid`]: a listener is needed, and there is no path.
    pub(crate) fn of(profile: Option<&LinuxSeccomp>) -> Result<Option<Self>> {
        let Some(profile) = profile else { return Ok(None) };
        let leaves =
            |rule: &oci_spec::runtime::LinuxSyscall| rule.action() == LinuxSeccompAction::ScmpActNotify;
        if !profile.syscalls().iter().flatten().any(leaves) {
            return Ok(None);
        }
        let path = profile.listener_path().clone().filter(|path| !path.as_os_str().is_empty());
        let path = path.ok_or_else(|| {
            Error::Invalid("SCMP_ACT_NOTIFY needs a seccomp listenerPath: the socket of an agent".to_owned())
        })?;
        Ok(Some(Self { path, metadata: profile.listener_metadata().clone().unwrap_or_default() }))
    }

    /// Hands over the listener of a container's process.
    ///
    /// # Errors
    /// What came is no listener; nobody takes it.
    pub(crate) fn send(&self, listener: &OwnedFd, record: &Record, status: Status, pid: u32) -> Result<()> {
        let what = std::fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd()));
        // Whoever can trace the process in its container can speak through it, and the agent trusts us.
        if !what.is_ok_and(|what| what.as_os_str() == "anon_inode:seccomp notify") {
            return Err(Error::Invalid(
                "what the process sent is no listener of a seccomp filter".to_owned(),
            ));
        }
        let init = record.init.map(|init| init.pid);
        let state: serde_json::Value =
            serde_json::from_slice(&record.hook_state(status, Some(init.unwrap_or(pid))))
                .map_err(|source| Error::Json { path: "state".into(), source })?;
        let text = serde_json::json!({
            "ociVersion": OCI_VERSION,
            "fds": ["seccompFd"],
            "pid": pid,
            "metadata": self.metadata,
            "state": state,
        });
        let failed = |step: &'static str| move |error: io::Error| Error::io(step, &self.path)(error);
        let agent =
            UnixStream::connect(&self.path).map_err(failed("failed to connect with seccomp agent"))?;
        socket::send(&agent, listener.as_fd(), text.to_string().as_bytes())
            .map_err(failed("failed to send to seccomp agent"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn profile(path: &str, action: &str) -> LinuxSeccomp {
        let rule = json!({ "names": ["mkdir"], "action": action });
        let profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "syscalls": [rule] });
        serde_json::from_value(profile).unwrap()
    }

    #[test]
    fn who_leaves_nothing_to_a_listener_has_no_agent_and_who_does_names_one() {
        assert!(Agent::of(None).unwrap().is_none());
        assert!(Agent::of(Some(&profile("/run/agent", "SCMP_ACT_ERRNO"))).unwrap().is_none());
        assert!(Agent::of(Some(&profile("", "SCMP_ACT_NOTIFY"))).is_err());
        let agent = Agent::of(Some(&profile("/run/agent", "SCMP_ACT_NOTIFY"))).unwrap().unwrap();
        assert_eq!(agent.path, std::path::Path::new("/run/agent"));
    }

    /// A tracer in the container may speak through the process.
    #[test]
    fn what_is_no_listener_is_not_handed_to_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent");
        let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let agent = Agent { path, metadata: String::new() };
        let record = crate::state::example("c1");
        let null = std::fs::File::open("/dev/null").unwrap().into();
        let error = agent.send(&null, &record, Status::Creating, 1).unwrap_err().to_string();
        assert!(error.contains("no listener"), "{error}");
        assert!(socket.accept().is_err(), "nobody has called");
    }
}

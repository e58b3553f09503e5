//! One suite, two subjects: the runtime under test is husk, or containerd where `HUSK_E2E_RUNTIME=containerd`.

use std::path::{Path, PathBuf};

use crate::{CgroupDriver, Containerd, Cri, Daemon};

/// The runtime under test.
#[derive(Debug)]
pub enum Subject {
    /// husk.
    Husk(Daemon),
    /// containerd with runc: the control.
    Containerd(Containerd),
}

/// Calls a method that both subjects have.
macro_rules! either {
    ($subject:expr, $daemon:ident => $call:expr) => {
        match $subject {
            Subject::Husk($daemon) => $call,
            Subject::Containerd($daemon) => $call,
        }
    };
}

impl Subject {
    /// Starts the runtime that the environment names, with the busybox image.
    pub fn start() -> Self {
        match std::env::var("HUSK_E2E_RUNTIME").as_deref() {
            Err(_) | Ok("husk") => Self::Husk(Daemon::start()),
            Ok("containerd") => Self::Containerd(Containerd::start()),
            Ok(other) => panic!("HUSK_E2E_RUNTIME is husk or containerd, not {other:?}"),
        }
    }

    /// Whether it is husk: for the few sentences that hold for it alone.
    pub fn is_husk(&self) -> bool {
        matches!(self, Self::Husk(_))
    }

    /// Clients of its services.
    pub fn cri(&self) -> &Cri {
        either!(self, daemon => daemon.cri())
    }

    /// The daemon's pid.
    pub fn pid(&self) -> u32 {
        either!(self, daemon => daemon.pid())
    }

    /// The socket's path.
    pub fn address(&self) -> PathBuf {
        either!(self, daemon => daemon.address())
    }

    /// The daemon's directory.
    pub fn dir(&self) -> &Path {
        either!(self, daemon => daemon.dir())
    }

    /// A path below the daemon's own directory.
    pub fn path(&self, relative: &str) -> PathBuf {
        either!(self, daemon => daemon.path(relative))
    }

    /// Who makes the cgroups of its pods.
    pub fn cgroup_driver(&self) -> CgroupDriver {
        match self {
            Self::Husk(daemon) => daemon.cgroup_driver(),
            Self::Containerd(_) => CgroupDriver::Cgroupfs,
        }
    }

    /// The parent of a kubelet's cgroups; removed with the subject.
    pub fn kubelet_cgroup(&self) -> String {
        either!(self, daemon => daemon.kubelet_cgroup())
    }

    /// Adds an image from an archive.
    pub fn import(&self, archive: &Path) {
        match self {
            Self::Husk(daemon) => {
                daemon.husk(&["image", "import", &archive.display().to_string()]).success();
            }
            Self::Containerd(daemon) => daemon.import(archive),
        }
    }

    /// Lets it pull from a registry on loopback that has no TLS. husk does so unasked.
    pub fn allow_plain(&self, host: &str) {
        if let Self::Containerd(daemon) = self {
            daemon.allow_plain(host);
        }
    }

    /// Kills the daemon with SIGKILL and waits until it is gone.
    pub fn kill(&mut self) {
        either!(self, daemon => daemon.kill());
    }

    /// Ends the daemon with SIGTERM and waits until it is gone.
    pub fn stop(&mut self) {
        either!(self, daemon => daemon.stop());
    }

    /// Starts the daemon again on the same directories.
    pub fn spawn(&mut self) {
        either!(self, daemon => daemon.spawn());
    }

    /// Loses everything that a reboot loses (processes, mounts, links, `/run`) and starts the daemon again.
    pub fn reboot(&mut self) {
        either!(self, daemon => daemon.reboot());
    }
}

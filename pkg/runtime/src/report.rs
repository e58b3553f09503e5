//! What a child tells its parent.

use std::{fmt, os::fd::OwnedFd};

use rustix::io::Errno;

use husk_model::ResolvedUser;

/// Something a child had to say.
#[derive(Debug)]
pub enum Report {
    /// Set up; waits at the gate.
    Ready(Ready),
    /// The namespaces and mounts of a container that stands alone are there, its root is not entered yet
    /// ([`crate::StandalonePlan::prepared`]). It waits at the gate, and will be ready later.
    Prepared,
    /// Another process has taken over, whose pid and pidfd the [`crate::Child`] now has. The former one exits by itself and
    /// is to be reaped like any child. Processes that others may see do so before they are ready.
    Moved {
        /// What [`crate::Child::report_fd`] was. It says nothing any more; that of now is to be watched.
        former: OwnedFd,
    },
    /// The listener of the filter that it has loaded ([`husk_sys::seccomp::NEW_LISTENER`]), told once, before it is ready. Its calls that
    /// the filter leaves to the listener wait for whoever holds it.
    Listener(OwnedFd),
    /// Gave up; it exits by itself and is to be reaped.
    Failed(Failure),
    /// The socket closed after the gate was opened: `execve` succeeded. (Or a signal killed the child just then, which
    /// its pidfd tells.)
    Executed,
}

/// A child at the gate.
#[derive(Debug)]
pub struct Ready {
    /// Who it will run as.
    pub account: Account,
    /// Master side of its terminal, if it has one.
    pub terminal: Option<OwnedFd>,
    /// What the node could not do and was left out, one sentence each.
    pub warnings: Vec<String>,
}

/// What a [`husk_model::UserRequest`] came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// Whose ids a process gets.
    pub user: ResolvedUser,
    /// Home directory by passwd, any bytes but NUL; `/` without an entry.
    pub home: Vec<u8>,
}

/// Why a child gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What it was doing.
    pub step: Step,
    /// To what: a path or a name; may be empty.
    pub object: String,
    /// The kernel's answer, if a system call failed.
    pub errno: Option<Errno>,
    /// More about it; may be empty.
    pub detail: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.step.as_str())?;
        if !self.object.is_empty() {
            write!(f, " {}", self.object)?;
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        if let Some(errno) = self.errno {
            write!(f, ": {}", husk_sys::reason_in_sentence(errno.raw_os_error()))?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident = $number:literal => $text:literal,)*) => {
        /// What a child does, in about this order. The text is what users read.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum Step {
            $($(#[$doc])* $name = $number,)*
        }

        impl Step {
            /// Every step, in order.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// For people: `mount`, `resolve user`.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// The step of a number on the wire.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

steps! {
    /// Descriptors, signals, session.
    Prepare = 0 => "prepare process",
    /// Writing itself into `cgroup.procs`.
    Cgroup = 1 => "join cgroup",
    /// Mounting the overlay.
    Rootfs = 2 => "mount root filesystem",
    /// Opening the source of a bind mount on the node.
    Source = 3 => "open mount source",
    /// setns and unshare.
    Namespaces = 4 => "join namespaces",
    /// sethostname.
    Hostname = 5 => "set hostname",
    /// Writing a sysctl.
    Sysctl = 6 => "set sysctl",
    /// One mount of the spec.
    Mount = 7 => "mount",
    /// /dev.
    Device = 8 => "create device",
    /// The pty.
    Terminal = 9 => "open terminal",
    /// A masked path.
    Mask = 10 => "mask path",
    /// A read-only path, or the root made read-only.
    Readonly = 11 => "make read-only",
    /// pivot_root.
    Pivot = 12 => "enter root filesystem",
    /// passwd and group.
    ResolveUser = 13 => "resolve user",
    /// Creating or entering the working directory.
    WorkDir = 14 => "enter working directory",
    /// setrlimit.
    Rlimit = 15 => "set resource limit",
    /// oom_score_adj.
    OomScore = 16 => "set OOM score",
    /// Waiting for StartContainer.
    Gate = 17 => "wait for start",
    /// setgroups, setresgid, setresuid.
    Credentials = 18 => "change user",
    /// Capability sets.
    Capabilities = 19 => "set capabilities",
    /// no_new_privs.
    NoNewPrivs = 20 => "set no_new_privs",
    /// Loading the filter.
    Seccomp = 21 => "load seccomp filter",
    /// Finding the executable.
    Lookup = 22 => "find executable",
    /// execve.
    Execute = 23 => "execute",
    /// The child died without a word.
    Died = 24 => "set up process",
    /// Waiting for the container's start, at its descriptor.
    Start = 25 => "wait for start",
    /// A hook of the container's.
    Hook = 26 => "run hook",
    /// Priorities, scheduler, personality.
    Scheduling = 27 => "set scheduling",
    /// AppArmor profile or SELinux context.
    Label = 30 => "apply security label",
}

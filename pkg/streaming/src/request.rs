//! What a URL stands for.

use husk_model::{ContainerId, PodSandboxId};

use crate::negotiate::Purpose;

/// The streams that a caller wants, checked: at least one, and no separate errors of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Input.
    pub stdin: bool,
    /// Output.
    pub stdout: bool,
    /// Error output.
    pub stderr: bool,
    /// All of them are one terminal.
    pub terminal: bool,
}

/// A session that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A command in a running container.
    Exec {
        /// The pod of the container.
        pod: PodSandboxId,
        /// The container.
        container: ContainerId,
        /// Command and arguments.
        argv: Vec<String>,
        /// Its streams.
        wanted: Wanted,
    },
    /// The streams of a running container's own process.
    Attach {
        /// The pod of the container.
        pod: PodSandboxId,
        /// The container.
        container: ContainerId,
        /// The streams; `terminal` is the container's.
        wanted: Wanted,
    },
    /// Connections to ports of a pod.
    PortForward {
        /// The pod.
        pod: PodSandboxId,
        /// Ports for clients that cannot name them connection by connection (WebSocket channels).
        ports: Vec<u16>,
    },
}

impl Request {
    /// Whose session it will be.
    pub(crate) fn pod(&self) -> &PodSandboxId {
        match self {
            Request::Exec { pod, .. } | Request::Attach { pod, .. } | Request::PortForward { pod, .. } => pod,
        }
    }

    pub(crate) fn purpose(&self) -> Purpose {
        match self {
            Request::Exec { .. } => Purpose::Exec,
            Request::Attach { .. } => Purpose::Attach,
            Request::PortForward { .. } => Purpose::PortForward,
        }
    }
}

impl Purpose {
    /// First part of the path.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Purpose::Exec => "exec",
            Purpose::Attach => "attach",
            Purpose::PortForward => "portforward",
        }
    }

    pub(crate) fn of_path(path: &str) -> Option<Self> {
        [Purpose::Exec, Purpose::Attach, Purpose::PortForward].into_iter().find(|p| p.path() == path)
    }
}

//! What a monitor is asked for, in the words of the domain. Each request becomes its protocol message in the file that
//! defines it, and nobody outside this crate sees that message.

mod container;
mod sandbox;

pub(crate) use container::user;
pub use container::{ContainerRequest, IpcNamespace, PidNamespace, Stdin};
pub use sandbox::{PodNetwork, SandboxRequest, UtsNamespace};

use std::path::Path;

/// Whose namespace: the pod has one for itself, or there is only the node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The pod's.
    Pod,
    /// The node's.
    Node,
}

/// Paths travel as text.
fn text(path: &Path) -> String {
    path.display().to_string()
}

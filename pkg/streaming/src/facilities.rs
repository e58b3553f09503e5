//! What a session needs of the crates beside and above this one: the containers, behind one trait.

use std::{error::Error, os::fd::OwnedFd};

use async_trait::async_trait;
use husk_model::{ContainerId, PodSandboxId, Streams, WindowSize};

/// Why something cannot be done, in the words of who was asked.
pub type Fault = Box<dyn Error + Send + Sync>;

/// Takes a terminal's master.
pub type OnMaster = Box<dyn FnOnce(OwnedFd) + Send>;

/// The node's pods and containers.
#[async_trait]
pub trait Containers: Send + Sync + 'static {
    /// Runs a command on the given streams until it ends; returns its exit code. Dropped, it kills the command.
    async fn exec(
        &self,
        id: &ContainerId,
        argv: Vec<String>,
        streams: Streams<OwnedFd>,
    ) -> Result<i32, Fault>;

    /// Runs a command on a terminal until it ends; returns its exit code. `on_master` gets the terminal's master; closing
    /// that hangs the terminal up. Dropped, it kills the command.
    async fn exec_terminal(
        &self,
        id: &ContainerId,
        argv: Vec<String>,
        size: Option<WindowSize>,
        on_master: OnMaster,
    ) -> Result<i32, Fault>;

    /// Copies between a container's own streams and the given ones until the container ends. Dropped, it lets go.
    async fn attach(&self, id: &ContainerId, streams: Streams<OwnedFd>) -> Result<(), Fault>;

    /// Sets the window of a container's own terminal.
    async fn resize(&self, id: &ContainerId, size: WindowSize) -> Result<(), Fault>;

    /// The network namespace of a ready pod; `None` is the node's.
    async fn network(&self, id: &PodSandboxId) -> Result<Option<OwnedFd>, Fault>;
}

//! What streaming sessions need: commands on descriptors, attaching, window sizes, a pod's network.

use std::os::fd::OwnedFd;

use husk_model::{NamespaceMode, WindowSize};

use crate::{Engine, ExecIo, PodsError, Result};

impl Engine {
    /// Fails unless a container runs.
    ///
    /// # Errors
    /// [`PodsError::NoSuchContainer`], [`PodsError::ContainerState`].
    pub fn check_running(&self, id: &str, operation: &'static str) -> Result<()> {
        self.container(id)?.check_running(operation)
    }

    /// Runs a command on the given streams until it ends; returns its exit code. Dropping this future kills it.
    ///
    /// # Errors
    /// When the container does not run or the command cannot be executed.
    pub async fn exec(&self, id: &str, argv: Vec<String>, io: ExecIo) -> Result<i32> {
        let container = self.container(id)?;
        container.check_running("exec")?;
        Ok(container.pod.monitor()?.exec(&container.id, argv, io).await?)
    }

    /// Runs a command on a terminal of the given size until it ends; returns its exit code. `on_master` gets the terminal's
    /// master. Dropping this future kills the command.
    ///
    /// # Errors
    /// As [`Engine::exec`].
    pub async fn exec_terminal(
        &self,
        id: &str,
        argv: Vec<String>,
        size: Option<WindowSize>,
        on_master: impl FnOnce(OwnedFd) + Send,
    ) -> Result<i32> {
        let container = self.container(id)?;
        container.check_running("exec")?;
        Ok(container.pod.monitor()?.exec_terminal(&container.id, argv, size, on_master).await?)
    }

    /// Copies between a container's own streams and the given ones until it ends. Dropping this future lets go.
    ///
    /// # Errors
    /// When the container does not run.
    pub async fn attach(&self, id: &str, io: ExecIo) -> Result<()> {
        let container = self.container(id)?;
        container.check_running("attach")?;
        Ok(container.pod.monitor()?.attach(&container.id, io).await?)
    }

    /// Sets the window of a container's own terminal.
    ///
    /// # Errors
    /// When the container does not run or has no terminal.
    pub async fn resize_terminal(&self, id: &str, size: WindowSize) -> Result<()> {
        let container = self.container(id)?;
        Ok(container.pod.monitor()?.resize_terminal(&container.id, size).await?)
    }

    /// The network namespace of a ready pod; `None` is the node's.
    ///
    /// # Errors
    /// [`PodsError::PodNotReady`], or when the namespace cannot be opened.
    pub fn open_network(&self, id: &str) -> Result<Option<OwnedFd>> {
        let pod = self.pod(id)?;
        if !pod.is_ready() {
            return Err(PodsError::PodNotReady { id: pod.id.clone() });
        }
        if pod.status.get().config.namespaces().network == NamespaceMode::Node {
            return Ok(None);
        }
        let path = self.store.netns(&pod.id);
        let netns = husk_sys::netns::open(&path)
            .map_err(PodsError::files("open the pod's network namespace", &path))?;
        Ok(Some(netns))
    }
}

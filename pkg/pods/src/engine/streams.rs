//! Commands in containers, and what streaming sessions need: attaching, window sizes, a pod's network. No verb: the monitor does
//! the work. A command ends with its caller.

use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

use husk_model::{Command, NetworkStats, Signal, Streams, WindowSize};
use husk_monitor::ExecOutput;

use super::Engine;
use crate::{
    error::{PodsError, Result},
    node::has_own,
    registry::Container,
};

impl Engine {
    /// Fails unless a container runs.
    ///
    /// # Errors
    /// [`PodsError::NoSuchContainer`], [`PodsError::ContainerState`].
    pub fn check_running(&self, id: &str, operation: &'static str) -> Result<()> {
        self.running(id, operation).map(drop)
    }

    /// Runs a command in a running container; without `timeout` it may take as long as it likes.
    ///
    /// # Errors
    /// [`PodsError::ExecTimeout`] when it was killed; the monitor's error when it cannot be executed.
    pub async fn exec_sync(
        &self,
        id: &str,
        argv: Vec<String>,
        timeout: Option<Duration>,
    ) -> Result<ExecOutput> {
        let container = self.running(id, "exec")?;
        let output = container.pod().monitor()?.exec_sync(container.id(), argv, timeout).await?;
        match timeout {
            Some(limit) if output.timed_out => {
                Err(PodsError::ExecTimeout { id: container.id().clone(), seconds: limit.as_secs() })
            }
            _ => Ok(output),
        }
    }

    /// Opens a running container's log file anew, after somebody renamed it.
    ///
    /// # Errors
    /// When the container does not run or the file cannot be opened.
    pub async fn reopen_log(&self, id: &str) -> Result<()> {
        let container = self.running(id, "reopening its log")?;
        Ok(container.pod().monitor()?.reopen_log(container.id()).await?)
    }

    /// Runs a command on the given streams until it ends; returns its exit code. Dropping this future kills it.
    ///
    /// # Errors
    /// When the container does not run or the command cannot be executed.
    pub async fn exec(
        &self,
        id: &str,
        command: impl Into<Command>,
        streams: Streams<OwnedFd>,
    ) -> Result<i32> {
        let (container, command) = (self.running(id, "exec")?, command.into());
        Ok(container.pod().monitor()?.exec(container.id(), command, streams).await?)
    }

    /// Runs a command on a terminal of the given size until it ends; returns its exit code. `on_master` gets the terminal's
    /// master. Dropping this future kills the command.
    ///
    /// # Errors
    /// As [`Engine::exec`].
    pub async fn exec_terminal(
        &self,
        id: &str,
        command: impl Into<Command>,
        size: Option<WindowSize>,
        on_master: impl FnOnce(OwnedFd) + Send,
    ) -> Result<i32> {
        let (container, command) = (self.running(id, "exec")?, command.into());
        Ok(container.pod().monitor()?.exec_terminal(container.id(), command, size, on_master).await?)
    }

    /// Copies between a container's own streams and the given ones until it ends. Dropping this future lets go. A client that
    /// falls behind is cut off.
    ///
    /// # Errors
    /// When the container does not run.
    pub async fn attach(&self, id: &str, streams: Streams<OwnedFd>) -> Result<()> {
        let container = self.running(id, "attach")?;
        Ok(container.pod().monitor()?.attach(container.id(), streams, false).await?)
    }

    /// As [`Engine::attach`], of a container that may still be to start; it waits for a client that falls behind, who misses
    /// nothing.
    ///
    /// # Errors
    /// When the container has ended.
    pub async fn attach_whole(&self, id: &str, streams: Streams<OwnedFd>) -> Result<()> {
        let container = self.container(id)?;
        Ok(container.pod().monitor()?.attach(container.id(), streams, true).await?)
    }

    /// Sends a signal to a container's first process. One that has ended is fine.
    ///
    /// # Errors
    /// When the signal is refused.
    pub async fn signal(&self, id: &str, signal: Signal) -> Result<()> {
        let container = self.container(id)?;
        Ok(container.pod().monitor()?.signal(container.id(), signal).await?)
    }

    /// Process ids of all that runs in a container, as the node has them.
    ///
    /// # Errors
    /// When the container does not run or its cgroup cannot be read.
    pub fn processes(&self, id: &str) -> Result<Vec<u32>> {
        let container = self.running(id, "listing its processes")?;
        self.parts().cgroups.processes(&container.status().cgroup_path)
    }

    /// What went through the interfaces of a container's pod, the loopback left out.
    ///
    /// # Errors
    /// [`PodsError::NoSuchContainer`].
    pub fn interfaces(&self, id: &str) -> Result<Vec<NetworkStats>> {
        let interfaces = self.container(id)?.pod().interfaces();
        Ok(interfaces.into_iter().filter(|interface| interface.name != "lo").collect())
    }

    /// Stops all that runs in a container where it is, until [`Engine::thaw`].
    ///
    /// # Errors
    /// When the container does not run, or does not stop in time.
    pub async fn freeze(&self, id: &str) -> Result<()> {
        let container = self.running(id, "pausing")?;
        self.parts().cgroups.freeze(&container.status().cgroup_path, true).await
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When its cgroup cannot be written.
    pub async fn thaw(&self, id: &str) -> Result<()> {
        let container = self.container(id)?;
        self.parts().cgroups.freeze(&container.status().cgroup_path, false).await
    }

    /// Sets the window of a container's own terminal.
    ///
    /// # Errors
    /// When the container does not run or has no terminal.
    pub async fn resize_terminal(&self, id: &str, size: WindowSize) -> Result<()> {
        let container = self.container(id)?;
        Ok(container.pod().monitor()?.resize_terminal(container.id(), size).await?)
    }

    /// The network namespace of a ready pod; `None` is the node's.
    ///
    /// # Errors
    /// [`PodsError::PodNotReady`], or when the namespace cannot be opened.
    pub fn open_network(&self, id: &str) -> Result<Option<OwnedFd>> {
        let pod = self.pod(id)?;
        if !pod.is_ready() {
            return Err(PodsError::PodNotReady { id: pod.id().clone() });
        }
        if !has_own(&pod.config()) {
            return Ok(None);
        }
        let path = self.parts().records.netns(pod.id());
        let netns = husk_sys::netns::open(&path)
            .map_err(PodsError::files("open the pod's network namespace", &path))?;
        Ok(Some(netns))
    }

    fn running(&self, id: &str, operation: &'static str) -> Result<Arc<Container>> {
        let container = self.container(id)?;
        container.check_running(operation)?;
        Ok(container)
    }
}

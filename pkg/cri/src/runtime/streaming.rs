//! Exec, Attach and PortForward: checked requests become URLs of the streaming server, which comes back here for what its
//! sessions do.

use std::{os::fd::OwnedFd, sync::Arc};

use async_trait::async_trait;
use husk_model::{ContainerId, PodSandboxId, Streams, WindowSize};
use husk_pods::Engine;
use husk_proto::cri::v1;
use husk_streaming::{
    Containers, Request, Wanted,
    facilities::{Fault, OnMaster},
};
use tonic::Status;

use super::{RuntimeApi, ids};
use crate::{
    convert::{Invalid, invalid},
    status::status,
};

pub(super) async fn exec(api: &RuntimeApi, request: v1::ExecRequest) -> Result<v1::ExecResponse, Status> {
    let argv = super::containers::command(request.cmd)?;
    let wanted = Wanted {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
        terminal: request.tty,
    };
    check(wanted)?;
    let (pod, container) = running(api, &request.container_id, "exec")?;
    let url = api.streaming.url(Request::Exec { pod, container, argv, wanted }).map_err(status)?;
    Ok(v1::ExecResponse { url })
}

pub(super) async fn attach(
    api: &RuntimeApi,
    request: v1::AttachRequest,
) -> Result<v1::AttachResponse, Status> {
    let wanted = Wanted {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
        terminal: request.tty,
    };
    check(wanted)?;
    let (pod, container) = running(api, &request.container_id, "attach")?;
    // Whether there is a terminal to resize is the container's matter, whatever the caller believes.
    let terminal =
        api.engine.container_status(container.as_str()).map_err(status)?.config.tty && wanted.terminal;
    let wanted = Wanted { terminal, ..wanted };
    let url = api.streaming.url(Request::Attach { pod, container, wanted }).map_err(status)?;
    Ok(v1::AttachResponse { url })
}

pub(super) async fn port_forward(
    api: &RuntimeApi,
    request: v1::PortForwardRequest,
) -> Result<v1::PortForwardResponse, Status> {
    let mut ports = Vec::new();
    for (index, port) in request.port.into_iter().enumerate() {
        match u16::try_from(port) {
            Ok(port) if port != 0 => ports.push(port),
            _ => {
                let reason = format!("{port} is not between 1 and 65535");
                return Err(invalid(format!("port[{index}]"), reason).into());
            }
        }
    }
    let id = ids::pod(api, &request.pod_sandbox_id)?;
    // Opened for the check only: a session opens it again when it comes.
    drop(api.engine.open_network(&id).map_err(status)?);
    let pod = api.engine.pod_status(&id).map_err(status)?.id.clone();
    let url = api.streaming.url(Request::PortForward { pod, ports }).map_err(status)?;
    Ok(v1::PortForwardResponse { url })
}

/// The CRI's own rules (api.proto, ExecRequest and AttachRequest).
fn check(wanted: Wanted) -> Result<(), Invalid> {
    if wanted.terminal && wanted.stderr {
        return Err(invalid("stderr", "a terminal has one output; tty and stderr exclude each other"));
    }
    if !(wanted.stdin || wanted.stdout || wanted.stderr) {
        return Err(invalid("stdin", "one of stdin, stdout and stderr must be set"));
    }
    Ok(())
}

fn running(
    api: &RuntimeApi,
    typed: &str,
    operation: &'static str,
) -> Result<(PodSandboxId, ContainerId), Status> {
    let id = ids::container(api, typed)?;
    api.engine.check_running(&id, operation).map_err(status)?;
    let status = api.engine.container_status(&id).map_err(status)?;
    Ok((status.pod_id.clone(), status.id.clone()))
}

/// The engine's containers, for the sessions of the streaming server.
#[derive(Debug)]
pub struct StreamedContainers(pub Arc<Engine>);

#[async_trait]
impl Containers for StreamedContainers {
    async fn exec(
        &self,
        id: &ContainerId,
        argv: Vec<String>,
        streams: Streams<OwnedFd>,
    ) -> Result<i32, Fault> {
        Ok(self.0.exec(id.as_str(), argv, streams).await?)
    }

    async fn exec_terminal(
        &self,
        id: &ContainerId,
        argv: Vec<String>,
        size: Option<WindowSize>,
        on_master: OnMaster,
    ) -> Result<i32, Fault> {
        Ok(self.0.exec_terminal(id.as_str(), argv, size, on_master).await?)
    }

    async fn attach(&self, id: &ContainerId, streams: Streams<OwnedFd>) -> Result<(), Fault> {
        Ok(self.0.attach(id.as_str(), streams).await?)
    }

    async fn resize(&self, id: &ContainerId, size: WindowSize) -> Result<(), Fault> {
        Ok(self.0.resize_terminal(id.as_str(), size).await?)
    }

    async fn network(&self, id: &PodSandboxId) -> Result<Option<OwnedFd>, Fault> {
        Ok(self.0.open_network(id.as_str())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_has_no_error_output_and_something_must_be_streamed() {
        let wanted = |stdin, stdout, stderr, terminal| Wanted { stdin, stdout, stderr, terminal };
        for (streams, field) in [
            (wanted(true, true, true, true), Some("stderr")),
            (wanted(false, false, false, true), Some("stdin")),
            (wanted(false, false, false, false), Some("stdin")),
            (wanted(true, true, false, true), None),
            (wanted(false, false, true, false), None),
        ] {
            assert_eq!(check(streams).err().map(|error| error.field).as_deref(), field, "{streams:?}");
        }
    }
}

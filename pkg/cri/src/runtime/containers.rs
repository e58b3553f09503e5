//! Containers.

use std::{collections::HashMap, time::Duration};

use husk_proto::cri::v1;
use serde_json::json;
use tonic::Status;

use super::{RuntimeApi, ids, lists::labelled};
use crate::{
    MAX_MESSAGE, about,
    convert::{self, Invalid, invalid},
    status::status,
};

/// A grace of more seconds than this is meant as "for ever" and would overflow a clock.
const MAX_SECONDS: i64 = 10 * 365 * 24 * 3600;

fn seconds(field: &str, value: i64) -> Result<Duration, Status> {
    let clamped =
        u64::try_from(value.min(MAX_SECONDS)).map_err(|_| invalid(field, format!("{value} is negative")))?;
    Ok(Duration::from_secs(clamped))
}

pub(super) async fn create_container(
    api: &RuntimeApi,
    request: v1::CreateContainerRequest,
) -> Result<v1::CreateContainerResponse, Status> {
    let wanted = convert::container_request(request.config)?;
    let pod = api.engine.pod_status(&ids::pod(api, &request.pod_sandbox_id)?).map_err(status)?;
    let config = wanted.in_pod(pod.config.namespaces())?;
    about::container_named(&config.metadata);
    let id = api.engine.create_container(pod.id.as_str(), config).await.map_err(status)?;
    about::container_made(id.as_str());
    Ok(v1::CreateContainerResponse { container_id: id.to_string() })
}

pub(super) async fn start_container(
    api: &RuntimeApi,
    request: v1::StartContainerRequest,
) -> Result<v1::StartContainerResponse, Status> {
    api.engine.start_container(&ids::container(api, &request.container_id)?).await.map_err(status)?;
    Ok(v1::StartContainerResponse {})
}

pub(super) async fn stop_container(
    api: &RuntimeApi,
    request: v1::StopContainerRequest,
) -> Result<v1::StopContainerResponse, Status> {
    // A negative grace has been seen from clients that mean "now".
    let grace = seconds("timeout", request.timeout.max(0))?;
    api.engine.stop_container(&ids::container(api, &request.container_id)?, grace).await.map_err(status)?;
    Ok(v1::StopContainerResponse {})
}

pub(super) async fn remove_container(
    api: &RuntimeApi,
    request: v1::RemoveContainerRequest,
) -> Result<v1::RemoveContainerResponse, Status> {
    api.engine.remove_container(&ids::container(api, &request.container_id)?).await.map_err(status)?;
    Ok(v1::RemoveContainerResponse {})
}

pub(super) async fn list_containers(
    api: &RuntimeApi,
    request: v1::ListContainersRequest,
) -> Result<v1::ListContainersResponse, Status> {
    Ok(v1::ListContainersResponse { containers: items(api, request.filter).await? })
}

/// Containers that match, newest first as the peers list them.
pub(super) async fn items(
    api: &RuntimeApi,
    filter: Option<v1::ContainerFilter>,
) -> Result<Vec<v1::Container>, Status> {
    let filter = filter.unwrap_or_default();
    let mut containers = api.engine.list_containers();
    containers.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
    Ok(containers
        .iter()
        .filter(|container| {
            container.id.as_str().starts_with(&filter.id)
                && container.pod_id.as_str().starts_with(&filter.pod_sandbox_id)
                && filter
                    .state
                    .is_none_or(|wanted| wanted.state() == convert::container_state(&container.state))
                && labelled(&filter.label_selector, &container.config.labels)
        })
        .map(|container| convert::container_item(container))
        .collect())
}

pub(super) async fn container_status(
    api: &RuntimeApi,
    request: v1::ContainerStatusRequest,
) -> Result<v1::ContainerStatusResponse, Status> {
    let container =
        api.engine.container_status(&ids::container(api, &request.container_id)?).map_err(status)?;
    let mut info = HashMap::new();
    if request.verbose {
        let facts = json!({
            "pid": container.process.map(|process| process.pid),
            "sandboxID": container.pod_id.as_str(),
            "cgroupPath": container.cgroup_path,
            "config": &*container.config,
        });
        info.insert("info".to_owned(), facts.to_string());
    }
    Ok(v1::ContainerStatusResponse { status: Some(convert::container_status(&container)), info })
}

pub(super) async fn update_container_resources(
    api: &RuntimeApi,
    request: v1::UpdateContainerResourcesRequest,
) -> Result<v1::UpdateContainerResourcesResponse, Status> {
    let Some(linux) = request.linux else { return Err(invalid("linux", "is missing").into()) };
    let change = convert::resources("linux", linux)?;
    api.engine
        .update_resources(&ids::container(api, &request.container_id)?, change)
        .await
        .map_err(status)?;
    Ok(v1::UpdateContainerResourcesResponse {})
}

pub(super) async fn reopen_container_log(
    api: &RuntimeApi,
    request: v1::ReopenContainerLogRequest,
) -> Result<v1::ReopenContainerLogResponse, Status> {
    api.engine.reopen_log(&ids::container(api, &request.container_id)?).await.map_err(status)?;
    Ok(v1::ReopenContainerLogResponse {})
}

pub(super) async fn exec_sync(
    api: &RuntimeApi,
    request: v1::ExecSyncRequest,
) -> Result<v1::ExecSyncResponse, Status> {
    let command = command(request.cmd)?;
    let timeout = Some(seconds("timeout", request.timeout)?).filter(|timeout| !timeout.is_zero());
    let mut output = api
        .engine
        .exec_sync(&ids::container(api, &request.container_id)?, command, timeout)
        .await
        .map_err(status)?;
    fit(&mut output.stdout, &mut output.stderr);
    Ok(v1::ExecSyncResponse {
        stdout: output.stdout.into(),
        stderr: output.stderr.into(),
        exit_code: output.exit_code,
    })
}

/// A command that can be executed as far as one can see.
pub(super) fn command(argv: Vec<String>) -> Result<Vec<String>, Invalid> {
    if argv.is_empty() {
        return Err(invalid("cmd", "is empty"));
    }
    match argv.iter().position(|argument| argument.contains('\0')) {
        Some(index) => Err(invalid(format!("cmd[{index}]"), "contains a NUL byte")),
        None => Ok(argv),
    }
}

/// What an answer needs besides the output: tags, lengths, the exit code.
const ANSWER_OVERHEAD: usize = 64;

/// Cuts output so that clients accept the answer: they, too, limit a message to 16 MiB, for both streams together.
fn fit(stdout: &mut Vec<u8>, stderr: &mut Vec<u8>) {
    let room = MAX_MESSAGE - ANSWER_OVERHEAD;
    // A flood on one stream must not hide the other.
    let least = room / 2;
    let out = stdout.len().min(room.saturating_sub(stderr.len()).max(least));
    stdout.truncate(out);
    stderr.truncate(room - out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_cut_to_what_a_message_can_hold() {
        const FULL: usize = MAX_MESSAGE;
        for (out, err) in [(0, 0), (5, 7), (FULL, 0), (0, FULL), (FULL, FULL), (FULL, 100)] {
            let (mut stdout, mut stderr) = (vec![1; out], vec![2; err]);
            fit(&mut stdout, &mut stderr);
            let message =
                v1::ExecSyncResponse { stdout: stdout.into(), stderr: stderr.into(), exit_code: -1 };
            assert!(prost::Message::encoded_len(&message) <= MAX_MESSAGE, "{out} and {err}");
            let kept = (message.stdout.len(), message.stderr.len());
            assert!(kept.0 >= out.min(FULL / 2 - 64) && kept.1 >= err.min(FULL / 2 - 64), "{kept:?}");
        }
    }

    #[test]
    fn times_that_mean_for_ever_do_not_overflow_a_clock() {
        assert_eq!(seconds("timeout", 30).unwrap(), Duration::from_secs(30));
        assert!(std::time::Instant::now().checked_add(seconds("timeout", i64::MAX).unwrap()).is_some());
        assert_eq!(seconds("timeout", -1).unwrap_err().code(), tonic::Code::InvalidArgument);
    }
}

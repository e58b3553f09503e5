//! Pod sandboxes.

use std::collections::HashMap;

use husk_proto::cri::v1;
use serde_json::json;
use tonic::Status;

use super::{RuntimeApi, ids, lists::labelled};
use crate::{
    about,
    convert::{self, invalid},
    status::status,
};

pub(super) async fn run_pod_sandbox(
    api: &RuntimeApi,
    request: v1::RunPodSandboxRequest,
) -> Result<v1::RunPodSandboxResponse, Status> {
    if !request.runtime_handler.is_empty() && !api.handlers.contains(&request.runtime_handler) {
        let reason = format!(
            "no handler {:?}: husk has the default one, and the names in runtime.handlers of its configuration",
            request.runtime_handler
        );
        return Err(invalid("runtime_handler", reason).into());
    }
    let config = convert::pod_config(request.config, request.runtime_handler)?;
    about::pod_named(&config.metadata);
    let id = api.engine.run_pod_sandbox(config).await.map_err(status)?;
    about::pod_made(id.as_str());
    Ok(v1::RunPodSandboxResponse { pod_sandbox_id: id.to_string() })
}

pub(super) async fn stop_pod_sandbox(
    api: &RuntimeApi,
    request: v1::StopPodSandboxRequest,
) -> Result<v1::StopPodSandboxResponse, Status> {
    api.engine.stop_pod_sandbox(&ids::pod(api, &request.pod_sandbox_id)?).await.map_err(status)?;
    Ok(v1::StopPodSandboxResponse {})
}

pub(super) async fn remove_pod_sandbox(
    api: &RuntimeApi,
    request: v1::RemovePodSandboxRequest,
) -> Result<v1::RemovePodSandboxResponse, Status> {
    api.engine.remove_pod_sandbox(&ids::pod(api, &request.pod_sandbox_id)?).await.map_err(status)?;
    Ok(v1::RemovePodSandboxResponse {})
}

pub(super) async fn pod_sandbox_status(
    api: &RuntimeApi,
    request: v1::PodSandboxStatusRequest,
) -> Result<v1::PodSandboxStatusResponse, Status> {
    let pod = api.engine.pod_status(&ids::pod(api, &request.pod_sandbox_id)?).map_err(status)?;
    let mut info = HashMap::new();
    if request.verbose {
        let facts = json!({ "pid": pod.process.map(|process| process.pid), "message": pod.message, "config": &*pod.config });
        info.insert("info".to_owned(), facts.to_string());
    }
    let mut containers: Vec<_> =
        api.engine.list_containers().into_iter().filter(|container| container.pod_id == pod.id).collect();
    // Newest first, as the kubelet sorts what it lists: it takes the first of a name for the present one.
    containers.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
    Ok(v1::PodSandboxStatusResponse {
        status: Some(convert::pod_status(&pod)),
        info,
        containers_statuses: containers
            .iter()
            .map(|container| convert::container_status(container))
            .collect(),
        // Not set, as containerd does not: a kubelet with EventedPLEG that sees one takes the containers above for all
        // there is to know, and forgets which of them belong to the present sandbox (v1.37,
        // PodStatus.ActiveContainerStatuses). It then runs init containers again and again.
        timestamp: 0,
    })
}

pub(super) async fn update_pod_sandbox_resources(
    api: &RuntimeApi,
    request: v1::UpdatePodSandboxResourcesRequest,
) -> Result<v1::UpdatePodSandboxResourcesResponse, Status> {
    let id = ids::pod(api, &request.pod_sandbox_id)?;
    let checked = |field, message: Option<_>| message.map(|one| convert::resources(field, one)).transpose();
    let overhead = checked("overhead", request.overhead)?;
    let resources = checked("resources", request.resources)?;
    api.engine.update_pod_resources(&id, overhead, resources).await.map_err(status)?;
    Ok(v1::UpdatePodSandboxResourcesResponse {})
}

pub(super) async fn list_pod_sandbox(
    api: &RuntimeApi,
    request: v1::ListPodSandboxRequest,
) -> Result<v1::ListPodSandboxResponse, Status> {
    Ok(v1::ListPodSandboxResponse { items: items(api, request.filter).await? })
}

/// Sandboxes that match, newest first as the peers list them.
pub(super) async fn items(
    api: &RuntimeApi,
    filter: Option<v1::PodSandboxFilter>,
) -> Result<Vec<v1::PodSandbox>, Status> {
    let filter = filter.unwrap_or_default();
    let mut pods = api.engine.list_pods();
    pods.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
    Ok(pods
        .iter()
        .filter(|pod| {
            pod.id.as_str().starts_with(&filter.id) && labelled(&filter.label_selector, &pod.config.labels)
        })
        .map(|pod| convert::pod_item(pod))
        .filter(|item| filter.state.is_none_or(|wanted| wanted.state == item.state))
        .collect())
}

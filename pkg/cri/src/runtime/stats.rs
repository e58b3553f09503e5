//! Statistics of containers and sandboxes.

use husk_proto::cri::v1;
use tonic::Status;

use super::{RuntimeApi, ids, lists::labelled};
use crate::{convert, status::status};

pub(super) async fn container_stats(
    api: &RuntimeApi,
    request: v1::ContainerStatsRequest,
) -> Result<v1::ContainerStatsResponse, Status> {
    let (container, stats) =
        api.engine.container_stats(&ids::container(api, &request.container_id)?).map_err(status)?;
    Ok(v1::ContainerStatsResponse { stats: Some(convert::container_stats(&container, &stats)) })
}

pub(super) async fn list_container_stats(
    api: &RuntimeApi,
    request: v1::ListContainerStatsRequest,
) -> Result<v1::ListContainerStatsResponse, Status> {
    Ok(v1::ListContainerStatsResponse { stats: items(api, request.filter).await? })
}

/// Statistics of the containers that match and have not ended.
pub(super) async fn items(
    api: &RuntimeApi,
    filter: Option<v1::ContainerStatsFilter>,
) -> Result<Vec<v1::ContainerStats>, Status> {
    let filter = filter.unwrap_or_default();
    let wanted = move |container: &husk_model::ContainerStatus| {
        container.id.as_str().starts_with(&filter.id)
            && container.pod_id.as_str().starts_with(&filter.pod_sandbox_id)
            && labelled(&filter.label_selector, &container.config.labels)
    };
    let all = api.engine.list_container_stats(wanted).await;
    Ok(all.iter().map(|(container, stats)| convert::container_stats(container, stats)).collect())
}

pub(super) async fn pod_sandbox_stats(
    api: &RuntimeApi,
    request: v1::PodSandboxStatsRequest,
) -> Result<v1::PodSandboxStatsResponse, Status> {
    let stats = api.engine.pod_stats(&ids::pod(api, &request.pod_sandbox_id)?).await.map_err(status)?;
    Ok(v1::PodSandboxStatsResponse { stats: Some(convert::pod_stats(&stats)) })
}

pub(super) async fn list_pod_sandbox_stats(
    api: &RuntimeApi,
    request: v1::ListPodSandboxStatsRequest,
) -> Result<v1::ListPodSandboxStatsResponse, Status> {
    Ok(v1::ListPodSandboxStatsResponse { stats: pod_items(api, request.filter).await? })
}

/// Statistics of the sandboxes that match and are ready.
pub(super) async fn pod_items(
    api: &RuntimeApi,
    filter: Option<v1::PodSandboxStatsFilter>,
) -> Result<Vec<v1::PodSandboxStats>, Status> {
    let filter = filter.unwrap_or_default();
    let wanted = move |pod: &husk_model::PodStatus| {
        pod.id.as_str().starts_with(&filter.id) && labelled(&filter.label_selector, &pod.config.labels)
    };
    Ok(api.engine.list_pod_stats(wanted).await.iter().map(convert::pod_stats).collect())
}

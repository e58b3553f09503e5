//! Container statistics.

use husk_proto::cri::v1;
use tonic::Status;

use super::{RuntimeApi, ids, labelled};
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

//! Metrics of pods and containers.

use husk_proto::cri::v1;
use tonic::Status;

use super::RuntimeApi;
use crate::{metrics, status::status};

pub(super) async fn list_metric_descriptors(
    api: &RuntimeApi,
    _request: v1::ListMetricDescriptorsRequest,
) -> Result<v1::ListMetricDescriptorsResponse, Status> {
    let descriptors = metrics::descriptors(api.engine.metric_groups());
    Ok(v1::ListMetricDescriptorsResponse { descriptors })
}

pub(super) async fn list_pod_sandbox_metrics(
    api: &RuntimeApi,
    _request: v1::ListPodSandboxMetricsRequest,
) -> Result<v1::ListPodSandboxMetricsResponse, Status> {
    Ok(v1::ListPodSandboxMetricsResponse { pod_metrics: items(api).await? })
}

/// Metrics of the sandboxes that are ready.
pub(super) async fn items(api: &RuntimeApi) -> Result<Vec<v1::PodSandboxMetrics>, Status> {
    Ok(metrics::pod_metrics(&api.engine.pod_metrics().await.map_err(status)?))
}

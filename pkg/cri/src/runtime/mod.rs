//! RuntimeService: which RPC is served where.

mod containers;
mod events;
mod ids;
mod info;
mod metrics;
mod pods;
mod stats;
mod streaming;

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, stream};
use husk_images::ImageStore;
use husk_network::Network;
use husk_pods::Engine;
use husk_proto::cri::v1::{self, runtime_service_server::RuntimeService};
use husk_streaming::StreamingServer;
use tonic::{Request, Response, Status};

pub use streaming::StreamedContainers;

pub(crate) type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Objects in one message of a streamed list: far below the message limit, even with large annotations.
const BATCH: usize = 256;

/// Cuts a list for a streamed answer (KEP-5825): no batch is empty, nothing comes twice.
pub(crate) fn batches<T>(mut items: Vec<T>) -> impl Iterator<Item = Vec<T>> {
    std::iter::from_fn(move || {
        let rest = if items.len() > BATCH { items.split_off(BATCH) } else { Vec::new() };
        let batch = std::mem::replace(&mut items, rest);
        (!batch.is_empty()).then_some(batch)
    })
}

/// Serves RuntimeService from the engine.
#[derive(Clone)]
pub struct RuntimeApi {
    engine: Arc<Engine>,
    images: Arc<ImageStore>,
    network: Arc<Network>,
    streaming: Arc<StreamingServer>,
}

impl std::fmt::Debug for RuntimeApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RuntimeApi").finish_non_exhaustive()
    }
}

impl RuntimeApi {
    /// Serves `engine`.
    pub fn new(
        engine: Arc<Engine>,
        images: Arc<ImageStore>,
        network: Arc<Network>,
        streaming: Arc<StreamingServer>,
    ) -> Self {
        Self { engine, images, network, streaming }
    }
}

fn missing<T>(what: &str) -> Result<T, Status> {
    Err(Status::unimplemented(format!("this version of husk has no {what}")))
}

/// The label selector and id rules of every filter: labels must match exactly, an id may be a prefix.
fn labelled(
    wanted: &std::collections::HashMap<String, String>,
    labels: &std::collections::BTreeMap<String, String>,
) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

macro_rules! serve {
    (served { $( $group:ident :: $name:ident ( $request:ident ) -> $response:ident ; )* }
     missing { $( $absent:ident ( $absent_request:ident ) -> $absent_response:ident as $shown:literal ; )* }
     lists { $( $list:ident ( $list_request:ident ) -> $stream:ident of $list_response:ident . $field:ident from $source:ident :: $items:ident ; )* }
    ) => {
        #[tonic::async_trait]
        impl RuntimeService for RuntimeApi {
            $(
                async fn $name(&self, request: Request<v1::$request>) -> Result<Response<v1::$response>, Status> {
                    $group::$name(self, request.into_inner()).await.map(Response::new)
                }
            )*
            $(
                async fn $absent(
                    &self,
                    _request: Request<v1::$absent_request>,
                ) -> Result<Response<v1::$absent_response>, Status> {
                    missing($shown)
                }
            )*
            $(
                type $stream = BoxStream<v1::$list_response>;
                async fn $list(&self, request: Request<v1::$list_request>) -> Result<Response<Self::$stream>, Status> {
                    let items = $source::$items(self, request.into_inner().filter).await?;
                    let answers = batches(items).map(|$field| Ok(v1::$list_response { $field }));
                    Ok(Response::new(Box::pin(stream::iter(answers))))
                }
            )*
            type StreamPodSandboxMetricsStream = BoxStream<v1::StreamPodSandboxMetricsResponse>;
            async fn stream_pod_sandbox_metrics(
                &self,
                _request: Request<v1::StreamPodSandboxMetricsRequest>,
            ) -> Result<Response<Self::StreamPodSandboxMetricsStream>, Status> {
                let answers = batches(metrics::items(self).await?).map(|pod_sandbox_metrics| {
                    Ok(v1::StreamPodSandboxMetricsResponse { pod_sandbox_metrics })
                });
                Ok(Response::new(Box::pin(stream::iter(answers))))
            }
            type GetContainerEventsStream = BoxStream<v1::ContainerEventResponse>;
            async fn get_container_events(
                &self,
                _request: Request<v1::GetEventsRequest>,
            ) -> Result<Response<Self::GetContainerEventsStream>, Status> {
                Ok(Response::new(Box::pin(events::get_container_events(self))))
            }
        }
    };
}

serve! {
    served {
    info::version(VersionRequest) -> VersionResponse;
    info::status(StatusRequest) -> StatusResponse;
    info::runtime_config(RuntimeConfigRequest) -> RuntimeConfigResponse;
    info::update_runtime_config(UpdateRuntimeConfigRequest) -> UpdateRuntimeConfigResponse;
    pods::run_pod_sandbox(RunPodSandboxRequest) -> RunPodSandboxResponse;
    pods::stop_pod_sandbox(StopPodSandboxRequest) -> StopPodSandboxResponse;
    pods::remove_pod_sandbox(RemovePodSandboxRequest) -> RemovePodSandboxResponse;
    pods::pod_sandbox_status(PodSandboxStatusRequest) -> PodSandboxStatusResponse;
    pods::list_pod_sandbox(ListPodSandboxRequest) -> ListPodSandboxResponse;
    containers::create_container(CreateContainerRequest) -> CreateContainerResponse;
    containers::start_container(StartContainerRequest) -> StartContainerResponse;
    containers::stop_container(StopContainerRequest) -> StopContainerResponse;
    containers::remove_container(RemoveContainerRequest) -> RemoveContainerResponse;
    containers::list_containers(ListContainersRequest) -> ListContainersResponse;
    containers::container_status(ContainerStatusRequest) -> ContainerStatusResponse;
    containers::update_container_resources(UpdateContainerResourcesRequest) -> UpdateContainerResourcesResponse;
    containers::reopen_container_log(ReopenContainerLogRequest) -> ReopenContainerLogResponse;
    containers::exec_sync(ExecSyncRequest) -> ExecSyncResponse;
    streaming::exec(ExecRequest) -> ExecResponse;
    streaming::attach(AttachRequest) -> AttachResponse;
    streaming::port_forward(PortForwardRequest) -> PortForwardResponse;
    stats::container_stats(ContainerStatsRequest) -> ContainerStatsResponse;
    stats::list_container_stats(ListContainerStatsRequest) -> ListContainerStatsResponse;
    stats::pod_sandbox_stats(PodSandboxStatsRequest) -> PodSandboxStatsResponse;
    stats::list_pod_sandbox_stats(ListPodSandboxStatsRequest) -> ListPodSandboxStatsResponse;
    metrics::list_metric_descriptors(ListMetricDescriptorsRequest) -> ListMetricDescriptorsResponse;
    metrics::list_pod_sandbox_metrics(ListPodSandboxMetricsRequest) -> ListPodSandboxMetricsResponse;
    pods::update_pod_sandbox_resources(UpdatePodSandboxResourcesRequest) -> UpdatePodSandboxResourcesResponse;
    }
    missing {
    checkpoint_container(CheckpointContainerRequest) -> CheckpointContainerResponse
        as "CheckpointContainer: it cannot write the memory of a container's processes to a file (no CRIU)";
    checkpoint_pod(CheckpointPodRequest) -> CheckpointPodResponse
        as "CheckpointPod: it cannot write the memory of a pod's processes to a file (no CRIU)";
    restore_pod(RestorePodRequest) -> RestorePodResponse
        as "RestorePod: it cannot make processes from a checkpoint (no CRIU); create the pod anew";
    }
    lists {
    stream_pod_sandboxes(StreamPodSandboxesRequest) -> StreamPodSandboxesStream
        of StreamPodSandboxesResponse.pod_sandboxes from pods::items;
    stream_containers(StreamContainersRequest) -> StreamContainersStream
        of StreamContainersResponse.containers from containers::items;
    stream_container_stats(StreamContainerStatsRequest) -> StreamContainerStatsStream
        of StreamContainerStatsResponse.container_stats from stats::items;
    stream_pod_sandbox_stats(StreamPodSandboxStatsRequest) -> StreamPodSandboxStatsStream
        of StreamPodSandboxStatsResponse.pod_sandbox_stats from stats::pod_items;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_streamed_list_loses_and_repeats_nothing() {
        for length in [0, 1, BATCH, BATCH + 1, 3 * BATCH] {
            let parts: Vec<Vec<usize>> = batches((0..length).collect()).collect();
            assert!(parts.iter().all(|part| !part.is_empty() && part.len() <= BATCH));
            assert!(parts.concat().into_iter().eq(0..length), "{length}");
        }
    }
}

//! Which RPC is served where.

use futures_util::stream;
use husk_proto::cri::v1::{
    self,
    runtime_service_server::{RuntimeService, RuntimeServiceServer},
};
use tonic::{Request, Response, Status, codec::CompressionEncoding::Gzip};

use super::{
    api::RuntimeApi,
    containers, events, info,
    lists::{BoxStream, batches},
    metrics, pods, stats, streaming,
};
use crate::MAX_MESSAGE;

impl RuntimeApi {
    /// As a service of a server. Answers are sent as they are: the socket is the node's own. Compressed requests are
    /// taken, as by the peers, whose tracing library registers gzip; the bound counts what they unpack to.
    pub fn into_service(self) -> RuntimeServiceServer<Self> {
        RuntimeServiceServer::new(self)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
            .accept_compressed(Gzip)
    }
}

fn missing<T>(what: &str) -> Result<T, Status> {
    Err(Status::unimplemented(format!("this version of husk has no {what}")))
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

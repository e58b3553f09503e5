//! Blocking clients of the CRI services, one method a call.

use std::{collections::HashMap, path::Path};

use hyper_util::rt::TokioIo;
use rustix::process::Pid;
use serde_json::Value;
use tokio::{net::UnixStream, runtime::Runtime};
use tonic::{
    Status,
    transport::{Channel, Endpoint, Uri},
};
use tower::service_fn;

use crate::v1::{
    self, image_service_client::ImageServiceClient, runtime_service_client::RuntimeServiceClient,
};

/// Clients of one daemon.
#[derive(Debug)]
pub struct Cri {
    threads: Runtime,
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

fn parse(info: &HashMap<String, String>) -> Value {
    serde_json::from_str(&info["info"]).expect("JSON")
}

fn pid(facts: &Value) -> Pid {
    let raw = facts["pid"].as_i64().expect("a pid").try_into().expect("a pid");
    Pid::from_raw(raw).expect("a process that runs")
}

/// The kubelet's limit on a message.
const MAX_MESSAGE: usize = 16 << 20;

impl Cri {
    /// Connects to the socket at `address`.
    pub fn connect(address: &Path) -> Self {
        let threads = Runtime::new().expect("start a runtime");
        let address = address.to_owned();
        let channel = threads
            .block_on(Endpoint::from_static("http://localhost").connect_with_connector(service_fn(
                move |_: Uri| {
                    let address = address.clone();
                    async move { UnixStream::connect(address).await.map(TokioIo::new) }
                },
            )))
            .expect("connect to huskd");
        Self::over(threads, channel)
    }

    /// Connects with the first call, and again whenever the connection is lost: for a daemon that comes and goes.
    pub fn connect_lazily(address: &Path) -> Self {
        let threads = Runtime::new().expect("start a runtime");
        let address = address.to_owned();
        let channel = {
            // The channel's task is spawned at once.
            let _inside = threads.enter();
            Endpoint::from_static("http://localhost").connect_with_connector_lazy(service_fn(
                move |_: Uri| {
                    let address = address.clone();
                    async move { UnixStream::connect(address).await.map(TokioIo::new) }
                },
            ))
        };
        Self::over(threads, channel)
    }

    fn over(threads: Runtime, channel: Channel) -> Self {
        Self {
            threads,
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE),
            images: ImageServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE),
        }
    }

    /// The asynchronous client, for tests that need several calls at once.
    pub fn runtime(&self) -> RuntimeServiceClient<Channel> {
        self.runtime.clone()
    }

    /// The asynchronous image client.
    pub fn images(&self) -> ImageServiceClient<Channel> {
        self.images.clone()
    }

    /// Runs a future beside the test.
    pub fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.threads.spawn(future)
    }

    /// Runs a future to its end.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.threads.block_on(future)
    }
}

macro_rules! calls {
    ($($service:ident: $($name:ident($request:ident) -> $response:ident),* $(,)?;)*) => {
        #[allow(missing_docs)]
        impl Cri {
            $($(
                pub fn $name(&self, request: v1::$request) -> Result<v1::$response, Status> {
                    let mut client = self.$service.clone();
                    self.threads.block_on(client.$name(request)).map(tonic::Response::into_inner)
                }
            )*)*
        }
    };
}

calls! {
    runtime:
        version(VersionRequest) -> VersionResponse,
        status(StatusRequest) -> StatusResponse,
        runtime_config(RuntimeConfigRequest) -> RuntimeConfigResponse,
        run_pod_sandbox(RunPodSandboxRequest) -> RunPodSandboxResponse,
        stop_pod_sandbox(StopPodSandboxRequest) -> StopPodSandboxResponse,
        remove_pod_sandbox(RemovePodSandboxRequest) -> RemovePodSandboxResponse,
        pod_sandbox_status(PodSandboxStatusRequest) -> PodSandboxStatusResponse,
        list_pod_sandbox(ListPodSandboxRequest) -> ListPodSandboxResponse,
        create_container(CreateContainerRequest) -> CreateContainerResponse,
        start_container(StartContainerRequest) -> StartContainerResponse,
        stop_container(StopContainerRequest) -> StopContainerResponse,
        remove_container(RemoveContainerRequest) -> RemoveContainerResponse,
        container_status(ContainerStatusRequest) -> ContainerStatusResponse,
        list_containers(ListContainersRequest) -> ListContainersResponse,
        exec_sync(ExecSyncRequest) -> ExecSyncResponse,
        reopen_container_log(ReopenContainerLogRequest) -> ReopenContainerLogResponse,
        update_container_resources(UpdateContainerResourcesRequest) -> UpdateContainerResourcesResponse,
        container_stats(ContainerStatsRequest) -> ContainerStatsResponse,
        list_container_stats(ListContainerStatsRequest) -> ListContainerStatsResponse,
        pod_sandbox_stats(PodSandboxStatsRequest) -> PodSandboxStatsResponse,
        list_pod_sandbox_stats(ListPodSandboxStatsRequest) -> ListPodSandboxStatsResponse,
        list_metric_descriptors(ListMetricDescriptorsRequest) -> ListMetricDescriptorsResponse,
        list_pod_sandbox_metrics(ListPodSandboxMetricsRequest) -> ListPodSandboxMetricsResponse,
        update_pod_sandbox_resources(UpdatePodSandboxResourcesRequest) -> UpdatePodSandboxResourcesResponse,
        update_runtime_config(UpdateRuntimeConfigRequest) -> UpdateRuntimeConfigResponse,
        checkpoint_container(CheckpointContainerRequest) -> CheckpointContainerResponse,
        checkpoint_pod(CheckpointPodRequest) -> CheckpointPodResponse,
        restore_pod(RestorePodRequest) -> RestorePodResponse;
    images:
        list_images(ListImagesRequest) -> ListImagesResponse,
        image_status(ImageStatusRequest) -> ImageStatusResponse,
        pull_image(PullImageRequest) -> PullImageResponse,
        remove_image(RemoveImageRequest) -> RemoveImageResponse,
        image_fs_info(ImageFsInfoRequest) -> ImageFsInfoResponse;
}

impl Cri {
    /// Runs a sandbox and returns its id.
    pub fn run_pod(&self, config: &v1::PodSandboxConfig) -> Result<String, Status> {
        let request =
            v1::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
        self.run_pod_sandbox(request).map(|response| response.pod_sandbox_id)
    }

    /// Creates a container and returns its id.
    pub fn create(
        &self,
        pod_id: &str,
        pod: &v1::PodSandboxConfig,
        config: &v1::ContainerConfig,
    ) -> Result<String, Status> {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: pod_id.to_owned(),
            config: Some(config.clone()),
            sandbox_config: Some(pod.clone()),
        };
        self.create_container(request).map(|response| response.container_id)
    }

    /// Starts a container.
    pub fn start(&self, container_id: &str) -> Result<(), Status> {
        self.start_container(v1::StartContainerRequest { container_id: container_id.to_owned() }).map(drop)
    }

    /// Creates and starts a container; returns its id.
    pub fn run(&self, pod_id: &str, pod: &v1::PodSandboxConfig, config: &v1::ContainerConfig) -> String {
        let id = self.create(pod_id, pod, config).expect("create the container");
        self.start(&id).expect("start the container");
        id
    }

    /// A container's status.
    pub fn container(&self, container_id: &str) -> Result<v1::ContainerStatus, Status> {
        let request = v1::ContainerStatusRequest { container_id: container_id.to_owned(), verbose: false };
        self.container_status(request).map(|response| response.status.expect("a status"))
    }

    /// What the runtime says of a container beyond the CRI's fields: the JSON under `info`, where husk and containerd alike
    /// have `pid`.
    pub fn facts(&self, container_id: &str) -> Value {
        let request = v1::ContainerStatusRequest { container_id: container_id.to_owned(), verbose: true };
        parse(&self.container_status(request).expect("status of the container").info)
    }

    /// The same of a pod.
    pub fn pod_facts(&self, pod_id: &str) -> Value {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: pod_id.to_owned(), verbose: true };
        parse(&self.pod_sandbox_status(request).expect("status of the pod").info)
    }

    /// The init of a running container, on the node.
    pub fn init(&self, container_id: &str) -> Pid {
        pid(&self.facts(container_id))
    }

    /// The pause process of a pod, on the node.
    pub fn pause(&self, pod_id: &str) -> Pid {
        pid(&self.pod_facts(pod_id))
    }

    /// A pod's status.
    pub fn pod(&self, pod_id: &str) -> Result<v1::PodSandboxStatus, Status> {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: pod_id.to_owned(), verbose: false };
        self.pod_sandbox_status(request).map(|response| response.status.expect("a status"))
    }

    /// Waits until a container has ended and returns its status.
    pub fn wait_exit(&self, container_id: &str) -> v1::ContainerStatus {
        crate::eventually("the container ends", std::time::Duration::from_secs(60), || {
            let status = self.container(container_id).expect("status of the container");
            (status.state() == v1::ContainerState::ContainerExited).then_some(status)
        })
    }

    /// Executes a command; returns exit code and both outputs.
    pub fn exec(&self, container_id: &str, command: &[&str]) -> Result<(i32, String, String), Status> {
        let request = v1::ExecSyncRequest {
            container_id: container_id.to_owned(),
            cmd: command.iter().map(ToString::to_string).collect(),
            timeout: 30,
        };
        let response = self.exec_sync(request)?;
        Ok((
            response.exit_code,
            String::from_utf8_lossy(&response.stdout).into_owned(),
            String::from_utf8_lossy(&response.stderr).into_owned(),
        ))
    }

    /// Stops a container.
    pub fn stop(&self, container_id: &str, timeout: i64) -> Result<(), Status> {
        self.stop_container(v1::StopContainerRequest { container_id: container_id.to_owned(), timeout })
            .map(drop)
    }
}

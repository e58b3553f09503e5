//! A pod through husk's own door: its images, its sandbox, its containers, and its end.

use std::time::Duration;

use husk_proto::{
    admin::{
        EventsRequest, LogsRequest, LogsResponse, images_client::ImagesClient, logs_response::Output,
        workloads_client::WorkloadsClient,
    },
    cri::v1::{self, image_service_client::ImageServiceClient, runtime_service_client::RuntimeServiceClient},
};
use tonic::{
    Code, Request, Status, metadata::MetadataValue, service::interceptor::InterceptedService,
    transport::Channel,
};

use super::{
    plan::{OWNER, Plan, Planned},
    types::PullPolicy,
};
use crate::{
    client::{MAX_MESSAGE, Result, connect, told},
    image,
};

/// How husk's door is named in the metadata of a call.
const DOOR: (&str, &str) = ("husk-door", "husk");

type Mark = fn(Request<()>) -> std::result::Result<Request<()>, Status>;

/// Clients of a running huskd.
#[derive(Clone)]
pub(super) struct Session {
    runtime: RuntimeServiceClient<InterceptedService<Channel, Mark>>,
    workloads: WorkloadsClient<Channel>,
    images: ImageServiceClient<Channel>,
    pulls: ImagesClient<Channel>,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exit {
    pub(super) code: i32,
    pub(super) reason: String,
    pub(super) message: String,
}

fn mark(mut request: Request<()>) -> std::result::Result<Request<()>, Status> {
    request.metadata_mut().insert(DOOR.0, MetadataValue::from_static(DOOR.1));
    Ok(request)
}

/// What failed, with the step before it.
fn step(step: String) -> impl FnOnce(Status) -> Box<dyn std::error::Error> {
    move |status| format!("{step}: {}", told(&status)).into()
}

impl Session {
    pub(super) async fn new(address: &str) -> Result<Self> {
        let channel = connect(address).await?;
        Ok(Self {
            runtime: RuntimeServiceClient::with_interceptor(channel.clone(), mark as Mark)
                .max_decoding_message_size(MAX_MESSAGE),
            workloads: WorkloadsClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE),
            images: ImageServiceClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE),
            pulls: ImagesClient::new(channel).max_decoding_message_size(MAX_MESSAGE),
        })
    }

    // === making a pod ===

    /// Pulls what a pod needs.
    pub(super) async fn pull_all(&mut self, plan: &Plan) -> Result<()> {
        for planned in plan.init.iter().chain(&plan.containers) {
            self.pull(planned)
                .await
                .map_err(|error| format!("pod {}: container {}: {error}", plan.name, planned.name))?;
        }
        Ok(())
    }

    async fn pull(&mut self, planned: &Planned) -> Result<()> {
        let image = planned.image.clone();
        if planned.pull != PullPolicy::Always {
            let spec = Some(v1::ImageSpec { image: image.clone(), ..Default::default() });
            let asked = self.images.image_status(v1::ImageStatusRequest { image: spec, verbose: false });
            let found = asked.await.map_err(step(format!("look for image {image}")))?.into_inner().image;
            match (found, planned.pull) {
                (Some(_), _) => return Ok(()),
                (None, PullPolicy::Never) => {
                    return Err(format!(
                        "image {image} is not here and imagePullPolicy is Never; `husk image pull {image}` brings it"
                    )
                    .into());
                }
                (None, _) => {}
            }
        }
        let pulled = image::pull_with(&mut self.pulls, image.clone(), None, String::new()).await;
        pulled.map(drop).map_err(|error| format!("pull image {image}: {}", told(error.as_ref())).into())
    }

    /// Makes the volumes and the sandbox of a pod. What a failure leaves is the caller's to remove.
    pub(super) async fn sandbox(&mut self, plan: &Plan) -> Result<String> {
        // Whoever has the name has the directories too.
        if self.all().await?.iter().any(|pod| pod.metadata == plan.sandbox.metadata) {
            return Err(format!(
                "pod {} is there already; `husk kube down` with its file removes it, `husk kube play --replace` does so first",
                plan.name
            )
            .into());
        }
        // Of a pod that went away without us, such as with a reboot.
        plan.volumes
            .remove()
            .and_then(|()| plan.volumes.make())
            .map_err(|reason| format!("pod {}: volumes: {reason}", plan.name))?;
        let request =
            v1::RunPodSandboxRequest { config: Some(plan.sandbox.clone()), runtime_handler: String::new() };
        let made = Box::pin(self.runtime.run_pod_sandbox(request)).await;
        if made.is_err() {
            // What failed is what the user must read.
            let _ = plan.volumes.remove();
        }
        Ok(made.map_err(step(format!("make the sandbox of pod {}", plan.name)))?.into_inner().pod_sandbox_id)
    }

    /// Makes and starts a container; `attempt` counts those of its name before it.
    pub(super) async fn start(
        &mut self,
        plan: &Plan,
        pod: &str,
        planned: &Planned,
        attempt: u32,
    ) -> Result<String> {
        let name = format!("{}/{}", plan.name, planned.name);
        let mut config = planned.config.clone();
        config.metadata = Some(v1::ContainerMetadata { name: planned.name.clone(), attempt });
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: pod.to_owned(),
            config: Some(config),
            sandbox_config: Some(plan.sandbox.clone()),
        };
        // On the heap: a request is large.
        let made = Box::pin(self.runtime.create_container(request)).await;
        let id = made.map_err(step(format!("make container {name}")))?.into_inner().container_id;
        let started = self.runtime.start_container(v1::StartContainerRequest { container_id: id.clone() });
        started.await.map_err(step(format!("start container {name}")))?;
        Ok(id)
    }

    /// Waits until a container has ended.
    pub(super) async fn ended(&mut self, id: &str) -> Result<Exit> {
        loop {
            // Followed before it is looked at, so that no end falls between the two.
            let mut events = self.workloads.events(EventsRequest { recent: false }).await?.into_inner();
            loop {
                let request = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
                let status = self.runtime.container_status(request).await?.into_inner().status;
                let status = status.ok_or("a container without a status")?;
                if status.state() == v1::ContainerState::ContainerExited {
                    return Ok(Exit {
                        code: status.exit_code,
                        reason: status.reason,
                        message: status.message,
                    });
                }
                match events.message().await {
                    Ok(Some(_)) => {}
                    // Too slow: from the beginning.
                    Ok(None) => break,
                    Err(status) if status.code() == Code::Aborted => break,
                    Err(status) => return Err(status.into()),
                }
            }
        }
    }

    /// Runs the init containers one after the other.
    pub(super) async fn init(&mut self, plan: &Plan, pod: &str) -> Result<()> {
        for planned in &plan.init {
            let id = Box::pin(self.start(plan, pod, planned, 0)).await?;
            let exit = self.ended(&id).await?;
            if exit.code != 0 {
                let last = self.last_lines(&id).await;
                return Err(format!(
                    "init container {}/{} failed with exit code {} ({}){last}",
                    plan.name, planned.name, exit.code, exit.reason
                )
                .into());
            }
        }
        Ok(())
    }

    /// What a container wrote last, for an error.
    async fn last_lines(&mut self, id: &str) -> String {
        let request = LogsRequest { name: id.to_owned(), follow: false, tail: Some(5), since: 0 };
        let mut text = String::new();
        if let Ok(lines) = self.workloads.logs(request).await {
            let mut lines = lines.into_inner();
            while let Ok(Some(line)) = lines.message().await {
                text.push_str("\n  ");
                text.push_str(&crate::text::shown(&String::from_utf8_lossy(&line.line)));
            }
        }
        text
    }

    /// Hands on what a container writes until it has ended.
    pub(super) async fn logs(&mut self, id: &str, mut line: impl FnMut(bool, &LogsResponse)) -> Result<()> {
        let request = LogsRequest { name: id.to_owned(), follow: true, tail: None, since: 0 };
        let mut lines = self.workloads.logs(request).await?.into_inner();
        while let Some(answer) = lines.message().await? {
            line(answer.output() == Output::Stderr, &answer);
        }
        Ok(())
    }

    // === its end ===

    /// Pods of a document.
    pub(super) async fn of_owner(&mut self, owner: &str) -> Result<Vec<v1::PodSandbox>> {
        let filter = v1::PodSandboxFilter {
            label_selector: [(OWNER.to_owned(), owner.to_owned())].into(),
            ..Default::default()
        };
        let request = v1::ListPodSandboxRequest { filter: Some(filter) };
        Ok(self.runtime.list_pod_sandbox(request).await?.into_inner().items)
    }

    /// All pods that were made from a manifest.
    pub(super) async fn all(&mut self) -> Result<Vec<v1::PodSandbox>> {
        let request = v1::ListPodSandboxRequest::default();
        let pods = self.runtime.list_pod_sandbox(request).await?.into_inner().items;
        Ok(pods.into_iter().filter(|pod| pod.labels.contains_key(OWNER)).collect())
    }

    /// Stops the containers of a pod, all at once, each with the same time to end by itself.
    pub(super) async fn stop(&mut self, pod: &str, grace: u32) -> Result<()> {
        let filter = v1::ContainerFilter { pod_sandbox_id: pod.to_owned(), ..Default::default() };
        let request = v1::ListContainersRequest { filter: Some(filter) };
        let containers = self.runtime.list_containers(request).await?.into_inner().containers;
        let stops = containers.into_iter().map(|container| {
            let mut runtime = self.runtime.clone();
            let request = v1::StopContainerRequest { container_id: container.id, timeout: grace.into() };
            async move { runtime.stop_container(request).await.map(drop) }
        });
        for stopped in futures_util::future::join_all(stops).await {
            stopped.map_err(step(format!("stop pod {pod}")))?;
        }
        Ok(())
    }

    /// Removes a container that has ended.
    pub(super) async fn remove_container(&mut self, id: &str) -> Result<()> {
        let request = v1::RemoveContainerRequest { container_id: id.to_owned() };
        self.runtime.remove_container(request).await.map_err(step(format!("remove container {id}")))?;
        Ok(())
    }

    /// Removes a pod, killing what still runs.
    pub(super) async fn remove(&mut self, pod: &str) -> Result<()> {
        let request = v1::RemovePodSandboxRequest { pod_sandbox_id: pod.to_owned() };
        self.runtime.remove_pod_sandbox(request).await.map_err(step(format!("remove pod {pod}")))?;
        Ok(())
    }

    /// Removes a pod whose making failed, with its volumes; says what cannot be removed.
    pub(super) async fn undo(&mut self, plan: &Plan, pod: &str) {
        let removed = match self.remove(pod).await {
            Ok(()) => plan.volumes.remove(),
            Err(error) => Err(told(error.as_ref())),
        };
        if let Err(reason) = removed {
            eprintln!(
                "husk: pod {} is left behind: {reason}; `husk kube down` with its file removes it",
                plan.name
            );
        }
    }
}

/// How long a container that ended the `count`th time is left alone before it runs again.
pub(super) fn pause(count: u32) -> Duration {
    Duration::from_secs(1 << count.min(6)).min(Duration::from_secs(60))
}

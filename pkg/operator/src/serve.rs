//! Which call is served by what.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use husk_model::ContainerStatus;
use husk_node::now;
use husk_pods::Engine;
use husk_proto::{
    admin::{
        self as v1,
        workloads_server::{Workloads, WorkloadsServer},
    },
    status::status,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{
    convert,
    error::OperatorError,
    events,
    find::{Found, Node},
    logs::{Log, Wanted},
    top, why,
};

/// Pods of one message of a list: with labels and annotations as large as Kubernetes has them it stays below what clients take.
const BATCH: usize = 16;
/// Lines that may wait for a slow client.
const BACKLOG: usize = 64;
/// Longest name that is looked for; the longest that there is has a namespace, a pod and a container in it.
const LONGEST_NAME: usize = 1024;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Serves Workloads from the engine.
#[derive(Debug, Clone)]
pub struct WorkloadsApi {
    engine: Arc<Engine>,
}

impl WorkloadsApi {
    /// Serves `engine`, which shows the pods of every door.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    /// As a service of a server.
    pub fn into_service(self) -> WorkloadsServer<Self> {
        WorkloadsServer::new(self)
    }
}

fn named(name: &str) -> Result<&str, Status> {
    match name.len() {
        0 => Err(Status::invalid_argument("name: is empty")),
        1..=LONGEST_NAME => Ok(name),
        long => Err(Status::invalid_argument(format!("name: {long} bytes are longer than any"))),
    }
}

fn failed(error: OperatorError) -> Status {
    status(error)
}

#[tonic::async_trait]
impl Workloads for WorkloadsApi {
    type ListStream = Answers<v1::ListResponse>;

    async fn list(&self, _: Request<v1::ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let node = Node::of(&self.engine);
        let pods: Vec<v1::Pod> = node.pods.iter().map(|pod| convert::pod(pod, node.of_pod(pod))).collect();
        let batches: Vec<_> =
            pods.chunks(BATCH).map(|pods| Ok(v1::ListResponse { pods: pods.to_vec() })).collect();
        Ok(Response::new(Box::pin(stream::iter(batches))))
    }

    async fn inspect(
        &self,
        request: Request<v1::InspectRequest>,
    ) -> Result<Response<v1::InspectResponse>, Status> {
        let request = request.into_inner();
        let node = Node::of(&self.engine);
        let found = node.find(named(&request.name)?).map_err(failed)?;
        let history = |id: &str| self.engine.container_history(id).unwrap_or_default();
        let container =
            |status: &ContainerStatus| convert::container_json(status, &history(status.id.as_str()));
        let (pod, id, json) = match &found {
            Found::Pod(pod) => {
                let theirs = node.of_pod(pod).map(|status| container(status)).collect();
                let own = self.engine.pod_history(pod.id.as_str()).unwrap_or_default();
                (convert::pod(pod, node.of_pod(pod)), String::new(), convert::pod_json(pod, &own, theirs))
            }
            Found::Container(pod, status) => {
                (convert::pod(pod, [status]), status.id.to_string(), container(status))
            }
        };
        Ok(Response::new(v1::InspectResponse { pod: Some(pod), container_id: id, json: json.to_string() }))
    }

    async fn why(&self, request: Request<v1::WhyRequest>) -> Result<Response<v1::WhyResponse>, Status> {
        let request = request.into_inner();
        let accounts = why::accounts(&self.engine, named(&request.name)?, now()).map_err(failed)?;
        Ok(Response::new(v1::WhyResponse { accounts }))
    }

    type LogsStream = Answers<v1::LogsResponse>;

    async fn logs(&self, request: Request<v1::LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let v1::LogsRequest { name, follow, tail, since } = request.into_inner();
        let (pod, container) = Node::of(&self.engine).container(named(&name)?).map_err(failed)?;
        let engine = Arc::clone(&self.engine);
        let wanted = Wanted { follow, tail, since };
        // A filesystem that hangs holds up this call alone.
        let open = move || Log::open(&engine, &pod, &container, wanted);
        let log = tokio::task::spawn_blocking(open)
            .await
            .map_err(|_| Status::internal("opening the log panicked"))?
            .map_err(failed)?;
        let (lines, answers) = mpsc::channel(BACKLOG);
        tokio::spawn(log.send(lines));
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    type EventsStream = Answers<v1::EventsResponse>;

    async fn events(
        &self,
        request: Request<v1::EventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        let since = (!request.into_inner().recent).then(now);
        Ok(Response::new(Box::pin(events::follow(&self.engine, since))))
    }

    type TopStream = Answers<v1::TopResponse>;

    async fn top(&self, request: Request<v1::TopRequest>) -> Result<Response<Self::TopStream>, Status> {
        let interval = request.into_inner().interval_ms;
        let interval = (interval != 0).then(|| Duration::from_millis(interval.into()));
        Ok(Response::new(Box::pin(top::measure(Arc::clone(&self.engine), interval))))
    }
}

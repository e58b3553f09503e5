//! Serving gRPC on the socket.

use std::{error::Error, sync::Arc};

use husk_config::Config;
use husk_cri::{Doors, ImageApi, MAX_MESSAGE, MAX_METADATA, Observe, RuntimeApi};
use husk_images::ImageStore;
use husk_model::Door;
use husk_network::Network;
use husk_operator::WorkloadsApi;
use husk_pods::Engine;
use husk_proto::admin::{images_server::ImagesServer, node_server::NodeServer};
use husk_streaming::StreamingServer;
use husk_telemetry::Metrics;
use tokio::net::UnixListener;
use tonic::{codec::CompressionEncoding::Gzip, transport::Server};

use crate::{
    admin::ImageArchives,
    doctor::{Doctor, NodeService},
    incoming,
};

/// What the services are made of.
pub(crate) struct Parts {
    pub(crate) engine: Arc<Engine>,
    pub(crate) images: Arc<ImageStore>,
    pub(crate) network: Arc<Network>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) streaming: Arc<StreamingServer>,
    pub(crate) doctor: Arc<Doctor>,
}

/// A client that keeps its connection open must not hold up the end.
const LAST_CALLS: std::time::Duration = std::time::Duration::from_secs(5);

/// Calls at once on one connection. The kubelet has two connections for everything, so this must not be what a node full of
/// waiting stops and pulls runs into (h2's default is 200, Go's servers have no bound); each waiting call takes some KiB.
const MAX_CALLS: u32 = 8192;

/// Serves until `stop`, then lets the calls in progress end for a moment.
pub(crate) async fn serve(
    listener: UnixListener,
    config: &Config,
    parts: Parts,
    stop: impl Future<Output = ()>,
) -> Result<(), Box<dyn Error>> {
    let Parts { engine, images, network, metrics, streaming, doctor } = parts;
    let workloads = WorkloadsApi::new(Arc::clone(&engine));
    let runtime_of = |door| {
        let (images, network, streaming) =
            (Arc::clone(&images), Arc::clone(&network), Arc::clone(&streaming));
        let handlers = &config.runtime.handlers;
        RuntimeApi::new(engine.through(door), images, network, streaming, handlers).into_service()
    };
    let runtime = Doors::new(runtime_of(Door::Cri), runtime_of(Door::Husk));
    let engine = engine.through(Door::Cri);
    let parts_store = Arc::clone(&images);
    let image = ImageApi::new(images, Arc::clone(&engine), Arc::clone(&metrics));
    let archives = ImageArchives { store: parts_store, root: config.root.clone() };
    let (stopping, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = Server::builder()
        .http2_max_header_list_size(MAX_METADATA)
        .max_concurrent_streams(MAX_CALLS)
        .layer(Observe::new(metrics))
        .add_service(runtime)
        .add_service(image.into_service())
        .add_service(
            ImagesServer::new(archives).max_decoding_message_size(MAX_MESSAGE).accept_compressed(Gzip),
        )
        .add_service(NodeServer::new(NodeService(doctor)))
        .add_service(workloads.into_service())
        .serve_with_incoming_shutdown(incoming::connections(listener), async move {
            // An error is the sender's end, which means the same.
            let _ = stopped.await;
        });
    tokio::pin!(server);
    tokio::select! {
        ended = &mut server => return Ok(ended?),
        () = stop => {}
    }
    engine.end_events();
    drop(stopping);
    let (calls, ()) = tokio::join!(tokio::time::timeout(LAST_CALLS, server), streaming.shutdown(LAST_CALLS));
    if calls.is_err() {
        tracing::info!("calls were still in progress at the end");
    }
    Ok(())
}

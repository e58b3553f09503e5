//! ImageService.

use std::{collections::HashMap, sync::Arc};

use futures_util::stream;
use husk_images::{Auth, Image, ImageError, ImageStore, PullProgress, PullRequest};
use husk_model::{PodMetadata, chain};
use husk_node::now;
use husk_pods::Engine;
use husk_proto::cri::v1::{
    self,
    image_service_server::{ImageService, ImageServiceServer},
};
use husk_telemetry::Metrics;
use tonic::{Code, Request, Response, Status, codec::CompressionEncoding::Gzip};

use crate::{
    MAX_MESSAGE, about,
    convert::{self, invalid, unsigned},
    runtime::{BoxStream, batches},
    status::status,
};

/// Serves ImageService from the store.
#[derive(Clone)]
pub struct ImageApi {
    store: Arc<ImageStore>,
    engine: Arc<Engine>,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for ImageApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageApi").finish_non_exhaustive()
    }
}

impl ImageApi {
    /// Serves `store`; what the containers wrote on top of images is `engine`'s to know.
    pub fn new(store: Arc<ImageStore>, engine: Arc<Engine>, metrics: Arc<Metrics>) -> Self {
        Self { store, engine, metrics }
    }

    /// As a service of a server; what is compressed is as with [`RuntimeApi::into_service`](crate::RuntimeApi::into_service).
    pub fn into_service(self) -> ImageServiceServer<Self> {
        ImageServiceServer::new(self)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
            .accept_compressed(Gzip)
    }

    fn list(&self, filter: Option<v1::ImageFilter>) -> Vec<v1::Image> {
        let name = filter.and_then(|filter| filter.image).map(|image| image.image).unwrap_or_default();
        if name.is_empty() {
            return self.store.list().iter().map(|image| self.converted(image)).collect();
        }
        self.store.resolve(&name).iter().map(|image| self.converted(image)).collect()
    }

    fn converted(&self, image: &Image) -> v1::Image {
        convert::image(image, self.store.is_pinned(image))
    }
}

fn named(image: Option<v1::ImageSpec>) -> Result<String, Status> {
    match image.map(|image| image.image) {
        Some(name) if !name.is_empty() => {
            about::image(&name);
            Ok(name)
        }
        _ => Err(invalid("image.image", "is empty").into()),
    }
}

/// The verbose part of ImageStatus: the image's configuration in the spelling of the OCI image-spec.
fn facts(image: &Image) -> String {
    let config = &image.config;
    serde_json::json!({
        "imageSpec": {
            "created": config.created,
            "config": {
                "User": config.user,
                "Env": config.env,
                "Entrypoint": config.entrypoint,
                "Cmd": config.cmd,
                "WorkingDir": config.working_dir,
                "Labels": config.labels,
                "StopSignal": config.stop_signal,
                "Volumes": config.volumes,
                "ExposedPorts": config.exposed_ports,
            },
            "rootfs": { "diff_ids": image.layers.iter().map(ToString::to_string).collect::<Vec<_>>() },
        },
    })
    .to_string()
}

/// The status of a failed pull. The kubelet knows two causes by the beginning of the message, and sees it only where the
/// code is UNKNOWN (cri-api, pkg/errors; cri-client, `PullImage`): then the pod's reason is `RegistryUnavailable` or
/// `SignatureValidationFailed` in place of `ErrImagePull`. A registry that cannot be reached is not husk that cannot be
/// reached, which UNAVAILABLE would say.
fn pull_status(error: ImageError) -> Status {
    let is_refusal = error.is_refusal();
    let status = status(error);
    match status.code() {
        _ if is_refusal => Status::unknown(format!("SignatureValidationFailed: {}", status.message())),
        Code::Unavailable => Status::unknown(format!("RegistryUnavailable: {}", status.message())),
        _ => status,
    }
}

/// How far a pull is, for people.
fn how_far(at: &PullProgress) -> String {
    let PullProgress { layers, layers_done, bytes, bytes_done } = at;
    match layers {
        0 => "asks the registry".to_owned(),
        _ => format!("{layers_done} of {layers} layers, {bytes_done} of {bytes} bytes"),
    }
}

/// For which pod an image is pulled. It is what `husk why` shows and nothing more, so nothing of it is checked.
fn metadata(metadata: v1::PodSandboxMetadata) -> PodMetadata {
    let v1::PodSandboxMetadata { name, uid, namespace, attempt } = metadata;
    PodMetadata { name, uid, namespace, attempt }
}

fn auth(auth: v1::AuthConfig) -> Auth {
    Auth {
        username: auth.username,
        password: auth.password,
        auth: auth.auth,
        server_address: auth.server_address,
        identity_token: auth.identity_token,
        registry_token: auth.registry_token,
    }
}

#[tonic::async_trait]
impl ImageService for ImageApi {
    async fn list_images(
        &self,
        request: Request<v1::ListImagesRequest>,
    ) -> Result<Response<v1::ListImagesResponse>, Status> {
        Ok(Response::new(v1::ListImagesResponse { images: self.list(request.into_inner().filter) }))
    }

    type StreamImagesStream = BoxStream<v1::StreamImagesResponse>;

    async fn stream_images(
        &self,
        request: Request<v1::StreamImagesRequest>,
    ) -> Result<Response<Self::StreamImagesStream>, Status> {
        let images = self.list(request.into_inner().filter);
        let answers = batches(images).map(|images| Ok(v1::StreamImagesResponse { images }));
        Ok(Response::new(Box::pin(stream::iter(answers))))
    }

    async fn image_status(
        &self,
        request: Request<v1::ImageStatusRequest>,
    ) -> Result<Response<v1::ImageStatusResponse>, Status> {
        let request = request.into_inner();
        let Some(image) = self.store.resolve(&named(request.image)?) else {
            return Ok(Response::new(v1::ImageStatusResponse::default()));
        };
        let mut info = HashMap::new();
        if request.verbose {
            info.insert("info".to_owned(), facts(&image));
        }
        Ok(Response::new(v1::ImageStatusResponse { image: Some(self.converted(&image)), info }))
    }

    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Result<Response<v1::PullImageResponse>, Status> {
        let request = request.into_inner();
        let (reference, auth) = (named(request.image)?, request.auth.map(auth));
        let pod = request.sandbox_config.and_then(|config| config.metadata).map(metadata);
        let pulling = self.engine.pulling(&reference, pod);
        let pull = PullRequest { reference, auth, platform: None };
        self.metrics.pulls.inc();
        let report = |at: PullProgress| pulling.progress(how_far(&at));
        let pulled = pulling.during(self.store.pull_reporting(pull, report)).await;
        pulling.end(pulled.as_ref().err().map(|error| chain(error)));
        let id = pulled.map_err(pull_status)?;
        Ok(Response::new(v1::PullImageResponse { image_ref: id.to_string() }))
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Result<Response<v1::RemoveImageResponse>, Status> {
        self.store.remove(&named(request.into_inner().image)?).await.map_err(status)?;
        Ok(Response::new(v1::RemoveImageResponse {}))
    }

    async fn image_fs_info(
        &self,
        _request: Request<v1::ImageFsInfoRequest>,
    ) -> Result<Response<v1::ImageFsInfoResponse>, Status> {
        // Clients probe connections with this call, so nothing is measured in it.
        let usage = self.store.usage();
        let images = v1::FilesystemUsage {
            timestamp: now(),
            fs_id: Some(v1::FilesystemIdentifier { mountpoint: usage.path.display().to_string() }),
            used_bytes: unsigned(usage.used_bytes),
            inodes_used: unsigned(usage.inodes_used),
        };
        let containers = self.engine.writable_layers();
        Ok(Response::new(v1::ImageFsInfoResponse {
            image_filesystems: vec![images],
            container_filesystems: vec![convert::filesystem(&containers)],
        }))
    }
}

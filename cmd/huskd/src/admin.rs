//! husk's own image service: archives in and out, pulls with their progress.
//!
//! Archives need random access (the manifest may come last), so an upload is spooled into an unnamed file first, and an
//! export is written to one before it is sent. The kernel frees them however the call ends.

use std::{
    fs::File,
    io::{self, Read, Seek, Write},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
};

use futures_util::Stream;
use husk_images::{Auth, Image, ImageStore, Origin, Progress, PullProgress, TakenOver};
use husk_model::{Classify, Kind, chain};
use husk_proto::admin::{
    ExportRequest, ExportResponse, ImportRequest, ImportResponse, ImportedImage, PullRequest, PullResponse,
    RefusedImage, TagRequest, TagResponse, TakeOverRequest, images_server::Images,
};
use husk_proto::status::status;
use rustix::fs::{Mode, OFlags};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Bytes sent at once.
const CHUNK: usize = 256 << 10;
/// Answers that may wait for a slow client.
const BACKLOG: usize = 8;

/// Serves archives from the store.
#[derive(Clone)]
pub(crate) struct ImageArchives {
    pub(crate) store: Arc<ImageStore>,
    /// Where spool files are made.
    pub(crate) root: PathBuf,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A step with the spool file failed.
#[derive(Debug, thiserror::Error)]
#[error("{step}")]
struct SpoolError {
    step: &'static str,
    source: io::Error,
}

impl Classify for SpoolError {
    fn kind(&self) -> Kind {
        Kind::of_io(&self.source)
    }
}

fn failed(step: &'static str) -> impl FnOnce(io::Error) -> Status {
    move |source| status(SpoolError { step, source })
}

/// A file without a name on the filesystem of the store.
fn spool(root: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(root, flags, Mode::RUSR | Mode::WUSR)?))
}

fn path_of(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

async fn receive(root: &Path, mut chunks: Streaming<ImportRequest>) -> Result<File, Status> {
    let mut file = spool(root).map_err(failed("spool the archive"))?;
    while let Some(request) = chunks.message().await? {
        file = tokio::task::spawn_blocking(move || file.write_all(&request.chunk).map(|()| file))
            .await
            .map_err(|_| Status::internal("writing the archive panicked"))?
            .map_err(failed("spool the archive"))?;
    }
    Ok(file)
}

#[tonic::async_trait]
impl Images for ImageArchives {
    type ImportStream = Answers<ImportResponse>;

    async fn import(
        &self,
        request: Request<Streaming<ImportRequest>>,
    ) -> Result<Response<Self::ImportStream>, Status> {
        let file = receive(&self.root, request.into_inner()).await?;
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let store = Arc::clone(&self.store);
        tokio::spawn(async move {
            let answer = match store.import(&path_of(&file), progress_to(&sender)).await {
                Ok(images) => Ok(ImportResponse {
                    images: images.iter().map(|image| imported(image)).collect(),
                    ..ImportResponse::default()
                }),
                Err(error) => Err(status(error)),
            };
            // A client that went away does not hear of it; the images are there.
            let _ = sender.send(answer).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    type TakeOverStream = Answers<ImportResponse>;

    async fn take_over(
        &self,
        request: Request<TakeOverRequest>,
    ) -> Result<Response<Self::TakeOverStream>, Status> {
        let request = request.into_inner();
        let origin = origin(&request)?;
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let store = Arc::clone(&self.store);
        tokio::spawn(async move {
            let progress = progress_to(&sender);
            let taken = tokio::select! {
                taken = store.take_over(origin, request.images, progress) => taken,
                () = sender.closed() => return,
            };
            let answer = taken.map(|TakenOver { images, refused }| ImportResponse {
                progress: String::new(),
                images: images.iter().map(|image| imported(image)).collect(),
                refused: refused
                    .into_iter()
                    .map(|(name, error)| RefusedImage { name, reason: chain(&error) })
                    .collect(),
            });
            let _ = sender.send(answer.map_err(status)).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    type ExportStream = Answers<ExportResponse>;

    async fn export(&self, request: Request<ExportRequest>) -> Result<Response<Self::ExportStream>, Status> {
        let names = request.into_inner().images;
        let file = spool(&self.root).map_err(failed("spool the archive"))?;
        self.store.export(&names, &path_of(&file), |_| {}).await.map_err(status)?;
        let (sender, receiver) = mpsc::channel(BACKLOG);
        tokio::task::spawn_blocking(move || send(file, &sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    type PullStream = Answers<PullResponse>;

    async fn pull(&self, request: Request<PullRequest>) -> Result<Response<Self::PullStream>, Status> {
        let PullRequest { image, username, password } = request.into_inner();
        let auth = (!username.is_empty()).then(|| Auth { username, password, ..Auth::default() });
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let store = Arc::clone(&self.store);
        tokio::spawn(async move {
            // What a slow client misses is told again by the next one.
            let report = |at| drop(sender.try_send(Ok(shown(at))));
            let request = husk_images::PullRequest { reference: image, auth, platform: None };
            let answer = tokio::select! {
                pulled = store.pull_reporting(request, report) => pulled,
                () = sender.closed() => return,
            };
            let answer = answer.map(|id| PullResponse { id: id.to_string(), ..PullResponse::default() });
            let _ = sender.send(answer.map_err(status)).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn tag(&self, request: Request<TagRequest>) -> Result<Response<TagResponse>, Status> {
        let TagRequest { image, name } = request.into_inner();
        let name = self.store.tag(&image, &name).await.map_err(status)?;
        Ok(Response::new(TagResponse { name }))
    }
}

type Sender<T> = mpsc::Sender<Result<T, Status>>;

/// Tells how far an import is. A line that a slow client misses is replaced by the next one anyway; a thread that works for a client
/// that left must not keep its channel open.
fn progress_to(sender: &Sender<ImportResponse>) -> impl Fn(Progress) + Send + Sync + 'static {
    let sender = sender.downgrade();
    move |at: Progress| {
        let progress = format!("{} {}%", at.what, at.done.saturating_mul(100) / at.total.max(1));
        if let Some(sender) = sender.upgrade() {
            drop(sender.try_send(Ok(ImportResponse { progress, ..ImportResponse::default() })));
        }
    }
}

fn imported(image: &Image) -> ImportedImage {
    let names = if image.repo_tags.is_empty() { &image.repo_digests } else { &image.repo_tags };
    ImportedImage { id: image.id.to_string(), names: names.clone() }
}

/// Whose images a request means, and where they are.
fn origin(request: &TakeOverRequest) -> Result<Origin, Status> {
    let root = Some(PathBuf::from(&request.root)).filter(|root| !root.as_os_str().is_empty());
    if root.as_ref().is_some_and(|root| !root.is_absolute()) {
        return Err(Status::invalid_argument(format!("root: {:?} is not an absolute path", request.root)));
    }
    match request.origin() {
        husk_proto::admin::Origin::Containerd => {
            let or =
                |text: &str, usual: &str| if text.is_empty() { usual.to_owned() } else { text.to_owned() };
            Ok(Origin::Containerd {
                root: root.unwrap_or_else(|| PathBuf::from("/var/lib/containerd")),
                namespace: or(&request.namespace, "k8s.io"),
            })
        }
        husk_proto::admin::Origin::ContainersStorage => Ok(Origin::ContainersStorage { root }),
        husk_proto::admin::Origin::Unspecified => {
            Err(Status::invalid_argument("origin: neither CONTAINERD nor CONTAINERS_STORAGE"))
        }
    }
}

/// How far a pull is, as the protocol has it.
fn shown(at: PullProgress) -> PullResponse {
    let PullProgress { layers, layers_done, bytes, bytes_done } = at;
    PullResponse { layers, layers_done, bytes, bytes_done, id: String::new() }
}

/// Sends a file in chunks until its end, or until the client goes away.
fn send(mut file: File, sender: &mpsc::Sender<Result<ExportResponse, Status>>) {
    if let Err(error) = file.rewind() {
        let _ = sender.blocking_send(Err(failed("read the archive")(error)));
        return;
    }
    loop {
        let mut chunk = vec![0; CHUNK];
        let answer = match file.read(&mut chunk) {
            Ok(0) => return,
            Ok(length) => {
                chunk.truncate(length);
                Ok(ExportResponse { chunk })
            }
            Err(error) => Err(failed("read the archive")(error)),
        };
        let last = answer.is_err();
        if sender.blocking_send(answer).is_err() || last {
            return;
        }
    }
}

//! `husk image`.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
};

use clap::{Subcommand, ValueEnum};
use futures_util::stream;
use husk_proto::{
    admin::{
        ExportRequest, ImportRequest, Origin, PullRequest, PullResponse, RefusedImage, TagRequest,
        TakeOverRequest, images_client::ImagesClient,
    },
    cri::v1::{ImageSpec, ListImagesRequest, RemoveImageRequest, image_service_client::ImageServiceClient},
};
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
};
use tonic::transport::Channel;

use crate::{
    client::{MAX_MESSAGE, Result, connect},
    table,
};

/// What can be done with images.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Pull an image as the kubelet would, and show how far it is
    Pull {
        /// The image, in any spelling
        image: String,
        /// A user of the registry
        #[arg(long, requires = "password_stdin")]
        username: Option<String>,
        /// Read the user's password from standard input
        #[arg(long, requires = "username")]
        password_stdin: bool,
    },
    /// Take an archive as `docker save` or an OCI layout (tar) makes it, or images of another runtime on this node
    #[command(after_help = IMPORT_HELP)]
    Import {
        /// The archive; - reads standard input. With --from: references or ids [default: all]
        #[arg(value_name = "ARCHIVE|IMAGE", required_unless_present = "from")]
        what: Vec<String>,
        /// Take images over from this runtime's directories, without a pull
        #[arg(long, value_enum, value_name = "RUNTIME")]
        from: Option<Whose>,
        /// Where that keeps its images [default: /var/lib/containerd; the graphroot of storage.conf]
        #[arg(long, value_name = "DIR", requires = "from")]
        root: Option<PathBuf>,
        /// containerd's namespace [default: k8s.io]
        #[arg(long, value_name = "NAME", requires = "from")]
        namespace: Option<String>,
    },
    /// Write images as one archive
    Export {
        /// References or ids
        #[arg(required = true)]
        images: Vec<String>,
        /// The archive to write; - writes standard output
        #[arg(long, short)]
        output: PathBuf,
    },
    /// List images
    #[command(alias = "list")]
    Ls,
    /// Give an image one more name; an image that has it loses it
    Tag {
        /// Reference or id
        image: String,
        /// The name, in any spelling
        name: String,
    },
    /// Remove images with all their names
    #[command(alias = "remove")]
    Rm {
        /// References or ids
        #[arg(required = true)]
        images: Vec<String>,
    },
}

const IMPORT_HELP: &str = "\
With --from, huskd reads the directories of a runtime that is stopped, and changes nothing there. Layers are checked as in a pull. \
An image that cannot be taken over (a layer is not there any more) is named with the reason; the others come all the same.

  husk image import --from containerd
  husk image import --from containers-storage registry.example/app:1

Exit codes:
  0  everything that was asked for is here
  1  it is not; what came is printed";

/// Another runtime on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Whose {
    /// containerd
    Containerd,
    /// CRI-O and podman
    ContainersStorage,
}

/// Bytes sent at once.
const CHUNK: usize = 256 << 10;
/// Bytes of a password that are read.
const MAX_PASSWORD: u64 = 64 << 10;

pub(crate) async fn run(address: &str, command: Command) -> Result<()> {
    match command {
        Command::Pull { image, username, .. } => pull(address, image, username).await,
        Command::Import { what, from: None, .. } => match what.as_slice() {
            [archive] => import(address, Path::new(archive)).await,
            _ => Err("one archive at a time; --from takes several images over from another runtime".into()),
        },
        Command::Import { what, from: Some(from), root, namespace } => {
            if namespace.is_some() && from != Whose::Containerd {
                return Err("--namespace is containerd's: leave it away".into());
            }
            let root = root.map(std::path::absolute).transpose()?.unwrap_or_default();
            let origin = match from {
                Whose::Containerd => Origin::Containerd,
                Whose::ContainersStorage => Origin::ContainersStorage,
            };
            let request = TakeOverRequest {
                origin: origin.into(),
                root: root.display().to_string(),
                namespace: namespace.unwrap_or_default(),
                images: what,
            };
            take_over(address, request).await
        }
        Command::Export { images, output } => export(address, images, &output).await,
        Command::Ls => list(address).await,
        Command::Tag { image, name } => tag(address, image, name).await,
        Command::Rm { images } => remove(address, images).await,
    }
}

/// A line about the progress, replaced by the next one on a terminal.
struct Progress {
    terminal: bool,
}

impl Progress {
    fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal() }
    }

    fn show(&self, text: &str) {
        if self.terminal {
            eprint!("\r\x1b[2K{text}");
        }
    }

    fn end(&self) {
        self.show("");
    }
}

async fn pull(address: &str, image: String, username: Option<String>) -> Result<()> {
    let mut password = String::new();
    if username.is_some() {
        let read = tokio::io::stdin().take(MAX_PASSWORD).read_to_string(&mut password).await;
        read.map_err(|error| format!("standard input: {error}"))?;
        password.truncate(password.trim_end_matches(['\r', '\n']).len());
    }
    let mut client = ImagesClient::new(connect(address).await?).max_decoding_message_size(MAX_MESSAGE);
    println!("{}", pull_with(&mut client, image, username, password).await?);
    Ok(())
}

/// Pulls an image, shows how far it is, and returns its id.
pub(crate) async fn pull_with(
    client: &mut ImagesClient<Channel>,
    image: String,
    username: Option<String>,
    password: String,
) -> Result<String> {
    let request = PullRequest { image, username: username.unwrap_or_default(), password };
    let mut answers = client.pull(request).await?.into_inner();
    let progress = Progress::new();
    let outcome: Result<String> = loop {
        match answers.message().await {
            Ok(Some(answer)) if answer.id.is_empty() => progress.show(&how_far(&answer)),
            Ok(Some(answer)) => break Ok(answer.id),
            Ok(None) => break Err("huskd ended before the pull did".into()),
            Err(status) => break Err(status.into()),
        }
    };
    progress.end();
    outcome
}

fn how_far(at: &PullResponse) -> String {
    if at.layers == 0 {
        return "asking the registry".to_owned();
    }
    let (done, all) = (table::size(at.bytes_done), table::size(at.bytes));
    format!("{} of {} layers, {done} of {all}", at.layers_done, at.layers)
}

async fn open(archive: &Path) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
    if archive == Path::new("-") {
        return Ok(Box::new(tokio::io::stdin()));
    }
    let file = File::open(archive).await.map_err(|error| format!("{}: {error}", archive.display()))?;
    Ok(Box::new(file))
}

async fn import(address: &str, archive: &Path) -> Result<()> {
    let reader = open(archive).await?;
    let channel = connect(address).await?;
    // A read error ends the stream early; huskd then says that the archive is truncated.
    let chunks = stream::unfold((reader, 0u64), |(mut reader, sent)| async move {
        let mut chunk = vec![0; CHUNK];
        let length = reader.read(&mut chunk).await.ok().filter(|length| *length > 0)?;
        chunk.truncate(length);
        Some((ImportRequest { chunk }, (reader, sent + length as u64)))
    });
    let mut client = ImagesClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let mut answers = client.import(chunks).await?.into_inner();
    let progress = Progress::new();
    while let Some(answer) = answers.message().await? {
        progress.show(&answer.progress);
        for image in answer.images {
            progress.end();
            println!("{} {}", image.id, image.names.join(" "));
        }
    }
    progress.end();
    Ok(())
}

async fn take_over(address: &str, request: TakeOverRequest) -> Result<()> {
    let mut client = ImagesClient::new(connect(address).await?).max_decoding_message_size(MAX_MESSAGE);
    let mut answers = client.take_over(request).await?.into_inner();
    let (progress, mut refused) = (Progress::new(), Vec::new());
    let outcome: Result<()> = loop {
        match answers.message().await {
            Ok(Some(answer)) => {
                progress.show(&answer.progress);
                for image in answer.images {
                    progress.end();
                    println!("{} {}", image.id, image.names.join(" "));
                }
                refused.extend(answer.refused);
            }
            Ok(None) => break Ok(()),
            Err(status) => break Err(status.into()),
        }
    };
    progress.end();
    outcome?;
    for RefusedImage { name, reason } in &refused {
        eprintln!("{name}: {reason}");
    }
    match refused.len() {
        0 => Ok(()),
        count => Err(format!("{count} image(s) could not be taken over").into()),
    }
}

async fn export(address: &str, images: Vec<String>, output: &Path) -> Result<()> {
    let channel = connect(address).await?;
    let mut client = ImagesClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let mut chunks = client.export(ExportRequest { images }).await?.into_inner();
    if output == Path::new("-") {
        let mut writer = tokio::io::stdout();
        while let Some(answer) = chunks.message().await? {
            writer.write_all(&answer.chunk).await?;
        }
        return Ok(writer.flush().await?);
    }
    // Written beside its place and renamed, so that a failure leaves no half archive.
    let mut hidden = output.as_os_str().to_owned();
    hidden.push(".part");
    let wrap = |error: std::io::Error| format!("{}: {error}", output.display());
    let mut writer = File::create(&hidden).await.map_err(wrap)?;
    let (progress, mut written) = (Progress::new(), 0u64);
    let result = async {
        while let Some(answer) = chunks.message().await? {
            writer.write_all(&answer.chunk).await.map_err(wrap)?;
            written += answer.chunk.len() as u64;
            progress.show(&format!("{} written", table::size(written)));
        }
        writer.sync_all().await.map_err(wrap)?;
        Ok(tokio::fs::rename(&hidden, output).await.map_err(wrap)?)
    }
    .await;
    progress.end();
    if result.is_err() {
        // The failure itself is what the user must read.
        let _ = tokio::fs::remove_file(&hidden).await;
    }
    result
}

async fn list(address: &str) -> Result<()> {
    let mut client = ImageServiceClient::new(connect(address).await?).max_decoding_message_size(MAX_MESSAGE);
    let images = client.list_images(ListImagesRequest::default()).await?.into_inner().images;
    let mut rows = vec![["IMAGE".to_owned(), "ID".to_owned(), "SIZE".to_owned()]];
    for image in images {
        let id: String = image.id.trim_start_matches("sha256:").chars().take(13).collect();
        let names = if image.repo_tags.is_empty() { image.repo_digests } else { image.repo_tags };
        let names = if names.is_empty() { vec!["<none>".to_owned()] } else { names };
        rows.extend(names.into_iter().map(|name| [name, id.clone(), table::size(image.size)]));
    }
    table::print(&rows);
    Ok(())
}

async fn tag(address: &str, image: String, name: String) -> Result<()> {
    let mut client = ImagesClient::new(connect(address).await?);
    println!("{}", client.tag(TagRequest { image, name }).await?.into_inner().name);
    Ok(())
}

async fn remove(address: &str, images: Vec<String>) -> Result<()> {
    let mut client = ImageServiceClient::new(connect(address).await?);
    for name in images {
        let image = Some(ImageSpec { image: name, ..Default::default() });
        client.remove_image(RemoveImageRequest { image }).await?;
    }
    Ok(())
}

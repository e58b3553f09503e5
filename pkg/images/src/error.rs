//! The crate's error. Its text reaches the kubelet's user, so each variant names the step and the object.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use husk_model::{Classify, Digest, ImageId, Kind, chain};
use rustix::io::Errno;

use crate::{
    registry::Attempts,
    trust::Refusal,
    unpack::{UnpackError, io_kind},
};

/// Result of this crate.
pub type Result<T, E = ImageError> = std::result::Result<T, E>;

/// Why an image operation failed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The reference itself is malformed.
    #[error("image reference {reference:?}: {reason}")]
    Reference {
        /// As received, cut to a length that can be shown.
        reference: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The image is not on this node.
    #[error("no image {name} on this node; pull or import it first")]
    NoImage {
        /// Name or id.
        name: String,
    },
    /// Several ids begin with what was given.
    #[error("several images have an id that begins with {name}; give more of it")]
    Ambiguous {
        /// As received.
        name: String,
    },
    /// An image cannot be removed by its id alone.
    #[error("image {image} has names of several repositories ({}); remove these, or force it", names.join(", "))]
    Named {
        /// The image.
        image: ImageId,
        /// Its names.
        names: Vec<String>,
    },
    /// An image cannot be held.
    #[error("hold of an image: {reason}")]
    Holder {
        /// Why not.
        reason: String,
    },
    /// No registry or mirror served the object.
    #[error("{object}: {attempts}")]
    Fetch {
        /// What was asked for.
        object: String,
        /// Each place that was asked, and its answer.
        attempts: Attempts,
    },
    /// A registry did not take what was pushed.
    #[error("push of {object}: {attempts}")]
    Push {
        /// What was sent.
        object: String,
        /// The host, and its answer.
        attempts: Attempts,
    },
    /// A `hosts.toml` cannot be used.
    #[error("registry configuration {}: {reason}", path.display())]
    Hosts {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The signature policy cannot be used.
    #[error("signature policy {}: {reason}", path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// The place in it, and what is wrong there.
        reason: String,
    },
    /// The signature policy refuses the image.
    #[error("image {image} is refused by {refusal}")]
    Refused {
        /// The reference.
        image: String,
        /// The rule, and why it is not met.
        refusal: Box<Refusal>,
    },
    /// A registries.conf or a drop-in of it cannot be used.
    #[error("{}: {reason}", place(path, *line))]
    Registries {
        /// The file.
        path: PathBuf,
        /// Where in it, from 1.
        line: Option<usize>,
        /// What is wrong, and what is to be done.
        reason: String,
    },
    /// A registries.conf forbids to pull from there.
    #[error(
        "image {image}: registry {registry} is blocked by {}; ask the administrator of the node, or take the image from another \
         registry",
        place(path, Some(*line))
    )]
    Blocked {
        /// The reference.
        image: String,
        /// The prefix that fits it.
        registry: String,
        /// The file that says so.
        path: PathBuf,
        /// Where in it.
        line: usize,
    },
    /// What a name without a registry means cannot be told.
    #[error("image {name:?} has no registry: {reason} in {}; name the image in full, or give it an alias there", path.display())]
    ShortName {
        /// As received.
        name: String,
        /// The file that has the last word about it.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// None of the registries that are searched for a name without a registry has the image.
    #[error("image {name:?} is in none of the registries that are searched: {}", tried(failures))]
    Search {
        /// As received.
        name: String,
        /// Why each pull failed, in their order.
        failures: Vec<ImageError>,
    },
    /// A manifest, index or configuration that is malformed, ambiguous or not an image.
    #[error("{object} {digest}: {reason}")]
    Content {
        /// `manifest`, `image configuration`…
        object: &'static str,
        /// Its digest.
        digest: Digest,
        /// What is wrong.
        reason: String,
    },
    /// Nothing in the image is for this node.
    #[error("image {image} has no variant for {wanted}; it offers {offered}")]
    Platform {
        /// The image.
        image: String,
        /// This node's platform.
        wanted: String,
        /// The image's platforms.
        offered: String,
    },
    /// Content is not what its digest says.
    #[error(
        "{object}: expected {expected}, received {actual}; the content was altered or the registry is broken"
    )]
    Digest {
        /// What was received.
        object: String,
        /// The digest asked for.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// A layer could not be unpacked.
    #[error("layer {digest}")]
    Layer {
        /// Digest of the blob.
        digest: Digest,
        /// The cause.
        #[source]
        source: UnpackError,
    },
    /// An image that is made here cannot be as it was asked for.
    #[error("new image: {reason}")]
    NewImage {
        /// Why not.
        reason: String,
    },
    /// The layer of an image that is made here cannot be.
    #[error("new layer")]
    NewLayer {
        /// The cause.
        #[source]
        source: UnpackError,
    },
    /// A path inside a root cannot be read, or written.
    #[error("{step} {path:?} in the container")]
    RootPath {
        /// What was being done.
        step: &'static str,
        /// As it was given, cut to a length that can be shown.
        path: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// An archive cannot be unpacked into a container.
    #[error("unpack into {path:?} of the container")]
    Put {
        /// The directory there.
        path: String,
        /// The cause.
        #[source]
        source: UnpackError,
    },
    /// An archive given to `import` cannot be used.
    #[error("archive: {reason}")]
    Archive {
        /// What is wrong.
        reason: String,
    },
    /// Nothing can be taken over from there.
    #[error("{}: {reason}", path.display())]
    Origin {
        /// The file or directory of the other runtime.
        path: PathBuf,
        /// What is wrong, and what is to be done.
        reason: String,
    },
    /// One image of another runtime cannot be taken over.
    #[error("{reason}")]
    NotTaken {
        /// Why not.
        reason: String,
    },
    /// The archive could not be read or written.
    #[error("archive: {step}")]
    ArchiveIo {
        /// What was being done.
        step: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A stored layer cannot be turned back into its archive.
    #[error("export of image {image}: layer {layer}: {reason}")]
    Export {
        /// The image.
        image: ImageId,
        /// The layer's diff id.
        layer: Digest,
        /// Why not.
        reason: String,
    },
    /// A file operation of the store failed.
    #[error("image store: {step} {}", path.display())]
    Store {
        /// What was being done.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Another process has the store open.
    #[error("image store {} is in use by another process; ask the running huskd instead (husk --address)", path.display())]
    Locked {
        /// The store.
        path: PathBuf,
    },
    /// The metadata cannot be read or written.
    #[error(
        "image database {}; if it stays damaged, drain the node, stop huskd, delete the images directory and start again: \
         images will be pulled anew",
        path.display()
    )]
    Database {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Box<redb::Error>,
    },
    /// A record in the database is not understood.
    #[error("image database: record {key} is not understood: {reason}")]
    Record {
        /// Its key.
        key: String,
        /// Why.
        reason: String,
    },
    /// The task that did the work ended without an answer.
    #[error("{object} was interrupted")]
    Interrupted {
        /// What was under way.
        object: String,
    },
    /// What is wrong with a part of an image, for those who asked for the image.
    #[error("image {image}")]
    Pull {
        /// The reference.
        image: String,
        /// The cause.
        #[source]
        source: Box<ImageError>,
    },
    /// The failure of an operation that several callers waited for.
    #[error(transparent)]
    Shared(Arc<ImageError>),
}

impl ImageError {
    pub(crate) fn store(step: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Store { step, path, source }
    }

    /// The error of a pull of `image`, which its text tells.
    pub(crate) fn of_pull(self, image: &str) -> Self {
        if self.to_string().contains(image) {
            return self;
        }
        Self::Pull { image: image.to_owned(), source: Box::new(self) }
    }

    /// Whether it is the signature policy that refuses the image.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Refused { .. } => true,
            Self::Pull { source, .. } => source.is_refusal(),
            Self::Shared(error) => error.is_refusal(),
            Self::Search { failures, .. } => failures.iter().any(Self::is_refusal),
            _ => false,
        }
    }

    pub(crate) fn errno(
        step: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(rustix::io::Errno) -> Self {
        let path = path.into();
        move |errno| Self::Store { step, path, source: errno.into() }
    }
}

/// A line of a file, as compilers write it.
fn place(path: &Path, line: Option<usize>) -> String {
    line.map_or_else(|| path.display().to_string(), |line| format!("{}:{line}", path.display()))
}

fn tried(failures: &[ImageError]) -> String {
    failures.iter().map(|error| chain(error)).collect::<Vec<_>>().join("; ")
}

impl Classify for ImageError {
    fn kind(&self) -> Kind {
        match self {
            Self::Reference { .. }
            | Self::Archive { .. }
            | Self::NewImage { .. }
            | Self::Ambiguous { .. }
            | Self::Holder { .. } => Kind::InvalidArgument,
            Self::NoImage { .. } | Self::Platform { .. } => Kind::NotFound,
            Self::Fetch { attempts, .. } | Self::Push { attempts, .. } => attempts.kind(),
            Self::ShortName { .. } => Kind::InvalidArgument,
            // The last one is the one that is meant to have what the others do not.
            Self::Search { failures, .. } => failures.last().map_or(Kind::NotFound, Classify::kind),
            Self::Hosts { .. }
            | Self::Policy { .. }
            | Self::Refused { .. }
            | Self::Registries { .. }
            | Self::Blocked { .. }
            | Self::Origin { .. }
            | Self::NotTaken { .. }
            | Self::Locked { .. }
            | Self::Named { .. }
            | Self::Export { .. } => Kind::FailedPrecondition,
            Self::Content { .. } | Self::Digest { .. } | Self::Database { .. } | Self::Record { .. } => {
                Kind::DataLoss
            }
            Self::Layer { source, .. } => source.kind(),
            Self::RootPath { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => Kind::NotFound,
                io::ErrorKind::NotADirectory
                | io::ErrorKind::IsADirectory
                | io::ErrorKind::InvalidFilename
                | io::ErrorKind::InvalidInput
                | io::ErrorKind::AlreadyExists
                | io::ErrorKind::Unsupported => Kind::InvalidArgument,
                io::ErrorKind::PermissionDenied => Kind::PermissionDenied,
                io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::ResourceBusy => Kind::FailedPrecondition,
                _ if source.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => Kind::InvalidArgument,
                _ => io_kind(source),
            },
            Self::NewLayer { source } | Self::Put { source, .. } => match source.kind() {
                // Nobody's content was lost: it came like that.
                Kind::DataLoss => Kind::InvalidArgument,
                kind => kind,
            },
            Self::ArchiveIo { source, .. } | Self::Store { source, .. } => io_kind(source),
            Self::Interrupted { .. } => Kind::Aborted,
            Self::Pull { source, .. } => source.kind(),
            Self::Shared(error) => error.kind(),
        }
    }
}

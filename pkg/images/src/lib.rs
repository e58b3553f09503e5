//! Image references, registry client, pull pipeline, store and garbage collection.
//!
//! Read in this order: [`ImageStore`] (what the rest of husk calls), `pull` (what happens for a pull), `resolve` (which
//! image a name means here), `pipeline` (one layer from bytes to files), `unpack` (hostile archives into directories),
//! `store` (disk layout, commits, repair), `registries` (registries.conf), `registry` (HTTP; whom a registry may send this
//! node to), `trust` (which images the policy lets in), `takeover` (images of other runtimes), `json` (documents as Go reads
//! them). No content is trusted: digests are checked before anything becomes visible, names are resolved by the
//! kernel below a directory descriptor, every size is bounded. No decision is ever taken from a label.
#![forbid(unsafe_code)]

mod archive;
mod compose;
mod confine;
mod details;
mod error;
mod flight;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod ids;
mod image;
mod inflate;
mod json;
mod layer;
mod make;
mod manifest;
mod passage;
mod pieces;
mod pipeline;
mod platform;
mod pull;
mod push;
mod reference;
mod registries;
mod registry;
mod remote;
mod resolve;
mod root;
mod slots;
mod stop;
mod store;
mod takeover;
mod tally;
mod tar;
mod trust;
mod unpack;
mod walked;

pub use archive::{Loaded, Progress, SaveItem, file_in_archive};
pub use details::{HistoryEntry, ImageDetails, ManifestFacts};
pub use error::{ImageError, Result};
pub use ids::DiffId;
pub use image::{FsUsage, Image, ImageConfig, LayerStack};
pub use make::{Author, CommitRequest, ImportRequest, NewConfig};
pub use passage::{LayerBlob, OfferedImage};
pub use platform::Platform;
pub use pull::PullRequest;
pub use push::{PushProgress, PushRequest, PushState, Pushed};
pub use reference::{Reference, Selector};
pub use registries::RegistriesConf;
pub use registry::{Attempts, Auth, RegistryError, SearchResult};
pub use remote::RemoteImage;
pub use root::{
    Change, ChangeKind, Owners, PathStat, PutRequest, TreeArchive, archive_path, flatten, put_archive,
    stat_path,
};
pub use store::{ImageLease, ImageStore, ImagesConfig, Removed};
pub use takeover::{Origin, TakenOver};
pub use tally::{LayerProgress, LayerState, PullProgress};
pub use tar::TarError;
pub use trust::Refusal;
pub use unpack::UnpackError;

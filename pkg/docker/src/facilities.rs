//! What the other parts ask of containers.
//!
//! Images, volumes and networks know nothing of containers; whether one of them is in use, and what joining a network means for
//! a container that runs, they ask through this.

use async_trait::async_trait;
use husk_model::ImageId;

use crate::{api::network::EndpointSettings, error::Result};

/// A container that uses something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    /// Its id, 64 hex characters.
    pub(crate) id: String,
    /// Its name, without a slash.
    pub(crate) name: String,
    /// Whether it runs (or is paused).
    pub(crate) running: bool,
}

/// A container's place in a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// The container.
    pub(crate) user: User,
    /// Id of the place, 64 hex characters.
    pub(crate) endpoint: String,
    /// Hardware address; empty while it does not run.
    pub(crate) mac: String,
    /// `172.18.0.2/16`, or empty.
    pub(crate) ipv4: String,
    /// `fd00::2/64`, or empty.
    pub(crate) ipv6: String,
}

/// How many containers there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Those that run.
    pub(crate) running: u64,
    /// Those that are paused.
    pub(crate) paused: u64,
    /// All others.
    pub(crate) stopped: u64,
}

/// The containers, as the other parts see them.
///
/// The three that are no futures are asked while the asker holds a lock of its own, so that nobody becomes a user meanwhile: they read
/// a snapshot, and wait for no lock under which volumes, networks or images are asked for anything.
#[async_trait]
pub(crate) trait Containers: Send + Sync {
    /// Those made from an image, also under another of its names.
    fn of_image(&self, image: &ImageId) -> Vec<User>;

    /// Those that have a volume mounted.
    fn of_volume(&self, volume: &str) -> Vec<User>;

    /// Those in a network, with their places.
    fn of_network(&self, network: &str) -> Vec<Endpoint>;

    /// How many there are.
    fn counts(&self) -> Counts;

    /// Containers as `/system/df` lists them: those of `/containers/json?all=1&size=1`.
    async fn disk(&self) -> Result<Vec<serde_json::Value>>;

    /// Puts a container, named by id, its beginning or name, into a network.
    async fn connect(&self, network: &str, container: &str, place: EndpointSettings) -> Result<()>;

    /// Takes a container out of a network; with `force` also one that is on record there and gone.
    async fn disconnect(&self, network: &str, container: &str, force: bool) -> Result<()>;
}

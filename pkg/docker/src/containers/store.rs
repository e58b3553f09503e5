//! The containers of the door.

use std::sync::Arc;

use async_trait::async_trait;
use husk_model::ImageId;

use crate::{
    api::network::EndpointSettings,
    error::{Failure, OpenError, Result},
    facilities::{Containers, Counts, Endpoint, User},
    shared::Shared,
};

/// All containers.
#[derive(Debug)]
pub(crate) struct Store {
    _shared: Arc<Shared>,
}

impl Store {
    /// Takes up what is on record.
    ///
    /// # Errors
    /// When records cannot be read.
    pub(crate) async fn open(shared: Arc<Shared>) -> Result<Self, OpenError> {
        Ok(Self { _shared: shared })
    }
}

fn no_such(container: &str) -> Failure {
    Failure::not_found(format!("No such container: {}", container.chars().take(80).collect::<String>()))
}

#[async_trait]
impl Containers for Store {
    fn of_image(&self, _image: &ImageId) -> Vec<User> {
        Vec::new()
    }

    fn of_volume(&self, _volume: &str) -> Vec<User> {
        Vec::new()
    }

    fn of_network(&self, _network: &str) -> Vec<Endpoint> {
        Vec::new()
    }

    fn counts(&self) -> Counts {
        Counts::default()
    }

    async fn disk(&self) -> Result<Vec<serde_json::Value>> {
        Ok(Vec::new())
    }

    async fn connect(&self, _network: &str, container: &str, _place: EndpointSettings) -> Result<()> {
        Err(no_such(container))
    }

    async fn disconnect(&self, _network: &str, container: &str, _force: bool) -> Result<()> {
        Err(no_such(container))
    }
}

//! What images, volumes, networks and the node ask of containers.

use async_trait::async_trait;
use husk_model::ImageId;

use super::{
    record::{Phase, Record},
    store::Store,
};
use crate::{
    api::network::EndpointSettings,
    error::Result,
    facilities::{Containers, Counts, Endpoint, User},
};

impl Store {
    fn users(&self, uses: impl Fn(&Record) -> bool) -> Vec<User> {
        let records = self.all().into_iter().map(|container| container.record());
        records.filter(|record| uses(record)).map(|record| user(&record)).collect()
    }
}

fn user(record: &Record) -> User {
    User { id: record.id.clone(), name: record.name.clone(), running: record.state.is_running() }
}

#[async_trait]
impl Containers for Store {
    fn of_image(&self, image: &ImageId) -> Vec<User> {
        self.users(|record| record.image == *image)
    }

    fn of_volume(&self, volume: &str) -> Vec<User> {
        self.users(|record| record.mounts.iter().any(|point| point.kind == "volume" && point.name == volume))
    }

    fn of_network(&self, network: &str) -> Vec<Endpoint> {
        self.endpoints(network)
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for container in self.all() {
            let state = &container.record().state;
            match state.phase {
                Phase::Running if state.paused => counts.paused += 1,
                Phase::Running => counts.running += 1,
                _ => counts.stopped += 1,
            }
        }
        counts
    }

    async fn disk(&self) -> Result<Vec<serde_json::Value>> {
        let mut listed = Vec::new();
        for container in self.all() {
            listed.push(self.summary(&container, true).await);
        }
        Ok(listed)
    }

    async fn connect(&self, network: &str, container: &str, place: EndpointSettings) -> Result<()> {
        self.connect_to(&self.find(container)?, network, place).await
    }

    async fn disconnect(&self, network: &str, container: &str, force: bool) -> Result<()> {
        self.disconnect_from(&self.find(container)?, network, force).await
    }
}

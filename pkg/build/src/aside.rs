//! A builder in a network of a user, for one build.
//!
//! Steps have the network namespace of buildkitd: BuildKit knows no other that a build could choose. So a build in a network of a user has a buildkitd of
//! its own there, for as long as it takes, and no cache but its own: two cannot share one.

use std::{path::Path, sync::Arc};

use husk_model::chain;
use tokio::{runtime::Handle, task::JoinHandle};
use tracing::warn;

use crate::{
    error::{BuildError, Result},
    places::{MOST, Place},
    site::{Builder, BuilderConfig},
};

/// A builder in a network of a user. Dropped, it ends, and what it kept is removed.
#[derive(Debug)]
pub struct Aside {
    builder: Arc<Builder>,
    place: Option<Place>,
}

impl Builder {
    /// A builder for a build whose steps shall be in this user network, by its id.
    ///
    /// # Errors
    /// [`BuildError::Refused`] while as many as there may be are building; [`BuildError::File`].
    pub async fn aside(self: &Arc<Self>, network: String) -> Result<Aside> {
        let busy = || BuildError::Refused {
            // RESOURCE_EXHAUSTED
            code: 8,
            message: format!(
                "{MOST} builds in networks of users are under way, and there may be no more at once: try again when one has ended"
            ),
        };
        let place = self.places().take().ok_or_else(busy)?;
        let name = format!("network-{}", place.number);
        let config = self.config();
        let beside = |path: &Path| {
            let own = path.file_name().unwrap_or_default().to_string_lossy();
            path.with_file_name(format!("{own}-{name}"))
        };
        let config = BuilderConfig {
            root: config.root.join(&name),
            run: beside(&config.run),
            cgroup: format!("{}-{name}", config.cgroup),
            ..config.clone()
        };
        let root = config.root.clone();
        let aside = Aside { builder: self.in_network(config, network), place: Some(place) };
        emptied(root.clone()).await.map_err(BuildError::file("remove", root))?;
        Ok(aside)
    }
}

impl Aside {
    /// The builder.
    pub fn builder(&self) -> &Arc<Builder> {
        &self.builder
    }

    /// Ends it, and waits until its network is free. It ends, too, when nobody waits.
    pub async fn close(mut self) {
        if let Some(ending) = self.end() {
            // Only its panic could be told.
            let _ended = ending.await;
        }
    }

    fn end(&mut self) -> Option<JoinHandle<()>> {
        let (builder, place) = (Arc::clone(&self.builder), self.place.take()?);
        // Without a runtime huskd is ending, and the next one removes what is left.
        let runtime = Handle::try_current().ok()?;
        Some(runtime.spawn(async move {
            builder.close().await;
            let root = builder.config().root.clone();
            if let Err(error) = emptied(root).await {
                warn!(error = chain(&error), "the cache of a build in a network of a user is left");
            }
            drop(place);
        }))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        drop(self.end());
    }
}

/// Removes a directory with all that is in it.
async fn emptied(directory: std::path::PathBuf) -> std::io::Result<()> {
    let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(directory));
    match removed.await.map_err(std::io::Error::other)? {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

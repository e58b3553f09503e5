//! A builder in a network of a user, for one build.
//!
//! Steps have the network namespace of buildkitd: BuildKit knows no other that a build could choose. So a build in a network of a user has a buildkitd of
//! its own there, for as long as it takes, and no cache but its own: two cannot share one.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use husk_model::chain;
use tracing::warn;

use crate::{
    error::{BuildError, Result},
    site::{Builder, BuilderConfig},
};

/// Builds in networks of users at once: each is a daemon with some hundred MiB.
const MOST: usize = 4;

/// The places for such builders that are free. Their names stay the same, so that the next one finds what a huskd that was killed has left.
#[derive(Debug, Clone)]
pub(crate) struct Places(Arc<Mutex<BTreeSet<usize>>>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Mutex::new((0..MOST).collect())))
    }
}

impl Places {
    fn take(&self) -> Option<Place> {
        let number = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_first()?;
        Some(Place { number, places: self.clone() })
    }
}

#[derive(Debug)]
struct Place {
    number: usize,
    places: Places,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.0.lock().unwrap_or_else(PoisonError::into_inner).insert(self.number);
    }
}

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
}

impl Drop for Aside {
    fn drop(&mut self) {
        let (builder, place) = (Arc::clone(&self.builder), self.place.take());
        // Without a runtime huskd is ending, and the next one removes it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            builder.close().await;
            let root = builder.config().root.clone();
            if let Err(error) = emptied(root).await {
                warn!(error = chain(&error), "the cache of a build in a network of a user is left");
            }
            drop(place);
        });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_taken_up_to_a_bound_and_given_back() {
        let places = Places::default();
        let taken: Vec<Place> = std::iter::from_fn(|| places.take()).collect();
        assert_eq!(taken.iter().map(|place| place.number).collect::<Vec<_>>(), [0, 1, 2, 3]);
        drop(taken);
        assert_eq!(places.take().unwrap().number, 0);
    }
}

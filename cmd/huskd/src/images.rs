//! The image store as the lifecycle engine sees it.

use std::sync::Arc;

use husk_images::{Image, ImageStore};
use husk_model::ImageId;
use husk_pods::facilities::{ImageFacts, ImageFault, Images, Lease};
use husk_spec::ImageDefaults;

/// Lends a store's images to the engine.
pub(crate) struct StoreImages(pub(crate) Arc<ImageStore>);

impl Images for StoreImages {
    fn find(&self, name: &str) -> Option<ImageFacts> {
        self.0.resolve(name).map(|image| facts(&image))
    }

    fn lease(&self, id: &ImageId) -> Result<Lease, ImageFault> {
        let guard = self.0.acquire(id).map_err(ImageFault::new)?;
        let stack = self.0.rootfs(id).map_err(ImageFault::new)?;
        Ok(Lease { base: stack.base, lowers: stack.lowers, guard: Box::new(guard) })
    }
}

fn facts(image: &Image) -> ImageFacts {
    let config = &image.config;
    ImageFacts {
        id: image.id.clone(),
        reference: image.repo_digests.first().map_or_else(|| image.id.to_string(), ToString::to_string),
        names: image.repo_tags.iter().chain(&image.repo_digests).cloned().collect(),
        user: config.user.clone(),
        stop_signal: config.stop_signal.clone(),
        defaults: ImageDefaults {
            entrypoint: config.entrypoint.clone(),
            cmd: config.cmd.clone(),
            env: config.env.clone(),
            working_dir: config.working_dir.clone(),
        },
    }
}

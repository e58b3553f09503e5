//! The layers that a container needs: its image's and, for image volumes (KEP-4639), those of the images that its mounts name,
//! leased for as long as the container exists.

use husk_model::{ContainerConfig, ImageId};

use crate::{
    error::{PodsError, Result},
    facilities::{Images, Lease},
};

/// An image that a container mounts.
#[derive(Debug)]
pub(crate) struct ImageVolume {
    pub(crate) image: ImageId,
    pub(crate) lease: Lease,
    sub_path: String,
}

impl ImageVolume {
    /// For the monitor.
    pub(crate) fn request(&self) -> husk_model::ImageVolume {
        husk_model::ImageVolume {
            base: self.lease.base.clone(),
            lowers: self.lease.lowers.clone(),
            sub_path: self.sub_path.clone().into(),
        }
    }
}

/// All layers that a container needs.
#[derive(Debug)]
pub(crate) struct Layers {
    /// Those of its own image.
    pub(crate) root: Lease,
    /// Those of the images it mounts, in the order of the request's mounts.
    pub(crate) volumes: Vec<ImageVolume>,
}

impl Layers {
    /// Finds the images of a container's mounts and leases them and its own image.
    ///
    /// # Errors
    /// [`PodsError::NoSuchImage`], which names the mount.
    pub(crate) fn lease(images: &dyn Images, image: &ImageId, config: &ContainerConfig) -> Result<Self> {
        Ok(Self { root: images.lease(image)?, volumes: volumes(images, config)? })
    }

    /// What a container holds on to.
    pub(crate) fn into_leases(self) -> Vec<Lease> {
        std::iter::once(self.root).chain(self.volumes.into_iter().map(|volume| volume.lease)).collect()
    }
}

fn volumes(images: &dyn Images, config: &ContainerConfig) -> Result<Vec<ImageVolume>> {
    let mut volumes = Vec::new();
    for (index, mount) in config.mounts.iter().enumerate() {
        let Some((reference, sub_path)) = mount.source.image() else { continue };
        let missing = || PodsError::NoSuchImage {
            field: format!("config.mounts[{index}].image.image"),
            reference: reference.to_owned(),
        };
        let image = images.find(reference).ok_or_else(missing)?.id;
        let lease = images.lease(&image)?;
        volumes.push(ImageVolume { image, lease, sub_path: sub_path.to_owned() });
    }
    Ok(volumes)
}

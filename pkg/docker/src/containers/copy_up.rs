//! What a new volume begins with: what the image has at its place.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use husk_images::PutRequest;
use husk_model::{Classify, Kind, Rootfs};
use husk_runtime::stopped_root;
use rustix::fs::{CWD, Gid, Mode, OFlags, ResolveFlags, Uid, fchmod, fchown, fstat, openat, openat2};

use super::{container::Container, store::Store};
use crate::{
    error::{Failure, Result},
    threads,
    volumes::{Filling, Held},
};

impl Store {
    /// Puts what the image has at the places of new volumes into them. One that has something already keeps it.
    ///
    /// # Errors
    /// Those of reading and writing.
    pub(super) async fn copy_up(&self, container: &Arc<Container>) -> Result<()> {
        let record = container.record();
        let rootfs = self.rootfs(container)?;
        let mut image = None;
        for point in record.mounts.iter().filter(|point| point.kind == "volume") {
            let volume = self.0.shared.volumes.hold(&point.name)?;
            let no_copy = point.besides.as_ref().is_some_and(|besides| besides.no_copy);
            if !no_copy && volume.volume().is_own() {
                image = copy(volume, point.destination.clone(), rootfs.clone(), image).await?;
            }
        }
        Ok(())
    }
}

/// Fills one volume. `image` is the image's tree, if it is mounted already; returned, it is for the next.
async fn copy(
    volume: Held,
    place: String,
    rootfs: Rootfs,
    image: Option<OwnedFd>,
) -> Result<Option<OwnedFd>> {
    let turn = volume.turn_to_fill().await;
    let filled = threads::transfer(move || {
        let step = |step: &'static str| {
            let name = volume.volume().name.clone();
            move |error| Failure::io(format!("{step} volume {name}"))(error)
        };
        let Some(filling) = Filling::begin(volume.volume(), turn).map_err(step("begin to fill"))? else {
            return Ok(image);
        };
        let image = match image {
            Some(image) => image,
            None => stopped_root(&rootfs, false)
                .map_err(|failure| Failure::internal(format!("mount the image: {failure}")))?,
        };
        if fill(&image, &place, &filling.dir())? {
            filling.finish().map_err(step("fill"))?;
        }
        Ok(Some(image))
    });
    filled.await?
}

/// Copies a directory of an image with its owner and mode. False when the image has none there.
fn fill(root: &OwnedFd, place: &str, data: &Path) -> Result<bool> {
    let within = PathBuf::from(format!("{}/.", place.trim_end_matches('/')));
    let archive = match husk_images::archive_path(root, &within) {
        Ok((_, archive)) => archive,
        // The image has nothing there, or no directory.
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::InvalidArgument) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let failed = |errno: rustix::io::Errno| Failure::io(format!("fill {}", data.display()))(errno.into());
    let dir = openat(CWD, data, flags, Mode::empty()).map_err(failed)?;
    husk_images::put_archive(&dir, Path::new("/"), archive, PutRequest::default())?;
    // The volume's own directory is the image's, too: a user of the container that owns that one has to write here.
    let path = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let source = openat2(root, place, path, Mode::empty(), ResolveFlags::IN_ROOT).map_err(failed)?;
    let of_image = fstat(&source).map_err(failed)?;
    let owner = (Uid::from_raw(of_image.st_uid), Gid::from_raw(of_image.st_gid));
    fchown(&dir, Some(owner.0), Some(owner.1)).map_err(failed)?;
    fchmod(&dir, Mode::from_raw_mode(of_image.st_mode & 0o7777)).map_err(failed)?;
    Ok(true)
}

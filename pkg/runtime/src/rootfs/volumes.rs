//! Image volumes (KEP-4639): an image's layers, put together for one container and mounted read-only in it.
//!
//! The image decides what is in there, so its paths are hostile: the sub path is looked up by the kernel inside the
//! volume's root (`openat2(RESOLVE_IN_ROOT)`), and what was found is what is mounted.

use std::{os::fd::OwnedFd, path::Path};

use husk_model::{ImageVolume, Rootfs};
use husk_sys::{
    mount,
    mount::{Attr, Change, Propagation},
    root::Root,
};
use rustix::{
    fs::{self, FileType, Mode, OFlags},
    io::Errno,
    mount::{UnmountFlags, unmount},
};

use super::{
    options::Options,
    overlay,
    planned::{Planned, Source},
    pod,
};
use crate::{Failure, Step, UserNamespace, failure::At};

/// Opens each volume as a detached mount of the whole image, in the monitor's mount namespace.
pub(crate) fn open(
    volumes: &[ImageVolume],
    rootfs: &Rootfs,
    user: Option<&UserNamespace>,
    label: Option<&str>,
) -> Result<Vec<OwnedFd>, Failure> {
    let open = |volume: &ImageVolume| {
        let mut lowers = volume.lowers.clone();
        if lowers.len() == 1 {
            lowers.push(nothing(rootfs)?);
        }
        overlay::mount_readonly(&volume.base, &lowers, user, label)
    };
    volumes.iter().map(open).collect()
}

/// An empty directory of the container's, by its path. An overlay wants two layers, and the bare directory of a layer is given
/// to nobody: whoever made its mount writable would write into every container of the image. An overlay without an upper layer
/// is read-only whatever its mount says.
fn nothing(rootfs: &Rootfs) -> Result<String, Failure> {
    let empty = rootfs.upper.with_file_name("empty");
    match fs::mkdir(&empty, Mode::from_raw_mode(0o555)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno).at(Step::Source, empty.display()),
    }
    let text = empty.into_os_string().into_string();
    text.map_err(|path| Failure::because(Step::Source, path.display(), "is no text"))
}

/// Gives the mounts of type `image` their trees, in the container's own mount namespace.
pub(crate) fn place(
    mounts: &mut [Planned],
    volumes: &[ImageVolume],
    images: &[OwnedFd],
) -> Result<(), Failure> {
    for Planned { destination, source } in mounts {
        let Source::Image { number, options } = source else { continue };
        let (Some(volume), Some(image)) = (volumes.get(*number), images.get(*number)) else {
            return Err(Failure::because(Step::Mount, destination.display(), "names no image volume"));
        };
        *source = tree(volume, image, options, destination)?;
    }
    Ok(())
}

fn tree(
    volume: &ImageVolume,
    image: &OwnedFd,
    options: &Options,
    destination: &Path,
) -> Result<Source, Failure> {
    let place = Path::new("/").join(pod::ROOT);
    let at = Step::Source;
    // Attached for a moment: of a detached mount older kernels than 6.15 make no copy.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = fs::open(&place, flags, Mode::empty()).at(at, destination.display())?;
    let root = Root::new(image.try_clone().at(at, destination.display())?);
    mount::attach(image, target).at(at, destination.display())?;
    let copied = copy(&root, volume, destination);
    unmount(&place, UnmountFlags::DETACH).at(at, destination.display())?;
    let (tree, directory) = copied?;

    let (propagation, all) = options.propagation.unwrap_or((Propagation::Private, true));
    let change =
        |recursive, change| mount::change(&tree, recursive, change).at(Step::Mount, destination.display());
    change(all, Change::propagation(propagation))?;
    change(true, options.recursive)?;
    change(false, options.top)?;
    // Whatever was asked for: the layers are shared by all containers of the image.
    change(true, Change::set(Attr::MOUNT_ATTR_RDONLY))?;
    Ok(Source::Tree { tree, directory, procfs: false, shared: None, follows: None })
}

/// A detached copy of what is at the volume's sub path, and whether that is a directory.
fn copy(root: &Root, volume: &ImageVolume, destination: &Path) -> Result<(OwnedFd, bool), Failure> {
    let sub_path = &volume.sub_path;
    let whole = sub_path.as_os_str().is_empty();
    let sought = if whole { Path::new(".") } else { sub_path.as_path() };
    let found = root.open(sought, OFlags::PATH).at(Step::Source, sub_path.display()).map_err(|failure| {
        let absent = matches!(failure.errno, Some(Errno::NOENT | Errno::NOTDIR));
        let why = if absent { "the image has no such path" } else { "cannot be reached in the image" };
        failure.explain(format!("of the image volume at {}: {why}", destination.display()))
    })?;
    let stat = fs::fstat(&found).at(Step::Source, sub_path.display())?;
    let directory = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => true,
        FileType::RegularFile => false,
        _ => {
            let why = "is neither a directory nor a file";
            return Err(Failure::because(Step::Source, sub_path.display(), why));
        }
    };
    Ok((mount::clone_fd(&found, false).at(Step::Source, sub_path.display())?, directory))
}

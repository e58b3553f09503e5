//! The overlay of image layers and writable layer, as a detached mount.

use std::{os::fd::OwnedFd, path::Path};

use husk_model::Rootfs;
use husk_sys::{
    mount,
    mount::{Attr, Change, Filesystem, Propagation},
    namespace,
};
use rustix::{
    fs::{Gid, Mode, OFlags, Uid},
    io::Errno,
    mount::{MountFlags, UnmountFlags, unmount},
    process::{chdir, fchdir},
    thread::UnshareFlags,
};

use super::options::CONTEXT;
use crate::{Failure, Step, UserNamespace, failure::At};

/// Most layers the kernel stacks (OVL_MAX_STACK).
const MAX_LAYERS: usize = 500;
/// Longest option string of mount(2), with its NUL.
const PAGE: usize = 4096;

/// Whatever the node's overlay module was told (`redirect_dir`, `metacopy`): a file of the writable layer is whole and under its
/// own name, or it could not be told as a layer of an image, and no layer names places in others.
const SELF_CONTAINED: [(&str, &str); 2] = [("redirect_dir", "nofollow"), ("metacopy", "off")];

/// What to stack.
struct Stack<'a> {
    base: &'a Path,
    lowers: &'a [String],
    /// Upper and work directory; without them the mount is read-only for good.
    writable: Option<(&'a Path, &'a Path)>,
    /// The upper layer outlives the boot.
    durable: bool,
    /// SELinux context of all files.
    label: Option<&'a str>,
}

/// Mounts the overlay of a container's root.
///
/// For a user namespace the layers are seen through one mount of their parent with the namespace's ids, however many
/// there are (Linux 5.19). The writable layer is not mapped but owned by the namespace's root: a setuid binary that a
/// container makes shall not be one of the node's root on the node's disk.
pub(crate) fn mount(
    rootfs: &Rootfs,
    user: Option<&UserNamespace>,
    label: Option<&str>,
) -> Result<OwnedFd, Failure> {
    let writable = Some((&*rootfs.upper, &*rootfs.work));
    stack(
        &Stack { base: &rootfs.base, lowers: &rootfs.lowers, writable, durable: rootfs.durable, label },
        user,
    )
}

/// Mounts layers alone, at least two, read-only. A layer may also be an absolute path.
pub(crate) fn mount_readonly(
    base: &Path,
    lowers: &[String],
    user: Option<&UserNamespace>,
    label: Option<&str>,
) -> Result<OwnedFd, Failure> {
    stack(&Stack { base, lowers, writable: None, durable: false, label }, user)
}

/// As [`mount`], for a container that does not run: what is written stays, and the next mount needs nothing of this one.
pub(crate) fn mount_lasting(rootfs: &Rootfs) -> Result<OwnedFd, Failure> {
    let writable = Some((&*rootfs.upper, &*rootfs.work));
    stack(&Stack { base: &rootfs.base, lowers: &rootfs.lowers, writable, durable: true, label: None }, None)
}

/// The lower directories are named relative to the working directory, which this changes: with full paths 30 layers would
/// not fit into the page of options that old kernels take.
fn stack(stack: &Stack<'_>, user: Option<&UserNamespace>) -> Result<OwnedFd, Failure> {
    let step = Step::Rootfs;
    if stack.lowers.is_empty() || stack.lowers.len() > MAX_LAYERS {
        let detail = format!("{} layers, 1 to {MAX_LAYERS} can be mounted", stack.lowers.len());
        return Err(Failure::because(step, "", detail));
    }
    // Layer names are ours, but a separator in one would mount something else.
    if let Some(bad) = stack.lowers.iter().find(|name| name.contains([':', ',', '\\', '\0'])) {
        return Err(Failure::because(step, bad, "a layer name contains a separator"));
    }
    if let Some(user) = user {
        return mapped(stack, user);
    }
    chdir(stack.base).at(step, stack.base.display())?;
    match layered(stack) {
        Ok(mount) => Ok(mount),
        Err(error) if lacks_appended_layers(&error) => classic(stack),
        Err(error) => Err(error).at(step, stack.shown().display()),
    }
}

fn mapped(stack: &Stack<'_>, user: &UserNamespace) -> Result<OwnedFd, Failure> {
    let step = Step::Rootfs;
    if let Some((upper, _)) = stack.writable {
        let (uid, gid) = user.root();
        rustix::fs::chown(upper, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .at(step, upper.display())?;
    }
    let layers = mount::clone_path(stack.base, false).at(step, stack.base.display())?;
    map_ids(&layers, stack.base, user)?;
    fchdir(&layers).at(step, stack.base.display())?;
    let overlay = match layered(stack) {
        Ok(overlay) => overlay,
        // Linux before 6.15 takes no layers from a mount that is attached nowhere.
        Err(error) if error.errno() == Errno::INVAL => attached(stack, &layers)?,
        Err(error) => return Err(error).at(step, stack.shown().display()),
    };
    // As on a filesystem of the namespace's own: a device in an image gives nothing.
    mount::change(&overlay, false, Change::set(Attr::MOUNT_ATTR_NODEV)).at(step, "nodev")?;
    Ok(overlay)
}

fn map_ids(tree: &OwnedFd, path: &Path, user: &UserNamespace) -> Result<(), Failure> {
    mount::map_ids(tree, false, &user.fd).at(Step::Rootfs, path.display()).map_err(|failure| {
        failure.explain("the filesystem of the images cannot be mapped to a user namespace")
    })
}

/// With the mapped layers on top of the others, in a throw-away copy of the mount namespace.
fn attached(stack: &Stack<'_>, layers: &OwnedFd) -> Result<OwnedFd, Failure> {
    let step = Step::Rootfs;
    private_mounts()?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let place = rustix::fs::open(stack.base, flags, Mode::empty()).at(step, stack.base.display())?;
    mount::attach(layers, &place).at(step, stack.base.display())?;
    fchdir(layers).at(step, stack.base.display())?;
    let overlay = match layered(stack) {
        Err(error) if lacks_appended_layers(&error) => classic(stack)?,
        other => other.at(step, stack.shown().display())?,
    };
    // The next stack maps the layers anew, which nobody can do with mapped ones.
    unmount(stack.base, UnmountFlags::DETACH).at(step, stack.base.display())?;
    Ok(overlay)
}

/// Linux before 6.8 has no "lowerdir+": 6.5 to 6.7 say so at once, older ones collect any option and fail when the
/// filesystem is made. What else is wrong with it then, mount(2) says again.
fn lacks_appended_layers(error: &husk_sys::Error) -> bool {
    error.errno() == Errno::INVAL
        && ["lowerdir+", "FSCONFIG_CMD_CREATE"].iter().any(|part| error.call().contains(part))
}

impl Stack<'_> {
    /// What tells it from others, for errors.
    fn shown(&self) -> &Path {
        self.writable.map_or(self.base, |(upper, _)| upper)
    }
}

fn layered(stack: &Stack<'_>) -> husk_sys::Result<OwnedFd> {
    let overlay = Filesystem::new("overlay")?;
    overlay.string("source", "overlay")?;
    if let Some(label) = stack.label {
        overlay.string(CONTEXT, label)?;
    }
    for lower in stack.lowers {
        overlay.string("lowerdir+", lower.as_str())?;
    }
    if let Some((upper, work)) = stack.writable {
        overlay.string("upperdir", upper)?.string("workdir", work)?;
        for (option, value) in SELF_CONTAINED {
            overlay.string(option, value)?;
        }
        if !stack.durable {
            // No syncs of an upper layer that does not outlive the boot: umount becomes 20 times faster.
            overlay.flag("volatile")?;
        }
    }
    overlay.mount(if stack.writable.is_some() { Attr::empty() } else { Attr::MOUNT_ATTR_RDONLY })
}

/// A copy of the mount namespace that nothing leaves.
fn private_mounts() -> Result<(), Failure> {
    let step = Step::Rootfs;
    namespace::unshare(UnshareFlags::NEWNS).at(step, "")?;
    // unshare keeps the working directory, in the copy of its mount.
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at(step, "/")?;
    mount::change(&root, true, Change::propagation(Propagation::Private)).at(step, "/")
}

/// With mount(2), which attaches at a path: in a throw-away copy of the mount namespace.
fn classic(stack: &Stack<'_>) -> Result<OwnedFd, Failure> {
    let step = Step::Rootfs;
    let shown = stack.shown();
    let mut data = format!("lowerdir={}", stack.lowers.join(":"));
    let mut flags = MountFlags::RDONLY;
    if let Some((upper, work)) = stack.writable {
        let volatile = if stack.durable { "" } else { ",volatile" };
        data.push_str(&format!(",upperdir={},workdir={}{volatile}", upper.display(), work.display()));
        for (option, value) in SELF_CONTAINED {
            data.push_str(&format!(",{option}={value}"));
        }
        flags = MountFlags::empty();
    }
    if let Some(label) = stack.label {
        // In quotes, since levels contain the separator of options.
        data.push_str(&format!(",{CONTEXT}=\"{label}\""));
    }
    if data.len() >= PAGE {
        let detail = format!(
            "the {} layers need {} bytes of mount options, this kernel takes {PAGE}",
            stack.lowers.len(),
            data.len()
        );
        return Err(Failure::because(step, shown.display(), detail));
    }
    private_mounts()?;
    let data = std::ffi::CString::new(data).map_err(|_| Failure::because(step, "", "NUL byte"))?;
    rustix::mount::mount("overlay", shown, "overlay", flags, data.as_c_str()).at(step, shown.display())?;
    let tree = mount::clone_path(shown, false).at(step, shown.display())?;
    // What else is mounted must find the directory below it again.
    unmount(shown, UnmountFlags::DETACH).at(step, shown.display())?;
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rootfs(lowers: Vec<String>) -> Rootfs {
        Rootfs {
            base: "/".into(),
            lowers,
            upper: "/nonexistent/upper".into(),
            work: "/nonexistent/work".into(),
            readonly: false,
            durable: false,
        }
    }

    fn of(rootfs: &Rootfs, writable: bool) -> Stack<'_> {
        let writable = writable.then_some((&*rootfs.upper, &*rootfs.work));
        Stack { base: &rootfs.base, lowers: &rootfs.lowers, writable, durable: rootfs.durable, label: None }
    }

    #[test]
    fn kernels_without_appended_layers_get_one_option_string() {
        if !rustix::process::geteuid().is_root() {
            husk_test_support::skip("root");
            return;
        }
        let dir = std::env::temp_dir().join(format!("husk-overlay-{}", std::process::id()));
        for name in ["layers/a", "layers/b", "upper", "work"] {
            std::fs::create_dir_all(dir.join(name)).unwrap();
        }
        std::fs::write(dir.join("layers/a/file"), "a").unwrap();
        std::fs::write(dir.join("layers/b/file"), "b").unwrap();
        let mut rootfs = rootfs(vec!["a".to_owned(), "b".to_owned()]);
        (rootfs.base, rootfs.upper, rootfs.work) = (dir.join("layers"), dir.join("upper"), dir.join("work"));
        // A thread of its own: what it does to its mount namespace and working directory ends with it.
        let (shown, long) = std::thread::spawn(move || {
            private_mounts().unwrap();
            chdir(&rootfs.base).unwrap();
            let shown = |mount: OwnedFd| {
                let flags = rustix::fs::OFlags::RDONLY;
                let file = rustix::fs::openat(&mount, "file", flags, rustix::fs::Mode::empty());
                std::io::read_to_string(std::fs::File::from(file.unwrap())).unwrap()
            };
            let alone = shown(classic(&of(&rootfs, false)).unwrap());
            let whole = shown(classic(&of(&rootfs, true)).unwrap());
            rootfs.lowers = vec!["x".repeat(100); 50];
            (alone + &whole, classic(&of(&rootfs, true)).unwrap_err())
        })
        .join()
        .unwrap();
        std::fs::remove_dir_all(dir).unwrap();
        assert_eq!(shown, "aa", "layers alone, and with a writable one");
        assert!(long.detail.contains("the 50 layers need"), "{long}");
    }

    /// A user namespace whose root is the node's, and who holds it.
    fn namespace_of_root() -> (UserNamespace, std::process::Child) {
        use husk_model::{IdMapping, IdMappings};
        let mut holder = std::process::Command::new("unshare")
            .args(["--user", "--map-root-user", "sh", "-c", "echo; exec sleep 60"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // The shell speaks once the maps are written.
        std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let fd = crate::nsfd::user_of(holder.id()).unwrap();
        let map = IdMapping { container_id: 0, host_id: 0, length: 1 };
        let mappings = IdMappings { uids: map, gids: map };
        (UserNamespace { fd, mappings: mappings.into(), owns_network: true }, holder)
    }

    #[test]
    fn layers_are_mapped_on_kernels_that_want_them_attached() {
        if !rustix::process::geteuid().is_root() {
            husk_test_support::skip("root");
            return;
        }
        let dir = std::env::temp_dir().join(format!("husk-mapped-overlay-{}", std::process::id()));
        for name in ["layers/a", "upper", "work"] {
            std::fs::create_dir_all(dir.join(name)).unwrap();
        }
        for (name, owner) in [("root", 0), ("other", 1000)] {
            std::fs::write(dir.join("layers/a").join(name), "").unwrap();
            std::os::unix::fs::chown(dir.join("layers/a").join(name), Some(owner), Some(owner)).unwrap();
        }
        let mut rootfs = rootfs(vec!["a".to_owned()]);
        (rootfs.base, rootfs.upper, rootfs.work) = (dir.join("layers"), dir.join("upper"), dir.join("work"));
        let (user, mut holder) = namespace_of_root();
        let owners = std::thread::spawn(move || {
            let layers = mount::clone_path(&*rootfs.base, false).unwrap();
            mount::map_ids(&layers, false, &user.fd).unwrap();
            let overlay = attached(&of(&rootfs, true), &layers).unwrap();
            ["root", "other"]
                .map(|name| rustix::fs::statat(&overlay, name, rustix::fs::AtFlags::empty()).unwrap().st_uid)
        })
        .join()
        .unwrap();
        holder.kill().and_then(|()| holder.wait()).unwrap();
        std::fs::remove_dir_all(dir).unwrap();
        assert_eq!(owners, [0, 65_534], "whom the namespace does not know is nobody");
    }

    #[test]
    fn layer_names_cannot_smuggle_options() {
        for name in ["a:b", "a,upperdir=/etc", "a\\:b"] {
            let failure = mount(&rootfs(vec![name.to_owned()]), None, None).unwrap_err();
            assert_eq!(failure.step, Step::Rootfs);
            assert!(failure.detail.contains("separator"), "{failure}");
        }
    }

    #[test]
    fn more_layers_than_the_kernel_stacks_are_refused() {
        let failure = mount(&rootfs(vec!["a".to_owned(); 501]), None, None).unwrap_err();
        assert!(failure.detail.contains("501 layers"), "{failure}");
    }
}

//! The overlay of image layers and writable layer, as a detached mount.

use std::os::fd::OwnedFd;

use husk_sys::{
    mount,
    mount::{Attr, Change, Filesystem, Propagation},
    namespace,
};
use rustix::{io::Errno, mount::MountFlags, process::chdir, thread::UnshareFlags};

use crate::{Failure, Rootfs, Step, failure::At};

/// Most layers the kernel stacks (OVL_MAX_STACK).
const MAX_LAYERS: usize = 500;
/// Longest option string of mount(2), with its NUL.
const PAGE: usize = 4096;

/// Mounts the overlay. The lower directories are named relative to the working directory, which this changes: with
/// full paths 30 layers would not fit into the page of options that old kernels take.
pub(crate) fn mount(rootfs: &Rootfs) -> Result<OwnedFd, Failure> {
    let step = Step::Rootfs;
    if rootfs.lowers.is_empty() || rootfs.lowers.len() > MAX_LAYERS {
        let detail = format!("{} layers, 1 to {MAX_LAYERS} can be mounted", rootfs.lowers.len());
        return Err(Failure::because(step, "", detail));
    }
    // Layer names are ours, but a separator in one would mount something else.
    if let Some(bad) = rootfs.lowers.iter().find(|name| name.contains([':', ',', '\\', '\0'])) {
        return Err(Failure::because(step, bad, "a layer name contains a separator"));
    }
    chdir(&rootfs.base).at(step, rootfs.base.display())?;
    match layered(rootfs) {
        Ok(mount) => Ok(mount),
        // Linux before 6.8 has no "lowerdir+".
        Err(error) if error.errno() == Errno::INVAL && error.call().contains("lowerdir+") => classic(rootfs),
        Err(error) => Err(error).at(step, rootfs.upper.display()),
    }
}

fn layered(rootfs: &Rootfs) -> husk_sys::Result<OwnedFd> {
    let overlay = Filesystem::new("overlay")?;
    overlay.string("source", "overlay")?;
    for lower in &rootfs.lowers {
        overlay.string("lowerdir+", lower.as_str())?;
    }
    overlay.string("upperdir", &*rootfs.upper)?.string("workdir", &*rootfs.work)?;
    // No syncs of the upper layer: a container's does not outlive the boot, and umount becomes 20 times faster.
    overlay.flag("volatile")?;
    overlay.mount(Attr::empty())
}

/// With mount(2), which attaches at a path: in a throw-away copy of the mount namespace.
fn classic(rootfs: &Rootfs) -> Result<OwnedFd, Failure> {
    let step = Step::Rootfs;
    let data = format!(
        "lowerdir={},upperdir={},workdir={},volatile",
        rootfs.lowers.join(":"),
        rootfs.upper.display(),
        rootfs.work.display()
    );
    if data.len() >= PAGE {
        let detail = format!(
            "the {} layers need {} bytes of mount options, this kernel takes {PAGE}",
            rootfs.lowers.len(),
            data.len()
        );
        return Err(Failure::because(step, rootfs.upper.display(), detail));
    }
    namespace::unshare(UnshareFlags::NEWNS).at(step, "")?;
    // unshare keeps the working directory, in the copy of its mount.
    let root = rustix::fs::open(
        "/",
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .at(step, "/")?;
    mount::change(&root, true, Change::propagation(Propagation::Private)).at(step, "/")?;
    let data = std::ffi::CString::new(data).map_err(|_| Failure::because(step, "", "NUL byte"))?;
    rustix::mount::mount("overlay", &rootfs.upper, "overlay", MountFlags::empty(), data.as_c_str())
        .at(step, rootfs.upper.display())?;
    mount::clone_path(&*rootfs.upper, false).at(step, rootfs.upper.display())
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
        }
    }

    #[test]
    fn kernels_without_appended_layers_get_one_option_string() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: root is needed");
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
            namespace::unshare(UnshareFlags::NEWNS).unwrap();
            chdir(&rootfs.base).unwrap();
            let mount = classic(&rootfs).unwrap();
            let file =
                rustix::fs::openat(&mount, "file", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty());
            let shown = std::io::read_to_string(std::fs::File::from(file.unwrap())).unwrap();
            rootfs.lowers = vec!["x".repeat(100); 50];
            (shown, classic(&rootfs).unwrap_err())
        })
        .join()
        .unwrap();
        std::fs::remove_dir_all(dir).unwrap();
        assert_eq!(shown, "a");
        assert!(long.detail.contains("the 50 layers need"), "{long}");
    }

    #[test]
    fn layer_names_cannot_smuggle_options() {
        for name in ["a:b", "a,upperdir=/etc", "a\\:b"] {
            let failure = mount(&rootfs(vec![name.to_owned()])).unwrap_err();
            assert_eq!(failure.step, Step::Rootfs);
            assert!(failure.detail.contains("separator"), "{failure}");
        }
    }

    #[test]
    fn more_layers_than_the_kernel_stacks_are_refused() {
        let failure = mount(&rootfs(vec!["a".to_owned(); 501])).unwrap_err();
        assert!(failure.detail.contains("501 layers"), "{failure}");
    }
}

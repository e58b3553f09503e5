//! The root of a container that does not run: its layers and its writable layer as a mount that is attached nowhere, for whoever takes
//! files out of it or puts some in.

use std::os::fd::OwnedFd;

use husk_model::Rootfs;
use husk_sys::{
    mount::{self, Attr, Change},
    namespace, tree,
};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    thread::UnshareFlags,
};

use super::overlay;
use crate::{Failure, Step, failure::At};

/// Mounts the root of a container whose own mount is gone: two mounts of one writable layer at once corrupt it. Without `writable`, nothing
/// of it can be changed, and any number may be open. The mount ends with the descriptor. In contrast to the rest of this crate it may be
/// called in a process of many threads: the work is done on one of its own, whose working directory is nobody else's.
///
/// Files of a container in a user namespace show the owners that they have on the disk.
///
/// # Errors
/// As the mount of a container's root at its start.
pub fn stopped_root(rootfs: &Rootfs, writable: bool) -> Result<OwnedFd, Failure> {
    let (step, shown) = (Step::Rootfs, rootfs.upper.display().to_string());
    let lost = |detail: &str| Failure::because(step, &*shown, detail.to_owned());
    std::thread::scope(|scope| {
        let work = || {
            namespace::unshare(UnshareFlags::FS).at(step, "")?;
            if writable { to_write(rootfs) } else { to_read(rootfs) }
        };
        let thread = std::thread::Builder::new().name("husk-root".into()).spawn_scoped(scope, work);
        match thread.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(mounted)) => mounted,
            Ok(Err(_)) => Err(lost("the thread that mounts it ended")),
            Err(error) => Err(lost(&format!("no thread to mount it: {error}"))),
        }
    })
}

/// With the writable layer as the topmost of those that are only read.
fn to_read(rootfs: &Rootfs) -> Result<OwnedFd, Failure> {
    let step = Step::Rootfs;
    if rootfs.lowers.is_empty() {
        // The kernel stacks two at least.
        let alone = mount::clone_path(&*rootfs.upper, false).at(step, rootfs.upper.display())?;
        let readonly = Change::set(Attr::MOUNT_ATTR_RDONLY);
        mount::change(&alone, false, readonly).at(step, rootfs.upper.display())?;
        return Ok(alone);
    }
    let upper = rootfs.upper.display().to_string();
    let lowers: Vec<String> = std::iter::once(upper).chain(rootfs.lowers.iter().cloned()).collect();
    overlay::mount_readonly(&rootfs.base, &lowers, None, None)
}

fn to_write(rootfs: &Rootfs) -> Result<OwnedFd, Failure> {
    let (step, shown) = (Step::Rootfs, rootfs.work.display());
    // The container's own mount did not sync what was written and left a mark of that, by which the kernel refuses any further one. It is
    // about a crash of the node, which ends the container's files with it or leaves them as they are.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let work = rustix::fs::open(&*rootfs.work, flags, Mode::empty()).at(step, &shown)?;
    match tree::remove(&work, c"work") {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno).at(step, &shown),
    }
    overlay::mount_lasting(rootfs)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read};

    use super::*;

    fn read(root: &OwnedFd, name: &str) -> Option<String> {
        let file = rustix::fs::openat(root, name, OFlags::RDONLY, Mode::empty()).ok()?;
        let mut text = String::new();
        fs::File::from(file).read_to_string(&mut text).unwrap();
        Some(text)
    }

    fn write(root: &OwnedFd, name: &str) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE;
        rustix::fs::openat(root, name, flags, Mode::from_raw_mode(0o644)).map(drop)
    }

    #[test]
    fn the_root_of_a_container_is_there_after_its_mount_again_and_again() {
        if !rustix::process::geteuid().is_root() {
            husk_test_support::skip("root");
            return;
        }
        let dir = std::env::temp_dir().join(format!("husk-stopped-{}", std::process::id()));
        for name in ["layers/a", "layers/b", "upper", "work"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        fs::write(dir.join("layers/b/low"), "low").unwrap();
        fs::write(dir.join("layers/b/gone"), "gone").unwrap();
        let rootfs = Rootfs {
            base: dir.join("layers"),
            lowers: vec!["a".to_owned(), "b".to_owned()],
            upper: dir.join("upper"),
            work: dir.join("work"),
            readonly: false,
            durable: true,
        };
        let before = fs::read_link("/proc/self/cwd").unwrap();
        // As the container has it, in a process of its own as it were.
        let own = rootfs.clone();
        std::thread::spawn(move || {
            namespace::unshare(UnshareFlags::FS).unwrap();
            let root = overlay::mount(&own, None, None).unwrap();
            write(&root, "new").unwrap();
            rustix::fs::unlinkat(&root, "gone", rustix::fs::AtFlags::empty()).unwrap();
        })
        .join()
        .unwrap();
        let root = stopped_root(&rootfs, false).unwrap();
        assert_eq!((read(&root, "low").as_deref(), read(&root, "new").as_deref()), (Some("low"), Some("")));
        assert_eq!(read(&root, "gone"), None);
        assert_eq!(write(&root, "more"), Err(Errno::ROFS));
        drop(root);
        for name in ["first", "second"] {
            let root = stopped_root(&rootfs, true).unwrap();
            write(&root, name).unwrap();
        }
        assert!(dir.join("upper/first").exists() && dir.join("upper/second").exists());
        let alone = Rootfs { lowers: Vec::new(), ..rootfs };
        let root = stopped_root(&alone, false).unwrap();
        assert_eq!((read(&root, "second").as_deref(), write(&root, "x")), (Some(""), Err(Errno::ROFS)));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(dir.to_str().unwrap()), "it shows on the node");
        assert_eq!(fs::read_link("/proc/self/cwd").unwrap(), before);
        drop(root);
        fs::remove_dir_all(&dir).unwrap();
    }
}

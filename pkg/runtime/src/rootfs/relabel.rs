//! Giving the files of a volume the container's SELinux context (`selinux_relabel` of a mount).
//!
//! Who writes to a volume may put symlinks into it, and change it while this runs (CVE-2021-43816 and its kin). So the walk
//! starts at the very tree that is about to be mounted, goes from descriptor to descriptor, follows no symlink, stays on
//! that mount, and labels what its descriptor shows.

use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use husk_sys::{
    procfs::Procfs,
    tree::{Entry, Step as Next, Walk},
};
use rustix::{
    fs::{self, FileType, Mode, OFlags, ResolveFlags, XattrFlags},
    io::Errno,
    process::fchdir,
};

use crate::{Failure, Step, failure::At};

/// Where the kernel keeps the context of a file.
pub(crate) const ATTRIBUTE: &str = "security.selinux";

/// Parts of the node that lose their own contexts with everything that relies on them (containers/selinux has this list).
const REFUSED: &[&str] = &[
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/etc/passwd",
    "/etc/pki",
    "/etc/shadow",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/lib64",
    "/usr/sbin",
    "/var",
    "/var/lib",
    "/var/log",
];

/// The context of a container's files, and which bind mounts get it.
#[derive(Debug, Default)]
pub(crate) struct Context<'plan> {
    /// None on a node without SELinux.
    pub(crate) label: Option<&'plan str>,
    /// Sources of bind mounts, as the spec has them.
    pub(crate) volumes: &'plan [PathBuf],
}

/// Labels everything in a tree, its root last: a root that has the label already vouches for an earlier walk's end.
/// The working directory is another afterwards.
pub(crate) fn tree(tree: BorrowedFd<'_>, label: &str) -> Result<(), Failure> {
    with_attribute(tree, ATTRIBUTE, label)
}

fn with_attribute(tree: BorrowedFd<'_>, attribute: &str, label: &str) -> Result<(), Failure> {
    let step = Step::Label;
    if let Some(path) = refused(tree).at(step, "volume")? {
        return Err(Failure::because(step, path, "this path of the node cannot be relabelled"));
    }
    let descriptors = Procfs::host()
        .and_then(|proc| proc.open_self("fd", OFlags::PATH | OFlags::DIRECTORY))
        .at(step, "/proc/self/fd")?;
    fchdir(&descriptors).at(step, "/proc/self/fd")?;
    let label = Label { attribute, value: label.as_bytes() };
    if !label.supported(tree).at(step, "volume")? {
        return Ok(());
    }
    let is_directory = |file: BorrowedFd<'_>| {
        fs::fstat(file).map(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    };
    if is_directory(tree).at(step, "volume")? {
        let mut walk = Walk::new(tree).at(step, "volume")?;
        let give = |entry: &Entry<'_>| {
            let shown = entry.name.to_string_lossy();
            let Some(file) = look(entry.directory, &entry.name).at(step, &shown)? else {
                return Ok(Next::Over);
            };
            label.give(file.as_fd()).at(step, &shown)?;
            // What is entered is what was labelled, whatever has the name by now.
            let enter = is_directory(file.as_fd()).at(step, &shown)?;
            Ok(if enter { Next::Into(file) } else { Next::Over })
        };
        walk.all(|entry| give(entry).map_err(Stopped::Here)).map_err(Stopped::failure)?;
        if walk.is_torn() {
            return Err(Failure::because(step, "volume", "its directories were moved meanwhile"));
        }
    }
    label.give(tree).at(step, "volume")
}

/// Why a walk ended early.
enum Stopped {
    /// At an entry.
    Here(Failure),
    /// Between two.
    Between(Errno),
}

impl From<Errno> for Stopped {
    fn from(errno: Errno) -> Self {
        Self::Between(errno)
    }
}

impl Stopped {
    fn failure(self) -> Failure {
        match self {
            Self::Here(failure) => failure,
            Self::Between(errno) => {
                Failure { errno: Some(errno), ..Failure::because(Step::Label, "volume", "") }
            }
        }
    }
}

/// Which of the paths that are never relabelled this is, by whatever path it was reached.
fn refused(tree: BorrowedFd<'_>) -> rustix::io::Result<Option<&'static str>> {
    let tree = fs::fstat(tree)?;
    let same = |path: &&&str| {
        fs::stat(**path).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (tree.st_dev, tree.st_ino))
    };
    Ok(REFUSED.iter().find(same).copied())
}

/// An entry itself, not what it points to. None when it is gone, or another filesystem is mounted there.
fn look(directory: BorrowedFd<'_>, name: &std::ffi::CStr) -> rustix::io::Result<Option<OwnedFd>> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match fs::openat2(directory, name, flags, Mode::empty(), resolve) {
        Ok(file) => Ok(Some(file)),
        Err(Errno::NOENT | Errno::XDEV) => Ok(None),
        Err(errno) => Err(errno),
    }
}

struct Label<'a> {
    attribute: &'a str,
    value: &'a [u8],
}

impl Label<'_> {
    /// Gives it to what is open at `file`, unless it has it. The working directory is that of our descriptors: a link in
    /// there leads to the open file, whatever it is (fsetxattr(2) wants it opened for reading, which sockets cannot be).
    fn give(&self, file: BorrowedFd<'_>) -> rustix::io::Result<()> {
        let link = file.as_raw_fd().to_string();
        let mut buffer = [0_u8; 512];
        if let Ok(length) = fs::getxattr(link.as_str(), self.attribute, &mut buffer[..])
            && buffer[..length].strip_suffix(b"\0").unwrap_or(&buffer[..length]) == self.value
        {
            return Ok(());
        }
        match fs::setxattr(link.as_str(), self.attribute, self.value, XattrFlags::empty()) {
            // Removed while this looked.
            Err(Errno::NOENT) => Ok(()),
            result => result,
        }
    }

    /// Whether the filesystem has labels of its own. Those that were mounted with one for all files, and network
    /// filesystems, have none.
    fn supported(&self, file: BorrowedFd<'_>) -> rustix::io::Result<bool> {
        let link = file.as_raw_fd().to_string();
        match fs::getxattr(link.as_str(), self.attribute, &mut [0_u8; 512][..]) {
            Err(Errno::OPNOTSUPP) => Ok(false),
            Ok(_) | Err(Errno::NODATA | Errno::RANGE) => Ok(true),
            Err(errno) => Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::symlink,
        path::{Path, PathBuf},
    };

    use husk_sys::{
        mount::{self, Attr, Change, Filesystem, Propagation},
        namespace,
    };
    use rustix::thread::UnshareFlags;

    use super::*;

    /// Stands in for [`ATTRIBUTE`], which a kernel without SELinux does not take: root may set it on files of any kind.
    const TRUSTED: &str = "trusted.husk_test";

    /// Runs `body` with a directory on a tmpfs of its own, by a thread whose mounts and working directory end with it.
    fn on_tmpfs(name: &str, body: impl FnOnce(PathBuf) + Send) {
        if !rustix::process::geteuid().is_root() {
            husk_test_support::skip("root");
            return;
        }
        let place = std::env::temp_dir().join(format!("husk-relabel-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&place).unwrap();
        let run = || {
            namespace::unshare(UnshareFlags::NEWNS).unwrap();
            let root = fs::open("/", OFlags::PATH, Mode::empty()).unwrap();
            mount::change(&root, true, Change::propagation(Propagation::Private)).unwrap();
            mount_tmpfs(&place);
            body(place.clone());
        };
        std::thread::scope(|scope| scope.spawn(run).join()).unwrap();
        std::fs::remove_dir(&place).unwrap();
    }

    fn mount_tmpfs(place: &Path) {
        let tmpfs = Filesystem::new("tmpfs").unwrap().mount(Attr::empty()).unwrap();
        mount::attach(&tmpfs, fs::open(place, OFlags::PATH, Mode::empty()).unwrap()).unwrap();
    }

    fn label(path: &Path) -> String {
        let mut buffer = [0_u8; 64];
        match fs::lgetxattr(path, TRUSTED, &mut buffer[..]) {
            Ok(length) => String::from_utf8_lossy(&buffer[..length]).into_owned(),
            Err(Errno::NODATA) => String::new(),
            Err(errno) => panic!("{}: {errno}", path.display()),
        }
    }

    fn relabel(path: &Path, label: &str) -> Result<(), Failure> {
        let tree = mount::clone_path(path, true).unwrap();
        with_attribute(tree.as_fd(), TRUSTED, label)
    }

    #[test]
    fn files_of_every_kind_get_the_label_and_what_links_point_to_does_not() {
        on_tmpfs("links", |dir| {
            let volume = dir.join("volume");
            for path in ["volume/a/b/c", "node/secrets"] {
                std::fs::create_dir_all(dir.join(path)).unwrap();
            }
            for path in ["volume/file", "volume/a/b/c/file", "node/shadow", "node/secrets/key"] {
                std::fs::write(dir.join(path), "x").unwrap();
            }
            fs::mknodat(fs::CWD, volume.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
            let _socket = std::os::unix::net::UnixListener::bind(volume.join("a/socket")).unwrap();
            symlink(dir.join("node/shadow"), volume.join("to-file")).unwrap();
            symlink("../node/secrets", volume.join("to-directory")).unwrap();
            symlink("../../../node", volume.join("a/b/up")).unwrap();

            relabel(&volume, "x:y:z:s0:c1,c2").unwrap();
            let labelled = [
                "",
                "a",
                "a/b",
                "a/b/c",
                "a/b/c/file",
                "file",
                "fifo",
                "a/socket",
                "to-file",
                "to-directory",
                "a/b/up",
            ];
            for path in labelled {
                assert_eq!(label(&volume.join(path)), "x:y:z:s0:c1,c2", "{path}");
            }
            for path in ["", "node", "node/shadow", "node/secrets", "node/secrets/key"] {
                assert_eq!(label(&dir.join(path)), "", "{path}");
            }
            relabel(&volume, "x:y:z:s0:c3,c4").unwrap();
            assert_eq!(label(&volume.join("a/b/c/file")), "x:y:z:s0:c3,c4");
        });
    }

    #[test]
    fn a_volume_deeper_than_any_path_is_labelled_to_its_end() {
        on_tmpfs("deep", |dir| {
            let volume = dir.join("volume");
            std::fs::create_dir(&volume).unwrap();
            let directory = OFlags::RDONLY | OFlags::DIRECTORY;
            let mut at = fs::open(&volume, directory, Mode::empty()).unwrap();
            for _ in 0..5000 {
                fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
                at = fs::openat(&at, "d", directory, Mode::empty()).unwrap();
            }
            relabel(&volume, "l").unwrap();
            let mut value = [0_u8; 8];
            assert_eq!(fs::fgetxattr(&at, TRUSTED, &mut value[..]), Ok(1));
        });
    }

    #[test]
    fn another_filesystem_below_a_volume_keeps_its_labels() {
        on_tmpfs("mounts", |dir| {
            let volume = dir.join("volume");
            let below = volume.join("below");
            std::fs::create_dir_all(&below).unwrap();
            mount_tmpfs(&below);
            std::fs::write(below.join("file"), "x").unwrap();
            relabel(&volume, "l").unwrap();
            assert_eq!(
                (label(&volume), label(&below), label(&below.join("file"))),
                ("l".into(), String::new(), String::new())
            );
        });
    }

    #[test]
    fn a_volume_may_be_a_single_file() {
        on_tmpfs("file", |dir| {
            std::fs::write(dir.join("file"), "x").unwrap();
            std::fs::write(dir.join("other"), "x").unwrap();
            relabel(&dir.join("file"), "l").unwrap();
            assert_eq!((label(&dir.join("file")), label(&dir.join("other"))), ("l".into(), String::new()));
        });
    }

    #[test]
    fn a_directory_that_is_swapped_for_a_link_meanwhile_leads_nowhere() {
        on_tmpfs("race", |dir| {
            let (volume, node) = (dir.join("volume"), dir.join("node"));
            for path in [&volume.join("swapped"), &node] {
                std::fs::create_dir_all(path).unwrap();
                std::fs::write(path.join("file"), "x").unwrap();
            }
            symlink(&node, volume.join("link")).unwrap();
            let over = std::sync::atomic::AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let (one, other) = (volume.join("swapped"), volume.join("link"));
                    while !over.load(std::sync::atomic::Ordering::Relaxed) {
                        fs::renameat_with(fs::CWD, &one, fs::CWD, &other, fs::RenameFlags::EXCHANGE).unwrap();
                    }
                });
                let outcome: Result<(), Failure> =
                    (0..500).try_for_each(|round| relabel(&volume, &format!("l{round}")));
                over.store(true, std::sync::atomic::Ordering::Relaxed);
                outcome.unwrap();
            });
            assert_eq!((label(&node), label(&node.join("file"))), (String::new(), String::new()));
        });
    }

    #[test]
    fn parts_of_the_node_are_refused_by_whatever_path() {
        on_tmpfs("refused", |dir| {
            symlink("/etc", dir.join("innocent")).unwrap();
            // A relabelling that is not refused must not reach the node that runs the test.
            let root = fs::open("/", OFlags::PATH, Mode::empty()).unwrap();
            mount::change(&root, true, Change::set(Attr::MOUNT_ATTR_RDONLY)).unwrap();
            for path in
                [Path::new("/"), Path::new("/etc"), Path::new("/usr/bin/../lib/.."), &dir.join("innocent")]
            {
                let failure = relabel(path, "l").unwrap_err();
                assert!(failure.to_string().contains("cannot be relabelled"), "{failure}");
            }
            assert_eq!(label(Path::new("/etc")), "");
        });
    }

    #[test]
    fn a_filesystem_without_labels_is_left_alone() {
        on_tmpfs("proc", |_| {
            let tree = mount::clone_path("/proc/self/fdinfo", false).unwrap();
            with_attribute(tree.as_fd(), TRUSTED, "l").unwrap();
        });
    }
}

//! Copies that follow the node: of volumes that take part in propagation, and of the root of a container that stands alone.
//!
//! A mount that comes on the node reaches a copy only while that is attached in a mount namespace. So between the moment in which a copy
//! is made and the one in which it is attached something can be missed. Each such copy is therefore attached at once, on a
//! *stage* (a tmpfs in the container's mount namespace, or one that becomes it), and moved from there to its destination in one step. Whether
//! something was missed is told by the node's mount table ([`Table`]), as it was before the copies were made and as it is once they
//! are attached: then they are made again, at most [`MAX_TRIES`] times.
//!
//! A user namespace has a second such moment: what it gets are copies of copies ([`super::locked`]), which are made and looked after in the
//! same way, by the mount table of the container's own namespace.

use std::{
    collections::{BTreeSet, HashSet},
    ffi::{OsStr, OsString},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Path, PathBuf},
};

use husk_sys::{mount, namespace, procfs::Procfs};
use rustix::{
    fs::{self, FileType, Mode, OFlags},
    mount::{UnmountFlags, unmount},
    process::{chroot, fchdir},
    thread::LinkNameSpaceType,
};

use super::supplies::{Followed, Supplies};
use crate::{Failure, Step, failure::At};

/// How often copies are made while the mounts that they are of change. A node on which that is not enough mounts something below one
/// volume in every millisecond.
const MAX_TRIES: usize = 16;

/// What was mounted at and below some paths when it was read.
#[derive(Debug, PartialEq, Eq)]
struct Table(BTreeSet<Vec<u8>>);

impl Table {
    /// Of the text of a mountinfo (proc_pid_mountinfo(5)): which mount is where, and of what. Options and peer groups may change.
    fn of(text: &[u8], paths: &HashSet<PathBuf>) -> Self {
        let below = |line: &&[u8]| {
            let Some(point) = line.split(|byte| *byte == b' ').nth(4) else { return false };
            let point = unescaped(point);
            // However many are followed: a mount has few directories above it.
            Path::new(OsStr::from_bytes(&point)).ancestors().any(|above| paths.contains(above))
        };
        let identity = |line: &[u8]| line.split(|byte| *byte == b' ').take(5).collect::<Vec<_>>().join(&b' ');
        Self(text.split(|byte| *byte == b'\n').filter(below).map(identity).collect())
    }

    fn read(file: &OwnedFd, paths: &HashSet<PathBuf>) -> Result<Self, Failure> {
        let (mut text, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            match rustix::io::pread(file, &mut buffer, text.len() as u64).at(Step::Source, "mountinfo")? {
                0 => return Ok(Self::of(&text, paths)),
                count => text.extend_from_slice(&buffer[..count]),
            }
        }
    }
}

/// The kernel writes blanks and the like as `\040`.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let (mut plain, mut rest) = (Vec::with_capacity(field.len()), field);
    while let Some((&byte, after)) = rest.split_first() {
        let octal = (byte == b'\\').then(|| after.get(..3)).flatten();
        let value = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        plain.push(value.unwrap_or(byte));
        rest = if value.is_some() { &after[3..] } else { after };
    }
    plain
}

/// A mount namespace with the root that we have in it.
#[derive(Debug)]
struct Place {
    namespace: OwnedFd,
    root: OwnedFd,
}

impl Place {
    fn here(proc: &Procfs) -> Result<Self, Failure> {
        let namespace = proc.namespace_of_self("mnt").at(Step::Namespaces, "mount")?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = fs::open("/", flags, Mode::empty()).at(Step::Namespaces, "/")?;
        Ok(Self { namespace, root })
    }

    fn enter(&self) -> Result<(), Failure> {
        let (step, object) = (Step::Namespaces, "mount");
        namespace::join_one(&self.namespace, LinkNameSpaceType::Mount).at(step, object)?;
        fchdir(&self.root).at(step, object)?;
        chroot(".").at(step, object)
    }
}

/// The node, seen from wherever we are.
#[derive(Debug)]
pub(crate) struct Follower {
    proc: Procfs,
    /// The node's mountinfo: a descriptor shows the namespace that it was opened in.
    table: OwnedFd,
    node: Place,
    paths: HashSet<PathBuf>,
    before: Table,
}

impl Follower {
    /// Looks at what is mounted at and below these paths of the node, before a copy of them is made. `None` where nothing is followed.
    pub(crate) fn of(paths: Vec<PathBuf>) -> Result<Option<Self>, Failure> {
        if paths.is_empty() {
            return Ok(None);
        }
        let proc = Procfs::host().at(Step::Source, "/proc")?;
        let table = proc.open_self("mountinfo", OFlags::RDONLY).at(Step::Source, "mountinfo")?;
        // As the table has them. What is not there fails where it is opened.
        let paths: HashSet<_> = paths.into_iter().filter_map(|path| path.canonicalize().ok()).collect();
        let (node, before) = (Place::here(&proc)?, Table::read(&table, &paths)?);
        Ok(Some(Self { proc, table, node, paths, before }))
    }

    /// The node's procfs.
    pub(crate) fn procfs(&self) -> &Procfs {
        &self.proc
    }

    /// Attaches those copies on `stage`, in a mount namespace of the node's privileges, and makes them again, by `again` in the node's
    /// own one, until none has missed anything.
    pub(crate) fn settle(
        &mut self,
        stage: &OwnedFd,
        supplies: &mut Supplies,
        again: &dyn Fn(Followed) -> Result<OwnedFd, Failure>,
    ) -> Result<(), Failure> {
        for (name, _, tree) in supplies.followed() {
            put_one(stage, &name, tree)?;
        }
        self.keep_up(stage, supplies, again)
    }

    /// As [`Self::settle`], of copies that are on the stage already.
    pub(crate) fn keep_up(
        &mut self,
        stage: &OwnedFd,
        supplies: &mut Supplies,
        again: &dyn Fn(Followed) -> Result<OwnedFd, Failure>,
    ) -> Result<(), Failure> {
        for _ in 0..MAX_TRIES {
            let now = Table::read(&self.table, &self.paths)?;
            if now == self.before {
                return Ok(());
            }
            self.before = now;
            let own = Place::here(&self.proc)?;
            self.node.enter()?;
            let copies: Result<Vec<_>, Failure> =
                supplies.followed().map(|(_, followed, _)| again(followed)).collect();
            own.enter()?;
            for ((name, _, tree), copy) in supplies.followed().zip(copies?) {
                *tree = copy;
                take_down(stage, &name)?;
                hang(stage, &name, tree)?;
            }
        }
        Err(restless(self.paths.iter().next().map_or(Path::new(""), PathBuf::as_path)))
    }
}

/// Makes a copy of what is attached at `name` on one stage, with all below it, and attaches it at that name on another one: both in the
/// caller's mount namespace, whose stages are at `path`.
pub(crate) fn take(proc: &Procfs, path: &Path, name: &str, stage: &OwnedFd) -> Result<OwnedFd, Failure> {
    let (step, source) = (Step::Source, path.join(name));
    let table = proc.open_self("mountinfo", OFlags::RDONLY).at(step, "mountinfo")?;
    let shown = HashSet::from([clean(&working_directory()?.join(&source))]);
    let mut before = Table::read(&table, &shown)?;
    for number in 0..MAX_TRIES {
        let copy = mount::clone_path(&*source, true).at(Step::Rootfs, source.display())?;
        if number == 0 {
            put_one(stage, name, &copy)?;
        } else {
            take_down(stage, name)?;
            hang(stage, name, &copy)?;
        }
        let now = Table::read(&table, &shown)?;
        if now == before {
            return Ok(copy);
        }
        before = now;
    }
    Err(restless(&source))
}

/// Without `.`, which a mount table does not have.
fn clean(path: &Path) -> PathBuf {
    path.components().collect()
}

/// Where we are, as a mount table has it.
pub(crate) fn working_directory() -> Result<PathBuf, Failure> {
    let path = rustix::process::getcwd(Vec::new()).at(Step::Rootfs, ".")?;
    Ok(PathBuf::from(OsString::from_vec(path.into_bytes())))
}

fn restless(path: &Path) -> Failure {
    let detail = "what is mounted below it changes faster than it can be copied: try again when that is over";
    Failure::because(Step::Source, path.display(), detail)
}

/// Attaches a tree at a new place of its own on a stage.
pub(crate) fn put_one(stage: &OwnedFd, name: &str, tree: &OwnedFd) -> Result<(), Failure> {
    let (step, mode) = (Step::Rootfs, Mode::from_raw_mode(0o700));
    let stat = fs::fstat(tree).at(step, name)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        fs::mkdirat(stage, name, mode).at(step, name)?;
    } else {
        fs::mknodat(stage, name, FileType::RegularFile, mode, 0).at(step, name)?;
    }
    hang(stage, name, tree)
}

fn hang(stage: &OwnedFd, name: &str, tree: &OwnedFd) -> Result<(), Failure> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = fs::openat(stage, name, flags, Mode::empty()).at(Step::Rootfs, name)?;
    mount::attach(tree.as_fd(), place).at(Step::Rootfs, name)
}

fn take_down(stage: &OwnedFd, name: &str) -> Result<(), Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let before = fs::open(".", flags, Mode::empty()).at(Step::Rootfs, ".")?;
    fchdir(stage).at(Step::Rootfs, name)?;
    let gone = unmount(name, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).at(Step::Rootfs, name);
    fchdir(&before).at(Step::Rootfs, ".")?;
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
        30 27 0:27 / /a\\040b rw,relatime shared:5 - tmpfs tmpfs rw\n\
        31 30 0:28 / /a\\040b/c rw,relatime shared:6 - tmpfs tmpfs rw\n\
        32 27 0:29 / /a\\040bc rw,relatime - tmpfs tmpfs rw\n";

    fn of(text: &str) -> Table {
        Table::of(text.as_bytes(), &HashSet::from(["/a b".into()]))
    }

    #[test]
    fn only_what_is_mounted_at_or_below_a_path_is_looked_at() {
        assert_eq!(of(TABLE).0.len(), 2);
        assert_eq!(of(TABLE), of(&TABLE.replace("/a\\040bc", "/d")));
        assert_ne!(of(TABLE), of(&TABLE.replace("31 30 0:28", "33 30 0:28")), "another one in its place");
        assert_ne!(of(TABLE), of(&TABLE.replace("/a\\040b/c", "/a\\040b/d")));
    }

    #[test]
    fn options_and_peer_groups_are_no_mounts() {
        assert_eq!(of(TABLE), of(&TABLE.replace("relatime shared:6", "noatime master:9")));
    }

    #[test]
    fn names_are_read_as_the_kernel_writes_them() {
        for (written, name) in
            [("a\\040b", "a b"), ("a\\134\\012", "a\\\n"), ("a\\", "a\\"), ("\\09x", "\\09x")]
        {
            assert_eq!(unescaped(written.as_bytes()), name.as_bytes());
        }
    }
}

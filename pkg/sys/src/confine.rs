//! Taking from one thread what it does not need: files by Landlock, capabilities, system calls by a filter.
//!
//! All three are the thread's own and cannot be taken back, so the thread must end when its work does: a thread of a pool
//! would carry them to somebody else's work. They hold against what the thread does by mistake: a path that leads elsewhere, a
//! device that is opened, a program that is run. They do not hold against foreign code in it, which could write into the
//! memory of the process's other threads.
//!
//! | part | since | without it |
//! | --- | --- | --- |
//! | Landlock, with renames and links between directories (`LANDLOCK_ACCESS_FS_REFER`) | 5.19 | left out |
//! | Landlock for truncation, TCP, devices' ioctls, abstract sockets and signals | 6.2, 6.7, 6.10, 6.12 | each left out |
//! | capabilities | always | |
//! | seccomp filter | 3.17 | left out |

use std::{io, os::fd::BorrowedFd};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use crate::seccomp;

/// The rights that are known here; an older kernel enforces those that it has.
const RIGHTS: ABI = ABI::V6;

/// What a thread keeps.
#[derive(Debug)]
pub struct Keep<'a> {
    /// Directories in and below which it may do everything but execute.
    pub trees: &'a [BorrowedFd<'a>],
    /// Files that it may read, write and truncate.
    pub files: &'a [BorrowedFd<'a>],
    /// Directories in and below which it may read.
    pub readable: &'a [BorrowedFd<'a>],
    /// Capabilities, as far as it has them.
    pub capabilities: CapabilitySet,
    /// A compiled seccomp filter and its flags.
    pub filter: (&'a [u8], u32),
}

/// What was put into force; the rest the kernel does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confined {
    /// Files, and with newer kernels sockets and signals.
    pub landlock: bool,
    /// System calls.
    pub filter: bool,
}

/// Takes everything but `keep` from the calling thread, for good. It can gain no privileges by execve(2) either.
///
/// # Errors
/// When the kernel has a part and refuses it. The thread is then confined by the parts before, and must end all the same.
pub fn this_thread(keep: &Keep<'_>) -> io::Result<Confined> {
    rustix::thread::set_no_new_privs(true)?;
    let landlock = restrict_files(keep).map_err(io::Error::other)?;
    let had = capabilities(None)?;
    let kept = CapabilitySets {
        effective: had.effective & keep.capabilities,
        permitted: had.permitted & keep.capabilities,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, kept)?;
    // The last: it forbids what the others are made of.
    let filter = seccomp::is_supported();
    if filter {
        seccomp::load(keep.filter.0, keep.filter.1)?;
    }
    Ok(Confined { landlock, filter })
}

fn restrict_files(keep: &Keep<'_>) -> Result<bool, landlock::RulesetError> {
    // Without REFER a kernel refuses all links and renames between directories, which is too much.
    let required = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let Ok(ruleset) = required.handle_access(AccessFs::Refer) else { return Ok(false) };
    let ruleset = ruleset
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(RIGHTS))?
        .handle_access(AccessNet::from_all(RIGHTS))?
        .scope(Scope::from_all(RIGHTS))?
        .create()?;
    let everything = AccessFs::from_all(RIGHTS) & !BitFlags::from(AccessFs::Execute);
    let of_files = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate;
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    let rules = [(keep.trees, everything), (keep.files, of_files), (keep.readable, reading)];
    let rules =
        rules.into_iter().flat_map(|(fds, rights)| fds.iter().map(move |fd| PathBeneath::new(*fd, rights)));
    let status = ruleset.add_rules(rules.map(Ok::<_, landlock::RulesetError>))?.restrict_self()?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::fd::AsFd, thread};

    use super::*;

    /// `SECCOMP_RET_ALLOW` for everything.
    const ALLOW: [u8; 8] = [0x06, 0, 0, 0, 0, 0, 0xff, 0x7f];

    #[test]
    fn a_confined_thread_reaches_its_trees_and_nothing_else_and_others_are_as_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["mine", "lent", "other"] {
            fs::create_dir(path(name)).unwrap();
            fs::write(path(name).join("file"), "x").unwrap();
        }
        let confined = thread::scope(|scope| {
            let work = || {
                let open = |name: &str| fs::File::open(path(name)).unwrap();
                let (mine, lent, file) = (open("mine"), open("lent"), open("other/file"));
                let keep = Keep {
                    trees: &[mine.as_fd()],
                    files: &[file.as_fd()],
                    readable: &[lent.as_fd()],
                    capabilities: CapabilitySet::CHOWN,
                    filter: (&ALLOW, 0),
                };
                let confined = this_thread(&keep).unwrap();
                assert!((capabilities(None).unwrap().effective & !CapabilitySet::CHOWN).is_empty());
                if !confined.landlock {
                    return confined;
                }
                let denied = |result: io::Result<()>| {
                    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
                };
                fs::create_dir(path("mine/below")).unwrap();
                fs::rename(path("mine/file"), path("mine/below/file")).unwrap();
                fs::write(path("other/file"), "y").unwrap();
                assert_eq!(fs::read(path("lent/file")).unwrap(), b"x");
                denied(fs::write(path("lent/file"), "z"));
                denied(fs::write(path("lent/new"), "z"));
                denied(fs::remove_file(path("other/file")));
                fs::hard_link(path("lent/file"), path("mine/stolen")).expect_err("a link gives more rights");
                denied(fs::read("/etc/passwd").map(drop));
                confined
            };
            scope.spawn(work).join().unwrap()
        });
        if !confined.landlock {
            husk_test_support::skip("Landlock of Linux 5.19");
        }
        assert!(fs::read("/etc/passwd").is_ok(), "another thread is confined too");
    }
}

//! What the thread that unpacks a layer keeps: the layer's own directories, and the system calls that fill them.
//!
//! The unpacker resolves names by descriptor and is written so that nothing leaves the layer. This is for the day when it does
//! all the same: a name that leads elsewhere, a device node that is opened, end in EACCES instead of in a file of the node.
//! Decision 16 says what it contains and what not.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::Path,
    sync::LazyLock,
};

use husk_seccomp::{Context, Program};
use husk_sys::confine::{Confined, Keep, this_thread};
use rustix::thread::CapabilitySet;

use crate::unpack::{Destination, UnpackError};

/// Owners, modes, set-id bits, device nodes, file capabilities; SYS_ADMIN is for `trusted.` attributes, and what else it allows
/// (mounts, namespaces) the filter does not.
const CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SYS_ADMIN);

/// Files through descriptors, memory, waiting, and the end. No socket, process, mount, namespace, signal to others, key, or
/// descriptor by handle.
static FILTER: LazyLock<Result<Program, husk_seccomp::Error>> = LazyLock::new(|| {
    let profile = husk_seccomp::parse(include_bytes!("confine.json"), &Context::new(["SYS_ADMIN"]))?;
    husk_seccomp::compile(&profile)
});

/// Confines the calling thread, which must end after its layer. Makes the record's file and the directory for what is set
/// aside, because it could not be allowed to make just these.
pub(crate) fn to_layer(destination: &Destination) -> Result<Confined, UnpackError> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |source| UnpackError::Io { step: "confine the thread that unpacks into", path, source }
    };
    let Destination { root, aside, record } = destination;
    let filter = FILTER.as_ref().map_err(|error| failed(root)(io::Error::other(error.to_string())))?;
    if let Err(error) = fs::create_dir(aside)
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(failed(aside)(error));
    }
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(record);
    let file = file.map_err(failed(record))?;
    let open = |path: &Path| File::open(path).map_err(failed(path));
    // Layers below may be read: names resolve in what all of an image's layers make up. So may what members of other layers
    // replaced: a layer that is unpacked once more comes from its own files.
    let (tree, kept, layers) = (open(root)?, open(aside)?, open(root.parent().unwrap_or(root))?);
    let replaced = open(aside.parent().unwrap_or(aside))?;
    this_thread(&Keep {
        trees: &[tree.as_fd(), kept.as_fd()],
        files: &[file.as_fd()],
        readable: &[layers.as_fd(), replaced.as_fd()],
        capabilities: CAPABILITIES,
        filter: (filter.bytes(), filter.flags()),
    })
    .map_err(failed(root))
}

/// Confines the calling thread, which must end after its work, to what is in and below `root`.
pub(crate) fn to_root(root: impl AsFd) -> io::Result<Confined> {
    let filter = FILTER.as_ref().map_err(|error| io::Error::other(error.to_string()))?;
    this_thread(&Keep {
        trees: &[root.as_fd()],
        files: &[],
        readable: &[],
        capabilities: CAPABILITIES,
        filter: (filter.bytes(), filter.flags()),
    })
}

#[cfg(test)]
mod tests {
    use std::{net::TcpStream, os::unix::net::UnixStream, path::PathBuf, process::Command};

    use super::*;
    use crate::{
        pipeline::{Expected, Source, run},
        stop::Stop,
        unpack::limits::{Budget, Meter},
    };

    fn destination(dir: &Path) -> Destination {
        for name in ["layers/1", "layers/0", "aside", "records"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        let of = |name: &str| -> PathBuf { dir.join(name).join("1") };
        Destination { root: of("layers"), aside: of("aside"), record: of("records") }
    }

    #[test]
    fn the_thread_of_a_layer_opens_no_file_of_the_node_connects_nowhere_and_runs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let destination = destination(dir.path());
        fs::write(dir.path().join("layers/0/lower"), "lower").unwrap();
        fs::write(dir.path().join("secret"), "s").unwrap();
        let work = || {
            let confined = to_layer(&destination).unwrap();
            fs::write(destination.root.join("file"), "x").unwrap();
            fs::rename(destination.root.join("file"), destination.aside.join("0")).unwrap();
            fs::write(&destination.record, "r").unwrap();
            assert_eq!(fs::read(dir.path().join("layers/0/lower")).unwrap(), b"lower");
            if confined.landlock {
                fs::read("/etc/passwd").expect_err("a file of the node can be read");
                fs::read(dir.path().join("secret")).expect_err("a file beside the layer can be read");
                fs::write(dir.path().join("layers/0/lower"), "y").expect_err("another layer can be written");
                fs::write(dir.path().join("records/0"), "y").expect_err("another record can be made");
            }
            if confined.filter {
                TcpStream::connect("127.0.0.1:1")
                    .map_err(|error| assert_eq!(error.raw_os_error(), Some(1)))
                    .ok();
                let socket = UnixStream::pair().expect_err("a socket can be made");
                assert_eq!(socket.raw_os_error(), Some(1));
                Command::new("/bin/true").status().expect_err("a program can be run");
                std::thread::Builder::new().spawn(|| ()).expect_err("a thread can be made");
                rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::URG)
                    .expect_err("a signal can be sent");
                let unmounted = rustix::mount::unmount("/nonexistent", rustix::mount::UnmountFlags::empty());
                assert_eq!(unmounted, Err(rustix::io::Errno::PERM), "mounts can be changed");
            }
            confined
        };
        let confined = std::thread::scope(|scope| scope.spawn(work).join().unwrap());
        if !confined.landlock {
            husk_test_support::skip("Landlock of Linux 5.19");
        }
        if !confined.filter {
            husk_test_support::skip("seccomp");
        }
        assert_eq!(fs::read(dir.path().join("secret")).unwrap(), b"s");
    }

    /// What `/proc` says of the thread `name` of this process, if there is one.
    fn status_of(name: &str) -> Option<String> {
        let tasks = fs::read_dir("/proc/self/task").unwrap().flatten().map(|task| task.path());
        let named =
            |task: &PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name);
        tasks.filter(named).find_map(|task| fs::read_to_string(task.join("status")).ok())
    }

    #[test]
    fn a_layer_is_unpacked_by_a_confined_thread() {
        let dir = tempfile::tempdir().unwrap();
        let destination = destination(dir.path());
        let digest = husk_model::Digest::from_sha256(&[0; 32]);
        let expected = Expected { blob: None, size: None, diff_id: Some(crate::DiffId::new(digest)) };
        // No byte comes, so the thread waits in the reader, confined.
        let (bytes, nothing) = tokio::sync::mpsc::channel(1);
        let meter = || Meter::new(&Budget::default());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                run(
                    Source::Channel(nothing, Box::new(|_| ())),
                    &expected,
                    &destination,
                    meter(),
                    &Stop::default(),
                )
            });
            let confined = |status: &str| {
                let field =
                    |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                let capabilities = u64::from_str_radix(field("CapEff:")?, 16).ok()?;
                let allowed = capabilities & !CAPABILITIES.bits() == 0;
                (field("NoNewPrivs:")? == "1" && field("Seccomp:")? == "2" && allowed).then_some(())
            };
            husk_test_support::eventually(
                "the thread is confined",
                std::time::Duration::from_secs(20),
                || status_of("husk-unpack").as_deref().and_then(confined),
            );
            drop(bytes);
        });
    }
}

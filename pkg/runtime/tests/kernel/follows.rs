//! Copies that follow the node: what is mounted while a container is on its way. A filesystem whose answers are held back
//! keeps the moment open.

use std::{
    fs::{self, File},
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use husk_model::{ResolvedUser, Stdio, Streams};
use husk_runtime::{
    Identity, PidNs, Report, StandaloneNamespaces, StandalonePlan, UserNamespace, Whose, make_user_namespace,
    spawn_standalone,
};
use husk_sys::{
    clone::{self, Cloned},
    mount::{self, Attr, Filesystem, Propagation},
    pidfd,
};
use husk_test_support::fuse::{self, Asked};
use rustix::{
    mount::{UnmountFlags, unmount},
    process::Signal,
};
use serde_json::json;

use crate::{
    cases,
    mounts::{mount_tmpfs, open, volume},
    world::{Pod, World, default_spec, mappings, pipe, read_all},
};

cases![
    a_volume_misses_no_mount_while_it_is_on_its_way,
    a_volume_misses_no_mount_on_its_way_into_a_user_namespace,
    a_container_that_stands_alone_misses_no_mount_in_its_root_and_volumes,
];

/// A filesystem that holds one answer back.
struct Held {
    path: PathBuf,
    asked: OwnedFd,
    release: OwnedFd,
    server: Cloned,
}

impl Held {
    /// Holds the answer of this number and kind. `None` where there is no FUSE.
    fn new(world: &World, held: Asked, number: usize) -> Option<Self> {
        let device = File::options().read(true).write(true).open("/dev/fuse");
        let Ok(device) = device else {
            husk_test_support::skip("FUSE");
            return None;
        };
        let path = world.scratch("held");
        let filesystem = Filesystem::new("fuse").unwrap();
        filesystem.string("fd", device.as_raw_fd().to_string().as_str()).unwrap();
        for (key, value) in fuse::OPTIONS {
            filesystem.string(key, *value).unwrap();
        }
        let filesystem = filesystem.flag("allow_other").unwrap().mount(Attr::empty()).unwrap();
        mount::attach(&filesystem, open(&path)).unwrap();
        let ((asked, asks), (released, release)) = (pipe(), pipe());
        let server = clone::clone(clone::CloneOptions::default(), |_| {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
            let mut asked = 0;
            let _ = fuse::serve(&device, |what| {
                asked += usize::from(what == held);
                if what == held && asked == number {
                    rustix::io::write(&asks, &[0]).unwrap();
                    rustix::io::read(&released, &mut [0]).unwrap();
                }
            });
            clone::exit(0)
        })
        .unwrap();
        Some(Self { path, asked, release, server })
    }

    /// Does something while the answer is waited for.
    fn meanwhile(&self, work: impl FnOnce()) {
        assert_eq!(rustix::io::read(&self.asked, &mut [0]), Ok(1), "somebody asks");
        work();
        rustix::io::write(&self.release, &[0]).unwrap();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        pidfd::signal(&self.server.pidfd, Signal::KILL).unwrap();
        let _ = pidfd::reap(&self.server.pidfd);
        unmount(&self.path, UnmountFlags::DETACH).unwrap();
    }
}

/// Mounts something with a file in it.
fn mount_late(at: &Path) {
    mount_tmpfs(at);
    fs::write(at.join("file"), "").unwrap();
}

/// What a container sees in its volume, after something happened at the moment in which the first answer of a kind is waited for. Its
/// volume comes before or behind what asks for attributes or a name.
fn seen(
    world: &World,
    (pod, pid): (&Pod, PidNs),
    volume: &Path,
    held: Asked,
    work: impl FnOnce(),
) -> Option<String> {
    let slow = Held::new(world, held, 1)?;
    let mut container = world.container(pod, &["ls", "/mnt/late"]);
    // Then no successor takes over, which would wait for us to hear of it.
    container.pid = pid;
    if held == Asked::Name {
        container = container.mount("bind", &slow.path, "/f", &["rbind", "rprivate"]);
        container = container.mount("tmpfs", "tmpfs", "/f/x", &[]);
    }
    container = container.mount("bind", volume, "/mnt", &["rbind", "rslave"]);
    if held == Asked::Attributes {
        container = container.mount("bind", &slow.path, "/f", &["rbind", "rprivate"]);
    }
    let running =
        container.create_and(|_| slow.meanwhile(work)).unwrap_or_else(|failure| panic!("{failure}"));
    Some(running.start().finish().stdout)
}

fn a_volume_misses_no_mount_while_it_is_on_its_way(world: &World) {
    let volume = volume(world, Propagation::Shared);
    let pod = world.pod();
    for held in [Asked::Attributes, Asked::Name] {
        let late = volume.join("late");
        let Some(seen) = seen(world, (&pod, PidNs::Own), &volume, held, || mount_late(&late)) else { return };
        assert_eq!(seen, "file\n", "{held:?}");
        unmount(&late, UnmountFlags::DETACH).unwrap();
    }
}

fn a_volume_misses_no_mount_on_its_way_into_a_user_namespace(world: &World) {
    let volume = volume(world, Propagation::Shared);
    let pod = world.mapped_pod(200_000);
    for held in [Asked::Attributes, Asked::Name] {
        let late = volume.join("late");
        let Some(seen) = seen(world, (&pod, PidNs::Pod), &volume, held, || mount_late(&late)) else { return };
        assert_eq!(seen, "file\n", "{held:?}");
        unmount(&late, UnmountFlags::DETACH).unwrap();
    }
}

fn a_container_that_stands_alone_misses_no_mount_in_its_root_and_volumes(world: &World) {
    let shared = volume(world, Propagation::Shared);
    let (root, volume) = (shared.join("root"), shared.join("volume"));
    for name in ["bin", "dev", "proc", "sys", "data", "mnt", "f"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::create_dir_all(&volume).unwrap();
    fs::copy(world.dir.join("layers/base/bin/busybox"), root.join("bin/busybox")).unwrap();
    // The third time is where its copies are taken into a user namespace.
    for (user, number) in [(false, 1), (true, 1), (true, 3)] {
        let Some(slow) = Held::new(world, Asked::Attributes, number) else { return };
        let (stdout, child_stdout) = pipe();
        let (waits, start) = pipe();
        let mut spec = default_spec(&["/bin/busybox", "ls", "/mnt/late", "/data"]);
        spec["mounts"].as_array_mut().unwrap().extend([
            json!({"destination": "/mnt", "type": "bind", "source": volume, "options": ["rbind", "rslave"]}),
            json!({"destination": "/f", "type": "bind", "source": slow.path, "options": ["rbind", "rslave"]}),
        ]);
        let user = user.then(|| UserNamespace {
            fd: make_user_namespace(&mappings(200_000).into()).unwrap(),
            mappings: mappings(200_000).into(),
            owns_network: false,
        });
        let plan = StandalonePlan {
            spec: serde_json::from_value(spec).unwrap(),
            root: open(&root),
            readonly: false,
            pivot: true,
            namespaces: StandaloneNamespaces {
                pid: Whose::Own,
                ipc: Whose::Own,
                user,
                ..StandaloneNamespaces::default()
            },
            identity: Identity::Ids(ResolvedUser::default()),
            seccomp: None,
            memory: None,
            cgroup: Default::default(),
            stdio: Stdio::Pipes(Streams { stdin: None, stdout: Some(child_stdout), stderr: None }),
            inherited: 0,
            new_keyring: false,
            prepared: false,
            start: waits,
            create_hooks: Vec::new(),
            start_hooks: Vec::new(),
            state: Vec::new(),
        };
        let mut child = spawn_standalone(plan).unwrap();
        slow.meanwhile(|| [volume.join("late"), root.join("data")].iter().for_each(|late| mount_late(late)));
        match child.await_report().unwrap() {
            Report::Ready(_) => child.open_gate().unwrap(),
            other => panic!("{other:?}"),
        }
        rustix::io::write(&start, &[0]).unwrap();
        assert_eq!(read_all(stdout), "/data:\nfile\n\n/mnt/late:\nfile\n");
        pidfd::reap(&child.pidfd).unwrap();
        for late in [volume.join("late"), root.join("data")] {
            unmount(&late, UnmountFlags::DETACH).unwrap();
        }
    }
}

//! Writes and mounts that an image or another container tries to redirect (CVE-2019-16884, CVE-2025-52881, CVE-2021-30465 and
//! their kin), with an attacker at work where it is a race.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use husk_runtime::{NetNs, Step};
use husk_sys::{
    clone::{self, CloneOptions, Cloned},
    mount::{self, Filesystem},
    pidfd,
};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;

use crate::{
    cases,
    world::{Pod, World},
};

cases![
    a_false_sys_in_the_image_is_refused,
    a_sysctl_is_written_past_what_lies_over_proc,
    labels_are_not_written_into_a_false_attr,
    a_volume_target_that_is_swapped_all_the_time_stays_inside_the_root,
    a_working_directory_that_is_swapped_all_the_time_stays_inside_the_root,
];

fn a_false_sys_in_the_image_is_refused(world: &World) {
    for pod in [world.pod(), world.mapped_pod(500_000)] {
        for to in ["/tmp", "tmp", "/proc/self", "/nonexistent"] {
            let mut container = world.container(&pod, &["true"]);
            let layer = world.scratch("false-sys").join(to.replace('/', "_"));
            fs::create_dir_all(&layer).unwrap();
            let _ = symlink(to, layer.join("sys"));
            container.rootfs.base = world.dir.clone();
            let layer = layer.strip_prefix(&world.dir).unwrap().to_str().unwrap().to_owned();
            container.rootfs.lowers = vec![layer, "layers/top".to_owned(), "layers/base".to_owned()];
            let Err(failure) = container.create() else { panic!("{to}: taken") };
            assert_eq!(failure.step, Step::Mount, "{to}: {failure}");
        }
    }
}

/// Lays something of the node on a path of /proc, in this case's mount namespace. What is written through the path ends there.
fn cover(path: &str, with: &Path) {
    let tree = mount::clone_path(with, false).unwrap();
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let target = rustix::fs::open(path, flags, rustix::fs::Mode::empty()).unwrap();
    mount::attach(tree, target).unwrap();
}

fn a_sysctl_is_written_past_what_lies_over_proc(world: &World) {
    // A whole directory: what lies over a single file below /proc/sys/net is seen in one network namespace alone.
    let false_sys = world.scratch("sysctl");
    let decoy = false_sys.join("net/ipv4/ip_unprivileged_port_start");
    fs::create_dir_all(decoy.parent().unwrap()).unwrap();
    fs::write(&decoy, "untouched").unwrap();
    cover("/proc/sys", &false_sys);
    let mut plan = world.sandbox_plan();
    plan.namespaces.net = NetNs::New;
    plan.sysctls = vec![(husk_model::Sysctl::unprivileged_port_start(), "77".to_owned())];
    let pod = Pod::start(plan).unwrap();
    let shown = world.container(&pod, &["cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"]).run();
    assert_eq!(shown.stdout, "77\n", "{shown:?}");
    assert_eq!(fs::read_to_string(&decoy).unwrap(), "untouched");
}

/// A /proc that is no procfs, or one with something over `attr`, gets no label written: the container would run unconfined.
fn labels_are_not_written_into_a_false_attr(world: &World) {
    let pod = world.pod();
    let labelled = || {
        world.container(&pod, &["true"]).set(&["process", "selinuxLabel"], json!("system_u:system_r:x_t:s0"))
    };
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let proc = rustix::fs::open("/proc", flags, rustix::fs::Mode::empty()).unwrap();
    let tmpfs = Filesystem::new("tmpfs").unwrap().mount(mount::Attr::empty()).unwrap();
    // With as many links as that of a process with one thread has, which is looked at before it is cloned.
    for dir in ["self", "self/attr", "self/task", "self/task/1"] {
        let dir = format!("/proc/self/fd/{}/{dir}", std::os::fd::AsRawFd::as_raw_fd(&tmpfs));
        fs::create_dir(dir).unwrap();
    }
    let decoy = format!("/proc/self/fd/{}/self/attr/exec", std::os::fd::AsRawFd::as_raw_fd(&tmpfs));
    fs::write(&decoy, "untouched").unwrap();
    let decoy = fs::File::open(&decoy).unwrap();
    let container = labelled();
    mount::attach(&tmpfs, &proc).unwrap();
    let failure = container.create().err().expect("a label was written into a file");
    rustix::mount::unmount("/proc", rustix::mount::UnmountFlags::DETACH).unwrap();
    assert_eq!(failure.step, Step::Label, "{failure}");
    assert_eq!(std::io::read_to_string(decoy).unwrap(), "untouched");
}

/// Swaps two names for ever, in a process of its own.
struct Swapper(Cloned);

impl Swapper {
    fn start(one: PathBuf, other: PathBuf) -> Self {
        let swap = move |_| loop {
            renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
        };
        Self(clone::clone(CloneOptions::default(), swap).unwrap())
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        pidfd::signal(&self.0.pidfd, rustix::process::Signal::KILL).unwrap();
        pidfd::reap(&self.0.pidfd).unwrap();
    }
}

/// A volume that another container has as well, in which it swaps a directory for a link that leads out of the root: to a
/// directory of the node, and to the pod's /dev/shm, which lies beside the root while that is being furnished.
struct Swapped {
    shared: PathBuf,
    victim: PathBuf,
    _swapper: Swapper,
}

impl Swapped {
    fn all(world: &World, pod: &Pod) -> impl Iterator<Item = Self> {
        let node = world.scratch("victim");
        let shm = PathBuf::from(format!("/proc/{}/root/shm", pod.pause.pid));
        let base = world.scratch("swapped");
        [("node", node.clone(), node), ("pod", PathBuf::from("/shm"), shm)].into_iter().map(
            move |(name, leads_to, victim)| {
                let shared = base.join(name);
                fs::create_dir_all(shared.join("target")).unwrap();
                let climb = "../".repeat(20);
                symlink(format!("{climb}{}", leads_to.display()), shared.join("link")).unwrap();
                let swapper = Swapper::start(shared.join("target"), shared.join("link"));
                Self { shared, victim, _swapper: swapper }
            },
        )
    }

    fn assert_untouched(&self) {
        assert_eq!(fs::read_dir(&self.victim).unwrap().count(), 0, "made in {}", self.victim.display());
    }
}

fn a_volume_target_that_is_swapped_all_the_time_stays_inside_the_root(world: &World) {
    let pod = world.pod();
    let inner = world.scratch("inner");
    fs::write(inner.join("inner"), "").unwrap();
    let mounted = crate::world::MountTable::now();
    for swapped in Swapped::all(world, &pod) {
        for _ in 0..60 {
            let container = world
                .container(&pod, &["true"])
                .mount("bind", &swapped.shared, "/shared", &["rbind", "rw"])
                .mount("bind", &inner, "/shared/target/deep/er", &["rbind", "rw"]);
            // Either is right: it was made inside, or the race was noticed.
            if let Ok(running) = container.create() {
                running.kill();
            }
            swapped.assert_untouched();
        }
    }
    mounted.assert_nothing_new();
}

fn a_working_directory_that_is_swapped_all_the_time_stays_inside_the_root(world: &World) {
    let pod = world.pod();
    for swapped in Swapped::all(world, &pod) {
        for _ in 0..40 {
            let container = world
                .container(&pod, &["touch", "here"])
                .set(&["process", "cwd"], json!("/shared/target/work"))
                .mount("bind", &swapped.shared, "/shared", &["rbind", "rw"]);
            if let Ok(mut running) = container.create()
                && running.try_start().is_ok()
            {
                running.finish();
            }
            swapped.assert_untouched();
        }
    }
}

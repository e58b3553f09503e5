//! Children that fail or die: each failure names its step, and nothing is left behind.

use std::{collections::BTreeSet, os::fd::OwnedFd, path::PathBuf};

use husk_runtime::{Report, Step, spawn_sandbox};
use husk_sys::pidfd::{self, Exit};
use rustix::process::Signal;
use serde_json::json;

use crate::{
    cases,
    world::{MountTable, Pod, World, mappings, report},
};

cases![
    each_failure_names_its_step_and_object,
    a_plan_that_cannot_be_is_refused_before_anything_is_cloned,
    a_child_killed_at_sixty_moments_leaves_nothing,
    a_child_killed_at_the_gate_is_an_exit_and_its_rootfs_is_free,
    a_sandbox_that_fails_leaves_nothing,
    a_pod_that_ended_takes_no_containers,
    the_descriptors_of_the_plan_are_closed_in_the_parent,
];

fn descriptors() -> BTreeSet<PathBuf> {
    let list = || std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    list().filter(|path| std::fs::read_link(path).is_ok_and(|link| !link.starts_with("/proc"))).collect()
}

/// Everything a child could leave: children, descriptors, mounts.
struct Traces {
    children: String,
    descriptors: BTreeSet<PathBuf>,
    mounts: MountTable,
}

impl Traces {
    fn now() -> Self {
        let children = std::fs::read_to_string("/proc/thread-self/children").unwrap();
        Self { children, descriptors: descriptors(), mounts: MountTable::now() }
    }

    fn assert_unchanged(&self, after: &str) {
        let now = Self::now();
        assert_eq!(
            (now.children, now.descriptors),
            (self.children.clone(), self.descriptors.clone()),
            "{after}"
        );
        self.mounts.assert_nothing_new();
    }
}

fn each_failure_names_its_step_and_object(world: &World) {
    let pod = world.pod();
    let before = Traces::now();
    let container = || world.container(&pod, &["true"]);
    let check = |container: crate::world::Container<'_>, step: Step, object: &str| {
        let failure = match container.create() {
            Err(failure) => failure,
            Ok(mut running) => running.try_start().expect_err(object),
        };
        assert_eq!(failure.step, step, "{failure}");
        assert!(failure.object.contains(object), "{object}: {failure}");
        before.assert_unchanged(object);
    };
    let mut one = container();
    one.rootfs.lowers = vec!["nosuch".to_owned()];
    check(one, Step::Rootfs, "upper");
    let mut one = container();
    one.rootfs.base = "/nonexistent".into();
    check(one, Step::Rootfs, "/nonexistent");
    check(container().mount("bind", "/nonexistent", "/mnt", &["rbind"]), Step::Source, "/nonexistent");
    check(container().mount("nosuchfs", "x", "/mnt", &[]), Step::Mount, "/mnt");
    check(container().mount("tmpfs", "x", "/mnt", &["size=lots"]), Step::Mount, "/mnt");
    check(container().mount("tmpfs", "x", "/mnt", &["tmpcopyup"]), Step::Mount, "/mnt");
    check(container().mount("tmpfs", "x", "/a/../b", &[]), Step::Mount, "/a/../b");
    let device = json!([{"path": "/dev/x", "type": "c", "major": -1, "minor": 0}]);
    check(container().set(&["linux", "devices"], device), Step::Device, "/dev/x");
    check(container().set(&["process", "cwd"], json!("/etc/passwd/x")), Step::WorkDir, "/etc/passwd/x");
    check(container().set(&["process", "cwd"], json!("/etc/passwd")), Step::WorkDir, "/etc/passwd");
    let limit = json!([{"type": "RLIMIT_NOFILE", "soft": 1, "hard": u64::MAX - 1}]);
    check(container().set(&["process", "rlimits"], limit), Step::Rlimit, "RLIMIT_NOFILE");
    let mut one = container();
    one.terminal = true;
    let one = one.set(&["mounts"], json!([]));
    check(one, Step::Terminal, "ptmx");
}

fn a_plan_that_cannot_be_is_refused_before_anything_is_cloned(world: &World) {
    let before = Traces::now();
    let refused = |change: &dyn Fn(&mut husk_runtime::SandboxPlan)| {
        let mut plan = world.sandbox_plan();
        change(&mut plan);
        let error = spawn_sandbox(plan).unwrap_err().to_string();
        before.assert_unchanged("a refusal");
        error
    };
    assert!(refused(&|plan| plan.hostname = "x".repeat(65)).contains("longer than 64"));
    let mut unmapped = mappings(100_000);
    unmapped.uids.container_id = 1;
    assert!(refused(&|plan| plan.namespaces.user = Some(unmapped)).contains("is not mapped"));
    let sysctl =
        |name: &'static str| refused(&move |plan| plan.sysctls = vec![(name.parse().unwrap(), "1".into())]);
    assert!(sysctl("net.ipv4.ip_forward").contains("network namespace of the pod's own"));
}

/// Kills a container's child 60 µs later in every round, from its birth until it waits at the gate.
fn a_child_killed_at_sixty_moments_leaves_nothing(world: &World) {
    let pod = world.pod();
    let before = Traces::now();
    let mut seen = BTreeSet::new();
    for round in 0..60_u32 {
        let container = world.container(&pod, &["sleep", "1000"]);
        let (upper, work) = (container.rootfs.upper.clone(), container.rootfs.work.clone());
        let killer = move |pid: u32| {
            let until = std::time::Instant::now() + std::time::Duration::from_micros(u64::from(round) * 60);
            while std::time::Instant::now() < until {
                std::hint::spin_loop();
            }
            let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
            rustix::process::kill_process(pid, Signal::KILL).unwrap();
        };
        match container.create_and(killer) {
            Err(failure) => {
                assert_eq!(failure.step, Step::Died);
                seen.insert("before");
            }
            Ok(running) => {
                assert_eq!(pidfd::reap(&running.child.pidfd).unwrap(), Exit::Signal(9));
                seen.insert("at the gate");
            }
        }
        before.assert_unchanged(&format!("round {round}"));
        // The layer is free again: the next container takes it at once.
        let mut again = world.container(&pod, &["true"]);
        (again.rootfs.upper, again.rootfs.work) = (upper, work.with_extension("2"));
        std::fs::create_dir(&again.rootfs.work).unwrap();
        assert_eq!(again.run().code, 0);
    }
    assert!(seen.contains("before"), "no child was killed early enough: {seen:?}");
}

fn a_child_killed_at_the_gate_is_an_exit_and_its_rootfs_is_free(world: &World) {
    let pod = world.pod();
    let mut running = world.container(&pod, &["sleep", "1000"]).create().unwrap();
    assert_eq!(running.kill(), Exit::Signal(9));
    assert!(running.child.open_gate().is_err());
    assert!(matches!(report(&mut running.child), Report::Executed), "the pidfd tells the rest");
}

fn a_sandbox_that_fails_leaves_nothing(world: &World) {
    let before = Traces::now();
    let mut plan = world.sandbox_plan();
    plan.namespaces.net = husk_runtime::NetNs::Path("/nonexistent/netns".into());
    let failure = Pod::start(plan).err().unwrap();
    assert_eq!((failure.step, failure.object.as_str()), (Step::Namespaces, "/nonexistent/netns"));
    let mut plan = world.sandbox_plan();
    plan.namespaces.net = husk_runtime::NetNs::Path("/etc/passwd".into());
    assert_eq!(Pod::start(plan).err().unwrap().step, Step::Namespaces);
    let mut plan = world.sandbox_plan();
    plan.pause = OwnedFd::from(std::fs::File::open("/etc/passwd").unwrap());
    assert_eq!(Pod::start(plan).err().unwrap().step, Step::Execute);
    before.assert_unchanged("a refusal");
}

fn a_pod_that_ended_takes_no_containers(world: &World) {
    let mut pod = world.pod();
    pidfd::signal(&pod.pause.pidfd, Signal::KILL).unwrap();
    pidfd::reap(&pod.pause.pidfd).unwrap();
    let failure = world.container(&pod, &["true"]).create().err().unwrap();
    assert_eq!(failure.step, Step::Namespaces);
    assert_eq!(failure.errno, Some(rustix::io::Errno::SRCH));
    assert!(matches!(report(&mut pod.pause), Report::Executed));
}

fn the_descriptors_of_the_plan_are_closed_in_the_parent(world: &World) {
    let pod = world.pod();
    let before = descriptors();
    for _ in 0..5 {
        world.container(&pod, &["true"]).run();
    }
    assert_eq!(descriptors(), before);
}

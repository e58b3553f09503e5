//! Tests of the layouts this node does not have: pure v1 without the v2 tree, and v2 on a tree of plain files.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use husk_node::cgroups::{CgroupMount, CgroupMountKind, cgroup_mounts};
use husk_test_support::eventually;
use oci_spec::runtime::LinuxResources;

use crate::{Cgroup, CgroupPath, Controller, Hierarchy, Killing, Step, Version};

const PATIENCE: Duration = Duration::from_secs(60);

fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).unwrap()
}

/// Takes the group away at the end, also after a failed assertion.
struct Guard(Cgroup);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.remove();
    }
}

impl std::ops::Deref for Guard {
    type Target = Cgroup;

    fn deref(&self) -> &Cgroup {
        &self.0
    }
}

// === pure v1, in the kernel ===

/// The node's v1 hierarchies alone, and a group in them.
fn v1_only(name: &str) -> Option<(Hierarchy, Guard)> {
    let mounts = cgroup_mounts().unwrap();
    let v1: Vec<_> = mounts.into_iter().filter(|mount| mount.kind != CgroupMountKind::V2).collect();
    if v1.is_empty() || !rustix::process::geteuid().is_root() {
        husk_test_support::skip("cgroup v1");
        return None;
    }
    let hierarchy = Hierarchy::from_mounts(v1).unwrap();
    assert_eq!(hierarchy.version(), Version::V1);
    let path = CgroupPath::parse(&format!("/husk-test-{name}-{}", std::process::id())).unwrap();
    let group = hierarchy.create(&path).unwrap();
    Some((hierarchy, Guard(group)))
}

#[test]
fn a_group_can_be_in_hierarchies_that_are_not_used() {
    if !rustix::process::geteuid().is_root() {
        return husk_test_support::skip("root");
    }
    let mounts = cgroup_mounts().unwrap();
    let (used, every) = (Hierarchy::from_mounts(mounts.clone()), Hierarchy::every_of(mounts));
    let (used, every) = (used.unwrap(), every.unwrap());
    assert_eq!(used.version(), every.version());
    if used.trees().len() == every.trees().len() {
        return husk_test_support::skip("cgroup v1");
    }
    let path = CgroupPath::parse(&format!("/husk-test-every-{}", std::process::id())).unwrap();
    let group = Guard(every.create(&path).unwrap());
    let all = || every.trees().iter().filter(|tree| tree.open(&path).is_ok()).count();
    assert_eq!(all(), every.trees().len());
    group.0.remove().unwrap();
    assert_eq!(all(), 0);
}

fn run_in(group: &Cgroup, script: &str) -> Child {
    let mut child = Command::new("/bin/sh")
        .args(["-c", &format!("read go; {script}")])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    for procs in group.join_fds().unwrap() {
        fs::File::from(procs).write_all(child.id().to_string().as_bytes()).unwrap();
    }
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    child
}

#[test]
fn without_a_v2_tree_the_freezer_and_signals_kill_a_forking_group() {
    let Some((hierarchy, group)) = v1_only("v1kill") else { return };
    assert!(hierarchy.has(Controller::Freezer));
    assert!(group.unified_dir().is_none());
    // Forks all the time.
    let mut child =
        run_in(&group, "for i in 1 2 3 4 5 6; do ( while :; do ( : ); done ) & done; exec sleep 1000");
    let sub = group.sub("exec").unwrap();
    let mut other = run_in(&sub, "exec sleep 1000");
    sub.kill().unwrap();
    other.wait().unwrap();
    sub.wait_empty(PATIENCE).unwrap();
    assert!(group.is_populated().unwrap());
    group.kill().unwrap();
    child.wait().unwrap();
    group.wait_empty(PATIENCE).unwrap();
    assert_eq!(group.pids().unwrap(), [0; 0]);
    group.remove().unwrap();
    assert!(hierarchy.open(group.path()).is_err());
}

#[test]
fn without_cgroup_kill_a_fork_bomb_is_killed_in_a_few_rounds_and_its_limit_comes_back() {
    let Some((_, group)) = v1_only("v1bomb") else { return };
    group.apply(&resources(r#"{"pids":{"limit":1000}}"#)).unwrap();
    // A shell that cannot fork ends, so these fork for ever and never come near the limit.
    let forking = "i=0; while [ $i -lt 110 ]; do (while :; do ( : ); done) & i=$((i+1)); done; wait";
    let mut child = run_in(&group, forking);
    eventually("a hundred fork", PATIENCE, || (group.pids().unwrap().len() >= 100).then_some(()));
    let mut killing = Killing::begin(group.clone());
    let mut steps = 0;
    while killing.step().unwrap() == Step::Again {
        steps += 1;
    }
    // One for all, one for forks that were under way, one that finds nobody new.
    assert!(killing.rounds() <= 4, "{killing:?}");
    // Not all hundred: a shell that is refused a fork may end before it is found.
    assert!(killing.found() >= 1, "{killing:?}");
    assert!(steps >= 1 && steps <= killing.found(), "{steps}");
    let limit = group.home(Controller::Pids).unwrap().read("pids.max").unwrap();
    assert_eq!(limit.unwrap().trim(), "1000");
    child.wait().unwrap();
    group.wait_empty(PATIENCE).unwrap();
    group.remove().unwrap();
}

/// Whether a bomb outruns its killer is luck; whether it can is not.
#[test]
fn without_cgroup_kill_a_group_that_is_killed_one_by_one_refuses_forks_meanwhile() {
    let Some((_, group)) = v1_only("v1forks") else { return };
    group.apply(&resources(r#"{"pids":{"limit":1000}}"#)).unwrap();
    assert!(run_in(&group, "( : ) && exit 0").wait().unwrap().success());
    let killing = Killing::begin(group.clone());
    assert!(!run_in(&group, "( : ) && exit 0").wait().unwrap().success());
    // Given up half-way, it leaves nothing behind.
    drop(killing);
    assert!(run_in(&group, "( : ) && exit 0").wait().unwrap().success());
    group.wait_empty(PATIENCE).unwrap();
    group.remove().unwrap();
}

#[test]
fn without_cgroup_kill_a_frozen_group_dies_with_those_below_whatever_their_names() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let Some((hierarchy, group)) = v1_only("v1frozen") else { return };
    let hidden = hierarchy.home(Controller::Freezer).unwrap().name_of(group.path());
    let hidden = hidden.join(OsStr::from_bytes(b"\xff\x01"));
    fs::create_dir(&hidden).unwrap();
    let mut child = run_in(&group, "exec sleep 1000");
    fs::write(hidden.join("cgroup.procs"), child.id().to_string()).unwrap();
    fs::write(hidden.join("freezer.state"), "FROZEN").unwrap();
    assert_eq!(group.pids().unwrap(), [child.id()]);
    group.kill().unwrap();
    child.wait().unwrap();
    group.wait_empty(PATIENCE).unwrap();
    group.remove().unwrap();
}

#[test]
fn a_killed_group_gets_an_ordinary_share_of_the_cpu_and_a_killed_exec_changes_nothing() {
    let Some((_, group)) = v1_only("v1hurry") else { return };
    group.apply(&resources(r#"{"cpu":{"shares":2,"quota":5000,"period":100000}}"#)).unwrap();
    let cpu = group.home(Controller::Cpu).unwrap();
    let read = |file: &str| cpu.read(file).unwrap().unwrap().trim().to_owned();
    group.sub("exec").unwrap().kill().unwrap();
    assert_eq!((read("cpu.shares"), read("cpu.cfs_quota_us")), ("2".into(), "5000".into()));
    group.kill().unwrap();
    assert_eq!((read("cpu.shares"), read("cpu.cfs_quota_us")), ("1024".into(), "-1".into()));
    // Nobody loses by being killed.
    group.apply(&resources(r#"{"cpu":{"shares":4096}}"#)).unwrap();
    group.kill().unwrap();
    assert_eq!(read("cpu.shares"), "4096");
    group.remove().unwrap();
}

/// A group of the freezer alone, which thaws at the end, also after a failed assertion.
struct Frozen(PathBuf);

impl Frozen {
    fn new(path: PathBuf) -> Self {
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("freezer.state"), "THAWED");
        // Asserts nothing: this may be the end of a failed test, whose own words count.
        let deadline = Instant::now() + PATIENCE;
        while fs::remove_dir(&self.0).is_err() && Instant::now() < deadline {
            std::thread::yield_now();
        }
    }
}

/// The whole of a kill may be long; no step of it is. The group here can't die: a freezer that is none of its own holds it.
#[test]
fn without_cgroup_kill_no_step_of_a_kill_waits_for_a_process_that_cannot_die() {
    let Some((hierarchy, group)) = v1_only("v1stuck") else { return };
    let many = "i=0; while [ $i -lt 300 ]; do sleep 1000 & i=$((i+1)); done; wait";
    let mut child = run_in(&group, many);
    eventually("all sleep", PATIENCE, || (group.pids().unwrap().len() > 300).then_some(()));
    let freezer = hierarchy.home(Controller::Freezer).unwrap().point();
    let frozen = Frozen::new(freezer.join(format!("husk-test-v1stuck-freezer-{}", std::process::id())));
    for pid in group.pids().unwrap() {
        fs::write(frozen.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }
    fs::write(frozen.0.join("freezer.state"), "FROZEN").unwrap();
    // The group as a node without the freezer has it.
    let others: Vec<_> = cgroup_mounts()
        .unwrap()
        .into_iter()
        .filter(|mount| mount.kind != CgroupMountKind::V2 && mount.point != freezer)
        .collect();
    let stuck = Hierarchy::from_mounts(others).unwrap().open(group.path()).unwrap();
    let mut killing = stuck.begin_kill().unwrap().unwrap();
    let mut steps = 0;
    while killing.step().unwrap() == Step::Again {
        steps += 1;
    }
    assert_eq!((killing.rounds(), steps), (2, 301_usize.div_ceil(128)), "{killing:?}");
    assert_eq!(stuck.pids().unwrap().len(), 301, "nobody is dead");
    assert!(!stuck.remove_if_empty().unwrap());
    drop(frozen);
    child.wait().unwrap();
    stuck.wait_empty(PATIENCE).unwrap();
    group.remove().unwrap();
}

#[test]
fn without_a_v2_tree_unified_keys_are_refused_and_swap_limits_hold() {
    let Some((_, group)) = v1_only("v1unified") else { return };
    assert!(group.apply(&resources(r#"{"unified":{"memory.high":"1"}}"#)).is_err());
    group.apply(&resources(r#"{"memory":{"limit":1048576,"swap":2097152}}"#)).unwrap();
    let memory = group.stats().unwrap().memory.unwrap();
    assert_eq!((memory.limit, memory.swap_limit), (Some(1 << 20), Some(1 << 20)));
    assert_eq!(group.stats().unwrap().pressure.cpu, None);
    group.remove().unwrap();
}

// === device programs, in the kernel's v2 tree ===

#[test]
fn a_device_program_is_attached_replaced_and_enforced() {
    let hierarchy = match Hierarchy::detect() {
        Ok(hierarchy) if hierarchy.unified().is_some() && rustix::process::geteuid().is_root() => hierarchy,
        _ => {
            husk_test_support::skip("a tree of cgroup v2");
            return;
        }
    };
    let path = CgroupPath::parse(&format!("/husk-test-bpf-{}", std::process::id())).unwrap();
    let group = Guard(hierarchy.create(&path).unwrap());
    let apply = |json: &str| {
        let rules = crate::devices::parse(resources(json).devices().as_ref().unwrap()).unwrap();
        crate::devices::load_program(group.unified().unwrap(), &rules).unwrap();
        husk_sys::bpf::cgroup_device_programs(group.unified_dir().unwrap()).unwrap().len()
    };
    let probe = || {
        run_in(&group, "( : >/dev/null ) 2>&- || exit 11; ( : >/dev/zero ) 2>&- || exit 12; exit 13")
            .wait()
            .unwrap()
            .code()
    };
    // Nothing to forbid, no program.
    assert_eq!(apply(r#"{"devices":[{"allow":true,"access":"rwm"}]}"#), 0);
    let null = r#"{"allow":true,"type":"c","major":1,"minor":3,"access":"rw"}"#;
    assert_eq!(apply(&format!(r#"{{"devices":[{{"allow":false,"access":"rwm"}},{null}]}}"#)), 1);
    assert_eq!(probe(), Some(12));
    let zero = r#"{"allow":true,"type":"c","major":1,"minor":5,"access":"rwm"}"#;
    assert_eq!(apply(&format!(r#"{{"devices":[{{"allow":false,"access":"rwm"}},{null},{zero}]}}"#)), 1);
    assert_eq!(probe(), Some(13));
    assert_eq!(apply(r#"{"devices":[{"allow":false,"access":"rwm"}]}"#), 1);
    assert_eq!(probe(), Some(11));
    group.remove().unwrap();
}

// === v2, on plain files ===

/// A directory that looks like a v2 tree with a delegated group, and that group.
fn v2_files(controllers: &str) -> (tempfile::TempDir, Cgroup) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    fs::write(root.join("cgroup.controllers"), controllers).unwrap();
    fs::write(root.join("cgroup.subtree_control"), "").unwrap();
    fs::create_dir(root.join("pod")).unwrap();
    fs::write(root.join("pod/cgroup.subtree_control"), controllers).unwrap();
    fs::create_dir(root.join("pod/c1")).unwrap();
    for file in [
        "cpu.weight",
        "cpu.max",
        "cpu.max.burst",
        "memory.max",
        "memory.low",
        "memory.swap.max",
        "memory.high",
        "memory.events",
        "pids.max",
        "io.weight",
        "io.max",
        "cpuset.cpus",
        "hugetlb.2MB.max",
    ] {
        fs::write(root.join("pod/c1").join(file), "").unwrap();
    }
    let mount = CgroupMount { point: root.to_owned(), kind: CgroupMountKind::V2 };
    let hierarchy = Hierarchy::from_mounts(vec![mount]).unwrap();
    assert_eq!(hierarchy.version(), Version::V2);
    let group = hierarchy.create(&CgroupPath::parse("/pod/c1").unwrap()).unwrap();
    (dir, group)
}

fn file(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join("pod/c1").join(name)).unwrap()
}

/// Plain files keep the tail of a longer former value, which kernel files do not.
fn set(dir: &Path, name: &str, value: &str) {
    fs::write(dir.join("pod/c1").join(name), value).unwrap();
}

const ALL: &str = "cpuset cpu io memory hugetlb pids rdma misc";

#[test]
fn v2_limits_are_converted_from_their_v1_form() {
    let (dir, group) = v2_files(ALL);
    let degraded = group
        .apply(&resources(
            r#"{"memory":{"limit":1000,"swap":1500,"reservation":500},"pids":{"limit":7},
                "cpu":{"shares":1024,"quota":50000,"period":100000,"cpus":"0-1"},
                "blockIO":{"weight":100,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":4096}]},
                "hugepageLimits":[{"pageSize":"2MB","limit":4194304}],
                "unified":{"memory.high":"900"}}"#,
        ))
        .unwrap();
    assert!(degraded.is_empty(), "{degraded:?}");
    for (name, want) in [
        ("memory.max", "1000"),
        ("memory.swap.max", "500"),
        ("memory.low", "500"),
        ("memory.high", "900"),
        ("pids.max", "7"),
        ("cpu.weight", "100"),
        ("cpu.max", "50000 100000"),
        ("cpuset.cpus", "0-1"),
        ("io.weight", "910"),
        ("io.max", "8:0 rbps=4096"),
        ("hugetlb.2MB.max", "4194304"),
    ] {
        assert_eq!(file(dir.path(), name), want, "{name}");
    }
}

#[test]
fn on_v2_what_is_not_asked_for_stays() {
    let (dir, group) = v2_files(ALL);
    set(dir.path(), "cpu.max", "70000 90000\n");
    group.apply(&resources(r#"{"cpu":{"quota":45000}}"#)).unwrap();
    assert!(file(dir.path(), "cpu.max").starts_with("45000 90000"));
    set(dir.path(), "cpu.max", "max 100000\n");
    group.apply(&resources(r#"{"cpu":{"period":50000}}"#)).unwrap();
    assert!(file(dir.path(), "cpu.max").starts_with("max 50000"));
    // Swap alone counts from the limit in force, and below it is refused.
    set(dir.path(), "memory.max", "1000\n");
    group.apply(&resources(r#"{"memory":{"swap":1200}}"#)).unwrap();
    assert_eq!(file(dir.path(), "memory.swap.max"), "200");
    assert!(group.apply(&resources(r#"{"memory":{"swap":900}}"#)).is_err());
    set(dir.path(), "memory.swap.max", "");
    group.apply(&resources(r#"{"memory":{"limit":-1}}"#)).unwrap();
    assert_eq!(file(dir.path(), "memory.swap.max"), "max");
}

#[test]
fn on_v2_controllers_are_enabled_on_the_way_down_only() {
    let (dir, group) = v2_files("cpu memory");
    // The root had none on; the pod had them all.
    let root = fs::read_to_string(dir.path().join("cgroup.subtree_control")).unwrap();
    assert_eq!(root, "", "an existing child needs nothing enabled");
    let c2 = CgroupPath::parse("/other/c2").unwrap();
    let other = group.hierarchy().create(&c2);
    assert_eq!(fs::read_to_string(dir.path().join("cgroup.subtree_control")).unwrap(), "+cpu +memory");
    // A plain directory has no control files, so the next level fails as a whole, and what was made is removed.
    assert!(other.is_err());
    assert!(!dir.path().join("other").exists());
}

#[test]
fn a_hard_limit_without_its_controller_is_an_error_and_a_soft_one_degrades() {
    let (_dir, group) = v2_files("cpu");
    for hard in [
        r#"{"memory":{"limit":1000}}"#,
        r#"{"pids":{"limit":5}}"#,
        r#"{"cpu":{"cpus":"0"}}"#,
        r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1}]}}"#,
    ] {
        assert!(group.apply(&resources(hard)).is_err(), "{hard}");
    }
    for soft in [
        r#"{"hugepageLimits":[{"pageSize":"2MB","limit":1}]}"#,
        r#"{"blockIO":{"weight":100}}"#,
        r#"{"memory":{"swappiness":10}}"#,
        r#"{"network":{"classID":5}}"#,
    ] {
        assert_eq!(group.apply(&resources(soft)).unwrap().len(), 1, "{soft}");
    }
}

#[test]
fn on_v2_a_killed_group_is_not_held_back_by_weight_quota_or_idleness() {
    let (dir, group) = v2_files(ALL);
    for (name, value) in [("cpu.weight", "1"), ("cpu.max", "5000 100000"), ("cpu.idle", "1")] {
        set(dir.path(), name, value);
    }
    group.hurry();
    assert_eq!(file(dir.path(), "cpu.weight"), "100");
    assert!(file(dir.path(), "cpu.max").starts_with("max"));
    assert_eq!(file(dir.path(), "cpu.idle"), "0");
}

#[test]
fn v2_oom_kills_come_from_the_events_of_the_group() {
    let (dir, group) = v2_files(ALL);
    set(dir.path(), "memory.events", "low 0\nhigh 0\nmax 9\noom 3\noom_kill 2\noom_group_kill 0\n");
    assert_eq!(group.oom_kills().unwrap(), 2);
}

//! The crate against the kernel of this node: limits, joining, killing, OOM, removal.
//!
//! Needs root and mounted cgroups; skips loudly otherwise.

use std::{
    io::{Read, Write},
    os::fd::{AsRawFd, OwnedFd},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use husk_cgroup::{Cgroup, CgroupPath, Controller, Error, Hierarchy, Version};
use husk_model::Process;
use husk_node::process::identify;
use husk_test_support::eventually;
use oci_spec::runtime::LinuxResources;

const PATIENCE: Duration = Duration::from_secs(10);

/// A pod-like group of its own for each test; everything below is killed and removed at the end.
struct Fixture {
    hierarchy: Hierarchy,
    pod: Cgroup,
}

impl Fixture {
    fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            husk_test_support::skip("root");
            return None;
        }
        let hierarchy = match Hierarchy::detect() {
            Ok(hierarchy) => hierarchy,
            Err(err) => {
                println!("{err}");
                husk_test_support::skip("cgroups");
                return None;
            }
        };
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = CgroupPath::parse(&format!("/husk-test-{}-{n}/pod", std::process::id())).unwrap();
        let pod = hierarchy.create(&path).unwrap();
        Some(Self { hierarchy, pod })
    }

    fn container(&self, name: &str) -> Cgroup {
        self.hierarchy.create(&self.pod.path().join(name).unwrap()).unwrap()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let parent = self.hierarchy.open(&self.pod.path().parent().unwrap()).unwrap();
        parent.kill().unwrap();
        parent.remove().unwrap();
        assert!(matches!(self.hierarchy.open(self.pod.path()), Err(Error::NotFound { .. })));
    }
}

/// A shell that waits for a line on stdin, is then moved into `group`, and runs `script`.
fn run_in(group: &Cgroup, script: &str) -> Child {
    let mut child = Command::new("/bin/sh")
        .args(["-c", &format!("read go; {script}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    for procs in group.join_fds().unwrap() {
        let mut procs = std::fs::File::from(procs);
        procs.write_all(child.id().to_string().as_bytes()).unwrap();
    }
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    child
}

fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).unwrap()
}

fn output(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_process_that_joined_is_in_every_hierarchy_and_is_killed_with_its_group() {
    let Some(fixture) = Fixture::new() else { return };
    let group = fixture.container("c1");
    assert!(!group.is_populated().unwrap());
    let mut child = run_in(&group, "sleep 1000 & sleep 1000 & echo up; wait");
    let mut up = [0; 3];
    child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    let membership = std::fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
    let inside = membership.lines().filter(|line| line.ends_with(group.path().as_str())).count();
    assert_eq!(inside, group.join_fds().unwrap().len(), "{membership}");
    assert!(group.is_populated().unwrap());
    assert_eq!(group.pids().unwrap().len(), 3);
    assert!(group.stats().unwrap().cpu.unwrap().usage > 0);

    group.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    group.wait_empty(PATIENCE).unwrap();
    assert!(!group.is_populated().unwrap());
    group.remove().unwrap();
    // Again, and after that on a group that is gone: all are no-ops.
    group.remove().unwrap();
    group.kill().unwrap();
    assert_eq!(group.pids().unwrap(), [0; 0]);
}

#[test]
fn limits_are_written_and_updated_in_both_directions() {
    let Some(fixture) = Fixture::new() else { return };
    if fixture.hierarchy.version() == Version::V2 {
        husk_test_support::skip("cgroup v1");
        return;
    }
    let group = fixture.container("c1");
    let read = |controller: &str, file: &str| {
        let path = format!("/sys/fs/cgroup/{controller}{}/{file}", group.path());
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    };
    for (memory, swap, quota, period) in [
        (64, 64, 50_000, 100_000),
        (256, 512, 1_000_000, 1_000_000),
        (32, 48, 2_000, 10_000),
        (512, 512, -1, 100_000),
    ] {
        let (memory, swap) = (memory << 20, swap << 20);
        let degraded = group
            .apply(&resources(&format!(
                r#"{{"memory":{{"limit":{memory},"swap":{swap}}},"pids":{{"limit":77}},
                     "cpu":{{"shares":512,"quota":{quota},"period":{period}}}}}"#
            )))
            .unwrap();
        assert!(degraded.is_empty(), "{degraded:?}");
        assert_eq!(read("memory", "memory.limit_in_bytes"), memory.to_string());
        assert_eq!(read("memory", "memory.memsw.limit_in_bytes"), swap.to_string());
        assert_eq!(read("pids", "pids.max"), "77");
        assert_eq!(read("cpu", "cpu.shares"), "512");
        assert_eq!(read("cpu", "cpu.cfs_quota_us"), quota.to_string());
        assert_eq!(read("cpu", "cpu.cfs_period_us"), period.to_string());
    }
    group.apply(&resources(r#"{"memory":{"limit":-1},"pids":{"limit":-1}}"#)).unwrap();
    assert_eq!(read("pids", "pids.max"), "max");
    assert_eq!(group.stats().unwrap().memory.unwrap().limit, None);
    // A new cpuset works at once: the parent's CPUs and nodes were inherited.
    assert_eq!(
        read("cpuset", "cpuset.cpus"),
        std::fs::read_to_string("/sys/fs/cgroup/cpuset/cpuset.cpus").unwrap().trim()
    );
    group.apply(&resources(r#"{"cpu":{"cpus":"0","mems":"0"}}"#)).unwrap();
    assert_eq!(read("cpuset", "cpuset.cpus"), "0");
}

#[test]
fn a_limit_that_makes_no_sense_is_an_error() {
    let Some(fixture) = Fixture::new() else { return };
    let group = fixture.container("c1");
    for bad in [
        r#"{"memory":{"limit":1048576,"swap":4096}}"#,
        r#"{"cpu":{"cpus":"0-99999"}}"#,
        r#"{"cpu":{"cpus":"../../memory"}}"#,
        r#"{"hugepageLimits":[{"pageSize":"../2MB","limit":1}]}"#,
        r#"{"unified":{"../memory.max":"1"}}"#,
        r#"{"unified":{"cgroup.procs":"1"}}"#,
        r#"{"unified":{"memory.nothing":"1"}}"#,
    ] {
        assert!(group.apply(&resources(bad)).is_err(), "{bad}");
    }
}

#[test]
fn an_oom_kill_is_counted_where_it_happened() {
    let Some(fixture) = Fixture::new() else { return };
    if !fixture.hierarchy.has(Controller::Memory) {
        husk_test_support::skip("the memory controller");
        return;
    }
    let (hungry, modest) = (fixture.container("hungry"), fixture.container("modest"));
    hungry.apply(&resources(r#"{"memory":{"limit":15728640,"swap":15728640}}"#)).unwrap();
    let status = run_in(&hungry, "exec dd if=/dev/zero of=/dev/null bs=40M").wait().unwrap();
    assert!(!status.success());
    assert_eq!(hungry.oom_kills().unwrap(), 1);
    assert_eq!(modest.oom_kills().unwrap(), 0);
}

#[test]
fn memory_in_use_cannot_be_limited_away() {
    let Some(fixture) = Fixture::new() else { return };
    let group = fixture.container("c1");
    group.apply(&resources(r#"{"memory":{"limit":268435456,"swap":268435456}}"#)).unwrap();
    // 64 MiB of anonymous memory that can't be reclaimed.
    let mut child = run_in(&group, "head -c 64M /dev/zero | tail -c 64M | (sleep 1000; cat) & sleep 1000");
    let big = || group.stats().unwrap().memory.unwrap().rss > (40 << 20);
    eventually("the memory is in use", PATIENCE, || big().then_some(()));
    let smaller = r#"{"memory":{"limit":8388608,"swap":8388608,"checkBeforeUpdate":true}}"#;
    assert!(matches!(group.apply(&resources(smaller)), Err(Error::MemoryBelowUsage { .. })));
    assert_eq!(group.stats().unwrap().memory.unwrap().limit, Some(256 << 20));
    group.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_group_that_was_frozen_dies_too() {
    let Some(fixture) = Fixture::new() else { return };
    let group = fixture.container("c1");
    let Some(dir) = group.unified_dir() else { return };
    let mut child = run_in(&group, "while :; do :; done");
    std::fs::write(format!("/proc/self/fd/{}/cgroup.freeze", dir.as_raw_fd()), "1").unwrap();
    group.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_sub_group_is_killed_alone_and_shares_the_limits() {
    let Some(fixture) = Fixture::new() else { return };
    let group = fixture.container("c1");
    let exec = group.sub("exec-1").unwrap();
    let mut main = run_in(&group, "exec sleep 1000");
    let mut execed = run_in(&exec, "sleep 1000 & exec sleep 1000");
    let memory = std::fs::read_to_string(format!("/proc/{}/cgroup", execed.id())).unwrap();
    let memory =
        memory.lines().find(|line| line.contains(":memory:") || line.starts_with("0::")).unwrap().to_owned();
    assert!(memory.contains(group.path().as_str()), "{memory}");
    exec.kill().unwrap();
    execed.wait().unwrap();
    exec.remove().unwrap();
    assert!(main.try_wait().unwrap().is_none());
    assert_eq!(group.pids().unwrap(), [main.id()]);
    group.kill().unwrap();
    main.wait().unwrap();
}

#[test]
fn removal_takes_groups_that_a_container_made_and_waits_for_the_dying() {
    let Some(fixture) = Fixture::new() else { return };
    let group = fixture.container("c1");
    let nested = fixture.hierarchy.create(&group.path().join("a").unwrap().join("b").unwrap()).unwrap();
    if let Some(dir) = nested.unified_dir() {
        // Not a name that husk would make or accept.
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
        rustix::fs::mkdirat(dir, OsStr::from_bytes(b"\xff\x01"), rustix::fs::Mode::from(0o755)).unwrap();
    }
    let mut children: Vec<Child> = (0..20).map(|_| run_in(&nested, "exec sleep 1000")).collect();
    nested.kill().unwrap();
    group.remove().unwrap();
    for child in &mut children {
        child.wait().unwrap();
    }
    assert!(fixture.hierarchy.open(group.path()).is_err());
}

#[test]
fn a_populated_group_is_not_removed() {
    let Some(fixture) = Fixture::new() else { return };
    let group = fixture.container("c1");
    let mut child = run_in(&group, "exec sleep 1000");
    assert!(matches!(group.wait_empty(Duration::from_millis(20)), Err(Error::Timeout { .. })));
    assert!(group.is_populated().unwrap());
    assert!(!group.remove_if_empty().unwrap());
    group.kill().unwrap();
    child.wait().unwrap();
    group.wait_empty(PATIENCE).unwrap();
    eventually("the group is removed", PATIENCE, || group.remove_if_empty().unwrap().then_some(()));
    assert!(group.remove_if_empty().unwrap(), "a group that is gone is removed");
}

#[test]
fn who_has_the_number_of_the_process_of_a_unit_is_not_moved_for_it() {
    let Some(fixture) = Fixture::new() else { return };
    if fixture.hierarchy.unified_mount_point().is_none() {
        husk_test_support::skip("a tree of cgroup v2");
        return;
    }
    let unit = fixture.container("unit");
    let (other, pause) = (fixture.container("other"), unit.path().join("pause").unwrap());
    let mut child = run_in(&other, "exec sleep 1000");
    let now = identify(child.id()).unwrap();
    let former = Process { start_time: now.start_time - 1, ..now };
    let error = fixture.hierarchy.adopt(unit.path(), &pause, former).unwrap_err();
    assert!(matches!(error, Error::Write { .. }), "{error}");
    assert_eq!(other.pids().unwrap(), [child.id()]);
    other.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn only_allowed_devices_can_be_opened() {
    let Some(fixture) = Fixture::new() else { return };
    let group = fixture.container("c1");
    let rules = r#"{"devices":[{"allow":false,"access":"rwm"},
        {"allow":true,"type":"c","major":1,"minor":3,"access":"rw"},
        {"allow":true,"type":"c","major":1,"minor":5,"access":"r"},
        {"allow":true,"type":"c","major":5,"minor":0,"access":"rwm"}]}"#;
    group.apply(&resources(rules)).unwrap();
    let probe = "{ : >/dev/null; } 2>&- && echo null; { : </dev/zero; } 2>&- && echo zero; \
                 ( : >/dev/zero ) 2>&- && echo zero-write; ( : </dev/urandom ) 2>&- && echo urandom; true";
    assert_eq!(output(run_in(&group, probe)), "null\nzero\n");
    // Replaced as a whole, while the group lives.
    group.apply(&resources(r#"{"devices":[{"allow":true,"access":"rwm"}]}"#)).unwrap();
    assert_eq!(output(run_in(&group, probe)), "null\nzero\nzero-write\nurandom\n");
}

#[test]
fn a_missing_hugetlb_controller_degrades_and_a_present_one_limits() {
    let Some(fixture) = Fixture::new() else { return };
    let group = fixture.container("c1");
    let degraded =
        group.apply(&resources(r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#)).unwrap();
    let present = fixture.hierarchy.has(Controller::HugeTlb)
        && std::path::Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists();
    assert_eq!(degraded.is_empty(), present, "{degraded:?}");
    // The kubelet sends it with every container.
    let none = group.apply(&resources(r#"{"hugepageLimits":[{"pageSize":"2MB","limit":0}]}"#)).unwrap();
    assert!(none.is_empty(), "none of what is not there is nothing to tell of: {none:?}");
}

#[test]
fn a_kept_reader_sees_new_values_and_survives_the_removal() {
    let Some(fixture) = Fixture::new() else { return };
    let group = fixture.container("c1");
    let mut reader = group.stats_reader();
    let first = reader.read().unwrap().cpu.unwrap().usage;
    assert!(run_in(&group, "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done").wait().unwrap().success());
    let second = reader.read().unwrap();
    assert!(second.cpu.unwrap().usage > first);
    assert_eq!(second.pids.unwrap().current, 0);
    group.remove().unwrap();
    let gone = reader.read().unwrap();
    assert!(gone.memory.is_none() && gone.pids.is_none());
}

#[test]
fn a_mark_is_found_in_every_hierarchy_and_nothing_below_it_is() {
    let Some(fixture) = Fixture::new() else { return };
    let (marked, plain) = (fixture.container("marked"), fixture.container("plain"));
    marked.mark("whose it is").unwrap();
    fixture
        .hierarchy
        .create(&marked.path().join("inner").unwrap())
        .unwrap()
        .mark("a container's lie")
        .unwrap();
    // `marked` is named for somebody, the rest for nobody.
    let look = |known: &[&str]| -> Vec<_> {
        let known = || known.iter().map(|name| (*name).to_owned()).collect();
        let all = fixture.hierarchy.marked(|name| (name == "marked").then(|| name.to_owned()), known);
        all.into_iter().filter(|found| found.group.starts_with(fixture.pod.path().as_str())).collect()
    };
    // A group whose owner is known is passed over, with all below it.
    assert_eq!(look(&["marked"]), []);
    let found = look(&["somebody else"]);
    assert_eq!(found.len(), marked.join_fds().unwrap().len(), "{found:?}");
    for group in found {
        assert_eq!((group.group.as_str(), group.mark.as_str()), (marked.path().as_str(), "whose it is"));
        assert!(group.path.ends_with(marked.path().as_str().trim_start_matches('/')) && group.path.is_dir());
    }
    drop(plain);
}

#[test]
fn descriptors_are_close_on_exec() {
    let Some(fixture) = Fixture::new() else { return };
    let fds: Vec<OwnedFd> = fixture.pod.join_fds().unwrap();
    assert!(!fds.is_empty());
    for fd in &fds {
        assert!(rustix::io::fcntl_getfd(fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    }
}

//! The crate against a real v2 tree: limits, out of memory, pressure, taking over a delegated unit.
//!
//! Needs root and a node with cgroup v2 alone (`hack/vm` has one); skips loudly otherwise.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use husk_cgroup::{Cgroup, CgroupPath, Hierarchy, Version};
use husk_node::process::identify;
use oci_spec::runtime::LinuxResources;

const TREE: &str = "/sys/fs/cgroup";

/// A group of its own for each test; everything below is killed and removed at the end.
struct Fixture {
    hierarchy: Hierarchy,
    pod: Cgroup,
}

impl Fixture {
    fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let hierarchy = Hierarchy::detect().ok().filter(|found| found.version() == Version::V2);
        let Some(hierarchy) = hierarchy.filter(|_| rustix::process::geteuid().is_root()) else {
            husk_test_support::skip("cgroup v2 alone");
            return None;
        };
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = CgroupPath::parse(&format!("/husk-test-v2-{}-{n}/pod", std::process::id())).unwrap();
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
    }
}

fn dir(path: &CgroupPath) -> PathBuf {
    Path::new(TREE).join(&path.as_str()[1..])
}

fn read(group: &Cgroup, file: &str) -> String {
    let path = dir(group.path()).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).unwrap()
}

/// A shell that waits for a line on stdin, is then moved into `group`, and runs `script`.
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
fn every_limit_of_a_kubelet_is_in_its_file_and_follows_an_update() {
    let Some(fixture) = Fixture::new() else { return };
    let group = fixture.container("c1");
    for (memory, swap, quota, period) in
        [(64, 64, 50_000, 100_000), (256, 512, 1_000_000, 1_000_000), (32, 48, 2_000, 10_000)]
    {
        let (memory, swap) = (memory << 20, swap << 20);
        let degraded = group
            .apply(&resources(&format!(
                r#"{{"memory":{{"limit":{memory},"swap":{swap},"reservation":1048576}},"pids":{{"limit":77}},
                     "cpu":{{"shares":1024,"quota":{quota},"period":{period},"cpus":"0","mems":"0"}},
                     "unified":{{"memory.high":"{memory}","memory.min":"4096","memory.oom.group":"1"}}}}"#
            )))
            .unwrap();
        assert!(degraded.is_empty(), "{degraded:?}");
        for (file, value) in [
            ("memory.max", memory.to_string()),
            ("memory.low", "1048576".to_owned()),
            ("memory.high", memory.to_string()),
            ("memory.min", "4096".to_owned()),
            ("memory.oom.group", "1".to_owned()),
            ("memory.swap.max", (swap - memory).to_string()),
            ("pids.max", "77".to_owned()),
            ("cpu.weight", "100".to_owned()),
            ("cpu.max", format!("{quota} {period}")),
            ("cpuset.cpus", "0".to_owned()),
        ] {
            assert_eq!(read(&group, file), value, "{file}");
        }
    }
    group.apply(&resources(r#"{"memory":{"limit":-1},"pids":{"limit":-1},"cpu":{"quota":-1}}"#)).unwrap();
    assert_eq!((read(&group, "memory.max"), read(&group, "pids.max")), ("max".into(), "max".into()));
    assert!(read(&group, "cpu.max").starts_with("max "));
}

#[test]
fn huge_pages_and_block_io_are_limited_where_the_kernel_can() {
    let Some(fixture) = Fixture::new() else { return };
    let group = fixture.container("c1");
    let pages =
        group.apply(&resources(r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#)).unwrap();
    if pages.is_empty() {
        assert_eq!(read(&group, "hugetlb.2MB.max"), "4194304");
    }
    if group.apply(&resources(r#"{"blockIO":{"weight":100}}"#)).unwrap().is_empty() {
        let weight = fs::read_to_string(dir(group.path()).join("io.bfq.weight"))
            .map_or_else(|_| read(&group, "io.weight"), |text| text.trim().to_owned());
        assert!(weight.ends_with(" 910") || weight.ends_with(" 100"), "{weight}");
    }
    // A whole disk of this node.
    let disk = fs::read_dir("/sys/block").unwrap().flatten().find_map(|entry| {
        let virtual_disk = entry.file_name().to_string_lossy().starts_with("loop");
        (!virtual_disk).then(|| fs::read_to_string(entry.path().join("dev")).unwrap())
    });
    let Some(disk) = disk else { return };
    let (major, minor) = disk.trim().split_once(':').unwrap();
    let limit = format!(
        r#"{{"blockIO":{{"throttleReadBpsDevice":[{{"major":{major},"minor":{minor},"rate":1048576}}],
            "throttleWriteIOPSDevice":[{{"major":{major},"minor":{minor},"rate":100}}]}}}}"#
    );
    group.apply(&resources(&limit)).unwrap();
    assert_eq!(read(&group, "io.max"), format!("{major}:{minor} rbps=1048576 wbps=max riops=max wiops=100"));
}

#[test]
fn out_of_memory_is_counted_below_the_group_too_and_kills_it_as_a_whole_when_asked() {
    let Some(fixture) = Fixture::new() else { return };
    let limits = r#"{"memory":{"limit":16777216,"swap":16777216},"unified":{"memory.oom.group":"1"}}"#;
    let (group, modest) = (fixture.container("c1"), fixture.container("c2"));
    group.apply(&resources(limits)).unwrap();
    let mut bystander = run_in(&group, "exec sleep 1000");
    // As an exec is: in a group of its own below.
    let exec = group.sub("exec-1").unwrap();
    assert!(!run_in(&exec, "exec dd if=/dev/zero of=/dev/null bs=100M count=1").wait().unwrap().success());
    assert!(!bystander.wait().unwrap().success(), "the whole container goes");
    assert!(group.oom_kills().unwrap() >= 1);
    assert_eq!(modest.oom_kills().unwrap(), 0);
}

#[test]
fn pressure_is_told_for_each_resource() {
    let Some(fixture) = Fixture::new() else { return };
    let group = fixture.container("c1");
    let told = group.stats().unwrap().pressure;
    if !Path::new("/proc/pressure/cpu").exists() || fs::read("/proc/pressure/cpu").is_err() {
        husk_test_support::skip("accounting of pressure (psi=1)");
        return;
    }
    assert!(told.cpu.is_some() && told.memory.is_some() && told.io.is_some(), "{told:?}");
}

#[test]
fn a_delegated_unit_is_taken_over_with_every_controller_on_and_no_process_in_it() {
    let Some(fixture) = Fixture::new() else { return };
    // As systemd leaves it: the scope with its first process, nothing enabled below.
    let unit = fixture.pod.path().parent().unwrap().join("unit.scope").unwrap();
    fs::create_dir(dir(&unit)).unwrap();
    let mut first = Command::new("sleep").arg("1000").spawn().unwrap();
    fs::write(dir(&unit).join("cgroup.procs"), first.id().to_string()).unwrap();
    let pod = unit.join("pod").unwrap();
    fixture.hierarchy.adopt(&unit, &pod.join("pause").unwrap(), identify(first.id()).unwrap()).unwrap();
    for inner in [&unit, &pod] {
        assert_eq!(fs::read_to_string(dir(inner).join("cgroup.procs")).unwrap(), "", "{inner}");
        let on = fs::read_to_string(dir(inner).join("cgroup.subtree_control")).unwrap();
        let offered = fs::read_to_string(dir(inner).join("cgroup.controllers")).unwrap();
        assert_eq!(on, offered, "{inner}");
        assert!(["cpu", "memory", "pids"].iter().all(|name| on.contains(name)), "{on}");
    }
    let procs = fs::read_to_string(dir(&pod).join("pause/cgroup.procs")).unwrap();
    assert_eq!(procs.trim(), first.id().to_string());
    let container = fixture.hierarchy.create(&pod.join("c1").unwrap()).unwrap();
    container.apply(&resources(r#"{"memory":{"limit":1048576},"pids":{"limit":5}}"#)).unwrap();
    let group = fixture.hierarchy.open(&unit).unwrap();
    group.kill().unwrap();
    first.wait().unwrap();
    group.remove().unwrap();
}

//! Samples of real groups. Needs root and cgroups; skips loudly otherwise.

use std::{
    io::Write,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use husk_cgroup::{Cgroup, CgroupPath, Hierarchy};
use husk_model::ContainerId;
use husk_stats::{Error, Stats, Target, TargetId};
use husk_test_support::eventually;
use oci_spec::runtime::{LinuxMemoryBuilder, LinuxResourcesBuilder};

const PATIENCE: Duration = Duration::from_secs(10);

struct Fixture {
    hierarchy: Hierarchy,
    parent: CgroupPath,
}

impl Fixture {
    fn new(name: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            husk_test_support::skip("root");
            return None;
        }
        let Ok(hierarchy) = Hierarchy::detect() else {
            husk_test_support::skip("cgroups");
            return None;
        };
        let parent = CgroupPath::parse(&format!("/husk-test-{name}-{}", std::process::id())).unwrap();
        Some(Self { hierarchy, parent })
    }

    fn container(&self, name: &str) -> (Cgroup, Target) {
        let cgroup = self.parent.join(name).unwrap();
        let id = TargetId::Container(ContainerId::generate());
        let target = Target { id, cgroup: cgroup.clone(), limited_by: None, upper: None, since: None };
        (self.hierarchy.create(&cgroup).unwrap(), target)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let group = self.hierarchy.open(&self.parent).unwrap();
        group.kill().unwrap();
        group.remove().unwrap();
    }
}

fn busy_in(group: &Cgroup) -> Child {
    let mut child = Command::new("/bin/sh")
        .args(["-c", "read go; while :; do :; done"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    for procs in group.join_fds().unwrap() {
        std::fs::File::from(procs).write_all(child.id().to_string().as_bytes()).unwrap();
    }
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    child
}

#[test]
fn a_busy_container_has_no_rate_at_first_and_one_after_a_window_of_time() {
    let Some(fixture) = Fixture::new("rate") else { return };
    let (group, target) = fixture.container("c1");
    let stats = Stats::new(fixture.hierarchy.clone(), "/").unwrap();
    let mut child = busy_in(&group);
    let first = stats.sample(&target).unwrap();
    assert_eq!(first.cpu.usage_nano_cores, None);
    assert!(first.cpu.timestamp > 0 && first.memory.timestamp > 0);
    // A rate is one of a window of time.
    let second = eventually("a rate", PATIENCE, || {
        let sample = stats.sample(&target).unwrap();
        sample.cpu.usage_nano_cores.is_some().then_some(sample)
    });
    assert!(second.cpu.timestamp > first.cpu.timestamp);
    assert!(second.cpu.usage_core_nanos > first.cpu.usage_core_nanos);
    assert!(second.cpu.usage_nano_cores.unwrap() > 0);
    assert_eq!(second.processes, 1);
    group.kill().unwrap();
    child.wait().unwrap();
    group.remove().unwrap();
    assert!(matches!(stats.sample(&target), Err(Error::Gone { .. })));
}

#[test]
fn what_is_available_is_what_the_group_above_leaves_of_its_limit() {
    let Some(fixture) = Fixture::new("limit") else { return };
    let (_group, target) = fixture.container("pod");
    let memory = LinuxMemoryBuilder::default().limit(64 << 20).build().unwrap();
    let limits = LinuxResourcesBuilder::default().memory(memory).build().unwrap();
    fixture.hierarchy.open(&fixture.parent).unwrap().apply(&limits).unwrap();
    let stats = Stats::new(fixture.hierarchy.clone(), "/").unwrap();
    let alone = stats.sample(&target).unwrap();
    assert_eq!(alone.memory.available, None);
    let limited_by = Some(fixture.parent.clone());
    let id = TargetId::Container(ContainerId::generate());
    let below = stats.sample(&Target { id, limited_by, ..target }).unwrap();
    assert_eq!(below.memory.available, Some((64 << 20) - below.memory.working_set));
}

#[test]
fn the_size_of_a_small_layer_is_known_soon_and_never_waited_for() {
    let Some(fixture) = Fixture::new("layer") else { return };
    let (_group, mut target) = fixture.container("c1");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), vec![7; 1 << 20]).unwrap();
    target.upper = Some(dir.path().to_owned());
    let stats = Stats::new(fixture.hierarchy.clone(), "/var/lib/husk").unwrap();
    stats.add(&target).unwrap();
    let layer = eventually("the size is known", PATIENCE, || stats.sample(&target).unwrap().writable_layer);
    assert_eq!((layer.inodes_used, layer.mountpoint.as_str()), (2, "/var/lib/husk"));
    assert!(layer.used_bytes >= 1 << 20);
    stats.forget(&target.id);
}

#[test]
fn a_list_leaves_out_what_is_gone() {
    let Some(fixture) = Fixture::new("list") else { return };
    let groups: Vec<_> = (0..20).map(|n| fixture.container(&format!("c{n}"))).collect();
    let stats = Stats::new(fixture.hierarchy.clone(), "/").unwrap();
    let targets: Vec<Target> = groups.iter().map(|(_, target)| target.clone()).collect();
    assert_eq!(stats.sample_all(&targets).len(), 20);
    let started = Instant::now();
    assert_eq!(stats.sample_all(&targets).len(), 20);
    eprintln!("20 containers sampled in {:?}", started.elapsed());
    groups[3].0.remove().unwrap();
    let listed = stats.sample_all(&targets);
    assert_eq!(listed.len(), 19);
    assert!(listed.iter().all(|(target, _)| target.id != groups[3].1.id));
}

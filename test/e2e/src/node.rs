//! The node as a stranger sees it: what a runtime may leave behind, and that it did not.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{eventually, tools::run};

/// A look at the node.
#[derive(Debug)]
pub struct Node {
    links: BTreeSet<String>,
}

/// Waits until `look` finds nothing and fails with what it found last.
fn wait_for_none<T: std::fmt::Debug>(what: &str, limit: Duration, look: impl Fn() -> Vec<T>) {
    let deadline = std::time::Instant::now() + crate::patience(limit);
    loop {
        let found = look();
        if found.is_empty() {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{what}: {found:?}");
        std::thread::yield_now();
    }
}

impl Node {
    /// Looks now.
    pub fn look() -> Self {
        Self { links: links() }
    }

    /// Fails unless everything of a daemon in `dir` with its pods below `cgroup` is gone: processes, cgroups, mounts,
    /// links and the files of pods. Kernel-side removal of network namespaces is asynchronous, hence the patience.
    pub fn assert_unchanged(&self, dir: &Path, cgroup: &str) {
        let limit = Duration::from_secs(10);
        let shown = dir.display().to_string();
        let left = || mounts().into_iter().filter(|mount| mount.starts_with(&shown)).collect::<Vec<_>>();
        wait_for_none("mounts of the daemon are left", limit, left);
        eventually("no veth is left", limit, || {
            links()
                .difference(&self.links)
                .all(|link| !link.starts_with("veth") && !link.starts_with("husk"))
                .then_some(())
        });
        eventually("no pod's process is left", limit, || {
            // The daemon, and the monitor that waits for its next pod.
            let known = |name: &str| matches!(name, "huskd" | "husk-standby");
            processes_of(dir).iter().all(|(_, name)| known(name)).then_some(())
        });
        eventually("no cgroup of a pod is left", limit, || pod_cgroups(cgroup).is_empty().then_some(()));
        for folder in ["state/pods", "state/netns", "root/containers"] {
            eventually(&format!("{folder} is empty"), limit, || {
                fs::read_dir(dir.join(folder))
                    .map_or(true, |mut entries| entries.next().is_none())
                    .then_some(())
            });
        }
    }
}

/// Mount points of the node.
pub fn mounts() -> BTreeSet<String> {
    // Names of mounts may be any bytes.
    String::from_utf8_lossy(&fs::read("/proc/self/mountinfo").expect("read mountinfo"))
        .lines()
        .filter_map(|line| line.split(' ').nth(4).map(str::to_owned))
        .collect()
}

fn links() -> BTreeSet<String> {
    fs::read_dir("/sys/class/net")
        .expect("read /sys/class/net")
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// Every cgroup hierarchy's mount point.
pub fn hierarchies() -> Vec<PathBuf> {
    String::from_utf8_lossy(&fs::read("/proc/self/mountinfo").expect("read mountinfo"))
        .lines()
        .filter(|line| line.contains(" - cgroup"))
        .filter_map(|line| line.split(' ').nth(4).map(PathBuf::from))
        .collect()
}

/// The cgroup of a process in the hierarchy that limits memory, without a leading slash.
pub fn cgroup_of(process: Pid) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{process}/cgroup")).expect("read its cgroups");
    let groups: Vec<_> = text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':')).collect();
    // v1 has a line for memory; where v2 is alone, there is one line for all.
    let limiting = groups.iter().find(|(controllers, _)| controllers.split(',').any(|name| name == "memory"));
    let (_, path) = limiting.or(groups.first()).expect("a cgroup");
    PathBuf::from(path.trim_start_matches('/'))
}

fn pod_cgroups(parent: &str) -> Vec<PathBuf> {
    hierarchies()
        .into_iter()
        .map(|hierarchy| hierarchy.join(parent.trim_start_matches('/')))
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten()
        .filter_map(|entry| entry.ok())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.path())
        .collect()
}

/// Pid and name of every process whose command line mentions `dir`.
pub fn processes_of(dir: &Path) -> Vec<(i32, String)> {
    let needle = dir.display().to_string();
    fs::read_dir("/proc")
        .expect("read /proc")
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let command = fs::read(entry.path().join("cmdline")).ok()?;
            let name = fs::read_to_string(entry.path().join("comm")).ok()?;
            String::from_utf8_lossy(&command).contains(&needle).then(|| (pid, name.trim().to_owned()))
        })
        .filter(|(pid, _)| *pid != std::process::id() as i32)
        .collect()
}

pub(crate) fn kill_processes_of(dir: &Path) {
    for (pid, _) in processes_of(dir) {
        if let Some(pid) = Pid::from_raw(pid) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn cgroup_folders(path: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            cgroup_folders(&entry.path(), found);
        }
    }
    found.push(path.to_owned());
}

pub(crate) fn kill_cgroup(cgroup: &str) {
    for hierarchy in hierarchies() {
        let mut folders = Vec::new();
        cgroup_folders(&hierarchy.join(cgroup.trim_start_matches('/')), &mut folders);
        for folder in folders {
            for pid in fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default().lines() {
                if let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
        }
    }
}

/// Makes a cgroup in every hierarchy; on v1 cpusets start empty and are copied from the parent.
pub(crate) fn make_cgroup(cgroup: &str) {
    for hierarchy in hierarchies() {
        let folder = hierarchy.join(cgroup.trim_start_matches('/'));
        fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(value) = fs::read(hierarchy.join(file))
                && folder.join("cgroup.clone_children").exists()
            {
                fs::write(folder.join(file), value).expect("copy the cpuset");
            }
        }
    }
}

/// Stops a slice of systemd's: slices that were made for a unit stay when it goes. Other cgroups are left alone.
pub(crate) fn stop_slice(cgroup: &str) {
    if let Some(slice) = cgroup.rsplit('/').next().filter(|name| name.ends_with(".slice")) {
        let _ = run(Command::new("systemctl").args(["stop", slice]));
    }
}

/// Removes a cgroup with all below it, where nothing runs any more. Says whether nothing of it is left.
pub(crate) fn remove_cgroup(cgroup: &str) -> bool {
    let mut gone = true;
    for hierarchy in hierarchies() {
        let root = hierarchy.join(cgroup.trim_start_matches('/'));
        let mut folders = Vec::new();
        cgroup_folders(&root, &mut folders);
        for folder in folders {
            let _ = fs::remove_dir(folder);
        }
        gone &= !root.exists();
    }
    gone
}

pub(crate) fn unmount_below(dir: &Path) {
    let shown = dir.display().to_string();
    for mount in mounts().into_iter().rev().filter(|mount| mount.starts_with(&shown)) {
        let _ = rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH);
    }
}

/// Removes a link that exists.
pub(crate) fn remove_link(link: &str) {
    if Path::new("/sys/class/net").join(link).exists() {
        run(Command::new("ip").args(["link", "delete", link])).success();
    }
}

/// Removes a daemon's bridge and rules: they belong to the node and stay when a daemon ends, so a test removes its own.
pub(crate) fn remove_network(bridge: &str, table: &str) {
    remove_link(bridge);
    // Bridges of user networks have random names, and who made them in their alias.
    let alias = format!("husk {table} network ");
    for link in fs::read_dir("/sys/class/net").expect("list the node's links").flatten() {
        let is_ours =
            fs::read_to_string(link.path().join("ifalias")).is_ok_and(|text| text.starts_with(&alias));
        if is_ours {
            remove_link(&link.file_name().to_string_lossy());
        }
    }
    let _ = run(Command::new("nft").args(["delete", "table", "inet", table]));
}

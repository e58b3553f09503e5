//! Units with their cgroups, in the node's v2 tree.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use husk_cgroup::{Cgroup, Hierarchy};
use husk_model::PodSandboxId;
use husk_systemd::{Error, PodScope, PodUnits, Route, Slice, Systemd};

use crate::{
    bus::Bus,
    manager::{Manager, Start, World},
};

/// A slice that is taken away at the end, also after a failed assertion.
struct Tree {
    hierarchy: Hierarchy,
    mount: PathBuf,
    scope: PodScope,
}

impl Drop for Tree {
    fn drop(&mut self) {
        if let Ok(group) = self.hierarchy.open(self.scope.slice().path()) {
            let _ = group.kill();
            let _ = group.remove();
        }
    }
}

impl Tree {
    fn new(name: &str) -> Option<Self> {
        let mount = Hierarchy::detect()
            .ok()
            .and_then(|hierarchy| hierarchy.unified_mount_point().map(Path::to_path_buf));
        if !rustix::process::geteuid().is_root() || mount.is_none() {
            husk_test_support::skip("a tree of cgroup v2");
            return None;
        }
        let slice = Slice::parse(&format!("husktest{name}{}.slice", std::process::id())).unwrap();
        let scope = PodScope::new(slice, &PodSandboxId::generate()).unwrap();
        Some(Self { hierarchy: Hierarchy::detect().unwrap(), mount: mount.unwrap(), scope })
    }

    fn procs(&self, path: &husk_cgroup::CgroupPath) -> String {
        let file = self.mount.join(&path.as_str()[1..]).join("cgroup.procs");
        fs::read_to_string(file).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    async fn units(&self, bus: &Bus, moves: bool) -> (PodUnits, Manager) {
        let tree = moves.then(|| self.mount.clone());
        let world = Arc::new(Mutex::new(World { tree, start: Start::Works, ..World::default() }));
        let manager = Manager::on_bus(&bus.address(), world).await;
        let anchor = bus.dir.path().join("anchor");
        // As `husk-podmon --anchor`.
        fs::write(&anchor, "#!/bin/sh\nexec cat\n").unwrap();
        fs::set_permissions(&anchor, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        (PodUnits::new(Systemd::at(Route::Bus(bus.address())), anchor), manager)
    }
}

#[tokio::test]
async fn the_anchor_waits_in_the_pause_groups_place_and_nothing_lives_in_the_scope_itself() {
    let (Some(bus), Some(tree)) = (Bus::start(), Tree::new("anchor")) else { return };
    let (units, manager) = tree.units(&bus, true).await;
    let anchor = units.start(&tree.hierarchy, &tree.scope).await.unwrap();
    assert_eq!(tree.procs(tree.scope.path()), "");
    assert_eq!(tree.procs(tree.scope.pod()), "");
    let pid: u32 = tree.procs(tree.scope.pause()).trim().parse().unwrap();
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    anchor.release().await;
    assert_eq!(tree.procs(tree.scope.pause()), "");
    // What the monitor does next works: the groups are there, empty, and take processes.
    let pod: Cgroup = tree.hierarchy.create(tree.scope.pod()).unwrap();
    pod.remove().unwrap();
    units.end(tree.scope.unit()).await;
    assert_eq!(manager.world.lock().unwrap().stopped, [tree.scope.unit()]);
}

#[tokio::test]
async fn a_systemd_that_puts_the_process_elsewhere_is_not_believed() {
    let (Some(bus), Some(tree)) = (Bus::start(), Tree::new("lie")) else { return };
    let (units, _manager) = tree.units(&bus, false).await;
    let error = units.start(&tree.hierarchy, &tree.scope).await.unwrap_err();
    assert!(matches!(error, Error::Misplaced { .. }), "{error:?}");
}

#[tokio::test]
async fn a_dropped_anchor_leaves_no_process() {
    let (Some(bus), Some(tree)) = (Bus::start(), Tree::new("drop")) else { return };
    let (units, _manager) = tree.units(&bus, true).await;
    let anchor = units.start(&tree.hierarchy, &tree.scope).await.unwrap();
    drop(anchor);
    let group = tree.hierarchy.open(tree.scope.path()).unwrap();
    group.wait_empty(std::time::Duration::from_secs(10)).unwrap();
}

//! What images, bundles and containers would like to do to the node, by the CVEs of other runtimes; and what a killed husk-oci leaves.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    time::Duration,
};

use husk_test_support::eventually;
use serde_json::json;

use crate::world::World;

#[test]
fn a_creator_killed_at_a_hook_leaves_what_delete_takes_away() {
    let Some(world) = World::new("killed") else { return };
    let at_hook = world.bundle().join("at-hook");
    let script = format!("touch {}; exec sleep 1000", at_hook.display());
    world.change(|config| {
        config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 30 }] });
    });
    let mut creator = world.begin(&["create"]);
    eventually("the hook runs", Duration::from_secs(20), || (at_hook.exists()).then_some(()));
    let pid = world.state()["pid"].as_u64().unwrap();
    creator.kill().unwrap();
    creator.wait().unwrap();
    let ended = || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(());
    eventually("an init without a creator ends", Duration::from_secs(10), ended);
    assert_eq!(world.status(), "stopped");
    world.good(&["delete", "--force"]);
    assert!(!world.state_dir().exists() && world.cgroups().is_empty());
}

#[test]
fn a_directory_without_a_record_is_deleted() {
    let Some(world) = World::new("torn") else { return };
    fs::create_dir_all(world.state_dir()).unwrap();
    assert!(world.bad(&["state"]).contains("does not exist"));
    assert!(world.bad(&["create"]).contains("already exists"));
    world.good(&["delete", "--force"]);
    assert!(!world.state_dir().exists());
}

#[test]
fn a_failed_create_ends_nothing_of_another_container_in_the_same_cgroup() {
    let (Some(first), Some(second)) = (World::new("first"), World::new("second")) else { return };
    first.args(&["sleep", "1000"]);
    first.good(&["run", "--detach"]);
    let path = format!("/{}", first.id());
    second.change(|config| config["linux"]["cgroupsPath"] = json!(path));
    assert!(second.bad(&["create"]).contains("cgroup is not empty"));
    second.good(&["delete", "--force"]);
    assert_eq!(first.status(), "running");
}

/// CVE-2024-21626 and its kin: whoever may look at a waiting init finds no way out of the container.
#[test]
fn a_waiting_init_has_nothing_of_the_node_open() {
    let Some(world) = World::new("open") else { return };
    world.good(&["create"]);
    let dir = format!("/proc/{}/fd", world.state()["pid"]);
    for entry in fs::read_dir(&dir).unwrap() {
        let entry = entry.unwrap();
        let target = fs::read_link(entry.path()).unwrap().display().to_string();
        let number: u32 = entry.file_name().to_str().unwrap().parse().unwrap();
        let fine = number < 3 || target.starts_with("socket:") || target.ends_with("/exec.fifo");
        assert!(fine, "{number} is {target}");
    }
    world.change(|config| config["process"]["cwd"] = json!("/proc/self/fd/8/../../.."));
    world.good(&["delete", "--force"]);
    let why = world.bad(&["run"]);
    assert!(why.contains("working directory"), "{why}");
}

/// CVE-2019-5736: an image whose program is the runtime itself.
#[test]
fn the_runtime_s_own_program_is_not_executed_by_a_container() {
    let Some(world) = World::new("exe") else { return };
    let script = world.rootfs().join("bin/evil");
    fs::write(&script, "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    world.args(&["/bin/evil"]);
    let why = world.bad(&["run"]);
    assert!(why.to_lowercase().contains("permission denied"), "{why}");
    world.args(&["/proc/self/exe"]);
    assert!(world.bad(&["run"]).to_lowercase().contains("permission denied"));
}

/// CVE-2019-19921, CVE-2023-27561, CVE-2025-31133: where the image has links, nothing is mounted or masked elsewhere.
#[test]
fn an_image_s_links_lead_neither_mounts_nor_masks_astray() {
    let Some(world) = World::new("links") else { return };
    let outside = world.bundle().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::remove_dir(world.rootfs().join("proc")).unwrap();
    symlink("/tmp", world.rootfs().join("proc")).unwrap();
    assert!(world.bad(&["run"]).contains("must be mounted on ordinary directory"));
    fs::remove_file(world.rootfs().join("proc")).unwrap();
    fs::create_dir(world.rootfs().join("proc")).unwrap();
    symlink(&outside, world.rootfs().join("data")).unwrap();
    world.change(|config| {
        config["root"]["readonly"] = json!(false);
        config["linux"]["maskedPaths"] = json!(["/tmp/secret"]);
        config["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/data/sub", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]
        }));
    });
    let mut secret = fs::File::create(world.rootfs().join("tmp/secret")).unwrap();
    secret.write_all(b"secret").unwrap();
    fs::remove_file(world.rootfs().join("bin/false")).unwrap();
    symlink("/tmp/secret", world.rootfs().join("dev/null")).unwrap();
    world.args(&["sh", "-c", "cat /tmp/secret; test -c /dev/null && echo device"]);
    assert_eq!(world.good(&["run"]), "device\n");
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0, "the link was followed on the node");
}

#[test]
fn what_would_change_the_node_is_refused() {
    let Some(world) = World::new("refused") else { return };
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let path = world.bundle().join("config.json");
        let before = fs::read(&path).unwrap();
        world.change(change);
        let why = world.bad(&["create"]);
        fs::write(path, before).unwrap();
        assert!(!world.state_dir().exists(), "{why}");
        why
    };
    let sysctl = with(&|config| config["linux"]["sysctl"] = json!({ "kernel.core_pattern": "|/evil" }));
    assert!(sysctl.contains("not in a separate kernel namespace"), "{sysctl}");
    let proc = with(&|config| {
        let mount = json!({ "destination": "/proc/self/attr", "type": "tmpfs", "source": "tmpfs" });
        config["mounts"].as_array_mut().unwrap().push(mount);
    });
    assert!(proc.contains("inside /proc"), "{proc}");
    let cgroup = with(&|config| config["linux"]["cgroupsPath"] = json!("/../../x"));
    assert!(cgroup.contains("cgroup path"), "{cgroup}");
    let systemd =
        world.output(world.command(&["--systemd-cgroup", "create", "x"]).current_dir(world.bundle()));
    assert!(String::from_utf8_lossy(&systemd.stderr).contains("use cgroupfs"));
}

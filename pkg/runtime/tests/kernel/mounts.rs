//! Mounts, propagation, devices, and what an image may try with symlinks (peers' CVEs in the names of the cases).

use std::{
    ffi::OsStr,
    fs,
    os::fd::AsRawFd,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::{Path, PathBuf},
};

use husk_model::ImageVolume;
use husk_runtime::{NetNs, Step};
use husk_sys::{
    mount::{self, Attr, Change, Filesystem, Propagation},
    namespace,
};
use rustix::{
    fs::{Mode, OFlags},
    thread::UnshareFlags,
};
use serde_json::json;

use crate::{
    cases,
    world::{Container, Pod, World, mappings},
};

cases![
    readonly_leaves_submounts_writable_and_recursive_readonly_does_not,
    a_private_volume_sees_no_later_mounts,
    a_slave_volume_sees_the_nodes_later_mounts_only,
    a_shared_volume_passes_mounts_both_ways,
    propagation_needs_a_source_that_takes_part,
    mount_points_are_made_as_the_source_is,
    a_part_of_a_volume_is_found_in_the_volume_whatever_links_are_in_it,
    mount_attributes_are_those_asked_for,
    a_missing_source_is_named,
    a_mount_of_the_node_with_another_spelling_of_its_name_is_in_nobodys_way,
    cve_2020_8557_the_pods_files_are_writable_and_cannot_fill_the_node,
    all_containers_of_a_pod_see_the_same_files_and_other_pods_their_own,
    a_container_may_have_the_pods_files_read_only,
    a_source_of_the_other_kind_is_refused,
    a_symlinked_source_is_resolved_on_the_node,
    cve_2021_30465_a_symlinked_destination_stays_inside_the_root,
    cve_2019_19921_proc_must_be_an_ordinary_directory,
    cve_2026_41579_dev_must_be_an_ordinary_directory,
    cve_2019_16884_nothing_is_mounted_inside_proc_but_what_lxcfs_needs,
    a_readonly_root_has_a_writable_dev_and_shm,
    default_devices_and_links_are_there,
    extra_devices_have_their_mode_and_owner,
    masked_files_are_null_and_masked_directories_empty,
    cve_2025_31133_a_fake_null_device_masks_nothing,
    readonly_paths_are_read_only,
    the_working_directory_is_made,
    a_container_sees_its_own_cgroups_read_only,
    the_directory_of_version_1_controllers_cannot_be_filled,
    beside_version_1_controllers_no_version_2_is_seen,
    five_hundred_layers_can_be_stacked,
    a_directory_is_what_its_layers_have_at_its_own_name,
    a_tmpfs_has_its_options_and_becomes_read_only_when_furnished,
    an_image_volume_shows_all_layers_read_only_whatever_the_options,
    a_sub_path_of_an_image_volume_is_looked_up_inside_the_image,
    cve_2022_23648_an_image_volume_leads_nowhere_on_the_node,
];

/// A mount namespace of the case's own, in which mounts may be made that nobody else sees.
fn private_mounts() {
    namespace::unshare(UnshareFlags::NEWNS).unwrap();
    let root = open("/");
    mount::change(&root, true, Change::propagation(Propagation::Private)).unwrap();
}

pub fn open(path: impl AsRef<Path>) -> std::os::fd::OwnedFd {
    rustix::fs::open(path.as_ref(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

pub fn mount_tmpfs(at: &Path) {
    fs::create_dir_all(at).unwrap();
    let tmpfs = Filesystem::new("tmpfs").unwrap().mount(Attr::empty()).unwrap();
    mount::attach(&tmpfs, open(at)).unwrap();
}

/// A volume that is a mount of its own, with a propagation.
pub fn volume(world: &World, propagation: Propagation) -> std::path::PathBuf {
    private_mounts();
    let volume = world.scratch("volume");
    let copy = mount::clone_path(&*volume, false).unwrap();
    mount::change(&copy, false, Change::propagation(propagation)).unwrap();
    mount::attach(&copy, open(&volume)).unwrap();
    volume
}

fn readonly_leaves_submounts_writable_and_recursive_readonly_does_not(world: &World) {
    private_mounts();
    let pod = world.pod();
    let volume = world.scratch("volume");
    mount_tmpfs(&volume.join("sub"));
    let run = |option| {
        world
            .container(&pod, &["sh", "-c", "touch /mnt/x; touch /mnt/sub/x"])
            .mount("bind", &volume, "/mnt", &["rbind", "rprivate", option])
            .run()
            .stderr
    };
    assert_eq!(run("ro"), "touch: /mnt/x: Read-only file system\n");
    assert_eq!(
        run("rro"),
        "touch: /mnt/x: Read-only file system\ntouch: /mnt/sub/x: Read-only file system\n"
    );
    assert_eq!(run("rw"), "");
}

fn inside_and_outside(world: &World, source: Propagation, option: &str) -> (bool, bool) {
    let volume = volume(world, source);
    let pod = world.pod();
    let running = world
        .container(&pod, &["sleep", "1000"])
        .mount("bind", &volume, "/mnt", &["rbind", option])
        .set(&["linux", "rootfsPropagation"], json!(if option == "rshared" { "rshared" } else { "rslave" }))
        .set(&["process", "capabilities", "bounding"], json!(["CAP_SYS_ADMIN"]))
        .set(&["process", "capabilities", "permitted"], json!(["CAP_SYS_ADMIN"]))
        .set(&["process", "capabilities", "effective"], json!(["CAP_SYS_ADMIN"]))
        .create()
        .unwrap()
        .start();
    mount_tmpfs(&volume.join("outer"));
    fs::write(volume.join("outer/file"), "").unwrap();
    let seen_inside = running.exec(&["ls", "/mnt/outer"]).stdout == "file\n";
    fs::create_dir(volume.join("inner")).unwrap();
    let (mut plan, stdout, stderr) =
        running.exec_plan(&["sh", "-c", "mount -t tmpfs none /mnt/inner && touch /mnt/inner/file"]);
    let mut process = serde_json::to_value(&plan.process).unwrap();
    for set in ["bounding", "permitted", "effective"] {
        process["capabilities"][set] = json!(["CAP_SYS_ADMIN"]);
    }
    plan.process = serde_json::from_value(process).unwrap();
    let output = crate::world::run_exec(plan, stdout, stderr).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
    let seen_outside = volume.join("inner/file").exists();
    running.kill();
    (seen_inside, seen_outside)
}

fn a_private_volume_sees_no_later_mounts(world: &World) {
    assert_eq!(inside_and_outside(world, Propagation::Shared, "rprivate"), (false, false));
}

fn a_slave_volume_sees_the_nodes_later_mounts_only(world: &World) {
    assert_eq!(inside_and_outside(world, Propagation::Shared, "rslave"), (true, false));
}

fn a_shared_volume_passes_mounts_both_ways(world: &World) {
    assert_eq!(inside_and_outside(world, Propagation::Shared, "rshared"), (true, true));
}

fn propagation_needs_a_source_that_takes_part(world: &World) {
    let volume = volume(world, Propagation::Private);
    let pod = world.pod();
    for (option, wanted) in [("rshared", "not a shared mount"), ("rslave", "not a shared or slave mount")] {
        let failure = world
            .container(&pod, &["true"])
            .mount("bind", &volume, "/mnt", &["rbind", option])
            .create()
            .err()
            .unwrap();
        assert_eq!(failure.step, Step::Source);
        assert!(failure.detail.contains(wanted), "{failure}");
    }
}

fn mount_points_are_made_as_the_source_is(world: &World) {
    let pod = world.pod();
    let volume = world.scratch("volume");
    fs::write(volume.join("file"), "content").unwrap();
    let output = world
        .container(&pod, &["sh", "-c", "cat /a/b/file; ls /c/d; stat -c %F /a/b/file /c/d"])
        .mount("bind", volume.join("file"), "/a/b/file", &["rbind"])
        .mount("bind", &volume, "/c/d", &["rbind"])
        .run();
    assert_eq!(output.stdout, "contentfile\nregular file\ndirectory\n", "{output:?}");
}

/// Of what containers write, a part is mounted into another: as with the kubelet's sub paths (CVE-2017-1002101, CVE-2021-25741).
fn a_part_of_a_volume_is_found_in_the_volume_whatever_links_are_in_it(world: &World) {
    let pod = world.pod();
    let volume = world.scratch("volume");
    fs::create_dir_all(volume.join("part/below")).unwrap();
    fs::write(volume.join("part/below/file"), "mine").unwrap();
    fs::create_dir(volume.join("etc")).unwrap();
    fs::write(volume.join("etc/passwd"), "the volume's").unwrap();
    for (link, target) in
        [("out", "/etc"), ("up", "../../../../../../etc"), ("self", "part"), ("gone", "/root")]
    {
        std::os::unix::fs::symlink(target, volume.join(link)).unwrap();
    }
    let shown = |path: &str, place: &str, show: &str| {
        let below = format!("husk.subpath={path}");
        world.container(&pod, &["cat", show]).mount("bind", &volume, place, &["rbind", &below]).create()
    };
    let content = |path, place, show| shown(path, place, show).unwrap().start().finish().stdout;
    assert_eq!(content("part/below", "/data", "/data/file"), "mine");
    assert_eq!(content("part/below/file", "/data/one", "/data/one"), "mine");
    assert_eq!(content("self/below", "/data", "/data/file"), "mine");
    for link in ["out", "up"] {
        assert_eq!(content(link, "/data", "/data/passwd"), "the volume's", "{link}");
    }
    for absent in ["none", "gone", "part/below/file/x"] {
        let failure = shown(absent, "/data", "/data").err().unwrap();
        assert_eq!((failure.step.as_str(), failure.object.as_str()), (Step::Source.as_str(), absent));
    }
}

fn mount_attributes_are_those_asked_for(world: &World) {
    let pod = world.pod();
    let volume = world.scratch("volume");
    let output = world
        .container(&pod, &["cat", "/proc/self/mountinfo"])
        .mount("bind", &volume, "/mnt", &["rbind", "nosuid", "nodev", "noexec", "noatime", "ro"])
        .run();
    let line = output.stdout.lines().find(|line| line.contains(" /mnt ")).unwrap();
    for attribute in ["ro", "nosuid", "nodev", "noexec", "noatime"] {
        assert!(
            line.split(' ').nth(5).unwrap().split(',').any(|set| set == attribute),
            "{attribute}: {line}"
        );
    }
    assert!(!line.contains("shared:") && !line.contains("master:"), "{line}");
}

fn a_missing_source_is_named(world: &World) {
    let pod = world.pod();
    let failure = world
        .container(&pod, &["true"])
        .mount("bind", "/nonexistent/volume", "/mnt", &["rbind"])
        .create()
        .err()
        .unwrap();
    assert_eq!(
        failure.to_string(),
        "open mount source /nonexistent/volume: for /mnt: no such file or directory"
    );
}

fn a_mount_of_the_node_with_another_spelling_of_its_name_is_in_nobodys_way(world: &World) {
    // A file name is bytes, and so is every line of /proc/self/mountinfo.
    let volume = volume(world, Propagation::Shared);
    let other = world.scratch("other").join(OsStr::from_bytes(b"caf\xe9"));
    fs::create_dir(&other).unwrap();
    let tmpfs = Filesystem::new("tmpfs").unwrap().mount(Attr::empty()).unwrap();
    mount::attach(&tmpfs, open(&other)).unwrap();
    let pod = world.pod();
    let output =
        world.container(&pod, &["echo", "fine"]).mount("bind", &volume, "/mnt", &["rbind", "rslave"]).run();
    assert_eq!(output.stdout, "fine\n", "{output:?}");
}

/// A pod with a file of its own, whose path on the node is returned.
fn pod_with_file(world: &World, mapped: bool) -> (Pod, PathBuf) {
    let file = world.scratch("pod-files").join("hosts");
    fs::write(&file, "127.0.0.1 localhost\n").unwrap();
    let mut plan = world.sandbox_plan();
    plan.files = vec![file.clone(), world.scratch("pod-files").join("absent")];
    if mapped {
        plan.namespaces.net = NetNs::New;
        plan.namespaces.user = Some(mappings(200_000));
    }
    (Pod::start(plan).unwrap(), file)
}

fn with_file<'pod>(world: &World, pod: &'pod Pod, file: &Path, script: &str) -> Container<'pod> {
    let mut container = world.container(pod, &["sh", "-c", script]);
    container.pod_files = vec![file.to_owned()];
    container.mount("bind", file, "/etc/hosts", &["rbind", "rprivate", "rw"])
}

fn cve_2020_8557_the_pods_files_are_writable_and_cannot_fill_the_node(world: &World) {
    let script = "cat /etc/hosts; stat -c %u:%g:%a /etc/hosts; \
        echo 10.0.0.1 added >> /etc/hosts && tail -n 1 /etc/hosts; echo new > /etc/hosts && cat /etc/hosts; \
        dd if=/dev/zero of=/etc/hosts bs=1M count=64 2>/dev/null && echo filled; stat -c %s /etc/hosts; \
        echo again > /etc/hosts && cat /etc/hosts";
    for mapped in [false, true] {
        let (pod, file) = pod_with_file(world, mapped);
        let output = with_file(world, &pod, &file, script).run();
        let lines: Vec<&str> = output.stdout.lines().collect();
        assert_eq!(lines.len(), 6, "{output:?}");
        assert_eq!(lines[..4], ["127.0.0.1 localhost", "0:0:644", "10.0.0.1 added", "new"], "{output:?}");
        let size: u64 = lines[4].parse().unwrap();
        assert!((512 << 10..=2 << 20).contains(&size), "{size} bytes");
        assert_eq!(lines[5], "again", "what is full can be emptied");
        assert_eq!(
            fs::read_to_string(&file).unwrap(),
            "127.0.0.1 localhost\n",
            "the node's file is as it was"
        );
    }
}

fn all_containers_of_a_pod_see_the_same_files_and_other_pods_their_own(world: &World) {
    let (pod, file) = pod_with_file(world, false);
    let (other, other_file) = pod_with_file(world, false);
    with_file(world, &pod, &file, "echo mine > /etc/hosts").run();
    let shown = |pod, file| with_file(world, pod, file, "cat /etc/hosts").run().stdout;
    assert_eq!(shown(&pod, &file), "mine\n");
    assert_eq!(shown(&other, &other_file), "127.0.0.1 localhost\n");
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.contains("hosts"), "nothing of it is mounted on the node");
}

fn a_container_may_have_the_pods_files_read_only(world: &World) {
    let (pod, file) = pod_with_file(world, false);
    let mut container = world.container(&pod, &["sh", "-c", "echo x > /etc/hosts; cat /etc/hosts"]);
    container.pod_files = vec![file.clone()];
    let output = container.mount("bind", &file, "/etc/hosts", &["rbind", "rprivate", "ro"]).run();
    assert!(output.stderr.contains("Read-only file system"), "{output:?}");
    assert_eq!(output.stdout, "127.0.0.1 localhost\n");
}

fn a_source_of_the_other_kind_is_refused(world: &World) {
    let pod = world.pod();
    let failure = world
        .container(&pod, &["true"])
        .mount("bind", "/etc/hostname", "/etc", &["rbind"])
        .create()
        .err()
        .unwrap();
    assert_eq!((failure.step, failure.object.as_str()), (Step::Mount, "/etc"));
    assert!(failure.detail.contains("the image has a directory there"), "{failure}");
}

fn a_symlinked_source_is_resolved_on_the_node(world: &World) {
    let pod = world.pod();
    let volume = world.scratch("volume");
    fs::create_dir(volume.join("real")).unwrap();
    fs::write(volume.join("real/file"), "").unwrap();
    symlink(volume.join("real"), volume.join("link")).unwrap();
    let container =
        world.container(&pod, &["ls", "/mnt"]).mount("bind", volume.join("link"), "/mnt", &["rbind"]);
    assert_eq!(container.run().stdout, "file\n");
}

/// A container whose upper layer holds symlinks.
fn with_links<'pod>(mut container: Container<'pod>, links: &[(&str, &Path)]) -> Container<'pod> {
    for (name, target) in links {
        // A whiteout-free way to replace a directory of the image: the upper entry hides the lower one.
        symlink(target, container.rootfs.upper.join(name)).unwrap();
    }
    container.rootfs.readonly = false;
    container
}

fn cve_2021_30465_a_symlinked_destination_stays_inside_the_root(world: &World) {
    private_mounts();
    let pod = world.pod();
    let (volume, outside) = (world.scratch("volume"), world.scratch("outside"));
    fs::write(volume.join("file"), "").unwrap();
    let up = Path::new("../../../../../../..").join(outside.strip_prefix("/").unwrap());
    for target in [outside.as_path(), &up] {
        let container = with_links(world.container(&pod, &["ls", "/evil/mnt"]), &[("evil", target)]);
        let output = container.mount("bind", &volume, "/evil/mnt", &["rbind"]).run();
        assert_eq!(output.stdout, "file\n");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "something was made on the node");
    }
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.contains(outside.to_str().unwrap()), "something was mounted on the node");
}

fn refuses_link(world: &World, name: &str) {
    let pod = world.pod();
    for target in ["/tmp", "/", "/nowhere"] {
        let container = with_links(world.container(&pod, &["true"]), &[(name, Path::new(target))]);
        let failure = container.create().err().unwrap();
        assert_eq!((failure.step, failure.object), (Step::Mount, format!("/{name}")), "{target}");
        assert!(failure.detail.contains("without symlinks"), "{}", failure.detail);
    }
}

fn cve_2019_19921_proc_must_be_an_ordinary_directory(world: &World) {
    refuses_link(world, "proc");
    refuses_link(world, "sys");
}

fn cve_2026_41579_dev_must_be_an_ordinary_directory(world: &World) {
    refuses_link(world, "dev");
}

fn cve_2019_16884_nothing_is_mounted_inside_proc_but_what_lxcfs_needs(world: &World) {
    let pod = world.pod();
    let volume = world.scratch("volume");
    fs::write(volume.join("file"), "covered\n").unwrap();
    let refused = |destination: &str| {
        let container =
            with_links(world.container(&pod, &["true"]), &[("shortcut", Path::new("/proc/self"))]);
        let container = container.mount("bind", volume.join("file"), destination, &["rbind"]);
        container.create().err().unwrap_or_else(|| panic!("{destination} was allowed"))
    };
    assert!(refused("/proc/sys/kernel/hostname").detail.contains("inside /proc"));
    assert!(refused("/shortcut/attr/current").detail.contains("inside /proc"));
    let directory = world.container(&pod, &["true"]).mount("bind", &volume, "/proc", &["rbind"]);
    assert!(directory.create().err().unwrap().detail.contains("only a procfs"));
    let container = world.container(&pod, &["cat", "/proc/uptime"]);
    let container = container.mount("bind", volume.join("file"), "/proc/uptime", &["rbind"]);
    assert_eq!(container.run().stdout, "covered\n");
}

fn a_readonly_root_has_a_writable_dev_and_shm(world: &World) {
    let pod = world.pod();
    let script = "touch /x /tmp/x; touch /dev/shm/x /dev/mqueue/x /dev/x && echo fine";
    let mut container = world.container(&pod, &["sh", "-c", script]);
    container.rootfs.readonly = true;
    let output = container.run();
    assert_eq!(output.stdout, "fine\n", "{output:?}");
    assert_eq!(output.stderr.matches("Read-only file system").count(), 2, "{output:?}");
}

fn default_devices_and_links_are_there(world: &World) {
    let pod = world.pod();
    let script = "for d in null zero full random urandom tty; do stat -c '%n %F %t:%T %a' /dev/$d; done; \
        for l in fd stdin stdout stderr core ptmx; do readlink /dev/$l; done; echo x >/dev/null; ls /dev/pts";
    let output = world.container(&pod, &["sh", "-c", script]).run();
    let expected = "/dev/null character special file 1:3 666\n/dev/zero character special file 1:5 666\n\
        /dev/full character special file 1:7 666\n/dev/random character special file 1:8 666\n\
        /dev/urandom character special file 1:9 666\n/dev/tty character special file 5:0 666\n\
        /proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\n/proc/kcore\npts/ptmx\nptmx\n";
    assert_eq!(output.stdout, expected, "{output:?}");
}

fn extra_devices_have_their_mode_and_owner(world: &World) {
    let pod = world.pod();
    let devices = json!([
        {"path": "/dev/deep/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 7, "gid": 8},
        {"path": "/dev/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600},
    ]);
    let container = world
        .container(&pod, &["stat", "-c", "%t:%T %a %u:%g", "/dev/deep/fuse", "/dev/zero"])
        .set(&["linux", "devices"], devices);
    assert_eq!(container.run().stdout, "a:e5 640 7:8\n1:5 600 0:0\n");
}

fn masked_files_are_null_and_masked_directories_empty(world: &World) {
    let pod = world.pod();
    let script = "cat /etc/passwd; ls -A /data; touch /data/x; ls -A /link; stat -c '%t:%T' /proc/version";
    let container = with_links(world.container(&pod, &["sh", "-c", script]), &[("link", Path::new("/root"))])
        .set(&["linux", "maskedPaths"], json!(["/etc/passwd", "/data", "/link", "/proc/version", "/absent"]));
    fs::create_dir(container.rootfs.upper.join("root")).unwrap();
    fs::write(container.rootfs.upper.join("root/secret"), "").unwrap();
    let output = container.run();
    assert_eq!(output.stdout, "1:3\n", "{output:?}");
    assert_eq!(output.stderr, "touch: /data/x: Read-only file system\n");
}

fn cve_2025_31133_a_fake_null_device_masks_nothing(world: &World) {
    let pod = world.pod();
    // The user's own /dev with a "null" that is a symlink to what should be written: never used for masking.
    let dev = world.scratch("dev");
    symlink("/proc/sys/kernel/core_pattern", dev.join("null")).unwrap();
    let container = world
        .container(&pod, &["sh", "-c", "stat -c '%F %t:%T' /proc/version; readlink /dev/null"])
        .set(&["mounts"], json!([{"destination": "/proc", "type": "proc", "source": "proc", "options": []}]))
        .mount("bind", &dev, "/dev", &["rbind"])
        .set(&["linux", "maskedPaths"], json!(["/proc/version"]));
    let output = container.run();
    assert_eq!(output.stdout, "character special file 1:3\n/proc/sys/kernel/core_pattern\n", "{output:?}");
}

fn readonly_paths_are_read_only(world: &World) {
    let pod = world.pod();
    let container = world
        .container(&pod, &["touch", "/tmp/test"])
        .set(&["linux", "readonlyPaths"], json!(["/tmp", "/absent", "/proc/sys"]));
    assert_eq!(container.run().stderr, "touch: /tmp/test: Read-only file system\n");
}

fn the_working_directory_is_made(world: &World) {
    let pod = world.pod();
    let container = world.container(&pod, &["pwd"]).set(&["process", "cwd"], json!("/work/deep"));
    let upper = container.rootfs.upper.clone();
    assert_eq!(container.run().stdout, "/work/deep\n");
    assert!(upper.join("work/deep").is_dir());
}

fn a_container_sees_its_own_cgroups_read_only(world: &World) {
    let pod = world.pod();
    for own in [true, false] {
        let script = "ls /sys/fs/cgroup | head -1; cat /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs \
            2>/dev/null | grep -q . && echo processes; mkdir /sys/fs/cgroup/x /sys/fs/cgroup/memory/x";
        let mut container = world.container(&pod, &["sh", "-c", script]);
        container.cgroup_namespace = own;
        let output = container.run();
        assert!(output.stdout.ends_with("processes\n"), "{output:?}");
        assert!(output.stderr.lines().all(|line| line.ends_with("Read-only file system")), "{output:?}");
    }
}

fn the_directory_of_version_1_controllers_cannot_be_filled(world: &World) {
    if !Path::new("/sys/fs/cgroup/memory").exists() {
        husk_test_support::skip("cgroup v1");
        return;
    }
    let pod = world.pod();
    let script = "dd if=/dev/zero of=/sys/fs/cgroup/x bs=1M count=16 2>/dev/null; stat -c %s /sys/fs/cgroup/x; \
        ls -d /sys/fs/cgroup/memory";
    // As of a privileged container.
    let output = world
        .container(&pod, &["sh", "-c", script])
        .mount("cgroup", "cgroup", "/sys/fs/cgroup", &["nosuid"])
        .run();
    let (size, rest) = output.stdout.split_once('\n').unwrap();
    assert!(size.parse::<u64>().unwrap() <= 64 << 10, "{output:?}");
    assert_eq!(rest, "/sys/fs/cgroup/memory\n");
}

/// Programs take a cgroup2 there for a node that is v2, and look for limits where there are none.
fn beside_version_1_controllers_no_version_2_is_seen(world: &World) {
    if !Path::new("/sys/fs/cgroup/memory").exists() {
        husk_test_support::skip("cgroup v1");
        return;
    }
    let pod = world.pod();
    let output =
        world.container(&pod, &["sh", "-c", "grep -c ' cgroup2 ' /proc/mounts; ls /sys/fs/cgroup"]).run();
    let (count, directories) = output.stdout.split_once('\n').unwrap();
    assert_eq!(count, "0", "{output:?}");
    assert!(directories.contains("memory") && !directories.contains("unified"), "{output:?}");
}

fn five_hundred_layers_can_be_stacked(world: &World) {
    let pod = world.pod();
    let mut container = world.container(&pod, &["sh", "-c", "ls /many | wc -l"]);
    let base = world.dir.join("layers");
    let names: Vec<_> = (0..498).map(|number| format!("many{number}-{}", std::process::id())).collect();
    for (number, name) in names.iter().enumerate() {
        fs::create_dir_all(base.join(name).join("many")).unwrap();
        fs::write(base.join(name).join("many").join(number.to_string()), "").unwrap();
    }
    container.rootfs.lowers = names.iter().cloned().chain(["top".to_owned(), "base".to_owned()]).collect();
    let output = container.run();
    for name in names {
        fs::remove_dir_all(base.join(name)).unwrap();
    }
    assert_eq!(output.stdout.trim(), "498", "{output:?}");
}

/// Whatever the kernel's overlay module was told: with its defaults here, a redirect would be followed.
fn a_directory_is_what_its_layers_have_at_its_own_name(world: &World) {
    let pod = world.pod();
    let mut container = world.container(&pod, &["sh", "-c", "ls /here || echo refused"]);
    let base = world.dir.join("layers");
    let [above, below] = ["above", "below"].map(|name| format!("{name}-{}", std::process::id()));
    fs::create_dir_all(base.join(&above).join("here")).unwrap();
    fs::create_dir_all(base.join(&below).join("there")).unwrap();
    fs::write(base.join(&below).join("there/file"), "").unwrap();
    let here = open(base.join(&above).join("here"));
    let path = format!("/proc/self/fd/{}", here.as_raw_fd());
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path, "trusted.overlay.redirect", b"/there", flags).unwrap();
    container.rootfs.lowers =
        [&above, &below].into_iter().cloned().chain(["top".to_owned(), "base".to_owned()]).collect();
    let output = container.run();
    for name in [above, below] {
        fs::remove_dir_all(base.join(name)).unwrap();
    }
    assert_eq!(output.stdout.trim(), "refused", "{output:?}");
}

fn a_tmpfs_has_its_options_and_becomes_read_only_when_furnished(world: &World) {
    let pod = world.pod();
    let volume = world.scratch("volume");
    fs::write(volume.join("file"), "").unwrap();
    let output = world
        .container(&pod, &["sh", "-c", "stat -c %a /scratch; ls /scratch/in; touch /scratch/x"])
        .mount("tmpfs", "tmpfs", "/scratch", &["ro", "size=4m", "mode=0711"])
        .mount("bind", &volume, "/scratch/in", &["rbind"])
        .run();
    assert_eq!(output.stdout, "711\nfile\n");
    assert_eq!(output.stderr, "touch: /scratch/x: Read-only file system\n");
}

/// An image of layers made of these files, topmost first.
fn image(world: &World, layers: &[&[(&str, &str)]]) -> ImageVolume {
    let base = world.scratch("image");
    for (number, files) in layers.iter().enumerate() {
        for (path, content) in *files {
            let path = base.join(number.to_string()).join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }
    ImageVolume {
        base,
        lowers: (0..layers.len()).map(|number| number.to_string()).collect(),
        sub_path: "".into(),
    }
}

fn an_image_volume_shows_all_layers_read_only_whatever_the_options(world: &World) {
    let pod = world.pod();
    for layers in [
        &[&[("a", "1"), ("b", "2")][..]][..],
        &[&[("a", "1")], &[("a", "hidden"), ("b", "2")]],
        &[&[("a", "1")], &[("b", "2")], &[("b", "hidden")]],
    ] {
        let mut container = world
            .container(&pod, &["sh", "-c", "cat /mnt/a /mnt/b; touch /mnt/a; mount -o remount,rw,bind /mnt"])
            .mount("image", "0", "/mnt", &["rprivate", "rw"]);
        container.image_volumes = vec![image(world, layers)];
        let output = container.run();
        assert_eq!(output.stdout, "12", "{output:?}");
        assert!(output.stderr.contains("touch: /mnt/a: Read-only file system"), "{output:?}");
    }
}

fn a_sub_path_of_an_image_volume_is_looked_up_inside_the_image(world: &World) {
    let pod = world.pod();
    let mut volume = image(world, &[&[("dir/file", "top")], &[("dir/file", "below"), ("dir/other", "x")]]);
    symlink("/dir", volume.base.join("0/absolute")).unwrap();
    symlink("../../../dir/../dir", volume.base.join("0/climbing")).unwrap();
    symlink("/etc/passwd", volume.base.join("0/passwd")).unwrap();
    symlink("loop", volume.base.join("0/loop")).unwrap();
    let create = |sub_path: &str, command: &str, volume: &ImageVolume| {
        let mut container =
            world.container(&pod, &["sh", "-c", command]).mount("image", "0", "/mnt/in", &["rprivate", "ro"]);
        container.image_volumes = vec![ImageVolume { sub_path: sub_path.into(), ..volume.clone() }];
        container.create()
    };
    for path in ["dir", "absolute", "climbing", "./dir/"] {
        let output = create(path, "cat /mnt/in/file /mnt/in/other", &volume).unwrap().start().finish();
        assert_eq!(output.stdout, "topx", "{path}: {output:?}");
    }
    let output = create("dir/file", "cat /mnt/in; echo x > /mnt/in", &volume).unwrap().start().finish();
    assert_eq!(output.stdout, "top", "a single file: {output:?}");
    assert!(output.stderr.contains("Read-only file system"), "{output:?}");
    for (path, why) in [
        ("absent", "the image has no such path"),
        ("dir/file/x", "the image has no such path"),
        // The image's own, which it does not have; not the node's.
        ("passwd", "the image has no such path"),
        ("loop", "cannot be reached"),
    ] {
        let failure = create(path, "true", &volume).err().unwrap();
        assert!(failure.step == Step::Source && failure.detail.contains(why), "{path}: {failure}");
    }
    // One layer is a plain bind mount, and its links are confined as well.
    volume.lowers.truncate(1);
    assert!(create("passwd", "true", &volume).is_err());
    assert_eq!(create("absolute", "cat /mnt/in/file", &volume).unwrap().start().finish().stdout, "top");
}

fn cve_2022_23648_an_image_volume_leads_nowhere_on_the_node(world: &World) {
    let pod = world.pod();
    let secret = world.scratch("secret");
    fs::write(secret.join("key"), "secret").unwrap();
    let volume = image(world, &[&[("x", "")], &[("y", "")]]);
    symlink(&secret, volume.base.join("0/link")).unwrap();
    let mut through = world.container(&pod, &["true"]).mount("image", "0", "/mnt", &["ro"]);
    through.image_volumes = vec![ImageVolume { sub_path: "link/key".into(), ..volume.clone() }];
    let failure = through.create().err().unwrap();
    assert_eq!(failure.step, Step::Source, "{failure}");
    let mut inside = world
        .container(&pod, &["sh", "-c", "cat /mnt/link/key /mnt/link/../../../../../../../key"])
        .mount("image", "0", "/mnt", &["ro"]);
    inside.image_volumes = vec![volume];
    let output = inside.run();
    assert_eq!((output.code, output.stdout.as_str()), (1, ""), "{output:?}");
}

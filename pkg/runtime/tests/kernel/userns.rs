//! User namespaces (KEP-127): who is who inside, outside and on disk, and what belongs to whom.

use std::{
    fs,
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, PermissionsExt},
    },
    path::Path,
};

use husk_model::{GroupSpec, UserRequest, UserSpec};
use husk_runtime::{NetNs, PidNs, Step};
use husk_sys::{
    mount::{self, Attr, Change, Filesystem},
    namespace, netns,
    procfs::Procfs,
};
use rustix::fs::{Mode, OFlags};
use serde_json::json;

use crate::{
    cases,
    world::{Container, MountTable, Pod, World, mappings, pipe, read_terminal},
};

cases![
    the_process_has_the_pods_mapping_and_nothing_else,
    every_namespace_of_pod_and_container_belongs_to_the_user_namespace,
    files_of_the_image_show_their_owners_and_are_not_changed,
    what_is_written_belongs_to_the_mapped_ids_on_the_node,
    a_mapped_volume_is_written_with_the_containers_own_ids,
    a_volume_that_is_not_mapped_belongs_to_nobody,
    a_volume_with_other_mappings_is_refused,
    a_filesystem_that_cannot_be_mapped_is_named,
    fifty_layers_are_one_mapped_mount,
    a_setuid_program_raises_to_root_of_the_namespace_only,
    devices_work_and_none_can_be_made,
    a_device_of_the_node_keeps_its_owner,
    a_device_of_an_image_cannot_be_opened,
    the_terminal_is_the_users,
    standard_streams_can_be_reopened_by_the_user,
    exec_enters_the_user_namespace,
    containers_share_the_pods_pid_namespace,
    a_pid_namespace_of_its_own_is_made_inside,
    a_pod_in_the_nodes_network_shows_the_nodes_sysfs_read_only,
    a_node_with_a_read_only_sysfs_has_pods_with_user_namespaces,
    pause_has_its_oom_score,
    sysctls_of_the_pods_network_can_be_set,
    root_inside_is_nobody_on_the_node,
    an_id_beyond_the_mapping_is_refused_with_its_name,
    the_nodes_namespaces_are_refused,
    a_root_that_is_read_only_stays_so,
    masks_hide_in_a_user_namespace_too,
    cve_2023_25809_the_cgroup_cannot_be_written,
    cve_2025_52881_id_maps_are_written_past_what_lies_over_proc,
    nothing_is_mounted_on_the_node,
];

const HOST: u32 = 200_000;

fn shell<'pod>(world: &World, pod: &'pod Pod, script: &str) -> Container<'pod> {
    world.container(pod, &["sh", "-c", script])
}

fn run(world: &World, pod: &Pod, script: &str) -> String {
    let output = shell(world, pod, script).run();
    assert_eq!(output.code, 0, "{output:?}");
    output.stdout
}

fn the_process_has_the_pods_mapping_and_nothing_else(world: &World) {
    let pod = world.mapped_pod(HOST);
    let shown = run(world, &pod, "cat /proc/self/uid_map /proc/self/gid_map; id -u; id -G");
    let words: Vec<_> = shown.split_whitespace().collect();
    assert_eq!(words, ["0", "200000", "65536", "0", "200000", "65536", "0", "0"]);
    let running = shell(world, &pod, "exec sleep 100").create().unwrap().start();
    let map = fs::read_to_string(format!("/proc/{}/uid_map", running.child.pid)).unwrap();
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "200000", "65536"]);
    let status = fs::read_to_string(format!("/proc/{}/status", running.child.pid)).unwrap();
    assert!(status.contains("Uid:\t200000\t200000\t200000\t200000"), "{status}");
}

fn every_namespace_of_pod_and_container_belongs_to_the_user_namespace(world: &World) {
    let pod = world.mapped_pod(HOST);
    let user = fs::metadata(format!("/proc/{}/ns/user", pod.pause.pid)).unwrap().ino();
    let running = shell(world, &pod, "exec sleep 100").create().unwrap().start();
    for pid in [pod.pause.pid, running.child.pid] {
        for kind in ["user", "net", "ipc", "uts", "pid", "mnt"] {
            let namespace = Procfs::host().unwrap().namespace_of(pid, kind).unwrap();
            let owner = if kind == "user" { namespace } else { namespace::owner(&namespace).unwrap() };
            assert_eq!(rustix::fs::fstat(&owner).unwrap().st_ino, user, "{kind} of {pid}");
        }
    }
}

fn files_of_the_image_show_their_owners_and_are_not_changed(world: &World) {
    let pod = world.mapped_pod(HOST);
    let file = world.dir.join("layers/base/owned");
    fs::write(&file, "x").unwrap();
    std::os::unix::fs::chown(&file, Some(1000), Some(50)).unwrap();
    let shown = run(
        world,
        &pod,
        "stat -c %u:%g / /bin /bin/busybox /owned; echo more >> /owned; chown 5 /owned; stat -c %u:%g /owned",
    );
    assert_eq!(shown.lines().collect::<Vec<_>>(), ["0:0", "0:0", "0:0", "1000:50", "5:50"]);
    let layer = fs::metadata(&file).unwrap();
    assert_eq!((layer.uid(), layer.gid(), layer.len()), (1000, 50, 1));
}

fn what_is_written_belongs_to_the_mapped_ids_on_the_node(world: &World) {
    let pod = world.mapped_pod(HOST);
    let container = shell(world, &pod, "touch /made && mkdir /dir && chown 7:8 /dir && chmod u+s /made");
    let upper = container.rootfs.upper.clone();
    assert_eq!(container.run().code, 0);
    let made = fs::metadata(upper.join("made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (HOST, HOST), "a setuid file of root is not one of the node's root");
    let dir = fs::metadata(upper.join("dir")).unwrap();
    assert_eq!((dir.uid(), dir.gid()), (HOST + 7, HOST + 8));
}

/// A directory as the kubelet hands it over: of the ids that the container shall see.
fn volume(world: &World) -> std::path::PathBuf {
    let volume = world.scratch("volume");
    fs::write(volume.join("file"), "content").unwrap();
    std::os::unix::fs::chown(volume.join("file"), Some(1000), Some(1000)).unwrap();
    volume
}

fn mapped(mut container: Container<'_>, host_id: u32) -> Container<'_> {
    let map = json!([{"containerID": 0, "hostID": host_id, "size": 65_536}]);
    let last = container.spec["mounts"].as_array_mut().unwrap().last_mut().unwrap();
    last["uidMappings"] = map.clone();
    last["gidMappings"] = map;
    container
}

fn a_mapped_volume_is_written_with_the_containers_own_ids(world: &World) {
    let (pod, volume) = (world.mapped_pod(HOST), volume(world));
    let script =
        "stat -c %u:%g /data /data/file; touch /data/root; chown 1000:5 /data/root; stat -c %u:%g /data/root";
    let container = shell(world, &pod, script).mount("bind", &volume, "/data", &["rbind", "rprivate"]);
    let output = mapped(container, HOST).run();
    assert_eq!(output.stdout.lines().collect::<Vec<_>>(), ["0:0", "1000:1000", "1000:5"], "{output:?}");
    let made = fs::metadata(volume.join("root")).unwrap();
    assert_eq!((made.uid(), made.gid()), (1000, 5));
}

fn a_volume_that_is_not_mapped_belongs_to_nobody(world: &World) {
    let (pod, volume) = (world.mapped_pod(HOST), volume(world));
    let output = shell(world, &pod, "stat -c %u:%g /data/file; touch /data/new")
        .mount("bind", &volume, "/data", &["rbind", "rprivate"])
        .run();
    assert_eq!((output.stdout.trim(), output.code), ("65534:65534", 1), "{output:?}");
    assert!(!volume.join("new").exists());
}

fn a_volume_with_other_mappings_is_refused(world: &World) {
    let volume = volume(world);
    for (pod, host_id) in [(world.mapped_pod(HOST), HOST + 1), (world.pod(), HOST)] {
        let container = shell(world, &pod, "true").mount("bind", &volume, "/data", &["rbind"]);
        let failure = mapped(container, host_id).create().err().unwrap();
        assert_eq!(failure.step, Step::Source);
        assert!(failure.detail.contains("are not those of the pod"), "{failure}");
    }
}

fn a_filesystem_that_cannot_be_mapped_is_named(world: &World) {
    let pod = world.mapped_pod(HOST);
    let container = shell(world, &pod, "true").mount("bind", "/proc/sys", "/data", &["rbind"]);
    let failure = mapped(container, HOST).create().err().unwrap();
    assert_eq!((failure.step, failure.object.as_str()), (Step::Source, "/proc/sys"));
    assert!(failure.detail.contains("cannot be mapped"), "{failure}");
}

fn fifty_layers_are_one_mapped_mount(world: &World) {
    let pod = world.mapped_pod(HOST);
    let mut container = shell(world, &pod, "for n in 1 25 50; do stat -c %u /layer-$n; done");
    for number in 1..=50 {
        let name = format!("many-{number}");
        let dir = world.dir.join("layers").join(&name);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("layer-{number}")), "").unwrap();
        std::os::unix::fs::chown(dir.join(format!("layer-{number}")), Some(number), Some(0)).unwrap();
        container.rootfs.lowers.insert(0, name);
    }
    assert_eq!(container.run().stdout, "1\n25\n50\n");
}

fn a_setuid_program_raises_to_root_of_the_namespace_only(world: &World) {
    let pod = world.mapped_pod(HOST);
    let program = world.dir.join("layers/base/raised/busybox");
    fs::create_dir(program.parent().unwrap()).unwrap();
    fs::copy(world.dir.join("layers/base/bin/busybox"), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    // The applet that keeps what a setuid bit gives it; it waits for the old password.
    let mut container = world.container(&pod, &["/raised/busybox", "passwd"]);
    let (stdin, _password) = pipe();
    container.stdin = Some(stdin);
    container.user = UserRequest { user: UserSpec::Uid(1000), ..UserRequest::default() };
    let running = container.create().unwrap().start();
    let line = running.read(1);
    let status = fs::read_to_string(format!("/proc/{}/status", running.child.pid)).unwrap();
    assert!(status.contains("Uid:\t201000\t200000\t200000\t200000"), "{line} {status}");
}

fn devices_work_and_none_can_be_made(world: &World) {
    let pod = world.mapped_pod(HOST);
    let script = "for d in null zero full random urandom tty; do stat -c %u:%a:%t:%T /dev/$d; done; \
        echo x > /dev/null; head -c 4 /dev/zero | wc -c; touch /dev/own; mknod /dev/mem c 1 1 2>/dev/null; echo $?";
    let shown = run(world, &pod, script);
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(
        lines,
        ["0:666:1:3", "0:666:1:5", "0:666:1:7", "0:666:1:8", "0:666:1:9", "0:666:5:0", "4", "1"]
    );
}

fn a_device_of_the_node_keeps_its_owner(world: &World) {
    let pod = world.mapped_pod(HOST);
    let device = |path: &str, minor: u32, mode: u32| json!({"path": path, "type": "c", "major": 1, "minor": minor, "fileMode": mode, "uid": 0, "gid": 0});
    let devices = json!([device("/dev/dir/private", 5, 0o600), device("/opt/zero", 5, 0o666)]);
    let script = "stat -c %u:%a /dev/dir/private /opt/zero; head -c 1 /dev/dir/private 2>/dev/null | wc -c; head -c 1 /opt/zero | wc -c";
    let output = shell(world, &pod, script).set(&["linux", "devices"], devices).run();
    assert_eq!(output.stdout.lines().collect::<Vec<_>>(), ["65534:600", "65534:666", "0", "1"], "{output:?}");
}

fn a_device_of_an_image_cannot_be_opened(world: &World) {
    let pod = world.mapped_pod(HOST);
    let path = world.dir.join("layers/base/zero");
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    let number = rustix::fs::makedev(1, 5);
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::CharacterDevice, mode, number).unwrap();
    let output = shell(world, &pod, "head -c 1 /zero").run();
    fs::remove_file(path).unwrap();
    assert_eq!(output.stdout, "");
    assert!(output.stderr.contains("Permission denied"), "{output:?}");
}

fn the_terminal_is_the_users(world: &World) {
    let pod = world.mapped_pod(HOST);
    let mut container = shell(world, &pod, "stat -c %u /dev/console /dev/pts/0; echo tty > /dev/tty; tty");
    container.terminal = true;
    container.user = UserRequest { user: UserSpec::Uid(1000), ..UserRequest::default() };
    let running = container.create().unwrap().start();
    let shown = read_terminal(running.ready.terminal.as_ref().unwrap());
    assert_eq!(shown.lines().collect::<Vec<_>>(), ["1000", "1000", "tty", "/dev/pts/0"]);
}

fn standard_streams_can_be_reopened_by_the_user(world: &World) {
    for (pod, uid) in
        [(world.mapped_pod(HOST), 0), (world.mapped_pod(HOST), 1000), (world.pod(), 1000), (world.pod(), 0)]
    {
        let mut container = shell(world, &pod, "echo out > /dev/stdout; echo err > /dev/stderr");
        container.user = UserRequest { user: UserSpec::Uid(uid), ..UserRequest::default() };
        let output = container.run();
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    }
}

fn exec_enters_the_user_namespace(world: &World) {
    let pod = world.mapped_pod(HOST);
    let running = shell(world, &pod, "exec sleep 100").create().unwrap().start();
    let output = running.exec(&[
        "sh",
        "-c",
        "cat /proc/self/uid_map; id -u; hostname renamed 2>&1; ls -di /proc/1/ns/user >/dev/null; echo to > /dev/stdout; touch /by-exec; stat -c %u /by-exec",
    ]);
    let lines: Vec<_> = output.stdout.lines().map(str::trim).collect();
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["0", "200000", "65536"], "{output:?}");
    assert_eq!((lines[1], lines[3], lines[4]), ("0", "to", "0"), "{output:?}");
}

fn containers_share_the_pods_pid_namespace(world: &World) {
    let pod = world.mapped_pod(HOST);
    let mut container = shell(world, &pod, "cat /proc/1/comm; test $$ != 1");
    container.pid = PidNs::Pod;
    let output = container.run();
    assert_eq!((output.stdout.as_str(), output.code), ("husk-pause\n", 0), "{output:?}");
}

fn a_pid_namespace_of_its_own_is_made_inside(world: &World) {
    let pod = world.mapped_pod(HOST);
    // It takes over from another process, and is our child all the same: finish() reaps it.
    assert_eq!(run(world, &pod, "set -- /proc/[0-9]*; echo $$ $#"), "1 1\n");
    // Executed at once, by no shell: it has its name when it is told to have started.
    let running = world.container(&pod, &["sleep", "100"]).create().unwrap().start();
    let target = running.child.pidfd.try_clone().unwrap();
    let mut second = shell(world, &pod, "cat /proc/1/comm");
    second.pid = PidNs::Target(target);
    assert_eq!(second.run().stdout, "sleep\n");
}

fn a_pod_in_the_nodes_network_shows_the_nodes_sysfs_read_only(world: &World) {
    let mut plan = world.sandbox_plan();
    plan.namespaces.user = Some(mappings(HOST));
    plan.namespaces.net = NetNs::Host;
    plan.namespaces.uts = false;
    plan.hostname = String::new();
    let pod = Pod::start(plan).unwrap();
    let shown = run(world, &pod, "ls /sys/class/net; touch /sys/x 2>/dev/null; echo $?");
    let links: Vec<_> = fs::read_dir("/sys/class/net")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(links.iter().all(|link| shown.contains(link.as_str())), "{shown}");
    assert!(shown.ends_with("\n1\n"), "{shown}");
}

/// A node in a container: systemd wants /sys read-only there, and the kernel then lets a user namespace mount none that can be written.
fn a_node_with_a_read_only_sysfs_has_pods_with_user_namespaces(world: &World) {
    let sys = rustix::fs::open("/sys", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
    mount::change(&sys, false, Change::set(Attr::MOUNT_ATTR_RDONLY)).unwrap();
    husk_runtime::probe_user_namespaces(&world.scratch("probe")).unwrap();
    let pod = world.mapped_pod(HOST);
    let shown = run(world, &pod, "ls /sys/class/net; touch /sys/x 2>/dev/null; echo $?");
    assert_eq!(shown, "lo\n1\n");
}

fn pause_has_its_oom_score(world: &World) {
    let mut plan = world.sandbox_plan();
    plan.namespaces.user = Some(mappings(HOST));
    plan.namespaces.net = NetNs::New;
    plan.oom_score_adj = Some(123);
    let pod = Pod::start(plan).unwrap();
    let score = fs::read_to_string(format!("/proc/{}/oom_score_adj", pod.pause.pid)).unwrap();
    assert_eq!(score, "123\n");
    let output =
        shell(world, &pod, "cat /proc/self/oom_score_adj").set(&["process", "oomScoreAdj"], json!(456)).run();
    assert_eq!(output.stdout, "456\n");
}

fn sysctls_of_the_pods_network_can_be_set(world: &World) {
    let mut plan = world.sandbox_plan();
    plan.namespaces.user = Some(mappings(HOST));
    plan.namespaces.net = NetNs::New;
    plan.sysctls = vec![
        ("net.ipv4.ip_unprivileged_port_start".parse().unwrap(), "0".to_owned()),
        ("net.ipv4.ping_group_range".parse().unwrap(), "0 65535".to_owned()),
    ];
    let pod = Pod::start(plan).unwrap();
    let shown = run(world, &pod, "cd /proc/sys/net/ipv4; cat ip_unprivileged_port_start ping_group_range");
    assert_eq!(shown.split_whitespace().collect::<Vec<_>>(), ["0", "0", "65535"]);
}

fn root_inside_is_nobody_on_the_node(world: &World) {
    let (pod, volume) = (world.mapped_pod(HOST), world.scratch("secret"));
    fs::write(volume.join("secret"), "secret").unwrap();
    fs::set_permissions(volume.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    let every = json!([
        "CAP_SYS_ADMIN",
        "CAP_DAC_OVERRIDE",
        "CAP_DAC_READ_SEARCH",
        "CAP_CHOWN",
        "CAP_MKNOD",
        "CAP_FOWNER"
    ]);
    let mut container = shell(
        world,
        &pod,
        "cat /data/secret; chown 0 /data/secret; mount -t tmpfs none /mnt && echo mounted",
    )
    .mount("bind", &volume, "/data", &["rbind"])
    .mount("tmpfs", "tmpfs", "/mnt", &[]);
    for set in ["bounding", "effective", "permitted"] {
        container = container.set(&["process", "capabilities", set], every.clone());
    }
    let output = container.run();
    assert_eq!(output.stdout, "mounted\n", "privileges hold inside and end there: {output:?}");
    assert_eq!(output.stderr.matches("ermi").count(), 2, "{output:?}");
}

fn an_id_beyond_the_mapping_is_refused_with_its_name(world: &World) {
    let pod = world.mapped_pod(HOST);
    for (request, name) in [
        (UserRequest { user: UserSpec::Uid(70_000), ..UserRequest::default() }, "uid 70000"),
        (UserRequest { group: GroupSpec::Gid(70_001), ..UserRequest::default() }, "gid 70001"),
        (UserRequest { supplemental_groups: vec![70_002], ..UserRequest::default() }, "gid 70002"),
    ] {
        let mut container = shell(world, &pod, "true");
        container.user = request;
        let failure = container.create().err().unwrap();
        assert_eq!(failure.step, Step::ResolveUser);
        assert!(failure.detail.contains(name), "{failure}");
    }
}

fn the_nodes_namespaces_are_refused(world: &World) {
    for change in [
        |own: &mut husk_runtime::SandboxNamespaces| own.pid = false,
        |own: &mut husk_runtime::SandboxNamespaces| own.ipc = false,
        |own: &mut husk_runtime::SandboxNamespaces| own.user = Some(mappings(u32::MAX)),
    ] {
        let mut plan = world.sandbox_plan();
        plan.namespaces.net = NetNs::New;
        plan.namespaces.user = Some(mappings(HOST));
        change(&mut plan.namespaces);
        assert!(husk_runtime::spawn_sandbox(plan).is_err());
    }
}

fn a_root_that_is_read_only_stays_so(world: &World) {
    let pod = world.mapped_pod(HOST);
    let mut container =
        shell(world, &pod, "touch /x 2>/dev/null; echo $?; echo y > /dev/shm/y && cat /dev/shm/y");
    container.rootfs.readonly = true;
    assert_eq!(container.run().stdout, "1\ny\n");
}

fn masks_hide_in_a_user_namespace_too(world: &World) {
    let pod = world.mapped_pod(HOST);
    let script =
        "cat /proc/kcore | wc -c; ls /sys/firmware | wc -l; echo 1 > /proc/sys/kernel/hostname; echo $?";
    let output = shell(world, &pod, script).run();
    assert_eq!(output.stdout, "0\n0\n1\n", "{output:?}");
}

fn cve_2023_25809_the_cgroup_cannot_be_written(world: &World) {
    let pod = world.mapped_pod(HOST);
    for own in [true, false] {
        let mut container = shell(
            world,
            &pod,
            "find /sys/fs/cgroup -type d | while read d; do mkdir $d/own 2>/dev/null && echo $d; done; \
             find /sys/fs/cgroup -name cgroup.procs | while read f; do echo 0 2>/dev/null > $f && echo $f; done; true",
        );
        container.cgroup_namespace = own;
        assert_eq!(container.run().stdout, "");
    }
}

/// A node whose /proc/<pid>/uid_map leads elsewhere is refused instead of written to.
fn cve_2025_52881_id_maps_are_written_past_what_lies_over_proc(world: &World) {
    let bait = world.scratch("bait").join("bait");
    fs::write(&bait, "").unwrap();
    // Not the file but the whole of /proc is somebody else's.
    let fake = Filesystem::new("tmpfs").and_then(|new| new.mount(mount::Attr::empty())).unwrap();
    let over = rustix::fs::open("/proc", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    let mut plan = world.sandbox_plan();
    plan.namespaces.user = Some(mappings(HOST));
    plan.namespaces.net = NetNs::New;
    mount::attach(&fake, &over).unwrap();
    let refused = husk_runtime::spawn_sandbox(plan).is_err();
    rustix::mount::unmount("/proc", rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(refused);
    // A file mounted over one entry is not written to either.
    let pid = std::process::id();
    let target = format!("/proc/{pid}/uid_map");
    rustix::mount::mount_bind(&bait, &target).unwrap();
    let error = Procfs::host().unwrap().write_of(pid, "uid_map", "0 0 1\n").unwrap_err();
    rustix::mount::unmount(&*target, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert_eq!(error.errno(), rustix::io::Errno::XDEV);
    assert_eq!(fs::read_to_string(&bait).unwrap(), "");
}

fn nothing_is_mounted_on_the_node(world: &World) {
    let before = MountTable::now();
    let pod = world.mapped_pod(HOST);
    let running = shell(world, &pod, "exec sleep 100").create().unwrap().start();
    before.assert_nothing_new();
    // The pod's network namespace can be entered by the node, which will put its end of a link there.
    let ns = Procfs::host().unwrap().namespace_of(pod.pause.pid, "net").unwrap();
    assert!(netns::with(ns.as_fd(), || Path::new("/proc/thread-self/ns/net").exists()).unwrap());
    drop(running);
}

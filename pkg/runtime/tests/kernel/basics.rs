//! Namespaces, life and death.

use husk_runtime::{NetNs, PidNs};
use husk_sys::pidfd::Exit;
use serde_json::json;

use crate::{
    cases,
    world::{MountTable, Pod, World},
};

cases![
    a_container_runs_on_its_layers,
    nothing_runs_before_the_gate_opens,
    a_container_of_its_own_pid_namespace_is_pid_1,
    a_container_of_the_pods_pid_namespace_is_not_pid_1,
    containers_share_host_name_and_ipc_of_the_pod,
    the_hosts_mount_table_never_changes,
    sysctls_are_set_in_the_pod_and_not_on_the_node,
    shared_memory_is_the_pods_and_vanishes_with_it,
    pause_has_no_privileges_and_sees_nothing,
    pause_ends_by_sigterm_and_reaps_orphans,
];

fn a_container_runs_on_its_layers(world: &World) {
    let pod = world.pod();
    let output = world.container(&pod, &["sh", "-c", "cat /layer; echo err >&2; exit 3"]).run();
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (3, "top\n", "err\n"));
}

fn nothing_runs_before_the_gate_opens(world: &World) {
    let pod = world.pod();
    let container = world.container(&pod, &["touch", "/ran"]);
    let upper = container.rootfs.upper.clone();
    let running = container.create().unwrap();
    assert!(!upper.join("ran").exists());
    assert_eq!(running.start().finish().code, 0);
    assert!(upper.join("ran").exists());

    // A gate that is never opened ends with its owner's interest.
    let abandoned = world.container(&pod, &["touch", "/ran"]).create().unwrap();
    let pidfd = abandoned.child.pidfd.try_clone().unwrap();
    abandoned.abandon();
    assert_eq!(husk_sys::pidfd::reap(&pidfd).unwrap(), Exit::Code(1));
}

fn a_container_of_its_own_pid_namespace_is_pid_1(world: &World) {
    let pod = world.pod();
    let output = world.container(&pod, &["sh", "-c", "echo $$; ls -d /proc/[0-9]*"]).run();
    assert_eq!(output.stdout.lines().next(), Some("1"));
    assert!(output.stdout.lines().count() <= 3, "{output:?}");
}

fn a_container_of_the_pods_pid_namespace_is_not_pid_1(world: &World) {
    let pod = world.pod();
    let mut container = world.container(&pod, &["sh", "-c", "echo $$; cat /proc/1/comm"]);
    container.pid = PidNs::Pod;
    let output = container.run();
    let lines: Vec<_> = output.stdout.lines().collect();
    assert_ne!(lines[0], "1");
    assert_eq!(lines[1], "husk-pause");
    // The monitor's own children still go to its own namespace.
    assert_eq!(world.container(&pod, &["sh", "-c", "echo $$"]).run().stdout, "1\n");
}

fn containers_share_host_name_and_ipc_of_the_pod(world: &World) {
    let pod = world.pod();
    let host = std::fs::read_link("/proc/self/ns/ipc").unwrap();
    let show = ["sh", "-c", "hostname; readlink /proc/self/ns/ipc; readlink /proc/self/ns/mnt"];
    let (one, two) = (world.container(&pod, &show).run(), world.container(&pod, &show).run());
    let (one, two): (Vec<_>, Vec<_>) = (one.stdout.lines().collect(), two.stdout.lines().collect());
    assert_eq!(one[0], "test-pod");
    assert_eq!(one[1], two[1]);
    assert_ne!(one[1], host.to_str().unwrap());
    assert_ne!(rustix::system::uname().nodename().to_str().unwrap(), "test-pod");
}

fn the_hosts_mount_table_never_changes(world: &World) {
    let before = MountTable::now();
    let pod = world.pod();
    before.assert_nothing_new();
    let volume = world.scratch("volume");
    let running = world
        .container(&pod, &["sleep", "1000"])
        .mount("bind", &volume, "/volume", &["rbind", "ro"])
        .create()
        .unwrap();
    before.assert_nothing_new();
    let running = running.start();
    before.assert_nothing_new();
    let inside = running.exec(&["cat", "/proc/self/mountinfo"]).stdout;
    for line in inside.lines() {
        assert!(
            !line.contains(" - ext4 ") || line.contains("/volume"),
            "a mount of the node is inside: {line}"
        );
    }
    running.kill();
    drop(pod);
    before.assert_nothing_new();
}

fn sysctls_are_set_in_the_pod_and_not_on_the_node(world: &World) {
    let node = std::fs::read_to_string("/proc/sys/kernel/shm_rmid_forced").unwrap();
    let mut plan = world.sandbox_plan();
    plan.sysctls = vec![
        ("kernel.shm_rmid_forced".parse().unwrap(), "1".into()),
        ("kernel/msgmax".parse().unwrap(), "4242".into()),
    ];
    let pod = Pod::start(plan).unwrap();
    let show = ["cat", "/proc/sys/kernel/shm_rmid_forced", "/proc/sys/kernel/msgmax"];
    assert_eq!(world.container(&pod, &show).run().stdout, "1\n4242\n");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/shm_rmid_forced").unwrap(), node);

    let mut plan = world.sandbox_plan();
    plan.sysctls = vec![("kernel.msgmax".parse().unwrap(), "many".into())];
    let failure = Pod::start(plan).err().unwrap();
    assert_eq!((failure.step.as_str(), failure.object.as_str()), ("set sysctl", "kernel.msgmax"));
}

fn shared_memory_is_the_pods_and_vanishes_with_it(world: &World) {
    let pod = world.pod();
    world.container(&pod, &["sh", "-c", "echo shared >/dev/shm/husk-test"]).run();
    let output =
        world.container(&pod, &["sh", "-c", "cat /dev/shm/husk-test; df -k /dev/shm | tail -1"]).run();
    assert!(output.stdout.starts_with("shared\n"), "{output:?}");
    assert!(output.stdout.contains("65536"), "{output:?}");
    assert!(!std::path::Path::new("/dev/shm/husk-test").exists());
    let other = world.pod();
    assert_eq!(world.container(&other, &["ls", "/dev/shm"]).run().stdout, "");

    let mut plan = world.sandbox_plan();
    plan.namespaces.ipc = false;
    let host_ipc = Pod::start(plan).unwrap();
    let name = format!("husk-runtime-{}", std::process::id());
    std::fs::write(format!("/dev/shm/{name}"), "").unwrap();
    let mut container = world.container(&host_ipc, &["ls", "/dev/shm"]);
    container.host_ipc = true;
    let listing = container.run().stdout;
    std::fs::remove_file(format!("/dev/shm/{name}")).unwrap();
    assert!(listing.contains(&name), "{listing}");
}

fn pause_has_no_privileges_and_sees_nothing(world: &World) {
    let pod = world.pod();
    let pid = pod.pause.pid;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let fields = crate::world::fields(&status);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(fields[set], "0000000000000000", "{set}");
    }
    assert_eq!((fields["NoNewPrivs"], fields["Uid"]), ("1", "65535\t65535\t65535\t65535"));
    let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    // Root, procfs of the pod's PID namespace, /dev/shm.
    assert_eq!(mounts.lines().count(), 3, "{mounts}");
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    assert!(root.contains(" ro,"), "{mounts}");
    let open: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().collect();
    assert_eq!(open.len(), 3, "{open:?}");
    let mut names: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/root"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["empty", "files", "null", "proc", "root", "shm"]);
}

fn pause_ends_by_sigterm_and_reaps_orphans(world: &World) {
    let mut plan = world.sandbox_plan();
    plan.namespaces.net = NetNs::Host;
    let pod = Pod::start(plan).unwrap();
    let mut container = world
        .container(&pod, &["sh", "-c", "(sleep 0.05 &) ; sleep 0.3; ps -o pid,stat,comm"])
        .set(&["process", "env"], json!(["PATH=/bin"]));
    container.pid = PidNs::Pod;
    let listing = container.run().stdout;
    assert!(!listing.contains('Z'), "{listing}");
    husk_sys::pidfd::signal(&pod.pause.pidfd, rustix::process::Signal::TERM).unwrap();
    assert_eq!(husk_sys::pidfd::reap(&pod.pause.pidfd).unwrap(), Exit::Code(0));
}

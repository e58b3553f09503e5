//! What goes between a container and others besides streams: the listener of its filter, network devices; and what it has of its caller.

use std::{
    io::IoSliceMut,
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::net::UnixListener,
    },
    path::Path,
    process::Command,
    thread,
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::{Value, json};

use crate::world::World;

/// Takes one listener, and what is said of it.
fn take(socket: &UnixListener) -> (OwnedFd, Value) {
    let (stream, _) = socket.accept().unwrap();
    let mut bytes = vec![0; 64 << 10];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let length = rustix::net::recvmsg(stream.as_fd(), &mut parts, &mut ancillary, flags).unwrap().bytes;
    let fd = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    (fd.unwrap(), serde_json::from_slice(&bytes[..length]).unwrap())
}

fn leave_to_agent(world: &World, path: &Path, call: &str) {
    world.change(|config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": path,
            "listenerMetadata": "of the test",
            "syscalls": [{ "names": [call], "action": "SCMP_ACT_NOTIFY" }],
        });
    });
}

#[test]
fn a_listener_goes_to_its_agent_and_to_nobody_in_the_container() {
    for unprivileged in [true, false] {
        let Some(world) = World::new("listener") else { return };
        let path = world.bundle().join("agent.sock");
        let socket = UnixListener::bind(&path).unwrap();
        leave_to_agent(&world, &path, "mkdir");
        world.change(|config| config["process"]["noNewPrivileges"] = json!(unprivileged));
        world.args(&["sleep", "1000"]);
        let (taken, waiting) = thread::scope(|scope| {
            let agent = scope.spawn(|| take(&socket));
            world.good(&["create"]);
            (agent.join().unwrap(), world.state()["pid"].as_u64().unwrap())
        });
        let (listener, state) = taken;
        assert_eq!((&state["fds"], &state["metadata"]), (&json!(["seccompFd"]), &json!("of the test")));
        assert_eq!((state["pid"].as_u64(), state["state"]["pid"].as_u64()), (Some(waiting), Some(waiting)));
        assert_eq!(state["state"]["status"], "creating");
        let kind = std::fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
        assert_eq!(kind.to_str(), Some("anon_inode:seccomp notify"));
        for entry in std::fs::read_dir(format!("/proc/{waiting}/fd")).unwrap() {
            let target = std::fs::read_link(entry.unwrap().path()).unwrap_or_default();
            assert!(!target.to_string_lossy().contains("seccomp"), "the init has its own listener");
        }
        // Nobody is left who could decide: the call fails, and nothing hangs.
        drop(listener);
        world.good(&["start"]);
        let exec = thread::scope(|scope| {
            let agent = scope.spawn(|| drop(take(&socket)));
            let exec = world.exec(&["sh", "-c", "ls -l /proc/self/fd; busybox mkdir /tmp/x"]);
            agent.join().unwrap();
            exec
        });
        let said =
            String::from_utf8_lossy(&exec.stdout).into_owned() + &String::from_utf8_lossy(&exec.stderr);
        assert!(said.contains("Function not implemented") && !said.contains("seccomp"), "{said}");
    }
}

#[test]
fn a_container_whose_listener_nobody_takes_is_not_made() {
    let Some(world) = World::new("no-agent") else { return };
    leave_to_agent(&world, Path::new("/nonexistent/agent"), "mkdir");
    let why = world.bad(&["create"]);
    assert!(why.contains("failed to connect with seccomp agent"), "{why}");
    assert!(!world.state_dir().exists() && world.cgroups().is_empty());
    for call in ["write", "sendmsg"] {
        // It would wait for an agent that has not got it yet.
        leave_to_agent(&world, Path::new("/nonexistent/agent"), call);
        let why = world.bad(&["create"]);
        assert!(why.contains(&format!("SCMP_ACT_NOTIFY cannot be used for the {call} syscall")), "{why}");
    }
    leave_to_agent(&world, Path::new(""), "mkdir");
    assert!(world.bad(&["create"]).contains("listenerPath"));
}

fn ip(words: &[&str]) -> String {
    let output = Command::new("ip").args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A pair of links, gone with this.
struct Pair(String, String);

impl Pair {
    fn new(letter: char) -> Self {
        let name = |end: u8| format!("ho{letter}{end}-{}", std::process::id() % 1_000_000);
        let pair = Self(name(0), name(1));
        ip(&["link", "add", &pair.0, "type", "veth", "peer", "name", &pair.1]);
        pair
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &self.1]).output();
    }
}

#[test]
fn a_network_device_goes_with_its_addresses_and_comes_back_when_nothing_becomes_of_the_container() {
    let Some(world) = World::new("device") else { return };
    let pair = Pair::new('a');
    ip(&["address", "add", "192.0.2.7/28", "dev", &pair.0]);
    world.change(|config| config["linux"]["netDevices"] = json!({ &pair.0: { "name": "eth7" } }));
    // The hook of the node sees it gone already, and fails.
    let seen = world.bundle().join("seen");
    let script = format!("ip link show {} >/dev/null 2>&1 || touch {}; false", pair.0, seen.display());
    world.change(|config| {
        config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": [format!("PATH={}", std::env::var("PATH").unwrap())] }] });
    });
    world.bad(&["create"]);
    assert!(seen.exists(), "it was moved before the hook");
    assert!(ip(&["address", "show", "dev", &pair.0]).contains("192.0.2.7/28"), "it is back as it was");
    world.change(|config| config["hooks"] = json!({}));
    world.args(&["busybox", "ip", "address", "show", "dev", "eth7"]);
    let inside = world.good(&["run"]);
    assert!(inside.contains("192.0.2.7/28") && inside.contains("UP"), "{inside}");
}

#[test]
fn of_several_network_devices_all_go_or_none() {
    let Some(world) = World::new("devices") else { return };
    let pair = Pair::new('b');
    world.change(|config| config["linux"]["netDevices"] = json!({ &pair.0: {}, "husk-none": {} }));
    let why = world.bad(&["create"]);
    assert!(why.contains("network device husk-none"), "{why}");
    ip(&["link", "show", "dev", &pair.0]);
    let no_namespace = |config: &mut Value| {
        let all = config["linux"]["namespaces"].as_array_mut().unwrap();
        all.retain(|namespace| namespace["type"] != "network");
    };
    world.change(no_namespace);
    let why = world.bad(&["create"]);
    assert!(why.contains("without a private NET namespace"), "{why}");
}

#[test]
fn a_container_has_the_cpus_of_its_cgroup_and_not_its_caller_s() {
    let Some(world) = World::new("cpus") else { return };
    let all = rustix::thread::sched_getaffinity(None).unwrap();
    let first = (0..rustix::thread::CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu)).unwrap();
    world.args(&["busybox", "grep", "Cpus_allowed:", "/proc/self/status"]);
    let free = world.good(&["run"]);
    let bound = thread::scope(|scope| {
        let bound = || {
            let mut one = rustix::thread::CpuSet::new();
            one.set(first);
            rustix::thread::sched_setaffinity(None, &one).unwrap();
            world.good(&["run"])
        };
        scope.spawn(bound).join().unwrap()
    });
    assert_eq!(bound, free);
}

#[test]
fn a_capability_may_be_inheritable_without_being_permitted() {
    let Some(world) = World::new("inheritable") else { return };
    world.change(|config| {
        config["process"]["capabilities"] = json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL"], "inheritable": ["CAP_CHOWN"],
            "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"], "ambient": ["CAP_CHOWN"],
        });
    });
    world.args(&["busybox", "grep", "Cap", "/proc/self/status"]);
    let output = world.output(&mut world.verb(&["run"]));
    let (sets, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(sets.contains("CapInh:\t0000000000000001"), "{sets}");
    assert!(
        sets.contains("CapPrm:\t0000000000000020") && sets.contains("CapAmb:\t0000000000000000"),
        "{sets}"
    );
    assert!(said.contains("can't raise ambient capability CAP_CHOWN"), "{said}");
}

#[test]
fn memory_comes_from_where_the_config_says() {
    let Some(world) = World::new("memory") else { return };
    world.change(|config| {
        config["linux"]["memoryPolicy"] = json!({ "mode": "MPOL_INTERLEAVE", "nodes": "0" })
    });
    world.args(&["busybox", "head", "-n1", "/proc/self/numa_maps"]);
    let policy = world.good(&["run"]);
    assert!(policy.contains("interleave:0"), "{policy}");
    world.change(|config| config["linux"]["memoryPolicy"] = json!({ "mode": "MPOL_BIND", "nodes": "1000" }));
    let why = world.bad(&["run"]);
    assert!(why.contains("memory policy"), "{why}");
}

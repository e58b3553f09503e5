//! A container's life, verb by verb.

use std::{fs, time::Duration};

use husk_test_support::eventually;
use serde_json::{Value, json};

use crate::world::World;

#[test]
fn a_container_is_created_started_and_deleted() {
    let Some(world) = World::new("life") else { return };
    world.args(&["sh", "-c", "echo up >/tmp/up; sleep 1000"]);
    world.change(|config| config["root"]["readonly"] = json!(false));
    world.good(&["create", "--pid-file", world.bundle().join("pid").to_str().unwrap()]);
    let state = world.state();
    assert_eq!(state["status"], "created");
    assert_eq!(fs::read_to_string(world.bundle().join("pid")).unwrap(), state["pid"].to_string());
    assert!(!world.rootfs().join("tmp/up").exists(), "it waits");
    assert!(world.bad(&["create"]).contains("already exists"));
    world.good(&["start"]);
    assert!(world.bad(&["start"]).contains("already running"));
    eventually("the program runs", Duration::from_secs(10), || {
        (world.rootfs().join("tmp/up").exists()).then_some(())
    });
    assert_eq!(world.status(), "running");
    assert!(world.bad(&["delete"]).contains("not stopped"));
    world.good(&["kill", "--all"]);
    world.good(&["delete", "--force"]);
    assert!(world.bad(&["state"]).contains("does not exist"));
    assert_eq!(world.cgroups(), Vec::<std::path::PathBuf>::new());
    world.good(&["delete", "--force"]);
}

#[test]
fn run_has_the_code_of_the_program_and_leaves_nothing() {
    let Some(world) = World::new("run") else { return };
    world.args(&["sh", "-c", "echo out; echo err >&2; exit 42"]);
    let output = world.output(&mut world.verb(&["run"]));
    assert_eq!(output.status.code(), Some(42));
    assert_eq!((&*output.stdout, &*output.stderr), (&b"out\n"[..], &b"err\n"[..]));
    assert!(world.cgroups().is_empty() && !world.state_dir().exists());
    world.args(&["sh", "-c", "sh -c 'kill -TERM $$'; exit $?"]);
    assert_eq!(world.output(&mut world.verb(&["run"])).status.code(), Some(143));
    world.args(&["true"]);
    world.good(&["run", "--keep"]);
    assert_eq!((world.status(), world.state()["pid"].as_u64()), ("stopped".to_owned(), Some(0)));
    world.good(&["delete"]);
}

#[test]
fn what_a_program_is_not_is_said_before_and_after_the_start() {
    let Some(world) = World::new("absent") else { return };
    world.args(&["no-such-program"]);
    assert!(world.bad(&["create"]).contains("executable file not found in $PATH"));
    assert!(world.cgroups().is_empty() && !world.state_dir().exists(), "a failed create is undone");
    fs::write(world.rootfs().join("bin/odd"), "#!/no/such/interpreter\n").unwrap();
    std::process::Command::new("chmod").arg("755").arg(world.rootfs().join("bin/odd")).status().unwrap();
    world.args(&["/bin/odd"]);
    assert_eq!(world.bad(&["run"]), "exec /bin/odd: no such file or directory\n");
    assert!(!world.state_dir().exists());
}

#[test]
fn execs_are_told_apart_by_their_codes_and_have_the_user_and_words_they_ask_for() {
    let Some(world) = World::new("exec") else { return };
    world.args(&["sleep", "1000"]);
    world.good(&["run", "--detach"]);
    assert_eq!(world.exec(&["sh", "-c", "exit 3"]).status.code(), Some(3));
    assert_eq!(world.exec(&["no-such"]).status.code(), Some(255));
    let mut command =
        world.command(&["exec", "--user", "1000:100", "--env", "A=b", "--cwd", "/tmp", world.id()]);
    let output = world.output(command.args(["sh", "-c", "id -u; id -g; echo $A $HOME; pwd"]));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1000\n100\nb /\n/tmp\n", "{output:?}");
    let process = json!({"args": ["sh", "-c", "exit 9"], "cwd": "/", "user": {"uid": 7, "gid": 7}});
    let file = world.bundle().join("process.json");
    fs::write(&file, process.to_string()).unwrap();
    let mut command = world.command(&["exec", "--process", file.to_str().unwrap(), world.id()]);
    assert_eq!(world.output(&mut command).status.code(), Some(9));
    let listed: Vec<u32> = serde_json::from_str(&world.good(&["ps", "--format", "json"])).unwrap();
    assert_eq!(listed.len(), 1);
}

/// A container that manages groups of its own: a process cannot be put in one that hands controllers down.
#[test]
fn an_exec_joins_the_init_of_a_container_that_hands_controllers_down() {
    let Some(world) = World::new("handed-down") else { return };
    world.args(&["sleep", "1000"]);
    world.good(&["run", "--detach"]);
    // Others (cpu, pids) may be with threads, and forbid nothing.
    let domain = |group: std::path::PathBuf| {
        let there = fs::read_to_string(group.join("cgroup.controllers")).ok()?;
        let one = there.split_whitespace().find(|name| matches!(*name, "hugetlb" | "memory" | "io"))?;
        Some((format!("+{one}"), group))
    };
    let Some((controller, group)) = world.cgroups().into_iter().find_map(domain) else {
        husk_test_support::skip("a domain controller on cgroup v2");
        return;
    };
    let leaf = group.join("of-init");
    fs::create_dir(&leaf).unwrap();
    fs::write(leaf.join("cgroup.procs"), world.state()["pid"].to_string()).unwrap();
    fs::write(group.join("cgroup.subtree_control"), controller).unwrap();
    let output = world.exec(&["cat", "/proc/self/cgroup"]);
    assert!(output.status.success(), "{output:?}");
    let own = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(own.lines().any(|line| line.starts_with("0::") && line.ends_with("/of-init")), "{own}");
}

/// All at once, as a kubelet and an operator do.
#[test]
fn updates_at_the_same_time_are_all_in_force_and_on_record() {
    let Some(world) = World::new("updates") else { return };
    world.args(&["sleep", "1000"]);
    world.good(&["run", "--detach"]);
    for round in 1..=5_u64 {
        let wanted = [
            ("--pids-limit", "/pids/limit", 100 + round),
            ("--cpu-share", "/cpu/shares", 200 + round),
            ("--memory-reservation", "/memory/reservation", (64 + round) << 20),
            ("--cpu-quota", "/cpu/quota", 50_000 + round),
        ];
        let begun = wanted.map(|(flag, _, value)| world.begin(&["update", flag, &value.to_string()]));
        for mut update in begun {
            assert!(update.wait().unwrap().success());
        }
        let record = fs::read_to_string(world.state_dir().join("state.json")).unwrap();
        let record: Value = serde_json::from_str(&record).unwrap();
        for (flag, name, value) in wanted {
            assert_eq!(record["resources"].pointer(name), Some(&json!(value)), "{flag} in round {round}");
        }
    }
}

#[test]
fn a_paused_container_stands_still_and_its_limits_change() {
    let Some(world) = World::new("pause") else { return };
    world.args(&["sleep", "1000"]);
    world.good(&["run", "--detach"]);
    world.good(&["pause"]);
    assert_eq!(world.status(), "paused");
    assert!(String::from_utf8_lossy(&world.exec(&["true"]).stderr).contains("paused"));
    assert!(world.bad(&["pause"]).contains("not running"));
    world.good(&["resume"]);
    assert_eq!(world.status(), "running");
    world.good(&["update", "--pids-limit", "77"]);
    let event: Value = serde_json::from_str(&world.good(&["events", "--stats"])).unwrap();
    assert_eq!(event["data"]["pids"]["limit"], 77);
    world.good(&["pause"]);
    world.good(&["delete", "--force"]);
    assert!(world.cgroups().is_empty());
}

#[test]
fn hooks_run_at_their_points_with_the_state_and_a_failing_one_ends_the_container() {
    let Some(world) = World::new("hooks") else { return };
    let log = world.bundle().join("log");
    let hook = |name: &str| {
        let script = format!("read state; echo \"{name} $state\" >>{}", log.display());
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }])
    };
    world.args(&["sleep", "1000"]);
    world.change(|config| {
        config["hooks"] = json!({
            "prestart": hook("prestart"), "createRuntime": hook("createRuntime"),
            "createContainer": hook("createContainer"), "poststart": hook("poststart"), "poststop": hook("poststop"),
            "startContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", "test -n \"$PATH\" && test $$ != 1"] }]
        });
    });
    world.good(&["create"]);
    let pid = world.state()["pid"].to_string();
    world.good(&["start"]);
    world.good(&["delete", "--force"]);
    let said = fs::read_to_string(&log).unwrap();
    let order: Vec<&str> = said.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(order, ["prestart", "createRuntime", "createContainer", "poststart", "poststop"], "{said}");
    let state = |line: usize| -> Value {
        serde_json::from_str(said.lines().nth(line).unwrap().split_once(' ').unwrap().1).unwrap()
    };
    assert_eq!((state(0)["pid"].to_string(), state(0)["status"].clone()), (pid, json!("creating")));
    assert_eq!(state(3)["status"], "running");
    for name in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"] {
        world.change(|config| {
            config["hooks"] = json!({ name: [{"path": "/bin/true"}, {"path": "/bin/false"}] })
        });
        let why = world.bad(&["run"]);
        assert!(why.contains(&format!("error running {name} hook #1: exit status 1")), "{why}");
        assert!(!world.state_dir().exists() && world.cgroups().is_empty(), "{name}");
    }
}

/// What runs in its namespaces by paths of the node finds what a program of the node's would find, and nothing of the runtime's.
#[test]
fn a_create_hook_has_the_mode_mask_the_directory_and_the_descriptors_that_are_its_own() {
    let Some(world) = World::new("setting") else { return };
    let log = world.bundle().join("log");
    let hook = |name: &str| {
        let script = format!(
            "(echo {name}; umask; pwd; ls -d rootfs bin; readlink /proc/self/fd/3; true) >>{} 2>/dev/null",
            log.display()
        );
        json!([{ "path": "/bin/busybox", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"] }])
    };
    world.change(|config| {
        config["hooks"] =
            json!({ "createRuntime": hook("createRuntime"), "createContainer": hook("createContainer") });
    });
    world.args(&["sh", "-c", "cat <&3"]);
    // The file is the container's third descriptor, and nobody else's.
    let script = "umask 027; exec 3<config.json; exec \"$0\" \"$@\"";
    let verb = world.verb(&["run", "--preserve-fds", "1"]);
    let mut command = std::process::Command::new("/bin/busybox");
    command.args(["sh", "-c", script]).arg(verb.get_program()).args(verb.get_args());
    let output = world.output(command.current_dir(world.bundle()).stdin(std::process::Stdio::null()));
    assert!(output.status.success() && output.stdout.starts_with(b"{"), "{output:?}");
    let said = fs::read_to_string(&log).unwrap();
    let (bundle, root) = (world.bundle().canonicalize().unwrap(), world.rootfs().canonicalize().unwrap());
    let expected = format!(
        "createRuntime\n0027\n{}\nrootfs\ncreateContainer\n0027\n{}\nbin\n",
        bundle.display(),
        root.display()
    );
    assert_eq!(said, expected);
}

/// The node's own programs are not to run under the container's profile. Without AppArmor on the node no profile can be asked for, and
/// that is found out behind them.
#[test]
fn a_create_hook_runs_before_the_container_s_label_is_asked_for() {
    if fs::exists("/sys/module/apparmor").unwrap() || fs::exists("/sys/fs/selinux/enforce").unwrap() {
        husk_test_support::skip("a node without AppArmor");
        return;
    }
    let Some(world) = World::new("label") else { return };
    let ran = world.bundle().join("ran");
    world.change(|config| {
        config["process"]["apparmorProfile"] = json!("none-such");
        config["hooks"] = json!({ "createContainer": [{ "path": "/bin/touch", "args": ["touch", ran] }] });
    });
    assert!(world.bad(&["create"]).contains("none-such"));
    assert!(ran.exists());
}

#[test]
fn all_hooks_of_the_end_run_whatever_one_of_them_says_and_a_time_beyond_any_clock_is_none() {
    let Some(world) = World::new("poststop") else { return };
    let ran = world.bundle().join("ran");
    world.args(&["true"]);
    world.change(|config| {
        config["hooks"] = json!({
            "prestart": [{ "path": "/bin/true", "timeout": i64::MAX }],
            "createContainer": [{ "path": "/bin/true", "timeout": i64::MAX }],
            "poststop": [{ "path": "/bin/false" }, { "path": "/bin/touch", "args": ["touch", ran] }]
        });
    });
    world.good(&["run"]);
    assert!(ran.exists() && !world.state_dir().exists());
    world.change(|config| config["hooks"] = json!({ "poststop": [{ "path": "/bin/true", "timeout": -1 }] }));
    assert!(world.bad(&["run"]).contains("its timeout is not above zero"));
}

#[test]
fn root_of_a_user_namespace_owns_its_namespaces_and_is_nobody_on_the_node() {
    let Some(world) = World::new("userns") else { return };
    world.change(|config| {
        let map = json!([{ "containerID": 0, "hostID": 200_000, "size": 65_536 }]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "time" }));
        config["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 1337, "nanosecs": 5 } });
    });
    world.args(&["sleep", "1000"]);
    let search = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    fs::set_permissions(world.bundle(), search).unwrap();
    world.good(&["run", "--detach"]);
    let status = fs::read_to_string(format!("/proc/{}/status", world.state()["pid"])).unwrap();
    assert!(status.contains("Uid:\t200000\t200000"), "{status}");
    let seen = world.exec(&["sh", "-c", "id -u; cat /proc/self/timens_offsets"]);
    let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
    assert!(seen.starts_with("0\n") && seen.contains("1337"), "{seen}");
}

#[test]
fn clocks_of_a_container_go_as_its_config_says() {
    let Some(world) = World::new("clocks") else { return };
    world.change(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "time" }));
        config["linux"]["timeOffsets"] = json!({ "monotonic": { "secs": 7881, "nanosecs": 5 } });
    });
    world.args(&["cat", "/proc/self/timens_offsets"]);
    assert!(world.good(&["run"]).contains("7881"));
}

#[test]
fn a_container_has_a_terminal_of_its_own_which_is_shown() {
    let Some(world) = World::new("terminal") else { return };
    world.change(|config| config["process"]["terminal"] = json!(true));
    world.args(&["sh", "-c", "test -t 0 && test -t 1 && echo terminal; ls -l /dev/console"]);
    let shown = world.good(&["run"]);
    assert!(shown.starts_with("terminal\n") && shown.contains("/dev/console"), "{shown}");
    assert!(world.bad(&["create"]).contains("console socket"));
}

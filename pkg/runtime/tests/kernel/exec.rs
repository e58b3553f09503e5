//! Processes that join a running container.

use husk_model::{Stdio, WindowSize};
use husk_runtime::{Identity, PidNs, Report, Step, spawn_exec};
use husk_sys::pidfd;

use crate::{
    cases,
    world::{World, read_terminal, report, run_exec, someone},
};

cases![
    an_exec_sees_what_the_container_sees,
    an_environment_is_bytes,
    an_exec_returns_code_and_both_streams,
    an_exec_has_the_user_it_is_given,
    an_exec_of_a_missing_command_says_so,
    an_exec_has_a_terminal_of_its_own,
    an_exec_into_the_pods_pid_namespace_works,
    an_exec_joins_the_cgroup_it_is_given,
    an_exec_into_a_container_that_ended_fails,
    execs_leave_the_callers_own_children_where_they_were,
];

fn an_exec_sees_what_the_container_sees(world: &World) {
    let pod = world.pod();
    let running = world.container(&pod, &["sleep", "1000"]).create().unwrap().start();
    let script =
        "for n in mnt net ipc uts pid cgroup; do readlink /proc/self/ns/$n; done; hostname; cat /proc/1/comm";
    let inside = running.exec(&["sh", "-c", script]).stdout;
    let init: String = ["mnt", "net", "ipc", "uts", "pid", "cgroup"]
        .iter()
        .map(|name| {
            let link = std::fs::read_link(format!("/proc/{}/ns/{name}", running.child.pid)).unwrap();
            format!("{}\n", link.display())
        })
        .collect();
    assert_eq!(inside, format!("{init}test-pod\nsleep\n"));
    running.kill();
}

fn an_environment_is_bytes(world: &World) {
    let raw = b"LATIN=caf\xe9\xff".to_vec();
    let lossy = String::from_utf8_lossy(&raw).into_owned();
    let pod = world.pod();
    let script = "printf %s \"$LATIN\" | od -An -tx1; echo $PLAIN; echo $HOME; sleep 1000";
    let env = serde_json::json!(["PATH=/bin", lossy, "PLAIN=caf\u{fffd}", "HOME="]);
    let mut container = world.container(&pod, &["sh", "-c", script]).set(&["process", "env"], env.clone());
    container.raw_env = vec![raw.clone(), b"GONE=\xff".to_vec()];
    let running = container.create().unwrap().start();
    let expected = " 63 61 66 e9 ff\ncaf\u{fffd}\n/root\n";
    let mut shown = String::new();
    while shown.lines().count() < 3 {
        shown += &running.read(200);
    }
    assert_eq!(shown, expected);
    let (mut plan, stdout, stderr) =
        running.exec_plan(&["sh", "-c", script.trim_end_matches("; sleep 1000")]);
    plan.process.set_env(serde_json::from_value(env).unwrap());
    plan.raw_env = vec![raw];
    assert_eq!(run_exec(plan, stdout, stderr).unwrap().stdout, expected);
    running.kill();
}

fn an_exec_returns_code_and_both_streams(world: &World) {
    let pod = world.pod();
    let running = world.container(&pod, &["sleep", "1000"]).create().unwrap().start();
    let output = running.exec(&["sh", "-c", "printf out; printf err >&2; exit 7"]);
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (7, "out", "err"));
    assert_eq!(running.exec(&["sh", "-c", "kill -9 $$"]).code, 137);
    running.kill();
}

fn an_exec_has_the_user_it_is_given(world: &World) {
    let pod = world.pod();
    let running = world.container(&pod, &["sleep", "1000"]).create().unwrap().start();
    let (mut plan, stdout, stderr) = running.exec_plan(&["sh", "-c", "id -u; id -G; touch /x"]);
    plan.identity = Identity::Account(someone(1000));
    let output = run_exec(plan, stdout, stderr).unwrap();
    assert_eq!(output.stdout, "1000\n1000\n");
    assert!(output.stderr.contains("Permission denied"), "{output:?}");
    running.kill();
}

fn an_exec_of_a_missing_command_says_so(world: &World) {
    let pod = world.pod();
    let running = world.container(&pod, &["sleep", "1000"]).create().unwrap().start();
    let (plan, stdout, stderr) = running.exec_plan(&["nosuch"]);
    let failure = run_exec(plan, stdout, stderr).unwrap_err();
    assert_eq!(failure.step, Step::Lookup);
    assert_eq!(failure.detail, "exec: \"nosuch\": executable file not found in $PATH");
    running.kill();
}

fn an_exec_has_a_terminal_of_its_own(world: &World) {
    let pod = world.pod();
    let running = world.container(&pod, &["sleep", "1000"]).create().unwrap().start();
    let (mut plan, ..) = running.exec_plan(&["sh", "-c", "tty; stty size"]);
    plan.stdio = Stdio::Terminal(Some(WindowSize { columns: 132, rows: 50 }));
    let mut child = spawn_exec(plan).unwrap();
    let Report::Moved { .. } = report(&mut child) else { panic!("not moved") };
    let Report::Ready(ready) = report(&mut child) else { panic!("not ready") };
    let text = read_terminal(&ready.terminal.unwrap()).replace('\r', "");
    assert_eq!(text, "/dev/pts/0\n50 132\n");
    assert_eq!(pidfd::reap(&child.pidfd).unwrap().code(), 0);
    running.kill();
}

fn an_exec_into_the_pods_pid_namespace_works(world: &World) {
    let pod = world.pod();
    let mut container = world.container(&pod, &["sleep", "1000"]);
    container.pid = PidNs::Pod;
    let running = container.create().unwrap().start();
    assert_eq!(running.exec(&["cat", "/proc/1/comm"]).stdout, "husk-pause\n");
    running.kill();
}

fn an_exec_joins_the_cgroup_it_is_given(world: &World) {
    let Some(unified) = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .into_iter()
        .find(|path| std::path::Path::new(path).join("cgroup.procs").exists())
    else {
        husk_test_support::skip("a tree of cgroup v2");
        return;
    };
    let group = std::path::Path::new(unified).join(format!("husk-test-{}", std::process::id()));
    std::fs::create_dir(&group).unwrap();
    let pod = world.pod();
    let mut container = world.container(&pod, &["sleep", "1000"]);
    container.cgroup_namespace = false;
    let running = container.create().unwrap().start();
    let dir = || std::fs::File::open(&group).unwrap().into();
    let (mut plan, stdout, stderr) = running.exec_plan(&["grep", "^0:", "/proc/self/cgroup"]);
    plan.cgroup.unified = Some(dir());
    let output = run_exec(plan, stdout, stderr).unwrap().stdout;
    let (mut plan, stdout, stderr) = running.exec_plan(&["grep", "^0:", "/proc/self/cgroup"]);
    plan.cgroup.procs =
        vec![std::fs::File::options().write(true).open(group.join("cgroup.procs")).unwrap().into()];
    let written = run_exec(plan, stdout, stderr).unwrap().stdout;
    running.kill();
    std::fs::remove_dir(&group).unwrap();
    let name = group.file_name().unwrap().to_str().unwrap();
    assert!(output.contains(name) && written.contains(name), "{output} {written}");
}

fn an_exec_into_a_container_that_ended_fails(world: &World) {
    let pod = world.pod();
    let running = world.container(&pod, &["true"]).create().unwrap().start();
    let (plan, stdout, stderr) = running.exec_plan(&["true"]);
    running.finish();
    let failure = run_exec(plan, stdout, stderr).unwrap_err();
    assert_eq!((failure.step, failure.errno), (Step::Namespaces, Some(rustix::io::Errno::SRCH)), "{failure}");
}

fn execs_leave_the_callers_own_children_where_they_were(world: &World) {
    let pod = world.pod();
    let running = world.container(&pod, &["sleep", "1000"]).create().unwrap().start();
    for _ in 0..20 {
        assert_eq!(running.exec(&["true"]).code, 0);
    }
    let (mut plan, ..) = running.exec_plan(&["true"]);
    plan.process.set_args(Some(Vec::new()));
    assert!(spawn_exec(plan).is_err());
    let (own, children) = ("/proc/self/ns/pid", "/proc/self/ns/pid_for_children");
    assert_eq!(std::fs::read_link(own).unwrap(), std::fs::read_link(children).unwrap());
    running.kill();
}

//! What a container's process may do and has open: users' privileges, filters, descriptors, terminals.

use std::{os::fd::AsFd, path::Path};

use husk_model::{SeccompFilter, UserSpec};
use husk_runtime::Step;
use husk_sys::pidfd::Exit;
use serde_json::json;

use crate::{
    cases,
    world::{Container, World, fields, pipe, read_terminal},
};

cases![
    capabilities_are_those_of_the_spec_and_none_is_inheritable,
    dropping_all_capabilities_empties_the_bounding_set,
    another_user_keeps_permitted_but_gets_nothing_effective_without_ambient,
    ambient_capabilities_reach_the_program,
    no_new_privileges_is_set_where_asked,
    a_filter_is_loaded_without_no_new_privileges,
    a_filter_is_loaded_with_no_new_privileges,
    a_filter_may_forbid_everything_but_execve,
    a_malformed_filter_fails_the_start,
    no_descriptor_leaks_into_the_container,
    cve_2024_21626_a_working_directory_through_a_descriptor_is_refused,
    cve_2019_5736_a_waiting_child_is_out_of_reach,
    signals_and_umask_are_as_a_new_program_expects,
    limits_are_set_and_a_lowered_oom_score_degrades,
    a_terminal_is_the_controlling_terminal_and_the_console,
    cve_2025_52565_a_terminal_comes_from_no_false_multiplexer,
    stdin_is_passed_and_absent_stdin_is_empty,
    home_comes_from_passwd_unless_it_is_given,
    a_missing_command_is_reported_in_the_words_of_the_peers,
];

fn status(container: Container<'_>) -> String {
    container.set(&["process", "args"], json!(["cat", "/proc/self/status"])).run().stdout
}

fn capability_sets<'pod>(container: Container<'pod>, sets: &[(&str, &[&str])]) -> Container<'pod> {
    let sets: serde_json::Map<_, _> =
        sets.iter().map(|(name, capabilities)| ((*name).to_owned(), json!(capabilities))).collect();
    container.set(&["process", "capabilities"], sets.into())
}

fn capabilities_are_those_of_the_spec_and_none_is_inheritable(world: &World) {
    let pod = world.pod();
    let sets: &[(&str, &[&str])] = &[
        ("bounding", &["CAP_CHOWN", "CAP_NET_RAW", "CAP_SYS_ADMIN"]),
        ("permitted", &["CAP_CHOWN", "CAP_NET_RAW"]),
        ("effective", &["CAP_CHOWN"]),
        ("inheritable", &["CAP_CHOWN"]),
    ];
    let status = status(capability_sets(world.container(&pod, &[""]), sets));
    let fields = fields(&status);
    assert_eq!(fields["CapInh"], "0000000000000000");
    // execve of root fills permitted and effective from the bounding set (capabilities(7)).
    assert_eq!(fields["CapBnd"], "0000000000202001");
    assert_eq!(fields["CapPrm"], "0000000000202001");
    assert_eq!(fields["CapAmb"], "0000000000000000");
}

fn dropping_all_capabilities_empties_the_bounding_set(world: &World) {
    let pod = world.pod();
    let container = world.container(&pod, &[""]);
    let status = status(container.set(&["process", "capabilities"], json!({})));
    let fields = fields(&status);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(fields[set], "0000000000000000", "{set}");
    }
}

fn another_user_keeps_permitted_but_gets_nothing_effective_without_ambient(world: &World) {
    let pod = world.pod();
    let mut container = world.container(&pod, &[""]);
    container.user.user = UserSpec::Uid(1000);
    let status = status(container);
    let fields = fields(&status);
    assert_eq!(fields["Uid"], "1000\t1000\t1000\t1000");
    assert_eq!((fields["CapEff"], fields["CapPrm"]), ("0000000000000000", "0000000000000000"));
    assert_ne!(fields["CapBnd"], "0000000000000000");
}

fn ambient_capabilities_reach_the_program(world: &World) {
    let pod = world.pod();
    let one: &[&str] = &["CAP_NET_BIND_SERVICE"];
    let sets = [("bounding", one), ("permitted", one), ("effective", one), ("ambient", one)];
    let mut container = capability_sets(world.container(&pod, &[""]), &sets);
    container.user.user = UserSpec::Uid(1000);
    let status = status(container);
    let fields = fields(&status);
    for set in ["CapPrm", "CapEff", "CapAmb", "CapBnd"] {
        assert_eq!(fields[set], "0000000000000400", "{set}");
    }
}

fn no_new_privileges_is_set_where_asked(world: &World) {
    let pod = world.pod();
    for (asked, shown) in [(true, "1"), (false, "0")] {
        let container = world.container(&pod, &[""]).set(&["process", "noNewPrivileges"], json!(asked));
        assert_eq!(fields(&status(container))["NoNewPrivs"], shown);
    }
}

const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const KILL: u32 = 0x8000_0000;

fn filter(instructions: &[(u16, u8, u8, u32)]) -> Option<SeccompFilter> {
    let program = instructions
        .iter()
        .flat_map(|&(code, yes, no, value)| {
            let mut bytes = code.to_ne_bytes().to_vec();
            bytes.extend([yes, no]);
            bytes.extend(value.to_ne_bytes());
            bytes
        })
        .collect();
    Some(SeccompFilter { program, flags: 0 })
}

/// Refuses mkdir and mkdirat with EPERM.
fn no_mkdir() -> Option<SeccompFilter> {
    let (mkdir, mkdirat) = if cfg!(target_arch = "x86_64") { (83, 258) } else { (34, 34) };
    filter(&[
        (LOAD, 0, 0, 0),
        (JUMP_EQUAL, 1, 0, mkdir),
        (JUMP_EQUAL, 0, 1, mkdirat),
        (RETURN, 0, 0, EPERM),
        (RETURN, 0, 0, ALLOW),
    ])
}

fn filtered(world: &World, no_new_privileges: bool) {
    let pod = world.pod();
    let script = "mkdir /x; grep -E '^(Seccomp|CapPrm|NoNewPrivs):' /proc/self/status";
    let mut container = world.container(&pod, &["sh", "-c", script]);
    container.seccomp = no_mkdir();
    container.user.user = UserSpec::Uid(1000);
    let output = container.set(&["process", "noNewPrivileges"], json!(no_new_privileges)).run();
    assert!(output.stderr.contains("Operation not permitted"), "{output:?}");
    let fields = fields(&output.stdout);
    assert_eq!(fields["Seccomp"], "2");
    // Nothing is left of the privilege that loading the filter took.
    assert_eq!(fields["CapPrm"], "0000000000000000");
    assert_eq!(fields["NoNewPrivs"], if no_new_privileges { "1" } else { "0" });
}

fn a_filter_is_loaded_without_no_new_privileges(world: &World) {
    filtered(world, false);
}

fn a_filter_is_loaded_with_no_new_privileges(world: &World) {
    filtered(world, true);
}

fn a_filter_may_forbid_everything_but_execve(world: &World) {
    let pod = world.pod();
    let execve = if cfg!(target_arch = "x86_64") { 59 } else { 221 };
    let mut container = world.container(&pod, &["true"]);
    container.seccomp =
        filter(&[(LOAD, 0, 0, 0), (JUMP_EQUAL, 0, 1, execve), (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, KILL)]);
    let running = container.set(&["process", "noNewPrivileges"], json!(true)).create().unwrap().start();
    // The program is reached, and killed at its first own call.
    assert_eq!(husk_sys::pidfd::reap(&running.child.pidfd).unwrap(), Exit::Signal(31));
}

fn a_malformed_filter_fails_the_start(world: &World) {
    let pod = world.pod();
    let mut container = world.container(&pod, &["true"]);
    container.seccomp = Some(SeccompFilter { program: vec![1, 2, 3], flags: 0 });
    let failure = container.create().unwrap().try_start().unwrap_err();
    assert_eq!(failure.step, Step::Seccomp);
}

fn no_descriptor_leaks_into_the_container(world: &World) {
    let pod = world.pod();
    // Not close-on-exec, as a careless library would leave it.
    let leak = std::fs::File::open("/etc/passwd").unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    let running =
        world.container(&pod, &["sh", "-c", "cd /proc/self/fd && echo *; sleep 1000"]).create().unwrap();
    let open: Vec<_> = std::fs::read_dir(format!("/proc/{}/fd", running.child.pid))
        .unwrap()
        .map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap())
        .collect();
    // At the gate: three streams, the report socket, and nothing of ours or of another container.
    assert!(!open.iter().any(|path| path == Path::new("/etc/passwd")), "{open:?}");
    assert!(
        open.iter().all(|path| {
            let path = path.to_string_lossy();
            ["pipe:", "socket:", "/dev/null", "anon_inode:[pidfd]", "pidfd:"]
                .iter()
                .any(|known| path.starts_with(known))
        }),
        "{open:?}"
    );
    let running = running.start();
    let output = running.exec(&["sh", "-c", "cd /proc/1/fd && echo *; cd /proc/self/fd && ls -l"]);
    assert!(output.stdout.starts_with("0 1 2\n"), "{output:?}");
    running.kill();
}

fn cve_2024_21626_a_working_directory_through_a_descriptor_is_refused(world: &World) {
    let pod = world.pod();
    let leak = std::fs::File::open("/").unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    // Those that the runtime has open itself, and the leaked one.
    let numbers = || (3..12).chain([std::os::fd::AsRawFd::as_raw_fd(&leak)]);
    for number in numbers() {
        for cwd in [format!("/proc/self/fd/{number}"), format!("/proc/self/fd/{number}/../../..")] {
            let container = world.container(&pod, &["pwd"]).set(&["process", "cwd"], json!(cwd));
            match container.create() {
                Err(failure) => assert_eq!(failure.step, Step::WorkDir, "{cwd}: {failure}"),
                Ok(mut running) => {
                    let failure = running.try_start().expect_err(&cwd);
                    assert_eq!(failure.step, Step::WorkDir, "{cwd}: {failure}");
                }
            }
        }
    }
    // By a symlink of the image as well, and in an exec.
    let container = world.container(&pod, &["pwd"]);
    std::os::unix::fs::symlink("/proc/self/fd/7", container.rootfs.upper.join("link")).unwrap();
    assert!(container.set(&["process", "cwd"], json!("/link")).create().is_err());
    let running = world.container(&pod, &["sleep", "1000"]).create().unwrap().start();
    for number in numbers() {
        let (mut plan, stdout, stderr) = running.exec_plan(&["pwd"]);
        plan.process.set_cwd(format!("/proc/self/fd/{number}").into());
        let failure = crate::world::run_exec(plan, stdout, stderr).unwrap_err();
        assert_eq!(failure.step, Step::WorkDir, "{number}: {failure}");
    }
    running.kill();
}

fn cve_2019_5736_a_waiting_child_is_out_of_reach(world: &World) {
    let pod = world.pod();
    let mut one = world.container(&pod, &["sleep", "1000"]);
    one.pid = husk_runtime::PidNs::Pod;
    let one = one.create().unwrap().start();
    let mut two = world.container(&pod, &["sleep", "1000"]);
    two.pid = husk_runtime::PidNs::Pod;
    let waiting = two.create().unwrap();
    // The first container runs as root in the same PID namespace; the second, at its gate, is still our program.
    let script =
        "for p in /proc/[0-9]*; do readlink $p/exe || echo refused; readlink $p/fd/3 || echo closed; done";
    let output = one.exec(&["sh", "-c", script]);
    assert!(!output.stdout.contains("kernel-") && !output.stdout.contains("socket:"), "{output:?}");
    assert!(output.stdout.contains("refused"), "{output:?}");
    waiting.kill();
    one.kill();
}

fn signals_and_umask_are_as_a_new_program_expects(world: &World) {
    let pod = world.pod();
    // We ourselves ignore SIGPIPE, as every Rust program does.
    let status = status(world.container(&pod, &[""]));
    let fields = fields(&status);
    for set in ["SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd"] {
        assert_eq!(fields[set], "0000000000000000", "{set}");
    }
    assert_eq!(fields["Umask"], "0022");
    assert_eq!(fields["Threads"], "1");
}

fn limits_are_set_and_a_lowered_oom_score_degrades(world: &World) {
    let pod = world.pod();
    let container = world
        .container(&pod, &["sh", "-c", "ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj"])
        .set(&["process", "rlimits"], json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]))
        .set(&["process", "oomScoreAdj"], json!(500));
    assert_eq!(container.run().stdout, "100\n200\n500\n");

    let container = world.container(&pod, &["true"]).set(&["process", "oomScoreAdj"], json!(-900));
    let running = container.create().unwrap();
    let privileged = fields(&std::fs::read_to_string("/proc/self/status").unwrap())["CapEff"].to_owned();
    let resource = u64::from_str_radix(&privileged, 16).unwrap() & 1 << 24 != 0;
    assert_eq!(running.ready.warnings.is_empty(), resource, "{:?}", running.ready.warnings);
    assert_eq!(running.start().finish().code, 0);
}

fn a_terminal_is_the_controlling_terminal_and_the_console(world: &World) {
    let pod = world.pod();
    let script = "tty; stat -c %t:%T /dev/console /dev/pts/0; stty size; ps -o tty | tail -1; \
        echo out; echo err >&2; readlink /proc/self/fd/0";
    let mut container = world.container(&pod, &["sh", "-c", script]);
    container.terminal = true;
    let running = container.create().unwrap().start();
    let master = running.ready.terminal.as_ref().unwrap().try_clone().unwrap();
    let text = read_terminal(&master).replace('\r', "");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "/dev/pts/0", "{text}");
    assert_eq!(lines[1], lines[2], "{text}");
    assert_eq!(lines[3], "24 80", "{text}");
    assert!(lines.contains(&"out") && lines.contains(&"err"), "{text}");
    assert_eq!(*lines.last().unwrap(), "/dev/pts/0", "{text}");
    running.finish();
}

/// A volume over /dev/pts, in which another container has put something under the multiplexer's name.
fn cve_2025_52565_a_terminal_comes_from_no_false_multiplexer(world: &World) {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    type Plant = fn(&Path);
    let pod = world.pod();
    let plants: [(&str, Plant); 4] = [
        ("file", |at| std::fs::write(at, "").unwrap()),
        ("device", |at| {
            mknodat(CWD, at, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, 3)).unwrap();
        }),
        ("other filesystem", |at| {
            mknodat(CWD, at, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(5, 2)).unwrap();
        }),
        ("link", |at| std::os::unix::fs::symlink("/dev/null", at).unwrap()),
    ];
    for (name, plant) in plants {
        let volume = world.scratch("pts").join(name);
        std::fs::create_dir(&volume).unwrap();
        plant(&volume.join("ptmx"));
        let mut container =
            world.container(&pod, &["true"]).mount("bind", &volume, "/dev/pts", &["rbind", "rw"]);
        container.terminal = true;
        let failure = container.create().err().expect(name);
        assert_eq!(failure.step, Step::Terminal, "{name}: {failure}");
        assert!(failure.detail.contains("not the multiplexer"), "{name}: {failure}");
    }
}

fn stdin_is_passed_and_absent_stdin_is_empty(world: &World) {
    let pod = world.pod();
    assert_eq!(world.container(&pod, &["cat"]).run().stdout, "");
    let (read, write) = pipe();
    let mut container = world.container(&pod, &["cat"]);
    container.stdin = Some(read);
    let running = container.create().unwrap().start();
    rustix::io::write(write.as_fd(), b"hello").unwrap();
    drop(write);
    assert_eq!(running.finish().stdout, "hello");
    // /dev/null is the container's own node: its mode is not the node's to lose.
    let running =
        world.container(&pod, &["sh", "-c", "chmod 600 /proc/self/fd/0 /dev/null"]).create().unwrap();
    running.start().finish();
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata("/dev/null").unwrap());
    assert_eq!(mode & 0o777, 0o666);
}

fn home_comes_from_passwd_unless_it_is_given(world: &World) {
    let pod = world.pod();
    let mut container = world.container(&pod, &["sh", "-c", "echo $HOME"]);
    container.user.user = UserSpec::Name("user".to_owned());
    assert_eq!(container.run().stdout, "/home/user\n");
    let container = world.container(&pod, &["sh", "-c", "echo $HOME"]);
    let container = container.set(&["process", "env"], json!(["PATH=/bin", "HOME=/given"]));
    assert_eq!(container.run().stdout, "/given\n");
}

fn a_missing_command_is_reported_in_the_words_of_the_peers(world: &World) {
    let pod = world.pod();
    let failure = |args: &[&str], user: UserSpec| {
        let mut container = world.container(&pod, args);
        container.user.user = user;
        std::fs::write(container.rootfs.upper.join("script"), "#!/nonexistent\n").unwrap();
        std::fs::write(container.rootfs.upper.join("garbage"), "garbage").unwrap();
        for name in ["script", "garbage"] {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(container.rootfs.upper.join(name), mode).unwrap();
        }
        container.create().unwrap().try_start().unwrap_err().to_string()
    };
    let root = || UserSpec::Root;
    assert_eq!(
        failure(&["nosuch"], root()),
        "find executable: exec: \"nosuch\": executable file not found in $PATH"
    );
    assert_eq!(
        failure(&["/bin/nosuch"], root()),
        "find executable: exec: \"/bin/nosuch\": stat /bin/nosuch: no such file or directory"
    );
    assert_eq!(
        failure(&["/etc/passwd"], root()),
        "find executable: exec: \"/etc/passwd\": permission denied"
    );
    assert_eq!(failure(&["/etc"], root()), "find executable: exec: \"/etc\": is a directory");
    assert_eq!(
        failure(&["/script"], root()),
        "execute /script: the interpreter or dynamic loader it names is missing: no such file or directory"
    );
    assert!(failure(&["/garbage"], root()).ends_with("exec format error"));
}

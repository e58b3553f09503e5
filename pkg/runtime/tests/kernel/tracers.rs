//! What a container with CAP_SYS_PTRACE reaches while processes of ours become ones of its PID namespace: nothing of the node.

use std::os::fd::OwnedFd;

use husk_model::SeccompFilter;
use husk_runtime::PidNs;
use serde_json::json;

use crate::{
    cases,
    world::{Container, Pod, Running, World, fields},
};

cases![
    execs_are_seen_only_inside_their_container,
    containers_of_a_shared_pid_namespace_are_seen_only_inside_their_root,
    containers_beside_a_target_are_seen_only_inside_their_root,
    execs_in_a_user_namespace_are_seen_only_inside_their_container,
    a_waiting_child_holds_no_more_than_its_program,
    a_waiting_child_of_another_user_holds_nothing,
    a_target_that_hides_its_proc_is_refused,
    the_proc_of_a_shared_pid_namespace_is_that_namespaces,
    a_program_possesses_no_key_of_the_node,
];

/// Looks at every process it can see, for ever: says what leads to the node's marker, or holds capabilities that no container
/// of the pod has.
fn attack(marker: &std::path::Path) -> String {
    let marker = marker.display();
    format!(
        "cd /proc; echo ready; while :; do for p in [0-9]*; do \
           [ -e $p/root{marker} ] && echo ESCAPED root $p; \
           [ -e $p/cwd{marker} ] && echo ESCAPED cwd $p; \
           for f in $p/fd/*; do [ -e $f{marker} ] && echo ESCAPED $f; done; \
           while read key value; do case $key in CapPrm:) \
             case $value in 0000000000080000|00000000000800ef|0000000000000000|00000000000000ef) ;; \
               *) echo ESCAPED $key $value ;; esac ;; esac; done <$p/status; \
         done 2>/dev/null; done"
    )
}

/// The capabilities of these tests: some, and for the attacker CAP_SYS_PTRACE besides.
fn with_capabilities<'pod>(container: Container<'pod>, tracer: bool) -> Container<'pod> {
    let mut capabilities = vec![
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_DAC_READ_SEARCH",
        "CAP_FOWNER",
        "CAP_KILL",
        "CAP_SETGID",
        "CAP_SETUID",
    ];
    if tracer {
        capabilities.push("CAP_SYS_PTRACE");
    }
    let sets = json!({"bounding": capabilities, "effective": capabilities, "permitted": capabilities});
    container.set(&["process", "capabilities"], sets)
}

fn marker(world: &World) -> std::path::PathBuf {
    let marker = world.dir.join("only-the-node-has-this");
    std::fs::write(&marker, "").unwrap();
    marker
}

/// A container that attacks, once it has begun.
fn attacker(world: &World, pod: &Pod, pid: PidNs) -> Running {
    let script = attack(&marker(world));
    let mut container = with_capabilities(world.container(pod, &["sh", "-c", &script]), true);
    container.pid = pid;
    let running = container.create().unwrap().start();
    assert_eq!(running.read(6), "ready\n");
    running
}

/// Ends it, and what it saw.
fn saw(attacker: Running) -> String {
    husk_sys::pidfd::signal(&attacker.child.pidfd, rustix::process::Signal::KILL).unwrap();
    attacker.finish().stdout
}

fn execs_are_seen_only_inside_their_container(world: &World) {
    let pod = world.pod();
    let attacker = attacker(world, &pod, PidNs::Own);
    exec_often(&attacker);
    assert_eq!(saw(attacker), "");
}

fn execs_in_a_user_namespace_are_seen_only_inside_their_container(world: &World) {
    let pod = world.mapped_pod(400_000);
    let attacker = attacker(world, &pod, PidNs::Own);
    exec_often(&attacker);
    assert_eq!(saw(attacker), "");
}

fn exec_often(running: &Running) {
    for _ in 0..200 {
        let (mut plan, stdout, stderr) = running.exec_plan(&["true"]);
        plan.process.set_capabilities(None);
        assert_eq!(crate::world::run_exec(plan, stdout, stderr).unwrap().code, 0);
    }
}

fn create_often(world: &World, pod: &Pod, pid: impl Fn() -> PidNs) {
    for _ in 0..60 {
        let mut container = with_capabilities(world.container(pod, &["true"]), false);
        container.pid = pid();
        container.seccomp = pass();
        let running = container.create().unwrap();
        assert_eq!(running.start().finish().code, 0);
    }
}

fn containers_of_a_shared_pid_namespace_are_seen_only_inside_their_root(world: &World) {
    let pod = world.pod();
    let attacker = attacker(world, &pod, PidNs::Pod);
    create_often(world, &pod, || PidNs::Pod);
    assert_eq!(saw(attacker), "");
}

fn containers_beside_a_target_are_seen_only_inside_their_root(world: &World) {
    let pod = world.pod();
    let attacker = attacker(world, &pod, PidNs::Own);
    let target: OwnedFd = attacker.child.pidfd.try_clone().unwrap();
    create_often(world, &pod, || PidNs::Target(target.try_clone().unwrap()));
    assert_eq!(saw(attacker), "");
}

/// A filter that allows everything.
fn pass() -> Option<SeccompFilter> {
    let mut program = 0x06_u16.to_ne_bytes().to_vec();
    program.extend([0, 0]);
    program.extend(0x7fff_0000_u32.to_ne_bytes());
    Some(SeccompFilter { program, flags: 0 })
}

fn status_at_gate(running: &Running) -> String {
    std::fs::read_to_string(format!("/proc/{}/status", running.child.pid)).unwrap()
}

fn a_waiting_child_holds_no_more_than_its_program(world: &World) {
    let (pod, mapped) = (world.pod(), world.mapped_pod(400_000));
    let target = world.container(&pod, &["sleep", "1000"]).create().unwrap().start();
    let target_of = || PidNs::Target(target.child.pidfd.try_clone().unwrap());
    for (pod, pid) in [
        (&pod, PidNs::Own),
        (&pod, PidNs::Pod),
        (&pod, target_of()),
        (&mapped, PidNs::Own),
        (&mapped, PidNs::Pod),
    ] {
        for no_new_privileges in [false, true] {
            let mut container = with_capabilities(world.container(pod, &["cat", "/proc/self/status"]), false)
                .set(&["process", "noNewPrivileges"], json!(no_new_privileges));
            container.pid = match &pid {
                PidNs::Target(_) => target_of(),
                PidNs::Pod => PidNs::Pod,
                _ => PidNs::Own,
            };
            container.seccomp = pass();
            let running = container.create().unwrap();
            let waiting = status_at_gate(&running);
            let program = running.start().finish().stdout;
            let (waiting, program) = (fields(&waiting), fields(&program));
            for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "Seccomp", "NoNewPrivs"] {
                assert_eq!(waiting[set], program[set], "{set}, {pid:?}");
            }
            assert_eq!((waiting["CapPrm"], waiting["Seccomp"]), ("00000000000000ef", "2"), "{pid:?}");
        }
    }
}

fn a_waiting_child_of_another_user_holds_nothing(world: &World) {
    let pod = world.pod();
    let mut container = with_capabilities(world.container(&pod, &["true"]), false);
    container.user.user = husk_model::UserSpec::Uid(1000);
    container.pid = PidNs::Pod;
    let running = container.create().unwrap();
    let status = status_at_gate(&running);
    let fields = fields(&status);
    assert_eq!(fields["Uid"], "1000\t1000\t1000\t1000");
    assert_eq!(running.start().finish().code, 0);
}

fn a_target_that_hides_its_proc_is_refused(world: &World) {
    let pod = world.pod();
    // No procfs that answers as the genuine one does.
    let false_tree = "mkdir -p /real /false/1/ns && mount --bind /proc /real && ln -s /real/1/ns/pid /false/1/ns/pid && \
        mount --bind /false /proc";
    // A genuine one, of a namespace below.
    let below = "unshare -pf sh -c 'mount -t proc proc /proc && echo hidden && exec sleep 1000'";
    for hide in ["mount -t tmpfs none /proc", "umount /proc", "mount --bind /proc/1 /proc", false_tree, below]
    {
        let script = format!("{hide} || exit 1; echo hidden; exec sleep 1000");
        let sets = json!(["CAP_SYS_ADMIN"]);
        let sets = json!({"bounding": sets, "effective": sets, "permitted": sets});
        let target = world.container(&pod, &["sh", "-c", &script]).set(&["process", "capabilities"], sets);
        // Nothing of ours lies on it, so that it can be unmounted.
        let target = target.set(&["linux"], json!({})).create().unwrap().start();
        assert_eq!(target.read(7), "hidden\n", "{hide}");
        let mut container = world.container(&pod, &["true"]);
        container.pid = PidNs::Target(target.child.pidfd.try_clone().unwrap());
        let Err(failure) = container.create() else { panic!("{hide}: taken") };
        assert!(failure.to_string().contains("/proc"), "{hide}: {failure}");
    }
}

fn the_proc_of_a_shared_pid_namespace_is_that_namespaces(world: &World) {
    let pod = world.pod();
    let target = world.container(&pod, &["sleep", "1234"]).create().unwrap().start();
    for (pid, init) in
        [(PidNs::Pod, "husk-pause"), (PidNs::Target(target.child.pidfd.try_clone().unwrap()), "sleep")]
    {
        let script = "cat /proc/1/comm; [ /proc/self -ef /proc/$$ ] || readlink /proc/self >/dev/null && echo self; \
            grep ' /proc ' /proc/self/mountinfo | cut -d' ' -f6; echo x >/proc/sys/kernel/hostname || echo ro";
        let mut container = world.container(&pod, &["sh", "-c", script]);
        container.pid = pid;
        let output = container.run();
        let expected = format!("{init}\nself\nrw,nosuid,nodev,noexec,relatime\nro\n");
        assert_eq!(output.stdout, expected, "{output:?}");
    }
}

fn a_program_possesses_no_key_of_the_node(world: &World) {
    husk_sys::keyring::join_new_session().unwrap();
    husk_sys::keyring::add_possessed(c"secret-of-the-node", b"x").unwrap();
    // Else the test would show nothing.
    assert!(std::fs::read_to_string("/proc/keys").unwrap().contains("secret-of-the-node"));
    let pod = world.pod();
    let running =
        world.container(&pod, &["sh", "-c", "cat /proc/keys; exec sleep 1000"]).create().unwrap().start();
    assert!(!running.exec(&["cat", "/proc/keys"]).stdout.contains("secret-of-the-node"));
    husk_sys::pidfd::signal(&running.child.pidfd, rustix::process::Signal::KILL).unwrap();
    assert!(!running.finish().stdout.contains("secret-of-the-node"));
}

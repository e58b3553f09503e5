//! Kills at named points: at the n-th system call of a kind, for every n, until a life goes by without a kill.
//!
//! strace kills at the entry of the call, so the call itself has not happened. Release binaries need no code for this. Of
//! huskd the count is per thread.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::Ordering,
    time::Duration,
};

use husk_e2e::{Daemon, Options, dist, eventually};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    client::{Client, Shared},
    life,
    lottery::nothing_is_left,
    number,
    random::Random,
};

/// Where strace is, or why a test is skipped.
fn strace() -> Option<&'static str> {
    let path = "/usr/bin/strace";
    if Path::new(path).exists() {
        return Some(path);
    }
    husk_test_support::skip("strace");
    None
}

/// Of the points only every so many-th is met; `hack/kill-test` meets all.
fn stride() -> usize {
    number("HUSK_KILL_STRIDE", 5) as usize
}

/// Far more than a life has calls of one kind.
const MANY: usize = 2000;

#[test]
fn a_monitor_can_be_killed_at_every_step() {
    let Some(strace) = strace() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (wrapper, point) = (dir.path().join("podmon"), dir.path().join("point"));
    // None stands by for a pod: it would have been started with the point of the pod before.
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in */pods/----*) exit 1 ;; esac\n[ -e {point} ] || exec {podmon} \"$@\"\nread n calls < {point}\n\
         exec {strace} -D -qq -o /dev/null -e trace=$calls -e inject=$calls:signal=KILL:when=$n {podmon} \"$@\"\n",
        point = point.display(),
        podmon = dist("husk-podmon").display(),
    );
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let config = format!("[runtime]\npodmon = {:?}\npause = {:?}\n", wrapper, dist("husk-pause"));
    let husk = Daemon::with(Options { config, ..Options::default() });
    let shared = Shared::new(husk.address(), husk.dir().to_owned());
    shared.all_hurt.store(true, Ordering::SeqCst);
    let client = Client::new(&shared);
    // Records, children, signals; answers and events; log lines and cgroups.
    for calls in
        ["rename,clone3,pidfd_send_signal,unlink,mkdir,mkdirat,rmdir,unlinkat", "sendto", "write,openat2"]
    {
        let mut points = 0;
        for n in (1..MANY).step_by(stride()) {
            fs::write(&point, format!("{n} {calls}\n")).unwrap();
            points += 1;
            if life::lead_one(
                &client,
                &format!("m{points}-{}", calls.len()),
                None,
                &mut Random::new(n as u64, 1),
            ) {
                break;
            }
        }
        assert!(points > 1, "no monitor was killed at {calls}");
        println!("a monitor was killed at {} points of {calls}", points - 1);
    }
    fs::remove_file(&point).unwrap();
    nothing_is_left(&husk);
    println!("{}", shared.report());
}

#[test]
fn huskd_can_be_killed_at_every_step() {
    let Some(strace) = strace() else { return };
    let mut husk = Daemon::start();
    let shared = Shared::new(husk.address(), husk.dir().to_owned());
    let client = Client::new(&shared);
    for calls in ["rename,mkdir,unlink,move_mount,umount2,bind", "sendmsg", "sendto"] {
        let mut kills = 0;
        for (round, n) in (1..MANY).step_by(stride()).enumerate() {
            let tracer = attach(strace, &husk, calls, n);
            let name = format!("d{n}-{}", calls.len());
            let killed = std::thread::scope(|scope| {
                let client = &client;
                let life = scope.spawn(move || {
                    life::lead_one(client, &name, Some(20_100), &mut Random::new(n as u64, 2));
                });
                let killed = restart_if_killed(&mut husk, || life.is_finished());
                life.join().expect("a life");
                killed
            });
            detach(tracer);
            kills += usize::from(killed);
            if !killed {
                assert!(round > 0, "huskd was not killed at {calls}");
                break;
            }
        }
        println!("huskd was killed at {kills} points of {calls}");
    }
    nothing_is_left(&husk);
    println!("{}", shared.report());
}

/// Makes strace kill huskd at a thread's n-th call. Of the threads that there are, and without their children: monitors that
/// huskd starts are not meant.
fn attach(strace: &str, husk: &Daemon, calls: &str, n: usize) -> Child {
    let tasks = fs::read_dir(format!("/proc/{}/task", husk.pid())).expect("huskd runs");
    let tasks: Vec<PathBuf> = tasks.flatten().map(|task| task.path()).collect();
    let mut command = Command::new(strace);
    for task in &tasks {
        command.arg("-p").arg(task.file_name().expect("a thread id"));
    }
    let tracer = command
        .args(["-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")])
        .args(["-e", &format!("inject={calls}:signal=KILL:when={n}")])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start strace");
    let is_traced = |task: &PathBuf| {
        // A thread of the pool may have ended.
        fs::read_to_string(task.join("status")).map_or(true, |status| !status.contains("TracerPid:\t0\n"))
    };
    eventually("strace traces huskd", Duration::from_secs(20), || tasks.iter().all(is_traced).then_some(()));
    tracer
}

fn detach(mut tracer: Child) {
    let _ = kill_process(Pid::from_child(&tracer), Signal::TERM);
    tracer.wait().expect("wait for strace");
}

/// Starts huskd again once it was killed; says whether that was before `over`.
fn restart_if_killed(husk: &mut Daemon, over: impl Fn() -> bool) -> bool {
    let stat = format!("/proc/{}/stat", husk.pid());
    let killed = eventually("the life or huskd ends", Duration::from_secs(120), || {
        let is_dead = fs::read_to_string(&stat).map_or(true, |text| text.contains(") Z"));
        if is_dead { Some(true) } else { over().then_some(false) }
    });
    if killed {
        husk.kill();
        husk.spawn();
    }
    killed
}

//! Commands in running containers.

use std::{
    io::{Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    time::Duration,
};

use husk_model::{Classify, Command, Kind, Streams, UserRequest, WindowSize};
use husk_monitor::{ExecOutput, Stdin};

use crate::world::{self, Pod, eventually, processes};

fn argv(script: &str) -> Vec<String> {
    ["sh", "-c", script].map(String::from).to_vec()
}

async fn sleeper() -> Option<(Pod, husk_model::ContainerId)> {
    let pod = world::pod().await?;
    pod.run().await;
    let id = pod.shell("sleep 100000").await;
    Some((pod, id))
}

#[tokio::test]
async fn streams_and_exit_code_come_back_exactly() {
    let Some((pod, id)) = sleeper().await else { return };
    let output = pod.monitor.exec_sync(&id, argv("printf out; printf err >&2; exit 5"), None).await.unwrap();
    let expected =
        ExecOutput { exit_code: 5, stdout: b"out".into(), stderr: b"err".into(), ..Default::default() };
    assert_eq!(output, expected);
    let error = pod.monitor.exec_sync(&id, vec!["/absent".into()], None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument);
    assert!(error.to_string().contains("/absent"), "{error}");
    let killed = pod.monitor.exec_sync(&id, argv("kill -9 $$"), None).await.unwrap();
    assert_eq!(killed.exit_code, 137);
    pod.finish().await;
}

#[tokio::test]
async fn a_timeout_kills_the_command_with_all_its_children_before_it_is_told() {
    let Some((pod, id)) = sleeper().await else { return };
    let script = "sleep 654321 & (sleep 654321 &) ; echo x; sleep 654321";
    let output = pod.monitor.exec_sync(&id, argv(script), Some(Duration::from_millis(300))).await.unwrap();
    assert!(output.timed_out);
    assert_eq!(processes("654321"), [0u32; 0]);
    pod.finish().await;
}

#[tokio::test]
async fn a_background_child_neither_holds_up_the_answer_nor_is_killed() {
    let Some((pod, id)) = sleeper().await else { return };
    let output = pod.monitor.exec_sync(&id, argv("sleep 543210 & echo done"), None).await.unwrap();
    assert_eq!((output.exit_code, output.stdout.as_slice()), (0, &b"done\n"[..]));
    assert_eq!(processes("543210").len(), 1);
    pod.finish().await;
    assert_eq!(processes("543210"), [0u32; 0]);
}

#[tokio::test]
async fn an_endless_writer_in_the_background_does_not_occupy_the_monitor() {
    let Some((pod, id)) = sleeper().await else { return };
    let output = pod.monitor.exec_sync(&id, argv("yes & exit 3"), None).await.unwrap();
    assert_eq!(output.exit_code, 3);
    pod.monitor.state().await.unwrap();
    pod.finish().await;
}

#[tokio::test]
async fn output_beyond_16_mib_is_cut_and_the_command_is_not_held_up() {
    let Some((pod, id)) = sleeper().await else { return };
    let output = pod.monitor.exec_sync(&id, argv("yes | head -c 20000000; exit 4"), None).await.unwrap();
    assert_eq!((output.exit_code, output.stdout.len(), output.truncated), (4, 16 << 20, true));
    pod.finish().await;
}

#[tokio::test]
async fn a_hundred_commands_at_once_all_answer_and_leave_no_cgroup() {
    let Some((pod, id)) = sleeper().await else { return };
    let mut set = tokio::task::JoinSet::new();
    for number in 0..100 {
        let (monitor, id) = (pod.monitor.clone(), id.clone());
        set.spawn(async move {
            let output = monitor.exec_sync(&id, argv(&format!("echo {number}")), None).await.unwrap();
            assert_eq!(output.stdout, format!("{number}\n").into_bytes());
        });
    }
    while let Some(result) = set.join_next().await {
        result.unwrap();
    }
    let hierarchy = husk_cgroup::Hierarchy::detect().unwrap();
    let container = husk_cgroup::CgroupPath::parse(&format!("{}/{id}", pod.cgroup)).unwrap();
    let exists = |n: u32| hierarchy.open(&container.join(&format!("exec-{n}")).unwrap()).is_ok();
    eventually("no group of a command is left", || !(0..400).any(exists)).await;
    pod.finish().await;
}

#[tokio::test]
async fn a_command_whose_caller_goes_away_is_killed() {
    let Some((pod, id)) = sleeper().await else { return };
    let exec = pod.monitor.exec_sync(&id, argv("sleep 432109"), None);
    tokio::select! {
        ended = exec => panic!("{ended:?}"),
        () = eventually("the command runs", || !processes("432109").is_empty()) => {}
    }
    eventually("the command is gone", || processes("432109").is_empty()).await;
    pod.finish().await;
}

#[tokio::test]
async fn a_stopped_container_takes_no_command() {
    let Some((pod, id)) = sleeper().await else { return };
    pod.monitor.stop_container(&id, None, Duration::ZERO).await.unwrap();
    let error = pod.monitor.exec_sync(&id, argv("true"), None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::FailedPrecondition);
    pod.finish().await;
}

fn pair() -> (UnixStream, Option<OwnedFd>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (ours, Some(theirs.into()))
}

#[tokio::test]
async fn a_streamed_command_reads_and_writes_the_callers_own_descriptors() {
    let Some((pod, id)) = sleeper().await else { return };
    let ((mut stdin, their_stdin), (mut stdout, their_stdout)) = (pair(), pair());
    let io = Streams { stdin: their_stdin, stdout: their_stdout, stderr: None };
    stdin.write_all(b"through").unwrap();
    drop(stdin);
    assert_eq!(pod.monitor.exec(&id, argv("cat; exit 6").into(), io).await.unwrap(), 6);
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!(text, "through");
    pod.finish().await;
}

#[tokio::test]
async fn an_exec_on_a_terminal_hands_the_master_to_the_caller() {
    let Some((pod, id)) = sleeper().await else { return };
    let argv = argv("tty; echo on $TERM; read line; echo got $line; exit 8");
    let size = Some(WindowSize { columns: 99, rows: 33 });
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let exec = pod.monitor.exec_terminal(&id, argv.into(), size, |master| sender.send(master).unwrap());
    let talk = async {
        let mut master = std::fs::File::from(receiver.await.unwrap());
        assert_eq!(rustix::termios::tcgetwinsize(&master).unwrap().ws_col, 99);
        master.write_all(b"hello\n").unwrap();
        tokio::task::spawn_blocking(move || {
            let mut text = Vec::new();
            // The end of a terminal is EIO.
            let _ = master.read_to_end(&mut text);
            String::from_utf8(text).unwrap()
        })
        .await
        .unwrap()
    };
    let (code, text) = tokio::join!(exec, talk);
    assert_eq!(code.unwrap(), 8);
    assert!(text.contains("/dev/pts/") && text.contains("got hello"), "{text:?}");
    assert!(text.contains("on xterm"), "{text:?}");
    pod.finish().await;
}

#[tokio::test]
async fn attach_sees_output_and_feeds_stdin_and_stdin_once_ends_it() {
    let Some(pod) = world::pod().await else { return };
    pod.run().await;
    let mut wish = pod.wish(&["sh", "-c", "cat; echo end"]);
    wish.request.stdin = Stdin::Once;
    let id = pod.start_container(wish).await;
    let ((mut stdin, their_stdin), (mut stdout, their_stdout)) = (pair(), pair());
    let io = Streams { stdin: their_stdin, stdout: their_stdout, stderr: None };
    let (monitor, container) = (pod.monitor.clone(), id.clone());
    let attach = tokio::spawn(async move { monitor.attach(&container, io, false).await });
    stdin.write_all(b"typed\n").unwrap();
    drop(stdin);
    attach.await.unwrap().unwrap();
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!(text, "typed\nend\n");
    assert_eq!(pod.log(&id).len(), 2, "attached output is logged too");
    pod.finish().await;
}

/// What the pipe of a container's stdin holds.
const PIPE: usize = 64 << 10;

/// Writes as much as there is room for.
fn fill(client: &mut UnixStream) -> usize {
    client.set_nonblocking(true).unwrap();
    let mut written = 0;
    while let Ok(count) = client.write(&[b'x'; 4096]) {
        written += count;
    }
    written
}

#[tokio::test]
async fn whoever_attaches_while_the_container_reads_no_input_waits_like_the_others() {
    let Some(pod) = world::pod().await else { return };
    pod.run().await;
    let mut wish = pod.wish(&["sleep", "100000"]);
    wish.request.stdin = Stdin::Open;
    let id = pod.start_container(wish).await;
    let ((mut first, their_first), (mut second, their_second)) = (pair(), pair());
    let (first_io, second_io) = (
        Streams { stdin: their_first, stdout: None, stderr: None },
        Streams { stdin: their_second, stdout: None, stderr: None },
    );
    let stuck = async {
        // An answer may come before what was typed is looked at, but not many.
        let mut taken = 0;
        for _ in 0..64 {
            taken += fill(&mut first);
            pod.monitor.state().await.unwrap();
        }
        // The container's pipe is full, and so is the client's socket; now the other one.
        let attach = pod.monitor.attach(&id, second_io, false);
        let written = async {
            let mut written = 0;
            for _ in 0..64 {
                written += fill(&mut second);
                pod.monitor.state().await.unwrap();
            }
            written
        };
        let written =
            tokio::select! { biased; ended = attach => panic!("{ended:?}"), written = written => written };
        (taken, written)
    };
    let attach = pod.monitor.attach(&id, first_io, false);
    let (first, second) =
        tokio::select! { biased; ended = attach => panic!("{ended:?}"), both = stuck => both };
    assert!(
        second <= first,
        "{second} bytes were taken of a client whose container takes none, {first} of another"
    );
    pod.finish().await;
}

#[tokio::test]
async fn the_end_of_one_clients_input_loses_nothing_that_another_had_typed() {
    let Some(pod) = world::pod().await else { return };
    pod.run().await;
    let mut wish = pod.wish(&["sh", "-c", "while ! [ -e /tmp/go ]; do sleep 0.02; done; cat"]);
    wish.request.stdin = Stdin::Once;
    let id = pod.start_container(wish).await;
    let ((mut typist, their_typing), (mut stdout, their_stdout)) = (pair(), pair());
    let typing = Streams { stdin: their_typing, stdout: their_stdout, stderr: None };
    let (leaver, their_leaving) = pair();
    let leaving = Streams { stdin: their_leaving, stdout: None, stderr: None };
    let typed = PIPE + 1000;
    let talk = async {
        typist.write_all(&vec![b'x'; typed]).unwrap();
        // Each answer comes after a look at what was typed, which is read by the pipe's size.
        for _ in 0..8 {
            pod.monitor.state().await.unwrap();
        }
        let attach = pod.monitor.attach(&id, leaving, false);
        let leave = async {
            drop(leaver);
            pod.monitor.state().await.unwrap();
            pod.monitor.exec_sync(&id, argv(": >/tmp/go"), None).await.unwrap();
            tokio::task::spawn_blocking(move || {
                let mut text = Vec::new();
                stdout.read_to_end(&mut text).unwrap();
                text.len()
            })
            .await
            .unwrap()
        };
        tokio::join!(biased; attach, leave).1
    };
    let (attached, came) = tokio::join!(biased; pod.monitor.attach(&id, typing, false), talk);
    attached.unwrap();
    assert_eq!(came, typed);
    pod.finish().await;
}

/// More than pipes and backlog hold together.
const FLOOD: usize = 4 << 20;

#[tokio::test]
async fn an_awaited_client_attaches_before_the_start_and_misses_nothing_however_slow_it_is() {
    let Some(pod) = world::pod().await else { return };
    pod.run().await;
    let script = format!("head -c {FLOOD} /dev/zero; echo err >&2");
    let wish = pod.wish(&["sh", "-c", &script]);
    pod.monitor.create_container(wish.request).await.unwrap();
    let id = wish.id;
    let (ours, theirs) = std::io::pipe().unwrap();
    let io = Streams { stdin: None, stdout: Some(theirs.into()), stderr: None };
    let attach = pod.monitor.attach(&id, io, true);
    // Asked for before the start, on the same connection.
    let (attached, started) = tokio::join!(biased; attach, async {
        pod.monitor.start_container(&id).await.unwrap();
        // The container stands still until somebody reads.
        let read = tokio::task::spawn_blocking(move || {
            let mut ours = std::fs::File::from(std::os::fd::OwnedFd::from(ours));
            let mut all = Vec::new();
            ours.read_to_end(&mut all).unwrap();
            all.len()
        });
        read.await.unwrap()
    });
    attached.unwrap();
    assert_eq!(started, FLOOD);
    pod.finish().await;
}

#[tokio::test]
async fn a_container_goes_on_when_an_awaited_client_leaves() {
    let Some(pod) = world::pod().await else { return };
    pod.run().await;
    let script = format!("head -c {FLOOD} /dev/zero; echo done >&2");
    let wish = pod.wish(&["sh", "-c", &script]);
    pod.monitor.create_container(wish.request).await.unwrap();
    let id = wish.id;
    let (ours, theirs) = std::io::pipe().unwrap();
    let io = Streams { stdin: None, stdout: Some(theirs.into()), stderr: None };
    let attach = pod.monitor.attach(&id, io, true);
    let mut events = pod.monitor.events();
    let started = async {
        pod.monitor.start_container(&id).await.unwrap();
        drop(ours);
    };
    let (_cut, ()) = tokio::join!(biased; attach, started);
    assert_eq!(world::exit_of(&mut events, &id).await.code, 0);
    pod.finish().await;
}

#[tokio::test]
async fn a_command_may_have_another_user_directory_and_environment() {
    let Some((pod, id)) = sleeper().await else { return };
    let (mut stdout, their_stdout) = pair();
    let io = Streams { stdin: None, stdout: their_stdout, stderr: None };
    let command = Command {
        argv: argv("id -u; id -g; pwd; echo $A $PATH"),
        env: vec!["A=b".into(), "PATH=/bin".into()],
        cwd: Some("/tmp".into()),
        user: UserRequest::parse("12:34"),
        privileged: false,
    };
    assert_eq!(pod.monitor.exec(&id, command, io).await.unwrap(), 0);
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!(text, "12\n34\n/tmp\nb /bin\n");
    pod.finish().await;
}

#[tokio::test]
async fn a_privileged_command_has_every_capability_and_another_has_not() {
    let Some((pod, id)) = sleeper().await else { return };
    for (privileged, least) in [(true, 30), (false, 0)] {
        let (mut stdout, their_stdout) = pair();
        let io = Streams { stdin: None, stdout: their_stdout, stderr: None };
        let argv = argv("grep CapBnd /proc/self/status");
        pod.monitor.exec(&id, Command { privileged, ..argv.into() }, io).await.unwrap();
        let mut text = String::new();
        stdout.read_to_string(&mut text).unwrap();
        let set = u64::from_str_radix(text.split_whitespace().last().unwrap(), 16).unwrap();
        // The node itself may lack one.
        assert!(set.count_ones() >= least && (privileged || set.count_ones() < 20), "{text}");
    }
    pod.finish().await;
}

#[tokio::test]
async fn a_terminal_is_logged_as_stdout_and_can_be_resized() {
    let Some(pod) = world::pod().await else { return };
    pod.run().await;
    let mut wish = pod.wish(&["sh", "-c", "tty; echo err >&2; sleep 100"]);
    wish.request.terminal = true;
    let id = pod.start_container(wish).await;
    eventually("two lines are logged", || pod.log(&id).len() == 2).await;
    let log = pod.log(&id);
    assert!(log[0].1.starts_with("/dev/pts/"), "{log:?}");
    assert!(log.iter().all(|(stream, _)| stream == "stdout"), "{log:?}");
    pod.monitor.resize_terminal(&id, WindowSize { columns: 120, rows: 40 }).await.unwrap();
    pod.finish().await;
}

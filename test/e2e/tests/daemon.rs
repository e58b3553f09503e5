//! The daemon itself: its socket, systemd, signals, configuration and metrics.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::{
        fd::OwnedFd,
        unix::{
            fs::PermissionsExt,
            net::{UnixDatagram, UnixListener},
        },
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use husk_e2e::{Cri, Daemon, Options, dist, eventually, pod, run, v1};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tonic::Code;

const LIMIT: Duration = Duration::from_secs(30);

fn without_image(config: &str) -> Daemon {
    Daemon::with(Options { config: config.to_owned(), without_image: true, ..Default::default() })
}

/// Directories of a daemon that makes no network: a CNI configuration keeps it from making its bridge.
fn directories() -> TempDir {
    let dir = tempfile::Builder::new().prefix("husk-e2e-").tempdir_in("/tmp").unwrap();
    fs::create_dir(dir.path().join("cni")).unwrap();
    let list = r#"{ "cniVersion": "1.0.0", "name": "none", "plugins": [{ "type": "loopback" }] }"#;
    fs::write(dir.path().join("cni/10-none.conflist"), list).unwrap();
    fs::write(dir.path().join("husk.toml"), "[network]\nnetns_pool = 0\n").unwrap();
    dir
}

/// The arguments of a daemon with its directories in `dir`.
fn arguments(dir: &Path) -> Vec<String> {
    [
        ("config", "husk.toml"),
        ("root", "root"),
        ("state", "state"),
        ("address", "husk.sock"),
        ("cni-conf-dir", "cni"),
    ]
    .into_iter()
    .flat_map(|(flag, name)| [format!("--{flag}"), dir.join(name).display().to_string()])
    .collect()
}

/// Waits until the daemon has sent `line` to systemd.
fn heard(systemd: &UnixDatagram, line: &str) {
    let mut buffer = [0u8; 4096];
    loop {
        let length = systemd.recv(&mut buffer).unwrap_or_else(|error| panic!("{line} was not sent: {error}"));
        if String::from_utf8_lossy(&buffer[..length]).lines().any(|sent| sent == line) {
            return;
        }
    }
}

fn terminate(child: &mut Child) {
    kill_process(Pid::from_child(child), Signal::TERM).unwrap();
}

#[test]
fn a_socket_handed_down_by_systemd_is_served_and_stays() {
    let dir = directories();
    let socket = dir.path().join("given.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let systemd = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    systemd.set_read_timeout(Some(LIMIT)).unwrap();
    // The protocol wants the socket as descriptor 3 and the pid of the very process (sd_listen_fds(3)).
    let mut huskd = Command::new("sh")
        .args(["-c", r#"exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@""#])
        .arg(dist("huskd"))
        .args(arguments(dir.path()))
        .env("NOTIFY_SOCKET", dir.path().join("notify"))
        .env("WATCHDOG_USEC", "200000")
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .spawn()
        .unwrap();
    heard(&systemd, "READY=1");
    heard(&systemd, "WATCHDOG=1");
    assert_eq!(Cri::connect(&socket).version(v1::VersionRequest::default()).unwrap().runtime_name, "husk");
    assert!(!dir.path().join("husk.sock").exists(), "no second socket is made");
    terminate(&mut huskd);
    heard(&systemd, "STOPPING=1");
    assert!(huskd.wait().unwrap().success());
    assert!(socket.exists(), "the socket is systemd's");
}

#[test]
fn a_second_daemon_is_kept_out_of_the_directories_and_the_socket_of_the_first() {
    let husk = without_image("");
    let other = directories();
    let text = |name: &str| husk.path(name).display().to_string();
    for (flag, path, reason) in [
        ("--root", text("root"), "another huskd"),
        ("--state", text("state"), "another huskd"),
        ("--address", husk.address().display().to_string(), "another process listens"),
    ] {
        // A flag given twice is an error, so the one in question is replaced.
        let mut words = arguments(other.path());
        let at = words.iter().position(|word| word == flag).unwrap();
        words[at + 1].clone_from(&path);
        let said = run(Command::new(dist("huskd")).args(words)).failure();
        assert!(said.contains(reason) && said.contains(&path), "{flag}: {said}");
    }
    husk.cri().version(v1::VersionRequest::default()).unwrap();
}

#[test]
fn the_socket_is_for_owner_and_group_and_outlives_no_killed_daemon() {
    let mut husk = without_image("");
    let mode = fs::metadata(husk.address()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o660, "{mode:o}");
    husk.kill();
    assert!(husk.address().exists(), "SIGKILL leaves it");
    husk.spawn();
    husk.cri().version(v1::VersionRequest::default()).unwrap();
}

#[test]
fn root_and_state_are_closed_to_everybody_else() {
    let husk = without_image("");
    for name in ["root", "state"] {
        let mode = fs::metadata(husk.path(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{name} has {mode:o}");
    }
}

#[test]
fn a_reload_tells_every_key_and_changes_what_can_be_changed() {
    let husk = without_image("[log]\nlevel = \"info\"\n");
    let file = husk.path("husk.toml");
    let hang_up = || kill_process(Pid::from_raw(husk.pid().cast_signed()).unwrap(), Signal::HUP).unwrap();
    let logged = |text: &str| eventually(text, LIMIT, || husk.log().contains(text).then_some(()));
    let before = fs::read_to_string(&file).unwrap();

    husk.cri().version(v1::VersionRequest::default()).unwrap();
    assert!(!husk.log().contains("Version"), "a successful read is not worth a line:\n{}", husk.log());
    let changed = before.replace("\"info\"", "\"debug\"") + "[images]\nmax_parallel_layers = 7\n";
    fs::write(&file, changed).unwrap();
    hang_up();
    logged("the configuration was read again");
    let line = |key: &str| {
        let log = husk.log();
        let found = log.lines().find(|line| line.contains(&format!("key=\"{key}\"")));
        found.unwrap_or_else(|| panic!("no line of {key}:\n{log}")).to_owned()
    };
    let level = line("log.level");
    assert!(level.contains("info") && level.contains("debug") && !level.contains("restart"), "{level}");
    let layers = line("images.max_parallel_layers");
    assert!(layers.contains('4') && layers.contains('7') && layers.contains("restart"), "{layers}");
    husk.cri().version(v1::VersionRequest::default()).unwrap();
    logged("Version");

    // Neither of the two good keys counts beside the two bad ones.
    fs::write(&file, before.clone() + "[doctor]\ninterval = \"soon\"\nrepair = false\n[imagse]\n").unwrap();
    hang_up();
    logged("nothing was changed");
    logged("doctor.interval");
    logged("imagse");
    assert!(!husk.log().contains("key=\"doctor.repair\""));
    fs::write(&file, before.replace("\"info\"", "\"no=such=filter\"")).unwrap();
    hang_up();
    logged("log.level: \"no=such=filter\"");
    husk.cri().version(v1::VersionRequest::default()).unwrap();
    fs::write(&file, before).unwrap();
}

#[test]
fn a_reload_follows_the_protocol_of_systemd() {
    let dir = directories();
    let systemd = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    systemd.set_read_timeout(Some(LIMIT)).unwrap();
    let mut huskd = Command::new(dist("huskd"))
        .args(arguments(dir.path()))
        .env("NOTIFY_SOCKET", dir.path().join("notify"))
        .spawn()
        .unwrap();
    heard(&systemd, "READY=1");
    // A file with a mistake ends in READY=1, too: the daemon works on.
    for text in ["[log]\nlevel = \"debug\"\n", "nonsense"] {
        fs::write(dir.path().join("husk.toml"), text).unwrap();
        kill_process(Pid::from_child(&huskd), Signal::HUP).unwrap();
        let mut buffer = [0u8; 4096];
        let length = systemd.recv(&mut buffer).unwrap();
        let told = String::from_utf8_lossy(&buffer[..length]).into_owned();
        assert!(told.lines().any(|line| line == "RELOADING=1"), "{told}");
        let stamp = told.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")?.parse::<u64>().ok());
        assert!(stamp.is_some_and(|stamp| stamp > 0), "both in one datagram: {told}");
        heard(&systemd, "READY=1");
    }
    terminate(&mut huskd);
    assert!(huskd.wait().unwrap().success());
}

#[test]
fn the_default_configuration_is_printed_and_checks_out() {
    let text = run(Command::new(dist("huskd")).args(["config", "default"])).success();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("husk.toml");
    fs::write(&file, text).unwrap();
    run(Command::new(dist("huskd")).args(["config", "check", "--config"]).arg(&file)).success();
}

#[test]
fn every_mistake_of_a_configuration_is_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("husk.toml");
    fs::write(&file, "rooot = \"/x\"\n[network]\nsubnet = \"nonsense\"\n[log]\nformat = \"xml\"\n").unwrap();
    for arguments in [&["config", "check"][..], &[]] {
        let said = run(Command::new(dist("huskd")).args(arguments).arg("--config").arg(&file)).failure();
        for part in ["rooot", "did you mean root?", "network.subnet", "log.format"] {
            assert!(said.contains(part), "{part:?} is not in {said}");
        }
    }
}

#[test]
fn a_pod_may_name_a_handler_of_the_configuration_and_no_other() {
    let husk = without_image("[runtime]\nhandlers = [\"test-handler\"]\n");
    let status = husk.cri().status(v1::StatusRequest::default()).unwrap();
    let names: Vec<&str> = status.runtime_handlers.iter().map(|handler| handler.name.as_str()).collect();
    assert_eq!(names, ["", "test-handler"]);
    let features: Vec<_> = status.runtime_handlers.iter().map(|handler| handler.features).collect();
    assert_eq!(features[0], features[1], "a name means the same as none");
    let start = |name: &str, handler: &str| {
        let config = Some(pod(name, &husk.path("logs")));
        husk.cri().run_pod_sandbox(v1::RunPodSandboxRequest { config, runtime_handler: handler.to_owned() })
    };
    let id = start("named", "test-handler").unwrap().pod_sandbox_id;
    assert_eq!(husk.cri().pod(&id).unwrap().runtime_handler, "test-handler");
    let refused = start("other", "kata").unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().starts_with("runtime_handler: no handler \"kata\""), "{refused:?}");
    let listed = husk.cri().list_pod_sandbox(v1::ListPodSandboxRequest::default()).unwrap();
    assert_eq!(listed.items.len(), 1, "a refused pod leaves nothing");
}

#[test]
fn the_daemon_says_of_itself_what_is_true() {
    let husk = without_image("");
    let version = husk.cri().version(v1::VersionRequest::default()).unwrap();
    for field in [version.version, version.runtime_version, version.runtime_api_version] {
        assert!(!field.is_empty(), "clients refuse an empty field");
    }
    let status = husk.cri().status(v1::StatusRequest { verbose: true }).unwrap();
    let conditions = status.status.unwrap().conditions;
    for kind in ["RuntimeReady", "NetworkReady"] {
        let condition = conditions.iter().find(|condition| condition.r#type == kind).expect(kind);
        assert!(condition.status, "{condition:?}");
    }
    let handler = status.runtime_handlers.iter().find(|handler| handler.name.is_empty()).unwrap();
    assert!(handler.features.unwrap().recursive_read_only_mounts);
    assert!(status.features.unwrap().supplemental_groups_policy);
    for text in status.info.values().filter(|text| text.starts_with('{')) {
        serde_json::from_str::<serde_json::Value>(text).unwrap();
    }
    let config = husk.cri().runtime_config(v1::RuntimeConfigRequest::default()).unwrap();
    let told = config.linux.unwrap().cgroup_driver();
    assert_eq!(told.as_str_name().to_lowercase(), husk.cgroup_driver().name());
}

#[test]
fn what_this_version_lacks_is_told_by_name() {
    let husk = without_image("");
    let mut client = husk.cri().runtime();
    let status = husk.cri().block_on(client.checkpoint_pod(v1::CheckpointPodRequest::default())).unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("CheckpointPod"), "{status}");
}

#[test]
fn a_message_of_sixteen_mebibytes_is_taken_and_a_larger_one_refused() {
    let husk = without_image("");
    let list = |bytes: usize| {
        husk.cri().list_pod_sandbox(v1::ListPodSandboxRequest {
            filter: Some(v1::PodSandboxFilter { id: "x".repeat(bytes), ..Default::default() }),
        })
    };
    assert!(list((16 << 20) - 64).unwrap().items.is_empty());
    assert_eq!(list(17 << 20).unwrap_err().code(), Code::OutOfRange);
}

#[test]
fn a_check_of_the_node_tries_things_out_and_leaves_nothing() {
    let dir = directories();
    let look = || {
        let links = run(Command::new("ip").args(["-o", "link"])).success();
        let mut seen: Vec<String> =
            links.lines().filter_map(|line| line.split(": ").nth(1).map(str::to_owned)).collect();
        seen.extend(husk_e2e::mounts());
        seen
    };
    let before = look();
    let text = |name: &str| dir.path().join(name).display().to_string();
    fs::create_dir(dir.path().join("root")).unwrap();
    let check = |more: &[&str]| {
        let mut command = Command::new(dist("husk"));
        command.args([
            "check",
            "--config",
            &text("husk.toml"),
            "--root",
            &text("root"),
            "--state",
            &text("state"),
        ]);
        run(command.args(more))
    };
    let table = check(&[]).success();
    assert!(table.contains("this node is fit for husk"), "{table}");
    let json: serde_json::Value = serde_json::from_str(&check(&["--output", "json"]).success()).unwrap();
    assert_eq!(json["fit"], true);
    let state = |json: &serde_json::Value, subject: &str| {
        let checks = json["checks"].as_array().unwrap();
        let found = checks.iter().find(|check| check["subject"] == subject);
        found.unwrap_or_else(|| panic!("{subject} is not in {json}"))["state"].as_str().unwrap().to_owned()
    };
    for subject in
        ["kernel", "mounts", "overlay", "cgroup", "network links", "file system of root", "programs"]
    {
        assert_eq!(state(&json, subject), "ok", "{subject}: {json}");
    }
    assert_eq!(fs::read_dir(dir.path().join("root")).unwrap().count(), 0, "nothing is left in root");
    assert_eq!(look(), before, "nothing is left on the node");

    // A node that lacks something.
    fs::write(dir.path().join("husk.toml"), "[runtime]\npodmon = \"/none\"\n").unwrap();
    let unfit = check(&["--output", "json"]);
    assert!(!unfit.is_success());
    let json: serde_json::Value = serde_json::from_str(&unfit.stdout).unwrap();
    assert_eq!((state(&json, "programs").as_str(), json["fit"].as_bool()), ("missing", Some(false)));
}

#[test]
fn metrics_count_rpcs_by_method_and_code() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let husk = without_image(&format!("[metrics]\naddress = \"127.0.0.1:{port}\"\n"));
    husk.cri().version(v1::VersionRequest::default()).unwrap();
    let request = v1::ContainerStatusRequest { container_id: "f".repeat(64), verbose: false };
    husk.cri().container_status(request).unwrap_err();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    for (method, code) in [("Version", "Ok"), ("ContainerStatus", "NotFound")] {
        let line = format!("husk_rpc_duration_seconds_count{{method=\"{method}\",code=\"{code}\"}} 1");
        assert!(text.contains(&line), "{line} is not in {text}");
    }
}

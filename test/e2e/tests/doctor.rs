//! `husk doctor`: what is planted is found and removed, look-alikes stay, and nothing alive is hurt.

use std::{
    fs,
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use husk_e2e::{Daemon, Options, container, eventually, pod, run, v1, with_command};
use rustix::process::{Pid, Signal, kill_process};

const LIMIT: Duration = Duration::from_secs(20);

/// A daemon that looks only when it is asked.
fn daemon() -> Daemon {
    let husk = Daemon::with(Options { config: "[doctor]\ninterval = \"\"\n".into(), ..Default::default() });
    after_its_start(&husk);
    husk
}

fn id(letter: &str) -> String {
    letter.repeat(64)
}

/// Returns when nothing is looked for any more because of the start, which removes what it finds: whoever asks waits for that.
fn after_its_start(husk: &Daemon) {
    husk.husk(&["doctor"]).success();
}

fn found(husk: &Daemon) -> String {
    husk.husk(&["doctor"]).stdout
}

fn ip(arguments: &str) {
    assert!(Command::new("ip").args(arguments.split(' ')).status().unwrap().success(), "ip {arguments}");
}

fn has_link(name: &str) -> bool {
    run(Command::new("ip").args(["link", "show", name])).is_success()
}

/// A monitor for `dir`, whose records are lost as soon as it has written them.
fn monitor_without_pod(program: &Path, dir: &Path) -> Child {
    fs::create_dir_all(dir).unwrap();
    let listener = UnixListener::bind(dir.join("s")).unwrap();
    let mut command = Command::new(program);
    command
        .arg("--state-dir")
        .arg(dir)
        .args(["--pause", "/none"])
        .stdin(Stdio::from(OwnedFd::from(listener)));
    let child = command.spawn().unwrap();
    eventually("the monitor is up", LIMIT, || dir.join("monitor.json").exists().then_some(()));
    fs::remove_dir_all(dir).unwrap();
    child
}

/// The pid of a pod's monitor.
fn monitor(husk: &Daemon, pod_id: &str) -> i32 {
    let record = fs::read(husk.path(&format!("state/pods/{pod_id}/monitor.json"))).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    record["pid"].as_i64().unwrap() as i32
}

fn is_alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Directories of a group in every hierarchy that has it.
fn groups(name: &str) -> Vec<PathBuf> {
    let paths = husk_e2e::hierarchies().into_iter().map(|point| point.join(name));
    paths.filter(|path| path.exists()).collect()
}

#[test]
fn a_pod_whose_records_were_lost_is_found_in_all_its_parts_and_removed() {
    let mut husk = daemon();
    let config = pod("kept", &husk.path("logs"));
    let kept = husk.cri().run_pod(&config).unwrap();
    let alive = husk.cri().run(&kept, &config, &container("main"));
    let mut other = pod("lost", &husk.path("logs"));
    other.port_mappings.push(v1::PortMapping { host_port: 18_099, container_port: 80, ..Default::default() });
    let lost = husk.cri().run_pod(&other).unwrap();
    husk.cri().run(&lost, &other, &container("main"));
    let (pid, group) = (monitor(&husk, &lost), husk.pod_cgroup(&lost));
    // The daemon is down when its records go, so the next one has never heard of the pod; it removes what it finds itself.
    husk.kill();
    fs::remove_dir_all(husk.path(&format!("state/pods/{lost}"))).unwrap();
    husk.spawn();
    // What new pods could meet was looked for before it served, the rest is looked for behind that.
    for (kind, object) in [
        ("process", format!("husk-podmon {pid} of pod {lost}")),
        ("cgroup", format!("/{group}")),
        ("network", lost.clone()),
        ("netns", husk.path(&format!("state/netns/{lost}")).display().to_string()),
        ("writable_layer", husk.path("root/containers").display().to_string()),
    ] {
        let kind = format!("kind=\"{kind}\"");
        let told = |line: &str| {
            line.contains("removed what belonged") && line.contains(&kind) && line.contains(&object)
        };
        eventually(&format!("{kind} {object} is removed"), LIMIT, || {
            husk.log().lines().any(told).then_some(())
        });
    }
    eventually("the monitor is gone", LIMIT, || (!is_alive(pid)).then_some(()));
    eventually("its groups are gone", LIMIT, || groups(&group).is_empty().then_some(()));
    assert_eq!(husk.cri().container(&alive).unwrap().state(), v1::ContainerState::ContainerRunning);
    assert_eq!(husk.cri().exec(&alive, &["echo", "hello"]).unwrap().1.trim(), "hello");
    eventually("nothing is found any more", LIMIT, || {
        found(&husk).contains("belongs to nobody").then_some(())
    });
    husk.husk(&["doctor"]).success();
}

#[test]
fn planted_leaks_are_named_then_removed_while_look_alikes_stay() {
    let husk = daemon();
    let config = pod("kept", &husk.path("logs"));
    let kept = husk.cri().run_pod(&config).unwrap();
    husk.cri().run(&kept, &config, &container("main"));
    let text = |path: &str| husk.path(path).display().to_string();
    let (lost, bridge) = (id("a"), husk.bridge());

    fs::create_dir_all(husk.path(&format!("root/containers/{lost}/upper"))).unwrap();
    fs::create_dir_all(husk.path(&format!("state/pods/{}", id("c")))).unwrap();
    fs::create_dir_all(husk.path(&format!("state/pods/{kept}/containers/{}", id("d")))).unwrap();
    fs::create_dir_all(husk.path("root/images/layers/zzzz/etc")).unwrap();
    fs::write(husk.path(&format!("root/network/ipam/{bridge}/10.1.2.3")), format!("{lost}\r\neth0")).unwrap();
    ip("link add huskaaaaaaaaaaa type veth peer name planted-peer");
    ip(&format!("link set huskaaaaaaaaaaa master {bridge}"));
    let element =
        format!("add element inet {} hostports4 {{ tcp . 4321 : 10.9.9.9 . 80 }}", husk.nft_table());
    assert!(Command::new("nft").args(element.split(' ')).status().unwrap().success());
    let pin = husk.path(&format!("state/netns/{lost}"));
    fs::write(&pin, "").unwrap();
    assert!(
        Command::new("mount").args(["--bind", "/proc/self/ns/net"]).arg(&pin).status().unwrap().success()
    );

    let mut leaked =
        monitor_without_pod(&husk_e2e::dist("husk-podmon"), &husk.path("state/pods").join(id("f")));

    // Names alike, but in other places, of other kinds or owners.
    let (program, copy) = (husk_e2e::dist("husk-podmon"), husk.path("husk-podmon"));
    fs::copy(&program, &copy).unwrap();
    let mut processes = [
        monitor_without_pod(&program, &husk.path("other/state/pods").join(&lost)),
        monitor_without_pod(&copy, &husk.path("state/pods").join(&lost)),
    ];
    ip("link add huskbbbbbbbbbbb type veth peer name alike-peer");
    ip("link add vethplanted type veth peer name other-peer");
    ip(&format!("link set vethplanted master {bridge}"));
    fs::write(husk.path(&format!("root/network/ipam/{bridge}/10.1.2.4")), "somebody else\r\neth0").unwrap();
    for stranger in ["root/containers/notes", "state/pods/notes", "root/images/layers/not a layer"] {
        fs::create_dir_all(husk.path(stranger)).unwrap();
    }
    let alike =
        groups(husk.cgroup_parent().trim_start_matches('/')).remove(0).join(format!("husk-{}", id("e")));
    if husk.cgroup_driver() == husk_e2e::CgroupDriver::Cgroupfs {
        // Perhaps another husk's, which is just about to fill it.
        fs::create_dir(&alike).unwrap();
    }

    let planted = [
        ("writable_layer", text(&format!("root/containers/{lost}"))),
        ("pod_directory", text(&format!("state/pods/{}", id("c")))),
        ("container_directory", text(&format!("state/pods/{kept}/containers/{}", id("d")))),
        ("image_layer", text("root/images/layers/zzzz")),
        ("address", "10.1.2.3".into()),
        ("link", "huskaaaaaaaaaaa".into()),
        ("host_port", "hostports4 { tcp . 4321 : 10.9.9.9 . 80 }".into()),
        ("netns", pin.display().to_string()),
        ("process", format!("husk-podmon {} of pod {}", leaked.id(), id("f"))),
    ];
    let told = husk.husk(&["doctor"]);
    assert!(!told.is_success(), "something is left: {}", told.stdout);
    for (kind, object) in &planted {
        let line = told.stdout.lines().find(|line| line.contains(object.as_str()));
        assert!(line.is_some_and(|line| line.starts_with(kind)), "{kind} {object}:\n{}", told.stdout);
    }
    assert_eq!(told.stdout.lines().count(), planted.len() + 1, "only those:\n{}", told.stdout);
    assert!(husk.path("root/images/layers/zzzz").exists(), "a look changes nothing");

    let repaired = husk.husk(&["doctor", "--repair"]).success();
    assert_eq!(repaired.matches("removed").count(), planted.len(), "{repaired}");
    eventually("nothing is found any more", LIMIT, || {
        found(&husk).contains("belongs to nobody").then_some(())
    });
    for gone in [&pin, &husk.path(&format!("root/containers/{lost}")), &husk.path("root/images/layers/zzzz")]
    {
        eventually("it is gone", LIMIT, || (!gone.exists()).then_some(()));
    }
    assert!(!has_link("huskaaaaaaaaaaa"));
    assert!(!leaked.wait().unwrap().success());

    for process in &mut processes {
        assert!(process.try_wait().unwrap().is_none(), "a look-alike was killed");
        process.kill().unwrap();
        process.wait().unwrap();
    }
    for link in ["huskbbbbbbbbbbb", "vethplanted"] {
        assert!(has_link(link), "{link}");
        ip(&format!("link del {link}"));
    }
    for stranger in ["root/containers/notes", "state/pods/notes", "root/images/layers/not a layer"] {
        assert!(husk.path(stranger).exists(), "{stranger}");
        fs::remove_dir(husk.path(stranger)).unwrap();
    }
    assert!(husk.path(&format!("root/network/ipam/{bridge}/10.1.2.4")).exists());
    if alike.exists() {
        fs::remove_dir(&alike).unwrap();
    } else {
        assert_ne!(husk.cgroup_driver(), husk_e2e::CgroupDriver::Cgroupfs, "a look-alike's cgroup is gone");
    }
}

#[test]
fn a_daemon_beside_another_finds_nothing_of_it() {
    let (one, other) = (daemon(), daemon());
    let config = pod("kept", &one.path("logs"));
    let kept = one.cri().run_pod(&config).unwrap();
    let alive = one.cri().run(&kept, &config, &container("main"));
    other.husk(&["doctor", "--repair"]).success();
    assert!(found(&other).contains("belongs to nobody"));
    assert_eq!(one.cri().container(&alive).unwrap().state(), v1::ContainerState::ContainerRunning);
    // First, with its pod: the other looks at the whole node when it ends.
    drop(one);
}

#[test]
fn repairs_without_end_hurt_no_pod_that_comes_or_goes() {
    let husk = Arc::new(daemon());
    let stop = Arc::new(AtomicBool::new(false));
    let attackers: Vec<_> = (0..2)
        .map(|_| {
            let (husk, stop) = (Arc::clone(&husk), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut runs = 0;
                while !stop.load(Ordering::Relaxed) {
                    let told = husk.husk(&["doctor", "--repair"]);
                    assert!(told.is_success(), "{} {}", told.stdout, told.stderr);
                    assert!(told.stdout.contains("belongs to nobody"), "nothing was leaked: {}", told.stdout);
                    runs += 1;
                }
                runs
            })
        })
        .collect();
    std::thread::scope(|scope| {
        for worker in 0..3 {
            let husk = &husk;
            scope.spawn(move || {
                for round in 0..12 {
                    let mut config = pod(&format!("churn-{worker}-{round}"), &husk.path("logs"));
                    let port = 18_200 + worker * 20 + round;
                    config.port_mappings.push(v1::PortMapping {
                        host_port: port,
                        container_port: 80,
                        ..Default::default()
                    });
                    let pod_id = husk.cri().run_pod(&config).unwrap();
                    let id = husk.cri().run(&pod_id, &config, &with_command("main", "exec sleep 1000"));
                    assert_eq!(husk.cri().exec(&id, &["echo", "alive"]).unwrap().1.trim(), "alive");
                    husk.cri().stop(&id, 0).unwrap();
                    let request = v1::RemovePodSandboxRequest { pod_sandbox_id: pod_id };
                    husk.cri().remove_pod_sandbox(request).unwrap();
                }
            });
        }
    });
    stop.store(true, Ordering::Relaxed);
    let runs: usize = attackers.into_iter().map(|attacker| attacker.join().unwrap()).sum();
    assert!(runs > 0, "the doctor ran meanwhile");
}

#[test]
fn the_daemon_makes_rounds_by_itself_and_counts_what_it_found() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config =
        format!("[metrics]\naddress = \"127.0.0.1:{port}\"\n[doctor]\ninterval = \"1s\"\nrepair = false\n");
    let husk = Daemon::with(Options { config, without_image: true, ..Default::default() });
    after_its_start(&husk);
    let lost = husk.path(&format!("root/containers/{}", id("a")));
    fs::create_dir_all(&lost).unwrap();
    let counted = |name: &str| {
        let text = husk_e2e::metrics(port);
        let line = format!("husk_{name}_total{{kind=\"writable_layer\"}} ");
        text.lines()
            .find_map(|found| found.strip_prefix(&line)?.parse::<u64>().ok())
            .filter(|count| *count > 0)
    };
    eventually("it is found without being asked for", LIMIT, || counted("leaks_found"));
    assert!(lost.exists(), "and left, as configured");
    let file = husk.path("husk.toml");
    let before = fs::read_to_string(&file).unwrap();
    fs::write(&file, before.replace("repair = false", "repair = true")).unwrap();
    kill_process(Pid::from_raw(husk.pid().cast_signed()).unwrap(), Signal::HUP).unwrap();
    eventually("it is removed", LIMIT, || counted("leaks_repaired"));
    eventually("it is gone", LIMIT, || (!lost.exists()).then_some(()));
    fs::write(&file, before).unwrap();
}

//! Kills at random moments while workers lead pods through their lives.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use husk_e2e::{Daemon, Options, eventually, run, tool};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use crate::{client::Shared, life, pulls, random::Random};

/// Whose network the pods have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// husk's.
    Embedded,
    /// CNI plugins', which are killed too.
    Cni,
}

/// A run.
#[derive(Debug)]
pub struct Lottery {
    pub kills: u32,
    pub seed: u64,
    pub kind: Kind,
}

/// Pods that live at the same time.
const WORKERS: u64 = 3;
/// Longest pause between two kills, in milliseconds.
const PAUSE: u64 = 160;

impl Lottery {
    /// Kills, then proves that nothing is left.
    pub fn run(&self) {
        println!("seed {} for {} kills with {:?} network", self.seed, self.kills, self.kind);
        let bridge = format!("hkk{:x}", std::process::id() & 0xff_ffff);
        {
            let mut husk = self.daemon(&bridge);
            let shared = Shared::new(husk.address(), husk.dir().to_owned());
            let registry = pulls::registry(self.seed);
            let began = Instant::now();
            std::thread::scope(|scope| {
                let (shared, registry) = (&shared, &registry);
                for worker in 0..WORKERS {
                    scope.spawn(move || alarmed(shared, || life::work(shared, worker, self.seed)));
                }
                scope.spawn(move || alarmed(shared, || pulls::work(shared, registry)));
                self.kill(&mut husk, shared);
                shared.over.store(true, Ordering::SeqCst);
            });
            nothing_is_left(&husk);
            println!("{:?} network, {:?}:\n{}", self.kind, began.elapsed(), shared.report());
        }
        if self.kind == Kind::Cni {
            let _ = run(Command::new("ip").args(["link", "delete", &bridge]));
        }
    }

    fn daemon(&self, bridge: &str) -> Daemon {
        if self.kind == Kind::Embedded {
            return Daemon::start();
        }
        let plugins = tool("cni").display().to_string();
        let husk =
            Daemon::with(Options { flags: vec!["--cni-bin-dir".into(), plugins], ..Options::default() });
        let directory = husk.path("cni");
        fs::create_dir_all(&directory).unwrap();
        let conflist = serde_json::json!({
            "cniVersion": "1.0.0",
            "name": bridge,
            "plugins": [
                {
                    "type": "bridge", "bridge": bridge, "isGateway": true, "ipMasq": false,
                    "ipam": {
                        "type": "host-local", "dataDir": husk.path("ipam"),
                        "ranges": [[{ "subnet": "10.251.9.0/24" }]], "routes": [{ "dst": "0.0.0.0/0" }],
                    },
                },
            ],
        });
        fs::write(directory.join("new"), conflist.to_string()).unwrap();
        fs::rename(directory.join("new"), directory.join("10-kill.conflist")).unwrap();
        eventually("the network is CNI's", Duration::from_secs(10), || {
            let request = husk_e2e::v1::StatusRequest { verbose: true };
            husk.cri().status(request).ok()?.info["config"].contains(bridge).then_some(())
        });
        husk
    }

    #[allow(clippy::disallowed_methods, reason = "the random moment is what is tested")]
    fn kill(&self, husk: &mut Daemon, shared: &Shared) {
        let mut random = Random::new(self.seed, 999);
        for _ in 0..self.kills {
            if shared.failed.load(Ordering::SeqCst) {
                return;
            }
            std::thread::sleep(Duration::from_millis(random.below(PAUSE)));
            // However busy the node is, every so often callers get somewhere.
            let answers = shared.answers() + random.below(2) * random.below(30);
            eventually("callers get answers", Duration::from_secs(300), || {
                let failed = shared.failed.load(Ordering::SeqCst);
                (failed || shared.answers() >= answers).then_some(())
            });
            match random.below(10) {
                0..2 => kill_part(husk, shared, &mut random, "monitor.json", "husk-podmon"),
                2..4 => kill_part(husk, shared, &mut random, "sandbox.json", "husk-pause"),
                4..6 if self.kind == Kind::Cni => {
                    // Stopped first, so that it does not hear of its plugins' end: an ADD that fails is another story.
                    signal_daemon(husk, Signal::STOP);
                    kill_plugins();
                    self.kill_daemon(husk, shared, &mut random);
                    shared.count("kills of huskd with its CNI plugins", 1);
                }
                _ => {
                    self.kill_daemon(husk, shared, &mut random);
                    shared.count("kills of huskd", 1);
                }
            }
        }
    }

    #[allow(clippy::disallowed_methods, reason = "how long huskd is away is chosen at random")]
    fn kill_daemon(&self, husk: &mut Daemon, shared: &Shared, random: &mut Random) {
        husk.kill();
        std::thread::sleep(Duration::from_millis(random.below(20)));
        let began = Instant::now();
        husk.spawn();
        shared.count("milliseconds of starts", began.elapsed().as_millis() as u64);
    }
}

/// Works, and tells the killer if that panics.
fn alarmed(shared: &Shared, work: impl FnOnce()) {
    let alarm = Alarm(shared);
    work();
    std::mem::forget(alarm);
}

/// Tells the killer that a worker panicked.
struct Alarm<'a>(&'a Shared);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        self.0.failed.store(true, Ordering::SeqCst);
        self.0.over.store(true, Ordering::SeqCst);
    }
}

/// Kills the process of which a pod's record tells, if it is still the one that is meant.
fn kill_part(husk: &Daemon, shared: &Shared, random: &mut Random, record: &str, name: &str) {
    let pods: BTreeSet<PathBuf> =
        fs::read_dir(husk.path("state/pods")).into_iter().flatten().flatten().map(|e| e.path()).collect();
    let Some(pod) = pods.iter().nth(random.below(pods.len().max(1) as u64) as usize) else { return };
    let Some(pid) = pid_of(&pod.join(record)) else { return };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    let comm = fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).unwrap_or_default();
    if !name.starts_with(comm.trim()) || comm.trim().is_empty() {
        return;
    }
    shared.hurt(&pod.file_name().expect("a name").to_string_lossy());
    if pidfd_send_signal(pidfd, Signal::KILL).is_ok() {
        shared.count(if name == "husk-pause" { "kills of pause" } else { "kills of podmon" }, 1);
    }
}

fn pid_of(record: &Path) -> Option<Pid> {
    let record: serde_json::Value = serde_json::from_slice(&fs::read(record).ok()?).ok()?;
    Pid::from_raw(record["pid"].as_i64()? as i32)
}

fn signal_daemon(husk: &Daemon, signal: Signal) {
    let pid = Pid::from_raw(husk.pid().cast_signed()).expect("a pid");
    kill_process(pid, signal).expect("signal huskd");
}

/// Kills every plugin that runs in these namespaces.
fn kill_plugins() {
    let plugins = tool("cni");
    for entry in fs::read_dir("/proc").expect("read /proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw)
        else {
            continue;
        };
        if fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe.starts_with(&plugins)) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// What [`Daemon::finish`] does not look at: host ports, addresses, records of networks, and the trash.
pub fn nothing_is_left(husk: &Daemon) {
    let empty = |folder: &str| {
        eventually(&format!("{folder} is empty"), Duration::from_secs(20), || {
            files_below(&husk.path(folder)).is_empty().then_some(())
        });
    };
    for folder in ["state/trash", "root/trash", "root/network/pods", "state/pods", "root/containers"] {
        empty(folder);
    }
    let addresses = files_below(&husk.path("root/network/ipam"));
    let reserved = addresses.iter().filter(|path| is_address(path)).collect::<Vec<_>>();
    assert!(reserved.is_empty(), "addresses are left: {reserved:?}");
    let plugins = files_below(&husk.path("ipam"));
    let reserved = plugins.iter().filter(|path| is_address(path)).collect::<Vec<_>>();
    assert!(reserved.is_empty(), "addresses of the plugins are left: {reserved:?}");
    let rules = run(Command::new("nft").args(["list", "ruleset"])).success();
    assert!(!rules.contains(" : 10."), "host ports are left:\n{rules}");
}

fn is_address(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().parse::<std::net::IpAddr>().is_ok())
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

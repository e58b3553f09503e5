//! Many pods at once, while huskd is killed now and then: what it took, what failed, how much memory it cost.
//!
//! `hack/load` runs the large one by name.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use husk_e2e::{Cri, Daemon, Options, eventually_every, pod, processes_of, v1, with_command};
use tonic::Status;

use crate::{
    client::{Client, Shared},
    lottery::nothing_is_left,
    number,
};

/// Callers at the same time.
const CALLERS: usize = 6;
/// Lines of every container's log.
const LINES: usize = 20;

#[test]
fn a_few_pods_at_once_while_huskd_is_killed() {
    run(12, 3);
}

#[test]
#[ignore = "takes minutes; hack/load runs it"]
fn many_pods_at_once_while_huskd_is_killed() {
    run(number("HUSK_LOAD_PODS", 300) as usize, number("HUSK_LOAD_KILLS", 10) as usize);
}

/// Times of answers by RPC.
#[derive(Default)]
struct Times(Mutex<BTreeMap<&'static str, Vec<Duration>>>);

impl Times {
    fn report(&self) -> String {
        let mut text =
            format!("  {:<20} {:>7} {:>10} {:>10} {:>10}\n", "rpc", "calls", "median", "99 %", "worst");
        for (rpc, times) in self.0.lock().unwrap().iter_mut() {
            times.sort();
            let at = |share: usize| {
                format!("{:.1} ms", times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3)
            };
            text +=
                &format!("  {rpc:<20} {:>7} {:>10} {:>10} {:>10}\n", times.len(), at(50), at(99), at(100));
        }
        text
    }
}

/// A client that takes the time of every answer. An attempt that was cut off by a kill counts for nothing.
struct Timed<'a> {
    client: Client<'a>,
    times: &'a Times,
}

impl Timed<'_> {
    fn call<T>(&self, rpc: &'static str, mut call: impl FnMut(&Cri) -> Result<T, Status>) -> T {
        let mut took = Duration::ZERO;
        let answer = self.client.call(|cri| {
            let began = Instant::now();
            let answer = call(cri);
            took = began.elapsed();
            answer
        });
        self.times.0.lock().unwrap().entry(rpc).or_default().push(took);
        answer.unwrap_or_else(|status| panic!("{rpc}: {status}"))
    }
}

/// A pod and its two containers, which print and then wait.
#[derive(Clone)]
struct Made {
    pod: String,
    containers: Vec<String>,
}

fn run(pods: usize, kills: usize) {
    let mut husk = Daemon::with(Options { large: true, ..Options::default() });
    let shared = Shared::new(husk.address(), husk.dir().to_owned());
    let (times, made) = (Times::default(), Mutex::new(Vec::new()));
    println!("{pods} pods, {} containers, {CALLERS} callers, {kills} kills of huskd", pods * 2);
    let start = |timed: &Timed<'_>, at: usize| made.lock().unwrap().push(make(timed, at));
    phase("started", &mut husk, &shared, &times, pods, kills, &start);
    let made = made.into_inner().unwrap();
    assert_eq!(made.len(), pods);
    memory(&husk, pods);
    let list = |timed: &Timed<'_>, _: usize| {
        let pods = timed.call("ListPodSandbox", |cri| cri.list_pod_sandbox(Default::default())).items;
        let containers =
            timed.call("ListContainers", |cri| cri.list_containers(Default::default())).containers;
        assert_eq!((pods.len(), containers.len()), (made.len(), made.len() * 2), "all that was acknowledged");
        timed.call("ListContainerStats", |cri| cri.list_container_stats(Default::default()));
    };
    phase("listed", &mut husk, &shared, &times, 30, kills, &list);
    let exec = |timed: &Timed<'_>, at: usize| {
        for container in &made[at].containers {
            let (code, out, _) = timed.call("ExecSync", |cri| cri.exec(container, &["echo", container]));
            assert_eq!((code, out.trim_end()), (0, container.as_str()));
        }
    };
    phase("exec'd", &mut husk, &shared, &times, pods, kills, &exec);
    let logs = |timed: &Timed<'_>, at: usize| check_logs(timed, &made[at], at);
    phase("logs rotated and read", &mut husk, &shared, &times, pods, kills, &logs);
    let remove = |timed: &Timed<'_>, at: usize| remove(timed, &made[at]);
    phase("removed", &mut husk, &shared, &times, pods, kills, &remove);
    nothing_is_left(&husk);
    println!("{}\n{}", times.report(), shared.report());
}

/// Does something for every number below `count`, with several callers, while huskd is killed `kills` times.
fn phase(
    what: &str,
    husk: &mut Daemon,
    shared: &Shared,
    times: &Times,
    count: usize,
    kills: usize,
    work: &(dyn Fn(&Timed<'_>, usize) + Sync),
) {
    let (next, began) = (AtomicUsize::new(0), Instant::now());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let next = &next;
                scope.spawn(move || {
                    let timed = Timed { client: Client::new(shared), times };
                    loop {
                        let at = next.fetch_add(1, Ordering::SeqCst);
                        if at >= count {
                            return;
                        }
                        work(&timed, at);
                    }
                })
            })
            .collect();
        // Spread over the work, not over time: so a slow machine has as many.
        for kill in 1..=kills {
            let due = count * kill / (kills + 1);
            eventually_every(Duration::from_millis(2), "the work goes on", Duration::from_secs(900), || {
                let over = workers.iter().any(|worker| worker.is_finished());
                (over || next.load(Ordering::SeqCst) >= due).then_some(())
            });
            husk.kill();
            husk.spawn();
            shared.count("kills of huskd", 1);
        }
    });
    println!("  {count} {what} in {:.1} s", began.elapsed().as_secs_f64());
}

fn make(timed: &Timed<'_>, at: usize) -> Made {
    let name = format!("load-{at}");
    let config = pod(&name, &timed.client.shared.dir.join("logs").join(&name));
    let pod = timed.call("RunPodSandbox", |cri| cri.run_pod(&config));
    let script = format!("i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo $i; done; exec sleep 1000000");
    let containers = ["a", "b"]
        .into_iter()
        .map(|name| {
            let config_of = with_command(name, &script);
            let id = timed.call("CreateContainer", |cri| cri.create(&pod, &config, &config_of));
            timed.call("StartContainer", |cri| {
                // Starting is no call that can be repeated, and an attempt may have succeeded unheard.
                if cri.container(&id)?.state() == v1::ContainerState::ContainerRunning {
                    return Ok(());
                }
                cri.start(&id)
            });
            id
        })
        .collect();
    Made { pod, containers }
}

fn check_logs(timed: &Timed<'_>, made: &Made, at: usize) {
    let logs = timed.client.shared.dir.join("logs").join(format!("load-{at}"));
    for (name, id) in ["a", "b"].into_iter().zip(&made.containers) {
        let (log, old) = (logs.join(format!("{name}.log")), logs.join(format!("{name}.log.1")));
        eventually_every(Duration::from_millis(20), "the log is written", Duration::from_secs(60), || {
            (fs::read_to_string(&log).ok()?.lines().count() == LINES).then_some(())
        });
        fs::rename(&log, &old).expect("rotate the log");
        let request = v1::ReopenContainerLogRequest { container_id: id.clone() };
        timed.call("ReopenContainerLog", |cri| cri.reopen_container_log(request.clone()));
        let numbers: Vec<String> = (1..=LINES).map(|number| number.to_string()).collect();
        let text = fs::read_to_string(&old).expect("the old log");
        assert!(
            text.lines().map(|line| line.rsplit(' ').next().unwrap_or_default()).eq(numbers.iter()),
            "{text}"
        );
    }
}

fn remove(timed: &Timed<'_>, made: &Made) {
    let request = v1::StopPodSandboxRequest { pod_sandbox_id: made.pod.clone() };
    timed.call("StopPodSandbox", |cri| cri.stop_pod_sandbox(request.clone()));
    let request = v1::RemovePodSandboxRequest { pod_sandbox_id: made.pod.clone() };
    timed.call("RemovePodSandbox", |cri| cri.remove_pod_sandbox(request.clone()));
}

/// Proportional set sizes: what is shared is divided among those who share it.
fn memory(husk: &Daemon, pods: usize) {
    let pss = |pid: u32| -> u64 {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
    };
    let monitors: Vec<u64> = processes_of(husk.dir())
        .into_iter()
        .filter(|(_, name)| name.starts_with("husk-podmon"))
        .map(|(pid, _)| pss(pid.cast_unsigned()))
        .collect();
    let (count, sum) = (monitors.len(), monitors.iter().sum::<u64>());
    assert_eq!(count, pods, "a monitor for every pod");
    println!(
        "  memory: huskd {:.1} MiB, {:.1} KiB of it per pod; monitors {:.0} KiB each",
        pss(husk.pid()) as f64 / 1024.0,
        pss(husk.pid()) as f64 / pods as f64,
        sum as f64 / count as f64,
    );
}

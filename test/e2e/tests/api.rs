//! The calls that no conformance suite makes: streamed lists, statistics, limits that change, the pod CIDR.

use std::{collections::BTreeSet, fmt::Debug, fs, path::Path, time::Duration};

use husk_e2e::{Cri, Daemon, Subject, cgroup_of, container, eventually, hierarchies, pod, v1, with_command};
use tonic::{Code, Response, Status, Streaming};

/// Everything of a streamed list; no batch is empty.
fn collect<M, T>(
    cri: &Cri,
    call: impl Future<Output = Result<Response<Streaming<M>>, Status>>,
    items: impl Fn(M) -> Vec<T>,
) -> Vec<T> {
    cri.block_on(async {
        let mut stream = call.await.expect("the call").into_inner();
        let mut all = Vec::new();
        while let Some(message) = stream.message().await.expect("a message") {
            let batch = items(message);
            assert!(!batch.is_empty());
            all.extend(batch);
        }
        all
    })
}

/// The same items. The CRI promises no order, and containerd has none.
fn same<T: PartialEq + Debug>(streamed: &[T], listed: &[T]) {
    assert!(!listed.is_empty());
    let is_same = streamed.len() == listed.len() && streamed.iter().all(|one| listed.contains(one));
    assert!(is_same, "{streamed:?} is not {listed:?}");
}

#[test]
fn each_streamed_list_is_its_unary_twin() {
    let runtime = Subject::start();
    for name in ["one", "two"] {
        let mut config = pod(name, &runtime.path("logs"));
        config.labels.insert("name".to_owned(), name.to_owned());
        // As a kubelet does. containerd counts a pod by this cgroup, and fails the call where none is named.
        config.linux.as_mut().unwrap().cgroup_parent = runtime.kubelet_cgroup();
        let pod_id = runtime.cri().run_pod(&config).unwrap();
        for name in ["a", "b"] {
            runtime.cri().run(&pod_id, &config, &container(name));
        }
    }
    let (cri, client, images) = (runtime.cri(), || runtime.cri().runtime(), || runtime.cri().images());
    let (mut one, mut two, mut three, mut four, mut five, mut six) =
        (client(), client(), client(), client(), client(), images());

    let pods = v1::PodSandboxFilter {
        label_selector: [("name".to_owned(), "one".to_owned())].into(),
        ..Default::default()
    };
    for filter in [None, Some(pods)] {
        let streamed = collect(
            cri,
            one.stream_pod_sandboxes(v1::StreamPodSandboxesRequest { filter: filter.clone() }),
            |message| message.pod_sandboxes,
        );
        let wanted = if filter.is_some() { 1 } else { 2 };
        assert_eq!(streamed.len(), wanted);
        same(&streamed, &cri.list_pod_sandbox(v1::ListPodSandboxRequest { filter }).unwrap().items);
    }
    let streamed = collect(cri, two.stream_containers(v1::StreamContainersRequest::default()), |message| {
        message.containers
    });
    assert_eq!(streamed.len(), 4);
    same(&streamed, &cri.list_containers(v1::ListContainersRequest::default()).unwrap().containers);
    let streamed =
        collect(cri, six.stream_images(v1::StreamImagesRequest::default()), |message| message.images);
    same(&streamed, &cri.list_images(v1::ListImagesRequest::default()).unwrap().images);

    // Measurements differ from call to call; what they are of does not.
    let streamed =
        collect(cri, three.stream_container_stats(v1::StreamContainerStatsRequest::default()), |message| {
            message.container_stats.into_iter().map(|stats| stats.attributes).collect()
        });
    let listed = cri.list_container_stats(v1::ListContainerStatsRequest::default()).unwrap().stats;
    same(&streamed, &listed.into_iter().map(|stats| stats.attributes).collect::<Vec<_>>());
    let of_pod = |stats: v1::PodSandboxStats| {
        let containers = stats.linux.expect("Linux").containers;
        let ids: BTreeSet<_> = containers.into_iter().map(|stats| stats.attributes.unwrap().id).collect();
        (stats.attributes, ids)
    };
    let streamed =
        collect(cri, four.stream_pod_sandbox_stats(v1::StreamPodSandboxStatsRequest::default()), |message| {
            message.pod_sandbox_stats.into_iter().map(of_pod).collect()
        });
    let listed = cri.list_pod_sandbox_stats(v1::ListPodSandboxStatsRequest::default()).unwrap().stats;
    same(&streamed, &listed.into_iter().map(of_pod).collect::<Vec<_>>());
    let names = |metrics: v1::PodSandboxMetrics| {
        let containers: BTreeSet<_> =
            metrics.container_metrics.into_iter().map(|one| (one.container_id, one.metrics.len())).collect();
        (metrics.pod_sandbox_id, metrics.metrics.len(), containers)
    };
    let streamed =
        collect(cri, five.stream_pod_sandbox_metrics(v1::StreamPodSandboxMetricsRequest {}), |message| {
            message.pod_sandbox_metrics.into_iter().map(names).collect()
        });
    let listed = cri.list_pod_sandbox_metrics(v1::ListPodSandboxMetricsRequest {}).unwrap().pod_metrics;
    same(&streamed, &listed.into_iter().map(names).collect::<Vec<_>>());
}

/// The first of these files (v2's name, v1's name) that a group has.
fn kernel(cgroup: &Path, names: [&str; 2]) -> String {
    hierarchies()
        .iter()
        .flat_map(|mount| names.iter().map(move |name| mount.join(cgroup).join(name)))
        .find_map(|file| fs::read_to_string(file).ok())
        .unwrap_or_else(|| panic!("{names:?} of {}", cgroup.display()))
        .trim()
        .to_owned()
}

fn cpu_nanos(cgroup: &Path) -> u64 {
    let v1 = hierarchies()
        .iter()
        .find_map(|mount| fs::read_to_string(mount.join(cgroup).join("cpuacct.usage")).ok());
    if let Some(nanos) = v1 {
        return nanos.trim().parse().unwrap();
    }
    let text = kernel(cgroup, ["cpu.stat", "cpu.stat"]);
    let micros = text.lines().find_map(|line| line.strip_prefix("usage_usec ")).unwrap();
    micros.parse::<u64>().unwrap() * 1000
}

#[test]
fn statistics_of_a_pod_are_the_kernels() {
    let runtime = Subject::start();
    let mut config = pod("measured", &runtime.path("logs"));
    // As a kubelet does; see the lists above.
    config.linux.as_mut().unwrap().cgroup_parent = runtime.kubelet_cgroup();
    let pod_id = runtime.cri().run_pod(&config).unwrap();
    let id = runtime.cri().run(&pod_id, &config, &with_command("busy", "while :; do :; done"));
    let group = cgroup_of(runtime.cri().init(&id));
    let pod_group = group.parent().unwrap();
    let stats = || {
        let request = v1::PodSandboxStatsRequest { pod_sandbox_id: pod_id.clone() };
        runtime.cri().pod_sandbox_stats(request).unwrap().stats.unwrap().linux.unwrap()
    };
    let first = eventually("the container used half a second of CPU", Duration::from_secs(60), || {
        let stats = stats();
        (stats.cpu?.usage_core_nano_seconds?.value > 500_000_000).then_some(stats)
    });
    let before = (cpu_nanos(pod_group), cpu_nanos(&group));
    let second = stats();
    let after = (cpu_nanos(pod_group), cpu_nanos(&group));
    let cpu = |stats: &v1::LinuxPodSandboxStats| (stats.cpu.unwrap(), stats.containers[0].cpu.unwrap());
    let (of_pod, of_container) = cpu(&second);
    let told = |usage: v1::CpuUsage| usage.usage_core_nano_seconds.unwrap().value;
    assert!((before.0..=after.0).contains(&told(of_pod)), "{before:?} {of_pod:?} {after:?}");
    assert!((before.1..=after.1).contains(&told(of_container)), "{before:?} {of_container:?} {after:?}");

    // Two calls in quick succession: both have a rate, and times of their own (crictl takes one time twice for an error).
    for (first, second) in [(cpu(&first).0, of_pod), (cpu(&first).1, of_container)] {
        assert!(second.timestamp > first.timestamp);
        for usage in [first, second] {
            let rate = usage.usage_nano_cores.expect("a rate").value;
            assert!(rate > 1_000_000 && rate < 1_500_000_000, "{rate}");
        }
    }

    assert_eq!(second.containers[0].attributes.as_ref().unwrap().id, id);
    let memory = second.memory.unwrap();
    let usage: u64 = kernel(pod_group, ["memory.current", "memory.usage_in_bytes"]).parse().unwrap();
    assert!(memory.usage_bytes.unwrap().value.abs_diff(usage) < 8 << 20, "{memory:?} {usage}");
    assert!(memory.working_set_bytes.unwrap().value <= memory.usage_bytes.unwrap().value);
    let processes: u64 = kernel(pod_group, ["pids.current", "pids.current"]).parse().unwrap();
    // containerd counts the processes of the containers and leaves out the pause.
    let counted = if runtime.is_husk() { processes } else { 1 };
    assert_eq!(second.process.unwrap().process_count.unwrap().value, counted);
    if let Some(pressure) = of_pod.psi {
        let text = kernel(pod_group, ["cpu.pressure", "cpu.pressure"]);
        let micros: u64 = text.lines().next().unwrap().rsplit('=').next().unwrap().parse().unwrap();
        assert!(pressure.some.unwrap().total <= micros * 1000, "{pressure:?} {text}");
    }
    let pause = runtime.cri().pause(&pod_id);
    let interfaces = fs::read_to_string(format!("/proc/{pause}/net/dev")).unwrap();
    let network = second.network.unwrap();
    let eth0 = network.default_interface.unwrap();
    let line = interfaces.lines().find_map(|line| line.trim().strip_prefix("eth0:")).unwrap().to_owned();
    let kernels: Vec<u64> = line.split_whitespace().map(|number| number.parse().unwrap()).collect();
    assert!(eth0.rx_bytes.unwrap().value <= kernels[0] && eth0.tx_bytes.unwrap().value <= kernels[8]);
    if runtime.is_husk() {
        // "Stats for all found interfaces, excluding the default." containerd has the default among them, and no loopback.
        let others: Vec<&str> = network.interfaces.iter().map(|other| other.name.as_str()).collect();
        assert_eq!(others, ["lo"]);
    }
}

#[test]
fn changed_limits_of_a_container_are_in_its_cgroup() {
    let runtime = Subject::start();
    let config = pod("changed", &runtime.path("logs"));
    let pod_id = runtime.cri().run_pod(&config).unwrap();
    let id = runtime.cri().run(&pod_id, &config, &container("main"));
    let group = cgroup_of(runtime.cri().init(&id));
    let linux = v1::LinuxContainerResources {
        cpu_period: 50_000,
        cpu_quota: 25_000,
        memory_limit_in_bytes: 48 << 20,
        ..Default::default()
    };
    runtime
        .cri()
        .update_container_resources(v1::UpdateContainerResourcesRequest {
            container_id: id.clone(),
            linux: Some(linux),
            ..Default::default()
        })
        .unwrap();
    assert_eq!(kernel(&group, ["memory.max", "memory.limit_in_bytes"]), (48 << 20).to_string());
    let quota = kernel(&group, ["cpu.max", "cpu.cfs_quota_us"]);
    assert!(["25000 50000", "25000"].contains(&quota.as_str()), "{quota}");
    let told = runtime.cri().container(&id).unwrap().resources.unwrap().linux.unwrap();
    assert_eq!((told.cpu_quota, told.memory_limit_in_bytes), (25_000, 48 << 20));
}

#[test]
fn resources_of_a_pod_are_noted_and_contradict_nobody() {
    let mut husk = Daemon::start();
    let config = pod("noted", &husk.path("logs"));
    let pod_id = husk.cri().run_pod(&config).unwrap();
    let id = husk.cri().run(&pod_id, &config, &container("main"));
    let request = v1::UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: pod_id.clone(),
        overhead: Some(v1::LinuxContainerResources { memory_limit_in_bytes: 8 << 20, ..Default::default() }),
        resources: Some(v1::LinuxContainerResources {
            memory_limit_in_bytes: 64 << 20,
            cpu_shares: 512,
            ..Default::default()
        }),
    };
    husk.cri().update_pod_sandbox_resources(request.clone()).unwrap();
    let only_one = v1::UpdatePodSandboxResourcesRequest { overhead: None, ..request.clone() };
    husk.cri().update_pod_sandbox_resources(only_one).unwrap();
    husk.kill();
    husk.spawn();
    let facts = husk.cri().pod_facts(&pod_id);
    assert_eq!(facts["config"]["overhead"]["memory_limit"], 8 << 20, "what a request leaves out stays");
    assert_eq!(facts["config"]["resources"]["memory_limit"], 64 << 20);
    assert_eq!(facts["config"]["resources"]["cpu_shares"], 512);
    let limit =
        kernel(cgroup_of(husk.cri().init(&id)).parent().unwrap(), ["memory.max", "memory.limit_in_bytes"]);
    assert!(
        limit == "max" || limit.parse::<u64>().unwrap() > 1 << 60,
        "husk's own group has no limit: {limit}"
    );

    let unknown =
        v1::UpdatePodSandboxResourcesRequest { pod_sandbox_id: "nobody".to_owned(), ..request.clone() };
    assert_eq!(husk.cri().update_pod_sandbox_resources(unknown).unwrap_err().code(), Code::NotFound);
    let mut bad = request;
    bad.resources.as_mut().unwrap().cpu_shares = -1;
    let refused = husk.cri().update_pod_sandbox_resources(bad).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().starts_with("resources.cpu_shares"), "{refused}");
}

fn set_pod_cidr(husk: &Daemon, cidr: &str) -> Result<(), Status> {
    let network_config = Some(v1::NetworkConfig { pod_cidr: cidr.to_owned() });
    let runtime_config = Some(v1::RuntimeConfig { network_config });
    husk.cri().update_runtime_config(v1::UpdateRuntimeConfigRequest { runtime_config }).map(drop)
}

#[test]
fn new_pods_get_addresses_of_the_clusters_pod_cidr() {
    let mut husk = Daemon::start();
    let run = |husk: &Daemon, name: &str| {
        let config = pod(name, &husk.path("logs"));
        let pod_id = husk.cri().run_pod(&config).unwrap();
        let id = husk.cri().run(&pod_id, &config, &container("main"));
        (husk.cri().pod(&pod_id).unwrap().network.unwrap().ip, id)
    };
    let (old, first) = run(&husk, "before");
    for bad in ["10.253.7.0", "10.253.7.0/24,10.253.8.0/24", "10.253.7.0/30", "fd00:253::/64", "nonsense"] {
        let refused = set_pod_cidr(&husk, bad).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{bad}: {refused}");
    }
    set_pod_cidr(&husk, "").unwrap();
    set_pod_cidr(&husk, "10.253.7.0/24").unwrap();
    set_pod_cidr(&husk, "10.253.7.0/24").unwrap();
    let (new, second) = run(&husk, "after");
    assert!(new.starts_with("10.253.7."), "{new}");
    // Both know each other and the node, before and after a restart.
    let reach = |husk: &Daemon| {
        for (from, to) in [(&first, &new), (&second, &old), (&first, &"10.253.7.1".to_owned())] {
            let (code, out, err) =
                husk.cri().exec(from, &["busybox", "ping", "-c", "1", "-W", "5", to]).unwrap();
            assert_eq!(code, 0, "{to}: {out}{err}");
        }
    };
    reach(&husk);
    husk.kill();
    husk.spawn();
    reach(&husk);
    let (newer, _) = run(&husk, "later");
    assert!(newer.starts_with("10.253.7.") && newer != new, "{newer}");
}

#[test]
fn the_container_filesystem_has_what_containers_wrote() {
    let husk = Daemon::start();
    let config = pod("writes", &husk.path("logs"));
    let pod_id = husk.cri().run_pod(&config).unwrap();
    let id = husk.cri().run(&pod_id, &config, &container("main"));
    let write = "dd if=/dev/zero of=/big bs=1M count=4 && sync";
    assert_eq!(husk.cri().exec(&id, &["sh", "-c", write]).unwrap().0, 0);
    eventually("what was written is measured", Duration::from_secs(60), || {
        let info = husk.cri().image_fs_info(v1::ImageFsInfoRequest {}).unwrap();
        let usage = &info.container_filesystems[0];
        assert!(usage.timestamp > 0 && !usage.fs_id.as_ref().unwrap().mountpoint.is_empty());
        (usage.used_bytes.unwrap().value >= 4 << 20 && usage.inodes_used.unwrap().value >= 2).then_some(())
    });
}

#[test]
fn what_is_not_there_says_so() {
    let husk = Daemon::start();
    for refused in [
        husk.cri().checkpoint_container(v1::CheckpointContainerRequest::default()).map(drop),
        husk.cri().checkpoint_pod(v1::CheckpointPodRequest::default()).map(drop),
        husk.cri().restore_pod(v1::RestorePodRequest::default()).map(drop),
    ] {
        let status = refused.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(status.message().contains("CRIU"), "{status}");
    }
}

//! Metrics of pods, as the two specs of critest that came after its release want them (pkg/validate/pod.go, "runtime
//! should support metrics operations"), and compared with what the kernel says.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use husk_e2e::{Daemon, container, eventually, hierarchies, pod, v1, with_command};

/// All families of cAdvisor that a runtime is expected to have.
const FAMILIES: &str = "blkio_device_usage_total cpu_cfs_periods_total cpu_cfs_throttled_periods_total \
    cpu_cfs_throttled_seconds_total cpu_system_seconds_total cpu_usage_seconds_total cpu_user_seconds_total \
    file_descriptors fs_inodes_free fs_inodes_total fs_limit_bytes fs_reads_bytes_total fs_reads_total fs_usage_bytes \
    fs_writes_bytes_total fs_writes_total hugetlb_max_usage_bytes hugetlb_usage_bytes last_seen memory_cache \
    memory_failcnt memory_failures_total memory_kernel_usage memory_mapped_file memory_max_usage_bytes memory_rss \
    memory_swap memory_usage_bytes memory_working_set_bytes network_receive_bytes_total \
    network_receive_errors_total network_receive_packets_dropped_total network_receive_packets_total \
    network_transmit_bytes_total network_transmit_errors_total network_transmit_packets_dropped_total \
    network_transmit_packets_total oom_events_total pressure_cpu_stalled_seconds_total \
    pressure_cpu_waiting_seconds_total pressure_io_stalled_seconds_total pressure_io_waiting_seconds_total \
    pressure_memory_stalled_seconds_total pressure_memory_waiting_seconds_total processes sockets spec_cpu_period \
    spec_cpu_quota spec_cpu_shares spec_memory_limit_bytes spec_memory_reservation_limit_bytes \
    spec_memory_swap_limit_bytes start_time_seconds threads threads_max ulimits_soft";

fn descriptors(husk: &Daemon) -> Vec<v1::MetricDescriptor> {
    husk.cri().list_metric_descriptors(v1::ListMetricDescriptorsRequest {}).unwrap().descriptors
}

fn metrics(husk: &Daemon, pod_id: &str) -> v1::PodSandboxMetrics {
    let all = husk.cri().list_pod_sandbox_metrics(v1::ListPodSandboxMetricsRequest {}).unwrap().pod_metrics;
    all.into_iter().find(|metrics| metrics.pod_sandbox_id == pod_id).expect("the pod has metrics")
}

fn value(metrics: &[v1::Metric], name: &str, label: &str) -> u64 {
    metrics
        .iter()
        .find(|metric| {
            metric.name == format!("container_{name}")
                && (label.is_empty() || metric.label_values.iter().any(|value| value == label))
        })
        .unwrap_or_else(|| panic!("{name} {label} is missing"))
        .value
        .unwrap()
        .value
}

/// Families that this kernel does not count. Everything else must be there.
fn uncounted() -> Vec<String> {
    let has = |file: &str| hierarchies().iter().any(|mount| mount.join(file).exists());
    let mut families = Vec::new();
    if !Path::new("/proc/pressure/cpu").exists() || !has("cgroup.controllers") {
        families.extend(FAMILIES.split_whitespace().filter(|name| name.starts_with("pressure_")));
    }
    let controllers = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let v2: String = hierarchies()
        .iter()
        .filter_map(|mount| fs::read_to_string(mount.join("cgroup.controllers")).ok())
        .collect();
    if !controllers.contains("hugetlb") && !v2.contains("hugetlb") {
        families.extend(FAMILIES.split_whitespace().filter(|name| name.starts_with("hugetlb_")));
    }
    if !controllers.contains("blkio") && !v2.split_whitespace().any(|name| name == "io") {
        let io = |name: &&str| {
            name.starts_with("blkio_") || name.starts_with("fs_reads") || name.starts_with("fs_writes")
        };
        families.extend(FAMILIES.split_whitespace().filter(io));
    }
    families.into_iter().map(str::to_owned).collect()
}

#[test]
fn runtime_should_support_returning_metrics_descriptors() {
    let husk = Daemon::start();
    let descriptors = descriptors(&husk);
    let missing: Vec<&str> = FAMILIES
        .split_whitespace()
        .filter(|name| !descriptors.iter().any(|one| one.name == format!("container_{name}")))
        .filter(|name| !uncounted().iter().any(|absent| absent == name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    for descriptor in descriptors {
        assert!(!descriptor.help.is_empty() && !descriptor.label_keys.is_empty(), "{descriptor:?}");
    }
}

#[test]
fn runtime_should_support_listing_pod_sandbox_metrics() {
    let husk = Daemon::start();
    let config = pod("metrics", &husk.path("logs"));
    let pod_id = husk.cri().run_pod(&config).unwrap();
    let mut limited = container("limited");
    limited.linux.as_mut().unwrap().resources = Some(v1::LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 20_000,
        cpu_shares: 1024,
        memory_limit_in_bytes: 64 << 20,
        memory_swap_limit_in_bytes: 64 << 20,
        ..Default::default()
    });
    let id = husk.cri().run(&pod_id, &config, &limited);
    let write = "mkdir -p /var/lib/x && for i in 1 2 3 4 5; do echo hi > /var/lib/x/$i; done; sync";
    assert_eq!(husk.cri().exec(&id, &["sh", "-c", write]).unwrap().0, 0);

    let metrics = metrics(&husk, &pod_id);
    let mut rows: BTreeMap<&str, Vec<&v1::Metric>> = BTreeMap::new();
    let of_containers = metrics.container_metrics.iter().flat_map(|container| &container.metrics);
    for metric in metrics.metrics.iter().chain(of_containers) {
        rows.entry(&metric.name).or_default().push(metric);
    }
    for descriptor in descriptors(&husk) {
        // The kernel names a device only once something was read from or written to it.
        if descriptor.name == "container_blkio_device_usage_total"
            && !rows.contains_key(descriptor.name.as_str())
        {
            continue;
        }
        let rows =
            rows.get(descriptor.name.as_str()).unwrap_or_else(|| panic!("{} has no value", descriptor.name));
        for row in rows {
            assert_eq!(row.label_values.len(), descriptor.label_keys.len(), "{}", descriptor.name);
            assert!(row.timestamp > 0 && row.value.is_some());
        }
        let mut labels: Vec<_> = rows.iter().map(|row| &row.label_values).collect();
        labels.sort();
        labels.dedup();
        assert_eq!(labels.len(), rows.len(), "{} tells one thing twice", descriptor.name);
    }

    let of_container = &metrics.container_metrics[0];
    assert_eq!(of_container.container_id, id);
    let told = |name| value(&of_container.metrics, name, "");
    assert_eq!(told("spec_cpu_quota"), 20_000);
    assert_eq!(told("spec_cpu_period"), 100_000);
    assert_eq!(told("spec_memory_limit_bytes"), 64 << 20);
    assert_eq!((told("processes"), told("threads")), (1, 1));
    assert!(told("file_descriptors") >= 3);
    let status = husk.cri().container(&id).unwrap();
    assert_eq!(told("start_time_seconds"), u64::try_from(status.started_at).unwrap() / 1_000_000_000);
    assert!(told("memory_usage_bytes") > 0 && told("memory_working_set_bytes") <= told("memory_usage_bytes"));
    assert!(value(&metrics.metrics, "network_receive_packets_total", "eth0") < 1_000_000);
    assert!(told("fs_limit_bytes") > told("fs_usage_bytes"));
}

#[test]
fn what_is_counted_is_what_happened() {
    let husk = Daemon::start();
    let config = pod("counted", &husk.path("logs"));
    let pod_id = husk.cri().run_pod(&config).unwrap();
    // Its child takes too much memory and is killed; the container lives on, then burns a second of CPU.
    let script = "dd if=/dev/zero of=/dev/null bs=64M count=1; echo survived; \
        while [ ! -e /stop ]; do :; done; echo rested; exec sleep 1000000";
    let mut limited = with_command("main", script);
    limited.linux.as_mut().unwrap().resources =
        Some(v1::LinuxContainerResources { memory_limit_in_bytes: 16 << 20, ..Default::default() });
    let id = husk.cri().run(&pod_id, &config, &limited);
    let told =
        |name: &str, label: &str| value(&metrics(&husk, &pod_id).container_metrics[0].metrics, name, label);
    eventually("the kernel's kill is counted", Duration::from_secs(30), || {
        (told("oom_events_total", "") == 1).then_some(())
    });
    eventually("a second of CPU was used", Duration::from_secs(60), || {
        (told("cpu_usage_seconds_total", "total") >= 1).then_some(())
    });
    assert!(told("memory_max_usage_bytes", "") >= 8 << 20);
    assert!(told("memory_failures_total", "pgfault") > 0);
    assert_eq!(husk.cri().exec(&id, &["touch", "/stop"]).unwrap().0, 0);
    let write = "dd if=/dev/zero of=/big bs=1M count=4 && sync";
    assert_eq!(husk.cri().exec(&id, &["sh", "-c", write]).unwrap().0, 0);
    eventually("what was written is measured", Duration::from_secs(60), || {
        (told("fs_usage_bytes", "") >= 4 << 20).then_some(())
    });
}

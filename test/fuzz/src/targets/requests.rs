//! Requests of the CRI and what becomes of them: domain types, a spec, records on disk.

use std::path::PathBuf;

use husk_model::{ContainerConfig, PodConfig};
use husk_proto::cri::v1;
use husk_spec::{ImageDefaults, Labels, PodFiles, SpecInput, container_spec};
use oci_spec::runtime::Spec;
use prost::Message as _;
use serde::{Serialize, de::DeserializeOwned};

use super::input::choice;

fn pod() -> v1::RunPodSandboxRequest {
    let metadata = v1::PodSandboxMetadata {
        name: "web".into(),
        uid: "u".into(),
        namespace: "default".into(),
        attempt: 2,
    };
    let linux = v1::LinuxPodSandboxConfig {
        cgroup_parent: "/kubepods/pod1".into(),
        sysctls: [("net.ipv4.ip_forward".to_owned(), "1".to_owned())].into(),
        ..Default::default()
    };
    let config = v1::PodSandboxConfig {
        metadata: Some(metadata),
        hostname: "web-0".into(),
        log_directory: "/var/log/pods/x".into(),
        dns_config: Some(v1::DnsConfig { servers: vec!["10.0.0.1".into()], ..Default::default() }),
        port_mappings: vec![v1::PortMapping { container_port: 80, host_port: 8080, ..Default::default() }],
        labels: [("a".to_owned(), "b".to_owned())].into(),
        linux: Some(linux),
        ..Default::default()
    };
    v1::RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() }
}

fn container() -> v1::CreateContainerRequest {
    let resources = v1::LinuxContainerResources {
        cpu_quota: 50_000,
        cpu_period: 100_000,
        memory_limit_in_bytes: 64 << 20,
        cpuset_cpus: "0-1".into(),
        hugepage_limits: vec![v1::HugepageLimit { page_size: "2MB".into(), limit: 0 }],
        ..Default::default()
    };
    let security = v1::LinuxContainerSecurityContext {
        capabilities: Some(v1::Capability {
            add_capabilities: vec!["NET_ADMIN".into()],
            ..Default::default()
        }),
        run_as_user: Some(v1::Int64Value { value: 1000 }),
        masked_paths: vec!["/proc/kcore".into()],
        ..Default::default()
    };
    let linux = v1::LinuxContainerConfig { resources: Some(resources), security_context: Some(security) };
    let config = v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: "app".into(), attempt: 1 }),
        image: Some(v1::ImageSpec { image: "busybox".into(), ..Default::default() }),
        command: vec!["sh".into()],
        args: vec!["-c".into(), "true".into()],
        working_dir: "/w".into(),
        mounts: vec![v1::Mount {
            container_path: "/data".into(),
            host_path: "/srv".into(),
            readonly: true,
            ..Default::default()
        }],
        devices: vec![v1::Device {
            container_path: "/dev/x".into(),
            host_path: "/dev/null".into(),
            permissions: "rw".into(),
        }],
        log_path: "app/0.log".into(),
        linux: Some(linux),
        ..Default::default()
    };
    v1::CreateContainerRequest { config: Some(config), ..Default::default() }
}

/// A pod, a container, and limits; the first byte says which.
pub(super) fn requests() -> Vec<Vec<u8>> {
    let limits = container().config.and_then(|config| config.linux).and_then(|linux| linux.resources);
    let update = v1::UpdateContainerResourcesRequest { linux: limits, ..Default::default() };
    vec![
        [b"\0", &pod().encode_to_vec()[..]].concat(),
        [b"\x01", &container().encode_to_vec()[..]].concat(),
        [b"\x02", &update.encode_to_vec()[..]].concat(),
    ]
}

/// What a request asks for survives its record on disk; a container's becomes a spec that is read as itself.
pub(super) fn cri(bytes: &[u8]) {
    let (which, request) = choice(bytes);
    match which % 3 {
        0 => drop(husk_cri::fuzzing::pod(request).map(survives)),
        1 => {
            let pod = husk_cri::fuzzing::pod(&pod().encode_to_vec());
            if let Some((pod, container)) = pod.zip(husk_cri::fuzzing::container(request)) {
                spec(&pod, &survives(container));
            }
        }
        _ => drop(husk_cri::fuzzing::limits(request).map(survives)),
    }
}

fn survives<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: T) -> T {
    let text = serde_json::to_vec(&value).expect("a record can be written");
    let again: T = serde_json::from_slice(&text).expect("a record can be read");
    assert_eq!(again, value, "a record is read as another");
    again
}

fn spec(pod: &PodConfig, container: &ContainerConfig) {
    let image = ImageDefaults { cmd: vec!["sh".into()], env: vec!["PATH=/bin".into()], ..Default::default() };
    let files = PodFiles {
        hostname: PathBuf::from("/h"),
        hosts: PathBuf::from("/o"),
        resolv_conf: PathBuf::from("/r"),
    };
    let input = SpecInput {
        container,
        pod,
        image: &image,
        image_name: "busybox",
        files: &files,
        devices: &[],
        labels: &Labels::default(),
        node_hostname: "node",
        cgroup_v2: true,
        cgroup_path: "/x",
    };
    let Ok(spec) = container_spec(&input) else { return };
    let text = serde_json::to_vec(&spec).expect("a spec can be written");
    let again: Spec = serde_json::from_slice(&text).expect("a spec can be read");
    assert_eq!(again, spec, "a spec is read as another");
    for mount in spec.mounts().iter().flatten() {
        assert!(mount.destination().is_absolute(), "{mount:?}");
    }
}

/// Records as huskd and its monitors write them.
pub(super) fn records() -> Vec<Vec<u8>> {
    let id = "a".repeat(64);
    let exit = r#"{"code":0,"finished_at":5,"reason":"completed","message":""}"#;
    let pod = husk_cri::fuzzing::pod(&pod().encode_to_vec());
    let pod = serde_json::to_string(&pod).expect("a record can be written");
    vec![
        format!(r#"{{"format":1,"boot_id":"b","id":"{id}","config":{pod},"created_at":1,"ips":["10.0.0.7"],"complete":true,"stopped":false}}"#).into_bytes(),
        format!(r#"{{"pid":7,"start_time":9,"started_at":1,"exit":{exit},"stopped":true}}"#).into_bytes(),
        format!(r#"{{"id":"{id}","pid":7,"start_time":9,"created_at":1,"started_at":2,"exit":null,"user":{{"uid":0,"gid":0,"groups":[0]}},"cgroup_path":"/x"}}"#).into_bytes(),
        br#"{"protocol":1,"version":"v","pid":7,"start_time":9,"boot_id":"b"}"#.to_vec(),
    ]
}

/// Records that are read are the same once they are written.
pub(super) fn record(bytes: &[u8]) {
    husk_pods::fuzzing::records(bytes);
    monitors::<husk_model::MonitorRecord>(bytes);
    monitors::<husk_model::SandboxRecord>(bytes);
    monitors::<husk_model::ContainerRecord>(bytes);
}

fn monitors<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    drop(serde_json::from_slice::<T>(bytes).ok().map(survives));
}

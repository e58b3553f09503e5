//! Whole specs against files that people have read: `HUSK_GOLDEN=update cargo test -p husk-spec` writes them anew.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use husk_model::{
    Capabilities, ContainerConfig, EnvVar, HugepageLimit, Mount, NamespaceMode, Namespaces, PodConfig,
    Propagation, Resources, SecurityContext,
};
use husk_spec::{DeviceNode, ImageDefaults, Labels, PodFiles, SpecInput, container_spec};
use husk_test_support::mount;
use serde_json::Value;

struct Case {
    container: ContainerConfig,
    pod: PodConfig,
    image: ImageDefaults,
    devices: Vec<DeviceNode>,
    cgroup_v2: bool,
}

fn case() -> Case {
    Case {
        container: husk_test_support::container("main", "registry.example/app:1"),
        pod: PodConfig { hostname: "web-0".into(), ..husk_test_support::pod("web") },
        image: ImageDefaults {
            entrypoint: vec!["/app".into()],
            cmd: vec!["--serve".into()],
            env: vec!["PATH=/app/bin:/bin".into(), "MODE=image".into()],
            working_dir: "/srv".into(),
        },
        devices: Vec::new(),
        cgroup_v2: false,
    }
}

fn check(name: &str, case: &Case) {
    let files = PodFiles {
        hostname: "/run/husk/pods/p/hostname".into(),
        hosts: "/run/husk/pods/p/hosts".into(),
        resolv_conf: "/run/husk/pods/p/resolv.conf".into(),
    };
    let spec = container_spec(&SpecInput {
        container: &case.container,
        pod: &case.pod,
        image: &case.image,
        image_name: &case.container.image,
        files: &files,
        devices: &case.devices,
        labels: &Labels::default(),
        node_hostname: "node-7",
        cgroup_v2: case.cgroup_v2,
        cgroup_path: "/kubepods/pod1/husk-p/c",
    })
    .unwrap();
    let mut value = serde_json::to_value(&spec).unwrap();
    // Sets, without an order of their own.
    for set in value["process"]["capabilities"].as_object_mut().unwrap().values_mut() {
        set.as_array_mut().unwrap().sort_by_key(Value::to_string);
    }
    let text = format!("{value:#}\n");
    let path: PathBuf =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.json"));
    if std::env::var_os("HUSK_GOLDEN").is_some_and(|word| word == "update") {
        fs::write(&path, &text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert!(text == golden, "{} differs; the spec is now:\n{text}", path.display());
}

#[test]
fn an_ordinary_container() {
    check("ordinary", &case());
}

#[test]
fn a_terminal_with_an_environment_and_a_working_directory_of_its_own() {
    let mut case = case();
    case.container.tty = true;
    case.container.args = vec!["--debug".into()];
    case.container.working_dir = "/work".into();
    let variable = |key: &str, value: &str| EnvVar { key: key.into(), value: value.as_bytes().to_vec() };
    case.container.envs =
        vec![variable("MODE", "request"), variable("HOSTNAME", "mine"), variable("A", "b=c")];
    check("terminal", &case);
}

#[test]
fn a_privileged_container_has_everything_and_no_masks() {
    let mut case = case();
    case.cgroup_v2 = true;
    case.container.security = SecurityContext {
        privileged: true,
        masked_paths: vec!["/proc/kcore".into()],
        readonly_paths: vec!["/proc/sys".into()],
        ..Default::default()
    };
    case.devices = vec![DeviceNode {
        path: "/dev/sda".into(),
        block: true,
        major: 8,
        minor: 0,
        mode: 0o660,
        uid: 0,
        gid: 6,
        access: "rwm".into(),
    }];
    check("privileged", &case);
}

#[test]
fn every_limit_and_restriction() {
    let mut case = case();
    case.cgroup_v2 = true;
    case.container.resources = Resources {
        cpu_period: Some(100_000),
        cpu_quota: Some(50_000),
        cpu_shares: Some(512),
        memory_limit: Some(64 << 20),
        memory_swap_limit: Some(96 << 20),
        oom_score_adj: 985,
        cpuset_cpus: "0-1".into(),
        cpuset_mems: "0".into(),
        hugepages: vec![HugepageLimit { page_size: "2MB".into(), limit: 4 << 20 }],
        unified: BTreeMap::from([("memory.high".into(), "60000000".into())]),
        pids_limit: Some(512),
        memory_reservation: Some(32 << 20),
        ..Resources::default()
    };
    case.container.security = SecurityContext {
        capabilities: Capabilities {
            add: vec!["NET_ADMIN".into()],
            drop: vec!["ALL".into()],
            ambient: vec!["NET_BIND_SERVICE".into()],
        },
        readonly_rootfs: true,
        no_new_privs: true,
        masked_paths: vec!["/proc/kcore".into(), "/sys/firmware".into()],
        readonly_paths: vec!["/proc/sys".into()],
        ..Default::default()
    };
    case.devices = vec![DeviceNode {
        path: "/dev/fuse".into(),
        block: false,
        major: 10,
        minor: 229,
        mode: 0o666,
        uid: 0,
        gid: 0,
        access: "rw".into(),
    }];
    check("restricted", &case);
}

#[test]
fn mounts_replace_ours_and_come_in_order_of_depth() {
    let mut case = case();
    case.container.mounts = vec![
        Mount { readonly: true, ..mount("/srv/deeper", "/data/deep/er") },
        Mount { readonly: true, recursive_readonly: true, ..mount("/srv/data", "/data/") },
        mount("/var/lib/kubelet/pods/1-2-3/etc-hosts", "/etc/hosts"),
        Mount { propagation: Propagation::HostToContainer, ..mount("/mnt", "/mnt") },
        Mount { propagation: Propagation::Bidirectional, ..mount("/var/lib/kubelet", "/csi") },
        Mount { options: vec!["noexec".into(), "nosuid".into()], ..mount("/var/lib/shm", "/dev/shm") },
    ];
    check("mounts", &case);
}

#[test]
fn a_dev_of_the_node_brings_its_own_terminals() {
    let mut case = case();
    case.container.mounts = vec![mount("/dev", "/dev"), mount("/sys", "/sys")];
    check("node-dev", &case);
}

#[test]
fn an_unnamed_pod_on_the_nodes_network_is_called_like_the_node() {
    let mut case = case();
    case.pod.hostname.clear();
    case.pod.security.namespaces = Namespaces { network: NamespaceMode::Node, ..Default::default() };
    check("node-network", &case);
}

//! Single rules, as tables.

use std::collections::BTreeSet;

use husk_model::{
    Capabilities, Classify, ContainerConfig, ContainerMetadata, Kind, PodConfig, PodMetadata, Resources,
    SecurityContext,
};
use husk_spec::{
    ImageDefaults, Labels, PodFiles, SpecInput, container_spec, effective_capabilities, linux_resources,
};

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// The arguments of a container of this image and request.
fn args(
    entrypoint: &[&str],
    cmd: &[&str],
    command: &[&str],
    args: &[&str],
) -> Result<Vec<String>, husk_spec::SpecError> {
    let container = ContainerConfig {
        metadata: ContainerMetadata { name: "main".into(), attempt: 0 },
        image: "app:1".into(),
        user_specified_image: "app:1".into(),
        command: strings(command),
        args: strings(args),
        working_dir: String::new(),
        envs: Vec::new(),
        mounts: Vec::new(),
        devices: Vec::new(),
        cdi_devices: Vec::new(),
        labels: Default::default(),
        annotations: Default::default(),
        log_path: String::new(),
        stdin: false,
        stdin_once: false,
        tty: false,
        resources: Resources::default(),
        security: SecurityContext::default(),
        stop_signal: None,
    };
    let pod = PodConfig {
        metadata: PodMetadata { name: "p".into(), uid: "u".into(), namespace: "n".into(), attempt: 0 },
        hostname: String::new(),
        log_directory: String::new(),
        dns: None,
        host_ports: Vec::new(),
        labels: Default::default(),
        annotations: Default::default(),
        cgroup_parent: String::new(),
        sysctls: Default::default(),
        security: SecurityContext::default(),
        overhead: None,
        resources: None,
        runtime_handler: String::new(),
    };
    let files = PodFiles { hostname: "/h".into(), hosts: "/o".into(), resolv_conf: "/r".into() };
    let image = ImageDefaults { entrypoint: strings(entrypoint), cmd: strings(cmd), ..Default::default() };
    let spec = container_spec(&SpecInput {
        container: &container,
        pod: &pod,
        image: &image,
        image_name: "app:1",
        files: &files,
        devices: &[],
        labels: &Labels::default(),
        node_hostname: "node",
        cgroup_v2: true,
        cgroup_path: "/p/c",
    })?;
    Ok(spec.process().as_ref().unwrap().args().clone().unwrap())
}

#[test]
fn command_and_args_follow_the_table_of_kubernetes() {
    // "Define a Command and Arguments for a Container", notes.
    for (command, given, expected) in [
        (&[][..], &[][..], &["/ep", "cmd"][..]),
        (&["/run"], &[], &["/run"]),
        (&[], &["zoo"], &["/ep", "zoo"]),
        (&["/run"], &["zoo"], &["/run", "zoo"]),
    ] {
        assert_eq!(args(&["/ep"], &["cmd"], command, given).unwrap(), strings(expected));
    }
    assert_eq!(args(&[], &["sh"], &[], &[]).unwrap(), ["sh"]);
}

#[test]
fn nothing_to_run_is_the_callers_error_and_names_the_image() {
    let error = args(&[], &[], &[], &[]).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument);
    assert!(error.to_string().contains("app:1"), "{error}");
}

fn effective(add: &[&str], drop: &[&str], ambient: &[&str]) -> usize {
    let security = SecurityContext {
        capabilities: Capabilities { add: strings(add), drop: strings(drop), ambient: strings(ambient) },
        ..Default::default()
    };
    effective_capabilities(&security).len()
}

#[test]
fn capabilities_add_drop_and_all() {
    for (add, drop, ambient, count) in [
        (&[][..], &[][..], &[][..], 14),
        (&["NET_ADMIN"], &[], &[], 15),
        (&["CHOWN"], &[], &[], 14),
        (&[], &["NET_RAW"], &[], 13),
        (&["ALL"], &[], &[], 41),
        (&["ALL"], &["NET_RAW"], &[], 40),
        (&[], &["ALL"], &[], 0),
        (&["NET_BIND_SERVICE"], &["ALL"], &[], 1),
        (&["ALL"], &["ALL"], &[], 0),
        (&["NET_RAW"], &["NET_RAW"], &[], 13),
        (&[], &["ALL"], &["SYS_TIME"], 1),
    ] {
        assert_eq!(effective(add, drop, ambient), count, "add {add:?} drop {drop:?} ambient {ambient:?}");
    }
    let privileged = SecurityContext {
        privileged: true,
        capabilities: Capabilities { drop: strings(&["ALL"]), ..Default::default() },
        ..Default::default()
    };
    assert_eq!(effective_capabilities(&privileged).len(), 41, "privileged beats the lists");
}

#[test]
fn the_default_capabilities_are_containerds() {
    let expected = "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP \
                    SETGID SETPCAP SETUID SYS_CHROOT";
    assert_eq!(
        effective_capabilities(&SecurityContext::default()),
        expected.split(' ').collect::<BTreeSet<_>>()
    );
}

#[test]
fn a_memory_limit_without_a_swap_limit_allows_no_swap() {
    let memory = |limit, swap| {
        let resources = Resources { memory_limit: limit, memory_swap_limit: swap, ..Default::default() };
        let memory = (*linux_resources(&resources).unwrap().memory()).unwrap();
        (memory.limit(), memory.swap())
    };
    assert_eq!(memory(None, None), (None, None));
    assert_eq!(memory(Some(64), None), (Some(64), Some(64)));
    assert_eq!(memory(Some(64), Some(96)), (Some(64), Some(96)));
    assert_eq!(memory(Some(64), Some(-1)), (Some(64), Some(-1)));
    assert_eq!(memory(Some(-1), None), (Some(-1), Some(-1)));
}

//! Single rules, as tables.

use std::{collections::BTreeSet, path::Path};

use husk_model::{Capabilities, Classify, ContainerConfig, EnvVar, Kind, Resources, SecurityContext};
use husk_spec::{
    ImageDefaults, Labels, PodFiles, SpecInput, container_spec, effective_capabilities, linux_resources,
};
use husk_test_support::mount;
use oci_spec::runtime::{Process, Spec};

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
    let container = ContainerConfig { command: strings(command), args: strings(args), ..container() };
    let image = ImageDefaults { entrypoint: strings(entrypoint), cmd: strings(cmd), ..Default::default() };
    Ok(process(&container, &image)?.args().clone().unwrap())
}

fn container() -> ContainerConfig {
    husk_test_support::container("main", "app:1")
}

fn spec(container: &ContainerConfig, image: &ImageDefaults) -> Result<Spec, husk_spec::SpecError> {
    let pod = husk_test_support::pod("p");
    let files = PodFiles { hostname: "/h".into(), hosts: "/o".into(), resolv_conf: "/r".into() };
    container_spec(&SpecInput {
        container,
        pod: &pod,
        image,
        image_name: "app:1",
        files: &files,
        devices: &[],
        labels: &Labels::default(),
        node_hostname: "node",
        cgroup_v2: true,
        cgroup_path: "/p/c",
    })
}

fn process(container: &ContainerConfig, image: &ImageDefaults) -> Result<Process, husk_spec::SpecError> {
    Ok(spec(container, image)?.process().clone().unwrap())
}

#[test]
fn the_last_variable_of_a_name_wins_and_an_image_can_take_one_away() {
    let variable = |key: &str, value: &[u8]| EnvVar { key: key.into(), value: value.to_vec() };
    let image = ImageDefaults {
        env: strings(&["A=1", "B=2", "A=3", "PATH", "HOSTNAME", "UNHEARD", "=x", "", "C=a=b", "B", "B=4"]),
        ..Default::default()
    };
    let envs =
        vec![variable("A", b"5"), variable("D", b""), variable("D", b"caf\xe9"), variable("PATH", b"/x")];
    let container = ContainerConfig { args: strings(&["x"]), envs, ..container() };
    let env = process(&container, &image).unwrap().env().clone().unwrap();
    assert_eq!(env, ["PATH=/x", "A=5", "B=4", "C=a=b", "D=caf\u{fffd}"]);
}

#[test]
fn an_images_working_directory_starts_at_the_root() {
    let container = ContainerConfig { args: strings(&["x"]), ..container() };
    for (given, expected) in [("", "/"), ("/srv", "/srv"), ("srv/app", "/srv/app")] {
        let image = ImageDefaults { working_dir: given.into(), ..Default::default() };
        assert_eq!(process(&container, &image).unwrap().cwd(), Path::new(expected));
    }
}

#[test]
fn a_mount_goes_where_runc_would_put_it() {
    for (asked, made) in [
        ("data", "/data"),
        ("./data//x/", "/data/x"),
        ("/a/../data", "/data"),
        ("../../data", "/data"),
        ("/dev/../etc/./hosts", "/etc/hosts"),
    ] {
        let container =
            ContainerConfig { args: strings(&["x"]), mounts: vec![mount("/volume", asked)], ..container() };
        let spec = spec(&container, &ImageDefaults::default()).unwrap();
        let mounts = spec.mounts().as_deref().unwrap();
        let there = mounts.iter().filter(|mount| mount.destination() == Path::new(made));
        let sources: Vec<_> = there.map(|mount| mount.source().clone().unwrap()).collect();
        assert_eq!(sources, [Path::new("/volume")], "{asked}: in the place of ours, once");
    }
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

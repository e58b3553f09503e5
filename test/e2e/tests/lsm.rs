//! AppArmor through the CRI, on nodes with and without it. The virtual machine of hack/vm has it.

use std::fs;

use husk_e2e::{Daemon, container, pod, v1};
use tonic::{Code, Status};

fn node_has_apparmor() -> bool {
    fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"))
}

/// Runs a container in a pod of its own with this security context.
fn create(husk: &Daemon, name: &str, context: v1::LinuxContainerSecurityContext) -> Result<String, Status> {
    let mut config = pod(name, &husk.path("logs"));
    let privileged = context.privileged;
    config.linux.as_mut().unwrap().security_context =
        Some(v1::LinuxSandboxSecurityContext { privileged, ..Default::default() });
    let pod_id = husk.cri().run_pod(&config).unwrap();
    let mut request = container(name);
    request.linux.as_mut().unwrap().security_context = Some(context);
    let id = husk.cri().create(&pod_id, &config, &request)?;
    husk.cri().start(&id).unwrap();
    Ok(id)
}

fn profile(kind: v1::security_profile::ProfileType, name: &str) -> Option<v1::SecurityProfile> {
    Some(v1::SecurityProfile { profile_type: kind.into(), localhost_ref: name.to_owned() })
}

fn label(husk: &Daemon, id: &str, pid: &str) -> String {
    husk.cri().exec(id, &["cat", &format!("/proc/{pid}/attr/current")]).unwrap().1.trim().to_owned()
}

use v1::security_profile::ProfileType::{Localhost, RuntimeDefault, Unconfined};

#[test]
fn without_apparmor_the_default_is_nothing_and_a_name_is_an_error() {
    if node_has_apparmor() {
        husk_test_support::skip("a node without AppArmor");
        return;
    }
    let husk = Daemon::start();
    for (name, apparmor) in
        [("unset", None), ("default", profile(RuntimeDefault, "")), ("unconfined", profile(Unconfined, ""))]
    {
        create(&husk, name, v1::LinuxContainerSecurityContext { apparmor, ..Default::default() }).unwrap();
    }
    let context =
        v1::LinuxContainerSecurityContext { apparmor: profile(Localhost, "mine"), ..Default::default() };
    let status = create(&husk, "named", context).unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    for part in ["config.linux.security_context.apparmor", "\"mine\"", "no AppArmor"] {
        assert!(status.message().contains(part), "{status}");
    }
    let info = husk.cri().status(v1::StatusRequest { verbose: true }).unwrap().info;
    assert!(info["config"].contains("\"apparmor\":\"absent\""), "{info:?}");
}

#[test]
fn the_default_profile_confines_init_and_execs_and_privileged_containers_are_unconfined() {
    if !node_has_apparmor() {
        husk_test_support::skip("AppArmor");
        return;
    }
    let husk = Daemon::start();
    let all = || {
        let capabilities = v1::Capability { add_capabilities: vec!["ALL".into()], ..Default::default() };
        v1::LinuxContainerSecurityContext { capabilities: Some(capabilities), ..Default::default() }
    };
    let id = create(&husk, "default", all()).unwrap();
    assert_eq!(label(&husk, &id, "self"), "husk-default (enforce)", "of an exec");
    let inits = husk.cri().exec(&id, &["sh", "-c", "cat /proc/[0-9]*/attr/current"]).unwrap().1;
    assert!(inits.contains("husk-default (enforce)"), "of the container's own command: {inits}");
    // Even with every capability and without masks.
    for denied in [
        "mount -t tmpfs tmpfs /tmp",
        "cat /proc/kcore | head -c 1",
        "echo h > /proc/sysrq-trigger",
        "echo x > /proc/sys/kernel/core_pattern",
        "echo 1 > /proc/sys/vm/drop_caches",
        "ls /sys/kernel/security",
    ] {
        let (code, _, stderr) =
            husk.cri().exec(&id, &["sh", "-c", &format!("set -o pipefail; {denied}")]).unwrap();
        assert!(code != 0 && stderr.to_lowercase().contains("denied"), "{denied}: {code} {stderr}");
    }
    for (name, context) in [
        ("privileged", v1::LinuxContainerSecurityContext { privileged: true, ..Default::default() }),
        ("unconfined", v1::LinuxContainerSecurityContext { apparmor: profile(Unconfined, ""), ..all() }),
    ] {
        let id = create(&husk, name, context).unwrap();
        assert_eq!(label(&husk, &id, "self"), "unconfined", "{name}");
    }
    let asked = v1::LinuxContainerSecurityContext {
        privileged: true,
        apparmor: profile(Localhost, "localhost/husk-default"),
        ..Default::default()
    };
    let id = create(&husk, "asked", asked).unwrap();
    assert_eq!(label(&husk, &id, "self"), "husk-default (enforce)", "a name counts for privileged ones, too");
    let absent =
        v1::LinuxContainerSecurityContext { apparmor: profile(Localhost, "absent"), ..Default::default() };
    let status = create(&husk, "absent", absent).unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("\"absent\" is not loaded"), "{status}");
}
